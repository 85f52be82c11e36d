"""Rows that teach a model to answer from documents; examples/recipes/grounded.toml trains on them.

    python examples/recipes/data/grounded/rows.py runs/grounded.jsonl --rows 600

Kun itself is asked about invented documents (worlds.py) in a knowledge base: the prompt of a row is the one that its
`Answerer` gave to the model, and here that is none, but writes the right answer, which is known. A row is kept where
Kun's checks let just that answer pass; the questions that give none are counted.
"""

import argparse
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from worlds import LANGUAGES, Asked, Document, questions, world

import kun
from kun.atomic_files import new_file
from kun.hub.opening import open_checkpoint
from kun.hub.pull import locate
from kun.knowledge.answering.answerer import Answerer
from kun.knowledge.answering.phrases import phrases
from kun.knowledge.answering.policy import POLICY
from kun.knowledge.answering.writing import without_citations

ALL_READ = replace(POLICY, likely=0.0, doubt=(1.0, 0.0))
"""The model reads every question: how likely it is that the documents answer is not asked."""
AGAIN = 0.12
"""Share of prompts that are those of a second try, after a first one without a word."""

_NUMBER = re.compile(r"^\d+\. ")
"""The number of a step, which is translated without it."""

Turn = dict[str, str]
Count = Callable[[str], int]


class Scripted:
    """The part of a language model that answering uses; it knows one question, and writes what is right for it.

    With `again` it writes nothing at first. `prompts` and `requests` are what it was asked to answer and to rewrite.
    """

    checkpoint, context_length = None, 4096

    def __init__(self, asked: Asked, count: Count, again: bool = False) -> None:
        self.name = f"scripted {uuid4()}"  # translations are remembered by the model's name
        self.count, self._asked, self._silent = count, asked, again
        self._translations = dict(translations(asked))
        self.prompts: list[tuple[list[Turn], str]] = []
        self.requests: list[tuple[list[Turn], str]] = []

    def submit(self, prompt: list[Turn], options: Any) -> Any:
        language = next(one for one in LANGUAGES if prompt[0]["content"] == phrases(one).system)
        text = self._asked.in_language(language)[1] or phrases(language).nothing
        self.prompts.append((prompt, text))
        silent, self._silent = self._silent, False
        return Written([SimpleNamespace(text="" if silent else text, finish_reason="stop")])

    def generate(self, prompt: list[Turn], **options: Any) -> str:
        request = prompt[0]["content"]
        _, _, end = phrases(self._asked.language).follow_up.rpartition("}")
        text = self._asked.whole if request.endswith(end) else self._translations.get(request, "")
        self.requests.append((prompt, text))
        return text

    def encode(self, text: str) -> list[int]:
        return []

    def prompt_logprobs(self, text: str) -> list[Any]:
        """None: it finds no question likelier than another."""
        return []


def translations(asked: Asked) -> Iterator[tuple[str, str]]:
    """What may be asked to be translated, the question and each line of the answer, and what is right."""
    for source, target in (LANGUAGES, LANGUAGES[::-1]):
        told = phrases(target)
        (question, answer), (right, text) = asked.in_language(source), asked.in_language(target)
        yield told.translate_question.format(text=question), right
        for one, other in zip(answer.split("\n"), text.split("\n"), strict=True):
            line, right = _NUMBER.sub("", one), _NUMBER.sub("", other)
            yield told.translate.format(text=line), right
            yield told.translate_answer.format(text=line, question=asked.whole), right


class Written(list[Any]):
    def cancel(self) -> None:
        """Nothing runs."""


def rows(
    count: int, seed: int, tokens: Count, encoder: Any, left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    """`count` rows, from as many worlds as it takes; `left_out` counts questions without one, by the reason."""
    rng = random.Random(seed)
    while count > 0:
        documents = world(rng)
        with tempfile.TemporaryDirectory() as folder:
            base = added(documents, Path(folder), encoder)
            for asked in questions(documents, rng):
                made, reason = rows_of(asked, base, tokens, again=rng.random() < AGAIN)
                left_out.update([f"{asked.kind}: {reason}"] if reason else [])
                yield from made[:count]
                count -= min(count, len(made))


def added(documents: list[Document], folder: Path, encoder: Any) -> kun.KnowledgeBase:
    (folder / "documents").mkdir()
    for one in documents:
        (folder / "documents" / one.name).write_text(one.text, encoding="utf-8")
    base = kun.KnowledgeBase.open(folder / "base", encoder)
    base.add(folder / "documents")
    return base


def rows_of(
    asked: Asked, base: kun.KnowledgeBase, tokens: Count, again: bool
) -> tuple[list[dict[str, Any]], str]:
    """The rows of one question, those of completing and translating among them, or the reason why there are none."""
    question, right = asked.in_language(asked.language)
    model: Any = Scripted(asked, tokens, again)
    said = zip(("user", "assistant"), asked.before or (), strict=False)
    history = [{"role": role, "content": text} for role, text in said]
    given = Answerer(base, model, ALL_READ).stream(asked.leaning or question, history).answer()
    if given.computed is not None:
        return [], "calculated"
    if given.question != question:
        return [], "understood otherwise"
    if not model.prompts:
        return [], "declined unread"
    if right and bare(given.text) != bare(right):
        return [], "the checks refuse the answer"
    made = [row(asked.kind, *model.prompts[-1 if right else 0])]
    return made + [row("rewriting", *one) for one in model.requests if one[1]], ""


def bare(text: str) -> str:
    return re.sub(r"\s", "", without_citations(text))


def row(kind: str, prompt: list[Turn], answer: str) -> dict[str, Any]:
    return {"kind": kind, "messages": [*prompt, {"role": "assistant", "content": answer}]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="where the rows go, in JSON lines")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct", help="whose tokens count")
    given = parser.parse_args()
    tokenizer = open_checkpoint(locate(given.model)).tokenizer
    encoder = kun.load("multilingual-e5-small")
    kinds: Counter[str] = Counter()
    left_out: Counter[str] = Counter()

    def tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    given.file.parent.mkdir(parents=True, exist_ok=True)
    with new_file(given.file) as fresh, fresh.open("w", encoding="utf-8") as file:
        for one in rows(given.rows, given.seed, tokens, encoder, left_out):
            kinds[one["kind"]] += 1
            file.write(json.dumps(one, ensure_ascii=False) + "\n")
    for title, counts in (("rows", kinds), ("left out", left_out)):
        print(f"{title}: {counts.total()}")
        print("\n".join(f"{number:6} {name}" for name, number in counts.most_common()))


if __name__ == "__main__":
    main()
