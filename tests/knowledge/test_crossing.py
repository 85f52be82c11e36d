"""Questions in one language of documents in the other, with a model that translates and writes what a test says."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from kun.knowledge.answer import Answer, ask_stream
from kun.knowledge.answering.crossing import rendering_fault, surer
from kun.knowledge.answering.phrases import CHINESE
from kun.knowledge.answering.policy import POLICY
from kun.knowledge.passage import Passage
from tests.knowledge.scripted import Base, Model, passage

LEASE = passage(
    "押金为两个月租金，即 19,200 元。合同期满后甲方在 20 天内退还押金。", "合同.md", "押金", words=0.9
)
NEWS = passage("The museum opens at nine and closes at six.", "news.md", "Museum", score=0.8, words=0.1)
ASKED = "How much is the deposit of the lease?"
ASKED_THERE = "合同的押金是多少？"
WRITTEN = "押金为两个月租金，即 19,200 元。"
RENDERED = "The deposit is two months' rent, 19,200 yuan."


class Translator(Model):
    """A model that translates by a table, and counts how often it does."""

    def __init__(self, *texts: str, table: dict[str, str]) -> None:
        super().__init__(*texts)
        self.table, self.translated = table, 0

    def generate(self, messages: Any, **options: Any) -> str:
        self.translated += 1
        asked = messages[-1]["content"]
        known = [here for here in self.table if here in asked]
        return self.table[max(known, key=asked.rfind)] if known else ""


def ask(
    question: str, passages: list[Passage], written: str, table: dict[str, str]
) -> tuple[Answer, Translator]:
    base: Any = Base(passages)
    model = Translator(written, table=table)
    speaking: Any = model
    return ask_stream(base, question, speaking).answer(), model


def test_a_question_is_answered_in_the_documents_language_and_the_answer_put_into_its_own() -> None:
    given, model = ask(ASKED, [LEASE, NEWS], WRITTEN, {WRITTEN: RENDERED, ASKED: ASKED_THERE})
    assert given.text == "The deposit is two months' rent, 19,200 yuan [1]."
    assert given.passages[0].source == "合同.md"
    assert model.prompts[0][0]["content"] == CHINESE.system
    assert ASKED_THERE in model.prompts[0][1]["content"]
    assert given.question == ASKED


def test_a_chinese_question_of_an_english_document_is_answered_in_chinese() -> None:
    oven = passage("The stones of the oven are guaranteed for eighteen months.", "oven.md", words=0.9)
    shop = passage("店里星期一休息。", "店.md", score=0.5, words=0.0)
    asked, there = "烤箱的石板保修多久？", "How long are the oven's stones guaranteed?"
    written = "The stones are guaranteed for eighteen months."
    given, _ = ask(asked, [oven, shop], written, {written: "石板保修 18 个月。", asked: there})
    assert given.text == "石板保修 18 个月 [1]。"


def test_a_question_that_passages_in_its_own_language_answer_is_not_translated() -> None:
    here = passage("The deposit of the lease is 500 euros.", "lease.md", words=0.8)
    given, model = ask(ASKED, [here, LEASE], "The deposit of the lease is 500 euros.", {})
    assert given.text == "The deposit of the lease is 500 euros [1]."
    assert model.translated == 0


@dataclass(frozen=True)
class _Likely:
    """A look at documents that are known to answer with a probability."""

    probability: float
    names: bool = False
    has_row: bool = False

    def gained(self, _: Any) -> float:
        return self.probability


@pytest.mark.parametrize(
    ("away", "home", "chosen"), [(0.42, 0.38, 0.0), (0.63, 0.53, 0.63), (0.59, 0.01, 0.59), (0.3, 0.6, 0.0)]
)
def test_the_other_language_answers_only_where_it_is_clearly_likelier(
    away: float, home: float, chosen: float
) -> None:
    looks: Any = (_Likely(away), _Likely(home))
    assert surer(*looks, Model(""), POLICY) == chosen


def test_a_row_of_the_code_that_is_asked_for_decides_the_language() -> None:
    looks: Any = (_Likely(0.2, names=True, has_row=True), _Likely(0.9))
    assert surer(*looks, Model(""), POLICY) == 0.2


def test_a_question_is_translated_once() -> None:
    asked = "How much is the deposit of the garden lease?"
    table = {WRITTEN: RENDERED, asked: ASKED_THERE}
    assert ask(asked, [LEASE, NEWS], WRITTEN, table)[1].translated == 2  # the question, and the answer
    assert ask(asked, [LEASE, NEWS], WRITTEN, table)[1].translated == 1


def test_a_translated_answer_with_another_number_is_not_given() -> None:
    asked = "How much is the deposit of the cellar lease?"
    wrong = "The deposit is two months' rent, 12,900 yuan."
    given, _ = ask(asked, [LEASE, NEWS], WRITTEN, {WRITTEN: wrong, asked: ASKED_THERE})
    assert given.text == "押金为两个月租金，即 19,200 元 [1]。"


def test_a_translated_question_that_lost_its_code_is_not_asked() -> None:
    table = passage("代码: H-11; 含义: 水箱没水; 处理: 加四升水", "代码表.md", words=0.5)
    asked = "What is to be done when H-11 is shown?"
    _, model = ask(asked, [table, NEWS], "加四升水。", {asked: "显示代码时怎么办？"})
    assert "显示代码时怎么办" not in str(model.prompts)


def test_the_row_of_a_code_is_shown_in_whichever_language_it_is() -> None:
    far = replace(passage("代码: H-12; 含义: 水箱没水; 处理: 加四升水", "代码表.md", words=0.0), score=0.1)
    near = passage("H-120 was shown when the door of the oven was open.", "changes.md", words=0.4)
    asked = "What is to be done when the oven shows H-12?"
    written = "水箱没水，加四升水。"
    rendered = "The tank has no water: add four litres of water."
    given, model = ask(
        asked, [near, far], written, {written: rendered, asked: "烤箱显示 H-12 时应该怎么处理？"}
    )
    assert "代码: H-12" in model.prompts[0][1]["content"]
    assert given.text == "The tank has no water: add four litres of water [1]."


def test_the_name_of_a_person_stays_as_the_document_writes_it() -> None:
    course = passage("水彩课由韩梅梅老师上。", "课程.md", words=0.9)
    asked, written = "Who teaches the watercolour course?", "水彩课由韩梅梅老师上。"
    given, _ = ask(
        asked,
        [course, NEWS],
        written,
        {written: "Ms Han teaches the watercolour course.", asked: "水彩课由谁上？"},
    )
    assert given.text == "Ms Han teaches the watercolour course (韩梅梅) [1]."


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("可用到次年 6 月 30 日。", "They may be used until 30 June of the next year."),
        ("They may be used until June 30.", "可用到 6 月 30 日。"),
        ("The warranty lasts eighteen months.", "保修期为 18 个月。"),
        ("The new date is June 9th, 2026.", "新的日期是 2026 年 6 月 9 日。"),
        ("The fair is open from 10 to 12 September.", "展会从 9 月 10 日开到 12 日。"),
        ("展会从 9 月 10 日开到 9 月 12 日。", "The fair is open from September 10 to September 12."),
        ("租金上涨 4%。", "The rent rises by four percent."),
        ("包裹不超过 25 公斤。", "A parcel must not exceed 25 kg."),
        ("面积约 1.5 万平方米。", "The area is about 15,000 square metres."),
        ("不仅送货，还负责安装。", "They deliver and install it."),
        ("乙方不得养狗。", "The tenant may not keep a dog."),
        ("没有用完的年假至多保留 3 天。", "At most 3 days of unused annual leave are kept."),
        ("If the flat is undamaged, the deposit is paid back.", "房屋没有损坏的，退还押金。"),
        ("H-03 means that the door is open.", "H-03 表示门没有关。".replace("没有关", "开着")),
    ],
)
def test_a_faithful_translation_passes(source: str, text: str) -> None:
    assert not rendering_fault(source, text, "", "zh" if "。" in text else "en")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("可用到次年 6 月 30 日。", "They may be used until 30 July of the next year."),
        ("The new date is 9 June.", "新的日期是 9 月 6 日。"),
        ("Fill the tank with soft water.", "应该执行“Fill the tank with soft water”。"),
        ("The warranty lasts eighteen months.", "保修期为 18 年。"),
        ("租金上涨 4%。", "The rent rises by 14 percent."),
        ("押金为 19,200 元。", "The deposit is 19,200 euros."),
        ("乙方不得养狗。", "The tenant may keep a dog."),
        ("H-03 means that the door is open.", "H-08 表示门开着。"),
        ("The café is open.", "Der Laden ist heute leider nicht geöffnet, weil die Leute krank sind."),
        ("Ms Avocet repairs it.", "Plover 女士负责维修。"),
        ("押金为 19,200 元。", "The deposit."),
    ],
)
def test_a_translation_that_says_something_else_does_not(source: str, text: str) -> None:
    assert rendering_fault(source, text, "", "en" if text.isascii() else "zh")
