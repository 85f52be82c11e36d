"""Spans that an answer must hold: XQuAD's paragraphs as files, its questions asked one by one.

A question is unanswerable where its article is held out ("other topics"), or only its paragraph ("near misses":
the rest of the article is still there, and now and then does say it).
"""

import json
import random
import statistics
import tempfile
import time
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.table import Options, Row, main, skipped
from kun.text.fold import fold

MODEL = "qwen2.5-coder-0.5b-instruct"
SPANS = {"en": (0.70, 0.80, "0.71"), "zh": (0.55, 0.70, "0.48")}
"""At least, the aim, and what the gold passage and a plain prompt give in llama.cpp."""
AT_ONCE = 16
TIMED = 12


@dataclass(frozen=True)
class Question:
    text: str
    gold: str
    file: str
    article: str


def measure(options: Options) -> Iterable[Row]:
    if options.data is None or not (options.data / "xquad").is_dir():
        yield skipped("answers from documents", "needs --data with xquad/")
        return
    import kun

    lm = kun.load(MODEL, quantize="int4")
    for language in SPANS:
        with tempfile.TemporaryDirectory() as folder:
            files, questions = _read(options.data / "xquad" / f"xquad.{language}.json", Path(folder, "files"))
            base = kun.KnowledgeBase.open(Path(folder, "answers"))
            base.add(Path(folder, "files"))
            yield from _measure(base, lm, language, files, _sample(questions, 60 if options.quick else None))


def _measure(base: Any, lm: Any, language: str, files: list[str], questions: list[Question]) -> Iterable[Row]:
    answered = _ask(base, lm, [(one, files) for one in questions])
    holds = [_holds(one, answer) for one, answer in zip(questions, answered, strict=True)]
    least, aim, peer = SPANS[language]
    own = [right and not answer.quoted for right, answer in zip(holds, answered, strict=True)]
    yield Row(
        what=f"the answer holds the gold span, {language}",
        figure=f"{statistics.mean(holds):.3f}",
        at_least=f"{least:.2f}",
        aim=f"{aim:.2f}",
        peer=f"gold passage given: {peer}",
        holds=statistics.mean(holds) >= least,
        note=f"{len(questions)} questions; {statistics.mean(own):.3f} in the model's own words",
    )
    yield _share(
        f"wrongly declined, {language}", [answer.declined for answer in answered], 0.10, 0.03, most=True
    )
    without = {
        "other topics": [[name for name in files if not name.startswith(one.article)] for one in questions],
        "near misses": [[name for name in files if name != one.file] for one in questions],
    }
    half = questions[: max(1, len(questions) // 2)]
    declined: list[bool] = []
    for what, kept in without.items():
        said = [answer.declined for answer in _ask(base, lm, list(zip(half, kept, strict=False)))]
        declined += said
        yield Row(
            what=f"  says that it is not there: {what}, {language}", figure=f"{statistics.mean(said):.3f}"
        )
    yield _share(f"says that it is not there, {language}", declined, 0.70, 0.90)
    yield _seconds(base, lm, language, questions[-TIMED:])


def _ask(base: Any, lm: Any, asked: Sequence[tuple[Question, list[str]]]) -> list[Any]:
    """The answers to questions, each from the files named beside it, many at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(partial(base.ask, one.text, lm, sources=kept)) for one, kept in asked]
        return [each.result() for each in running]


def _seconds(base: Any, lm: Any, language: str, questions: Sequence[Question]) -> Row:
    """One question at a time: until the first words, and until the end."""
    firsts, wholes = [], []
    for question in questions:
        start = time.perf_counter()
        stream = base.ask_stream(question.text, lm)
        next(iter(stream), "")
        firsts.append(time.perf_counter() - start)
        stream.answer()
        wholes.append(time.perf_counter() - start)
    first, whole = statistics.median(firsts), statistics.median(wholes)
    return Row(
        what=f"seconds per answer, {language}", figure=f"{whole:.2f}", note=f"first words after {first:.2f}"
    )


def _share(what: str, said: Sequence[bool], bound: float, aim: float, most: bool = False) -> Row:
    share = statistics.mean(said)
    return Row(
        what=what,
        figure=f"{share:.1%}",
        at_least=f"{'≤ ' if most else ''}{bound:.0%}",
        aim=f"{aim:.0%}",
        holds=share <= bound if most else share >= bound,
        note=f"{len(said)} questions",
    )


def _read(file: Path, folder: Path) -> tuple[list[str], list[Question]]:
    """The paragraphs, written as files of `folder`, and the questions."""
    folder.mkdir()
    names, questions = [], []
    for article in json.loads(file.read_text("utf-8"))["data"]:
        title = article["title"].replace("/", "_")
        for number, paragraph in enumerate(article["paragraphs"], 1):
            name = f"{title}-{number}.txt"
            (folder / name).write_text(paragraph["context"], "utf-8")
            names.append(name)
            questions += [
                Question(each["question"], each["answers"][0]["text"], name, f"{title}-")
                for each in paragraph["qas"]
            ]
    return names, questions


def _sample(questions: list[Question], count: int | None) -> list[Question]:
    shuffled = random.Random(0).sample(questions, len(questions))
    return shuffled[:count]


def _holds(question: Question, answer: Any) -> bool:
    return _bare(question.gold) in _bare(answer.text)


def _bare(text: str) -> str:
    """Folded, without punctuation."""
    return "".join(letter for letter in fold(text) if unicodedata.category(letter)[0] != "P")


if __name__ == "__main__":
    main(measure, __doc__)
