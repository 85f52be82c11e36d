"""What people ask: prompts that answers are sampled to, out of any data that holds such."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kun.data.described import Counts
from kun.data.rows import BadRows, ChatMessage, Conversation, Pair, Ranking, Row, Text, Unpaired, digests
from kun.errors import BadInput


class Encoder(Protocol):
    """The ids of a prompt as a model reads them, with the beginning of the answer behind it."""

    def __call__(self, messages: Sequence[ChatMessage]) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages that end before an answer, their `ids` int32 [n], and what the data say is the right answer, if so."""

    messages: tuple[ChatMessage, ...]
    ids: NDArray[np.int32]
    where: str
    wanted: str = ""


@dataclass
class Prompts:
    """Prompts in the order of their source, each once."""

    prompts: list[Prompt]
    counts: Counts = field(default_factory=Counts)
    sides: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def digest(self) -> str:
        made = blake2b(digest_size=16)
        for one in self.prompts:
            made.update(len(one.ids).to_bytes(4, "little") + one.ids.tobytes() + one.wanted.encode())
        return made.hexdigest()

    @classmethod
    def read(cls, rows: Iterable[Row], encode: Encoder, longest: int, bad: BadRows) -> "Prompts":
        """The prompts of rows. Those of more than `longest` tokens are left out and counted in `counts.dropped`.

        Raises `BadInput` where none is left.
        """
        made, counts = cls([]), Counts()
        seen: set[bytes] = set()
        for row in rows:
            counts.rows += 1
            messages, wanted = asked(row)
            ids = np.array(encode(messages), np.int32)
            if not 0 < len(ids) <= longest:
                counts.dropped += 1
                if len(counts.examples) < BadRows.KEPT:
                    counts.examples.append(f"{row.where}: {len(ids)} tokens leave no room for an answer")
                continue
            side = digests(row)[1]
            key = ids.tobytes() + wanted.encode()
            if key in seen:
                counts.duplicates += 1
                continue
            seen.add(key)
            made.prompts.append(Prompt(messages, ids, row.where, wanted))
            made.sides.append(int.from_bytes(side, "little"))
        counts.documents, counts.bad = len(made), bad.count
        made.counts = counts
        if not made.prompts:
            why = f" ({counts.examples[0]})" if counts.examples else ""
            raise BadInput(
                f"None of {counts.rows} rows has a prompt that can be answered{why}: name other data."
            )
        return made

    def split(self, share: float) -> "tuple[Prompts, Prompts]":
        """Training and evaluation, about `share` of the prompts in the latter. Raises `BadInput` for one prompt."""
        if len(set(self.sides)) < 2:
            raise BadInput("There is one prompt only, which cannot be divided: name data for evaluation.")
        threshold = min(max(int(share * 2**64), min(self.sides) + 1), max(self.sides))
        parts = []
        for wanted in (False, True):
            chosen = [number for number, side in enumerate(self.sides) if (side < threshold) == wanted]
            some = [self.prompts[number] for number in chosen]
            parts.append(replace(self, prompts=some, sides=[self.sides[number] for number in chosen]))
        return parts[0], parts[1]


def asked(row: Row) -> tuple[tuple[ChatMessage, ...], str]:
    """The messages up to the last answer, and that answer, "" where the data hold none. Raises `BadInput`."""
    match row:
        case Ranking() | Unpaired():
            return row.prompt, ""
        case Pair():
            return ({"role": "user", "content": row.source},), row.target
        case Text():
            return ({"role": "user", "content": row.text},), ""
        case Conversation():
            last = max(place for place, message in enumerate(row.messages) if message["role"] == "assistant")
            return row.messages[:last], str(row.messages[last]["content"])
    raise BadInput(
        f"{row.where} asks nothing that could be answered: name conversations, pairs or preferences."
    )
