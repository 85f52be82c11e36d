"""The same prompts to several models, their answers next to each other: on the terminal, and on a page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun import api
from kun.cli import output

if TYPE_CHECKING:
    from kun.generation.options import SamplingOptions
    from kun.models.language_model import LanguageModel

Answers = Mapping[str, Sequence[Sequence[str]]]
"""For each model, for each prompt its texts."""


def answers_of(
    models: Sequence[str],
    prompts: Sequence[str],
    options: "SamplingOptions",
    quantize: output.Quantize,
    *,
    as_chat: bool,
    quiet: bool,
) -> Answers:
    """What each model says, one model in memory at a time.

    With `as_chat` a model that was only pretrained, which has no chat template, gets a dialogue in plain text to go on
    with. Raises what loading a model and generating raise.
    """
    found: dict[str, list[list[str]]] = {}
    for given in models:
        with output.progress(quiet=quiet, in_bytes=True) as report:
            lm = api.load_language_model(given, quantize=quantize, progress=report)
        with lm:
            found[given if lm.name in found else lm.name] = [
                _texts(lm, prompt, options, as_chat) for prompt in prompts
            ]
    return found


def _texts(lm: "LanguageModel", prompt: str, options: "SamplingOptions", as_chat: bool) -> list[str]:
    from kun.evaluation.asking import asked_of

    if not as_chat:
        said = lm.generate(prompt, options)
    else:
        asked = asked_of(lm, (prompt,))
        stop = (*(options.stop or ()), *asked.stop)
        said = lm.generate(asked.prompt, replace(options, stop=stop) if stop else options)
    return [said] if isinstance(said, str) else list(said)


def show(prompts: Sequence[str], answers: Answers, as_json: bool) -> None:
    """Print the answers, those to one prompt together."""
    if as_json:
        output.print_json(
            [
                {"prompt": prompt, "model": name, "texts": texts[number]}
                for number, prompt in enumerate(prompts)
                for name, texts in answers.items()
            ]
        )
        return
    for number, prompt in enumerate(prompts):
        typer.secho(prompt, bold=True)
        output.print_table(
            ["model", "answer"],
            [[name, text.strip()] for name, texts in answers.items() for text in texts[number]],
        )


def write_page(path: Path, prompts: Sequence[str], answers: Answers) -> None:
    """Write the page, a column a model."""
    from kun.atomic_files import new_file
    from kun.evaluation.page import side_by_side

    with new_file(path.expanduser().absolute()) as fresh:
        fresh.write_text(side_by_side(prompts, answers), encoding="utf-8")
    typer.echo(f"Wrote {path}.", err=True)
