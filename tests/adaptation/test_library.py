"""The compiled library: built where there is a compiler, built again where it is damaged, done without where not."""

from pathlib import Path

import pytest
import torch

from kun.adaptation import native
from kun.adaptation.packing import pack


def library(home: Path) -> Path:
    (found,) = (home / "cache" / "kernels").glob("*.so")
    return found


@pytest.mark.usefixtures("compiled")
def test_it_is_built_once_and_found_again(tiny_home: Path) -> None:
    assert "built for this processor" in native.report()
    first = library(tiny_home).stat().st_mtime_ns
    native._load.cache_clear()
    assert native.available()
    assert library(tiny_home).stat().st_mtime_ns == first


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data + b"x"])
def test_a_damaged_one_is_built_again(tiny_home: Path, damage: object) -> None:
    assert native.available()
    path = library(tiny_home)
    whole = path.read_bytes()
    # a new file: to write into the one that this process has mapped would break it
    path.unlink()
    path.write_bytes(damage(whole))  # type: ignore[operator]
    native._load.cache_clear()
    assert native.available()
    stamp = path.with_suffix(".sha256").read_text()
    assert native.hashlib.sha256(path.read_bytes()).hexdigest() == stamp
    x = torch.ones(2, 32)
    assert torch.allclose(
        native.linear(x, pack(torch.ones(16, 32), 8), 16), torch.full((2, 16), 32.0), rtol=1e-2
    )


def test_a_compiler_that_fails_is_told_of(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tiny_home / "cc"
    broken.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no space for the moon' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert not native.available()
    assert "no space for the moon" in native.report()


def test_switched_off_it_is_not_built(tiny_home: Path, uncompiled: None) -> None:
    assert not native.available()
    assert "KUN_NATIVE" in native.report()
    assert not (tiny_home / "cache").exists()
