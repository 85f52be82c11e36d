"""SentencePiece's model files (Kudo and Richardson, arXiv:1808.06226), read without its library.

The file is one protobuf message (`sentencepiece_model.proto`): its pieces with scores and types are read, the
kind of model, and how text is normalized.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from kun.atomic_files import refuse_pointer
from kun.errors import DamagedFile, UnsupportedFormat

_LARGEST_FILE = 256 * 2**20
_MOST_PIECES = 2**22
_LONGEST_PIECE = 2**14
_UNIGRAM, _BPE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class PieceType(IntEnum):
    """The use of a piece; GGUF numbers its tokens' types alike."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One entry of a vocabulary; its place is its id."""

    text: str
    score: float = 0.0
    type: int = PieceType.NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """The parts of a model file that decide which ids a text gets."""

    pieces: tuple[Piece, ...]
    unigram: bool
    byte_fallback: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool

    @classmethod
    def read(cls, path: Path) -> "SentencePieceModel":
        """Raises `DamagedFile`, and `UnsupportedFormat` for kinds other than Unigram and BPE, each with the path."""
        if path.stat().st_size > _LARGEST_FILE:
            raise DamagedFile(f"{path} is larger than a tokenizer can be: copy the model again.")
        refuse_pointer(path)
        try:
            return cls._parsed(path.read_bytes())
        except UnsupportedFormat as error:
            raise UnsupportedFormat(f"{path}: {error}") from error
        except (ValueError, struct.error, IndexError) as error:
            raise DamagedFile(
                f"{path} is no whole SentencePiece model ({error}): copy the model again."
            ) from error

    @classmethod
    def _parsed(cls, data: bytes) -> "SentencePieceModel":
        pieces, trainer, normalizer = [], _Message(), _Message()
        for field, value in _fields(data):
            if field == 1:
                pieces.append(_piece(_Message(value)))
            elif field == 2:
                trainer = _Message(value)
            elif field == 3:
                normalizer = _Message(value)
        if not pieces or len(pieces) > _MOST_PIECES:
            raise ValueError(f"it has {len(pieces)} pieces")
        if len({piece.text for piece in pieces}) < len(pieces):
            raise ValueError("a piece is there twice")
        if sum(piece.type == PieceType.UNKNOWN for piece in pieces) != 1:
            raise ValueError("it has not one piece for what is unknown")
        kind = trainer.number(3, _UNIGRAM)
        if kind not in (_UNIGRAM, _BPE):
            raise UnsupportedFormat("its pieces are words or characters; Kun reads Unigram and BPE.")
        if trainer.number(24, 0) or not normalizer.number(5, 1):
            raise UnsupportedFormat(
                "it writes spaces behind words, or as they are; Kun reads ▁ before a word."
            )
        return cls(
            tuple(pieces),
            unigram=kind == _UNIGRAM,
            byte_fallback=bool(trainer.number(35, 0)),
            charsmap=normalizer.bytes(2),
            add_dummy_prefix=bool(normalizer.number(3, 1)),
            remove_extra_whitespaces=bool(normalizer.number(4, 1)),
        )


def _piece(message: "_Message") -> Piece:
    text, kind = message.bytes(1).decode(), message.number(3, PieceType.NORMAL)
    (score,) = struct.unpack("<f", message.bytes(2) or bytes(4))
    if not text or len(text) > _LONGEST_PIECE or not math.isfinite(score) or kind not in list(PieceType):
        raise ValueError(f"its piece {text[:40]!r} has the score {score} and the type {kind}")
    return Piece(text, score, kind)


class _Message:
    """The fields of one message by their numbers; of a field that comes twice the last is kept, as protobuf does."""

    def __init__(self, data: int | bytes = b"") -> None:
        if isinstance(data, int):
            raise ValueError("a number stands in the place of a message")
        self._fields = dict(_fields(data))

    def number(self, field: int, default: int) -> int:
        value = self._fields.get(field, default)
        if isinstance(value, bytes):
            raise ValueError(f"its field {field} is no number")
        return value

    def bytes(self, field: int) -> bytes:
        value = self._fields.get(field, b"")
        if isinstance(value, int):
            raise ValueError(f"its field {field} is a number")
        return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a message: numbers, and what has a length or a fixed one as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"it has a field of the unknown kind {kind}")
        if size > len(data) - at:
            raise ValueError("it ends too soon")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number in it has no end")
