"""word2vec: skip-gram and CBOW with negative sampling and subsampling of frequent words.

Mikolov et al., "Distributed representations of words and phrases and their compositionality", arXiv:1310.4546. A word
in the window predicts the word in its middle (skip-gram), or the mean of all of them does (CBOW), against words drawn
at random by their counts to the power of 3/4.

One departure, for speed: the context words of one place share its negatives (Ji et al., arXiv:1604.04661).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from kun.adaptation import native_words
from kun.errors import DamagedFile

_MEETINGS = 8
"""Times that the commonest word may come among the targets that move the tables at once, where no compiler is."""
_AT_ONCE = 256


@dataclass(frozen=True)
class Sizes:
    """The sizes of a training: `window` words to either side at most, `negatives` for each place.

    A word of frequency f is kept with the chance √(sample/f) + sample/f; `sample` 0 keeps all.
    """

    dimensions: int = 100
    window: int = 5
    negatives: int = 5
    cbow: bool = False
    sample: float = 1e-3
    power: float = 0.75


class Word2Vec(nn.Module):
    """The tables: `input` rows are the vectors, `output` rows what they are compared with; float32 [words, width].

    Rows are padded with zeros to whole registers. `counts` int64 [words], the commonest word first.
    """

    def __init__(self, counts: NDArray[np.int64], sizes: Sizes, rng: np.random.Generator) -> None:
        super().__init__()
        self.sizes, self.counts = sizes, counts
        width = -(-sizes.dimensions // native_words.LANES) * native_words.LANES
        start = np.zeros((len(counts), width), np.float32)
        start[:, : sizes.dimensions] = (
            rng.random((len(counts), sizes.dimensions), np.float32) - 0.5
        ) / sizes.dimensions
        self.input = nn.Parameter(torch.from_numpy(start))
        self.output = nn.Parameter(torch.zeros(len(counts), width))

    @property
    def vectors(self) -> Tensor:
        """The vectors, float32 [words, d]."""
        return self.input.detach()[:, : self.sizes.dimensions]

    @property
    def outputs(self) -> Tensor:
        """The output rows, float32 [words, d]."""
        return self.output.detach()[:, : self.sizes.dimensions]

    @cached_property
    def kept(self) -> NDArray[np.float64]:
        """The chance of each word to be kept by subsampling, float64 [words]."""
        share = self.counts / self.counts.sum()
        sample = self.sizes.sample
        if not sample:
            return np.ones(len(share))
        chance: NDArray[np.float64] = np.minimum(1.0, np.sqrt(sample / share) + sample / share)
        return chance

    @cached_property
    def noise(self) -> Tensor:
        """The distribution that negatives are drawn from, float64 [words]."""
        weights = torch.from_numpy(self.counts.astype(np.float64)) ** self.sizes.power
        return weights / weights.sum()

    @cached_property
    def _sampler(self) -> native_words.NegativeSampler:
        return native_words.NegativeSampler.of(self.noise)

    @cached_property
    def _kept_bits(self) -> Tensor:
        bits = np.minimum(self.kept * 2.0**32, 2**32 - 1).astype(np.uint32)
        return torch.from_numpy(bits.view(np.int32))

    @torch.no_grad()
    def learn(self, text: Tensor, rate: float, seed: int, threads: int = 1) -> tuple[float, int]:
        """Go once over `text` (int32 ids, -1 between sentences); the sum of losses, over how many predictions.

        Compiled code takes a sample of the losses. With one thread the same bits come out each time. Raises
        `DamagedFile` for ids that no word has.
        """
        if len(text) and not -1 <= int(text.min()) <= int(text.max()) < len(self.counts):
            raise DamagedFile("The text holds ids that no word has: start another run, which reads it anew.")
        if not native_words.available():
            return self._learn_uncompiled(text, rate, seed)
        sizes = self.sizes
        return native_words.word2vec(
            text,
            self.input.data,
            self.output.data,
            self._kept_bits,
            self._sampler,
            window=sizes.window,
            negatives=sizes.negatives,
            cbow=sizes.cbow,
            rate=rate,
            seed=seed,
            threads=threads,
        )

    def _learn_uncompiled(self, text: Tensor, rate: float, seed: int) -> tuple[float, int]:
        """The same steps, some pairs at a time, by torch's operations."""
        rng = np.random.default_rng(seed)
        ids = text.numpy()
        known = np.maximum(ids, 0)
        ids = ids[(ids < 0) | (rng.random(len(ids)) < self.kept[known])]
        contexts = contexts_of(ids, self.sizes.window, rng.integers(1, self.sizes.window + 1, len(ids)))
        negatives = self.draw(len(ids), rng)
        total, predictions = 0.0, 0
        places = np.flatnonzero((contexts >= 0).any(axis=1))
        pairs = (1 + self.sizes.negatives) * (1 if self.sizes.cbow else self.sizes.window)
        at_once = min(_AT_ONCE, max(1, int(_MEETINGS / (pairs * float(self.noise.max())))))
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            loss, count = self._step(contexts[some], ids[some], negatives[some], rate)
            total, predictions = total + loss, predictions + count
        return total, predictions

    def draw(self, places: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Negatives for so many places, int64 [places, negatives]."""
        edges = np.cumsum(self.noise.numpy())
        drawn = np.searchsorted(edges, rng.random((places, self.sizes.negatives)), side="right")
        return np.minimum(drawn, len(edges) - 1)

    def _step(
        self,
        contexts: NDArray[np.int64],
        words: NDArray[np.int32],
        negatives: NDArray[np.int64],
        rate: float,
    ) -> tuple[float, int]:
        """One step of gradient descent on some places: contexts [n, c], -1 where there is none."""
        hidden, targets, owners = _examples(self.input.data, contexts, words, negatives, cbow=self.sizes.cbow)
        rows = self.output.data[targets]
        logits = torch.einsum("nd,ntd->nt", hidden, rows)
        label = torch.zeros_like(logits)
        label[:, 0] = 1
        real = (targets != targets[:, :1]) | (label > 0)  # a negative that is the word itself teaches nothing
        step = (label - torch.sigmoid(logits)) * rate * real
        moved = torch.einsum("nt,ntd->nd", step, rows)
        self.output.data.index_add_(
            0, targets.flatten(), torch.einsum("nt,nd->ntd", step, hidden).flatten(0, 1)
        )
        if self.sizes.cbow:
            mask = owners >= 0
            each = moved[:, None].expand(
                -1, owners.shape[1], -1
            )  # the whole gradient, as word2vec's program has it
            self.input.data.index_add_(0, owners[mask], each[mask])
        else:
            self.input.data.index_add_(0, owners, moved)
        return float(_losses(logits, real).sum()), len(hidden)


def contexts_of(
    ids: NDArray[np.int32], window: int, reach: NDArray[np.int64] | int | None = None
) -> NDArray[np.int64]:
    """The words around each place of a text, int64 [n, 2 · window], -1 where there is none or a sentence ends.

    Of each place only the `reach` nearest to either side, all of the window where it is None.
    """
    sentence = np.cumsum(ids < 0)
    found = np.full((len(ids), 2 * window), -1, np.int64)
    reached = np.broadcast_to(window if reach is None else reach, len(ids))
    for distance in range(1, min(window, len(ids) - 1) + 1):
        near = sentence[:-distance] == sentence[distance:]
        left, right = ids[:-distance], ids[distance:]
        inside = near & (left >= 0) & (right >= 0)
        found[distance:, 2 * distance - 2] = np.where(inside & (reached[distance:] >= distance), left, -1)
        found[:-distance, 2 * distance - 1] = np.where(inside & (reached[:-distance] >= distance), right, -1)
    return found


def _examples(
    table: Tensor,
    contexts: NDArray[np.int64],
    words: NDArray[np.int32],
    negatives: NDArray[np.int64],
    *,
    cbow: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden rows [n, d], their targets [n, 1 + negatives] (the word itself first), and the words that they are of.

    The latter are [n] for skip-gram, a row for each pair; [n, c] for CBOW, a row for each place, -1 where none is.
    """
    targets = torch.from_numpy(np.concatenate([words[:, None].astype(np.int64), negatives], axis=1))
    around = torch.from_numpy(contexts)
    mask = around >= 0
    if not cbow:
        places, columns = mask.nonzero(as_tuple=True)
        owners = around[places, columns]
        return table[owners], targets[places], owners
    rows = table[around.clamp(min=0)] * mask[..., None]
    return rows.sum(1) / mask.sum(1, keepdim=True).clamp(min=1), targets, around


def _losses(logits: Tensor, real: Tensor) -> Tensor:
    """The loss of each prediction, [n]: −ln σ(x) of the word itself, −ln σ(−x) of each real negative."""
    signed = torch.cat([-logits[:, :1], logits[:, 1:]], dim=1)
    return (softplus(signed) * real).sum(1)


@torch.no_grad()
def held_out_loss(
    vectors: Tensor,
    outputs: Tensor,
    ids: NDArray[np.int32],
    negatives: NDArray[np.int64],
    *,
    window: int,
    cbow: bool,
) -> tuple[float, int]:
    """The negative-sampling loss of vectors and output rows [words, d] on a text, summed, and its predictions.

    `negatives` [n, k] are those of each place. The window is whole and no word is left out, so that the same text gives
    the same figure for vectors of any origin.
    """
    total, predictions = 0.0, 0
    contexts = contexts_of(ids, window)
    places = np.flatnonzero((contexts >= 0).any(axis=1))
    for start in range(0, len(places), 2048):
        some = places[start : start + 2048]
        hidden, targets, _ = _examples(vectors, contexts[some], ids[some], negatives[some], cbow=cbow)
        logits = torch.einsum("nd,ntd->nt", hidden, outputs[targets])
        real = targets != targets[:, :1]
        real[:, 0] = True
        total += float(_losses(logits, real).double().sum())
        predictions += len(hidden)
    return total, predictions
