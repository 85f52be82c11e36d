"""Questions on little stories with candidate answers; examples/recipes/questions-gpt.toml trains on them.

    python examples/recipes/data/stories.py runs/stories.jsonl --rows 3000

A story tells who has what and where it lies; some things change hands. One wrong answer stands in the story, so that
it must be read, and two do not. Everything is drawn from lists with a seed: no text of others is in it.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

PEOPLE = (
    "Ada Ben Cora Dan Eva Finn Gita Hugo Ines Jon Kai Lena Mira Nils Olga Paul Rosa Sven Tara Yan".split()
)
THINGS = "lamp kite drum coat bell map coin rope vase clock flute brush shell candle ladder basket".split()
PLACES = "kitchen garden cellar attic barn tower harbour market library mill forest station".split()


def story(draw: random.Random, people: int = 3, moves: int = 1) -> dict[str, object]:
    """A story, a question, four answers and the right one."""
    who = draw.sample(PEOPLE, people)
    owned = dict(zip(who, draw.sample(THINGS, people), strict=True))
    placed = dict(zip(owned.values(), draw.sample(PLACES, people), strict=True))
    lines = [f"{name} has a {thing}. It is in the {placed[thing]}." for name, thing in owned.items()]
    draw.shuffle(lines)
    for _ in range(moves):
        thing = draw.choice(list(placed))
        placed[thing] = draw.choice([place for place in PLACES if place not in placed.values()])
        lines.append(f"The {thing} is taken to the {placed[thing]}.")
    name = draw.choice(who)
    if draw.random() < 0.5:
        return _asked(draw, lines, f"What does {name} have?", owned[name], list(owned.values()), THINGS, "a")
    place = placed[owned[name]]
    question = f"Where is the {owned[name]}?"
    return _asked(draw, lines, question, place, list(placed.values()), PLACES, "in the")


def _asked(
    draw: random.Random,
    lines: list[str],
    question: str,
    right: str,
    told: list[str],
    known: list[str],
    before: str,
) -> dict[str, object]:
    """The question with its right answer, one that the story tells of something else, and two that it does not tell."""
    others = [one for one in known if one not in told and not any(one in line for line in lines)]
    answers = [right, draw.choice([one for one in told if one != right]), *draw.sample(others, 2)]
    draw.shuffle(answers)
    return {
        "document": " ".join(lines),
        "question": question,
        "choices": [f"{before} {answer}" for answer in answers],
        "answer": answers.index(right),
    }


def stories(count: int, seed: int = 0, people: int = 3, moves: int = 1) -> Iterator[dict[str, object]]:
    """So many stories; the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        yield story(draw, people, moves)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.file.parent.mkdir(parents=True, exist_ok=True)
    rows = stories(given.rows, given.seed)
    given.file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"Wrote {given.rows} questions to {given.file}.")
