"""A checkpoint's tokenizer, from the files that its kind has: without pickle, without running code.

| files | kinds |
|---|---|
| tokenizer.json | all |
| vocab.txt | BERT, ERNIE |
| vocab.json, merges.txt | GPT, GPT-2, RoBERTa, Qwen2 |
| spiece.model, tokenizer.model, sentencepiece.bpe.model, ice_text.model | T5, XLNet, LLaMA, XLM-R, ChatGLM, others |
| source.spm, vocab.json | Marian |

Special tokens are those that tokenizer_config.json, special_tokens_map.json and added_tokens.json name, else those that
the reference's class has. What is not tokenizer.json is converted once and kept under KUN_HOME/cache/tokenizers.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tokenizers import Tokenizer

from kun.atomic_files import new_file
from kun.errors import DamagedFile, NoSpace, NotWritable, UnsupportedFormat
from kun.settings import settings
from kun.text.sentencepiece import SentencePieceModel
from kun.text.sentencepiece_kinds import (
    T5,
    ChatGlm,
    ChatGlm1,
    Llama,
    Marian,
    SentencePiece,
    XlmRoberta,
    XLNet,
)
from kun.text.tokenizer import load_tokenizer
from kun.text.tokenizer_kinds import (
    FAIRSEQ,
    Bert,
    Gpt,
    Gpt2,
    Kind,
    Qwen2,
    Roberta,
    read_text,
    read_vocabulary,
)

Settings = dict[str, object]

_SMALL = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_MODELS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "ice_text.model")
#: files that a tokenizer is made of where there is no tokenizer.json
VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "source.spm", *_MODELS)
_LARGEST_FILE = 256 * 2**20
#: raise it when what is made of the same files changes
_CACHE_VERSION = 1


_CLASSES: dict[str, type[Kind]] = {
    **dict.fromkeys(("bert", "ernie"), Bert),
    **dict.fromkeys(("gpt2", "codegen"), Gpt2),
    "roberta": Roberta,
    "qwen2": Qwen2,
    "openaigpt": Gpt,
    "t5": T5,
    "xlnet": XLNet,
    "xlmroberta": XlmRoberta,
    **dict.fromkeys(("llama", "codellama"), Llama),
    "ernie45": SentencePiece,
    "chatglm": ChatGlm,
    "marian": Marian,
}
_GENERAL = ("pretrained", "tokenizersbackend", "pythonbackend", "")


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that decide which ids a text gets: tokenizer.json where there is one, else those that stand for it."""
    if (folder / "tokenizer.json").is_file():
        return [folder / "tokenizer.json"]
    return [folder / name for name in (*VOCABULARIES, *_SMALL) if (folder / name).is_file()]


def read_tokenizer(folder: Path, config: Mapping[str, object]) -> Tokenizer:
    """The tokenizer of a checkpoint's folder, without padding and truncation; `config` is its config.json.

    Raises `DamagedFile` for files that cannot be read or that lack a part, `UnsupportedFormat` for a kind that Kun does
    not know: both name the file.
    """
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder)
    files = tokenizer_files(folder)
    if all(path.name in _SMALL for path in files):
        raise DamagedFile(
            f"{folder} holds no tokenizer: it has none of tokenizer.json, {', '.join(VOCABULARIES)}. Copy the one "
            f"that the model was published with into it."
        )
    kind = _kind_of(folder, config, _said(folder))
    key = _key(files, kind)
    kept = settings().home / "cache" / "tokenizers"
    for path in kept.glob(f"{key}.*.json"):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == path.name.split(".")[1]:
            return Tokenizer.from_buffer(data)
        path.unlink(missing_ok=True)  # a cache: made anew below
    tokenizer = _converted(folder, kind)
    text = tokenizer.to_str()
    with suppress(NoSpace, NotWritable, OSError):  # it works without having been kept
        digest = hashlib.sha256(text.encode()).hexdigest()
        with new_file(kept / f"{key}.{digest}.json") as fresh:
            fresh.write_text(text, encoding="utf-8")
    return tokenizer


