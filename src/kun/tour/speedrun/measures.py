"""The measures of a speedrun: tasks that `kun eval` would do, on what was learned and on what was not."""

import json
import lzma
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from kun.atomic_files import new_file
from kun.evaluation.result import Result, Sample
from kun.evaluation.run import evaluate
from kun.models.language_model import LanguageModel
from kun.tour.speedrun.corpus import Files
from kun.tour.speedrun.facts import Answered, Measures
from kun.tour.speedrun.questions import KINDS, is_right

_ANSWER_TOKENS = 48
_CONTEXT = 256
Tell = Callable[[int, int], None]


def measure(run: Path, files: Files, tell: Tell) -> tuple[Measures, dict[str, list[Answered]]]:
    """Write the tasks, ask them, and return what was found, and each side's answers.

    `tell` hears how many of the tasks are done.
    """
    tuned = LanguageModel.open(run / "finetune" / "checkpoint")
    base = LanguageModel.open(run / "pretrain" / "checkpoint")
    tasks = _write_tasks(run / "tasks", files, tuned)
    made: Measures = {"bits_per_byte": _limits(files, tuned), "answers": {}, "choices": {}}
    answered: dict[str, list[Answered]] = {}
    steps: list[Callable[[], None]] = []

    def bits(name: str, lm: LanguageModel) -> None:
        made["bits_per_byte"][name] = evaluate(lm, tasks["bits"]).measures["bits_per_byte"].value

    def ask(side: str) -> None:
        kinds = [json.loads(line)["kind"] for line in _lines(getattr(files, side))]
        result = evaluate(tuned, tasks[side])
        made["answers"][side] = _by_kind(kinds, result)
        answered[side] = [
            {"kind": kind, "question": one.asked, "wanted": one.wanted, "said": one.said}
            for kind, one in zip(kinds, result.samples, strict=True)
        ]

    def choose(side: str) -> None:
        found = evaluate(tuned, tasks[f"{side}-choices"])
        accuracy = found.measures["accuracy"]
        made["choices"][side] = {"accuracy": accuracy.value, "error": accuracy.error, "n": found.n}

    steps += [partial(bits, "pretrained", base), partial(bits, "finetuned", tuned)]
    for side in ("seen", "unseen"):
        steps.append(partial(ask, side))
        if f"{side}-choices" in tasks:
            steps.append(partial(choose, side))
    for done, step in enumerate(steps):
        tell(done, len(steps))
        step()
    tell(len(steps), len(steps))
    return made, answered


def _write_tasks(folder: Path, files: Files, tuned: LanguageModel) -> dict[str, Path]:
    asking: dict[str, object] = {
        "kind": "summary",
        "prompt": "{{ question }}",
        "target": "answer",
        "chat": True,
        "max_tokens": _ANSWER_TOKENS,
    }
    tasks: dict[str, dict[str, object]] = {
        "bits": {"kind": "perplexity", "data": str(files.measured), "context": _CONTEXT},
        "seen": {**asking, "data": str(files.seen)},
        "unseen": {**asking, "data": str(files.unseen)},
    }
    for side, path in (("seen", files.seen_choices), ("unseen", files.unseen_choices)):
        if any(_lines(path)):
            tasks[f"{side}-choices"] = {
                "kind": "multiple-choice",
                "data": str(path),
                "prompt": _chat_prompt(tuned),
                "choices": "choices",
                "answer": "answer",
                "separator": "",
            }
    return {name: _write_task(folder / f"{name}.toml", said) for name, said in tasks.items()}


def _chat_prompt(lm: LanguageModel) -> str:
    """The model's own template around a place for the question."""
    assert lm.template is not None
    place = "QUESTION"
    rendered = lm.template.render([{"role": "user", "content": place}], add_generation_prompt=True)
    return rendered.replace(place, "{{ question }}")


def _write_task(path: Path, said: dict[str, object]) -> Path:
    with new_file(path) as fresh:
        text = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in said.items())
        fresh.write_text(text, encoding="utf-8")
    return path


def _limits(files: Files, lm: LanguageModel) -> dict[str, float]:
    """Bits per byte where every token is as likely as any other, and those of a compressor."""
    text = "".join(json.loads(line)["text"] for line in _lines(files.measured))
    size = len(text.encode())
    tokens = len(lm.tokenizer.encode(text, add_special_tokens=False).ids)
    packed = 8 * len(lzma.compress(text.encode(), preset=9))
    return {"untrained": tokens * math.log2(lm.config.vocab_size) / size, "xz": packed / size}


def _by_kind(kinds: Iterable[str], result: Result) -> dict[str, dict[str, float]]:
    by_kind: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    for kind, sample in zip(kinds, result.samples, strict=True):
        by_kind[kind].append(sample)
    return {
        kind: {
            "exact": sum(is_right(one.said, one.wanted) for one in some) / len(some),
            "rougeL": sum(one.score for one in some) / len(some) / 100,
            "n": len(some),
        }
        for kind, some in by_kind.items()
        if some
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
