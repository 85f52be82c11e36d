"""Rules that an answer keeps or breaks: lengths, forms, words, numbers, and patterns of what it says.

The rules of a row stand in its data, the patterns in a TOML file, so that whoever reads a figure can read how it was
come by. Every rule is decided by the answer's text alone; no model judges.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from kun.errors import BadInput, BadRecipe, NotFound
from kun.evaluation.numbers import numbers

_HAN = re.compile(r"[\u3400-\u9fff]")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ITEM = re.compile(r"\s*(?:\d+\s*[.)、．:]|[-*•])\s*\S")
_END = re.compile(r"[。！？]+|[.!?]+(?=[\"'”’)\]]*(?:\s|$))")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_QUOTES = "\"'“”‘’「」*_` \t\n"
_SHORT = 3
"""A keyword of so many Latin letters, or fewer, is found as a whole word only ("no" is not in "now")."""

Span = tuple[int | None, int | None]
"""At least and at most; None where there is no bound."""


def _compiles(source: str) -> str:
    try:
        re.compile(source)
    except re.error as error:
        raise ValueError(f"{source!r} is no regular expression: {error}") from error
    return source


Expression = Annotated[str, AfterValidator(_compiles)]


class Rules(BaseModel):
    """What an answer has to be. Every rule that is given has to be kept.

    Letters' case matters to `case`, `ends`, `matches` and `json_keys` alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: Span | None = None
    """Words between spaces or punctuation."""
    characters: Span | None = None
    """Chinese characters."""
    sentences: Span | None = None
    lines: Span | None = None
    """Lines that are not empty."""
    paragraphs: Span | None = None
    """Texts between empty lines."""
    items: Span | None = None
    """Lines that begin with a number or a bullet."""
    commas: Span | None = None
    contains: tuple[str, ...] = ()
    """All of these words stand in it."""
    any: tuple[str, ...] = ()
    """At least one of these words stands in it."""
    absent: tuple[str, ...] = ()
    """None of these words stands in it."""
    begins: str | None = None
    begins_any: tuple[str, ...] = ()
    ends: str | None = None
    matches: Expression | None = None
    """A regular expression for the whole answer."""
    case: Literal["upper", "lower"] | None = None
    script: Literal["latin", "han"] | None = None
    """Letters of this script alone, at least one of them."""
    json_keys: tuple[str, ...] = ()
    """A JSON object of exactly these keys."""
    json_list: int | None = None
    """A JSON list of so many values."""
    number: float | None = None
    """Among its numbers, in figures or words, is this one."""
    says: tuple[str, ...] = ()
    """Patterns of the task's file, all of which it fits."""
    says_not: tuple[str, ...] = ()
    """Patterns of the task's file, none of which it fits."""

    def broken(self, answer: str, patterns: "Mapping[str, Pattern]") -> list[str]:
        """The names of the rules that `answer` does not keep, in the order above; all are broken by an empty one."""
        text = answer.strip()
        given = [name for name in type(self).model_fields if getattr(self, name) not in (None, ())]
        if not text:
            return given
        return [name for name in given if not self._keeps(name, text, patterns)]

    def _keeps(self, name: str, text: str, patterns: "Mapping[str, Pattern]") -> bool:
        if name in ("says", "says_not"):
            fits = [patterns[each].fits(text) for each in getattr(self, name)]
            return all(fits) if name == "says" else not any(fits)
        value = getattr(self, name)
        if name in _COUNTS:
            low, high = value
            count = _COUNTS[name](text)
            return (low is None or count >= low) and (high is None or count <= high)
        return _CHECKS[name](text, value)


def _holds(text: str, word: str) -> bool:
    """Whether a word stands in a text: at the beginning of a word, and a short one as a whole, in the plural too."""
    found = re.escape(word)
    if word[0].isascii() and word[0].isalnum():
        found = rf"(?<![a-z0-9]){found}"
        if len(word) <= _SHORT:
            found += r"(?:s|es)?(?![a-z0-9])"
    return re.search(found, text, re.IGNORECASE) is not None


def _begins(text: str, start: str) -> bool:
    return re.match(rf"{re.escape(start)}(?![a-z])", text.lstrip(_QUOTES), re.IGNORECASE) is not None


