"""Word vectors: words/s and held-out loss next to gensim, GloVe's objective in float64, analogies in both languages."""

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.table import Options, Row, main, skipped
from kun.data.sources import Rows
from kun.errors import KunError
from kun.training.recipe import parse_recipe
from kun.training.train import train
from kun.wordvectors.analogies import measure as rates_of
from kun.wordvectors.analogies import read_analogies
from kun.wordvectors.cooccurrences import count
from kun.wordvectors.corpus import Corpus, Limits, build
from kun.wordvectors.glove import Glove, Weighting, reference_objective
from kun.wordvectors.recipes import Wanted
from kun.wordvectors.tasks.word2vec_task import Word2VecTask
from kun.wordvectors.vectors import WordVectors
from kun.wordvectors.word2vec import Sizes, Word2Vec, held_out_loss

THREADS, DIMENSIONS, WINDOW, NEGATIVES, RATE, LAST_RATE = 2, 100, 5, 5, 0.025, 0.0001
EPOCHS, ROUNDS = 3, 2
STEP = Word2VecTask.batch
MEASURED = 60_000
CHINESE = (
    "instructions/alpaca_zh_demo.json",
    "instructions/dpo_zh_demo.json",
    "tatoeba-en-zh/train.tsv",
    "chnsenticorp/train.csv",
    "xquad/xquad.zh.json",
)
CHINESE_RATE = 0.05
"""CBOW's rate: on small texts it answers more analogies than skip-gram (0.16 against 0.09)."""
EXAMPLES = Path(__file__).parents[1] / "examples" / "analogies"


@dataclass(frozen=True)
class Trained:
    """Vectors and output rows float32 [words, d] in the vocabulary's order, and the seconds that they took."""

    vectors: torch.Tensor
    outputs: torch.Tensor
    seconds: float


def measure(options: Options) -> Iterable[Row]:
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        yield from _next_to_gensim(Path(folder), options.quick)
    with tempfile.TemporaryDirectory() as folder:
        yield _objective(Path(folder))
    yield from _english(options)
    with tempfile.TemporaryDirectory() as folder:
        yield from _chinese(Path(folder), options)


def _next_to_gensim(folder: Path, quick: bool) -> Iterator[Row]:
    """Skip-gram and CBOW on installed documentation: the same text, vocabulary, epochs and sizes, two threads."""
    read = 2000 if quick else 4000
    rows = islice(iter(Rows("installed-docs")), read)
    corpus = build(folder / "words", rows, Limits(least=5), share=0.02)
    lines = folder / "lines.txt"
    _write_lines(corpus, lines)
    for cbow in (False, True):
        what = f"word2vec, {'CBOW' if cbow else 'skip-gram'}, {DIMENSIONS} numbers, {THREADS} threads"
        epochs = 1 if quick else EPOCHS
        ours: list[Trained] = []
        theirs: list[Trained] = []
        for seed in range(1 if quick else ROUNDS):
            ours.append(_kun(corpus, cbow, epochs, seed))
            try:
                theirs.append(_gensim(corpus, lines, cbow, epochs, seed))
            except ImportError:
                break
        total = epochs * len(corpus.learned)
        speed = total / min(one.seconds for one in ours)
        loss = min(_loss(corpus, one, cbow) for one in ours)
        note = f"{len(corpus.learned):,} words, {len(corpus.vocabulary.words):,} different, {epochs} epochs"
        if not theirs:
            yield Row(f"{what}: words/s", f"{speed:,.0f}", note=f"gensim is not installed; {note}")
            continue
        peer_speed = total / min(one.seconds for one in theirs)
        peer_loss = min(_loss(corpus, one, cbow) for one in theirs)
        yield Row(
            f"{what}: words/s",
            f"{speed:,.0f} ({speed / peer_speed:.2f}×)",
            "1.0×",
            "2×",
            peer=f"gensim {peer_speed:,.0f}",
            holds=speed >= peer_speed,
            note=note,
        )
        yield Row(
            f"{what}: held-out loss",
            f"{loss:.4f} ({loss / peer_loss - 1:+.1%})",
            "+2 %",
            peer=f"gensim {peer_loss:.4f}",
            holds=loss <= 1.02 * peer_loss,
        )
    yield _as_a_run(folder, read, epochs)


