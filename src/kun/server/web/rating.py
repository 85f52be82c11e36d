"""The page where people rank answers: by keys, by dragging or by buttons, the next ones at once."""

import functools

from nicegui import ui
from nicegui.events import GenericEventArguments, ValueChangeEventArguments

from kun.alignment.feedback.ballot import Action, Ballot
from kun.alignment.feedback.votes import FLAGS, Flag
from kun.errors import NotFound
from kun.server.web.frame import main_button, off_loop, say_kindly
from kun.server.web.raters import feedback_frame, show_markdown, show_prompt
from kun.server.web.state import Visit

_DRAG = "(e) => e.dataTransfer.setData('text/plain', e.currentTarget.dataset.position)"
_OVER = "(e) => e.preventDefault()"
_DROP = "(e) => { e.preventDefault(); emit(Number(e.dataTransfer.getData('text/plain'))) }"
_SUBMIT = (
    "(e) => { if (e.key === 'Escape') e.target.blur();"
    " if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); emit(e.target.value) } }"
)
"""Keys within a field: Escape leaves it, so that other keys rate again."""
_KEYS = """<script>document.addEventListener("keydown", (e) => {
  if (e.repeat || e.ctrlKey || e.altKey || e.metaKey || e.target.closest("input, select, button, textarea")) return;
  emitEvent("kun-rate-key", [e.key, document.getElementById("rate").dataset.item]);
});</script>"""
"""Each key with the item that was on the screen: one that comes late says nothing of the next answers."""
_LEAVE_FIELDS = "document.activeElement?.blur()"


async def rate() -> None:
    await RatePage(Visit.current()).build()


PAGES = [("/feedback/rate", rate)]


