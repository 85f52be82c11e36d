"""The rules of the house that ruff, mypy and import-linter do not check: `python tests/house.py`, part of `make lint`.

Between the files of `src/kun`, with imports for types and inside functions counted: no circle; no import from the
`__init__` of a file's own package; an `__init__` holds a docstring and nothing else; imports by string stand only
where they are named below; no file is longer than 400 lines; `Any` stands no more often than the limit allows.
Each violation is one line: the place, the fault, the fix. Floors (which room may import which) are import-linter's.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

MOST_LINES = 400
MOST_ANY = 210

FULL_PACKAGES = ("kun", "kun.adaptation", "kun.cli", "kun.families")
"""`__init__` files with more than a docstring: documented names, what the console script calls, the architectures."""
REGISTRIES = ("kun.families", "kun.models.kinds", "kun.training.registry", "kun.hub.opening")
"""What finds its members by strings, so that they are loaded when they are wanted."""
BY_STRING = {
    **dict.fromkeys(REGISTRIES, "a registry"),
    "kun": "the lazy names of the public face",
    "kun.api": "the lazy names of the public face",
    "kun.data.documented": "reads the docstrings of the user's installed packages",
    "kun.data.installed": "lists the user's installed packages",
}
"""Where a module may be imported by its name in a string, and why."""
IMPORTERS = {
    "import_module",
    "__import__",
    "entry_points",
    "run_module",
    "spec_from_file_location",
    "resolve_name",
}

KNOWN: tuple[str, ...] = ()
"""Violations that are being fixed: patterns of their keys. To be empty."""


@dataclass(frozen=True)
class Arrow:
    """One import: from the module at `path`:`line` to the module `target`."""

    target: str
    line: int


@dataclass(frozen=True)
class Violation:
    """A rule that a place breaks; `key` names it in `KNOWN`."""

    key: str
    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass
class Module:
    """One file, parsed."""

    name: str
    path: Path
    tree: ast.Module
    lines: int
    is_package: bool
    arrows: list[Arrow] = field(default_factory=list)

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]


def read_house(root: Path) -> dict[str, Module]:
    """Every module below the package at `root`, by its dotted name, with its arrows to the others."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, path, ast.parse(text, str(path)), len(text.splitlines()), is_package)
    for module in modules.values():
        module.arrows = list(_arrows(module, modules))
    return modules


def _arrows(module: Module, modules: Mapping[str, Module]) -> Iterator[Arrow]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            inner = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name in modules else base for name in inner]
        else:
            continue
        yield from (Arrow(name, node.lineno) for name in dict.fromkeys(targets) if name in modules)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.package.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def circles(modules: Mapping[str, Module]) -> Iterator[Violation]:
    """The strongly connected groups of files, each shown by one shortest way around."""
    for group in _groups({name: {arrow.target for arrow in m.arrows} for name, m in modules.items()}):
        way = _way_around(group, modules)
        steps = [f"{_place(modules[name], arrow.line)} imports {arrow.target}" for name, arrow in way]
        yield Violation(
            f"circle: {' '.join(sorted(group))}",
            _place(modules[way[0][0]], way[0][1].line),
            f"a circle of {len(group)} files: {'; '.join(steps)}. Move what both need into a file that "
            "imports neither, or hand it over as an argument.",
        )


