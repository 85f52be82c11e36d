"""Hugging Face's names of a BERT-type network's tensors, and ours."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from kun.networks.names import NameMap, Names, State

ENCODER = (
    ("embeddings.words", "embeddings.word_embeddings"),
    ("embeddings.positions", "embeddings.position_embeddings"),
    ("embeddings.types", "embeddings.token_type_embeddings"),
    ("embeddings.tasks", "embeddings.task_type_embeddings"),
    ("embeddings.norm", "embeddings.LayerNorm"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("attention.q", "attention.self.query"),
    ("attention.k", "attention.self.key"),
    ("attention.v", "attention.self.value"),
    ("attention.o", "attention.output.dense"),
    ("mlp.up", "intermediate.dense"),
    ("mlp.down", "output.dense"),
    ("mlp_norm", "output.LayerNorm"),
    ("layers", "encoder.layer"),
    ("pooler", "pooler.dense"),
)

NAMES = Names(
    (
        *ENCODER,
        ("head.words.dense", "cls.predictions.transform.dense"),
        ("head.words.norm", "cls.predictions.transform.LayerNorm"),
        ("head.words", "cls.predictions"),
        ("head.next", "cls.seq_relationship"),
        ("head.classifier", "classifier"),
        ("head.span", "qa_outputs"),
    )
)

ROBERTA_NAMES = Names(
    (
        *ENCODER,
        ("head.words.norm", "lm_head.layer_norm"),
        ("head.words", "lm_head"),
        ("head.dense", "classifier.dense"),
        ("head.out", "classifier.out_proj"),
        ("head.classifier", "classifier"),
        ("head.span", "qa_outputs"),
    )
)

BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")


@dataclass(frozen=True)
class BertNames(NameMap):
    """A map by parts of names; next to a head the encoder has a `prefix` in the reference."""

    prefix: str
    names: Names

    def ours(self, state: Mapping[str, Tensor]) -> State:
        """With or without the prefix; stored ranges are left out.

        Files converted from TensorFlow call a norm's weights gamma and beta. The decoder's bias, where a file
        has that too, is the one that the reference adds.
        """
        ours: State = {}
        for full, tensor in sorted(state.items(), key=lambda item: item[0].endswith(".decoder.bias")):
            name = full.removeprefix(f"{self.prefix}.").replace(".decoder.bias", ".bias")
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
                "LayerNorm.beta", "LayerNorm.bias"
            )
            if name not in BUFFERS:
                ours[self.names.ours(name)] = tensor
        return ours

    def reference(self, state: Mapping[str, Tensor]) -> State:
        """With the prefix where there is a head; the bias twice where the decoder has a table of its own."""
        headed = any(name.startswith("head.") for name in state)
        reference: State = {}
        for name, tensor in state.items():
            full = self.names.reference(name)
            reference[f"{self.prefix}.{full}" if headed and not name.startswith("head.") else full] = tensor
        if "head.words.decoder.weight" in state:
            bias = self.names.reference("head.words.decoder.bias")
            reference[bias] = state["head.words.bias"].clone()
        return reference
