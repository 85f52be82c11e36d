"""Token ids of short texts by a Unigram model, in a sixth of the memory that the `tokenizers` library needs for it.

A search is one short text; the library's own model of a large vocabulary takes 240 MB and a second to read. The ids are
the library's: the same normalizer and the same words, cut by the same search (Kudo, arXiv:1804.10959).
"""

import json
import re
from array import array
from pathlib import Path

from tokenizers import Tokenizer

_ENTRY = re.compile(rb'\s*\[\s*("(?:[^"\\]|\\.)*")\s*,\s*(-?[0-9.eE+-]+)\s*\]\s*([,\]])')
_VOCABULARY = re.compile(rb'"vocab"\s*:\s*\[')
_KEPT = 300
"""Pieces that the library's tokenizer keeps, which normalizes, finds words and adds special tokens."""
_UNKNOWN_PENALTY = 10.0


class CompactUnigram:
    """Cuts texts into the ids of a tokenizer.json whose model is a Unigram one."""

    def __init__(
        self,
        frame: Tokenizer,
        pieces: dict[str, int],
        scores: "array[float]",
        unknown: int,
        marks: tuple[str, ...],
    ) -> None:
        """`frame` is the tokenizer with the first few of its `pieces` (text → id), whose `scores` are by id.

        `unknown` is the id of what no piece covers; `marks` are the texts of special tokens.
        """
        self._frame, self._pieces, self._scores, self._unknown = frame, pieces, scores, unknown
        self._marks = marks
        self._unknown_score = min(scores) - _UNKNOWN_PENALTY
        self._longest = max(map(len, pieces))
        empty = frame.encode("").ids
        encoding = frame.encode("a")
        special = encoding.special_tokens_mask
        self._before = encoding.ids[: special.index(0)] if 0 in special else empty
        self._after = encoding.ids[len(special) - special[::-1].index(0) :] if 0 in special else []

    @classmethod
    def read(cls, path: Path) -> "CompactUnigram | None":
        """The model of a tokenizer.json; None for one of another kind, which the library alone reads."""
        data = path.read_bytes()
        found = _VOCABULARY.search(data)
        if found is None or b'"Unigram"' not in data[: found.start()] + data[-200:]:
            return None
        pieces: dict[str, int] = {}
        scores = array("d")
        at = found.end()
        while (entry := _ENTRY.match(data, at)) is not None:
            text = entry[1]
            pieces[json.loads(text) if b"\\" in text else text[1:-1].decode()] = len(scores)
            scores.append(float(entry[2]))
            at = entry.end()
            if entry[3] == b"]":
                break
        else:
            return None
        described = json.loads(data[: found.end()] + b"]" + data[at:])
        return cls._framed(described, pieces, scores)

    @classmethod
    def _framed(
        cls, described: dict[str, object], pieces: dict[str, int], scores: "array[float]"
    ) -> "CompactUnigram | None":
        model, added = described.get("model"), described.get("added_tokens")
        if (
            not isinstance(model, dict)
            or not isinstance(added, list)
            or described.get("pre_tokenizer") is None
        ):
            return None
        unknown = model.get("unk_id")
        if model.get("type") != "Unigram" or model.get("byte_fallback") or not isinstance(unknown, int):
            return None
        if unknown >= _KEPT or len(scores) <= _KEPT:
            return None
        first = [text for text, index in pieces.items() if index < _KEPT]
        model["vocab"] = [[text, scores[pieces[text]]] for text in first]
        described |= {
            "added_tokens": [one for one in added if one["id"] < _KEPT],
            "padding": None,
            "truncation": None,
        }
        marks = tuple(one["content"] for one in added)
        return cls(Tokenizer.from_str(json.dumps(described)), pieces, scores, unknown, marks)

    def encode(self, text: str, prefix: str = "") -> tuple[list[int], range] | None:
        """The ids of `prefix` and text, with special tokens around them, and the places of the text's own.

        None where they hold a special token themselves, and where a word would begin in one and end in the other.
        """
        words, first = self._words(prefix + text), self._words(prefix)
        if words is None or first is None or words[: len(first)] != first:
            return None
        ids = list(self._before)
        for word in first:
            ids += self._cut(word)
        start = len(ids)
        for word in words[len(first) :]:
            ids += self._cut(word)
        return ids + self._after, range(start, len(ids))

    def _words(self, text: str) -> list[str] | None:
        """A text's words, normalized; None where it holds a special token."""
        normalizer, words = self._frame.normalizer, self._frame.pre_tokenizer
        normal = normalizer.normalize_str(text) if normalizer is not None else text
        if any(mark in text or mark in normal for mark in self._marks):
            return None
        return [word for word, _ in words.pre_tokenize_str(normal)]

    def _cut(self, word: str) -> list[int]:
        """The pieces of the likeliest way through a word; what is unknown next to each other is one."""
        size = len(word)
        best, starts, ids = [0.0] * (size + 1), [-1] * (size + 1), [0] * (size + 1)
        for start in range(size):
            known = False
            for end in range(start + 1, min(size, start + self._longest) + 1):
                piece = self._pieces.get(word[start:end])
                if piece is None:
                    continue
                known = known or end == start + 1
                score = self._scores[piece] + best[start]
                if starts[end] < 0 or score > best[end]:
                    best[end], starts[end], ids[end] = score, start, piece
            score, end = self._unknown_score + best[start], start + 1
            if not known and (starts[end] < 0 or score > best[end]):
                best[end], starts[end], ids[end] = score, start, self._unknown
        found: list[int] = []
        while size > 0:
            if ids[size] != self._unknown or not found or found[-1] != self._unknown:
                found.append(ids[size])
            size = starts[size]
        return found[::-1]
