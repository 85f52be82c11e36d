"""How work tells where it is."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from kun.cli import output

NOTICE = "threads = 2 before, 4 now; train.micro_batch_tokens = 8192 before, 4096 now; parallel.data = 2 before, 1 now"


def test_a_notice_stays_on_a_terminal_and_is_not_cut() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=60)
    bar = Progress(TextColumn("{task.description} {task.fields[detail]}"), console=console, transient=True)
    with bar:
        tell = output._Bars(bar)
        tell("going on", 0, None, NOTICE)
        tell("training", 1, 2, "loss " * 40)
    assert f"going on: {NOTICE}\n" in written.getvalue()


def test_a_notice_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress() as tell:
        tell("going on", 0, None, NOTICE)
    assert capsys.readouterr().err == f"going on: {NOTICE}\n"
