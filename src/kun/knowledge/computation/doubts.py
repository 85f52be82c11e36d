"""Words of a question that a table's document does not know: what they name may not be in it."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re

from kun.knowledge.computation.concepts import CONCEPTS
from kun.knowledge.computation.matching import folded, latin_words
from kun.knowledge.computation.question import Asked
from kun.knowledge.computation.sheets import Sheet
from kun.text.language import language_of
from kun.text.words import STOP_WORDS, stem

_SAMPLE = 400_000
GENERIC = frozenset(
    stem(word)
    for word in """
    about according across add added after again all allowed already also altogether always among amount another any anything apart asked
    average averaged before began begin being below best between big bigger biggest both bring brought by calculate calculated cent cents cheap cheaper cheapest
    combined come comes compare compared comparison compute considered cost costs count counted counting currently cut data date dates day days decimal decimals deadline
    difference different dollar dollars done down due during each earliest earn earned either else end enough entire entry entries euro euros even ever every exceed exceeded
    except exclude excluded excluding expensive far few fewer fewest figure figures final first five four from full get gets give given go goes greater greatest gross grow half
    handed happen happened have high higher highest hold hour hours ignore ignoring include included including individual item items just kept kind
    kinds know large larger largest last late later latest least leave leaving left less let lie list listed lists long longer longest low lower lowest made make makes many
    mean median mention mentioned minute minutes money month monthly months more most much must name named names need needed needs net never new newer newest next nine none not often frequently ever most
    number numbers of old older oldest one only order other out over overall own paid part pay paying people per percent percentage person piece pieces place please point points
    possible previous product products proportion put quantity quarter quarters range rate rates ratio receive received record recorded records regard respect rest result return round rounded
    row rows run said same say second see seven share short shorter shortest show shows single six small smaller smallest smallest so some sort spend spent stand standing start started
    state still sum table take taken takes taking tell ten than thing things third three time times to together top total totals two type types under until up us use used using
    value values various want was week weekly weeks were what whole with within without work worth would write year yearly years yet yuan left remaining currently exactly
    """.split()
)
HAN_GENERIC = re.compile(
    r"多少|一共|总共|合计|总计|平均|最[多少高低大小长短早晚新贵]|百分|几|哪|什么|怎么|谁|计算|算|保留|小数|两位|一位|位数|四舍五入|请问|按照|根据|按|记录|登记|清单|表|文件|文档|资料|里面|其中|"
    r"全年|全部|所有|整个|每个|每天|每月|净|扣|去掉|员工|人员|全体|同事|客户|会员|学生|商品|产品|订单|公司|我们|不算|包括|包含|不含|不包括|不计|超过|低于|少于|多于|大于|小于|以上|以下|以前|以后|之前|之后|之间|相差|差额|相隔|季度|上半年|下半年|年|月|日|"
    r"天|周|小时|分钟|元|块|钱|金额|费用|数量|比例|占|单数|条数|次数|人数|加起来|加上|累计|现在|目前|已经|一件|没有|为止|折合|换算|最晚|最迟|需要|应该|要|付|花|买|卖|用|收|交|得|了|的"
)
_CAPITAL = re.compile(r"(?<![.?!]\s)(?<!^)\b(?:[A-Z][\w-]*[a-z][\w-]*|[A-Z]+-?\d[\w-]*)\b")
_PARTS_OF_TIME = re.compile(
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|"
    r"Mondays?|Tuesdays?|Wednesdays?|Thursdays?|Fridays?|Saturdays?|Sundays?|Q[1-4]|EUR|USD|GBP|VAT|I)$"
)
_HAN_NOUN = re.compile(r"[\u4e00-\u9fff]{1,4}(?:费|款|率|补贴|奖金|津贴|押金|罚金|税)$")
_NOUN_BEFORE = re.compile(
    r"\b([a-z]+)\s+(?:fees?|costs?|times?|pay|rates?|prices?|charges?|bonus(?:es)?|allowances?|premiums?|weights?|sizes?|score|age)\b",
    re.IGNORECASE,
)


def doubt(asked: Asked, sheet: Sheet, sure: float, anchored: bool) -> float:
    """A number to take off a plan's score: large where a name of the question is unknown to the document.

    `sure` is how surely the measure was named. Words of another language than the document's say nothing; `anchored`: a name or a
    value of the document is in the question all the same.
    """
    text = folded(f"{sheet.title} {sheet.source} {sheet.text[:_SAMPLE]}")
    if (language_of(text) == "zh") != asked.is_chinese:
        return 0.0 if anchored else 1.0
    found = _han_doubt(asked, text, sure) if asked.is_chinese else _latin_doubt(asked, text, sure)
    return found / 2 if sure >= 0.9 and found < 2 else found


def _latin_doubt(asked: Asked, text: str, sure: float) -> float:
    known = {word.stem for word in latin_words(re.sub(r"[-_/]", " ", text))} | {
        word.stem for word in latin_words(text)
    }
    for match in _CAPITAL.finditer(asked.text):
        stems = [word.stem for word in latin_words(folded(match[0]).replace("-", " "))]
        if not _PARTS_OF_TIME.match(match[0]) and not all(one in known for one in stems):
            return 2.0
    unknown, before = 0.0, False
    for word in latin_words(folded(asked.text)):
        plain = asked.text[word.start : word.end].lower()
        is_small = plain in STOP_WORDS or plain[0].isdigit() or len(word.stem) < 3 or word.stem in GENERIC
        is_known = word.stem in known or any(pattern.fullmatch(plain) for pattern in CONCEPTS.values())
        if not is_small and not is_known and not any(_near(word.stem, one) for one in known):
            unknown += 0.15 if before else 0.5  # a "taxi ride" is about taxis
            noun = _NOUN_BEFORE.match(asked.text, word.start)
            unknown += 0.4 if noun and sure < 0.9 and not before else 0
        before = is_known and not is_small
    return min(1.2, unknown)


def _near(one: str, other: str) -> bool:
    return len(one) >= 4 and len(other) >= 4 and (one.startswith(other) or other.startswith(one))


def _han_doubt(asked: Asked, text: str, sure: float) -> float:
    import rjieba

    unknown = 0.0
    for token in rjieba.cut(asked.text):
        word = HAN_GENERIC.sub("", token)
        if not re.fullmatch(r"[\u3400-\u9fff]{2,}", word) or token in text or word in text:
            continue
        if _HAN_NOUN.fullmatch(token) and sure < 0.9:
            unknown += 0 if token[0] in text else 3
        else:
            unknown += 0 if any(pair in text for pair in (word[:2], word[-2:])) else 1
    return min(1.6, 0.4 * unknown)
