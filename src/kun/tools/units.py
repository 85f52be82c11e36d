"""Units of measurement by `pint`, called as people call them in English and Chinese; money is no unit here."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pint import UnitRegistry

_NAMES = {
    "天": "day", "日": "day", "周": "week", "星期": "week", "月": "month", "个月": "month", "年": "year", "小时": "hour", "钟头": "hour",
    "分钟": "minute", "分": "minute", "秒": "second", "公里": "kilometer", "千米": "kilometer", "米": "meter", "厘米": "centimeter",
    "毫米": "millimeter", "英里": "mile", "英寸": "inch", "英尺": "foot", "公斤": "kilogram", "千克": "kilogram", "克": "gram", "吨": "tonne",
    "毫升": "milliliter", "升": "liter", "平方米": "meter**2", "立方米": "meter**3", "公顷": "hectare", "亩": "mu", "斤": "jin", "两": "liang",
    "度": "kilowatt_hour", "千瓦时": "kilowatt_hour", "千瓦": "kilowatt", "瓦": "watt", "摄氏度": "degC", "华氏度": "degF", "磅": "pound",
    "h": "hour", "min": "minute", "kg": "kilogram", "km": "kilometer", "g": "gram", "l": "liter", "ml": "milliliter", "m": "meter",
    "litres": "liter", "litre": "liter", "metres": "meter", "metre": "meter", "kilometres": "kilometer", "kilometre": "kilometer",
    "millilitres": "milliliter", "millilitre": "milliliter", "centimetres": "centimeter", "centimetre": "centimeter", "kilos": "kilogram", "kilo": "kilogram",
    "tonnes": "tonne", "tonne": "tonne", "tons": "tonne", "ton": "tonne", "°c": "degC", "°f": "degF", "celsius": "degC", "fahrenheit": "degF",
}  # fmt: skip


@cache
def registry() -> "UnitRegistry[Decimal]":
    """pint's units with exact numbers, and those that are usual in China."""
    from pint import UnitRegistry

    units: UnitRegistry[Decimal] = UnitRegistry(non_int_type=Decimal, cache_folder=None)
    units.define("jin = 0.5 * kilogram")
    units.define("liang = 0.05 * kilogram")
    units.define("mu = 10000 / 15 * meter ** 2")
    return units


def unit_name(unit: str) -> str:
    """The name that `registry` knows a unit by."""
    plain = unit.strip()
    return _NAMES.get(plain, _NAMES.get(plain.lower(), plain))


def converted(value: Decimal, unit: str, wanted: str) -> Decimal | None:
    """`value` of one unit in another; None where they measure different things or are unknown.

    Months and years have no fixed length: they convert among themselves only.
    """
    one, other = unit_name(unit).lower().rstrip("s"), unit_name(wanted).lower().rstrip("s")
    loose = {"month": 1, "year": 12}
    if one in loose or other in loose:
        return value * loose[one] / loose[other] if one in loose and other in loose else None
    import pint

    units = registry()
    try:
        return units.Quantity(value, unit_name(unit)).to(unit_name(wanted)).magnitude
    except (pint.PintError, AttributeError, ValueError, TypeError, ArithmeticError):
        return None
