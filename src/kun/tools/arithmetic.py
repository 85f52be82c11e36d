"""Exact arithmetic on an expression that a model wrote: numbers, a few functions, units; nothing that runs code."""

import ast
import re
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException, localcontext

from kun.errors import BadInput
from kun.tools.units import converted

_LONGEST = 16_000
_LONGEST_CONVERSION = 200
"""Characters with a unit to convert: the time to look for it grows with their third power."""
_DEEPEST = 50
_LONGEST_CHAIN = 1_000
"""Numbers that are added, or multiplied, one after the other: a column of a table has hundreds."""
_TOO_MANY = (
    f"is nested too deep, or has more than {_LONGEST_CHAIN:,} numbers in a row: calculate it in parts."
)
_LARGEST_POWER = 1_000
_DIGITS = 34
_UNIT = r"[a-zA-Z°µ\u4e00-\u9fff][\w°/*²³^\u4e00-\u9fff ]*"
_IN = re.compile(
    rf"(?P<number>.+?)\s*(?P<unit>{_UNIT}?)\s+(?:in|to|into|换算成|折合成)\s+(?P<wanted>{_UNIT})"
)
_OPERATORS: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}


def _rounded(given: Sequence[Decimal]) -> Decimal:
    """A number to so many decimals, half away from zero, as people and spreadsheets round."""
    value, decimals = +given[0], given[1] if len(given) > 1 else Decimal(0)
    if abs(decimals) > _LARGEST_POWER:
        raise BadInput(f"Rounding to {decimals} decimals is too much: {_LARGEST_POWER} is the most.")
    unit = Decimal(1).scaleb(-int(decimals))
    last = value.adjusted() - len(value.as_tuple().digits) + 1  # the power of ten that its last digit counts
    return value if last >= unit.adjusted() else value.quantize(unit, ROUND_HALF_UP)


_FUNCTIONS: dict[str, Callable[[Sequence[Decimal]], Decimal]] = {
    "sum": lambda given: sum(given, Decimal(0)),
    "min": min,
    "max": max,
    "mean": lambda given: sum(given, Decimal(0)) / len(given),
    "abs": lambda given: abs(given[0]),
    "sqrt": lambda given: given[0].sqrt(),
    "round": _rounded,
}


def calculate(expression: str) -> str:
    """The value of an expression ("(1185 + 142) * 12", "26 weeks in days", "sum(3, 4.5)"), exact to 34 digits.

    Raises `BadInput` for what is no such expression, is too large, or divides by zero.
    """
    text = (
        expression.strip()
        .replace("×", "*")
        .replace("÷", "/")
        .replace("−", "-")
        .replace("^", "**")
        .rstrip("=？? ")
    )
    if not text or len(text) > _LONGEST:
        raise BadInput(f"An expression has 1 to {_LONGEST:,} characters, this one {len(text):,}.")
    conversion = _IN.fullmatch(text) if len(text) <= _LONGEST_CONVERSION else None
    with localcontext(Context(prec=_DIGITS)):
        if conversion:
            value = converted(_evaluated(conversion["number"]), conversion["unit"], conversion["wanted"])
            if value is None:
                raise BadInput(f"{conversion['unit']} cannot be converted to {conversion['wanted']}.")
            return f"{_written(value)} {conversion['wanted']}"
        return _written(_evaluated(text))


def _written(value: Decimal) -> str:
    if not value.is_finite():
        raise BadInput("The result is no finite number.")
    return f"{value.normalize():f}" if abs(value.adjusted()) < 40 else f"{value.normalize():E}"


def _evaluated(text: str) -> Decimal:
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", " ".join(text.split()))
    line = re.sub(r"(?<![\d.])(\d+(?:\.\d+)?) ?%(?! ?[\d(])", r"(\1/100)", plain)
    try:
        return +_value(ast.parse(line, mode="eval").body, line.encode(), 0)
    except ZeroDivisionError as error:
        raise BadInput(f"{text[:100]} divides by zero.") from error
    except (MemoryError, RecursionError) as error:
        raise BadInput(f"{text[:100]!r} … {_TOO_MANY}") from error
    except (SyntaxError, ValueError) as error:
        raise BadInput(
            f"{text[:100]!r} is no arithmetic expression: use numbers, + - * / ** and brackets."
        ) from error
    except DecimalException as error:
        reason = (
            "divides by zero"
            if "Zero" in type(error).__name__ or "Undefined" in str(error)
            else "is out of range"
        )
        raise BadInput(f"{text[:100]} {reason}.") from error


def _value(node: ast.expr, line: bytes, depth: int) -> Decimal:
    """The value of a part of `line`, where its fractions are read, since a float keeps 17 digits of them."""
    if depth > _DEEPEST:
        raise BadInput(f"The expression is nested deeper than {_DEEPEST}.")
    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            return Decimal(number)
        case ast.Constant(value=float()):
            return Decimal(line[node.col_offset : node.end_col_offset].decode())
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, line, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, line, depth + 1)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left, line, depth + 1), _value(right, line, depth + 1)
            if abs(power) > _LARGEST_POWER:
                raise BadInput(f"A power of {power} is too large: {_LARGEST_POWER} is the most.")
            return base**power
        case ast.BinOp(op=operator) if type(operator) in _OPERATORS:
            return _chain(node, line, depth)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
            given = [_value(one, line, depth + 1) for one in args]
            return _FUNCTIONS[name](given)
    raise BadInput("Only numbers, + - * / // % **, brackets, and " + ", ".join(_FUNCTIONS) + " are allowed.")


def _chain(node: ast.BinOp, line: bytes, depth: int) -> Decimal:
    """The value of "a + b - c …", which is nested at its left: it is walked, since each step would be one deeper."""
    steps: list[tuple[ast.operator, ast.expr]] = []
    first: ast.expr = node
    while isinstance(first, ast.BinOp) and type(first.op) in _OPERATORS:
        steps.append((first.op, first.right))
        first = first.left
    if len(steps) >= _LONGEST_CHAIN:
        raise BadInput(f"The expression {_TOO_MANY}")
    value = _value(first, line, depth + 1)
    for operator, right in reversed(steps):
        value = _OPERATORS[type(operator)](value, _value(right, line, depth + 1))
    return value
