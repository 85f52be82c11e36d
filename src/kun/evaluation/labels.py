"""Classification: a classifier's likeliest label, or the label's name that a language model holds likeliest."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kun.errors import BadInput, BadRecipe
from kun.evaluation.choices import weighable
from kun.evaluation.likelihood import Scorer
from kun.evaluation.progress import Tell
from kun.evaluation.prompts import Examples, Template, column, shown, text_of
from kun.evaluation.result import Measure, Sample, mean
from kun.evaluation.rows import TaskRow
from kun.evaluation.task import Classification
from kun.models.batching import batches

if TYPE_CHECKING:
    from kun.models.task_model import TaskModel

_BATCH_TOKENS = 4096
_SHOWN = 400
_HEAD = "SequenceClassification"


def wanted_labels(task: Classification, rows: Sequence[TaskRow]) -> list[str]:
    """The name of each row's label. Raises `BadInput` that names the row whose label the task does not know."""
    return [_name(task, row) for row in rows]


def _name(task: Classification, row: TaskRow) -> str:
    said = str(column(row, task.label))
    if said not in task.labels:
        raise BadInput(f"{row.where}: the label {said[:40]!r} is none of {shown(list(task.labels))}.")
    return task.labels[said]


def by_likelihood(
    scorer: Scorer, task: Classification, rows: Sequence[TaskRow], tell: Tell
) -> tuple[list[str], list[str], int]:
    """For each row the likeliest label's name, what was asked, and how many prompts were cut."""
    if task.prompt is None:
        raise BadRecipe(f"{task.name}: a language model is asked through a prompt, and the task has none.")
    prompt = Template(task.prompt, "prompt")
    examples = Examples(task, prompt.of, lambda row: _name(task, row))
    names = list(dict.fromkeys(task.labels.values()))
    asked = [examples.prompt(row) for row in rows]
    questions, cut = weighable(scorer, [(one, names) for one in asked], task.separator)
    said = []
    for found in scorer.weigh(questions, tell):
        scores = [each.logprob for each in found]
        said.append(names[scores.index(max(scores))])
    return said, asked, cut


def by_classifier(
    model: "TaskModel", task: Classification, rows: Sequence[TaskRow], tell: Tell
) -> tuple[list[str], list[str], int]:
    """For each row the label that the head of `model` finds likeliest, what was read, and how many texts were cut.

    Raises `BadInput` for a model with another head, or with labels that are not the task's.
    """
    if model.config.head != _HEAD:
        raise BadInput(
            f"{model.name} was saved as {model.config.architecture} and labels no texts: name a checkpoint that was "
            f"saved as …For{_HEAD}."
        )
    names = _names(model, task)
    texts = [(text_of(row, task.text), text_of(row, task.pair) if task.pair else None) for row in rows]
    said: list[str] = [""] * len(rows)
    cut, done = 0, 0
    limit = model.config.context_length
    encoded = [_encode(model, *text, limit) for text in texts]
    for batch in batches([len(ids) for ids, _, _ in encoded], _BATCH_TOKENS):
        for place, label in zip(batch, _run(model, [encoded[place] for place in batch]), strict=True):
            said[place] = names[label]
        cut += sum(encoded[place][2] for place in batch)
        done += len(batch)
        tell(done, len(rows))
    return said, [" ▸ ".join(filter(None, text)) for text in texts], cut


def _names(model: "TaskModel", task: Classification) -> list[str]:
    """The task's name for each label of the model, which may be called as the task's names or as the data's values;
    labels without names of their own (LABEL_0, …) are the task's in their order."""
    own_labels = [label.casefold() for label in model.config.labels]
    for known in (task.labels.values(), task.labels):
        by_name = {key.casefold(): name for key, name in zip(known, task.labels.values(), strict=True)}
        if set(own_labels) == set(by_name):
            return [by_name[label] for label in own_labels]
    unnamed = own_labels == [f"label_{number}" for number in range(len(own_labels))]
    if unnamed and len(own_labels) == len(task.labels):
        return list(task.labels.values())
    raise BadInput(
        f"{model.name} knows the labels {shown(model.config.labels)}; the task has "
        f"{shown(list(task.labels.values()))}: give labels the same names."
    )


def _encode(model: "TaskModel", text: str, pair: str | None, limit: int) -> tuple[list[int], list[int], bool]:
    """Token ids and types as the tokenizer puts them together; what is too long loses the end of its longest part."""
    from tokenizers import Encoding

    first: Encoding = model.tokenizer.encode(text, add_special_tokens=False)
    second = None if pair is None else model.tokenizer.encode(pair, add_special_tokens=False)
    room = limit - model.tokenizer.num_special_tokens_to_add(second is not None)
    lengths = len(first), 0 if second is None else len(second)
    kept = _fitted(*lengths, room)
    first.truncate(kept[0])
    if second is not None:
        second.truncate(kept[1])
    whole = model.tokenizer.post_process(first, second)
    return whole.ids, whole.type_ids, kept != lengths


def _fitted(first: int, second: int, room: int) -> tuple[int, int]:
    """The lengths that two texts keep within `room`: the longer one gives way until both are equal."""
    over = max(0, first + second - room)
    alone = min(over, abs(first - second))
    first, second = (first - alone, second) if first > second else (first, second - alone)
    return first - (over - alone + 1) // 2, second - (over - alone) // 2


def _run(model: "TaskModel", rows: Sequence[tuple[list[int], list[int], bool]]) -> list[int]:
    """The number of each row's likeliest label."""
    import torch

    device = next((p.device for p in model.net.parameters()), torch.device("cpu"))
    ids = torch.tensor([[token for row, _, _ in rows for token in row]], device=device)
    types = torch.tensor([[kind for _, kinds, _ in rows for kind in kinds]], device=device)
    known = types.clamp(
        max=model.config.token_types - 1
    )  # RoBERTa has but one type, whatever its tokenizer has
    with torch.inference_mode():
        output = model.net(ids, None, known, lengths=[len(row) for row, _, _ in rows])
    labels: list[int] = output.logits.argmax(dim=-1).tolist()
    return labels


def measured(
    rows: Sequence[TaskRow], asked: Sequence[str], wanted: Sequence[str], said: Sequence[str]
) -> tuple[dict[str, Measure], list[Sample], dict[str, dict[str, int]]]:
    """Accuracy, the mean of the labels' F1, a sample a row, and how often each label was taken for which."""
    names = list(dict.fromkeys([*sorted(set(wanted)), *sorted(set(said))]))
    confusion = {one: dict.fromkeys(names, 0) for one in names}
    for right, chosen in zip(wanted, said, strict=True):
        confusion[right][chosen] += 1
    hits = [float(right == chosen) for right, chosen in zip(wanted, said, strict=True)]
    f1 = [_f1(confusion, name) for name in names]
    measures = {"accuracy": mean(hits), "macro_f1": Measure(sum(f1) / len(f1))}
    samples = [
        Sample(row.where, text[-_SHOWN:], right, chosen, hit, hit == 1.0)
        for row, text, right, chosen, hit in zip(rows, asked, wanted, said, hits, strict=True)
    ]
    return measures, samples, confusion


def _f1(confusion: Mapping[str, Mapping[str, int]], name: str) -> float:
    """2 · true / (2 · true + false + missed)."""
    true = confusion[name][name]
    wanted, said = sum(confusion[name].values()), sum(row[name] for row in confusion.values())
    return 2 * true / (wanted + said) if wanted + said else 0.0
