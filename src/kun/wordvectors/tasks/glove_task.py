"""Training GloVe: words that come together are counted on the disk, then learned from in an order without order."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from kun.atomic_files import check_once, new_file, sha256
from kun.errors import DamagedFile
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Loss
from kun.wordvectors.cooccurrences import Cooccurrences, count
from kun.wordvectors.corpus import WordText
from kun.wordvectors.glove import Entries, Glove, Weighting
from kun.wordvectors.stretch_feed import StretchFeed
from kun.wordvectors.training import VectorOptions, VectorTask
from kun.wordvectors.vectors import WordVectors

_MEASURED = 1 << 20
_MEASURED_AT_ONCE = 1 << 17


class GloveOptions(VectorOptions):
    """The keys of [objective] for GloVe."""

    window: int = Field(default=10, ge=1, le=100)
    x_max: float = Field(default=100.0, gt=0)
    """The count from which on all pairs weigh the same; less for small texts."""
    alpha: float = Field(default=0.75, gt=0, le=1)
    """Below it a pair weighs (count / x_max) to this power."""


class EntryFeed(StretchFeed[Glove]):
    """All counts once an epoch, `batch` at a time, in an order of stretches that seed and epoch decide."""

    def __init__(
        self,
        text: tuple[WordText, WordText | None],
        counts: tuple[Cooccurrences, Cooccurrences | None],
        batch: int,
        seed: int,
    ) -> None:
        self.data, self.held_out = text
        self.counts, self.held_out_counts = counts
        super().__init__(len(self.counts), batch, seed)

    @property
    def size(self) -> int:
        return len(self.counts)

    def stretch(self, start: int) -> Batch:
        return _batch(self.counts.entries(start, start + self.batch))

    def evaluation(self) -> Iterator[Batch]:
        held_out = self.held_out_counts
        for start in range(0, min(_MEASURED, len(held_out) if held_out else 0), _MEASURED_AT_ONCE):
            assert held_out is not None
            yield _batch(held_out.entries(start, start + _MEASURED_AT_ONCE))


def _batch(entries: Entries) -> Batch:
    return dict(zip(("rows", "columns", "counts"), entries, strict=True))


def _entries(batch: Batch) -> Entries:
    return batch["rows"], batch["columns"], batch["counts"]


class GloveTask(VectorTask[Glove]):
    """GloVe by AdaGrad; a step is some counts, an epoch all of them. The loss is the objective's mean over pairs."""

    name = "glove"
    unit = "pairs"
    batch = 1 << 20
    tables_held = 4
    Options: ClassVar[type[Table]] = GloveOptions

    @property
    def glove(self) -> GloveOptions:
        """The options."""
        assert isinstance(self.options, GloveOptions)
        return self.options

    def tables(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Glove:
        weighting = Weighting(self.glove.x_max, self.glove.alpha)
        return Glove(len(counts), self.glove.dimensions, weighting, rng)

    def feed(self, open: Opener, networks: Networks[Glove]) -> EntryFeed:
        corpus, folder = self.corpus, open.folder.path / "data" / "pairs"
        learned = self._counts(open, corpus.learned, folder / "learned.pairs")
        held_out = self._counts(open, corpus.held_out, folder / "held_out.pairs") if corpus.held_out else None
        job = open.job
        batch = job.train.batch or self.batch
        return EntryFeed((corpus.learned, corpus.held_out), (learned, held_out), batch, job.seed)

    def _counts(self, open: Opener, text: WordText, path: Path) -> Cooccurrences:
        """The counts of a text, which lie in the run and are made once."""
        done = path.with_suffix(".done")
        if open.folder.goes_on and _is_done(done, path, text.digest):
            return Cooccurrences(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        found = count(
            text.ids,
            len(self.corpus.vocabulary.words),
            self.glove.window,
            path,
            open.job.seed,
            lambda at, total: open.progress("counting pairs", at, total, ""),
        )
        with new_file(done) as fresh:
            fresh.write_text(json.dumps({"text": text.digest, "pairs": sha256(path)}), encoding="ascii")
        return found

    def learn(self, networks: Networks[Glove], batch: Batch, rate: float) -> Loss:
        entries = _entries(batch)
        total = networks.trained.learn(entries, rate, self.threads)
        return Loss(torch.tensor(total), len(entries[0]))

    def memory(self, networks: Networks[Glove]) -> dict[str, Tensor]:
        net = networks.trained
        return {"word_squares": net.word_squares, "context_squares": net.context_squares}

    def loss(self, networks: Networks[Glove], batch: Batch) -> Loss:
        """The objective over a batch, in float64; it has no gradient."""
        entries = _entries(batch)
        return Loss(torch.tensor(networks.trained.objective(entries)), len(entries[0]))

    def made(self, networks: Networks[Glove]) -> WordVectors:
        known = self.corpus.vocabulary
        config = {"method": "glove", **self.options.model_dump(include=_DESCRIBED)}
        return WordVectors(known.words, networks.trained.vectors.numpy(), counts=known.counts, config=config)


def _is_done(done: Path, path: Path, text: str) -> bool:
    """Whether the counts of this text lie there as they were written; else they are counted anew."""
    try:
        noted = json.loads(done.read_text(encoding="ascii"))
        if not isinstance(noted, dict) or noted.get("text") != text:
            return False
        check_once(path, str(noted.get("pairs")))
    except (OSError, ValueError, DamagedFile):
        return False
    return True


_DESCRIBED = {"window", "x_max", "alpha", "min_count"}
"""The options that config.json tells."""
