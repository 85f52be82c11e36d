"""Rows of many lengths, some of them twice, and the tokenizer that they are built with."""

from kun.data.rows import Row, Text
from kun.data.tokenized import RowTokenizer
from kun.text.learn import byte_tokenizer


def many_rows(count: int) -> list[Row]:
    """Every seventh is the one before it again."""
    return [Text(f"row {n - (n % 7 == 6)} 好 " * (1 + n % 5), f"many:{n}") for n in range(count)]


def tokenizer() -> RowTokenizer:
    """Bytes, and an end to each document."""
    return RowTokenizer(byte_tokenizer(), end=256)
