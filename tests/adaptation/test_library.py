"""The compiled library: built where there is a compiler, built again where it is damaged, done without where not."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from damages import damaged

from kun.adaptation import compiled as compiled_libraries
from kun.adaptation import native
from kun.adaptation.compiled import _opened, open_library
from kun.adaptation.packing import pack
from kun.atomic_files import sha256
from kun.errors import NoSpace


def library(home: Path, name: str = "kun") -> Path:
    (found,) = (home / "cache" / "kernels").glob(f"{name}-*.so")
    return found


@pytest.mark.usefixtures("compiled")
def test_it_is_built_once_and_found_again(bare_home: Path) -> None:
    assert "built for this processor" in native.report()
    first = library(bare_home).stat().st_mtime_ns
    native._load.cache_clear()
    assert native.available()
    assert library(bare_home).stat().st_mtime_ns == first


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data + b"x"])
def test_a_damaged_one_is_built_again(bare_home: Path, damage: object) -> None:
    assert native.available()
    path = library(bare_home)
    whole = path.read_bytes()
    # a new file: to write into the one that this process has mapped would break it
    path.unlink()
    path.write_bytes(damage(whole))  # type: ignore[operator]
    native._load.cache_clear()
    assert native.available()
    stamp = path.with_suffix(".sha256").read_text()
    assert sha256(path) == stamp
    x = torch.ones(2, 32)
    assert torch.allclose(
        native.linear(x, pack(torch.ones(16, 32), 8), 16), torch.full((2, 16), 32.0), rtol=1e-2
    )


def test_a_compiler_that_fails_is_told_of(bare_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = bare_home / "cc"
    broken.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no space for the moon' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert not native.available()
    assert "no space for the moon" in native.report()


def test_switched_off_it_is_not_built(bare_home: Path, uncompiled: None) -> None:
    assert not native.available()
    assert "KUN_NATIVE" in native.report()
    assert not (bare_home / "cache").exists()


SOURCE = "int kun_answer(void) { return 42; }\n"
FLAGS = ("-shared", "-fPIC")


@pytest.fixture
def source(tmp_path: Path, compiled: None) -> Path:
    path = tmp_path / "source" / "answer.c"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


def answer(source: Path) -> int:
    """What a process of its own finds in the library."""
    code = (
        "import sys; from pathlib import Path; from kun.adaptation.compiled import open_library;"
        f"print(open_library('answer', Path(sys.argv[1]), {FLAGS}).kun_answer())"
    )
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_of_32_damages_to_a_library_or_its_stamp_none_is_loaded(bare_home: Path, source: Path) -> None:
    open_library("answer", source, FLAGS)
    path = library(bare_home, "answer")
    stamp = path.with_suffix(".sha256")
    whole = path.read_bytes(), stamp.read_bytes()
    for seed in range(32):
        path.unlink()  # a new file: to write into the one that this process has mapped would break it
        path.write_bytes(whole[0])
        target = stamp if seed % 8 == 7 else path
        damaged(target, seed)
        assert _opened(path) is None
        assert open_library("answer", source, FLAGS).kun_answer() == 42
        assert (path.read_bytes(), stamp.read_bytes()) == whole
    assert answer(source) == 42


def test_two_processes_may_build_at_once(bare_home: Path, source: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(answer, [source] * 4)) == [42] * 4
    path = library(bare_home, "answer")
    assert path.with_suffix(".sha256").read_text() == sha256(path)
    assert sorted(path.parent.glob("*answer*")) == [path.with_suffix(".sha256"), path]


@pytest.mark.usefixtures("bare_home")
def test_a_cache_that_cannot_be_written_costs_only_the_building(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(target: Path) -> Iterator[Path]:
        raise NoSpace(f"The disk of {target} is full.")

    monkeypatch.setattr(compiled_libraries, "new_file", contextmanager(full))
    assert open_library("answer", source, FLAGS).kun_answer() == 42
    monkeypatch.undo()
    assert answer(source) == 42
