"""The right passage comes first: word for word, by words, by meaning, and token by token."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from hypothesis import given
from hypothesis import strategies as st

from kun.knowledge.base import KnowledgeBase
from kun.knowledge.commonplaces import Commonplaces, Level
from kun.knowledge.exact import ExactText
from kun.knowledge.index import Query
from kun.knowledge.interaction import pack
from kun.knowledge.lexical import Postings, search_words
from kun.knowledge.local_index import LocalIndex
from kun.knowledge.passage import Reasons
from kun.knowledge.retrieval import fused
from kun.knowledge.rows import StoredText, Table
from kun.text.fold import fold

TEXTS = {
    "en.txt": "The Kun is a fish of the northern sea. " * 3
    + "It changes into a bird whose name is Peng, and the bird flies to the southern sea.",
    "zh.txt": "北冥有鱼，其名为鲲。鲲之大，不知其几千里也；化而为鸟，其名为鹏。鹏之背，不知其几千里也。",
    "other.txt": "Fish and birds are animals. Nothing is said here about the sea, 鱼和鸟都是动物。",
}


def table(texts: dict[str, str], size: int) -> Table:
    """Each text cut into passages of `size` characters, with vectors that say nothing."""
    cuts = [(name, start) for name, text in texts.items() for start in range(0, len(text), size)]
    starts = np.array([start for _, start in cuts], dtype=np.int64)
    ends = np.array([min(start + size, len(texts[name])) for name, start in cuts], dtype=np.int64)
    return Table(
        ids=[f"{name}-{start // size}" for name, start in cuts],
        texts=[texts[name][start : start + size] for name, start in cuts],
        sources=[name for name, _ in cuts],
        headings=[""] * len(cuts),
        pages=np.zeros(len(cuts), np.int32),
        starts=starts,
        ends=ends,
        vectors=np.ones((len(cuts), 4), np.float32) / 2,
    )


class Built:
    """An index of one table, whose hits are rows of the table; names are the documents' identities."""

    def __init__(self, cut: Table, texts: dict[str, str], tokens: Sequence[bytes] = ()) -> None:
        self.index, self._rows = LocalIndex(), {identity: row for row, identity in enumerate(cut.ids)}
        self.index.add(cut, [StoredText(name, name, text, "text", []) for name, text in texts.items()])
        if tokens:
            self.index.tokens = lambda wanted: [
                tokens[self._rows[f"{name}-{place}"]] for name, place in wanted
            ]

    def search(
        self,
        query: str,
        vector: np.ndarray,
        k: int,
        allowed: set[str] | None = None,
        states: np.ndarray | None = None,
        common: Commonplaces | None = None,
    ) -> list[tuple[int, float, Reasons]]:
        hits = self.index.search(Query(query, vector, states, common), k, allowed)
        return [(self._rows[f"{hit.document}-{hit.place}"], hit.score, hit.reasons) for hit in hits]


VECTOR = np.ones(4, np.float32) / 2


@given(st.data(), st.integers(7, 60), st.sampled_from(sorted(TEXTS)))
def test_passages_that_hold_the_query_word_for_word_come_first(
    data: st.DataObject, size: int, name: str
) -> None:
    text = TEXTS[name]
    start = data.draw(st.integers(0, len(text) - 12))
    query = text[start : start + 12]
    other_spelling = "  ".join(query.upper())
    cut = table(TEXTS, size)
    first = {
        row
        for row, (source, a, b) in enumerate(zip(cut.sources, cut.starts, cut.ends, strict=True))
        if source == name
        and a < start + 12
        and b > start
        and text[max(a, start) : min(b, start + 12)].strip()
    }
    found = Built(cut, TEXTS).search(other_spelling, VECTOR, len(cut))
    holders = [row for row, _, reasons in found if reasons.exact or reasons.within]
    assert first <= set(holders)
    assert [row for row, _, _ in found[: len(holders)]] == holders


