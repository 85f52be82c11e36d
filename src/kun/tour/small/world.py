"""Sentences of a small world, in English and Chinese: films that people liked or not, animals, and who went where.

Written by a grammar, so that it is known which words mean the same: a network sees the sentences alone.
"""

import random
from collections.abc import Sequence
from functools import cache

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

LIKED = "wonderful moving clever lovely brilliant funny charming tender bright gentle".split()
DISLIKED = "dull awful slow boring clumsy noisy tiresome bleak stupid flat".split()
ENJOYED = "smiled laughed cheered clapped stayed".split()
ENDURED = "yawned slept left groaned sighed".split()
PARTS = "film story music acting ending".split()
NAMES = "Anna Ben Clara David Emma Frank Grace Henry".split()
PLACES = "garden kitchen school market river forest library harbour".split()
DEEDS = "sang read waited worked played rested".split()
ANIMALS = "dog cat horse bird fish".split()
OWNERS = (("I", "love", "my"), ("You", "love", "your"), ("She", "loves", "her"), ("He", "loves", "his"))
FEELINGS = {"love": ("love", "feed", "call", "miss"), "loves": ("loves", "feeds", "calls", "misses")}

ZH_LIKED = "精彩 感人 有趣 优美".split()
ZH_DISLIKED = "无聊 糟糕 沉闷 拖沓".split()
ZH_ENJOYED = "笑了 鼓掌".split()
ZH_ENDURED = "睡着了 走了".split()
ZH_OWNERS = "我 你 她 他".split()
ZH_FEELINGS = "爱 喂 想念 抚摸".split()
ZH_ANIMALS = "狗 猫 马 鸟 鱼".split()

ILLNESSES = "flu cold measles asthma migraine".split()
SIGNS = "fever cough rash wheezing headache".split()
CURES = "rest tea cream inhaler darkness".split()
ZH_ILLNESSES = "流感 感冒 麻疹 哮喘 偏头痛".split()
ZH_SIGNS = "发烧 咳嗽 皮疹 气喘 头痛".split()
ZH_CURES = "休息 热茶 药膏 吸入剂 暗室".split()

PAD, START, END, MASK, UNKNOWN = "[PAD]", "[START]", "[END]", "[MASK]", "[UNKNOWN]"
SPECIAL = (PAD, START, END, MASK, UNKNOWN)
IGNORED = -100
"""The label of a place that no loss counts."""


def general(count: int, seed: int) -> list[str]:
    """`count` sentences of everyday life, in both languages, words apart by spaces."""
    rng = random.Random(seed)
    return [
        rng.choice((_film, _film, _pet, _walk, _walk, _walk, _film_zh, _pet_zh))(rng) for _ in range(count)
    ]


def medicine(count: int, seed: int) -> list[str]:
    """`count` sentences of the domain: illnesses, what shows them and what helps, in both languages."""
    rng = random.Random(seed)
    return [rng.choice((_illness, _illness_zh))(rng) for _ in range(count)]


def film(rng: random.Random, adjectives: Sequence[str], deeds: Sequence[str]) -> str:
    """An opinion of a film with one of these adjectives and one of these deeds."""
    return f"The {rng.choice(PARTS)} was {rng.choice(adjectives)} and I {rng.choice(deeds)} ."


def _film(rng: random.Random) -> str:
    """One to three sentences of one opinion."""
    adjectives, deeds = rng.choice(((LIKED, ENJOYED), (DISLIKED, ENDURED)))
    return " ".join(film(rng, adjectives, deeds) for _ in range(rng.randint(1, 3)))


def _pet(rng: random.Random) -> str:
    who, verb, whose = rng.choice(OWNERS)
    return f"{who} {rng.choice(FEELINGS[verb])} {whose} {rng.choice(ANIMALS)} ."


def _walk(rng: random.Random) -> str:
    name, place = rng.choice(NAMES), rng.choice(PLACES)
    told = f"{name} went to the {place} . In the {place} {name} {rng.choice(DEEDS)} ."
    return f"{told} {name} likes the {place} ."


def _film_zh(rng: random.Random) -> str:
    adjectives, deeds = rng.choice(((ZH_LIKED, ZH_ENJOYED), (ZH_DISLIKED, ZH_ENDURED)))
    return f"这部 电影 很 {rng.choice(adjectives)} ， 我 {rng.choice(deeds)} 。"


def _pet_zh(rng: random.Random) -> str:
    who = rng.choice(ZH_OWNERS)
    return f"{who} {rng.choice(ZH_FEELINGS)} {who} 的 {rng.choice(ZH_ANIMALS)} 。"


def _illness(rng: random.Random) -> str:
    case = rng.randrange(len(ILLNESSES))
    return f"A patient with {ILLNESSES[case]} has {SIGNS[case]} and needs {CURES[case]} ."


def _illness_zh(rng: random.Random) -> str:
    case = rng.randrange(len(ILLNESSES))
    return f"{ZH_ILLNESSES[case]} 的 病人 会 {ZH_SIGNS[case]} ， 需要 {ZH_CURES[case]} 。"


@cache
def tokenizer() -> Tokenizer:
    """A word is a token: the vocabulary of all that the grammar can say, and of the questions about it."""
    words = dict.fromkeys(SPECIAL)
    for line in (*general(4000, 0), *medicine(400, 0), "Where is ?"):
        words |= dict.fromkeys(line.split())
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([MASK])
    return made


def number(word: str) -> int:
    """The id of a word. Raises `KeyError` for one that the world does not have."""
    found = tokenizer().token_to_id(word)
    if found is None:
        raise KeyError(word)
    return found


def rows(sentences: Sequence[str]) -> Tensor:
    """Ids [n, t] of sentences and END, padded on the right."""
    encoded = [[*tokenizer().encode(one).ids, number(END)] for one in sentences]
    longest = max(map(len, encoded))
    return torch.tensor([ids + [number(PAD)] * (longest - len(ids)) for ids in encoded])
