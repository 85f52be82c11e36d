"""What a run's folder says of it, as facts.json and the lines of its other files have it."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

Metrics = Mapping[str, float]
"""A line of metrics.jsonl."""


class Sample(TypedDict, total=False):
    """A line of samples.jsonl: what a network made of a prompt, a text or a picture (a data: address)."""

    step: int
    prompt: str
    text: str
    image: str


class PlotLine(TypedDict):
    """A line of plots.jsonl: curves by their names, each its places and values.

    Runs of before have neither `across`, what the places are, nor `log`, the axes that are logarithmic in a picture.
    """

    step: int
    title: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    across: NotRequired[str]
    log: NotRequired[str]


class DataFacts(TypedDict, total=False):
    """What was read, and what became of it."""

    source: str | list[str]
    rows: int
    duplicates: int
    bad: int
    dropped: int
    cut: int
    documents: int
    tokens: int
    eval_documents: int
    eval_tokens: int
    examples: list[str]


class TokenizerFacts(TypedDict):
    """What a tokenizer that was learned makes of text."""

    kind: str
    vocabulary: int
    compression: Mapping[str, Mapping[str, int]]
    words: Mapping[str, list[str]]


class Facts(TypedDict, total=False):
    """facts.json. Runs of before have `waste` for `padding_fraction`."""

    stage: str
    state: str
    why: str | None
    note: str | None
    objective: str
    config: Mapping[str, object]
    data: DataFacts
    overlap: Mapping[str, float] | None
    padding_fraction: float | None
    waste: float | None
    tokenizer: TokenizerFacts
    parameters: int
    trained: int
    flops_per_token: float | None
    peak_flops: float | None
    overhead: float | None
    bytes: int | None
    threads: int
    processes: int
