"""Keys of a calculation: those of an extreme and of an average, and the nearness of a document's title."""

import re
from itertools import pairwise

from kun.knowledge.computation.matching import concept_labels, folded, label_score, latin_words
from kun.knowledge.computation.question import Asked
from kun.knowledge.computation.sheets import Sheet
from kun.tools.columns import Column, TypedTable

_LEAST = 0.5
_NUMBERS = re.compile(r"序号|编号|#|no\.?|nr\.?|pos\.?|position no\.?", re.IGNORECASE)
_KEY_WORD = re.compile(
    r"哪(?:[一两二三四五六七八九十几\d]*)?(?:个|位|种|家|款|只|本|天|日|项|类|门|条|辆|名|次|间|些)?(?P<zh>[\u4e00-\u9fff]{0,6})|(?P<who>谁)"
    r"|\b(?:which|what)\s+(?:(?:two|three|four|five|six|\d+)\s+)?(?P<en>[a-z]+(?:\s[a-z]+)?)|\b(?P<whom>who)\b",
    re.IGNORECASE,
)
_PER = re.compile(
    r"平均?每(?:一)?(?:个|位|人|名|单|天|日|次|张|家|种|本|趟|笔|晚)?(?P<zh>[\u4e00-\u9fff]{0,4})|每(?:个|位|名|张|家|种)?(?P<zh2>出勤日|工作日|天|日|个?月|人|单|周)平均|(?P<day>日均)|(?P<month>月均)|(?P<person>人均)"
    r"|\bper\s+(?P<en>[a-z]+)|\b(?:a|each|every)\s+(?P<en2>day|month|week|person|customer|trip|visit|order|night)\b",
    re.IGNORECASE,
)


def key_of(asked: Asked, table: TypedTable, dates: Column | None) -> tuple[Column | None, str, float]:
    """The things among which an extreme is looked for: months, days, the values of a column, or the rows ("row")."""
    dates = dates or next(iter(table.of_kind("date")), None)
    if dates is not None and re.search(r"哪(?:一|几)?个?月|(?:which|what) month", asked.text, re.IGNORECASE):
        return dates, "month", 0.6
    if dates is not None and re.search(
        r"哪(?:一|几)?个?季度|(?:which|what) quarter", asked.text, re.IGNORECASE
    ):
        return dates, "quarter", 0.6
    if dates is not None and re.search(
        r"哪(?:一|几)?[天日]|(?:which|what) (?:day|date|monday|tuesday|wednesday|thursday|friday|saturday|sunday)",
        asked.text,
        re.IGNORECASE,
    ):
        return dates, "day", 0.5
    words = [m["zh"] or m["who"] or m["en"] or m["whom"] or "" for m in _KEY_WORD.finditer(asked.text)]
    texts = table.of_kind("text")
    top = re.search(r"(?:位|名|个|家|种|款)(?P<zh>[\u4e00-\u9fff]{2,4})", asked.text)
    words += [top["zh"]] if top else []
    best, chosen = 0.0, None
    for column in texts:
        if not any(cell.strip() for cell in column.cells):
            continue
        score = max([label_score(column, word) for word in words if word] or [0.0])
        if score > best:
            best, chosen = score, column
    if chosen is not None and best >= _LEAST:
        return chosen, "value", 0.6 + (0.3 if best >= 0.9 else 0.0)
    texts = [column for column in texts if not _NUMBERS.fullmatch(column.name.strip())] or texts
    if re.search(r"哪[一几]?[种款]", asked.text) and (
        things := [column for column in texts if "product" in concept_labels(column.name)]
    ):
        return things[0], "value", 0.4
    names = [column for column in texts if len(column.distinct) >= 0.9 * table.n] or texts
    if names:
        return (
            max(
                names,
                key=lambda column: (
                    bool({"product", "person"} & concept_labels(column.name)),
                    -texts.index(column),
                ),
            ),
            "row",
            0.2,
        )
    return (dates, "day", 0.2) if dates is not None else (None, "", 0.0)


def per_of(asked: Asked, table: TypedTable, dates: Column | None) -> tuple[Column | None, str]:
    """ "per day": the distinct days over which a sum is spread; nothing where each row is one of them."""
    match = _PER.search(asked.text)
    if not match:
        return None, ""
    dates = dates or next(iter(table.of_kind("date")), None)
    word = next((one for one in (match["zh"], match["zh2"], match["en"], match["en2"]) if one), match[0])
    if match["day"] or re.search(r"日|天|day", match[0], re.IGNORECASE):
        return (dates, "day") if dates is not None else (None, "")
    if match["month"] or re.search(r"月|month", match[0], re.IGNORECASE):
        return (dates, "month") if dates is not None else (None, "")
    texts = table.of_kind("text")
    scored = [(label_score(column, word), -place) for place, column in enumerate(texts)]
    if scored and max(scored)[0] >= _LEAST:
        column = texts[-max(scored)[1]]
        return (column, "value") if len(column.distinct) < table.n else (None, "")
    return None, ""


def without_title(text: str, title: str) -> str:
    """A text without runs of two words, or of four Chinese characters, that its document's title has."""
    plain, named = folded(text), re.sub(r"[-_/]", " ", folded(title))
    letters = list(text)
    stems = [word.stem for word in latin_words(named)]
    said = latin_words(plain)
    for one, other in pairwise(said):
        if any(a == one.stem and b == other.stem for a, b in pairwise(stems)):
            letters[one.start : other.end] = " " * (other.end - one.start)
    for match in re.finditer(r"[\u3400-\u9fff]{3,}", plain):
        for start in range(match.start(), match.end() - 2):
            if plain[start : start + 3] in named:
                letters[start : start + 3] = "   "
    return "".join(letters)


def title_score(asked: Asked, sheet: Sheet) -> float:
    """The share of a document's title that the question holds, by words or runs of characters."""
    plain, title = folded(asked.text), re.sub(r"[-_/]", " ", folded(sheet.title))
    words = {word.stem for word in latin_words(title) if len(word.stem) > 2 and not word.stem.isdigit()}
    said = {word.stem for word in latin_words(plain)}
    latin = len(words & said) / 2 if words else 0.0
    runs = re.findall(r"[\u3400-\u9fff]+", title)
    pairs = {run[place : place + 2] for run in runs for place in range(len(run) - 1)}
    han = sum(pair in plain for pair in pairs) / 4 if pairs else 0.0
    return min(1.0, latin + han)
