"""`kun serve` and `kun quickstart`: the running system."""

import time
from pathlib import Path

import typer

from kun import api
from kun.cli import output

HOST = typer.Option("127.0.0.1", help="The address to listen on; any other than loopback wants KUN_API_KEYS.")
PORT = typer.Option(8000, min=0, max=65535, help="The port; 0 takes a free one.")

QUESTIONS = (
    "What are the three steps of InstructGPT?",
    "Alpaca 的指令数据是怎么来的？",
)


def serve(
    model: str | None = typer.Option(
        None, "--model", "-m", help="The language model (default: the default one)."
    ),
    encoder: str | None = typer.Option(None, help="The text encoder (default: the default one)."),
    host: str = HOST,
    port: int = PORT,
    quantize: str = typer.Option("int4", help="How the weights are held: int4, int8, or none."),
    web: bool = typer.Option(True, help="Serve the web app beside the API."),
) -> None:
    """Serve the web app and the API.

    The API is OpenAI-compatible; every knowledge base is a model too: NAME@MODEL. Ctrl-C stops.

    \b
    Examples:
      kun serve
      kun serve --model smollm2-135m-instruct --port 9000 --no-web
      KUN_API_KEYS=secret kun serve --host 0.0.0.0
    """
    _fetch([model or api.DEFAULT_MODEL, encoder or api.DEFAULT_ENCODER], quiet=False)
    _serve(model, encoder, host, port, quantize, web)


def quickstart(
    documents: Path | None = typer.Option(None, help="The documents to begin with (default: the handbook)."),
    host: str = HOST,
    port: int = PORT,
    stay: bool = typer.Option(True, "--serve/--no-serve", help="Stay, with the web app and the API."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """From nothing to two answers and a running app.

    Fetches the default models, makes a knowledge base of the handbook (or of your own documents), asks it one
    question in English and one in Chinese, and stays with the web app and the API until Ctrl-C.

    \b
    Examples:
      kun quickstart
      kun quickstart --no-serve --json
      kun quickstart --documents ~/Documents/notes
    """
    started = time.monotonic()
    _fetch([api.DEFAULT_MODEL, api.DEFAULT_ENCODER], quiet=as_json)
    base = api.create_knowledge_base("handbook" if documents is None else _name_of(documents))
    with output.progress(quiet=as_json) as report:
        added = base.add(documents or api.handbook(), progress=report)
    for file, why in added.failed.items():
        typer.echo(f"failed: {file}: {why}", err=True)
    lm = api.load_language_model()
    answers = []
    for question in QUESTIONS:
        stream = base.ask_stream(question, lm)
        if not as_json:
            typer.secho(f"\n? {question}", bold=True)
            for piece in stream:
                typer.echo(piece, nl=False)
            typer.echo()
        answer = stream.answer()
        if not as_json:
            for place, passage in enumerate(answer.passages, 1):
                typer.echo(
                    f"  [{place}] {passage.source}" + (f" · {passage.heading}" if passage.heading else "")
                )
        answers.append(
            {
                "question": question,
                "text": answer.text,
                "passages": [{"source": p.source, "text": p.text, "score": p.score} for p in answer.passages],
            }
        )
    seconds = round(time.monotonic() - started, 2)
    if as_json:
        output.print_json({"answers": answers, "seconds": seconds})
    else:
        typer.echo(f"\nBoth answers after {seconds:.0f} s.")
    if stay:
        _serve(None, None, host, port, "int4", web=True)


def _serve(model: str | None, encoder: str | None, host: str, port: int, quantize: str, web: bool) -> None:
    from kun.server.run import serve as run_server
    from kun.server.service import Service

    service = Service(model=model, encoder=encoder, quantize=None if quantize == "none" else quantize)
    run_server(
        host,
        port,
        service=service,
        web=web,
        on_ready=lambda url: typer.echo(f"Ready: {url}"),
    )


def _fetch(names: list[str], quiet: bool) -> None:
    with output.progress(quiet=quiet, in_bytes=True) as report:
        for name in names:
            api.locate(name, progress=report)


def _name_of(documents: Path) -> str:
    return documents.resolve().name
