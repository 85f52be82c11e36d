"""`kun judge`: several models answer the same questions, and a judge compares what they said."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from kun import api
from kun.cli import output
from kun.cli.writers import PARALLEL_OPTION, TIMEOUT_OPTION, open_writer
from kun.errors import BadInput

if TYPE_CHECKING:
    from kun.evaluation.judging.answers import Answering, Answers
    from kun.evaluation.judging.judges import Judge
    from kun.evaluation.judging.questions import Question
    from kun.evaluation.judging.standings import Interval, Judged

_LABELLED = re.compile(r"(?P<label>[\w.-]+)=(?P<model>.+)")
_CATEGORIES_IN_TABLE = 6


def judge(
    models: list[str] = typer.Argument(
        ...,
        metavar="MODEL…",
        help="Models: names, folders, MODEL@URL of an endpoint; LABEL=MODEL to name one.",
    ),
    questions: Path = typer.Option(
        ..., "--questions", "-q", help="Questions, a JSON object a line: question_id, category, turns."
    ),
    judge_name: str | None = typer.Option(
        None,
        "--judge",
        "-j",
        help="Who judges: a language model, a reward model, or MODEL@URL (default: this machine's chosen model).",
    ),
    by: Literal["pairs", "score", "both"] = typer.Option(
        "both", "--by", help="Pair by pair, each answer by itself, or both."
    ),
    out: Path = typer.Option(
        Path("judged"), "--out", help="The folder that keeps answers and verdicts; run again to go on."
    ),
    references: Path | None = typer.Option(
        None, "--references", help="Right answers in FastChat's shape (question_id, choices)."
    ),
    category: list[str] = typer.Option([], "--category", "-c", help="Questions of this category alone."),
    limit: int | None = typer.Option(
        None, "--limit", min=1, help="So many questions, of every category its share."
    ),
    max_tokens: int = typer.Option(
        512, "--max-tokens", min=1, help="The longest answer to a turn, in tokens."
    ),
    temperature: float = typer.Option(0.7, min=0, help="Of the answers; the judge is asked at 0."),
    seed: int = typer.Option(0, help="Of answers that are drawn, and of the intervals."),
    explain: bool | None = typer.Option(
        None, "--explain/--no-explain", help="Reasons before the verdict (default: from endpoints)."
    ),
    quantize: output.Quantize = output.QUANTIZE_OPTION,
    parallel: int = PARALLEL_OPTION,
    timeout: float = TIMEOUT_OPTION,
    picture: Path | None = typer.Option(
        None, "--picture", "-o", help="Draw a radar chart by category into this file, .svg or .png."
    ),
    report: Path | None = typer.Option(None, "--report", help="Write a page with every answer, .html."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Let a judge compare what several models answer: win rates, scores, and whether the judge holds.

    Every pair of answers is shown in both orders, and a win counts where both agree. Answers and verdicts are on disk
    as they come: the same command again goes on where it was stopped. Keys of endpoints: KUN_ENDPOINT_KEYS.

    \b
    Examples:
      kun judge smollm2-135m-instruct qwen2.5-coder-0.5b-instruct --questions examples/judging/en.jsonl
      kun judge base=smollm2-135m-instruct alpaca=runs/alpaca/checkpoint -q examples/judging/en.jsonl
        --judge gpt-4o@https://api.openai.com/v1 --report judged.html -o judged.svg
      kun judge a=runs/sft/checkpoint b=runs/ppo/checkpoint -q examples/judging/zh.jsonl
        --judge runs/reward/checkpoint --by pairs --json
    """
    from kun.evaluation.judging.answers import Answering
    from kun.evaluation.judging.questions import read_questions
    from kun.evaluation.judging.standings import standings
    from kun.evaluation.judging.verdicts import judge_all

    named = _named(models)
    _check_outputs(report, picture)
    if by == "pairs" and len(named) < 2:
        raise BadInput("One model has nobody to be compared with: name a second one, or give --by score.")
    asked = read_questions(questions, references=references, categories=category, limit=limit)
    folder = out.expanduser().absolute()
    options = Answering(max_tokens, temperature, seed)
    how = _How(quantize, parallel, timeout, as_json)
    deciding = judge_name or api.chosen_model().name
    _find([*named.values(), deciding], as_json)
    answers = [_answers(label, model, asked, folder, options, how) for label, model in named.items()]
    decider = _judge(deciding, explain, how)
    try:
        with output.progress(quiet=as_json) as tell:
            verdicts = judge_all(decider, asked, answers, folder, by, tell)
        found = standings(decider, asked, answers, verdicts, seed)
    finally:
        decider.close()
    _print(found, folder, as_json)
    if report is not None:
        from kun.atomic_files import new_file
        from kun.evaluation.judging.page import page

        with new_file(report.expanduser().absolute()) as fresh:
            fresh.write_text(page(found, asked, answers, verdicts), encoding="utf-8")
        typer.echo(f"Wrote {report}.", err=True)
    if picture is not None:
        from kun.evaluation.judging.radar import radar

        output.draw(picture.expanduser().absolute(), lambda format: radar(found, format))
    _complain(answers)


