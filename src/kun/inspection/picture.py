"""Pictures of what was seen, as PNG or SVG; text in an SVG stays text, so that any font shows it."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kun.errors import BadInput
from kun.inspection.tokens import Cutting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kun.inspection.attention import Look, Steps
    from kun.inspection.logits import NextWords
    from kun.inspection.positions import Places

PictureFormat = Literal["png", "svg"]
PALETTE = ("#b8dfe6", "#f6d8a8", "#c9e4c5", "#e3cbea", "#f3c5c0", "#cfd8ea")
"""The colours of neighbouring pieces, light enough for black letters."""
_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "DejaVu Sans",
)
_MAP, _DIM, _INK = "GnBu", "#4a6573", "#0c2836"


def format_of(path: Path) -> PictureFormat:
    """The format that a file's name asks for. Raises `BadInput` for another one than PNG and SVG."""
    match path.suffix.lower():
        case ".png":
            return "png"
        case ".svg":
            return "svg"
    raise BadInput(f"{path.name} must end in .png or .svg: those pictures can be drawn.")


def cuttings(seen: Sequence[Cutting], format: PictureFormat) -> bytes:
    """A text as several tokenizers cut it, a line each, ids below the pieces."""
    figure = new_figure(width=12, height=0.6 + 1.1 * len(seen))
    axes = figure.subplots(len(seen), 1, squeeze=False)[:, 0]
    for ax, cutting in zip(axes, seen, strict=True):
        ax.set_title(f"{cutting.tokenizer}: {len(cutting.pieces)}", loc="left", fontsize=10)
        _boxes(ax, cutting)
    return saved(figure, format)


def _boxes(ax: "Axes", cutting: Cutting) -> None:
    widths = [max(len(shown(piece.bytes)), len(str(piece.id)) * 0.8, 1) + 0.6 for piece in cutting.pieces]
    left = 0.0
    for number, (piece, width) in enumerate(zip(cutting.pieces, widths, strict=True)):
        ax.barh(0, width - 0.1, left=left, height=0.8, color=PALETTE[number % len(PALETTE)])
        ax.text(left + width / 2, 0.08, shown(piece.bytes), ha="center", va="center", fontsize=11)
        ax.text(left + width / 2, -0.26, str(piece.id), ha="center", va="center", fontsize=7, color=_DIM)
        left += width
    ax.set_xlim(0, max(left, 40))
    ax.set_ylim(-0.5, 0.5)
    ax.axis("off")


def shown(piece: bytes) -> str:
    """Bytes as text, spaces and line ends visible; part of a character as hexadecimal."""
    try:
        return piece.decode().replace(" ", "␣").replace("\n", "⏎") or "∅"
    except UnicodeDecodeError:
        return piece.hex(" ")


