"""The structure of a text: blocks (headings, paragraphs, rows, code) that a passage should not cut through."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kun.knowledge.rows import TextKind


@dataclass(frozen=True)
class Block:
    """`[start, end)` of a text, the headings above it, its page (from 1, 0 for none), and whether it is a heading."""

    start: int
    end: int
    heading: str
    page: int
    is_heading: bool = False


@dataclass(frozen=True)
class _Line:
    start: int
    end: int
    level: int = 0  # of a heading, from 1
    title: str = ""
    begins: bool = False  # a block begins here


_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*\n?\Z")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*\n?\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?:.*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_ITEM = re.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)])[ \t]")
_TABLE_RULE = re.compile(r" {0,3}\|?[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\n?\Z")
_CHAPTER = re.compile(
    r"[ \t　]*(第[0-9一二三四五六七八九十百千零〇两]{1,8}([卷编篇部]|[章回]|[节])(?:[ 　:：].{0,60})?)[ \t]*\n?\Z"
)
_CHAPTER_LEVELS = {"章": 2, "回": 2, "节": 3}
_DEFINITION = re.compile(
    r"(?:    |\t)?(?:(?:export|default|public|private|protected|internal|static|final|abstract|virtual|override"
    r"|async|unsafe|pub(?:\([a-z]+\))?|extern|inline|const|open|data|sealed)[ \t]+)*"
    r"(?:def|class|function\*?|func|fn|interface|struct|enum|impl|trait|type|module|namespace|object|sub)"
    r"[ \t]+(?:\([^)]{0,80}\)[ \t]*)?(?P<name>[\w.:$]+)"
    r"|(?:[A-Za-z_][\w:<>,*&]*[ \t*&]+){1,6}(?P<function>~?[A-Za-z_][\w:]*)\([^;=]{0,400}\n?\Z"
)
_BEFORE_DEFINITION = re.compile(r"[ \t]*(?:@|#|//|/\*|\*|--)")
_MAX_LINE = 2_000  # characters of a line that are looked at for what it is
_MAX_HEADING = 160
_MAX_FRONT_MATTER = 10_000


def blocks(text: str, kind: TextKind, pages: Sequence[int] = ()) -> Iterator[Block]:
    """The blocks of `text` in order; together they hold all of it. `pages` are the places where pages begin.

    A block never crosses the beginning of a page.
    """
    lines = list(_LINES[kind](text))
    boundaries = sorted({0, len(text), *pages, *(line.start for line in lines if line.begins)})
    titles = {line.start: line for line in lines if line.level}
    path: list[tuple[int, str]] = []
    for start, end in pairwise(boundaries):
        line = titles.get(start)
        if line:
            path = [(level, title) for level, title in path if level < line.level]
            path.append((line.level, line.title))
        is_heading = (
            line is not None and kind != "code"
        )  # a definition is not the heading of its own lines only
        yield Block(start, end, _heading(path), bisect_right(pages, start), is_heading)


def _heading(path: list[tuple[int, str]]) -> str:
    """The path of headings, the last ones where not all have room."""
    titles = [title[:_MAX_HEADING] for _, title in path if title]
    while len(titles) > 1 and sum(map(len, titles)) > _MAX_HEADING:
        titles.pop(0)
    return " > ".join(titles)


def _plain(text: str) -> Iterator[_Line]:
    """Paragraphs, which begin after an empty line, and the headings of Chinese books (第三章)."""
    after_space = True
    for match in _LINE.finditer(text):
        line, start, end = text[match.start() : match.end()][:_MAX_LINE], match.start(), match.end()
        chapter = _CHAPTER.match(line)
        if chapter:
            yield _Line(start, end, _CHAPTER_LEVELS.get(chapter[2], 1), chapter[1].strip(), begins=True)
        else:
            yield _Line(start, end, begins=after_space and not line.isspace())
        after_space = line.isspace() or chapter is not None


def _rows(text: str) -> Iterator[_Line]:
    """Every line is a row, and may be cut from the next; `## name` begins another sheet.

    A line of names stays with the row below it.
    """
    after_names = False
    for match in _LINE.finditer(text):
        line = match.group()[:_MAX_LINE]
        title = _ATX.match(line)
        level = len(title[1]) if title else 0
        yield _Line(
            match.start(),
            match.end(),
            level,
            _clean(title[2]) if title else "",
            begins=not after_names or level > 0,
        )
        after_names = level == 0 and "; " in line and ": " not in line


def _markdown(text: str) -> Iterator[_Line]:
    """Headings of both kinds, paragraphs, list items, rows of tables; fenced code stays one block, and so do a
    table's names with its first row."""
    fence, after_space, after_rule = "", True, False
    before: _Line | None = None
    front = _FRONT_MATTER.match(text, 0, _MAX_FRONT_MATTER)
    if front:
        yield _Line(0, front.end(), begins=True)
    for match in _LINE.finditer(text, front.end() if front else 0):
        start, end = match.span()
        line = text[start : min(end, start + _MAX_LINE)]
        opened = _FENCE.match(line)
        begins, level, title = after_space and not line.isspace(), 0, ""
        if fence:
            begins = False
            if opened and opened[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif opened:
            fence, begins = opened[1], True
        elif heading := _ATX.match(line):
            begins, level, title = True, len(heading[1]), _clean(heading[2])
        elif before and _is_title(text, before) and (underline := _SETEXT.match(line)):
            yield _Line(
                before.start,
                before.end,
                1 if underline[1][0] == "=" else 2,
                _title(text, before),
                begins=True,
            )
            begins = False
        elif _ITEM.match(line) or line.startswith("|"):
            is_rule = line.startswith("|") and _TABLE_RULE.match(line) is not None
            begins, after_rule = not (is_rule or after_rule), is_rule
        current = _Line(start, end, level, title, begins)
        after_space = not fence and (line.isspace() or level > 0)
        yield current
        before = current if begins and not level else None


def _is_title(text: str, line: _Line) -> bool:
    """True if a line that began a paragraph can be the heading that an underline makes of it."""
    words = text[line.start : line.end].strip()
    return 0 < len(words) <= _MAX_HEADING and not words.startswith(("|", "-", "*", "+", ">", "```"))


def _title(text: str, line: _Line) -> str:
    return _clean(text[line.start : line.end])


def _clean(title: str) -> str:
    """A heading without its Markdown: links' text kept, emphasis dropped."""
    title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return re.sub(r"[*_`]+", "", title).strip()


def _code(text: str) -> Iterator[_Line]:
    """Functions and classes, with the comments and decorators above them; else paragraphs of code."""
    lines = [_Line(*match.span()) for match in _LINE.finditer(text)]
    shown = [text[line.start : min(line.end, line.start + _MAX_LINE)] for line in lines]
    starts: dict[int, str] = {}
    for number, words in enumerate(shown):
        match = _DEFINITION.match(words)
        if match and not words.lstrip().startswith(("return ", "else ", "new ", "throw ")):
            starts[_first_of(shown, number)] = (match["name"] or match["function"]).strip(":")
    for number, line in enumerate(lines):
        title = starts.get(number, "")
        nested = shown[number][:1] in {" ", "\t"}
        after_space = number > 0 and shown[number - 1].isspace() and not shown[number].isspace()
        yield _Line(
            line.start, line.end, (2 if nested else 1) if title else 0, title, bool(title) or after_space
        )


def _first_of(lines: list[str], number: int) -> int:
    """The first of the comment and decorator lines right above a definition."""
    indent = len(lines[number]) - len(lines[number].lstrip())
    while number > 0:
        above = lines[number - 1]
        if len(above) - len(above.lstrip()) != indent or not _BEFORE_DEFINITION.match(above):
            break
        number -= 1
    return number


_LINES = {"text": _plain, "markdown": _markdown, "code": _code, "rows": _rows}
