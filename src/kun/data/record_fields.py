"""The fields of a record, read with errors that name the record, the fault and the way out."""

from collections.abc import Iterable

from kun.data.records import Record
from kun.errors import BadRow
from kun.text.tokenizer import sound


def lowered(value: dict[str, object]) -> dict[str, object]:
    """The fields by their names in small letters, without the space around."""
    return {str(name).strip().lower(): entry for name, entry in value.items()}


def listing(names: Iterable[str]) -> str:
    """Names for a message, a dozen at most."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "")


def first(names: dict[str, object], wanted: Iterable[str]) -> str | None:
    """The first of some names that there is."""
    return next((name for name in wanted if name in names), None)


def columns(names: dict[str, object], choices: Iterable[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The first of some groups of names that are all there."""
    return next((columns for columns in choices if all(name in names for name in columns)), None)


def string(record: Record, name: str, value: object, empty: bool = False) -> str:
    """The text of a field. Raises `BadRow` where it is none, or, unless that is allowed, empty."""
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise BadRow(
            f"{record.where}: {name!r} holds {type(value).__name__}, not text: mend or skip the row."
        )
    if not empty and not value.strip():
        raise BadRow(f"{record.where}: {name!r} is empty: mend or skip the row.")
    return sound(value)


def fields_of(record: Record, format: str) -> dict[str, object]:
    """The named fields of a record. Raises `BadRow` where it has none."""
    if not isinstance(record.value, dict):
        raise BadRow(
            f"{record.where} has no named fields, which the format {format} needs: name its columns."
        )
    return lowered(record.value)


def missing(record: Record, format: str, wanted: str) -> BadRow:
    """The error for a record without the fields that a format needs."""
    fields = listing(record.value) if isinstance(record.value, dict) else f"{len(record.value)} cells"
    return BadRow(
        f"{record.where} has {fields}, but the format {format} needs {wanted}: mend or skip the row."
    )
