"""How often the passage that answers a question comes first, and whether what stands word for word always does."""

import json
import random
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.table import Options, Row, main, skipped
from kun.knowledge.base import KnowledgeBase
from kun.knowledge.lexical import Postings, search_words
from kun.knowledge.store import Store

LANGUAGES = ("zh", "en")
PARAGRAPHS = 120
SPANS = 300
RRF = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""


def measure(options: Options) -> Iterable[Row]:
    """Paragraphs of XQuAD as files, one knowledge base for each language; a hit is a passage of the right file."""
    folder = options.data / "xquad" if options.data else None
    if folder is None or not folder.is_dir():
        yield skipped("retrieval", "needs --data with xquad/")
        return
    held = tried = 0
    bases: dict[str, tuple[KnowledgeBase, list[tuple[str, str]]]] = {}
    with tempfile.TemporaryDirectory() as home:
        for language in LANGUAGES:
            paragraphs = paragraphs_of(folder / f"xquad.{language}.json")
            documents = Path(home, language)
            documents.mkdir()
            for number, (text, _) in enumerate(paragraphs):
                (documents / _name(number)).write_text(text, encoding="utf-8")
            base = KnowledgeBase.open(Path(home, f"kb-{language}"))
            base.add(documents)
            asked = [(q, _name(number)) for number, (_, qs) in enumerate(paragraphs) for q in qs]
            asked = asked[::10] if options.quick else asked
            bases[language] = base, asked
            yield from _questions(base, asked, language)
            spans = list(_spans([text for text, _ in paragraphs], SPANS // 10 if options.quick else SPANS))
            held += sum(_holds(base, span) for span in spans)
            tried += len(spans)
        for language, other in (LANGUAGES, LANGUAGES[::-1]):
            yield _across(bases[other][0], bases[language][1], language, other)
    yield Row(
        what="passages that hold the query word for word come first",
        figure=f"{held / tried:.1%}",
        at_least="100 %",
        holds=held == tried,
        note=f"{tried} spans of 12 characters or 5 words",
    )


def _questions(base: KnowledgeBase, asked: list[tuple[str, str]], language: str) -> Iterator[Row]:
    places = [_place([p.source for p in base.search(question, k=5)], right) for question, right in asked]
    alone = _alone(base, asked)
    for k, least, aim in ((1, 0.965, 0.98), (5, 0.995, 0.998)):
        recall = np.mean([place < k for place in places])
        peers = [f"{name} {np.mean([place < k for place in found]):.3f}" for name, found in alone.items()]
        yield Row(
            what=f"retrieval, XQuAD {language}, recall@{k}",
            figure=f"{recall:.3f}",
            at_least=f"{least:g}",
            aim=f"{aim:g}",
            peer=", ".join(peers),
            holds=bool(recall >= least),
            note=f"{len(asked)} questions",
        )


def _across(base: KnowledgeBase, asked: list[tuple[str, str]], language: str, other: str) -> Row:
    """Questions of one language on the paragraphs of the other, which stand in the same order."""
    recall = np.mean([right in [p.source for p in base.search(question, k=5)] for question, right in asked])
    return Row(
        what=f"retrieval across languages, XQuAD {language} on {other}, recall@5",
        figure=f"{recall:.3f}",
        at_least="0.9",
        aim="0.97",
        holds=bool(recall >= 0.9),
        note=f"{len(asked)} questions",
    )


def _alone(base: KnowledgeBase, asked: list[tuple[str, str]]) -> dict[str, list[int]]:
    """The same questions by BM25 alone, by the encoder alone, and by plain rank fusion of both."""
    table = Store(base.path).passages()
    lexicon = Postings.build(table.texts)
    vectors = base.encoder.embed([question for question, _ in asked], kind="query")
    found: dict[str, list[int]] = {"BM25": [], "encoder": [], "RRF": []}
    for (question, right), vector in zip(asked, vectors, strict=True):
        words, meaning = search_words([lexicon], question).scores, table.vectors @ vector
        both = 1 / (RRF + _ranks(words)) + 1 / (RRF + _ranks(meaning))
        for name, scores in zip(found, (words, meaning, both), strict=True):
            best = np.argsort(-scores, kind="stable")[:5]
            found[name].append(_place([table.sources[row] for row in best], right))
    return found


def _ranks(scores: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-scores, kind="stable"))


def _place(sources: list[str], right: str) -> int:
    return sources.index(right) if right in sources else len(sources)


def _holds(base: KnowledgeBase, span: str) -> bool:
    """True if what comes first, or first and second where a cut parts it, holds the span."""
    plain = "".join(span.split()).casefold()
    found = base.search(span, k=2)
    why = found[0].reasons
    whole = "".join(found[0].text.split()).casefold()
    parted = {"".join((one.text + other.text).split()).casefold() for one in found for other in found}
    stands = why is not None and (why.exact or why.within)
    return stands and (plain in whole or any(plain in p for p in parted))


def _spans(texts: list[str], count: int) -> Iterator[str]:
    """Random stretches of the texts, by turns 12 characters and 5 words, the same in every run."""
    chance = random.Random(0)
    while count:
        text = chance.choice(texts)
        words = text.split(" ")
        if count % 2 and len(words) > 20:
            start = chance.randrange(len(words) - 5)
            span = " ".join(words[start : start + 5])
        else:
            start = chance.randrange(len(text) - 12)
            span = text[start : start + 12]
        if span.strip():
            count -= 1
            yield span


def paragraphs_of(file: Path) -> list[tuple[str, list[str]]]:
    articles = json.loads(file.read_bytes())["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    return [(p["context"], [qa["question"] for qa in p["qas"]]) for p in paragraphs[:PARAGRAPHS]]


def _name(number: int) -> str:
    return f"{number:04d}.txt"


if __name__ == "__main__":
    main(measure, __doc__)
