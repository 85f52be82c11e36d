"""A network with the head of one task, ready to use: it fills masks, tells classes and numbers, finds answers.

Filling is no decoding: all masks of a text are seen at once, each with what stands on both its sides
(Devlin et al., arXiv:1810.04805, section 3.1).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.errors import BadInput, ContextOverflow
from kun.text.tokenizer import sound
from kun.text.windows import windows

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding, Tokenizer

    from kun.families import Family
    from kun.hub.checkpoint import Checkpoint

MASKS = ("[MASK]", "<mask>")
"""What stands for a masked word where the tokenizer's config names nothing: BERT's and RoBERTa's."""

FILLING_HEADS = ("MaskedLM", "PreTraining")
_ADVICE = "name a checkpoint that was saved with one (…ForMaskedLM), as google-bert/bert-base-uncased was."
_BATCH_TOKENS = 4096
_LONGEST_TOKEN = 64
_LONGEST_ANSWER = 64
"""Tokens of an answer that is looked for in a text."""


@dataclass(frozen=True)
class Filling:
    """One word that a mask may stand for: its token's id and text, and how likely it is."""

    token: int
    text: str
    probability: float


@dataclass(frozen=True)
class Judgement:
    """What is said of a text: the likeliest `label`, its probability as `score`, and those of all labels.

    Of a model that tells a number `score` is that number, and there is no label.
    """

    label: str | None
    score: float
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Span:
    """An answer as it stands in a text, from character `start` to `end`; `score` is its probability in its window."""

    text: str
    start: int
    end: int
    score: float