def test_a_word_comes_before_longer_words_that_it_stands_in_and_these_before_all_others() -> None:
    texts = {
        "a.txt": "They start here.",
        "b.txt": "It is their art.",
        "c.txt": "Paintings, drawings and sculptures.",
        "d.txt": "Modern_Art; artful.",
        "e.txt": "p art",
    }
    vectors = np.array([[0.9, 0], [0.1, 0], [1, 0], [0.1, 0], [0.1, 0]], np.float32)
    cut = replace(table(texts, 99), vectors=vectors)
    found = Built(cut, texts).search("ART", np.array([1, 0], np.float32), 9)
    by_source = {cut.sources[row]: (score, reasons) for row, score, reasons in found}
    assert [name for name, (_, reasons) in by_source.items() if reasons.exact] == list(by_source)[:3]
    assert {name for name, (_, reasons) in by_source.items() if reasons.exact} == {"b.txt", "d.txt", "e.txt"}
    assert [name for name, (_, reasons) in by_source.items() if reasons.within] == ["a.txt"]
    assert list(by_source)[3:] == ["a.txt", "c.txt"]
    assert [int(np.ceil(score)) for score, _ in by_source.values()] == [3, 3, 3, 2, 1]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("模型", "大语言模型训练"),
        ("GPT", "用GPT回答"),
        ("서울", "서울은 크다"),
        ("バス", "高速バスで"),
        ("ไทย", "ภาษาไทยครับ"),
        ("2010", "2010年"),
    ],
)
def test_scripts_without_spaces_between_words_have_words_everywhere(query: str, text: str) -> None:
    (_, _, reasons), *_ = Built(table({"a": text}, 99), {"a": text}).search(query, VECTOR, 1)
    assert reasons.exact


def test_every_passage_that_holds_a_common_word_is_found_however_many_there_are() -> None:
    texts = {f"{n}.txt": "to be or not to be " * 200 for n in range(60)}
    found = Built(table(texts, 19), texts).search("be", VECTOR, 20_000)
    assert len(found) == 12_000
    assert all(reasons.exact for _, _, reasons in found)


def test_text_that_overlaps_itself_takes_no_longer() -> None:
    texts = {"a.txt": "a" * 2_000_000}
    index = Built(table(texts, 1_000_000), texts)
    assert all(reasons.within for _, _, reasons in index.search("a" * 100_000, VECTOR, 2))


def test_a_passage_that_holds_all_of_it_comes_before_parts_across_a_cut() -> None:
    texts = {"cut.txt": "x" * 5 + "abcdefgh" + "y" * 5, "whole.txt": "z" * 10 + "abcdefgh"}
    found = Built(table(texts, 10), texts).search("ABC defgh", VECTOR, 9)
    shown = [(row, reasons.within) for row, _, reasons in found]
    assert [within for _, within in shown] == [True, True, True, False]
    assert shown[0][0] == 3


def test_tokens_decide_between_passages_that_are_alike_otherwise() -> None:
    texts = {"a.txt": "same", "b.txt": "same", "c.txt": "same"}
    rng = np.random.default_rng(0)
    states = [rng.standard_normal((5, 64)).astype(np.float32) for _ in texts]
    index = Built(table(texts, 10), texts, [pack(rows) for rows in states])
    for row, own in enumerate(states):
        found = index.search("unheard of", VECTOR, 3, states=own[1:4])
        assert found[0][0] == row
        assert found[0][1] > found[1][1]
        assert found[0][2].tokens > found[1][2].tokens
        assert all(0 <= score <= 1 for _, score, _ in found)


def test_documents_outside_of_those_allowed_are_not_found() -> None:
    index = Built(table(TEXTS, 40), TEXTS)
    found = index.search("fish", VECTOR, 99, {"other.txt"})
    assert {table(TEXTS, 40).sources[row] for row, _, _ in found} == {"other.txt"}


@pytest.mark.parametrize("query", ["鲲", "northern", "fishes", "changing"])
def test_one_word_is_enough(query: str) -> None:
    index = Built(table(TEXTS, 200), TEXTS)
    row, _, reasons = index.search(query, VECTOR, 1)[0]
    assert row == {"鲲": 1}.get(query, 0)
    assert reasons.words == pytest.approx(1)


