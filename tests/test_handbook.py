"""The handbook: both languages say the same, the truth comes before the common error, numbers that can be
computed are right."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from kun.families import records

HANDBOOK = Path(__file__).parents[1] / "examples" / "handbook"
NAMES = sorted(path.name for path in (HANDBOOK / "en").glob("*.md"))
TERMS = {
    "en": (
        "word embedding",
        "positional encoding",
        "emergence",
        "homogenization",
        "data parallelism",
        "model parallelism",
        "autoregressive",
        "transfer learning",
        "in-context learning",
        "zero-shot learning",
        "self-supervised learning",
        "contrastive learning",
        "narrow ai",
        "reward hacking",
        "sgd",
    ),
    "zh": (
        *("词嵌入", "位置编码", "涌现", "同质化", "大炼模型", "炼大模型", "数据并行", "模型并行", "自回归"),
        *(
            "迁移学习",
            "上下文学习",
            "零样本学习",
            "自监督学习",
            "对比学习",
            "专用人工智能",
            "奖励作弊",
            "SGD",
        ),
    ),
}


def page(language: str, name: str) -> str:
    return (HANDBOOK / language / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_sections_sources_and_years(name: str) -> None:
    english, chinese = (re.sub(r"(?<=\d),(?=\d{3})", "", page(language, name)) for language in ("en", "zh"))
    assert len(re.findall("^#+ ", english, re.MULTILINE)) == len(re.findall("^#+ ", chinese, re.MULTILINE))
    assert len(re.findall("^[|]", english, re.MULTILINE)) == len(re.findall("^[|]", chinese, re.MULTILINE))
    for pattern in (r"\d{4}\.\d{4,5}", r"(?<![\d.])(?:19|20)\d\d(?!\d|\.\d)", r"\]\(\S+/(\S+)\.svg\)"):
        assert set(re.findall(pattern, english)) == set(re.findall(pattern, chinese))
    assert english.count("Often said") == chinese.count("常见误解：")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("language", "sign"), [("en", "Often said"), ("zh", "常见误解：")])
def test_what_is_often_said_stands_behind_the_truth_and_is_called_wrong(
    name: str, language: str, sign: str
) -> None:
    for line in page(language, name).splitlines():
        if sign in line:
            truth, _, myth = line.partition(sign)
            assert len(truth.strip("- ")) > (40 if language == "en" else 15), line
            said = re.search(
                r"wrong|incomplete|without a source" if language == "en" else "不对|漏掉|没有出处", myth
            )
            assert said, line


@pytest.mark.parametrize("language", TERMS)
def test_every_term_of_the_article_is_in_a_sentence_that_says_what_it_is(language: str) -> None:
    english = r"\b(?:is|are|means|gives|divides|trains|shows|has|moves|recognizes|called)\b|[:)]"
    says = re.compile(english if language == "en" else "[是叫指：（让把]|建立")
    sentences = [
        sentence
        for name in NAMES
        for line in page(language, name).splitlines()
        for sentence in re.split(r"(?<=[.。；])\s*", line)
    ]
    for term in TERMS[language]:
        named = [sentence for sentence in sentences if term.lower() in sentence.lower()]
        assert any(says.search(sentence) for sentence in named), term


def test_the_weights_of_the_attention_example_are_those_of_softmax() -> None:
    weights = [
        f"{weight:.3f}" for weight in torch.softmax(torch.tensor([2.0, 1.0, 0.5, 1.5, 0.1]), 0).tolist()
    ]
    for language, comma in (("en", ", "), ("zh", "、")):
        text = page(language, "12-self-attention.md")
        assert all(weight in text for weight in weights), weights
        assert comma.join(weights[:4]) in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_two_three_are_added_to_the_vectors_of_i_love_ai(language: str) -> None:
    rows = re.findall(
        r"^\| (\w+) \| \(([^)]+)\) \| (\d) \| \(([^)]+)\) \|$",
        page(language, "16-positions.md"),
        re.MULTILINE,
    )
    assert [row[0] for row in rows] == ["I", "love", "AI"]
    for _, vector, place, total in rows:
        sums = [float(number.replace("−", "-")) + int(place) for number in vector.split(",")]
        assert sums == pytest.approx([float(number.replace("−", "-")) for number in total.split(",")])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_table_of_the_three_gpts_has_the_sizes_of_their_networks(language: str) -> None:
    (family,) = [family for family in records() if family.name == "gpt"]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page(language, "02-gpt.md").splitlines()
        if line.startswith("|")
    ]
    unit = {"million": 1e6, "billion": 1e9, "亿": 1e8}
    for row, name in zip(rows[2:], ("gpt", "gpt2-xl", "gpt3-175b"), strict=True):
        config: Any = family.presets[name]
        number, sign = re.fullmatch(r"([\d.]+) (\w+)", row[2]).groups()  # type: ignore[union-attr]
        with torch.device("meta"):
            counted = sum(parameter.numel() for parameter in family.network(config).parameters())
        assert float(number) * unit[sign] == pytest.approx(counted, rel=0.04)
        assert int(row[3]) == config.n_layers
        assert int(row[4].replace(",", "")) == config.max_positions
    assert [re.findall(r"(\d+) GB", row[5]) for row in rows[2:]] == [["5"], ["40"], ["570"]]
