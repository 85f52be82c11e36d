"""Examples of the tour that ask a model: with one that answers rightly the check holds, with a wrong one not."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kun.tour.handbook import handbook_folder
from kun.tour.ideas import (
    chatgpt,
    gpt,
    language_models,
    large_models,
    self_supervision,
    word_embeddings,
    zero_shot,
)
from kun.tour.session import Session
from kun.wordvectors.vectors import WordVectors


class Scripted(Session):
    """A session whose models answer what a test wants."""

    def __init__(self, **models: Any) -> None:
        super().__init__(handbook_folder())
        self.models = models

    def language_model(self) -> Any:
        return self.models["lm"]

    def encoder(self, name: str) -> Any:
        return self.models["encoder"]

    def vectors(self, name: str) -> Any:
        return self.models["vectors"]

    def tokens(self, name: str) -> Any:
        return self.models["tokens"]


def says(*answers: str) -> Any:
    """A language model that gives these answers, one after the other and then the last again."""
    left = list(answers)

    def generate(messages: Sequence[Mapping[str, str]], **how: object) -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return SimpleNamespace(name="fake", generate=generate)


STORMY = "A storm cancelled the ferry and the passengers slept in a school gym."
EVEN = "```python\ndef is_even(n: int) -> bool:\n    return n % 2 == 0\n```"


@pytest.mark.parametrize(
    ("run", "right", "wrong"),
    [
        (language_models._translation, "我爱我的狗。", "我爱我的猫。"),
        (language_models._summary, STORMY, "People had soup."),
        (language_models._summary, STORMY, f"{language_models._STORY} {STORMY}"),
        (language_models._code, EVEN, EVEN.replace("== 0", "== 1")),
        (language_models._code, EVEN, "def is_even(n):\n    return __import__('os').system('true') == 0"),
        (chatgpt._many_turns, "You are Ada, and you live in Lisbon.", "You are Ada, and you live in Rome."),
    ],
)
def test_what_a_language_model_says_is_checked(run: Callable[..., Any], right: str, wrong: str) -> None:
    assert run(Scripted(lm=says("Hello.", right) if run is chatgpt._many_turns else says(right))).ok
    assert not run(Scripted(lm=says(wrong))).ok


def test_code_that_a_model_wrote_does_nothing_but_count() -> None:
    for code in ("import os", "def is_even(n):\n    while True: pass", "is_even = ().__class__"):
        assert str(language_models._run(code, 1)).startswith("not run")


@pytest.mark.parametrize("idea", [gpt._shots, language_models._sentiment])
def test_what_a_language_model_finds_likeliest_is_checked(
    idea: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = gpt if idea is gpt._shots else language_models
    known = dict(gpt._REVIEWS) | {
        "The film was dull.": "negative",
        "What a wonderful evening!": "positive",
    }

    def knows(lm: object, prompts: Sequence[str], answers: Sequence[str]) -> list[str]:
        return [
            known[max((text for text in known if text in prompt), key=prompt.rfind)] for prompt in prompts
        ]

    def guesses(lm: object, prompts: Sequence[str], answers: Sequence[str]) -> list[str]:
        return [answers[0]] * len(prompts)

    monkeypatch.setattr(module, "likeliest", knows)
    assert idea(Scripted(lm=says(""))).ok
    monkeypatch.setattr(module, "likeliest", guesses)
    assert not idea(Scripted(lm=says(""))).ok


@pytest.mark.parametrize("run", [zero_shot._described, zero_shot._judged])
def test_classes_of_texts_are_checked(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name[0] for name in zero_shot._LABELS]
    wanted = {text: names[label] for text, label in zero_shot._TEXTS}

    def knows(encoder: object, texts: Sequence[str], labels: Any) -> list[Any]:
        said = list(labels.names)
        opinions = {text: said[label] for text, label in zero_shot._OPINIONS if len(said) == 2}
        return [SimpleNamespace(label=(wanted | opinions)[text], score=0.9) for text in texts]

    def guesses(encoder: object, texts: Sequence[str], labels: Any) -> list[Any]:
        return [SimpleNamespace(label=next(iter(labels.names)), score=0.9) for _ in texts]

    monkeypatch.setattr(zero_shot, "classify", knows)
    assert run(Scripted(encoder=SimpleNamespace(name="fake"))).ok
    monkeypatch.setattr(zero_shot, "classify", guesses)
    assert not run(Scripted(encoder=SimpleNamespace(name="fake"))).ok


@pytest.mark.parametrize("wrong", zero_shot._IN_README)
def test_opinions_hold_only_where_those_of_readme_do(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = dict(zero_shot._OPINIONS)

    def all_but_one(encoder: object, texts: Sequence[str], labels: Any) -> list[Any]:
        said = list(labels.names)
        return [SimpleNamespace(label=said[wanted[text] ^ (text == wrong)], score=0.9) for text in texts]

    monkeypatch.setattr(zero_shot, "classify", all_but_one)
    assert not zero_shot._judged(Scripted(encoder=SimpleNamespace(name="fake"))).ok


def analogous(is_right: bool) -> Any:
    """Vectors that answer each question of `_KNOWN` with what is wanted, and with a word of it where all count."""
    wanted = {(a, b, c): d for a, b, c, d in word_embeddings._KNOWN}

    class Known(WordVectors):
        def analogy(
            self, a: str, b: str, c: str, *, exclude: bool = True, k: int = 5
        ) -> list[tuple[str, float]]:
            return [(wanted[a, b, c] if exclude and is_right else b, 0.8)]

    return Known(["king"], np.ones((1, 2), np.float32))


class Royal(WordVectors):
    """Vectors that answer with queen or 女王 where the query words are left out, else as a test wants."""

    plain: tuple[str, str] = ("queen", "女王")

    def analogy(self, a: str, b: str, c: str, *, exclude: bool = True, k: int = 5) -> list[tuple[str, float]]:
        return [((("queen", "女王") if exclude else self.plain)[not a.isascii()], 0.8)]


@pytest.mark.parametrize(
    ("plain", "ok", "english", "chinese"),
    [
        (("queen", "女王"), True, "both agree", "both agree"),
        (("king", "女王"), True, "a query word wins", "both agree"),
        (("queen", "男人"), True, "both agree", "a query word wins"),
        (("queen", "王子"), False, "both agree", "neither"),
    ],
)
def test_each_language_is_told_whether_a_query_word_wins(
    plain: tuple[str, str], ok: bool, english: str, chinese: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Royal, "plain", plain)
    words = [*word_embeddings._PEOPLE, *word_embeddings._ZH_PEOPLE]
    made = Royal(words, np.eye(len(words), dtype=np.float32))
    monkeypatch.setattr(word_embeddings, "train_vectors", lambda sentences, **options: made)
    shown = word_embeddings._analogy(Session())
    assert shown.ok is ok
    assert re.search(rf"to {plain[0]} with them \({english}.*and {plain[1]} \({chinese}", shown.text[0])


def test_an_analogy_is_not_right_in_a_world_where_a_queen_is_a_prince(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = word_embeddings._PEOPLE
    swapped = {**people, "queen": people["prince"], "prince": people["queen"]}
    monkeypatch.setattr(word_embeddings, "_PEOPLE", swapped)
    assert not word_embeddings._analogy(Session()).ok


def own_table(right: int, kept: int) -> Any:
    """A language model's table that answers so many of `_ASKED`, and so many with a query word where all count."""
    asked = list(word_embeddings._ASKED)

    class Table(WordVectors):
        def analogy(
            self, a: str, b: str, c: str, *, exclude: bool = True, k: int = 5
        ) -> list[tuple[str, float]]:
            place = asked.index((b, a, c))
            wanted = word_embeddings._ASKED[b, a, c]
            if exclude:
                return [(wanted if place < right else "nothing", 0.8)]
            return [(c if place < kept else wanted, 0.8)]

    words = sorted({word for key, wanted in word_embeddings._ASKED.items() for word in (*key, wanted)})
    return Table(words, np.eye(len(words), dtype=np.float32))


