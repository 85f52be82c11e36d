"""Topics of a knowledge base: its passages' vectors in groups, each named by the words that tell it from the others.

The words are found by class-based TF-IDF (Grootendorst, arXiv:2203.05794): a word counts by how often the group has it,
and by how rarely all groups together do.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from kun.errors import BadInput
from kun.knowledge.clusters import Clusters, Floats, cluster
from kun.knowledge.passage import Passage
from kun.knowledge.rows import Table
from kun.text.language import is_chinese
from kun.text.words import STOP_WORDS, cut_words, stem

if TYPE_CHECKING:
    from kun.inspection.picture import PictureFormat

WordLists: TypeAlias = Sequence[Sequence[str]]
_NAMING, _EXAMPLES = 4, 3
_SMALL = STOP_WORDS | frozenset(
    """about after all already also am any because before both can could each either et al every few first get give
    here however just last like made make many may might more most much must need new next now one only other out over
    own per same second see set several should some still take than therefore thus too two under until up upon us use
    used using very via way well while within without would yes yet
    可以 可能 应该 需要 进行 使用 以及 因为 所以 如果 但是 而且 不过 虽然 然后 没有 不是 就是 还有 一种 一些 一样
    这样 那样 这些 那些 我们 你们 他们 它们 自己 每个 所有 其他 其中 第一 第二 已经 还是
    只是 不能 不会 通过 由于 由 用 会 能 要""".split()
)
"""Words that are in texts on anything: they name no group."""
_LEAST_SHARE, _FEWEST, _COMPARED = 0.1, 10, 1000
"""The least share and number of passages of each of two languages, whose mean is then that of a language and not of a
topic; the same share has to have its nearest one in the other language, of so many that are compared."""


@dataclass(frozen=True)
class Topic:
    """A group: its `name`, the `words` that tell it from the others, best first, and how many passages it has.

    `documents` are those that it has passages of, and `examples` the passages nearest to its middle.
    """

    name: str
    words: tuple[str, ...]
    passages: int
    documents: int
    examples: tuple[Passage, ...]


@dataclass(frozen=True)
class Topics:
    """The topics of `passages` passages, the largest first; for a picture the `clusters`."""

    topics: tuple[Topic, ...]
    passages: int
    clusters: Clusters

    def picture(self, format: "PictureFormat") -> bytes:
        """Every passage as a point in the plane of most variance, in the colour of its topic."""
        from kun.inspection.groups import scatter

        return scatter(
            self.clusters.points, self.clusters.labels, [topic.name for topic in self.topics], format
        )


def names_of(clusters: Clusters, words: WordLists, count: int = _NAMING) -> list[tuple[str, ...]]:
    """For each group the words that tell it from the others, best first, of the words of each row.

    A word counts once a row, so that one long row names no group.
    """
    rows = [{word for word in row if _names(word)} for row in words]
    within = [
        Counter(word for row in clusters.members(g) for word in rows[row]) for g in range(clusters.groups)
    ]
    everywhere = sum(within, Counter())
    average = sum(everywhere.values()) / max(1, clusters.groups)
    named = []
    for counts, size in zip(within, np.bincount(clusters.labels), strict=True):
        least = 2 if size > 2 else 1  # what one passage alone has tells nothing of a group
        scores = {
            word: n * log(1 + average / everywhere[word]) for word, n in counts.items() if n >= least
        } or dict.fromkeys(counts, 1.0)
        named.append(_different(sorted(scores, key=lambda word: (-scores[word], word)), count))
    return named


def topics_of(name: str, table: Table, groups: int | None = None) -> Topics:
    """The topics of all passages of a base of this `name`. Raises `BadInput` where there is too little to group."""
    if not len(table):
        raise BadInput(f"{name} holds no passages yet: add documents with `kun kb add {name} FOLDER`.")
    vectors = by_language(table.vectors, table.texts)
    try:
        clusters = cluster(vectors, groups)
    except BadInput as error:
        raise BadInput(
            f"The passages of {name}, {len(table)} in all, give no such groups. {error}"
        ) from error
    named = names_of(clusters, [cut_words(text) for text in table.texts])
    return Topics(
        tuple(_topic(table, vectors, clusters, group, words) for group, words in enumerate(named)),
        len(table),
        clusters,
    )


def by_language(vectors: Floats, texts: Sequence[str]) -> Floats:
    """The vectors [n, d] of `texts`, less the mean of those in Chinese, or of the others, where both tell of the same.

    An encoder of many languages keeps some of the language in a vector; without its mean, two texts on one thing meet
    whatever they are written in. Where after that hardly any text has its nearest one in the other language, each has
    topics of its own, and the vectors stay as they were.
    """
    chinese = np.array([is_chinese(text) for text in texts], np.bool_)
    if min(chinese.sum(), (~chinese).sum()) < max(_FEWEST, _LEAST_SHARE * len(chinese)):
        return vectors
    moved = vectors.copy()
    for part in (chinese, ~chinese):
        moved[part] -= vectors[part].mean(axis=0)
    chosen = np.unique(np.linspace(0, len(moved) - 1, min(len(moved), _COMPARED)).astype(np.int64))
    some = moved[chosen]
    near = 2 * some @ some.T - (some**2).sum(axis=1)
    np.fill_diagonal(near, -np.inf)
    meet = (chinese[chosen][near.argmax(axis=1)] != chinese[chosen]).mean()
    return moved if meet >= _LEAST_SHARE else vectors


def _topic(table: Table, vectors: Floats, clusters: Clusters, group: int, words: tuple[str, ...]) -> Topic:
    """A group of rows; what is near its middle is found in the `vectors` [n, d] that were grouped."""
    members = clusters.members(group)
    middle = vectors[members].mean(axis=0)
    near = members[np.argsort(-(vectors[members] @ middle), kind="stable")]
    examples: list[Passage] = []
    seen: set[str] = set()
    for row in near.tolist():
        if table.texts[row] not in seen and len(examples) < _EXAMPLES:
            seen.add(table.texts[row])
            examples.append(_passage(table, row, float(vectors[row] @ middle)))
    documents = len({table.sources[row] for row in members.tolist()})
    name = " · ".join(words) or f"group {group + 1}"
    return Topic(name, words, len(members), documents, tuple(examples))


def _passage(table: Table, row: int, score: float) -> Passage:
    page, start, end = int(table.pages[row]), int(table.starts[row]), int(table.ends[row])
    return Passage(
        table.texts[row],
        table.sources[row],
        table.headings[row],
        page or None,
        score,
        table.ids[row],
        None,
        start,
        end,
    )


def _names(word: str) -> bool:
    """Whether a word can name a group: no small word, no number, no single letter."""
    return len(word) > 1 and word not in _SMALL and not word[0].isdigit()


def _different(words: Sequence[str], count: int) -> tuple[str, ...]:
    """The first `count` of them that are no forms or parts of one before."""
    chosen: list[str] = []
    for word in words:
        forms = [stem(other) for other in chosen]
        if stem(word) not in forms and not any(word in other or other in word for other in chosen):
            chosen.append(word)
        if len(chosen) == count:
            break
    return tuple(chosen)
