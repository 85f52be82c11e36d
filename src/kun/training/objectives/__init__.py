"""How a batch becomes a loss: one file for each idea."""

from kun.training.objectives.answer_span import AnswerSpan
from kun.training.objectives.classify import Classify, Regress
from kun.training.objectives.masked import Masked
from kun.training.objectives.next_token import NextToken
from kun.training.objectives.objective import Objective
from kun.training.objectives.permutation import Permutation
from kun.training.objectives.seq2seq import Seq2Seq
from kun.training.objectives.span import Span

__all__ = [
    "AnswerSpan",
    "Classify",
    "Masked",
    "NextToken",
    "Objective",
    "Permutation",
    "Regress",
    "Seq2Seq",
    "Span",
]
