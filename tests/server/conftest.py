"""Fixtures of the API's tests."""

from collections.abc import Iterator

import pytest
from tiny_service import Live, TinyService, listening


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """A server that listens, for a module."""
    yield from listening(TinyService(positions=4096))
