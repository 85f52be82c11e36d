"""Answers from documents, end to end, for each model of the catalog: right, wrong, declined, and how long they take.

A set is questions in a file of JSON lines next to a folder of documents. One ships (benchmarks/questions). With
`--data DATA` those of DATA/questions are asked: NAME.jsonl of the folder NAME, handbook.jsonl of examples/handbook.
Each line has `id`, `question`, `answerable`, `facts` (lists of alternatives, one of each of which must stand in the
answer), `never` (what must not), and perhaps `history`.
"""

import json
import re
import statistics
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import kun
from benchmarks.table import Options, Row, main, skipped
from kun.api import load_language_model
from kun.errors import KunError
from kun.knowledge.answer import Answer
from kun.models.language_model import LanguageModel
from kun.settings import DEFAULT_MODEL, LARGER_MODEL

HERE = Path(__file__).parent
ASKED = {"handbook": (40, 32, 3), "office": (52, 40, 4)}
"""Of so many questions that can be answered: right at least, and wrong at most, by the model chosen for a machine."""
LONGEST = 300
"""Words, or Chinese characters, of an answer: what is longer is a copy of the documents."""
Verdict = Literal["right", "partly", "wrong", "declined"]


@dataclass(frozen=True)
class Question:
    text: str
    answerable: bool
    facts: Sequence[Sequence[str]]
    never: Sequence[str]
    history: Sequence[dict[str, str]] = ()


@dataclass(frozen=True)
class Asked:
    """What came of a question, and the seconds until the first words and until the end."""

    verdict: Verdict
    answer: Answer
    first: float
    whole: float


def measure(options: Options) -> Iterable[Row]:
    sets = dict(_sets(options.data))
    for model in (DEFAULT_MODEL, LARGER_MODEL):
        try:
            lm = load_language_model(model)
        except KunError as error:
            yield skipped(f"answers: {model}", str(error))
            continue
        with lm, tempfile.TemporaryDirectory() as home:
            for name, (file, documents) in sets.items():
                base = kun.KnowledgeBase.open(Path(home, name))
                base.add(documents)
                questions = read(file)[:: 4 if options.quick else 1]
                asked = [ask(base, lm, question) for question in questions]
                yield from _rows(name, model, questions, asked)


def _sets(data: Path | None) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Each set's name, its file of questions, and its documents."""
    yield "the set that ships", (HERE / "questions" / "questions.jsonl", HERE / "questions" / "documents")
    for name in ASKED if data else ():
        file = Path(str(data), "questions", f"{name}.jsonl")
        documents = file.with_suffix("") if name != "handbook" else HERE.parent / "examples" / "handbook"
        if file.is_file() and documents.is_dir():
            yield name, (file, documents)


def read(file: Path) -> list[Question]:
    """The questions of a file."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    return [
        Question(
            row["question"],
            row["answerable"],
            row.get("facts", ()),
            row.get("never", ()),
            row.get("history", ()),
        )
        for row in rows
    ]


def ask(base: kun.KnowledgeBase, lm: LanguageModel, question: Question) -> Asked:
    """Ask one question by itself, as a person would."""
    start = time.perf_counter()
    stream = base.ask_stream(question.text, lm, history=list(question.history))
    next(iter(stream), "")
    first = time.perf_counter() - start
    answer = stream.answer()
    return Asked(verdict(question, answer.text, answer.declined), answer, first, time.perf_counter() - start)


def verdict(question: Question, text: str, declined: bool) -> Verdict:
    """Right with all facts and nothing of `never`, partly with half of them; of what is not there, declined."""
    if declined or not question.answerable:
        return "right" if declined and not question.answerable else "declined" if declined else "wrong"
    plain = _plain(text)
    if any(_stands(one, plain) for one in question.never):
        return "wrong"
    held = sum(any(_stands(one, plain) for one in fact) for fact in question.facts)
    if 2 * held < len(question.facts):
        return "wrong"
    words = len(re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", text))
    return "right" if held == len(question.facts) and words <= LONGEST else "partly"


def _plain(text: str) -> str:
    """Folded, without citations, and with one space for all that is neither letter, number nor percent."""
    text = re.sub(r"\[\d+\]", " ", unicodedata.normalize("NFKC", text).casefold())
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(?!(?<=\d)\.(?=\d))[^\w%]|_", " ", text)
    return re.sub(r"(?<!\d) +| +(?!\d)", "", text)


def _stands(alternative: str, plain: str) -> bool:
    """A number counts only as a whole: 12 is not in 120, nor in 1.12."""
    wanted = _plain(alternative)
    before = r"(?<!\d)(?<!\d\.)" if wanted[:1].isdigit() else ""
    after = r"(?!\.?\d)" if wanted[-1:].isdigit() else ""
    return bool(wanted) and re.search(before + re.escape(wanted) + after, plain) is not None


def _rows(name: str, model: str, questions: Sequence[Question], asked: Sequence[Asked]) -> Iterator[Row]:
    there = [one for question, one in zip(questions, asked, strict=True) if question.answerable]
    nothing = [one for question, one in zip(questions, asked, strict=True) if not question.answerable]
    count = Counter(one.verdict for one in there)
    full, right, wrong = ASKED.get(name, (0, 0, 0))
    whole = len(there) == full  # what is asked is asked of all questions
    yield Row(
        f"{name}: answered right, {model}",
        f"{count['right']} of {len(there)}",
        f"{right} of {full}, wrong {wrong} at most" if full else "",
        holds=count["right"] >= right and count["wrong"] <= wrong if whole else None,
        note=", ".join(f"{kind} {count[kind]}" for kind in ("partly", "wrong", "declined")),
    )
    yield Row(
        f"{name}: nothing there, and said so, {model}",
        f"{sum(one.verdict == 'right' for one in nothing)} of {len(nothing)}",
    )
    said = [one for one in there if not one.answer.declined]
    own = sum(not one.answer.quoted and one.answer.computed is None for one in said)
    computed = sum(one.answer.computed is not None for one in said)
    yield Row(
        f"{name}: in its own words, {model}",
        f"{own / max(len(said), 1):.0%}",
        note=f"{computed} computed, {len(said) - own - computed} quoted of {len(said)}",
    )
    yield Row(
        f"{name}: seconds until the first words, and the end, {model}",
        f"{statistics.mean(one.first for one in asked):.1f}, {statistics.mean(one.whole for one in asked):.1f}",
        note=f"mean of {len(asked)}; the slowest {max(one.whole for one in asked):.1f}",
    )


if __name__ == "__main__":
    main(measure, __doc__)
