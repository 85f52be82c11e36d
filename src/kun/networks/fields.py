"""Reading a `config.json` that anyone may have written: each field is checked, and an error names it."""

import math
from collections.abc import Mapping
from typing import TypeVar

from kun.errors import BadInput, UnsupportedFormat

LARGEST = 2**24
"""No size is larger: the largest vocabularies have 2¹⁸ entries, the longest contexts 10⁷ tokens."""
MOST_LABELS = 2**20


T = TypeVar("T")


class Fields:
    """A view of a config whose getters return a checked value or raise an error that names the field."""

    def __init__(self, values: Mapping[str, object], where: str = "config.json") -> None:
        self.values, self.where = values, where

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def integer(self, name: str, default: int | None = None, *, low: int = 1, high: int = LARGEST) -> int:
        """A whole number in [low, high]; `default` where the field is missing or null."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}")
        return value

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        low: float = 0.0,
        high: float = 1e12,
        above: bool = False,
    ) -> float:
        """A finite number in [low, high], or (low, high] with `above`."""
        value = self._get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            value = math.nan
        if low <= value <= high and not (above and value == low):
            return float(value)
        raise self.wrong(name, f"a number {'above' if above else 'from'} {low:g} to {high:g}")

    def optional_number(self, name: str) -> float | None:
        return self.number(name) if name in self else None

    def flag(self, name: str, default: bool) -> bool:
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return value

    def only(self, name: str, default: T, *supported: T) -> T:
        """A field of which we implement `supported` alone; UnsupportedFormat for another value."""
        value = self._get(name, default)
        for one in supported:
            if one == value:
                return one
        shown = ", ".join(map(repr, supported))
        raise UnsupportedFormat(f"{self.where}: {name} is {_short(value)}; Kun supports {shown}.")

    def wrong(self, name: str, wanted: str) -> BadInput:
        found = f"is {_short(self.values[name])}" if name in self else "is missing"
        return BadInput(f"{self.where}: {name} {found}; it must be {wanted}.")

    def _get(self, name: str, default: object) -> object:
        value = self.values.get(name)
        return default if value is None else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def labels_of(f: Fields) -> tuple[str, ...]:
    """The names of the classes in order: of `id2label`, else LABEL_0 … as many as `num_labels` says."""
    named = f.mapping("id2label")
    if not named:
        return tuple(f"LABEL_{n}" for n in range(f.integer("num_labels", 2, high=MOST_LABELS)))
    by_number = {str(number): label for number, label in named.items()}
    labels = tuple(by_number.get(str(n)) for n in range(len(named)))
    if not all(isinstance(label, str) for label in labels):
        raise f.wrong("id2label", f"an object with a name for each number from 0 to {len(named) - 1}")
    return tuple(str(label) for label in labels)
