"""The tokenizer inside a GGUF file, as a `tokenizers.Tokenizer` that gives the same ids.

Kinds (`tokenizer.ggml.model`): "gpt2" is byte-level BPE, cut beforehand as `tokenizer.ggml.pre` says; "llama" is
SentencePiece's BPE with bytes to fall back on; "t5" is SentencePiece's Unigram; "bert" is WordPiece.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from kun.errors import DamagedFile, UnsupportedFormat
from kun.hub.gguf.file import GgufFile


class Kind(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_TAIL}"
)
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_TAIL}"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"


@dataclass(frozen=True)
class Cutting:
    """How a text is cut before byte-level BPE: by `pattern`, None for GPT-2's own, after digits were set apart."""

    pattern: str | None = None
    digits_apart: bool = False
    composes: bool = False
    """Whether letters and accents are composed first (NFC)."""
    whole_words_first: bool = False
    """Whether a piece that is a token is not put together from smaller ones."""

    def steps(self) -> pre_tokenizers.PreTokenizer:
        steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if self.digits_apart else []
        if self.pattern is not None:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), "isolated"))
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.pattern is None))
        return pre_tokenizers.Sequence(steps)


#: llama.cpp's names (`tokenizer.ggml.pre`) of the ways that Kun knows
CUTTINGS: dict[str, Cutting] = {
    "gpt-2": Cutting(),
    "smollm": Cutting(digits_apart=True),
    "qwen2": Cutting(_QWEN2, composes=True),
    "llama-bpe": Cutting(_LLAMA3, whole_words_first=True),
    "smaug-bpe": Cutting(_LLAMA3),
    "bloom": Cutting(_BLOOM),
}
_ALIASES = {
    **dict.fromkeys(
        ("default", "gpt2", "phi-2", "jina-es", "jina-de", "olmo", "mpt", "roberta-bpe"), "gpt-2"
    ),
    **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell"), "smollm"),
    **dict.fromkeys(("llama3", "llama-v3"), "llama-bpe"),
    **dict.fromkeys(("dbrx",), "smaug-bpe"),
    **dict.fromkeys(("deepseek-r1-qwen", "stablelm2", "megrez"), "qwen2"),
}
_END_OF_TURN = {"<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"}
SPACE = "▁"


