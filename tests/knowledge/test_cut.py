import time

import pytest
from fake_encoder import word_tokenizer
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from kun.knowledge.cut import BUDGET, cut_passages
from kun.knowledge.rows import Span, TextKind

KINDS: list[TextKind] = ["text", "markdown", "code", "rows"]


def unigram_tokenizer() -> Tokenizer:
    """The kind of multilingual E5: pieces of several letters, white space joined, found by the best path."""
    pieces = [
        ("<unk>", -20.0),
        ("▁", -2.0),
        *((letter, -4.0) for letter in "abcdefgh。，中文#|\n"),
        ("ab", -3.0),
    ]
    pieces += [("abc", -3.5), ("▁ab", -3.0), ("中文", -3.0), ("ef", -2.0), ("efgh", -2.5)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


TOKENIZERS = {"words": word_tokenizer(), "unigram": unigram_tokenizer()}


def assert_whole(text: str, spans: list[Span], tokenizer: Tokenizer, budget: int) -> None:
    reached = 0
    for span in spans:
        assert reached <= span.start < span.end <= len(text)
        assert not text[reached : span.start].strip()
        assert not text[span.start].isspace()
        assert not text[span.end - 1].isspace()
        assert len(tokenizer.encode(text[span.start : span.end], add_special_tokens=False)) <= budget
        reached = span.end
    assert not text[reached:].strip()


TEXTS = st.text(alphabet="abc efgh\n\n#|。，中文`-.!：第一章 \t(", max_size=400)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS, budget=st.integers(10, 60))
def test_nothing_is_lost_the_order_is_kept_and_so_is_the_budget(
    tokenizer: str, kind: TextKind, text: str, budget: int
) -> None:
    assert_whole(
        text,
        cut_passages(text, TOKENIZERS[tokenizer], kind=kind, budget=budget),
        TOKENIZERS[tokenizer],
        budget,
    )


@given(text=TEXTS, places=st.lists(st.integers(0, 400), max_size=5))
def test_no_passage_crosses_a_page(text: str, places: list[int]) -> None:
    pages = sorted({0, *(place for place in places if place < len(text))})
    spans = cut_passages(text, TOKENIZERS["words"], pages=pages, budget=30)
    assert_whole(text, spans, TOKENIZERS["words"], 30)
    for span in spans:
        begin = pages[span.page - 1]
        end = pages[span.page] if span.page < len(pages) else len(text)
        assert begin <= span.start < span.end <= end


@pytest.mark.parametrize("word", ["a", "abcxyz", "鲲", "🐟", "efgh中文", "。", "#", "\u0301"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_an_endless_word_is_cut_within_the_budget(tokenizer: str, word: str) -> None:
    text = word * (30_000 // len(word))
    spans = cut_passages(text, TOKENIZERS[tokenizer])
    assert_whole(text, spans, TOKENIZERS[tokenizer], BUDGET)
    assert len(spans) > 1


def test_passages_carry_the_path_of_their_headings() -> None:
    text = "intro\n\n# A\n\n## B\n\nunder b\n\n## C *x*\n\nunder c\n\nTitle\n=====\n\nlast\n"
    spans = cut_passages(text, TOKENIZERS["words"], kind="markdown")
    found = [(span.heading, text[span.start : span.end].rsplit("\n", maxsplit=1)[-1]) for span in spans]
    assert found == [("", "intro"), ("A > B", "under b"), ("A > C x", "under c"), ("Title", "last")]


def test_a_hash_inside_fenced_code_is_no_heading() -> None:
    text = "# A\n\n```python\n# not a heading\n\nx = 1\n```\n\nafter\n"
    assert {span.heading for span in cut_passages(text, TOKENIZERS["words"], kind="markdown")} == {"A"}


def test_front_matter_is_no_heading() -> None:
    text = "---\ntitle: x\n---\n# A\n\nbody\n"
    found = [
        (span.heading, text[span.start : span.end])
        for span in cut_passages(text, TOKENIZERS["words"], kind="markdown")
    ]
    assert found == [("", "---\ntitle: x\n---"), ("A", "# A\n\nbody")]


def test_chinese_chapters_are_headings() -> None:
    text = "第一章 开始\n\n故事从这里开始。\n\n第二章 结束\n\n故事到这里结束。\n"
    assert [span.heading for span in cut_passages(text, TOKENIZERS["words"])] == [
        "第一章 开始",
        "第二章 结束",
    ]


def test_long_paragraphs_are_cut_at_the_ends_of_sentences() -> None:
    text = "自注意力让每个位置都能看到其他位置，这是它的核心。" * 40
    spans = cut_passages(text, TOKENIZERS["words"], budget=100)
    assert all(text[span.start : span.end].endswith("。") for span in spans)


def test_rows_stay_whole() -> None:
    rows = [f"name: person {number}; city: a city of the number {number}" for number in range(200)]
    text = "\n".join(rows)
    spans = cut_passages(text, TOKENIZERS["words"], kind="rows", budget=60)
    assert [row for span in spans for row in text[span.start : span.end].split("\n")] == rows


def test_functions_are_named_and_kept_together() -> None:
    body = "".join(f"    step_{number} = work(step_{number})\n" for number in range(30))
    text = f"import os\n\n\n@cached\ndef first(a):\n{body}\n\nclass Second:\n    def third(self):\n{body}"
    spans = cut_passages(text, TOKENIZERS["words"], kind="code", budget=400)
    named = {span.heading: text[span.start : span.end] for span in spans}
    assert any("first" in heading and "@cached\ndef first" in part for heading, part in named.items())
    assert any("Second > third" in heading for heading in named)


def test_passages_of_a_section_are_of_about_equal_length() -> None:
    text = " ".join(f"Sentence number {number} is here." for number in range(90))
    sizes = [span.end - span.start for span in cut_passages(text, TOKENIZERS["words"])]
    assert min(sizes) > 0.7 * max(sizes)


@example(0)
@given(st.integers(0, 3))
def test_white_space_alone_has_no_passage(kind: int) -> None:
    assert cut_passages(" \n\n\t　 \n", TOKENIZERS["words"], kind=KINDS[kind]) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "unit", ["\n", "# \n", "|a|b|\n", "a. ", "(", "`" * 3 + "\n", "* [", "int f(", "def a", "x，", "---\n"]
)
def test_hostile_text_takes_time_in_proportion(kind: TextKind, unit: str) -> None:
    began = time.perf_counter()
    cut_passages(unit * (200_000 // len(unit)), TOKENIZERS["words"], kind=kind)
    assert time.perf_counter() - began < 15
