"""Checkpoints that Kun does not read as they are: each is refused by its true cause, with the way out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import byte_level_tokenizer

import kun
from kun.errors import DamagedFile, UnsupportedFormat
from kun.families import family_of
from kun.hub.opening import open_checkpoint

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daa\nsize 13\n"
)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_weights_that_git_did_not_fetch_are_called_so(llama_folder: Path) -> None:
    (llama_folder / "kun.json").unlink()
    (llama_folder / "model.safetensors").write_text(POINTER)
    with pytest.raises(DamagedFile, match=r"model\.safetensors is a git-lfs pointer.*git lfs pull"):
        open_checkpoint(llama_folder).network()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_tokenizer_that_git_did_not_fetch_is_called_so(llama_folder: Path, name: str) -> None:
    for path in ("kun.json", "tokenizer.json"):
        (llama_folder / path).unlink()
    (llama_folder / name).write_text(POINTER)
    with pytest.raises(DamagedFile, match=rf"{name} is a git-lfs pointer.*git lfs pull"):
        _ = open_checkpoint(llama_folder).tokenizer


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_weights_that_another_program_quantized_are_refused_by_its_name(
    llama_folder: Path, method: str
) -> None:
    change_config(llama_folder, quantization_config={"quant_method": method, "bits": 4, "group_size": 128})
    with pytest.raises(UnsupportedFormat, match=rf"{method.upper()} .*before it was quantized, or as GGUF"):
        kun.load(llama_folder)


@pytest.mark.parametrize("model_type", ["gpt_neox", "qwen3_moe", "qwen2_moe"])
def test_an_unknown_architecture_is_refused_by_its_name(llama_folder: Path, model_type: str) -> None:
    change_config(llama_folder, model_type=model_type)
    with pytest.raises(UnsupportedFormat, match=f"does not read the architecture '{model_type}'") as caught:
        kun.load(llama_folder)
    assert "did you mean" not in str(caught.value)


def test_a_folder_without_any_tokenizer_says_which_files_it_could_have(llama_folder: Path) -> None:
    (llama_folder / "kun.json").unlink()
    (llama_folder / "tokenizer.json").unlink()
    with pytest.raises(DamagedFile, match=r"holds no tokenizer.*tokenizer\.model"):
        _ = open_checkpoint(llama_folder).tokenizer


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    """A LlamaModel as transformers saves it: no head, and no prefix before the names."""
    config = transformers.LlamaConfig(
        vocab_size=360, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaModel(config).save_pretrained(tmp_path / "bare")
    byte_level_tokenizer().save(str(tmp_path / "bare" / "tokenizer.json"))
    return tmp_path / "bare"


@torch.no_grad()
def test_a_decoder_without_its_head_gives_the_references_states_and_says_that_it_writes_nothing(
    headless: Path,
) -> None:
    model = kun.load(headless)
    ids = torch.tensor([[5, 6, 7, 8]])
    wanted = transformers.AutoModel.from_pretrained(headless).eval()(ids).last_hidden_state
    assert torch.equal(model.net.states(ids), wanted)
    for ask in (lambda: model.generate("hello"), lambda: model.prompt_logprobs("hello there")):
        with pytest.raises(UnsupportedFormat, match=r"is a LlamaModel.*without the layer that scores words"):
            ask()


def test_a_decoder_without_its_head_is_saved_as_one(headless: Path, tmp_path: Path) -> None:
    kun.save(kun.load(headless), tmp_path / "again")
    saved, again = (load_file(folder / "model.safetensors") for folder in (headless, tmp_path / "again"))
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architectures"] == ["LlamaModel"]
    assert len(saved) == len(again)
    loaded, report = transformers.AutoModel.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not report["missing_keys"]
    assert torch.equal(loaded.norm.weight, saved["norm.weight"])


def test_a_lost_head_is_still_a_fault_where_the_class_has_one(llama_folder: Path) -> None:
    path = llama_folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "lm_head.weight"}, path)
    change_config(llama_folder, tie_word_embeddings=False)
    (llama_folder / "kun.json").unlink()
    with pytest.raises(DamagedFile, match=r"lack lm_head\.weight"):
        open_checkpoint(llama_folder).network()


def test_mistral_opens_with_its_window_and_is_saved_as_mistral() -> None:
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
    config = {"model_type": "mistral", **sizes, "sliding_window": 16}
    net = family_of(config).network(family_of(config).config.from_hf(config))
    assert net.windows() == {16}
    saved = net.config.to_hf()
    assert (saved["model_type"], saved["architectures"]) == ("mistral", ["MistralForCausalLM"])
    assert saved["sliding_window"] == 16
