"""README's table of what works, made from the ideas: `python -m kun.tour.table README.md README.zh-CN.md`."""

import re
import sys
from pathlib import Path

from kun.tour.drawings.canvas import Label, Language
from kun.tour.example import Idea
from kun.tour.seventeen import IDEAS

_HEADS: dict[Language, str] = {
    "en": "| § | idea | see it | what comes out |\n|---|---|---|---|",
    "zh": "| § | 概念 | 怎样看 | 看到什么 |\n|---|---|---|---|",
}
_LATER: Label = ("Not yet: ", "尚未完成：")
_BETWEEN: Label = ("; ", "；")
_BEGIN = re.compile(r"^\| § \|", re.MULTILINE)


def readme_table(language: Language) -> str:
    """The table in one language, and one line below it of what is not there yet."""
    side = 0 if language == "en" else 1
    rows = [
        f"| {idea.number} | {idea.title[side]} | `kun tour --only "
        f"{idea.number}`{_BETWEEN[side]}{idea.see[side]} | {idea.comes[side]} |"
        for idea in IDEAS
    ]
    return "\n".join([_HEADS[language], *rows, "", _later(side)])


def _later(side: int) -> str:
    missing = [_missing(idea, side) for idea in IDEAS if idea.later[side]]
    return f"{_LATER[side]}{_BETWEEN[side].join(missing)}{'.。'[side]}"


def _missing(idea: Idea, side: int) -> str:
    words = idea.later[side].rstrip(".。")
    if side == 1:
        return f"{words}（§ {idea.number}）"
    name = words[1].isupper()  # of an abbreviation
    return f"{words if name else words[0].lower() + words[1:]} (§ {idea.number})"


def with_table(page: str, language: Language) -> str:
    """`page` with its table and the line below it made anew. Raises `ValueError` for a page without a table."""
    begin = _BEGIN.search(page)
    if begin is None:
        raise ValueError("The page has no table that begins with | § |.")
    end = page.index("\n\n", page.index(_LATER[0 if language == "en" else 1], begin.start()))
    return page[: begin.start()] + readme_table(language) + page[end:]


def main() -> None:
    """Write the tables into the pages that are named; those with zh in the name are Chinese."""
    for name in sys.argv[1:]:
        path = Path(name)
        language: Language = "zh" if "zh" in path.name else "en"
        path.write_text(
            with_table(path.read_text(encoding="utf-8"), language), encoding="utf-8", newline="\n"
        )


if __name__ == "__main__":
    main()
