"""Groups of vectors that lie near each other, found without a label: k-means, and how many groups there are.

Clustering is what "unsupervised" meant before self-supervision: it learns no representation, it sorts what another
one made. The k-means is OpenCV's (Lloyd 1982, seeded by k-means++: Arthur and Vassilvitskii 2007).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.errors import BadInput

Floats = NDArray[np.float32]
MOST_GROUPS = 100
_TRIED, _OF_EACH = 16, 5
"""Where nobody says how many groups, up to so many are tried, more being no overview, of so many rows each."""
_DIRECTIONS = 16
"""Principal directions in which groups are looked for; the rest of a text's vector is mostly its own."""
_CHOSEN_ON = 20_000
"""Rows, evenly spread, on which the number of groups is chosen."""
_ENOUGH = 1000
_SAMPLE = 1000
"""Rows that a silhouette is taken over, evenly spread: it compares each with each."""
_BLOCK = 1 << 16
_ATTEMPTS, _STEPS, _MOVES = 8, 100, 1e-5
_SEED = 7


@dataclass(frozen=True)
class Clusters:
    """`labels` int64 [n], the group of each row; groups are numbered from the largest on.

    `points` float32 [n, 2] are the rows in the plane of most variance. `silhouette` (Rousseeuw 1987) is the mean over
    rows of how much nearer the own group is than the next one: 1 far apart, 0 side by side.
    """

    labels: NDArray[np.int64]
    points: Floats
    silhouette: float

    @property
    def groups(self) -> int:
        return int(self.labels.max()) + 1

    def members(self, group: int) -> NDArray[np.int64]:
        """The rows of a group, int64 [m]."""
        return np.flatnonzero(self.labels == group)


def cluster(vectors: Floats, groups: int | None = None) -> Clusters:
    """Sort the rows of `vectors` [n, d] into `groups`, or into as many as have the best silhouette, from 2 to 16.

    The same vectors give the same groups. Raises `BadInput` for fewer than two different rows, and for more groups
    than there are different ones.
    """
    rows = np.asarray(vectors, np.float32)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise BadInput("Clustering takes a table of finite numbers, a row for each thing.")
    reduced = principal(rows, _DIRECTIONS) if len(rows) else rows
    different = _different(reduced)
    if different < 2:
        found = (
            "one row"
            if len(rows) == 1
            else f"{len(rows)} rows that are all the same"
            if len(rows)
            else "no rows"
        )
        raise BadInput(f"There is nothing to group in {found}: two different ones are needed at least.")
    if groups is not None and not 2 <= groups <= min(different, MOST_GROUPS):
        raise BadInput(
            f"{groups} groups cannot be made of {different} different rows: ask for 2 to {min(different, MOST_GROUPS)}."
        )
    if groups is None:
        some = reduced[_spread(len(reduced), _CHOSEN_ON)]
        tried = range(2, max(2, min(_TRIED, different // _OF_EACH)) + 1)
        # the first of those that are equally good: fewer groups are the better overview
        groups = max(tried, key=lambda count: (silhouette(some, _k_means(some, count)), -count))
    labels = _k_means(reduced, groups)
    return Clusters(labels, np.ascontiguousarray(reduced[:, :2]), silhouette(reduced, labels))


def _different(reduced: Floats) -> int:
    """How many rows differ, as far as that matters: beyond `_ENOUGH` nobody asks."""
    some = reduced[:_ENOUGH] if len(np.unique(reduced[:_ENOUGH].round(5), axis=0)) == _ENOUGH else reduced
    return len(np.unique(some.round(5), axis=0))


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Up to `most` of `count` rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def principal(rows: Floats, directions: int) -> Floats:
    """The rows [n, d] in the directions of most variance, float32 [n, directions]: Pearson, 1901.

    Signs are chosen, so that the same rows give the same numbers; where there are fewer directions, zeros follow.
    """
    mean, spread = rows.mean(axis=0, dtype=np.float64), np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), _BLOCK):  # no float64 copy of all
        part = rows[start : start + _BLOCK] - mean
        spread += part.T @ part
    _, axes = np.linalg.eigh(spread)
    axes = axes[:, ::-1][:, :directions]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    placed = np.zeros((len(rows), directions), np.float32)
    for start in range(0, len(rows), _BLOCK):
        placed[start : start + _BLOCK, : axes.shape[1]] = (rows[start : start + _BLOCK] - mean) @ axes
    return placed


def silhouette(rows: Floats, labels: NDArray[np.int64]) -> float:
    """The mean silhouette of rows [n, d] in groups `labels` [n], from -1 to 1; of many rows a sample is taken."""
    chosen = _spread(len(rows), _SAMPLE)
    some, groups = rows[chosen].astype(np.float64), labels[chosen]
    squares = (some**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * some @ some.T, 0.0))
    belongs = np.equal.outer(groups, np.unique(groups)).astype(np.float64)  # [n, groups]
    sums, sizes = apart @ belongs, belongs.sum(axis=0)
    own = belongs.astype(bool)
    within = sums[own] / np.maximum(sizes[own.argmax(axis=1)] - 1, 1)
    others = np.where(own, np.inf, sums / sizes).min(axis=1)
    alone = sizes[own.argmax(axis=1)] == 1
    widest = np.maximum(np.maximum(within, others), 1e-12)
    return float(np.where(alone | ~np.isfinite(others), 0.0, (others - within) / widest).mean())


def _k_means(rows: Floats, groups: int) -> NDArray[np.int64]:
    """The group of each row, int64 [n], numbered from the largest group on."""
    import cv2

    cv2.setRNGSeed(_SEED)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, _STEPS, _MOVES)
    start = np.zeros((len(rows), 1), np.int32)
    _, labels, _ = cv2.kmeans(rows, groups, start, criteria, _ATTEMPTS, cv2.KMEANS_PP_CENTERS)
    found = np.asarray(labels, np.int64).ravel()
    sizes = np.bincount(found, minlength=groups)
    first = [
        int(np.flatnonzero(found == group)[0]) if sizes[group] else len(found) for group in range(groups)
    ]
    order = np.lexsort((np.array(first), -sizes))
    number = np.empty(groups, np.int64)
    number[order] = np.arange(groups)
    return number[found]
