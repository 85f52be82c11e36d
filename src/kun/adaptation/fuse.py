"""A quantized decoder as one compiled call per step, where it can be: tens of microseconds of Python a token."""

import ctypes
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.adaptation import float_step, native
from kun.adaptation.lora import lora_pairs
from kun.adaptation.packing import PANEL
from kun.adaptation.quantize import QuantizedLinear, QuantizedWeight
from kun.blocks.cache import CacheStep
from kun.families.llama.llama import Layer, Llama
from kun.networks.decoder import Decoder, embed
from kun.networks.encoder_decoder import EncoderDecoder
from kun.networks.network import DecoderOutput, check_positions

_ADAPTED = (*(f"attention.{part}" for part in "qkvo"), "mlp.gate", "mlp.up", "mlp.down")
"""The matrices of a layer in the order of the kernels."""
EVERYTHING = 2**30
"""A window that no context fills."""


class _Layer(ctypes.Structure):
    _fields_ = (
        ("qkv", native.Matrix * 3),
        ("o", native.Matrix),
        ("gate_up", native.Matrix * 2),
        ("down", native.Matrix),
        ("attention_norm", ctypes.c_void_p),
        ("mlp_norm", ctypes.c_void_p),
        ("window", ctypes.c_int32),
        ("unused", ctypes.c_int32),
    )


class _Decoder(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
        ("head", native.Matrix),
        ("norm", ctypes.c_void_p),
        ("frequencies", ctypes.c_void_p),
        *(
            (name, ctypes.c_int32)
            for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_ff")
        ),
        ("norm_eps", ctypes.c_float),
        ("rotary_scale", ctypes.c_float),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        ("net", ctypes.POINTER(_Decoder)),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "x",
                "positions",
                "slots",
                "row_starts",
                "before",
                "tables",
                "wanted",
                "keys",
                "values",
            )
        ),
        ("layer_bytes", ctypes.c_uint64),
        *(
            (name, ctypes.c_int32)
            for name in ("total", "rows", "max_pages", "wanted_count", "page_size", "is_bfloat16")
        ),
        ("logits", ctypes.c_void_p),
        ("adapters", ctypes.c_void_p),
        ("most_rank", ctypes.c_int32),
        ("unused", ctypes.c_int32),
    )


class _Pair(ctypes.Structure):
    _fields_ = (
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("rank", ctypes.c_int32),
        ("unused", ctypes.c_int32),
    )


