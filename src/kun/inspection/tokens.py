"""A text as a tokenizer cuts it: its pieces, with ids and bytes, and the merges of byte pair encoding one by one.

Byte pair encoding: Sennrich et al., arXiv:1508.07909. A piece keeps a vector and a place of its own; a word's
vector as the sum of its pieces is fastText's (arXiv:1607.04606), not GPT's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tokenizers import Tokenizer

from kun.errors import BadInput
from kun.text.tokenizer import sound, token_bytes

LONGEST_TEXT = 100_000
_LONGEST_WORD = 200


@dataclass(frozen=True)
class Piece:
    """One token: its id, its bytes, and the characters `text[start:end]` that it covers, some only in part."""

    id: int
    text: str
    bytes: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Cutting:
    """A text as one tokenizer cuts it."""

    tokenizer: str
    text: str
    pieces: tuple[Piece, ...]

    @property
    def bytes_per_token(self) -> float:
        """Bytes that a token carries; 0 for an empty text."""
        return len(self.text.encode()) / len(self.pieces) if self.pieces else 0.0


def cut_tokens(text: str, tokenizer: Tokenizer, name: str) -> Cutting:
    """The pieces of `text`, special tokens left out. Raises `BadInput` for a text longer than is looked at."""
    if len(text) > LONGEST_TEXT:
        raise BadInput(
            f"The text has {len(text):,} characters; at most {LONGEST_TEXT:,} are shown: shorten it."
        )
    text = sound(text)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    pieces = [
        Piece(token, text[start:end], token_bytes(tokenizer, token), start, end)
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
    ]
    return Cutting(name, text, tuple(pieces))


def merges(word: str, tokenizer: Tokenizer) -> list[tuple[str, ...]]:
    """`word` from single characters to its pieces, a merge at a time, as byte pair encoding goes about it.

    The pieces are spelled as in the vocabulary. Empty for a tokenizer of another kind. Raises `BadInput` for a
    text of several words, or a very long one.
    """
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] != "BPE":
        return []
    symbols = _symbols(sound(word), tokenizer)
    ranks = {tuple(_pair(pair)): rank for rank, pair in enumerate(model["merges"])}
    steps = [tuple(symbols)]
    while len(symbols) > 1:
        pairs = [(ranks.get((a, b)), place) for place, (a, b) in enumerate(pairwise(symbols))]
        known = [(rank, place) for rank, place in pairs if rank is not None]
        if not known:
            break
        _, place = min(known)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        steps.append(tuple(symbols))
    return steps


def _symbols(word: str, tokenizer: Tokenizer) -> list[str]:
    normal = tokenizer.normalizer.normalize_str(word) if tokenizer.normalizer else word
    parts = (
        tokenizer.pre_tokenizer.pre_tokenize_str(normal) if tokenizer.pre_tokenizer else [(normal, (0, 0))]
    )
    if len(parts) != 1 or not 0 < len(parts[0][0]) <= _LONGEST_WORD:
        raise BadInput(
            f"Merges are shown for one word of at most {_LONGEST_WORD} characters, not {word[:60]!r}."
        )
    return list(parts[0][0])


def _pair(pair: str | Sequence[str]) -> list[str]:
    """A merge, written as two texts, or in older files as one with a space."""
    return pair.split(" ") if isinstance(pair, str) else list(pair)
