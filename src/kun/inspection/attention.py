"""Which word looks at which, and for one word the three steps in numbers.

The steps are those of Vaswani et al., arXiv:1706.03762: dot products of the word's query with every key, divided by
√d; softmax; the sum of the values by these weights. A causal network's first word sees itself alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from kun.errors import BadInput, UnsupportedFormat
from kun.inspection.opened import Opened
from kun.inspection.watch import Seen, watching
from kun.networks.family import Kind


@dataclass(frozen=True)
class Steps:
    """One word's attention in one head of one layer; all lists run over the tokens that could be looked at.

    `products` are q · k, `scores` those over √d (and whatever the network adds by position), `weights` their
    softmax, `mixed` the weighted sum of the values [d_head]. `nearness` is the cosine of the word's state with each
    word's before attention, and `nearness_after` once what all heads found has been added to it; `moved` is the
    length of what was added, as a share of the state's own.
    """

    place: int
    layer: int
    head: int
    products: list[float]
    scores: list[float]
    weights: list[float]
    mixed: list[float]
    nearness: list[float]
    nearness_after: list[float]
    moved: float


@dataclass(frozen=True, eq=False)
class Look:
    """One attention of a network: `tokens` look at `looked_at`, whose states [s, d_model] a layer's are near or far.

    `part` says which of a network's attentions it is; `kind` is the network's.
    """

    model: str
    kind: Kind
    part: str
    tokens: list[str]
    looked_at: list[str]
    seen: Seen
    source: Tensor | None = None
    """States [s, d_model] of what is looked at; None where it is the tokens themselves."""

    @cached_property
    def weights(self) -> Tensor:
        """[layers, heads, t, s]; each row sums to one."""
        return torch.stack([attended.weights[0] for attended in self.seen.attended])

    @property
    def title(self) -> str:
        return f"{self.model}, {self.kind if self.part == SELF else self.part}"

    @property
    def n_layers(self) -> int:
        return self.weights.shape[0]

    @property
    def n_heads(self) -> int:
        return self.weights.shape[1]

    def pick(self, layer: int | None, head: int | None) -> Tensor:
        """Weights [t, s] of one head (from 0), or the mean over all heads, or all layers, where it is None.

        Raises `BadInput` for a layer or head that is not there.
        """
        self._check("layer", layer, self.n_layers)
        self._check("head", head, self.n_heads)
        weights = self.weights if layer is None else self.weights[layer : layer + 1]
        return (weights if head is None else weights[:, head : head + 1]).mean((0, 1))

    def steps(self, place: int, layer: int = 0, head: int = 0) -> Steps:
        """The three steps for the token at `place`. Raises `BadInput` for what is not there."""
        self._check("token", place, len(self.tokens))
        self._check("layer", layer, self.n_layers)
        self._check("head", head, self.n_heads)
        attended = self.seen.attended[layer]
        weights, values = attended.weights[0, head, place], attended.v[0, head].float()
        before, added = self.seen.before[layer][0], self.seen.added[layer][0, place]
        others = before if self.source is None else self.source
        return Steps(
            place,
            layer,
            head,
            attended.products[0, head, place].tolist(),
            attended.scores[0, head, place].tolist(),
            weights.tolist(),
            (weights @ values).tolist(),
            F.cosine_similarity(before[place][None], others).tolist(),
            F.cosine_similarity((before[place] + added)[None], others).tolist(),
            float(added.norm() / before[place].norm()),
        )

    def _check(self, what: str, number: int | None, count: int) -> None:
        if number is not None and not 0 <= number < count:
            raise BadInput(
                f"There is no {what} {number} in {self.title}: they are numbered from 0 to {count - 1}."
            )


SELF = "self-attention"


def looks(opened: Opened, text: str, answer: str | None = None) -> list[Look]:
    """A text as a network's attention sees it: one `Look`, or an encoder-decoder's three.

    `answer` is what `Opened.read` takes. Raises `BadInput` for a text that cannot be shown, `UnsupportedFormat` for
    an attention that cannot be seen.
    """
    reading = opened.read(text, answer)
    if reading.source is None:
        with watching(opened.layers) as seen:
            opened.net(**reading.arguments)
        return [_look(opened, SELF, reading.tokens, reading.tokens, seen)]
    with (
        watching(opened.encoder_layers) as read,
        watching(opened.layers) as written,
        watching(opened.layers, "cross") as across,
    ):
        output = opened.net(**reading.arguments)
    source, tokens = list(reading.source_tokens), reading.tokens
    states: Tensor = output.encoder_last_hidden_state[0]
    return [
        _look(opened, "encoder self-attention", source, source, read),
        _look(opened, "decoder self-attention", tokens, tokens, written),
        _look(opened, "cross-attention", tokens, source, across, states),
    ]


def _look(
    opened: Opened,
    part: str,
    tokens: list[str],
    looked_at: list[str],
    seen: Seen,
    source: Tensor | None = None,
) -> Look:
    if len(seen.attended) != len(seen.after):
        raise UnsupportedFormat(f"{opened.name} attends in a way of its own, which is not shown.")
    return Look(opened.name, opened.kind, part, tokens, looked_at, seen, source)


def places_of(seen: Sequence[Look], word: str) -> list[tuple[Look, int]]:
    """The place of the first token that is shown as `word`, in each look that has one.

    Raises `BadInput` for a model that shows none so.
    """
    known: dict[str, dict[str, None]] = {}
    for look in seen:
        known.setdefault(look.model, {}).update(dict.fromkeys(look.tokens))
    for model, tokens in known.items():
        if word not in tokens:
            raise BadInput(f"No token of {model} is {word[:60]!r}; there are {', '.join(tokens)}.")
    return [(look, look.tokens.index(word)) for look in seen if word in look.tokens]
