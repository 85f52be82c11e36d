"""What every training task on preferences has in common: one model, rankings as trees of tokens, batches of them."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from kun.alignment.branches import ONE_BY_ONE, planted
from kun.alignment.preference_data import Compared, Contradictory, Preferences, RankingTokenizer
from kun.data.rows import Ranking
from kun.data.tokenized import RowTokenizer
from kun.networks.family import Family
from kun.objectives.text.model import HeadRequirements, TrainingModel, open_model
from kun.objectives.text.saving import writer
from kun.objectives.text.source import TextSource
from kun.training.feed import ALL_ROWS, Batch, Feed, RankSlice, as_count
from kun.training.flops import flops_per_token
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Task, Write

ADVICE = (
    'this stage learns from preferences (format = "preference"): prompt, chosen, rejected; name such data.'
)


class PreferenceOptions(Table):
    """Keys of [objective] that all tasks on preferences have."""

    contradictory: Contradictory = "keep"
    """What becomes of pairs of which the reverse is there, too."""


class PreferenceTask(Task[nn.Module]):
    """A task that learns from rankings; a pair is a ranking of two. A step has `train.batch` of them."""

    unit = "pairs"
    batch = 16
    rows = (Ranking,)
    Options = PreferenceOptions
    options: PreferenceOptions

    @classmethod
    def fits(cls, family: Family) -> bool:
        reads = family.kind == "decoder" and family.name not in ONE_BY_ONE
        return reads and "next_token" in family.objectives

    def needs(self, open: Opener) -> HeadRequirements:
        """What it asks of a network next to its body."""
        return HeadRequirements(talks=True, still=True)

    def networks(self, open: Opener) -> Networks[nn.Module]:
        self.is_adapted = open.job.lora is not None
        self.model = open_model(open, self.needs(open))
        if self.model.fresh:
            open.progress("new weights", 0, None, f"{', '.join(self.model.fresh)}: the checkpoint has none")
        return Networks(self.model.net)

    def feed(self, open: Opener, networks: Networks[nn.Module]) -> "PreferenceFeed":
        job, tokenizer = open.job, ranking_tokenizer(self.model, open)
        source = TextSource(open, self.rows, ADVICE)
        rows = source.training()
        learned = Preferences.read(rows, tokenizer, rows.rows.bad, self.options.contradictory)
        held_out = None
        if isinstance(job.data.eval, float):
            learned, held_out = learned.split(job.data.eval)
        elif job.data.eval is not None:
            others = source.rows(job.data.eval, limited=False)
            held_out = Preferences.read(others, tokenizer, others.rows.bad, self.options.contradictory)
        self.learned, self.held_out = learned, held_out
        for example in learned.counts.examples:
            open.progress("left out", 0, None, example)
        return PreferenceFeed(
            learned,
            held_out,
            batch=job.batch,
            seed=job.seed,
            micro_tokens=job.train.micro_batch_tokens,
            eval_tokens=job.train.eval_tokens,
        )

    def count(self, batch: Batch) -> int:
        return len(batch["rankings"])

    def items(self, batch: Batch) -> int:
        return len(batch["pairs"])

    def flops(self, networks: Networks[nn.Module]) -> float:
        """Of a pair: of the tokens that one has on average."""
        pairs = sum(len(one.pairs) for one in self.learned.rankings)
        return flops_per_token(networks.trained, self.model.context) * self.learned.tokens / max(1, pairs)

    def facts(self, open: Opener, networks: Networks[nn.Module], feed: Feed[nn.Module]) -> dict[str, object]:
        learned, held_out = self.learned, self.held_out
        data: dict[str, object] = {**asdict(learned.counts), "source": open.job.data.train}
        data |= {
            "documents": len(learned),
            "tokens": learned.tokens,
            "pairs": sum(len(one.pairs) for one in learned.rankings),
            "contradicted": learned.contradicted,
        }
        if held_out is not None:
            data |= {"eval_documents": len(held_out), "eval_tokens": held_out.tokens}
        return {"config": self.model.net.config.to_hf(), "data": data}

    def saved(self, networks: Networks[nn.Module]) -> Write:
        return writer(self.model, networks.trained, self.is_adapted)


def ranking_tokenizer(model: TrainingModel, open: Opener) -> RankingTokenizer:
    """How rankings become tokens of a model's own."""
    tokens = RowTokenizer(model.tokenizer, template=model.template)
    return RankingTokenizer(tokens, model.context, open.job.data.too_long)


