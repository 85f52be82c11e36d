"""Questions and answers made of documentation: what a function does, what it takes, and where it stands."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Literal, NamedTuple, get_args

from kun.data.documented import Documented

QuestionKind = Literal["purpose", "arguments", "module"]
KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)

_HELD_OUT = 0.1
_SENTENCE = re.compile(r"(?s)(.+?[.!?])(?:\s|$)")
_CALL = re.compile(r"[\w.]+\(.*\)(?: -> .*)?")
"""The signature that a docstring of compiled code begins with."""
_SHORTEST, _LONGEST = 15, 160  # characters of an answer that says something and can be learned


class Question(NamedTuple):
    """One question on one function; `is_held_out` where no question on it is learned from."""

    kind: QuestionKind
    name: str
    question: str
    answer: str
    is_held_out: bool


def questions(entries: Iterable[Documented]) -> Iterator[Question]:
    """All that can be asked of public functions, in their order."""
    functions = [entry for entry in entries if entry.kind == "function" and not _is_private(entry.name)]
    leaves = Counter(_leaf(entry.name) for entry in functions)
    for entry in functions:
        held_out = share_of(entry.name) < _HELD_OUT
        for kind, question, answer in _of_function(entry, is_only=leaves[_leaf(entry.name)] == 1):
            yield Question(kind, entry.name, question, answer, held_out)


def share_of(name: str) -> float:
    """A number in [0, 1) that a name alone decides."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "little") / 2**48


def _of_function(entry: Documented, *, is_only: bool) -> Iterator[tuple[QuestionKind, str, str]]:
    summary = summary_of(entry.doc)
    if summary:
        yield "purpose", f"What does {entry.name} do?", summary
        yield "purpose", f"What does this function do?\n\n{entry.call}", summary
    arguments = arguments_of(entry.signature)
    if arguments is not None:
        yield "arguments", f"What arguments does {entry.name} take?", ", ".join(arguments) or "none"
    if is_only and entry.name == f"{entry.module}.{_leaf(entry.name)}":
        yield "module", f"Which module has {_leaf(entry.name)}?", entry.module


def summary_of(doc: str) -> str | None:
    """The first sentence of a docstring, on one line; None where it is none, or far too long."""
    first, _, others = doc.partition("\n\n")
    paragraph = " ".join(first.split())
    if _CALL.fullmatch(paragraph):
        paragraph = " ".join(others.partition("\n\n")[0].split())
    match = _SENTENCE.match(paragraph)
    sentence = match[1] if match else f"{paragraph}."
    is_prose = sentence[0].isalpha() and ">>>" not in sentence and "->" not in sentence
    return sentence if is_prose and _SHORTEST <= len(sentence) <= _LONGEST else None


def arguments_of(signature: str) -> list[str] | None:
    """The names of what a function takes, * and ** before those that take many; None where it does not tell."""
    try:
        (function,) = ast.parse(f"def {signature.partition(' -> ')[0]}: ...").body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(function, ast.FunctionDef):
        return None
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args)]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [one.arg for one in given.kwonlyargs]
    return names + ([f"**{given.kwarg.arg}"] if given.kwarg else [])


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _is_private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def is_right(said: str, wanted: str) -> bool:
    """True for the wanted answer, white space, case and the last full stop apart."""
    return _plain(said) == _plain(wanted)


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()
