"""Invented documents, in English and Chinese, and questions about them whose right answers are known.

What a document says is drawn by chance from worlds.toml: values, the way they are put, the shape of the page. Rows
and columns are near misses of one another, and so are the documents of a world. A question may be in the other
language than its document, lean on the one before, or have no answer there.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tomllib import loads

LANGUAGES = ("en", "zh")
WORDS = loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

ACROSS = 0.2
"""Share of questions that are in the other language than their document."""
SILENT = 0.08
"""Share of questions that the documents do not answer."""
LEANING = 0.5
"""Share of the questions that can lean on another one and do."""
BOUND = 0.5
"""Share of scenes that are bound into one document with others."""
DOCUMENTS = (3, 7)
QUESTIONS = (4, 10)

Value = tuple[str, str]
"""A thing in English and in Chinese."""
Pairs = tuple[tuple[str, str], tuple[str, str]]
"""Question and answer in English, and in Chinese."""


@dataclass(frozen=True)
class Asked:
    """A question in one language, and in both with its right answer, which is "" where the documents do not say.

    A follow-up is asked in the words of `leaning`, after the question and the answer `before`.
    """

    kind: str
    language: str
    english: tuple[str, str]
    chinese: tuple[str, str]
    leaning: str = ""
    before: tuple[str, str] | None = None

    def in_language(self, language: str) -> tuple[str, str]:
        return self.english if language == "en" else self.chinese

    @property
    def whole(self) -> str:
        """The question as it can be understood by itself."""
        return self.in_language(self.language)[0]


@dataclass(frozen=True)
class Document:
    """A file, what can be asked about it, and its pattern and subject, of which a world has one each."""

    name: str
    text: str
    asked: Sequence[Asked]
    pattern: str
    about: Value = ("", "")


def spun(text: str, rng: Random) -> str:
    """`text` with one part of each [this|that] by chance."""
    while (found := re.search(r"\[([^\[\]|]*(?:\|[^\[\]|]*)+)\]", text)) is not None:
        text = text[: found.start()] + rng.choice(found[1].split("|")) + text[found.end() :]
    return text


def spun_alike(texts: Sequence[str], rng: Random) -> list[str]:
    """Texts with the same part of each choice, so that what is worded in two languages is a translation."""
    seed = rng.random()
    return [spun(text, Random(seed)) for text in texts]


def polished(text: str, language: str, tight: bool = False) -> str:
    """A capital first in English; in Chinese spaces around digits and letters, or none around digits if `tight`."""
    if language == "en":
        return text[:1].upper() + text[1:]
    text = re.sub(r"(?<=[\u4e00-\u9fff])(?=[\dA-Z])|(?<=[\da-zC%])(?=[\u4e00-\u9fff])", " ", text)
    return re.sub(r"(?<=[\u4e00-\u9fff]) (?=\d)|(?<=\d) (?=[\u4e00-\u9fff])", "", text) if tight else text


def drawn(kind: str, language: str, rng: Random) -> Value:
    """A value of a kind; people have one name in both languages, at home in that of the document."""
    name, *numbers = kind.split()
    hours = {"time": (7, 21), "morning": (7, 10), "evening": (16, 18), "night": (20, 22)}
    if name == "date":
        (english, chinese), day = drawn("month", language, rng), rng.randint(1, 28)
        return f"{day} {english}", f"{chinese} {day} 日"
    if name in WORDS["pools"]:
        english, chinese = rng.choice(WORDS["pools"][name])
        return english, chinese
    if name == "person":
        text = rng.choice(WORDS["people"][language])
    elif name == "code":
        text = f"{rng.choice('BDHKNRTW')}-{rng.randint(100, 999)}"
    elif name in hours:
        text = f"{rng.randint(*hours[name]):02}:{rng.choice(('00', '15', '30', '40', '45'))}"
    else:  # a count from so many to so many, or so many tens
        low, high = map(int, numbers)
        text = str(rng.randint(low, high) * (10 if name == "tens" else 1))
    return text, text


def different(kind: str, language: str, count: int, rng: Random) -> list[Value]:
    """Values of a kind, no two alike."""
    found: dict[Value, None] = {}
    while len(found) < count:
        found[drawn(kind, language, rng)] = None
    return list(found)


def tongue(language: str, rng: Random) -> str:
    """The language of a question about a document in `language`."""
    other = next(one for one in LANGUAGES if one != language)
    return other if rng.random() < ACROSS else language


def scene(language: str, rng: Random) -> Document:
    """A page of text."""
    given = rng.choice(WORDS["scenes"])
    side = LANGUAGES.index(language)
    counts = Counter(given["slots"].values())
    stock = {kind: different(kind, language, count, rng) for kind, count in counts.items()}
    values = {name: stock[kind].pop() for name, kind in given["slots"].items()}

    def worded(text: str, spoken: str, tight: bool = False) -> str:
        said = {name: value[LANGUAGES.index(spoken)] for name, value in values.items()}
        return polished(spun(text, rng).format(**said), spoken, tight)

    def both(wordings: Sequence[str]) -> Pairs:
        texts = spun_alike(wordings, rng)
        english, chinese = (
            [worded(text, spoken) for text in texts[at : at + 2]] for at, spoken in ((0, "en"), (2, "zh"))
        )
        return (english[0], english[1]), (chinese[0], chinese[1])

    def asked(wordings: Sequence[str]) -> Asked:
        spoken, (english, chinese) = tongue(language, rng), both(wordings)
        if len(wordings) == 4 or rng.random() > LEANING:
            return Asked(given["kind"], spoken, english, chinese)
        other = next(one for one in given["asks"] if one is not wordings)
        at = LANGUAGES.index(spoken)
        return Asked("follow-up", spoken, english, chinese, worded(wordings[4 + at], spoken), both(other)[at])

    def silent(wordings: Sequence[str]) -> Asked:
        english, chinese = map(worded, spun_alike(wordings, rng), LANGUAGES)
        return Asked("silent", tongue(language, rng), (english, ""), (chinese, ""))

    text = worded(given["text"][side], language, tight=rng.random() < 0.5).strip() + "\n"
    every = [*map(asked, given["asks"]), *map(silent, given.get("silent", []))]
    about = next(iter(values.values()))
    return Document(f"{worded(given['name'][side], language)}.md", text, every, given["kind"], about)


def table(language: str, rng: Random) -> Document:
    """A table: asked for a cell, two cells of a row, the same of the next row, and for a row that it lacks."""
    given = rng.choice(WORDS["tables"])
    side = LANGUAGES.index(language)
    *rows, missing = different(given["key"][2], language, rng.randint(5, 9), rng)
    columns = rng.sample(given["columns"], rng.randint(2, len(given["columns"])))
    cells = {row: [drawn(column[2], language, rng) for column in columns] for row in (*rows, missing)}
    heads = [given["key"][side], *(column[side] for column in columns)]
    lines = [[row[side], *(cell[side] for cell in cells[row])] for row in rows]

    def of_cell(row: Value, place: int, wordings: Sequence[str]) -> Pairs:
        """The question and the answer about a cell in both languages."""
        english, chinese = (
            [polished(text.format(row=row[at], cell=cells[row][place][at]), LANGUAGES[at]) for text in pair]
            for at, pair in enumerate((wordings[:2], wordings[2:]))
        )
        return (english[0], english[1]), (chinese[0], chinese[1])

    def of_two(row: Value, *places: int) -> Iterator[tuple[str, str]]:
        wordings = spun_alike(WORDS["two_cells"], rng)
        for at in range(len(LANGUAGES)):
            (a, a_unit), (b, b_unit) = (_head(columns[place][at]) for place in places)
            x, y = (cells[row][place][at] for place in places)
            said = {
                "row": row[at],
                "a": a,
                "b": b,
                "x": f"{x} {a_unit}".strip(),
                "y": f"{y} {b_unit}".strip(),
            }
            question, answer = (
                polished(one.format(**said), LANGUAGES[at]) for one in wordings[2 * at : 2 * at + 2]
            )
            yield question, answer

    def asked(row: Value, other: Value, place: int) -> Iterator[Asked]:
        spoken = tongue(language, rng)
        at = LANGUAGES.index(spoken)
        wordings = spun_alike(columns[place][3:], rng)
        yield Asked("cell", spoken, *of_cell(row, place, wordings))
        leaning = polished(spun(given["leaning"][at], rng).format(row[at]), spoken)
        before = of_cell(other, place, wordings)[at]
        yield Asked("follow-up", spoken, *of_cell(row, place, wordings), leaning, before)
        (english, _), (chinese, _) = of_cell(missing, place, wordings)
        yield Asked("silent", spoken, (english, ""), (chinese, ""))
        second = rng.choice([one for one in range(len(columns)) if one != place])
        yield Asked("two cells", spoken, *of_two(row, place, second))

    every = [
        one
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
        for place in range(len(columns))
        for one in asked(row, other, place)
    ]
    name = given["name"][side]
    if rng.random() < 0.5:
        text = "".join(f"{','.join(line)}\n" for line in (heads, *lines))
        return Document(f"{name}.csv", text, every, given["name"][0])
    ruled = [heads, ["---"] * len(heads), *lines]
    text = f"# {name}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in ruled)
    return Document(f"{name}.md", text, every, given["name"][0])


def _head(column: str) -> tuple[str, str]:
    """The name of a column and its unit: "Deposit (euros)"."""
    name, unit = re.fullmatch(r"(.*?)(?:\s*[(（](.*)[)）])?", column).groups("")  # type: ignore[union-attr]
    return name.lower(), unit


def ranges(language: str, rng: Random) -> Document:
    """Three bands of a number: asked for the value at a number, the ends of a band among them."""
    given = rng.choice(WORDS["ranges"])
    side = LANGUAGES.index(language)
    first, second, kind = given["numbers"]
    low, high = first + rng.randint(0, 2), second + rng.randint(0, 4)
    bands = [(1, low), (low + 1, high), (high + 1, high + 9)]
    values = sorted(int(value) for value, _ in different(kind, language, 3, rng))
    wordings = given["bands"][side::2]
    lines = [
        wording.format(low=bottom, high=top, before=bottom - 1, value=value)
        for wording, (bottom, top), value in zip(wordings, bands, values, strict=True)
    ]

    def asked(number: int, value: int) -> Asked:
        texts = [text.format(n=number, value=value) for text in spun_alike(given["asks"], rng)]
        return Asked("range", tongue(language, rng), (texts[0], texts[1]), (texts[2], texts[3]))

    every = [
        asked(number, value)
        for (bottom, top), value in zip(bands, values, strict=True)
        for number in range(max(2, bottom), top + 1)
    ]
    lead, name = spun(given["lead"][side], rng), given["name"][side]
    joined = "; ".join(lines) + "." if language == "en" else "；".join(lines) + "。"
    body = "".join(f"\n- {line}" for line in lines) if rng.random() < 0.5 else f" {joined}"
    text = polished(f"{lead}{body}", language, tight=rng.random() < 0.5)
    return Document(f"{name}.md", f"# {name}\n\n{text}\n", every, given["name"][0])


MAKERS: Sequence[Callable[[str, Random], Document]] = (scene, scene, scene, table, ranges)


def world(rng: Random) -> list[Document]:
    """Documents of which no two answer the same question; some scenes of a language are one document."""
    count = rng.randint(*DOCUMENTS)
    found: list[Document] = []
    while len(found) < count:
        new = rng.choice(MAKERS)(rng.choice(LANGUAGES), rng)
        if not any(_clash(new, old) for old in found):
            found.append(new)
    return [*_bound(found, rng)]


def _clash(one: Document, other: Document) -> bool:
    if one.pattern == other.pattern:
        return True
    pairs = ((one, other), (other, one))
    return any(subject and subject in of.text for by, of in pairs for subject in by.about)


def _bound(documents: Sequence[Document], rng: Random) -> Iterator[Document]:
    for language, title in zip(LANGUAGES, WORDS["bound"], strict=True):
        pages = [one for one in documents if one.about[0] and _is_in(one, language)]
        bound = pages if rng.random() < BOUND and len(pages) > 1 else []
        yield from (one for one in documents if _is_in(one, language) and one not in bound)
        if bound:
            text = "\n".join(one.text.replace("# ", "## ") for one in bound)
            every = [asked for one in bound for asked in one.asked]
            yield Document(f"{title}.md", f"# {title}\n\n{text}", every, title)


def _is_in(document: Document, language: str) -> bool:
    return bool(re.search(r"[\u4e00-\u9fff]{2}", document.name)) == (language == "zh")


def questions(documents: Sequence[Document], rng: Random) -> list[Asked]:
    """Questions about documents, each kind as likely as the next, those without an answer in their share."""
    every = [one for document in documents for one in document.asked]
    silent = [one for one in every if one.kind == "silent"]
    kinds = sorted({one.kind for one in every} - {"silent"})
    found: dict[Asked, None] = {}
    for _ in range(rng.randint(*QUESTIONS)):
        kind = rng.choice(kinds)
        among = [one for one in every if one.kind == kind]
        found[rng.choice(silent if silent and rng.random() < SILENT else among)] = None
    return list(found)
