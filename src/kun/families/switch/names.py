"""The names of tensors in Hugging Face's files of both networks, and ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from kun.networks.names import Names, State

_EXPERT = (re.compile(r"\.experts\.(\d+)\."), r".experts.expert_\1.")
_THEIR_EXPERT = (re.compile(r"\.experts\.expert_(\d+)\."), r".experts.\1.")


@dataclass(frozen=True)
class ExpertNames:
    """How the parts are called under the `prefix` that all but the head have; `shared` are outside both stacks."""

    prefix: str
    shared: Names
    encoder: Names
    decoder: Names

    def ours(self, state: Mapping[str, Tensor]) -> State:
        return {self._ours(name.removeprefix(self.prefix)): tensor for name, tensor in state.items()}

    def theirs(self, state: Mapping[str, Tensor]) -> State:
        """With the embedding three times where the head is not tied to it: the reference then ties none."""
        theirs = {self._theirs(name): tensor for name, tensor in state.items()}
        if "lm_head.weight" in state:
            for stack in ("encoder", "decoder"):
                theirs[f"{self.prefix}{stack}.embed_tokens.weight"] = state["embed.weight"].clone()
        return theirs

    def _ours(self, name: str) -> str:
        return self._part(name).ours(_THEIR_EXPERT[0].sub(_THEIR_EXPERT[1], name))

    def _theirs(self, name: str) -> str:
        theirs = _EXPERT[0].sub(_EXPERT[1], self._part(name).theirs(name))
        return theirs if name.startswith("lm_head.") else self.prefix + theirs

    def _part(self, name: str) -> Names:
        stacks = {"encoder": self.encoder, "decoder": self.decoder}
        return stacks.get(name.split(".", 1)[0], self.shared)


_T5 = (
    ("relative.table", "block.0.layer.0.SelfAttention.relative_attention_bias"),
    ("layers", "block"),
    ("embed", "embed_tokens"),
    ("attention_norm", "layer.0.layer_norm"),
    ("attention", "layer.0.SelfAttention"),
    ("norm", "final_layer_norm"),
)
_ROUTER = ("router", "router.classifier")
_UNITS = (_ROUTER, ("up", "wi"), ("down", "wo"))
_GATED_UNITS = (_ROUTER, ("gate", "wi_0"), ("up", "wi_1"), ("down", "wo"))


def switch_names(state: Mapping[str, Tensor]) -> ExpertNames:
    """Of `switch_transformers`. Its class knows no gated units: where a `state` has them, they are T5's."""
    gated = any(".wi_0." in name or ".gate." in name for name in state)
    units = _GATED_UNITS if gated else _UNITS
    encoder = (("mlp_norm", "layer.1.layer_norm"), ("mlp", "layer.1.mlp"))
    decoder = (
        ("cross_norm", "layer.1.layer_norm"),
        ("cross", "layer.1.EncDecAttention"),
        ("mlp_norm", "layer.2.layer_norm"),
        ("mlp", "layer.2.mlp"),
    )
    shared, of_encoder, of_decoder = ((("embed", "shared"),), _T5 + encoder + units, _T5 + decoder + units)
    return ExpertNames("", Names(shared), Names(of_encoder), Names(of_decoder))


_ATTENTION = (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "out_proj"))
_FAIRSEQ = (
    ("embed", "embed_tokens"),
    ("attention_norm", "self_attn_layer_norm"),
    ("attention", "self_attn"),
    ("cross_norm", "cross_attention_layer_norm"),
    ("cross", "cross_attention"),
    ("mlp_norm", "ff_layer_norm"),
    ("mlp", "ffn"),
    _ROUTER,
    ("norm", "layer_norm"),
    *_ATTENTION,
    ("up", "fc1"),
    ("down", "fc2"),
)

NLLB_NAMES = ExpertNames("model.", Names((("embed", "shared"),)), Names(_FAIRSEQ), Names(_FAIRSEQ))
"""Of `nllb-moe`."""
