"""Checkpoints: written so that transformers loads them, read so that nothing damaged passes."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from tiny_models import LLAMA, TEMPLATE, network
from tokenizers import Tokenizer

from kun import atomic_files as files
from kun.errors import BadInput, DamagedFile, KunError, NoSpace, UnsupportedFormat
from kun.hub import saving
from kun.hub.layout import write_sentence_layout
from kun.hub.lazy import LazyTensor
from kun.hub.opening import open_checkpoint
from kun.hub.saving import save_checkpoint
from kun.hub.weights import INDEX, SINGLE, Weights, read_header, write_weights

IDS = torch.tensor([[5, 80, 200, 3, 41]])
MESSAGES = [{"role": "user", "content": "你好, what's 1+1?"}]
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "untied": LLAMA | {"tie_word_embeddings": False},
    "qwen2": LLAMA | {"model_type": "qwen2", "tie_word_embeddings": False},
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
}


def logits_of(net: Any) -> torch.Tensor:
    with torch.inference_mode():
        return net(IDS).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_loads_what_is_saved_as_it_stands(
    name: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net = network(CONFIGS[name] | {"vocab_size": tokenizer.get_vocab_size()})
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    folder = save_checkpoint(
        tmp_path / name, net, tokenizer=tokenizer, chat_template=TEMPLATE, generation_config=generation
    )
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(logits_of(reference), logits_of(net), atol=1e-5, rtol=1e-5)
    words = AutoTokenizer.from_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    text = "Hello 1234, 你好 🙂<|im_end|> x"
    assert words(text).input_ids == checkpoint.tokenizer.encode(text).ids == tokenizer.encode(text).ids
    assert checkpoint.chat_template is not None
    rendered = words.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert checkpoint.chat_template.render(MESSAGES) == rendered
    assert words.eos_token == "<|im_end|>"
    assert torch.equal(logits_of(checkpoint.network()), logits_of(net))


def test_what_transformers_saves_is_loaded(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    reference = LlamaForCausalLM(LlamaConfig(vocab_size=360, **LLAMA)).eval()
    reference.save_pretrained(tmp_path, max_shard_size="100KB")
    assert (tmp_path / INDEX).is_file()
    net = open_checkpoint(tmp_path).network()
    torch.testing.assert_close(logits_of(net), logits_of(reference), atol=1e-5, rtol=1e-5)


def test_a_text_encoder_keeps_its_pooling_and_prompts_and_transformers_loads_it(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    from transformers import AutoModel

    from kun.hub.layout import read_json, write_sentence_layout

    config = {
        "model_type": "bert", "vocab_size": 360, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64,
    }  # fmt: skip
    net = network(config)
    first = save_checkpoint(tmp_path / "first", net, tokenizer=tokenizer)
    write_sentence_layout(first, 32, 64, "cls", {"query": "q: "})
    again = save_checkpoint(
        tmp_path / "again",
        net,
        tokenizer=tokenizer,
        origin=open_checkpoint(first),
        lineage={"licence": "MIT"},
    )
    assert read_json(again / "1_Pooling" / "config.json")["pooling_mode_cls_token"] is True
    assert read_json(again / "config_sentence_transformers.json")["prompts"] == {"query": "q: "}
    assert open_checkpoint(again).lineage["parents"][0]["name"] == "first"
    assert open_checkpoint(again).kind == "encoder"
    reference = AutoModel.from_pretrained(again).eval()
    with torch.inference_mode():
        torch.testing.assert_close(
            net(IDS).last_hidden_state, reference(IDS).last_hidden_state, atol=1e-5, rtol=1e-5
        )


def test_large_weights_are_sharded_and_read_back(tmp_path: Path) -> None:
    arrays = {f"t{n}": np.full((4, 8), n, np.float32) for n in range(5)}
    lazy = {name: LazyTensor(array.shape, lambda array=array: array) for name, array in arrays.items()}
    records = write_weights(tmp_path, lazy, shard_bytes=300)
    assert sorted(records) == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    loaded = Weights.open(tmp_path).load()
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        n: a.tolist() for n, a in arrays.items()
    }


def test_what_is_written_is_what_safetensors_itself_would_read(tmp_path: Path, llama_folder: Path) -> None:
    from safetensors.torch import load_file

    reference = load_file(llama_folder / SINGLE)
    ours = Weights.open(llama_folder).load()
    assert reference.keys() == ours.keys()
    assert all(torch.equal(reference[name], ours[name]) for name in ours)


def test_verify_finds_one_changed_byte_and_names_both_digests(llama_folder: Path) -> None:
    open_checkpoint(llama_folder).verify()
    before = open_checkpoint(llama_folder).identity
    path = llama_folder / SINGLE
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    recorded = json.loads((llama_folder / "kun.json").read_bytes())["weights"][SINGLE]["sha256"]
    with pytest.raises(DamagedFile, match=recorded):
        open_checkpoint(llama_folder).verify()
    assert open_checkpoint(llama_folder).identity != before


def test_an_identity_is_the_same_for_a_copy(llama_folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(llama_folder, tmp_path / "copy")
    assert open_checkpoint(copy).identity == open_checkpoint(llama_folder).identity


def test_truncated_weights_are_named_when_they_are_opened(llama_folder: Path) -> None:
    path = llama_folder / SINGLE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedFile, match=r"model\.safetensors"):
        open_checkpoint(llama_folder)
    (llama_folder / "kun.json").unlink()  # a folder that Kun did not write says nothing of sizes
    with pytest.raises(DamagedFile, match=r"model\.safetensors"):
        open_checkpoint(llama_folder).network()


def _safetensors(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


LIES = {
    "header longer than the file": struct.pack("<Q", 2**40) + b"{}",
    "header that is no JSON": _safetensors(b"{nonsense", b""),
    "header that is a list": _safetensors([], b""),
    "offsets beyond the file": _safetensors(
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"1234"
    ),
    "shape that does not fit": _safetensors(
        {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}}, b"1" * 16
    ),
    "negative shape": _safetensors(
        {"a": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}}, b"1" * 16
    ),
    "huge shape": _safetensors(
        {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}}, b"1" * 16
    ),
    "unknown dtype": _safetensors({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}, b"1" * 16),
    "overlap": _safetensors(
        {
            "a": {"dtype": "U8", "shape": [16], "data_offsets": [0, 16]},
            "b": {"dtype": "U8", "shape": [8], "data_offsets": [8, 16]},
        },
        b"1" * 16,
    ),
    "bytes that nobody owns": _safetensors(
        {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, b"1" * 16
    ),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused_by_name(tmp_path: Path, lie: str) -> None:
    path = tmp_path / SINGLE
    path.write_bytes(LIES[lie])
    with pytest.raises(DamagedFile, match=r"model\.safetensors"):
        read_header(path)


@limits(max_examples=200)
@given(damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_header_gives_weights_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    array = np.arange(8, dtype=np.float32)
    write_weights(folder, {"weight": LazyTensor((2, 4), lambda: array.reshape(2, 4))})
    data = bytearray((folder / SINGLE).read_bytes())
    for at, value in damage:
        data[at % len(data)] = value
    (folder / SINGLE).write_bytes(data)
    try:
        Weights.open(folder).load()
    except KunError:
        return


def test_an_index_cannot_lead_out_of_the_folder(llama_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes((llama_folder / SINGLE).read_bytes())
    for name in (
        "../x.safetensors",
        str(tmp_path / "x.safetensors"),
        "a/../../x.safetensors",
        "..\\x.safetensors",
    ):
        (llama_folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
        with pytest.raises(DamagedFile, match="outside the folder"):
            open_checkpoint(llama_folder).network()


def test_a_missing_shard_and_a_missing_tensor_are_named(llama_folder: Path) -> None:
    (llama_folder / INDEX).write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(DamagedFile, match="model-00001-of-00002"):
        open_checkpoint(llama_folder).network()
    (llama_folder / INDEX).write_text(json.dumps({"weight_map": {"a": SINGLE}}))
    with pytest.raises(DamagedFile, match="'a'"):
        open_checkpoint(llama_folder).network()


def test_a_tensor_of_the_wrong_shape_is_named(llama_folder: Path) -> None:
    path = llama_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"intermediate_size": 95}))
    with pytest.raises(DamagedFile, match=r"tiny-llama.*mlp"):
        open_checkpoint(llama_folder).network()


def test_a_pickle_is_refused_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"vocab_size": 8}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsupportedFormat, match=r"pytorch_model\.bin.*safe_serialization"):
        open_checkpoint(tmp_path).network()


def test_an_unknown_architecture_and_a_folder_that_is_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=r"config\.json"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "lama", "auto_map": {"AutoModel": "evil.Evil"}}')
    with pytest.raises(UnsupportedFormat, match="llama"):
        _ = open_checkpoint(tmp_path).kind
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(DamagedFile, match=r"config\.json"):
        open_checkpoint(tmp_path)


def test_saving_replaces_a_checkpoint_but_nothing_else(llama_folder: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(llama_folder)
    net = checkpoint.network()
    save_checkpoint(llama_folder, net, tokenizer=checkpoint.tokenizer, origin=checkpoint)
    assert torch.equal(logits_of(open_checkpoint(llama_folder).network()), logits_of(net))
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "today.txt").write_text("dear diary")
    with pytest.raises(BadInput, match="holds other things"):
        save_checkpoint(tmp_path / "diary", net, tokenizer=checkpoint.tokenizer)
    assert (tmp_path / "diary" / "today.txt").read_text() == "dear diary"


def test_a_full_disk_leaves_the_old_checkpoint_whole(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(llama_folder)
    net = checkpoint.network()

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write_json", full)
    with pytest.raises(NoSpace, match="full"):
        save_checkpoint(llama_folder, net, tokenizer=checkpoint.tokenizer, origin=checkpoint)
    open_checkpoint(llama_folder).verify()
    assert [path.name for path in llama_folder.parent.iterdir() if path.name.endswith((".tmp", ".old"))] == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def interrupted() -> None:
        with files.new_folder(tmp_path / "new") as folder:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [{"dtype": "int8"}, {"dtype": torch.int64}, {"device": "toaster"}, {"quantize": "int3"}]
)
def test_an_unknown_option_is_refused(llama_folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        open_checkpoint(llama_folder).network(**options)


def test_a_dtype_of_choice(llama_folder: Path) -> None:
    assert {p.dtype for p in open_checkpoint(llama_folder).network(dtype="bfloat16").parameters()} == {
        torch.bfloat16
    }


def test_a_pooling_that_its_layout_has_no_word_for_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lasttoken"):
        write_sentence_layout(tmp_path, 8, 32, "lasttoken", {})
