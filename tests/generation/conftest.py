import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny import language_model

from kun.models.language_model import LanguageModel


@pytest.fixture(scope="module")
def lm() -> Iterator[LanguageModel]:
    with language_model(max_queue=300) as model:
        yield model
