"""The page that looks inside: how a text is cut, who looks at whom, where positions lie, what comes next."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nicegui import ui

from kun.server.web.frame import frame, main_button, off_loop, say_kindly
from kun.server.web.state import Visit

if TYPE_CHECKING:
    from kun.inspection.tokens import Cutting

_LONGEST = 2000


async def inside() -> None:
    visit = Visit.current()
    words = visit.words
    with frame(visit, words("inside")) as header:
        pass
    with header:
        ui.label(words("inside")).classes("header-title")
    readable = await off_loop(visit.web.service.readable)
    decoders, encoders = (
        [model.name for model in readable if model.kind == kind] for kind in ("decoder", "encoder")
    )
    everything, one_of_each = [*decoders, *encoders], [*decoders[:1], *encoders[:1]]
    with ui.element("main").classes("page inside"):
        ui.label(words("inside_intro")).classes("intro")
        _tokens(visit, everything, one_of_each)
        _attention(visit, everything, one_of_each)
        _next_words(visit, decoders)
        await _positions(visit)


PAGES = [("/inside", inside)]


@dataclass
class Part:
    """One section: its fields, the button that runs `show`, and the place for what it shows."""

    visit: Visit
    key: str
    fields: ui.row
    result: ui.element

    @classmethod
    def begin(cls, visit: Visit, key: str, title: str, explained: str) -> "Part":
        with ui.element("section").classes("panel").props(f'id="{key}"'):
            ui.label(title).classes("section-title")
            ui.label(explained).classes("note")
            fields = ui.row().classes("inside-fields")
            result = ui.element("div").classes("inside-result").props('aria-live="polite"')
        return cls(visit, key, fields, result)

    def button(self, show: Callable[[], Awaitable[None]]) -> None:
        @say_kindly
        async def run() -> None:
            button.props("loading")
            try:
                self.result.clear()
                with self.result:
                    await show()
            finally:
                button.props(remove="loading")

        with self.fields:
            button = main_button(self.visit.words("show"), run, "visibility").classes("show")

    def text(self, value: str) -> ui.input:
        with self.fields:
            field = ui.input(self.visit.words("text"), value=value).props(
                f"outlined dense maxlength={_LONGEST}"
            )
        return field.classes("inside-text")

    def choice(
        self, label: str, options: list[str], value: list[str] | str | None, multiple: bool = False
    ) -> ui.select:
        with self.fields:
            field = ui.select(options, label=label, value=value, multiple=multiple)
        return field.props("outlined dense options-dense").classes("inside-choice")

    def number(self, label: str) -> ui.number:
        with self.fields:
            field = ui.number(label, min=0, precision=0).props("outlined dense clearable")
        return field.classes("inside-number")


def _tokens(visit: Visit, models: list[str], first: list[str]) -> None:
    words = visit.words
    part = Part.begin(visit, "tokens", words("tokens_title"), words("tokens_help"))
    text = part.text("lowering 北冥有鱼")
    chosen = part.choice(words("models"), models, first, multiple=True)

    async def show() -> None:
        for cutting in await off_loop(_cuttings, visit, text.value or "", chosen.value):
            counts = visit.words("pieces", n=len(cutting.pieces), rate=f"{cutting.bytes_per_token:.1f}")
            ui.label(f"{cutting.tokenizer}: {counts}").classes("note")
            _show_pieces(cutting)

    part.button(show)


def _cuttings(visit: Visit, text: str, names: Sequence[str]) -> "list[Cutting]":
    from kun.inspection.tokens import cut_tokens

    return [cut_tokens(text[:_LONGEST], visit.web.service.tokenizer(name), name) for name in names]


def _show_pieces(cutting: "Cutting") -> None:
    from kun.inspection.picture import PALETTE, shown

    with ui.element("div").classes("pieces"):
        for number, piece in enumerate(cutting.pieces):
            with (
                ui.element("span")
                .classes("piece")
                .style(f"background: {PALETTE[number % len(PALETTE)]}") as box
            ):
                ui.label(shown(piece.bytes)).classes("piece-text")
                ui.label(str(piece.id)).classes("piece-id")
            box.props["title"] = piece.bytes.hex(" ")


def _attention(visit: Visit, models: list[str], first: list[str]) -> None:
    words = visit.words
    part = Part.begin(visit, "attention", words("attention_title"), words("attention_help"))
    text = part.text("I love my dog.")
    chosen = part.choice(words("models"), models, first, multiple=True)
    layer, head = part.number(words("layer")), part.number(words("head"))
    with part.fields:
        word = (
            ui.input(visit.words("word"))
            .props("outlined dense clearable maxlength=60")
            .classes("inside-number")
        )

    async def show() -> None:
        picture = await off_loop(
            _attention_picture, visit, text.value or "", chosen.value, _whole(layer), _whole(head), word.value
        )
        show_picture(picture, visit.words("attention_title"))

    part.button(show)


def _attention_picture(
    visit: Visit, text: str, names: Sequence[str], layer: int | None, head: int | None, word: str | None
) -> bytes:
    from kun.inspection import picture
    from kun.inspection.attention import looks
    from kun.inspection.moves import steps_of

    seen = [look for name in names for look in looks(visit.web.service.opened(name), text[:_LONGEST])]
    if not word:
        return picture.attention(seen, layer, head, "svg")
    found = steps_of(seen, word.strip(), layer, head)
    return picture.steps([look for look, _ in found], [steps for _, steps in found], "svg")


def _next_words(visit: Visit, models: list[str]) -> None:
    words = visit.words
    part = Part.begin(visit, "next", words("next_title"), words("next_help"))
    text = part.text("The capital of France is")
    chosen = part.choice(words("model"), models, models[0] if models else None)

    async def show() -> None:
        picture = await off_loop(_next_picture, visit, text.value or "", chosen.value)
        show_picture(picture, visit.words("next_title"))

    part.button(show)


def _next_picture(visit: Visit, text: str, name: str) -> bytes:
    from kun.inspection import picture
    from kun.inspection.logits import next_words

    return picture.next_words(next_words(visit.web.service.opened(name), text[:_LONGEST]), "svg")


async def _positions(visit: Visit) -> None:
    words = visit.words
    part = Part.begin(visit, "positions", words("positions_title"), words("positions_help"))
    picture = await off_loop(_positions_picture)
    with part.result:
        show_picture(picture, visit.words("positions_title"))


def _positions_picture() -> bytes:
    from kun.inspection import picture
    from kun.inspection.positions import KINDS, places

    return picture.positions([places(kind) for kind in KINDS if kind != "learned"], "svg")


def show_picture(svg: bytes, name: str) -> None:
    """As an image of its own, in which no script runs."""
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    ui.element("img").classes("inside-picture").props(f'src="{source}" alt="{name}"')


def _whole(field: ui.number) -> int | None:
    return None if field.value is None else int(field.value)
