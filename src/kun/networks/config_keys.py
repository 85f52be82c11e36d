"""Fields of a config that name their key of `config.json`, so that one line reads, checks and writes each of them.

A field's `default` is ours; `missing` is what a file without the key means, where that is something else.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeVar

from kun.networks.fields import LARGEST, Fields

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
C = TypeVar("C", bound="DataclassInstance")


@dataclass(frozen=True)
class Key:
    """The key of a field: its name, how it is read, by the vocabulary's size, and whether None is written as null."""

    name: str
    read: Callable[[Fields, int], object]
    null: bool = True


def read(config_type: type[C], f: Fields) -> C:
    """The config that `f` holds; BadInput names a field that cannot be, UnsupportedFormat one that we lack."""
    keys = {each.name: each.metadata["key"] for each in fields(config_type) if "key" in each.metadata}
    vocabulary = 0
    values: dict[str, object] = {}
    for name, key in keys.items():
        values[name] = value = key.read(f, vocabulary)
        if name == "vocab_size" and isinstance(value, int):
            vocabulary = value
    make: Callable[..., C] = config_type
    return make(**values)


def written(config: "DataclassInstance") -> dict[str, object]:
    """The keys of `config.json` with the values that `config` has."""
    keys = {each.name: each.metadata["key"] for each in fields(config) if "key" in each.metadata}
    values = {key.name: (getattr(config, name), key.null) for name, key in keys.items()}
    return {name: value for name, (value, null) in values.items() if value is not None or null}


def whole(default: int, name: str, *, missing: int | None = None, low: int = 1, high: int = LARGEST) -> int:
    usual = default if missing is None else missing
    return _keyed(default, name, lambda f, _: f.integer(name, usual, low=low, high=high))


def layers(default: int, name: str, *, missing: int | None = None) -> int:
    return whole(default, name, missing=missing, high=2**12)


def heads(default: int, name: str, *, missing: int | None = None) -> int:
    return whole(default, name, missing=missing, high=2**14)


def whole_or_none(name: str, *, low: int = 1) -> int | None:
    """None, which is not written, where the file has no such key."""
    return _keyed(None, name, lambda f, _: f.integer(name, low=low) if name in f else None, null=False)


def token(default: int, name: str, *, missing: int | None = None) -> int:
    """The id of a token; a negative `missing` counts from the end of the vocabulary."""
    usual = default if missing is None else missing

    def reading(f: Fields, vocabulary: int) -> int:
        return f.integer(name, usual % vocabulary if usual < 0 else usual, low=0, high=vocabulary - 1)

    return _keyed(default, name, reading)


def token_or_none(name: str) -> int | None:
    return _keyed(None, name, lambda f, n: f.integer(name, low=0, high=n - 1) if name in f else None)


def token_or_null(default: int | None, name: str) -> int | None:
    """The id of a token; None where the file has null."""

    def reading(f: Fields, vocabulary: int) -> int | None:
        if name in f.values and f.values[name] is None:
            return None
        return f.integer(name, default, low=0, high=vocabulary - 1)

    return _keyed(default, name, reading)


def limit(name: str, *, missing: int | None = None) -> int | None:
    """A number of tokens, None for no limit, as the file has it with null or 0."""

    def reading(f: Fields, _: int) -> int | None:
        usual = f.values.get(name, missing)
        return None if usual is None else f.integer(name, missing, low=0) or None

    return _keyed(None, name, reading)


def number(default: float, name: str, *, missing: float | None = None, high: float = 1e12) -> float:
    usual = default if missing is None else missing
    return _keyed(default, name, lambda f, _: f.number(name, usual, high=high))


def share(default: float, name: str) -> float:
    """A number from 0 to 1."""
    return number(default, name, high=1.0)


def number_or_none(name: str, *, above: bool = False, high: float = 1e12, null: bool = False) -> float | None:
    """None, which is written as `null` says, where the file has no such key; a number from 0, or above it."""
    return _keyed(
        None, name, lambda f, _: f.number(name, above=above, high=high) if name in f else None, null=null
    )


def flag(default: bool, name: str, *, missing: bool | None = None) -> bool:
    usual = default if missing is None else missing
    return _keyed(default, name, lambda f, _: f.flag(name, usual))


def choice(default: T, name: str, options: Collection[T], *, missing: T | None = None) -> T:
    """One of `options`; UnsupportedFormat for another."""
    usual = default if missing is None else missing
    return _keyed(default, name, lambda f, _: f.only(name, usual, *options))


def choice_or_none(name: str, options: Collection[str]) -> str | None:
    """One of `options`; None, which is not written, where the file has no such key."""
    return _keyed(None, name, lambda f, _: f.only(name, None, None, *options), null=False)


def _keyed(default: T, name: str, reading: Callable[[Fields, int], object], *, null: bool = True) -> T:
    return field(default=default, metadata={"key": Key(name, reading, null)})
