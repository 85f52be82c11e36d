"""Adapters go to `peft` and come from it, in every family: the same tensors, the same logits."""

import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))

import expert_pairs
from parity import DECODERS, VOCAB, bert_config, reference, tokens

from kun.adaptation.lora import LoraConfig, add_lora, lora_pairs, merge
from kun.hub.adapter import AdapterCheckpoint
from kun.hub.adapter_saving import save_adapter
from kun.hub.checkpoint import Checkpoint
from kun.hub.opening import open_checkpoint

NAMES = [
    "llama-default", "llama-biased", "qwen2", "qwen3", "ernie4.5", "gpt1", "gpt2", "gpt3-odd-heads", "glm",
    "bloom-odd-heads",
]  # fmt: skip


def base_of(theirs: Any, folder: Path) -> Checkpoint:
    """The reference's model as a checkpoint, with a tokenizer that nobody asks."""
    theirs.save_pretrained(folder)
    Tokenizer(models.WordLevel({str(i): i for i in range(VOCAB)}, unk_token="0")).save(
        str(folder / "tokenizer.json")
    )
    return open_checkpoint(folder)


def randomized(net: nn.Module) -> nn.Module:
    """Pairs that change the outputs, as training would."""
    torch.manual_seed(3)
    for pair in lora_pairs(net).values():
        nn.init.normal_(pair.b, std=0.3)
    return net


def asked(net: Any, decoder: bool = False) -> torch.Tensor:
    given = {"decoder_input_ids": tokens(2, 5)} if decoder else {}
    with torch.no_grad():
        out = net(input_ids=tokens(2, 11), **given)
    return out.logits if hasattr(out, "logits") else out.last_hidden_state


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=2e-4, atol=2e-4)


def other(name: str) -> Any:
    """Tiny models of the reference that write from a source, or only read."""
    torch.manual_seed(7)
    if name == "switch":
        return expert_pairs.reference("switch")
    sizes = {"vocab_size": VOCAB, "d_model": 32, "d_ff": 48, "pad_token_id": 0, "decoder_start_token_id": 0}
    if name == "t5":
        config: Any = transformers.T5Config(
            **sizes, d_kv=8, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
        )
        return transformers.T5ForConditionalGeneration(config).eval()
    if name == "marian":
        sizes |= {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 32}
        heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_layers": 2}
        config = transformers.MarianConfig(**sizes, **heads, decoder_layers=2, activation_function="relu")
        return transformers.MarianMTModel(config).eval()
    if name == "xlnet":
        config = transformers.XLNetConfig(vocab_size=VOCAB, d_model=32, n_layer=2, n_head=4, d_inner=48)
        return transformers.XLNetLMHeadModel(config).eval()
    return transformers.AutoModel.from_config(bert_config(), attn_implementation="sdpa").eval()


@pytest.mark.parametrize("name", [*NAMES, "t5", "marian", "switch", "bert", "xlnet"])
def test_an_adapter_of_ours_computes_the_same_in_peft(name: str, tmp_path: Path) -> None:
    theirs = reference(name) if name in DECODERS else other(name)
    base = base_of(theirs, tmp_path / "base")
    net = randomized(add_lora(base.network(), LoraConfig(rank=3, alpha=5)))
    save_adapter(tmp_path / "adapter", net, origin=base)
    loaded = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    source = base.kind == "encoder-decoder"
    close(asked(net, source), asked(loaded, source))
    assert (asked(net, source) - asked(base.network(), source)).abs().max() > 0.01
    again = AdapterCheckpoint.open(tmp_path / "adapter")
    close(asked(again.adapted(), source), asked(net, source))
    close(asked(again.network(), source), asked(merge(net), source))


@pytest.mark.parametrize("rooted", [False, True])
@pytest.mark.parametrize("name", [*NAMES, "t5", "marian", "bert"])
def test_an_adapter_of_peft_computes_the_same_here(name: str, rooted: bool, tmp_path: Path) -> None:
    theirs = reference(name) if name in DECODERS else other(name)
    base = base_of(theirs, tmp_path / "base")
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules="all-linear", use_rslora=rooted, rank_pattern={".*[.]1[.].*": 2}
    )
    adapted = peft.get_peft_model(theirs, config)
    for parameter_name, parameter in adapted.named_parameters():
        if "lora_B" in parameter_name:
            nn.init.normal_(parameter, std=0.3)
    adapted.eval().save_pretrained(tmp_path / "adapter")
    source = base.kind == "encoder-decoder"
    wanted = asked(adapted, source)
    checkpoint = AdapterCheckpoint.open(tmp_path / "adapter", base)
    close(asked(checkpoint.network(), source), wanted)
    # and back again: what came from a layer of theirs needs no more than its rank
    net = checkpoint.adapted()
    save_adapter(tmp_path / "again", net, origin=base)
    sizes = [
        (path / "adapter_model.safetensors").stat().st_size
        for path in (tmp_path / "adapter", tmp_path / "again")
    ]
    assert sizes[1] <= 1.1 * sizes[0]
    fresh = reference(name) if name in DECODERS else other(name)
    close(asked(peft.PeftModel.from_pretrained(fresh, tmp_path / "again").eval(), source), wanted)
