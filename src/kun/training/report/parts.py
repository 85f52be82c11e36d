"""The pieces that pages of results are made of: HTML as text, in which all that came from outside is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from kun.training.report.curves import short
from kun.training.report.words import say
from kun.version import __version__

_NOTHING_FROM_ELSEWHERE = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
)


def page(title: str, subtitle: str, body: Iterable[str]) -> str:
    """A whole page in one file, with its style and script in it. `subtitle` and `body` are HTML."""
    own = files(__package__)
    style, script, mark = (
        own.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "report.js", "mark.svg")
    )
    return (
        '<!doctype html>\n<html lang="en" data-lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING_FROM_ELSEWHERE}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · 鲲</title><style>{style}</style></head><body><main>"
        f'<header>{mark}<div class="title"><h1>{escape(title)}</h1>{subtitle}</div>'
        f'<button id="theme">{say("theme")}</button><button id="language">{say("language")}</button></header>'
        f"{''.join(body)}<footer>{say('made_by', version=__version__)}</footer></main>"
        f"<script>{script}</script></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading (HTML) and what lies below it; "" where that is nothing."""
    inside = "".join(parts)
    return f"<section><h2>{title}</h2>{inside}</section>" if inside else ""


def tiles(values: Sequence[tuple[str, str | None]]) -> str:
    """Numbers to read at a glance: (what, in HTML; the number, left out where it is None)."""
    shown = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{what}</span></div>'
        for what, value in values
        if value is not None
    )
    return f'<div class="tiles">{shown}</div>' if shown else ""


def card(*parts: str, is_wide: bool = False) -> str:
    return f'<div class="card{" wide" if is_wide else ""}">{"".join(parts)}</div>'


def cards(*parts: str) -> str:
    """Cards next to each other, and below each other where the page is narrow."""
    inside = "".join(parts)
    return f'<div class="cards">{inside}</div>' if inside else ""


def facts(values: Sequence[tuple[str, object]]) -> str:
    """A table of two columns: (what, in HTML; its value). Values that are None are left out."""
    rows = "".join(
        f'<tr><th>{what}</th><td class="n">{escape(number(value))}</td></tr>'
        for what, value in values
        if value is not None
    )
    return f"<table>{rows}</table>" if rows else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of HTML cells, of which all but the first of a row are numbers."""
    top = "".join(f"<th{_numeric(place)}>{cell}</th>" for place, cell in enumerate(head))
    lines = "".join(
        f"<tr>{''.join(f'<td{_numeric(place)}>{cell}</td>' for place, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{lines}</table></div>'


def _numeric(place: int) -> str:
    return ' class="n"' if place else ""


def pieces(texts: Iterable[str]) -> str:
    """The pieces that a tokenizer makes of a word."""
    return "".join(f'<span class="piece">{escape(text)}</span>' for text in texts)


def number(value: object) -> str:
    """A value as people read it: 12,345; 0.0312; 4.5; others as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def memory(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def operations(count: float) -> str:
    """Floating-point operations: 1.2 GFLOP."""
    figure = short(count)
    return f"{figure[:-1]} {figure[-1]}FLOP" if figure[-1].isalpha() else f"{figure} FLOP"


def toml(text: str) -> str:
    """TOML with its tables and keys marked."""
    lines = []
    for line in text.splitlines():
        key, sign, value = line.partition(" = ")
        if line.startswith("["):
            lines.append(f"<b>{escape(line)}</b>")
        elif sign:
            lines.append(f"{escape(key)}<span> = </span>{escape(value)}")
        else:
            lines.append(escape(line))
    return f"<pre class='recipe'>{chr(10).join(lines)}</pre>"