def test_words_meet_across_endings_widths_and_broken_lines() -> None:
    lexicon = Postings.build(["Ｔｈｅ Houses were moved", "大语言\n模型在这里", "nothing"])
    assert search_words([lexicon], "moving house").scores.argmax() == 0
    assert search_words([lexicon], "语言模型").coverage[1] == pytest.approx(1)
    assert not search_words([lexicon], "absent").scores.any()


def test_words_are_as_rare_in_each_part_of_an_index_as_in_all_of_it() -> None:
    texts = ["a fish swims", "a fish sleeps", "a bird sleeps", "a bird sings"]
    whole = search_words([Postings.build(texts)], "sleeping fish")
    parts = search_words([Postings.build(texts[:1]), Postings.build(texts[1:])], "sleeping fish")
    assert parts.scores == pytest.approx(whole.scores)
    assert parts.coverage == pytest.approx(whole.coverage)


def tokens_of(base: KnowledgeBase) -> list[bytes]:
    named = [identity.rpartition("-") for identity in base._store.passages().ids]
    return base._store.tokens()([(document, int(place)) for document, _, place in named])


def test_what_an_encoder_says_of_tokens_is_stored_and_searched(tiny_home: Path, docs: Path) -> None:
    class WithTokens(FakeEncoder):
        def embed_tokens(
            self, texts: Sequence[str], kind: str | None = None
        ) -> tuple[np.ndarray, list[np.ndarray]]:
            return self.embed(texts, kind), [self.embed(text.split(), "query") for text in texts]

    base = KnowledgeBase.open("notes", encoder=WithTokens())
    base.add(docs)
    assert all(tokens_of(base))
    best = base.search("The Peng is a bird")[0]
    assert "Peng" in best.text
    base.reindex()
    assert all(tokens_of(base))


def test_a_text_in_another_language_is_held_against_commonplaces_of_its_own() -> None:
    texts = {
        "lease.txt": "The tenant is Karin Oduya.",
        "lift.txt": "The lift is checked twice a year.",
        **{f"{n}.txt": f"食堂在星期{day}提供鱼汤。" for n, day in enumerate("一二三四五六")},
    }
    near = [0.78, 0.70, *[0.82] * 6]  # whatever Chinese texts say, they are nearer to a Chinese question
    vectors = np.array([[cosine, 0] for cosine in near], np.float32)
    states = np.eye(2, dtype=np.float32)
    plain = replace(table(texts, 99), vectors=vectors)
    index = Built(plain, texts)
    query, vector = "租客是谁？", np.array([1, 0], np.float32)
    common = Commonplaces(np.zeros(2, np.float32), states[:0], (Level(0.70), Level(0.82)))
    assert index.search(query, vector, 1, states=states, common=common)[0][0] == 0
    assert index.search(query, vector, 1)[0][0] != 0


def test_passages_that_come_near_to_any_question_come_no_nearer_to_this_one() -> None:
    texts = {"a.txt": "Pets are welcome.", "b.txt": "opt_1 | 7 | opt_2 | 14"}
    cut = replace(table(texts, 99), vectors=np.array([[0.76, 0.1], [0.80, 0.79]], np.float32))
    index = Built(cut, texts)
    vector, none = np.array([1, 0], np.float32), np.zeros((0, 2), np.float32)
    assert index.search("动物", vector, 1)[0][0] == 1
    common = Commonplaces(np.array([0, 1], np.float32), none)
    assert index.search("动物", vector, 1, common=common)[0][0] == 0


