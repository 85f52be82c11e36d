"""The reward of written answers, next to what they are measured by against a reference."""

from collections.abc import Sequence

from kun.alignment.reward_model import RewardModel
from kun.errors import BadInput
from kun.evaluation.result import Measure, mean
from kun.evaluation.task import Summary
from kun.hub.pull import locate
from kun.models.opening import open_model


def rewarded(
    task: Summary, asked: Sequence[str], said: Sequence[str], wanted: Sequence[str]
) -> dict[str, Measure]:
    """The mean score of what was written, and of the references, by the task's reward model; nothing without one.

    A score is of the whole conversation: what was asked and what is said to it. Raises `BadInput` for another model,
    and what opening one raises.
    """
    if not task.reward:
        return {}
    model = open_model(locate(task.reward))
    if not isinstance(model, RewardModel):
        raise BadInput(
            f'{task.reward} is no reward model: name one that stage = "reward" trained, or leave it out.'
        )
    system = [{"role": "system", "content": task.preamble}] if task.preamble else []

    def scored(answers: Sequence[str]) -> Measure:
        talks = [
            [*system, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            for question, answer in zip(asked, answers, strict=True)
        ]
        return mean([float(score) for score in model.score(talks)])

    return {"reward": scored(said), "reward of the references": scored(wanted)}
