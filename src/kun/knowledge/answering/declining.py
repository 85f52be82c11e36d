"""The decision to decline: the probability that passages answer a question at all, before an answer is written.

A small model gives an answer to anything. Three signs tell better, none of which depends on its manners: how much of
the question's words, rare ones first, one passage has; how near the best unit is to the question, measured from
sentences about nothing of the sort, since each encoder has a zero of its own; and by how much the best units make the
question likelier to the language model, since what answers a question predicts it (Sachan et al., arXiv:2204.07496).
They go into a logistic rule; without the third, which needs a model that speaks the language, into another one.

The weights were fitted (maximum likelihood, a small ridge) on questions of every second article of XQuAD
(arXiv:1910.11856), English and Chinese together, with the default models: 120 with all paragraphs there, 80 with their
article held out, 80 with their paragraph alone held out. `benchmarks/spans.py` measures on all of it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kun.knowledge.answering.evidence import Evidence
from kun.knowledge.answering.phrases import Phrases
from kun.knowledge.answering.policy import Policy
from kun.knowledge.passage import Passage
from kun.text.language import language_of

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel

_WITH_GAIN = (4.3, 8.0, 1.27, -7.5)
"""The weights of words, meaning and gain, and the bias."""
_WITHOUT_GAIN = (5.5, 10.9, 0.0, -8.2)
_MOST_GAIN = 2.0
"""Nats a token; more says that the question was copied from the passage, not that it is answered better."""
_ACROSS = 0.5
_READ = 3
"""Units that the language model reads for the gain."""


def likelihood(
    question: str,
    passages: Sequence[Passage],
    evidence: Sequence[Evidence],
    lm: "LanguageModel | None",
    told: Phrases,
    policy: Policy,
) -> float:
    """The probability that `passages` answer `question`; the gain is measured with `lm` only where there is doubt."""
    likely = answerable(question, passages, evidence)
    if lm is not None and policy.doubt[0] < likely < policy.doubt[1]:
        return answerable(question, passages, evidence, gain(question, evidence, lm, told))
    return likely


def answerable(
    question: str, passages: Sequence[Passage], evidence: Sequence[Evidence], gained: float | None = None
) -> float:
    """The probability that the passages hold an answer, from the three signs.

    `gained` is what `gain` says of them, None where no model was asked.
    """
    if not passages or not evidence:
        return 0.0
    # words are no sign across languages, and a cosine is a weak one: the checks of what is written decide
    if language_of(question) not in {language_of(one.unit.text) for one in evidence[:_READ]}:
        return _ACROSS
    shares = [passage.reasons.words for passage in passages if passage.reasons]
    held = max(shares or [one.words for one in evidence])
    meaning = max(one.meaning for one in evidence)
    of_words, of_meaning, of_gain, bias = _WITHOUT_GAIN if gained is None else _WITH_GAIN
    clipped = min(max(gained or 0.0, 0.0), _MOST_GAIN)
    return 1 / (1 + math.exp(-(of_words * held + of_meaning * meaning + of_gain * clipped + bias)))


def gain(question: str, evidence: Sequence[Evidence], lm: "LanguageModel", told: Phrases) -> float | None:
    """By how many nats a token the best units make `question` likelier; None where they do not fit."""
    read = " ".join(one.unit.text for one in evidence[:_READ])
    head = told.asked_of.format(text=read)
    if lm.count(head) + lm.count(question) + 16 > lm.context_length:
        return None
    return _likelihood(question, head, lm) - _likelihood(question, told.asked, lm)


def _likelihood(question: str, head: str, lm: "LanguageModel") -> float:
    """The mean log-probability, in nats, of the tokens of `question` after `head`."""
    scores = lm.prompt_logprobs(f"{head}{question}")[len(lm.encode(head.rstrip())) :]
    return sum(one.logprob for one in scores if one) / max(len(scores), 1)
