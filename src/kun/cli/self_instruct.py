"""`kun self-instruct`: a model makes up instructions with inputs and outputs from a few seed tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from kun import api
from kun.cli import output
from kun.cli.writers import PARALLEL_OPTION, TIMEOUT_OPTION, open_writer

if TYPE_CHECKING:
    from kun.alignment.self_instruct.making import Cost


def self_instruct(
    seeds: Path = typer.Argument(
        ..., help="Seed tasks, a JSON object a line: Self-Instruct's shape, or Alpaca's rows."
    ),
    out: Path = typer.Option(
        ..., "--out", "-o", help="The .jsonl file of the rows; one that is there is gone on with."
    ),
    model: str | None = typer.Option(
        None,
        "--model",
        "-m",
        help="Who writes: a model here, or MODEL@URL (default: this machine's chosen model).",
    ),
    count: int = typer.Option(100, "--count", "-n", min=1, help="Rows that the file shall have."),
    style: Literal["self-instruct", "alpaca"] = typer.Option(
        "self-instruct", "--style", help="Three steps with classification apart, or whole tasks at once."
    ),
    similar: float = typer.Option(
        0.7, "--similar", help="ROUGE-L with an instruction that is there from which on a new one is dropped."
    ),
    requests: int = typer.Option(4, "--requests", min=1, help="Prompts a round."),
    more: int = typer.Option(8, "--more", min=1, max=50, help="New tasks that each prompt asks for."),
    max_tokens: int = typer.Option(1536, "--max-tokens", min=16, help="The longest reply with whole tasks."),
    temperature: float = typer.Option(0.8, min=0),
    seed: int = typer.Option(0, help="Of the seeds that are shown, and of what is drawn."),
    quantize: output.Quantize = output.QUANTIZE_OPTION,
    parallel: int = PARALLEL_OPTION,
    timeout: float = TIMEOUT_OPTION,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Let a model write instructions, inputs and outputs from seed tasks: Alpaca's format, ready for kun train.

    Every row is on the disk as soon as it is kept: the same command again goes on. What was dropped is counted with its
    reason, and requests, tokens and seconds are added up over all runs. Keys of endpoints: KUN_ENDPOINT_KEYS.

    \b
    Examples:
      kun self-instruct examples/self-instruct/en.jsonl -o made.jsonl -m qwen2.5-coder-1.5b-instruct -n 500
      kun self-instruct examples/self-instruct/zh.jsonl -o made-zh.jsonl --style alpaca
      kun self-instruct seeds.jsonl -o made.jsonl -m gpt-4o-mini@https://api.openai.com/v1 --requests 16 --parallel 16
    """
    from kun.alignment.self_instruct.making import Making, make
    from kun.alignment.self_instruct.tasks import read_seeds

    tasks = read_seeds(seeds)
    options = Making(
        count=count,
        style=style,
        requests=requests,
        more=more,
        most_similar=similar,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
    )
    name = model or api.chosen_model().name
    writer = open_writer(name, quantize=quantize, parallel=parallel, timeout=timeout, quiet=as_json)
    try:
        with output.progress(quiet=as_json) as tell:
            cost = make(writer, tasks, out.expanduser().absolute(), options, tell)
    finally:
        writer.close()
    if as_json:
        told = {**vars(cost), "dropped": dict(cost.dropped), "share": cost.share}
        output.print_json({**told, "file": str(out), "model": writer.name})
        return
    _print(cost, out)


def _print(cost: "Cost", out: Path) -> None:
    typer.secho(f"{out}: {cost.kept} rows ({cost.ended}).", bold=True)
    each = (
        f", {cost.tokens / cost.kept:.0f} tokens and {cost.seconds / cost.kept:.1f} s a row"
        if cost.kept
        else ""
    )
    typer.echo(
        f"All runs: {cost.rounds} rounds, {cost.requests} requests, {cost.prompt_tokens} + {cost.tokens} tokens read "
        f"and written, {cost.seconds:.0f} s{each}."
    )
    typer.echo(
        f"Kept {cost.share:.0%} of what was looked at; dropped:" if cost.dropped else "Nothing was dropped."
    )
    if cost.dropped:
        output.print_table(["reason", "count"], [[why, n] for why, n in cost.dropped.most_common()])
    typer.echo(f'Train on it: train = "{out}" and format = "alpaca" under [data].')
