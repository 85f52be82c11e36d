"""The linter of the house: each rule on a small package that breaks it, and on the house itself."""

import ast
from pathlib import Path

import house
import pytest


def package(folder: Path, **files: str) -> Path:
    """A package `toy` of these texts: `a__b` is `a/b.py`, `a_init` is `a/__init__.py`, which every folder has."""
    root = folder / "toy"
    root.mkdir()
    for name, text in files.items():
        path = (
            root / f"{name.removesuffix('_init').replace('__', '/')}{'/__init__' * name.endswith('_init')}.py"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for inner in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        (inner / "__init__.py").touch()
    return root


def keys(root: Path, most_any: int = 0) -> list[str]:
    return [fault.key for fault in house.violations(root, most_any)]


def test_a_package_whose_imports_run_one_way_has_no_violation(tmp_path: Path) -> None:
    root = package(
        tmp_path, a="from toy import b\nfrom toy.c import d\n", b="import toy.c.d\n", c__d="X = 1\n"
    )
    assert keys(root) == []


@pytest.mark.parametrize(
    "back",
    [
        "from toy.a import X",
        "import toy.a",
        "from toy import a",
        "from .a import X",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.a import X",
        "def late():\n    from toy.a import X",
    ],
)
def test_a_circle_is_found_however_the_import_is_written(tmp_path: Path, back: str) -> None:
    root = package(tmp_path, a="import toy.b\nX = 1\n", b="from toy.c import Y\n", c=f"{back}\nY = 1\n")
    [fault] = house.violations(root)
    assert fault.key == "circle: toy.a toy.b toy.c"
    line = back.count("\n") + 1
    assert f"a.py:1 imports toy.b; {root}/b.py:1 imports toy.c; {root}/c.py:{line} imports toy.a" in str(
        fault
    )


def test_two_circles_are_two_violations(tmp_path: Path) -> None:
    root = package(tmp_path, a="import toy.b", b="import toy.a", c="import toy.d, toy.a", d="import toy.c")
    assert keys(root) == ["circle: toy.a toy.b", "circle: toy.c toy.d"]


@pytest.mark.parametrize(
    "text", ["from toy.room import X", "import toy.room", "from . import X", "import toy"]
)
def test_an_import_from_the_own_package_is_found(tmp_path: Path, text: str) -> None:
    root = package(tmp_path, room__a=text, room__b="X = 1")
    assert keys(root) == ["own package: toy.room.a"]


def test_a_module_of_the_own_package_may_be_imported(tmp_path: Path) -> None:
    root = package(tmp_path, room__a="from toy.room import b\nfrom . import b as c", room__b="X = 1")
    assert keys(root) == []


def test_an_init_holds_a_docstring_alone(tmp_path: Path) -> None:
    root = package(
        tmp_path, room_init='"""A room."""\n', hall_init='"""A hall."""\nfrom toy.a import X\n', a="X = 1"
    )
    assert keys(root) == ["full package: toy.hall"]


@pytest.mark.parametrize(
    "text",
    [
        "from importlib import import_module\nimport_module('x')",
        "import importlib as i\ni.import_module('x')",
        "__import__('x')",
        "from importlib.metadata import entry_points\nfind = entry_points",
    ],
)
def test_an_import_by_string_is_found(tmp_path: Path, text: str) -> None:
    root = package(tmp_path, a=text)
    assert keys(root) == ["string: toy.a"]


def test_a_file_of_400_lines_is_the_longest(tmp_path: Path) -> None:
    root = package(tmp_path, a="x = 1\n" * 400, b="x = 1\n" * 401)
    assert keys(root) == ["long: toy.b"]


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("from typing import Any\nx: Any = 1", 2),
        ("import typing\nx: typing.Any = 1", 1),
        ("from typing import Any as A\ndef f(x: A) -> 'list[A]': ...", 3),
        ("from typing import Any\nJson = dict[str, Any]\nx: Json = {}\ny: Json = {}", 4),
        ("from typing import Any, TypeAlias\nT: TypeAlias = Any\nx: list[T] = []", 3),
        ("from toy.b import Loose\nx: Loose = 1", 2),
        ("from toy.b import Loose\nWorse = list[Loose]\nx: Worse = []", 3),
        ("x: object = 1\nAnything = int\ny: Anything = 1", 0),
    ],
)
def test_any_is_counted_with_the_names_that_stand_for_it(tmp_path: Path, text: str, uses: int) -> None:
    root = package(tmp_path, a=text, b="from typing import Any\nLoose = Any\n")
    assert len(house.uses_of_any(house.read_house(root))["toy.a"]) == uses


def test_any_above_its_limit_is_a_violation_that_counts_each_room(tmp_path: Path) -> None:
    root = package(tmp_path, a="from typing import Any\nx: Any = 1", b="from toy.a import x")
    assert keys(root, most_any=2) == []
    [fault] = house.violations(root, most_any=1)
    assert "2 times, at most 1" in str(fault)
    assert "toy.a 2" in str(fault)


def test_what_is_known_passes_until_it_is_fixed(tmp_path: Path) -> None:
    root = package(tmp_path, a="import toy.b", b="import toy.a")
    found = house.violations(root)
    assert house.to_fix(found, ["circle: toy.*"]) == []
    assert len(house.to_fix(found, [])) == 1
    assert house.to_fix([], ["circle: toy.*"]) == [
        "tests/house.py: 'circle: toy.*' is fixed: take it out of KNOWN."
    ]


def test_the_house_is_in_order() -> None:
    root = Path(house.__file__).parents[1] / "src" / "kun"
    assert house.to_fix(house.violations(root)) == []


def test_every_room_that_has_tests_has_a_quick_share_of_files_that_are_there() -> None:
    tests = Path(__file__).parent
    listed = ast.parse((tests / "conftest.py").read_text(encoding="utf-8")).body
    value = next(
        node.value
        for node in listed
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "QUICK"
    )
    quick = ast.literal_eval(value)
    rooms = {path.parent.name for path in tests.glob("*/test_*.py")} - {"cuda"}
    assert rooms | {""} == quick.keys()
    assert all(
        (tests / room / f"test_{name}.py").is_file() for room, names in quick.items() for name in names
    )
