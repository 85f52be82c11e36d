"""Masked words: Devlin et al., "BERT", arXiv:1810.04805, section 3.1; drawn anew each time: RoBERTa, arXiv:1907.11692.

Of the words that are chosen 80 % become the mask, 10 % another word, and 10 % stay as they are, so that a word's state
must say what stands there whatever is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kun.families.network import headless
from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch
from kun.training.objectives.objective import learned_tokens, means

_MASKED, _CHANGED = 0.8, 0.9
"""Below the first a chosen word is masked, below the second it is changed."""


@dataclass(frozen=True)
class Masked:
    """-log p(word | what is left of its document), at the places that were chosen.

    `share` of the tokens are chosen, none of `special`; others may become one of the first `vocabulary`. Unless
    `dynamic`, what is chosen in a document depends on its content and `seed` alone, and is the same in every epoch.
    """

    mask: int
    vocabulary: int
    special: frozenset[int]
    share: float = 0.15
    dynamic: bool = True
    seed: int = 0

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        ids = batch["input_ids"].numpy()
        documents = batch.get("attention_mask")
        numbers = np.ones_like(ids) if documents is None else documents.numpy()
        drawn = chance.random((3, *ids.shape)) if self.dynamic else self._by_content(ids, numbers)
        chosen = (drawn[0] < self.share) & (numbers > 0) & ~np.isin(ids, list(self.special))
        masked, changed = (
            chosen & (drawn[1] < _MASKED),
            chosen & (drawn[1] >= _MASKED) & (drawn[1] < _CHANGED),
        )
        seen = np.where(masked, self.mask, ids)
        seen = np.where(changed, (drawn[2] * self.vocabulary).astype(np.int64), seen)
        labels = np.where(chosen, ids, IGNORED)
        return {**batch, "input_ids": torch.from_numpy(seen), "labels": torch.from_numpy(labels)}

    def _by_content(self, ids: NDArray[np.int64], numbers: NDArray[Any]) -> NDArray[np.float64]:
        """Numbers from [0, 1), [3, b, t], that each document brings with it."""
        drawn = np.ones((3, *ids.shape))
        for row, (tokens, of) in enumerate(zip(ids, numbers, strict=True)):
            for start, end in pairwise([0, *(np.flatnonzero(np.diff(of)) + 1), len(of)]):
                own = np.random.default_rng((self.seed, crc32(tokens[start:end].tobytes())))
                drawn[:, row, start:end] = own.random((3, end - start))
        return drawn

    def targets(self, batch: Batch) -> int:
        return learned_tokens(batch)

    def loss(self, net: Any, batch: Batch) -> Tensor:
        embedded = net.words(batch["input_ids"], None)
        with headless(net):
            states = net(inputs_embeds=embedded, attention_mask=batch.get("attention_mask")).states
        # the vocabulary is wide, and few places are asked for
        asked = batch["labels"] != IGNORED
        words, table = net.head.words, net.embeddings.words
        transformed = words.transform(states[asked])
        return cross_entropy(lambda x: words.scores(x, table), transformed, batch["labels"][asked])

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(self.loss(net, batch))}

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        return means(sums, targets)
