"""Recall over a distance: what a name stood for some tokens ago, in rows that are made as they are wanted.

A row holds eight names, each with one of sixteen words, at places of chance among other words; further on some names
are asked for. So it is known how far back each answer lies, which no text tells, and one chance of sixteen is what
guessing gives: recall from fixed distances compares networks that carry a state (Hochreiter and Schmidhuber, "Long
Short-Term Memory", 1997) with those that look back (Vaswani et al., arXiv:1706.03762). The task is the associative
recall of Graves et al., arXiv:1410.5401, section 4.3.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import Field
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from kun.data.described import Counts
from kun.errors import BadRecipe
from kun.hub.saving import save_checkpoint
from kun.networks.family import Family
from kun.networks.network import LanguageNetwork
from kun.objectives.text.model import HeadRequirements, open_model
from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch, Feed, as_count
from kun.training.flops import flops_per_token
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Evaluation, Loss, Plot, Task, Write

_NAMES = "Ada Ben Cleo Dan Eva Finn Gus Ida".split()
_ANSWERS = "apple bread chair door egg fork glass hat ink jar key lamp map nut oar pen".split()
_FILLERS = (
    "a about again all and any as at back but by down even every few for from here how in into "
    "it just more now of on only out so the to"
).split()
KEYS, VALUES, LETTERS = len(_NAMES), len(_ANSWERS), len(_FILLERS)
"""Names that each get one of the words in a row, and other words between them. A name with its word is one token."""
FIRST_LETTER = KEYS * VALUES
FIRST_QUERY = FIRST_LETTER + LETTERS
FIRST_ANSWER = FIRST_QUERY + KEYS
VOCABULARY = FIRST_ANSWER + VALUES
ROOM = 16
"""Tokens that a row has more than the distance that is asked about."""
_DISTANCES = (10, 30, 100, 300, 500, 1000)
_AT_ONCE, _REPEATS = 32, 3
_HELD_OUT = 2**40
"""Seeds of rows that are never learned from begin here."""


def rows(
    count: int, length: int, generator: torch.Generator, distance: int | None = None
) -> tuple[Tensor, Tensor]:
    """Rows [count, length] and the answer after each token [count, length], `IGNORED` where nothing is asked.

    Every name has its word once, at a place of chance; questions come after their names. An answer is a number from
    0 to `VALUES`. With `distance` there is one question, at the end, about the name so many tokens before it.
    """
    given = torch.randint(FIRST_LETTER, FIRST_QUERY, (count, length), generator=generator)
    values = torch.randint(VALUES, (count, KEYS), generator=generator)
    lots = torch.rand(count, length - 1, generator=generator)
    if distance is not None:
        lots[:, length - 1 - distance] = -1.0  # name 0 is drawn first
    places = lots.argsort(-1)[:, :KEYS]
    given.scatter_(1, places, torch.arange(KEYS) * VALUES + values)
    asked = torch.randint(KEYS, (count, length), generator=generator)
    if distance is not None:
        asked[:, -1] = 0
    often = 0.0 if distance is not None else 0.25
    lots = torch.rand(count, length, generator=generator)
    is_query = lots < often * torch.rand(count, 1, generator=generator)
    is_query &= (given >= FIRST_LETTER) & (torch.arange(length) > places.gather(1, asked))
    is_query[:, -1] = True
    answers = torch.where(is_query, values.gather(1, asked), IGNORED)
    return torch.where(is_query, FIRST_QUERY + asked, given), answers


def lengths(longest: int) -> list[int]:
    """Lengths of rows that are learned from, each twice the one before."""
    doubled = [2**power for power in range(4, 20) if 2**power < longest]
    return [*doubled, longest]


def vocabulary() -> list[str]:
    """The words of the tokens, by their ids: `Ada=apple` what a name stands for, `Ada?` the question."""
    pairs = [f"{name}={word}" for name in _NAMES for word in _ANSWERS]
    return [*pairs, *_FILLERS, *(f"{name}?" for name in _NAMES), *_ANSWERS, "<unk>"]


def recall_tokenizer() -> Tokenizer:
    """Words between spaces are tokens; unknown ones are all the same token."""
    ids = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@dataclass(frozen=True)
class MadeRows:
    """A `Dataset` without end: rows are made from the seed and the number of the step."""

    digest: str
    counts: Counts = field(default_factory=Counts)

    def __len__(self) -> int:
        return 0


class RecallFeed(Feed[nn.Module]):
    """Rows of one length a step, some `tokens` in all, and of the next length in the step after."""

    def __init__(self, seed: int, longest: int, tokens: int) -> None:
        self.data, self.held_out = MadeRows(f"recall-{seed}-{longest}"), MadeRows(f"recall-{longest}")
        self.seed, self.tokens, self.steps = seed, tokens, 0
        self.lengths = lengths(longest)

    def step(self) -> list[Batch]:
        made = self._batch(self.steps, self.seed * 2**20 + self.steps)
        self.steps += 1
        return [made]

    def evaluation(self) -> Iterator[Batch]:
        yield from (self._batch(number, _HELD_OUT + number) for number in range(len(self.lengths)))

    def _batch(self, number: int, seed: int) -> Batch:
        length = self.lengths[number % len(self.lengths)]
        count = max(1, self.tokens // length)
        given, answers = rows(count, length, torch.Generator().manual_seed(seed))
        return {
            "input_ids": given,
            "labels": torch.where(answers == IGNORED, IGNORED, FIRST_ANSWER + answers),
        }

    def where(self) -> str:
        return f"row batch {self.steps}"

    def state(self) -> dict[str, object]:
        return {"steps": self.steps}

    def load(self, state: Mapping[str, object]) -> None:
        self.steps = as_count(state, "steps")


class RecallOptions(Table):
    """Keys of [objective]."""

    asked: int = Field(default=128, ge=1, le=2**16)
    """Rows that are asked for each distance at an evaluation."""


class Recall(Task[nn.Module]):
    """-log p(word | the row so far) after each question. Evaluation gives recall by distance and tokens a second."""

    name = "recall"
    stages = ("pretrain",)
    unit = "tokens"
    has_data = False
    Options = RecallOptions

    @classmethod
    def fits(cls, family: Family) -> bool:
        """Decoders that learn the next token."""
        return "next_token" in family.objectives

    def networks(self, open: Opener) -> Networks[nn.Module]:
        job = open.job
        if job.train.epochs:
            raise BadRecipe(
                "train.epochs cannot end recall, whose rows have no end: set train.steps or minutes."
            )
        if (job.train.context or ROOM) < ROOM:
            raise BadRecipe(
                f"train.context = {job.train.context} is too short for recall: set {ROOM} at least."
            )
        self.tokens = job.train.batch_tokens
        self.model = open_model(open, HeadRequirements(tokenizer=recall_tokenizer()))
        if self.model.origin is not None:
            raise BadRecipe("recall has words of its own: name a model.family in place of model.from.")
        return Networks(self.model.net)

    def feed(self, open: Opener, networks: Networks[nn.Module]) -> RecallFeed:
        return RecallFeed(open.job.seed, self.model.context, self.tokens)

    def count(self, batch: Batch) -> int:
        return int((batch["labels"] != IGNORED).sum())

    def items(self, batch: Batch) -> int:
        return batch["input_ids"].numel()

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        return Loss(_loss(networks.trained, batch), self.count(batch))

    def flops(self, networks: Networks[nn.Module]) -> float:
        return flops_per_token(networks.trained, self.model.context)

    def evaluate(self, networks: Networks[nn.Module]) -> Evaluation:
        net, longest = networks.trained, self.model.context
        assert isinstance(self.options, RecallOptions)
        distances = [distance for distance in _DISTANCES if distance + ROOM <= longest] or [
            longest - ROOM + 1
        ]
        found = {distance: recalled(net, distance, self.options.asked) for distance in distances}
        spans = lengths(longest)
        speeds = [tokens_per_second(net, length) for length in spans]
        return Evaluation(
            {f"recall_{distance}": share for distance, share in found.items()},
            plots=[
                Plot("recall by distance", {"share": (distances, list(found.values()))}, "tokens ago", "x"),
                Plot("tokens per second by length", {"speed": (spans, speeds)}, "tokens of a row", "xy"),
            ],
        )

    def facts(self, open: Opener, networks: Networks[nn.Module], feed: Feed[nn.Module]) -> dict[str, object]:
        return {"config": self.model.net.config.to_hf()}

    def saved(self, networks: Networks[nn.Module]) -> Write:
        def write(folder: Path, lineage: Mapping[str, object]) -> None:
            save_checkpoint(folder, networks.trained, tokenizer=self.model.tokenizer, lineage=lineage)

        return write


def _loss(net: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(net, LanguageNetwork)
    states = net.states(inputs_embeds=net.embed_tokens(batch["input_ids"]))
    return cross_entropy(net.head, states, batch["labels"])


@torch.no_grad()
def recalled(net: nn.Module, distance: int, count: int = 64) -> float:
    """The share of words that are recalled from `distance` tokens ago, in `count` rows; one of sixteen is chance."""
    assert isinstance(net, LanguageNetwork)
    device = next(net.parameters()).device
    right, generator = 0, torch.Generator().manual_seed(_HELD_OUT + 2**20 + distance)
    for start in range(0, count, _AT_ONCE):
        given, answers = rows(min(_AT_ONCE, count - start), distance + ROOM - 1, generator, distance)
        logits = net.head(net.states(given.to(device))[:, -1])
        found = logits[:, FIRST_ANSWER : FIRST_ANSWER + VALUES].argmax(-1)
        right += int((found.cpu() == answers[:, -1]).sum())
    return right / count


def tokens_per_second(net: nn.Module, length: int) -> float:
    """Tokens a second forward and back in one row of `length`, the best of a few times.

    With many rows at once a network that reads token by token would be busy with all of them at each.
    """
    given, answers = rows(1, length, torch.Generator().manual_seed(length))
    device = next(net.parameters()).device
    batch = {"input_ids": given.to(device), "labels": answers.to(device)}
    weights, best = [weight for weight in net.parameters() if weight.requires_grad], math.inf
    for _ in range(_REPEATS):
        began = time.perf_counter()
        torch.autograd.grad(_loss(net, batch), weights, allow_unused=True)  # no optimizer sees these
        best = min(best, time.perf_counter() - began)
    return length / best
