"""The measures of a speedrun: tasks that `kun eval` would do, on what was learned and on what was not."""

import json
import lzma
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kun.atomic_files import new_file
from kun.evaluation.result import Result, Sample
from kun.evaluation.run import evaluate
from kun.models.language_model import LanguageModel
from kun.tour.speedrun.corpus import Files
from kun.tour.speedrun.facts import Answered, Measures, Told
from kun.tour.speedrun.questions import KINDS, is_right
from kun.tour.speedrun.recipes import ANSWER_TOKENS
from kun.tour.speedrun.rewards import MOST_ASKED, measure_rewards

_CONTEXT = 256
Tell = Callable[[int, int], None]


STAGES = {"pretrained": "pretrain", "finetuned": "finetune", "rewarded": "ppo"}
"""The trainings whose answers are compared, by their names in the measures."""


@dataclass
class Found:
    """The numbers, the last model's answers to each side's questions, and all stages' answers to some."""

    measures: Measures
    answered: dict[str, list[Answered]]
    told: list[Told]


def measure(run: Path, files: Files, cut_penalty: float, seed: int, tell: Tell) -> Found:
    """Write the tasks, ask them, and return what was found. `tell` hears how many of the tasks are done.

    All is computed in float32: in bfloat16 what is drawn would also depend on which answers are sampled together.
    """
    with ExitStack() as opened:
        stages = {
            name: opened.enter_context(LanguageModel.open(run / training / "checkpoint", dtype="float32"))
            for name, training in STAGES.items()
        }
        return _measured(stages, run, files, cut_penalty, seed, tell)


def _measured(
    stages: dict[str, LanguageModel], run: Path, files: Files, cut_penalty: float, seed: int, tell: Tell
) -> Found:
    last = stages["rewarded"]
    tasks = _write_tasks(run / "tasks", files, last)
    made: Measures = {"bits_per_byte": _limits(files, last), "answers": {}, "choices": {}}
    found = Found(made, {}, [])
    steps: list[Callable[[], None]] = []

    def bits(name: str, lm: LanguageModel) -> None:
        made["bits_per_byte"][name] = evaluate(lm, tasks["bits"]).measures["bits_per_byte"].value

    def ask(side: str) -> None:
        kinds = [json.loads(line)["kind"] for line in _lines(getattr(files, side))]
        result = evaluate(last, tasks[side])
        made["answers"][side] = _by_kind(kinds, result)
        found.answered[side] = [
            {"kind": kind, "question": one.asked, "wanted": one.wanted, "said": one.said}
            for kind, one in zip(kinds, result.samples, strict=True)
        ]

    def choose(side: str) -> None:
        result = evaluate(last, tasks[f"{side}-choices"])
        accuracy = result.measures["accuracy"]
        made["choices"][side] = {"accuracy": accuracy.value, "error": accuracy.error, "n": result.n}

    def reward() -> None:
        """All stages on the same questions."""
        asked = [
            one
            for kind in KINDS
            for one in [each for each in found.answered["unseen"] if each["kind"] == kind][:MOST_ASKED]
        ]
        if asked:
            made["rewards"], made["gains"], found.told = measure_rewards(
                stages, run / "reward" / "checkpoint", cut_penalty, asked, seed
            )

    steps += [partial(bits, name, lm) for name, lm in stages.items()]
    for side in ("seen", "unseen"):
        steps.append(partial(ask, side))
        if f"{side}-choices" in tasks:
            steps.append(partial(choose, side))
    steps.append(reward)
    for done, step in enumerate(steps):
        tell(done, len(steps))
        step()
    tell(len(steps), len(steps))
    return found


def _write_tasks(folder: Path, files: Files, lm: LanguageModel) -> dict[str, Path]:
    asking: dict[str, object] = {
        "kind": "summary",
        "prompt": "{{ question }}",
        "target": "answer",
        "chat": True,
        "max_tokens": ANSWER_TOKENS,
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
                "prompt": _chat_prompt(lm),
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
