"""The next token of many rows at once, each with options of its own.

Rows never influence each other, and each draws from a random stream of its own: the same seed gives the same
text whatever else runs in the batch. Top-p ("nucleus") is from Holtzman et al., arXiv:1904.09751, min-p from
Nguyen et al., arXiv:2407.01082, the repetition penalty from Keskar et al., arXiv:1909.05858.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kun.generation.options import SamplingOptions

#: filters nearly always leave fewer tokens than this, so that a whole vocabulary is rarely sorted
_CANDIDATES = 256


@dataclass
class Row:
    """What sampling knows of one row: its options, its random stream, and the tokens that it has seen.

    `counts` has how often each generated token occurred, `prompt` the distinct tokens of the prompt; both are
    only needed where a penalty is set. `allowed` [vocabulary] is a mask of tokens, None where all are.
    """

    options: SamplingOptions
    random: np.random.Generator
    counts: dict[int, int] = field(default_factory=dict)
    prompt: frozenset[int] = frozenset()
    allowed: Tensor | None = None


def random_stream(seed: int | None, index: int) -> np.random.Generator:
    """The random stream of completion `index` of a request; a fresh one where `seed` is None."""
    return np.random.default_rng(None if seed is None else [seed % 2**64, index])


def sample(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """One token for each row of `logits` [rows, vocabulary], which is float and is left as it is."""
    logits = adjusted(logits, rows)
    drawn = [i for i, row in enumerate(rows) if not row.options.is_greedy]
    if not drawn:
        return logits.argmax(dim=-1).tolist()
    tokens: list[int] = [0] * len(rows)
    greedy = [i for i in range(len(rows)) if rows[i].options.is_greedy]
    filtered = [i for i in drawn if _is_filtered(rows[i].options)]
    plain = [i for i in drawn if not _is_filtered(rows[i].options)]
    for places, pick in ((greedy, _likeliest), (plain, _draw_plain), (filtered, _draw_filtered)):
        if places:
            for i, token in zip(places, pick(logits[places], [rows[i] for i in places]), strict=True):
                tokens[i] = token
    return tokens


def _likeliest(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    return logits.argmax(dim=-1).tolist()


def adjusted(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """Logits after bias, penalties and masks; the same tensor where no row has any."""
    touched = [i for i, row in enumerate(rows) if _is_touched(row)]
    if not touched:
        return logits
    logits = logits.clone()
    for i in touched:
        _adjust(logits[i], rows[i])
    return logits


def _is_touched(row: Row) -> bool:
    return row.allowed is not None or bool(row.options.logit_bias) or has_penalty(row.options)


def has_penalty(options: SamplingOptions) -> bool:
    """Whether the tokens seen so far change the next one's odds."""
    return options.repetition_penalty != 1 or options.frequency_penalty != 0 or options.presence_penalty != 0


def _adjust(logits: Tensor, row: Row) -> None:
    options = row.options
    if options.repetition_penalty != 1:
        seen = torch.tensor(sorted(row.prompt | row.counts.keys()), dtype=torch.long, device=logits.device)
        scores = logits[seen]
        penalty = options.repetition_penalty
        logits[seen] = torch.where(scores > 0, scores / penalty, scores * penalty)
    if row.counts and (options.frequency_penalty or options.presence_penalty):
        ids = torch.tensor(list(row.counts), dtype=torch.long, device=logits.device)
        counts = torch.tensor(list(row.counts.values()), dtype=logits.dtype, device=logits.device)
        logits[ids] -= options.frequency_penalty * counts + options.presence_penalty
    _add_bias(logits, options.logit_bias)
    if row.allowed is not None:
        logits.masked_fill_(~row.allowed, float("-inf"))


def _add_bias(logits: Tensor, bias: Mapping[int, float]) -> None:
    for token, value in bias.items():
        if token < len(logits):
            logits[token] += value


def _is_filtered(options: SamplingOptions) -> bool:
    return options.top_k > 0 or (options.top_p is not None and options.top_p < 1) or options.min_p > 0


def _scores(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    temperatures = torch.tensor([row.options.temperature for row in rows], device=logits.device)
    return logits.float() / temperatures[:, None]


def _draw_plain(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """From the whole vocabulary: where a uniform number falls in the running sum of probabilities."""
    probabilities = torch.softmax(_scores(logits, rows), dim=-1)
    running = probabilities.cumsum(dim=-1, dtype=torch.float64)
    uniform = torch.tensor([row.random.random() for row in rows], dtype=torch.float64, device=logits.device)
    places = torch.searchsorted(running, running[:, -1:] * uniform[:, None], right=True)[:, 0]
    # a sum that was rounded down can leave the last sliver of [0, 1) beyond every token
    return torch.where(places < running.shape[1], places, probabilities.argmax(dim=-1)).tolist()


def _draw_filtered(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """From the tokens that top-k, top-p and min-p leave."""
    scores = _scores(logits, rows)
    totals = torch.logsumexp(scores, dim=-1).double().tolist()
    count = min(_CANDIDATES, scores.shape[1])
    values, ids = (part.cpu().numpy() for part in scores.topk(count))
    tokens = []
    for i, row in enumerate(rows):
        candidates, names = values[i], ids[i]
        kept = _kept(candidates, totals[i], row.options)
        if kept == count < scores.shape[1] and row.options.top_k != count:
            # what the filters leave may reach beyond the candidates
            candidates, names = (part.cpu().numpy() for part in scores[i].sort(descending=True))
            kept = _kept(candidates, totals[i], row.options)
        tokens.append(int(names[_at(candidates[:kept], row.random.random())]))
    return tokens


def _kept(values: np.ndarray, log_total: float, options: SamplingOptions) -> int:
    """How many of the likeliest tokens the filters leave, at least one; `values` are scores in falling order.

    As the reference does: top-k first, then top-p over what top-k left, then min-p.
    """
    count = min(options.top_k, len(values)) if options.top_k else len(values)
    scores = values[:count].astype(np.float64)
    if options.top_p is not None and options.top_p < 1:
        top = scores[0]
        total = top + np.log(np.exp(scores - top).sum()) if options.top_k else log_total
        mass = np.exp(scores - total).cumsum()
        count = min(count, int((mass < options.top_p).sum()) + 1)
    if options.min_p > 0:
        count = int((np.exp(scores[:count] - scores[0]) >= options.min_p).sum())
    return max(count, 1)


def _at(scores: np.ndarray, uniform: float) -> int:
    """The index where the running sum of the probabilities passes `uniform`."""
    running = np.exp(scores.astype(np.float64) - float(scores[0])).cumsum()
    return min(int(np.searchsorted(running, running[-1] * uniform, side="right")), len(scores) - 1)


def logprobs(logits: Tensor, tokens: Sequence[int], top: int) -> list[tuple[float, list[tuple[int, float]]]]:
    """For each row of `logits` [rows, vocabulary], as the network gave them: the log-probability of its token,
    and the `top` likeliest tokens with theirs."""
    table = torch.log_softmax(logits.float(), dim=-1)
    chosen = table.gather(1, torch.tensor(list(tokens), device=table.device)[:, None])[:, 0].tolist()
    if not top:
        return [(value, []) for value in chosen]
    values, ids = (part.tolist() for part in table.topk(min(top, table.shape[1])))
    best = [list(zip(i, v, strict=True)) for i, v in zip(ids, values, strict=True)]
    return list(zip(chosen, best, strict=True))
