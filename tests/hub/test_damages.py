"""A damaged file is named, never used: weights, a GGUF file, an adapter, a tokenizer, what was quantized before."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from damages import damaged
from tiny_models import GgufMaker, network
from torch import Tensor

from kun.adaptation.lora import LoraConfig, add_lora, lora_pairs
from kun.atomic_files import sha256
from kun.errors import DamagedFile
from kun.hub.adapter_saving import save_adapter
from kun.hub.layout import LINEAGE, read_json, write_json
from kun.hub.opening import open_checkpoint
from kun.hub.pipeline import PipelineCheckpoint, save_pipeline

pytestmark = pytest.mark.usefixtures("tiny_home")


def never_used(file: Path, read: Callable[[], object]) -> None:
    """Of 32 damages to `file` each is named by what `read` does, and without one it reads."""
    read()
    sound = file.read_bytes()
    for seed in range(32):
        damaged(file, seed)
        with pytest.raises(DamagedFile, match=file.name):
            read()
        file.write_bytes(sound)
    read()


def test_weights(llama_folder: Path) -> None:
    never_used(llama_folder / "model.safetensors", lambda: open_checkpoint(llama_folder).network())


def test_a_shard(llama_folder: Path, tmp_path: Path) -> None:
    from kun.hub.lazy import lazy_tensors
    from kun.hub.weights import write_weights

    folder = tmp_path / "sharded"
    shutil.copytree(llama_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    records = write_weights(folder, lazy_tensors(open_checkpoint(llama_folder).state()), shard_bytes=2**16)
    assert len(records) > 1
    write_json(folder / LINEAGE, read_json(folder / LINEAGE) | {"weights": records})
    never_used(folder / max(records), lambda: open_checkpoint(folder).network())


def test_a_gguf_file_of_a_model_that_is_installed(make_gguf: GgufMaker, tmp_path: Path) -> None:
    file = make_gguf(quantization="Q8_0")
    write_json(file.with_name(LINEAGE), {"weights": {file.name: {"sha256": sha256(file), "bytes": 1}}})
    never_used(file, lambda: open_checkpoint(file).network())
    file.with_name(LINEAGE).unlink()  # a file of one's own has no digest anywhere
    open_checkpoint(file).network()


def test_an_adapter(llama_folder: Path, tmp_path: Path) -> None:
    base = open_checkpoint(llama_folder)
    net = add_lora(base.network("float32"), LoraConfig(rank=3))
    for pair in lora_pairs(net).values():
        torch.nn.init.normal_(pair.b, std=0.2)
    folder = save_adapter(tmp_path / "adapter", net, origin=base)
    never_used(folder / "adapter_model.safetensors", lambda: open_checkpoint(folder).network())


def test_a_component_of_a_pipeline(llama_folder: Path, tmp_path: Path) -> None:
    net = open_checkpoint(llama_folder).network()
    folder = save_pipeline(tmp_path / "pipeline", {"text_encoder": net})

    def read() -> dict[str, Tensor]:
        whole = open_checkpoint(folder)
        assert isinstance(whole, PipelineCheckpoint)
        return whole.part("text_encoder").state()

    never_used(folder / "text_encoder" / "model.safetensors", read)


def test_a_tokenizer(llama_folder: Path) -> None:
    never_used(llama_folder / "tokenizer.json", lambda: open_checkpoint(llama_folder).tokenizer)


def test_a_config_that_was_changed_is_named_in_the_log_and_used(
    llama_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = llama_folder / "generation_config.json"
    write_json(path, read_json(path) | {"temperature": 0.5})
    assert open_checkpoint(llama_folder).generation_config["temperature"] == 0.5
    assert str(path) in caplog.text
    assert '"files"' in caplog.text


def test_what_was_quantized_before_is_made_anew(llama_folder: Path, tiny_home: Path) -> None:
    def quantized() -> list[Tensor]:
        state = open_checkpoint(llama_folder).network(quantize="int8").state_dict()
        return list(state.values())

    sound = quantized()
    (kept,) = (tiny_home / "cache" / "quantized").iterdir()
    whole = kept.read_bytes()
    for seed in range(32):
        kept.unlink()  # a new file: the one that the network has mapped stays
        kept.write_bytes(whole)
        damaged(kept, seed)
        assert all(map(torch.equal, quantized(), sound))
        assert kept.read_bytes() == whole


def test_a_model_of_before_the_digests_of_its_tokenizer_opens_as_it_is(llama_folder: Path) -> None:
    lineage = read_json(llama_folder / LINEAGE)
    assert {"tokenizer.json", "config.json", "generation_config.json"} <= lineage.pop("files").keys()
    write_json(llama_folder / LINEAGE, lineage)
    (llama_folder / "tokenizer.json").write_text((llama_folder / "tokenizer.json").read_text() + "\n")
    assert open_checkpoint(llama_folder).tokenizer.get_vocab_size() == 360


def test_a_folder_that_kun_did_not_write_is_read_without_digests(llama_folder: Path) -> None:
    (llama_folder / LINEAGE).unlink()
    net = open_checkpoint(llama_folder).network()
    assert isinstance(net, type(network(read_json(llama_folder / "config.json"))))
