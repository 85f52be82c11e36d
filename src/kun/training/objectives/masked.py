"""Masked words: Devlin et al., "BERT", arXiv:1810.04805, section 3.1; drawn anew each time: RoBERTa, arXiv:1907.11692.

Of the words that are chosen 80 % become the mask, 10 % another word, and 10 % stay as they are, so that a word's state
must say what stands there whatever is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch
from kun.training.objectives.objective import learned_tokens, means

_MASKED, _CHANGED = 0.8, 0.9
"""Below the first a chosen word is masked, below the second it is changed."""


@dataclass(frozen=True)
class Masked:
    """-log p(word | what is left of its document), at the places that were chosen.

    `share` of the tokens are chosen, none of `special`; others may become one of the first `vocabulary`. Unless
    `dynamic`, a token's place in the data and `seed` alone decide about it, so that it is the same in every epoch.
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
        drawn = chance.random((3, *ids.shape)) if self.dynamic else self._by_place(batch["places"].numpy())
        chosen = (drawn[0] < self.share) & (numbers > 0) & ~np.isin(ids, list(self.special))
        masked, changed = (
            chosen & (drawn[1] < _MASKED),
            chosen & (drawn[1] >= _MASKED) & (drawn[1] < _CHANGED),
        )
        seen = np.where(masked, self.mask, ids)
        seen = np.where(changed, (drawn[2] * self.vocabulary).astype(np.int64), seen)
        labels = np.where(chosen, ids, IGNORED)
        return {**batch, "input_ids": torch.from_numpy(seen), "labels": torch.from_numpy(labels)}

    def _by_place(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Numbers from [0, 1), [3, b, t], that tokens at these `places` of the data always get.

        Steele et al., "Fast splittable pseudorandom number generators", 2014: SplitMix64, of which any number is had at
        once.
        """
        begin = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)
        count = 3 * places.astype(np.uint64) + np.arange(3, dtype=np.uint64)[:, None, None]
        mixed = begin + count * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53

    def targets(self, batch: Batch) -> int:
        return learned_tokens(batch)

    def loss(self, net: Any, batch: Batch) -> Tensor:
        embedded = net.embed_tokens(batch["input_ids"])
        states = net.states(inputs_embeds=embedded, attention_mask=batch.get("attention_mask"))
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
