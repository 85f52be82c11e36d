"""Rankings as trees of tokens: the conversation up to where the answers part, and each answer.

The ids of prompt and answer are those of the whole conversation as the model's template renders it, so that what is
learned is what is met. A prompt that is too long is cut from its front, an answer never.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal

import numpy as np

from kun.alignment.branches import Tree
from kun.data.described import Counts
from kun.data.rows import BadRows, Conversation, Ranking, Row, digests
from kun.data.tokenized import RowTokenizer, Tokenized
from kun.errors import BadInput, BadRow

Contradictory = Literal["keep", "drop"]

_AT_ONCE = 256
"""Rankings that are tokenized together."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A ranking as tokens: `ranks` of the tree's branches from 0, the best; `margin` from one rank to the next."""

    tree: Tree
    ranks: tuple[int, ...]
    where: str
    margin: float = 0.0
    was_cut: bool = False

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The branches that are compared: the better one's number, then the worse one's. Equal answers are no pair."""
        branches, ranks = self.tree.branches, self.ranks
        return [
            (better, worse)
            for better in range(len(ranks))
            for worse in range(len(ranks))
            if ranks[better] < ranks[worse] and not np.array_equal(branches[better], branches[worse])
        ]


class Unusable(Exception):
    """A ranking that teaches nothing here, and why; it is counted, and no fault of the file."""


@dataclass
class RankingTokenizer:
    """Turns rankings into trees of at most `longest` tokens from the beginning to the end of any answer."""

    tokens: RowTokenizer
    longest: int
    long: Literal["cut", "drop"] = "cut"

    def __call__(self, rows: Sequence[Ranking]) -> "list[Compared | BadRow | Unusable]":
        """What becomes of each. Raises `BadInput` where the model has no chat template."""
        made = iter(self.tokens([talk for row in rows for talk in _conversations(row)]))
        return [self._compared(row, [next(made) for _ in row.answers]) for row in rows]

    def _compared(self, row: Ranking, talks: Sequence[object]) -> "Compared | BadRow | Unusable":
        found: list[Tokenized] = []
        for talk in talks:
            if not isinstance(talk, Tokenized):
                return talk if isinstance(talk, BadRow) else BadRow(f"{row.where}: an answer has no tokens.")
            found.append(talk)
        try:
            return self._cut(Compared(_tree(found), row.ranks, row.where, row.margin))
        except Unusable as why:
            return why

    def _cut(self, one: Compared) -> Compared:
        """The ranking within the limit: without answers that do not fit, and with the end of a prompt that does not."""
        tree = one.tree
        fits = [len(branch) < self.longest for branch in tree.branches]
        if tree.longest > self.longest and self.long == "drop":
            raise Unusable(f"{one.where}: {tree.longest} tokens are more than {self.longest}")
        kept = [place for place, good in enumerate(fits) if good]
        if len(kept) < 2:
            raise Unusable(f"{one.where}: an answer alone has more than {self.longest - 1} tokens")
        branches = tuple(tree.branches[place] for place in kept)
        room = self.longest - max(map(len, branches))
        trunk = tree.trunk[max(0, len(tree.trunk) - room) :]
        cut = Tree(trunk, branches, tuple(tree.learned[place] for place in kept))
        was_cut = len(trunk) < len(tree.trunk) or len(kept) < len(fits)
        made = replace(one, tree=cut, ranks=tuple(one.ranks[place] for place in kept), was_cut=was_cut)
        if not made.pairs:
            raise Unusable(f"{one.where}: no answer is better than another one that differs from it")
        return made


def _conversations(row: Ranking) -> list[Conversation]:
    """Each answer with its prompt, of which nothing is learned."""
    prompt = tuple(
        {**message, "weight": 0} if message["role"] == "assistant" else message for message in row.prompt
    )
    return [Conversation((*prompt, *answer), row.where, row.tools) for answer in row.answers]


def _tree(talks: Sequence[Tokenized]) -> Tree:
    """They part where the first of them begins to be learned, or where their tokens first differ."""
    learned = [np.ones(len(talk.ids), np.bool_) if talk.learned is None else talk.learned for talk in talks]
    fork = min(int(each.argmax()) for each in learned)
    for talk in talks[1:]:
        shared = min(fork, len(talk.ids))
        differ = np.flatnonzero(talk.ids[:shared] != talks[0].ids[:shared])
        fork = int(differ[0]) if len(differ) else shared
    return Tree(
        talks[0].ids[:fork],
        tuple(talk.ids[fork:] for talk in talks),
        tuple(each[fork:] for each in learned),
    )


@dataclass
class Preferences:
    """Rankings to learn from, in memory, in the order of their source.

    `contradicted` counts pairs whose reverse is there, too.
    """

    rankings: list[Compared]
    counts: Counts = field(default_factory=Counts)
    contradicted: int = 0
    sides: list[int] = field(default_factory=list)
    """Of each ranking 64 bits of its prompt's digest, which decide on its side of a split."""

    def __len__(self) -> int:
        return len(self.rankings)

    @property
    def digest(self) -> str:
        """Of all tokens and ranks."""
        made = blake2b(digest_size=16)
        for one in self.rankings:
            made.update(repr((one.ranks, one.margin)).encode())
            for ids in (one.tree.trunk, *one.tree.branches):
                made.update(len(ids).to_bytes(4, "little") + ids.tobytes())
        return made.hexdigest()

    @property
    def tokens(self) -> int:
        """Tokens that go through a network in one epoch."""
        return sum(one.tree.size for one in self.rankings)

    @classmethod
    def read(
        cls,
        rows: Iterable[Row],
        tokenizer: RankingTokenizer,
        bad: BadRows,
        contradictory: Contradictory = "keep",
    ) -> "Preferences":
        """The rankings of a source, each once.

        What teaches nothing (equal answers, answers beyond the limit) is left out and counted in `counts.dropped`, with
        its file and line among the examples. Raises `BadRow`, and `BadInput` where nothing is left.
        """
        made, counts = cls([]), Counts()
        seen: set[bytes] = set()
        for some in _blocks(rows):
            counts.rows += len(some)
            for row, one in zip(some, tokenizer(some), strict=True):
                whole, side = digests(row)
                if isinstance(one, BadRow):
                    bad.meet(one)
                elif isinstance(one, Unusable):
                    counts.dropped += 1
                    if len(counts.examples) < BadRows.KEPT:
                        counts.examples.append(str(one))
                elif whole in seen:
                    counts.duplicates += 1
                else:
                    seen.add(whole)
                    counts.cut += one.was_cut
                    made.rankings.append(one)
                    made.sides.append(int.from_bytes(side, "little"))
        counts.bad = bad.count
        counts.examples += bad.examples[: BadRows.KEPT - len(counts.examples)]
        made.counts = counts
        made._without_contradictions(contradictory)
        counts.documents = len(made)
        if not made.rankings:
            why = f" ({counts.examples[0]})" if counts.examples else ""
            raise BadInput(f"No ranking of {counts.rows} can be learned from{why}: name other data.")
        return made

    def _without_contradictions(self, contradictory: Contradictory) -> None:
        """Count pairs of which the reverse is there, and drop the rankings that hold one, where that is wanted."""
        held: dict[tuple[bytes, bytes, bytes], list[int]] = defaultdict(list)
        for number, one in enumerate(self.rankings):
            prompt = one.tree.trunk.tobytes()
            for better, worse in one.pairs:
                sides = one.tree.branches[better].tobytes(), one.tree.branches[worse].tobytes()
                held[prompt, *sides].append(number)
        against = {key: numbers for key, numbers in held.items() if (key[0], key[2], key[1]) in held}
        self.contradicted = sum(map(len, against.values()))
        if contradictory == "drop" and against:
            wrong = {number for numbers in against.values() for number in numbers}
            self.counts.dropped += len(wrong)
            self._keep([number for number in range(len(self)) if number not in wrong])

    def _keep(self, numbers: Sequence[int]) -> None:
        self.rankings = [self.rankings[number] for number in numbers]
        self.sides = [self.sides[number] for number in numbers]

    def split(self, share: float) -> "tuple[Preferences, Preferences]":
        """Training and evaluation, about `share` of the prompts in the latter; rankings of one prompt stay together.

        Raises `BadInput` where there is one prompt only.
        """
        if len(set(self.sides)) < 2:
            raise BadInput(
                "All rankings are of one prompt, which cannot be divided: name data for evaluation."
            )
        threshold = min(max(int(share * 2**64), min(self.sides) + 1), max(self.sides))
        held_out = [side < threshold for side in self.sides]
        return self._part(held_out, False), self._part(held_out, True)

    def _part(self, held_out: Sequence[bool], wanted: bool) -> "Preferences":
        numbers = [number for number, is_out in enumerate(held_out) if is_out == wanted]
        part = replace(self)
        part._keep(numbers)
        return part


def _blocks(rows: Iterable[Row]) -> Iterator[list[Ranking]]:
    some: list[Ranking] = []
    for row in rows:
        assert isinstance(row, Ranking)
        some.append(row)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some