class TaskModel:
    """`net` is the torch module, whose output has `.logits` or what the head says; `config.head` names the head.

    Every method may be called from any thread.
    """

    def __init__(
        self,
        net: Any,
        tokenizer: "Tokenizer",
        *,
        name: str = "model",
        mask_token: str | None = None,
        family: "Family | None" = None,
        checkpoint: "Checkpoint | None" = None,
    ) -> None:
        self.net, self.tokenizer, self.config, self.name = net, tokenizer, net.config, name
        self.family, self.checkpoint = family, checkpoint
        self.mask_token = mask_token or next((m for m in MASKS if tokenizer.token_to_id(m) is not None), None)
        tokenizer.no_padding()
        tokenizer.no_truncation()

    @classmethod
    def open(
        cls,
        name_or_path: str | Path,
        *,
        quantize: str | None = None,
        dtype: "torch.dtype | str | None" = None,
        device: "torch.device | str | None" = None,
    ) -> "TaskModel":
        """Load a model by its name or its folder.

        Raises `ModelNotFound`, `DamagedFile`, `UnsupportedFormat`, and `BadInput` where it has no head.
        """
        from kun.hub.checkpoint import Checkpoint
        from kun.hub.pull import locate
        from kun.hub.store import display_name

        path = locate(name_or_path)
        checkpoint = Checkpoint.open(path)
        if checkpoint.head is None:
            raise BadInput(f"{name_or_path} has no head for a task such as filling masks: {_ADVICE}")
        return cls(
            checkpoint.network(dtype=dtype, device=device, quantize=quantize),
            checkpoint.tokenizer,
            name=display_name(path),
            mask_token=checkpoint.special_tokens.get("mask_token"),
            family=checkpoint.family,
            checkpoint=checkpoint,
        )

    def fill(self, texts: str | Sequence[str], k: int = 5) -> Any:
        """The `k` likeliest words for the mask of a text, likeliest first: a list of `Filling`.

        Where a text has several masks, a list for each of them: each is filled as if the others stayed
        masks. A list of texts gives a list. Raises `BadInput` for a text without a mask, a `k` that cannot be
        and a model that fills none; `ContextOverflow` for a text that is too long.
        """
        mask = self._mask_id()
        several = [texts] if isinstance(texts, str) else texts
        if not isinstance(several, Sequence) or not all(isinstance(text, str) for text in several):
            raise BadInput("fill takes a text, or a list of texts.")
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self.config.vocab_size:
            raise BadInput(f"k is {k!r}; it must be a whole number from 1 to {self.config.vocab_size}.")
        rows = [self._encode(text, mask) for text in several]
        filled: list[Any] = [
            each if len(each) > 1 else each[0]
            for batch in _batches(rows)
            for each in self._run(batch, mask, k)
        ]
        return filled[0] if isinstance(texts, str) else filled

    def classify(self, texts: Any) -> Any:
        """What is said of a text, or of a pair of texts in a tuple: a `Judgement`. A list of them gives a list.

        Raises `BadInput` for what is no text and for a model that does not classify; `ContextOverflow` for a text that
        is too long.
        """
        if self.config.head != "SequenceClassification":
            raise BadInput(
                f"{self.name} was saved as {self.config.architecture} and classifies nothing: fine-tune it with "
                f'stage = "classify" first.'
            )
        several = texts if isinstance(texts, list) else [texts]
        encodings = [self._encode_judged(one) for one in several]
        order = sorted(range(len(several)), key=lambda place: len(encodings[place].ids))
        said: list[Any] = [None] * len(several)
        for batch in _batches([encodings[place].ids for place in order]):
            places, order = order[: len(batch)], order[len(batch) :]
            for place, judgement in zip(places, self._judge([encodings[p] for p in places]), strict=True):
                said[place] = judgement
        return said if isinstance(texts, list) else said[0]

    def _encode_judged(self, text: Any) -> "Encoding":
        pair = text if isinstance(text, tuple) else (text,)
        if not 1 <= len(pair) <= 2 or not all(isinstance(one, str) and one.strip() for one in pair):
            raise BadInput(
                "classify takes a text, a pair of texts in a tuple, or a list of these, none of them empty."
            )
        limit = self.config.context_length
        size = f"{sum(map(len, pair))} characters"
        if sum(map(len, pair)) <= limit * _LONGEST_TOKEN:
            encoding = self.tokenizer.encode(*(one.encode("utf-8", "replace").decode() for one in pair))
            if len(encoding) <= limit:
                return encoding
            size = f"{len(encoding)} tokens"
        raise ContextOverflow(f"The text has {size}; {self.name} takes {limit} tokens: shorten it.")

    def _judge(self, encodings: "list[Encoding]") -> "list[Judgement]":
        import torch

        longest = max(map(len, encodings))
        ids, types, mask = (torch.zeros(len(encodings), longest, dtype=torch.long) for _ in range(3))
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = torch.tensor(encoding.ids)
            types[row, : len(encoding)] = torch.tensor(encoding.type_ids)
            mask[row, : len(encoding)] = 1
        two = bool(types.any()) and self.config.token_types > 1
        given = [ids, mask, types] if two else [ids, mask]
        with torch.inference_mode():
            logits = self.net(*(tensor.to(self._device()) for tensor in given)).logits.float()
        if self.config.problem == "regression":
            return [Judgement(None, number, {}) for number in logits[:, 0].tolist()]
        labels = self.config.labels
        made = [dict(zip(labels, row, strict=True)) for row in logits.softmax(dim=-1).tolist()]
        best = [max(labels, key=shares.__getitem__) for shares in made]
        return [Judgement(label, shares[label], shares) for label, shares in zip(best, made, strict=True)]

    def answer(self, question: str, context: str) -> Span | None:
        """The stretch of a text that answers a question, None where none does better than that there is no answer.

        A long text is read in windows. Raises `BadInput` for empty texts, a question that leaves no room for the
        text, and a model that finds no answers.
        """
        if self.config.head != "QuestionAnswering":
            raise BadInput(
                f"{self.name} was saved as {self.config.architecture} and finds no answers: fine-tune it with "
                f'objective.name = "answer_span" first.'
            )
        if not all(isinstance(text, str) and text.strip() for text in (question, context)):
            raise BadInput("answer takes a question and a text, neither of them empty.")
        asked, text = (one.encode("utf-8", "replace").decode() for one in (question, context))
        seen = windows(self.tokenizer, asked, text, self.config.context_length)
        found = [self._best_span(window) for window in seen]
        nothing = min(empty for empty, _, _, _ in found)
        _, score, start, end = max(found, key=lambda one: one[1])
        return Span(text[start:end], start, end, score) if score > nothing else None

    def _best_span(self, window: "Encoding") -> tuple[float, float, int, int]:
        """The probability that a window has no answer, and that of its best span with its characters."""
        import torch

        ids, types = (torch.tensor([some], device=self._device()) for some in (window.ids, window.type_ids))
        two = self.config.token_types > 1
        with torch.inference_mode():
            said = self.net(ids, None, types) if two else self.net(ids)
        starts, ends = (logits[0].float().softmax(dim=-1) for logits in said)
        of_text = torch.tensor([sequence == 1 for sequence in window.sequence_ids], device=ids.device)
        joint = (starts * of_text)[:, None] * (ends * of_text)[None]
        joint = joint.triu().tril(_LONGEST_ANSWER - 1)
        place = int(joint.argmax())
        start, end = divmod(place, len(window.ids))
        return (
            float(starts[0] * ends[0]),
            float(joint.max()),
            window.offsets[start][0],
            window.offsets[end][1],
        )

    def _mask_id(self) -> int:
        if self.config.head not in FILLING_HEADS:
            raise BadInput(
                f"{self.name} was saved as {self.config.architecture} and fills no masks: {_ADVICE}"
            )
        mask = self.tokenizer.token_to_id(self.mask_token) if self.mask_token else None
        if mask is None:
            raise BadInput(f"The tokenizer of {self.name} has no token for a mask, so it cannot fill any.")
        return mask

    def _encode(self, text: str, mask: int) -> list[int]:
        limit, size = self.config.context_length, f"{len(text)} characters"
        if len(text) <= limit * _LONGEST_TOKEN:  # beyond that it is not even tokenized
            encoding: Encoding = self.tokenizer.encode(sound(text))
            ids: list[int] = encoding.ids
            if len(ids) <= limit:
                if mask not in ids:
                    raise BadInput(
                        f"There is no mask in {text[:80]!r}: write {self.mask_token} where a word is to be found."
                    )
                return ids
            size = f"{len(ids)} tokens"
        raise ContextOverflow(f"The text has {size}; {self.name} takes {limit} tokens: shorten it.")

    def _run(self, rows: list[list[int]], mask: int, k: int) -> list[list[list[Filling]]]:
        """For each row, for each of its masks, the `k` likeliest."""
        import torch

        packed = torch.tensor([token for row in rows for token in row], device=self._device())
        with torch.inference_mode():
            output = self.net(
                packed[None], lengths=[len(row) for row in rows], logits_at=(packed == mask).nonzero()[:, 0]
            )
            # the masked word's logits stand first in the output of either head
            best = output[0][0].float().softmax(dim=-1).topk(k)
        filled = iter(
            [self._filling(token, p) for token, p in zip(tokens, ps, strict=True)]
            for tokens, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
        return [[next(filled) for token in row if token == mask] for row in rows]

    def _filling(self, token: int, probability: float) -> Filling:
        return Filling(token, self.tokenizer.decode([token], skip_special_tokens=False), probability)

    def _device(self) -> "torch.device":
        import torch

        tensor = next(self.net.parameters(), None)
        return torch.device("cpu") if tensor is None else tensor.device


def _batches(rows: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Rows in their order, at most so many tokens at once (or one row)."""
    batch: list[list[int]] = []
    for row in rows:
        if batch and sum(map(len, batch)) + len(row) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
