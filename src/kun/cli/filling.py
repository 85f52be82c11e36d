"""`kun fill`: the words that masks stand for."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from kun import api
from kun.cli import output

if TYPE_CHECKING:
    from kun.models.task_model import Filling


def fill(
    model: str = typer.Argument(..., help="A checkpoint with a masked-word head: folder or hub id."),
    texts: list[str] = typer.Argument(
        ..., metavar="TEXT...", help="A text with one or more masks, such as [MASK] or <mask>; - reads it."
    ),
    k: int = typer.Option(5, "--k", "-k", help="How many words for each mask."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Fill the masks of a text: what a masked language model (BERT, RoBERTa, ERNIE) expects there.

    \b
    Examples:
      kun fill google-bert/bert-base-uncased "Paris is the [MASK] of France."
      kun fill FacebookAI/roberta-base "<mask> is the capital of <mask>." --k 3
      kun fill ./my-ernie "今天[MASK]气很好。" --json
    """
    given = [sys.stdin.read().strip() if text == "-" else text for text in texts]
    with output.progress(quiet=as_json, in_bytes=True) as report:
        lm = api.load_task_model(model, progress=report)
    filled = [_by_mask(one) for one in lm.fill(given, k=k)]
    if as_json:
        output.print_json(
            [
                {"text": text, "masks": [[asdict(word) for word in words] for words in masks]}
                for text, masks in zip(given, filled, strict=True)
            ]
        )
        return
    for text, masks in zip(given, filled, strict=True):
        _print(text, masks)


def _by_mask(filled: "list[Filling] | list[list[Filling]]") -> "list[list[Filling]]":
    """A list for each mask, also where there is but one."""
    singles = [one for one in filled if not isinstance(one, list)]
    return [singles] if singles else [one for one in filled if isinstance(one, list)]


def _print(text: str, masks: "list[list[Filling]]") -> None:
    typer.echo(text)
    for place, words in enumerate(masks, 1):
        if len(masks) > 1:
            typer.echo(f"mask {place}")
        for word in words:
            typer.echo(f"{word.probability:8.4f}  {word.text.strip() or repr(word.text)}")
