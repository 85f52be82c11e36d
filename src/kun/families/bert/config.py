"""What a `config.json` of a BERT-type network says: sizes, and the head that the checkpoint was saved with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from kun.blocks.activations import ACTIVATIONS
from kun.errors import UnsupportedFormat
from kun.networks.fields import Fields, labels_of

STEMS = ("Bert", "Roberta", "XLMRoberta", "Ernie")
"""How the reference's class names begin; some checkpoints are named after another family's class."""

PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


@dataclass(frozen=True)
class BertConfig:
    """Sizes of one BERT-type network; `dropout` acts on states and embeddings, in training alone.

    `head` is what stands on the encoder, by the end of the reference's class name: "MaskedLM" for
    BertForMaskedLM, None for BertModel. `labels` are the classes of a classifying head.
    """

    vocab_size: int = 30522
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    max_positions: int = 512
    token_types: int = 2
    norm_eps: float = 1e-12
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float | None = None
    pad_id: int | None = 0
    tied: bool = True
    head: str | None = None
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    problem: str | None = None
    model_type: str = "bert"

    heads: ClassVar[tuple[str, ...]] = (
        "MaskedLM",
        "NextSentencePrediction",
        "PreTraining",
        "SequenceClassification",
        "TokenClassification",
        "QuestionAnswering",
    )

    @property
    def stem(self) -> str:
        """How the reference's class names begin."""
        return "Bert"

    @property
    def architecture(self) -> str:
        return f"{self.stem}For{self.head}" if self.head else f"{self.stem}Model"

    @property
    def n_kv_heads(self) -> int:
        return self.n_heads

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def first_position(self) -> int:
        """The row of the position table that a text's first token takes."""
        return 0

    @property
    def context_length(self) -> int:
        """Tokens that a text may have: the rows of the position table from the first one on."""
        return self.max_positions - self.first_position

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> Self:
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("position_embedding_type", "absolute", "absolute")
        f.only("is_decoder", False, False)
        d_model = f.integer("hidden_size", cls.d_model)
        n_heads = f.integer("num_attention_heads", cls.n_heads, high=2**14)
        if d_model % n_heads:
            raise f.wrong("hidden_size", f"a multiple of num_attention_heads, {n_heads}")
        vocab_size = f.integer("vocab_size", cls.vocab_size)
        return cls(
            vocab_size=vocab_size,
            d_model=d_model,
            n_layers=f.integer("num_hidden_layers", cls.n_layers, high=2**12),
            n_heads=n_heads,
            d_ff=f.integer("intermediate_size", cls.d_ff),
            max_positions=f.integer("max_position_embeddings", cls.max_positions),
            token_types=f.integer("type_vocab_size", cls.token_types),
            norm_eps=f.number("layer_norm_eps", cls.norm_eps, high=1.0),
            activation=f.only("hidden_act", "gelu", *ACTIVATIONS),
            dropout=f.number("hidden_dropout_prob", 0.1, high=1.0),
            attention_dropout=f.number("attention_probs_dropout_prob", 0.1, high=1.0),
            head_dropout=f.number("classifier_dropout", high=1.0) if "classifier_dropout" in f else None,
            pad_id=_pad_id(f, cls.pad_id, vocab_size),
            tied=f.flag("tie_word_embeddings", True),
            head=cls._head(f),
            labels=labels_of(f),
            problem=f.only("problem_type", None, None, *PROBLEMS),
        )

    @classmethod
    def _head(cls, f: Fields) -> str | None:
        """The head that the first of `architectures` names; None for the encoder alone, or nothing named."""
        named = f.values.get("architectures") or [None]
        if not isinstance(named, list) or not isinstance(named[0], str | None):
            raise f.wrong("architectures", "a list of class names")
        heads = {f"{stem}For{head}": head for stem in STEMS for head in cls.heads}
        if named[0] is None or named[0] in (f"{stem}Model" for stem in STEMS):
            return None
        if named[0] not in heads:
            raise UnsupportedFormat(
                f"{f.where}: the architecture is {named[0][:80]!r}; of this family Kun reads the encoder alone, "
                f"and with a head for {', '.join(cls.heads)}."
            )
        return heads[named[0]]

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        hf: dict[str, Any] = {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "vocab_size": self.vocab_size,
            "hidden_size": self.d_model,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "intermediate_size": self.d_ff,
            "max_position_embeddings": self.max_positions,
            "type_vocab_size": self.token_types,
            "layer_norm_eps": self.norm_eps,
            "hidden_act": self.activation,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
            "classifier_dropout": self.head_dropout,
            "pad_token_id": self.pad_id,
            "tie_word_embeddings": self.tied,
        }
        if self.head in ("SequenceClassification", "TokenClassification"):
            hf["id2label"] = {str(n): label for n, label in enumerate(self.labels)}
            hf["label2id"] = {label: n for n, label in enumerate(self.labels)}
            hf["problem_type"] = self.problem
        return hf


def _pad_id(f: Fields, default: int | None, vocab_size: int) -> int | None:
    """The padding token, whose embedding takes no gradient; None where the config says null."""
    if "pad_token_id" in f.values and f.values["pad_token_id"] is None:
        return None
    return f.integer("pad_token_id", default, low=0, high=vocab_size - 1)
