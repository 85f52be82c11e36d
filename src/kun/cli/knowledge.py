"""`kun kb`: knowledge bases."""

import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun import api
from kun.cli import output
from kun.errors import BadInput
from kun.inspection.picture import format_of

if TYPE_CHECKING:
    from kun.knowledge.passage import Passage

app = typer.Typer(
    help="""Knowledge bases: add documents, search them, ask them.

    \b
    Examples:
      kun kb add notes ~/Documents/notes
      kun kb ask notes "When is the meeting?"
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)

NAME = typer.Argument(..., help="The knowledge base: a name under KUN_HOME, or a path.")

_NAMED = 8  # of the things of one kind that were left out
_SHOWN = 80  # characters of a passage that stands for its group

SOURCES = typer.Option(
    None, "--source", "-s", help="Only these documents (names or patterns like 'en/*.md')."
)


@app.command()
def create(
    name: str = NAME,
    encoder: str | None = typer.Option(None, help="The text encoder (default: multilingual-e5-small)."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Make an empty knowledge base.

    One that is there already stays as it is.

    \b
    Example:
      kun kb create notes
    """
    with output.progress(quiet=as_json, in_bytes=True) as report:
        base = api.create_knowledge_base(name, encoder=encoder, progress=report)
    documents = len(base.sources())
    if as_json:
        output.print_json(
            {"name": base.name, "path": str(base.path), "encoder": base.encoder.name, "documents": documents}
        )
    elif documents:
        typer.echo(f"{base.name} is there already, in {base.path}, with {documents} documents.")
    else:
        typer.echo(f"{base.name} is in {base.path}. Next: kun kb add {shlex.quote(name)} FOLDER")


@app.command()
def add(
    name: str = NAME,
    paths: list[Path] = typer.Argument(..., metavar="PATH", help="Files or folders."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Add files or folders.

    The knowledge base is made where there is none of that name. What is unchanged is skipped, what changed is
    replaced, what vanished from a folder is removed.
    Text, Markdown, web pages, PDF, Word, slides, sheets, OpenDocument, EPUB, RTF, mail, notebooks, CSV, JSON, source
    code, and scanned pages and pictures of text in Chinese and English are read. What is left out is named.

    \b
    Examples:
      kun kb add notes ~/Documents/notes
      kun kb add papers attention.pdf bert.pdf
    """
    output.check_paths(paths)
    with output.progress(quiet=as_json, in_bytes=True) as report:
        base = api.create_knowledge_base(name, progress=report)
    with output.progress(quiet=as_json) as report:
        result = base.add(*paths, progress=report)
    if as_json:
        output.print_json(output.as_dict(result))
    else:
        counts = {part: len(getattr(result, part)) for part in ("added", "replaced", "removed", "unchanged")}
        typer.echo(f"{base.name}: " + ", ".join(f"{count} {part}" for part, count in counts.items()) + ".")
        for line in _left_out(result.skipped):
            typer.echo(line)
    output.leave_if_failed(result.failed, quiet=as_json)


@app.command()
def search(
    name: str = NAME,
    query: str = typer.Argument(..., help="What to look for: a question, words, or a passage word for word."),
    k: int = typer.Option(5, "-k", min=1, max=100, help="How many passages."),
    sources: list[str] | None = SOURCES,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Find passages, and see why they were found.

    \b
    Examples:
      kun kb search notes "how many heads has the base Transformer?"
      kun kb search notes 自注意力 -k 3 --source "zh/*"
    """
    passages = api.knowledge_base(name).search(query, k=k, sources=sources)
    if as_json:
        output.print_json([output.as_dict(passage) for passage in passages])
        return
    for place, passage in enumerate(passages, 1):
        typer.echo(f"[{place}] {output.title(passage)}  ({_why(passage)})")
        typer.echo(textwrap.indent(passage.text.strip(), "    ") + "\n")
    if not passages:
        typer.echo("Nothing found.")


@app.command()
def ask(
    name: str = NAME,
    question: str = typer.Argument(..., help="The question, in any language that the model speaks."),
    model: str | None = typer.Option(
        None, "--model", "-m", help="The language model (default: the default one)."
    ),
    k: int | None = typer.Option(None, "-k", min=1, max=20, help="How many passages the model may read."),
    sources: list[str] | None = SOURCES,
    show_prompt: bool = typer.Option(False, "--prompt", help="Show the assembled prompt too."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Answer a question, with citations.

    \b
    Examples:
      kun kb ask handbook "What did InstructGPT do first?"
      kun kb ask handbook "Alpaca 的训练数据从哪里来？" --prompt
    """
    base = api.knowledge_base(name)
    with output.progress(quiet=as_json, in_bytes=True) as report:
        lm = api.load_language_model(model, progress=report)
    stream = base.ask_stream(question, lm, k=k, sources=sources)
    if not as_json:
        if show_prompt:
            typer.echo(lm.render(stream.prompt) + "\n")
        for piece in stream:
            typer.echo(piece, nl=False)
        typer.echo("\n")
    answer = stream.answer()
    if as_json:
        output.print_json(output.as_dict(answer))
        return
    if answer.computed is not None:
        typer.echo(f"Calculation: {answer.computed.calculation}\n")
    output.print_sources(answer.passages)
    if answer.declined:
        _offer(name, question, lm.name)


def _offer(name: str, question: str, model: str) -> None:
    """The ways on from a question that the documents do not answer, as commands."""
    asked = shlex.quote(question)
    typer.echo(f"Without documents:  kun generate {shlex.quote(model)} --chat -p {asked}")
    for other in [base for base in api.knowledge_bases() if base != name][:3]:
        typer.echo(f"Another base:       kun kb ask {shlex.quote(other)} {asked}")


@app.command()
def topics(
    name: str = NAME,
    groups: int | None = typer.Option(
        None, "--groups", "-g", min=2, max=100, help="How many groups (default: as many as part best)."
    ),
    picture: Path | None = typer.Option(
        None, "--picture", "-o", help="Draw them into this file, .png or .svg."
    ),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """See what a knowledge base is about, without a question.

    The passages' vectors are sorted into groups by k-means; each is named by the words that tell it from the others.

    \b
    Examples:
      kun kb topics handbook
      kun kb topics notes --groups 8 --picture topics.png
    """
    if picture is not None:
        format_of(picture)
    found = api.knowledge_base(name).topics(groups)
    if picture is not None:
        output.draw(picture, found.picture)
    if as_json:
        output.print_json(
            {
                "groups": [output.as_dict(topic) for topic in found.topics],
                "passages": found.passages,
                "silhouette": round(found.clusters.silhouette, 4),
                "picture": str(picture) if picture else None,
            }
        )
        return
    typer.echo(f"{found.passages} passages in {len(found.topics)} groups.\n")
    for topic in found.topics:
        typer.echo(f"{topic.name}  (passages: {topic.passages}, documents: {topic.documents})")
        for passage in topic.examples:
            typer.echo(textwrap.indent(f"{output.title(passage)}: {_beginning(passage.text)}", "    "))
        typer.echo("")


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


@app.command("list")
def list_bases(
    name: str | None = typer.Argument(None, help="A knowledge base, to list its documents."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """List the knowledge bases, or the documents of one.

    \b
    Examples:
      kun kb list
      kun kb list notes --json
    """
    if name is None:
        _list_all(as_json)
    else:
        _list_documents(name, as_json)


def _list_all(as_json: bool) -> None:
    rows = api.knowledge_base_rows()
    if as_json:
        output.print_json(rows)
    elif rows:
        output.print_table(
            ("knowledge base", "documents", "passages", "encoder", "what is wrong"),
            [
                (
                    row["name"],
                    *(
                        "?" if fact is None else fact
                        for fact in (row["documents"], row["passages"], row["encoder"])
                    ),
                    row["fault"] or "",
                )
                for row in rows
            ],
        )
    else:
        typer.echo("No knowledge base yet: kun kb create NAME")


def _list_documents(name: str, as_json: bool) -> None:
    base = api.knowledge_base(name)
    sources = base.sources()
    if as_json:
        output.print_json([output.as_dict(source) for source in sources])
        return
    if sources and base.is_cut_as_before:
        typer.echo(
            f"An earlier version cut these documents: `kun kb reindex {name}` cuts them anew.", err=True
        )
    output.print_table(
        ("document", "passages", "size", "added"),
        [(s.name, s.passages, output.size(s.bytes), s.added_at) for s in sources],
    )


@app.command()
def remove(
    name: str = NAME,
    sources: list[str] | None = typer.Argument(
        None, metavar="SOURCE", help="Documents (names or patterns); none means the whole knowledge base."
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Delete the whole knowledge base without asking."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Remove documents, or the whole knowledge base.

    \b
    Examples:
      kun kb remove notes old.md "drafts/*"
      kun kb remove notes --yes
    """
    if sources:
        removed = api.knowledge_base(name).remove(*sources)
    elif yes or _agreed_to_delete(name):
        api.delete_knowledge_base(name)
        removed = [name]
    else:
        typer.echo("Nothing was deleted.", err=True)
        raise typer.Exit(1)
    if as_json:
        output.print_json({"removed": removed})
    else:
        typer.echo(f"Removed {', '.join(removed)}.")


def _agreed_to_delete(name: str) -> bool:
    documents = len(api.knowledge_base(name).sources())
    try:
        return typer.confirm(f"Delete {name} with {documents} documents?", err=True)
    except typer.Abort as abort:
        if sys.stdin.isatty():
            raise  # Ctrl-C
        raise BadInput(f"{name} is deleted only where you say so: add --yes.") from abort


@app.command()
def reindex(
    name: str = NAME,
    encoder: str | None = typer.Option(None, help="Another text encoder (default: the one it has)."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Cut and embed every document again.

    \b
    Example:
      kun kb reindex notes --encoder all-minilm-l6-v2
    """
    base = api.knowledge_base(name)
    with output.progress(quiet=as_json) as report:
        result = base.reindex(encoder=encoder, progress=report)
    if as_json:
        output.print_json(output.as_dict(result))
    else:
        typer.echo(f"{base.name} is indexed by {base.encoder.name}.")


def _left_out(skipped: Mapping[str, str]) -> Iterator[str]:
    """A line for each kind of thing that was left out: how many there are, and the names of the first."""
    kinds: dict[str, list[str]] = {}
    for name, what in skipped.items():
        kinds.setdefault(what, []).append(name)
    for what, names in sorted(kinds.items()):
        more = f" and {len(names) - _NAMED} more (--json names all)" if len(names) > _NAMED else ""
        yield f"left out: {what} ({len(names)}): {', '.join(sorted(names)[:_NAMED])}{more}"


def _why(passage: "Passage") -> str:
    reasons = passage.reasons
    if reasons is None:
        return f"{passage.score:.2f}"
    stands = "word for word, " if reasons.exact else "within words, " if reasons.within else ""
    tokens = f", tokens {reasons.tokens:.2f}" if reasons.tokens else ""
    return f"{stands}words {reasons.words:.2f}, meaning {reasons.meaning:.2f}{tokens}"