@pytest.mark.parametrize(("right", "kept", "ok"), [(3, 1, True), (2, 1, False), (3, 0, False)])
def test_a_models_own_table_is_checked(right: int, kept: int, ok: bool) -> None:
    assert word_embeddings._own_table(Scripted(tokens=own_table(right, kept))).ok is ok


def test_analogies_are_checked() -> None:
    assert word_embeddings._glove(Scripted(vectors=analogous(True))).ok
    assert not word_embeddings._glove(Scripted(vectors=analogous(False))).ok


def test_misspelt_words_are_found_near_what_was_meant_or_not() -> None:
    meant = [*word_embeddings._RARE.values()]
    spread = WordVectors(meant, np.eye(len(meant), dtype=np.float32))
    assert word_embeddings._by_pieces(Scripted(vectors=spread)).ok
    others = ["photograph", "parenthesis", "goalless", "keeper", "beaut", "bountiful", "languid", "gauge"]
    assert not word_embeddings._by_pieces(
        Scripted(vectors=WordVectors(others, np.eye(len(others), dtype=np.float32)))
    ).ok


def embeds(vector_of: Callable[[str], Sequence[float]]) -> Any:
    """An encoder that gives each text a vector."""

    def embed(texts: Sequence[str]) -> np.ndarray:
        rows = np.array([vector_of(text) for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return SimpleNamespace(name="fake", embed=embed)


def test_a_foundation_that_knows_the_words_learns_from_few_labels_and_another_does_not() -> None:
    texts, labels = large_models._topics()
    topic = dict(zip(texts, labels.tolist(), strict=True))
    noise = np.random.default_rng(0)
    knows = embeds(lambda text: [topic[text], 1 - topic[text], *noise.normal(0, 0.1, 6)])
    assert large_models._foundation(Scripted(encoder=knows)).ok
    assert not large_models._foundation(Scripted(encoder=embeds(lambda _: noise.normal(size=8)))).ok


def test_topics_are_found_where_vectors_tell_them_apart_and_else_not() -> None:
    folder = handbook_folder()
    assert folder is not None
    pages = [(folder / "en" / f"{name}.md").read_text(encoding="utf-8") for name in self_supervision._PAGES]
    noise = np.random.default_rng(0)
    knows = embeds(lambda text: [float(text in page) + noise.normal(0, 0.05) for page in pages])
    assert self_supervision._topics(Scripted(encoder=knows)).ok
    guesses = embeds(lambda _: noise.normal(size=8))
    assert not self_supervision._topics(Scripted(encoder=guesses)).ok
