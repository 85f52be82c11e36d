"""Steps of a few tokens in float32, of all families, in compiled code: what the layers do is traced once.

At a few tokens a step the weights are read once and little is computed, so that memory sets the pace, next to what
Python and torch take for each of hundreds of small operations. Both are less here: one call runs all layers, and the
weights lie in large pages of the system, without which half of the time goes to finding them.
"""

import ctypes
import logging
import mmap
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from kun.adaptation import native
from kun.adaptation.trace import (
    CALL,
    EVERYTHING,
    Op,
    Trace,
    TracedContext,
    TracedSource,
    Untraceable,
    Value,
    allocated,
    fused,
    grouped,
)
from kun.blocks.attention import Bias
from kun.blocks.cache import CacheStep
from kun.blocks.experts import Routing
from kun.networks.decoder import Context, Decoder, embed
from kun.networks.encoder_decoder import EncoderDecoder, Seq2SeqOutput
from kun.networks.network import DecoderOutput
from kun.networks.source import Source, SourceStep, StackedSources
from kun.settings import memory as machine_memory

log = logging.getLogger(__name__)

MOST_TOKENS = 16
"""Tokens of a step up to which it runs in compiled code; of more torch's matrix products make more."""
_LARGE_PAGE = 2**21
_UNTRACEABLE = (
    Untraceable,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    LookupError,
    StopIteration,
    RuntimeError,
)
"""What a network may raise that does with values of a step what only tensors can do: torch runs it, then."""
_moving = threading.Lock()

_INTS = (
    "activation", "source", "other", "third", "to", "width", "outputs", "heads", "kv_heads", "d", "first",
    "turned", "layer", "window", "bias",
)  # fmt: skip


class _Op(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", *_INTS, "alike")),
        ("number", ctypes.c_float),
        ("weight", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
    )


class _Program(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("ops", "buffers", "tables", "seen", "places", "slots")),
        *((name, ctypes.c_void_p) for name in ("keys", "values")),
        ("layer_floats", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name in ("biases", "sources", "source_of", "source_seen")),
        *(
            (name, ctypes.c_int32)
            for name in ("count", "total", "max_pages", "page_size", "bias_length", "longest_source")
        ),
    )  # fmt: skip


class _List:
    """Operations as compiled code reads them, in stretches between those that torch runs."""

    def __init__(self, trace: Trace, given: int, result: Value) -> None:
        ops, self.widths = allocated(
            fused(trace.ops, {*range(given), result.buffer}), trace.widths, set(range(given))
        )
        if not ops or result.part:
            raise Untraceable("nothing")
        self.by_place = any(op.bias >= 0 or op.window != EVERYTHING for op in ops)
        """Whether attention counts from the own place back, so that a prefix, which sees ahead, has no place in it."""
        self.given, self.result = given, ops[-1].to
        self.weights = [tensor for op in ops for tensor in (op.weight, op.shift) if tensor is not None]
        if any(not tensor.is_contiguous() or tensor.dtype != torch.float32 for tensor in self.weights):
            raise Untraceable("weights")
        self.by_torch = [tensor for op in ops if op.module is not None for tensor in op.module.parameters()]
        self.parts: list[ctypes.Array[_Op] | Op] = []
        """Operations for compiled code, or one for torch."""
        stretch: list[Op] = []
        for op in [*ops, None]:
            if op is not None and op.kind != CALL:
                stretch.append(op)
                continue
            if stretch:
                counts = grouped(stretch)
                made = [_compiled(each, count) for each, count in zip(stretch, counts, strict=True)]
                self.parts.append((_Op * len(made))(*made))
            if op is not None:
                self.parts.append(op)
            stretch = []
        sizes = np.array(self.widths, dtype=np.uint64)
        sizes[:given] = 0
        self.offsets = np.concatenate([np.zeros(1, np.uint64), np.cumsum(sizes)]).astype(np.uint64)


