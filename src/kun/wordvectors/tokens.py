"""The table of a network that reads text, as word vectors: a row for each piece of its tokenizer.

A GPT or a BERT embeds words by it, before any layer has seen their neighbours. A word of several pieces has no row:
its pieces have one each, and their sum is fastText's idea, not the network's own.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from kun.errors import BadInput, UnsupportedFormat
from kun.hub.opening import open_checkpoint
from kun.hub.store import display_name
from kun.networks.network import TextNetwork
from kun.text.tokenizer import token_bytes
from kun.wordvectors.pieces import Composition
from kun.wordvectors.vectors import Floats, WordVectors

_AT_ONCE = 1 << 14


class TokenVectors(WordVectors):
    """The rows of a tokenizer's pieces by their text; of a piece with and without a space before it, the former.

    So "king" is the piece that begins a word, and "ing" one that goes on with it.
    """

    def __init__(
        self, words: list[str], vectors: Floats, ids: dict[int, int], tokenizer: Tokenizer, name: str
    ) -> None:
        super().__init__(words, vectors, name=name, config={"method": "embedding table"})
        self._rows, self.tokenizer = ids, tokenizer

    def compose(self, word: str) -> Composition:
        """A word as the sum of its pieces' rows. Raises `BadInput` where a piece has none."""
        encoding = self.tokenizer.encode(f" {word.strip()}", add_special_tokens=False)
        rows = [self._rows[token] for token in encoding.ids if token in self._rows]
        if not rows:
            raise BadInput(f"{self.name} has no pieces for {word!r}: name another word.")
        vector: Floats = self.vectors[rows].sum(axis=0)
        return Composition(word, tuple(self.words[row] for row in rows), vector)


def open_tokens(path: Path) -> TokenVectors:
    """The table of the model at `path`. Raises `UnsupportedFormat` where it reads no text, and what opening raises."""
    checkpoint = open_checkpoint(path)
    name = display_name(path)
    net = checkpoint.network(dtype="float32", device="cpu")
    if not isinstance(net, TextNetwork):
        raise UnsupportedFormat(f"{name} reads no text, so it has no vectors of words.")
    tokenizer = checkpoint.tokenizer
    rows = _rows(tokenizer)
    ids = torch.tensor(list(rows.values()))
    with torch.inference_mode():
        parts = [net.embed_tokens(part[None])[0].float().numpy() for part in ids.split(_AT_ONCE)]
    places = {token: row for row, token in enumerate(rows.values())}
    rows_of = {word: places[token] for word, token in rows.items()}
    for word, token in _pieces(tokenizer):  # the other spelling of a piece shares its row
        places.setdefault(token, rows_of[word.strip()])
    return TokenVectors(list(rows), np.concatenate(parts), places, tokenizer, name)


def _rows(tokenizer: Tokenizer) -> dict[str, int]:
    """The token of each piece that can be read, by its text without spaces; one that begins a word goes before."""
    found: dict[str, int] = {}
    begins: set[str] = set()
    for text, token in _pieces(tokenizer):
        word = text.strip()
        starts = text.startswith(" ")
        if word not in found or (starts and word not in begins):
            found[word] = token
        if starts:
            begins.add(word)
    return found


def _pieces(tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    """The text of each token, a space before it where it begins a word, and its number; special ones left out."""
    special = tokenizer.get_added_tokens_decoder()
    for token in range(tokenizer.get_vocab_size()):
        name = tokenizer.id_to_token(token)
        if token in special or name is None:
            continue
        try:
            text = token_bytes(tokenizer, token).decode()
        except UnicodeDecodeError:
            continue
        if text.strip():
            yield text, token
