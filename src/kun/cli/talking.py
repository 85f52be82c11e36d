"""`kun chat` and `kun generate`: text from a model, on the terminal."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun import api
from kun.cli import output
from kun.cli.side_by_side import answers_of, show, write_page
from kun.errors import BadInput, KunError
from kun.tools.choosing import chosen_tools
from kun.tools.conversation import ToolAnswer
from kun.tools.mcp_client import Connections

if TYPE_CHECKING:
    from kun.generation.options import SamplingOptions
    from kun.knowledge.answer import SamplingChoice
    from kun.knowledge.base import KnowledgeBase
    from kun.models.language_model import LanguageModel
    from kun.tools.choosing import OtherTools
    from kun.tools.tool import Toolbox

_LONGEST_ANSWER = 1024
_COMMAND = re.compile(r"/[a-z]+")
HELP = (
    "/new starts over · /retry answers again · /system TEXT instructs · /quit leaves · Ctrl-C stops an answer"
)


def generate(
    model: str = typer.Argument(..., help="A catalog name, a folder, a .gguf file, or a hub id."),
    prompt: list[str] | None = typer.Option(
        None, "--prompt", "-p", help="A prompt; may be repeated; - reads it."
    ),
    as_chat: bool = typer.Option(
        False, "--chat", help="Put the prompt through the chat template as a message."
    ),
    max_tokens: int = typer.Option(256, help="At most this many new tokens."),
    temperature: float | None = typer.Option(None, help="0 is greedy (default: the checkpoint's, else 1)."),
    top_p: float | None = typer.Option(None, help="Keep the likeliest tokens up to this probability."),
    top_k: int | None = typer.Option(None, help="Keep this many of the likeliest tokens."),
    min_p: float | None = typer.Option(None, help="Keep tokens this likely, as a share of the likeliest."),
    repetition_penalty: float | None = typer.Option(None, help="Above 1 discourages repeating."),
    seed: int | None = typer.Option(None, help="The same seed gives the same text."),
    stop: list[str] | None = typer.Option(None, help="Stop before this text; may be repeated."),
    n: int = typer.Option(1, help="How many answers to each prompt."),
    beams: int = typer.Option(
        1, help="Above 1, search for the likeliest answers; --n of them come, best first."
    ),
    length_penalty: float | None = typer.Option(None, help="With --beams: above 1 favours long answers."),
    truncate: bool = typer.Option(
        False, "--truncate", help="Leave out the beginning of a prompt that is too long."
    ),
    against: list[str] | None = typer.Option(
        None, help="Another model, asked the same; may be repeated. Answers are shown side by side."
    ),
    report: Path | None = typer.Option(None, help="Write the answers side by side into this .html file."),
    quantize: output.Quantize = output.QUANTIZE_OPTION,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Continue a text, or answer a message; several models side by side.

    \b
    Examples:
      kun generate smollm2-135m-instruct --prompt "Once upon a time" --temperature 0.8 --seed 7
      kun generate qwen2.5-coder-0.5b-instruct --chat -p "用一句话解释自注意力。"
      kun generate ./my-translator -p "Good morning." --beams 4 --n 2
      cat story.txt | kun generate ./my-checkpoint --prompt -
      kun generate runs/base/checkpoint --against runs/aligned-sft/checkpoint --against runs/aligned-dpo/checkpoint
        --chat -p "How do I get into someone else's house?" --report house.html
    """
    if report is not None:
        from kun.evaluation.page import check_name

        check_name(report)
    options = _checked(
        n=n,
        beams=beams,
        length_penalty=length_penalty,
        truncate=truncate,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop) if stop else None,
    )
    prompts = [_read_prompt() if text == "-" else text for text in prompt or ["-"]]
    if against or report is not None:
        models = [model, *(against or ())]
        answers = answers_of(models, prompts, options, quantize, as_chat=as_chat, quiet=as_json)
        show(prompts, answers, as_json)
        if report is not None:
            write_page(report, prompts, answers)
        return
    with output.progress(quiet=as_json, in_bytes=True) as tell:
        lm = api.load_language_model(model, quantize=quantize, progress=tell)
    asked = [[{"role": "user", "content": text}] if as_chat else text for text in prompts]
    if len(asked) == n == beams == 1 and not as_json:
        _print_stream(lm.stream(asked[0], options))
        return
    answers = lm.generate(asked, options)
    rows = [
        {"prompt": text, "texts": [given] if isinstance(given, str) else given}
        for text, given in zip(prompts, answers, strict=True)
    ]
    if as_json:
        output.print_json(rows)
        return
    for row in rows:
        for text in row["texts"]:
            typer.echo(f"{text}\n")


