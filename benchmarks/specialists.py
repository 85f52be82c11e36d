"""Specialists, GPT-1's way, each on the others' tasks, next to one model that is asked by prompts.

One base is fine-tuned (LoRA) three times: to tell good reviews from bad (SST-2), to answer questions on little stories,
and to tell sentences in order from such with two words swapped (as in GPT-1's CoLA, here Tatoeba's). Every model is
then asked all three: the likeliest of the answers that a task has. A larger model that was never tuned for any of them
is asked the same by the same words.
"""

import json
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import Options, Row, main, skipped

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "recipes" / "data"))

BASE = "smollm2-135m-instruct"
BY_PROMPTS = (BASE, "qwen2.5-coder-0.5b-instruct")
ASKED, LEARNED = 200, 1500
STEPS = {"reviews": 60, "questions": 60, "grammar": 160}
SEED = 0


@dataclass(frozen=True)
class Asked:
    """One question as a person would put it, its answers, and the number of the right one."""

    prompt: str
    answers: Sequence[str]
    right: int


def measure(options: Options) -> Iterable[Row]:
    if options.data is None or not (options.data / "sst2" / "train.tsv").is_file():
        yield skipped("specialists", "needs --data with sst2/")
        return
    count = 24 if options.quick else ASKED
    tasks = tasks_of(options.data)
    with tempfile.TemporaryDirectory() as name:
        models = {
            f"tuned for {task}": _tuned(task, rows[1], Path(name), options.quick)
            for task, rows in tasks.items()
        }
        models |= {f"{model}, by prompts": model for model in BY_PROMPTS}
        for what, model in models.items():
            shares = {task: right(model, rows[0][:count]) for task, rows in tasks.items()}
            shown = ", ".join(f"{task} {share:.2f}" for task, share in shares.items())
            yield Row(what, shown, note=f"{count} rows a task; chance is 0.50, 0.25, 0.50")


def tasks_of(data: Path) -> dict[str, tuple[list[Asked], list[Asked]]]:
    """By each task's name the rows that are asked and those that are learned from."""
    import stories

    parts = []
    for file, count in (("dev", ASKED), ("train", LEARNED)):
        lines = (data / "sst2" / f"{file}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        random.Random(SEED).shuffle(lines)
        parts.append([_review(*line.split("\t")) for line in lines[:count]])
    draw = random.Random(SEED)
    grammar = [_accepted(one, draw) for one in draw.sample(_sentences(data), ASKED + LEARNED)]
    told = [list(stories.stories(count, seed)) for count, seed in ((ASKED, 1), (LEARNED, 2))]
    return {
        "reviews": (parts[0], parts[1]),
        "questions": ([*map(_question, told[0])], [*map(_question, told[1])]),
        "grammar": (grammar[:ASKED], grammar[ASKED:]),
    }


def _review(label: str, text: str) -> Asked:
    return Asked(f"{text.strip()}\n\nIs this positive or negative?", ("negative", "positive"), int(label))


def _question(row: Any) -> Asked:
    return Asked(f"{row['document']}\n\n{row['question']}", row["choices"], row["answer"])


def _accepted(sentence: str, draw: random.Random) -> Asked:
    """A sentence as it was written, or with two neighbouring words in each other's place: CoLA's question."""
    words = sentence.split()
    good = draw.random() < 0.5
    if not good:
        place = draw.choice([n for n in range(1, len(words) - 2) if words[n] != words[n + 1]])
        words[place : place + 2] = words[place + 1], words[place]
    return Asked(f"{' '.join(words)}\n\nIs this good English?", ("no", "yes"), int(good))


def _sentences(data: Path) -> list[str]:
    """English sentences of six to sixteen words, each once."""
    lines = (data / "tatoeba-en-zh" / "train.tsv").read_text(encoding="utf-8").splitlines()
    sentences = dict.fromkeys(line.split("\t")[0] for line in lines)
    return [one for one in sentences if 6 <= len(one.split()) <= 16]


def _tuned(task: str, rows: Sequence[Asked], folder: Path, quick: bool) -> str:
    """The folder of the base, fine-tuned on a task's rows."""
    from kun.training.recipe import parse_recipe
    from kun.training.train import train

    data = folder / f"{task}.jsonl"
    turns = [
        [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.answers[one.right]}]
        for one in rows
    ]
    data.write_text(
        "".join(json.dumps({"messages": messages}) + "\n" for messages in turns), encoding="utf-8"
    )
    recipe: dict[str, Any] = {
        "stage": "finetune",
        "out": str(folder / task),
        "seed": SEED,
        "model": {"from": BASE},
        "data": {"train": str(data), "format": "messages"},
        "train": {
            "steps": 3 if quick else STEPS[task],
            "batch_tokens": 256 if quick else 1024,
            "context": 192,
        },
        "optimizer": {"lr": 1e-3, "schedule": "cosine", "warmup": 5},
        "lora": {"rank": 16},
    }
    return str(train(parse_recipe(recipe), task).checkpoint)


def right(model: str, rows: Sequence[Asked]) -> float:
    """The share of rows of which the model holds the right answer likeliest, by its mean a token.

    Where all rows have the same answers a model may prefer one of them whatever it reads. So each is weighed against
    its own mean over the rows: batch calibration (Zhou et al., arXiv:2309.17249).
    """
    import kun
    from kun.evaluation.likelihood import Question, Scorer

    lm: Any = kun.load(model, quantize="int4")
    scorer = Scorer(lm)
    asked = [
        Question(
            lm.encode([{"role": "user", "content": one.prompt}]),
            [scorer.encode(answer, special=False) for answer in one.answers],
        )
        for one in rows
    ]
    means = np.array([[each.logprob / each.tokens for each in found] for found in scorer.weigh(asked)])
    if len({tuple(one.answers) for one in rows}) == 1:
        means -= means.mean(axis=0)
    return float(np.mean(means.argmax(axis=1) == [one.right for one in rows]))


if __name__ == "__main__":
    main(measure, __doc__)
