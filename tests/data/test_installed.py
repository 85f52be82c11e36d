"""Installed documentation: read out of the source, never run; what is compiled, from the module itself."""

import sysconfig
from pathlib import Path

import pytest

from kun.data import installed
from kun.data.documented import Documented, of_imported, of_source
from kun.data.rows import Text
from kun.data.sources import Rows

SOURCE = '''
"""A module that must not be run."""
raise SystemExit("it was run")

class Shape:
    """Anything with an area."""
    def __init__(self, sides: int = 3, *, name="x"):
        """Not shown: the class is."""
    def area(self) -> float:
        """The area in square metres."""
    @classmethod
    def unit(cls): "A shape of area 1."
    def _private(self): "hidden"
    class Part:
        "A part."

async def fetch(url, /, *rest, **more):
    """Fetch it.

        Indented, and \\ud800 broken.
    """

def undocumented(): pass
'''


def test_signatures_and_docstrings_are_read_without_running_the_module() -> None:
    found = list(of_source(SOURCE.encode(), "pkg.shapes"))
    assert found[:5] == [
        Documented("module", "pkg.shapes", "pkg.shapes", "", "A module that must not be run."),
        Documented(
            "class",
            "pkg.shapes.Shape",
            "pkg.shapes",
            "Shape(sides: int=3, *, name='x')",
            "Anything with an area.",
        ),
        Documented(
            "function", "pkg.shapes.Shape.area", "pkg.shapes", "area() -> float", "The area in square metres."
        ),
        Documented("function", "pkg.shapes.Shape.unit", "pkg.shapes", "unit()", "A shape of area 1."),
        Documented("class", "pkg.shapes.Shape.Part", "pkg.shapes", "Part()", "A part."),
    ]
    (fetch,) = found[5:]
    assert fetch.call == "pkg.shapes.fetch(url, /, *rest, **more)"
    assert fetch.doc == "Fetch it.\n\nIndented, and ? broken."


@pytest.mark.parametrize("source", [b"def broken(:", b"\xff\xfe\x00", b"x = " + b"(" * 5000])
def test_what_is_no_python_says_nothing(source: bytes) -> None:
    assert list(of_source(source, "m")) == []


def test_what_is_written_in_c_is_asked_itself() -> None:
    found = {entry.name: entry for entry in of_imported("itertools")}
    assert found["itertools.chain"].kind == "class"
    assert found["itertools.accumulate"].doc.startswith("Return series of accumulated sums")
    assert found["itertools.chain.from_iterable"].module == "itertools"
    found = {entry.name: entry for entry in of_imported("math")}
    assert found["math.sqrt"].signature == "sqrt(x, /)"
    assert not list(of_imported("no.such.module"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages of a few modules in the place of this machine's."""
    files = {
        "b.py": '"""The module named b, in full."""',
        "a/__init__.py": '"""The package named a, in full."""',
        "a/core.pyi": 'def stub(x: int) -> int:\n    """What only a stub file documents."""',
        "a/both.py": 'def source():\n    """What the source documents here."""',
        "a/both.pyi": 'def stub():\n    """What the stub documents, less."""',
        "a/copy.py": '"""The package named a, in full."""',
        "a/tests/test_a.py": '"""Tests are no documentation."""',
        "a-1.0.dist-info/x.py": '"""Nor is what is no package."""',
    }
    for name, source in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.setattr(
        sysconfig, "get_paths", lambda: dict.fromkeys(["stdlib", "purelib", "platlib"], str(tmp_path))
    )
    monkeypatch.setattr(installed, "COMPILED", ["math"])
    return tmp_path


def test_packages_are_read_in_the_order_of_their_names_and_repeated_docstrings_once(site: Path) -> None:
    entries = list(installed.entries(processes=2))
    names = [entry.name for entry in entries if entry.module != "math"]
    assert names == ["b", "a", "a.both.source", "a.core.stub"]
    assert any(entry.name == "math.sqrt" for entry in entries)
    assert list(installed.entries(processes=1)) == entries


def test_installed_docs_are_a_source_of_one_text_a_module(site: Path) -> None:
    rows = [row for row in Rows("installed-docs") if isinstance(row, Text)]
    assert [row.where for row in rows] == [
        f"installed-docs:{name}" for name in ("b", "a", "a.both", "a.core", "math")
    ]
    assert rows[3].text == "def a.core.stub(x: int) -> int\n    What only a stub file documents.\n"
