import pytest

from kun.text.language import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is attention?", "en"),
        ("Eiffel Tower height", "en"),
        ("What does 注意力 mean here?", "en"),
        ("什么是注意力？", "zh"),
        ("GPT-2 和 BERT 有什么区别", "zh"),
        ("BERT、RoBERTa、T5、XLNet 各有多大", "zh"),
        ("これは日本語の文章です", "ja"),
        ("안녕하세요 여러분", "ko"),
        ("Was ist das für ein Haus?", "de"),
        ("Où est la gare ?", "fr"),
        ("¿Cuál es la capital de España?", "es"),
        ("Привет, мир", "ru"),
        ("12 + 30 = 42", "und"),
        ("", "und"),
    ],
)
def test_a_text_is_in_the_language_a_reader_would_say(text: str, language: str) -> None:
    assert language_of(text) == language