class RatePage:
    """The answers that one person has on the screen, and their ballot."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.words = visit, visit.words
        self.store = visit.web.feedback
        self.ballot: Ballot | None = None
        self.cards: list[Card] = []
        self.zones: list[ui.element] = []
        self.equal: ui.button | None = None
        self.is_busy = False

    async def build(self) -> None:
        feedback_frame(self.visit, "/rate")
        self.main = ui.element("main").classes("page rate").props('id="rate"')
        with ui.footer(elevated=False).classes("kun-footer"), ui.column().classes("rate-column"):
            self.places = ui.element("div").classes("drop-places")
            self.bar = ui.row().classes("rate-bar").props('role="toolbar"')
            self.hint = ui.label().classes("hint keys-hint")
        ui.add_body_html(_KEYS)
        ui.on("kun-rate-key", self._key)
        await say_kindly(self.show_next)()

    async def show_next(self) -> None:
        """The next answers, from this person's queue, with what they said of them before they took it back."""
        rater = self.visit.rater
        item = await off_loop(self.store.next, rater)
        draft = None if item is None else await off_loop(self.store.draft, item.id, rater)
        await self._show(None if item is None else Ballot.of(item, rater, draft))

    async def _show(self, ballot: Ballot | None) -> None:
        words = self.words
        left = await off_loop(self.store.left, self.visit.rater)
        self.ballot, self.cards = ballot, []
        self.main.props["data-item"] = "" if ballot is None else ballot.item.id
        self.main.update()
        for part in (self.main, self.places, self.bar):
            part.clear()
        with self.main:
            if ballot is None:
                with ui.column().classes("nothing"):
                    ui.label(words("nothing_to_rate")).classes("intro")
                    ui.link(words("add_prompts"), "/feedback")
            else:
                ui.label(words("left_to_rate", n=left)).classes("note").props('role="status"')
                show_prompt(self.visit, ballot.item.prompt)
                self._answers(ballot)
                self._own_words(ballot)
        with self.places:
            self._places(ballot)
        with self.bar:
            self._buttons(ballot)
        self.hint.text = "" if ballot is None else self._keys_told(ballot)
        self.refresh()
        ui.run_javascript("scrollTo({top: 0})")

    def _answers(self, ballot: Ballot) -> None:
        with ui.element("div").classes("rated-answers" if ballot.size > 2 else "rated-answers pair"):
            self.cards = [Card(self, ballot, position) for position in range(ballot.size)]

    def _places(self, ballot: Ballot | None) -> None:
        """Where answers are dragged to, in view next to texts of any length, each with the answers that it holds."""
        many = ballot is not None and ballot.size > 2
        self.places.set_visibility(many)
        self.places.props(f'role="group" aria-label="{self.words("places")}"')
        self.zones = (
            [self._zone(place) for place in range(ballot.size)] if ballot is not None and many else []
        )

    def _zone(self, place: int) -> ui.element:
        drop = say_kindly(functools.partial(self._drop, place))
        zone = ui.element("div").classes("drop-place").props(f'title="{self.words("places")}"')
        with zone:
            ui.label(self.words("place", n=place + 1)).classes("drop-name")
        zone.on("dragover", js_handler=_OVER)
        zone.on("drop", js_handler=_DROP, handler=lambda event: drop(event.args))
        return zone

    def _fill(self, zone: ui.element, place: int) -> None:
        """Show which answers are in a place; they can be dragged on from there."""
        for chip in [one for one in zone if "drop-chip" in one.classes]:
            zone.remove(chip)
        ballot = self.ballot
        if ballot is None:
            return
        with zone:
            for position in (at for at, where in ballot.places.items() if where == place):
                _draggable(ui.label(_named(ballot, position)).classes("drop-chip"), position)

    async def _drop(self, place: int, position: int) -> None:
        if self.ballot is not None and isinstance(position, int):
            self.ballot.put(position, place)
            self.refresh()

    def _own_words(self, ballot: Ballot) -> None:
        words = self.words
        with ui.element("div").classes("own-words"):
            self._field(words("better_answer"), ballot.correction, "correction")
            self._field(words("rating_note"), ballot.note, "rating-note")

    def _field(self, label: str, value: str, name: str) -> None:
        def keep(event: ValueChangeEventArguments) -> None:
            if self.ballot is not None:
                attribute = "correction" if name == "correction" else "note"
                setattr(self.ballot, attribute, event.value or "")

        field = ui.textarea(label, value=value, on_change=keep).props(
            f"outlined dense autogrow debounce=100 for={name} maxlength=200000"
        )
        field.on("keydown", js_handler=_SUBMIT, handler=lambda e: self._submit(name, e.args))
        field.classes("own-field")

    async def _submit(self, name: str, text: str) -> None:
        """Save from within a field, with what stands in it now."""
        if self.ballot is not None:
            setattr(self.ballot, "correction" if name == "correction" else "note", text)
            await self.act("save")

    def _buttons(self, ballot: Ballot | None) -> None:
        words, self.equal = self.words, None
        if ballot is not None:
            if ballot.size == 2:
                for position, text in enumerate((words("first_better"), words("second_better"))):
                    main_button(text, lambda p=position: self._choose(p)).classes("choose")
            else:
                main_button(words("save_ranking"), lambda: self.act("save"), "check").classes("save-ranking")
                self.equal = self._key_button(words("equal"), "=", "drag_handle")
                self._key_button(words("take_back"), "Backspace", "backspace")
            is_pair = ballot.size == 2
            tie, bad = (words("tie"), words("both_bad")) if is_pair else (words("all_tie"), words("all_bad"))
            self._plain_button(tie, "tie", "drag_handle" if is_pair else "menu")
            self._plain_button(bad, "bad", "block")
            self._plain_button(words("skip"), "skip", "skip_next")
        self._plain_button(words("undo"), "undo", "undo")

    def _key_button(self, text: str, key: str, icon: str) -> ui.button:
        """A button that does what a key does."""
        button = ui.button(text, icon=icon, on_click=lambda: self._pressed(key), color=None)
        return button.props("flat no-caps dense").classes("act-key")

    def _plain_button(self, text: str, action: Action, icon: str) -> None:
        button = ui.button(text, icon=icon, on_click=lambda: self.act(action)).props("flat no-caps dense")
        button.classes(f"act-{action}")

    def _keys_told(self, ballot: Ballot) -> str:
        words = self.words
        return words("rate_keys_two") if ballot.size == 2 else words("rate_keys_more", n=ballot.size)

    # What people do

    async def _key(self, event: GenericEventArguments) -> None:
        key, item = event.args
        if self.is_busy or item != ("" if self.ballot is None else self.ballot.item.id):
            return
        if self.ballot is not None:
            await self._pressed(key)
        elif key.lower() == "u":
            await self.act("undo")

    async def _pressed(self, key: str) -> None:
        action = None if self.ballot is None else self.ballot.key(key)
        if action is not None:
            await self.act(action)

    async def _choose(self, position: int) -> None:
        if self.ballot is not None and not self.is_busy:
            await self.act(self.ballot.choose(position))

    async def act(self, action: Action) -> None:
        """Do what a key or a button asked for; while one vote is being saved nothing else is."""
        if self.is_busy:
            return
        self.is_busy = True
        try:
            with self.main:
                await say_kindly(self._act)(action)
        finally:
            self.is_busy = False

    async def _act(self, action: Action) -> None:
        if action == "undo":
            await self._undo()
        elif action in ("note", "correct"):
            field = "correction" if action == "correct" else "rating-note"
            ui.run_javascript(f"setTimeout(() => document.getElementById('{field}')?.focus())")
        elif action == "changed":
            self.refresh()
        elif self.ballot is not None:
            self.refresh()
            try:
                await off_loop(self.store.save, self.ballot.vote(action))
            except NotFound as error:
                ui.notify(str(error), type="warning")
            await self.show_next()

    async def _undo(self) -> None:
        if await off_loop(self.store.undo, self.visit.rater) is None:
            ui.notify(self.words("nothing_to_undo"))
        else:
            await self.show_next()

    async def flag(self, position: int, flag: Flag) -> None:
        if self.ballot is not None:
            self.ballot.current = position
            self.ballot.flag(position, flag)
            self.refresh()

    def refresh(self) -> None:
        for card in self.cards:
            card.refresh()
        for place, zone in enumerate(self.zones):
            self._fill(zone, place)
        if self.equal is not None and self.ballot is not None:
            _press(self.equal, self.ballot.joins)
        ui.run_javascript(_LEAVE_FIELDS)  # keys that a focused button would take are for the page


