"""Training word2vec: stretches of a text in an order that seed and epoch decide, learned from by compiled steps."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from kun.adaptation.native_words import MOST_NEGATIVES
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Loss
from kun.wordvectors.corpus import WordText
from kun.wordvectors.stretch_feed import StretchFeed
from kun.wordvectors.training import VectorOptions, VectorTask
from kun.wordvectors.vectors import WordVectors
from kun.wordvectors.word2vec import Sizes, Word2Vec, held_out_loss

_MEASURED = 200_000
"""Words of held-out text that an evaluation reads, from the front."""
_MEASURED_AT_ONCE = 20_000


class Word2VecOptions(VectorOptions):
    """The keys of [objective] for word2vec."""

    architecture: Literal["skip-gram", "cbow"] = "skip-gram"
    negatives: int = Field(default=5, ge=1, le=MOST_NEGATIVES)
    """Words drawn at random for each place, from which the true one is to be distinguished."""
    sample: float = Field(default=1e-3, ge=0, le=1)
    """Words of a greater share of the text are left out at random; 0 leaves none out."""


class TextFeed(StretchFeed[Word2Vec]):
    """All of a text once an epoch, in stretches of `batch` ids."""

    data: WordText
    held_out: WordText | None

    def __init__(self, data: WordText, held_out: WordText | None, batch: int, seed: int) -> None:
        super().__init__(len(data.ids), batch, seed)
        self.data, self.held_out = data, held_out

    def stretch(self, start: int) -> Batch:
        return _stretch(self.data, start, self.batch)

    def evaluation(self) -> Iterator[Batch]:
        held_out = self.held_out
        for start in range(0, min(_MEASURED, len(held_out.ids) if held_out else 0), _MEASURED_AT_ONCE):
            assert held_out is not None
            yield _stretch(held_out, start, _MEASURED_AT_ONCE)


def _stretch(text: WordText, start: int, length: int) -> Batch:
    return {"text": torch.from_numpy(np.array(text.ids[start : start + length]))}


class Word2VecTask(VectorTask[Word2Vec]):
    """Skip-gram or CBOW with negative sampling; a step is a stretch of text, in which the rate stays."""

    name = "word2vec"
    unit = "words"
    batch = 200_000
    tables_held = 2
    is_usual = True
    Options: ClassVar[type[Table]] = Word2VecOptions

    def tables(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Word2Vec:
        asked = self.options
        assert isinstance(asked, Word2VecOptions)
        sizes = Sizes(
            dimensions=asked.dimensions,
            window=asked.window,
            negatives=asked.negatives,
            cbow=asked.architecture == "cbow",
            sample=asked.sample,
        )
        return Word2Vec(counts, sizes, rng)

    def feed(self, open: Opener, networks: Networks[Word2Vec]) -> TextFeed:
        job = open.job
        return TextFeed(self.corpus.learned, self.corpus.held_out, job.train.batch or self.batch, job.seed)

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return {**batch, "seed": torch.tensor([rng.integers(2**63)])}

    def items(self, batch: Batch) -> int:
        return int((batch["text"] >= 0).sum())

    def learn(self, networks: Networks[Word2Vec], batch: Batch, rate: float) -> Loss:
        total, predictions = networks.trained.learn(batch["text"], rate, int(batch["seed"]), self.threads)
        return Loss(torch.tensor(total), predictions)

    def loss(self, networks: Networks[Word2Vec], batch: Batch) -> Loss:
        """The loss over whole windows, without subsampling; it has no gradient."""
        net, ids = networks.trained, batch["text"].numpy()
        negatives = net.draw(len(ids), np.random.default_rng(int(batch["seed"])))
        sizes = net.sizes
        total, predictions = held_out_loss(
            net.vectors, net.outputs, ids, negatives, window=sizes.window, cbow=sizes.cbow
        )
        return Loss(torch.tensor(total), predictions)

    def measure(self, networks: Networks[Word2Vec], batch: Batch) -> dict[str, float]:
        made = self.loss(networks, batch)
        return {"loss": float(made.sum), "predictions": made.count}

    def summary(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        return {"loss": sums["loss"] / max(1, sums["predictions"])}

    def made(self, networks: Networks[Word2Vec]) -> WordVectors:
        net, known = networks.trained, self.corpus.vocabulary
        config = {"method": "word2vec", **self.options.model_dump(include=_DESCRIBED)}
        return WordVectors(
            known.words,
            net.vectors.numpy(),
            outputs=net.outputs.numpy(),
            counts=known.counts,
            config=config,
        )


_DESCRIBED = {"architecture", "window", "negatives", "sample", "min_count"}
"""The options that config.json tells."""