def _groups(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Strongly connected components of more than one node, or of one that points at itself."""
    reached = {name: _reach(name, graph) for name in graph}
    groups: dict[str, set[str]] = {}
    for name in graph:
        if name in reached[name]:
            group = {other for other in reached[name] if name in reached[other]}
            groups.setdefault(min(group), group)
    return list(groups.values())


def _reach(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def _way_around(group: set[str], modules: Mapping[str, Module]) -> list[tuple[str, Arrow]]:
    """The shortest circle through the first module of `group`, as (module, its arrow)."""
    start = min(group)
    ways: list[list[tuple[str, Arrow]]] = [[(start, arrow)] for arrow in modules[start].arrows]
    seen: set[str] = set()
    for way in ways:  # grows while it is walked: breadth first
        target = way[-1][1].target
        if target == start:
            return way
        if target in group and target not in seen:
            seen.add(target)
            ways += [[*way, (target, arrow)] for arrow in modules[target].arrows]
    raise AssertionError(f"{group} is no circle")


def own_packages(modules: Mapping[str, Module]) -> Iterator[Violation]:
    """Imports from the `__init__` of the package that the file lies in, or of one around that."""
    for module in modules.values():
        above = module.name.rpartition(".")[0]
        for arrow in module.arrows:
            is_around = arrow.target == above or above.startswith(arrow.target + ".")
            if is_around and modules[arrow.target].is_package:
                yield Violation(
                    f"own package: {module.name}",
                    _place(module, arrow.line),
                    f"imports from its own package, {arrow.target}: import from the file that defines the name.",
                )


def full_packages(modules: Mapping[str, Module]) -> Iterator[Violation]:
    """`__init__` files with more than a docstring, except registries."""
    for module in modules.values():
        rest = [node for node in module.tree.body if not _is_docstring(node)]
        if module.is_package and rest and module.name not in FULL_PACKAGES:
            yield Violation(
                f"full package: {module.name}",
                _place(module, rest[0].lineno),
                "an __init__ holds a docstring and nothing else: move the code into a file named for what it is.",
            )


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def strings(modules: Mapping[str, Module]) -> Iterator[Violation]:
    """Imports by string outside the places that `BY_STRING` names."""
    for module in modules.values():
        if module.name in BY_STRING:
            continue
        for node in ast.walk(module.tree):
            name = (
                node.id
                if isinstance(node, ast.Name)
                else node.attr
                if isinstance(node, ast.Attribute)
                else ""
            )
            if isinstance(node, ast.expr) and name in IMPORTERS:
                yield Violation(
                    f"string: {module.name}",
                    _place(module, node.lineno),
                    f"imports by string ({name}): import the name, or register it ({', '.join(REGISTRIES)}).",
                )


def long_files(modules: Mapping[str, Module]) -> Iterator[Violation]:
    """Files above `MOST_LINES` lines."""
    for module in modules.values():
        if module.lines > MOST_LINES:
            yield Violation(
                f"long: {module.name}",
                _place(module, module.lines),
                f"{module.lines} lines, at most {MOST_LINES}: make two of it, each named for the one thing in it.",
            )


def uses_of_any(modules: Mapping[str, Module]) -> dict[str, list[int]]:
    """The lines of each module on which `Any`, or a name that stands for it or for a type made with it, stands.

    An alias (`Json = dict[str, Any]`, `from typing import Any as X`, `type T = Any`) counts wherever it is used,
    in the modules that import it too; imports count as well.
    """
    standing: dict[str, set[str]] = {name: set() for name in modules}
    while any([_grown(module, standing) for module in modules.values()]):
        pass
    return {name: sorted(_uses(module, standing)) for name, module in modules.items()}


def _grown(module: Module, standing: Mapping[str, set[str]]) -> bool:
    """Add to the names that stand for Any in `module`; whether one was new."""
    names = standing[module.name]
    before = len(names)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            known = {"Any"} if source in ("typing", "typing_extensions") else standing.get(source, set())
            names |= {alias.asname or alias.name for alias in node.names if alias.name in known}
    for statement in module.tree.body:
        name, value = _alias(statement)
        if value is not None and any(_stands(part, names) for part in ast.walk(value)):
            names.add(name)
    return len(names) > before


def _alias(node: ast.stmt) -> tuple[str, ast.expr | None]:
    """The name and the type of a type alias; ("", None) for another statement."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        name, value = node.targets[0].id, node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        if "TypeAlias" not in ast.unparse(node.annotation):
            return "", None
        name, value = node.target.id, node.value
    elif sys.version_info >= (3, 12) and isinstance(node, ast.TypeAlias):
        name, value = node.name.id, node.value
    else:
        return "", None
    is_type = isinstance(value, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp)
    return (name, value) if is_type else ("", None)


def _stands(node: ast.AST, names: Iterable[str]) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "Any" and isinstance(node.value, ast.Name) and node.value.id in ("typing", "t")
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names


def _uses(module: Module, standing: Mapping[str, set[str]]) -> Iterator[int]:
    names = standing[module.name]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            yield from (node.lineno for alias in node.names if (alias.asname or alias.name) in names)
        elif isinstance(node, ast.expr) and _stands(node, names):
            yield node.lineno
        for annotation in _annotations(node):
            for part in ast.walk(annotation):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield from (
                        part.lineno for inner in ast.walk(_parsed(part.value)) if _stands(inner, names)
                    )


def _annotations(node: ast.AST) -> list[ast.expr]:
    found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [annotation for annotation in found if isinstance(annotation, ast.expr)]


def _parsed(text: str) -> ast.AST:
    try:
        return ast.parse(text, mode="eval")
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def too_many_any(modules: Mapping[str, Module], most: int) -> Iterator[Violation]:
    """One violation where `Any` stands more often than `most` times; it lists the rooms."""
    uses = {name: len(lines) for name, lines in uses_of_any(modules).items()}
    total = sum(uses.values())
    if total <= most:
        return
    rooms: dict[str, int] = defaultdict(int)
    for name, count in uses.items():
        rooms[".".join(name.split(".")[:2])] += count
    table = ", ".join(
        f"{room} {count}" for room, count in sorted(rooms.items(), key=lambda item: -item[1]) if count
    )
    yield Violation(
        "Any", "src", f"Any stands {total} times, at most {most}: give those values their types ({table})."
    )


def violations(root: Path, most_any: int = MOST_ANY) -> list[Violation]:
    """Every violation in the package at `root`."""
    modules = read_house(root)
    rules = (circles, own_packages, full_packages, strings, long_files)
    return [*(fault for rule in rules for fault in rule(modules)), *too_many_any(modules, most_any)]


def to_fix(found: Sequence[Violation], known: Sequence[str] = KNOWN) -> list[str]:
    """Lines to print: the violations that are not `known`, and the patterns of `known` that nothing matches."""
    fixed = [pattern for pattern in known if not any(fnmatchcase(fault.key, pattern) for fault in found)]
    return [
        *(str(fault) for fault in found if not any(fnmatchcase(fault.key, pattern) for pattern in known)),
        *(f"tests/house.py: {pattern!r} is fixed: take it out of KNOWN." for pattern in fixed),
    ]


def _place(module: Module, line: int) -> str:
    path = module.path
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"


def main() -> int:
    """Print each violation; 1 where there is one. `--any` lists the uses of `Any`, a room at a time."""
    root = Path(__file__).parents[1] / "src" / "kun"
    if "--any" in sys.argv:
        uses = uses_of_any(read_house(root))
        for name, lines in sorted(uses.items(), key=lambda item: (item[0].split(".")[1:2], -len(item[1]))):
            if lines:
                print(f"{len(lines):4} {name}: {', '.join(map(str, lines))}")
        print(f"{sum(map(len, uses.values())):4} in all, at most {MOST_ANY}")
        return 0
    faults = to_fix(violations(root))
    print("\n".join(faults) if faults else "The house is in order.")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
