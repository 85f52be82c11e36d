"""Every stage on the same questions, none of which any stage learned from: what it says, and what that is worth.

The reward is what PPO counts: the reward model's score, less a price for an answer that comes to no end. Answers are
drawn at temperature 1, as in PPO, each question with random numbers of its own that are the same for every stage.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from kun.alignment.candidates import Sampling, sampled_answers
from kun.alignment.prompts import Prompt
from kun.alignment.reward_model import RewardModel
from kun.alignment.rollouts import ByRewardModel, Rollout
from kun.data.tokenized import RowTokenizer
from kun.errors import DamagedFile
from kun.models.language_model import LanguageModel
from kun.models.opening import open_model
from kun.tour.speedrun.facts import Answered, Interval, Rewarded, StageAnswer, Told
from kun.tour.speedrun.questions import KINDS, is_right
from kun.tour.speedrun.recipes import ANSWER_TOKENS

MOST_ASKED = 48
"""Questions of each kind."""
_SHOWN = 4
"""Of each kind."""
_WIDTH = 1.96
"""Standard errors on either side of a mean that a normal one stays within 95 times in 100."""


def measure_rewards(
    stages: dict[str, LanguageModel],
    judge: Path,
    cut_penalty: float,
    asked: Sequence[Answered],
    seed: int,
) -> tuple[dict[str, Rewarded], dict[str, Interval], list[Told]]:
    """The rewards of each stage, the gains of each over the one before, and some answers of all.

    `asked` are the questions; what is said to them there is not looked at.
    """
    model = open_model(judge, dtype="float32")
    if not isinstance(model, RewardModel):
        raise DamagedFile(f"{judge} is no reward model: start another speedrun.")
    score = ByRewardModel(model, cut_penalty)
    how = Sampling(1, ANSWER_TOKENS, 1.0, seed)
    rewards: dict[str, list[float]] = {}
    said: dict[str, list[Rollout]] = {}
    for name, lm in stages.items():
        prompts = _prompts(lm, asked)
        answers = [some for _, some in sampled_answers(lm, prompts, how)]
        said[name] = [some[0] for some in answers]
        rewards[name] = [float(each[0]) for each in score(prompts, answers)]
    talks = [
        [{"role": "user", "content": one["question"]}, {"role": "assistant", "content": one["wanted"]}]
        for one in asked
    ]
    wanted = model.score(talks).tolist()
    measured = {name: _rewarded(rewards[name], said[name], asked) for name in stages}
    gains = {
        after: interval([b - a for a, b in zip(rewards[before], rewards[after], strict=True)])
        for before, after in pairwise(stages)
    }
    told: list[Told] = []
    for place in _first_of_each_kind(asked):
        of_stages: dict[str, StageAnswer] = {
            name: {"said": _shown(said[name][place]), "reward": rewards[name][place]} for name in stages
        }
        one = asked[place]
        right: StageAnswer = {"said": one["wanted"], "reward": wanted[place]}
        told.append({"kind": one["kind"], "question": one["question"], "wanted": right, "said": of_stages})
    return measured, gains, told


def _first_of_each_kind(asked: Sequence[Answered]) -> list[int]:
    """The places of the first questions of each kind."""
    return [
        place
        for kind in KINDS
        for place in [place for place, one in enumerate(asked) if one["kind"] == kind][:_SHOWN]
    ]


def _prompts(lm: LanguageModel, asked: Sequence[Answered]) -> list[Prompt]:
    tokens = RowTokenizer(lm.tokenizer, template=lm.template)
    talks = [({"role": "user", "content": one["question"]},) for one in asked]
    return [Prompt(talk, np.array(tokens.prompt(talk), np.int32), talk[0]["content"]) for talk in talks]


def _rewarded(rewards: Sequence[float], said: Sequence[Rollout], asked: Sequence[Answered]) -> Rewarded:
    count = len(rewards)
    right = sum(is_right(one.text, each["wanted"]) for one, each in zip(said, asked, strict=True))
    return {
        "reward": interval(rewards),
        "exact": right / count,
        "ended": sum(one.ended for one in said) / count,
        "length": sum(len(one.ids) for one in said) / count,
        "n": count,
    }


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values, and 1.96 standard errors on either side of it."""
    each = np.asarray(values, np.float64)
    error = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else 0.0
    mean = float(each.mean())
    return {"mean": mean, "low": mean - _WIDTH * error, "high": mean + _WIDTH * error}


def _shown(answer: Rollout) -> str:
    text = answer.text.strip()
    return text if answer.ended else f"{text} …"
