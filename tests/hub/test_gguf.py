"""GGUF in: the same numbers and the same ids as the reference reader, and damaged files named."""

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from tiny_models import CORPUS, LLAMA, SPECIAL, TEMPLATE, GgufMaker, network
from tokenizers import Tokenizer

from kun.errors import DamagedFile, KunError, UnsupportedFormat
from kun.hub.gguf.file import GgufFile
from kun.hub.gguf.tokenizer import GgufTokenizer
from kun.hub.opening import open_checkpoint

IDS = torch.tensor([[5, 80, 200, 3, 41, 300, 7]])


def logits_of(net: Any) -> torch.Tensor:
    with torch.inference_mode():
        return net(IDS).logits


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_gguf_gives_the_logits_of_the_network_it_was_made_of(
    make_gguf: GgufMaker, tokenizer: Tokenizer, architecture: str
) -> None:
    config = LLAMA | {
        "vocab_size": tokenizer.get_vocab_size(),
        "model_type": architecture,
        "tie_word_embeddings": architecture == "llama",
    }
    read = open_checkpoint(make_gguf(architecture=architecture)).network()
    torch.testing.assert_close(logits_of(read), logits_of(network(config)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16", "BF16"])
def test_a_quantized_gguf_gives_the_logits_of_transformers_own_reading(
    make_gguf: GgufMaker, architecture: str, quantization: str
) -> None:
    from transformers import AutoModelForCausalLM

    path = make_gguf(architecture=architecture, quantization=quantization)
    reference = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    read = open_checkpoint(path).network()
    torch.testing.assert_close(logits_of(read), logits_of(reference), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "quantization", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ2_XXS", "TQ1_0"]
)
def test_every_block_format_is_read_as_the_gguf_package_reads_it(tmp_path: Path, quantization: str) -> None:
    import gguf
    from gguf.quants import dequantize

    kind = gguf.GGMLQuantizationType[quantization]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 255, (3, 2 * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "llama")
    writer.add_tensor("token_embd.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile.open(tmp_path / "one.gguf")
    assert file.tensors["token_embd.weight"].shape == (3, 2 * block)
    np.testing.assert_array_equal(file.read("token_embd.weight"), dequantize(raw, kind))


def test_the_tokenizer_in_a_gguf_gives_the_ids_of_the_original(
    make_gguf: GgufMaker, tokenizer: Tokenizer
) -> None:
    read = open_checkpoint(make_gguf()).tokenizer
    for text in [
        *CORPUS,
        "1234 ١٢٣ x½",
        " leading and trailing ",
        "<|im_start|>user\nhi<|im_end|>",
        "",
        "🏳️‍🌈",
    ]:
        assert read.encode(text).ids == tokenizer.encode(text).ids
        assert read.decode(read.encode(text).ids) == tokenizer.decode(tokenizer.encode(text).ids)


def test_everything_about_chat_comes_out_of_a_gguf(make_gguf: GgufMaker) -> None:
    checkpoint = open_checkpoint(make_gguf())
    assert checkpoint.chat_template is not None
    assert checkpoint.chat_template.source == TEMPLATE
    assert checkpoint.generation_config == {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 0}
    assert checkpoint.special_tokens["eos_token"] == SPECIAL[2]
    assert checkpoint.config["max_position_embeddings"] == 128
    assert checkpoint.config["rms_norm_eps"] == 1e-5


def test_scaled_rotary_positions_are_taken_over(make_gguf: GgufMaker) -> None:
    def linear(writer: Any) -> None:
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    assert open_checkpoint(make_gguf(fields=linear)).config["rope_scaling"] == {
        "rope_type": "linear",
        "factor": 4.0,
    }


def test_an_unknown_way_of_cutting_text_is_refused_by_name(make_gguf: GgufMaker) -> None:
    with pytest.raises(UnsupportedFormat, match="klingon"):
        _ = open_checkpoint(make_gguf(pre="klingon")).tokenizer


def test_an_unknown_architecture_is_refused_by_name(make_gguf: GgufMaker) -> None:
    path = make_gguf()
    path.write_bytes(path.read_bytes().replace(b"llama", b"dalek"))
    with pytest.raises(UnsupportedFormat, match="dalek"):
        open_checkpoint(path)


def test_a_tensor_that_the_architecture_lacks_is_named(make_gguf: GgufMaker) -> None:
    path = make_gguf()
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.", b"blk.1.ffn_us."))
    with pytest.raises(DamagedFile, match=r"blk\.1\.ffn_us\.weight, which a llama model does not have"):
        open_checkpoint(path).state()


def test_a_gguf_cut_anywhere_is_named_in_the_error(make_gguf: GgufMaker) -> None:
    path = make_gguf()
    whole = path.read_bytes()
    for size in [0, 3, 10, 24, 200, 2000, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFile, match=r"tiny\.gguf"):
            open_checkpoint(path)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"GGML"),
        (8, struct.pack("<Q", 2**60)),
        (16, struct.pack("<Q", 2**60)),
        (24, struct.pack("<Q", 2**63)),
    ],
    ids=["magic", "tensors", "fields", "length of a name"],
)
def test_absurd_counts_are_refused_without_being_tried(make_gguf: GgufMaker, at: int, value: bytes) -> None:
    path = make_gguf()
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match=r"tiny\.gguf"):
        open_checkpoint(path)


