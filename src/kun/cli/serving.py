"""`kun serve` and `kun quickstart`: the running system."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun import api
from kun.cli import output
from kun.errors import BadInput
from kun.settings import DEFAULT_ENCODER

if TYPE_CHECKING:
    from kun.knowledge.base import KnowledgeBase
    from kun.models.language_model import LanguageModel

HOST = typer.Option("127.0.0.1", help="The address to listen on; any other than loopback wants KUN_API_KEYS.")
PORT = typer.Option(8000, min=0, max=65535, help="The port; 0 takes a free one.")

QUESTIONS = (
    "What are the three steps of InstructGPT?",
    "Alpaca 的指令数据是怎么来的？",
)


def serve(
    model: str | None = typer.Option(
        None, "--model", "-m", help="The language model (default: the one chosen for this machine)."
    ),
    encoder: str | None = typer.Option(None, help="The text encoder (default: the default one)."),
    host: str = HOST,
    port: int = PORT,
    quantize: output.Quantize = output.QUANTIZE_OPTION,
    web: bool = typer.Option(True, help="Serve the web app beside the API."),
    adapters: list[str] | None = typer.Option(
        None,
        "--adapter",
        metavar="NAME=FOLDER",
        help="Serve an adapter under a name, from one engine with its base; may be repeated.",
    ),
    reward: str | None = typer.Option(
        None, metavar="NAME_OR_FOLDER", help="A reward model, which then answers POST /v1/scores."
    ),
) -> None:
    """Serve the web app and the API.

    The API is OpenAI-compatible; every knowledge base is a model too: NAME@MODEL. Ctrl-C stops.

    \b
    Examples:
      kun serve
      kun serve --model smollm2-135m-instruct --port 9000 --no-web
      kun serve --model smollm2-135m-instruct --adapter poet=runs/poet/checkpoint
      kun serve --reward runs/reward/checkpoint
      KUN_API_KEYS=secret kun serve --host 0.0.0.0
    """
    named = named_adapters(adapters or [])
    _check_address(host, port)
    wanted = [model or api.chosen_model().name, encoder or DEFAULT_ENCODER, *([reward] if reward else [])]
    _fetch(wanted, quiet=False)
    _serve(model, encoder, host, port, quantize, web, adapters=named, reward=reward)


def quickstart(
    documents: Path | None = typer.Option(
        None, metavar="PATH", help="A file or folder to begin with (default: the handbook)."
    ),
    questions: list[str] | None = typer.Option(
        None, "--question", "-q", help="What to ask; may be repeated (default: two about the handbook)."
    ),
    model: str | None = typer.Option(
        None, "--model", "-m", help="The language model (default: the one chosen for this machine)."
    ),
    host: str = HOST,
    port: int = PORT,
    stay: bool = typer.Option(True, "--serve/--no-serve", help="Stay, with the web app and the API."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """From nothing to two answers and a running app.

    Fetches the encoder and the language model that is chosen for this machine, makes a knowledge base of the
    handbook (or of your own documents), asks it one question in English and one in Chinese, and stays with the
    web app and the API until Ctrl-C.

    \b
    Examples:
      kun quickstart
      kun quickstart --no-serve --json
      kun quickstart --documents ~/Documents/notes --question "When is the meeting?"
    """
    started = time.monotonic()
    output.check_paths([documents] if documents else [])
    if stay:
        _check_address(host, port)
    name = model or _chosen(quiet=as_json)
    _fetch([name, DEFAULT_ENCODER], quiet=as_json)
    asked = questions or (QUESTIONS if documents is None else ())
    answers, failed = _read_and_ask(documents, asked, name, as_json)
    seconds = round(time.monotonic() - started, 2)
    if as_json:
        output.print_json({"answers": answers, "seconds": seconds})
    else:
        typer.echo(f"\nRead and answered in {seconds:.0f} s.")
    if stay:
        _serve(model, None, host, port, "int4", web=True, quiet=as_json)
    output.leave_if_failed(failed, quiet=True)


def _chosen(quiet: bool) -> str:
    """The default model, named with the reason before anything is fetched."""
    choice = api.chosen_model()
    if not quiet:
        typer.echo(f"Model: {choice.name} ({choice.reason}; kun models --default NAME changes it)")
    return choice.name


def _read_and_ask(
    documents: Path | None, questions: Sequence[str], model: str, quiet: bool
) -> tuple[list[dict[str, object]], dict[str, str]]:
    """The answers, and why documents could not be read. What it loads is let go of before the server loads it."""
    base = api.create_knowledge_base("handbook" if documents is None else documents.resolve().name)
    with output.progress(quiet=quiet) as report:
        added = base.add(documents or api.handbook(), progress=report)
    for file, why in added.failed.items():
        typer.echo(f"failed: {file}: {why}", err=True)
    with api.load_language_model(model) as lm:
        return [_answer(base, question, lm, quiet) for question in questions], added.failed


def _answer(base: "KnowledgeBase", question: str, lm: "LanguageModel", quiet: bool) -> dict[str, object]:
    stream = base.ask_stream(question, lm)
    if not quiet:
        typer.secho(f"\n? {question}", bold=True)
        for piece in stream:
            typer.echo(piece, nl=False)
        typer.echo()
    answer = stream.answer()
    if not quiet:
        output.print_sources(answer.passages)
    passages = [{"source": p.source, "text": p.text, "score": p.score} for p in answer.passages]
    return {"question": question, "text": answer.text, "passages": passages}


def named_adapters(adapters: Sequence[str]) -> dict[str, str]:
    """Folders by name. Raises `BadInput` for what is not NAME=FOLDER, and for a name that is given twice."""
    from kun.hub.store import folder_name

    named: dict[str, str] = {}
    for each in adapters:
        name, _, folder = each.partition("=")
        if not folder:
            raise BadInput(f"--adapter is {each!r}; it is NAME=FOLDER, such as poet=runs/poet/checkpoint.")
        if folder_name(name) in named:
            raise BadInput(f"Two adapters are to be called {name}: give one of them another name.")
        named[name] = folder
    return named


def _check_address(host: str, port: int) -> None:
    """Raise at the beginning what would hinder serving at the end."""
    from kun.server.run import check_address

    check_address(host, port)


def _serve(
    model: str | None,
    encoder: str | None,
    host: str,
    port: int,
    quantize: output.Quantize,
    web: bool,
    quiet: bool = False,
    adapters: Mapping[str, str] | None = None,
    reward: str | None = None,
) -> None:
    """Serve until Ctrl-C; `quiet` leaves standard output to a JSON document."""
    from kun.server.run import serve as run_server
    from kun.server.service import Service

    wanted = None if quantize == "none" else quantize
    service = Service(model=model, encoder=encoder, quantize=wanted, adapters=adapters, reward=reward)
    service.check()
    run_server(
        host,
        port,
        service=service,
        web=web,
        on_ready=lambda url: typer.echo(f"Ready: {url}", err=quiet),
    )


def _fetch(names: list[str], quiet: bool) -> None:
    with output.progress(quiet=quiet, in_bytes=True) as report:
        for name in names:
            api.locate(name, progress=report)
