"""RoBERTa: Liu et al., arXiv:1907.11692; XLM-R, the same in a hundred languages: Conneau et al., arXiv:1911.02116.

What differs from BERT: it is trained longer, on more text, with masks drawn anew each time and without the
next-sentence task, so there is no pooler and (in what was published) one token type. Positions count from the
padding token's id + 1, a habit of fairseq, and padding takes that id's row. The masked-word head always uses
GELU, and a classifying head brings the dense layer that BERT has in its pooler.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from kun.blocks.dropout import Dropout
from kun.families.bert.bert import Bert
from kun.families.bert.config import BertConfig
from kun.families.bert.gguf import ROBERTA
from kun.families.bert.heads import (
    Encoded,
    Head,
    Logits,
    MaskedLM,
    QuestionAnswering,
    TokenClassification,
    dropout_of,
)
from kun.families.bert.names import ROBERTA_NAMES, BertNames
from kun.networks import config_keys as keys
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.fields import Fields

_TYPES: tuple[Literal["roberta", "xlm-roberta"], ...] = ("roberta", "xlm-roberta")


@dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """As BERT's, with a padding token that is never None: the positions start behind its id."""

    vocab_size: int = keys.whole(50265, "vocab_size")
    pad_id: int = keys.token(1, "pad_token_id")
    model_type: Literal["roberta", "xlm-roberta"] = "roberta"

    heads: ClassVar[tuple[str, ...]] = (
        "MaskedLM",
        "SequenceClassification",
        "TokenClassification",
        "QuestionAnswering",
    )

    @property
    def stem(self) -> str:
        return "Roberta" if self.model_type == "roberta" else "XLMRoberta"

    @property
    def first_position(self) -> int:
        return self.pad_id + 1

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> Self:
        f = Fields(values)
        config = super().from_hf(values)
        model_type = f.only("model_type", _TYPES[0], *_TYPES)
        if f.values.get("pad_token_id", 1) is None or config.context_length < 1:
            raise f.wrong("pad_token_id", "a token's id, below max_position_embeddings: positions follow it")
        return replace(config, model_type=model_type)


class RobertaMaskedLM(MaskedLM):
    """BERT's, but its activation is GELU whatever the encoder's is."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(replace(config, activation="gelu"))


class RobertaClassification(Head):
    """out(tanh(dense(first token))), or of the mean or maximum of all."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dropout = Dropout(dropout_of(config))
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.out = nn.Linear(config.d_model, len(config.labels))

    def forward(self, encoded: Encoded) -> Logits:
        x = torch.tanh(self.dense(self.dropout(encoded.summary)))
        return Logits(self.out(self.dropout(x)))


class Roberta(Bert):
    """A RoBERTa-type encoder, with the `head` that its config names."""

    names = BertNames("roberta", ROBERTA_NAMES)
    heads: ClassVar[Mapping[str, type[Head]]] = {
        "MaskedLM": RobertaMaskedLM,
        "SequenceClassification": RobertaClassification,
        "TokenClassification": TokenClassification,
        "QuestionAnswering": QuestionAnswering,
    }
    config: RobertaConfig

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        # the row of padding takes no gradient
        self.embeddings.positions.padding_idx = config.pad_id

    def positions(self, ids: Tensor | None, mask: Tensor | None, words: Tensor) -> Tensor:
        """Each document's tokens count from the padding token's id + 1; padding has that id as its position."""
        numbers = (
            torch.ones(words.shape[:2], dtype=torch.long, device=words.device)
            if mask is None
            else mask.long()
        )
        real = numbers != 0
        if ids is not None:
            real = real & (ids != self.config.pad_id)
        counts = real.cumsum(dim=-1)
        begins = numbers.diff(dim=-1, prepend=numbers[:, :1]) != 0
        before = torch.where(begins, counts - real.long(), 0).cummax(dim=-1).values
        return (counts - before) * real + self.config.pad_id


_BASE = RobertaConfig(max_positions=514, token_types=1, norm_eps=1e-5)
_LARGE = replace(_BASE, d_model=1024, n_layers=24, n_heads=16, d_ff=4096)

PRESETS: dict[str, RobertaConfig] = {
    "roberta-base": _BASE,
    "roberta-large": _LARGE,
    "xlm-roberta-base": replace(_BASE, vocab_size=250002, model_type="xlm-roberta"),
    "xlm-roberta-large": replace(_LARGE, vocab_size=250002, model_type="xlm-roberta"),
}
"""Published sizes, by name."""

FAMILY = Family(
    name="roberta",
    model_types=("roberta", "xlm-roberta"),
    kind="encoder",
    config=RobertaConfig,
    network=Roberta,
    presets=PRESETS,
    objectives=("masked", "classify", "regress", "answer_span"),
    paper="Liu et al., arXiv:1907.11692",
    heads=heads_of({"roberta": "Roberta", "xlm-roberta": "XLMRoberta"}, RobertaConfig.heads),
    sharding=Sharding(),
    gguf={"roberta": ROBERTA, "xlm-roberta": ROBERTA},
)
