"""Masked words: Devlin et al., "BERT", arXiv:1810.04805, section 3.1; drawn anew each time: RoBERTa, arXiv:1907.11692.

Of the words that are chosen 80 % become the mask, 10 % another word, and 10 % stay as they are, so that a word's state
must say what is there whatever is seen.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from kun.data.rows import Text
from kun.families.bert.bert import Bert
from kun.families.bert.heads import MaskedLM
from kun.objectives.text.fitted import Head
from kun.objectives.text.model import HeadRequirements, TrainingModel
from kun.objectives.text.task import PackedTask
from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Loss

_MASKED, _CHANGED = 0.8, 0.9
"""Below the first a chosen word is masked, below the second it is changed."""


class Masked(PackedTask):
    """-log p(word | what is left of its document), at the places that were chosen.

    `mask_share` of the tokens are chosen, none of `special`; others may become one of the first `vocabulary`. Unless
    `dynamic`, a token's place in the data and `seed` alone decide about it, so that it is the same in every epoch.
    """

    name = "masked"
    stages = ("pretrain", "finetune")
    rows = (Text,)
    is_even = True

    class Options(Table):
        mask_share: float = Field(default=0.15, gt=0, lt=1)
        dynamic: bool = True
        """Masks drawn anew each epoch (RoBERTa), or once for all (BERT)."""

    options: Options

    def __init__(
        self,
        options: Options | None = None,
        *,
        mask: int = 0,
        vocabulary: int = 0,
        special: frozenset[int] = frozenset(),
        seed: int = 0,
    ) -> None:
        super().__init__(options)
        self.mask, self.vocabulary, self.special, self.seed = mask, vocabulary, special, seed

    def needs(self, open: Opener) -> HeadRequirements:
        return HeadRequirements(head=Head("MaskedLM"), mask=True)

    def fit(self, model: TrainingModel, open: Opener) -> None:
        assert model.mask is not None
        self.mask, self.special = model.mask, model.special
        self.vocabulary = model.tokenizer.get_vocab_size()

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        ids = batch["input_ids"].numpy()
        documents = batch.get("attention_mask")
        numbers = np.ones_like(ids) if documents is None else documents.numpy()
        drawn = (
            rng.random((3, *ids.shape)) if self.options.dynamic else self._by_place(batch["places"].numpy())
        )
        chosen = (drawn[0] < self.options.mask_share) & (numbers > 0) & ~np.isin(ids, list(self.special))
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

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        net = networks.trained
        assert isinstance(net, Bert)
        embedded = net.embed_tokens(batch["input_ids"])
        states = net.states(inputs_embeds=embedded, attention_mask=batch.get("attention_mask"))
        # the vocabulary is wide, and few places are asked for
        asked = batch["labels"] != IGNORED
        assert isinstance(net.head, MaskedLM)
        words, table = net.head.words, net.embeddings.words
        transformed = words.transform(states[asked])
        summed = cross_entropy(lambda x: words.scores(x, table), transformed, batch["labels"][asked])
        return Loss(summed, self.count(batch))