def test_a_query_whose_words_hardly_occur_is_not_answered_by_the_few_that_do() -> None:
    words = np.array([9, 0], np.float32)
    assert fused(np.array([0.7, 0.8], np.float32), words, np.array([0.1, 0], np.float32)).argmax() == 1
    assert fused(np.array([0.7, 0.8], np.float32), words, np.array([0.9, 0], np.float32)).argmax() == 0


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The com-\nmander spoke to a well-\n  known crew.", "commander"),
        ("The com-\nmander spoke to a well-\n  known crew.", "The commander spoke"),
        ("The com-\nmander spoke to a well-\n  known crew.", "a well-known crew"),
        ("Set max\\_open\\_files to 3.", "max_open_files"),
        ("Set max\\_open\\_files to 3.", r"max\_open\_files"),
        ("Press the **red** `STOP` key.", "the red STOP key"),
        ("繁體中文的說明書", "说明书"),
        ("简体中文的说明书", "說明書"),
    ],
)
def test_words_are_found_as_they_are_read_whatever_parts_or_marks_them(text: str, query: str) -> None:
    (_, _, reasons), *_ = Built(table({"a": text}, 99), {"a": text}).search(query, VECTOR, 1)
    assert reasons.exact
    assert reasons.words == pytest.approx(1)


def test_what_surrounds_a_text_comes_behind_what_says_something() -> None:
    works = '- Lund, "Keels of boats", 2021, arXiv:2101.00001.\n' * 3
    texts = {
        "a.md": works,
        "b.md": "Of boats, keels are the lowest part, which holds them upright in the water.",
    }
    index = Built(table(texts, 999), texts)
    assert index.search("keels of boats in the water", VECTOR, 2)[0][0] == 1
    assert index.search("arXiv:2101.00001", VECTOR, 2)[0][0] == 0


def test_a_row_is_found_by_its_cell_and_the_name_of_its_column() -> None:
    rows = [
        f"| {place} | {400 + n} | {300 + n} |\n" for n, place in enumerate(["Datong", "Yuncheng", "Jincheng"])
    ]
    text = "| City | Heads | Staff |\n|---|---|---|\n" + "".join(rows)
    starts = np.array([0, len(text) - len(rows[2]) - len(rows[1]), len(text) - len(rows[2])])
    ends = np.array([*starts[1:], len(text)])
    cut = replace(
        table({"a": text}, 999),
        ids=["a-0", "a-1", "a-2"],
        texts=[text[a:b] for a, b in zip(starts, ends, strict=True)],
        sources=["a"] * 3,
        headings=[""] * 3,
        pages=np.zeros(3, np.int32),
        starts=starts,
        ends=ends,
        vectors=np.ones((3, 4), np.float32) / 2,
    )
    index = LocalIndex()
    index.add(cut, [StoredText("a", "a.md", text, "markdown", [])])
    best = index.search(Query("Staff in Jincheng", VECTOR), 1)[0]
    assert best.place == 2
    assert best.reasons.words > 0.8


def test_single_characters_are_found_as_every_other_query_is() -> None:
    """Which passages have which character is kept apart; looking for it says the same, as does looking for two."""
    chance = random.Random(1)
    texts = [
        "".join(chance.choices("ab c1-\n鲲鹏。 É*`\\_xyz", k=chance.randrange(1, 90))) for _ in range(60)
    ]
    bounds = np.array([len(text) for text in texts])
    exact = ExactText.build(
        [(text, np.zeros(1, np.int64), bounds[n : n + 1]) for n, text in enumerate(texts)]
    )
    for letter in "ab1鲲鹏é":
        held = exact.search(letter)
        assert [n for n, share in enumerate(held.letters) if share] == [
            n for n, text in enumerate(texts) if letter in fold(text)
        ]
        words = [n for n, share in enumerate(held.words) if share]
        assert set(words) <= set(np.flatnonzero(held.letters).tolist())
        if letter in "鲲鹏":  # each character may be a word
            assert words == np.flatnonzero(held.letters).tolist()
    assert not exact.search("q").letters.any()
    alone = ExactText.build([("an a b", np.zeros(1, np.int64), np.array([6]))])
    assert alone.search("a").words.tolist() == [1]
    assert alone.search("n").words.tolist() == [0]
    assert alone.search("n").letters.tolist() == [1]
