"""The parts of a Word file that its body leans on: styles, numbering, relations."""

import posixpath
import zipfile
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from kun.knowledge.read.whole import whole

_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"))
_ROMAN_SMALL = ((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
_DIGITS = "零一二三四五六七八九"
MOST_LEVELS = 9  # of an outline
_DEEPEST = 30  # styles that are based on one another


def local(element: Element) -> str:
    """The name of an element without its namespace, which the strict and the usual format write differently."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def child(element: Element | None, *path: str) -> Element | None:
    """The element at a path of names, None where there is none."""
    for name in path:
        element = next((one for one in element if local(one) == name), None) if element is not None else None
    return element


def value(element: Element | None, name: str = "val") -> str | None:
    """An attribute by its name without a namespace."""
    if element is None:
        return None
    return next((text for key, text in element.attrib.items() if key.rpartition("}")[2] == name), None)


def is_on(element: Element | None) -> bool:
    """True if a switch like `<w:b/>` is there and not turned off."""
    return element is not None and value(element) not in ("0", "false", "off", "none")


def parsed(archive: zipfile.ZipFile, path: str) -> Element | None:
    """The root of a part, None where the file has no such part or it is damaged: the rest is read all the same."""
    try:
        return ElementTree.fromstring(archive.read(path))
    except (KeyError, ElementTree.ParseError):
        return None


def relations(archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """The relations of a part: id → (kind, path in the archive); those to the outside left out."""
    folder, _, name = part.rpartition("/")
    found: dict[str, tuple[str, str]] = {}
    for relation in parsed(archive, f"{folder}/_rels/{name}.rels") or ():
        if relation.get("TargetMode") != "External":
            path = posixpath.normpath(posixpath.join("/" + folder, relation.get("Target", ""))).lstrip("/")
            found[relation.get("Id", "")] = (relation.get("Type", "").rpartition("/")[2], path)
    return found


@dataclass(frozen=True)
class Style:
    """The things of a style that matter for reading: heading level (0: none), list, hidden, table of contents."""

    level: int = 0
    list_id: str | None = None
    list_level: int = 0
    hidden: bool = False
    is_contents: bool = False
    is_title: bool = False


class Styles:
    """The styles of a document, each with what it takes from the one it is based on."""

    def __init__(self, root: Element | None) -> None:
        self._elements = (
            {value(one, "styleId"): one for one in root if local(one) == "style"} if root is not None else {}
        )
        self._known: dict[str | None, Style] = {}

    def of(self, identity: str | None, depth: int = 0) -> Style:
        """The style of an id; a plain one where there is none."""
        if identity in self._known:
            return self._known[identity]
        element = self._elements.get(identity)
        if element is None or depth > _DEEPEST:
            return Style()
        base = self.of(value(child(element, "basedOn")), depth + 1)
        name = (value(child(element, "name")) or "").lower()
        numbering = child(element, "pPr", "numPr")
        outline = whole(value(child(element, "pPr", "outlineLvl")), MOST_LEVELS)
        vanish = child(element, "rPr", "vanish")
        level = outline + 1 if outline < MOST_LEVELS else base.level
        if name in ("title", "标题"):
            level = 1
        elif name.startswith(("heading ", "标题 ")):
            level = whole(name.split()[-1], level)
        style = Style(
            level=level,
            list_id=value(child(numbering, "numId")) or base.list_id,
            list_level=whole(value(child(numbering, "ilvl")), base.list_level),
            hidden=is_on(vanish) if vanish is not None else base.hidden,
            is_contents=name.startswith("toc ") or base.is_contents,
            is_title=name in ("title", "标题"),
        )
        self._known[identity] = style
        return style


@dataclass
class _Level:
    form: str = "decimal"
    text: str = "%1."
    start: int = 1


@dataclass
class _List:
    levels: dict[int, _Level] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """The numbers and bullets that Word writes before paragraphs and that stand nowhere in their text."""

    def __init__(self, root: Element | None) -> None:
        self._lists: dict[str | None, _List] = {}
        self._restarts: dict[str | None, dict[int, int]] = {}
        kinds: dict[str | None, _List] = {}
        for element in root if root is not None else ():
            if local(element) == "abstractNum":
                kinds[value(element, "abstractNumId")] = _List(dict(map(_level, _levels(element))))
            elif local(element) == "num":
                identity = value(element, "numId")
                self._lists[identity] = kinds.get(value(child(element, "abstractNumId")), _List())
                self._restarts[identity] = {
                    whole(value(one, "ilvl"), 0): whole(start, 1)
                    for one in element
                    if (start := value(child(one, "startOverride")))
                }

    def label(self, identity: str | None, level: int) -> str | None:
        """The number of the next paragraph of a list, `-` for a bullet, None where it has none."""
        found = self._lists.get(identity)
        if found is None or identity == "0":
            return None
        for place, start in self._restarts.pop(identity, {}).items():
            found.counts[place] = start - 1
        form = found.levels.get(level, _Level())
        found.counts = {place: count for place, count in found.counts.items() if place <= level}
        for place in range(level):
            found.counts.setdefault(place, found.levels.get(place, _Level()).start)
        found.counts[level] = found.counts.get(level, form.start - 1) + 1
        if form.form == "bullet":
            return "-"
        if form.form == "none" or not form.text:
            return None
        text = form.text
        for place in range(9):
            if f"%{place + 1}" in text:
                shown = found.levels.get(place, _Level()).form
                text = text.replace(f"%{place + 1}", _counted(found.counts.get(place, 1), shown))
        return text.strip() or None


def _levels(element: Element) -> list[Element]:
    return [one for one in element if local(one) == "lvl"]


def _level(element: Element) -> tuple[int, _Level]:
    start = whole(value(child(element, "start")), 1)
    text = value(child(element, "lvlText"))
    form = value(child(element, "numFmt")) or "decimal"
    return whole(value(element, "ilvl"), 0), _Level(form, "%1." if text is None else text, start)


def _counted(count: int, form: str) -> str:
    if form in ("lowerLetter", "upperLetter"):
        letter = chr(97 + (count - 1) % 26) * (1 + (count - 1) // 26)
        return letter if form == "lowerLetter" else letter.upper()
    if form in ("lowerRoman", "upperRoman"):
        roman = ""
        for size, letters in (*_ROMAN, *_ROMAN_SMALL):
            roman += letters * (count // size)
            count %= size
        return roman if form == "lowerRoman" else roman.upper()
    if form.startswith(("chinese", "japaneseCounting", "taiwanese", "ideographDigital")) and 0 < count < 100:
        tens, ones = divmod(count, 10)
        lead = "" if not tens else "十" if tens == 1 else _DIGITS[tens] + "十"
        return lead + (_DIGITS[ones] if ones or not tens else "")
    return f"{count:02}" if form == "decimalZero" else str(count)
