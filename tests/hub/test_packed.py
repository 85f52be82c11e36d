"""What came as one packed file stays one, and is the model that a converted one of before is."""

import hashlib
import os
import shutil
import weakref
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from damages import damaged
from tiny_models import GgufMaker

from kun.adaptation.lora import LoraConfig, add_lora
from kun.adaptation.quantize import quantize, quantized_state
from kun.errors import DamagedFile, NoSpace
from kun.hub import cache
from kun.hub.adapter import AdapterCheckpoint
from kun.hub.adapter_saving import save_adapter
from kun.hub.checkpoint import Checkpoint
from kun.hub.convert import convert
from kun.hub.disk import cache_of
from kun.hub.export.exporting import Export
from kun.hub.gguf.checkpoint import GgufCheckpoint
from kun.hub.gguf.file import GgufFile
from kun.hub.layout import write_json, write_lineage
from kun.hub.lazy import lazy_tensors
from kun.hub.opening import open_checkpoint
from kun.hub.weights import write_weights

IDS = torch.tensor([[5, 80, 200, 3, 41]])


@pytest.fixture
def source(make_gguf: GgufMaker) -> Path:
    return make_gguf(quantization="Q4_1")


@pytest.fixture
def packed(source: Path, tiny_home: Path) -> Path:
    folder = tiny_home / "models" / "tiny"
    folder.mkdir(parents=True)
    convert(source, folder, {"name": "tiny"})
    return folder


def converted(source: Path, folder: Path, shard_bytes: int = 5 * 10**9) -> Path:
    """The folder that versions of before made of a GGUF file."""
    file = GgufCheckpoint.open(source)
    folder.mkdir(parents=True)
    file.tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", file.tokenizer_config)
    records = write_weights(folder, lazy_tensors(file.state()), shard_bytes=shard_bytes)
    write_json(folder / "config.json", {k: v for k, v in file.config.items() if v is not None})
    write_lineage(folder, {"name": "tiny"}, records)
    return folder


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def logits(checkpoint: Checkpoint, **options: Any) -> torch.Tensor:
    with torch.inference_mode():
        return checkpoint.network(device="cpu", **options)(IDS).logits


def test_a_packed_model_is_the_file_and_small_ones(source: Path, packed: Path, tiny_home: Path) -> None:
    assert (packed / "model.gguf").read_bytes() == source.read_bytes()
    heavy = [path.name for path in packed.rglob("*") if path.suffix not in (".json", ".md", ".jinja")]
    assert heavy == ["model.gguf", "1_Pooling", "2_Normalize"][: len(heavy)]
    assert not (packed / "tokenizer.json").exists()
    checkpoint = open_checkpoint(packed)
    before = taken(packed)
    assert checkpoint.tokenizer.to_str() == GgufCheckpoint.open(source).tokenizer.to_str()
    checkpoint.verify()
    logits(checkpoint, quantize="int4")
    assert taken(packed) == before  # what is made of it lies in the cache
    assert cache_of(packed) == taken(tiny_home / "cache" / "quantized") + taken(
        tiny_home / "cache" / "tokenizers"
    )


@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 150_000])
def test_a_packed_model_has_the_identity_and_the_numbers_of_a_converted_one(
    source: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int
) -> None:
    before = open_checkpoint(converted(source, tmp_path / "before", shard_bytes))
    monkeypatch.setattr("kun.hub.weights.shards_of.__defaults__", (shard_bytes, "model"))
    again = tmp_path / "again"
    again.mkdir()
    convert(source, again, {"name": "tiny"})
    now = open_checkpoint(again)
    assert now.identity == before.identity
    assert torch.equal(logits(now), logits(before))
    assert now.tokenizer.to_str() == before.tokenizer.to_str()


def test_an_adapter_of_a_converted_model_finds_the_packed_one(
    source: Path, packed: Path, tmp_path: Path
) -> None:
    before = open_checkpoint(converted(source, tmp_path / "before"))
    net = add_lora(before.network("float32"), LoraConfig(rank=2))
    folder = save_adapter(tmp_path / "adapter", net, origin=before)
    (tmp_path / "before").rename(tmp_path / "away")
    assert AdapterCheckpoint.open(folder).base.path == packed
    back = Export.of(open_checkpoint(folder), "hf", None).write(tmp_path / "whole").path
    assert torch.allclose(logits(open_checkpoint(back)), logits(open_checkpoint(folder)))


def test_a_damaged_kept_tokenizer_is_made_anew(packed: Path, tiny_home: Path) -> None:
    expected = open_checkpoint(packed).tokenizer.to_str()
    (kept,) = (tiny_home / "cache" / "tokenizers").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-20] + whole[-10:])
    assert open_checkpoint(packed).tokenizer.to_str() == expected
    assert [path.read_bytes() for path in kept.parent.iterdir()] == [whole]


def test_a_full_disk_keeps_nothing_and_takes_nothing(
    packed: Path, tiny_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise NoSpace("The disk is full.")

    monkeypatch.setattr(cache, "new_file", full)
    checkpoint = open_checkpoint(packed)
    assert checkpoint.tokenizer.encode("fox").ids
    logits(checkpoint, quantize="int4")
    assert cache_of(packed) == 0


def test_of_32_damages_to_a_packed_file_none_is_used(packed: Path, tiny_home: Path) -> None:
    path = packed / "model.gguf"
    sound = path.read_bytes()

    def read() -> None:
        shutil.rmtree(tiny_home / "cache" / "tokenizers", ignore_errors=True)
        checkpoint = open_checkpoint(packed)
        _ = checkpoint.tokenizer, checkpoint.network()

    read()
    for seed in range(32):
        path.unlink()  # a new file: what was read of the old one stays mapped
        path.write_bytes(sound)
        damaged(path, seed)
        with pytest.raises(DamagedFile, match=r"model\.gguf"):
            read()


def test_a_packed_file_that_was_cut_short_is_named(packed: Path) -> None:
    path = packed / "model.gguf"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])
    with pytest.raises(DamagedFile, match=r"model\.gguf"):
        open_checkpoint(packed)


def test_a_users_own_file_is_opened_where_it_lies_and_nothing_is_written_there(
    source: Path, tiny_home: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in source.parent.iterdir()}
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    logits(open_checkpoint(source), quantize="int8")
    assert {path: path.stat().st_mtime_ns for path in source.parent.iterdir() if path != tiny_home} == {
        path: time for path, time in before.items() if path != tiny_home
    }
    assert hashlib.sha256(source.read_bytes()).hexdigest() == digest
    assert os.access(source, os.W_OK)


@pytest.mark.parametrize("kind", ["int4", "int8"])
def test_quantizing_holds_the_floats_of_two_matrices_at_most_and_makes_the_same_bits(
    packed: Path, kind: Literal["int4", "int8"], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = quantized_state(quantize(open_checkpoint(packed).network("float32", "cpu"), kind))
    read, arrays, held = GgufFile.read, list[Any](), list[int]()

    def counted(file: GgufFile, name: str, order: Any = None) -> Any:
        array = read(file, name, order)
        arrays.append(weakref.ref(array))
        alive = [each for ref in arrays if (each := ref()) is not None]
        held.append(sum(each.ndim > 1 for each in alive))
        return array

    monkeypatch.setattr(GgufFile, "read", counted)
    streamed = quantized_state(open_checkpoint(packed).network(quantize=kind, device="cpu"))
    assert list(streamed) == list(whole)
    assert all(torch.equal(streamed[name], whole[name]) for name in whole)
    assert len(held) > 10
    assert max(held) <= 2  # one is packed while the next one is read
