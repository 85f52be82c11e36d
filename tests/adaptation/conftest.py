import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kun.adaptation.native import available
from kun.settings import settings

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def compiled() -> None:
    """Skips a test of the compiled kernels where there is no compiler."""
    if not available():
        pytest.skip("there is no C compiler here")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch's own operations alone, as on a machine without a compiler."""
    monkeypatch.setenv("KUN_NATIVE", "0")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()
