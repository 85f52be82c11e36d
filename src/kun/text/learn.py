"""Tokenizers learned from text: byte-level BPE, WordPiece, Unigram; and those of bytes and of characters.

| kind | for | paper |
|---|---|---|
| bpe | GPT and its relatives: any text, without loss | Sennrich et al., arXiv:1508.07909; bytes: Radford et al. 2019 |
| wordpiece | BERT: normalized words, `##` inside them | Schuster and Nakajima 2012; Devlin et al., arXiv:1810.04805 |
| unigram | T5, XLNet: the likeliest pieces of a sentence | Kudo, arXiv:1804.10959 |
| bytes | nothing to learn: 256 tokens | |
| characters | those of the text, by frequency | |

The `tokenizers` library counts and merges. For bpe a text is first cut by Qwen2's pattern: letters of any
script, one digit at a time (so that numbers are cut alike), punctuation with the line ends after it, indentation.
GGUF's readers know that pattern by name, so that an exported model cuts as it did in training.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from kun.errors import BadInput

Kind = Literal["bpe", "wordpiece", "unigram", "bytes", "characters"]
KINDS: tuple[Kind, ...] = get_args(Kind)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The chat template of a learned tokenizer: OpenAI's ChatML, with what the assistant says marked."""

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_GPT = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
_SPECIAL: dict[Kind, dict[str, str]] = {
    "bpe": _GPT,
    "bytes": _GPT,
    "characters": _GPT | {"unk_token": "<|unknown|>"},
    "wordpiece": {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    "unigram": {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"},
}
_TURNS = ("<|im_start|>", "<|im_end|>")
#: where Unigram's sentences end: line ends, digits, and Chinese punctuation, without which a paragraph were one word
_BREAKS = r"\n+|\p{N}|[，。、；：？！…“”‘’（）《》【】]"
_LONGEST_PIECE = 16
_BYTE_SCORE = -20.0  # below any piece's, so that bytes spell only what nothing else does


@dataclass(frozen=True)
class LearnedTokenizer:
    """A tokenizer with the texts of its special tokens by name, and its chat template."""

    tokenizer: Tokenizer
    special_tokens: Mapping[str, str]
    chat_template: str | None

    @property
    def config(self) -> dict[str, object]:
        """tokenizer_config.json, as `transformers` reads it."""
        said: dict[str, object] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self.special_tokens,
        }
        return said | ({"chat_template": self.chat_template} if self.chat_template else {})


def learn_tokenizer(
    texts: Iterable[str],
    kind: Kind = "bpe",
    vocab_size: int = 8192,
    *,
    special_tokens: Sequence[str] = (),
    chat_template: str | None = CHATML,
    lowercase: bool = False,
) -> LearnedTokenizer:
    """Learn a tokenizer of at most `vocab_size` tokens, special ones counted.

    The kind's own special tokens come first (for bytes and characters: last), then ChatML's where there is a
    `chat_template` and the kind is one of GPT's, then `special_tokens`. `lowercase` is for wordpiece.

    Raises `BadInput` for an unknown kind, a vocabulary too small for the kind's least, and texts without a letter.
    """
    if kind not in KINDS:
        raise BadInput(f"There is no tokenizer of kind {kind!r}: use one of {', '.join(KINDS)}.")
    named = _SPECIAL[kind]
    if named is not _SPECIAL["wordpiece"] and named is not _SPECIAL["unigram"] and chat_template:
        special_tokens = [*_TURNS, *special_tokens]
    else:
        chat_template = None
    special = list(dict.fromkeys([*named.values(), *special_tokens]))
    _check_size(kind, vocab_size, len(special))
    texts = _with_text(texts)
    match kind:
        case "bpe":
            tokenizer = _bpe(texts, vocab_size, special)
        case "wordpiece":
            tokenizer = _wordpiece(texts, vocab_size, special, lowercase)
        case "unigram":
            tokenizer = _unigram(texts, vocab_size, special)
        case "bytes":
            tokenizer = byte_tokenizer(special)
        case "characters":
            tokenizer = _characters(texts, vocab_size, special)
    return LearnedTokenizer(tokenizer, named, chat_template)


def _check_size(kind: Kind, vocab_size: int, n_special: int) -> None:
    least = n_special + (256 if kind in ("bpe", "bytes", "unigram") else 1)
    if vocab_size < least:
        raise BadInput(
            f"A vocabulary of {vocab_size} is too small for {kind}: it needs {least} at the least."
        )


def _with_text(texts: Iterable[str]) -> Iterator[str]:
    """The texts; raises `BadInput` where nothing stands in any of them."""
    rest = iter(texts)
    first = next((text for text in rest if text.strip()), None)
    if first is None:
        raise BadInput("There is no text to learn a tokenizer from: name data with text.")
    yield first
    yield from rest


def _bpe(texts: Iterable[str], vocab_size: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=_added(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wordpiece(texts: Iterable[str], vocab_size: int, special: list[str], lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    texts = _again(texts)
    most = (vocab_size - len(special)) // 2  # each letter may be there twice, with ## and without
    letters = _letters(map(tokenizer.normalizer.normalize_str, texts))
    alphabet = sorted(letter for letter, _ in letters.most_common(most) if not letter.isspace())
    inside = [f"##{letter}" for letter in _inside_words(texts, tokenizer) & set(alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        # letters inside words get their ids here: the trainer would number them in an order of chance
        special_tokens=[*special, *sorted(inside)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer = _without_added(tokenizer)
    tokenizer.add_special_tokens(_added(special))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def _inside_words(texts: Iterable[str], like: Tokenizer) -> set[str]:
    """The letters that stand anywhere but first in a word."""
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = like.normalizer, like.pre_tokenizer
    words.train_from_iterator(texts, trainers.WordLevelTrainer(vocab_size=2**31, show_progress=False))
    return {letter for word in words.get_vocab() for letter in word[1:]}


def _without_added(tokenizer: Tokenizer) -> Tokenizer:
    """The same without its added tokens, which stay in the vocabulary."""
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = []
    fresh: Tokenizer = Tokenizer.from_str(json.dumps(described))
    return fresh


def _unigram(texts: Iterable[str], vocab_size: int, special: list[str]) -> Tokenizer:
    """Unigram over pieces with ▁ for a space; what no piece covers is spelt in bytes, so that nothing is lost."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_BREAKS), "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="first"),
        ]
    )
    texts = _again(texts)
    room = vocab_size - 256 - len(special)
    rare = _but_the(room // 2, _letters(text.replace(" ", "▁") for text in texts))
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size - 256,
        special_tokens=_added(special),
        unk_token="<unk>",
        max_piece_length=_LONGEST_PIECE,
        shrinking_factor=0.5,  # the library's 0.75 takes twice the rounds for under 1 % fewer tokens
        show_progress=False,
    )
    tokenizer.train_from_iterator((rare.sub("\n", text) for text in texts), trainer)
    tokenizer.model = _with_bytes(tokenizer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    ends = [("</s>", tokenizer.token_to_id("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=ends
    )
    return tokenizer


def _again(texts: Iterable[str]) -> Iterable[str]:
    """Texts that can be gone over twice."""
    return list(texts) if iter(texts) is texts else texts


def _letters(texts: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return counts


def _but_the(most: int, letters: Counter[str]) -> re.Pattern[str]:
    """A pattern for every letter but the most frequent ones."""
    kept = "".join(map(re.escape, (letter for letter, _ in letters.most_common(most))))
    return re.compile(f"[^ \n{kept}]+")


def _with_bytes(tokenizer: Tokenizer) -> models.Unigram:
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = [(piece, score) for piece, score in model["vocab"]]
    vocabulary += [(f"<0x{byte:02X}>", _BYTE_SCORE) for byte in range(256)]
    return models.Unigram(vocabulary, unk_id=tokenizer.token_to_id("<unk>"), byte_fallback=True)


def byte_tokenizer(special: Sequence[str] = ("<|endoftext|>",)) -> Tokenizer:
    """Bytes as they are: token i is byte i, and the special tokens follow."""
    from kun.text.tokenizer import byte_alphabet

    tokenizer = Tokenizer(models.BPE(byte_alphabet(), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_added(special))
    return tokenizer


def _characters(texts: Iterable[str], vocab_size: int, special: list[str]) -> Tokenizer:
    frequent = sorted(letter for letter, _ in _letters(texts).most_common(vocab_size - len(special)))
    unknown = _SPECIAL["characters"]["unk_token"]
    vocabulary = {token: index for index, token in enumerate([*frequent, unknown])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(_added(special))
    return tokenizer


def _added(special: Iterable[str]) -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=False) for token in special]
