"""Looking inside models by their names; each is opened, and pulled first where that is needed."""

from collections.abc import Sequence
from pathlib import Path

from kun.hub.opening import open_tokenizer
from kun.hub.pull import locate
from kun.inspection import attention, logits, positions, tokens
from kun.inspection.opened import Opened
from kun.models.chosen import chosen
from kun.settings import DEFAULT_ENCODER

DECODER, ENCODER = "smollm2-135m-instruct", "all-minilm-l6-v2"
"""Those that are shown where none is named."""


def cuttings(text: str, models: Sequence[str | Path]) -> list[tokens.Cutting]:
    """`kun.api.inspect_tokens`."""
    paths = [locate(name) for name in models or (chosen().name, DEFAULT_ENCODER)]
    return [tokens.cut_tokens(text, open_tokenizer(path), path.name) for path in paths]


def merges(word: str, model: str | Path | None) -> list[tuple[str, ...]]:
    """`kun.api.inspect_merges`."""
    return tokens.merges(word, open_tokenizer(locate(model or chosen().name)))


def places(kinds: Sequence[str], n: int, width: int, model: str | Path | None) -> list[positions.Places]:
    """`kun.api.inspect_positions`."""
    net = None if model is None else Opened.open(model).net
    wanted = kinds or [kind for kind in positions.KINDS if kind != "learned" or net is not None]
    return [positions.places(kind, n, width, net) for kind in wanted]


def looks(text: str, models: Sequence[str | Path], answer: str | None) -> list[attention.Look]:
    """`kun.api.inspect_attention`."""
    names = models or (DECODER, ENCODER)
    return [look for name in names for look in attention.looks(Opened.open(name), text, answer)]


def next_words(text: str, model: str | Path | None, k: int, answer: str | None) -> list[logits.NextWords]:
    """`kun.api.inspect_logits`."""
    return logits.next_words(Opened.open(model or DECODER), text, k, answer)
