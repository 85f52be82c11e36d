"""The recipes of a speedrun's stages: what `kun train` would be given to do each by itself."""

import math
from pathlib import Path

from kun.tour.speedrun.corpus import Files
from kun.tour.speedrun.facts import RecipeValues, TrainValues
from kun.tour.speedrun.sizes import Budget, Size

_STEP_TOKENS = 8192
_EVALUATIONS = 12
_SNAPSHOT_SECONDS = 30.0
_WORTH_COMPILING = 600.0
"""Seconds of training; a compiler takes up to one of its minutes."""
_RANKINGS = 16
"""Of a step of the reward model."""
_RANKING_TOKENS = 120.0
"""Of the prompt and four answers, roughly."""
ANSWER_TOKENS = 48
_ANSWERS, _MINIBATCHES, _EPOCHS = 32, 2, 2
"""PPO: answers of a step, and in how many steps a rollout is learned from how often."""
_REHEARSALS = 6
"""Evaluations of PPO, each of which samples answers to all prompts that are watched."""
_CUT = 2.0
"""Standard deviations of the reward that an answer costs which comes to no end."""
_LEARNING_RATE = 4e-4
"""PPO's, at a width of 64; it falls with the root of the width. In 50 s on one thread the reward of answers to unseen
questions rose by 0.18 (0.08 to 0.27) and 12 % were exactly right, with a quarter of it by 0.16 (0.08 to 0.24) and
6 %; the divergence stayed below 3 nats.
"""
_KL, _KL_TARGET = 0.05, 8.0
"""Deviations of the reward that a nat of divergence costs at first, and the nats an answer that are aimed at."""


