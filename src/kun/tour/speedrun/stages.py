"""The report's part on all stages: what each says to the same questions, and what that is worth, with intervals."""

from collections.abc import Iterable, Sequence
from html import escape

from kun.tour.speedrun.facts import Interval, Measures, StageAnswer, Told
from kun.training.report import parts
from kun.training.report.words import say

_NAMES = ("pretrained", "finetuned", "rewarded")
_WIDE, _HIGH, _EDGE = 220, 16, 6


def stages(measures: Measures | None, told: Sequence[Told]) -> str:
    """The table of rewards, the gains, and the answers next to each other; "" where nothing was measured."""
    rewards = measures.get("rewards", {}) if measures else {}
    gains = measures.get("gains", {}) if measures else {}
    if not rewards:
        return ""
    bounds = _bounds(found["reward"] for found in rewards.values())
    rows = [
        [
            _say(name),
            _interval(found["reward"]),
            _whisker(found["reward"], bounds),
            f"{found['exact']:.0%}",
            f"{found['ended']:.0%}",
            f"{found['length']:.0f}",
        ]
        for name, found in rewards.items()
    ]
    head = [_say(key) for key in ("stage", "reward_mean", "reward_drawn", "exact", "ended", "tokens")]
    count = next(iter(rewards.values()))["n"]
    verdicts = "".join(
        f"<li>{_say(_verdict(gain), stage=name, gain=_plain(gain))}</li>" for name, gain in _named(gains)
    )
    return f"<p>{_say('story')}</p>" + parts.cards(
        f'<div class="card wide">{parts.table(head, rows)}'
        f'<p class="dim small">{_say("rewards_told", count=count)}</p><ul>{verdicts}</ul></div>',
        *(parts.card(_answers(one)) for one in told),
    )


def _say(key: str, **given: object) -> str:
    return say(key, __package__, **given)


def _named(gains: dict[str, Interval]) -> Iterable[tuple[str, Interval]]:
    titles = {"finetuned": "SFT", "rewarded": "PPO"}
    return ((titles.get(name, name), gain) for name, gain in gains.items())


def _verdict(gain: Interval) -> str:
    if gain["low"] > 0:
        return "gained"
    return "lost" if gain["high"] < 0 else "undecided"


def _plain(found: Interval) -> str:
    return f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def _interval(found: Interval) -> str:
    return f"<b>{found['mean']:+.2f}</b> <span class='dim small'>{found['low']:+.2f} … {found['high']:+.2f}</span>"


def _bounds(found: Iterable[Interval]) -> tuple[float, float]:
    """The least and the greatest of all intervals."""
    ends = [end for one in found for end in (one["low"], one["high"])]
    return min(ends), max(ends)


def _whisker(found: Interval, bounds: tuple[float, float]) -> str:
    """An interval on a scale that all stages share."""
    least, most = bounds

    def at(value: float) -> float:
        return _EDGE + (_WIDE - 2 * _EDGE) * (value - least) / ((most - least) or 1.0)

    middle = _HIGH / 2
    return (
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" width="{_WIDE}" height="{_HIGH}" aria-hidden="true">'
        f'<line x1="{at(found["low"]):.1f}" x2="{at(found["high"]):.1f}" y1="{middle}" y2="{middle}" '
        f'stroke="var(--accent)" stroke-width="2"/>'
        f'<circle cx="{at(found["mean"]):.1f}" cy="{middle}" r="4" fill="var(--accent)"/></svg>'
    )


def _answers(one: Told) -> str:
    said = [(name, one["said"][name]) for name in _NAMES if name in one["said"]]
    lines = [_answer(name, answer) for name, answer in [*said, ("wanted", one["wanted"])]]
    return f'<p class="text prompt">{escape(one["question"])}</p>{"".join(lines)}'


def _answer(name: str, answer: StageAnswer) -> str:
    return (
        f'<p class="text"><span class="dim small">{_say(name)} [{answer["reward"]:+.2f}]</span>\n'
        f"{escape(answer['said'])}</p>"
    )
