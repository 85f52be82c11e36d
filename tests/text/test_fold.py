import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kun.text.fold import fold, fold_with_offsets


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ｔｒａｎｓｆｏｒｍｅｒ　模型", "transformer模型"),
        ("Caf\u00e9", "CAFE\u0301"),
        ("zero\u200bwidth\ufeff", "zero width"),
        ("soft\u00adhyphen", "softhyphen"),
        ("ﬁne", "FINE"),
        ("Straße", "STRASSE"),
        ("ﾊﾞｽ", "バス"),
        ("한글", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
        ("两行\n  之间", "两行之间"),
        ("機器學習與頭髮", "机器学习与头发"),
        ("薴", "苎"),
    ],
)
def test_two_spellings_of_the_same_words_fold_to_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_different_words_stay_different() -> None:
    assert fold("resume") != fold("résumé")
    assert fold("鲲") != fold("鵬")


@given(st.text())
@example("e\u0301 \u0345\u0301 A\u030a\u0323")
@example("\u00a8\u0301")
@example("\u1100\u200b\u1161")
def test_folding_twice_changes_nothing_and_offsets_agree(text: str) -> None:
    folded, offsets = fold_with_offsets(text)
    assert folded == fold(text) == fold(folded)
    assert len(offsets) == len(folded) + 1
    assert offsets[-1] == len(text)
    assert (offsets[1:] >= offsets[:-1]).all()


@given(st.text(alphabet="aB é中。　\n\u0301ﬁ\u200b"), st.data())
def test_a_match_in_the_folded_text_stands_at_its_offsets(text: str, data: st.DataObject) -> None:
    folded, offsets = fold_with_offsets(text)
    start = data.draw(st.integers(0, len(folded)))
    end = data.draw(st.integers(start, len(folded)))
    assert folded[start:end] in fold(text[offsets[start] : max(offsets[end], offsets[max(end - 1, 0)] + 1)])


def test_offsets_name_the_place_of_each_letter() -> None:
    text = "Ａ  Cafe\u0301 中"
    folded, offsets = fold_with_offsets(text)
    assert folded == "acafé中"
    assert [text[offset] for offset in offsets[:-1]] == ["Ａ", "C", "a", "f", "e", "中"]


def test_marks_that_stay_beside_their_letter_have_places_of_their_own() -> None:
    text = "a\u0301\u200b\u0301b"
    folded, offsets = fold_with_offsets(text)
    assert folded == "á\u0301b"
    assert offsets.tolist() == [0, 3, 4, 5]
