"""The section that makes a reward model of people's votes: a run in a process of its own, which is watched here."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import IO, ClassVar

from nicegui import ui

from kun.alignment.feedback.reward_recipe import Prepared, prepare
from kun.alignment.feedback.store import FeedbackStore
from kun.errors import BadInput, Busy
from kun.hub.store import installed
from kun.server.web.frame import main_button, off_loop, say_kindly
from kun.server.web.words import Words
from kun.settings import settings

_WATCH_S = 1.0
_SHOWN_LINE = 200


class RewardSection:
    """A button that starts a training, and what became of the last one that this server started."""

    def __init__(self, words: Words, store: FeedbackStore, models: Sequence[str]) -> None:
        self.words, self.store = words, store
        with ui.row().classes("inside-fields"):
            base = ui.select(list(models), label=words("reward_base"), value=_smallest(models))
            base.props("outlined dense options-dense").classes("inside-choice")
            train = say_kindly(lambda: self.train(str(base.value or "")))
            main_button(words("reward_train"), train, "school").classes("train-reward")
        self.trained = ui.element("div").classes("reward-run").props('aria-live="polite"')
        if Run.last is not None:
            self._show(Run.last)

    async def train(self, model: str) -> None:
        """Write data and recipe, and start; one training at a time."""
        words = self.words
        if not model:
            raise BadInput(words("reward_no_model"))
        if Run.begins or (Run.last is not None and Run.last.code is None):
            raise Busy(words("reward_busy"))
        Run.begins = True
        try:
            folder = settings().runs / f"feedback-{datetime.now():%Y%m%d-%H%M%S}-{token_hex(3)}"
            prepared = await off_loop(prepare, self.store, folder, model)
            Run.last = await off_loop(Run.start, prepared, folder / "training.log")
        finally:
            Run.begins = False
        self._show(Run.last)

    def _show(self, run: "Run") -> None:
        words = self.words
        self.trained.clear()
        with self.trained:
            ui.label(words("reward_began", n=run.prepared.rankings)).classes("note")
            ui.label(run.prepared.command).classes("reward-command mono")
            state = ui.label().classes("reward-state").props('role="status"')
            use = ui.label().classes("reward-command mono")

            def watch() -> None:
                code, line = run.code, run.last_line()
                state.text = line if code is None else words("reward_failed", why=line)
                use.set_visibility(code == 0)
                if code == 0:
                    state.text = words("reward_done")
                    use.text = f"kun score {run.prepared.run / 'checkpoint'} {run.prepared.data}"
                if code is not None:
                    timer.cancel()

            timer = ui.timer(_WATCH_S, watch)
            watch()


@dataclass(frozen=True)
class Run:
    """A training in a process of its own, which goes on when the page is closed."""

    prepared: Prepared
    process: "subprocess.Popen[bytes]"
    log: Path

    last: ClassVar["Run | None"] = None
    """The newest that this server started, for all its pages."""
    begins: ClassVar[bool] = False
    """One is being prepared."""

    @classmethod
    def start(cls, prepared: Prepared, log: Path) -> "Run":
        line = [sys.executable, "-m", "kun", "train", str(prepared.recipe)]
        out: IO[bytes]
        with log.open("wb") as out:
            process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        return cls(prepared, process, log)

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll()

    def last_line(self) -> str:
        """The newest line of its output."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return next((line[:_SHOWN_LINE] for line in reversed(lines) if line.strip()), "")


def _smallest(models: Sequence[str]) -> str | None:
    """The model that trains soonest; the first where none is installed, None where there is none."""
    sizes = {model.name: model.bytes for model in installed() if model.base is None}
    return min(models, key=lambda name: sizes.get(name, float("inf")), default=None)
