"""Which word looks at which, and for one word the three steps in numbers.

The steps are those of Vaswani et al., arXiv:1706.03762: dot products of the word's query with every key, divided by
√d; softmax; the sum of the values by these weights. A causal network's first word sees itself alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kun.errors import BadInput, UnsupportedFormat
from kun.inspection.opened import Opened
from kun.inspection.watch import Seen, watching


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


class Look:
    """A text as a network's attention sees it: `tokens`, and `weights` [layers, heads, t, t], rows summing to one.

    Raises `BadInput` for a text that cannot be shown, `UnsupportedFormat` for an attention that cannot be seen.
    """

    def __init__(self, opened: Opened, text: str) -> None:
        self.model, self.kind = opened.name, opened.kind
        ids, self.tokens = opened.read(text)
        with watching(opened.net.layers) as seen:
            opened.net(ids)
        if len(seen.attended) != len(opened.net.layers):
            raise UnsupportedFormat(f"{opened.name} attends in a way of its own, which is not shown.")
        self._seen: Seen = seen
        self.weights: Tensor = torch.stack([attended.weights[0] for attended in seen.attended])

    @property
    def n_layers(self) -> int:
        return self.weights.shape[0]

    @property
    def n_heads(self) -> int:
        return self.weights.shape[1]

    def pick(self, layer: int | None, head: int | None) -> Tensor:
        """Weights [t, t] of one head (from 0), or the mean over all heads, or all layers, where it is None.

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
        attended = self._seen.attended[layer]
        weights, values = attended.weights[0, head, place], attended.v[0, head].float()
        before, added = self._seen.before[layer][0], self._seen.added[layer][0, place]
        return Steps(
            place,
            layer,
            head,
            attended.products[0, head, place].tolist(),
            attended.scores[0, head, place].tolist(),
            weights.tolist(),
            (weights @ values).tolist(),
            F.cosine_similarity(before[place][None], before).tolist(),
            F.cosine_similarity((before[place] + added)[None], before).tolist(),
            float(added.norm() / before[place].norm()),
        )

    def place_of(self, word: str) -> int:
        """The first token that is shown as `word`. Raises `BadInput` where none is."""
        if word not in self.tokens:
            raise BadInput(f"No token of {self.model} is {word[:60]!r}; there are {', '.join(self.tokens)}.")
        return self.tokens.index(word)

    @staticmethod
    def _check(what: str, number: int | None, count: int) -> None:
        if number is not None and not 0 <= number < count:
            raise BadInput(f"There is no {what} {number}: they are numbered from 0 to {count - 1}.")