class GgufTokenizer:
    """Everything about text that a GGUF file holds. Raises `DamagedFile`, `UnsupportedFormat`."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self.model = str(self._get("model", ""))
        self.pre = str(self._get("pre", "default"))
        self.tokens: list[str] = self._get("tokens") or []
        self.kinds: list[int] = self._get("token_type") or [Kind.NORMAL] * len(self.tokens)
        if not self.tokens or len(self.kinds) != len(self.tokens):
            raise DamagedFile(f"{file.path} holds no whole vocabulary: its tokenizer is missing or damaged.")
        if self.model == "bert":
            self.tokens = [self._continued(*pair) for pair in zip(self.tokens, self.kinds, strict=True)]
        self.special = {
            name: self._special(f"{key}_token_id")
            for name, key in (
                ("bos_token", "bos"),
                ("eos_token", "eos"),
                ("unk_token", "unknown"),
                ("pad_token", "padding"),
            )
        }

    def _get(self, key: str, default: Any = None) -> Any:
        return self._file.field(f"tokenizer.ggml.{key}", default)

    def _special(self, key: str) -> str | None:
        index = self._get(key)
        return self.tokens[index] if isinstance(index, int) and 0 <= index < len(self.tokens) else None

    @property
    def _cutting(self) -> Cutting | None:
        return CUTTINGS.get(_ALIASES.get(self.pre, self.pre))

    @property
    def add_bos(self) -> bool:
        whole_words_first = self._cutting is not None and self._cutting.whole_words_first
        by_default = self.model == "llama" or whole_words_first
        return bool(self._get("add_bos_token", by_default)) and self.special["bos_token"] is not None

    @property
    def add_eos(self) -> bool:
        return bool(self._get("add_eos_token", False)) and self.special["eos_token"] is not None

    @property
    def chat_template(self) -> str | None:
        template = self._file.field("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def end_ids(self) -> list[int]:
        """The tokens that end a turn: those that the file declares, then others that are known by name."""
        declared = [self._get(f"{name}_token_id") for name in ("eos", "eot", "eom")]
        known = [
            index
            for index, (token, kind) in enumerate(zip(self.tokens, self.kinds, strict=True))
            if kind == Kind.CONTROL and token in _END_OF_TURN
        ]
        return list(dict.fromkeys([index for index in declared if isinstance(index, int)] + known))

    def build(self) -> Tokenizer:
        """The tokenizer. Raises `UnsupportedFormat` for a kind that Kun does not know."""
        kinds = {
            "gpt2": self._byte_level,
            "llama": self._sentencepiece,
            "t5": self._unigram,
            "bert": self._wordpiece,
        }
        if self.model not in kinds:
            raise UnsupportedFormat(
                f"{self._file.path} has a tokenizer of the kind {self.model!r}; {', '.join(kinds)} are read."
            )
        try:
            tokenizer = kinds[self.model]()
        except (DamagedFile, UnsupportedFormat):
            raise
        except Exception as error:  # the tokenizers library raises bare Exceptions
            raise DamagedFile(f"The tokenizer in {self._file.path} is damaged: {error}.") from error
        self._add_tokens(tokenizer)
        return tokenizer

    def config(self) -> dict[str, Any]:
        """What tokenizer_config.json says, for transformers and for Kun."""
        context = self._file.setting("context_length")
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context if isinstance(context, int) else 2048,
            "clean_up_tokenization_spaces": False,
            "add_bos_token": self.add_bos,
            "add_eos_token": self.add_eos,
            **{name: token for name, token in self.special.items() if token is not None},
            **({"chat_template": self.chat_template} if self.chat_template else {}),
        }

    def _vocabulary(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    def _merges(self, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
        merges = []
        for line in self._get("merges") or []:
            # a token may itself begin with a space: look for the blank from the second character on
            left, _, right = line[1:].partition(" ")
            merges.append((line[0] + left, right))
        if not merges or any(left + right not in vocabulary for left, right in merges[-1000:]):
            raise DamagedFile(f"{self._file.path} has merges that do not fit its vocabulary: it is damaged.")
        return merges

    def _byte_level(self) -> Tokenizer:
        cutting = self._cutting
        if cutting is None:
            raise UnsupportedFormat(
                f"{self._file.path} cuts text by the rule {self.pre!r}, which Kun does not know "
                f"({', '.join(sorted((*CUTTINGS, *_ALIASES)))}): take the model in the Hugging Face layout."
            )
        vocabulary = self._vocabulary()
        tokenizer = Tokenizer(
            models.BPE(vocabulary, self._merges(vocabulary), ignore_merges=cutting.whole_words_first)
        )
        if cutting.composes:
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = cutting.steps()
        tokenizer.decoder = decoders.ByteLevel()
        self._frame(tokenizer, processors.ByteLevel(trim_offsets=False))
        return tokenizer

    def _sentencepiece(self) -> Tokenizer:
        vocabulary = self._vocabulary()
        unknown = self.special["unk_token"]
        tokenizer = Tokenizer(
            models.BPE(
                vocabulary,
                self._merges_by_score(vocabulary),
                unk_token=unknown,
                fuse_unk=True,
                byte_fallback=True,
            )
        )
        prefix = bool(self._get("add_space_prefix", True))
        steps = [normalizers.Prepend(SPACE)] if prefix else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
        tail = [decoders.Strip(" ", 1, 0)] if prefix else []
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *tail]
        )
        self._frame(tokenizer)
        return tokenizer

    def _merges_by_score(self, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
        """SentencePiece joins the two neighbours whose union scores highest: the same as merges in that order."""
        scores = self._scores()
        merges = []
        for token, index in vocabulary.items():
            if self.kinds[index] != Kind.NORMAL:
                continue
            pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
            known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
            known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
            merges += [(scores[index], pair) for pair in known]
        merges.sort(key=lambda merge: -merge[0])
        return [pair for _, pair in merges]

    def _scores(self) -> list[float]:
        scores = self._get("scores") or []
        if len(scores) != len(self.tokens):
            raise DamagedFile(
                f"{self._file.path} has {len(scores)} scores for {len(self.tokens)} tokens: it is damaged."
            )
        return scores

    def _unigram(self) -> Tokenizer:
        pieces = list(zip(self.tokens, self._scores(), strict=True))
        unknown = self._get("unknown_token_id", 0)
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown))
        charsmap = self._get("precompiled_charsmap")
        steps: list[Any] = []
        if charsmap:
            raw = bytes(value & 0xFF for value in charsmap)
            steps.append(normalizers.Precompiled(raw))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")]
        )
        tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
        self._frame(tokenizer)
        return tokenizer

    def _wordpiece(self) -> Tokenizer:
        vocabulary = self._vocabulary()
        unknown = self.tokens[self._get("unknown_token_id", 0)]
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
        uncased = not any(token[:1].isupper() for token in self.tokens if not token.startswith("["))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=uncased)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        ends = {
            name: (self.tokens[index], index)
            for name, index in (
                ("cls", self._get("cls_token_id", self._get("bos_token_id", vocabulary.get("[CLS]")))),
                ("sep", self._get("seperator_token_id", vocabulary.get("[SEP]"))),
            )
            if isinstance(index, int)
        }
        if len(ends) == 2:
            tokenizer.post_processor = processors.BertProcessing(ends["sep"], ends["cls"])
        return tokenizer

    @staticmethod
    def _continued(token: str, kind: int) -> str:
        """llama.cpp marks the beginning of words with ▁; WordPiece marks their continuations with ##."""
        if kind == Kind.CONTROL or (token.startswith("[") and token.endswith("]") and len(token) > 2):
            return token
        return token[1:] if token.startswith(SPACE) else "##" + token

    def _frame(self, tokenizer: Tokenizer, first: Any = None) -> None:
        """Put the beginning and end tokens around a text where the file asks for them."""
        before = [self.special["bos_token"]] if self.add_bos else []
        after = [self.special["eos_token"]] if self.add_eos else []
        steps = [first] if first is not None else []
        if before or after:
            ids = {token: self.tokens.index(token) for token in {*before, *after} if token is not None}
            single = " ".join([*(f"{t}:0" for t in before), "$A:0", *(f"{t}:0" for t in after)])
            pair = single + " " + " ".join([*(f"{t}:1" for t in before), "$B:1", *(f"{t}:1" for t in after)])
            steps.append(
                processors.TemplateProcessing(single=single, pair=pair, special_tokens=list(ids.items()))
            )
        if steps:
            tokenizer.post_processor = steps[0] if len(steps) == 1 else processors.Sequence(steps)

    def _add_tokens(self, tokenizer: Tokenizer) -> None:
        pieces = zip(self.tokens, self.kinds, strict=True)
        tokenizer.add_tokens(
            [
                AddedToken(token, special=kind != Kind.USER_DEFINED, normalized=False)
                for token, kind in pieces
                if token and kind in (Kind.CONTROL, Kind.USER_DEFINED, Kind.UNKNOWN)
            ]
        )
