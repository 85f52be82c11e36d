"""`kun score`: what a reward model thinks of conversations, and the best of what a language model answers."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun import api
from kun.atomic_files import Progress
from kun.cli import output
from kun.errors import BadInput

if TYPE_CHECKING:
    from kun.alignment.candidates import Candidates, Kept, Sampling
    from kun.alignment.reward_model import RewardModel
    from kun.alignment.rollouts import Scorer

_SHOWN = 10
_VERIFIER = "verifier:"


def score(
    model: str = typer.Argument(
        ..., help="A reward model: folder or hub id. With --best-of also verifier:number or verifier:text."
    ),
    file: Path = typer.Argument(
        ..., help="Conversations, preferences or prompts, in any format that kun train reads."
    ),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Rows to read, from the front."),
    best_of: int | None = typer.Option(
        None,
        "--best-of",
        min=1,
        max=128,
        help="Sample so many answers to each prompt of the file, and take the best.",
    ),
    policy: str | None = typer.Option(None, "--from", help="The language model that answers."),
    out: Path | None = typer.Option(
        None,
        "--out",
        "-o",
        help="Write the best answers as conversations, for kun train (rejection sampling).",
    ),
    least: float | None = typer.Option(
        None, help="Write answers of at least this score (default: all; of a verifier those that are right)."
    ),
    max_tokens: int = typer.Option(128, min=1, help="Tokens of an answer at most."),
    temperature: float = typer.Option(1.0, min=0.0, help="How evenly answers are drawn."),
    seed: int = typer.Option(0, min=0, help="Decides what is drawn."),
    quantize: output.Quantize = output.QUANTIZE_OPTION,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Score conversations; of preferences tell how often the better answer has the higher score.

    With --best-of a language model answers the prompts of the file, and the best of its answers are shown or written.

    \b
    Examples:
      kun score runs/reward/checkpoint answers.jsonl
      kun score runs/reward/checkpoint preferences.jsonl --limit 300
      kun score runs/reward/checkpoint preferences.jsonl --json > scores.json
      kun score runs/reward/checkpoint prompts.jsonl --best-of 16 --from runs/sft/checkpoint
      kun score verifier:number sums.jsonl --best-of 8 --from runs/sft/checkpoint -o right.jsonl
    """
    from kun.alignment.candidates import Sampling
    from kun.alignment.scoring import Accuracy, score_file

    output.check_paths([file])
    if best_of is not None:
        how = Sampling(best_of, max_tokens, temperature, seed)
        _best_of(model, file, policy, how, out, least, limit, quantize, as_json)
        return
    if policy is not None or out is not None or least is not None:
        raise BadInput(
            "--from, -o and --least belong to sampled answers: say with --best-of N how many to sample."
        )
    with output.progress(quiet=as_json) as report:
        scored = list(score_file(_reward_model(model, report), file, limit=limit, progress=report))
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


def _reward_model(name: str, report: Progress) -> "RewardModel":
    from kun.alignment.reward_model import RewardModel

    judge = api.load(name, progress=report)
    if not isinstance(judge, RewardModel):
        raise BadInput(f'{name} is no reward model: train one with stage = "reward".')
    return judge


def _scorer(name: str, report: Progress) -> "Scorer":
    from kun.alignment.rollouts import ByRewardModel
    from kun.alignment.verifiers import VERIFIERS, ByVerifier

    if not name.startswith(_VERIFIER):
        return ByRewardModel(_reward_model(name, report))
    is_right = VERIFIERS.get(name.removeprefix(_VERIFIER))
    if is_right is None:
        there = ", ".join(_VERIFIER + each for each in VERIFIERS)
        raise BadInput(f"{name} is no verifier: there are {there}.")
    return ByVerifier(is_right)


def _best_of(
    model: str,
    file: Path,
    policy: str | None,
    how: "Sampling",
    out: Path | None,
    least: float | None,
    limit: int | None,
    quantize: output.Quantize,
    as_json: bool,
) -> None:
    from kun.alignment.candidates import read_prompts, scored_candidates, write_kept
    from kun.models.language_model import LanguageModel

    if policy is None:
        raise BadInput("Nothing says which model answers: name it with --from MODEL.")
    if least is None:
        least = 0.5 if model.startswith(_VERIFIER) else -math.inf
    found: list[Candidates] = []
    kept: Kept | None = None
    with output.progress(quiet=as_json) as report:
        scorer = _scorer(model, report)
        lm = api.load(policy, quantize=None if quantize == "none" else quantize, progress=report)
        if not isinstance(lm, LanguageModel):
            raise BadInput(f"{policy} is no language model: name one that writes.")
        prompts = read_prompts(lm, file, how, limit=limit)
        candidates = scored_candidates(lm, scorer, prompts.prompts, how, report)
        if out is not None:
            kept = write_kept(candidates, out, least=least, told=found.append)
        else:
            found.extend(candidates)
    counts = prompts.counts
    _show_best(found, kept, how, out, (counts.dropped, counts.duplicates), as_json)


def _show_best(
    found: "list[Candidates]",
    kept: "Kept | None",
    how: "Sampling",
    out: Path | None,
    left_out: tuple[int, int],
    as_json: bool,
) -> None:
    dropped, duplicates = left_out
    best = sum(one.scores[one.best] for one in found) / len(found)
    every = sum(sum(one.scores) for one in found) / sum(len(one.scores) for one in found)
    if as_json:
        rows = [{"where": one.prompt.where, **one.as_row()} for one in found]
        told = {"best": best, "all": every, "divergence_at_most": how.divergence}
        told |= {"dropped": dropped, "duplicates": duplicates}
        output.print_json({"rows": rows, **told, "kept": None if kept is None else output.as_dict(kept)})
        return
    for one in found if kept is None else found[:_SHOWN]:
        typer.echo(f"{one.scores[one.best]:8.4f}  {one.prompt.where}: {' '.join(one.answer.split())}")
    typer.echo(
        f"Mean score {every:.3f} of all answers, {best:.3f} of the best of {how.answers} to {len(found)} prompts "
        f"(at most {how.divergence:.2f} nats from what the model says by itself)."
    )
    if dropped:
        typer.echo(f"{dropped} prompts were left out: they leave no room for an answer.")
    if duplicates:
        typer.echo(f"{duplicates} prompts were left out: the file asks the same before.")
    if kept is not None:
        typer.echo(
            f"{kept.kept} answers written: kun train a recipe of stage finetune with data.train = {out}"
        )
