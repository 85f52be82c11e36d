"""Tiny networks with experts: the reference's and ours, the same weights in both."""

from typing import Any

import torch
import transformers
from torch import Tensor, nn

VOCAB = 97


def switch_config(**changes: Any) -> transformers.SwitchTransformersConfig:
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB, "d_model": 32, "d_kv": 12, "d_ff": 48, "num_heads": 4, "num_layers": 4,
        "num_decoder_layers": 6, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2,
        "num_experts": 5, "initializer_factor": 0.7, "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
    }  # fmt: skip
    return transformers.SwitchTransformersConfig(**(sizes | changes))


def nllb_config(**changes: Any) -> transformers.NllbMoeConfig:
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB, "d_model": 32, "encoder_layers": 4, "decoder_layers": 3, "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 40, "encoder_attention_heads": 4, "decoder_attention_heads": 2, "num_experts": 5,
        "encoder_sparse_step": 2, "decoder_sparse_step": 3, "init_std": 0.2, "max_position_embeddings": 64,
    }  # fmt: skip
    return transformers.NllbMoeConfig(**(sizes | changes))


PAIRS: dict[str, Any] = {
    "switch": (switch_config, {}),
    "switch-untied": (switch_config, {"tie_word_embeddings": False, "router_bias": True}),
    "switch-every-layer": (switch_config, {"num_sparse_encoder_layers": 4, "num_sparse_decoder_layers": 6}),
    "switch-none-asked-for": (
        switch_config,
        {"num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 0},
    ),
    "switch-gelu": (switch_config, {"dense_act_fn": "gelu_new"}),
    "nllb": (nllb_config, {}),
    "nllb-untied": (
        nllb_config,
        {"tie_word_embeddings": False, "router_bias": True, "scale_embedding": False},
    ),
    "nllb-normalized": (
        nllb_config,
        {"normalize_router_prob_before_dropping": True, "batch_prioritized_routing": True},
    ),
    "nllb-dense-decoder": (nllb_config, {"decoder_sparse_step": 0, "activation_function": "gelu"}),
}


def reference(name: str, **changes: Any) -> nn.Module:
    """The reference's tiny model called `name`, in evaluation mode, biases and norms random too."""
    torch.manual_seed(7)
    make, own = PAIRS[name]
    net = transformers.AutoModelForSeq2SeqLM.from_config(make(**(own | changes)))
    if not net.config.tie_word_embeddings:  # transformers 5 then lets go of the encoder's and decoder's too
        whole = net.model if hasattr(net, "model") else net
        whole.encoder.embed_tokens = whole.decoder.embed_tokens = whole.shared
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=1.0, std=0.2)
    return net.eval()


def each_to_its_own(experts: Any, x: Tensor, first: Tensor, gates: Tensor) -> Tensor:
    """What the reference's `NllbMoeExperts.forward` is meant to do.

    transformers 5.23 takes the one-hot mask of first experts for their numbers, and so runs the networks
    0 and 1 for every token, whichever the router chose.
    """
    mixed = torch.zeros_like(x)
    for number in range(experts.num_experts):
        mine = gates[:, number] > 0
        if not mine.any():
            continue
        made = experts[f"expert_{number}"](x[mine]) * gates[mine, number, None]
        if not experts.training:
            made = made * (1 - experts.moe_token_dropout)
        mixed = mixed.index_put((mine,), made, accumulate=True)
    return mixed
