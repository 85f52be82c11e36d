"""Choosing among sampled answers: best of n, and rejection sampling.

Of n answers to a prompt the one that a reward model or a verifier likes best is the answer (best of n: Stiennon et al.,
arXiv:2009.01325; Nakano et al., arXiv:2112.09332), or is learned from (rejection sampling: Touvron et al.,
arXiv:2307.09288, section 3.2.3; with a verifier Yuan et al., arXiv:2308.01825). No network is changed to choose.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kun.alignment.prompts import Prompt, Prompts
from kun.alignment.rollouts import AnswerFrame, Rollout, Scorer
from kun.atomic_files import Progress, new_file, silent
from kun.data.rows import BadRows
from kun.data.sources import Rows
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput
from kun.generation.options import MOST_COPIES, SamplingOptions
from kun.models.language_model import LanguageModel

_AT_ONCE = 64
"""Answers that are sampled together."""


@dataclass(frozen=True)
class Sampling:
    """Answers to each prompt, the most tokens of one, and how they are drawn. Raises `BadInput` for what cannot be."""

    answers: int = 8
    max_tokens: int = 128
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.answers <= MOST_COPIES:
            raise BadInput(
                f"{self.answers} answers to a prompt cannot be sampled: ask for 1 to {MOST_COPIES}."
            )
        if self.answers > 1 and not self.temperature > 0:
            raise BadInput(
                f"At temperature {self.temperature:g} all {self.answers} answers are the same: raise it above 0."
            )

    @property
    def divergence(self) -> float:
        """Nats by which the best of n answers differ from all at most: log n - (n - 1)/n (Stiennon et al.)."""
        return math.log(self.answers) - (self.answers - 1) / self.answers


@dataclass(frozen=True)
class Candidates:
    """Answers to one prompt, and the score of each."""

    prompt: Prompt
    answers: tuple[Rollout, ...]
    scores: tuple[float, ...]

    @property
    def best(self) -> int:
        """The place of the answer with the highest score, the first of equal ones; one that was cut if all were."""
        places = range(len(self.answers))
        return max(places, key=lambda place: (self.answers[place].ended, self.scores[place], -place))

    @property
    def answer(self) -> str:
        """The best one's text."""
        return self.answers[self.best].text

    def is_kept(self, least: float) -> bool:
        """True where the best one is worth learning from: it ends, is not empty, and scores `least` or more."""
        best = self.answers[self.best]
        return best.ended and bool(best.text.strip()) and self.scores[self.best] >= least

    def as_row(self) -> dict[str, object]:
        """The conversation with its best answer, as `kun train` reads it, and all scores."""
        said = {"role": "assistant", "content": self.answer}
        return {
            "messages": [*map(dict, self.prompt.messages), said],
            "score": self.scores[self.best],
            "scores": list(self.scores),
        }


def read_prompts(
    lm: LanguageModel, source: str | Path, how: Sampling, *, limit: int | None = None
) -> Prompts:
    """The prompts of a file in any format that asks something. Those that leave no room for an answer are left out.

    Raises `NotFound`, `BadRow`, and `BadInput` for other data, for a model without a chat template, and where no
    prompt is left.
    """
    longest = lm.context_length - how.max_tokens
    if longest < 1:
        raise BadInput(
            f"Answers of {how.max_tokens} tokens leave no room for a prompt in the {lm.context_length} tokens that "
            f"{lm.name} reads: ask for shorter ones."
        )
    tokens = RowTokenizer(lm.tokenizer, template=lm.template)
    return Prompts.read(Rows(str(source), limit=limit), tokens.prompt, longest, BadRows())


def sampled_answers(
    lm: LanguageModel, prompts: Sequence[Prompt], how: Sampling
) -> Iterator[tuple[Prompt, list[Rollout]]]:
    """Each prompt with its answers, in order. What is drawn depends on the seed and the prompt's number alone."""
    together, before = max(1, _AT_ONCE // how.answers), AnswerFrame.of(lm.template).before
    for first in range(0, len(prompts), together):
        some = prompts[first : first + together]
        running = [
            lm.submit(
                prompt.ids.tolist(),
                SamplingOptions(
                    max_tokens=how.max_tokens,
                    temperature=how.temperature,
                    top_p=1.0,  # of all that the network says, as in training by rewards
                    n=how.answers,
                    seed=_seed(how.seed, first + place),
                ),
            )
            for place, prompt in enumerate(some)
        ]
        try:
            for prompt, generation in zip(some, running, strict=True):
                yield (
                    prompt,
                    [
                        Rollout(
                            np.array(one.token_ids, np.int32),
                            np.zeros(len(one.token_ids), np.float32),
                            one.text.removeprefix(before),
                            one.finish_reason == "stop",
                        )
                        for one in generation.result()
                    ],
                )
        finally:
            for generation in running:
                if not generation.done:
                    generation.cancel()


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def scored_candidates(
    lm: LanguageModel,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    how: Sampling,
    progress: Progress = silent,
) -> Iterator[Candidates]:
    """The candidates of each prompt, in order. Raises `BadInput` that names the prompt of a score that is no number."""
    waiting: list[tuple[Prompt, list[Rollout]]] = []
    done = 0

    def scored() -> Iterator[Candidates]:
        asked, answers = [one for one, _ in waiting], [some for _, some in waiting]
        for prompt, some, scores in zip(asked, answers, scorer(asked, answers), strict=True):
            if not np.isfinite(scores).all():
                raise BadInput(
                    f"The score of an answer to {prompt.where} is {scores.tolist()}: look at the reward model, or "
                    "leave the prompt out."
                )
            yield Candidates(prompt, tuple(some), tuple(scores.tolist()))

    for one in sampled_answers(lm, prompts, how):
        waiting.append(one)
        if len(waiting) * how.answers >= _AT_ONCE:
            yield from scored()
            done, waiting = done + len(waiting), []
            progress("sampling answers", done, len(prompts))
    if waiting:
        yield from scored()
        progress("sampling answers", len(prompts), len(prompts))


@dataclass(frozen=True)
class Kept:
    """The outcome of rejection sampling: `kept` of `prompts` have an answer worth learning from.

    `best` is the mean score of the best answers, `all` that of all answers.
    """

    prompts: int
    kept: int
    best: float
    all: float


def write_kept(
    candidates: Iterable[Candidates],
    path: Path,
    *,
    least: float = -math.inf,
    told: Callable[[Candidates], None] = lambda one: None,
) -> Kept:
    """Write the best answers that are worth learning from, as conversations, a JSON object a line.

    The file is there whole or not at all. `told` hears of every prompt. Raises `BadInput` where nothing is kept.
    """
    prompts = kept = 0
    best = every = 0.0
    with new_file(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        for one in candidates:
            told(one)
            prompts += 1
            best += one.scores[one.best]
            every += sum(one.scores) / len(one.scores)
            if one.is_kept(least):
                file.write(json.dumps(one.as_row(), ensure_ascii=False) + "\n")
                kept += 1
        if not kept:
            raise BadInput(
                f"None of {prompts} prompts got an answer that came to its end and scores {least:g} or more: "
                "sample more answers, allow longer ones, or ask for less."
            )
    return Kept(prompts, kept, best / prompts, every / prompts)
