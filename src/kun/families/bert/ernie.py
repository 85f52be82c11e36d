"""ERNIE: Sun et al., arXiv:1904.09223; 2.0: arXiv:1907.12412; 3.0's base models are of the same make.

What differs from BERT: in training, whole words, phrases and names are masked, not pieces, so that it learns
what belongs together (文心, Chinese first). In the network, from 2.0 on, a fourth table marks which of its
training tasks an input is for; task 0 is the one of plain use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from kun.families.bert.bert import Bert
from kun.families.bert.config import BertConfig
from kun.families.bert.names import NAMES, BertNames
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.fields import Fields


@dataclass(frozen=True)
class ErnieConfig(BertConfig):
    """As BERT's, with `tasks` rows in the table of tasks; 0 where there is none, as in ERNIE 1.0."""

    tasks: int = 0
    model_type: str = "ernie"

    @property
    def stem(self) -> str:
        return "Ernie"

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> Self:
        f = Fields(values)
        tasks = f.integer("task_type_vocab_size", 3) if f.flag("use_task_id", False) else 0
        return replace(super().from_hf(values), tasks=tasks)

    def to_hf(self) -> dict[str, object]:
        return super().to_hf() | {"use_task_id": self.tasks > 0, "task_type_vocab_size": self.tasks or 3}


class Ernie(Bert):
    """An ERNIE-type encoder, with the `head` that its config names."""

    names = BertNames("ernie", NAMES)


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