def _json(text: str) -> object:
    """The JSON value that an answer is, in a fence or not; None where it is none."""
    fenced = _FENCE.fullmatch(text)
    try:
        value: object = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    return value


def _has_keys(text: str, keys: tuple[str, ...]) -> bool:
    value = _json(text)
    return isinstance(value, dict) and set(value) == set(keys)


def _is_list(text: str, length: int) -> bool:
    value = _json(text)
    return isinstance(value, list) and len(value) == length


def _has_case(text: str, case: str) -> bool:
    return text.isupper() if case == "upper" else text.islower()


def _has_script(text: str, script: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    return bool(letters) and all((_HAN.match(letter) is not None) == (script == "han") for letter in letters)


_COUNTS: Mapping[str, Callable[[str], int]] = {
    "words": lambda text: len(_WORD.findall(text)),
    "characters": lambda text: len(_HAN.findall(text)),
    "sentences": lambda text: sum(_WORD.search(part) is not None for part in _END.split(text)),
    "lines": lambda text: sum(bool(line.strip()) for line in text.splitlines()),
    "paragraphs": lambda text: len(re.split(r"\n\s*\n", text)),
    "items": lambda text: sum(_ITEM.match(line) is not None for line in text.splitlines()),
    "commas": lambda text: len(re.findall("[,，、]", text)),
}
_CHECKS: Mapping[str, Callable[..., bool]] = {
    "contains": lambda text, words: all(_holds(text, word) for word in words),
    "any": lambda text, words: any(_holds(text, word) for word in words),
    "absent": lambda text, words: not any(_holds(text, word) for word in words),
    "begins": _begins,
    "begins_any": lambda text, starts: any(_begins(text, start) for start in starts),
    "ends": lambda text, end: text.rstrip(_QUOTES).endswith(end),
    "matches": lambda text, source: re.fullmatch(source, text) is not None,
    "case": _has_case,
    "script": _has_script,
    "json_keys": _has_keys,
    "json_list": _is_list,
    "number": lambda text, value: any(abs(one - value) < 1e-9 for one in numbers(text)),
}


@dataclass(frozen=True)
class Pattern:
    """When a text says something: `find` within its first `within` characters, and `unless` nowhere."""

    find: re.Pattern[str]
    unless: re.Pattern[str] | None
    within: int | None

    def fits(self, text: str) -> bool:
        text = text.strip().replace("’", "'")
        if self.find.search(text[: self.within]) is None:
            return False
        return self.unless is None or self.unless.search(text) is None


class _Written(BaseModel):
    """A pattern as its file has it."""

    model_config = ConfigDict(extra="forbid")

    find: tuple[Expression, ...]
    unless: tuple[Expression, ...] = ()
    within: int | None = None


def read_patterns(path: Path) -> dict[str, Pattern]:
    """The patterns of a TOML file by name. Raises `NotFound`, and `BadRecipe` that names the fault."""
    if not path.is_file():
        raise NotFound(f"The patterns {path} do not exist: a task names them relative to its own folder.")
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        read = {name: _Written.model_validate(value) for name, value in written.items()}
    except ValueError as error:  # of TOML, of UTF-8, and of what a pattern has to be
        raise BadRecipe(f"{path} holds no patterns: {' '.join(str(error).split())}.") from error
    return {name: _pattern(name, one) for name, one in read.items()}


def _pattern(name: str, one: _Written) -> Pattern:
    if not one.find:
        raise BadRecipe(f"The pattern {name!r} finds nothing: give it expressions in find.")
    return Pattern(_one_of(one.find), _one_of(one.unless) if one.unless else None, one.within)


def _one_of(sources: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{source})" for source in sources), re.IGNORECASE)


def check_names(rules: Rules, patterns: Mapping[str, Pattern], where: str) -> None:
    """Raise `BadInput` for a pattern that the task's file does not have."""
    for name in (*rules.says, *rules.says_not):
        if name not in patterns:
            raise BadInput(
                f"{where}: the task has no pattern {name!r} ({', '.join(patterns) or 'it has none'}): add it to its "
                f"file of patterns."
            )