class Recipes:
    """Each as the values of its TOML file. Paths are absolute: they can be run from anywhere."""

    def __init__(self, run: Path, budget: Budget, seed: int) -> None:
        self.run, self.budget, self.seed, self.files = run, budget, seed, Files(run / "data")

    def tokenizer(self) -> RecipeValues:
        return {
            "stage": "tokenizer",
            "out": str(self.run / "tokenizer"),
            "seed": self.seed,
            "data": {"train": str(self.files.docs), "format": "text"},
            "tokenizer": {"kind": "bpe", "vocab_size": self.budget.vocabulary},
        }

    def pretraining(self, seconds: float) -> RecipeValues:
        """Without sizes."""
        return {
            "stage": "pretrain",
            "out": str(self.run / "pretrain"),
            "seed": self.seed,
            "model": {
                "family": "llama",
                "tied": True,
                "tokenizer": str(self.run / "tokenizer" / "checkpoint"),
            },
            "data": {"train": str(self.files.docs), "eval": str(self.files.held_out), "format": "text"},
            "train": {"minutes": _minutes(seconds), "context": self.budget.context},
            "optimizer": {"name": "muon", "lr": 3e-3, "muon_lr": 0.02, "schedule": "wsd", "decay": 0.4},
        }

    def sized(self, values: RecipeValues, size: Size, seconds: float) -> RecipeValues:
        """With the sizes that suit the time, and batches and pauses that suit these."""
        return {
            **values,
            "model": {**values["model"], **size.sizes},
            "train": {**values["train"], **_pace(size, seconds)},
            "optimizer": {**values["optimizer"], "warmup": _warmup(size, seconds)},
        }

    def finetuning(self, size: Size, seconds: float) -> RecipeValues:
        return {
            "stage": "finetune",
            "out": str(self.run / "finetune"),
            "seed": self.seed,
            "model": {"from": str(self.run / "pretrain" / "checkpoint")},
            "data": {
                "train": str(self.files.chats),
                "eval": str(self.files.held_out_chats),
                "format": "messages",
            },
            "train": {
                "minutes": _minutes(seconds),
                "context": self.budget.context,
                **_pace(size, seconds),
            },
            "optimizer": {
                "name": "muon",
                "lr": 1e-3,
                "muon_lr": 0.01,
                "schedule": "linear",
                "warmup": _warmup(size, seconds),
            },
        }

    def reward(self, size: Size, seconds: float) -> RecipeValues:
        steps = size.tokens_per_s * seconds / (_RANKINGS * _RANKING_TOKENS)
        return {
            "stage": "reward",
            "out": str(self.run / "reward"),
            "seed": self.seed,
            "model": {"from": str(self.run / "finetune" / "checkpoint")},
            "data": {
                "train": str(self.files.preferences),
                "eval": str(self.files.held_out_preferences),
                "format": "preference",
            },
            "train": {
                "minutes": _minutes(seconds),
                "context": self.budget.context,
                "batch": _RANKINGS,
                **_looks(steps, seconds),
            },
            "optimizer": {
                "name": "adamw",
                "lr": 3e-4,
                "schedule": "linear",
                "warmup": max(2, round(0.03 * steps)),
            },
            "objective": {
                "probe": 0
            },  # which was measured: so small a network has little that a head could go by
        }

    def ppo(self, size: Size, seconds: float, deviation: float) -> RecipeValues:
        """`deviation` is that of the reward model's scores, by which the costs of other things are measured."""
        # an answer is read by policy, reference and reward model, and learned from: some twelve times a token's reading
        steps = size.tokens_per_s * seconds / (_ANSWERS * ANSWER_TOKENS * 4)
        rollout = _MINIBATCHES * _EPOCHS
        return {
            "stage": "ppo",
            "out": str(self.run / "ppo"),
            "seed": self.seed,
            "model": {"from": str(self.run / "finetune" / "checkpoint")},
            "data": {
                "train": str(self.files.prompts),
                "eval": str(self.files.held_out_prompts),
                "format": "messages",
            },
            "train": {
                "minutes": _minutes(seconds),
                "context": self.budget.context,
                "batch": _ANSWERS,
                **_looks(steps, seconds),
                "eval_every": rollout * max(1, round(steps / rollout / _REHEARSALS)),
            },
            "optimizer": {
                "name": "adamw",
                "lr": round(_LEARNING_RATE * math.sqrt(64 / size.d_model), 6),
                "schedule": "linear",
                "warmup": 4,
                "weight_decay": 0.0,
            },
            "objective": {
                "reward": str(self.run / "reward" / "checkpoint"),
                "max_tokens": ANSWER_TOKENS,
                "minibatches": _MINIBATCHES,
                "epochs": _EPOCHS,
                "kl": round(_KL * deviation, 4),
                "kl_target": _KL_TARGET,
                "cut_penalty": round(_CUT * deviation, 4),
            },
        }


def _minutes(seconds: float) -> float:
    return round(seconds / 60, 3)


def _step_tokens(size: Size, seconds: float) -> int:
    """Fewer where there would be too few steps to learn in."""
    tokens = _STEP_TOKENS
    while tokens > 1024 and size.tokens_per_s * seconds / tokens < 300:
        tokens //= 2
    return tokens


def _steps(size: Size, seconds: float) -> float:
    return size.tokens_per_s * seconds / _step_tokens(size, seconds)


def _warmup(size: Size, seconds: float) -> int:
    return max(2, round(0.03 * _steps(size, seconds)))


def _pace(size: Size, seconds: float) -> TrainValues:
    steps = _steps(size, seconds)
    looks = _looks(steps, seconds)
    tokens = max(2048, round(0.003 * size.tokens_per_s * seconds))
    return {
        **looks,
        "batch_tokens": _step_tokens(size, seconds),
        "eval_tokens": min(tokens, 65536),
        "sample_every": 3 * looks["eval_every"],
        "compile": seconds >= _WORTH_COMPILING,
    }


def _looks(steps: float, seconds: float) -> TrainValues:
    """The pauses in which a training of so many steps, which takes so long, is measured and kept."""
    return {
        "eval_every": max(1, round(steps / _EVALUATIONS)),
        "eval_tokens": 65536,
        "snapshot_every": max(10, round(steps * _SNAPSHOT_SECONDS / seconds)),
        "keep_snapshots": 1,
        "compile": False,
    }
