"""What people are shown and what they say of it, as plain values, checked."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, cast, get_args

from kun.data.rows import Answer, ChatMessage, Ranking
from kun.errors import BadInput
from kun.text.tokenizer import sound

Verdict = Literal["ranked", "bad", "skipped"]
"""An order of the answers (ties are possible); all of them are bad; no judgement."""
Flag = Literal["harmful", "untrue", "off-topic"]
FLAGS: tuple[Flag, ...] = get_args(Flag)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Tools = tuple[Mapping[str, object], ...] | None

FEWEST, MOST = 2, 9
"""Answers that a person ranks at a time."""
LONGEST_TEXT = 200_000
LONGEST_NAME = 80


@dataclass(frozen=True)
class Prompt:
    """Messages to answer, by the id under which the store has them."""

    id: str
    messages: tuple[ChatMessage, ...]
    source: str


@dataclass(frozen=True)
class Demonstration:
    """An answer that a person wrote."""

    prompt: tuple[ChatMessage, ...]
    answer: str
    writer: str
    tools: Tools = None


@dataclass(frozen=True)
class Thumb:
    """A thumb up (1) or down (-1) on an answer of a chat."""

    message: str
    rater: str
    value: int
    prompt: tuple[ChatMessage, ...]
    answer: str
    model: str


@dataclass(frozen=True)
class Item:
    """Answers to one prompt, as one person sees them: `shown` are the places of `answers` from left to right."""

    id: str
    prompt: tuple[ChatMessage, ...]
    answers: tuple[Answer, ...]
    models: tuple[str, ...]
    shown: tuple[int, ...]
    tools: Tools = None

    @property
    def prompt_text(self) -> str:
        """The prompt as JSON, to tell it from others."""
        return plain(self.prompt)

    def text(self, place: int) -> str:
        """An answer as a text: that of its assistant's messages."""
        said = self.answers[place]
        return "\n\n".join(str(message["content"]) for message in said if message["role"] == "assistant")


@dataclass(frozen=True)
class Vote:
    """What one person said of an item: `ranks` of its answers by their places, from 0, the best, without gaps.

    `shown` is the order in which they stood on the screen, () where nobody saw them on one; `correction` an answer of
    the person's own, better than all of them.
    """

    item: str
    rater: str
    verdict: Verdict = "ranked"
    ranks: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()
    flags: Mapping[int, tuple[Flag, ...]] = field(default_factory=dict)
    note: str = ""
    correction: str = ""
    margin: float = 0.0

    def checked(self, answers: int) -> "Vote":
        """The same, if it fits an item of so many answers. Raises `BadInput`."""
        if self.verdict not in VERDICTS:
            raise BadInput(f"The verdict is {self.verdict!r}: it is one of {', '.join(VERDICTS)}.")
        if self.verdict == "ranked":
            _check_ranks(self.ranks, answers)
        elif self.ranks:
            raise BadInput(f"A vote that is {self.verdict} has no ranks: leave them out.")
        if self.shown and sorted(self.shown) != list(range(answers)):
            raise BadInput(f"The order {list(self.shown)} does not show each of {answers} answers once.")
        for place, flags in self.flags.items():
            unknown = [flag for flag in flags if flag not in FLAGS]
            if unknown or not 0 <= place < answers:
                what = f"the flag {unknown[0]!r}" if unknown else f"a flag on answer {place}"
                raise BadInput(f"There is no {what.removeprefix('the ')}: flags are {', '.join(FLAGS)}.")
        check_text("note", self.note)
        check_text("corrected answer", self.correction)
        return self

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The places of a better and a worse answer, for each pair that is no tie."""
        places = range(len(self.ranks))
        return [(a, b) for a in places for b in places if self.ranks[a] < self.ranks[b]]


def _check_ranks(ranks: Sequence[int], answers: int) -> None:
    if len(ranks) != answers:
        raise BadInput(f"The ranking places {len(ranks)} of {answers} answers: place all of them, or skip.")
    used = sorted(set(ranks))
    if used != list(range(len(used))):
        missing = next(rank for rank in range(answers + 1) if rank not in used)
        raise BadInput(
            f"The ranking {list(ranks)} leaves out place {missing}: places go from 0, the best, without gaps."
        )


def check_text(name: str, text: str) -> str:
    """Raise `BadInput` for a text that is too long."""
    if len(text) > LONGEST_TEXT:
        raise BadInput(f"The {name} has {len(text):,} characters, more than {LONGEST_TEXT:,}: shorten it.")
    return text


def check_name(name: str) -> str:
    """The name of a person who rates. Raises `BadInput`."""
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise BadInput(
            f"The name of who rates has 1 to {LONGEST_NAME} characters, not {len(name)}: choose one."
        )
    return name


def ranked(item: Item, vote: Vote, where: str = "") -> Ranking | None:
    """A vote as a row of data; a corrected answer is better than all others. None where nothing is preferred."""
    if vote.verdict == "skipped":
        groups: list[tuple[Answer, ...]] = []
    else:
        ranks = vote.ranks or (0,) * len(item.answers)
        count = max(ranks) + 1
        groups = [
            tuple(answer for answer, rank in zip(item.answers, ranks, strict=True) if rank == wanted)
            for wanted in range(count)
        ]
    if vote.correction.strip():
        own: Answer = ({"role": "assistant", "content": vote.correction},)
        groups = [tuple(answer for answer in group if answer != own) for group in groups]
        rest = [group for group in groups if group]
        groups = [(own,), *(rest or [item.answers])] if vote.verdict != "skipped" else []
    if len(groups) < 2:
        return None
    return Ranking(item.prompt, tuple(groups), where, vote.margin, item.tools)


def plain(messages: Sequence[ChatMessage]) -> str:
    """Messages as JSON, equal ones always alike; halves of characters, which no database takes, are replaced."""
    return sound(json.dumps([dict(message) for message in messages], ensure_ascii=False, sort_keys=True))


def messages_from(text: str) -> tuple[ChatMessage, ...]:
    """The messages that `plain` wrote."""
    return tuple(cast(list[ChatMessage], json.loads(text)))


def tools_from(text: str) -> Tools:
    """The tools that `plain` wrote; None for ""."""
    return messages_from(text) if text else None


def digest(*parts: str) -> str:
    """32 hexadecimal digits that tell some texts from every other's."""
    made = blake2b(digest_size=16)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        made.update(len(content).to_bytes(8, "little") + content)
    return made.hexdigest()


def order_for(item: str, rater: str, answers: int) -> tuple[int, ...]:
    """The order in which a person sees the answers of an item: shuffled, and the same each time."""
    order = list(range(answers))
    random.Random(digest("order", item, rater)).shuffle(order)
    return tuple(order)
