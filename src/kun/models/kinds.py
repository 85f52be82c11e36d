"""The kinds of ready model, and how what lies at a path tells which of them it is.

A room above adds the name of its record to `KINDS`; a package outside names its own as an entry point of the group
`kun.models`. Those of Kun are asked first, in their order; nothing here imports torch.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kun.errors import KunError, UnsupportedFormat
from kun.hub.checkpoint import Checkpoint
from kun.hub.opening import open_checkpoint
from kun.hub.store import no_model
from kun.networks.family import Kind

if TYPE_CHECKING:
    import torch

    from kun.models.ready import ReadyModel

GROUP = "kun.models"
KINDS = (
    "kun.alignment.reward_model:REWARD_MODEL",
    "kun.wordvectors.kind:WORD_VECTORS",
    "kun.models.kinds:MASKED_LANGUAGE_MODEL",
    "kun.models.kinds:CLASSIFIER",
    "kun.models.kinds:QUESTION_ANSWERER",
    "kun.models.kinds:TASK_MODEL",
    "kun.models.kinds:ENCODER",
    "kun.models.kinds:LANGUAGE_MODEL",
)
"""Where the `ModelKind` of each of Kun's own kinds is found."""

FILLING_HEADS = ("MaskedLM", "PreTraining")


class Candidate:
    """What lies at `path`; it is opened as a checkpoint once, when a kind first asks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint, also a pipeline's; None for what cannot be opened as one."""
        return self._opened if isinstance(self._opened, Checkpoint) else None

    def opened(self) -> Checkpoint:
        """The checkpoint of one network. Raises `DamagedFile`, `UnsupportedFormat`, `BadInput`."""
        if isinstance(self._opened, KunError):
            raise self._opened
        _ = self._opened.head  # an architecture or head that is not known shows here
        return self._opened

    @cached_property
    def _opened(self) -> Checkpoint | KunError:
        try:
            return open_checkpoint(self.path)
        except KunError as error:
            return error

    @cached_property
    def network_kind(self) -> Kind | None:
        """The kind of the one network whose checkpoint it is, of an architecture and head that Kun reads."""
        with suppress(KunError):
            return self.opened().kind
        return None

    @property
    def head(self) -> str | None:
        """What an encoder was saved with, as "MaskedLM"; None for the encoder alone and for all else."""
        return self.opened().head if self.network_kind == "encoder" else None


class Opener(Protocol):
    """What makes a ready model of a candidate; the options are those of `open_model`."""

    def __call__(
        self,
        candidate: Candidate,
        *,
        quantize: str | None,
        dtype: "torch.dtype | str | None",
        device: "torch.device | str | None",
    ) -> "ReadyModel": ...


@dataclass(frozen=True)
class ModelKind:
    """One kind of ready model: which candidates it recognizes, and where its `Opener` is, as "module:Class.method"."""

    name: str
    opens: str
    recognizes: Callable[[Candidate], bool]

    @property
    def opener(self) -> Opener:
        """The opener itself, whose module is imported now."""
        found: Opener = _named(self.opens)
        return found


def kind_of(candidate: Candidate) -> ModelKind:
    """The first kind that recognizes a candidate.

    Raises what opening it as a checkpoint raises where none does: `DamagedFile`, `UnsupportedFormat`, `BadInput`.
    """
    for kind in kinds():
        if kind.recognizes(candidate):
            return kind
    if candidate.path.is_file() and candidate.path.suffix != ".gguf":
        raise no_model(candidate.path)
    raise UnsupportedFormat(f"{candidate.opened().path} is no model of a kind that Kun opens.")


def kinds() -> Iterator[ModelKind]:
    """Kun's own kinds, then those of packages outside, which are looked for only where they are asked."""
    for name in KINDS:
        yield _named(name)
    for entry in entry_points(group=GROUP):
        kind = entry.load()
        if not isinstance(kind, ModelKind):
            raise UnsupportedFormat(
                f"The entry point {entry.name} of {GROUP} is no ModelKind: {entry.value}."
            )
        yield kind


def _named(name: str) -> Any:
    """What "module:name" or "module:Class.method" names."""
    module, _, own = name.partition(":")
    return attrgetter(own)(import_module(module))


def _with_head(name: str, opens: str, *heads: str) -> ModelKind:
    return ModelKind(name, f"{opens}.from_candidate", lambda candidate: candidate.head in heads)


MASKED_LANGUAGE_MODEL = _with_head(
    "masked language model", "kun.models.masked_language_model:MaskedLanguageModel", *FILLING_HEADS
)
CLASSIFIER = _with_head("classifier", "kun.models.classifier:Classifier", "SequenceClassification")
QUESTION_ANSWERER = _with_head(
    "question answerer", "kun.models.question_answerer:QuestionAnswerer", "QuestionAnswering"
)
TASK_MODEL = ModelKind(
    "encoder with a head",
    "kun.models.task_model:TaskModel.from_candidate",
    lambda candidate: bool(candidate.head),
)
ENCODER = ModelKind(
    "encoder",
    "kun.models.encoder:Encoder.from_candidate",
    lambda candidate: candidate.network_kind == "encoder",
)
LANGUAGE_MODEL = ModelKind(
    "language model",
    "kun.models.language_model:LanguageModel.from_candidate",
    lambda candidate: candidate.network_kind in ("decoder", "encoder-decoder"),
)
