"""A knowledge base and documents for each test."""

from pathlib import Path

import pytest
from fake_encoder import FakeEncoder

from kun.knowledge.base import KnowledgeBase
from kun.knowledge.read.process import _reader


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def base(tiny_home: Path, encoder: FakeEncoder) -> KnowledgeBase:
    """An empty knowledge base of this test's own."""
    return KnowledgeBase.open("notes", encoder=encoder)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with three documents."""
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("# Fish\n\nThe Kun is a fish.\n\n# Bird\n\nThe Peng is a bird.\n")
    (folder / "b.txt").write_text("An ordinary text about nothing in particular.")
    (folder / "sub" / "鲲 鹏.md").write_text("# 逍遥游\n\n北冥有鱼，其名为鲲。鲲之大，不知其几千里也。\n")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _end_the_reader() -> object:
    yield
    _reader.close()
