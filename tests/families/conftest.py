"""Tiny models in pairs: the reference's and ours, the same weights in both."""

import sys
from pathlib import Path

import pytest
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from parity import DECODERS, ours, reference


@pytest.fixture(params=list(DECODERS), scope="session")
def decoders(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    theirs = reference(request.param)
    return theirs, ours(theirs)


@pytest.fixture(scope="session")
def encoders() -> tuple[nn.Module, nn.Module]:
    theirs = reference("bert")
    return theirs, ours(theirs)
