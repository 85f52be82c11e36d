"""Tiny models made on the spot: a checkpoint, GGUF files of every kind, wheels that carry them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from tiny_models import (
    LLAMA,
    TEMPLATE,
    GgufMaker,
    WheelMaker,
    add_tokenizer,
    byte_level_tokenizer,
    gguf_name,
    llama_cpp_order,
    network,
)
from tokenizers import Tokenizer

from kun.hub.saving import save_checkpoint


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return byte_level_tokenizer()


@pytest.fixture
def llama_folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A whole checkpoint of a tiny LLaMA."""
    config = LLAMA | {"vocab_size": tokenizer.get_vocab_size()}
    return save_checkpoint(
        tmp_path / "tiny-llama",
        network(config),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
        generation_config={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        lineage={"licence": "Apache-2.0"},
    )


@pytest.fixture
def make_gguf(tmp_path: Path, tokenizer: Tokenizer) -> GgufMaker:
    """Write a tiny llama or qwen2 as GGUF, as llama.cpp's converter would, in a quantization of choice."""

    def make(
        name: str = "tiny",
        architecture: str = "llama",
        quantization: str = "F32",
        fields: Callable[[Any], None] | None = None,
        pre: str = "smollm",
        split: int = 0,
    ) -> Path:
        import gguf
        from gguf.quants import quantize

        config = LLAMA | {
            "model_type": architecture,
            "vocab_size": tokenizer.get_vocab_size(),
            "tie_word_embeddings": architecture == "llama",
        }
        net = network(config)
        state = net.names.reference(net.state_dict())
        path = tmp_path / f"{name}.gguf"
        writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
        writer.add_name(name)
        writer.add_license("mit")
        writer.add_block_count(2)
        writer.add_context_length(128)
        writer.add_embedding_length(64)
        writer.add_feed_forward_length(96)
        writer.add_head_count(4)
        writer.add_head_count_kv(2)
        writer.add_rope_freq_base(10000.0)
        writer.add_layer_norm_rms_eps(1e-5)
        add_tokenizer(writer, tokenizer, pre)
        if fields:
            fields(writer)
        kind = gguf.GGMLQuantizationType[quantization]
        block = gguf.GGML_QUANT_SIZES[kind][0]
        for hf_name, tensor in state.items():
            array = llama_cpp_order(hf_name, tensor, architecture).numpy()
            if array.ndim == 2 and array.shape[-1] % block == 0:
                writer.add_tensor(gguf_name(hf_name), quantize(array, kind), raw_dtype=kind)
            else:
                writer.add_tensor(gguf_name(hf_name), array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that stands for the package index, set the way a user would set it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def make_wheel(index: Path) -> WheelMaker:
    """Put a wheel with these files into the index."""

    def make(package: str, files: dict[str, bytes]) -> Path:
        stem = f"{package.replace('-', '_')}-1.0"
        path = index / f"{stem}-py3-none-any.whl"
        with ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
            archive.writestr(
                f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
            )
            archive.writestr(
                f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        return path

    return make
