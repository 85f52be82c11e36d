"""Topics of a knowledge base: groups of near vectors, named by what tells them apart."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kun.errors import BadInput
from kun.knowledge import clusters, topics
from kun.knowledge.base import KnowledgeBase
from kun.knowledge.clusters import cluster, principal, silhouette
from kun.knowledge.topics import by_language, names_of

KITCHEN = "simmer the onion in butter then salt the soup"
ORCHESTRA = "the violin plays while the trumpet and the drum rest"
TIDES = "潮汐 受 月球 引力 影响 每天 涨落 两次 港口 的 船"


def blobs(sizes: list[int], d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Points around as many far middles, and which middle each is of."""
    random = np.random.default_rng(0)
    middles = random.normal(size=(len(sizes), d)) * 5
    which = np.repeat(np.arange(len(sizes)), sizes)
    return (middles[which] + random.normal(size=(len(which), d))).astype(np.float32), which


@pytest.fixture
def filled(base: KnowledgeBase, tmp_path: Path) -> KnowledgeBase:
    """Seven short documents on each of three things."""
    folder = tmp_path / "filled"
    folder.mkdir()
    for n in range(7):
        for name, text in (("kitchen", KITCHEN), ("orchestra", ORCHESTRA), ("潮汐", TIDES)):
            (folder / f"{name}{n}.md").write_text(f"{text} {name} {n}", encoding="utf-8")
    base.add(folder)
    return base


def test_groups_are_found_without_being_told_their_number_and_the_largest_comes_first() -> None:
    rows, which = blobs([8, 20, 14])
    found = cluster(rows)
    assert found.groups == 3
    assert [len(found.members(group)) for group in range(3)] == [20, 14, 8]
    assert all(len(set(which[found.members(group)].tolist())) == 1 for group in range(3))
    assert found.silhouette > 0.5
    assert found.points.shape == (42, 2)


def test_of_many_rows_a_sample_tells_how_many_groups_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_CHOSEN_ON", 40)
    monkeypatch.setattr(clusters, "_BLOCK", 7)
    monkeypatch.setattr(clusters, "_ENOUGH", 50)
    rows, which = blobs([60, 200, 140])
    found = cluster(rows)
    assert [len(found.members(group)) for group in range(3)] == [200, 140, 60]
    assert all(len(set(which[found.members(group)].tolist())) == 1 for group in range(3))


def test_the_examples_of_a_topic_lie_near_the_middle_of_what_was_grouped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "_passage", lambda table, row, score: (table.texts[row], score))
    # without the mean of their language the Chinese text lies in the middle, and with it far away
    grouped = np.array([[1, 0], [0.9, 0.4], [0.9, -0.4], [0.8, 0.6]], np.float32)
    table: Any = SimpleNamespace(
        texts=["中文", "one", "two", "three"], sources=["a"] * 4, vectors=grouped[[3, 0, 1, 2]] * [1, -1]
    )
    held = clusters.Clusters(np.zeros(4, np.int64), grouped, 0.0)
    made: Any = topics._topic(table, grouped, held, 0, ("word",))
    middle = grouped.mean(axis=0)
    assert made.examples[0] == ("中文", pytest.approx(float(grouped[0] @ middle)))


def test_the_same_vectors_give_the_same_groups_in_any_order_of_calls() -> None:
    rows, _ = blobs([9, 9, 9, 9])
    first = cluster(rows, 6)
    cluster(rows[:20])
    again = cluster(rows.copy(), 6)
    assert first.labels.tolist() == again.labels.tolist()
    assert first.points.tobytes() == again.points.tobytes()
    assert first.groups == 6


def test_the_silhouette_is_that_of_its_definition() -> None:
    rows, which = blobs([5, 4, 1], d=3)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    scores = []
    for i, own in enumerate(which):
        if (which == own).sum() == 1:
            scores.append(0.0)
            continue
        a = apart[i][which == own].sum() / ((which == own).sum() - 1)
        b = min(apart[i][which == other].mean() for other in set(which) - {own})
        scores.append((b - a) / max(a, b))
    assert silhouette(rows, which) == pytest.approx(np.mean(scores), abs=1e-6)


def test_principal_directions_hold_what_varies_and_their_signs_are_settled() -> None:
    rows = np.zeros((6, 4), np.float32)
    rows[:, 2] = [1, 2, 3, 4, 5, 9]
    placed = principal(rows, 3)
    assert placed[:, 0] == pytest.approx(rows[:, 2] - 4, abs=1e-5)
    assert np.abs(placed[:, 1:]).max() < 1e-5
    assert principal(rows[:, :1], 2).shape == (6, 2)


