"""Tokenizers put together from their parts: pieces with scores, merges, and the tokens around a text.

What files of every kind come down to (tokenizer folders, GGUF): byte-level BPE, WordPiece, and SentencePiece's Unigram
and BPE.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from kun.text.charsmap import charsmap_steps
from kun.text.sentencepiece import Piece, PieceType, SentencePieceModel

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

    def steps(self, add_prefix_space: bool = False) -> pre_tokenizers.PreTokenizer:
        steps: list[pre_tokenizers.PreTokenizer] = []
        if self.digits_apart:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        if self.pattern is not None:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), "isolated"))
        spelt = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=self.pattern is None)
        return pre_tokenizers.Sequence([*steps, spelt])


CUTTINGS: dict[str, Cutting] = {
    "gpt-2": Cutting(),
    "smollm": Cutting(digits_apart=True),
    "qwen2": Cutting(_QWEN2, composes=True),
    "llama-bpe": Cutting(_LLAMA3, whole_words_first=True),
    "smaug-bpe": Cutting(_LLAMA3),
    "bloom": Cutting(_BLOOM),
}
"""The ways that Kun knows, by llama.cpp's names (`tokenizer.ggml.pre`)."""
SPACE = "▁"
_NEVER = -1000.0  # for what the text itself can never spell: less than any spelling of it


def vocabulary_of(pieces: Sequence[Piece]) -> dict[str, int]:
    return {piece.text: index for index, piece in enumerate(pieces)}


def byte_level_bpe(
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    cutting: Cutting,
    add_prefix_space: bool = False,
) -> Tokenizer:
    """GPT-2's BPE over bytes."""
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=cutting.whole_words_first))
    if cutting.composes:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = cutting.steps(add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def wordpiece(vocabulary: dict[str, int], unknown: str, normalizer: normalizers.BertNormalizer) -> Tokenizer:
    """BERT's: words cut at spaces and punctuation, then into the longest pieces, `##` inside words."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def bpe_by_score(pieces: Sequence[Piece], unknown: str | None, byte_fallback: bool = True) -> models.BPE:
    """SentencePiece joins the two neighbours whose union scores highest: the same as merges in that order."""
    vocabulary = vocabulary_of(pieces)
    merges: list[tuple[float, tuple[str, str]]] = []
    for text, score, kind in pieces:
        if kind != PieceType.NORMAL:
            continue
        pairs = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        merges += [(score, pair) for pair in known]
    merges.sort(key=lambda merge: -merge[0])
    return models.BPE(
        vocabulary,
        [pair for _, pair in merges],
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=byte_fallback,
    )


def pieces_decoder(prefix: bool) -> decoders.Decoder:
    """▁ and bytes back to text, without the space that was put before it."""
    tail: list[decoders.Decoder] = [decoders.Strip(" ", 1, 0)] if prefix else []
    return decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *tail])


def sentencepiece(
    model: SentencePieceModel,
    *,
    first: Sequence[normalizers.Normalizer] = (),
    once: Sequence[str] | None = None,
) -> Tokenizer:
    """The tokenizer that gives SentencePiece's own ids, without tokens around the text.

    `first` changes the text before. Each stretch between special tokens is normalized by itself, and has a space put
    before it; with `once` only the text as a whole has, where none of these special tokens begins it.
    """
    pieces = model.pieces
    unknown = next(index for index, piece in enumerate(pieces) if piece.type == PieceType.UNKNOWN)
    if model.unigram:
        scores = [
            (text, score if kind in (PieceType.NORMAL, PieceType.USER_DEFINED) else _NEVER)
            for text, score, kind in pieces
        ]
        tokenizer = Tokenizer(models.Unigram(scores, unk_id=unknown, byte_fallback=model.byte_fallback))
    else:
        tokenizer = Tokenizer(bpe_by_score(pieces, pieces[unknown].text, model.byte_fallback))
    wholes = [piece.text for piece in pieces if piece.type == PieceType.USER_DEFINED]
    steps = [*first, *(charsmap_steps(model.charsmap) if model.charsmap else [])]
    if model.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
        steps.append(normalizers.Replace(Regex(rf"\A +|[ {SPACE}]+\z"), ""))
    if model.add_dummy_prefix:
        steps.append(_prefix(wholes, once or ()))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = pieces_decoder(model.add_dummy_prefix)
    tokenizer.add_tokens([AddedToken(text, normalized=True) for text in wholes])
    return tokenizer


def _prefix(wholes: Sequence[str], without: Sequence[str]) -> normalizers.Normalizer:
    """The space before a text. The normalizer also sees each of `wholes` alone, which is to stay as it is."""
    if not wholes and not without:
        return normalizers.Prepend(SPACE)
    barred = [rf"{re.escape(text)}\z" for text in wholes] + [re.escape(text) for text in without]
    return normalizers.Replace(Regex(rf"\A(?!{'|'.join(barred)})(?=[\s\S])"), SPACE)


def around(before: Sequence[str], after: Sequence[str]) -> tuple[list[str], list[str]]:
    """The templates of one text and of two, each of which has these tokens around it."""
    single, second = (
        [*(f"{text}:{n}" for text in before), f"${'AB'[n]}:{n}", *(f"{text}:{n}" for text in after)]
        for n in (0, 1)
    )
    return single, single + second


def framed(
    tokenizer: Tokenizer,
    single: Sequence[str],
    pair: Sequence[str],
    *,
    first: processors.PostProcessor | None = None,
) -> None:
    """Put tokens around texts, by templates of "$A", "$B" and tokens; behind a colon each has its type, else 0."""
    steps = [first] if first is not None else []
    if len(single) > 1:
        texts = {re.sub(r":\d+$", "", part) for part in pair if not part.startswith(("$A", "$B"))}
        ids = [(text, tokenizer.token_to_id(text)) for text in sorted(texts)]
        steps.append(processors.TemplateProcessing(single=list(single), pair=list(pair), special_tokens=ids))
    if steps:
        tokenizer.post_processor = steps[0] if len(steps) == 1 else processors.Sequence(steps)
