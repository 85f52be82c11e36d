"""Articles of a small town with summaries that people would rank; examples/recipes/summaries-*.toml train on them.

    python examples/recipes/data/summaries/make.py examples/recipes/data/summaries

An article tells that something changes, when and why, with details around it, in English or in Chinese. The best
summary says all three in one sentence. Worse, in this order: one without the reason, one that copies how the article
begins, and two that are as bad as each other, with a wrong day or of another article. Everything is drawn from the
lists of world.toml with a seed, and what is held out tells of changes that no other article tells of.
"""

import argparse
import json
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHOWN, RANKED, HELD_OUT = 80, 160, 30
"""Pieces of each language: of demonstrations, of rankings, and of what is held out."""
HELD_OUT_CHANGES = 3
"""Changes of each language, the last ones, that only held-out articles report."""

World = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """An article, the question for its summary, its best summary, and worse ones, the better first."""

    prompt: str
    article: str
    best: str
    worse: tuple[tuple[str, ...], ...]


def pieces(world: World, changes: list[World], count: int, draw: random.Random) -> Iterator[Piece]:
    """`count` pieces on some of a world's changes."""
    drawn = [_facts(world, draw.choice(changes), draw) for _ in range(count)]
    for place, facts in enumerate(drawn):
        other = drawn[(place + 1) % count]
        wrong = {**facts, "day": draw.choice([day for day in world["days"] if day != facts["day"]])}
        sentences = _article(world, facts, draw)
        joined = world["join"].join(sentences)
        best, incomplete = (_filled(draw.choice(world[key]), facts) for key in ("best", "incomplete"))
        beginning = world["join"].join(sentences[:2])
        bad = (_filled(draw.choice(world["best"]), wrong), _filled(draw.choice(world["best"]), other))
        yield Piece(world["ask"].format(article=joined), joined, best, ((incomplete,), (beginning,), bad))


def _facts(world: World, change: World, draw: random.Random) -> dict[str, str]:
    return {
        "who": change["who"],
        "does": change["does"],
        "why": draw.choice(change["why"]),
        "town": draw.choice(world["towns"]),
        "day": draw.choice(world["days"]),
        "name": draw.choice(world["names"]),
        "number": str(draw.randint(2, 9) * 10),
    }


def _article(world: World, facts: dict[str, str], draw: random.Random) -> list[str]:
    """An opening that does not yet say what is new, then what is, why, and details in an order of chance."""
    details = draw.sample(world["details"], 2)
    middle = [draw.choice(world["news"]), draw.choice(world["reasons"]), *details]
    draw.shuffle(middle)
    return [_filled(one, facts) for one in (draw.choice(world["openings"]), *middle)]


def _filled(template: str, facts: dict[str, str]) -> str:
    text = template.format(**facts)
    return text[0].upper() + text[1:]


def write(folder: Path, seed: int) -> None:
    """Of each language demonstrations, rankings, and both kinds held out."""
    worlds = tomllib.loads(Path(__file__).with_name("world.toml").read_text(encoding="utf-8"))
    for name, world in worlds.items():
        draw = random.Random(f"{name} {seed}")
        first, last = world["changes"][:-HELD_OUT_CHANGES], world["changes"][-HELD_OUT_CHANGES:]
        shown, ranked, held_out = (
            list(pieces(world, changes, count, draw))
            for changes, count in ((first, SHOWN), (first, RANKED), (last, HELD_OUT))
        )
        _write(folder / f"{name}-demonstrations.jsonl", map(_demonstration, shown))
        _write(folder / f"{name}-rankings.jsonl", map(_ranking, ranked))
        _write(folder / f"{name}-held-out-rankings.jsonl", map(_ranking, held_out))
        articles = ({"prompt": one.prompt, "completion": one.best} for one in held_out)
        _write(folder / f"{name}-held-out.jsonl", articles)


def _demonstration(one: Piece) -> dict[str, object]:
    said = {"role": "assistant", "content": one.best}
    return {"messages": [{"role": "user", "content": one.prompt}, said]}


def _ranking(one: Piece) -> dict[str, object]:
    return {"prompt": one.prompt, "ranking": [one.best, *map(list, one.worse)]}


def _write(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.folder, given.seed)
