"""InstructGPT's three steps with the tasks that train every other model here, on words that are learned in seconds.

Demonstrations to a model that answers, rankings to a reward model, and PPO by it: three recipes of stages finetune,
reward and ppo, run by what `kun train` runs, in a folder that is gone afterwards.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from kun.alignment.candidates import Sampling, sampled_answers
from kun.alignment.prompts import Prompt
from kun.alignment.reward_model import RewardModel
from kun.alignment.rollouts import ByRewardModel
from kun.alignment.scoring import Accuracy, score_file
from kun.data.tokenized import RowTokenizer
from kun.models.language_model import LanguageModel
from kun.models.opening import open_model
from kun.training.recipe import parse_recipe
from kun.training.train import train

STEPS = {"finetune": 60, "reward": 50, "ppo": 20}
"""Of each training."""
ANSWER_TOKENS = 6
_CONTEXT, _ANSWERS, _SAMPLES = 32, 32, 4
_CUT = 2.0
"""The price of an answer that comes to no end."""

_UNKNOWN, _USER, _ASSISTANT, _TURN_END = "[UNKNOWN]", "<|user|>", "<|assistant|>", "<|im_end|>"
_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    f"{{{{ '{_USER}' + message['content'] }}}}{{% else %}}{{{{ '{_ASSISTANT}' }}}}"
    f"{{% generation %}}{{{{ message['content'] + '{_TURN_END}' }}}}{{% endgeneration %}}"
    "{% endif %}{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{_ASSISTANT}' }}}}{{% endif %}}"
)


@dataclass(frozen=True)
class Lessons:
    """Questions with answers that people wrote, rankings of answers from the best on, and questions that are new.

    `is_good` says of a question's answer whether it is what the rankings want.
    """

    demonstrations: Sequence[tuple[str, str]]
    rankings: Sequence[tuple[str, Sequence[str]]]
    unseen: Sequence[str]
    unseen_rankings: Sequence[tuple[str, Sequence[str]]]
    is_good: Callable[[str, str], bool]


@dataclass(frozen=True)
class Told:
    """The outcome of one step: the mean reward of answers to new questions, the share of good ones, and one to each.

    `good_by` is that share by question.
    """

    reward: float
    good: float
    answers: Mapping[str, str]
    good_by: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """The reward model's accuracy on new questions, and the policy before and after PPO."""

    accuracy: Accuracy
    before: Told
    after: Told


def three_steps(lessons: Lessons, seed: int = 0) -> Outcome:
    """Train the three networks and ask the two that answer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_tokenizer(folder / "words", lessons)
        asked = [question for question, _ in lessons.rankings]
        data = {
            "finetune": _write(folder / "shown.jsonl", map(_talk, lessons.demonstrations)),
            "reward": _write(folder / "ranked.jsonl", map(_ranking, lessons.rankings)),
            "ppo": _write(folder / "asked.jsonl", ({"text": question} for question in dict.fromkeys(asked))),
        }
        start = _trained(folder, "finetune", data["finetune"], seed, {"batch_tokens": 512}, 1e-2)
        judge = _trained(folder, "reward", data["reward"], seed, {"batch": 16}, 1e-2, start, {"probe": 0})
        rewards = {
            "reward": str(judge),
            "max_tokens": ANSWER_TOKENS,
            "cut_penalty": _CUT,
            "kl": 0.2,
            "epochs": 2,
        }
        policy = _trained(folder, "ppo", data["ppo"], seed, {"batch": _ANSWERS}, 3e-3, start, rewards)
        model = open_model(judge)
        assert isinstance(model, RewardModel)
        held_out = _write(folder / "held-out.jsonl", map(_ranking, lessons.unseen_rankings))
        accuracy = Accuracy.of(list(score_file(model, held_out)))
        assert accuracy is not None
        score = ByRewardModel(model, _CUT)
        return Outcome(accuracy, *(_told(checkpoint, score, lessons, seed) for checkpoint in (start, policy)))


def _write_tokenizer(folder: Path, lessons: Lessons) -> None:
    """A tokenizer whose tokens are the lessons' words, with a template for conversations."""
    words = dict.fromkeys([_UNKNOWN])
    for question, answers in (*lessons.rankings, *lessons.unseen_rankings):
        words |= dict.fromkeys(" ".join([question, *answers]).split())
    for question, answer in lessons.demonstrations:
        words |= dict.fromkeys(f"{question} {answer}".split())
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, _UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens([AddedToken(token, special=True) for token in (_USER, _ASSISTANT, _TURN_END)])
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    settings = {"chat_template": _TEMPLATE, "eos_token": _TURN_END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _talk(shown: tuple[str, str]) -> dict[str, object]:
    roles = ("user", "assistant")
    return {"messages": [{"role": role, "content": said} for role, said in zip(roles, shown, strict=True)]}


def _ranking(ranked: tuple[str, Sequence[str]]) -> dict[str, object]:
    question, answers = ranked
    return {"prompt": question, "ranking": list(answers)}


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _trained(
    folder: Path,
    stage: str,
    data: Path,
    seed: int,
    batch: Mapping[str, int],
    lr: float,
    start: Path | None = None,
    objective: Mapping[str, object] | None = None,
) -> Path:
    """The checkpoint of a training that goes on from `start`, or begins with a new network."""
    fresh = {
        "family": "llama",
        "n_layers": 2,
        "n_heads": 4,
        "d_model": 64,
        "tokenizer": str(folder / "words"),
    }
    recipe = parse_recipe(
        {
            "stage": stage,
            "out": str(folder / stage),
            "seed": seed,
            "model": fresh if start is None else {"from": str(start)},
            "data": {"train": str(data)},
            "train": {
                "steps": STEPS[stage],
                "context": _CONTEXT,
                "precision": "fp32",
                "compile": False,
                "snapshot_every": 10_000,
                **batch,
            },
            "optimizer": {"lr": lr, "schedule": "linear", "warmup": 2, "weight_decay": 0.0},
            "objective": dict(objective or {}),
        }
    )
    return train(recipe, stage).checkpoint


def _told(checkpoint: Path, score: ByRewardModel, lessons: Lessons, seed: int) -> Told:
    with LanguageModel.open(checkpoint) as lm:
        tokens = RowTokenizer(lm.tokenizer, template=lm.template)
        prompts = [
            Prompt(talk, np.array(tokens.prompt(talk), np.int32), question)
            for question in lessons.unseen
            for talk in [({"role": "user", "content": question},)]
        ]
        answers = [
            some for _, some in sampled_answers(lm, prompts, Sampling(_SAMPLES, ANSWER_TOKENS, 1.0, seed))
        ]
    rewards = np.concatenate(score(prompts, answers))
    good: dict[str, list[bool]] = {}
    for question, some in zip(lessons.unseen, answers, strict=True):
        good.setdefault(question, []).extend(
            one.ended and lessons.is_good(question, one.text) for one in some
        )
    said = {question: some[0].text for question, some in zip(lessons.unseen, answers, strict=True)}
    shares = {question: sum(each) / len(each) for question, each in good.items()}
    whole = [each for some in good.values() for each in some]
    return Told(float(rewards.mean()), sum(whole) / len(whole), said, shares)
