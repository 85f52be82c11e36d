"""The result of proving an export: what each reader showed, and the verdict in words."""

from dataclasses import asdict, dataclass
from typing import Literal

from kun.errors import KunError
from kun.hub.export.comparing import StateCheck, TextCheck

Verdict = Literal["same", "differs", "not compared"]

UNMERGED = "the base with its adapter"
"""The name of what a merged adapter is compared with before any reader."""


class ExportDiffers(KunError):
    """An export that its reader does not read as the model it was made of. `fidelity` tells where."""

    def __init__(self, message: str, fidelity: "Fidelity") -> None:
        super().__init__(message)
        self.fidelity = fidelity


@dataclass(frozen=True)
class Reading:
    """The findings of one reference reader; None for what it was not asked, `problem` where it could not be."""

    reader: str
    tokens: TextCheck | None = None
    chats: TextCheck | None = None
    chat_tokens: TextCheck | None = None
    states: StateCheck | None = None
    problem: str | None = None

    @property
    def ok(self) -> bool:
        checks = (self.tokens, self.chats, self.chat_tokens, self.states)
        return all(check is None or check.ok for check in checks)


@dataclass(frozen=True)
class Fidelity:
    """The result of a proof.

    `rounding` is the price of the weights' fewer bits, None where they are what they were; `arithmetic` that of
    llama.cpp's way to compute, None where it costs nothing.
    """

    format: str
    dtype: str
    readings: tuple[Reading, ...]
    rounding: StateCheck | None
    arithmetic: StateCheck | None
    missing: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        if not all(reading.ok for reading in self.readings):
            return "differs"
        return "not compared" if self.missing else "same"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        match self.verdict:
            case "same":
                names = [
                    each.reader for each in self.readings if not each.problem and each.reader != UNMERGED
                ]
                return f"{' and '.join(names)} read the same tokens, chats and logits as Kun."
            case "differs":
                return " ".join(filter(None, map(_difference, self.readings)))
        problems = dict.fromkeys(reading.problem for reading in self.readings if reading.problem)
        return f"Not compared: {', '.join(self.missing)}. {'; '.join(problems)}."

    def as_dict(self) -> dict[str, object]:
        return {"verdict": self.verdict, "sentence": self.sentence, **asdict(self)}


def _difference(reading: Reading) -> str:
    """The difference that a reader found, in one sentence; nothing where there is none."""
    if reading.tokens and not reading.tokens.ok:
        first = reading.tokens.first or {}
        return (
            f"{reading.reader} cuts {reading.tokens.total - reading.tokens.same} of {reading.tokens.total} texts "
            f"otherwise: in {first['text']!r} token {first['token']} is {first['reader']} instead of {first['kun']}."
        )
    if reading.chats and not reading.chats.ok:
        first = reading.chats.first or {}
        return (
            f"{reading.reader} renders {reading.chats.total - reading.chats.same} of {reading.chats.total} chats "
            f"otherwise: {first['chat']!r} is {first['reader']!r} at character {first['character']} instead of "
            f"{first['kun']!r}."
        )
    if reading.chat_tokens and not reading.chat_tokens.ok:
        return f"{reading.reader} cuts rendered chats into other tokens: {reading.chat_tokens.first}."
    if reading.states and not reading.states.ok:
        return (
            f"{reading.reader} computes other numbers: {reading.states.largest:.4g} apart at "
            f"{reading.states.where}, {reading.states.relative:.2%} of their spread."
        )
    return ""
