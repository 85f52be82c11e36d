"""Answers that a network samples while it is trained, by Kun's own engine, many at a time.

They are drawn from the whole of the network's distribution at a temperature, whose log-probabilities come with them: a
distribution that is cut (top-k, top-p) or bent would be another one than training computes, and the divergence from it
could fall below zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kun.alignment.branches import Tree
from kun.alignment.prompts import Prompt
from kun.alignment.reward_model import RewardModel
from kun.errors import BadRecipe
from kun.generation.options import SamplingOptions
from kun.generation.stream import ends_of
from kun.models.language_model import LanguageModel
from kun.objectives.text.model import TrainingModel
from kun.text.chat import ChatTemplate


@dataclass(frozen=True, slots=True)
class Rollout:
    """An answer: `ids` int32 [n] with the token that ends it where it `ended`, else it was cut at its longest.

    `log_probs` float32 [n] are the sampler's own; `text` is what a person reads.
    """

    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    text: str
    ended: bool


def sampled(
    net: nn.Module,
    model: TrainingModel,
    prompts: Sequence[Prompt],
    *,
    answers: int,
    max_tokens: int,
    temperature: float,
    seeds: Sequence[int],
) -> list[list[Rollout]]:
    """`answers` answers to each prompt, each drawn with the prompt's own seed; the same bits whenever it is called.

    An answer ends where the template ends what the assistant says, and where serving would end it.
    """
    training, frame = net.training, AnswerFrame.of(model.template)
    ends = {turn_end(model, frame), *ends_of(model.generation_config.get("eos_token_id"))}
    net.eval()
    try:
        with LanguageModel(
            net,
            model.tokenizer,
            model.net.config,
            template=model.template,
            generation_config={"eos_token_id": sorted(ends)},
            family=model.family,
            max_batch=min(64, max(1, len(prompts) * answers)),
            max_queue=max(64, len(prompts) * answers),
            paced=False,
        ) as writer:
            with writer.engine.queue.together():
                running = [
                    writer.submit(
                        prompt.ids.tolist(),
                        SamplingOptions(
                            max_tokens=max_tokens,
                            temperature=temperature,
                            top_p=1.0,
                            n=answers,
                            seed=seed,
                            logprobs=0,
                            for_training=True,
                        ),
                    )
                    for prompt, seed in zip(prompts, seeds, strict=True)
                ]
            return [
                [
                    Rollout(
                        np.array(one.token_ids, np.int32),
                        np.array([each.logprob for each in one.logprobs or ()], np.float32),
                        one.text.removeprefix(frame.before),
                        one.finish_reason == "stop",
                    )
                    for one in generation.result()
                ]
                for generation in running
            ]
    finally:
        net.train(training)


class AnswerFrame(NamedTuple):
    """What a template writes `before` an answer, behind the prompt, and `behind` it; a network writes both itself."""

    before: str
    behind: str

    @classmethod
    def of(cls, template: ChatTemplate | None) -> "AnswerFrame":
        if template is None:
            return cls("", "")
        asked = [{"role": "user", "content": "a"}]
        prompt = template.render(asked)
        whole = template.render([*asked, {"role": "assistant", "content": "b"}], add_generation_prompt=False)
        before, _, behind = whole[len(prompt) :].partition("b") if whole.startswith(prompt) else ("", "", "")
        return cls(before, behind)


def turn_end(model: TrainingModel, frame: AnswerFrame) -> int:
    """The token with which the template ends what the assistant says. Raises `BadRecipe` where there is none."""
    ids = model.tokenizer.encode(frame.behind, add_special_tokens=False).ids
    special = model.tokenizer.get_added_tokens_decoder()
    end = next((one for one in ids if one in special), ids[0] if ids else model.end)
    if end is None:
        raise BadRecipe("The model has no token that ends an answer: train from one with a chat template.")
    return end


def tree_of(prompt: Prompt, answers: Sequence[Rollout]) -> Tree:
    """The prompt with its answers, of which every token is learned."""
    return Tree(
        prompt.ids,
        tuple(answer.ids for answer in answers),
        tuple(np.ones(len(answer.ids), np.bool_) for answer in answers),
    )


class Scorer(Protocol):
    """Gives each answer to a prompt a number."""

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[Rollout]]
    ) -> list[NDArray[np.float32]]: ...


class ByRewardModel:
    """Scores by a reward model, which reads the conversation through its own tokenizer and template.

    An answer that was cut is read as far as it goes, without the end of its turn, for which it gets no credit; from its
    score `cut_penalty` is taken off, as a model that never saw such answers may score them anyhow.
    """

    def __init__(self, model: RewardModel, cut_penalty: float = 0.0) -> None:
        self.model, self.cut_penalty = model, cut_penalty

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[Rollout]]
    ) -> list[NDArray[np.float32]]:
        talks = [
            [*prompt.messages, {"role": "assistant", "content": answer.text}]
            for prompt, some in zip(prompts, answers, strict=True)
            for answer in some
        ]
        if not talks:  # of fewer prompts than processes
            return []
        ended = [answer.ended for some in answers for answer in some]
        with torch.random.fork_rng(devices=[]):
            scores = self.model.score(talks, ended=ended)
        scores = scores - self.cut_penalty * (~np.array(ended, np.bool_)).astype(np.float32)
        ends = np.cumsum([len(some) for some in answers])[:-1]
        return np.split(scores, ends)
