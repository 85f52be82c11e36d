"""Look-ups in the question's language: a sentence for the cells that were found, or for the row that is not there."""

import re

from kun.knowledge.computation.lookups import Lookup
from kun.knowledge.computation.wording import with_unit
from kun.tools.columns import Column

_UNIT = re.compile(r"^(?P<name>.+?)\s*[(（](?P<unit>[^()（）]{1,12})[)）]$")
_NAME = re.compile(r"^name$|^full name$|姓名|名称|^名字$", re.IGNORECASE)
_MOST_NAMED = 6


def lookup_answer(found: Lookup) -> str:
    """The cells in a sentence, without citations."""
    if found.missing:
        return _missing(found)
    if len(found.rows) > 1 and len(set(found.keys)) == 1 and len(found.columns) == 1:
        lines = [_list(found)]
    else:
        lines = [_row(found, number) for number in range(len(found.rows))]
    text = ("；" if found.chinese else "; ").join(lines)
    text = text[:1].upper() + text[1:]
    return text if text.endswith(("。", ".", "！", "!")) else text + ("。" if found.chinese else ".")


def _list(found: Lookup) -> str:
    """The things of several rows that are named alike."""
    column = found.view.columns[found.columns[0]]
    values = [column.cells[row].strip() for row in found.rows]
    keys = [key for key in dict.fromkeys(found.keys[0]) if key]
    if found.chinese:
        return f"{'、'.join(keys)}：{'、'.join(values)}" if keys else "、".join(values)
    return f"{', '.join(keys)}: {', '.join(values)}" if keys else ", ".join(values)


def _row(found: Lookup, number: int) -> str:
    row, zh = found.rows[number], found.chinese
    keys = [key for key in dict.fromkeys(found.keys[number]) if key]
    unit = ""
    parts = []
    for place in found.columns:
        column = found.view.columns[place]
        label, value = _label(column), _value(found, column, row)
        if found.is_crossed and keys:  # the row says what is asked, the column of what
            named = _UNIT.match(keys[-1])
            unit = named["unit"] if named else ""
            keys, label = [*keys[:-1], column.label], named["name"] if named else keys[-1]
        if value:
            parts.append(
                (label, _with_unit(value, unit or (column.unit if column.unit in column.label else ""), zh))
            )
    key = ("、" if zh else ", ").join(keys)
    if zh:
        said = "，".join(f"{label}{_gap(label[-1:])}是{_gap(value)}{value}" for label, value in parts)
        return f"{key}{_gap(key[-1:])}的{_gap(said)}{said}" if key else said
    said = ", and ".join(f"the {label} {_is(label)} {value}" for label, value in parts)
    return f"for {key}, {said}" if key else said


def _value(found: Lookup, column: Column, row: int) -> str:
    """A cell; where it is the key of another row of the table (`reports_to: p3`), that row's name."""
    value = column.cells[row].strip()
    columns = found.view.columns
    for other in columns:
        if (
            other is column
            or len(other.distinct) < found.view.n
            or not set(column.distinct) <= set(other.distinct)
        ):
            continue
        name = next((one for one in columns if _NAME.search(one.name.strip()) and one is not other), None)
        if name is not None and name is not column and value in other.cells:
            return name.cells[other.cells.index(value)].strip() or value
    return value


def _label(column: Column) -> str:
    head, _, tail = column.name.partition(" / ")
    if not tail:
        return column.name.replace("_", " ")
    return f"{head}（{tail}）" if re.search(r"[\u3400-\u9fff]", column.name) else f"{head} ({tail})"


def _with_unit(value: str, unit: str, zh: bool) -> str:
    return with_unit(value, unit, zh) if unit and re.fullmatch(r"[-+]?[\d.,]+", value) else value


def _is(label: str) -> str:
    words = re.findall(r"[A-Za-z]+", label)
    head = words[0].lower() if words else ""
    return "are" if head.endswith("s") and not head.endswith(("ss", "us", "is")) else "is"


def _gap(text: str) -> str:
    """A space between Chinese and what is Latin or a number."""
    return " " if text[:1].isascii() and text[:1].isalnum() else ""


def _missing(found: Lookup) -> str:
    """The sentence for a name that no row has; it begins with what the documents do not say."""
    table = found.view.table
    key = next(column for column in found.view.columns if column.kind == "text")
    shown = ("、" if found.chinese else ", ").join(key.distinct[:_MOST_NAMED])
    more = len(key.distinct) > _MOST_NAMED
    name = table.name or table.source
    if found.chinese:
        return f"文档里没有提到“{found.missing}”：表“{name}”里只有{shown}{'等' if more else ''}。"
    rest = " and others" if more else ""
    return f"The documents do not mention “{found.missing}”: the table “{name}” has only {shown}{rest}."


def lookup_shown(found: Lookup) -> str:
    """The look-up in words: the table, the row's keys, the columns."""
    name = found.view.table.name or found.view.table.source
    keys = "; ".join(" / ".join(one) for one in found.keys if any(one))
    columns = ", ".join(found.view.columns[one].label for one in found.columns)
    return f"表“{name}”：{keys} → {columns}。" if found.chinese else f"Table “{name}”: {keys} → {columns}."


def lookup_program(found: Lookup) -> dict[str, object]:
    """The look-up as JSON."""
    table = found.view.table
    return {
        "table": table.name or table.source,
        "operation": "look up",
        "where": [list(one) for one in found.keys] if found.keys else found.missing,
        "columns": [found.view.columns[one].label for one in found.columns],
    }
