"""A tokenizer as the fields of a GGUF file, the way back of `gguf_tokenizer`.

llama.cpp has four tokenizers, and names the patterns that cut text before byte-level BPE instead of storing them. Which
one a tokenizer has is found by trying: the pattern that cuts a page of everything in the same places is the one.
"""

import base64
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

from tokenizers import Tokenizer, pre_tokenizers

from kun.errors import UnsupportedFormat
from kun.text.building import CUTTINGS, SPACE
from kun.text.sentencepiece import PieceType

_PROBE = """It's HERE'S we'll I'VE they'd o'clock; 3.14 12345678 x1y22 １２ ½ Ⅷ ٣٤
  def f(a_b, *c):\n\treturn {"k": [1, -2e10]}  # ok!?\r\n\r\n\n   trailing   \t \n
你好，世界！今天是2024年。“引号”（括号）…… 日本語テスト、한국어 Привет, ποιος; שלום العربية، नमस्ते।
🙂👩‍👩‍👧🏳️‍🌈 <|x|> </s> a.b,c!d?e\u00a0f\u3000g\u2028h ...!!!??? ((nested)) naïve ŒUVRE ǅ ß"""


class _Model(TypedDict, total=False):
    """The `model` of a tokenizer.json, as far as it is looked at; which fields are there the type says."""

    type: str
    vocab: list[tuple[str, float]]
    merges: list[str | list[str]]
    byte_fallback: bool
    ignore_merges: bool
    unk_id: int


class _Token(TypedDict):
    content: str
    lstrip: bool
    rstrip: bool


class _Described(TypedDict):
    """A tokenizer.json."""

    model: _Model
    normalizer: object
    pre_tokenizer: object
    added_tokens: list[_Token]


Fields = dict[str, object]


@dataclass(frozen=True)
class _Rows:
    """The text and the kind of each row of the embedding."""

    tokens: list[str]
    kinds: list[int]


def tokenizer_fields(
    tokenizer: Tokenizer,
    rows: int,
    special: Mapping[str, str],
    end_ids: list[int],
    template: str | None,
) -> Fields:
    """The `tokenizer.*` fields for a network with an embedding of `rows`.

    `special` are the texts of bos_token and so on, `end_ids` the tokens that end a text or a turn.
    Raises `UnsupportedFormat` for a tokenizer that llama.cpp would not cut like.
    """
    described: _Described = json.loads(tokenizer.to_str())
    pieces = _pieces(tokenizer, rows, special)
    makers = {"BPE": _bpe, "Unigram": _unigram, "WordPiece": _wordpiece}
    make = makers.get(described["model"]["type"])
    if make is None:
        raise UnsupportedFormat(
            f"GGUF has no tokenizer of the kind {described['model']['type']}; it has BPE, Unigram and WordPiece."
        )
    fields: Fields = {"model": "", "tokens": pieces.tokens, "token_type": pieces.kinds}
    fields |= make(tokenizer, described, pieces)
    fields |= _frame(tokenizer, special) | _named(tokenizer, special, end_ids, fields)
    said = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}
    return said | ({"tokenizer.chat_template": template} if template else {})


_ENDS = ("</s>",)
"""What llama.cpp makes a mark of by its name, though the file says that it is a token like any other."""


@dataclass(frozen=True)
class Loss:
    """Something of a tokenizer that llama.cpp does otherwise: in words, and how to `spare` a text of it."""

    sentence: str
    spare: Callable[[str], str]


def losses(tokenizer: Tokenizer) -> list[Loss]:
    """What of the tokenizer a GGUF file cannot say, or llama.cpp does otherwise."""
    described: _Described = json.loads(tokenizer.to_str())
    lost = []
    steps = _types(described["normalizer"])
    if "NFC" in steps and "Precompiled" not in steps:
        lost.append(
            Loss(
                "llama.cpp does not compose letters and accents (NFC): decomposed text gets other tokens there.",
                partial(unicodedata.normalize, "NFC"),
            )
        )
    if described["model"]["type"] == "WordPiece":
        lost.append(
            Loss(
                "llama.cpp's WordPiece drops the vowel signs of Indic scripts and of Korean.",
                partial(
                    re.sub, r"\S+", lambda word: "" if any(map(_is_dropped, _parts(word[0]))) else word[0]
                ),
            )
        )
    greedy = [token["content"] for token in described["added_tokens"] if token["lstrip"] or token["rstrip"]]
    if greedy:
        lost.append(
            Loss(
                f"llama.cpp keeps the spaces beside {', '.join(greedy)}, which the tokenizer takes away.",
                partial(re.sub, rf"\s*({'|'.join(map(re.escape, greedy))})\s*", r"\1"),
            )
        )
    added = {token["content"] for token in described["added_tokens"]}
    taken = [text for text in _ENDS if text not in added and tokenizer.token_to_id(text) is not None]
    if taken:
        lost.append(
            Loss(
                f"llama.cpp takes {', '.join(taken)} for the end of a text wherever it stands, since a token is "
                f"called so.",
                partial(re.sub, "|".join(map(re.escape, taken)), ""),
            )
        )
    return lost


