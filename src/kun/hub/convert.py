"""What a source holds — a GGUF file, an E5 file, a folder — as a model's folder: a packed file stays as it came."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer

from kun.atomic_files import Progress, sha256, silent
from kun.errors import UnsupportedFormat
from kun.hub.converted import converted_identity
from kun.hub.e5 import E5File
from kun.hub.gguf.file import GgufFile
from kun.hub.gguf.model import generation_config, hf_config, hf_tensors, pooling
from kun.hub.gguf.tokenizer import GgufTokenizer
from kun.hub.layout import (
    Record,
    read_json,
    write_card,
    write_json,
    write_lineage,
    write_sentence_layout,
    write_tokenizer_config,
)
from kun.hub.lazy import LazyTensor
from kun.hub.weights import Weights
from kun.hub.word_vectors import from_array
from kun.text.tokenizer_files import read_tokenizer

_SENTENCE_CONFIG = "config_sentence_transformers.json"


def convert(
    source: Path,
    folder: Path,
    lineage: dict[str, object],
    *,
    generation: dict[str, object] | None = None,
    prompts: dict[str, str] | None = None,
    vectors: str | None = None,
    progress: Progress = silent,
) -> None:
    """Fill the empty `folder` from `source`. Raises `DamagedFile`, `UnsupportedFormat`.

    `generation` adds to generation_config.json; `prompts` are what an encoder puts before a query or passage. `vectors`
    is the method that made a table of word vectors (.npy) and their words (.parquet), which then become a folder.
    """
    if vectors is not None:
        from_array(source, folder, lineage, vectors)
    elif source.is_dir():
        _from_folder(source, folder, lineage, prompts, progress)
    elif source.suffix == ".gguf":
        _from_gguf(source, folder, lineage, generation)
    elif source.suffix == ".e5":
        _from_e5(source, folder, lineage, prompts)
    else:
        raise UnsupportedFormat(f"{source} is of no kind that becomes a checkpoint: .gguf and folders do.")


def _from_gguf(
    source: Path, folder: Path, lineage: dict[str, object], generation: dict[str, object] | None
) -> None:
    file = GgufFile.open(source)
    text = GgufTokenizer(file)
    config = hf_config(file)
    write_tokenizer_config(folder, text.config())
    if config["model_type"] != "bert":
        write_json(
            folder / "generation_config.json",
            generation_config(file, text.end_ids()) | (generation or {}),
        )
    else:
        limit = config["max_position_embeddings"]
        write_sentence_layout(folder, config["hidden_size"], limit, pooling(file), {})
    licence = {"licence": file.field("general.license")} if file.field("general.license") else {}
    _finish(source, folder, config, licence | lineage, text.build(), hf_tensors(file))


def _from_e5(source: Path, folder: Path, lineage: dict[str, object], prompts: dict[str, str] | None) -> None:
    file = E5File(source)
    limit = file.sizes.positions
    write_tokenizer_config(
        folder,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": limit,
            "clean_up_tokenization_spaces": False,
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        },
    )
    write_sentence_layout(folder, file.sizes.hidden, limit, "mean", prompts or {})
    _finish(source, folder, file.config, lineage, file.tokenizer, file.tensors)


def _from_folder(
    source: Path, folder: Path, lineage: dict[str, object], prompts: dict[str, str] | None, progress: Progress
) -> None:
    """A folder that has the layout already: copied as it is, after its weights have been looked at."""
    config = read_json(source / "config.json")
    weights = Weights.open(source)
    read_tokenizer(source, config)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "*.lock"))
    if prompts:
        path = folder / _SENTENCE_CONFIG
        said = read_json(path) if path.is_file() else {}
        write_json(path, said | {"prompts": said.get("prompts") or prompts})
    records = {
        path.name: Record(sha256=sha256(folder / path.name, progress), bytes=path.stat().st_size)
        for path in weights.files
    }
    write_lineage(folder, lineage, records)
    if not (folder / "README.md").is_file():
        write_card(folder, lineage, config)


def _finish(
    source: Path,
    folder: Path,
    config: dict[str, object],
    lineage: dict[str, object],
    tokenizer: Tokenizer,
    tensors: Mapping[str, LazyTensor],
) -> None:
    """The packed file itself, and what is recorded of it."""
    target = folder / f"model{source.suffix}"
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
    write_json(folder / "config.json", {key: value for key, value in config.items() if value is not None})
    record = Record(sha256=sha256(target), bytes=target.stat().st_size)
    identity = converted_identity(folder / "config.json", tokenizer, tensors)
    write_lineage(folder, {**lineage, "identity": identity}, {target.name: record})
    write_card(folder, lineage, config)