class Card:
    """One answer: its number, its place so far, its text and its flags. Who wrote it is not shown."""

    def __init__(self, page: RatePage, ballot: Ballot, position: int) -> None:
        self.page, self.ballot, self.position = page, ballot, position
        words = page.words
        card = ui.element("article").classes("rated-answer")
        card.props(f'aria-label="{words("answer_n", n=_named(ballot, position))}"')
        if ballot.size > 2:
            _draggable(card, position)
        self.card = card
        with card:
            with ui.row(wrap=False).classes("rated-head"):
                choose = ui.button(
                    _named(ballot, position), on_click=lambda: page._choose(position), color=None
                )
                choose.props("unelevated dense no-caps").classes("rated-number")
                choose.props["title"] = words("choose_answer")
                self.place = ui.label().classes("rated-place").props('role="status"')
            with ui.element("div").classes("rated-text"):
                show_markdown(page.visit, ballot.item.text(ballot.item.shown[position]))
            texts = dict(zip(FLAGS, (words("harmful"), words("untrue"), words("off_topic")), strict=True))
            with ui.row().classes("rated-flags"):
                self.flags = {flag: self._flag(flag, text) for flag, text in texts.items()}
        self.refresh()

    def _flag(self, flag: Flag, text: str) -> ui.button:
        button = ui.button(text, on_click=lambda: self.page.flag(self.position, flag), color=None)
        return button.props("flat dense no-caps").classes("rated-flag")

    def refresh(self) -> None:
        """Show the ballot as it is now."""
        ballot, words = self.ballot, self.page.words
        place = ballot.places.get(self.position)
        self.place.text = "" if place is None or ballot.size == 2 else words("place", n=place + 1)
        _mark(self.card, "current", ballot.current == self.position)
        for flag, button in self.flags.items():
            is_set = flag in ballot.flags.get(self.position, ())
            _press(button, is_set)


def _named(ballot: Ballot, position: int) -> str:
    """What an answer is called on the screen, which is its key as well."""
    return "AB"[position] if ballot.size == 2 else str(position + 1)


def _draggable(element: ui.element, position: int) -> None:
    element.props(f"draggable=true data-position={position}").on("dragstart", js_handler=_DRAG)


def _press(button: ui.button, is_set: bool) -> None:
    button.props["aria-pressed"] = "true" if is_set else "false"
    _mark(button, "pressed", is_set)
    button.update()


def _mark(element: ui.element, name: str, wanted: bool) -> None:
    if wanted:
        element.classes(add=name)
    else:
        element.classes(remove=name)
