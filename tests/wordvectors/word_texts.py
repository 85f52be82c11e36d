"""Sentences whose words have a meaning that is known."""

import random

RANKS = ("king queen", "prince princess", "duke duchess", "man woman", "boy girl")
OF_RANK = ("crown throne", "castle heir", "estate title", "house work", "school play")
OF_GENDER = ("he his beard", "she her dress")


def written(seed: int = 0, sentences: int = 4000) -> list[list[str]]:
    """Sentences in which a word is known by what belongs to its rank, and by what belongs to its gender."""
    chance = random.Random(seed)
    made = []
    for _ in range(sentences):
        rank, gender = chance.randrange(len(RANKS)), chance.randrange(2)
        word = RANKS[rank].split()[gender]
        around = [chance.choice(OF_RANK[rank].split()), chance.choice(OF_GENDER[gender].split())]
        chance.shuffle(around)
        made.append([around[0], word, around[1]])
    return made
