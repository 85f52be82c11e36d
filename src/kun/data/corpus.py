"""The bare text of a data set, for learning a tokenizer, with a part held out to measure it on."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from kun.data.rows import Choice, Conversation, Labelled, Pair, Question, Ranking, Row, Text, Unpaired

_BLOCK = 4096  # characters that stay together
_BYTES = 2**32


def texts_of(row: Row) -> list[str]:
    """All that a row says."""
    match row:
        case Text():
            return [row.text]
        case Conversation():
            return [str(message["content"]) for message in row.messages]
        case Pair():
            return [row.source, row.target]
        case Labelled():
            return list(row.texts)
        case Question():
            return [row.question, row.context]
        case Choice():
            return [row.document, row.question, *row.answers]
        case Ranking():
            return [str(message["content"]) for part in (row.prompt, *row.answers) for message in part]
        case Unpaired():
            return [str(message["content"]) for message in (*row.prompt, *row.answer)]


class Corpus:
    """The text of `rows` in blocks of lines; a block's own content decides whether it is held out."""

    def __init__(self, rows: Iterable[Row], held_out: float = 0.02) -> None:
        """`rows` are gone over once for each of the two parts; `held_out` is the share of the second."""
        self._rows = rows
        self._threshold = held_out * _BYTES

    def training(self) -> Iterator[str]:
        """What is learned from."""
        return (block for block in self._blocks() if not self._is_held_out(block))

    def held_out(self) -> Iterator[str]:
        """What is measured on."""
        return filter(self._is_held_out, self._blocks())

    def _is_held_out(self, block: str) -> bool:
        digest = blake2b(block.encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little") < self._threshold

    def _blocks(self) -> Iterator[str]:
        for row in self._rows:
            for text in texts_of(row):
                yield from _blocks(text)


def _blocks(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _BLOCK:
        end = text.rfind("\n", start + _BLOCK // 2, start + _BLOCK) + 1
        yield text[start : end or start + _BLOCK]
        start = end or start + _BLOCK
    if start < len(text):
        yield text[start:]
