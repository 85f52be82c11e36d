"""An encoder with the head of one task, ready to use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, overload

from kun.errors import BadInput, ContextOverflow
from kun.models.ready import LONGEST_TOKEN, TextModel
from kun.text.tokenizer import sound

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding, Tokenizer
    from torch import nn

    from kun.hub.checkpoint import Checkpoint
    from kun.models.kinds import Candidate
    from kun.networks.family import Family

ADVICE = "name a checkpoint that was saved with one (…ForMaskedLM), as google-bert/bert-base-uncased was."

Text = str | tuple[str, str]
"""A text, or a pair of texts."""


@dataclass(frozen=True)
class Filling:
    """One word that a mask may stand for: its token's id and text, and how likely it is."""

    token: int
    text: str
    probability: float


Filled = list[Filling] | list[list[Filling]]
"""The likeliest words for the one mask of a text, or for each of its masks."""


@dataclass(frozen=True)
class Judgement:
    """The class of a text: the likeliest `label`, its probability as `score`, and those of all labels.

    Of a model that predicts a number `score` is that number, and there is no label.
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


class TaskModel(TextModel):
    """An encoder with a head: `net` gives `.logits` or what the head makes; `config.head` names the head.

    Of `fill`, `classify` and `answer` a model has the one that its head is for. Every method may be called from any
    thread.
    """

    def __init__(
        self,
        net: "nn.Module",
        tokenizer: "Tokenizer",
        *,
        name: str = "model",
        family: "Family | None" = None,
        checkpoint: "Checkpoint | None" = None,
    ) -> None:
        super().__init__(net, tokenizer, name=name, family=family, checkpoint=checkpoint)
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
        """Load a model by its name or its folder, as the class that its head asks for.

        Raises `ModelNotFound`, `DamagedFile`, `UnsupportedFormat`, and `BadInput` where it has no head.
        """
        from kun.hub.pull import locate
        from kun.models.opening import open_model

        model = open_model(locate(name_or_path), quantize=quantize, dtype=dtype, device=device)
        if not isinstance(model, TaskModel):
            raise BadInput(f"{name_or_path} has no head for a task such as filling masks: {ADVICE}")
        return model

    @classmethod
    def from_candidate(
        cls,
        candidate: "Candidate",
        *,
        quantize: str | None,
        dtype: "torch.dtype | str | None",
        device: "torch.device | str | None",
    ) -> Self:
        """The model of an encoder's checkpoint with a head."""
        from kun.hub.store import display_name

        checkpoint = candidate.opened()
        net = checkpoint.network(dtype=dtype, device=device, quantize=quantize)
        return cls(net, checkpoint.tokenizer, name=display_name(checkpoint.path), checkpoint=checkpoint)

    @overload
    def fill(self, texts: str, k: int = 5) -> Filled: ...
    @overload
    def fill(self, texts: list[str], k: int = 5) -> list[Filled]: ...
    def fill(self, texts: str | Sequence[str], k: int = 5) -> Filled | list[Filled]:
        """The `k` likeliest words for each mask of a text; see `MaskedLanguageModel`. Raises `BadInput`."""
        raise self._lacks("fills no masks", ADVICE)

    @overload
    def classify(self, texts: Text) -> Judgement: ...
    @overload
    def classify(self, texts: list[Text]) -> list[Judgement]: ...
    def classify(self, texts: Text | list[Text]) -> Judgement | list[Judgement]:
        """The class of a text, or of a pair of texts; see `Classifier`. Raises `BadInput`."""
        raise self._lacks("classifies nothing", 'fine-tune it with stage = "classify" first.')

    def answer(self, question: str, context: str) -> Span | None:
        """The stretch of a text that answers a question; see `QuestionAnswerer`. Raises `BadInput`."""
        raise self._lacks("finds no answers", 'fine-tune it with objective.name = "answer_span" first.')

    def _lacks(self, what: str, advice: str) -> BadInput:
        return BadInput(f"{self.name} was saved as {self.config.architecture} and {what}: {advice}")

    def _within_limit(self, first: str, second: str | None = None) -> "Encoding":
        """Token ids of a text or a pair. Raises `ContextOverflow`; what is far too long is not even tokenized."""
        limit, characters = self.config.context_length, len(first) + len(second or "")
        size = f"{characters} characters"
        if characters <= limit * LONGEST_TOKEN:
            encoding = self.tokenizer.encode(sound(first), None if second is None else sound(second))
            if len(encoding) <= limit:
                return encoding
            size = f"{len(encoding)} tokens"
        raise ContextOverflow(f"The text has {size}; {self.name} takes {limit} tokens: shorten it.")
