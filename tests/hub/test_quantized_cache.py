"""Quantized weights are kept, so that the next start is quick; a damaged copy is made anew."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import network
from tokenizers import Tokenizer

from kun.hub import loading
from kun.hub.opening import open_checkpoint
from kun.hub.saving import save_checkpoint

IDS = torch.tensor([[5, 80, 200, 3, 41]])


def logits(folder: Path, kind: str = "int4") -> torch.Tensor:
    with torch.inference_mode():
        return open_checkpoint(folder).network(quantize=kind, device="cpu")(IDS).logits


def kept(home: Path) -> list[Path]:
    return sorted((home / "cache" / "quantized").iterdir())


@pytest.mark.parametrize("kind", ["int4", "int8"])
def test_a_kept_network_is_the_one_that_was_made(
    llama_folder: Path, tiny_home: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = logits(llama_folder, kind)
    assert len(kept(tiny_home)) == 1

    def never(*arguments: Any) -> None:
        raise AssertionError("it was made again")

    monkeypatch.setattr(loading, "build", never)
    torch.testing.assert_close(logits(llama_folder, kind), first)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"\x55"]
)
def test_a_damaged_copy_is_made_anew(llama_folder: Path, tiny_home: Path, damage: Any) -> None:
    first = logits(llama_folder)
    (path,) = kept(tiny_home)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    torch.testing.assert_close(logits(llama_folder), first)
    assert [copy.read_bytes() for copy in kept(tiny_home)] == [whole]


def test_the_oldest_copies_make_room(
    llama_folder: Path, tiny_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits(llama_folder, "int8")
    monkeypatch.setattr(loading, "_CACHE_BYTES", 1)
    logits(llama_folder, "int4")
    assert [("int4" in path.name) for path in kept(tiny_home)] == [True]


def test_an_encoder_without_its_pooler_is_quantized_and_found_again(
    tmp_path: Path, tiny_home: Path, tokenizer: Tokenizer
) -> None:
    config = {
        "model_type": "bert", "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
    }  # fmt: skip
    net: Any = network(config)
    net.pooler = None
    folder = save_checkpoint(tmp_path / "encoder", net, tokenizer=tokenizer)
    first, again = (open_checkpoint(folder).network(quantize="int4", device="cpu")(IDS) for _ in range(2))
    torch.testing.assert_close(first.last_hidden_state, again.last_hidden_state)
    assert len(kept(tiny_home)) == 1
