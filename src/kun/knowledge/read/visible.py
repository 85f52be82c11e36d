"""The visible part of a web page: the parts that no screen shows are taken out of its tree."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_NEVER_SHOWN = (
    "head script style template noscript iframe object embed applet audio video canvas svg"
    " button select option datalist textarea input map area param source track".split()
)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_COMPOUND = re.compile(r"(?P<tag>[a-zA-Z][\w-]*|\*)?(?P<rest>(?:[.#][\w-]+)*)\Z")
_MOST_RULES = 300
_HIDING = re.compile(
    r"(?:^|;)\s*(?:color\s*:\s*transparent|display\s*:\s*none(?![\w-])|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0?\.?0*\s*(?:!|;|$)"
    r"|font-size\s*:\s*(?:0|[0-2](?:\.\d+)?(?:px|pt))\s*(?:!|;|$)|text-indent\s*:\s*-\d{3,}|(?:left|top)\s*:\s*-\d{4,}"
    r"|clip\s*:\s*rect\(\s*0|clip-path\s*:\s*inset\(\s*(?:50|100)%)",
    re.IGNORECASE,
)
_DECLARED = re.compile(r"(?:^|;)\s*(color|background(?:-color)?)\s*:\s*([^;!]+)", re.IGNORECASE)
_RGB = re.compile(r"rgba?\(\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)(?:[\s,/]+([\d.]+%?))?")
_WHITE = (255, 255, 255)
_NAMES = {"white": _WHITE, "black": (0, 0, 0), "snow": (255, 250, 250), "ivory": (255, 255, 240)}
_CLEAR = 24  # colours nearer than this in each channel are one colour to the eye


@dataclass(frozen=True)
class _Rule:
    """The compound selectors of one rule, the last one the element's own, and what it declares."""

    compounds: tuple[tuple[str, frozenset[str], str], ...]
    declared: str


def drop_unseen(root: "HtmlElement") -> None:
    """Take out comments, scripts, forms' fields, and what is hidden by attribute, style, size or colour."""
    from lxml import etree

    rules = list(_rules(root))
    # a style sheet elsewhere may make the paper dark: then only what declares both is known
    paper = None if root.xpath("//link[contains(@rel, 'stylesheet')]") else _WHITE
    for element in list(root.iter(etree.Comment, etree.ProcessingInstruction, *_NEVER_SHOWN)):
        if element is not root:
            _drop(element)
    styles = {element: _style(element, rules) for element in root.iter(etree.Element)}
    backgrounds: dict[HtmlElement, tuple[int, int, int] | None] = {}
    inks: dict[HtmlElement, tuple[int, int, int] | None] = {}
    for element in list(root.iter(etree.Element)):
        parent = element.getparent()
        style = styles.get(element, "")
        background = _colour(style, "background") or _named(element.get("bgcolor"))
        picture = "url(" in style or element.get("background")
        backgrounds[element] = None if picture else (background or backgrounds.get(parent, paper))
        inks[element] = _colour(style, "color") or _named(element.get("color")) or inks.get(parent)
        if element.tag in {"html", "body"}:  # white ink for all: the paper is dark
            backgrounds[element] = (
                None if _same(inks[element], backgrounds[element]) else backgrounds[element]
            )
            continue
        if element.get("hidden") is not None or _HIDING.search(style):
            _drop(element)
        elif _same(inks[element], backgrounds[element]):
            element.text = (
                None  # elements inside are looked at by themselves: they may have an ink of their own
            )
            for child in element:
                child.tail = None


def _drop(element: "HtmlElement") -> None:
    if element.getparent() is not None:
        element.drop_tree()


def _rules(root: "HtmlElement") -> Iterator[_Rule]:
    """The rules of the page's style sheets that hide or colour; those for print and for small screens are not."""
    count = 0
    for sheet in root.iter("style"):
        for match in _RULE.finditer(_of_the_screen(_COMMENT.sub("", sheet.text or ""))):
            if not (_HIDING.search(match[2]) or _DECLARED.search(match[2])):
                continue
            for selector in match[1].split(","):
                compounds = tuple(_compounds(selector.strip()))
                if compounds:
                    count += 1
                    if count > _MOST_RULES:
                        return
                    yield _Rule(compounds, match[2])


def _of_the_screen(sheet: str) -> str:
    """A style sheet without the blocks of its `@` rules."""
    parts, at = [], 0
    for match in re.finditer(r"@[\w-]+[^;{}]*", sheet):
        if match.start() < at:
            continue
        parts.append(sheet[at : match.start()])
        at = match.end()
        if sheet[at : at + 1] == "{":
            depth = 0
            while at < len(sheet):
                depth += {"{": 1, "}": -1}.get(sheet[at], 0)
                at += 1
                if depth == 0:
                    break
    return "".join([*parts, sheet[at:]])


def _compounds(selector: str) -> Iterator[tuple[str, frozenset[str], str]]:
    """(tag, classes, id) of each part of a selector of tags, classes and ids; nothing for other selectors."""
    found = []
    for part in selector.replace(">", " ").split():
        match = _COMPOUND.match(part)
        if not match or not part:
            return
        names = re.findall(r"[.#][\w-]+", match["rest"])
        classes = frozenset(name[1:] for name in names if name[0] == ".")
        identity = next((name[1:] for name in names if name[0] == "#"), "")
        found.append(((match["tag"] or "*").lower(), classes, identity))
    yield from found


def _style(element: "HtmlElement", rules: list[_Rule]) -> str:
    """All that is declared for an element, its own style last."""
    declared = [rule.declared for rule in rules if _applies(rule, element)] if rules else []
    return ";".join([*declared, element.get("style") or ""])


def _applies(rule: _Rule, element: "HtmlElement") -> bool:
    if not _is(element, rule.compounds[-1]):
        return False
    above = list(rule.compounds[:-1])
    for ancestor in element.iterancestors() if above else ():
        if above and _is(ancestor, above[-1]):
            above.pop()
    return not above


def _is(element: "HtmlElement", compound: tuple[str, frozenset[str], str]) -> bool:
    tag, classes, identity = compound
    return (
        tag in {"*", element.tag}
        and (not identity or element.get("id") == identity)
        and (not classes or classes <= set((element.get("class") or "").split()))
    )


def _colour(style: str, which: str) -> tuple[int, int, int] | None:
    """The last colour that is declared for the ink or the paper."""
    found = None
    for match in _DECLARED.finditer(style):
        if match[1].lower().startswith(which):
            found = _named(match[2]) or found
    return found


def _named(value: str | None) -> tuple[int, int, int] | None:
    value = (value or "").strip().lower()
    if match := _RGB.match(value):
        return int(match[1]), int(match[2]), int(match[3])
    digits = value[1:] if value.startswith("#") else ""
    if re.fullmatch(r"[0-9a-f]{3}", digits):
        return int(digits[0] * 2, 16), int(digits[1] * 2, 16), int(digits[2] * 2, 16)
    if re.fullmatch(r"[0-9a-f]{6}", digits):
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    return _NAMES.get(value.split(" ")[0])


def _same(ink: tuple[int, int, int] | None, paper: tuple[int, int, int] | None) -> bool:
    if ink is None or paper is None:
        return False
    return all(abs(one - other) < _CLEAR for one, other in zip(ink, paper, strict=True))
