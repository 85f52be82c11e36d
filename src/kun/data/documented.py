"""Signatures and docstrings out of Python source, read and never run. Runs as a process, for many files at once.

Only the standard library is imported here, so that such a process starts at once.
"""

import ast
import gc
import inspect
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

_LONGEST_FILE = 4 * 2**20
_LONGEST_SIGNATURE = 400

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Documented(NamedTuple):
    """One documented thing: `name` is all of its dotted name, `kind` "module", "class" or "function"."""

    kind: str
    name: str
    module: str
    signature: str
    """As it is called, "join(a, *p)"; empty for a module."""
    doc: str

    @property
    def call(self) -> str:
        """The signature with all of the dotted name in front: "os.path.join(a, *p)"."""
        owner = self.name.rpartition(".")[0]
        return f"{owner}.{self.signature}" if owner and self.signature else self.name


def of_source(source: bytes, module: str) -> Iterator[Documented]:
    """What a module documents: itself, then its public classes, their methods, and functions, in their order."""
    tree: ast.Module | None = None
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what others wrote
        tree = ast.parse(source)
    if tree is None:
        return
    if doc := _doc(tree):
        yield Documented("module", module, module, "", doc)
    yield from _of_body(tree.body, module, module)


def _of_body(body: list[ast.stmt], owner: str, module: str) -> Iterator[Documented]:
    for node in body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        if doc := _doc(node):
            yield Documented(kind, f"{owner}.{node.name}", module, _signature(node), doc)
        if isinstance(node, ast.ClassDef):
            yield from _of_body(node.body, f"{owner}.{node.name}", module)


def _doc(node: ast.Module | Definition) -> str:
    doc = (ast.get_docstring(node) or "").strip().replace("\0", "\ufffd")
    return doc.encode("utf-8", "replace").decode()


def _signature(node: Definition) -> str:
    function: ast.stmt | None = node
    returns = ""
    if isinstance(node, ast.ClassDef):
        function = next((one for one in node.body if getattr(one, "name", "") == "__init__"), None)
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"{node.name}()"
    arguments = function.args
    for places in (arguments.posonlyargs, arguments.args):
        if places and places[0].arg in ("self", "cls"):
            del places[0]
            break
    if function is node and function.returns is not None:
        returns = f" -> {ast.unparse(function.returns)}"
    signature = f"{node.name}({ast.unparse(arguments)}){returns}"
    return signature if len(signature) <= _LONGEST_SIGNATURE else f"{node.name}(...)"


def of_imported(module: str) -> Iterator[Documented]:
    """What a module that is written in C documents: it is imported. Python's own functions are left out."""
    import importlib

    with suppress(Exception):  # of whatever goes wrong in a package of others
        found = importlib.import_module(module)
        if not hasattr(found, "__file__") and (doc := inspect.getdoc(found)):
            yield Documented("module", module, module, "", doc)
        yield from _of_object(found, module, module)


def _of_object(owner: Any, path: str, module: str) -> Iterator[Documented]:
    for name in sorted(vars(owner)):
        value = getattr(owner, name, None)
        doc = getattr(value, "__doc__", None)
        if name.startswith("_") or not callable(value) or not isinstance(doc, str) or not doc.strip():
            continue
        if hasattr(value, "__code__") or hasattr(getattr(value, "__func__", None), "__code__"):
            continue  # its source is read
        is_class = isinstance(value, type)
        if is_class and (value.__module__ != module or value.__flags__ & 1 << 9):  # a class made by Python
            continue
        call, doc = _called(name, value, inspect.cleandoc(doc))
        if doc:
            yield Documented("class" if is_class else "function", f"{path}.{name}", module, call, doc)
        if is_class:
            yield from _of_object(value, f"{path}.{name}", module)


def _called(name: str, value: Any, doc: str) -> tuple[str, str]:
    """The signature, which often is the docstring's first line, and the docstring without it."""
    first, _, rest = doc.partition("\n")
    if first.startswith(f"{name}(") and len(first) <= _LONGEST_SIGNATURE:
        return first.strip(), rest.strip()
    text = getattr(value, "__text_signature__", None) or "(...)"
    text = (
        text.replace("($self, /, ", "(")
        .replace("($self, /)", "()")
        .replace("$self, ", "")
        .replace("$module, ", "")
    )
    return name + text.replace("($module, /)", "()").replace("($self)", "()"), doc


def main() -> None:
    """Each line of standard input names a file and its module, or a module to import; each answer is a line."""
    gc.disable()  # trees hold no cycles, and looking for some takes a third of the time
    for line in sys.stdin:
        path, module = json.loads(line)
        found: list[Documented] = []
        if path is None:
            found = list(of_imported(module))
        else:
            with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 (pathlib takes its time to start)
                source = file.read(_LONGEST_FILE + 1)
                if len(source) <= _LONGEST_FILE:
                    found = list(of_source(source, module))
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
