"""The E5 file: its blocks, its tokenizer, and what a damaged one gives."""

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from kun.errors import DamagedFile, KunError
from kun.hub.convert import convert
from kun.hub.e5 import E5File
from kun.hub.export.exporting import Export
from kun.hub.opening import open_checkpoint

HIDDEN, LAYERS, HEADS, WIDE, VOCABULARY, POSITIONS = 32, 1, 4, 64, 12, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁a", "é", "～", "1", "<mask>"]


def e5_file() -> tuple[bytes, dict[str, np.ndarray]]:
    """A file of the format with random weights, and those weights as they must be read."""
    generator = np.random.default_rng(0)
    header = b"E5S1" + struct.pack(
        "<I7ifi", 1, HIDDEN, LAYERS, HEADS, WIDE, VOCABULARY, POSITIONS, 2, 1e-12, 32
    )
    encoded = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, encoded)]).astype("<u4").tobytes()
    scores = np.array([0, 0, 0, 0, -2, -3, -3, -1, -2, -2, -2, 0], "<f4").tobytes()
    header += (
        struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, encoded)))
        + offsets
        + scores
        + b"".join(encoded)
    )
    mapping = {9: " ", 0x200B: " ", 1: "", 0x2460: "1"}
    table = b"".join(
        struct.pack(f"<IB{len(to)}I", char, len(to), *map(ord, to)) for char, to in mapping.items()
    )
    header += struct.pack("<iI", len(mapping), len(table)) + table
    shapes = {"emb.word": (VOCABULARY, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN)}
    shapes |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for part in ("q", "k", "v", "ao", "fi", "fo"):
        shapes[f"l0.{part}.w"] = {"fi": (WIDE, HIDDEN), "fo": (HIDDEN, WIDE)}.get(part, (HIDDEN, HIDDEN))
        shapes[f"l0.{part}.b"] = (WIDE if part == "fi" else HIDDEN,)
    for part in ("aln", "oln"):
        shapes |= {f"l0.{part}.w": (HIDDEN,), f"l0.{part}.b": (HIDDEN,)}
    blobs, values = {}, {}
    for name, shape in shapes.items():
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            blobs[name], values[name] = _nibbles(generator, shape)
        else:
            values[name] = generator.standard_normal(shape).astype("<f4")
            blobs[name] = values[name].tobytes()
    start = len(header) + 4 + sum(2 + len(name) + 21 for name in shapes)
    directory = struct.pack("<i", len(shapes))
    for name, blob in blobs.items():
        kind = 0 if len(blob) == 4 * values[name].size else 1
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, values[name].size, start, len(blob))
        start += len(blob)
    return header + directory + b"".join(blobs.values()), values


def _nibbles(generator: np.random.Generator, shape: tuple[int, ...]) -> tuple[bytes, np.ndarray]:
    codes = generator.integers(0, 16, (shape[0] * shape[1] // 32, 32), dtype=np.uint8)
    scales = generator.random(len(codes)).astype("<f2") / 8
    packed = codes[:, :16] | codes[:, 16:] << 4
    blob = b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, packed, strict=True))
    return blob, ((codes.astype(np.float32) - 8) * scales[:, None].astype(np.float32)).reshape(shape)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.e5"
    path.write_bytes(e5_file()[0])
    return path


def test_blocks_of_four_bits_are_read_exactly(path: Path) -> None:
    values = e5_file()[1]
    tensors = E5File(path).tensors
    names = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
    }
    assert len(tensors) == len(values)
    for short, name in names.items():
        np.testing.assert_array_equal(tensors[name].read(), values[short])


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a b", ["<s>", "▁a", "▁", "b", "</s>"]),
        ("  a \u200b\t a  ", ["<s>", "▁a", "▁a", "</s>"]),
        ("\x01a", ["<s>", "▁a", "</s>"]),
        ("①", ["<s>", "▁", "1", "</s>"]),
        ("１", ["<s>", "▁", "1", "</s>"]),
        ("e\u0301～", ["<s>", "▁", "é", "～", "</s>"]),
        ("", ["<s>", "</s>"]),
    ],
)
def test_text_is_folded_and_cut_as_the_model_learnt_it(path: Path, text: str, pieces: list[str]) -> None:
    assert E5File(path).tokenizer.encode(text).tokens == pieces


def test_what_was_exported_of_it_is_a_folder_that_transformers_loads(path: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path / "e5"
    folder.mkdir()
    prompts = {"query": "query: ", "passage": "passage: "}
    convert(path, folder, {"name": "e5"}, prompts=prompts)
    checkpoint = open_checkpoint(folder)
    checkpoint.verify()
    assert checkpoint.kind == "encoder"
    folder = Export.of(checkpoint, "hf", None).write(tmp_path / "out").path
    ids = torch.tensor([checkpoint.tokenizer.encode("a b ①").ids])
    assert AutoTokenizer.from_pretrained(folder)("a b ①").input_ids == ids[0].tolist()
    with torch.inference_mode():
        ours = checkpoint.network()(ids).last_hidden_state
        reference = AutoModel.from_pretrained(folder).eval()(ids).last_hidden_state
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


def test_a_truncated_file_is_named(path: Path) -> None:
    whole = path.read_bytes()
    for size in (0, 3, 20, 100, 400, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFile, match=r"tiny\.e5"):
            E5File(path)


@limits(max_examples=150)
@given(damage=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_file_gives_an_error_of_ours_or_tensors(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    data = bytearray(e5_file()[0])
    for at, value in damage:
        data[at] = value
    path = tmp_path_factory.mktemp("damaged") / "x.e5"
    path.write_bytes(data)
    with suppress(KunError):
        for tensor in E5File(path).tensors.values():
            tensor.read()


def test_its_table_of_words_is_looked_up_as_it_lies_in_the_file(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "e5"
    folder.mkdir()
    convert(path, folder, {"name": "e5"})
    checkpoint = open_checkpoint(folder)
    whole, packed = checkpoint.network(device="cpu"), checkpoint.network(as_packed=True)
    ids = torch.tensor([checkpoint.tokenizer.encode("a b ①").ids])
    assert "embeddings.words.weight" not in packed.state_dict()
    with torch.inference_mode():
        assert torch.equal(packed(ids).last_hidden_state, whole(ids).last_hidden_state)
