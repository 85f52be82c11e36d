"""Tokenizers of SentencePiece models by the reference's class: where ids, spaces and special tokens differ."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer, normalizers

from kun.errors import DamagedFile, UnsupportedFormat
from kun.text.building import around, framed, sentencepiece
from kun.text.sentencepiece import Piece, PieceType, SentencePieceModel
from kun.text.tokenizer_kinds import FAIRSEQ, Kind, read_vocabulary, text_of

_T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_XLNET = FAIRSEQ | {"sep_token": "<sep>", "cls_token": "<cls>"}
_CHATGLM = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
_CHATGLM1 = _CHATGLM | {
    "bos_token": "<sop>",
    "eos_token": "<eop>",
    "pad_token": "<pad>",
    "mask_token": "[MASK]",
}
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_CHATGLM_MARKS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", *_ROLES)


class SentencePiece(Kind):
    """A SentencePiece model whose ids are those of its pieces."""

    files: tuple[str, ...] = ("tokenizer.model",)

    def build(self, folder: Path) -> Tokenizer:
        model = SentencePieceModel.read(folder / self.files[0])
        model = replace(model, pieces=tuple(self._pieces(self._renamed(model.pieces))))
        marks = [piece.text for piece in model.pieces if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN)]
        tokenizer = sentencepiece(model, first=self._first(), once=self._once(marks))
        tokenizer.add_special_tokens([self.token(text, True) for text in marks])
        return tokenizer

    def _renamed(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces, some of which the small files call by another name."""
        renamed, texts = list(pieces), {piece.text for piece in pieces}
        for index, value in self.numbered().items():
            text = text_of(value)
            if text is not None and 0 <= index < len(renamed) and text not in texts:
                kind = renamed[index].type
                renamed[index] = Piece(text, 0.0, kind if kind == PieceType.UNKNOWN else PieceType.CONTROL)
        return renamed

    def _pieces(self, pieces: list[Piece]) -> list[Piece]:
        """The pieces in the order of the model's ids."""
        return pieces

    def _first(self) -> list[normalizers.Normalizer]:
        """Changes to a text before SentencePiece's own."""
        return [normalizers.Lowercase()] if self.flag("do_lower_case", False) else []

    def _once(self, marks: Sequence[str]) -> list[str] | None:
        return None


class Llama(SentencePiece):
    """LLaMA: where it is not "legacy", only the text as a whole has a space put before it."""

    defaults = _LLAMA
    adds_bos = True
    pads_left = True

    def __init__(self, said: Mapping[str, object]) -> None:
        super().__init__(said)
        self.normalizes = not self.flag("legacy", False)

    def _once(self, marks: Sequence[str]) -> list[str] | None:
        if not self.normalizes:
            return None
        named = [text_of(value) for value in (*self.numbered().values(), *self.more())]
        return sorted({*marks, *self.special.values(), *filter(None, named)})


class T5(SentencePiece):
    """T5: the marks of its spans, <extra_id_0> and so on, stand last, the first of them at the end."""

    files = ("spiece.model",)
    defaults = _T5

    def _pieces(self, pieces: list[Piece]) -> list[Piece]:
        count = self.said.get("extra_ids", 100)
        if not isinstance(count, int) or not 0 <= count <= 10_000:
            raise DamagedFile(f"tokenizer_config.json says extra_ids = {count!r}, which cannot be.")
        marks = [f"<extra_id_{index}>" for index in reversed(range(count))]
        known = {piece.text for piece in pieces}
        return pieces + [Piece(mark, 0.0, PieceType.CONTROL) for mark in marks if mark not in known]

    def frame(self, tokenizer: Tokenizer) -> None:
        framed(tokenizer, *around([], [self.special["eos_token"]]))


class XLNet(SentencePiece):
    """XLNet: the tokens that end a text stand behind it, its class last of all.

    Where tokenizer_config.json states `keep_accents`, quotes of two marks become one first, and accents go unless they
    are kept, as the reference's class does; else the ids are SentencePiece's own.
    """

    files = ("spiece.model",)
    defaults = _XLNET
    pads_left = True
    masks_with_space = True

    def _first(self) -> list[normalizers.Normalizer]:
        if "keep_accents" not in self.said:
            return super()._first()
        quotes: list[normalizers.Normalizer] = [normalizers.Replace(quote, '"') for quote in ("``", "''")]
        bare = [] if self.flag("keep_accents", True) else [normalizers.NFKD(), normalizers.StripAccents()]
        return quotes + bare + super()._first()

    def frame(self, tokenizer: Tokenizer) -> None:
        sep, cls = self.special["sep_token"], self.special["cls_token"]
        framed(tokenizer, ["$A", sep, f"{cls}:2"], ["$A", sep, "$B:1", f"{sep}:1", f"{cls}:2"])


