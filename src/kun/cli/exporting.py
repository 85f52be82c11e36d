"""`kun export`: a model for other programs, and the proof that it is the same model there."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from kun import api
from kun.cli import output

if TYPE_CHECKING:
    from kun.hub.export.comparing import StateCheck, TextCheck
    from kun.hub.export.exporting import Exported
    from kun.hub.export.verdict import Fidelity


def export(
    model: str = typer.Argument(..., help="Catalog name, folder, .gguf file or hub id."),
    folder: Path = typer.Argument(
        ..., help="Where it goes: for hf a new folder, for gguf the file, or its folder."
    ),
    format: Literal["hf", "gguf"] = typer.Option("hf", help="The Hugging Face layout, or llama.cpp's GGUF."),
    dtype: str | None = typer.Option(
        None,
        help="float32, bfloat16, float16; for gguf also Q8_0, Q4_0, Q4_1. Default: the model's own.",
        show_default=False,
    ),
    verify: bool = typer.Option(
        False, "--verify", help="Compare tokens, chats and logits through the format's own reader."
    ),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Write a model for other programs: weights, tokenizer, chat template and lineage.

    With --verify, the format's reference reader (transformers; for GGUF llama.cpp and transformers: pip install
    'kun[verify]') must read the same tokens, the same rendered chats and the same logits, or nothing is written. It
    leaves with 1 where that could not be compared.

    \b
    Examples:
      kun export smollm2-135m-instruct ./smollm2 --verify
      kun export smollm2-135m-instruct ./gguf --format gguf --dtype Q8_0 --verify
    """
    from kun.hub.export.verdict import ExportDiffers

    try:
        with output.progress(quiet=as_json) as report:
            exported = api.export(model, folder, format=format, dtype=dtype, verify=verify, progress=report)
    except ExportDiffers as error:
        if as_json:
            output.print_json({"path": None, "fidelity": error.fidelity.as_dict()})
        else:
            _print_readings(error.fidelity)
        raise
    fidelity: Fidelity | None = exported.fidelity
    if as_json:
        output.print_json(_as_dict(exported))
    else:
        _print(exported)
    if fidelity is not None and fidelity.verdict != "same":
        raise typer.Exit(1)


def _as_dict(exported: "Exported") -> dict[str, object]:
    proof = exported.fidelity
    return {
        "path": str(exported.path),
        "format": exported.format,
        "dtype": exported.dtype,
        "bytes": exported.bytes,
        "lost": list(exported.lost),
        "fidelity": proof.as_dict() if proof else None,
    }


def _print(exported: "Exported") -> None:
    typer.echo(f"{exported.path} ({exported.dtype}, {output.size(exported.bytes)})")
    for sentence in exported.lost:
        typer.echo(f"Note: {sentence}")
    if exported.fidelity is not None:
        _print_readings(exported.fidelity)
        typer.echo(exported.fidelity.sentence)


def _print_readings(fidelity: "Fidelity") -> None:
    rows: list[tuple[str, str, str, str]] = []
    for reading in fidelity.readings:
        if reading.problem:
            rows.append((reading.reader, "", "not compared", reading.problem))
        for what, check in (
            ("tokens", reading.tokens),
            ("chats", reading.chats),
            ("tokens of chats", reading.chat_tokens),
        ):
            if check is not None:
                rows.append((reading.reader, what, "same" if check.ok else "DIFFERS", _in_words(check)))
        if reading.states is not None:
            verdict = "same" if reading.states.ok else "DIFFERS"
            rows.append((reading.reader, "logits", verdict, _figures(reading.states)))
    if fidelity.rounding is not None:
        rows.append(("", f"price of {fidelity.dtype}", "", _figures(fidelity.rounding)))
    if fidelity.arithmetic is not None:
        rows.append(("", "price of llama.cpp's own rounding", "", _figures(fidelity.arithmetic)))
    output.print_table(("reader", "what", "verdict", "figures"), rows)


def _in_words(check: "TextCheck") -> str:
    spared = f", {check.spared} without what the note names" if check.spared else ""
    first = f"; first: {check.first}" if check.first else ""
    return f"{check.same} of {check.total}{spared}{first}"


def _figures(check: "StateCheck") -> str:
    where = check.where
    parts = [
        f"largest difference {check.largest:.2g} ({check.relative:.2g} of their spread; typical {check.typical:.1g})"
    ]
    if "sequence" in where:
        parts.append(f"at text {where['sequence']}, token {where['token']}, number {where['number']}")
    if check.mean_kl is not None and check.agreement is not None:
        parts.append(f"KL {check.mean_kl:.2g} nats, same likeliest token {check.agreement:.1%}")
    return f"{', '.join(parts)}; {check.positions} positions"
