"""How likely it is that passages answer a question at all, before any model has read them.

A small model says an answer to anything. Two signs that need none tell better: how much of the question's words,
rare ones first, one passage has, and how near the best sentence is to the question, measured from sentences about
nothing of the sort, since each encoder has a zero of its own. They go into a logistic rule.

The weights were fitted (maximum likelihood, a small ridge) on XQuAD's (arXiv:1910.11856) articles of even number,
English and Chinese together, with the default encoder: questions with all paragraphs there, with their article held
out, and with their paragraph alone held out, a third each by weight. `benchmarks/answers.py` measures on all of it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kun.knowledge.evidence import Evidence

if TYPE_CHECKING:
    from kun.knowledge.base import Passage

_WORDS = 6.6
_MEANING = 13.8
_BIAS = -10.2


def answerable(passages: Sequence["Passage"], bearing: Sequence[Evidence]) -> float:
    """The probability that `passages`, whose sentences `bearing` on the question are, answer it."""
    if not passages or not bearing:
        return 0.0
    shares = [passage.reasons.words for passage in passages if passage.reasons]
    words = max(shares or [one.words for one in bearing])
    meaning = max(one.meaning for one in bearing)
    return 1 / (1 + math.exp(-(_WORDS * words + _MEANING * meaning + _BIAS)))
