"""Tokenizers from their files, and token ids back to text as they arrive."""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypedDict

from tokenizers import Encoding, Tokenizer

from kun.atomic_files import refuse_pointer
from kun.errors import DamagedFile

_LARGEST_FILE = 256 * 2**20
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_UNKNOWN = "\ufffd"
_WINDOW = 6


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint's folder, without the padding and truncation that a file may carry.

    Raises `DamagedFile` where tokenizer.json is missing or cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DamagedFile(f"{path} is missing: copy the model again.")
    if path.stat().st_size > _LARGEST_FILE:
        raise DamagedFile(f"{path} is larger than a tokenizer can be: copy the model again.")
    refuse_pointer(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise DamagedFile(f"{path} cannot be read ({error}): copy the model again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def sound(text: str) -> str:
    """The text with a question mark for each half of a character (a lone surrogate), which tokenizers refuse."""
    return text.encode("utf-8", "replace").decode()


def before_the_end(encoding: Encoding) -> int:
    """How many tokens of a text there are without those that the tokenizer puts behind it: it is gone on with."""
    special = encoding.special_tokens_mask
    return len(special) - special[::-1].index(0) if 0 in special else len(special)


def token_bytes(tokenizer: Tokenizer, index: int) -> bytes:
    """What one token stands for, which may be part of a character; empty for an id that is no token's."""
    token = tokenizer.id_to_token(index)
    if token is None:
        return b""
    way = _way_of(tokenizer)
    if isinstance(way, _ByteLevel):
        return _spelt_bytes(token)
    if isinstance(way, _SentencePiece):
        byte = _BYTE.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()
    return (way.push(index, token) + way.finish()).encode()


class Detokenizer:
    """Turns ids that arrive one after the other into text; never gives out half a character.

    What `push` and `finish` return, joined, is what the tokenizer makes of all the ids at once. One
    difference is meant: for an invalid byte, SentencePiece's decoder also takes back the valid characters
    just before it; here what was given out stays.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = _special_ids(tokenizer) if skip_special else frozenset()
        self._way = _way_of(tokenizer)

    def push(self, ids: Iterable[int]) -> str:
        """The text that has become certain with these ids; it may be empty."""
        pieces = []
        for index in ids:
            token = self._tokenizer.id_to_token(index)
            if token is not None and index not in self._skipped:
                pieces.append(self._way.push(index, token))
        return "".join(pieces)

    def finish(self) -> str:
        """What is left, with a replacement character for half a one."""
        return self._way.finish()


class _Way(Protocol):
    def push(self, index: int, token: str) -> str: ...

    def finish(self) -> str: ...


def _special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    return frozenset(index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special)


def _way_of(tokenizer: Tokenizer) -> _Way:
    decoder = _decoder(tokenizer)
    steps = decoder.get("decoders", [decoder])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return _ByteLevel()
    if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
        return _SentencePiece(leading=steps[3]["start"] if kinds[3:] else 0)
    return _Window(tokenizer)


class _Step(TypedDict, total=False):
    """A decoder as tokenizer.json has it, or one of its steps."""

    type: str
    start: int
    decoders: list["_Step"]


def _decoder(tokenizer: Tokenizer) -> _Step:
    decoder = tokenizer.decoder
    if decoder is None:
        return {}
    described: _Step = json.loads(decoder.__getstate__())
    return described


class _ByteLevel:
    """GPT-2's byte-level BPE: every character of a token stands for one byte."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def push(self, index: int, token: str) -> str:
        return self._decoder.decode(_spelt_bytes(token))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = byte_alphabet()


def _spelt_bytes(token: str) -> bytes:
    """The bytes that a token of byte-level BPE spells."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:  # an added token, which stands for itself
        return token.encode()


class _SentencePiece:
    """Pieces with ▁ for a space, and <0xE4> for a byte of what the vocabulary lacks."""

    def __init__(self, leading: int) -> None:
        self._leading = leading
        self._pending = b""

    def push(self, index: int, token: str) -> str:
        if byte := _BYTE.fullmatch(token):
            return self._strip(self._push_byte(bytes([int(byte[1], 16)])))
        return self._strip(self._give_up() + token.replace("▁", " "))

    def _push_byte(self, byte: bytes) -> str:
        try:
            text = (self._pending + byte).decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                self._pending += byte
                return ""
            # what was waiting is lost, but this byte may begin a character
            return self._give_up() + self._push_byte(byte) if self._pending else _UNKNOWN
        self._pending = b""
        return text

    def _give_up(self) -> str:
        lost, self._pending = len(self._pending), b""
        return _UNKNOWN * lost

    def _strip(self, text: str) -> str:
        while text and self._leading:
            if not text.startswith(" "):
                self._leading = 0
                break
            text, self._leading = text[1:], self._leading - 1
        return text

    def finish(self) -> str:
        return self._strip(self._give_up())


class _Window:
    """Any other decoder: the last few ids are decoded with and without the new one, and the difference is new."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._known = 0

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def push(self, index: int, token: str) -> str:
        self._ids.append(index)
        text = self._decode(self._ids)
        if text.endswith(_UNKNOWN):
            return ""
        return self._advance(text)

    def _advance(self, text: str) -> str:
        fresh = text[len(self._decode(self._ids[: self._known])) :]
        if len(self._ids) > _WINDOW:
            self._ids = self._ids[-_WINDOW // 2 :]
        self._known = len(self._ids)
        return fresh

    def finish(self) -> str:
        fresh = self._advance(self._decode(self._ids)) if self._known < len(self._ids) else ""
        self._ids, self._known = [], 0
        return fresh
