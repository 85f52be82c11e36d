"""The place of an answer in a text: Devlin et al., "BERT", arXiv:1810.04805, sections 4.2 and 4.3.

Two scores for each token, that of a start and that of an end. Where the text, or this window of it, has no answer, both
point to the first token.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.data.rows import Question
from kun.data.tokenized import RowTokenizer
from kun.families.bert.bert import Bert
from kun.objectives.text.fitted import Head
from kun.objectives.text.model import HeadRequirements
from kun.objectives.text.task import PaddedTask
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.task import Loss


class AnswerSpan(PaddedTask):
    """The mean of -log p(start) and -log p(end). Evaluation tells how many spans are `exact`."""

    name = "answer_span"
    stages = ("classify",)
    rows = (Question,)
    advice = 'this objective learns from questions on texts (format = "squad"): name such data.'

    def needs(self, open: Opener) -> HeadRequirements:
        return HeadRequirements(head=Head("QuestionAnswering"))

    def row_tokenizer(self, open: Opener) -> RowTokenizer:
        return RowTokenizer(self.model.tokenizer, longest=self.model.context)

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        learned = batch["learned"].long()
        starts = learned.argmax(dim=-1)
        ends = (learned.shape[1] - 1 - learned.flip(-1).argmax(dim=-1)) * learned.any(dim=-1)
        return {**batch, "labels": torch.stack([starts, ends], dim=-1)}

    def count(self, batch: Batch) -> int:
        return len(batch["labels"])

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        scores = self._scores(networks.trained, batch)
        return Loss(F.cross_entropy(scores, batch["labels"], reduction="sum") / 2, self.count(batch))

    def measure(self, networks: Networks[nn.Module], batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            scores = self._scores(networks.trained, batch)
        exact = (scores.argmax(dim=1) == batch["labels"]).all(dim=-1)
        loss = F.cross_entropy(scores, batch["labels"], reduction="sum") / 2
        return {"loss": float(loss), "exact": float(exact.sum())}

    def _scores(self, net: nn.Module, batch: Batch) -> Tensor:
        """float32 [b, t, 2], of starts and of ends; padding is neither."""
        assert isinstance(net, Bert)
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if net.config.token_types > 1 else [])]
        output = net(**{name: batch[name] for name in names if name in batch})
        scores = torch.stack([output.start_logits, output.end_logits], dim=-1).float()
        mask = batch.get("attention_mask")
        return scores if mask is None else scores.masked_fill(~mask[..., None], -torch.inf)
