"""The compiled kernels: built once by the system's C compiler, kept under KUN_HOME/cache, called through ctypes.

Without a compiler, or where the build fails, everything works by torch's own operations, slower; `report` says why.
"""

import ctypes
import platform
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from kun.adaptation.compiled import open_library
from kun.adaptation.packing import Bits, Packed, empty
from kun.settings import settings

FLAGS = [
    "-O3",
    "-std=gnu11",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
]
KERNELS = Path(__file__).parent / "kernels"
INT4, INT8 = 0, 2


class Matrix(ctypes.Structure):
    """`Matrix` of kernels/linear.h."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("outputs", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
        ("kind", ctypes.c_int32),
        ("groups", ctypes.c_int32),
    )


@dataclass(frozen=True)
class Kernels:
    """The loaded library, or None and why."""

    library: ctypes.CDLL | None
    why: str


def available() -> bool:
    """Whether the compiled kernels are there (the first call builds them, some seconds)."""
    return _kernels(settings().native, settings().home).library is not None


def report() -> str:
    """One line for `kun doctor`: what the kernels multiply with, or why they are not there."""
    return _kernels(settings().native, settings().home).why


def library() -> ctypes.CDLL:
    """The library itself; only where it is `available`."""
    found = _kernels(settings().native, settings().home).library
    assert found is not None
    return found


def linear(x: Tensor, packed: Packed, outputs: int, bias: Tensor | None = None) -> Tensor:
    """x [..., inputs] of any floating dtype times packed weights, plus bias float32 [outputs] -> [..., outputs].

    Rows are rounded to 8 bits in groups of 32. A row's result is the same bits whatever other rows are with it.
    """
    rows = x.reshape(-1, x.shape[-1]).float().contiguous()
    out = torch.empty(len(rows), outputs, dtype=torch.float32)
    weight = matrix(packed, outputs, x.shape[-1], bias)
    if len(rows) and library().kun_linear(ctypes.byref(weight), rows.data_ptr(), len(rows), out.data_ptr()):
        raise MemoryError("There is no memory for the activations of a linear layer.")
    return out.view(*x.shape[:-1], outputs).to(x.dtype)


def rows(ids: Tensor, packed: Packed, inputs: int) -> Tensor:
    """Rows `ids` [...] of packed weights -> float32 [..., inputs]; IndexError for one that is not there."""
    wanted = ids.long().contiguous()
    count = packed.codes.shape[0] * 16
    if wanted.numel() and not 0 <= int(wanted.min()) <= int(wanted.max()) < count:
        raise IndexError(f"A row outside 0 to {count - 1} was asked for.")
    out = torch.empty(*ids.shape, inputs, dtype=torch.float32)
    table = matrix(packed, count, inputs, None)
    library().kun_rows(ctypes.byref(table), wanted.data_ptr(), wanted.numel(), out.data_ptr())
    return out


def pack(weight: Tensor, bits: Bits, importance: Tensor | None = None) -> Packed:
    """As `packing.pack`, for weights on the CPU, with a finer search for int4, at tens of millions a second."""
    outputs, inputs = weight.shape
    floats = weight.detach().float().contiguous()
    packed = empty(outputs, inputs, bits)
    matters = None if importance is None else importance.float().contiguous()
    library().kun_pack(
        floats.data_ptr(),
        None if matters is None else matters.data_ptr(),
        outputs,
        inputs,
        INT4 if bits == 4 else INT8,
        packed.codes.data_ptr(),
        packed.scales.data_ptr(),
    )
    return packed


def matrix(packed: Packed, outputs: int, inputs: int, bias: Tensor | None) -> Matrix:
    """Pointers into tensors that the caller keeps alive; they must be contiguous and on the CPU."""
    assert packed.codes.is_contiguous()
    assert packed.scales.is_contiguous()
    return Matrix(
        packed.codes.data_ptr(),
        packed.scales.data_ptr(),
        None if bias is None else bias.data_ptr(),
        outputs,
        inputs,
        INT4 if packed.bits == 4 else INT8,
        packed.codes.shape[1],
    )


_building = threading.Lock()


def _kernels(wanted: bool, home: Path) -> Kernels:
    with _building:
        return _load(wanted, home)


@cache
def _load(wanted: bool, home: Path) -> Kernels:
    """The kernels with these settings, which `open_library` reads for itself."""
    try:
        opened = open_library("kun", KERNELS / "kun.c", (*FLAGS, *machine_flags()))
    except OSError as error:
        return Kernels(None, f"{'not there' if wanted else 'not used'}: {_reason(error)}")
    opened.kun_instructions.restype = ctypes.c_char_p
    pointer, count = ctypes.c_void_p, ctypes.c_int
    opened.kun_threads.argtypes = [count]
    opened.kun_linear.argtypes = [pointer, pointer, count, pointer]
    opened.kun_rows.argtypes = [pointer, pointer, count, pointer]
    opened.kun_rows.restype = None
    opened.kun_pack.argtypes = [pointer, pointer, count, count, count, pointer, pointer]
    opened.kun_pack.restype = None
    opened.kun_step.argtypes = [pointer]
    opened.kun_program.argtypes = [pointer]
    opened.kun_program.restype = None
    opened.kun_threads(settings().threads or torch.get_num_threads())
    return Kernels(opened, f"built for this processor: {opened.kun_instructions().decode()}")


def machine_flags() -> tuple[str]:
    """The flag by which a compiler builds for this processor."""
    return ("-mcpu=native" if platform.machine().lower() in ("arm64", "aarch64") else "-march=native",)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
