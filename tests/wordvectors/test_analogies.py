"""Files of analogies, and the rates with and without the query words."""

from collections import Counter
from pathlib import Path

import pytest

from kun.errors import BadInput, NotFound
from kun.wordvectors.analogies import Analogy, measure, read_analogies
from kun.wordvectors.vectors import WordVectors

EXAMPLES = Path(__file__).parents[2] / "examples" / "analogies"


def test_rates_are_what_single_questions_come_to(by_hand: WordVectors) -> None:
    questions = [
        Analogy("man", "king", "woman", "queen", "rank"),
        Analogy("man", "king", "woman", "king", "wrong"),
        Analogy("man", "king", "nobody", "queen", "rank"),
    ]
    found = measure(by_hand, questions)
    best = by_hand.analogy("man", "king", "woman", exclude=False)[0][0]
    rank, wrong = found.groups
    assert (rank.group, rank.questions, rank.asked, rank.right) == ("rank", 2, 1, 1)
    assert (rank.right_with_query, wrong.right_with_query) == (int(best == "queen"), int(best == "king"))
    assert (found.questions, found.asked) == (3, 2)
    assert found.rate(exclude=True) == 0.5


def test_vectors_that_know_no_word_of_it_have_a_rate_of_zero(by_hand: WordVectors) -> None:
    found = measure(by_hand, [Analogy("a", "b", "c", "d")])
    assert (found.asked, found.rate(exclude=True)) == (0, 0.0)


@pytest.mark.parametrize(("name", "count"), [("zh.txt", 300), ("en.txt", 306)])
def test_the_example_files_hold_analogies_that_differ(name: str, count: int) -> None:
    questions = read_analogies(EXAMPLES / name)
    assert len(questions) == count
    assert len(set(questions)) == count
    assert min(Counter(one.group for one in questions).values()) > 5
    assert all(one.group and len({one.a, one.b, one.c, one.answer}) >= 3 for one in questions)


def test_a_line_that_is_no_analogy_is_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("# comment\n: rank\nman king woman\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 3"):
        read_analogies(path)
    path.write_text(": rank\n", encoding="utf-8")
    with pytest.raises(BadInput, match="no analogies"):
        read_analogies(path)
    with pytest.raises(NotFound, match="does not exist"):
        read_analogies(tmp_path / "none.txt")