class PreferenceFeed(Feed[nn.Module]):
    """All rankings once an epoch, `batch` a step, in an order that seed and epoch alone decide."""

    def __init__(
        self,
        data: Preferences,
        held_out: Preferences | None,
        *,
        batch: int,
        seed: int,
        micro_tokens: int,
        eval_tokens: int,
    ) -> None:
        self.data: Preferences = data
        self.held_out: Preferences | None = held_out
        self.batch, self.seed = min(batch, len(data)), seed
        self.micro_tokens, self.eval_tokens = micro_tokens, eval_tokens
        self.rows: RankSlice = ALL_ROWS
        self.steps = 0

    @property
    def size(self) -> int:
        return sum(len(one.pairs) for one in self.data.rankings)

    @property
    def _per_epoch(self) -> int:
        return -(-len(self.data) // self.batch)

    def divide(self, rows: RankSlice) -> None:
        self.rows = rows

    def step(self) -> list[Batch]:
        epoch, number = divmod(self.steps, self._per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data))
        chosen = order[number * self.batch : (number + 1) * self.batch]
        self.steps += 1
        mine = [self.data.rankings[place] for place in chosen[self.rows.rank :: self.rows.world]]
        return list(self._batches(mine))

    def spare(self) -> list[Batch]:
        return [compared_batch(self.data.rankings[:1])]

    def _batches(self, some: list[Compared]) -> Iterator[Batch]:
        """As many rankings together as have `micro_tokens`, or one."""
        part: list[Compared] = []
        for one in some:
            if part and sum(each.tree.size for each in part) + one.tree.size > self.micro_tokens:
                yield compared_batch(part)
                part = []
            part.append(one)
        if part:
            yield compared_batch(part)

    def evaluation(self) -> Iterator[Batch]:
        """This process's share of the held-out rankings, of which the first `eval_tokens` are taken."""
        if self.held_out is None:
            return
        sizes = np.cumsum([one.tree.size for one in self.held_out.rankings])
        some = [
            one for one, end in zip(self.held_out.rankings, sizes, strict=True) if end <= self.eval_tokens
        ]
        some = some or self.held_out.rankings[:1]
        mine = some[self.rows.rank :: self.rows.world]
        yield from self._batches(sorted(mine, key=lambda one: one.tree.size))

    def some(self, count: int) -> Iterator[Batch]:
        """As many rankings, drawn by the seed."""
        chosen = np.random.default_rng(self.seed).permutation(len(self.data))[:count]
        mine = [self.data.rankings[place] for place in chosen]
        return self._batches(sorted(mine, key=lambda one: one.tree.size))

    def epochs(self) -> float:
        return self.steps / self._per_epoch

    def where(self) -> str:
        epoch, number = divmod(self.steps, self._per_epoch)
        return f"epoch {epoch}, rankings from {number * self.batch}"

    def state(self) -> dict[str, object]:
        return {"steps": self.steps}

    def load(self, state: Mapping[str, object]) -> None:
        self.steps = as_count(state, "steps")


def compared_batch(some: list[Compared]) -> Batch:
    """Trees as in `planted`, and what is compared.

    `pairs` int64 [n, 2] are branches, the better one first; `of` int64 [n] the ranking of each pair, `margins` float32
    [n] by how much it is better at least; `rankings` int64 [rankings] how many pairs each has.
    """
    first, pairs, of, margins = 0, list[tuple[int, int]](), list[int](), list[float]()
    for number, one in enumerate(some):
        for better, worse in one.pairs:
            pairs.append((first + better, first + worse))
            of.append(number)
            margins.append(one.margin * (one.ranks[worse] - one.ranks[better]))
        first += len(one.ranks)
    return planted([one.tree for one in some]) | {
        "pairs": torch.tensor(pairs, dtype=torch.long),
        "of": torch.tensor(of, dtype=torch.long),
        "margins": torch.tensor(margins, dtype=torch.float32),
        "rankings": torch.bincount(torch.tensor(of, dtype=torch.long), minlength=len(some)),
    }