@limits(max_examples=150)
@given(damage=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_header_gives_an_error_of_ours_or_a_model(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    data = bytearray(_small_gguf(tmp_path_factory))
    for at, value in damage:
        data[at % len(data)] = value
    path = tmp_path_factory.mktemp("damaged") / "x.gguf"
    path.write_bytes(data)
    with suppress(KunError):
        file = GgufFile.open(path)
        for name in file.tensors:
            file.read(name)
        GgufTokenizer(file).build()


@pytest.fixture
def parts(make_gguf: GgufMaker) -> list[Path]:
    """The files of one model that was split."""
    make_gguf(quantization="Q8_0", split=6)
    return sorted(make_gguf().parent.glob("tiny-*-of-*.gguf"))


def test_a_split_gguf_is_one_model_whichever_file_is_named(make_gguf: GgufMaker, parts: list[Path]) -> None:
    whole = open_checkpoint(make_gguf(quantization="Q8_0"))
    assert len(parts) == 4
    for path in (parts[0], parts[-1]):
        checkpoint = open_checkpoint(path)
        state = checkpoint.state()
        assert all(torch.equal(state[name], tensor) for name, tensor in whole.state().items())
        assert checkpoint.tokenizer.encode("fox").ids == whole.tokenizer.encode("fox").ids
        assert checkpoint.identifying_files() == parts


def test_a_split_gguf_without_one_of_its_files_names_it(parts: list[Path]) -> None:
    parts[2].unlink()
    with pytest.raises(DamagedFile, match=r"one of 4 files, and tiny-00003-of-00004\.gguf is missing"):
        open_checkpoint(parts[0])


def test_files_of_a_split_gguf_that_changed_places_are_refused(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(DamagedFile, match="is not file 2 of 4"):
        open_checkpoint(parts[0])
    parts[0].rename(parts[0].with_name("renamed.gguf"))
    with pytest.raises(DamagedFile, match="is one of 4 files and is not named as one"):
        open_checkpoint(parts[0].with_name("renamed.gguf"))


def test_a_big_endian_gguf_is_refused_with_a_way_out(make_gguf: GgufMaker) -> None:
    path = make_gguf()
    data = path.read_bytes()
    path.write_bytes(data[:4] + data[4:8][::-1] + data[8:])
    with pytest.raises(UnsupportedFormat, match=r"big-endian.*gguf-convert-endian"):
        open_checkpoint(path)


_made: list[bytes] = []


def _small_gguf(factory: pytest.TempPathFactory) -> bytes:
    if not _made:
        import gguf

        path = factory.mktemp("small") / "s.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_context_length(8)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["a", "b", "ab"])
        writer.add_token_merges(["a b"])
        writer.add_tensor("token_embd.weight", np.ones((3, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        _made.append(path.read_bytes())
    return _made[0]