class XlmRoberta(SentencePiece):
    """XLM-R: fairseq's four special tokens in the place of the model's own three, so that ids lie one higher."""

    files = ("sentencepiece.bpe.model",)
    defaults = FAIRSEQ
    masks_with_space = True

    def _pieces(self, pieces: list[Piece]) -> list[Piece]:
        bos, pad, eos, unknown, mask = (
            self.special.get(f"{name}_token", "") for name in ("bos", "pad", "eos", "unk", "mask")
        )
        marks = [Piece(text, 0.0, PieceType.CONTROL) for text in (bos, pad, eos)]
        return [
            *marks,
            Piece(unknown, 0.0, PieceType.UNKNOWN),
            *pieces[3:],
            Piece(mask, 0.0, PieceType.CONTROL),
        ]

    def frame(self, tokenizer: Tokenizer) -> None:
        bos, eos = self.special["bos_token"], self.special["eos_token"]
        framed(tokenizer, [bos, "$A", eos], [bos, "$A", eos, eos, "$B", eos])


class ChatGlm1(SentencePiece):
    """ChatGLM-6B: line ends, tabs and runs of spaces are pieces; the blank to fill stands behind a text."""

    files = ("ice_text.model",)
    defaults = _CHATGLM1
    pads_left = True

    def _first(self) -> list[normalizers.Normalizer]:
        blanks = [normalizers.Replace(" " * size, f"<|blank_{size}|>") for size in range(80, 1, -1)]
        return [
            *super()._first(),
            normalizers.Replace("\n", "<n>"),
            normalizers.Replace("\t", "<|tab|>"),
            *blanks,
        ]

    def frame(self, tokenizer: Tokenizer) -> None:
        framed(
            tokenizer,
            *around([], [text_of(self.said.get("gmask_token")) or "[gMASK]", self.special["bos_token"]]),
        )


class ChatGlm(SentencePiece):
    """ChatGLM2 and 3: marks behind the pieces, which a text cannot spell, and the blank to fill before it."""

    defaults = _CHATGLM
    pads_left = True

    def _pieces(self, pieces: list[Piece]) -> list[Piece]:
        return pieces + [Piece(mark, 0.0, PieceType.UNUSED) for mark in _CHATGLM_MARKS]

    def add_tokens(self, tokenizer: Tokenizer) -> None:
        super().add_tokens(tokenizer)
        tokenizer.add_special_tokens(
            [self.token(mark, True) for mark in _CHATGLM_MARKS if not mark.isalpha()]
        )

    def frame(self, tokenizer: Tokenizer) -> None:
        framed(tokenizer, *around(["[gMASK]", "sop"], []))


class Marian(SentencePiece):
    """Marian: the pieces of source.spm, with the ids of vocab.json."""

    files = ("source.spm", "vocab.json")
    defaults = _T5

    def build(self, folder: Path) -> Tokenizer:
        if self.flag("separate_vocabs", False):
            raise UnsupportedFormat(
                f"{folder} has a vocabulary for each of its languages; Kun reads Marian's shared one."
            )
        self._ids = read_vocabulary(folder / "vocab.json")
        return super().build(folder)

    def _pieces(self, pieces: list[Piece]) -> list[Piece]:
        texts = sorted(self._ids, key=self._ids.__getitem__)
        if [self._ids[text] for text in texts] != list(range(len(texts))):
            raise DamagedFile("Its vocab.json leaves out ids, or gives one twice: copy the model again.")
        known = {piece.text: piece for piece in pieces}
        known[self.special["unk_token"]] = Piece(self.special["unk_token"], 0.0, PieceType.UNKNOWN)
        return [known.get(text, Piece(text, 0.0, PieceType.UNUSED)) for text in texts]

    def add_tokens(self, tokenizer: Tokenizer) -> None:
        super().add_tokens(tokenizer)
        languages = [text for text in self._ids if re.fullmatch(r">>.+<<", text)]
        tokenizer.add_special_tokens([self.token(text, True) for text in languages])

    def frame(self, tokenizer: Tokenizer) -> None:
        framed(tokenizer, *around([], [self.special["eos_token"]]))
