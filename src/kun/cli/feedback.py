"""`kun feedback`: people's rankings, demonstrations and thumbs, into and out of files, and in numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from kun.cli import output
from kun.errors import BadInput

if TYPE_CHECKING:
    from kun.alignment.feedback.agreement import Share, Summary
    from kun.alignment.feedback.store import FeedbackStore

Known = TypeVar("Known", bound=str)

app = typer.Typer(
    help="Feedback of people: import, export and count rankings, demonstrations and thumbs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@contextmanager
def _store() -> "Iterator[FeedbackStore]":
    from kun.alignment.feedback.store import FeedbackStore

    store = FeedbackStore.open()
    try:
        yield store
    finally:
        store.close()


@app.command("import")
def import_(
    file: Path = typer.Argument(..., help="Preferences, rankings, conversations or prompts, in any format."),
    rater: str = typer.Option("imported", "--rater", help="Who judged, or wrote, what is in it."),
    prompts: bool = typer.Option(
        False,
        "--prompts",
        help="Take what is asked only, to be answered and rated; a text has one on each line.",
    ),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Rows to read, from the front."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Add what is in a file; what is there already is not added again.

    Preferences and rankings become votes, conversations and instructions demonstrations, answers with a label of true
    or false thumbs.

    \b
    Examples:
      kun feedback import preferences.jsonl
      kun feedback import rankings.jsonl --rater Ada
      kun feedback import questions.txt --prompts
    """
    from kun.alignment.feedback.exchange import import_file, import_prompts

    output.check_paths([file])
    with _store() as store, output.progress(quiet=as_json) as report:
        if prompts:
            made = import_prompts(store, file, limit=limit)
        else:
            made = import_file(store, file, rater=rater, limit=limit, progress=report)
    if as_json:
        output.print_json(output.as_dict(made))
    else:
        counts = {
            "rankings": made.rankings,
            "demonstrations": made.demonstrations,
            "thumbs": made.thumbs,
            "prompts": made.prompts,
            "there already": made.known,
            "left out": made.left_out,
            "contradictory": made.contradictory,
        }
        added = made.rankings + made.demonstrations + made.thumbs + made.prompts
        typer.echo(
            f"Added {added}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        )
        for example in made.examples:
            typer.echo(f"left out: {example}", err=True)
    if made.left_out:
        raise typer.Exit(1)


@app.command()
def export(
    file: Path = typer.Argument(..., help="The file to write, JSON lines."),
    format: str = typer.Option(
        "conversational",
        "--format",
        help="conversational, standard (TRL's both), hh, alpaca, sharegpt, openai, openai-preferences, or ranking.",
    ),
    kind: str = typer.Option("preferences", "--kind", help="preferences, demonstrations or thumbs."),
    contradictory: str = typer.Option(
        "keep", "--contradictory", help="keep or drop pairs of which somebody said the reverse."
    ),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Write feedback to train on: prompt, chosen and rejected as lists of messages, unless another format is wanted.

    A corrected answer is better than all others; a tie is no pair. Thumbs count where answers to one prompt have both.

    \b
    Examples:
      kun feedback export preferences.jsonl
      kun feedback export pairs.jsonl --format alpaca --contradictory drop
      kun feedback export written.jsonl --kind demonstrations
    """
    from kun.alignment.feedback.exchange import CONTRADICTORY, KINDS, export_file
    from kun.data.preference_shapes import SHAPES

    shape = _one_of(format, SHAPES, "--format")
    wanted = _one_of(kind, KINDS, "--kind")
    kept = _one_of(contradictory, CONTRADICTORY, "--contradictory")
    if wanted != "preferences" and format != "conversational":
        raise BadInput(f"--format is of preferences; {wanted} have one format: leave it out.")
    with _store() as store:
        made = export_file(store, file, kind=wanted, shape=shape, contradictory=kept)
    if as_json:
        output.print_json({"file": str(file), **output.as_dict(made)})
    else:
        typer.echo(f"Wrote {made.records} rows to {file}.")
        if made.contradictory:
            what = "left out" if kept == "drop" else "kept (--contradictory drop leaves them out)"
            typer.echo(f"{made.contradictory} pairs contradict each other; {what}.")
        for example in made.examples:
            typer.echo(f"left out: {example}", err=True)
    if made.left_out:
        raise typer.Exit(1)


@app.command()
def stats(as_json: bool = output.JSON_OPTION) -> None:
    """Votes, people, agreement, and how often the first and the longer answer win.

    \b
    Examples:
      kun feedback stats
      kun feedback stats --json
    """
    from kun.alignment.feedback.agreement import summary_of

    with _store() as store:
        summary = summary_of(store.votes())
        others = {
            "prompts": len(store.prompts()),
            "waiting": len(store.prompts(waiting=True)),
            "demonstrations": len(store.demonstrations()),
            "thumbs_up": sum(thumb.value > 0 for thumb in store.thumbs()),
            "thumbs_down": sum(thumb.value < 0 for thumb in store.thumbs()),
        }
    if as_json:
        output.print_json(output.as_dict(summary) | others)
        return
    output.print_table(("what", "how many"), _counts(summary, others))
    if summary.raters:
        output.print_table(("who rated", "votes"), list(summary.raters.items()))
    if summary.models:
        rows = [(name, _percent(share), share.count) for name, share in summary.models.items()]
        output.print_table(("model", "better", "of pairs"), rows)


def _counts(summary: "Summary", others: dict[str, int]) -> list[tuple[str, object]]:
    found = summary.agreement
    alpha = "not yet known" if found.alpha is None else f"{found.alpha:.3f}"
    return [
        ("votes", summary.votes),
        ("skipped", summary.skipped),
        ("all bad", summary.bad),
        ("pairs", summary.pairs),
        ("ties", summary.ties),
        ("contradictory pairs", summary.contradictory),
        ("corrected answers", summary.corrections),
        *((f"flagged {name}", count) for name, count in summary.flags.items()),
        *((name.replace("_", " "), count) for name, count in others.items()),
        ("rated by several", found.items),
        ("agreement, Krippendorff's alpha", alpha),
        ("agreement of two on a pair", _percent(found.pairwise)),
        ("the first answer wins", _percent(summary.first_wins)),
        ("the longer answer wins", _percent(summary.longer_wins)),
    ]


def _percent(share: "Share | None") -> str:
    return "not yet known" if share is None else f"{share.share:.1%} ± {share.error:.1%} of {share.count}"


def _one_of(value: str, known: "tuple[Known, ...]", option: str) -> "Known":
    for one in known:
        if one == value:
            return one
    raise BadInput(f"{option} is {value!r}: it is one of {', '.join(known)}.")