def _compiled(op: Op, count: int) -> _Op:
    made = _Op(op.kind, *(getattr(op, name) for name in _INTS), count, op.number)
    made.weight = None if op.weight is None else op.weight.data_ptr()
    made.shift = None if op.shift is None else op.shift.data_ptr()
    return made


class FloatStep(nn.Module):
    """A float32 network of any family that runs its steps of a few tokens in compiled code, all layers in one call.

    It shares its weights with `net`, which runs every other call. Its steps agree with those of `net` up to rounding,
    and a decoder's row has the same bits whatever other rows are in a step of a few tokens. Sources are looked at by
    torch, whose sums may depend on their number. Large weights of `net` move into large pages when this is made, the
    first time, and never later: make it before other threads compute with `net`.
    """

    def __init__(self, net: Decoder | EncoderDecoder) -> None:
        super().__init__()
        self.net, self.config = net, net.config
        self._lists: tuple[_List, _List] | None = None
        self._biases: list[Bias] = []
        self._tables: tuple[int, list[Tensor]] = (0, [])
        self._sources: _Sources | None = None
        self._traced = False
        self._kept: list[tuple[Tensor, int]] = []
        self._bias_kept: list[tuple[int, int]] = []
        self.in_large_pages = _in_large_pages([*net.parameters()])

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return cast(nn.Module, getattr(super().__getattr__("net"), name))

    @property
    def compiled(self) -> bool:
        """Whether the last step of a few tokens ran in compiled code."""
        return self._lists is not None

    def forward(
        self,
        input_ids: Tensor | None = None,
        *given: Tensor | None,
        cache: CacheStep | None = None,
        **named: Tensor | None,
    ) -> DecoderOutput | Seq2SeqOutput:
        """As that of `net`."""
        if cache is not None and self._takes(input_ids, given, cache, named):
            logits = self._step(input_ids, cache, named.get("logits_at"))
            if logits is not None:
                return DecoderOutput(logits)
        output: DecoderOutput | Seq2SeqOutput = self.net(input_ids, *given, cache=cache, **named)
        return output

    def _takes(
        self,
        ids: Tensor | None,
        given: Sequence[Tensor | None],
        cache: CacheStep,
        named: Mapping[str, Tensor | None],
    ) -> bool:
        few = cache.total <= MOST_TOKENS and ids is not None and ids.shape == (1, cache.total)
        plain = not any(each is not None for each in given) and not named.keys() - {"logits_at"}
        exact = cache.cache.keys.dtype == torch.float32 and not torch.is_grad_enabled()
        whole = isinstance(self.net, Decoder) or isinstance(cache, SourceStep)
        return few and plain and exact and whole and not any(cache.adapters or ()) and not self.net.training

    def _step(self, ids: Tensor | None, cache: CacheStep, logits_at: Tensor | None) -> Tensor | None:
        """Logits [1, m, vocabulary]; None where the network does what compiled code has no word for."""
        net = self.net
        if self._traced and (self._lists is None or (self._lists[0].by_place and any(cache.prefixes))):
            return None
        if isinstance(net, Decoder):
            x = embed(net.embed, self.config.vocab_size, ids, None)
            x, shared = net.begin(x, net.context(x, ids, None, None, cache))
        else:
            x, shared = net.embedded(ids, None), ()
            x = net.begin(x, Context.of(x, None, None, cache, longest=net.longest))
        tensors = _tensors(shared)
        if self._traced and any(tensor.data_ptr() != place for tensor, place in self._kept):
            self._traced = False  # weights were put in the place of others
        if not self._traced:
            self._trace(shared, tensors)
        if self._lists is None or (self._lists[0].by_place and any(cache.prefixes)):
            return None
        body, head = self._lists
        states = self._run(body, [x, *tensors], cache)
        if logits_at is not None:
            states = states[logits_at]
        return self._run(head, [states], cache)[None]

    def _trace(self, shared: object, tensors: list[Tensor]) -> None:
        self._traced, self._lists = True, None
        try:
            trace = Trace()
            x = trace.value(self.config.d_model)
            values = iter([trace.value(tensor.shape[-1]) for tensor in tensors])
            result = self._through(x, _values(shared, values), trace)
            body = _List(trace, 1 + len(tensors), result)
            self._biases, trace = trace.biases, Trace()
            logits: object = self.net.head(cast(Tensor, trace.value(result.width)))
            head = _List(trace, 1, cast(Value, logits))
        except _UNTRACEABLE:
            return
        weights = list({id(w): w for each in (body, head) for w in (*each.weights, *each.by_torch)}.values())
        own = {id(tensor) for tensor in (*self.net.parameters(), *self.net.buffers())}
        if any(
            id(weight) not in own for weight in weights
        ):  # made on the way: it would be read for ever as it is
            return
        self._kept = [(weight, weight.data_ptr()) for weight in weights]
        self._lists, self._tables, self._sources = (body, head), (0, []), None

    def _through(self, x: Value, shared: object, trace: Trace) -> Value:
        """What the layers make of x; to them values are tensors."""
        net, context = self.net, cast(Context, TracedContext(trace))
        if isinstance(net, Decoder):
            made: object = net.through(cast(Tensor, x), cast(tuple[object, ...], shared), context)
        else:
            made = net.decoded(cast(Tensor, x), context, cast(Source, TracedSource(trace)))
        return cast(Value, made)

    def _run(self, ops: _List, given: list[Tensor], cache: CacheStep) -> Tensor:
        """The result [tokens, width] of a list for what is given, [1, tokens, width] each."""
        external = [each.reshape(-1, each.shape[-1]).contiguous() for each in given]
        total, pages = len(external[0]), cache.cache
        memory = np.empty(int(ops.offsets[-1]) * total, dtype=np.float32)
        buffers = np.uint64(memory.ctypes.data) + ops.offsets[:-1] * np.uint64(4 * total)
        buffers[: ops.given] = [each.data_ptr() for each in external]
        before, counts = cache.before.numpy(), cache.counts
        rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        tables = np.ascontiguousarray(cache.tables.numpy()[rows])
        places = _places(before, counts)
        seen = np.maximum(places + 1, np.array(cache.prefixes, dtype=np.int32)[rows])
        length = int(seen.max())
        biases = self._bias_tables(length)
        program = _Program(
            buffers=buffers.ctypes.data,
            tables=tables.ctypes.data,
            seen=seen.ctypes.data,
            places=places.ctypes.data,
            slots=cache.slots.data_ptr(),
            keys=pages.keys.data_ptr(),
            values=pages.values.data_ptr(),
            layer_floats=pages.keys[0].numel(),
            total=total,
            max_pages=tables.shape[1],
            page_size=pages.page_size,
        )
        pointers = np.array([table.data_ptr() for table in biases], dtype=np.uint64)
        program.biases, program.bias_length = pointers.ctypes.data, self._tables[0]
        if isinstance(cache, SourceStep):
            kept = self._source_layers(cache.source.stacked)
            of = np.ascontiguousarray(cache.source.which[0].numpy().astype(np.int32))
            reach = kept.lengths[of]
            program.sources, program.source_of = ctypes.addressof(kept.pointers), of.ctypes.data
            program.source_seen, program.longest_source = reach.ctypes.data, kept.longest
        for part in ops.parts:
            if not isinstance(part, Op):
                program.ops, program.count = ctypes.addressof(part), len(part)
                native.library().kun_program(ctypes.byref(program))
            elif part.module is not None:
                read, made = (_view(memory, ops, total, number) for number in (part.source, part.to))
                made.copy_(part.module(read[None], Routing())[0])
        return _view(memory, ops, total, ops.result)

    def _bias_tables(self, length: int) -> list[Tensor]:
        """For each bias what it adds by distance, float32 [heads, length], the own place last."""
        kept = [_version(each) for bias in self._biases for each in _parameters(bias)]
        if self._biases and (length > self._tables[0] or kept != self._bias_kept):
            self._bias_kept = kept
            longer = max(128, 1 << (length - 1).bit_length())
            keys = torch.arange(longer)[None]
            made = []
            for bias in self._biases:
                made.append(bias(keys[:, -1:], keys)[0, :, 0].float().contiguous())
            self._tables = (longer, made)
        return self._tables[1]

    def _source_layers(self, stacked: StackedSources) -> "_Sources":
        """The keys and values of a step's sources, found once until a row comes or goes."""
        if self._sources is None or self._sources.stacked is not stacked:
            tensors = [tensor.float().contiguous() for layer in stacked.layers for tensor in layer]
            pointers = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
            lengths = np.array([len(row.source) for row in stacked.rows], dtype=np.int32)
            self._sources = _Sources(stacked, tensors, pointers, lengths)
        return self._sources