def _as_a_run(folder: Path, read: int, epochs: int) -> Row:
    """The speed of the very command: its steps, its metrics and its snapshots, too."""
    wanted = Wanted(
        ["installed-docs"], out=str(folder / "run"), dimensions=DIMENSIONS, epochs=epochs
    ).recipe()
    wanted["data"] = {"train": "installed-docs", "limit": read, "eval": 0.02}
    last = train(parse_recipe(wanted), "vectors").metrics[-1]
    what = f"word2vec, skip-gram, {DIMENSIONS} numbers, all of a run of `kun vectors train`: words/s"
    return Row(what, f"{last['items'] / last['seconds']:,.0f}", note="reading the text is not counted")


def _write_lines(corpus: Corpus, path: Path) -> None:
    """The text that is learned from as gensim reads it: a paragraph a line, words by spaces."""
    words = corpus.vocabulary.words
    with path.open("w", encoding="utf-8") as file:
        for word in corpus.learned.ids.tolist():
            file.write(f"{words[word]} " if word >= 0 else "\n")


def _kun(corpus: Corpus, cbow: bool, epochs: int, seed: int) -> Trained:
    sizes = Sizes(DIMENSIONS, WINDOW, NEGATIVES, cbow)
    net = Word2Vec(corpus.vocabulary.counts, sizes, np.random.default_rng(seed))
    net.learn(torch.zeros(0, dtype=torch.int32), RATE, seed)  # the kernels are there
    ids = corpus.learned.ids
    steps = range(0, len(ids), STEP)
    began = time.perf_counter()
    for epoch in range(epochs):
        for number, start in enumerate(steps):
            done = (epoch + number / len(steps)) / epochs
            stretch = torch.from_numpy(np.array(ids[start : start + STEP]))
            rate = RATE + (LAST_RATE - RATE) * done
            net.learn(stretch, rate, seed * 10_007 + epoch * len(steps) + number, THREADS)
    return Trained(net.vectors, net.outputs, time.perf_counter() - began)


def _gensim(corpus: Corpus, lines: Path, cbow: bool, epochs: int, seed: int) -> Trained:
    from gensim.models import Word2Vec as Peer

    peer = Peer(
        vector_size=DIMENSIONS,
        window=WINDOW,
        negative=NEGATIVES,
        sample=1e-3,
        alpha=RATE,
        min_alpha=LAST_RATE,
        min_count=1,
        sg=int(not cbow),
        workers=THREADS,
        epochs=epochs,
        seed=seed + 1,
    )
    peer.build_vocab(corpus_file=str(lines))
    began = time.perf_counter()
    peer.train(
        corpus_file=str(lines),
        total_words=peer.corpus_total_words,
        total_examples=peer.corpus_count,
        epochs=epochs,
    )
    seconds = time.perf_counter() - began
    order = [peer.wv.key_to_index[word] for word in corpus.vocabulary.words]
    vectors, outputs = torch.from_numpy(peer.wv.vectors[order]), torch.from_numpy(peer.syn1neg[order])
    return Trained(vectors, outputs, seconds)


def _loss(corpus: Corpus, trained: Trained, cbow: bool) -> float:
    """The mean held-out loss, with the same negatives for all."""
    assert corpus.held_out is not None
    ids: NDArray[np.int32] = np.asarray(corpus.held_out.ids[:MEASURED])
    sizes = Sizes(DIMENSIONS, WINDOW, NEGATIVES, cbow)
    negatives = Word2Vec(corpus.vocabulary.counts, sizes, np.random.default_rng(0)).draw(
        len(ids), np.random.default_rng(7)
    )
    total, predictions = held_out_loss(
        trained.vectors, trained.outputs, ids, negatives, window=WINDOW, cbow=cbow
    )
    return total / predictions


