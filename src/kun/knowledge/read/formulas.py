"""Formulas without a stored value, as programs that are no spreadsheet write them: the plain ones are computed.

Sums, means, conditions and arithmetic over cells of the same file. Whatever else a formula has, it is shown as it is
written, with the remark that no value is stored.
"""

import datetime
import math
import operator
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kun.knowledge.read.cells import cell_text

if TYPE_CHECKING:
    from openpyxl.formula.tokenizer import Token
    from openpyxl.workbook.workbook import Workbook

Value = float | int | str | bool | datetime.date | datetime.time | datetime.timedelta | None
Range = list[list[Value]]

_MOST_CELLS = 200_000  # of a sheet that is computed
_MOST_READ = (
    20_000_000  # cells that the ranges of one file hold together: running totals read some again and again
)
_DEEPEST = 60  # formulas that lean on one another
_LONGEST = 8_192  # characters of a formula, as in Excel
_LONGEST_TEXT = 32_767  # characters of a cell, as in Excel
_MOST_DIGITS = 300  # that ROUND keeps; a float has no more
_REFERENCE = re.compile(
    r"(?:(?:'((?:[^']|'')+)'|([\w.]+))!)?\$?([A-Z]{1,3})\$?(\d+)(?::\$?([A-Z]{1,3})\$?(\d+))?\Z"
)
_CONDITION = re.compile(r"(<=|>=|<>|=|<|>)?(.*)\Z", re.DOTALL)
_COMPARE: dict[str, Callable[[object, object], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,  # type: ignore[dict-item]  # values that cannot be compared raise, and are shown as written
    ">": operator.gt,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
}
_LEVELS = (frozenset(_COMPARE), frozenset("&"), frozenset("+-"), frozenset("*/"), frozenset("^"))


class Unknown(Exception):
    """A formula that is not computed here."""


class Formulas:
    """The formulas of a workbook, opened when the first is asked for."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._book: Workbook | None = None
        self._grids: dict[str, list[list[tuple[object, str]]]] = {}
        self._computed: dict[tuple[str, int, int], Value] = {}
        self._depth = self._read = 0

    def close(self) -> None:
        if self._book is not None:
            self._book.close()

    def text(self, sheet: str, row: int, column: int) -> str:
        """The value of the formula in a cell (from 1), or the formula itself; empty where there is none."""
        try:
            value, number_format = self._cell(sheet, row, column)
        except Unknown:
            return ""
        formula = _formula(value)
        if not formula:
            return ""
        try:
            return cell_text(self.value(sheet, row, column), number_format)
        except Exception:  # one formula, whatever is wrong with it, does not lose the workbook
            return f"{formula} (formula without a stored value)"

    def value(self, sheet: str, row: int, column: int) -> Value:
        """Raises `Unknown` where it cannot be computed."""
        key = (sheet, row, column)
        if key not in self._computed:
            value, _ = self._cell(sheet, row, column)
            formula = _formula(value)
            if self._depth > _DEEPEST:
                raise Unknown
            self._depth += 1
            try:
                self._computed[key] = _Expression(self, sheet, formula).value() if formula else _plain(value)
            finally:
                self._depth -= 1
        return self._computed[key]

    def range(self, sheet: str, first: tuple[int, int], last: tuple[int, int]) -> Range:
        """The values of a rectangle, corners as (row, column); rows below the last one left out."""
        bottom = min(last[0], len(self._grid(sheet)))
        rows, columns = range(first[0], bottom + 1), range(first[1], last[1] + 1)
        cells = len(rows) * len(columns)
        self._read += cells
        if cells > _MOST_CELLS or self._read > _MOST_READ:
            raise Unknown
        return [[self.value(sheet, row, column) for column in columns] for row in rows]

    def _cell(self, sheet: str, row: int, column: int) -> tuple[object, str]:
        grid = self._grid(sheet)
        if 0 < row <= len(grid) and 0 < column <= len(grid[row - 1]):
            return grid[row - 1][column - 1]
        return None, "General"

    def _grid(self, sheet: str) -> list[list[tuple[object, str]]]:
        if sheet not in self._grids:
            if self._book is None:
                from openpyxl import load_workbook

                self._book = load_workbook(self._file, read_only=True)
            if sheet not in self._book.sheetnames:
                raise Unknown
            page = self._book[sheet]
            page.reset_dimensions()
            grid: list[list[tuple[object, str]]] = []
            cells = 0
            for row in page.iter_rows():
                grid.append([(cell.value, getattr(cell, "number_format", "General")) for cell in row])
                cells += len(row)
                if cells > _MOST_CELLS:
                    break
            self._grids[sheet] = grid
        return self._grids[sheet]


def _formula(value: object) -> str:
    text = value if isinstance(value, str) else getattr(value, "text", "")
    return text if isinstance(text, str) and text.startswith("=") and len(text) > 1 else ""


def _plain(value: object) -> Value:
    if (
        isinstance(value, float | int | str | datetime.date | datetime.time | datetime.timedelta)
        or value is None
    ):
        return value
    raise Unknown


class _Expression:
    """A formula taken apart: comparison, joining, sums, products, powers, signs, percents, calls and references."""

    def __init__(self, formulas: Formulas, sheet: str, formula: str) -> None:
        from openpyxl.formula import Tokenizer

        if len(formula) > _LONGEST:
            raise Unknown
        self._formulas, self._sheet = formulas, sheet
        self._tokens: list[Token] = [
            token for token in Tokenizer(formula).items if token.type != "WHITE-SPACE"
        ]
        self._at = 0

    def value(self) -> Value:
        found = _single(self._level(0))
        if self._at < len(self._tokens) or (isinstance(found, float) and not math.isfinite(found)):
            raise Unknown
        return found

    def _peek(self) -> "Token | None":
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _level(self, level: int) -> Value | Range:
        if level == len(_LEVELS):
            return self._signed()
        left = self._level(level + 1)
        while (token := self._peek()) and token.type == "OPERATOR-INFIX" and token.value in _LEVELS[level]:
            self._at += 1
            left = _applied(token.value, left, self._level(level + 1))
        return left

    def _signed(self) -> Value | Range:
        token = self._peek()
        if token and token.type == "OPERATOR-PREFIX":
            self._at += 1
            number = _number(self._signed())
            return -number if token.value == "-" else number
        value = self._operand()
        while (token := self._peek()) and token.type == "OPERATOR-POSTFIX":
            self._at += 1
            value = _number(value) / 100
        return value

    def _operand(self) -> Value | Range:
        token = self._peek()
        if token is None:
            raise Unknown
        self._at += 1
        if token.type == "PAREN" and token.subtype == "OPEN":
            value = self._level(0)
            self._at += 1
            return value
        if token.type == "FUNC" and token.subtype == "OPEN":
            return _called(token.value.rstrip("(").upper().removeprefix("_XLFN."), self._arguments())
        if token.type != "OPERAND":
            raise Unknown
        if token.subtype == "NUMBER":
            return float(token.value)
        if token.subtype == "TEXT":
            return str(token.value[1:-1].replace('""', '"'))
        if token.subtype == "LOGICAL":
            return bool(token.value.upper() == "TRUE")
        return self._reference(token.value)

    def _arguments(self) -> list[Value | Range]:
        found: list[Value | Range] = []
        while (token := self._peek()) and not (token.type == "FUNC" and token.subtype == "CLOSE"):
            if token.type == "SEP":
                self._at += 1
                continue
            found.append(self._level(0))
        self._at += 1
        return found

    def _reference(self, text: str) -> Value | Range:
        from openpyxl.utils import column_index_from_string

        match = _REFERENCE.match(text)
        if not match:
            raise Unknown
        sheet = (match[1] or match[2] or self._sheet).replace("''", "'")
        first = int(match[4]), column_index_from_string(match[3])
        if not match[5]:
            return self._formulas.value(sheet, *first)
        return self._formulas.range(sheet, first, (int(match[6]), column_index_from_string(match[5])))


def _single(value: Value | Range) -> Value:
    if isinstance(value, list):
        raise Unknown
    return value


def _number(value: Value | Range) -> float:
    """A float, as sheets have it: whole numbers of Python grow without end when they are multiplied."""
    value = _single(value)
    if value is None:
        return 0.0
    if isinstance(value, int | float | str):
        return float(value)
    raise Unknown


def _applied(sign: str, left: Value | Range, right: Value | Range) -> Value:
    if sign == "&":
        return _joined((_single(left), _single(right)))
    if sign in _COMPARE:
        one, other = (
            value.casefold() if isinstance(value, str) else value for value in (_single(left), _single(right))
        )
        return _COMPARE[sign](0 if one is None else one, 0 if other is None else other)
    if isinstance(left, datetime.date) or isinstance(right, datetime.date):
        return _dated(sign, _single(left), _single(right))
    one, other = _number(left), _number(right)
    if sign == "+":
        return one + other
    if sign == "-":
        return one - other
    if sign == "*":
        return one * other
    return one / other if sign == "/" else float(one**other)


def _dated(sign: str, left: Value, right: Value) -> Value:
    """Days between two dates, or a date some days on."""
    if sign == "-" and isinstance(left, datetime.datetime) and isinstance(right, datetime.datetime):
        return (left - right) / datetime.timedelta(days=1)
    if isinstance(left, datetime.date) and isinstance(right, int | float) and sign in "+-":
        return left + datetime.timedelta(days=right if sign == "+" else -right)
    raise Unknown


def _text(value: Value) -> str:
    return value if isinstance(value, str) else cell_text(value)


def _joined(values: Iterable[Value]) -> str:
    parts, length = [], 0
    for value in values:
        parts.append(_text(value))
        length += len(parts[-1])
        if length > _LONGEST_TEXT:
            raise Unknown
    return "".join(parts)


def _flat(arguments: Iterable[Value | Range]) -> Iterator[Value]:
    for argument in arguments:
        if isinstance(argument, list):
            for row in argument:
                yield from row
        else:
            yield argument


def _numbers(arguments: Iterable[Value | Range]) -> list[float]:
    return [
        float(value)
        for value in _flat(arguments)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _matches(value: Value, condition: Value) -> bool:
    """True if a cell fits the condition of SUMIF and COUNTIF: a value, or a sign and a value."""
    match = _CONDITION.match(condition) if isinstance(condition, str) else None
    wanted: Value = condition
    sign = "="
    if match:
        sign, wanted = match[1] or "=", match[2]
        try:
            wanted = float(match[2])
        except ValueError:
            wanted = match[2].casefold()
    value = value.casefold() if isinstance(value, str) else value
    if isinstance(value, str) != isinstance(wanted, str) or value is None:
        return sign == "<>"
    return _COMPARE[sign](value, wanted)


def _conditional(name: str, arguments: Sequence[Value | Range]) -> Value:
    """SUMIF, COUNTIF, AVERAGEIF and the forms with several conditions."""
    several = name.endswith("IFS")
    of = (
        arguments[0]
        if several and name != "COUNTIFS"
        else arguments[2]
        if len(arguments) > 2 and not several
        else None
    )
    pairs = arguments[1:] if several and name != "COUNTIFS" else arguments if several else arguments[:2]
    columns = [list(_flat([pairs[place]])) for place in range(0, len(pairs), 2)]
    conditions = [_single(pairs[place]) for place in range(1, len(pairs), 2)]
    chosen = [
        place
        for place, row in enumerate(zip(*columns, strict=True))
        if all(_matches(value, condition) for value, condition in zip(row, conditions, strict=True))
    ]
    if name.startswith("COUNT"):
        return len(chosen)
    values = columns[0] if of is None else list(_flat([of]))
    picked = _numbers([values[place] for place in chosen])
    return math.fsum(picked) if name.startswith("SUM") else statistics.fmean(picked)


_OF_NUMBERS: dict[str, Callable[[list[float]], float]] = {
    "SUM": math.fsum,
    "AVERAGE": statistics.fmean,
    "MIN": lambda numbers: min(numbers, default=0),
    "MAX": lambda numbers: max(numbers, default=0),
    "COUNT": len,
    "MEDIAN": statistics.median,
    "PRODUCT": math.prod,
    "STDEV": statistics.stdev,
}


def _called(name: str, arguments: list[Value | Range]) -> Value:
    if name in _OF_NUMBERS:
        return _OF_NUMBERS[name](_numbers(arguments))
    if name == "SUBTOTAL" and _number(arguments[0]) in (9, 109):
        return math.fsum(_numbers(arguments[1:]))
    if name == "COUNTA":
        return sum(value not in (None, "") for value in _flat(arguments))
    if name == "SUMPRODUCT":
        return math.fsum(
            math.prod(_numbers([*row])) for row in zip(*(_flat([a]) for a in arguments), strict=True)
        )
    if name in ("SUMIF", "COUNTIF", "AVERAGEIF", "SUMIFS", "COUNTIFS", "AVERAGEIFS"):
        return _conditional(name, arguments)
    if name == "IF":
        return _single(
            arguments[1] if _single(arguments[0]) else arguments[2] if len(arguments) > 2 else False
        )
    if name in ("AND", "OR"):
        return (all if name == "AND" else any)(bool(value) for value in _flat(arguments))
    if name == "NOT":
        return not _single(arguments[0])
    if name in ("CONCATENATE", "CONCAT"):
        return _joined(_flat(arguments))
    if name == "ROUND":
        number, digits = _number(arguments[0]), int(_number(arguments[1]))
        if abs(digits) > _MOST_DIGITS:
            raise Unknown
        scale = 10.0**digits
        return math.copysign(math.floor(abs(number) * scale + 0.5) / scale, number)
    if name in ("ABS", "INT", "SQRT"):
        number = _number(arguments[0])
        return abs(number) if name == "ABS" else math.floor(number) if name == "INT" else math.sqrt(number)
    if name in ("MOD", "POWER"):
        one, other = map(_number, arguments)
        return one % other if name == "MOD" else float(one**other)
    raise Unknown
