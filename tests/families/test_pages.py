"""The pages about families show the code that runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    f"docs/{language}/families/{page}.md"
    for language in ("en", "zh")
    for page in ("gpt", "llama", "bloom", "glm")
]
SOURCES = [path.read_text() for path in (ROOT / "src/kun").glob("[bf]*s/**/*.py")]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_stands_so_in_the_source(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        assert any(block in source for source in SOURCES), block


@pytest.mark.parametrize("name", ["gpt", "llama", "bloom", "glm"])
def test_the_page_in_chinese_has_the_parts_of_the_one_in_english(name: str) -> None:
    def shape(language: str) -> list[str]:
        text = (ROOT / f"docs/{language}/families/{name}.md").read_text()
        return re.findall(r"^(#+|\||```|!\[|-(?= \*))", text, re.MULTILINE)

    assert shape("en") == shape("zh")
