"""Measuring and classifying with models that are named, opened here."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kun.atomic_files import Progress
from kun.errors import BadInput
from kun.evaluation import run
from kun.evaluation.prepare import prepared
from kun.evaluation.progress import Tell
from kun.evaluation.result import Result
from kun.evaluation.task import AnyTask, read_task
from kun.evaluation.zero_shot.classify import classify as told_apart
from kun.evaluation.zero_shot.labels import Example, Labels, checked_examples, checked_texts
from kun.hub.pull import locate
from kun.models.kinds import Candidate, kind_of
from kun.models.opening import open_model
from kun.models.ready import ReadyModel
from kun.models.task_model import Judgement
from kun.settings import DEFAULT_ENCODER

Task = str | Path | Mapping[str, object] | AnyTask


def evaluate(
    model: str | Path | ReadyModel,
    task: Task,
    limit: int | None,
    shots: int | None,
    progress: Progress | None,
) -> Result:
    """See `kun.api.evaluate`; the task is checked before a model is opened."""
    if isinstance(model, str | Path):
        prepared(task, limit, shots)
        model = open_model(locate(model, progress, any_file=True))
    checked = read_task(task)
    tell = _teller(progress, f"{checked.name or checked.kind}, {model.name}")
    return run.evaluate(model, checked, limit=limit, shots=shots, tell=tell)


def classify(
    texts: str | Sequence[str],
    labels: Sequence[str] | Mapping[str, str] | Labels | None,
    model: str | Path | ReadyModel | None,
    examples: Iterable[Example | tuple[str, str]],
    quantize: str | None,
    progress: Progress | None,
) -> Judgement | list[Judgement]:
    """See `kun.api.classify`; texts, labels and examples are checked before a model is opened."""
    several = checked_texts([texts] if isinstance(texts, str) else _listed(texts))
    known = labels if isinstance(labels, Labels) or labels is None else Labels.of(labels)
    solved = list(examples)
    if known is not None:
        checked_examples(solved, known)
    elif solved and model is None:
        raise BadInput("There are examples and no labels: give labels, too.")
    opened = _opened(model, known, quantize, progress)
    found = told_apart(opened, several, known, solved, _teller(progress, f"classifying, {opened.name}"))
    return found[0] if isinstance(texts, str) else found


def _listed(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise BadInput("classify takes a text, or a list of texts.")
    return list(texts)


def _opened(
    model: str | Path | ReadyModel | None,
    labels: Labels | None,
    quantize: str | None,
    progress: Progress | None,
) -> ReadyModel:
    """A model that is open, or the named one, else the default encoder: no language model here told clearly more
    reviews right in both languages, and all took many times as long (benchmarks/shots.py).

    Where nobody says, the weights of a language model that came in a packed file have 4 bits; floats stay floats.
    """
    if model is not None and not isinstance(model, str | Path):
        return model
    if model is None and labels is None:
        raise BadInput('There are no labels: give at least two, as --labels "positive,negative".')
    path = locate(model or DEFAULT_ENCODER, progress, any_file=True)
    candidate = Candidate(path)
    if quantize is None and kind_of(candidate).name == "language model":
        quantize = None if candidate.opened().packed_tensors() is None else "int4"
    return open_model(path, quantize=quantize)


def _teller(progress: Progress | None, stage: str) -> Tell:
    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    return tell
