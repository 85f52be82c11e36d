"""Words as points: the plane in which their vectors differ most, with lines between those that belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kun.errors import BadInput
from kun.inspection.picture import PictureFormat, new_figure, saved
from kun.wordvectors.vectors import WordVectors

Pairs: TypeAlias = Sequence[tuple[str, ...]]
"""Words that belong together: each group is joined by a line."""

PEOPLE_AND_PLACES: dict[str, tuple[Pairs, Pairs]] = {
    "en": (
        (("king", "queen"), ("man", "woman"), ("prince", "princess"), ("father", "mother"), ("boy", "girl")),
        (
            ("france", "paris"), ("germany", "berlin"), ("italy", "rome"), ("spain", "madrid"), ("china", "beijing"),
            ("japan", "tokyo"), ("russia", "moscow"), ("egypt", "cairo"),
        ),
    ),
    "zh": (
        (("国王", "王后"), ("男人", "女人"), ("王子", "公主"), ("父亲", "母亲"), ("男孩", "女孩")),
        (
            ("法国", "巴黎"), ("德国", "柏林"), ("意大利", "罗马"), ("西班牙", "马德里"), ("中国", "北京"),
            ("日本", "东京"), ("俄罗斯", "莫斯科"), ("埃及", "开罗"),
        ),
    ),
}  # fmt: skip
"""Kings and queens, and countries with their capitals, in both languages."""
_COLOURS = ("#0b6e8a", "#b3541e", "#4a7d3a", "#7a4a8c")
MOST_WORDS = 500


@dataclass(frozen=True)
class Projection:
    """`points` float64 [n, 2] of `words` in the plane of most variance, of which it holds the share `kept`."""

    words: tuple[str, ...]
    points: NDArray[np.float64]
    kept: float


@dataclass(frozen=True)
class Panel:
    """One picture: a projection and the groups whose words are joined; `missing` have no vector."""

    title: str
    projection: Projection
    groups: tuple[tuple[str, ...], ...]
    missing: tuple[str, ...]


def project(vectors: WordVectors, words: Sequence[str]) -> Projection:
    """Principal components of words' vectors at length one (Pearson, 1901). Raises `NotFound`, `BadInput` for too few.

    The signs are chosen so that the same vectors give the same picture.
    """
    chosen = tuple(dict.fromkeys(words))
    if not 3 <= len(chosen) <= MOST_WORDS:
        raise BadInput(f"A picture shows 3 to {MOST_WORDS} words, not {len(chosen)}.")
    unit = np.array([vectors.unit(word) for word in chosen], np.float64)
    centred = unit - unit.mean(axis=0)
    centred = np.pad(centred, ((0, 0), (0, max(0, 2 - centred.shape[1]))))  # a plane has two axes
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    total = float((lengths**2).sum())
    kept = float((lengths[:2] ** 2).sum()) / total if total else 0.0
    return Projection(chosen, centred @ axes.T, kept)


def panel(vectors: WordVectors, groups: Pairs, title: str = "") -> Panel:
    """A picture of groups of words, those without a vector left out. Raises `BadInput` where fewer than three stay."""
    every = [word for group in groups for word in group]
    missing = tuple(word for word in dict.fromkeys(every) if word not in vectors)
    here = [tuple(word for word in group if word not in missing) for group in groups]
    if missing and len(set(every) - set(missing)) < 3:
        raise BadInput(
            f"{vectors.name} has vectors for fewer than three of these words (not for {', '.join(missing[:8])}): "
            f"name words that it knows."
        )
    words = [word for group in here for word in group]
    return Panel(title, project(vectors, words), tuple(group for group in here if group), missing)


def usual_panels(vectors: WordVectors) -> list[Panel]:
    """Kings and queens, countries and capitals that the vectors know, in the language of which they know more."""
    known = {
        language: sum(word in vectors for groups in panels for group in groups for word in group)
        for language, panels in PEOPLE_AND_PLACES.items()
    }
    found = []
    for groups in PEOPLE_AND_PLACES[max(known, key=known.__getitem__)]:
        if sum(word in vectors for group in groups for word in group) >= 3:
            found.append(panel(vectors, groups))
    if not found:
        raise BadInput(f"{vectors.name} knows no kings and no capitals: name words that it knows.")
    return found


def draw(panels: Sequence[Panel], format: PictureFormat) -> bytes:
    """Pictures side by side, as PNG or SVG."""
    figure = new_figure(width=6.4 * len(panels), height=5.6)
    for ax, one in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        place = dict(zip(one.projection.words, one.projection.points, strict=True))
        for number, group in enumerate(one.groups):
            points = np.array([place[word] for word in group])
            colour = _COLOURS[number % len(_COLOURS)]
            ax.plot(points[:, 0], points[:, 1], "-", color=colour, linewidth=0.8, alpha=0.6)
            ax.plot(points[:, 0], points[:, 1], "o", color=colour, markersize=4)
        for word, (x, y) in place.items():
            ax.annotate(word, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=10)
        ax.margins(0.15)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(f"{one.title} PCA, {one.projection.kept:.0%} of the variance".strip(), fontsize=9)
    return saved(figure, format)
