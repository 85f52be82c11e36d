"""ROUGE is that of its reference, and Chinese has words too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from kun.text.rouge import cut, rouge

WORDS = st.lists(st.sampled_from("the a kun fish bird, sea. The SEA north-west 3".split()), max_size=12).map(
    " ".join
)


@given(said=WORDS, wanted=WORDS)
def test_it_is_the_references(said: str, wanted: str) -> None:
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    theirs = {name: score.fmeasure for name, score in scorer.score(wanted, said).items()}
    assert rouge(said, wanted, "words") == pytest.approx(theirs)


def test_chinese_is_cut_by_the_character_or_by_the_word() -> None:
    text = "北冥有鱼，its name 2024 是鲲！"
    assert cut(text, "characters") == ["北", "冥", "有", "鱼", "its", "name", "2024", "是", "鲲"]
    assert "".join(cut(text, "chinese-words")) == "北冥有鱼itsname2024是鲲"
    assert len(cut("我们在图书馆", "chinese-words")) < len(cut("我们在图书馆", "characters"))


def test_a_summary_is_like_itself_and_unlike_another() -> None:
    same, other = "图书馆周一关门", "今晚没有渡船"
    assert set(rouge(same, same, "characters").values()) == {1.0}
    assert set(rouge(same, other, "characters").values()) == {0.0}
    assert set(rouge("", same, "characters").values()) == {0.0}
