"""`kun tour`: the article's ideas, each example run and checked on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun.cli.output import JSON_OPTION, print_json, progress

if TYPE_CHECKING:
    from kun.tour.running import Outcome

_MARKS: dict[bool | None, str] = {True: "ok", False: "FALSE", None: "needs"}
_COLOURS: dict[bool | None, str] = {
    True: typer.colors.GREEN,
    False: typer.colors.RED,
    None: typer.colors.YELLOW,
}


def tour(
    only: list[int] | None = typer.Option(
        None, "--only", metavar="N", help="One idea, by its number from 1 to 17; may be repeated."
    ),
    out: Path = typer.Option(Path("tour.html"), "--out", "-o", help="The page to write."),
    as_json: bool = JSON_OPTION,
) -> None:
    """The seventeen ideas: each example is run and checked on this machine, and shown on one page, tour.html.

    Nothing is fetched: what needs a model that is not here says which. Every number is computed in this run. Exit
    code 1 where a check is false. Ctrl-C leaves the page of what was done.

    \b
    Examples:
      kun tour
      kun tour --only 15 --only 16
      kun tour --json
    """
    from kun import api

    def told(outcome: "Outcome") -> None:
        if as_json:
            return
        typer.secho(f"§ {outcome.idea.number:<2} {_MARKS[outcome.ok]:<5} ", nl=False, fg=_COLOURS[outcome.ok])
        typer.echo(f"{outcome.example.name[0]} ({outcome.seconds:.1f} s)")
        typer.echo(f"     {outcome.shown.text[0]}")

    with progress(quiet=as_json) as report:
        done = api.tour(only or (), out=out, each=told, progress=report)
    if as_json:
        print_json(done.facts())
    else:
        right, wrong, waiting = done.counts
        typer.echo(f"\n{right} right, {wrong} false, {waiting} wait for a model; {done.seconds:.0f} s.")
        typer.echo(f"page  {done.page}")
        if models := done.models_waited_for:
            typer.echo(f"more  kun pull {' '.join(models)}")
    if done.interrupted:
        raise typer.Exit(130)
    if done.counts[1]:
        raise typer.Exit(1)
