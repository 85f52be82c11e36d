"""How far people agree, and what leads them that is no matter of quality: the side, and the length."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kun.alignment.feedback.votes import FLAGS, Item, Vote

Judged = tuple[Item, Vote]


@dataclass(frozen=True)
class Share:
    """Of `count` cases the share that went one way, and its standard error."""

    share: float
    error: float
    count: int

    @classmethod
    def of(cls, hits: float, count: int) -> "Share | None":
        """None where there is no case."""
        if not count:
            return None
        share = hits / count
        return cls(share, (share * (1 - share) / count) ** 0.5, count)


@dataclass(frozen=True)
class Agreement:
    """`pairwise`: of two people who judged one pair of answers, how often they say the same (better, tie, worse).

    `alpha` is Krippendorff's (Content Analysis, 4th edition, chapter 12) with the interval metric over worse, tie,
    better: 1 for perfect agreement, 0 for what chance gives. None where nothing was judged twice, or nothing differs.
    """

    alpha: float | None
    pairwise: Share | None
    items: int
    people: int


@dataclass(frozen=True)
class Summary:
    """Votes in numbers. `first_wins` and `longer_wins`: of pairs that are no tie, how often that answer is better."""

    votes: int = 0
    skipped: int = 0
    bad: int = 0
    ties: int = 0
    pairs: int = 0
    contradictory: int = 0
    corrections: int = 0
    notes: int = 0
    raters: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    models: dict[str, Share] = field(default_factory=dict)
    agreement: Agreement = field(default_factory=lambda: Agreement(None, None, 0, 0))
    first_wins: Share | None = None
    longer_wins: Share | None = None


def summary_of(judged: Iterable[Judged]) -> Summary:
    """All numbers of some votes."""
    votes = list(judged)
    real = [(item, vote) for item, vote in votes if vote.verdict != "skipped"]
    pairs = [(item, vote, a, b) for item, vote in real for a, b in vote.pairs]
    verdicts = Counter(vote.verdict for _, vote in votes)
    flags = Counter(flag for _, vote in votes for flags in vote.flags.values() for flag in flags)
    return Summary(
        votes=len(real),
        skipped=verdicts["skipped"],
        bad=verdicts["bad"],
        ties=sum(_ties(vote) for _, vote in real),
        pairs=len(pairs),
        contradictory=_contradictory(pairs),
        corrections=sum(bool(vote.correction.strip()) for _, vote in real),
        notes=sum(bool(vote.note.strip()) for _, vote in votes),
        raters=dict(Counter(vote.rater for _, vote in real).most_common()),
        flags={flag: flags[flag] for flag in FLAGS},
        models=_models(pairs),
        agreement=agreement_of(real),
        first_wins=_first_wins(pairs),
        longer_wins=_longer_wins(pairs),
    )


def agreement_of(judged: Iterable[Judged]) -> Agreement:
    """How far people agree on pairs of answers, by what each said last of an item.

    Each pair counts in both orders, so that alpha knows no side.
    """
    units: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    people: dict[str, set[str]] = defaultdict(set)
    newest = {(item.id, vote.rater): (item, vote) for item, vote in judged}
    for item, vote in newest.values():
        ranks = vote.ranks or (0,) * len(item.answers)  # all bad: none is better
        people[item.id].add(vote.rater)
        for a in range(len(ranks)):
            for b in range(len(ranks)):
                if a != b:
                    units[item.id, a, b].append((ranks[a] < ranks[b]) - (ranks[a] > ranks[b]))
    shared = [values for values in units.values() if len(values) > 1]
    several = [raters for raters in people.values() if len(raters) > 1]
    same = sum(
        values.count(value) * (values.count(value) - 1) / 2 for values in shared for value in set(values)
    )
    both = sum(len(values) * (len(values) - 1) // 2 for values in shared)
    pairwise = Share.of(same / 2, both // 2)  # either order says the same
    return Agreement(krippendorff(shared), pairwise, len(several), len(set().union(*several)))


def krippendorff(units: Sequence[Sequence[float]]) -> float | None:
    """Krippendorff's alpha of values by unit, with the interval metric. None without two values that differ.

    1 - observed / expected disagreement; a unit with one value tells nothing and is left out.
    """
    units = [values for values in units if len(values) > 1]
    everything = Counter(value for values in units for value in values)
    n = sum(everything.values())
    expected = _disagreement(everything) / (n - 1) if n > 1 else 0.0
    if not expected:
        return None
    observed = sum(_disagreement(Counter(values)) / (len(values) - 1) for values in units)
    return 1 - observed / expected


def _disagreement(counts: "Counter[float]") -> float:
    """The squared distances of all ordered pairs of values."""
    return sum(n * m * (a - b) ** 2 for a, n in counts.items() for b, m in counts.items())


def _ties(vote: Vote) -> int:
    sizes = Counter(vote.ranks).values()
    return sum(size * (size - 1) // 2 for size in sizes)


def _contradictory(pairs: Sequence[tuple[Item, Vote, int, int]]) -> int:
    """Pairs of which somebody said the reverse."""
    said = Counter((item.prompt_text, item.text(a), item.text(b)) for item, _, a, b in pairs)
    return sum(count for (prompt, a, b), count in said.items() if (prompt, b, a) in said)


def _first_wins(pairs: Sequence[tuple[Item, Vote, int, int]]) -> Share | None:
    shown = [(vote.shown, better, worse) for _, vote, better, worse in pairs if vote.shown]
    hits = sum(order.index(better) < order.index(worse) for order, better, worse in shown)
    return Share.of(hits, len(shown))


def _longer_wins(pairs: Sequence[tuple[Item, Vote, int, int]]) -> Share | None:
    lengths = [(len(item.text(better)), len(item.text(worse))) for item, _, better, worse in pairs]
    unlike = [(better, worse) for better, worse in lengths if better != worse]
    return Share.of(sum(better > worse for better, worse in unlike), len(unlike))


def _models(pairs: Sequence[tuple[Item, Vote, int, int]]) -> dict[str, Share]:
    """How often each model's answer is the better one, of pairs with another model's that are no tie."""
    wins: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for item, _, better, worse in pairs:
        winner, loser = item.models[better], item.models[worse]
        if winner and loser and winner != loser:
            wins[winner] += 1
            met.update((winner, loser))
    return {name: share for name in sorted(met) if (share := Share.of(wins[name], met[name])) is not None}
