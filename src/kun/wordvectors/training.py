"""The common part of word2vec's and GloVe's training tasks: a text as ids, its vocabulary, vectors as the result."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kun.adaptation.native_words import LANES, MOST_NUMBERS
from kun.data.rows import Conversation, Labelled, Pair, Question, Text
from kun.data.sources import Rows
from kun.errors import BadInput, BadRecipe, NoMemory, NotFound
from kun.settings import memory, settings
from kun.training.feed import Feed
from kun.training.job import Job, threads
from kun.training.networks import Net, Networks
from kun.training.opening import Opener
from kun.training.tables import OptimizerTable, Table, Train
from kun.training.task import DirectTask, Evaluation, Write
from kun.wordvectors.analogies import measure, read_analogies
from kun.wordvectors.corpus import Corpus, Limits, build, open_corpus
from kun.wordvectors.vectors import WordVectors

_NEIGHBOURS = 8


class VectorOptions(Table):
    """The keys of [objective] that all word vectors have."""

    dimensions: int = Field(default=100, ge=1, le=MOST_NUMBERS - 2)
    window: int = Field(default=5, ge=1, le=100)
    """Words to either side that a word is learned from."""
    min_count: int = Field(default=5, ge=1)
    """Words that come less often have no vector."""
    max_words: int = Field(default=1_000_000, ge=2, le=2**24)
    """Of the others the commonest so many have one, which bounds the memory."""
    threads: int | None = Field(default=None, ge=1)
    """Threads that learn without waiting for each other; with one, a run is the same bit for bit."""
    analogies: str | None = None
    """A file of analogies that evaluations answer."""


class VectorTask(DirectTask[Net]):
    """A task that learns a vector for each word. It changes the tables by itself, at the rate of [optimizer]."""

    stages: ClassVar[tuple[str, ...]] = ("vectors",)
    rows = (Text, Conversation, Pair, Labelled, Question)
    has_model = False
    counts_peak = False
    Options: ClassVar[type[Table]] = VectorOptions
    tables_held: ClassVar[int] = 2
    """Tables of a row for each word that a training holds in memory."""

    @property
    def asked(self) -> VectorOptions:
        """The options."""
        assert isinstance(self.options, VectorOptions)
        return self.options

    @property
    def threads(self) -> int:
        """Threads that learn at once."""
        return self.asked.threads or settings().threads or threads()

    def networks(self, open: Opener) -> Networks[Net]:
        if open.job.train.ema is not None:
            raise BadRecipe("train.ema is for what an optimizer trains: leave it out for word vectors.")
        _refuse_unread(open.job)
        self.analogies = read_analogies(Path(self.asked.analogies)) if self.asked.analogies else None
        self.corpus, self.prompts = self._corpus(open), open.job.train.prompts
        words, dimensions = len(self.corpus.vocabulary.words), self.asked.dimensions
        if not len(self.corpus.learned):
            raise BadInput(
                "No two words of the text come together in a paragraph: name text with longer paragraphs."
            )
        if words <= dimensions:
            raise BadInput(
                f"The text has {words:,} words that come often enough (objective.min_count = {self.asked.min_count}), "
                f"too few for vectors of {dimensions} numbers: name more text, or set objective.dimensions below "
                f"{words:,}."
            )
        self._check_memory(words)
        rng = np.random.default_rng((open.job.seed, 0x57))
        return Networks(self.tables(self.corpus.vocabulary.counts, rng))

    def _check_memory(self, words: int) -> None:
        """Raise `NoMemory` before the system ends the process for tables that no memory has room for."""
        needed, (_, free) = words * (self.asked.dimensions + LANES) * 4 * self.tables_held, memory()
        if free is not None and needed > free:
            raise NoMemory(
                f"{self.tables_held} tables of {words:,} words and {self.asked.dimensions} numbers take "
                f"{needed / 2**30:.1f} GB of memory, and there are {free / 2**30:.1f} GB: lower objective.max_words or "
                f"objective.dimensions, or raise objective.min_count."
            )

    @abstractmethod
    def tables(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Net:
        """The tables before the first step, for words with these counts, int64 [words]."""

    def _corpus(self, open: Opener) -> Corpus:
        """The text as ids, which lies in the run and is made once."""
        folder = open.folder.path / "data" / "words"
        if open.folder.goes_on and (folder / "corpus.json").is_file():
            return open_corpus(folder)
        data = open.job.data
        apart = data.eval if isinstance(data.eval, str | list) else None
        return build(
            folder,
            Rows(data.train, data.format, data.skip_bad, data.limit),
            Limits(self.asked.min_count, self.asked.max_words),
            share=data.eval if isinstance(data.eval, float) else 0.0,
            held_out=() if apart is None else Rows(apart, data.format, data.skip_bad),
            tell=lambda stage, done: open.progress(stage, done, None, ""),
        )

    def facts(self, open: Opener, networks: Networks[Net], feed: Feed[Net]) -> dict[str, object]:
        learned, held_out = self.corpus.learned, self.corpus.held_out
        data: dict[str, object] = {**asdict(learned.counts), "source": open.job.data.train}
        data |= {"words": len(learned), "vocabulary": len(self.corpus.vocabulary.words)}
        return {"data": data | ({"eval_words": len(held_out)} if held_out else {})}

    @abstractmethod
    def made(self, networks: Networks[Net]) -> WordVectors:
        """The vectors as they are now."""

    def evaluate(self, networks: Networks[Net]) -> Evaluation:
        samples = self.samples(networks)
        if self.analogies is None:
            return Evaluation(samples=samples)
        found = measure(self.made(networks), self.analogies)
        rates = {"analogies": found.rate(exclude=True), "analogies_with_query": found.rate(exclude=False)}
        return Evaluation(rates, samples)

    def samples(self, networks: Networks[Net]) -> Sequence[Mapping[str, str]]:
        """The neighbours of the words that train.prompts names."""
        if not self.prompts:
            return ()
        made = self.made(networks)
        return [{"prompt": word, "text": _neighbours(made, word)} for word in self.prompts]

    def saved(self, networks: Networks[Net]) -> Write:
        made = self.made(networks)

        def write(folder: Path, lineage: Mapping[str, object]) -> None:
            made.save(folder, lineage)

        return write


def _refuse_unread(job: Job) -> None:
    """Raise `BadRecipe` for keys that other tasks go by and this one would pass over."""
    usual, asked = OptimizerTable(), job.optimizer
    unread = [f"optimizer.{key}" for key in _NOT_READ if getattr(asked, key) != getattr(usual, key)]
    unread += ["optimizer.name"] if asked.name not in ("sgd", usual.name) else []
    unread += ["train.batch_tokens"] if job.train.batch_tokens != Train().batch_tokens else []
    unread += ["data.share"] if job.data.share is not None else []
    if unread:
        raise BadRecipe(
            f"{', '.join(unread)}: word vectors have steps of their own, at the rate and the schedule of [optimizer], "
            f"over train.batch words or pairs of all of the text: leave it out."
        )


_NOT_READ = ("weight_decay", "clip", "betas", "eps", "momentum", "muon_lr")


def _neighbours(made: WordVectors, word: str) -> str:
    try:
        return ", ".join(near for near, _ in made.near(word, _NEIGHBOURS))
    except NotFound as error:
        return str(error)