class _How:
    """The options of opening a model."""

    def __init__(self, quantize: str, parallel: int, timeout: float, quiet: bool) -> None:
        self.quantize, self.parallel, self.timeout, self.quiet = quantize, parallel, timeout, quiet


def _named(models: list[str]) -> dict[str, str]:
    """Models by the names that the table shows. Raises `BadInput` where two have the same."""
    from kun.models.endpoint import is_endpoint

    named: dict[str, str] = {}
    for one in models:
        found = _LABELLED.fullmatch(one)
        if found is not None:
            label, model = found["label"], found["model"]
        elif is_endpoint(one):
            label, model = re.split(r"@https?://", one, flags=re.IGNORECASE)[0], one
        else:
            label, model = _display(one), one
        if label in named:
            raise BadInput(f"Two models are called {label}: tell them apart, as in first={model}.")
        named[label] = model
    return named


def _display(model: str) -> str:
    """A run's name for its checkpoint, a folder's or file's name for a path, else the name as it is."""
    from kun.hub.store import display_name

    path = Path(model).expanduser()
    return display_name(path) if path.exists() else model


def _check_outputs(report: Path | None, picture: Path | None) -> None:
    """Raise `BadInput` for names that cannot be written, before hours of work."""
    if report is not None:
        from kun.evaluation.page import check_name

        check_name(report)
    if picture is not None:
        from kun.inspection.picture import format_of

        format_of(picture)


def _find(models: list[str], quiet: bool) -> None:
    """Raise `ModelNotFound` for a model that is not here, and pull what can be had, before hours of work."""
    from kun.hub.pull import locate
    from kun.models.endpoint import is_endpoint

    with output.progress(quiet=quiet, in_bytes=True) as tell:
        for one in models:
            if not is_endpoint(one):
                locate(one, tell, any_file=True)


def _answers(
    label: str, model: str, questions: "list[Question]", folder: Path, options: "Answering", how: _How
) -> "Answers":
    """One model's answers; it is closed before the next one is opened, so that they need no memory together."""
    from kun.evaluation.judging.answers import answer_all

    writer = open_writer(
        model, quantize=how.quantize, parallel=how.parallel, timeout=how.timeout, quiet=how.quiet
    )
    try:
        with output.progress(quiet=how.quiet) as tell:
            return answer_all(writer, label, questions, folder, options, tell)
    finally:
        writer.close()


