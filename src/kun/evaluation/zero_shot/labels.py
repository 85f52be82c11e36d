"""Labels in words, and the solved examples that may come with them, checked before a model is opened."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kun.errors import BadInput
from kun.evaluation.rows import TABLES, read_rows, read_text

MOST_LABELS = 200
LONGEST_LABEL = 200
"""Characters."""
MOST_EXAMPLES = 5000
_TEXT = ("text", "content", "sentence", "review")
_COMMA = re.compile("[,，]")


@dataclass(frozen=True)
class Example:
    """A text with its label."""

    text: str
    label: str


@dataclass(frozen=True)
class Labels:
    """The `names` among which a text's one is chosen, each with its description, "" where it has none."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]

    @classmethod
    def of(cls, labels: Sequence[str] | Mapping[str, str]) -> "Labels":
        """Raises `BadInput` for fewer than two, for one that is empty, too long or there twice."""
        if isinstance(labels, str) or not all(isinstance(name, str) for name in labels):
            raise BadInput(
                'labels are a list of texts, such as ["positive", "negative"], or texts with descriptions.'
            )
        pairs = labels.items() if isinstance(labels, Mapping) else [(name, "") for name in labels]
        names = [name.strip() for name, _ in pairs]
        if "" in names:
            raise BadInput(
                f"Label {names.index('') + 1} of {len(names)} is empty: give it a word or leave it out."
            )
        if len(names) < 2:
            given = f"There is one label, {names[0]!r}" if names else "There are no labels"
            raise BadInput(f"{given}: give at least two, between which to choose.")
        if len(names) > MOST_LABELS:
            raise BadInput(f"There are {len(names)} labels; {MOST_LABELS} are the most.")
        seen: dict[str, str] = {}
        for name in names:
            if len(name) > LONGEST_LABEL:
                raise BadInput(
                    f"The label {name[:40]!r}… has {len(name)} characters; {LONGEST_LABEL} are the most."
                )
            same = same_label(name)
            if same in seen:
                also = "" if seen[same] == name else f", as {seen[same]!r}"
                raise BadInput(f"The label {name!r} is there twice{also}: labels must differ.")
            seen[same] = name
        return cls(tuple(names), tuple(str(text).strip() for _, text in pairs))

    @classmethod
    def read(cls, line: str) -> "Labels":
        """The labels of a line: "cat,dog", or with descriptions "billing=invoices and payments,shipping=delivery"."""
        listed = _COMMA.split(line)
        if len(listed) == 1 and "=" not in line:
            listed = line.split("、")
        parts = [part.partition("=") for part in listed]
        described = [bool(equals) for _, equals, _ in parts]
        if any(described):
            names = cls.of([name for name, _, _ in parts]).names
            if not all(described):
                word = names[described.index(False)][:40]
                raise BadInput(
                    f"{word!r} is a label without a description, and others have one. If it is part of a description, "
                    f"leave out the comma before it; else write {word}= with its description, or with none."
                )
            return cls(names, tuple(text.strip() for _, _, text in parts))
        return cls.of([name for name, _, _ in parts])

    def number(self, name: str, where: str) -> int:
        """Which label is called so, in any case or width. Raises `BadInput` that names the place."""
        same = [same_label(own) for own in self.names]
        if same_label(name) not in same:
            known = ", ".join(self.names[:8]) + (" …" if len(self.names) > 8 else "")
            raise BadInput(f"{where}: the label {name[:40]!r} is none of {known}.")
        return same.index(same_label(name))


def same_label(name: str) -> str:
    """What names of one label have in common: its letters, whatever their case and width."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def checked_texts(texts: Iterable[object]) -> list[str]:
    """The texts. Raises `BadInput` for one that is none, or is empty."""
    found: list[str] = []
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise BadInput(f"Text {number} is empty: there is nothing to classify.")
        found.append(text.strip())
    return found


def read_texts(path: Path) -> list[str]:
    """The texts of a file: lines, or the column `text` of a .jsonl, .csv or .tsv file; empty lines are left out.

    Raises `NotFound`, `DamagedFile` that names the line, and `BadInput` for a file without texts.
    """
    if path.suffix in (".jsonl", *TABLES):
        return [_cell(row.values, _TEXT, row.where) for row in read_rows(path)]
    texts = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not texts:
        raise BadInput(f"{path} has no texts: write one on each line.")
    return texts


def read_examples(path: Path) -> list[Example]:
    """Solved examples: the columns `text` and `label` of a .jsonl, .csv or .tsv file.

    Raises `NotFound`, `UnsupportedFormat`, `DamagedFile` that names the line, and `BadInput`.
    """
    rows = read_rows(path)
    return [
        Example(_cell(row.values, _TEXT, row.where), _cell(row.values, ("label",), row.where)) for row in rows
    ]


def checked_examples(examples: Iterable[Example | tuple[str, str]], labels: Labels) -> list[tuple[str, int]]:
    """Each example's text, and the number of its label. Raises `BadInput` for an unknown label and an empty text."""
    found: list[tuple[str, int]] = []
    for number, example in enumerate(examples, 1):
        if isinstance(example, Example):
            text, label = example.text, example.label
        elif isinstance(example, tuple | list) and len(example) == 2 and isinstance(example[0], str):
            text, label = example
        else:
            raise BadInput(
                f"Example {number} is {str(example)[:40]!r}: give a text and its label, two together."
            )
        if not text.strip():
            raise BadInput(f"Example {number} has an empty text: leave it out.")
        found.append((text.strip(), labels.number(str(label), f"Example {number}")))
    if len(found) > MOST_EXAMPLES:
        raise BadInput(
            f"There are {len(found)} examples; {MOST_EXAMPLES} are the most: train a classifier of them."
        )
    return found


def _cell(values: Mapping[str, object], names: Sequence[str], where: str) -> str:
    name = next((name for name in names if name in values), None)
    if name is None:
        raise BadInput(f"{where} has no column {names[0]!r}: there are {', '.join(map(str, values))}.")
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise BadInput(f"{where}: {name} is {str(value)[:40]!r}; it must be a text that is not empty.")
    return str(value).strip()
