"""The table of a network that reads text, as word vectors: a row for each piece of its tokenizer.

A GPT or a BERT embeds words by it, before any layer has seen their neighbours. A word of several pieces has no row:
its pieces have one each, and their sum is fastText's idea, not the network's own.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from kun.errors import BadInput, UnsupportedFormat
from kun.hub.loading import build_part
from kun.hub.opening import open_checkpoint
from kun.hub.store import display_name
from kun.networks.network import TextNetwork
from kun.text.tokenizer import sound, token_bytes
from kun.wordvectors.pieces import Composition
from kun.wordvectors.vectors import Floats, WordVectors

_AT_ONCE = 1 << 14
_GOES_ON = "##"


class TokenVectors(WordVectors):
    """A row for each piece of a tokenizer that can be read, by its text without spaces.

    A piece that begins a word has the plain name; one of the same letters that goes on with a word is called ##dog.
    """

    def __init__(self, pieces: Mapping[str, int], vectors: Floats, tokenizer: Tokenizer, name: str) -> None:
        super().__init__(list(pieces), vectors, name=name, config={"method": "embedding table"})
        self._rows = {token: row for row, token in enumerate(pieces.values())}
        self.tokenizer = tokenizer

    @cached_property
    def _spellings(self) -> Mapping[str, Collection[int]]:
        rows: defaultdict[str, set[int]] = defaultdict(set)
        for row, word in enumerate(self.words):
            rows[_letters(word)].add(row)
        return rows

    def same_word(self, row: int) -> Collection[int]:
        """The rows of the same letters: large or small, at the front of a word or inside."""
        return self._spellings[_letters(self.words[row])]

    def row_or_none(self, word: str) -> int | None:
        """The row of a word as it is written, else with a capital, else as the house cuts words."""
        row = self.index.get(word)
        return self.index.get(word.capitalize(), super().row_or_none(word)) if row is None else row

    def inside(self, piece: str) -> str:
        """The name of a piece that goes on with a word, ##er for er, where there is one; else as it is."""
        name = f"{_GOES_ON}{piece}"
        return name if name in self.index else piece

    def compose(self, word: str) -> Composition:
        """A word as the sum of its pieces' rows; parts of a character have none, and are named.

        Raises `BadInput` where no piece has one.
        """
        encoding = self.tokenizer.encode(sound(f" {word.strip()}"), add_special_tokens=False)
        rows = [self._rows[token] for token in encoding.ids if token in self._rows]
        if not rows:
            raise BadInput(f"{self.name} has no pieces for {word!r}: name another word.")
        vector: Floats = self.vectors[rows].sum(axis=0)
        same = frozenset(same for row in rows for same in self.same_word(row))
        left_out = tuple(str(self.tokenizer.id_to_token(id)) for id in encoding.ids if id not in self._rows)
        return Composition(word, tuple(self.words[row] for row in rows), vector, same, left_out)


def open_tokens(path: Path) -> TokenVectors:
    """The table of the model at `path`. Raises `UnsupportedFormat` where it reads no text, and what opening raises."""
    checkpoint = open_checkpoint(path)
    name = display_name(path)
    net = build_part(checkpoint, lambda net: _embedding(net, name))
    assert isinstance(net, TextNetwork)
    pieces = _named_pieces(checkpoint.tokenizer)
    with torch.inference_mode():
        ids = torch.tensor(list(pieces.values()))
        parts = [net.embed_tokens(part[None])[0].float().numpy() for part in ids.split(_AT_ONCE)]
    return TokenVectors(pieces, np.concatenate(parts), checkpoint.tokenizer, name)


def _embedding(net: nn.Module, name: str) -> None:
    """Look up a token, so that the modules are seen that take part in it."""
    if not isinstance(net, TextNetwork):
        raise UnsupportedFormat(f"{name} reads no text, so it has no vectors of words.")
    net.embed_tokens(torch.zeros(1, 1, dtype=torch.long, device="meta"))


def _letters(name: str) -> str:
    return name.removeprefix(_GOES_ON).strip("_").casefold() or name


def _named_pieces(tokenizer: Tokenizer) -> dict[str, int]:
    """The token of each piece by its name, in the order of the tokens, which is nearly that of frequency."""
    readable = dict(_readable(tokenizer))
    begin = {text.strip(): token for token, text in reversed(readable.items()) if text.startswith(" ")}
    named: dict[str, int] = {}
    for token, text in readable.items():
        plain = text.strip()
        named.setdefault(plain if begin.get(plain, token) == token else f"{_GOES_ON}{plain}", token)
    return named


def _readable(tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    """Each token and its text, a space before it where it begins a word; special ones and parts of letters left out."""
    special = tokenizer.get_added_tokens_decoder()
    for token in range(tokenizer.get_vocab_size()):
        if token in special or tokenizer.id_to_token(token) is None:
            continue
        try:
            text = token_bytes(tokenizer, token).decode()
        except UnicodeDecodeError:
            continue
        if text.strip():
            yield token, text
