"""`kun inspect`: looking inside."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun import api
from kun.cli import output
from kun.errors import UnsupportedFormat

if TYPE_CHECKING:
    from kun.inspection.attention import Look, Steps
    from kun.inspection.moves import Move, StackMove
    from kun.inspection.tokens import Cutting

app = typer.Typer(
    help="Look inside: how a text is cut, where positions lie, who looks at whom, what comes next.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

MODELS = typer.Option(None, "--model", "-m", help="A model; may be repeated, to see several side by side.")
MODEL = typer.Option(None, "--model", "-m", help="A model.")
ANSWER = typer.Option(
    None, "--answer", help="Of a model that reads a text and writes another: the other (default: its own)."
)
PICTURE = typer.Option(None, "--picture", "-o", help="Draw it into this file, .png or .svg.")


@app.command()
def tokens(
    text: str = typer.Argument("lowering", help="The text."),
    models: list[str] | None = MODELS,
    merges: bool = typer.Option(
        False, help="Show how byte pair encoding builds this one word, merge by merge."
    ),
    picture: Path | None = PICTURE,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """How a text is cut: pieces, ids and bytes.

    \b
    Examples:
      kun inspect tokens "The whale is lowering 鲲鹏"
      kun inspect tokens lowering --merges -m smollm2-135m-instruct
      kun inspect tokens "I love my dog." -m smollm2-135m-instruct -m all-minilm-l6-v2 --picture cut.png
    """
    seen = api.inspect_tokens(text, models or ())
    steps = [api.inspect_merges(text, model) for model in models or (None,)] if merges else []
    if picture is not None:
        from kun.inspection.picture import cuttings

        output.draw(picture, lambda format: cuttings(seen, format))
    if as_json:
        output.print_json(
            {"cuttings": [_cutting_as_dict(one) for one in seen]} | ({"merges": steps} if merges else {})
        )
        return
    for cutting in seen:
        _print_cutting(cutting)
    for one in steps:
        for step in one:
            typer.echo(" ".join(step))
        if not one:
            typer.echo("This tokenizer does not merge: it is no byte pair encoding.")


def _cutting_as_dict(cutting: "Cutting") -> dict[str, object]:
    pieces = [output.as_dict(piece) | {"bytes": list(piece.bytes)} for piece in cutting.pieces]
    rate = round(cutting.bytes_per_token, 3)
    return {"tokenizer": cutting.tokenizer, "text": cutting.text, "bytes_per_token": rate, "pieces": pieces}


def _print_cutting(cutting: "Cutting") -> None:
    from rich.console import Console
    from rich.text import Text

    from kun.inspection.picture import PALETTE, shown

    line = Text()
    for number, piece in enumerate(cutting.pieces):
        line.append(shown(piece.bytes), style=f"#0c2836 on {PALETTE[number % len(PALETTE)]}")
        line.append(" ")
    count, rate = len(cutting.pieces), cutting.bytes_per_token
    typer.secho(f"{cutting.tokenizer}: {count} pieces, {rate:.1f} bytes each", bold=True)
    Console().print(line)
    rows = [(piece.id, shown(piece.bytes), piece.bytes.hex(" ")) for piece in cutting.pieces]
    output.print_table(("id", "piece", "bytes"), rows)


@app.command()
def positions(
    kinds: list[str] | None = typer.Option(
        None,
        "--kind",
        help="index, sinusoidal, learned, rotary, relative or alibi; may be repeated (default: all).",
    ),
    places: int = typer.Option(64, "-n", help="How many places."),
    width: int = typer.Option(64, help="The width of a vector."),
    text: str = typer.Option("I love AI", help="A sentence whose words are numbered."),
    model: str | None = typer.Option(
        None, "--model", "-m", help="A model that learned a table: it is shown too."
    ),
    picture: Path | None = PICTURE,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Where a token stands, in six ways, and what each can tell.

    \b
    nearest   the least distance between two places: above 0, every place differs
    shift     the error of moving all places by one linear map: 0, offsets are recoverable
    offset    how much a score changes when query and key move together: 0, only their distance counts

    \b
    Examples:
      kun inspect positions
      kun inspect positions --kind sinusoidal -n 128 --width 128 --picture places.png
      kun inspect positions --kind learned -m all-minilm-l6-v2
    """
    seen = api.inspect_positions(kinds or (), places, width, model)
    if picture is not None:
        from kun.inspection.picture import positions as draw

        output.draw(picture, lambda format: draw(seen, format))
    if as_json:
        output.print_json(
            [{"kind": one.kind, "facts": one.facts, "table": one.table.tolist()} for one in seen]
        )
        return
    for place, word in enumerate(text.split(), 1):
        typer.echo(f"{place}  {word}")
    rows = [
        (
            one.kind,
            "×".join(map(str, one.table.shape)),
            *(_fact(one.facts.get(f)) for f in ("nearest", "shift", "offset")),
        )
        for one in seen
    ]
    output.print_table(("positions", "table", "nearest", "shift", "offset"), rows)


