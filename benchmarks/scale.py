"""A knowledge base of 20,000 passages: how fast it answers, opens, and takes more in."""

import random
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.retrieval import paragraphs_of
from benchmarks.table import Options, Row, main, skipped
from kun.knowledge.base import KnowledgeBase
from kun.knowledge.interaction import pack
from kun.knowledge.rows import NewDocument, Span
from kun.knowledge.store import Store
from kun.text.sentences import sentences

PASSAGES = 20_000
A_DOCUMENT = 200
"""Passages of one document."""
EMBEDDED = 256
"""Passages that are really added, for the speed; the others' vectors and tokens are theirs, disturbed."""
TOKENS = 250
QUERIES = 200


def measure(options: Options) -> Iterable[Row]:
    """Passages of sentences in both languages, put together at random; questions are XQuAD's."""
    folder = options.data / "xquad" if options.data else None
    if folder is None or not folder.is_dir():
        yield skipped("scale", "needs --data with xquad/")
        return
    paragraphs = [p for language in ("zh", "en") for p in paragraphs_of(folder / f"xquad.{language}.json")]
    chance = random.Random(0)
    questions = chance.sample([question for _, qs in paragraphs for question in qs], QUERIES)
    passages = 2_000 if options.quick else PASSAGES
    with tempfile.TemporaryDirectory() as home:
        base = KnowledgeBase.open(Path(home, "kb"))
        texts = _texts([text for text, _ in paragraphs], passages, base, chance)
        yield _adding(base, Path(home, "docs"), texts)
        _fill(base, texts)
        start = time.perf_counter()
        opened = KnowledgeBase.open(base.path, encoder=base.encoder)
        opened.search(questions[0])
        yield _seconds(f"opening {passages:,} passages, first answer included", time.perf_counter() - start)
        times = [_timed(opened, question) for question in questions]
        letters = [
            question[len(question) // 2] for question in questions if question[len(question) // 2].strip()
        ]
        single = [_timed(opened, letter) for letter in letters]
    yield _milliseconds(
        f"question to passages, {passages:,} passages, median", float(np.median(times)), 30, 20
    )
    yield _milliseconds(
        f"one character, word for word, {passages:,} passages, median", float(np.median(single)), 60, 20
    )
    yield _milliseconds(f"question to passages, {passages:,} passages, p95", float(np.quantile(times, 0.95)))


def _texts(paragraphs: Sequence[str], count: int, base: KnowledgeBase, chance: random.Random) -> list[str]:
    """Sentences at random until there are some `TOKENS` tokens, all of one language."""
    by_language = [
        [text[a:b].strip() + " " for text in half for a, b in sentences(text)]
        for half in (paragraphs[: len(paragraphs) // 2], paragraphs[len(paragraphs) // 2 :])
    ]
    sizes = [[len(e.ids) - 2 for e in base.encoder.tokenizer.encode_batch(lines)] for lines in by_language]
    texts = []
    for number in range(count):
        lines, lengths = by_language[number % 2], sizes[number % 2]
        parts, total = [], 0
        while total < TOKENS - 30:
            place = chance.randrange(len(lines))
            parts.append(lines[place])
            total += lengths[place]
        texts.append("".join(parts))
    return texts


def _adding(base: KnowledgeBase, folder: Path, texts: Sequence[str]) -> Row:
    folder.mkdir()
    for number, text in enumerate(texts[:EMBEDDED]):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    start = time.perf_counter()
    base.add(folder)
    seconds = time.perf_counter() - start
    passages = sum(source.passages for source in base.sources())
    tokens = sum(len(e.ids) for e in base.encoder.tokenizer.encode_batch(list(texts[:EMBEDDED])))
    rate = passages / seconds
    return Row(
        what="adding passages, encoder included",
        figure=f"{rate:.0f} /s",
        at_least="40 /s",
        aim="60 /s",
        holds=rate >= 40,
        note=f"{passages} passages of {tokens / passages:.0f} tokens on average",
    )


def _fill(base: KnowledgeBase, texts: Sequence[str]) -> None:
    """Store the other passages with vectors near those of the first, and tokens at random: nobody looks at them."""
    rng = np.random.default_rng(0)
    known = Store(base.path).passages().vectors
    tokens = [pack(rng.standard_normal((TOKENS, known.shape[1])).astype(np.float32)) for _ in range(64)]
    for begin in range(EMBEDDED, len(texts), A_DOCUMENT):
        part = texts[begin : begin + A_DOCUMENT]
        noise = rng.standard_normal((len(part), known.shape[1])).astype(np.float32) / known.shape[1] ** 0.5
        vectors = known[rng.integers(0, len(known), len(part))] + 0.3 * noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ends = np.cumsum([len(text) for text in part]).tolist()
        document = NewDocument(
            source=f"{begin}.txt",
            fallback="docs",
            path=f"/docs/{begin}.txt",
            digest=str(begin),
            bytes=ends[-1],
            modified_ns=0,
            text="".join(part),
            kind="text",
            pages=[],
            spans=[Span(end - len(text), end) for text, end in zip(part, ends, strict=True)],
            vectors=vectors,
            tokens=[tokens[row % len(tokens)] for row in range(len(part))],
        )
        Store(base.path).commit([document], lambda manifest: None)
    Store(base.path).compact(always=True)


def _timed(base: KnowledgeBase, question: str) -> float:
    start = time.perf_counter()
    base.search(question)
    return time.perf_counter() - start


def _seconds(what: str, seconds: float) -> Row:
    return Row(what=what, figure=f"{seconds:.1f} s")


def _milliseconds(what: str, seconds: float, at_least: float = 0, aim: float = 0) -> Row:
    return Row(
        what=what,
        figure=f"{seconds * 1000:.1f} ms",
        at_least=f"{at_least:g} ms" if at_least else "",
        aim=f"{aim:g} ms" if aim else "",
        holds=seconds * 1000 <= at_least if at_least else None,
        note=f"{QUERIES} questions, encoder included",
    )


if __name__ == "__main__":
    main(measure, __doc__)
