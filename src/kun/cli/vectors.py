"""`kun vectors`: words as vectors, trained, asked and drawn."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun.cli import output
from kun.errors import BadInput

if TYPE_CHECKING:
    from kun.wordvectors.analogies import AnalogyRates
    from kun.wordvectors.picture import Panel
    from kun.wordvectors.pieces import Composition
    from kun.wordvectors.vectors import Near, WordVectors

app = typer.Typer(
    help="Words as vectors: train them, and ask for neighbours, analogies, sums and pictures.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DEFAULT_VECTORS = "glove-6b-50d"
MODELS = typer.Option(
    None,
    "--model",
    "-m",
    help=f"Vectors, or a model whose own table is asked; may be repeated (default: {DEFAULT_VECTORS}).",
)
MODEL = typer.Option(DEFAULT_VECTORS, "--model", "-m", help="Vectors, or a model whose own table is asked.")
HOW_MANY = typer.Option(5, "-k", min=1, max=1000, help="How many words to show.")
_SUMMED = "the sum of its pieces, which is fastText's idea and not GPT's"


@app.command()
def train(
    source: list[str] = typer.Argument(
        ..., metavar="TEXT…", help="Files or folders, or installed-docs: the documentation that is here."
    ),
    out: str | None = typer.Option(
        None, "--out", "-o", metavar="FOLDER", help="The run's folder (default: a fresh one)."
    ),
    method: str = typer.Option("skip-gram", help="skip-gram, cbow or glove."),
    dimensions: int = typer.Option(100, "--dimensions", "-d", help="Numbers of a vector."),
    window: int | None = typer.Option(
        None, help="Words to either side that count (default: 5, of glove 10)."
    ),
    epochs: float | None = typer.Option(
        None, help="How often the text is gone through (default: 5, of glove 25)."
    ),
    min_count: int = typer.Option(5, help="Words that come less often get no vector."),
    held_out: float | None = typer.Option(None, "--eval", help="The share of paragraphs to measure on."),
    analogies: Path | None = typer.Option(None, help="A file of analogies that evaluations answer."),
    seed: int = typer.Option(0, help="Decides all that is drawn at random."),
    text_format: Path | None = typer.Option(
        None, "--text-format", metavar="FILE", help="Write word2vec's text format too, which gensim reads."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in --out."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Learn a vector for each word of a text, in either language, by word2vec or GloVe.

    \b
    Examples:
      kun vectors train my-texts/ -o runs/my-vectors
      kun vectors train installed-docs -d 50 --eval 0.02
      kun vectors train novel.txt --method glove --min-count 2 --text-format novel.vec
      kun vectors train my-texts/ -o runs/my-vectors --resume
    """
    from kun.atomic_files import check_place
    from kun.training.recipe import parse_recipe
    from kun.training.train import train as run_training
    from kun.wordvectors.recipes import METHODS, Wanted

    chosen = next((known for known in METHODS if known == method), None)
    if chosen is None:
        raise BadInput(f"{method} is no method of word vectors: it is one of {', '.join(METHODS)}.")
    wanted = Wanted(
        source,
        out=out,
        method=chosen,
        dimensions=dimensions,
        window=window,
        epochs=epochs,
        min_count=min_count,
        seed=seed,
        eval=held_out,
        analogies=str(analogies) if analogies else None,
    )
    if text_format is not None:
        text_format = check_place(text_format, "vectors.vec")
    try:
        recipe = parse_recipe(wanted.recipe())
        with output.progress(quiet=as_json) as report:
            run = run_training(recipe, "vectors", resume=resume, progress=report)
    except BadInput as error:
        raise type(error)(_with_options(str(error))) from error
    made = _opened(str(run.checkpoint))
    if text_format is not None:
        from kun.wordvectors.text_format import write_text

        if left_out := write_text(text_format, made.words, made.vectors):
            typer.echo(f"Left out of {text_format}: {left_out:,} words with spaces.", err=True)
    last = run.metrics[-1]
    if not as_json and chosen != "glove" and last["items"] < _FEW:
        typer.echo(
            f"All epochs had {last['items']:,} words. After fewer than {_FEW:,} vectors lie close together, whatever "
            f"the words mean: give more text, or more --epochs.",
            err=True,
        )
    if as_json:
        output.print_json(
            {
                "run": str(run.path),
                "vectors": str(run.checkpoint),
                "words": len(made),
                "dimensions": made.dimensions,
                "last": last,
            }
        )
        return
    typer.echo(
        f"{len(made):,} words, {made.dimensions} numbers each, in {last['seconds']:.0f} s; loss {last['loss']:.3f}"
    )
    typer.echo(f"vectors     {run.checkpoint}")
    typer.echo(f"report      {run.report}")


_FEW = 1_000_000
"""Words of a text times epochs, below which word2vec's vectors have hardly left each other."""

