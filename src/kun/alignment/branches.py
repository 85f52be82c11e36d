"""Several answers to one prompt in one pass: the prompt is read once, and each answer sees it and itself alone.

A prompt with its answers is a tree, whose trunk the answers branch off; trees lie next to each other in rows, so that
little is padding. Positions of a branch go on from the trunk, so that a network computes what it would compute of each
conversation alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kun.generation.pages import shared_beginning
from kun.models.batching import BATCH_TOKENS
from kun.training.feed import Batch

Ids = NDArray[np.int32]

ROW = 512
"""Tokens of a row that trees are laid into; a larger tree makes the rows of its batch longer."""
ONE_BY_ONE = ("chatglm", "lstm")
"""Families whose networks cannot read several answers to one prompt in one pass."""
_LEAST_TRUNK = 16
"""Tokens that are worth being read once for several rows."""
_PER_TRUNK = 4
"""So many times as long as its trunk a tree may be that is longer than a row: attention grows with its square."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A prompt and what goes on from it.

    `trunk` int32 [p]; `branches` int32 [n] each, n at least 1; of each branch `learned` bool [n] is true at what the
    assistant says.
    """

    trunk: Ids
    branches: tuple[Ids, ...]
    learned: tuple[NDArray[np.bool_], ...]

    @property
    def size(self) -> int:
        """Tokens that go through the network."""
        return len(self.trunk) + sum(map(len, self.branches))

    @property
    def longest(self) -> int:
        """Tokens of the longest conversation."""
        return len(self.trunk) + max(map(len, self.branches))


def planted(trees: Sequence[Tree], row: int = ROW) -> Batch:
    """A batch of the trees, whose branches are numbered through, tree after tree.

    - `input_ids` int64 [b, t] and `attention_mask` bool [b, t, t], which says what each token sees
    - `ends` int64 [branches, 2]: row and place of each branch's last token
    - `places` int64 [m, 2]: row and place of the token from whose state each learned token is predicted; `targets`
      int64 [m], those tokens; `branch` int64 [m], whose they are. A token without one before it is not predicted.
    """
    rows = _laid([tree.size for tree in trees], max([row, *(tree.size for tree in trees)]))
    width = max(sum(trees[index].size for index in some) for some in rows)
    ids = np.zeros((len(rows), width), np.int64)
    tree_of, branch_of = (np.full((len(rows), width), fill, np.int32) for fill in (-1, 0))
    numbers = np.cumsum([0, *(len(tree.branches) for tree in trees)])
    ends = np.zeros((numbers[-1], 2), np.int64)
    learned: list[NDArray[np.int64]] = []
    for number, some in enumerate(rows):
        at = 0
        for index in some:
            tree, first = trees[index], at
            tree_of[number, at : at + tree.size] = index
            ids[number, at : at + len(tree.trunk)] = tree.trunk
            at += len(tree.trunk)
            fork = at - 1 if at > first else -1
            for place, (branch, wanted) in enumerate(zip(tree.branches, tree.learned, strict=True)):
                ids[number, at : at + len(branch)] = branch
                branch_of[number, at : at + len(branch)] = place + 1
                before = np.arange(at - 1, at + len(branch) - 1)
                before[0] = fork
                known = wanted & (before >= 0)
                whose = np.full(len(branch), numbers[index] + place)
                where = np.full(len(branch), number)
                learned.append(np.stack([where, before, branch.astype(np.int64), whose], axis=1)[known])
                at += len(branch)
                ends[numbers[index] + place] = number, at - 1
    asked = np.concatenate(learned)
    asked = asked[np.argsort(asked[:, 3], kind="stable")]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": _seen(torch.from_numpy(tree_of), torch.from_numpy(branch_of)),
        "ends": torch.from_numpy(ends),
        "places": torch.from_numpy(asked[:, :2].copy()),
        "targets": torch.from_numpy(asked[:, 2].copy()),
        "branch": torch.from_numpy(asked[:, 3].copy()),
    }


def grown(rows: Sequence[Sequence[int]]) -> list[tuple[Tree, range]]:
    """Trees of the rows next to each other that begin alike, each with the numbers of its rows, in their order.

    A row that shares little with those before it begins a tree of its own, as does one for which a tree has grown too
    large, and one alone has an empty trunk.
    """
    made: list[tuple[Tree, range]] = []
    first = shared = tokens = 0
    for number in range(1, len(rows) + 1):
        common = shared_beginning(rows[first], rows[number]) if number < len(rows) else 0
        is_alone = number == first + 1
        tokens = len(rows[first]) if is_alone else tokens
        if number < len(rows):
            common = min([common, len(rows[first]) - 1, len(rows[number]) - 1, shared or common])
            size = tokens + len(rows[number]) - (number - first) * common
            has_room = size <= min(BATCH_TOKENS, max(ROW, _PER_TRUNK * common))
            if has_room and common >= _LEAST_TRUNK and (is_alone or common > shared // 2):
                shared, tokens = common, tokens + len(rows[number])
                continue
        some = range(first, number)
        trunk = 0 if is_alone else shared
        branches = tuple(np.array(rows[row][trunk:], np.int32) for row in some)
        unlearned = tuple(np.zeros(len(branch), np.bool_) for branch in branches)
        made.append((Tree(np.array(rows[first][:trunk], np.int32), branches, unlearned), some))
        first, shared = number, 0
    return made


def _laid(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Which trees lie in which row: the largest first, each in the first row that has room (first-fit decreasing)."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        row = next((row for row, free in enumerate(room) if free >= sizes[index]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(capacity)
        rows[row].append(index)
        room[row] -= sizes[index]
    return rows


def _seen(tree: Tensor, branch: Tensor) -> Tensor:
    """bool [b, t, t]: a token sees those of its tree before it that are of the trunk or of its own branch."""
    same = (tree[:, :, None] == tree[:, None, :]) & (tree >= 0)[:, None, :]
    along = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    return (same & along).tril()


def states_at(states: Tensor, places: Tensor) -> Tensor:
    """Those of states [b, t, d] at places int64 [m, 2] (row and place) -> [m, d]."""
    return states[places[:, 0], places[:, 1]]
