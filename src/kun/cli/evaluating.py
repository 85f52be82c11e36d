"""`kun eval`: how well a model does on a task."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import typer

from kun import api
from kun.cli import output
from kun.errors import BadInput

if TYPE_CHECKING:
    from kun.evaluation.result import Result, Sample
    from kun.evaluation.task import AnyTask

_SHOWN = 160


def evaluate(
    model: str = typer.Argument(..., help="The model: a name, a folder, a .gguf file or a hub id."),
    tasks: list[Path] = typer.Option(
        ..., "--task", "-t", help="The task's .toml file, or faults or safety; may be repeated."
    ),
    against: list[str] | None = typer.Option(
        None, help="Another model, measured on the same rows; may be repeated."
    ),
    shots: int | None = typer.Option(
        None, min=0, help="Solved examples before a question (default: the task's)."
    ),
    limit: int | None = typer.Option(None, min=1, help="Only the first so many rows."),
    precision: Literal["fp32", "bf16"] = typer.Option(
        "fp32", help="The numbers that weights and states are held in."
    ),
    quantize: output.Quantize = typer.Option("none", help="Measure the model with weights of few bits."),
    samples: int = typer.Option(
        2, min=0, help="How many right and how many wrong rows to show of each task."
    ),
    report: Path | None = typer.Option(None, help="Write a page with all rows into this .html file."),
    picture: Path | None = typer.Option(
        None, "--picture", "-o", help="Draw a bar for each model and task into this file, .png or .svg."
    ),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """How well a model does on a task: perplexity, multiple choice, labels, translation, summary, rules.

    A task is a small TOML file beside its data. Every number comes with its standard error. Two come with Kun, in
    English and Chinese: faults (does it follow, make up, explain, do harm, keep the thread?) and safety (are harmful
    requests refused, and harmless ones not?).

    \b
    Examples:
      kun eval smollm2-135m-instruct --task examples/tasks/facts.toml --shots 2
      kun eval smollm2-135m-instruct -t examples/tasks/prose.toml --against qwen2.5-coder-0.5b-instruct
      kun eval ./my-classifier -t examples/tasks/reviews.toml --report reviews.html
      kun eval smollm2-135m-instruct -t examples/tasks/facts.toml --quantize int4 --json
      kun eval smollm2-135m-instruct --against runs/medicine/checkpoint -t examples/tasks/medicine-en.toml
        -t examples/tasks/everyday-en.toml --picture medicine.svg
      kun eval smollm2-135m-instruct --against runs/aligned-dpo/checkpoint -t safety -t faults --picture safety.svg
    """
    from kun.evaluation.sets import task_files

    if report is not None:
        from kun.evaluation.page import check_name

        check_name(report)
    if picture is not None:
        from kun.inspection.picture import format_of

        format = format_of(picture)
    if quantize != "none" and precision != "fp32":
        raise BadInput(
            "Weights of few bits are computed with in float32: leave --precision or --quantize out."
        )
    files = [file for task in tasks for file in task_files(task)]
    read = [api.read_task(file, limit=limit, shots=shots) for file in files]  # before a model is loaded
    names = [model, *(against or ())]
    with output.progress(quiet=as_json, in_bytes=True) as tell:
        for name in names:  # all of them are here before the first is asked, which takes minutes
            api.locate(name, any_file=True, progress=tell)
    by_model = [_measured(name, read, _how(precision, quantize), limit, quiet=as_json) for name in names]
    found = [list(results) for results in zip(*by_model, strict=True)]
    if as_json:
        output.print_json([_as_dict(result, results[0], samples) for results in found for result in results])
    else:
        for results in found:
            _print(results, samples)
    if report is not None:
        from kun.atomic_files import new_file
        from kun.evaluation.page import page

        with new_file(report.expanduser().absolute()) as fresh:
            fresh.write_text(page(found), encoding="utf-8")
        typer.echo(f"Wrote {report}.", err=True)
    if picture is not None:
        from kun.atomic_files import new_file
        from kun.evaluation.picture import bars

        with new_file(picture.expanduser().absolute()) as fresh:
            fresh.write_bytes(bars(found, format))
        typer.echo(f"Wrote {picture}.", err=True)


class _Loading(TypedDict, total=False):
    """The options of `api.load` that say how a model's numbers are held."""

    quantize: str
    dtype: str


