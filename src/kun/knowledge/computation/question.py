"""A question as a calculation: the operation that its words ask for, periods, comparisons, rounding, units."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from kun.text.language import language_of
from kun.tools.periods import Period, periods_in
from kun.tools.table_query import Test
from kun.tools.values import NUMBER_WORD, quantity_of

Kind = Literal["sum", "count", "mean", "percent", "compare", "extreme", "span"]

_PERCENT = re.compile(
    r"百分之几|百分之多少|百分比|占比|占了?(?:几成|多少|比例)|(?:比例|比率|[格勤消货订退]率|占有率)(?:是|为|有)?多少|几成"
    r"|\bper ?cent(?:age)?\b|\bproportion\b|\bwhat share\b|\bwhat fraction\b",
    re.IGNORECASE,
)
_MEAN = re.compile(r"平均|均值|均价|人均|\baverage[ds]?\b|\bmean\b|\bavg\b", re.IGNORECASE)
_SUM = re.compile(
    r"一共|总共|合计|总和|总计|共计|累计|加起来|加在一起|总(?:额|数|量|价|费用|金额|收入|支出|成本|工时|时长|里程|重量|营业额|销售额)"
    r"|全(?:年|月|部).{0,8}(?:多少|几)|\btotal|\baltogether\b|\bin all\b|\bsum\b|\btogether\b|\bcombined\b|\boverall\b|\bcomes? to\b|\badds? up\b",
    re.IGNORECASE,
)
_COUNT = re.compile(
    r"多少(?:个|种|条|人|家|次|位|名|笔|份|件|张|单|户|本|只|台|辆|场|节|门|行|批|封|间|套|款|项|页|天(?=[？?，,。]|$)|订单|商品|客户|员工|会员|记录)"
    r"|(?<!哪)几(?:个|种|条|人|家|次|位|名|笔|份|件|张|单|户|本|只|台|辆|场|节|门|批|封|间|套|款|项|天(?=[？?，,。]|$))"
    r"|(?:单|人|次|件|条)数(?:是|有|为)|\bhow many\b|\bnumber of\b|\bhow often\b",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"多少|\bhow much\b|\bhow long\b|\bhow far\b", re.IGNORECASE)
_SPENT = re.compile(
    r"(?:花|付|用|卖|收|买|挣|赚|交|支付|消费|开|跑|走|工作|加班)了?(?:掉|出|到|进)?(?:了)?多少|多少(?:钱|元|块|小时|分钟|公里|吨|度|公斤|斤|升)"
    r"|\bhow (?:much|long|far)\b.{0,60}\b(?:did|was|were|have|has|had)\b|\bwhat (?:did|was|were|have)\b.{0,60}\b(?:cost|spen[dt]|pay|paid|worth|earn|take)\b",
    re.IGNORECASE,
)
_COMPARE = re.compile(
    r"多多少|少多少|高多少|低多少|差多少|相差|差额|差了?多少|哪(?:个|一)?.{0,8}(?:更|比较)?(?:多|少|高|低|大|小|贵|长)|比.{1,24}(?:多|少|高|低|大|小|贵|便宜|长|短)"
    r"|\bby how (?:much|many)\b|\bdifference\b|\bhow (?:much|many) (?:\w+ ){0,3}?(?:more|less|fewer|higher|lower|longer)\b"
    r"|\b(?:more|less|fewer|higher|lower|larger|bigger|smaller|longer|better)\b.{0,60}\bor\b|\bcompared? (?:to|with)\b|\bthan (?:in|on|for)\b",
    re.IGNORECASE,
)
_SPAN = re.compile(
    r"(?:相隔|间隔|相距|隔了|相差).{0,6}(?:多少|几)\s*(?:天|日|周|个月)|之间.{0,6}(?:有|是|隔)?(?:多少|几)\s*(?:天|日|周)"
    r"|\bhow many (?:days|weeks)\b.{0,40}\b(?:between|apart)\b|\bdays (?:lie |are |passed? )?between\b|\bapart\b",
    re.IGNORECASE,
)
_LARGE = (
    r"最(?:多|高|大|贵|长|晚|新|重|快|好|热|年轻)|前[一二三四五六七八九十\d]+(?:名|位|个|家|种|大)?"
    r"|\bmost\b(?! of\b)|\bhighest\b|\blargest\b|\bbiggest\b|\blongest\b(?!-standing)|\blatest\b|\bnewest\b|\bdearest\b|\bheaviest\b|\bgreatest\b"
    r"|\b(?:joined|came|started|began|arrived|signed|ordered) last\b|\bbest(?!-)\b|\btop\b|\b(?:the|what) maximum\b|\bmost recent(?:ly)?\b|\bbest-selling\b|\bbusiest\b|\bhottest\b|\btallest\b|\bwarmest\b"
)
_SMALL = (
    r"最(?:少|低|小|便宜|短|早|旧|轻|慢|差|冷|老|久)|\bleast\b(?<!at least)|\bfewest\b|\blowest\b|\bsmallest\b|\bshortest\b|\bearliest\b|\boldest\b|\bcheapest\b"
    r"|\blightest\b|\bworst\b|\b(?:the|what) minimum\b|\bcoldest\b|\blongest-(?:standing|serving)\b|\bfirst to\b|\b(?:joined|came|started|began|arrived|signed|ordered) first\b"
)
_EXTREME = re.compile(f"(?P<large>{_LARGE})|(?P<small>{_SMALL})", re.IGNORECASE)
_ON_DATES = re.compile(
    r"最(?:早|晚|新|旧|老|久)|earliest|latest|newest|oldest|most recent|longest-(?:standing|serving)|first to|(?:joined|came|started|began|arrived|signed|ordered) (?:first|last)",
    re.IGNORECASE,
)
_ON_PRICE = re.compile(r"最(?:贵|便宜)|dearest|cheapest|most expensive", re.IGNORECASE)
_TESTS: tuple[tuple[str, Test], ...] = (
    (r"不超过|不多于|不高于|不大于|至多|at most|no more than|not more than|up to", "<="),
    (r"不少于|不低于|不小于|至少|at least|no less than|no fewer than|not less than", ">="),
    (
        r"超过|大于|多于|高于|超出|长于|more than|over|above|greater than|longer than|higher than|exceed(?:s|ed|ing)?|larger than",
        ">",
    ),
    (
        r"低于|少于|小于|不足|不到|短于|less than|fewer than|under|below|lower than|shorter than|smaller than|cheaper than",
        "<",
    ),
    (r"(?<!不)(?:等于|恰好|正好|刚好|数量为|库存为|为|是)|exactly|equal to|equals?|\bis\b|\bof\b", "="),
)
_NUMBER = rf"(?P<number>{NUMBER_WORD})\s*(?P<unit>[a-zA-Z€$%]{{1,12}}|小时|分钟|公斤|千克|公里|毫升|平方米|[\u4e00-\u9fff])?"
_AFTER_TESTS = re.compile(
    rf"{_NUMBER}(?P<after>\s*(?:及以上|以上|或以上)|\s*(?:及以下|以下|以内)|\s+or (?:more|less|fewer))",
    re.IGNORECASE,
)
_ROUND = re.compile(
    r"(?P<zh>保留|精确到|取)\s*(?:到)?(?:小数点?后)?\s*(?P<n>[零一二两三四五六\d])\s*位|(?:to|with)\s+(?P<en>\w+)\s+decimals?|(?P<en2>\w+)\s+decimals?|(?P<cents>round(?:ed)? to cents|to the cent|精确到分)|(?P<whole>取整|保留整数|四舍五入到整数|whole (?:number|percent))",
    re.IGNORECASE,
)
_TOP = re.compile(
    rf"最[多高大贵长重少低小便宜短早晚新]+的?(?:前)?(?P<a>[一二两三四五六七八九十\d]+)(?:位|名|个|家|种|款|只|天|笔|项|本|次|件)"
    rf"|前(?P<b>[一二两三四五六七八九十\d]+)|哪(?P<h>[两三四五六七八九十\d]+)(?:位|名|个|家|种|款|天|项|本|次|件)|\btop (?P<c>{NUMBER_WORD})|\b(?P<d>two|three|four|five|six|seven|eight|nine|ten|\d+)\s+(?:\w+\s+){{0,3}}?(?:most|highest|largest|biggest|lowest|smallest|best|cheapest|latest|earliest|longest|shortest)"
    rf"|\b(?:most|highest|largest|biggest|lowest|smallest|best|cheapest|latest|earliest|longest|shortest)\s+(?P<e>two|three|four|five|six|seven|eight|nine|ten|\d+)\b"
    rf"|\b(?:which|what|who are the)\s+(?P<f>two|three|four|five|six|seven|eight|nine|ten|\d+)\b",
    re.IGNORECASE,
)
_EXCLUDES = re.compile(
    r"去掉|除去|除了|除开|除外|扣除|扣掉|排除|不算|不含|不包括|不计|剔除|没有?算|之外|以外|\bwithout\b|\bexclud|\bexcept\b|\bnot counting\b|\bother than\b|\bapart from\b|\bleav(?:e|ing) out\b|\bbut not\b|\bnot includ|\bignor|\bminus\b|\baside from\b|\bomit|\bleft out\b|\bdo(?:es)? not count\b|\bdon't count\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Comparison:
    """A number that something is held against, at `[start, end)` of the question."""

    test: Test
    number: Decimal
    unit: str
    start: int
    end: int


@dataclass(frozen=True)
class Asked:
    """A question's operation and its parts. `text` is the question as given; spans are places in it."""

    text: str
    language: str
    kinds: tuple[Kind, ...]
    periods: tuple[Period, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    excludes: tuple[tuple[int, int], ...] = ()
    low: bool = False
    on_dates: bool = False
    on_price: bool = False
    top: int = 1
    decimals: int | None = None
    amount: bool = False
    spent: bool = False
    spans: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def is_chinese(self) -> bool:
        return self.language == "zh"


def read_question(question: str) -> Asked | None:
    """The calculation that a question may ask for; None where no word of it does."""
    kinds: list[Kind] = []
    extreme = _EXTREME.search(question)
    found: dict[Kind, re.Match[str] | None] = {
        "percent": _PERCENT.search(question),
        "span": _SPAN.search(question),
        "compare": _COMPARE.search(question),
        "extreme": extreme,
        "mean": _MEAN.search(question),
        "sum": _SUM.search(question),
        "count": _COUNT.search(question),
    }
    kinds = [kind for kind, match in found.items() if match]
    amount = _AMOUNT.search(question)
    if not kinds and not amount and not _SPENT.search(question):
        return None
    rounding = _ROUND.search(question)
    comparisons = tuple(_comparisons(question))
    spans = [match.span() for match in [*found.values(), rounding] if match]
    top = _TOP.search(question)
    return Asked(
        question,
        "zh" if language_of(question) == "zh" else "en",
        tuple(kinds),
        tuple(periods_in(question)),
        comparisons,
        tuple(match.span() for match in _EXCLUDES.finditer(question)),
        low=bool(extreme and extreme["small"]),
        on_dates=bool(_ON_DATES.search(question)),
        on_price=bool(_ON_PRICE.search(question)),
        top=_whole(next(one for one in top.groups() if one)) if top else 1,
        decimals=_decimals(rounding) if rounding else None,
        amount=bool(amount),
        spent=bool(_SPENT.search(question)),
        spans=tuple(spans),
    )


def kinds_in(text: str) -> set[Kind]:
    """The operations that words of a text ask for."""
    forms: dict[Kind, re.Pattern[str]] = {
        "percent": _PERCENT, "span": _SPAN, "compare": _COMPARE, "extreme": _EXTREME, "mean": _MEAN, "sum": _SUM, "count": _COUNT,
    }  # fmt: skip
    return {kind for kind, form in forms.items() if form.search(text)}


def _whole(text: str) -> int:
    value = quantity_of(text)
    return max(1, min(int(value), 50)) if value else 1


def _decimals(match: re.Match[str]) -> int | None:
    if match["cents"]:
        return 2
    if match["whole"]:
        return 0
    word = match["n"] or match["en"] or match["en2"] or ""
    if match["zh"] is None and not (match["en"] or match["en2"]):
        return None
    value = quantity_of(word) if word else None
    return int(value) if value is not None and value <= 6 else None


def _comparisons(question: str) -> list[Comparison]:
    found: list[Comparison] = []
    for pattern, test in _TESTS:
        for match in re.finditer(
            rf"(?:{pattern})\s*(?:了|的|about|to)?\s*{_NUMBER}", question, re.IGNORECASE
        ):
            if test == "=" and not _is_test(match):
                continue
            _keep(found, match, test)
    for match in _AFTER_TESTS.finditer(question):
        _keep(found, match, ">=" if re.search("上|more", match["after"]) else "<=")
    return found


def _is_test(match: re.Match[str]) -> bool:
    """True for "数量为 0" and "is 0": a year, a date or a count of things wanted is no test."""
    number = quantity_of(match["number"])
    return (
        number is not None
        and not re.search(r"年|月|日|位|个|天", match["unit"] or "")
        and not 1900 <= number <= 2100
    )


def _keep(found: list[Comparison], match: re.Match[str], test: Test) -> None:
    number = quantity_of(match["number"])
    if number is None or any(one.start < match.end() and match.start() < one.end for one in found):
        return
    unit = match["unit"] or ""
    if re.match(r"\s*(?:年|月|日|号)", unit):
        return
    found.append(Comparison(test, number, unit, *match.span()))