def _judge(name: str, explain: bool | None, how: _How) -> "Judge":
    from kun.alignment.reward_model import RewardModel
    from kun.evaluation.judging.judges import ReadingJudge, ScoringJudge
    from kun.models.endpoint import is_endpoint
    from kun.models.language_model import as_language_model
    from kun.models.writers import LocalWriter

    if is_endpoint(name):
        writer = open_writer(
            name, quantize=how.quantize, parallel=how.parallel, timeout=how.timeout, quiet=how.quiet
        )
        return ReadingJudge(writer, explain=explain)
    from kun.hub.pull import locate
    from kun.models.kinds import Candidate, kind_of

    with output.progress(quiet=how.quiet, in_bytes=True) as tell:
        # scores are differences of single numbers: a reward model keeps its floats
        is_scoring = kind_of(Candidate(locate(name, tell, any_file=True))).name == "reward model"
        quantize = None if is_scoring or how.quantize == "none" else how.quantize
        model = api.load(name, quantize=quantize, progress=tell)
    if isinstance(model, RewardModel):
        return ScoringJudge(model)
    return ReadingJudge(LocalWriter(as_language_model(model, name), how.quantize), explain=explain)


def _print(found: "Judged", folder: Path, as_json: bool) -> None:
    from kun.evaluation.judging.page import trust

    if as_json:
        told = output.as_dict(found)
        held = output.as_dict(found.consistency)
        told["consistency"] = {**held, "share": found.consistency.share}
        told |= {"warnings": found.warnings, "folder": str(folder)}
        output.print_json(told)
        return
    is_compared = any(one.win_rate for one in found.standings)
    shown = found.categories[:_CATEGORIES_IN_TABLE] if len(found.categories) <= _CATEGORIES_IN_TABLE else []
    headers = ["model", "win rate [95 %]", "won", "tied", "lost", "score [95 %]", *shown, "tokens", "seconds"]
    rows: list[list[object]] = []
    for one in found.standings:
        by = one.win_rate_by_category if is_compared else one.score_by_category
        digits = 2 if is_compared else found.score_digits
        cells = [f"{by[name]:.{digits}f}" if name in by else "" for name in shown]
        rows.append(
            [
                one.model,
                _shown(one.win_rate),
                one.wins,
                one.ties,
                one.losses,
                _shown(one.score, found.score_digits),
                *cells,
                one.tokens,
                f"{one.seconds:.0f}",
            ]
        )
    typer.secho(f"{found.questions} questions, judged by {found.judge} ({found.kind})", bold=True)
    output.print_table(headers, rows)
    if not shown:
        _print_categories(found, is_compared)
    if sentence := trust(found):
        typer.echo(sentence)
    for warning in found.warnings:
        typer.secho(warning, fg=typer.colors.RED)
    if found.unscored:
        typer.echo(f"{found.unscored} answers without a score: the judge wrote none.")
    typer.echo(f"Answers and verdicts: {folder}")


def _print_categories(found: "Judged", is_compared: bool) -> None:
    """A line for each category, a column for each model; nothing without a verdict or a score."""
    digits = 2 if is_compared else found.score_digits
    if not is_compared and not any(one.score for one in found.standings):
        return
    rows: list[list[object]] = []
    for name in found.categories:
        by = [one.win_rate_by_category if is_compared else one.score_by_category for one in found.standings]
        rows.append([name, *(f"{each[name]:.{digits}f}" if name in each else "" for each in by)])
    output.print_table(
        ["win rate in" if is_compared else "score in", *(one.model for one in found.standings)], rows
    )


def _shown(value: "Interval | None", digits: int = 2) -> str:
    return "" if value is None else value.shown(digits)


def _complain(answers: "list[Answers]") -> None:
    """Say which questions had no answer, and how many answers were cut off."""
    for one in answers:
        if one.cut:
            typer.echo(f"{one.model}: {one.cut} turns reached --max-tokens and end there.", err=True)
        for id, why in list(one.failed.items())[:3]:
            typer.echo(f"{one.model}, question {id}: {why}", err=True)
        if len(one.failed) > 3:
            typer.echo(f"{one.model}: {len(one.failed)} questions without all their answers.", err=True)
