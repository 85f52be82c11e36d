"""What every floor's tests share: a home of their own, and no surprise from the machine's environment."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from kun.settings import settings

# pytest-xdist runs a process for each core: each computes with its share of them, and so do those that it starts
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // _workers))

hypothesis_settings.register_profile(
    "kun",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis_settings.load_profile("kun")


QUICK = {
    "alignment": ("feedback_ballot",),
    "adaptation": ("int4_tiles", "linear", "packing"),
    "blocks": ("attention", "cache", "dropout", "experts"),
    "cli": ("models", "output"),
    "data": ("chat_rows", "formats", "packed_rows", "padded_rows", "preference_shapes"),
    "evaluation": ("tasks",),
    "families": ("decoder_sizes", "parity", "registry"),
    "generation": ("sampling", "streaming"),
    "hub": ("checkpoint", "gguf", "odd_checkpoints", "pipeline"),
    "inspection": ("places", "tokens"),
    "knowledge": ("base", "cut"),
    "models": ("fill", "model_kinds"),
    "server": ("conversations", "entrance"),
    "text": ("chat", "fold", "rouge", "sentences", "tokenizer"),
    "tools": ("tools",),
    "tour": ("drawings", "questions"),
    "training": ("cross_entropy", "recipe", "snapshot"),
    "wordvectors": ("analogies", "word_vectors"),
    "": ("atomic_files", "database", "develop", "handbook", "house", "public_face"),
}
"""The files of every room's tests that `make check` runs, marked `quick`."""


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Of files that differ pytest would search for what they share, for minutes."""
    if not (op == "==" and isinstance(left, bytes) and isinstance(right, bytes)):
        return None
    first = next((place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    return [f"{len(left)} and {len(right)} bytes, which first differ at {first}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    quick = {here / room / f"test_{name}.py" for room, names in QUICK.items() for name in names}
    long = {"slow", "network", "browser", "cuda"}
    for item in items:
        if item.path in quick and not long.intersection(mark.name for mark in item.iter_markers()):
            item.add_marker(pytest.mark.quick)
    # files with long tests come first, so that no core waits for the other at the end
    first = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(scope="session", autouse=True)
def _home_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test touches the user's own models, knowledge bases or keys; compiled kernels are built once."""
    before = {name: value for name, value in os.environ.items() if name.startswith("KUN_")}
    for name in before:
        del os.environ[name]
    os.environ["KUN_HOME"] = str(_with_kernels(tmp_path_factory.mktemp("kun-home")))
    os.environ["KUN_OFFLINE"] = "1"
    settings.cache_clear()
    yield
    for name in [name for name in os.environ if name.startswith("KUN_")]:
        del os.environ[name]
    os.environ.update(before)
    settings.cache_clear()


def _with_kernels(home: Path) -> Path:
    """The home, with the compiled kernels of all tests in its cache: they are built once for a machine.

    A library goes by the digest of its sources and is compared with its own when it is opened, so that none is stale.
    """
    shared = Path(tempfile.gettempdir()) / f"kun-test-kernels-{getattr(os, 'getuid', int)()}"
    shared.mkdir(mode=0o700, exist_ok=True)
    (home / "cache").mkdir()
    (home / "cache" / "kernels").symlink_to(shared, target_is_directory=True)
    return home


@pytest.fixture
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty KUN_HOME that belongs to one test."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("KUN_HOME", str(home))
    settings.cache_clear()
    yield home
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def tiny_home(bare_home: Path) -> Path:
    """A KUN_HOME that belongs to one test, but for the compiled kernels."""
    return _with_kernels(bare_home)


@pytest.fixture
def python() -> str:
    """The interpreter of these tests, for those that start a process."""
    return sys.executable
