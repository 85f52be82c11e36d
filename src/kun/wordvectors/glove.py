"""GloVe: vectors whose products are the logarithms of how often words come together.

Pennington, Socher and Manning, "GloVe: Global vectors for word representation", 2014. The objective is its equation 8,
J = Σ f(X_ij) (w_i · c_j + b_i + b_j − ln X_ij)², f(x) = (x / x_max)^α below x_max, else 1; a word's vector is w + c.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kun.adaptation import native_words
from kun.errors import DamagedFile

Entries: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Words' ids int32 [n], contexts' ids int32 [n], how often they came together float32 [n]."""

CLIP = 100.0
_AT_ONCE = 256


@dataclass(frozen=True)
class Weighting:
    """`most` is x_max, from which on all counts weigh one; below it they weigh (x / most)^power."""

    most: float = 100.0
    power: float = 0.75


class Glove(nn.Module):
    """The tables, float32 [words, width]: [vector, bias, 1, zeros] of a word, [vector, 1, bias, zeros] of a context.

    So the product of two rows holds both biases. `squares` are AdaGrad's sums, which begin at one.
    """

    word_squares: Tensor
    context_squares: Tensor

    def __init__(self, words: int, dimensions: int, weighting: Weighting, rng: np.random.Generator) -> None:
        super().__init__()
        self.dimensions, self.weighting = dimensions, weighting
        width = -(-(dimensions + 2) // native_words.LANES) * native_words.LANES
        self.words, self.contexts = (
            nn.Parameter(_start(words, dimensions, width, one, rng)) for one in (1, 0)
        )
        self.register_buffer("word_squares", torch.ones(words, width))
        self.register_buffer("context_squares", torch.ones(words, width))

    @property
    def vectors(self) -> Tensor:
        """The words' vectors, w + c, float32 [words, d]."""
        return (self.words + self.contexts).detach()[:, : self.dimensions]

    def weight(self, counts: Tensor) -> Tensor:
        """f of the objective, [n]."""
        return (counts / self.weighting.most).pow(self.weighting.power).clamp(max=1)

    def objective(self, entries: Entries, dtype: torch.dtype = torch.float64) -> float:
        """J of the paper over some entries, computed in `dtype`."""
        total = 0.0
        for rows, columns, counts in zip(*(part.split(1 << 16) for part in entries), strict=True):
            off, weight = self._off(rows, columns, counts, dtype)
            total += float((weight * off.square()).sum())
        return total

    def _off(
        self, rows: Tensor, columns: Tensor, counts: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The distance of each product from its logarithm, and its weight, [n] each."""
        words, contexts = (
            table.detach()[ids.long()].to(dtype)
            for table, ids in ((self.words, rows), (self.contexts, columns))
        )
        exact = counts.to(dtype)
        return torch.einsum("nd,nd->n", words, contexts) - exact.log(), self.weight(exact)

    @torch.no_grad()
    def learn(self, entries: Entries, rate: float, threads: int = 1) -> float:
        """Go once over some entries; the objective as it was met on the way.

        Raises `DamagedFile` for ids and counts that are none.
        """
        self._check(entries)
        if not native_words.available():
            return self._learn_uncompiled(entries, rate)
        return native_words.glove(
            *entries,
            (self.words.data, self.contexts.data),
            (self.word_squares, self.context_squares),
            dimensions=self.dimensions,
            rate=rate,
            most=self.weighting.most,
            power=self.weighting.power,
            threads=threads,
        )

    def _check(self, entries: Entries) -> None:
        rows, columns, counts = entries
        ids = torch.cat([rows, columns])
        if len(ids) and (
            int(ids.min()) < 0 or int(ids.max()) >= len(self.words) or not float(counts.min()) > 0
        ):
            raise DamagedFile("The counts of pairs are damaged: start another run, which counts them anew.")

    def _learn_uncompiled(self, entries: Entries, rate: float) -> float:
        """The same steps, some entries at a time, by torch's operations."""
        total, d = 0.0, self.dimensions
        for rows, columns, counts in zip(*(part.split(_AT_ONCE) for part in entries), strict=True):
            off, weight = self._off(rows, columns, counts, torch.float32)
            words, contexts = self.words.data[rows.long()], self.contexts.data[columns.long()]
            pull = (weight * off)[:, None]
            for table, squares, ids, other in (
                (self.words.data, self.word_squares, rows, contexts),
                (self.contexts.data, self.context_squares, columns, words),
            ):
                gradient = (pull * other).clamp(-CLIP, CLIP)
                table.index_add_(0, ids.long(), gradient / squares[ids.long()].sqrt(), alpha=-rate)
                squares.index_add_(0, ids.long(), gradient.square())
            self.words.data[:, d + 1] = 1
            self.contexts.data[:, d] = 1
            total += float((weight * off.square()).sum())
        return total


def _start(words: int, dimensions: int, width: int, one: int, rng: np.random.Generator) -> Tensor:
    """Small numbers at random, as the reference begins; `one` is which of the two bias columns is the constant."""
    start = np.zeros((words, width), np.float32)
    start[:, :dimensions] = (rng.random((words, dimensions), np.float32) - 0.5) / (dimensions + 1)
    start[:, dimensions + one] = 1
    start[:, dimensions + 1 - one] = (rng.random(words, np.float32) - 0.5) / (dimensions + 1)
    return torch.from_numpy(start)


def reference_objective(
    vectors: tuple[NDArray[np.float64], NDArray[np.float64]],
    biases: tuple[NDArray[np.float64], NDArray[np.float64]],
    counts: NDArray[np.float64],
    weighting: Weighting,
) -> float:
    """J over a whole matrix of counts [words, words], float64, as the paper writes it: for tests and benchmarks."""
    (words, contexts), (word_bias, context_bias) = vectors, biases
    met = counts > 0
    logs = np.log(np.where(met, counts, 1.0))
    weight = np.minimum(1.0, (counts / weighting.most) ** weighting.power) * met
    off = words @ contexts.T + word_bias[:, None] + context_bias[None] - logs
    return float((weight * off**2).sum())