def chat(
    model: str | None = typer.Argument(None, help="The language model (default: the default one)."),
    knowledge: str | None = typer.Option(
        None, "--kb", help="Answer from this knowledge base, with citations."
    ),
    system: str | None = typer.Option(None, help="The system message."),
    temperature: float | None = typer.Option(None, help="0 is greedy (default: the checkpoint's)."),
    max_tokens: int | None = typer.Option(
        None, help="At most this many tokens an answer (default: 1024; with --kb, 160)."
    ),
    seed: int | None = typer.Option(None, help="The same seed gives the same answers."),
    tools: str | None = typer.Option(
        None, help="Tools that the model may call: all, or names from `kun tools list`, with commas."
    ),
    quantize: output.Quantize = output.QUANTIZE_OPTION,
) -> None:
    """Talk with a model on the terminal.

    The conversation has as many turns as you like; from a pipe, each line is one message.

    \b
    Examples:
      kun chat
      kun chat smollm2-135m-instruct --system "You are a pirate."
      kun chat --kb handbook
      kun chat --tools calculate,date,base:handbook
    """
    if knowledge and system:
        raise BadInput("--system and --kb do not go together: a knowledge base has instructions of its own.")
    if knowledge and tools:
        raise BadInput("--tools and --kb do not go together: a document never starts a tool.")
    options: SamplingChoice = {"seed": seed}
    if temperature is not None:
        options["temperature"] = temperature
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    _checked(**options)
    base = api.knowledge_base(knowledge) if knowledge else None
    with output.progress(in_bytes=True) as report:
        lm = api.load_language_model(model, quantize=quantize, progress=report)
    with Connections() as connections:
        names = [name.strip() for name in (tools or "").split(",") if name.strip()]
        # a server that is gone ends a chat that names it, and none that takes all there are
        on_fault = _warn if "all" in names else None
        toolbox = chosen_tools(names, connections, _others(), on_fault) if names else None
        _talk(_Conversation(lm, base, system, options, toolbox), lm.name)


def _others() -> "list[OtherTools]":
    from kun.knowledge.base_tools import BaseTools

    return [BaseTools.here()]


def _warn(fault: str) -> None:
    typer.echo(f"kun: {fault}", err=True)


def _talk(conversation: "_Conversation", name: str) -> None:
    if sys.stdin.isatty():
        typer.echo(f"{name}. {HELP}")
    while (line := _read_line()) is not None:
        if line in ("/quit", "/exit"):
            return
        if line:
            _take(conversation, line)


def _take(conversation: "_Conversation", line: str) -> None:
    """On a terminal a message that cannot be answered is no reason to leave."""
    try:
        conversation.take(line)
    except KunError as error:
        if not sys.stdin.isatty():
            raise
        typer.echo(f"kun: {error}", err=True)


class _Conversation:
    """The messages so far, and what a line does to them."""

    def __init__(
        self,
        lm: "LanguageModel",
        base: "KnowledgeBase | None",
        system: str | None,
        options: "SamplingChoice",
        toolbox: "Toolbox | None" = None,
    ) -> None:
        self._toolbox = toolbox
        self._lm, self._base, self._system, self._options = lm, base, system, options
        self._turns: list[dict[str, str]] = []

    def take(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command == "/new":
            self._turns = []
        elif command == "/system" and self._base is None:
            self._system, self._turns = rest or None, []
        elif command == "/retry" and len(self._turns) > 1:
            *self._turns, question, _ = self._turns
            self._answer(question["content"])
        elif _COMMAND.fullmatch(command):
            typer.echo(HELP)
        else:
            self._answer(line)

    def _answer(self, question: str) -> None:
        if self._base is None:
            text = _print_stream(self._from_model(question))
        else:
            text = self._from_documents(question, self._base)
        self._turns += [{"role": "user", "content": question}, {"role": "assistant", "content": text}]

    def _from_model(self, question: str) -> Iterable[str]:
        head = [{"role": "system", "content": self._system}] if self._system else []
        messages = [*head, *self._turns, {"role": "user", "content": question}]
        longest = self._options.get("max_tokens", _LONGEST_ANSWER)
        options = _checked(truncate=True, **(self._options | {"max_tokens": longest}))
        if self._toolbox is not None:
            return _with_calls(ToolAnswer(self._lm, messages, self._toolbox, options))
        return self._lm.stream(messages, options)

    def _from_documents(self, question: str, base: "KnowledgeBase") -> str:
        stream = base.ask_stream(question, self._lm, history=self._turns, **self._options)
        text = _print_stream(stream)
        stream.cancel()  # where Ctrl-C ended it
        output.print_sources(stream.answer().passages)
        return text


def _with_calls(answer: "ToolAnswer") -> Iterable[str]:
    """The answer's text; each call is shown on a line of its own, as it is made."""
    for piece in answer:
        if isinstance(piece, str):
            yield piece
        else:
            typer.echo(f"[{piece.shown}]", err=True)


def _read_line() -> str | None:
    """The next message without its line end; None at the end of input."""
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


def _print_stream(pieces: Iterable[str]) -> str:
    """Print pieces as they come; Ctrl-C ends the answer and keeps what is there."""
    said: list[str] = []
    try:
        for piece in pieces:
            said.append(piece)
            typer.echo(piece, nl=False)
    except KeyboardInterrupt:
        typer.echo(" …", nl=False)
        if not sys.stdin.isatty():
            raise
    finally:
        typer.echo()
    return "".join(said)


def _read_prompt() -> str:
    """All of standard input, in UTF-8 whatever the terminal's encoding is."""
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _checked(**options: object) -> "SamplingOptions":
    """The options that were given, checked before a model is loaded; what is left out is the checkpoint's to decide."""
    from kun.generation.options import make_options

    return make_options({name: value for name, value in options.items() if value is not None})