def _fact(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


@app.command()
def attention(
    text: str = typer.Argument("I love my dog.", help="The sentence."),
    models: list[str] | None = MODELS,
    layer: int | None = typer.Option(
        None,
        help="One layer, from 0 (default: the mean over all; for --word where it moves most towards another).",
    ),
    head: int | None = typer.Option(None, help="One head, from 0 (default: as for --layer)."),
    word: str | None = typer.Option(None, help="The three steps in numbers for this word."),
    answer: str | None = ANSWER,
    picture: Path | None = PICTURE,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Which word looks at which; for one word the three steps in numbers.

    Without --model a GPT-type and a BERT-type network are shown side by side: in the first a word sees nothing to its
    right. An encoder-decoder has three: its encoder's, its decoder's, and where the decoder looks at the encoder.
    With --word, the steps of the layer and head that move it most towards another word; then, for each word, where it
    moves most towards that one, and how near the two are below and above all layers.

    \b
    Examples:
      kun inspect attention
      kun inspect attention "I love my dog." --word I
      kun inspect attention --layer 3 --head 2 -m all-minilm-l6-v2 --picture who.png
      kun inspect attention "I love my dog." -m ./my-translator --answer "Ich liebe meinen Hund."
    """
    looks = api.inspect_attention(text, models or (), answer)
    steps: list[Steps] = []
    if word:
        from kun.inspection.moves import steps_of

        found = steps_of(looks, word, layer, head)
        looks, steps = [look for look, _ in found], [one for _, one in found]
    if picture is not None:
        from kun.inspection import picture as pictures

        if steps:
            output.draw(picture, lambda format: pictures.steps(looks, steps, format))
        else:
            output.draw(picture, lambda format: pictures.attention(looks, layer, head, format))
    if as_json:
        output.print_json(
            [_steps_as_dict(look, one) for look, one in zip(looks, steps, strict=True)]
            if steps
            else [_look_as_dict(look, layer, head) for look in looks]
        )
        return
    for number, look in enumerate(looks):
        typer.secho(f"{look.title}: {look.n_layers} layers of {look.n_heads} heads", bold=True)
        if steps:
            _print_steps(look, steps[number])
        else:
            weights = look.pick(layer, head).tolist()
            rows = [
                (token, *(f"{w:.2f}" for w in row)) for token, row in zip(look.tokens, weights, strict=True)
            ]
            output.print_table(("looks at →", *look.looked_at), rows)


def _print_moves(look: "Look", place: int) -> None:
    found = _moves(look, place)
    if isinstance(found, str):
        typer.echo(found)
        return
    others = [number for number in _others(look, place) if not _sees(look, place, number)]
    if others:
        hidden = " ".join(f"“{look.looked_at[number]}”" for number in others)
        typer.echo(
            f"“{look.tokens[place]}” does not see {hidden}: a decoder looks back only, and not beyond its window."
        )
    if not found:
        return
    rows = [
        (
            move.towards,
            f"{move.layer}, {move.head}",
            f"{move.weight:.2f}",
            f"{move.before:+.3f} → {move.after:+.3f}",
            f"{stack.before:+.3f} → {stack.after:+.3f}",
        )
        for move, stack in found
    ]
    headers = ("most towards", "layer, head", "weight", "cosine there", "below, above all layers")
    output.print_table(headers, rows)


def _others(look: "Look", place: int) -> list[int]:
    """The places that a word may move towards: all but its own, of a source all."""
    return [number for number in range(len(look.looked_at)) if look.source is not None or number != place]


def _sees(look: "Look", place: int, number: int) -> bool:
    """Whether any head lets the word at `place` see that token."""
    return bool(look.weights[:, :, place, number].any())


def _look_as_dict(look: "Look", layer: int | None, head: int | None) -> dict[str, object]:
    return _names_of(look) | {"weights": look.pick(layer, head).tolist()}


def _names_of(look: "Look") -> dict[str, object]:
    return {
        "model": look.model,
        "kind": look.kind,
        "part": look.part,
        "tokens": look.tokens,
        "looked_at": look.looked_at,
    }


def _steps_as_dict(look: "Look", seen: "Steps") -> dict[str, object]:
    """A masked score, minus infinity, is null in JSON."""
    plain = output.as_dict(seen)
    plain["scores"] = [score if math.isfinite(score) else None for score in seen.scores]
    found = _moves(look, seen.place)
    moved: dict[str, object] = {}
    if not isinstance(found, str):
        moved = {
            which: [output.as_dict(pair[n]) for pair in found] for n, which in enumerate(("moves", "stack"))
        }
    return _names_of(look) | {"word": look.tokens[seen.place]} | moved | plain


def _moves(look: "Look", place: int) -> "list[tuple[Move, StackMove]] | str":
    """For each token that a word sees, where the heads move it most towards that one, and the whole stack; or why that
    cannot be told of this network."""
    from kun.inspection.moves import moves, stack_moves

    try:
        found = zip(_others(look, place), moves(look, place), stack_moves(look, place), strict=True)
        return [(move, stack) for number, move, stack in found if _sees(look, place, number)]
    except UnsupportedFormat as error:
        return str(error)


def _print_steps(look: "Look", seen: "Steps") -> None:
    columns = (seen.products, seen.scores, seen.weights, seen.nearness, seen.nearness_after)
    rows = [
        (token, *(f"{value:.3f}" for value in values))
        for token, *values in zip(look.looked_at, *columns, strict=True)
    ]
    typer.echo(f"“{look.tokens[seen.place]}” in layer {seen.layer}, head {seen.head}:")
    output.print_table(("", "1. q · k", "scaled", "2. softmax", "cosine before", "after 3."), rows)
    first = ", ".join(f"{value:.3f}" for value in seen.mixed[:6])
    typer.echo(f"3. The weighted sum of the values: {first} … ({len(seen.mixed)} numbers).")
    typer.echo(f"All heads together moved “{look.tokens[seen.place]}” by {seen.moved:.2f} of its length.")
    _print_moves(look, seen.place)


@app.command()
def logits(
    text: str = typer.Argument("I love my", help="The beginning of a text."),
    model: str | None = MODEL,
    k: int = typer.Option(5, "-k", min=1, max=50, help="How many of the likeliest."),
    answer: str | None = ANSWER,
    picture: Path | None = PICTURE,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """What comes next at every place, and what each layer would already say.

    \b
    Examples:
      kun inspect logits "The capital of France is"
      kun inspect logits "I love my" -m qwen2.5-coder-0.5b-instruct --picture next.svg
    """
    seen = api.inspect_logits(text, model, k, answer)
    if picture is not None:
        from kun.inspection.picture import next_words

        output.draw(picture, lambda format: next_words(seen, format))
    if as_json:
        output.print_json([output.as_dict(place) for place in seen])
        return
    rows = [
        (
            place.token,
            *(f"{guess.text} {guess.probability:.2f}" for guess in place.guesses),
            _fact(place.followed),
        )
        for place in seen
    ]
    output.print_table(("after", *(f"{rank}." for rank in range(1, k + 1)), "what followed"), rows)
    typer.echo("After the last token, layer by layer: " + " ".join(guess.text for guess in seen[-1].layers))
