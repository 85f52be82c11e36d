"""The decision to decline: the probability that passages answer a question at all, before an answer is written.

A small model says an answer to anything. Three signs tell better, none of which is a matter of its manners:
how much of the question's words, rare ones first, one passage has; how near the best sentence is to the question,
measured from sentences about nothing of the sort, since each encoder has a zero of its own; and by how much the best
sentences make the question likelier to the language model, since what answers a question predicts it (Sachan et al.,
arXiv:2204.07496). They go into a logistic rule; without the third, which needs a model that speaks the language,
into another one.

The weights were fitted (maximum likelihood, a small ridge) on questions of every second article of XQuAD
(arXiv:1910.11856), English and Chinese together, with the default models: 120 with all paragraphs there, 80 with their
article held out, 80 with their paragraph alone held out. `benchmarks/answers.py` measures on all of it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kun.knowledge.evidence import Evidence
from kun.knowledge.passage import Passage
from kun.knowledge.prompt import Phrases

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel

_WITH_GAIN = (4.3, 8.0, 1.27, -7.5)
"""The weights of words, meaning and gain, and the bias."""
_WITHOUT_GAIN = (5.5, 10.9, 0.0, -8.2)
_MOST_GAIN = 2.0
"""Nats a token; more says that the question was copied from the passage, not that it is answered better."""
_READ = 3
"""Sentences that the language model reads for the gain."""
LIKELY = 0.33
"""The probability below which the documents are taken not to answer, and the model is not asked at all."""
SURE = 0.9
"""The probability from which sentences are quoted where the model itself writes that the passages do not answer."""
_DOUBT = (0.1, 0.8)
"""Between these the model is asked how likely the question is: beyond, that changed no decision, and it takes time."""


def likelihood(
    question: str,
    passages: Sequence[Passage],
    bearing: Sequence[Evidence],
    lm: "LanguageModel | None",
    told: Phrases,
) -> float:
    """The probability that `passages` answer `question`; the gain is measured with `lm` only where there is doubt."""
    likely = answerable(passages, bearing)
    if lm is not None and _DOUBT[0] < likely < _DOUBT[1]:
        return answerable(passages, bearing, gain(question, bearing, lm, told))
    return likely


def answerable(
    passages: Sequence[Passage], bearing: Sequence[Evidence], gained: float | None = None
) -> float:
    """The probability that `passages` answer the question that their sentences `bearing` bear on.

    `gained` is what `gain` says of it, None where no model was asked.
    """
    if not passages or not bearing:
        return 0.0
    shares = [passage.reasons.words for passage in passages if passage.reasons]
    words = max(shares or [one.words for one in bearing])
    meaning = max(one.meaning for one in bearing)
    of_words, of_meaning, of_gain, bias = _WITHOUT_GAIN if gained is None else _WITH_GAIN
    clipped = min(max(gained or 0.0, 0.0), _MOST_GAIN)
    return 1 / (1 + math.exp(-(of_words * words + of_meaning * meaning + of_gain * clipped + bias)))


def gain(question: str, bearing: Sequence[Evidence], lm: "LanguageModel", told: Phrases) -> float | None:
    """By how many nats a token the sentences `bearing` make `question` likelier; None where they do not fit."""
    read = " ".join(one.text for one in bearing[:_READ])
    head = told.asked_of.format(text=read)
    if lm.count(head) + lm.count(question) + 16 > lm.context_length:
        return None
    return _likelihood(question, head, lm) - _likelihood(question, told.asked, lm)


def _likelihood(question: str, head: str, lm: "LanguageModel") -> float:
    """The mean log-probability, in nats, of the tokens of `question` after `head`."""
    scores = lm.prompt_logprobs(f"{head}{question}")[len(lm.encode(head.rstrip())) :]
    return sum(one.logprob for one in scores if one) / max(len(scores), 1)
