"""Vectors of a small text at once, without a run: for examples that train before one's eyes."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from kun.errors import BadInput, Diverged
from kun.wordvectors.corpus import ENDS
from kun.wordvectors.vectors import WordVectors
from kun.wordvectors.word2vec import Sizes, Word2Vec


def train_vectors(
    sentences: Iterable[Sequence[str]],
    *,
    dimensions: int = 50,
    window: int = 5,
    epochs: int = 5,
    seed: int = 0,
    min_count: int = 1,
    rate: float = 0.025,
    cbow: bool = False,
    sample: float = 1e-3,
) -> WordVectors:
    """word2vec of sentences that lie in memory, on one thread; the same bits each time on the same machine.

    Raises `BadInput` where fewer than two words come `min_count` times, `Diverged`.
    """
    held = [list(sentence) for sentence in sentences]
    counted = Counter(word for sentence in held for word in sentence)
    known = sorted(
        ((word, count) for word, count in counted.items() if count >= min_count),
        key=lambda one: (-one[1], one[0]),
    )
    if len(known) < 2:
        raise BadInput(f"Fewer than two words come {min_count} times: give more sentences.")
    index = {word: row for row, (word, _) in enumerate(known)}
    # a rare word is left out, and the end of a sentence stays
    ids = [[index[word] for word in sentence if word in index] for sentence in held]
    text = np.array([one for sentence in ids for one in (*sentence, ENDS)], np.int32)
    counts = np.array([count for _, count in known], np.int64)
    sizes = Sizes(dimensions=dimensions, window=window, cbow=cbow, sample=sample)
    net = Word2Vec(counts, sizes, np.random.default_rng(seed))
    stretch = torch.from_numpy(text)
    for epoch in range(epochs):
        # by lines, as word2vec lowers it
        net.learn(stretch, rate * max(1e-2, 1 - epoch / epochs), seed * 1_000_003 + epoch)
    if not torch.isfinite(net.vectors).all():
        raise Diverged(f"The vectors are no numbers any more: take a rate below {rate}.")
    words = [word for word, _ in known]
    config = {"method": "word2vec", "architecture": "cbow" if cbow else "skip-gram", "window": window}
    return WordVectors(words, net.vectors.numpy(), outputs=net.outputs.numpy(), counts=counts, config=config)
