"""What a network does with the tokens of a step, traced as a list of operations that compiled code can run.

The layers run once, as they are written, over values that keep a note of what is done with them (torch's own
protocol for that, `__torch_function__`). So a family has one description of itself, and one that does something the
list has no word for is simply run by torch.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.attention import Bias
from kun.blocks.experts import Experts, Routing
from kun.blocks.norm import RMSNorm
from kun.blocks.rotary import rotate

LANES = 16
EVERYTHING = 2**30
"""A window that no context fills."""
MOST_GROUP, MOST_MIXED = 64, 4096
NORM, RMS_NORM, LINEAR, ROTATE, ATTEND, CROSS, SUM, PRODUCT, SCALE, ACTIVATE, CALL = range(11)
"""The operations, in the order of kernels/program.h; the last is run by torch."""
RELU, GELU, GELU_TANH, SILU = range(1, 5)


class Untraceable(Exception):
    """The network does something that the list of operations has no word for."""


@dataclass(frozen=True)
class Op:
    """One operation on buffers, by their numbers; the fields are those of kernels/program.h."""

    kind: int
    source: int
    to: int
    other: int = -1
    third: int = -1
    activation: int = 0
    width: int = 0
    outputs: int = 0
    heads: int = 1
    kv_heads: int = 1
    d: int = 0
    first: int = 0
    turned: int = 0
    layer: int = 0
    window: int = EVERYTHING
    bias: int = -1
    number: float = 0.0
    weight: Tensor | None = None
    shift: Tensor | None = None
    module: nn.Module | None = None

    @property
    def reads(self) -> set[int]:
        return {self.source, self.other, self.third} - {-1}


@dataclass
class Trace:
    """The operations so far, the widths of the buffers, and the biases of attention that they ask for."""

    ops: list[Op] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    biases: list[Bias] = field(default_factory=list)
    rotated: list[tuple[int, int, int]] = field(default_factory=list)
    """What was rotated in place, in order: a buffer, and the first and last number of each head."""

    def buffer(self, width: int) -> int:
        self.widths.append(width)
        return len(self.widths) - 1

    def value(self, width: int) -> "Value":
        return Value(self, self.buffer(width), width)

    def add(self, op: Op) -> "Value":
        """Add an operation whose result has the width of its buffer."""
        self.ops.append(op)
        return Value(self, op.to, self.widths[op.to])


class Value:
    """A tensor [1, tokens, width] of a step that is yet to run, or a part of the heads of one."""

    requires_grad = False
    dtype = torch.float32

    def __init__(
        self, trace: Trace, buffer: int, width: int, d: int = 0, part: tuple[int, int] | None = None
    ) -> None:
        self.trace, self.buffer, self.width, self.d, self.part = trace, buffer, width, d, part
        self.since = len(trace.rotated)

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        named: Mapping[str, object] | None = None,
    ) -> object:
        record = _TRACED.get(function)
        if record is None:
            raise Untraceable(getattr(function, "__name__", str(function)))
        return record(*args, **(named or {}))

    def __add__(self, other: object) -> "Value":
        if isinstance(other, Value):
            return self._with(SUM, other)
        if isinstance(other, Tensor) and self.trace.ops and other.shape == (self.width,):
            last = self.trace.ops[-1]
            if last.to == self.buffer and last.kind == LINEAR and last.shift is None:
                self.trace.ops[-1] = replace(last, shift=other)
                return self
        raise Untraceable("a sum")

    def __mul__(self, other: object) -> "Value":
        if isinstance(other, Value):
            return self._with(PRODUCT, other)
        if not isinstance(other, int | float):
            raise Untraceable("a product")
        return self._each(SCALE, number=float(other))

    __rmul__ = __mul__

    def _with(self, kind: int, other: "Value") -> "Value":
        _current(other)
        if self.part or other.part or self.width != other.width:
            raise Untraceable("two shapes")
        return self._each(kind, other=other.buffer)

    def _each(self, kind: int, *, other: int = -1, activation: int = 0, number: float = 0.0) -> "Value":
        _whole(self)
        op = Op(kind, self.buffer, self.trace.buffer(self.width), other, width=self.width)
        made = self.trace.add(replace(op, activation=activation, number=number))
        made.d = self.d
        return made

    def unflatten(self, dim: int, sizes: Sequence[int]) -> "Value":
        """Its heads: the last dimension in parts of `sizes[1]`."""
        _current(self)
        if dim != -1 or len(sizes) != 2 or sizes[0] != -1 or self.d:
            raise Untraceable("unflatten")
        return Value(self.trace, self.buffer, self.width, sizes[1])

    def flatten(self, dim: int) -> "Value":
        _current(self)
        if dim != -2 or not self.d or self.part:
            raise Untraceable("flatten")
        return Value(self.trace, self.buffer, self.width)

    def chunk(self, count: int, dim: int = -1) -> "list[Value]":
        """Equal parts of each head."""
        _current(self)
        if dim != -1 or not self.d or self.part or self.d % count:
            raise Untraceable("chunk")
        size = self.d // count
        parts = [(i * size, size) for i in range(count)]
        return [Value(self.trace, self.buffer, self.width, self.d, part) for part in parts]


def _current(*values: Value) -> None:
    """Raises `Untraceable` for a value that was rotated in its place after it was made."""
    for value in values:
        first, width = value.part or (0, value.width)
        later = value.trace.rotated[value.since :]
        if any(place == value.buffer and first < end and at < first + width for place, at, end in later):
            raise Untraceable("a value before its rotation")


def _whole(*values: Value) -> None:
    _current(*values)
    if any(value.part or value.width % LANES for value in values):
        raise Untraceable("a width")


def _linear(x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    outputs, inputs = weight.shape
    _whole(x)
    if inputs != x.width or x.d or weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise Untraceable("linear")
    op = Op(LINEAR, x.buffer, x.trace.buffer(outputs), width=inputs, outputs=outputs)
    return x.trace.add(replace(op, weight=weight, shift=bias))


def _layer_norm(
    x: Value,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Value:
    return _normed(x, NORM, shape[-1], weight, bias, eps)


def _rms_norm(module: RMSNorm, x: Value) -> Value:
    return _normed(x, RMS_NORM, len(module.weight), module.weight, None, module.eps)


def _normed(x: Value, kind: int, d: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Value:
    _whole(x)
    if d != (x.d or x.width) or d % LANES:
        raise Untraceable("a norm")
    op = Op(kind, x.buffer, x.trace.buffer(x.width), width=x.width, d=d, number=eps)
    made = x.trace.add(replace(op, weight=weight, shift=bias))
    made.d = x.d
    return made


def _rotate(x: Value, cos: Value, sin: Value) -> Value:
    """Turned where it stands: nothing else reads queries and keys before, and `_current` sees to it after."""
    _current(x)
    first, width = x.part or (0, x.d)
    if not x.d or cos.width > width or any(x.buffer in op.reads for op in x.trace.ops if op.kind != ROTATE):
        raise Untraceable("rotate")
    op = Op(ROTATE, x.buffer, x.buffer, cos.buffer, sin.buffer, width=x.width, heads=x.width // x.d, d=x.d)
    x.trace.ops.append(replace(op, first=first, turned=cos.width))
    x.trace.rotated.append((x.buffer, first, first + cos.width))
    return Value(x.trace, x.buffer, x.width, x.d, x.part)


def _cat(values: Sequence[Value], dim: int = 0) -> Value:
    """The parts of heads put together again."""
    first = values[0]
    _current(*values)
    ends = [0]
    for value in values:
        if value.part is None or value.buffer != first.buffer or value.part[0] != ends[-1]:
            raise Untraceable("cat")
        ends.append(sum(value.part))
    if dim != -1 or ends[-1] != first.d:
        raise Untraceable("cat")
    return Value(first.trace, first.buffer, first.width, first.d)


def _gelu(x: Value, approximate: str = "none") -> Value:
    return x._each(ACTIVATE, activation=GELU_TANH if approximate == "tanh" else GELU)


def _relu(x: Value, inplace: bool = False) -> Value:
    return x._each(ACTIVATE, activation=RELU)


def _silu(x: Value, inplace: bool = False) -> Value:
    return x._each(ACTIVATE, activation=SILU)


def _experts(module: nn.Module, x: Value, routing: Routing) -> Value:
    _whole(x)
    return x.trace.add(Op(CALL, x.buffer, x.trace.buffer(x.width), width=x.width, module=module))


_TRACED: dict[object, Callable[..., object]] = {
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.gelu: _gelu,
    F.relu: _relu,
    F.silu: _silu,
    torch.cat: _cat,
    rotate: _rotate,
    RMSNorm.forward: _rms_norm,
    Experts.forward: _experts,
}


class TracedContext:
    """A context, and the source of an encoder-decoder, for layers whose steps are traced."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.routing = trace, Routing()

    def attend(
        self,
        layer: int,
        q: Value,
        k: Value,
        v: Value,
        *,
        window: int | None = None,
        bias: Bias | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> Value:
        if not k.d == v.d == q.d or k.width != v.width:
            raise Untraceable("keys and values of two shapes")
        _whole(k, v)
        op = self._attention(ATTEND, layer, q, k.width // max(k.d, 1), scale)
        if bias is not None and bias not in self.trace.biases:
            self.trace.biases.append(bias)
        place = -1 if bias is None else self.trace.biases.index(bias)
        return self._made(
            replace(op, other=k.buffer, third=v.buffer, window=window or EVERYTHING, bias=place), q
        )

    def _attention(self, kind: int, layer: int, q: Value, kv_heads: int, scale: float | None) -> Op:
        _whole(q)
        heads = q.width // max(q.d, 1)
        group = heads // max(kv_heads, 1)
        if (
            not q.d
            or q.d % LANES
            or heads != group * kv_heads
            or group > MOST_GROUP
            or group * q.d > MOST_MIXED
        ):
            raise Untraceable("attention")
        number = q.d**-0.5 if scale is None else scale
        to = self.trace.buffer(q.width)
        op = Op(kind, q.buffer, to, width=q.width, heads=heads, kv_heads=kv_heads, d=q.d)
        return replace(op, layer=layer, number=number)

    def _made(self, op: Op, q: Value) -> Value:
        made = self.trace.add(op)
        made.d = q.d
        return made


class TracedSource(TracedContext):
    """What the decoder's cross-attention looks at: keys and values that were kept of it."""

    def attend(  # type: ignore[override]
        self, layer: int, q: Value, project: object, scale: float | None, dropout: float
    ) -> Value:
        return self._made(self._attention(CROSS, layer, q, q.width // max(q.d, 1), scale), q)


def fused(ops: Sequence[Op], kept: set[int]) -> list[Op]:
    """The operations with activations and residuals inside the linear layers before them; `kept` buffers stay."""
    uses = Counter(buffer for op in ops for buffer in op.reads)
    made = {op.to: place for place, op in enumerate(ops) if op.kind == LINEAR}
    done: list[Op | None] = list(ops)
    for place, op in enumerate(ops):
        for x, rest in ((op.source, op.other), (op.other, op.source)):
            linear = done[made[x]] if x in made and uses[x] == 1 and x not in kept else None
            if linear is None or linear.activation or linear.other >= 0:
                continue
            if op.kind == ACTIVATE:
                done[made[x]] = replace(linear, to=op.to, activation=op.activation)
            elif op.kind == SUM and rest != x and _written_before(ops, rest, made[x]):
                done[made[x]] = replace(linear, to=op.to, other=rest)
            else:
                continue
            made[op.to] = made[x]
            done[place] = None
            break
    return [op for op in done if op is not None]


def _written_before(ops: Sequence[Op], buffer: int, place: int) -> bool:
    return not any(op.to == buffer for op in ops[place:])


def allocated(ops: Sequence[Op], widths: Sequence[int], kept: set[int]) -> tuple[list[Op], list[int]]:
    """The operations on as few buffers as there can be, and their widths; the `kept` ones come first, as they are."""
    last = {buffer: place for place, op in enumerate(ops) for buffer in (*op.reads, op.to)}
    names, sizes = {buffer: buffer for buffer in kept}, [widths[buffer] for buffer in sorted(kept)]
    assert sorted(kept) == list(range(len(kept)))
    free: dict[int, list[int]] = {}
    done = []
    for place, op in enumerate(ops):
        if op.to not in names:
            spare = free.setdefault(widths[op.to], [])
            if not spare:
                sizes.append(widths[op.to])
            names[op.to] = spare.pop() if spare else len(sizes) - 1
        to, source, other, third = (names.get(each, -1) for each in (op.to, op.source, op.other, op.third))
        done.append(replace(op, to=to, source=source, other=other, third=third))
        for buffer in {*op.reads, op.to}:
            if last[buffer] == place and buffer not in kept:
                # linear layers of one input run together: none may write what another reads
                following = ops[place + 1].kind if place + 1 < len(ops) else CALL
                if op.kind != LINEAR or following != LINEAR:
                    free.setdefault(widths[buffer], []).append(names[buffer])
    return done, sizes


def grouped(ops: Sequence[Op]) -> list[int]:
    """How many operations from each one on run together: linear layers that read the same, rotations in a row.

    None of them adds what another of them makes.
    """
    counts = [1] * len(ops)
    for place in range(len(ops) - 2, -1, -1):
        op, after = ops[place], ops[place + 1]
        together = op.kind == after.kind and (
            (
                op.kind == LINEAR
                and op.source == after.source
                and all(each.other != op.to for each in ops[place + 1 : place + 1 + counts[place + 1]])
            )
            or (op.kind == ROTATE and (op.other, op.third) == (after.other, after.third))
        )
        if together:
            counts[place] = counts[place + 1] + 1
    return counts