def tokenizer_settings(folder: Path, config: Mapping[str, object]) -> Settings:
    """What tokenizer_config.json says; without a tokenizer.json also the special tokens that its kind has by itself."""
    said = _said(folder)
    if (folder / "tokenizer.json").is_file() or not tokenizer_files(folder):
        return said
    kind = _kind_of(folder, config, said)
    return {"padding_side": "left" if kind.pads_left else "right", **said, **kind.special}


def _said(folder: Path) -> Settings:
    """tokenizer_config.json, and what special_tokens_map.json and added_tokens.json add to it."""
    said, names, added = (_read_object(folder / name) for name in _SMALL)
    if not (folder / "tokenizer.json").is_file():
        said = names | said
        if added and "added_tokens_decoder" not in said:
            said["added_tokens_decoder"] = {str(index): text for text, index in added.items()}
    return said


def _converted(folder: Path, kind: Kind) -> Tokenizer:
    try:
        tokenizer = kind.build(folder)
        kind.add_tokens(tokenizer)
        kind.frame(tokenizer)
    except (DamagedFile, UnsupportedFormat):
        raise
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise DamagedFile(f"The tokenizer in {folder} is damaged: {error}.") from error
    return tokenizer


def _key(files: list[Path], kind: Kind) -> str:
    digest = hashlib.sha256(
        f"{_CACHE_VERSION}\0{type(kind).__name__}\0{json.dumps(kind.said, sort_keys=True)}".encode()
    )
    for path in files:
        if path.stat().st_size > _LARGEST_FILE:
            raise DamagedFile(f"{path} is larger than a tokenizer can be: copy the model again.")
        digest.update(f"\0{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:40]


def _read_object(path: Path) -> Settings:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is no readable JSON ({error}): copy the model again.") from error
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} holds no object: copy the model again.")
    return value


def _kind_of(folder: Path, config: Mapping[str, object], said: Mapping[str, object]) -> Kind:
    """The kind of tokenizer in a folder: by the class that its files name, else by config.json and by what lies there.

    Raises `UnsupportedFormat` for a class that Kun does not know, `DamagedFile` where the class's files are not there.
    """
    named = said.get("tokenizer_class") or config.get("tokenizer_class")
    name = str(named or "")
    stem = _stem(name)
    if stem in _GENERAL:
        kind = _by_files(folder, str(config.get("model_type")))
    elif stem in _CLASSES:
        kind = _CLASSES[stem]
        if kind is ChatGlm and (folder / "ice_text.model").is_file():
            kind = ChatGlm1
    else:
        raise UnsupportedFormat(
            f"{folder} names the tokenizer {name[:80]}, which Kun cannot make from its files: open it in transformers, "
            f"and write tokenizer.json into the folder (tokenizer.save_pretrained)."
        )
    missing = next((file for file in kind.files if not (folder / file).is_file()), None)
    if missing is not None:
        raise DamagedFile(
            f"{folder / missing} is missing, from which {name or kind.__name__} is made: copy the model again."
        )
    return kind(said)


def _stem(name: str) -> str:
    return re.sub(r"[^a-z0-9]|tokenizer(fast)?$", "", re.sub(r"[^a-z0-9]", "", name.lower()))


def _by_files(folder: Path, model_type: str) -> type[Kind]:
    has = {path.name for path in folder.iterdir()}
    by_type = _CLASSES.get(_stem(model_type))
    if by_type is not None and has.issuperset(by_type.files):
        return by_type
    if "vocab.txt" in has:
        return Bert
    if "source.spm" in has:
        return Marian
    if "merges.txt" in has:
        if "</w>" in read_text(folder / "merges.txt")[:1000]:
            return Gpt
        words = read_vocabulary(folder / "vocab.json") if "vocab.json" in has else {}
        return Roberta if words.keys() >= set(FAIRSEQ.values()) else Gpt2
    if "spiece.model" in has:
        pieces = {piece.text for piece in SentencePieceModel.read(folder / "spiece.model").pieces}
        return XLNet if pieces >= {"<sep>", "<cls>"} else T5
    if "sentencepiece.bpe.model" in has:
        return XlmRoberta
    return ChatGlm1 if "ice_text.model" in has else Llama
