"""`kun train`: a recipe becomes a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun.cli.output import JSON_OPTION, print_json, print_table, progress

if TYPE_CHECKING:
    from kun.training.comparing import Comparison


def train(
    recipe: Path = typer.Argument(
        ..., metavar="RECIPE", help="A TOML file; see the documentation on recipes."
    ),
    override: list[str] = typer.Option(
        [], "-o", "--override", metavar="KEY=VALUE", help="Set a key of the recipe, as in -o train.steps=200."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in the recipe's folder."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Train a model as a recipe says.

    Writes a run: the recipe as it was resolved, metrics.jsonl, snapshots, report.html, and the checkpoint. Ctrl-C
    writes a snapshot first; --resume goes on from the newest one. A recipe with [compare] trains several runs and
    draws them in one picture.

    Examples:

      kun train examples/recipes/shakespeare.toml

      kun train recipe.toml -o train.steps=200 -o optimizer.lr=1e-3

      kun train recipe.toml --resume

      kun train examples/recipes/recall.toml
    """
    from kun.api import train as run_training
    from kun.settings import launch
    from kun.training.comparing import Comparison
    from kun.training.recipe import parse_override

    chosen = dict(parse_override(text) for text in override)
    started = launch()
    tells = not (started and started.rank)  # the first of several processes tells for all
    with progress(quiet=as_json or not tells) as report:
        run = run_training(recipe, chosen, resume=resume, progress=report)
    if not tells:
        return
    if isinstance(run, Comparison):
        _show_comparison(run, as_json)
        return
    last = run.metrics[-1] if run.metrics else {}
    if as_json:
        print_json({"run": str(run.path), "checkpoint": str(run.checkpoint), "last": last})
        return
    if last:
        typer.echo(_summary(last, run.metrics))
    typer.echo(f"run         {run.path}")
    typer.echo(f"checkpoint  {run.checkpoint}")
    if run.report.is_file():
        typer.echo(f"report      {run.report}")


def _summary(last: dict, metrics: list[dict]) -> str:
    held_out = [line for line in metrics if "eval_loss" in line]
    best = min(held_out, key=lambda line: line["eval_loss"]) if held_out else None
    unit = "tokens" if "tokens" in last else "items"
    told = f"{last['step']} steps, {last[unit]:,} {unit} in {last['seconds']:.0f} s; loss {last['loss']:.3f}"
    return told + (f"; best evaluation {best['eval_loss']:.3f} at step {best['step']}" if best else "")


def _show_comparison(made: "Comparison", as_json: bool) -> None:
    """The runs of a comparison by their last evaluation, and where its picture is."""
    ends = {name: run.metrics[-1] if run.metrics else {} for name, run in made.runs.items()}
    sizes = {name: run.facts.get("parameters") for name, run in made.runs.items()}
    if as_json:
        from kun.training.comparing import finite

        runs = {
            name: {"run": str(run.path), "parameters": sizes[name], "last": ends[name]}
            for name, run in made.runs.items()
        }
        shown = {"run": str(made.path), "picture": str(made.picture), "runs": runs, "tried": made.tried}
        print_json(finite(shown))
        return
    keys = list(dict.fromkeys(key for last in ends.values() for key in last if key.startswith("eval_")))
    rows = [
        [
            name,
            "" if sizes[name] is None else f"{sizes[name]:,}",
            *(f"{last[key]:.3f}" if key in last else "" for key in keys),
        ]
        for name, last in ends.items()
    ]
    print_table(["run", "parameters", *(key.removeprefix("eval_") for key in keys)], rows)
    if len(made.tried) > len(made.runs):
        typer.echo("tried       " + "; ".join(f"{name}: {value:.3f}" for name, value in made.tried.items()))
    typer.echo(f"run         {made.path}")
    typer.echo(f"picture     {made.picture}")
