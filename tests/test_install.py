"""Kun without a checkout: its wheel holds all that it reads, and runs from a bare environment."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kun.settings import DEFAULT_MODEL

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy of what git tracks: nothing built earlier lies there."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = _run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split(
        "\0"
    )
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", out, source)
    (built,) = out.glob("kun-*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package_and_the_handbook(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "kun").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package <= held, sorted(package - held)
    for language in ("en", "zh"):
        pages = {path.name for path in (ROOT / "examples" / "handbook" / language).glob("*.md")}
        assert pages == {Path(name).name for name in held if f"share/kun/handbook/{language}/" in name}
        drawn = {path.name for path in (ROOT / "examples" / "drawings" / language).glob("*.svg")}
        assert drawn == {Path(name).name for name in held if f"share/kun/drawings/{language}/" in name}
    for name in ("faults-en", "faults-zh", "safety-en", "safety-zh"):
        for ending in ("toml", "jsonl"):
            assert any(f"share/kun/tasks/{name}.{ending}" in path for path in held)
    assert sum("share/kun/tasks/patterns/" in name for name in held) == 2


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quickstart_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    _run(sys.executable, "-m", "venv", tmp_path / "bare")
    binaries = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin")
    _run(binaries / "python", "-m", "pip", "install", "-q", "-c", ROOT / "requirements.lock", wheel)
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("KUN_", "PYTHON"))}
    told = json.loads(
        _run(
            *(binaries / "kun", "quickstart", "--no-serve", "--json", "--model", DEFAULT_MODEL),
            cwd=outside,
            env={**clean, "KUN_HOME": str(tmp_path / "home")},
        )
    )
    assert len(told["answers"]) == 2
    for answer in told["answers"]:
        assert answer["text"].strip()
        assert answer["passages"]


def _run(*command: str | Path, **options: object) -> str:
    """What a command prints; AssertionError with what it complained about where it fails."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout
