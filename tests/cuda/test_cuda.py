"""On a GPU: families, decoding and training compute what they compute on a processor, and what the reference does."""

import dataclasses
import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))
sys.path.insert(0, str(Path(__file__).parents[1] / "generation"))

from parity import DECODERS, ours, reference, tokens
from tiny import tokenizer

from kun.adaptation.quantize import QuantizedWeight, quantize
from kun.families import family_of, model_types
from kun.generation.options import SamplingOptions
from kun.models.language_model import LanguageModel

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]
DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def _whole_float32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_gives_the_logits_of_the_reference(name: str) -> None:
    expected = reference(name).to(DEVICE)
    network = ours(expected).to(DEVICE)
    ids = tokens(3, 40).to(DEVICE)
    assert torch.allclose(network(ids).logits, expected(ids).logits, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("model_type", model_types())
def test_every_family_gives_the_numbers_of_the_processor(model_type: str) -> None:
    family = family_of({"model_type": model_type})
    torch.manual_seed(0)
    network: Any = family.network(_tiny(family, model_type)).eval()
    ids, mask = torch.randint(5, 90, (2, 24)), torch.ones(2, 24, dtype=torch.long)
    mask[0, 17:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    if family.kind == "encoder-decoder":
        given["decoder_input_ids"] = torch.randint(5, 90, (2, 9))
    expected = network(**given)[0]
    on_gpu = deepcopy(network).to(DEVICE)
    found = on_gpu(**{key: tensor.to(DEVICE) for key, tensor in given.items()})[0].cpu()
    real = mask.bool() if found.shape[:2] == mask.shape else slice(None)
    assert torch.allclose(found[real], expected[real], atol=1e-3)


def _tiny(family: Any, model_type: str) -> Any:
    """The first published config of a model type, with few and small layers."""
    config = next(config for config in family.presets.values() if config.model_type == model_type)
    small = {"d_model": 64, "n_layers": 2, "n_decoder_layers": 2, "n_heads": 4, "n_decoder_heads": 4, "d_head": 16,
             "n_kv_heads": 4, "d_ff": 96, "d_decoder_ff": 96, "vocab_size": 96, "pad_id": 1, "pad_token": 1,
             "start_token": 1, "n_experts": 4, "sparse_step": 1, "decoder_sparse_step": 1, "n_sparse_layers": 1,
             "n_sparse_decoder_layers": 1, "windows": (), "window": None, "embedding_size": 64}  # fmt: skip
    fields = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(
        config,
        **{key: size for key, size in small.items() if key in fields and getattr(config, key) is not None},
    )


@torch.no_grad()
@pytest.mark.parametrize("weights", ["bfloat16", "int4"])
def test_decoding_takes_tokens_that_the_reference_finds_as_likely(weights: str) -> None:
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        vocab_size=260, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.1, max_position_embeddings=256,
    )  # fmt: skip
    expected = transformers.AutoModelForCausalLM.from_config(config).eval()
    network: Any = ours(expected)
    if weights == "int4":
        network = quantize(network, "int4")
        expected.load_state_dict(_unpacked(network, expected))
        network = network.to(DEVICE)
    else:
        network = network.to(DEVICE, torch.bfloat16)
    expected = expected.to(DEVICE)
    lm = LanguageModel(network, tokenizer(), network.config)
    prompt = list(b"The northern sea has a fish.")
    answer = lm.submit(prompt, SamplingOptions(max_tokens=48, temperature=0.0)).result()[0]
    ids = torch.tensor([prompt + answer.token_ids], device=DEVICE)
    logits = expected(ids).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, ids[0, len(prompt) :, None])[:, 0]
    # eight bits of precision through four layers
    assert (logits.amax(-1) - chosen).max() < 0.1 * logits.std()


def _unpacked(network: Any, expected: Any) -> dict[str, torch.Tensor]:
    """The weights that a quantized network computes with, by the reference's names."""
    floats = deepcopy(network)
    state = {
        f"{name}.weight": part.weight
        for name, part in floats.named_modules()
        if isinstance(part, QuantizedWeight)
    }
    rest = {
        name: tensor
        for name, tensor in floats.state_dict().items()
        if not name.endswith((".codes", ".scales"))
    }
    named: dict[str, torch.Tensor] = network.names.reference(state | rest)
    return {name: named[name] for name in expected.state_dict()}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_of_training_moves_the_weights_as_on_a_processor(optimizer: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The northern sea has a fish, its name is Kun. " * 60)
    (tmp_path / "recipe.toml").write_text(
        f"""
        stage = "pretrain"
        [model]
        family = "gpt2"
        n_layers = 2
        n_heads = 2
        d_model = 64
        tokenizer = "bytes"
        [data]
        train = "{tmp_path.as_posix()}/text.txt"
        [train]
        steps = 1
        batch_tokens = 512
        context = 64
        precision = "fp32"
        compile = false
        [optimizer]
        name = "{optimizer}"
        """
    )
    weights = []
    for place, hidden in (("gpu", {}), ("processor", {"CUDA_VISIBLE_DEVICES": ""})):
        command = [sys.executable, "-m", "kun", "train", "recipe.toml", "-o", f"out={place}"]
        subprocess.run(command, cwd=tmp_path, env=os.environ | hidden, check=True, capture_output=True)
        assert len((tmp_path / place / "metrics.jsonl").read_text().splitlines()) == 1
        weights.append(load_file(tmp_path / place / "checkpoint" / "model.safetensors"))
    on_gpu, on_processor = weights
    for name, expected in on_processor.items():
        assert torch.allclose(on_gpu[name], expected, atol=2e-5), name
    losses = [
        json.loads((tmp_path / place / "metrics.jsonl").read_text())["loss"] for place in ("gpu", "processor")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
