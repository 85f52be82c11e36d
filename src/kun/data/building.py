"""Building a token store: rows are read here, in order; their tokens come from several processes, and are written here.

The result depends neither on how many processes there are nor on how often the work was interrupted. A journal says
after every few blocks how many rows are done and how long each file was. A build that finds a journal of the same rows
cuts the files to those lengths and goes on from there; the rows before are read again, which is quick, and compared.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path

from filelock import FileLock

from kun.atomic_files import Progress, writing_to
from kun.data.blocks import Block
from kun.data.described import read_description
from kun.data.rows import (
    BadRows,
    Choice,
    Conversation,
    Labelled,
    Pair,
    Question,
    Ranking,
    Row,
    Text,
    Unpaired,
    digests,
)
from kun.data.tokenized import RowTokenizer
from kun.data.workers import blocks_of
from kun.data.writer import StoreWriter
from kun.errors import BadInput, BadRow, DamagedFile

_CHARACTERS = 2**18  # in one batch
_ROWS = 1024
_BATCHES = 64  # from one commit to the next
_KINDS = {Text: "running text", Conversation: "a conversation", Pair: "a pair", Labelled: "a labelled text"}
_KINDS |= {Question: "a question", Choice: "a question with candidate answers", Ranking: "a ranking"}
_KINDS |= {Unpaired: "an answer that was judged"}


def build(
    folder: Path,
    rows: Iterable[Row],
    tokenizer: RowTokenizer,
    bad: BadRows,
    fingerprint: str,
    processes: int | None,
    shard: int,
    progress: Progress,
) -> None:
    """See `TokenStore.build`."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            made_by = sha256(json.dumps(tokenizer.settings(), sort_keys=True).encode()).hexdigest()
            if fingerprint and _is_there(folder, fingerprint, made_by):
                return
            vocabulary = tokenizer.tokenizer.get_vocab_size()
            writer = StoreWriter(folder, made_by, shard, vocabulary)
            try:
                _build(writer, rows, tokenizer, bad, processes, progress)
                _finish(writer, bad, fingerprint)
            finally:
                writer.close()


def _is_there(folder: Path, fingerprint: str, tokenizer: str) -> bool:
    try:
        found = read_description(folder)
    except DamagedFile:
        return False
    return found.fingerprint == fingerprint and found.tokenizer == tokenizer


def _build(
    writer: StoreWriter,
    rows: Iterable[Row],
    tokenizer: RowTokenizer,
    bad: BadRows,
    processes: int | None,
    progress: Progress,
) -> None:
    reader = _Reader(rows)
    if writer.state.read and not reader.skip(writer.state.read, writer.state.chain):
        writer.restart()
        reader = _Reader(rows)
    for number, (batch, block) in enumerate(blocks_of(reader.batches(), tokenizer, processes), 1):
        _refuse(block, bad, writer)
        writer.append(
            block,
            [batch.digests[place] for place in block.kept],
            [batch.sides[place] for place in block.kept],
        )
        _say(writer, batch.read, batch.duplicates, batch.chain)
        if number % _BATCHES == 0:
            writer.commit()
        progress("tokenizing", batch.read, None)
    _say(writer, reader.read, reader.duplicates, reader.chain)  # duplicates may have stood at the end


def _say(writer: StoreWriter, read: int, duplicates: int, chain: str) -> None:
    writer.state.read, writer.state.chain = read, chain
    writer.state.counts.rows, writer.state.counts.duplicates = read, duplicates


def _refuse(block: Block, bad: BadRows, writer: StoreWriter) -> None:
    """Rows that could be read, but not tokenized: errors, or counted."""
    counts = writer.state.counts
    for message in block.bad.values():
        if not bad.skip:
            raise BadRow(message)
        counts.bad += 1
        counts.examples = [*counts.examples, message][: BadRows.KEPT]


def _finish(writer: StoreWriter, bad: BadRows, fingerprint: str) -> None:
    counts = writer.state.counts
    if not counts.documents:
        raise BadInput(
            f"No row is left to learn from: of {counts.rows} rows {counts.dropped} were too long and"
            f" {counts.bad + bad.count} could not be used."
        )
    examples = [*bad.examples, *counts.examples][: BadRows.KEPT]
    writer.finish(fingerprint, replace(counts, bad=counts.bad + bad.count, examples=examples))


@dataclass(frozen=True)
class _Batch:
    """Rows that are tokenized together, with their digests, and how far the reading was after them."""

    rows: list[Row]
    digests: list[bytes]
    sides: list[bytes]
    read: int
    duplicates: int
    chain: str


class _Reader:
    """Reads rows, drops exact duplicates, and keeps a digest of all that it read."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)
        self._is_spent = self._rows is rows
        self._seen: set[bytes] = set()
        self._kind: type | None = None
        self.read = 0
        self.duplicates = 0
        self._all = blake2b(digest_size=32)

    @property
    def chain(self) -> str:
        """A digest of all rows so far."""
        return self._all.hexdigest()

    def skip(self, count: int, chain: str) -> bool:
        """Read `count` rows without giving them out; False where they are not those that `chain` is the digest of.

        Raises `BadInput` where they are others and cannot be read again.
        """
        for row in self._rows:
            self._meet(row)
            if self.read == count:
                break
        if self.read == count and self.chain == chain:
            return True
        if self._is_spent:
            raise BadInput("The folder holds an interrupted build of other rows: delete it, or name another.")
        return False

    def _meet(self, row: Row) -> tuple[bytes, bytes] | None:
        """The digests of a row; None for a duplicate."""
        self._check_kind(row)
        whole, side = digests(row)
        self._all.update(whole)
        self.read += 1
        if whole in self._seen:
            self.duplicates += 1
            return None
        self._seen.add(whole)
        return whole, side

    def _check_kind(self, row: Row) -> None:
        self._kind = self._kind or type(row)
        if type(row) is not self._kind:
            raise BadInput(
                f"{row.where} is {_KINDS[type(row)]}, but the data began with {_KINDS[self._kind]}: keep one kind in"
                " one data set."
            )

    def batches(self) -> Iterator[_Batch]:
        """The rest of the rows, some at a time."""
        rows: list[Row] = []
        found: list[tuple[bytes, bytes]] = []
        size = 0
        for row in self._rows:
            if (digests_of_row := self._meet(row)) is None:
                continue
            rows.append(row)
            found.append(digests_of_row)
            size += _size(row)
            if size >= _CHARACTERS or len(rows) == _ROWS:
                yield self._batch(rows, found)
                rows, found, size = [], [], 0
        if rows:
            yield self._batch(rows, found)

    def _batch(self, rows: list[Row], found: list[tuple[bytes, bytes]]) -> _Batch:
        wholes, sides = zip(*found, strict=True)
        return _Batch(rows, list(wholes), list(sides), self.read, self.duplicates, self.chain)


def _size(row: Row) -> int:
    """Roughly its characters."""
    match row:
        case Text():
            return len(row.text)
        case Conversation():
            return sum(len(str(message["content"])) for message in row.messages)
        case Pair():
            return len(row.source) + len(row.target)
        case Labelled():
            return sum(map(len, row.texts))
        case Question():
            return len(row.context) + len(row.question)
        case Choice():
            return (len(row.document) + len(row.question)) * len(row.answers) + sum(map(len, row.answers))
        case Ranking():
            return sum(len(str(message["content"])) for answer in row.answers for message in answer)
        case Unpaired():
            return sum(len(str(message["content"])) for message in row.answer)
