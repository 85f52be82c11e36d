"""Span corruption: Raffel et al., T5, arXiv:1910.10683, section 3.1.4.

Spans of a text are left out, each replaced by a sentinel of its own; the target lists them, each after its sentinel.
"""

from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from kun.data.rows import Text
from kun.data.tokenized import RowTokenizer
from kun.errors import BadRecipe
from kun.objectives.seq2seq import Seq2Seq
from kun.objectives.text.model import CONTEXT, HeadRequirements, TrainingModel
from kun.objectives.text.task import TextTask
from kun.objectives.text.vocabulary import sentinel
from kun.training.cross_entropy import IGNORED
from kun.training.feed import Batch
from kun.training.opening import Opener

Ids = NDArray[np.int64]

_SENTINELS = 100
"""As many as T5 has."""


class Span(Seq2Seq):
    """-log p(token of a left-out span | the rest of the text, and the spans before it), read as pairs are.

    `mask_share` of the tokens are left out, in spans of `span_length` in the mean; no more spans than there are
    `sentinels`, in their order. A target ends with `end`.
    """

    name = "span"
    stages = ("pretrain", "finetune")
    rows = (Text,)
    advice = TextTask.advice
    writes = False
    cuts = True

    class Options(Seq2Seq.Options):
        mask_share: float = Field(default=0.15, gt=0, lt=1)
        span_length: float = Field(default=3.0, ge=1)

    options: Options

    def __init__(
        self,
        options: Options | None = None,
        *,
        start: int = 0,
        pad: int = 0,
        sentinels: tuple[int, ...] = (),
        end: int = 0,
    ) -> None:
        super().__init__(options, start=start, pad=pad)
        self.sentinels, self.end = sentinels, end

    def needs(self, open: Opener) -> HeadRequirements:
        context, asked = open.job.train.context or CONTEXT, self.options
        return HeadRequirements(
            sentinels=min(_SENTINELS, ceil(context * asked.mask_share / asked.span_length) + 1)
        )

    def fit(self, model: TrainingModel, open: Opener) -> None:
        super().fit(model, open)
        if model.end is None:
            raise BadRecipe("The tokenizer has no token for the end of a text, which span corruption needs.")
        ids = (model.tokenizer.token_to_id(sentinel(number)) for number in range(self.needs(open).sentinels))
        self.sentinels, self.end = tuple(index for index in ids if index is not None), model.end

    def row_tokenizer(self, open: Opener) -> RowTokenizer:
        return TextTask.row_tokenizer(self, open)

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        ids, mask = batch["input_ids"].numpy(), batch.get("attention_mask")
        sizes = np.full(len(ids), ids.shape[1]) if mask is None else mask.numpy().sum(axis=1)
        pairs = [self.corrupted(row[:size], rng) for row, size in zip(ids, sizes, strict=True)]
        sources, real = _padded([source for source, _ in pairs], self.pad)
        labels, _ = _padded([target for _, target in pairs], IGNORED)
        made = {"input_ids": torch.from_numpy(sources), "labels": torch.from_numpy(labels)}
        if not real.all():
            made["attention_mask"] = torch.from_numpy(real)
        return super().prepare(made, rng)

    def corrupted(self, ids: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """A text without its spans, and the spans: the source and the target, each with its sentinels.

        A last `end` stays where it is. What is kept and what is left out take turns, the former first.
        """
        text, tail = (ids[:-1], ids[-1:]) if len(ids) and ids[-1] == self.end else (ids, ids[:0])
        left_out = min(len(text) - 1, max(1, round(len(text) * self.options.mask_share)))
        if left_out < 1:  # one token, which says nothing of itself
            return ids, np.array([self.end], np.int64)
        spans = max(
            1,
            min(
                round(left_out / self.options.span_length),
                left_out,
                len(text) - left_out,
                len(self.sentinels),
            ),
        )
        kept, gone = _parts(len(text) - left_out, spans, rng), _parts(left_out, spans, rng)
        edges = np.cumsum(np.stack([kept, gone], axis=1).ravel())
        pieces = np.split(text, edges[:-1])
        source, target = [], []
        for number, index in enumerate(self.sentinels[:spans]):
            mark = np.array([index], np.int64)
            source += [pieces[2 * number], mark]
            target += [mark, pieces[2 * number + 1]]
        return np.concatenate([*source, tail]), np.concatenate([*target, [self.end]])


def _parts(total: int, count: int, rng: np.random.Generator) -> Ids:
    """`total` in `count` whole parts of at least one, every division equally likely: [count]."""
    cuts = np.sort(rng.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff([0, *cuts, total])


def _padded(rows: list[Ids], filler: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Rows as int64 [b, longest], and where they are real."""
    sizes = np.array([len(row) for row in rows])
    real = np.arange(sizes.max()) < sizes[:, None]
    padded = np.full(real.shape, filler, np.int64)
    padded[real] = np.concatenate(rows)
    return padded, real
