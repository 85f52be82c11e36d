"""Two readings of the same thing, compared: tokens, rendered chats, logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_AROUND = 24
_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class TextCheck:
    """Of `total` texts or chats, `same` are; `first` tells of the first that is not.

    `spared` are those that were compared without what the format is known not to hold.
    """

    total: int
    same: int
    first: dict[str, str | int | None] | None = None
    spared: int = 0

    @property
    def ok(self) -> bool:
        return self.same == self.total


@dataclass(frozen=True)
class StateCheck:
    """The distance of two networks over `positions` of text.

    `largest` is the largest difference of a number, at `where`; `relative` that over the numbers' standard
    deviation, `typical` the root of the mean square of all differences over it. `mean_kl` and `worst_kl` are the
    Kullback-Leibler divergences of the distributions of the next token in nats, `agreement` the share of positions
    with the same likeliest token: all three None for states that are no logits. `tolerance` is what `relative`,
    `typical` and `mean_kl` may be; None where nothing was asked of them.
    """

    positions: int
    largest: float
    relative: float
    typical: float
    where: dict[str, float | list[int]]
    mean_kl: float | None
    worst_kl: float | None
    agreement: float | None
    tolerance: "Tolerance | None" = None

    @property
    def ok(self) -> bool:
        if self.tolerance is None:
            return True
        near = self.relative <= self.tolerance.relative and self.typical <= self.tolerance.typical
        return bool(near) and (self.mean_kl is None or bool(self.mean_kl <= self.tolerance.mean_kl))


@dataclass(frozen=True)
class Tolerance:
    """The most that `StateCheck` may say."""

    relative: float
    typical: float
    mean_kl: float


def compare_tokens(
    texts: Sequence[str], ours: Sequence[Sequence[int]], reference: Sequence[Sequence[int]]
) -> TextCheck:
    """Ids of the same texts: `first` names the text, the place, and the token that each has there (None: ended)."""
    first = next(
        (i for i, pair in enumerate(zip(ours, reference, strict=True)) if list(pair[0]) != pair[1]), None
    )
    same = sum(list(a) == b for a, b in zip(ours, reference, strict=True))
    if first is None:
        return TextCheck(len(ours), same)
    one, other = list(ours[first]), list(reference[first] or [])
    at = _parting(one, other)
    return TextCheck(
        len(ours), same, {"text": texts[first], "token": at, "kun": _at(one, at), "reader": _at(other, at)}
    )


def compare_chats(
    names: Sequence[str], ours: Sequence[str | None], reference: Sequence[str | None]
) -> TextCheck:
    """Rendered chats, None where a template refuses: `first` names the chat and shows both where they part."""
    first = next((i for i, pair in enumerate(zip(ours, reference, strict=True)) if pair[0] != pair[1]), None)
    same = sum(a == b for a, b in zip(ours, reference, strict=True))
    if first is None:
        return TextCheck(len(ours), same)
    one, other = ours[first], reference[first]
    at = _parting(one or "", other or "")
    return TextCheck(
        len(ours),
        same,
        {"chat": names[first], "character": at, "kun": _around(one, at), "reader": _around(other, at)},
    )


def _parting(one: Sequence[object], other: Sequence[object]) -> int:
    """The first place where two sequences differ."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)


def _at(values: Sequence[int], place: int) -> int | None:
    return values[place] if place < len(values) else None


def _around(text: str | None, at: int) -> str | None:
    return None if text is None else text[max(0, at - _AROUND) : at + _AROUND]


def compare_states(
    ours: np.ndarray,
    reference: np.ndarray,
    places: Sequence[tuple[int, int]],
    logits: bool,
    tolerance: Tolerance | None,
) -> StateCheck:
    """Numbers float32 [positions, width] of two networks; `places` are the sequence and token of each position."""
    if ours.shape != reference.shape:
        where: dict[str, float | list[int]] = {"kun": list(ours.shape), "reader": list(reference.shape)}
        return StateCheck(len(ours), np.inf, np.inf, np.inf, where, None, None, None, tolerance)
    furthest, largest, squares, divergences, agreeing = (0, 0), -1.0, 0.0, [], 0
    spread = max(float(ours.std(dtype=np.float64)), 1e-12)
    for start in range(0, len(ours), _ROWS_AT_ONCE):
        a, b = (x[start : start + _ROWS_AT_ONCE].astype(np.float64) for x in (ours, reference))
        difference = np.nan_to_num(np.abs(a - b), nan=np.inf)
        row, column = divmod(int(difference.argmax()), difference.shape[1])
        if difference[row, column] > largest:
            largest, furthest = float(difference[row, column]), (start + row, column)
        squares += float(np.square(difference).sum())
        if logits:
            divergences.append(_divergence(a, b))
            agreeing += int((a.argmax(-1) == b.argmax(-1)).sum())
    row, column = furthest
    kl = np.concatenate(divergences) if divergences else None
    return StateCheck(
        positions=len(ours),
        largest=largest,
        relative=largest / spread,
        typical=(squares / ours.size) ** 0.5 / spread,
        where={
            "sequence": places[row][0],
            "token": places[row][1],
            "number": column,
            "kun": float(ours[row, column]),
            "reader": float(reference[row, column]),
        },
        mean_kl=None if kl is None else float(kl.mean()),
        worst_kl=None if kl is None else float(kl.max()),
        agreement=agreeing / len(ours) if logits else None,
        tolerance=tolerance,
    )


def _divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """KL(a ‖ b) of the distributions that rows of logits stand for: [rows], nats."""
    p, q = _log_softmax(a), _log_softmax(b)
    return np.maximum((np.exp(p) * (p - q)).sum(-1), 0.0)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))
