"""Models out of Kun: what was in comes out again, and what a format cannot hold is refused by name."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tiny_models import CORPUS, LLAMA, TEMPLATE, GgufMaker, network, save_encoder
from tokenizers import Tokenizer

import kun
from kun.adaptation.lora import LoraConfig, add_lora
from kun.errors import BadInput, UnsupportedFormat
from kun.hub.adapter import AdapterCheckpoint
from kun.hub.adapter_saving import save_adapter
from kun.hub.checkpoint import Checkpoint
from kun.hub.convert import convert
from kun.hub.export.exporting import Export
from kun.hub.export.gguf import planned
from kun.hub.layout import write_sentence_layout
from kun.hub.opening import open_checkpoint
from kun.hub.saving import save_checkpoint

GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
BLOOM = {"model_type": "bloom", "hidden_size": 64, "n_layer": 2, "n_head": 4}
BERT = {
    "model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 96, "max_position_embeddings": 128,
}  # fmt: skip
SCALED: dict[str, Any] = {
    "linear": {"rope_type": "linear", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama, untied": LLAMA | {"tie_word_embeddings": False},
    "llama with biases": LLAMA | {"attention_bias": True, "mlp_bias": True},
    **{f"llama, {name}": LLAMA | {"rope_scaling": scaling} for name, scaling in SCALED.items()},
    "qwen2": LLAMA | {"model_type": "qwen2"},
    "qwen3": LLAMA | {"model_type": "qwen3", "head_dim": 32},
    "ernie4_5": LLAMA | {"model_type": "ernie4_5", "head_dim": 16},
    "gpt2": GPT2,
    "gpt2, untied": GPT2 | {"tie_word_embeddings": False},
    "bloom": BLOOM,
    "bert": BERT,
}


def checkpoint_of(
    folder: Path, tokenizer: Tokenizer, config: dict[str, Any], name: str = "tiny"
) -> Checkpoint:
    net = network(config | {"vocab_size": tokenizer.get_vocab_size()})
    with torch.no_grad():
        for weight in net.parameters():  # norms and biases too, which start at one and zero
            weight.add_(torch.randn_like(weight) * 0.1)
    ends = {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 0}
    path = save_checkpoint(
        folder / name,
        net,
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
        generation_config=ends,
        lineage={"licence": "Apache-2.0"},
    )
    return open_checkpoint(path)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_gguf_holds_the_same_network(tmp_path: Path, tokenizer: Tokenizer, name: str) -> None:
    checkpoint = checkpoint_of(tmp_path, tokenizer, CONFIGS[name])
    net: Any = checkpoint.network()
    back: Any = open_checkpoint(Export.of(checkpoint, "gguf", None).write(tmp_path / "out").path).network()
    assert back.config == net.config
    for part, weight in back.state_dict().items():
        torch.testing.assert_close(weight, net.state_dict()[part], atol=0, rtol=0)


def test_a_mistral_without_a_window_is_exported_as_the_llama_that_it_is(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config = LLAMA | {"model_type": "mistral", "sliding_window": None}
    checkpoint = checkpoint_of(tmp_path, tokenizer, config)
    net: Any = checkpoint.network()
    back = open_checkpoint(Export.of(checkpoint, "gguf", None).write(tmp_path / "out").path)
    assert back.config["model_type"] == "llama"
    for part, weight in back.network().state_dict().items():
        torch.testing.assert_close(weight, net.state_dict()[part], atol=0, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_tensor_has_a_name_that_llama_cpp_knows(tokenizer: Tokenizer, name: str) -> None:
    net: Any = network(CONFIGS[name] | {"vocab_size": tokenizer.get_vocab_size()})
    architecture = {"bert": gguf.MODEL_ARCH.BERT}.get(net.config.model_type) or next(
        arch for arch, known in gguf.MODEL_ARCH_NAMES.items() if known == net.config.model_type
    )
    known = {gguf.TENSOR_NAMES[tensor].format(bid=0) for tensor in gguf.MODEL_TENSORS[architecture]}
    written = {
        tensor.name.rpartition(".")[0] for tensor in planned(net, "F32") if "blk.1." not in tensor.name
    }
    assert written <= known


def test_everything_about_text_and_chat_comes_along(tmp_path: Path, tokenizer: Tokenizer) -> None:
    checkpoint = checkpoint_of(tmp_path, tokenizer, LLAMA)
    back = open_checkpoint(Export.of(checkpoint, "gguf", "F16").write(tmp_path / "out").path)
    assert back.chat_template is not None
    assert back.chat_template.source == TEMPLATE
    assert back.generation_config["eos_token_id"] == [2, 0]
    assert back.special_tokens["pad_token"] == checkpoint.special_tokens["pad_token"]
    for text in CORPUS:
        assert back.tokenizer.encode(text).ids == tokenizer.encode(text).ids


def test_a_second_export_of_a_quantized_gguf_is_the_first(tmp_path: Path, tokenizer: Tokenizer) -> None:
    once = Export.of(checkpoint_of(tmp_path, tokenizer, LLAMA), "gguf", "Q8_0").write(tmp_path / "once").path
    twice = Export.of(open_checkpoint(once), "gguf", "Q8_0").write(tmp_path / "twice").path
    first, second = open_checkpoint(once).state(), open_checkpoint(twice).state()
    assert all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_0", "Q4_1", "BF16"])
def test_what_a_reader_finds_is_what_rounding_the_network_says(
    tmp_path: Path, tokenizer: Tokenizer, dtype: str
) -> None:
    checkpoint = checkpoint_of(tmp_path, tokenizer, GPT2)
    export = Export.of(checkpoint, "gguf", dtype)
    back: Any = open_checkpoint(export.write(tmp_path / "out").path).network()
    rounded: Any = checkpoint.network(dtype="float32")
    rounded.load_state_dict(
        {name: weight.clone() for name, weight in rounded.state_dict().items()}, assign=True
    )
    export.round(rounded)
    assert all(torch.equal(weight, rounded.state_dict()[name]) for name, weight in back.state_dict().items())


def test_the_hugging_face_layout_takes_another_element_type(tmp_path: Path, tokenizer: Tokenizer) -> None:
    checkpoint = checkpoint_of(tmp_path, tokenizer, LLAMA)
    back = open_checkpoint(Export.of(checkpoint, "hf", "bfloat16").write(tmp_path / "out").path)
    assert back.config["torch_dtype"] == "bfloat16"
    for name, weight in checkpoint.state().items():
        assert torch.equal(back.state()[name], weight.bfloat16())


def test_what_is_refused_at_its_proof_leaves_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    checkpoint = checkpoint_of(tmp_path, tokenizer, LLAMA)

    def refuse(path: Path) -> None:
        assert path.exists()
        raise BadInput("no")

    for format in ("hf", "gguf"):
        with pytest.raises(BadInput, match="no"):
            Export.of(checkpoint, format, None).write(tmp_path / "out" / format, check=refuse)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "gpt_neo", "hidden_size": 64, "num_layers": 2, "num_heads": 4,
          "attention_types": [[["global", "local"], 1]]}, "does not know the architecture gpt_neo"),
        (LLAMA | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "length of the text"),
        (LLAMA | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
         "window"),
        (GPT2 | {"activation_function": "relu"}, "activation is relu"),
        (BERT | {"architectures": ["BertForMaskedLM"]}, "head MaskedLM"),
    ],
    ids=["architecture", "scaling", "window", "activation", "head"],
)  # fmt: skip
def test_what_gguf_cannot_hold_is_refused_with_the_reason(
    tmp_path: Path, tokenizer: Tokenizer, config: dict[str, Any], why: str
) -> None:
    with pytest.raises(UnsupportedFormat, match=why):
        Export.of(checkpoint_of(tmp_path, tokenizer, config), "gguf", None)


def encoder_pooled_by(folder: Path, way: str) -> Checkpoint:
    path = save_encoder(folder)
    write_sentence_layout(path, 32, 256, way, {})
    return open_checkpoint(path)


@pytest.mark.parametrize("way", ["mean", "cls"])
def test_an_encoder_pools_in_every_form_as_it_did(tmp_path: Path, way: str) -> None:
    base = encoder_pooled_by(tmp_path / "base", way)
    net = add_lora(base.network("float32"), LoraConfig(rank=2))
    adapter = AdapterCheckpoint.open(save_adapter(tmp_path / "adapter", net, origin=base), base=base)
    for number, origin in enumerate((base, adapter)):
        file = open_checkpoint(Export.of(origin, "gguf", None).write(tmp_path / f"{number}.gguf").path)
        back = open_checkpoint(Export.of(file, "hf", None).write(tmp_path / f"back-{number}").path)
        pulled = tmp_path / f"pulled-{number}"
        pulled.mkdir()
        convert(file.path, pulled, {})
        assert [each.pooling for each in (file, back, open_checkpoint(pulled))] == [way] * 3
        encoder: Any = kun.load(file.path)
        assert encoder.recipe.pooling == way


def test_pooling_by_the_maximum_is_refused_by_a_gguf(tmp_path: Path) -> None:
    export = Export.of(encoder_pooled_by(tmp_path / "base", "max"), "gguf", None)
    with pytest.raises(UnsupportedFormat, match="pools by max, and GGUF has mean and cls"):
        export.write(tmp_path / "out")


def test_wrong_words_are_answered_with_the_right_ones(tmp_path: Path, tokenizer: Tokenizer) -> None:
    checkpoint = checkpoint_of(tmp_path, tokenizer, LLAMA)
    with pytest.raises(BadInput, match="hf, gguf"):
        Export.of(checkpoint, "onnx", None)
    with pytest.raises(BadInput, match="Q4_1"):
        Export.of(checkpoint, "gguf", "Q3_K")
    with pytest.raises(BadInput, match="the model itself"):
        Export.of(checkpoint, "hf", None).write(checkpoint.path)


def test_only_an_earlier_export_of_the_same_model_is_replaced(tmp_path: Path, tokenizer: Tokenizer) -> None:
    mine, other = (
        checkpoint_of(tmp_path, tokenizer, config, name)
        for name, config in (("mine", LLAMA), ("other", LLAMA | {"hidden_size": 32}))
    )
    for _ in range(2):
        Export.of(mine, "hf", None).write(tmp_path / "out")
    before = open_checkpoint(tmp_path / "out").identity
    with pytest.raises(BadInput, match="holds another model"):
        Export.of(other, "hf", None).write(tmp_path / "out")
    assert open_checkpoint(tmp_path / "out").identity == before


def test_a_gguf_takes_the_place_of_an_earlier_export_of_the_same_model_alone(
    tmp_path: Path, tokenizer: Tokenizer, make_gguf: GgufMaker
) -> None:
    mine, other = (
        checkpoint_of(tmp_path / name, tokenizer, config)  # both are called tiny
        for name, config in (("mine", LLAMA), ("other", LLAMA | {"hidden_size": 32}))
    )
    for _ in range(2):
        path = Export.of(mine, "gguf", "F16").write(tmp_path / "out").path
    notes = tmp_path / "notes.gguf"
    notes.write_text("notes")
    for checkpoint, target in ((other, tmp_path / "out"), (mine, make_gguf("downloaded")), (mine, notes)):
        file = path if target.is_dir() else target
        before = file.read_bytes()
        with pytest.raises(BadInput, match="is another model"):
            Export.of(checkpoint, "gguf", "F16").write(target)
        assert file.read_bytes() == before


def test_a_gguf_goes_to_the_file_that_was_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    checkpoint = checkpoint_of(tmp_path, tokenizer, LLAMA)
    named = tmp_path / "odd 名 [x]" / "鲲.gguf"
    assert Export.of(checkpoint, "gguf", "Q8_0").write(named).path == named
    with pytest.raises(BadInput, match="the model itself"):
        Export.of(open_checkpoint(named), "gguf", "Q8_0").write(named)
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(BadInput, match=r"ends in \.gguf"):
        Export.of(checkpoint, "gguf", None).write(tmp_path / "notes.txt")
