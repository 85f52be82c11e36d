"""`kun score`: what a reward model thinks of conversations."""

from pathlib import Path

import typer

from kun import api
from kun.cli import output
from kun.errors import BadInput

_SHOWN = 10


def score(
    model: str = typer.Argument(..., help="A reward model: folder or hub id."),
    file: Path = typer.Argument(
        ..., help="Conversations or preferences, in any format that kun train reads."
    ),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Rows to read, from the front."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Score conversations; of preferences tell how often the better answer has the higher score.

    \b
    Examples:
      kun score runs/reward/checkpoint answers.jsonl
      kun score runs/reward/checkpoint preferences.jsonl --limit 300
      kun score runs/reward/checkpoint preferences.jsonl --json > scores.json
    """
    from kun.alignment.reward_model import RewardModel
    from kun.alignment.scoring import Accuracy, score_file

    output.check_paths([file])
    with output.progress(quiet=as_json) as report:
        judge = api.load(model, progress=report)
        if not isinstance(judge, RewardModel):
            raise BadInput(f'{model} is no reward model: train one with stage = "reward".')
        scored = list(score_file(judge, file, limit=limit, progress=report))
    accuracy = Accuracy.of(scored)
    if as_json:
        rows = [output.as_dict(one) for one in scored]
        output.print_json({"rows": rows, "accuracy": None if accuracy is None else output.as_dict(accuracy)})
        return
    for one in scored if accuracy is None else scored[:_SHOWN]:
        typer.echo("  ".join(f"{each:8.4f}" for each in one.scores) + f"  {one.where}")
    if accuracy is not None:
        more = len(scored) - _SHOWN
        if more > 0:
            typer.echo(f"… and {more} more (all of them with --json)")
        typer.echo(
            f"The better answer has the higher score in {accuracy.mean:.1%} ± {accuracy.error:.1%} of "
            f"{accuracy.rankings} rankings."
        )