@dataclass(eq=False)
class _Sources:
    """Where the `tensors` of sources lie, keys and values of one layer after the other, and each source's length."""

    stacked: StackedSources
    tensors: list[Tensor]
    pointers: ctypes.Array[ctypes.c_void_p]
    lengths: np.ndarray

    @property
    def longest(self) -> int:
        return self.tensors[0].shape[2]


def fits(net: nn.Module) -> bool:
    """Whether a network is one of float32 on the CPU that writes a token at a time."""
    if not isinstance(net, Decoder | EncoderDecoder):
        return False
    tensors = [*net.parameters()]
    plain = all(
        type(t) is nn.Parameter and t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors
    )
    return bool(tensors) and plain


def _places(before: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    each = zip(before.tolist(), counts, strict=True)
    return np.concatenate([np.arange(b, b + n, dtype=np.int32) for b, n in each])


def _view(memory: np.ndarray, ops: _List, total: int, number: int) -> Tensor:
    start, width = int(ops.offsets[number]) * total, ops.widths[number]
    return torch.from_numpy(memory[start : start + total * width]).view(total, width)


def _tensors(shared: object) -> list[Tensor]:
    """The tensors of what layers share, in its order."""
    if isinstance(shared, Tensor):
        return [shared]
    return [tensor for each in shared for tensor in _tensors(each)] if isinstance(shared, tuple) else []


def _values(shared: object, values: Iterator[Value]) -> object:
    """The same with a value in the place of each tensor."""
    if isinstance(shared, Tensor):
        return next(values)
    return tuple(_values(each, values) for each in shared) if isinstance(shared, tuple) else shared


def _parameters(bias: Bias) -> list[nn.Parameter]:
    return list(bias.parameters()) if isinstance(bias, nn.Module) else []


def _version(tensor: Tensor) -> tuple[int, int]:
    """What changes when a tensor gets other numbers, in its own place or in that of others."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _in_large_pages(weights: Sequence[Tensor]) -> bool:
    """Put large weights where the system has large pages for them; whether they lie there."""
    with _moving:
        large = [w for w in weights if w.numel() * 4 >= _LARGE_PAGE // 8]
        fresh = [w for w in large if not hasattr(w, "in_large_pages")]
        return bool(large) and (not fresh or _moved(fresh))


def _moved(weights: Sequence[Tensor]) -> bool:
    sizes = [-(-w.numel() * 4 // 64) * 64 for w in weights]
    _, free = machine_memory()
    if not hasattr(mmap, "MADV_HUGEPAGE") or free is None or sum(sizes) > free // 2:
        log.info("weights of %d MB stay where they are: no room in large pages", sum(sizes) >> 20)
        return False
    try:
        memory = mmap.mmap(-1, sum(sizes) + _LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return False
    start = -torch.frombuffer(memory, dtype=torch.uint8).data_ptr() % _LARGE_PAGE
    for weight, size in zip(weights, sizes, strict=True):
        moved = torch.frombuffer(memory, dtype=torch.float32, count=weight.numel(), offset=start).view(
            weight.shape
        )
        with torch.no_grad():
            moved.copy_(weight)
            weight.data = moved
        weight.in_large_pages = True  # type: ignore[attr-defined]
        start += size
    return True
