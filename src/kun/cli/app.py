"""The `kun` command: its sub-commands, and the one place where an error becomes a sentence and an exit code."""

import os
import sys
from typing import Any, cast

import typer
from typer.exceptions import TyperException

from kun import interruption
from kun.cli import (
    classifying,
    doctor,
    evaluating,
    exporting,
    feedback,
    filling,
    inspecting,
    judging,
    knowledge,
    models,
    scoring,
    self_instruct,
    serving,
    speedrun,
    talking,
    tools,
    touring,
    training,
    vectors,
)
from kun.errors import BadInput, KunError
from kun.settings import launch
from kun.version import __version__

_INTERRUPTED = 130

app = typer.Typer(
    name="kun",
    help="Kun (鲲): a private assistant on your own documents, on a model that you own.",
    epilog="Start with: kun quickstart. Every command has --help with examples.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kun {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
    ),
    debug: bool = typer.Option(
        False, "--debug", help="Show the traceback of an error (anywhere in the line)."
    ),
) -> None:
    del version, debug  # --version has acted; --debug is taken out of the line by `run`


app.command("quickstart")(serving.quickstart)
app.command("tour")(touring.tour)
app.command("pull")(models.pull)
app.command("models")(models.list_models)
app.command("remove")(models.remove)
app.command("chat")(talking.chat)
app.command("generate")(talking.generate)
app.command("fill")(filling.fill)
app.command("classify")(classifying.classify)
app.command("eval")(evaluating.evaluate)
app.add_typer(knowledge.app, name="kb")
app.add_typer(inspecting.app, name="inspect")
app.add_typer(tools.app, name="tools")
app.add_typer(vectors.app, name="vectors")
app.command("train")(training.train)
app.command("score")(scoring.score)
app.add_typer(feedback.app, name="feedback")
app.command("judge")(judging.judge)
app.command("self-instruct")(self_instruct.self_instruct)
app.command("export")(exporting.export)
app.command("speedrun")(speedrun.speedrun)
app.command("serve")(serving.serve)
app.command("doctor")(doctor.doctor)


def run(line: list[str]) -> int:
    """Run one command; its exit code."""
    options = line[: line.index("--")] if "--" in line else line
    debug = "--debug" in options
    if debug:
        line.remove("--debug")
    interruption.listen()
    code = _call(line, debug)
    started = launch()
    if code == _INTERRUPTED and not (started and started.rank):
        _complain("Interrupted.")
    return code


def _call(line: list[str], debug: bool) -> int:
    try:
        code = app(args=line, prog_name="kun", standalone_mode=False)
        sys.stdout.flush()
    except KunError as error:
        if debug:
            raise
        if not _is_told(error):
            _complain(str(error))
        return error.exit_code
    except TyperException as error:
        cast(Any, error).show()  # usage, the mend and the fault, on standard error
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        # the reader of our output left (`kun models | head -1`): nothing more to say, and not to stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if debug:
            raise
        named = f"{error.filename}: " if error.filename else ""
        _complain(f"{named}{error.strerror or error}.")
        return 1
    except Exception as error:
        if interruption.came():
            return _INTERRUPTED
        if debug:
            raise
        _complain(f"{type(error).__name__}: {error}. This is a fault in Kun: --debug shows where.")
        return 1
    return code if isinstance(code, int) else 0


def _is_told(error: KunError) -> bool:
    """True where another process of the same training reports the error: the first one does."""
    started = launch()
    return error.is_told or (started is not None and started.rank > 0 and isinstance(error, BadInput))


def _complain(sentence: str) -> None:
    typer.echo(f"kun: {sentence}", err=True)
