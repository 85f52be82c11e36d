"""The tools that a person lets the model use: chosen below the message, remembered in the browser."""

from collections.abc import Callable

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from kun.server.web.frame import icon_button, off_loop, remember, say_kindly
from kun.server.web.state import MOST_TOOLS, TOOLS_COOKIE, Visit, tools_cookie

_BASE = "base:"
_OWN = ("calculate", "date")


class Toolbelt:
    """The button with the number of chosen tools, and the dialog in which they are chosen."""

    def __init__(self, visit: Visit, asks_documents: Callable[[], bool]) -> None:
        self._visit, self._asks_documents = visit, asks_documents
        self._chosen = list(visit.tools)
        self._button = icon_button("handyman", visit.words("tools"), say_kindly(self._open)).props(
            'id="tools"'
        )
        self._button.classes("tools-button")
        with self._button:
            self._badge = ui.badge().props("floating rounded").classes("tools-count")
        self.update()

    @property
    def chosen(self) -> tuple[str, ...]:
        """The tools for the next answer: none where a knowledge base answers, since a document starts no tool."""
        return () if self._asks_documents() else tuple(self._chosen)

    def update(self) -> None:
        """Show how many are in use."""
        count = len(self.chosen)
        self._badge.text = str(count)
        self._badge.set_visibility(bool(count))
        words = self._visit.words
        label = words("tools_chosen", n=count) if count else words("tools")
        self._button.props["aria-label"] = self._button.props["title"] = label
        self._button.update()

    async def _open(self) -> None:
        words = self._visit.words
        faults: list[str] = []
        names = await off_loop(self._visit.web.toolboxes.names, faults.append)
        servers = [name for name in names if name not in _OWN and not name.startswith(_BASE)]
        groups = [
            (words("tools_own"), {"calculate": words("tool_calculate"), "date": words("tool_date")}),
            (
                words("tools_bases"),
                {name: name.removeprefix(_BASE) for name in names if name.startswith(_BASE)},
            ),
            (words("tools_servers"), {name: name for name in servers}),
            (words("tools_gone"), {name: name for name in self._chosen if name not in names}),
        ]
        with ui.dialog() as dialog, ui.card().classes("tools-card").props(f'aria-label="{words("tools")}"'):
            with ui.row(wrap=False).classes("panel-head"):
                ui.label(words("tools")).classes("panel-title")
                ui.space()
                icon_button("close", words("close"), dialog.close).classes("tools-close")
            ui.label(words("tools_about")).classes("note")
            if self._asks_documents():
                ui.label(words("tools_or_base")).classes("label tools-note")
            for fault in faults:
                ui.label(fault).classes("tool-fault").props('role="alert"')
            with ui.element("div").classes("tools-list"):
                for title, group in groups:
                    if group:
                        ui.label(title).classes("section-title")
                    for name, text in group.items():
                        self._choice(name, text)
                ui.label(words("tools_add")).classes("note tools-add")
        dialog.on("hide", dialog.delete)
        dialog.open()

    def _choice(self, name: str, text: str) -> None:
        box = ui.checkbox(text, value=name in self._chosen).classes("tool-choice").props("dense")
        box.props["data-tool"] = name

        def choose(event: ValueChangeEventArguments) -> None:
            kept = [one for one in self._chosen if one != name]
            if event.value and len(kept) >= MOST_TOOLS:
                ui.notify(self._visit.words("tools_most", n=MOST_TOOLS), type="warning")
                box.value = False
                return
            self._chosen = [*kept, name] if event.value else kept
            remember(TOOLS_COOKIE, tools_cookie(self._chosen))
            self.update()

        box.on_value_change(choose)
