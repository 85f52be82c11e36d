"""The names of tensors in Hugging Face's files of both networks, and ours."""

import re
from collections.abc import Mapping

from torch import Tensor

from kun.networks.names import Names, State
from kun.networks.stack_names import StackNames

COPIES = ("encoder.embed.weight", "decoder.embed.weight")
"""Copies of the embedding that a file may hold, by our names."""

_OURS = (re.compile(r"\.experts\.expert_(\d+)\."), r".experts.\1.")
_REFERENCE = (re.compile(r"\.experts\.(\d+)\."), r".experts.expert_\1.")
_ROUTER = Names((("router", "router.classifier"),))


class ExpertNames(StackNames):
    """A map of both stacks, whose experts have numbers in their names."""

    def reference(self, state: Mapping[str, Tensor]) -> State:
        """With the embedding three times where the head is not tied to it: the reference then ties none."""
        made = super().reference(state)
        if "lm_head.weight" in state:
            made |= {self.reference_name(name): state["embed.weight"].clone() for name in COPIES}
        return made

    def our_name(self, name: str) -> str:
        return super().our_name(_OURS[0].sub(_OURS[1], _ROUTER.ours(name)))

    def reference_name(self, name: str) -> str:
        return _REFERENCE[0].sub(_REFERENCE[1], super().reference_name(_ROUTER.reference(name)))


_NLLB = Names(
    (
        ("embed", "embed_tokens"),
        ("attention_norm", "self_attn_layer_norm"),
        ("attention", "self_attn"),
        ("cross_norm", "cross_attention_layer_norm"),
        ("cross", "cross_attention"),
        ("mlp_norm", "ff_layer_norm"),
        ("mlp", "ffn"),
        ("norm", "layer_norm"),
        ("q", "q_proj"),
        ("k", "k_proj"),
        ("v", "v_proj"),
        ("o", "out_proj"),
        ("up", "fc1"),
        ("down", "fc2"),
    )
)

NLLB_NAMES = ExpertNames(
    Names((("embed", "shared"),)), _NLLB, _NLLB, prefix="model.", left_out=("embed_positions.weights",)
)
"""Of `nllb-moe`; the sinusoids that older files store follow from the config."""
