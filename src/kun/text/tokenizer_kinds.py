"""Tokenizers by the reference's class: files, special tokens, and where they stand. Here those of words and bytes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from kun.errors import DamagedFile
from kun.text.building import CUTTINGS, around, byte_level_bpe, framed, wordpiece

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_BRACKETS = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
_END_OF_TEXT = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_QWEN2 = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
UNKNOWN = {"unk_token": "<unk>"}
FAIRSEQ = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
FAIRSEQ |= {"sep_token": "</s>", "cls_token": "<s>", "mask_token": "<mask>"}


class Kind:
    """One way to make a tokenizer of files; `said` is what the small files around them say."""

    files: tuple[str, ...] = ()
    defaults: ClassVar[Mapping[str, str]] = {}
    adds_bos = False
    pads_left = False
    masks_with_space = False
    """Whether the mask takes the space before it with it."""
    normalizes = False
    """Whether special tokens are looked for after the text as a whole was normalized."""

    def __init__(self, said: Mapping[str, object]) -> None:
        self.said = said
        named = {**self.defaults, **{name: said[name] for name in SPECIAL_NAMES if name in said}}
        self.special = {name: text for name, value in named.items() if (text := text_of(value)) is not None}

    def build(self, folder: Path) -> Tokenizer:
        """The tokenizer without special tokens. Raises `DamagedFile`, `UnsupportedFormat`."""
        raise NotImplementedError

    def frame(self, tokenizer: Tokenizer) -> None:
        """Put the tokens around a text that the model is used to."""
        framed(tokenizer, *around(*self.ends()))

    def flag(self, name: str, default: bool) -> bool:
        value = self.said.get(name, default)
        return value if isinstance(value, bool) else default

    def ends(self) -> tuple[list[str], list[str]]:
        bos, eos = self.special.get("bos_token"), self.special.get("eos_token")
        before = [bos] if bos and self.flag("add_bos_token", self.adds_bos) else []
        return before, [eos] if eos and self.flag("add_eos_token", False) else []

    def add_tokens(self, tokenizer: Tokenizer) -> None:
        """Add the tokens that the files name, at their ids. Raises `DamagedFile` where an id is another's."""
        marked = set(self.special.values())
        for index, value in sorted(self.numbered().items()):
            token = self.token(value, text_of(value) in marked)
            tokenizer.add_tokens([token])
            if tokenizer.token_to_id(token.content) != index:
                raise DamagedFile(
                    f"Its files give {token.content!r} the id {index}, and its vocabulary "
                    f"{tokenizer.token_to_id(token.content)}: they do not belong together; copy the model again."
                )
        for name, text in self.special.items():
            value = self.said.get(name)
            if value is not None or tokenizer.token_to_id(text) is not None:
                spaced = name == "mask_token" and self.masks_with_space
                tokenizer.add_special_tokens([self.token(value or text, True, spaced)])
        tokenizer.add_special_tokens([self.token(value, True) for value in self.more()])

    def token(self, value: object, special: bool, lstrip: bool = False) -> AddedToken:
        fields = value if isinstance(value, dict) else {}
        return AddedToken(
            text_of(value) or "",
            special=special or fields.get("special") is True,
            normalized=self.normalizes,
            lstrip=lstrip or fields.get("lstrip") is True,
            rstrip=fields.get("rstrip") is True,
            single_word=fields.get("single_word") is True,
        )

    def numbered(self) -> dict[int, object]:
        """Tokens with their ids, as added_tokens_decoder has them."""
        numbered = self.said.get("added_tokens_decoder")
        try:
            tokens = (
                {int(key): value for key, value in numbered.items()} if isinstance(numbered, dict) else {}
            )
        except ValueError as error:
            raise DamagedFile(f"Its added_tokens_decoder names an id that is no number ({error}).") from error
        return {index: value for index, value in tokens.items() if text_of(value)}

    def more(self) -> list[object]:
        """Special tokens that have no name."""
        lists = [self.said.get(key) for key in ("additional_special_tokens", "extra_special_tokens")]
        return [value for some in lists if isinstance(some, list) for value in some if text_of(value)]


def text_of(value: object) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) and content else None


class Bert(Kind):
    """BERT and ERNIE: words in vocab.txt, one a line."""

    files = ("vocab.txt",)
    defaults = _BRACKETS

    def build(self, folder: Path) -> Tokenizer:
        words = read_text(folder / "vocab.txt").rstrip("\n").split("\n")
        vocabulary = {word: index for index, word in enumerate(words)}
        normalizer = normalizers.BertNormalizer(
            lowercase=self.flag("do_lower_case", True),
            handle_chinese_chars=self.flag("tokenize_chinese_chars", True),
            strip_accents=self.flag("strip_accents", False)
            if self.said.get("strip_accents") is not None
            else None,
        )
        return wordpiece(vocabulary, self.special.get("unk_token", "[UNK]"), normalizer)

    def frame(self, tokenizer: Tokenizer) -> None:
        start, end = (self.special.get(name, "") for name in ("cls_token", "sep_token"))
        framed(tokenizer, [start, "$A", end], [start, "$A", end, "$B:1", f"{end}:1"])


class Gpt2(Kind):
    """GPT-2 and its heirs: BPE over bytes in vocab.json and merges.txt."""

    files = ("vocab.json", "merges.txt")
    defaults = _END_OF_TEXT
    cutting = "gpt-2"

    def build(self, folder: Path) -> Tokenizer:
        cutting = CUTTINGS[self.cutting]
        vocabulary = read_vocabulary(folder / "vocab.json")
        spaced = self.flag("add_prefix_space", False)
        return byte_level_bpe(vocabulary, read_merges(folder / "merges.txt"), cutting, spaced)

    def frame(self, tokenizer: Tokenizer) -> None:
        framed(tokenizer, *around(*self.ends()), first=processors.ByteLevel(trim_offsets=False))


class Qwen2(Gpt2):
    defaults = _QWEN2
    cutting = "qwen2"


class Roberta(Gpt2):
    defaults = FAIRSEQ
    masks_with_space = True

    def frame(self, tokenizer: Tokenizer) -> None:
        cls, sep = self.special["cls_token"], self.special["sep_token"]
        first = processors.ByteLevel(trim_offsets=self.flag("trim_offsets", True))
        framed(tokenizer, [cls, "$A", sep], [cls, "$A", sep, sep, "$B", sep], first=first)


class Gpt(Kind):
    """The first GPT: BPE over the letters of lower-case words, which end in </w>."""

    files = ("vocab.json", "merges.txt")
    defaults = UNKNOWN

    def build(self, folder: Path) -> Tokenizer:
        model = models.BPE(
            read_vocabulary(folder / "vocab.json"),
            read_merges(folder / "merges.txt"),
            unk_token=self.special["unk_token"],
            end_of_word_suffix="</w>",
        )
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
        return tokenizer


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path} is not UTF-8 ({error}): copy the model again.") from error


def read_vocabulary(path: Path) -> dict[str, int]:
    try:
        vocabulary = json.loads(path.read_bytes())
        if not isinstance(vocabulary, dict) or not all(type(index) is int for index in vocabulary.values()):
            raise ValueError("it does not give each token a number")
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is no vocabulary ({error}): copy the model again.") from error
    return vocabulary


def read_merges(path: Path) -> list[tuple[str, str]]:
    merges = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.startswith("#version") or not line.strip():
            continue
        left, _, right = line.rstrip("\r").partition(" ")
        if not right or " " in right:
            raise DamagedFile(f"{path}: line {number} is no merge of two tokens; copy the model again.")
        merges.append((left, right))
    return merges
