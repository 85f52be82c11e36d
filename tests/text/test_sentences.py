import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.text.sentences import sentences


def split(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith came. He left!", ["Dr. Smith came.", "He left!"]),
        ("It cost 3.14 dollars. Cheap?", ["It cost 3.14 dollars.", "Cheap?"]),
        (
            "J. R. R. Tolkien wrote, e.g. The Hobbit. Yes.",
            ["J. R. R. Tolkien wrote, e.g. The Hobbit.", "Yes."],
        ),
        ("wait... and more. Done", ["wait... and more.", "Done"]),
        ("他说：“你好！”然后走了。再见", ["他说：“你好！”", "然后走了。", "再见"]),
        ("GPT-3.5很大。是吗？", ["GPT-3.5很大。", "是吗？"]),
        ("A wrapped\nline. Next", ["A wrapped\nline.", "Next"]),
        ("Heading\n\nA paragraph", ["Heading", "A paragraph"]),
        ("1. First\n2. Second", ["1. First", "2. Second"]),
        ("# Fish\nThe Kun is one.", ["# Fish", "The Kun is one."]),
        (
            "A line without a mark\n## 1. It swims\nand flies. Yes",
            ["A line without a mark", "## 1. It swims", "and flies.", "Yes"],
        ),
        ("Fish\n====\nThe Kun\nis one.", ["Fish\n====", "The Kun\nis one."]),
        ("Item: Bolt; Price: 3\nItem: Nut; Price: 4", ["Item: Bolt; Price: 3", "Item: Nut; Price: 4"]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert split(text) == expected


@given(st.text(alphabet="a B.!?。！？\n ”…1中　-"))
def test_sentences_cover_the_text(text: str) -> None:
    spans = sentences(text)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert len(spans) <= 1 or all(text[start:end].strip() for start, end in spans)


@pytest.mark.timeout(30)
def test_a_megabyte_of_dots_takes_no_longer_than_prose() -> None:
    began = time.perf_counter()
    sentences("." * 1_000_000 + "a")
    sentences("。」" * 500_000)
    sentences(". " * 500_000)
    sentences("\n" * 1_000_000)
    assert time.perf_counter() - began < 10
