"""ERNIE: Sun et al., arXiv:1904.09223; 2.0: arXiv:1907.12412; 3.0's base models are of the same make.

What differs from BERT: in training, whole words, phrases and names are masked, not pieces, so that it learns
what belongs together (文心, Chinese first). In the network, from 2.0 on, a fourth table says which of its
training tasks an input is for; task 0 is the one of plain use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from kun.errors import BadInput
from kun.families.bert.bert import Bert, Embeddings
from kun.families.bert.config import BertConfig
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.fields import Fields
from kun.networks.network import check_ids


@dataclass(frozen=True)
class ErnieConfig(BertConfig):
    """As BERT's, with `tasks` rows in the table of tasks; 0 where there is none, as in ERNIE 1.0."""

    tasks: int = 0
    model_type: str = "ernie"

    @property
    def stem(self) -> str:
        return "Ernie"

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> Self:
        f = Fields(values)
        tasks = f.integer("task_type_vocab_size", 3) if f.flag("use_task_id", False) else 0
        return replace(super().from_hf(values), tasks=tasks)

    def to_hf(self) -> dict[str, Any]:
        return super().to_hf() | {"use_task_id": self.tasks > 0, "task_type_vocab_size": self.tasks or 3}


class ErnieEmbeddings(Embeddings):
    """BERT's, and the table of tasks."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__(config)
        self.tasks = nn.Embedding(config.tasks, config.d_model) if config.tasks else None


class Ernie(Bert):
    """An ERNIE-type encoder, with the `head` that its config names."""

    prefix: ClassVar[str] = "ernie"
    config: ErnieConfig
    embeddings: ErnieEmbeddings

    def new_embeddings(self, config: BertConfig) -> Embeddings:
        assert isinstance(config, ErnieConfig)
        return ErnieEmbeddings(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        task_type_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        lengths: Sequence[int] | None = None,
        logits_at: Tensor | None = None,
    ) -> Any:
        """As BERT, with `task_type_ids` [b, t]; BadInput for a task that the table lacks."""
        words = self.words(input_ids, inputs_embeds, task_type_ids)
        return self.read(words, input_ids, attention_mask, token_type_ids, lengths, logits_at)

    def words(self, ids: Tensor | None, embeds: Tensor | None, tasks: Tensor | None = None) -> Tensor:
        """Each word's vector and its task's, added."""
        words = super().words(ids, embeds)
        if self.embeddings.tasks is None:
            if tasks is not None:
                raise BadInput("This ERNIE has no table of tasks: leave task_type_ids out.")
            return words
        if tasks is None:
            tasks = torch.zeros(words.shape[:2], dtype=torch.long, device=words.device)
        check_ids(tasks, self.config.tasks)
        return words + self.embeddings.tasks(tasks)


PRESETS: dict[str, ErnieConfig] = {
    "ernie-1.0-base-zh": ErnieConfig(vocab_size=18000, max_positions=513, activation="relu"),
    "ernie-3.0-base-zh": ErnieConfig(
        vocab_size=40000, max_positions=2048, token_types=4, norm_eps=1e-5, tasks=3
    ),
}
"""Published sizes, by name."""

FAMILY = Family(
    name="ernie",
    model_types=("ernie",),
    kind="encoder",
    config=ErnieConfig,
    network=Ernie,
    presets=PRESETS,
    objectives=("masked", "classify", "regress", "answer_span"),
    paper="Sun et al., arXiv:1904.09223",
    heads=heads_of({"ernie": "Ernie"}, ErnieConfig.heads),
    sharding=Sharding(),
)
