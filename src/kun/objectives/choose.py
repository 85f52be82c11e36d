"""The right one of some answers to a question on a document: Radford et al., "Improving Language Understanding by
Generative Pre-Training", 2018, section 3.3.

The document and the question stand before each answer, with a delimiter between; every sequence goes through the
decoder by itself, a linear layer makes one number of the state of its last token, and a softmax over the answers makes
those numbers probabilities. The loss of the next token is added, as in `classify`.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.data.rows import Choice
from kun.networks.family import Family
from kun.objectives.classify import Judging, scored, with_labels
from kun.objectives.text.fitted import Head
from kun.objectives.text.model import HeadRequirements
from kun.text.windows import ANSWER
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.task import Loss


class Choose(Judging):
    """-log p(the right answer). Evaluation tells `accuracy`."""

    name = "choose"
    stages = ("classify",)
    rows: ClassVar[tuple[type, ...]] = (Choice,)
    advice = (
        'this objective learns from questions with candidate answers (format = "choices"): name such data.'
    )

    @classmethod
    def fits(cls, family: Family) -> bool:
        """Decoders that learn to classify: the last token must have seen all others."""
        return family.kind == "decoder" and "classify" in family.objectives

    def needs(self, open: Opener) -> HeadRequirements:
        return HeadRequirements(head=Head("SequenceClassification", (ANSWER,), "regression"))

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return with_labels(answers_apart(batch), batch["classes"].long(), self.auxiliary)

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        scores, auxiliary = self._scores(networks.trained, batch, self.auxiliary)
        # the mean over a question's answers, as in GPT-1's own code
        share = self.count(batch) / len(batch["input_ids"])
        return Loss(
            F.cross_entropy(scores, batch["labels"], reduction="sum") + auxiliary * share, self.count(batch)
        )

    def measure(self, networks: Networks[nn.Module], batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            scores, _ = self._scores(networks.trained, batch, 0.0)
        right = (scores.argmax(dim=-1) == batch["labels"]).sum()
        return {
            "loss": float(F.cross_entropy(scores, batch["labels"], reduction="sum")),
            "accuracy": float(right),
        }

    def _scores(self, net: nn.Module, batch: Batch, auxiliary: float) -> tuple[Tensor, Tensor]:
        """A number for each answer of each question, float32 [b, most answers], -inf where there is none."""
        flat, weighed = scored(net, batch, auxiliary)
        of, answer = batch["question"], batch["answer"]
        most = int(answer.max()) + 1
        scores = flat.new_full((self.count(batch), most), -torch.inf)
        return scores.index_put((of, answer), flat[:, 0]), weighed


def answers_apart(batch: Batch) -> Batch:
    """Rows in which the answers stand one after the other, as one row an answer, padded behind.

    `question` int64 [n] is the row that each came from, `answer` int64 [n] its number there.
    """
    ids, numbers = batch["input_ids"], batch["token_type_ids"]
    real = batch.get("attention_mask")
    real = torch.ones_like(ids, dtype=torch.bool) if real is None else real.bool()
    parts = [
        (row, answer, ids[row][real[row] & (numbers[row] == answer)])
        for row in range(len(ids))
        for answer in range(int(numbers[row][real[row]].max()) + 1)
    ]
    longest = max(len(part) for _, _, part in parts)
    apart = torch.stack([F.pad(part, (0, longest - len(part))) for _, _, part in parts])
    mask = torch.stack([torch.arange(longest) < len(part) for _, _, part in parts])
    rows, answers = (torch.tensor([part[place] for part in parts]) for place in (0, 1))
    return {"input_ids": apart, "attention_mask": mask, "question": rows, "answer": answers}
