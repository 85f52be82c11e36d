"""Rows to token ids, by the model's own tokenizer and chat template."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from kun.data.chat_loss import Rendered, learned_tokens, render
from kun.data.rows import ChatMessage, Choice, Conversation, Labelled, Pair, Question, Row, Text
from kun.errors import BadInput, BadRow
from kun.text.chat import ChatTemplate
from kun.text.control import ControlTokens
from kun.text.windows import windows, with_answers

#: what becomes of a conversation, a pair or a labelled text that is longer than `longest`
Long = Literal["cut", "drop"]


@dataclass(frozen=True, slots=True)
class Tokenized:
    """One row as ids.

    `ids` int32 [n]; `learned` bool [n] where only some are to be predicted; `types` uint8 [n], which of two texts
    a token belongs to; `source_ids` int32 [m] of a pair; `label` the class's index or the number.
    """

    ids: NDArray[np.int32]
    learned: NDArray[np.bool_] | None = None
    types: NDArray[np.uint8] | None = None
    source_ids: NDArray[np.int32] | None = None
    label: float | None = None
    was_cut: bool = False


Result = Tokenized | list[Tokenized] | BadRow | None
"""What became of a row: a document, several, an error for one that cannot be used, None for one that was too long."""


@dataclass
class RowTokenizer:
    """Turns rows of any kind into ids; the same on every machine and in every process.

    `begin` and `end` are ids put around each text and each side of a pair; where neither is given, labelled texts have
    the tokenizer's own special tokens. `template` renders conversations. `classes` are the labels in the order of their
    indices; None for labels that are numbers. Rows other than running text that are longer than `longest` tokens are
    cut or dropped, as `long` says.
    """

    tokenizer: Tokenizer
    begin: int | None = None
    end: int | None = None
    template: ChatTemplate | None = None
    classes: tuple[str, ...] | None = None
    longest: int | None = None
    long: Long = "cut"

    @cached_property
    def _plain(self) -> Tokenizer:
        """For running text, which may spell special tokens, and spells them only: they are not the document's end."""
        copy = _copy(self.tokenizer)
        copy.encode_special_tokens = True
        return copy

    @cached_property
    def _chat(self) -> Tokenizer:
        """For conversations: some post-processors take white space out of the offsets by which answers are found."""
        copy = _copy(self.tokenizer)
        copy.post_processor = None
        return copy

    @cached_property
    def _control(self) -> ControlTokens:
        return ControlTokens.of(self.tokenizer, self.template.source if self.template else "")

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        """The texts of special tokens, which may end a turn."""
        added = self.tokenizer.get_added_tokens_decoder().values()
        return tuple(token.content for token in added if token.special)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes or ())}

    def __call__(self, rows: Sequence[Row]) -> "list[Result]":
        """Each row's ids; None for one that was dropped as too long, an error for one that cannot be used.

        Raises `BadInput` where a conversation meets a model without a chat template.
        """
        made: list[Result] = [None] * len(rows)
        for kind, turn in _TURNS.items():
            places = [place for place, row in enumerate(rows) if isinstance(row, kind)]
            if places:
                results = turn(self, [rows[place] for place in places])
                for place, result in zip(places, results, strict=True):
                    made[place] = result
        return made

    def _texts(self, rows: Sequence[Text]) -> "list[Result]":
        encodings = self._plain.encode_batch_fast([row.text for row in rows], add_special_tokens=False)
        return [Tokenized(self._bounded(encoding)) for encoding in encodings]

    def _bounded(self, encoding: Encoding) -> NDArray[np.int32]:
        ids = encoding.ids
        if self.begin is not None:
            ids = [self.begin, *ids]
        if self.end is not None:
            ids.append(self.end)
        return np.array(ids, np.int32)

    def _conversations(self, rows: Sequence[Conversation]) -> "list[Result]":
        if self.template is None:
            raise BadInput(
                f"{rows[0].where} is a conversation, and the model has no chat template: use a model that has one, or"
                " train a tokenizer with one."
            )
        rendered = [self._rendered(row, self.template) for row in rows]
        sound = [one for one in rendered if isinstance(one, Rendered)]
        encodings = iter(self._chat.encode_batch([one.text for one in sound], add_special_tokens=False))
        return [
            one if isinstance(one, BadRow) else self._answered(row, one, next(encodings))
            for row, one in zip(rows, rendered, strict=True)
        ]

    def prompt(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The ids of a conversation with the beginning of the answer that is asked for. Raises `BadInput`."""
        if self.template is None:
            raise BadInput("The model has no chat template: use one that has, or train a tokenizer with one.")
        text = self.template.render([self._control.as_text(message) for message in messages])
        ids: list[int] = self._chat.encode(text, add_special_tokens=False).ids
        return ids

    def _rendered(self, row: Conversation, template: ChatTemplate) -> Rendered | BadRow:
        try:
            plain = self._control.as_text
            messages = tuple(plain(message) for message in row.messages)
            tools = self._control.tools_as_text(row.tools)
            row = replace(row, messages=messages, tools=None if tools is None else tuple(tools))
            return render(row, template, self._ends)
        except BadRow as error:
            return error

    def _answered(
        self, row: Conversation, rendered: Rendered, encoding: Encoding
    ) -> Tokenized | BadRow | None:
        learned = learned_tokens(encoding, rendered)
        if not learned.any():
            return BadRow(f"{row.where} has no token of the assistant's to learn: mend or skip the row.")
        return self._shortened(Tokenized(np.array(encoding.ids, np.int32), learned))

    def _shortened(self, one: Tokenized) -> Tokenized | None:
        """A conversation or pair cut at its end, or None where it is to be dropped."""
        longest = self.longest
        sizes = [len(one.ids), 0 if one.source_ids is None else len(one.source_ids)]
        if longest is None or max(sizes) <= longest:
            return one
        if self.long == "drop":
            return None
        learned = None if one.learned is None else one.learned[:longest]
        if learned is not None and not learned.any():  # nothing of it is left to learn
            return None
        source = None if one.source_ids is None else one.source_ids[:longest]
        return Tokenized(one.ids[:longest], learned, None, source, one.label, was_cut=True)

    def _pairs(self, rows: Sequence[Pair]) -> "list[Result]":
        texts = [text for row in rows for text in (row.source, row.target)]
        encoded = self._plain.encode_batch_fast(texts, add_special_tokens=False)
        sides = [self._bounded(encoding) for encoding in encoded]
        return [
            self._shortened(Tokenized(target, source_ids=source))
            for source, target in zip(sides[::2], sides[1::2], strict=True)
        ]

    def _labelled(self, rows: Sequence[Labelled]) -> "list[Tokenized | BadRow | None]":
        if self.begin is None and self.end is None:
            inputs: list[Any] = [row.texts if len(row.texts) == 2 else row.texts[0] for row in rows]
            encodings = self._plain.encode_batch_fast(inputs, add_special_tokens=True)
            return [self._judged(row, encoding) for row, encoding in zip(rows, encodings, strict=True)]
        texts = [text for row in rows for text in row.texts]
        parts = iter(self._plain.encode_batch_fast(texts, add_special_tokens=False))
        return [self._joined(row, [next(parts).ids for _ in row.texts]) for row in rows]

    def _judged(self, row: Labelled, encoding: Encoding) -> Tokenized | BadRow | None:
        """Texts with the special tokens that the tokenizer itself puts around them."""
        try:
            label = self._label(row)
        except BadRow as error:
            return error
        was_cut = self.longest is not None and len(encoding) > self.longest
        if was_cut:
            if self.long == "drop":
                return None
            encoding = self._cut(row)
        types = np.array(encoding.type_ids, np.uint8) if len(row.texts) == 2 else None
        return Tokenized(np.array(encoding.ids, np.int32), types=types, label=label, was_cut=was_cut)

    def _cut(self, row: Labelled) -> Encoding:
        """The longer of two texts gives way first, and the special tokens stay."""
        assert self.longest is not None
        self._plain.enable_truncation(self.longest, strategy="longest_first")
        try:
            return self._plain.encode(row.texts[0], row.texts[1] if len(row.texts) == 2 else None)
        finally:
            self._plain.no_truncation()

    def _joined(self, row: Labelled, parts: list[list[int]]) -> Tokenized | BadRow | None:
        """`begin`, then each text with `end` after it, as GPT-1 has them: the last `end` is where the class is read."""
        try:
            label = self._label(row)
        except BadRow as error:
            return error
        begin = [] if self.begin is None else [self.begin]
        end = [] if self.end is None else [self.end]
        over = 0
        if self.longest is not None:
            over = sum(map(len, parts)) + len(begin) + len(end) * len(parts) - self.longest
        if over > 0 and self.long == "drop":
            return None
        for _ in range(over):
            longer = max(parts, key=len)
            del longer[-1:]
        ids = begin + [index for part in parts for index in part + end]
        types = None
        if len(parts) == 2:
            first = len(begin) + len(parts[0]) + len(end)
            types = (np.arange(len(ids)) >= first).astype(np.uint8)
        return Tokenized(np.array(ids, np.int32), types=types, label=label, was_cut=over > 0)

    def _questions(self, rows: Sequence[Question]) -> "list[Result]":
        made: list[Result] = []
        for row in rows:
            try:
                found = windows(self._plain, row.question, row.context, self.longest)
                made.append([_with_answer(row, window) for window in found])
            except BadInput as error:
                made.append(BadRow(f"{row.where}: {error}"))
        return made

    def _choices(self, rows: Sequence[Choice]) -> "list[Result]":
        return [self._chosen(row) for row in rows]

    def _chosen(self, row: Choice) -> Tokenized | BadRow | None:
        """A question with each of its answers, one after the other; `types` numbers them, `label` is the right one.

        Each has what the tokenizer puts around a pair. A document that is too long loses its end.
        """
        try:
            made, was_cut = with_answers(self._plain, row.document, row.question, row.answers, self.longest)
        except BadInput as error:
            return None if self.long == "drop" else BadRow(f"{row.where}: {error} Or skip the row.")
        if was_cut and self.long == "drop":
            return None
        read = [encoding.ids for encoding in made]
        types = np.repeat(np.arange(len(read), dtype=np.uint8), [len(ids) for ids in read])
        ids = np.concatenate([np.array(ids, np.int32) for ids in read])
        return Tokenized(ids, types=types, label=float(row.right), was_cut=was_cut)

    def _label(self, row: Labelled) -> float:
        if self.classes is not None:
            if str(row.label) not in self._indices:
                shown = ", ".join(map(repr, self.classes[:12])) + (", …" if len(self.classes) > 12 else "")
                raise BadRow(
                    f"{row.where} has the label {row.label!r}, which is not in the training data ({shown}):"
                    " mend the label, or add rows that have it."
                )
            return float(self._indices[str(row.label)])
        try:
            number = float(row.label)
        except ValueError:
            number = float("nan")
        if not np.isfinite(number):
            raise BadRow(
                f"{row.where} has the label {row.label!r}, which is no number: mend or skip the row."
            )
        return number

    def settings(self) -> dict[str, Any]:
        """All that this tokenizer is, as JSON; `of` makes it again, in another process too."""
        return {
            "tokenizer": self.tokenizer.to_str(),
            "begin": self.begin,
            "end": self.end,
            "template": None
            if self.template is None
            else [self.template.source, dict(self.template.special_tokens)],
            "classes": self.classes,
            "longest": self.longest,
            "long": self.long,
        }

    @classmethod
    def of(cls, settings: str) -> "RowTokenizer":
        """The tokenizer that `settings` described, from its JSON."""
        values = json.loads(settings)
        values["tokenizer"] = Tokenizer.from_str(values["tokenizer"])
        values["template"] = ChatTemplate(*values["template"]) if values["template"] else None
        values["classes"] = None if values["classes"] is None else tuple(values["classes"])
        return cls(**values)


def _with_answer(row: Question, window: Encoding) -> Tokenized:
    """A window whose learned tokens are the answer's; none where that is not in it as a whole."""
    learned = np.zeros(len(window), np.bool_)
    if row.answer is not None:
        end = row.start + len(row.answer)
        of_text = np.array([sequence == 1 for sequence in window.sequence_ids])
        starts, ends = np.array(window.offsets, np.int64).reshape(-1, 2).T
        within = of_text & (ends > row.start) & (starts < end) & (ends > starts)
        places = np.flatnonzero(within)
        if len(places) and starts[places[0]] <= row.start and ends[places[-1]] >= end:
            learned = within
    return Tokenized(np.array(window.ids, np.int32), learned, np.array(window.type_ids, np.uint8))


def _copy(tokenizer: Tokenizer) -> Tokenizer:
    copy: Tokenizer = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy


_TURNS: dict[type, Any] = {
    Text: RowTokenizer._texts,
    Conversation: RowTokenizer._conversations,
    Pair: RowTokenizer._pairs,
    Labelled: RowTokenizer._labelled,
    Question: RowTokenizer._questions,
    Choice: RowTokenizer._choices,
}

_MOST_CLASSES = 10_000


def classes_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """The labels of labelled rows, numbers in their own order. Raises `BadInput` where there are fewer than two."""
    found: set[str] = set()
    for row in rows:
        if not isinstance(row, Labelled):
            raise BadInput(f"{row.where} has no label: name data of labelled texts.")
        found.add(str(row.label))
        if len(found) > _MOST_CLASSES:
            raise BadInput(
                f"There are more than {_MOST_CLASSES:,} labels up to {row.where}: are they numbers?"
            )
    if len(found) < 2:
        raise BadInput(f"All rows have the label {next(iter(found), None)!r}: classes are at least two.")
    return tuple(sorted(found, key=_in_order))


def _in_order(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label
