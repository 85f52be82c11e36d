"""Late interaction (ColBERT, arXiv:2004.12832): each token of a query looks for its nearest in a passage.

A text's one vector is the mean of its tokens' states, and blurs what single sentences say; the states do not.
They are kept at two bits a number: a fixed rotation spreads every state evenly over its numbers (as in RaBitQ,
arXiv:2405.12497), so that one set of four levels, the best for a normal distribution (Max, 1960), fits them all.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from kun.knowledge.products import Floats, product

_EDGE = 0.9816
_LEVELS = np.array([-1.5104, -0.4528, 0.4528, 1.5104], np.float32)
_FIDELITY = 0.9394
"""The cosine of a state with its two-bit form, by which all cosines come out smaller."""
_PER_BYTE = 4


def pack(states: Floats) -> bytes:
    """States [t, d] at two bits a number, [t, d / 4] bytes; their lengths are not kept."""
    numbers = _rotated(states)
    codes = np.sum([numbers > edge for edge in (-_EDGE, 0.0, _EDGE)], axis=0, dtype=np.uint8)
    codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % _PER_BYTE)))
    quads = codes.reshape(len(codes), codes.shape[1] // _PER_BYTE, _PER_BYTE)
    return bytes(np.bitwise_or.reduce(quads << np.arange(0, 8, 2, dtype=np.uint8), axis=-1))


def max_sim(query: Floats, packed: Sequence[bytes]) -> Floats:
    """For each packed passage, the mean over the query's tokens [t, d] of the nearest token's cosine, [n].

    0 for a passage without tokens.
    """
    return max_sims([query], packed)[0]


def max_sims(queries: Sequence[Floats], packed: Sequence[bytes]) -> Floats:
    """`max_sim` of several queries, [q, n]: unpacking the passages once is most of the work."""
    scores = np.zeros((len(queries), len(packed)), np.float32)
    counts = [len(query) for query in queries]
    if not sum(counts):
        return scores
    ends = np.cumsum(counts)
    dimensions = queries[0].shape[1]
    width = -(-dimensions // _PER_BYTE)
    numbers = width * _PER_BYTE
    turned = np.pad(_rotated(np.concatenate(queries)), ((0, 0), (0, numbers - dimensions))).T
    # one passage after the other through one buffer, which stays in the cache
    most = max(map(len, packed), default=0) // width
    buffer = np.zeros((most, numbers), np.float32)
    for place, passage in enumerate(packed):
        count = len(passage) // width
        if count:
            tokens = buffer[:count]
            codes = np.frombuffer(passage, np.uint8)
            _table().take(codes, axis=0, out=tokens.reshape(-1, _PER_BYTE), mode="clip")
            cosines = product(tokens, turned)
            cosines /= np.sqrt(np.einsum("td,td->t", tokens, tokens))[:, None]
            nearest = cosines.max(axis=0)
            for row, (end, size) in enumerate(zip(ends, counts, strict=True)):
                scores[row, place] = nearest[end - size : end].mean() if size else 0.0
    return scores / np.float32(_FIDELITY * np.sqrt(dimensions))


@cache
def _table() -> Floats:
    """The four numbers that each byte stands for, [256, 4]."""
    codes = np.arange(256)[:, None] >> np.arange(0, 8, 2) & 3
    return _LEVELS[codes]


def _rotated(states: Floats) -> Floats:
    """Unit states after the rotation, each number with variance 1."""
    unit = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
    return product(unit, _rotation(states.shape[1]))


@cache
def _rotation(dimensions: int) -> Floats:
    """Scattered signs, then a cosine transform: orthogonal (times √d), and the same on every machine, for ever."""
    places = np.arange(dimensions)
    signs = np.where((places * 2654435761 >> 15) & 1, 1.0, -1.0)
    waves = np.cos(np.pi / dimensions * (places[:, None] + 0.5) * places)
    waves *= np.where(places == 0, 1.0, np.sqrt(2.0))
    return (signs[:, None] * waves).astype(np.float32)
