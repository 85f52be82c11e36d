"""One label, or one number, for a text or two: Devlin et al., arXiv:1810.04805, section 4.1; Radford et al., 2018.

A decoder learns it as GPT-1 did: its head reads the state of the last token, which has seen all others, and the loss
of the next token is added, since it keeps what was learned before (equation 5 there).
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kun.data.rows import Labelled
from kun.data.tokenized import RowTokenizer, classes_of
from kun.families.bert.bert import Bert
from kun.networks.classifier import Classifier
from kun.objectives.text.fitted import Head
from kun.objectives.text.model import HeadRequirements, TrainingModel
from kun.objectives.text.task import PaddedTask
from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Loss


class Judging(PaddedTask):
    """What classes and numbers have in common. `auxiliary` weighs the loss of the next token (decoders alone)."""

    rows: ClassVar[tuple[type, ...]] = (Labelled,)
    advice = 'this stage learns from texts with a label (format = "labelled"): name such data.'
    labels: tuple[str, ...] | None = None
    """The classes in the order of their indices; None for numbers."""

    class Options(Table):
        auxiliary: float = Field(default=0.5, ge=0)
        """What the loss of the next token weighs where a decoder learns to classify (GPT-1's lambda)."""
        pooling: Literal["mean", "cls", "max"] | None = None
        """How an encoder's states become the one vector that is judged; as the encoder was trained where left out."""

    options: Options

    def __init__(self, options: Options | None = None, *, auxiliary: float = 0.0) -> None:
        super().__init__(options)
        self.auxiliary = auxiliary

    def fit(self, model: TrainingModel, open: Opener) -> None:
        # nothing in what reads both ways
        decodes = open.job.family is not None and open.job.family.kind == "decoder"
        self.auxiliary = self.options.auxiliary if decodes else 0.0

    def row_tokenizer(self, open: Opener) -> RowTokenizer:
        model, long = self.model, open.job.data.too_long
        return RowTokenizer(model.tokenizer, classes=self.labels, longest=model.context, long=long)

    def count(self, batch: Batch) -> int:
        return len(batch["labels"])


class Classify(Judging):
    """-log p(label | the text), of `classes` labels.

    Evaluation tells `accuracy` and `f1`: of the second of two classes, else the mean over classes.
    """

    name = "classify"
    stages = ("classify",)

    def __init__(
        self, options: Judging.Options | None = None, *, classes: int = 0, auxiliary: float = 0.0
    ) -> None:
        super().__init__(options, auxiliary=auxiliary)
        self.classes = classes

    def needs(self, open: Opener) -> HeadRequirements:
        self.labels = classes_of(self.source(open).training())
        self.classes = len(self.labels)
        return HeadRequirements(
            head=Head(
                "SequenceClassification", self.labels, "single_label_classification", self.options.pooling
            )
        )

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return with_labels(batch, batch["classes"].long(), self.auxiliary)

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        scores, auxiliary = scored(networks.trained, batch, self.auxiliary)
        return Loss(F.cross_entropy(scores, batch["labels"], reduction="sum") + auxiliary, self.count(batch))

    def measure(self, networks: Networks[nn.Module], batch: Batch) -> dict[str, float]:
        labels = batch["labels"]
        with torch.no_grad():
            scores, _ = scored(networks.trained, batch, 0.0)
        guessed = scores.argmax(dim=-1)
        sums = {
            "loss": float(F.cross_entropy(scores, labels, reduction="sum")),
            "accuracy": float((guessed == labels).sum()),
        }
        for name, some in (("right", guessed[guessed == labels]), ("guessed", guessed), ("are", labels)):
            counts = torch.bincount(some, minlength=self.classes).tolist()
            sums |= {f"{name}_{index}": float(count) for index, count in enumerate(counts)}
        return sums

    def summary(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        scored = range(1, 2) if self.classes == 2 else range(self.classes)
        f1 = [_f1(*(sums[f"{name}_{index}"] for name in ("right", "guessed", "are"))) for index in scored]
        return {
            "loss": sums["loss"] / count,
            "accuracy": sums["accuracy"] / count,
            "f1": sum(f1) / len(f1),
        }


def _f1(right: float, guessed: float, are: float) -> float:
    return 2 * right / (guessed + are) if guessed + are else 0.0


def with_labels(batch: Batch, labels: Tensor, auxiliary: float) -> Batch:
    """With its `labels`, and the next tokens that a decoder is asked for, too."""
    prepared = {**batch, "labels": labels}
    if not auxiliary:
        return prepared
    following = F.pad(batch["input_ids"][:, 1:], (0, 1), value=IGNORED)
    mask = batch.get("attention_mask")
    if mask is not None:
        following = following.masked_fill(~F.pad(mask[:, 1:], (0, 1)), IGNORED)
    return prepared | {"next_tokens": following}


def scored(net: nn.Module, batch: Batch, auxiliary: float) -> tuple[Tensor, Tensor]:
    """What a network says of each row, float32 [b, labels], and the weighed loss of the next token."""
    if not auxiliary:
        names = ["input_ids", "attention_mask"]
        if isinstance(net, Bert) and net.config.token_types > 1:
            names.append("token_type_ids")
        given = {name: batch[name] for name in names if name in batch}
        return net(**given).logits.float(), torch.zeros((), device=batch["input_ids"].device)
    assert isinstance(net, Classifier)
    states = net.states(batch["input_ids"], batch.get("attention_mask"))
    scores = net.scores(states, batch["input_ids"], batch.get("attention_mask"))
    next_tokens = batch["next_tokens"]
    # a row's mean, as in GPT-1's own code: it does not depend on what stands in the batch next to it
    asked = next_tokens != IGNORED
    each = (auxiliary / asked.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(asked)
    return scores.float(), cross_entropy(net.word_scores, states, next_tokens, weights=each)
