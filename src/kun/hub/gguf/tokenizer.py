"""The tokenizer inside a GGUF file, as a `tokenizers.Tokenizer` that gives the same ids.

Kinds (`tokenizer.ggml.model`): "gpt2" is byte-level BPE, cut beforehand as `tokenizer.ggml.pre` says; "llama" is
SentencePiece's BPE with bytes to fall back on; "t5" is SentencePiece's Unigram; "bert" is WordPiece.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from kun.errors import DamagedFile, UnsupportedFormat
from kun.hub.gguf.file import GgufFile
from kun.text.building import (
    CUTTINGS,
    SPACE,
    Cutting,
    around,
    bpe_by_score,
    byte_level_bpe,
    framed,
    pieces_decoder,
    wordpiece,
)
from kun.text.sentencepiece import Piece, PieceType

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


class GgufTokenizer:
    """Everything about text that a GGUF file holds. Raises `DamagedFile`, `UnsupportedFormat`."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self.model = self._text("model", "")
        self.pre = self._text("pre", "default")
        self.tokens = [str(token) for token in self._list("tokens")]
        self.kinds = [kind for kind in self._list("token_type") if isinstance(kind, int)]
        self.kinds = self.kinds or [int(PieceType.NORMAL)] * len(self.tokens)
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

    def _get(self, key: str) -> object:
        return self._file.field(f"tokenizer.ggml.{key}", None)

    def _text(self, key: str, default: str) -> str:
        value = self._get(key)
        return value if isinstance(value, str) else default

    def _flag(self, key: str, default: bool) -> bool:
        value = self._get(key)
        return default if value is None else bool(value)

    def _id(self, key: str, default: int | None = None) -> int | None:
        value = self._get(key)
        return value if isinstance(value, int) else default

    def _list(self, key: str) -> list[object]:
        value = self._get(key)
        return value if isinstance(value, list) else []

    def _special(self, key: str) -> str | None:
        index = self._id(key)
        return self.tokens[index] if index is not None and 0 <= index < len(self.tokens) else None

    @property
    def _cutting(self) -> Cutting | None:
        return CUTTINGS.get(_ALIASES.get(self.pre, self.pre))

    @property
    def add_bos(self) -> bool:
        whole_words_first = self._cutting is not None and self._cutting.whole_words_first
        by_default = self.model == "llama" or whole_words_first
        return self._flag("add_bos_token", by_default) and self.special["bos_token"] is not None

    @property
    def add_eos(self) -> bool:
        return self._flag("add_eos_token", False) and self.special["eos_token"] is not None

    @property
    def chat_template(self) -> str | None:
        template = self._file.field("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def end_ids(self) -> list[int]:
        """The tokens that end a turn: those that the file declares, then others that are known by name."""
        declared = [self._id(f"{name}_token_id") for name in ("eos", "eot", "eom")]
        known = [
            index
            for index, (token, kind) in enumerate(zip(self.tokens, self.kinds, strict=True))
            if kind == PieceType.CONTROL and token in _END_OF_TURN
        ]
        return list(dict.fromkeys([index for index in declared if index is not None] + known))

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

    def config(self) -> dict[str, object]:
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
        for line in map(str, self._list("merges")):
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
        tokenizer = byte_level_bpe(vocabulary, self._merges(vocabulary), cutting)
        self._frame(tokenizer, processors.ByteLevel(trim_offsets=False))
        return tokenizer

    def _sentencepiece(self) -> Tokenizer:
        tokenizer = Tokenizer(bpe_by_score(self._pieces(), self.special["unk_token"]))
        prefix = self._flag("add_space_prefix", True)
        steps = [normalizers.Prepend(SPACE)] if prefix else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
        tokenizer.decoder = pieces_decoder(prefix)
        self._frame(tokenizer)
        return tokenizer

    def _pieces(self) -> list[Piece]:
        return [Piece(*parts) for parts in zip(self.tokens, self._scores(), self.kinds, strict=True)]

    def _scores(self) -> list[float]:
        scores = [float(score) for score in self._list("scores") if isinstance(score, int | float)]
        if len(scores) != len(self.tokens):
            raise DamagedFile(
                f"{self._file.path} has {len(scores)} scores for {len(self.tokens)} tokens: it is damaged."
            )
        return scores

    def _unigram(self) -> Tokenizer:
        pieces = list(zip(self.tokens, self._scores(), strict=True))
        unknown = self._id("unknown_token_id", 0)
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown))
        raw = bytes(value & 0xFF for value in self._list("precompiled_charsmap") if isinstance(value, int))
        steps = [normalizers.Precompiled(raw)] if raw else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")]
        )
        tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
        self._frame(tokenizer)
        return tokenizer

    def _wordpiece(self) -> Tokenizer:
        vocabulary = self._vocabulary()
        unknown = self.tokens[self._id("unknown_token_id") or 0]
        uncased = not any(token[:1].isupper() for token in self.tokens if not token.startswith("["))
        tokenizer = wordpiece(vocabulary, unknown, normalizers.BertNormalizer(lowercase=uncased))
        ends = {
            name: (self.tokens[index], index)
            for name, index in (
                ("cls", self._id("cls_token_id", self._id("bos_token_id", vocabulary.get("[CLS]")))),
                ("sep", self._id("seperator_token_id", vocabulary.get("[SEP]"))),
            )
            if index is not None
        }
        if len(ends) == 2:
            tokenizer.post_processor = processors.BertProcessing(ends["sep"], ends["cls"])
        return tokenizer

    @staticmethod
    def _continued(token: str, kind: int) -> str:
        """llama.cpp marks the beginning of words with ▁; WordPiece marks their continuations with ##."""
        if kind == PieceType.CONTROL or (token.startswith("[") and token.endswith("]") and len(token) > 2):
            return token
        return token[1:] if token.startswith(SPACE) else "##" + token

    def _frame(self, tokenizer: Tokenizer, first: processors.PostProcessor | None = None) -> None:
        """Put the beginning and end tokens around a text where the file asks for them."""
        before, after = self.special["bos_token"], self.special["eos_token"]
        ends = ([before] if before and self.add_bos else [], [after] if after and self.add_eos else [])
        framed(tokenizer, *around(*ends), first=first)

    def _add_tokens(self, tokenizer: Tokenizer) -> None:
        pieces = zip(self.tokens, self.kinds, strict=True)
        tokenizer.add_tokens(
            [
                AddedToken(token, special=kind != PieceType.USER_DEFINED, normalized=False)
                for token, kind in pieces
                if token and kind in (PieceType.CONTROL, PieceType.USER_DEFINED, PieceType.UNKNOWN)
            ]
        )
