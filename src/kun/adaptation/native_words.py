"""The compiled inner loops of word vectors: word2vec's and GloVe's steps over tables that lie in torch's memory.

Without a compiler `available` is False, and `kun.wordvectors` takes the same steps by torch's operations, slower.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from kun.adaptation.compiled import open_library
from kun.adaptation.native import FLAGS, KERNELS, machine_flags
from kun.settings import settings

LANES = 16
"""Rows are padded with zeros to a multiple of so many numbers."""
MOST_NUMBERS, MOST_NEGATIVES = 4096, 31
"""Of a row, and of one place: what the kernels have room for."""


class _Word2Vec(ctypes.Structure):
    """`Word2Vec` of kernels/word2vec.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("text", "input", "output", "keep", "columns")),
        ("length", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_int32) for name in ("words", "width", "window", "negatives", "cbow", "threads")),
        ("rate", ctypes.c_float),
        ("loss", ctypes.c_double),
        ("predictions", ctypes.c_int64),
    )


class _Glove(ctypes.Structure):
    """`Glove` of kernels/glove.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("rows", "columns", "counts")),
        *((name, ctypes.c_void_p) for name in ("words", "contexts", "word_squares", "context_squares")),
        ("entries", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("dimensions", "width", "threads")),
        *((name, ctypes.c_float) for name in ("rate", "most", "power")),
        ("loss", ctypes.c_double),
    )


@dataclass(frozen=True)
class NegativeSampler:
    """The distribution of negatives as Walker's alias table: int32 [words, 2], a chance in 2^-32 and the other word."""

    columns: Tensor

    @classmethod
    def of(cls, weights: Tensor) -> "NegativeSampler":
        """The sampler of `weights` [words], which need not add up to one; only where the kernels are `available`."""
        spent = weights.double().contiguous().clone()
        columns = torch.empty(len(spent), 2, dtype=torch.int32)
        left = torch.empty(len(spent), dtype=torch.int32)
        _library().kun_alias(spent.data_ptr(), len(spent), columns.data_ptr(), left.data_ptr())
        return cls(columns)


def available() -> bool:
    """Whether the compiled steps are there (the first call builds them, some seconds)."""
    return _loaded(settings().native, settings().home) is not None


def word2vec(
    text: Tensor,
    input: Tensor,
    output: Tensor,
    keep: Tensor,
    sampler: NegativeSampler,
    *,
    window: int,
    negatives: int,
    cbow: bool,
    rate: float,
    seed: int,
    threads: int,
) -> tuple[float, int]:
    """Go once over `text` (int32 ids, -1 between sentences), changing `input` and `output` (float32 [words, width]).

    `keep` (int32 [words]) has each word's chance to be kept in 2^-32, -1 for always. Returns a sampled sum of losses,
    and of how many predictions. With one thread the same bits come out each time. The caller has checked the ids.
    """
    asked = _Word2Vec(
        *(_address(each) for each in (text, input, output, keep, sampler.columns)),
        len(text),
        seed & (2**64 - 1),
        len(keep),
        input.shape[1],
        window,
        negatives,
        int(cbow),
        threads,
        rate,
        0.0,
        0,
    )
    _library().kun_threads(threads)
    if _library().kun_word2vec(ctypes.byref(asked)):
        raise ValueError(f"Rows of {input.shape[1]} numbers or {negatives} negatives do not fit the kernel.")
    return asked.loss, asked.predictions


def glove(
    rows: Tensor,
    columns: Tensor,
    counts: Tensor,
    tables: tuple[Tensor, Tensor],
    squares: tuple[Tensor, Tensor],
    *,
    dimensions: int,
    rate: float,
    most: float,
    power: float,
    threads: int,
) -> float:
    """Go once over entries (int32, int32, float32 [n]), changing words' and contexts' `tables` and AdaGrad's `squares`.

    Rows are float32 [words, width] as kernels/glove.h has them. Returns the sum of the weighted squares.
    """
    addresses = (rows, columns, counts, *tables, *squares)
    asked = _Glove(
        *(_address(each) for each in addresses),
        len(rows),
        dimensions,
        tables[0].shape[1],
        threads,
        rate,
        most,
        power,
        0.0,
    )
    _library().kun_threads(threads)
    if _library().kun_glove(ctypes.byref(asked)):
        raise ValueError(
            f"Rows of {tables[0].shape[1]} numbers have no room for {dimensions} and two biases."
        )
    return asked.loss


def _address(tensor: Tensor) -> int:
    assert tensor.is_contiguous()
    assert tensor.device.type == "cpu"
    return tensor.data_ptr()


def _library() -> ctypes.CDLL:
    found = _loaded(settings().native, settings().home)
    assert found is not None
    return found


@cache
def _loaded(wanted: bool, home: Path) -> ctypes.CDLL | None:
    """The library with these settings, which `open_library` reads for itself; None where it can't be had."""
    try:
        opened = open_library("words", KERNELS / "words.c", (*FLAGS, *machine_flags()))
    except OSError:
        return None
    pointer = ctypes.c_void_p
    opened.kun_word2vec.argtypes = [pointer]
    opened.kun_glove.argtypes = [pointer]
    opened.kun_alias.argtypes = [pointer, ctypes.c_int32, pointer, pointer]
    opened.kun_alias.restype = None
    opened.kun_threads.argtypes = [ctypes.c_int]
    return opened
