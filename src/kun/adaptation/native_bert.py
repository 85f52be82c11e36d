"""A BERT fitted to the machine that it encodes on: 8-bit projections in compiled code, or bfloat16, or as it is."""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from kun.adaptation.compiled import open_library
from kun.families.bert.bert import Bert, Layer, first_tokens
from kun.networks.network import EncoderOutput

FLAGS = (
    "-O3", "-shared", "-fPIC", "-std=gnu11",
    "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mavx512bf16",
)  # fmt: skip
PANEL = 64
_TOKENS = 256
"""Tokens of a call for which weights are laid out; others take hardly longer."""
LOG2_E = 1.4426950408889634


def fit_encoder(net: nn.Module) -> nn.Module:
    """`net` as it runs fastest here without a measurable change of its vectors (cosine above 0.999).

    With AMX, torch's own bfloat16 is fastest; with AVX512-VNNI, the compiled 8-bit layers where there is a C
    compiler and the sizes fit them; with AVX512-BF16, bfloat16. Elsewhere, and on a GPU, `net` stays as it is.
    """
    if next(net.parameters()).device.type != "cpu":
        return net
    if not _cpu_has("amx_tile") and isinstance(net, Bert) and _fits(net):
        library = _library()
        if library is not None:
            return NativeBert(net, library)
    return _in_bfloat16(net) if _cpu_has("avx512_bf16") or _cpu_has("amx_tile") else net


def _in_bfloat16(net: nn.Module) -> nn.Module:
    """`net` in bfloat16, but for a Bert's table of words: that stays mapped from its file, and rows are rounded."""
    if not isinstance(net, Bert):
        return net.bfloat16()
    words: nn.Module = RoundedRows(net.embeddings.words)
    net.embeddings.words = nn.Embedding(0, 0)
    net.bfloat16()
    net.embeddings.words = words  # type: ignore[assignment]
    if _packs():
        for part in list(net.layers.modules()):
            for name, linear in part.named_children():
                if type(linear) is nn.Linear:
                    setattr(part, name, LaidOutLinear(linear))
    return net


def _packs() -> bool:
    """Whether torch keeps weights in the order in which its kernels read them."""
    return all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))


class LaidOutLinear(nn.Module):
    """A bfloat16 linear layer whose weights lie as oneDNN's kernels read them: the same numbers, for inference.

    Otherwise every call puts them into that order anew, which takes a third of it for thousands of tokens, half of it
    for a question's few.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.out_features, self.in_features = weight.shape
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _TOKENS)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return out


class RoundedRows(nn.Module):
    """What `table` looks up, rounded; the table stays as it is: ids [...] -> bfloat16 [..., d]."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self._table = (table,)  # not a part, so that no conversion copies it

    def forward(self, ids: Tensor) -> Tensor:
        rows: Tensor = self._table[0](ids)
        return rows.bfloat16()


def _cpu_has(feature: str) -> bool:
    """Whether torch sees a feature of this CPU; one that it doesn't name counts as absent."""
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", bool)())


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled layers; None where they can't be had."""
    if not (_cpu_has("vnni") and _cpu_has("avx512_bf16")):
        return None
    try:
        return open_library("bert", Path(__file__).with_suffix(".c"), FLAGS)
    except OSError:
        return None


def _fits(net: Bert) -> bool:
    config = net.config
    whole = config.d_model % PANEL == 0 and config.d_ff % PANEL == 0 and config.d_head % 16 == 0
    return whole and config.activation == "gelu" and net.embeddings.norm.weight.dtype == torch.float32


class NativeBert(nn.Module):
    """A Bert whose packed calls run in compiled code; any other call goes to the Bert itself.

    Weights are 8 bits with a scale for each output, states 8 bits with a scale and zero point for each token.
    """

    def __init__(self, net: Bert, library: ctypes.CDLL) -> None:
        super().__init__()
        self.net, self.config, self._library = net.eval(), net.config, library
        self._kept: list[Tensor] = []
        self._layers = (_Layer * len(net.layers))(*(self._layer(layer) for layer in net.layers))

    @torch.inference_mode()
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        lengths: Sequence[int] | None = None,
    ) -> EncoderOutput:
        """As `Bert` is called; with `lengths`, [1, total] packed tokens, in compiled code."""
        if lengths is None:
            output: EncoderOutput = self.net(input_ids, attention_mask, token_type_ids)
            return output
        net = self.net
        words = net.embed_tokens(input_ids)
        positions, mask = net.placed(words, input_ids, lengths=lengths)
        states = net.embeddings(words, positions, token_type_ids)[0].contiguous()
        bounds = torch.tensor(mask.bounds, dtype=torch.int32)
        config = self.config
        failed = self._library.kun_bert(
            self._layers,
            config.n_layers,
            config.d_model,
            config.d_ff,
            config.n_heads,
            ctypes.c_float(config.norm_eps),
            ctypes.c_void_p(states.data_ptr()),
            ctypes.c_void_p(bounds.data_ptr()),
            len(lengths),
            torch.get_num_threads(),
        )
        if failed:
            raise MemoryError("There is no memory left to encode texts.")
        return EncoderOutput(states[None], net.pooled(first_tokens(states[None], None, lengths)))

    def _layer(self, layer: nn.Module) -> "_Layer":
        assert isinstance(layer, Layer)
        attention, mlp = layer.attention, layer.mlp
        # Softmax in powers of two, and the scale of the scores, both in the queries.
        turn = torch.full((self.config.d_model,), LOG2_E / self.config.d_head**0.5)
        ones = torch.ones(2 * self.config.d_model)
        qkv = (attention.q, attention.k, attention.v)
        return _Layer(
            self._linear(qkv, torch.cat((turn, ones))),
            self._linear((attention.o,)),
            self._linear((mlp.up,)),
            self._linear((mlp.down,)),
            *(
                self._keep(getattr(norm, part))
                for norm in (layer.attention_norm, layer.mlp_norm)
                for part in PARTS
            ),
        )

    def _linear(self, parts: Sequence[nn.Linear], factor: Tensor | None = None) -> "_Linear":
        """Parts side by side, their outputs times `factor`, as the compiled code wants them."""
        weight = torch.cat([part.weight.detach() for part in parts]).float()
        bias = torch.cat([part.bias.detach() for part in parts]).float()
        scale = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        bytes_ = (weight / scale[:, None]).round().to(torch.int8)
        sums = bytes_.sum(dim=1, dtype=torch.int32)
        outputs, inputs = weight.shape
        panels = bytes_.view(outputs // PANEL, PANEL, inputs // 4, 4).transpose(1, 2).contiguous()
        factor = torch.ones(outputs) if factor is None else factor
        return _Linear(*(self._keep(tensor) for tensor in (panels, scale * factor, bias * factor, sums)))

    def _keep(self, tensor: Tensor) -> int:
        """The address of a tensor that lives as long as this network."""
        self._kept.append(tensor.detach().contiguous())
        return self._kept[-1].data_ptr()


PARTS = ("weight", "bias")


class _Linear(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("weights", "scale", "bias", "sums")]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Linear) for name in ("qkv", "o", "up", "down")),
        *((f"norm{n}_{part}", ctypes.c_void_p) for n in (1, 2) for part in PARTS),
    ]