def _objective(folder: Path) -> Row:
    """GloVe's objective after some epochs, by its entries and by the paper's equation over the matrix."""
    rng = np.random.default_rng(0)
    words, dimensions = 300, 20
    ids = np.minimum(rng.zipf(1.3, 60_000) - 1, words - 1).astype(np.int32)
    ids[::40] = -1
    counts = count(ids, words, 8, folder / "pairs")
    net = Glove(words, dimensions, Weighting(), rng)
    entries = counts.entries(0, len(counts))
    for _ in range(5):
        net.learn(entries, 0.05, THREADS)
    matrix = np.zeros((words, words))
    matrix[counts.table["row"], counts.table["column"]] = counts.table["count"]
    ours = net.objective(entries)
    w, c = net.words.detach().double().numpy(), net.contexts.detach().double().numpy()
    vectors, biases = (w[:, :dimensions], c[:, :dimensions]), (w[:, dimensions], c[:, dimensions + 1])
    theirs = reference_objective(vectors, biases, matrix, net.weighting)
    off = abs(ours / theirs - 1)
    return Row(
        "GloVe's objective against the paper's equation, float64, relative",
        f"{off:.1e}",
        "1e-6",
        holds=off <= 1e-6,
        note=f"{len(counts):,} pairs, J = {ours:,.1f}",
    )


def _english(options: Options) -> Iterator[Row]:
    what = "analogies from GloVe 6B 50d"
    file = options.data / "analogies" / "questions-words.txt" if options.data else EXAMPLES / "en.txt"
    if not file.is_file():
        file = EXAMPLES / "en.txt"
    from kun.api import load

    try:
        vectors = load("glove-6b-50d")
        questions = read_analogies(file)
    except KunError as error:
        yield skipped(what, str(error))
        return
    assert isinstance(vectors, WordVectors)
    found = rates_of(vectors, questions[:: 8 if options.quick else 1])
    note = f"{found.asked:,} of {found.questions:,} of {file.name}"
    for exclude, least in ((True, 0.44), (False, 0.26)):
        rate = found.rate(exclude=exclude)
        which = "left out" if exclude else "not left out"
        yield Row(f"{what}, query words {which}", f"{rate:.3f}", f"{least}", holds=rate >= least, note=note)


def _chinese(folder: Path, options: Options) -> Iterator[Row]:
    """Vectors trained here on what Chinese text there is (CBOW), and the 300 analogies of the examples."""
    what = "300 Chinese analogies from vectors trained here, query words left out; not"
    files = [str(options.data / name) for name in CHINESE if options.data and (options.data / name).is_file()]
    if not files:
        yield skipped(what, "no Chinese text in the data folder")
        return
    corpus = build(folder / "words", Rows(files, skip_bad=True), Limits(least=3))
    sizes = Sizes(DIMENSIONS, WINDOW, NEGATIVES, cbow=True)
    net = Word2Vec(corpus.vocabulary.counts, sizes, np.random.default_rng(0))
    text = torch.from_numpy(np.array(corpus.learned.ids))
    epochs = 3 if options.quick else 15
    for epoch in range(epochs):
        net.learn(text, CHINESE_RATE * (1 - epoch / epochs), epoch, THREADS)
    vectors = WordVectors(corpus.vocabulary.words, net.vectors.numpy())
    found = rates_of(vectors, read_analogies(EXAMPLES / "zh.txt"))
    figure = f"{found.rate(exclude=True):.3f}; {found.rate(exclude=False):.3f}"
    note = f"{found.asked} of {found.questions} have vectors; {len(corpus.learned):,} words of text"
    yield Row(what, figure, note=note)
    answers = (vectors.analogy("男人", "国王", "女人", exclude=exclude, k=3) for exclude in (True, False))
    shown = ("、".join(word for word, _ in near) for near in answers)
    yield Row("国王 − 男人 + 女人 from the same, query words left out; not", "; ".join(shown))


if __name__ == "__main__":
    main(measure, __doc__)
