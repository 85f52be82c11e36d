"""The config of a BERT-type network: sizes, and the head that the checkpoint was saved with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from kun.blocks.activations import ACTIVATIONS
from kun.errors import UnsupportedFormat
from kun.networks import config_keys as keys
from kun.networks.fields import Fields, labels_of

STEMS = ("Bert", "Roberta", "XLMRoberta", "Ernie")
"""The beginnings of the reference's class names; some checkpoints are named after another family's class."""

PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")

POOLINGS = ("mean", "cls", "max")


@dataclass(frozen=True)
class BertConfig:
    """Sizes of one BERT-type network; `dropout` acts on states and embeddings, in training alone.

    `head` is the encoder's head, by the end of the reference's class name: "MaskedLM" for
    BertForMaskedLM, None for BertModel. `labels` are the classes of a classifying head; `pooling` is how it makes one
    vector of a text's states ("mean", "max"; "cls" and None: of the first token's, as the papers do), under
    ModernBERT's key, for the reference's BERT classes know the first token alone.
    """

    vocab_size: int = keys.whole(30522, "vocab_size")
    d_model: int = keys.whole(768, "hidden_size")
    n_layers: int = keys.layers(12, "num_hidden_layers")
    n_heads: int = keys.heads(12, "num_attention_heads")
    d_ff: int = keys.whole(3072, "intermediate_size")
    max_positions: int = keys.whole(512, "max_position_embeddings")
    token_types: int = keys.whole(2, "type_vocab_size")
    norm_eps: float = keys.share(1e-12, "layer_norm_eps")
    activation: str = keys.choice("gelu", "hidden_act", ACTIVATIONS)
    dropout: float = keys.share(0.1, "hidden_dropout_prob")
    attention_dropout: float = keys.share(0.1, "attention_probs_dropout_prob")
    head_dropout: float | None = keys.number_or_none("classifier_dropout", high=1.0, null=True)
    pooling: str | None = keys.choice_or_none("classifier_pooling", POOLINGS)
    pad_id: int | None = keys.token_or_null(0, "pad_token_id")
    tied: bool = keys.flag(True, "tie_word_embeddings")
    head: str | None = None
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    problem: str | None = None
    model_type: str = "bert"

    tasks = 0
    """Rows of the table of tasks that ERNIE has."""

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
        """The beginning of the reference's class names."""
        return "Bert"

    @property
    def architecture(self) -> str:
        return f"{self.stem}For{self.head}" if self.head else f"{self.stem}Model"

    @property
    def reads_first(self) -> bool:
        """Whether a classifying head reads the first token's state, not all of them."""
        return self.pooling in (None, "cls")

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
    def from_hf(cls, values: Mapping[str, object]) -> Self:
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("position_embedding_type", "absolute", "absolute")
        f.only("is_decoder", False, False)
        config = keys.read(cls, f)
        if config.d_model % config.n_heads:
            raise f.wrong("hidden_size", f"a multiple of num_attention_heads, {config.n_heads}")
        problem = f.only("problem_type", None, None, *PROBLEMS)
        return replace(config, head=cls._head(f), labels=labels_of(f), problem=problem)

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

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        hf = keys.written(self) | {"model_type": self.model_type, "architectures": [self.architecture]}
        if self.head in ("SequenceClassification", "TokenClassification"):
            hf["id2label"] = {str(n): label for n, label in enumerate(self.labels)}
            hf["label2id"] = {label: n for n, label in enumerate(self.labels)}
            hf["problem_type"] = self.problem
        return hf