class _Adapter:
    """An adapter's pairs as the kernels read them: in bfloat16, by layer; those that it lacks have rank 0."""

    def __init__(self, net: Llama, low: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        self._kept: list[Tensor] = []
        names = [f"layers.{i}.{part}" for i in range(len(net.layers)) for part in _ADAPTED] + ["lm_head"]
        self.pairs = (_Pair * len(names))(*(self._pair(net, name, low.get(name)) for name in names))
        self.rank = max(pair.rank for pair in self.pairs)

    def _pair(self, net: Llama, name: str, low: tuple[Tensor, Tensor] | None) -> _Pair:
        if low is None:
            return _Pair(None, None, 0, 0)
        a, b = low
        layer, _, part = name.rpartition(".")
        if part == "lm_head":
            a = a * net.norm.weight
        elif part in ("q", "k", "v", "gate", "up"):
            parent = cast(Layer, net.get_submodule(layer.rpartition(".")[0]))
            a = a * (parent.attention_norm if part in "qkv" else parent.mlp_norm).weight
        panels = F.pad(b, (0, 0, 0, -len(b) % PANEL)).unflatten(0, (-1, PANEL)).transpose(1, 2).contiguous()
        self._kept += [a.bfloat16().contiguous(), panels.bfloat16()]
        return _Pair(self._kept[-2].data_ptr(), self._kept[-1].data_ptr(), len(a), 0)


class FusedLlama(nn.Module):
    """A quantized LLaMA-type network that runs its steps over a cache in compiled code, all layers in one call.

    It shares its weights with `net`, which runs every other call. Its steps agree with those of `net` up to
    float32 rounding, and a row's logits are the same bits whatever other rows are in the step.
    """

    def __init__(self, net: Llama) -> None:
        super().__init__()
        self.net, self.config = net, net.config
        frequencies = net.rotary.frequencies(0, torch.device("cpu")).float().contiguous()
        layers = (_Layer * len(net.layers))(*(_layer(cast(Layer, layer)) for layer in net.layers))
        config = net.config
        self._decoder = _Decoder(
            layers,
            _matrix(cast(QuantizedLinear, net.lm_head)),
            net.norm.weight.data_ptr(),
            frequencies.data_ptr(),
            *(getattr(config, n) for n in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_ff")),
            config.norm_eps,
            net.rotary.scale,
        )
        self._kept = (frequencies, layers)
        self._adapters: dict[str, _Adapter] = {}

    def add_adapter(self, name: str, low: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Keep an adapter for the steps whose `adapters` name it: by layer, A [rank, inputs] and B [outputs, rank]."""
        with torch.no_grad():
            self._adapters[name] = _Adapter(self.net, low)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("net"), name)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
        logits_at: Tensor | None = None,
    ) -> DecoderOutput:
        """As `Llama.forward`: logits [b, t, vocabulary], or [1, m, vocabulary] of a step's m wanted tokens."""
        if cache is None or cache.cache.keys.dtype not in (torch.float32, torch.bfloat16):
            return self.net(
                input_ids,
                attention_mask,
                inputs_embeds=inputs_embeds,
                positions=positions,
                cache=cache,
                logits_at=logits_at,
            )
        places = cache.positions if positions is None else positions
        check_positions(places, self.config.context_length)
        x = embed(self.net.embed, self.config.vocab_size, input_ids, inputs_embeds)
        return DecoderOutput(self._step(x, places, cache, logits_at))

    def _step(self, x: Tensor, positions: Tensor, cache: CacheStep, logits_at: Tensor | None) -> Tensor:
        total, pages = cache.total, cache.cache
        if x.shape[:2] != (1, total) or positions.numel() != total:
            return self.net(inputs_embeds=x, positions=positions, cache=cache, logits_at=logits_at).logits
        wanted = torch.arange(total) if logits_at is None else logits_at.long().contiguous()
        count = len(wanted)
        if count and not 0 <= int(wanted.min()) <= int(wanted.max()) < total:
            raise IndexError(f"Logits were asked for outside the {total} tokens of the step.")
        # torch copies much with threads of its own, which would be in the way of the step's
        states = np.empty((max(total, count), x.shape[2]), dtype=np.float32)
        states[:total] = x[0].float().numpy()
        logits = torch.empty(1, count, self.config.vocab_size, dtype=torch.float32)
        positions = positions.long().contiguous()
        chosen, most_rank = self._chosen(cache)
        step = _Step(
            ctypes.pointer(self._decoder),
            states.ctypes.data,
            positions.data_ptr(),
            cache.slots.data_ptr(),
            cache.row_starts.data_ptr(),
            cache.before.data_ptr(),
            cache.tables.data_ptr(),
            wanted.data_ptr(),
            pages.keys.data_ptr(),
            pages.values.data_ptr(),
            pages.keys[0].numel() * pages.keys.element_size(),
            total,
            len(cache.lengths),
            cache.tables.shape[1],
            count,
            pages.page_size,
            pages.keys.dtype == torch.bfloat16,
            logits.data_ptr(),
            None if chosen is None else chosen.ctypes.data,
            most_rank,
            0,
        )
        if native.library().kun_step(ctypes.byref(step)):
            raise MemoryError(f"There is no memory for a step of {total} tokens.")
        return logits

    def _chosen(self, cache: CacheStep) -> tuple[np.ndarray | None, int]:
        """Where the pairs of each token's adapter lie, uint64 [total], and their largest rank; None without any."""
        if not any(cache.adapters or ()):
            return None, 0
        adapters = [None if name is None else self._adapters[name] for name in cache.adapters or ()]
        places = [0 if each is None else ctypes.addressof(each.pairs) for each in adapters]
        ranks = [each.rank for each in adapters if each is not None]
        return np.repeat(np.array(places, dtype=np.uint64), cache.counts), max(ranks)


def fuse(net: nn.Module) -> nn.Module:
    """`net` fitted for decoding on the CPU, with the same calls; `net` itself where no compiled step fits it.

    The result shares the weights of `net`. That fits so far: quantized LLaMA-type networks, and networks of all
    families in float32.
    """
    if not native.available():
        return net
    if isinstance(net, Llama) and _fits(net):
        return FusedLlama(net)
    quantized = any(isinstance(module, QuantizedWeight) for module in net.modules())
    if not quantized and float_step.fits(net):
        return float_step.FloatStep(cast(Decoder | EncoderDecoder, net))
    return net


def _fits(net: Llama) -> bool:
    """Whole in 4 or 8 bits on the CPU, with heads of whole vectors."""
    linears = [module for module in net.modules() if isinstance(module, QuantizedLinear)]
    everywhere = len(linears) == 7 * len(net.layers) + 1 and isinstance(net.lm_head, QuantizedLinear)
    alone = not lora_pairs(net)  # an adapter in training is a part of the network, and the step knows none
    on_cpu = all(module.codes.device.type == "cpu" for module in linears)
    return everywhere and alone and on_cpu and net.config.d_head % 16 == 0 and not net.config.query_key_norm


def _layer(layer: Layer) -> _Layer:
    attention, mlp = layer.attention, layer.mlp
    return _Layer(
        (native.Matrix * 3)(*(_matrix(m) for m in (attention.q, attention.k, attention.v))),
        _matrix(attention.o),
        (native.Matrix * 2)(_matrix(mlp.gate), _matrix(mlp.up)),
        _matrix(mlp.down),
        layer.attention_norm.weight.data_ptr(),
        layer.mlp_norm.weight.data_ptr(),
        attention.window or EVERYTHING,
        0,
    )


def _matrix(module: nn.Module | None) -> native.Matrix:
    assert isinstance(module, QuantizedLinear)
    return native.matrix(module.packed, module.out_features, module.in_features, module.bias)
