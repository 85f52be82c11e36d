"""The page of words as vectors: neighbours, analogies with and without the query words, a picture."""

import re
from typing import TYPE_CHECKING

from nicegui import ui

from kun.errors import BadInput, NotFound
from kun.hub.catalog import catalog
from kun.server.web.frame import frame, off_loop
from kun.server.web.inside import Part, show_picture
from kun.server.web.state import Visit

if TYPE_CHECKING:
    from kun.wordvectors.pieces import Composition
    from kun.wordvectors.vectors import Near, WordVectors

_SHOWN = 8
_PIECES = 10


async def vectors() -> None:
    visit = Visit.current()
    words = visit.words
    with frame(visit, words("vectors")) as header:
        pass
    with header:
        ui.label(words("vectors")).classes("header-title")
    names = await off_loop(visit.web.service.vectors)
    with ui.element("main").classes("page inside"):
        ui.label(words("vectors_intro")).classes("intro")
        if not names:
            ui.label(words("vectors_none")).classes("note")
            return
        _neighbours(visit, names)
        _analogies(visit, names)
        _plane(visit, names)


PAGES = [("/vectors", vectors)]


def _neighbours(visit: Visit, names: list[str]) -> None:
    words = visit.words
    part = Part.begin(visit, "neighbours", words("neighbours_title"), words("neighbours_help"))
    text = part.text("国王" if _knows_chinese(visit, names[0]) else "king")
    chosen = part.choice(words("vectors_which"), names, names[0])

    async def show() -> None:
        made, near = await off_loop(_near, visit, str(chosen.value), (text.value or "").strip())
        if made:
            shown = " ".join(made.pieces[:_PIECES])
            ui.label(words("from_pieces", word=text.value, pieces=shown)).classes("note")
            if made.left_out:
                ui.label(words("pieces_left_out", pieces=" ".join(made.left_out[:_PIECES]))).classes("note")
        _list(near)

    part.button(show)


def _knows_chinese(visit: Visit, name: str) -> bool:
    """True of a Chinese page for vectors that may know its words: those of the catalog are English ones."""
    entry = catalog().get(name)
    return visit.words.language == "zh" and not (entry and entry.kind == "vectors")


def _near(visit: Visit, name: str, word: str) -> "tuple[Composition | None, Near]":
    """A word's neighbours; of one without a vector its pieces too, by which they were found and which are left out."""
    from kun.wordvectors.opening import composed

    held = visit.web.service.word_vectors(name)
    try:
        return None, held.near(word, _SHOWN)
    except NotFound as unknown:
        try:
            made = composed(held, word)
        except BadInput:
            raise unknown from None
        return made, held.near(made.vector, _SHOWN, without=made.rows)


def _analogies(visit: Visit, names: list[str]) -> None:
    words = visit.words
    part = Part.begin(visit, "analogy", words("analogy_title"), words("analogy_help"))
    text = part.text("国王 − 男人 + 女人" if _knows_chinese(visit, names[0]) else "king − man + woman")
    chosen = part.choice(words("vectors_which"), names, names[0])

    async def show() -> None:
        without, among = await off_loop(_analogy, visit, str(chosen.value), text.value or "")
        with ui.row():
            for which, near in ((words("analogy_left_out"), without), (words("analogy_among"), among)):
                with ui.column():
                    ui.label(which).classes("note")
                    _list(near)

    part.button(show)


def _analogy(visit: Visit, name: str, text: str) -> "tuple[Near, Near]":
    b, a, c = _terms(text)
    held: WordVectors = visit.web.service.word_vectors(name)
    return held.analogy(a, b, c, k=_SHOWN), held.analogy(a, b, c, exclude=False, k=_SHOWN)


def _terms(text: str) -> tuple[str, str, str]:
    """The words b, a and c of "b − a + c", by their signs. Raises `BadInput` for any other sum."""
    from kun.wordvectors.analogies import signed

    try:
        plus, minus = signed(_SIGN.sub(r" \g<0> ", text).split())
        (b, c), (a,) = plus, minus
    except (BadInput, ValueError):
        raise BadInput(f"{text[:60]!r} is no analogy of three words: write king − man + woman.") from None
    return b, a, c


_SIGN = re.compile(r"[−+]|(?<!\S)-(?=\S)")
"""A sign that needs no spaces; a hyphen between letters is a word's own."""


def _plane(visit: Visit, names: list[str]) -> None:
    words = visit.words
    part = Part.begin(visit, "plane", words("plane_title"), words("plane_help"))
    text = part.text("")
    chosen = part.choice(words("vectors_which"), names, names[0])

    async def show() -> None:
        picture = await off_loop(_picture, visit, str(chosen.value), text.value or "")
        show_picture(picture, words("plane_title"))

    part.button(show)


def _picture(visit: Visit, name: str, text: str) -> bytes:
    from kun.wordvectors.picture import draw, panel, usual_panels

    held = visit.web.service.word_vectors(name)
    groups = [tuple(part for part in group.replace("：", ":").split(":") if part) for group in text.split()]
    return draw([panel(held, groups)] if groups else usual_panels(held), "svg")


def _list(near: "Near") -> None:
    with ui.element("ol").classes("near-words"):
        for word, cosine in near:
            with ui.element("li"):
                ui.label(f"{word}  {cosine:.3f}")
