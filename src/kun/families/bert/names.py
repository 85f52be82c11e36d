"""Hugging Face's names of a BERT-type network's tensors, and ours."""

from collections.abc import Mapping

from torch import Tensor

from kun.networks.names import Names, State

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


def from_hf_names(state: Mapping[str, Tensor], prefix: str, names: Names) -> State:
    """Ours, with or without the `prefix` that the encoder has beside a head; stored ranges are dropped.

    Files converted from TensorFlow call a norm's weights gamma and beta. The decoder's bias, where a file
    has that too, is the one that the reference adds.
    """
    ours: State = {}
    for full, tensor in sorted(state.items(), key=lambda item: item[0].endswith(".decoder.bias")):
        name = full.removeprefix(f"{prefix}.").replace(".decoder.bias", ".bias")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if name not in BUFFERS:
            ours[names.ours(name)] = tensor
    return ours


def to_hf_names(state: Mapping[str, Tensor], prefix: str, names: Names) -> State:
    """Theirs: with the `prefix` where there is a head; the bias twice where the decoder has a table of its own."""
    headed = any(name.startswith("head.") for name in state)
    theirs: State = {}
    for name, tensor in state.items():
        encoders = headed and not name.startswith("head.")
        theirs[f"{prefix}.{names.theirs(name)}" if encoders else names.theirs(name)] = tensor
    if "head.words.decoder.weight" in state:
        theirs[names.theirs("head.words.decoder.bias")] = state["head.words.bias"].clone()
    return theirs