@pytest.mark.parametrize(
    ("rows", "groups", "fault"),
    [
        (np.zeros((0, 4)), None, "nothing to group in no rows"),
        (np.ones((1, 4)), None, "one row"),
        (np.ones((5, 4)), None, "5 rows that are all the same"),
        (np.eye(3), 4, "4 groups cannot be made of 3 different rows: ask for 2 to 3"),
        (np.eye(3), 1, "1 groups cannot be made"),
        (np.array([[np.nan, 1], [2, 3]]), None, "finite numbers"),
        (np.ones(4), None, "a row for each thing"),
    ],
)
def test_what_gives_no_groups_says_why(rows: np.ndarray, groups: int | None, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        cluster(rows.astype(np.float32), groups)


def test_as_many_groups_as_rows_are_groups_of_one() -> None:
    assert sorted(cluster(np.eye(4, dtype=np.float32), 4).labels.tolist()) == [0, 1, 2, 3]


def test_a_name_is_of_words_that_one_group_has_and_no_form_comes_twice() -> None:
    rows, _ = blobs([3, 2])
    onions = ["the", "onion", "onions", "soup", "2024", "a"]
    drums = ["the", "drum", "soup"]
    names = names_of(cluster(rows, 2), [onions, onions, onions, drums, drums])
    assert names[0][0] == "onion"
    assert "onions" not in names[0]
    assert names[1][0] == "drum"
    assert not {"the", "a", "2024"} & {word for name in names for word in name}


def test_topics_of_a_base_are_named_in_both_languages(filled: KnowledgeBase) -> None:
    found = filled.topics()
    assert found.passages == 21
    assert [topic.passages for topic in found.topics] == [7, 7, 7]
    assert [topic.documents for topic in found.topics] == [7, 7, 7]
    names = {word for topic in found.topics for word in topic.words}
    assert {"violin", "onion"} & names
    assert {"潮汐", "月球", "引力", "港口"} & names
    for topic in found.topics:
        assert len({passage.source[:2] for passage in topic.examples}) == 1
        assert all(filled.passage(passage.id).text == passage.text for passage in topic.examples)
    assert [topic.name for topic in filled.topics().topics] == [topic.name for topic in found.topics]


def test_a_base_with_too_little_to_group_says_so(base: KnowledgeBase, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="notes holds no passages yet: add documents"):
        base.topics()
    one = tmp_path / "one.txt"
    one.write_text("The Kun is a fish.")
    base.add(one)
    with pytest.raises(BadInput, match=r"The passages of notes, 1 in all.*one row"):
        base.topics()
    for n in range(3):
        (tmp_path / f"same{n}.txt").write_text("The Kun is a fish.")
        base.add(tmp_path / f"same{n}.txt")
    with pytest.raises(BadInput, match="4 rows that are all the same"):
        base.topics()


def test_more_groups_than_passages_are_refused_with_how_many_there_can_be(filled: KnowledgeBase) -> None:
    with pytest.raises(BadInput, match=r"50 groups.*ask for 2 to \d+"):
        filled.topics(50)


def test_two_languages_that_tell_of_the_same_meet_and_others_stay_apart() -> None:
    random = np.random.default_rng(1)
    topic, language = random.normal(size=(4, 8)) * 3, random.normal(size=8) * 6
    texts = ["the soup is hot"] * 12 + ["潮汐和船"] * 12
    noise = random.normal(size=(24, 8)) * 0.1
    told = (np.tile(topic, (6, 1)) + noise).astype(np.float32)
    told[12:] += language.astype(np.float32)
    groups = cluster(by_language(told, texts), 4).labels
    assert groups[:4].tolist() == groups[12:16].tolist()
    assert len(set(groups[:4].tolist())) == 4
    apart = (np.repeat(topic, 6, axis=0) + noise).astype(np.float32)
    assert by_language(apart, texts) is apart
    few = told[6:18]  # six of each
    assert by_language(few, texts[6:18]) is few
    alone = told[:12]
    assert by_language(alone, texts[:12]) is alone


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("format", ["svg", "png"])
def test_the_picture_shows_every_topic_by_its_name(filled: KnowledgeBase, format: str) -> None:
    found = filled.topics()
    drawn = found.picture("svg" if format == "svg" else "png")
    assert drawn[:4] == (b"\x89PNG" if format == "png" else b"<?xm")
    if format == "svg":
        assert all(topic.words[0] in drawn.decode() for topic in found.topics)