def _parts(word: str) -> str:
    """A word with accents, vowel signs and Korean vowels as characters of their own."""
    return unicodedata.normalize("NFD", word)


def _is_dropped(character: str) -> bool:
    return unicodedata.category(character) in ("Mc", "Me") or "\u1160" <= character <= "\u11ff"


def _pieces(tokenizer: Tokenizer, rows: int, special: Mapping[str, str]) -> _Rows:
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    largest = max(vocabulary.values(), default=-1)
    if largest >= rows:
        raise UnsupportedFormat(
            f"The tokenizer has ids up to {largest}, the embedding {rows} rows: GGUF holds as many tokens as rows."
        )
    tokens = [f"[PAD{index}]" for index in range(rows)]
    kinds = [int(PieceType.UNUSED)] * rows
    for token, index in vocabulary.items():
        tokens[index], kinds[index] = token, int(PieceType.NORMAL)
    for index, added in tokenizer.get_added_tokens_decoder().items():
        kinds[index] = int(PieceType.CONTROL if added.special else PieceType.USER_DEFINED)
    if special.get("unk_token") in vocabulary:
        kinds[vocabulary[special["unk_token"]]] = int(PieceType.UNKNOWN)
    return _Rows(tokens, kinds)


def _bpe(tokenizer: Tokenizer, described: _Described, rows: _Rows) -> Fields:
    if described["model"]["byte_fallback"]:
        return _sentencepiece(tokenizer, described, rows)
    normalizers = _types(described["normalizer"])
    if "ByteLevel" not in _types(described["pre_tokenizer"]) or normalizers - {"NFC", "Sequence"}:
        raise UnsupportedFormat(
            "GGUF has BPE over bytes, or with bytes to fall back on, and without changes to the text before it; "
            "this tokenizer is another."
        )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    return {"model": "gpt2", "pre": _pattern(tokenizer, described, "NFC" in normalizers), "merges": merges}


def _pattern(tokenizer: Tokenizer, described: _Described, composes: bool) -> str:
    """The name of the pattern that cuts as the tokenizer does; one that also composes alike is preferred."""
    whole_first = bool(described["model"].get("ignore_merges"))
    fitting = [
        name
        for name, cutting in CUTTINGS.items()
        if cutting.whole_words_first == whole_first
        and _cuts(cutting.steps()) == _cuts(tokenizer.pre_tokenizer)
    ]
    if not fitting:
        raise UnsupportedFormat(
            f"llama.cpp has no name for the pattern by which this tokenizer cuts text ({', '.join(CUTTINGS)} are "
            f"known), and GGUF stores the name alone."
        )
    return min(fitting, key=lambda name: CUTTINGS[name].composes != composes)


def _cuts(cutter: pre_tokenizers.PreTokenizer) -> list[str]:
    return [piece for piece, _ in cutter.pre_tokenize_str(_PROBE)]


