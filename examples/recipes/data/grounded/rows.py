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

from worlds import Asked, Document, questions, world

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

Turn = dict[str, str]
Count = Callable[[str], int]


class Scripted:
    """The part of a language model that answering uses; it writes `texts` in turn, and `whole` for any follow-up."""

    name, checkpoint, context_length = "scripted", None, 4096

    def __init__(self, count: Count, whole: str, *texts: str) -> None:
        self.count, self._whole, self._texts = count, whole, iter(texts)
        self.prompts: list[list[Turn]] = []
        self.rewriting: list[Turn] = []

    def submit(self, prompt: list[Turn], options: Any) -> Any:
        self.prompts.append(prompt)
        return Written([SimpleNamespace(text=next(self._texts, ""), finish_reason="stop")])

    def generate(self, prompt: list[Turn], **options: Any) -> str:
        self.rewriting = prompt
        return self._whole


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
    """The rows of one question, that of completing a follow-up among them, or the reason for which there are none."""
    right = asked.answer or phrases(asked.language).nothing
    tries = ["", right] if again and asked.answer else [right]
    model: Any = Scripted(tokens, asked.whole, *tries)
    said = zip(("user", "assistant"), asked.before or (), strict=False)
    history = [{"role": role, "content": text} for role, text in said]
    given = Answerer(base, model, ALL_READ).stream(asked.question, history).answer()
    if given.computed is not None:
        return [], "calculated"
    if given.question != (asked.whole or asked.question):
        return [], "understood otherwise"
    if not model.prompts:
        return [], "an identifier stands nowhere"
    if asked.answer and bare(given.text) != bare(right):
        return [], "the checks refuse the answer"
    made = [row(asked.kind, model.prompts[len(tries) - 1], right)]
    if model.rewriting:
        made.append(row("completion", model.rewriting, asked.whole))
    return made, ""


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
