"""Text becomes search terms that meet across spellings."""

from kun.text.words import words


def test_both_chinese_scripts_have_the_same_terms() -> None:
    assert words("機器學習需要資料") == words("机器学习需要资料")


def test_a_word_parted_at_the_end_of_a_line_is_found_whole_and_in_its_parts() -> None:
    assert {"com", "commander"} <= set(words("The com-\n mander spoke."))
    assert {"well", "known"} <= set(words("A well-\nknown man"))
    assert "commander" not in words("com- mander")
