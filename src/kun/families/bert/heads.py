"""The heads of a BERT-type encoder: one module for each job, in the order of the paper (sections 3.1 and 4).

A head's parts have names of their own (`words`, `next`, `classifier`, `span`), so that the map to the
reference's names needs to know nothing but the name.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.dropout import Dropout
from kun.families.bert.config import BertConfig


@dataclass
class Encoded:
    """The input of a head: last hidden states, and what else it may read.

    `states` [b, t, d_model]; of each row a `summary`, the first token's state (or the mean or maximum of all, where
    the config says so), and what the pooler makes of the first (`pooled`, None without one): [rows, d_model]; `words`,
    the embedding whose table a tied head repeats.
    """

    states: Tensor
    summary: Tensor
    pooled: Tensor | None
    words: nn.Embedding


class Logits(NamedTuple):
    """`logits` [b, t, vocabulary or labels], or [rows, labels] where whole rows are classified."""

    logits: Tensor


class PreTrainingLogits(NamedTuple):
    """`prediction_logits` [b, t, vocabulary]; `seq_relationship_logits` [rows, 2], first: it follows."""

    prediction_logits: Tensor
    seq_relationship_logits: Tensor


class SpanLogits(NamedTuple):
    """The scores of an answer's start and of its end: `start_logits`, `end_logits` [b, t]."""

    start_logits: Tensor
    end_logits: Tensor


class WordScores(nn.Module):
    """norm(gelu(dense(x))) times the table of words (one of its own where not `tied`), plus a bias each."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.decoder = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, words: nn.Embedding) -> Tensor:
        return self.scores(self.transform(x), words)

    def transform(self, x: Tensor) -> Tensor:
        """The vectors [..., d_model] that are compared with the words', of states [..., d_model]."""
        return self.norm(self.activation(self.dense(x)))

    def scores(self, x: Tensor, words: nn.Embedding) -> Tensor:
        """Logits [..., vocabulary] of transformed states [..., d_model]."""
        if self.decoder is None:
            return F.linear(x, words.weight, self.bias)
        return self.decoder(x) + self.bias


HeadOutput = Logits | PreTrainingLogits | SpanLogits


class Head(nn.Module):
    """A head; one that `pools` reads the pooled first token, so that the encoder has a pooler."""

    pools = False


class MaskedLM(Head):
    """Scores of the words for each place."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.words = WordScores(config)

    def forward(self, encoded: Encoded) -> Logits:
        return Logits(self.words(encoded.states, encoded.words))


class NextSentencePrediction(Head):
    """Scores for a second sentence that follows the first in the text, and for one that was drawn at random."""

    pools = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.next = nn.Linear(config.d_model, 2)

    def forward(self, encoded: Encoded) -> Logits:
        return Logits(self.next(encoded.pooled))


class PreTraining(Head):
    """Both tasks of pre-training at once."""

    pools = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.words = WordScores(config)
        self.next = nn.Linear(config.d_model, 2)

    def forward(self, encoded: Encoded) -> PreTrainingLogits:
        return PreTrainingLogits(self.words(encoded.states, encoded.words), self.next(encoded.pooled))


class SequenceClassification(Head):
    """One label (or score) for a whole text or pair of texts."""

    pools = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.pools = config.reads_first
        self.dropout = Dropout(dropout_of(config))
        self.classifier = nn.Linear(config.d_model, len(config.labels))

    def forward(self, encoded: Encoded) -> Logits:
        read = encoded.summary if encoded.pooled is None else encoded.pooled
        return Logits(self.classifier(self.dropout(read)))


class TokenClassification(Head):
    """A label for each token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dropout = Dropout(dropout_of(config))
        self.classifier = nn.Linear(config.d_model, len(config.labels))

    def forward(self, encoded: Encoded) -> Logits:
        return Logits(self.classifier(self.dropout(encoded.states)))


class QuestionAnswering(Head):
    """Scores of each place as the start, and as the end, of the answer in a text that holds it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.span = nn.Linear(config.d_model, 2)

    def forward(self, encoded: Encoded) -> SpanLogits:
        start, end = self.span(encoded.states).unbind(dim=-1)
        return SpanLogits(start, end)


def dropout_of(config: BertConfig) -> float:
    return config.dropout if config.head_dropout is None else config.head_dropout


HEADS: dict[str, type[Head]] = {
    head.__name__: head
    for head in (
        MaskedLM,
        NextSentencePrediction,
        PreTraining,
        SequenceClassification,
        TokenClassification,
        QuestionAnswering,
    )
}
"""By the end of the reference's class name, which is the head's name in a config."""