def _how(precision: str, quantize: str) -> _Loading:
    """The options of `api.load`."""
    if quantize != "none":
        return {"quantize": quantize}
    return {"dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision]}


def _measured(
    name: str, tasks: "list[AnyTask]", how: _Loading, limit: int | None, quiet: bool
) -> "list[Result]":
    """One model on all tasks."""
    with output.progress(quiet=quiet, in_bytes=True) as tell:
        model = api.load(name, progress=tell, **how)
    with output.progress(quiet=quiet) as tell:
        return [api.evaluate(model, task, limit=limit, progress=tell) for task in tasks]


def _print(results: "list[Result]", samples: int) -> None:
    from kun.evaluation.change import perplexity_change, share_changes
    from kun.evaluation.result import difference, measured_with

    first = results[0]
    typer.secho(f"{first.task}: {first.kind}, {first.n} rows", bold=True)
    headers = ["measure", *(result.model for result in results)]
    counted = [share_changes(first, result) for result in results[1:]]
    rows: list[list[object]] = []
    for name in first.measures:
        rows.append([name, *(_number(r, name) for r in results)])
        if any(name in changes for changes in counted):
            rows.append(["  changes by", "", *(str(changes.get(name, "")) for changes in counted)])
    changes = [perplexity_change(first, result) for result in results[1:]]
    if any(changes):
        rows.append(["perplexity changes by", "", *(str(change or "") for change in changes)])
    rows.append(["seconds", *(f"{result.seconds:.1f}" for result in results)])
    if len(results) == 2 and not any(counted):
        paired = difference(*results)
        sure = "" if paired.error is None else f" ± {paired.error:.4f}"
        rows.append(["difference of rows", f"{paired.value:+.4f}{sure}", ""])
    output.print_table(headers, rows)
    for told, models in measured_with(results).items():
        typer.echo(f"Measured with {told}." if len(models) == len(results) else f"{models[0]}: {told}.")
    for result in results:
        if result.cut:
            typer.echo(f"{result.cut} of {result.n} texts were too long for {result.model} and lost a part.")
        for sample in chosen(result, samples):
            typer.echo(_shown(sample))


def _number(result: "Result", name: str) -> str:
    measure = result.measures[name]
    if measure.low is not None and measure.high is not None:
        return f"{measure.value:.1%} [{measure.low:.1%}, {measure.high:.1%}]"
    return f"{measure.value:.4f}" + ("" if measure.error is None else f" ± {measure.error:.4f}")


def chosen(result: "Result", count: int) -> "list[Sample]":
    """The first `count` right rows and as many wrong ones; the worst and the best where there is no right."""
    if any(sample.right is not None for sample in result.samples):
        wrong = [sample for sample in result.samples if not sample.right][:count]
        return [sample for sample in result.samples if sample.right][:count] + wrong
    ranked = sorted(result.samples, key=lambda sample: sample.score)
    return ranked[:count] + ranked[max(count, len(ranked) - count) :]


def _shown(sample: "Sample") -> str:
    mark = {True: "right", False: "wrong", None: f"{sample.score:.2f}"}[sample.right]
    asked = " ".join(sample.asked.split())[-_SHOWN:]
    lines = [f"{mark:>6}  {sample.where}  {asked}"]
    if sample.said or sample.wanted:
        lines.append(f"        said {_short(sample.said)}; wanted {_short(sample.wanted)}")
    if sample.broken and not sample.right:
        lines.append(f"        does not keep {', '.join(sample.broken)}")
    return "\n".join(lines)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…")


def _as_dict(result: "Result", first: "Result", samples: int) -> dict[str, object]:
    from kun.evaluation.change import perplexity_change, share_changes

    plain = output.as_dict(result)
    if result is not first and (change := perplexity_change(first, result)):
        plain["change"] = output.as_dict(change)
    if result is not first and (changes := share_changes(first, result)):
        plain["changes"] = {name: output.as_dict(one) for name, one in changes.items()}
    plain["samples"] = [output.as_dict(sample) for sample in chosen(result, samples)]
    return plain
