"""A row of data, whatever file it came from: a text, a conversation, a pair, labelled texts, a question, a ranking."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from kun.errors import BadRow

ChatMessage = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Text:
    """Running text: a document, or a piece of a very long one."""

    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages with role and content, as OpenAI's API has them, and the tools that could be called."""

    messages: tuple[ChatMessage, ...]
    where: str = ""
    tools: tuple[Mapping[str, object], ...] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and what is to be made of it: its translation, its summary, its answer."""

    source: str
    target: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One text, or two that are judged together, and the class (a str) or the number that belongs to them."""

    texts: tuple[str, ...]
    label: str | float
    where: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a text, and the answer that stands there from the character `start` on; None where none does."""

    context: str
    question: str
    answer: str | None
    start: int = 0
    where: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A question on a document, "" where there is none, and its candidate answers; that at `right` is the right one."""

    document: str
    question: str
    answers: tuple[str, ...]
    right: int
    where: str = ""


Answer = tuple[ChatMessage, ...]
"""What goes on from a prompt: the assistant's message, or several turns from where two conversations part."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Answers to one prompt, the best first; those of one group are as good as each other.

    `margin` is how much better each group is at least than the next one, where somebody told.
    """

    prompt: tuple[ChatMessage, ...]
    groups: tuple[tuple[Answer, ...], ...]
    where: str = ""
    margin: float = 0.0
    tools: tuple[Mapping[str, object], ...] | None = None

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All answers, the best first."""
        return tuple(answer for group in self.groups for answer in group)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The number of each answer's group, from 0, the best."""
        return tuple(rank for rank, group in enumerate(self.groups) for _ in group)


@dataclass(frozen=True, slots=True)
class Unpaired:
    """An answer to a prompt that somebody found good or bad, without another to compare it with."""

    prompt: tuple[ChatMessage, ...]
    answer: Answer
    is_good: bool
    where: str = ""


Row = Text | Conversation | Pair | Labelled | Question | Choice | Ranking | Unpaired


def fields(row: Row) -> list[object]:
    """What a row holds, without where it stood, as JSON has it."""
    match row:
        case Text():
            return ["text", row.text]
        case Conversation():
            return ["conversation", [dict(message) for message in row.messages], row.tools]
        case Pair():
            return ["pair", row.source, row.target]
        case Labelled():
            return ["labelled", list(row.texts), row.label]
        case Question():
            return ["question", row.context, row.question, row.answer, row.start]
        case Choice():
            return ["choice", row.document, row.question, list(row.answers), row.right]
        case Ranking():
            groups = [[[dict(message) for message in answer] for answer in group] for group in row.groups]
            return ["ranking", [dict(message) for message in row.prompt], groups, row.margin, row.tools]
        case Unpaired():
            prompt, answer = ([dict(message) for message in part] for part in (row.prompt, row.answer))
            return ["unpaired", prompt, answer, row.is_good]


def from_fields(values: list[object], where: str = "") -> Row:
    """The row that `fields` took apart."""
    match values:
        case ["text", str(text)]:
            return Text(text, where)
        case ["conversation", list(messages), tools]:
            return Conversation(_objects(messages), where, _objects(tools) or None)
        case ["pair", str(source), str(target)]:
            return Pair(source, target, where)
        case ["question", str(context), str(question), answer, int(start)]:
            return Question(context, question, answer if isinstance(answer, str) else None, start, where)
        case ["choice", str(document), str(question), list(answers), int(right)]:
            return Choice(document, question, tuple(map(str, answers)), right, where)
        case ["labelled", list(texts), (str() | float() | int()) as label]:
            return Labelled(tuple(map(str, texts)), label, where)
        case ["ranking", list(prompt), list(found), (float() | int()) as margin, tools]:
            groups = tuple(tuple(_objects(answer) for answer in group) for group in found)
            return Ranking(_objects(prompt), groups, where, float(margin), _objects(tools) or None)
        case ["unpaired", list(prompt), list(answer), bool(is_good)]:
            return Unpaired(_objects(prompt), _objects(answer), is_good, where)
    raise ValueError(f"{where}: a row of another version")


def _objects(values: object) -> tuple[Mapping[str, object], ...]:
    return (
        tuple(one for one in values if isinstance(one, Mapping)) if isinstance(values, list | tuple) else ()
    )


def digests(row: Row) -> tuple[bytes, bytes]:
    """16 bytes that tell the row's content from every other's, and 8 that decide on its side of a split.

    Equal digests are duplicates. Pairs with one source, equal texts with
    different labels, questions on one text, and answers to one prompt that were ranked or judged fall on the same side.
    """
    whole = _digest(fields(row))
    match row:
        case Pair():
            return whole, _digest(["text", row.source])[:8]
        case Labelled():
            return whole, _digest(["texts", *row.texts])[:8]
        case Question():
            return whole, _digest(["text", row.context])[:8]
        case Choice():
            return whole, _digest(["text", row.document or row.question])[:8]
        case Ranking() | Unpaired():
            return whole, _digest(["prompt", [dict(message) for message in row.prompt]])[:8]
    return whole, whole[:8]


def _digest(values: list[object]) -> bytes:
    if values[0] == "text":  # long texts need no JSON around them
        content = b"text\0" + str(values[1]).encode()
    else:
        content = json.dumps(values, ensure_ascii=False, sort_keys=True).encode()
    return blake2b(content, digest_size=16).digest()


class BadRows:
    """What becomes of rows that cannot be used: the first is an error, or, with `skip`, all are counted."""

    #: examples that are kept for the report
    KEPT = 10

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.reset()

    def reset(self) -> None:
        """Count from nothing, for another reading of the same rows."""
        self.count = 0
        self.examples: list[str] = []

    def meet(self, error: BadRow) -> None:
        """Raise `error`, or count it."""
        if not self.skip:
            raise error
        self.count += 1
        if len(self.examples) < self.KEPT:
            self.examples.append(str(error))