_OPTIONS = {
    "-o out=": "-o ",
    "recipe: ": "",
    "objective.min_count": "--min-count",
    "objective.dimensions": "--dimensions",
    "objective.window": "--window",
    "objective.analogies": "--analogies",
    "train.epochs": "--epochs",
    "data.eval": "--eval",
}
"""Keys of a recipe, as a sentence names them, and what they are called here."""


def _with_options(sentence: str) -> str:
    for key, option in _OPTIONS.items():
        sentence = sentence.replace(key, option)
    return sentence


@app.command()
def near(
    word: str = typer.Argument(..., help="The word."),
    models: list[str] | None = MODELS,
    k: int = HOW_MANY,
    pieces: bool = typer.Option(
        False, "--pieces", help="Of a rare or misspelt word: put it together from its pieces."
    ),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """The words whose vectors point where that of a word does.

    \b
    Examples:
      kun vectors near king
      kun vectors near kingdm --pieces
      kun vectors near 国王 -m runs/my-vectors/checkpoint
      kun vectors near king -m glove-6b-50d -m qwen2.5-coder-0.5b-instruct --json
    """
    found: list[tuple[WordVectors, Composition | None, Near]] = []
    for name in models or (DEFAULT_VECTORS,):
        vectors = _opened(name)
        if pieces:
            from kun.wordvectors.opening import composed

            made = composed(vectors, word)
            found.append((vectors, made, vectors.near(made.vector, k, without=made.rows)))
        else:
            found.append((vectors, None, vectors.near(word, k)))
    if as_json:
        output.print_json([_near_as_dict(word, *one) for one in found])
        return
    for vectors, composition, words in found:
        head = f"{vectors.name}: {word}"
        if composition is not None:
            head += f" as {_SUMMED} ({' '.join(composition.pieces[:8])})"
            if composition.left_out:
                head += f", without {' '.join(composition.left_out[:8])}: parts of a character"
        typer.secho(head, bold=True)
        output.print_table(("word", "cosine"), [(each, f"{cosine:.3f}") for each, cosine in words])


def _near_as_dict(
    word: str, vectors: "WordVectors", composition: "Composition | None", words: "Near"
) -> dict[str, object]:
    plain: dict[str, object] = {"vectors": vectors.name, "word": word, "near": _as_dicts(words)}
    if composition is not None:
        plain |= {"pieces": list(composition.pieces), "label": _SUMMED}
        plain |= {"left_out": list(composition.left_out)} if composition.left_out else {}
    return plain


def _as_dicts(words: "Near") -> list[dict[str, object]]:
    return [{"word": word, "cosine": cosine} for word, cosine in words]


@app.command()
def analogy(
    words: list[str] = typer.Argument(
        None, metavar="A B C", help="What is to C as B is to A: man king woman."
    ),
    models: list[str] | None = MODELS,
    k: int = HOW_MANY,
    file: Path | None = typer.Option(None, "--file", help="A file of analogies: how many come out right."),
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Find what is to C as B is to A: the words nearest to B − A + C, once without A, B and C and once with them.

    Without the query words the answer is often right; with them the nearest is often B or C itself (Linzen 2016).

    \b
    Examples:
      kun vectors analogy man king woman
      kun vectors analogy 男人 国王 女人 -m runs/my-vectors/checkpoint
      kun vectors analogy --file examples/analogies/zh.txt -m runs/my-vectors/checkpoint --json
    """
    if bool(words) == bool(file) or (words and len(words) != 3):
        raise BadInput(
            "An analogy has three words, as in: kun vectors analogy man king woman; or name --file."
        )
    names = models or [DEFAULT_VECTORS]
    if file is not None:
        from kun.wordvectors.analogies import measure, read_analogies

        questions = read_analogies(file)
        rates = [(vectors.name, measure(vectors, questions)) for vectors in map(_opened, names)]
        _show_rates(rates, as_json)
        return
    a, b, c = words
    found: list[tuple[str, Near, Near]] = []
    for name in names:
        vectors = _opened(name)
        left_out, among = (vectors.analogy(a, b, c, exclude=exclude, k=k) for exclude in (True, False))
        found.append((vectors.name, left_out, among))
    if as_json:
        output.print_json(
            [
                {
                    "vectors": name,
                    "question": f"{b} − {a} + {c}",
                    "without_query_words": _as_dicts(left_out),
                    "with_query_words": _as_dicts(among),
                }
                for name, left_out, among in found
            ]
        )
        return
    for name, left_out, among in found:
        typer.secho(f"{name}: {b} − {a} + {c}", bold=True)
        rows = [(*_cell(one), *_cell(other)) for one, other in zip_longest(left_out, among)]
        output.print_table(("query words left out", "cosine", "with them", "cosine"), rows)


def _cell(one: tuple[str, float] | None) -> tuple[str, str]:
    return (one[0], f"{one[1]:.3f}") if one else ("", "")


def _show_rates(rates: "Sequence[tuple[str, AnalogyRates]]", as_json: bool) -> None:
    if as_json:
        output.print_json(
            [
                {
                    "vectors": name,
                    "questions": found.questions,
                    "asked": found.asked,
                    "without_query_words": found.rate(exclude=True) if found.asked else None,
                    "with_query_words": found.rate(exclude=False) if found.asked else None,
                    "groups": [output.as_dict(group) for group in found.groups],
                }
                for name, found in rates
            ]
        )
        return
    for name, found in rates:
        typer.secho(
            f"{name}: {found.asked} of {found.questions} analogies have vectors for all words", bold=True
        )
        if not found.asked:
            typer.echo("None could be asked: name vectors of that language with -m.\n")
            continue
        rows = [
            (group.group or "all", group.asked, group.right, group.right_with_query) for group in found.groups
        ]
        output.print_table(("kind", "asked", "right", "right, query words among the answers"), rows)
        typer.echo(
            f"right: {found.rate(exclude=True):.3f} with the query words left out, {found.rate(exclude=False):.3f} "
            f"with them\n"
        )


@app.command("sum")
def sum_words(
    words: list[str] = typer.Argument(
        ...,
        help="Words whose vectors are added up, those after a - taken away; of a model's table pieces of one word.",
    ),
    model: str = MODEL,
    k: int = HOW_MANY,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """The sum of some vectors, and the words nearest to it.

    Of a model's own table several without a sign are the pieces of one word, those after the first from inside words
    (##er). A word as the sum of its pieces is fastText's idea; a GPT keeps the vector of each piece apart.

    \b
    Examples:
      kun vectors sum german airline
      kun vectors sum paris - france + japan
      kun vectors sum low er ing -m qwen2.5-coder-0.5b-instruct
    """
    from kun.wordvectors.analogies import signed
    from kun.wordvectors.tokens import TokenVectors

    plus, minus = signed(words)
    vectors = _opened(model)
    label = None
    if isinstance(vectors, TokenVectors) and len(plus) == len(words):
        plus, label = [*plus[:1], *map(vectors.inside, plus[1:])], _LABEL
    total, found = vectors.sum(plus, k, minus=minus)
    if as_json:
        output.print_json(
            {
                "vectors": vectors.name,
                "words": plus,
                "minus": minus,
                "sum": total.tolist(),
                "near": _as_dicts(found),
                **({"label": label} if label else {}),
            }
        )
        return
    typer.secho(f"{vectors.name}: {' − '.join([' + '.join(plus), *minus])}", bold=True)
    output.print_table(("word", "cosine"), [_cell(one) for one in found])
    if label:
        typer.echo(label)


_LABEL = "A word as the sum of its pieces is fastText's idea (arXiv:1607.04606); GPT keeps each piece's vector apart."


@app.command()
def plot(
    words: list[str] = typer.Argument(
        None,
        help="Words; those joined by ':' belong together (default: kings and queens, countries and capitals).",
    ),
    picture: Path = typer.Option(Path("vectors.svg"), "--picture", "-o", help="The file, .svg or .png."),
    model: str = MODEL,
    as_json: bool = output.JSON_OPTION,
) -> None:
    """Draw words as points: the plane in which their vectors differ most (PCA).

    \b
    Examples:
      kun vectors plot -o kings.svg
      kun vectors plot king:queen man:woman uncle:aunt -o pairs.png
      kun vectors plot 法国:巴黎 日本:东京 中国:北京 -m runs/my-vectors/checkpoint
    """
    from kun.inspection.picture import format_of
    from kun.wordvectors.picture import draw, panel, usual_panels

    format_of(picture)  # a name of no format is refused before anything is fetched
    vectors = _opened(model)
    groups = [tuple(part for part in word.split(":") if part) for word in words or ()]
    panels = [panel(vectors, groups)] if groups else usual_panels(vectors)
    output.draw(picture, lambda format: draw(panels, format), quiet=as_json)
    if as_json:
        output.print_json({"picture": str(picture), "panels": [_panel_as_dict(one) for one in panels]})
        return
    for one in panels:
        if one.missing:
            typer.echo(f"Without a vector: {', '.join(one.missing)}.", err=True)


def _panel_as_dict(panel: "Panel") -> dict[str, object]:
    projection = panel.projection
    points = dict(zip(projection.words, projection.points.tolist(), strict=True))
    return {"points": points, "variance": projection.kept, "missing": list(panel.missing)}


def _opened(name: str) -> "WordVectors":
    from kun.wordvectors.opening import open_vectors

    with output.progress(in_bytes=True) as report:
        return open_vectors(name, report)
