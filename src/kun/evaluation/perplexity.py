"""Perplexity and bits per byte: how well a language model foresees a text.

A token's probability depends on how much stands before it, so windows overlap: each is `context` tokens long and
only its last `stride` are counted, every token once. Perplexity depends on how a tokenizer cuts; bits per byte do
not, so that models with different tokenizers may be compared (Gao et al., arXiv:2101.00027, section 3.1).
"""

import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain

from kun.errors import BadInput
from kun.evaluation.likelihood import Likelihood, Question, Scorer
from kun.evaluation.progress import Tell
from kun.evaluation.prompts import text_of
from kun.evaluation.result import Measure, Sample, ratio
from kun.evaluation.rows import TaskRow
from kun.evaluation.task import Perplexity

_SHOWN = 200


def windows(ids: Sequence[int], begin: int, context: int, stride: int) -> Iterator[Question]:
    """Questions that ask for each of `ids` once: at most `context` tokens are run, `stride` of them counted.

    The first window counts all of its tokens, the first of them after `begin`.
    """
    whole = [begin, *ids]
    counted = 0
    while counted < len(ids):
        end = min(len(ids), counted + (stride if counted else context))
        yield Question(whole[max(0, end - context) : counted + 1], [whole[counted + 1 : end + 1]])
        counted = end


def perplexity(
    scorer: Scorer, task: Perplexity, rows: Sequence[TaskRow], tell: Tell
) -> tuple[dict[str, Measure], list[Sample], dict[str, str]]:
    """Perplexity of a token and bits of a byte over all texts, each text's own as samples, and how it was measured."""
    if scorer.reads_source:
        raise BadInput(
            "An encoder-decoder writes one text after another: perplexity is for models of one text."
        )
    context = min(task.context, scorer.longest)
    stride = min(task.stride or context // 2, context)
    read = [text_of(row, task.text) for row in rows]
    cut = [_cut(scorer, text, row) for row, text in zip(rows, read, strict=True)]
    asked = [list(windows(ids, begin, context, stride)) for begin, ids, _ in cut]
    found = iter(scorer.weigh(list(chain.from_iterable(asked)), tell))
    by_text = [[next(found)[0] for _ in questions] for questions in asked]
    sizes = [size for _, _, size in cut]
    samples = [
        Sample(
            row.where,
            text[:_SHOWN],
            "",
            "",
            _bits(weighed) / size,
            nats=-sum(each.logprob for each in weighed),
            tokens=sum(each.tokens for each in weighed),
            cut=blake2b(repr(ids).encode(), digest_size=8).hexdigest(),
        )
        for row, text, weighed, size, (_, ids, _) in zip(rows, read, by_text, sizes, cut, strict=True)
    ]
    notes = {
        "context": str(context),
        "stride": str(stride),
        "tokens": str(sum(w.tokens for t in by_text for w in t)),
    }
    if scorer.begin is None:
        notes["the first token"] = "not counted, nor its bytes"
    return _measures(by_text, sizes), samples, notes


def _cut(scorer: Scorer, text: str, row: TaskRow) -> tuple[int, list[int], int]:
    """The token that a text begins after, the tokens to be foreseen, and their bytes.

    All of the text is foreseen; of a model that has no token to begin with, all but the first token.
    """
    if not text:
        raise BadInput(f"{row.where} is empty, so there is nothing to foresee: take it out.")
    ids, begin, foreseen = scorer.encode(text, special=False), scorer.begin, text
    if begin is None and ids:
        foreseen = text[len(scorer.opening(text)) :]
        begin, ids = ids[0], ids[1:]
    if begin is None or not ids or not foreseen:
        raise BadInput(f"{row.where} has too few tokens to foresee one: take it out.")
    return begin, ids, len(foreseen.encode())


def _bits(weighed: Sequence[Likelihood]) -> float:
    return -sum(each.logprob for each in weighed) / math.log(2)


def _measures(by_text: Sequence[Sequence[Likelihood]], sizes: Sequence[int]) -> dict[str, Measure]:
    """Over texts where there are several, else over the windows of the one, as the independent units."""
    units = by_text if len(by_text) > 1 else [[window] for window in by_text[0]]
    nats = [-sum(each.logprob for each in unit) for unit in units]
    per_token = ratio(nats, [sum(each.tokens for each in unit) for unit in units])
    bits = sum(map(_bits, by_text)) / sum(sizes)
    value = math.exp(min(per_token.value, 700.0))
    relative = None if per_token.error is None else per_token.error
    errors = (None, None) if relative is None else (value * relative, bits * relative / per_token.value)
    return {
        "perplexity": Measure(value, errors[0], "lower"),
        "bits_per_byte": Measure(bits, errors[1], "lower"),
    }