def positions(seen: Sequence["Places"], format: PictureFormat) -> bytes:
    """Heat maps side by side."""
    columns = min(3, len(seen))
    rows = -(-len(seen) // columns)
    figure = new_figure(width=4.6 * columns, height=4.0 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, one in zip(grid, seen, strict=False):
        drawn = ax.imshow(one.table.numpy(), aspect="auto", cmap=_MAP, interpolation="nearest")
        figure.colorbar(drawn, ax=ax, fraction=0.046)
        facts = ", ".join(f"{name} {value:.2g}" for name, value in one.facts.items())
        ax.set(title=one.kind, xlabel=one.columns, ylabel=one.rows)
        if one.table.shape[1] == 1:
            ax.set_xticks([])
        ax.text(0.5, -0.22, facts, transform=ax.transAxes, ha="center", fontsize=8, color=_DIM)
    for ax in grid[len(seen) :]:
        ax.axis("off")
    return saved(figure, format)


def attention(looks: Sequence["Look"], layer: int | None, head: int | None, format: PictureFormat) -> bytes:
    """Attention weights: a map for each look, rows look at columns."""
    widths, heights = (
        [1.6 + 0.5 * max(len(each), 5) for each in lists]
        for lists in ([look.looked_at for look in looks], [look.tokens for look in looks])
    )
    figure = new_figure(width=sum(widths), height=max(heights))
    grid = figure.subplots(1, len(looks), squeeze=False, width_ratios=widths)[0]
    for ax, look in zip(grid, looks, strict=True):
        _map(ax, look.pick(layer, head).tolist(), look.tokens, look.looked_at)
        ax.set_title(look.title, fontsize=10)
        ax.set(xlabel="looked at", ylabel="looks")
    return saved(figure, format)


def steps(looks: Sequence["Look"], seen: Sequence["Steps"], format: PictureFormat) -> bytes:
    """One word's attention in each network: dot products, scores, weights, nearness before and after."""
    heights = [0.9 + 0.36 * max(len(look.looked_at), 4) for look in looks]
    figure = new_figure(width=13, height=sum(heights))
    rows = figure.subfigures(len(looks), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, look, one in zip(rows, looks, seen, strict=True):
        word = look.tokens[one.place]
        row.suptitle(f"{look.title}: “{word}”, layer {one.layer}, head {one.head}", fontsize=11)
        _step_bars(row.subplots(1, 4, sharey=True), look.looked_at, one)
    return saved(figure, format)


def _step_bars(axes: "Sequence[Axes]", tokens: Sequence[str], seen: "Steps") -> None:
    parts = (
        ("1. dot products q · k", seen.products),
        ("scaled by 1/√d, masked", seen.scores),
        ("2. softmax", seen.weights),
        ("cosine before (bar), after 3. (dot)", seen.nearness),
    )
    places = range(len(tokens))
    for ax, (title, values) in zip(axes, parts, strict=True):
        ax.barh(places, [value if math.isfinite(value) else 0 for value in values], color=PALETTE[0])
        ax.set_title(title, fontsize=9)
        ax.axvline(0, color=_DIM, linewidth=0.6)
    axes[-1].plot(seen.nearness_after, places, "o", color="#0b6e8a")
    axes[0].set_yticks(places, tokens)
    axes[0].invert_yaxis()


def next_words(seen: Sequence["NextWords"], format: PictureFormat) -> bytes:
    """Each layer's guess after each token, darker the surer; the last layer at the top."""
    n_layers = len(seen[0].layers)
    figure = new_figure(width=1.2 + 1.15 * len(seen), height=1.2 + 0.3 * n_layers)
    ax = figure.subplots()
    ax.imshow(
        [[place.layers[layer].probability for place in seen] for layer in range(n_layers)],
        aspect="auto", cmap=_MAP, vmin=0, vmax=1, origin="lower",
    )  # fmt: skip
    for layer in range(n_layers):
        for column, place in enumerate(seen):
            guess = place.layers[layer]
            colour = _on(guess.probability)
            ax.text(column, layer, guess.text[:12], ha="center", va="center", fontsize=7, color=colour)
    ax.set_xticks(range(len(seen)), [place.token for place in seen])
    ax.set(xlabel="after", ylabel="layer")
    return saved(figure, format)


def _map(ax: "Axes", values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str]) -> None:
    ax.imshow(values, cmap=_MAP, vmin=0, vmax=1)
    ax.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > 8 else 0)
    ax.set_yticks(range(len(rows)), rows)
    if len(rows) <= 12:
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                ax.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=_on(value))


def _on(darkness: float) -> str:
    """The colour of letters on a cell of the map."""
    return "white" if darkness > 0.6 else _INK


def new_figure(width: float, height: float) -> "Figure":
    """A figure of its own: pyplot keeps global state, and a server draws for several people at once."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.fonttype"] = "none"
    rcParams["font.family"] = [*_fonts_here()]
    return Figure(figsize=(min(width, 40), min(height, 40)), layout="constrained", dpi=110)


def _fonts_here() -> list[str]:
    from matplotlib import font_manager

    here = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _FONTS if name in here]


def saved(figure: "Figure", format: PictureFormat) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, metadata={"Date": None} if format == "svg" else None)
    return buffer.getvalue()
