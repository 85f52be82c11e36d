"""`kun classify`: which of some labels fits a text."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun import api
from kun.cli import output
from kun.errors import BadInput

if TYPE_CHECKING:
    from kun.models.task_model import Judgement

_SHOWN = 100


def classify(
    texts: list[str] = typer.Argument(None, metavar="TEXT...", help="The text; - reads standard input."),
    labels: str | None = typer.Option(
        None,
        "--labels",
        "-l",
        help='Labels between commas: "cat,dog", or "billing=invoices,shipping=delivery".',
    ),
    file: Path | None = typer.Option(
        None, "--file", "-f", help="Texts: a line each, or the column text of a .jsonl, .csv or .tsv file."
    ),
    examples: Path | None = typer.Option(
        None, "--examples", "-e", help="Solved examples: a .jsonl, .csv or .tsv file with text and label."
    ),
    model: str | None = typer.Option(
        None,
        "--model",
        "-m",
        help="An encoder (default: multilingual-e5-small), a language model, or a trained classifier.",
    ),
    quantize: str | None = typer.Option(
        None, help="int4 or int8 weights (default: int4 of a language model in a packed file)."
    ),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Tell which of some labels fits a text, in classes that nobody trained. English and Chinese.

    An encoder takes the label whose description lies nearest, a language model the one it holds likeliest, calibrated
    by inputs without content; a trained classifier has labels of its own. The same text has the same answer each time.

    \b
    Examples:
      kun classify "The film was dull." --labels "positive,negative"
      kun classify "房间很干净，下次还来。" --labels "正面,负面"
      kun classify --file reviews.txt --labels "positive,negative" --json
      kun classify "My parcel is late." --labels "billing=invoices and payments,shipping=delivery of parcels"
      kun classify "So so." --labels "positive,negative" --examples solved.jsonl -m qwen2.5-coder-0.5b-instruct
      kun classify "The film was dull." -m runs/sentiment/checkpoint
    """
    from kun.evaluation.zero_shot.classify import refuse_picture
    from kun.evaluation.zero_shot.labels import Labels, read_examples, read_texts

    output.check_paths([path for path in (file, examples) if path is not None])
    given = [sys.stdin.read().strip() if text == "-" else text for text in texts or []]
    for text in given:
        refuse_picture(text)
    if file is not None:
        given += read_texts(file)
    if not given:
        raise BadInput("There is no text: give one, or --file FILE.")
    known = None if labels is None else Labels.read(labels)
    solved = [] if examples is None else read_examples(examples)
    with output.progress(quiet=as_json) as report:
        judged = api.classify(given, known, model=model, examples=solved, quantize=quantize, progress=report)
    found = judged if isinstance(judged, list) else [judged]
    one = len(given) == 1 and file is None
    if as_json:
        rows = [_as_dict(text, each) for text, each in zip(given, found, strict=True)]
        output.print_json(rows[0] if one else rows)
    elif one:
        _print(found[0])
    else:
        for text, each in zip(given, found, strict=True):
            line = " ".join(text.split())
            shown = line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
            typer.echo(f"{each.score:6.4f}  {each.label or ''}  {shown}")


def _as_dict(text: str, judged: "Judgement") -> dict[str, object]:
    """Of a model that predicts a number, the number is the score."""
    if judged.label is None:
        return {"text": text, "label": None, "score": judged.score, "scores": {}}
    return {"text": text, "label": judged.label, "scores": dict(judged.probabilities)}


def _print(judged: "Judgement") -> None:
    if judged.label is None:
        typer.echo(f"{judged.score:.4f}")
    for label, share in sorted(judged.probabilities.items(), key=lambda one: -one[1]):
        typer.echo(f"{share:6.4f}  {label}")