def _sentencepiece(tokenizer: Tokenizer, described: _Described, rows: _Rows) -> Fields:
    """SentencePiece's BPE: a token's score is the place of the merge that makes it."""
    if "Precompiled" in _types(described["normalizer"]):
        raise UnsupportedFormat("GGUF has no map of characters for BPE, and this tokenizer has one.")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in described["model"]["merges"]]
    places: dict[str, int] = {}
    for place, (left, right) in enumerate(merges):
        places.setdefault(left + right, place)
    kinds = [
        int(PieceType.BYTE) if kind == PieceType.NORMAL and _is_byte(token) else kind
        for token, kind in zip(rows.tokens, rows.kinds, strict=True)
    ]
    scores = [
        -float(places.get(token, len(merges))) if kind == PieceType.NORMAL else 0.0
        for token, kind in zip(rows.tokens, kinds, strict=True)
    ]
    first = tokenizer.encode("x", add_special_tokens=False).tokens[:1]
    return {
        "model": "llama",
        "pre": "default",
        "token_type": kinds,
        "scores": scores,
        "add_space_prefix": bool(first) and first[0].startswith(SPACE),
    }


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _unigram(tokenizer: Tokenizer, described: _Described, rows: _Rows) -> Fields:
    kinds = _types(described["normalizer"])
    composed = {"NFC"} if "Precompiled" in kinds else set()  # what the map of characters is helped by
    if kinds - {"Precompiled", "Replace", "Sequence", "Strip", "Prepend"} - composed:
        raise UnsupportedFormat(
            f"GGUF holds SentencePiece's own map of characters, not the steps {', '.join(sorted(kinds))} by which "
            f"this tokenizer changes text."
        )
    charsmap = _find(described["normalizer"], "precompiled_charsmap")
    scores = [float(score) for _, score in described["model"]["vocab"]]
    scores += [0.0] * (len(rows.tokens) - len(scores))
    first = tokenizer.encode("x", add_special_tokens=False).tokens[:1]
    said = {
        "model": "t5",
        "pre": "default",
        "scores": scores,
        "unknown_token_id": described["model"]["unk_id"],
        "add_space_prefix": bool(first) and first[0].startswith(SPACE),
        "remove_extra_whitespaces": len(tokenizer.encode("x  x").ids) == len(tokenizer.encode("x x").ids),
    }
    if not isinstance(charsmap, str):
        return said
    return said | {"precompiled_charsmap": list(base64.b64decode(charsmap))}


def _wordpiece(tokenizer: Tokenizer, described: _Described, rows: _Rows) -> Fields:
    if tokenizer.normalizer is None or tokenizer.normalizer.normalize_str("ÉA中") != "ea 中 ":
        raise UnsupportedFormat(
            "llama.cpp's WordPiece puts every text in lower case, takes the accents away and cuts Chinese into "
            "characters; this tokenizer does not."
        )
    return {
        "model": "bert",
        "tokens": [
            token if kind != PieceType.NORMAL else token[2:] if token.startswith("##") else SPACE + token
            for token, kind in zip(rows.tokens, rows.kinds, strict=True)
        ],
    }


def _frame(tokenizer: Tokenizer, special: Mapping[str, str]) -> Fields:
    """Which tokens are put around a text: found by encoding one."""
    bare, framed = (tokenizer.encode("x", add_special_tokens=add).tokens for add in (False, True))
    start = next((i for i in range(len(framed)) if framed[i : i + len(bare)] == bare), 0)
    before, after = framed[:start], framed[start + len(bare) :]
    if len(before) > 1 or len(after) > 1:
        raise UnsupportedFormat(
            f"This tokenizer puts {' '.join(before) or 'nothing'} before a text and {' '.join(after) or 'nothing'} "
            f"behind it; GGUF knows one token each."
        )
    return {
        "add_bos_token": bool(before),
        "add_eos_token": bool(after),
        **({"bos_token_id": tokenizer.token_to_id(before[0])} if before else {}),
        **({"eos_token_id": tokenizer.token_to_id(after[0])} if after else {}),
    }


def _named(tokenizer: Tokenizer, special: Mapping[str, str], end_ids: list[int], fields: Fields) -> Fields:
    names = {
        "bos_token_id": ("bos_token", "cls_token"),
        "eos_token_id": ("eos_token", "sep_token"),
        "unknown_token_id": ("unk_token",),
        "padding_token_id": ("pad_token",),
        "cls_token_id": ("cls_token",),
        "seperator_token_id": ("sep_token",),  # so spelt in the format
        "mask_token_id": ("mask_token",),
    }
    said: Fields = {}
    for key, sources in names.items():
        texts = [special[source] for source in sources if source in special]
        ids = [index for index in map(tokenizer.token_to_id, texts) if index is not None]
        if ids and key not in fields:
            said[key] = ids[0]
    ends = [index for index in end_ids if index != said.get("eos_token_id", fields.get("eos_token_id"))]
    if ends and "eos_token_id" not in said and "eos_token_id" not in fields:
        said["eos_token_id"] = ends.pop(0)
    return said | ({"eot_token_id": ends[0]} if ends else {})


def _types(step: object) -> set[str]:
    """The kinds of a step and of all steps within it."""
    if isinstance(step, dict):
        found = {step["type"]} if isinstance(step.get("type"), str) else set()
        return found.union(*(_types(value) for value in step.values()))
    return set().union(*map(_types, step)) if isinstance(step, list) else set()


def _find(step: object, key: str) -> object:
    """The value of `key` in a step, or in one within it."""
    if isinstance(step, dict):
        return (
            step[key]
            if key in step
            else next(filter(None, (_find(value, key) for value in step.values())), None)
        )
    return next(filter(None, (_find(value, key) for value in step)), None) if isinstance(step, list) else None
