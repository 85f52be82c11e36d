"""tour.html: the whole tour as one file that asks nothing of any server, in both languages with a switch."""

import base64
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from kun.atomic_files import new_file
from kun.tour.drawings.canvas import Label, Language
from kun.tour.drawings.drawn import DRAWINGS, LANGUAGES
from kun.tour.errata import errata
from kun.tour.example import Idea, Table
from kun.tour.running import Outcome
from kun.version import __version__

_MARKS: dict[bool | None, tuple[str, str]] = {
    True: ("✓", "right"),
    False: ("✗", "wrong"),
    None: ("–", "needs"),
}
_SWITCH = (
    "const root = document.documentElement;"
    'root.dataset.language = root.lang = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : '
    '"en";document.querySelectorAll("[data-to]").forEach(button => button.addEventListener("click", () => {'
    "root.dataset.language = root.lang = button.dataset.to; }));"
)
_LONGEST_QUOTE = 4000


def write_tour(path: Path, outcomes: Sequence[Outcome], seconds: float, *, interrupted: bool = False) -> None:
    """Write the page of what was done. Raises `NoSpace`, `NotWritable`."""
    with new_file(path) as fresh:
        fresh.write_text(page(outcomes, seconds, interrupted=interrupted), encoding="utf-8", newline="\n")


def page(outcomes: Sequence[Outcome], seconds: float, *, interrupted: bool = False) -> str:
    """The page as text."""
    ideas = list({outcome.idea.number: outcome.idea for outcome in outcomes}.values())
    style = files("kun.tour").joinpath("page.css").read_text(encoding="utf-8")
    body = [
        _head(outcomes, seconds, interrupted),
        "<nav>" + "".join(_link(idea) for idea in ideas) + "</nav>",
        *(_section(idea, [one for one in outcomes if one.idea is idea]) for idea in ideas),
        _say(
            (
                f"Every number above was computed in this run, by Kun {__version__}.",
                f"以上数字都由这一次运行算出，Kun {__version__}。",
            ),
            "p",
            "dim small",
        ),
    ]
    return (
        '<!doctype html>\n<html lang="en" data-language="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Kun 鲲 · tour</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + f"\n</main>\n<script>{_SWITCH}</script>\n</body>\n</html>\n"
    )


def _head(outcomes: Sequence[Outcome], seconds: float, interrupted: bool) -> str:
    right, wrong, waiting = (sum(one.ok is ok for one in outcomes) for ok in (True, False, None))
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    told = _say(
        (
            f"{len(outcomes)} examples ran on this machine ({machine}) in {seconds:.0f} s: {right} right, "
            f"{wrong} wrong, {waiting} wait for a model.",
            f"在这台机器上（{machine}）用 {seconds:.0f} 秒跑了 {len(outcomes)} 个例子：{right} 个正确，"
            f"{wrong} 个不对，{waiting} 个等待模型。",
        ),
        "p",
    )
    stopped = (
        _say(("It was interrupted: this is what was done.", "中途停止：以下是已完成的部分。"), "p", "wrong")
        if interrupted
        else ""
    )
    return (
        f"<header>{_say(('Kun 鲲: the ideas of GPT, running', 'Kun 鲲：GPT 背后的概念，逐个运行'), 'h1')}"
        '<div class="switch"><button data-to="en">English</button><button '
        'data-to="zh">中文</button></div></header>' + told + stopped
    )


def _link(idea: Idea) -> str:
    return f'<a href="#idea-{idea.number}">{idea.number} {_say(idea.title)}</a>'


def _section(idea: Idea, outcomes: Iterable[Outcome]) -> str:
    parts = [f'<section id="idea-{idea.number}"><h2>{idea.number}. {_say(idea.title)}</h2>']
    if idea.note[0]:
        parts.append(_say(idea.note, "p"))
    parts += [_picture(DRAWINGS[name]) for name in idea.drawings]
    parts += [_example(outcome) for outcome in outcomes]
    for erratum in errata():
        if erratum.idea == idea.number:
            right = _say(erratum.right)
            often = _say(("Often said:", "常见误解："), "span", "dim")
            parts.append(
                f'<div class="said">{often} <del>{_say(erratum.said)}</del><br>{right} <span class="dim '
                f'small">({escape(erratum.source)})</span></div>'
            )
    if idea.later[0]:
        parts.append(_say((f"Not here yet: {idea.later[0]}", f"尚未完成：{idea.later[1]}"), "p", "dim"))
    sources = "".join(f"<li>{escape(source)}</li>" for source in idea.sources)
    summary = _say(("Sources", "来源"))
    parts.append(f"<details><summary>{summary}</summary><ul>{sources}</ul></details></section>")
    return "\n".join(parts)


def _example(outcome: Outcome) -> str:
    mark, kind = _MARKS[outcome.ok]
    took = "" if outcome.ok is None else f'<span class="dim small">{outcome.seconds:.1f} s</span>'
    shown = outcome.shown
    parts = [
        f'<article class="example"><header><h3><span class="mark {kind}">{mark}</span> '
        f"{_say(outcome.example.name)}</h3>{took}</header>",
        _say(shown.text, "p"),
    ]
    if shown.table is not None:
        parts.append(_table(shown.table))
    if shown.picture is not None:
        parts.append(_picture(shown.picture))
    if shown.quote:
        cut = shown.quote if len(shown.quote) <= _LONGEST_QUOTE else f"{shown.quote[:_LONGEST_QUOTE]} …"
        parts.append(f"<pre>{escape(cut)}</pre>")
    return "\n".join([*parts, "</article>"])


def _table(table: Table) -> str:
    head = "".join(f"<th>{_say(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{escape(cell) if isinstance(cell, str) else _say(cell)}</td>" for cell in row)
        + "</tr>"
        for row in table.rows
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _picture(draw: Callable[[Language], str]) -> str:
    """A drawing in both languages, each inside the page; as pictures, for two drawings name their parts alike."""
    drawn = {language: draw(language) for language in LANGUAGES}
    return "".join(
        f'<img class="{language}" lang="{language}" alt="{_title(svg)}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'
        for language, svg in drawn.items()
    )


def _title(svg: str) -> str:
    """The title of a drawing, escaped as it stands in it: what a reader by ear hears of a picture."""
    found = _TITLE.search(svg)
    return found[1].replace('"', "&quot;") if found else ""


_TITLE = re.compile(r"<title>([^<]*)</title>")


def _say(label: Label, tag: str = "span", more: str = "") -> str:
    """The words of a label in both languages, of which the page shows one; once where they are the same."""
    if label[0] == label[1]:
        return (
            f'<{tag} class="{more}">{escape(label[0])}</{tag}>'
            if more
            else f"<{tag}>{escape(label[0])}</{tag}>"
        )
    return "".join(
        f'<{tag} class="{" ".join(filter(None, (language, more)))}" lang="{language}">{escape(words)}</{tag}>'
        for language, words in zip(LANGUAGES, label, strict=True)
    )
