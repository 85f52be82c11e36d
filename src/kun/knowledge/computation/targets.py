"""The columns that a question asks for: by their names, their units, and the kind of thing that its words ask."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kun.knowledge.computation.concepts import unit_kind, units_asked
from kun.knowledge.computation.doubts import GENERIC
from kun.knowledge.computation.matching import concept_score
from kun.knowledge.computation.said import Cover, Places, Said, plain
from kun.knowledge.computation.views import View
from kun.tools.columns import Column

WH = re.compile(
    r"\b(?:what|which|who|whom|whose|where|when|how (?:many|much|long|often|far|old|big|large|heavy|high|wide|tall|deep|fast|hot|loud)|tell me|give me)\b"
    r"|什么(?!时候)|什么时候|何时|哪(?:一|些|几|个|种|位|里|儿|天|款|项|间|家|本|号|台|次|条)*|谁|多少|几(?!乎)|多(?:长|久|大|重|高|宽|远|深|快)|何处|怎么(?:办|处理|解决)|怎样(?:处理|解决)|如何(?:处理|解决)",
    re.IGNORECASE,
)
_ASKED: tuple[tuple[str, str, float], ...] = (
    # words of the question, names of columns, and how surely the one asks for the other
    (r"\bwho\b|\bwhose\b|\bwhom\b|谁|哪位|什么人", r"^name$|姓名|人员|员工|负责人|person|employee|staff|teacher|老师|教师|讲师|trainer|driver|owner|名字|技师|联系人", 0.6),
    (r"归谁|谁管|上级|直属|领导|向谁|\breports? to\b|\bboss\b|\bsuperior\b|\bline manager\b", r"reports? ?to|上级|领导|主管$|汇报|manager|boss|supervisor|superior", 0.95),
    (r"\bwhere\b|哪里|在哪|哪儿|何处|什么地方|放在|存放|\bkept\b|\bstored\b", r"shelf|location|place|room|\bbay\b|address|site|building|floor|position|bin\b|aisle|位置|货架|架位|地点|存放|房间|地址|库位|仓位|楼层|教室|地方", 0.7),
    (r"什么时候|何时|几号|哪一?天|哪一?日|几月几|几点|\bwhen\b|what time", r"日期|时间|date|\btime\b|when|\bday\b|开放|due|期限|hours$|departure|arrival|发车|到站", 0.65),
    (r"什么意思|含义|代表什么|怎么回事|\bmeans?\b|\bmeaning\b|stands? for|\bindicates?\b", r"现象|含义|意思|说明|故障|描述|meaning|description|symptom|fault|problem|message|indicat", 0.8),
    (r"怎么办|怎么处理|如何处理|怎么解决|如何解决|怎样处理|what (?:should|can|must|do|to)\b.{0,20}\bdo\b|what to do|\bbe done\b|\bfix\b|\bremedy\b|what helps", r"怎么办|处理|措施|对策|解决|办法|action|remed|solution|\bfix\b|what to do|measure|respon", 0.8),
    (r"多少钱|多少元|怎么卖|贵不贵|\bhow much (?:is|are|does|do|did|was|were)\b|\bcosts?\b|\bprices?\b", r"price|cost|fee|rate\b|价|费|金额|€|\$|£|元", 0.65),
    (r"多重|\bhow heavy\b|\bweighs?\b|重多少", r"重量|weight|净重|毛重", 0.8),
    (r"多大|\bhow (?:big|large)\b", r"面积|尺寸|大小|容积|容量|area|size|volume|capacity", 0.7),
    (r"多长|\bhow long\b|多久", r"长度|时长|期限|期|length|duration|long|time|period|minutes|hours|days|周期|天数|interval", 0.6),
    (r"多高|\bhow (?:high|tall)\b", r"高度|height|高", 0.7),
    (r"多宽|\bhow wide\b", r"宽度|width|宽", 0.8),
    (r"多远|\bhow far\b", r"距离|distance|里程|公里|km", 0.7),
    (r"多久一次|\bhow often\b|多长时间一次|几[天周月]一次", r"周期|频率|间隔|interval|frequency|every|how often|次数", 0.8),
    (r"^\s*what is (?:the )?[\w-]*\d[\w-]*\s*\?*\s*$|^[\w-]*\d[\w-]*\s*是什么(?:东西|零件|课|产品)?[？?]*\s*$", r"description|^name$|名称|品名|说明|meaning|现象|product|item", 0.8),
    (r"\bwhere\b.*\bto\b|\bwhere\b.*\bend\b|去哪|到哪|终点", r"^to$|destination|终点|^到$|到达站|目的地", 0.9),
    (r"\bfrom where\b|\bwhere\b.*\b(?:from|start|begin|leave)\b|从哪|起点|哪里出发", r"^from$|origin|起点|^从$|始发|出发", 0.9),
    (r"\buntil when\b|\blast\b|末班|到几点|截止", r"last|\bend|until|clos|末班|截止|结束|到期", 0.8),
    (r"\bfrom when\b|\bfirst\b|首班|从几点|几点开始", r"first|start|begin|open|首班|开始|起始", 0.8),
    (r"电话|打给|\bphone\b|\bcall\b|\breach\b|\bring\b|分机", r"电话|手机|分机|phone|\btel\b|extension|mobile|contact", 0.7),
    (r"负责|\bresponsible\b|in charge|looks? after|\bcontact\b", r"负责|管理员|责任人|联系人|responsible|owner|in charge|contact|manager", 0.75),
    (r"在库|有货|现货|剩多少|还有多少|还剩|\bin stock\b|\bon hand\b|\bleft\b|\bavailable\b", r"库存|现有|存量|stock|on hand|available|quantity|数量", 0.75),
    (r"多少人|几个人|坐几|容纳|\bhow many (?:people|persons|guests)\b|\bseats?\b|\bhold\b", r"人数|座位|容纳|容量|capacity|seats|people|persons", 0.75),
    (r"哪个(?:报警|故障|错误)?代?码|什么代码|\bwhich code\b|\bwhat code\b", r"代码|编号|报警|code|alarm|error", 0.7),
    (r"供应商|供货|\bsupplie[sdr]+\b|\bvendor\b|从哪(?:里|家)?买|谁供", r"供应商|供货|厂家|supplier|vendor|maker|manufacturer", 0.9),
    (r"证明|材料|手续|\bdocuments?\b|\bproof\b|\bcertificate\b", r"证明|材料|手续|document|proof|certificate|evidence", 0.8),
)  # fmt: skip
_ASKED_FORMS = tuple(
    (re.compile(words, re.IGNORECASE), re.compile(names, re.IGNORECASE), sure)
    for words, names, sure in _ASKED
)
_CLAUSES = re.compile(
    r"[，,；;。？?！!]+|\band\b(?=\s+(?:what|which|who|where|when|how|to whom))", re.IGNORECASE
)
_JOINED = re.compile(r"[\s,，、]*(?:and|和|与|及|以及|还有|或|or)?\s*(?:its|their|the|其)?\s*")
_WHICH = re.compile(
    r"(?:哪|什么)(?:一|几)?(?:个|种|位|门|款|条|家|台|间|项|类|次|班|路|号)?([\u3400-\u9fff])"
)
_WHICH_WORD = re.compile(r"\b(?:which|what) ([a-z]{3,})")
_WHICH_THING = re.compile(
    r"哪(?:一)?(?:个|种|款|台)?(?:型号|机型|产品|款式|版本|机器)?|\bwhich (?:model|type|version|one|machine|product)?"
)
_SAMPLE = 30
_PER = re.compile(r"\bper [a-z]+|每(?:小时|天|月|年|次)", re.IGNORECASE)
_OWN_KIND = re.compile(
    r"who|whom|whose|where|when|how (?!many|much).*|谁|什么时候|何时|何处|哪里|哪儿", re.IGNORECASE
)
_MARGIN = 0.12
_LEAST = 0.5
_NEAR_EN, _NEAR_ZH = 14, 3


@dataclass(frozen=True)
class Target:
    """The columns asked for at once, how surely, and where the question says so; `asked` where right after its question word."""

    columns: tuple[int, ...]
    score: float
    places: Places
    asked: bool = False


def label_covers(said: Said, view: View) -> list[Cover]:
    """Where the question has the name of each column."""
    return [said.cover(column.name, loose=True) for column in view.columns]


def targets(
    said: Said, view: View, covers: Sequence[Cover], taken: Places, consumed: frozenset[int]
) -> list[Target]:
    """What each clause of the question asks for; an empty list where one of them cannot be told."""
    spans = _clauses(said.plain)
    asking = [span for span in spans if WH.search(said.plain[span[0] : span[1]])]
    if not asking:
        return []
    if len(asking) == 1:
        asking = [(0, len(said.plain))]
    found = []
    for start, end in asking:
        target = _target(said, view, covers, taken, consumed, start, end)
        if target is None:
            return []
        found.append(target)
    return found


def _clauses(text: str) -> list[tuple[int, int]]:
    spans, place = [], 0
    for match in _CLAUSES.finditer(text):
        spans.append((place, match.start()))
        place = match.end()
    spans.append((place, len(text)))
    return [(start, end) for start, end in spans if text[start:end].strip()]


def _target(
    said: Said,
    view: View,
    covers: Sequence[Cover],
    taken: Places,
    consumed: frozenset[int],
    start: int,
    end: int,
) -> Target | None:
    clause = said.plain[start:end]
    within = frozenset(range(start, end))
    near = _near_question_words(clause, start, said.is_chinese)
    scored: list[tuple[float, int, Places, bool]] = []
    for place, column in enumerate(view.columns):
        label = covers[place].places & within
        own = label - taken
        asked = bool(own & near)
        score, places = 0.0, own
        if (
            own
            and not covers[place].is_full
            and ((view.is_turned and not view.is_matrix) or _is_general(said, own))
        ):
            own = frozenset()
        if own and covers[place].is_full:
            score = 1.0 + 0.3 * (covers[place].n - 1) + (0.4 if asked else 0.0)
        elif own:
            score = (
                0.4 * covers[place].n / max(1, covers[place].of)
                + 0.25 * covers[place].n
                + (0.2 if asked else 0.0)
            )
        sure, words = max(
            _by_kind(column, clause), _by_letter(column, view, clause), _by_cells(column, place, view, clause)
        )
        if sure:
            places = places | frozenset(range(start + words[0], start + words[1])) if sure > score else places
            score = max(score, sure) + 0.3 * min(score, sure)
        beside = bool(own) and not taken.isdisjoint((min(own) - 1, min(own) - 2, max(own) + 1, max(own) + 2))
        if place in consumed and (beside or not (asked and covers[place].is_full)):  # "grade B" is given
            score = min(score, 0.3)
        scored.append((score, place, places, asked))
    scored.sort(key=lambda one: -one[0])
    best = scored[0]
    if best[0] < _LEAST:
        return None
    ties = [one for one in scored if one[0] >= best[0] - _MARGIN]
    if len(ties) == 1:
        joined = [
            one
            for one in scored[1:]
            if one[0] >= 1.0 and covers[one[1]].is_full and _are_joined(said.plain, best[2], one[2])
        ]
        columns = tuple(sorted([best[1], *(one[1] for one in joined)]))
        places = best[2].union(*(one[2] for one in joined))
        return Target(columns, best[0], places, best[3])
    if _are_siblings([view.columns[one[1]] for one in ties]) and len(ties) <= 4:
        return Target(tuple(sorted(one[1] for one in ties)), best[0], best[2], best[3])
    if all(covers[one[1]].is_full and _are_joined(said.plain, best[2], one[2]) for one in ties[1:]):
        return Target(
            tuple(sorted(one[1] for one in ties)), best[0], best[2].union(*(one[2] for one in ties)), best[3]
        )
    return None


def _near_question_words(clause: str, start: int, chinese: bool) -> Places:
    """The places right after a question word, in Chinese right before one too."""
    near: set[int] = set()
    for match in WH.finditer(clause):
        if _OWN_KIND.fullmatch(match[0]):
            continue  # "how often does line 47 run" asks for no line
        end = match.end() + (_NEAR_ZH if chinese else _NEAR_EN)
        near.update(range(start + match.start(), start + min(end, len(clause))))
        if chinese:
            near.update(range(start + max(0, match.start() - 4), start + match.start()))
    return frozenset(near)


def _by_kind(column: Column, clause: str) -> tuple[float, tuple[int, int]]:
    """How surely a clause asks for a column by the kind of thing it wants, and its words for that."""
    best, words = 0.0, (0, 0)
    name = _PER.sub("", f"{column.name} {column.unit}").strip()
    for asked, names, sure in _ASKED_FORMS:
        match = asked.search(clause)
        if match and sure > best and names.search(name.replace("_", " ")):
            best, words = sure, match.span()
    units = units_asked(clause)
    if column.unit and unit_kind(column.unit) in units and best < 0.65:
        best = 0.65
    elif (
        best < 0.55
        and units
        and any(
            unit_kind(word) in units
            for word in re.findall(r"[a-z]+|天|小时|分钟|公里|公斤|元|升", column.name.lower())
        )
    ):
        best = 0.6
    if best < 0.5 and concept_score(_PER.sub("", column.name), column.unit, clause) > 0:
        best = 0.5
    return best, words


def _by_letter(column: Column, view: View, clause: str) -> tuple[float, tuple[int, int]]:
    """ "哪门课" asks for the one column whose name has that character."""
    match = _WHICH.search(clause)
    if not match or match[1] not in column.name or sum(match[1] in one.name for one in view.columns) > 1:
        return 0.0, (0, 0)
    return 0.8, match.span()


def _by_cells(column: Column, place: int, view: View, clause: str) -> tuple[float, tuple[int, int]]:
    """ "Which hall" asks for a column of halls; "哪个型号" for the things of a table of their properties."""
    if place == 0 and view.is_turned and view.is_matrix and (match := _WHICH_THING.search(clause)):
        return 0.75, match.span()
    match = _WHICH_WORD.search(clause)
    cells = column.distinct[:_SAMPLE]
    if not match or len(cells) < 2:
        return 0.0, (0, 0)
    held = sum(
        match[1] in plain(cell).split() or match[1].rstrip("s") in plain(cell).split() for cell in cells
    )
    return (0.8, match.span()) if held >= 0.6 * len(cells) else (0.0, (0, 0))


def _is_general(said: Said, places: Places) -> bool:
    """True for places of words that any question may have ("hour", "day")."""
    words = [word for word in said.words if word.start in places]
    return bool(words) and len(words) == 1 and words[0].stem in GENERIC


def _are_joined(text: str, one: Places, other: Places) -> bool:
    """True for two names with nothing but "and" or a comma between them."""
    if not one or not other or one & other:
        return False
    first, second = sorted((one, other), key=min)
    between = text[max(first) + 1 : min(second)]
    return max(first) < min(second) and _JOINED.fullmatch(between) is not None


def _are_siblings(columns: Sequence[Column]) -> bool:
    heads = {column.label.partition(" / ")[0] for column in columns}
    return len(heads) == 1 and all(" / " in column.label for column in columns)
