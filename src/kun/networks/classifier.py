"""A decoder that scores whole texts: Radford et al., "Improving Language Understanding by Generative Pre-Training".

As in section 3.2 there, a linear layer reads the state of a text's last token, which has seen all of it. GPT-1 put a
start token before a text, a delimiter between two, and a token at whose state the answer is extracted behind; that is
the tokenizer's business. Hugging Face's …ForSequenceClassification has the same layout, and finds the last token by the
id of padding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from kun.errors import BadInput
from kun.networks.decoder import Decoder, DecoderConfig
from kun.networks.family import Family
from kun.networks.fields import Fields, labels_of
from kun.networks.names import NameMap, State
from kun.networks.network import DecoderOutput, TextNetwork, compilable

HEAD = "SequenceClassification"


@dataclass(frozen=True)
class ClassifierConfig:
    """A decoder's own config, `decoder`, and the `labels` that are told apart (one for a number).

    `pad_id` stands at padding; `architecture` is the reference's class. The sizes are the decoder's.
    """

    decoder: DecoderConfig
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    problem: str | None = None
    pad_id: int | None = None
    architecture: str = ""

    head = HEAD
    token_types = 1

    @property
    def model_type(self) -> str:
        return self.decoder.model_type

    @property
    def vocab_size(self) -> int:
        return self.decoder.vocab_size

    @property
    def d_model(self) -> int:
        return self.decoder.d_model

    @property
    def n_layers(self) -> int:
        return self.decoder.n_layers

    @property
    def n_kv_heads(self) -> int:
        return self.decoder.n_kv_heads

    @property
    def d_head(self) -> int:
        return self.decoder.d_head

    @property
    def context_length(self) -> int:
        return self.decoder.context_length

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        return self.decoder.to_hf() | {
            "architectures": [self.architecture],
            "id2label": {str(n): label for n, label in enumerate(self.labels)},
            "label2id": {label: n for n, label in enumerate(self.labels)},
            "problem_type": self.problem,
            "pad_token_id": self.pad_id,
        }


class Classifier(TextNetwork):
    """`decoder`, whose own head only words' scores need, and `score`, which reads the state of the last token."""

    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig, decoder: Decoder) -> None:
        super().__init__()
        self.config, self.decoder = config, decoder
        self.names = ClassifierNames(decoder.names)
        self.score = nn.Linear(config.d_model, len(config.labels), bias=False)
        if not self.score.weight.is_meta:
            nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> DecoderOutput:
        """Logits [rows, labels] of padded rows [b, t]. Raises BadInput for an id outside the vocabulary."""
        states = self.states(input_ids, attention_mask)
        return DecoderOutput(self.scores(states, input_ids, attention_mask))

    @compilable
    def states(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """The decoder's last hidden states [b, t, d_model]."""
        return self.decoder.states(input_ids, attention_mask, inputs_embeds=inputs_embeds)

    def scores(self, states: Tensor, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Logits [b, labels] of each row's last real token: by the mask, else by what is no padding."""
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if attention_mask is None and self.config.pad_id is not None:
            real = input_ids != self.config.pad_id
        last = torch.where(real.bool(), torch.arange(states.shape[1], device=states.device), 0).argmax(dim=-1)
        scored: Tensor = self.score(states[torch.arange(len(states), device=states.device), last])
        return scored

    def word_scores(self, states: Tensor) -> Tensor:
        """Logits [..., vocabulary] of the decoder's own head for last hidden states [..., d_model]."""
        return self.decoder.head(states)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        return self.decoder.embed_tokens(ids)


class ClassifierNames(NameMap):
    """The decoder's names without its head, and `score` as it is."""

    def __init__(self, decoder: NameMap) -> None:
        self.decoder = decoder

    def ours(self, state: Mapping[str, Tensor]) -> State:
        reference = {name: t for name, t in state.items() if name not in ("score.weight", "lm_head.weight")}
        ours = {f"decoder.{name}": tensor for name, tensor in self.decoder.ours(reference).items()}
        return ours | {name: tensor for name, tensor in state.items() if name == "score.weight"}

    def reference(self, state: Mapping[str, Tensor]) -> State:
        ours = {
            name.removeprefix("decoder."): tensor
            for name, tensor in state.items()
            if name.startswith("decoder.") and not name.startswith("decoder.lm_head.")
        }
        return self.decoder.reference(ours) | {"score.weight": state["score.weight"]}


def reference_class(family: Family, model_type: str) -> str:
    """The reference's class of a family's scoring form. Raises BadInput where there is none."""
    named = family.heads.get(HEAD, {}).get(model_type)
    if named is None:
        raise BadInput(f"{model_type} has no form that scores texts.")
    return named


def scoring(family: Family) -> Family:
    """The family of a decoder's scoring form, which reads and does not write."""
    return replace(family, config=_ConfigType(family), network=partial(_without_head, family), kind="encoder")


def _without_head(family: Family, config: ClassifierConfig) -> Classifier:
    """A new network, whose decoder needs no head."""
    net = family.network(config.decoder)
    assert isinstance(net, Decoder)
    net.lm_head = None
    return Classifier(config, net)


@dataclass(frozen=True)
class _ConfigType:
    """Stands for `ClassifierConfig` around the config of one family's decoder."""

    family: Family

    def from_hf(self, values: Mapping[str, object]) -> ClassifierConfig:
        """Read a `config.json`, of which the family reads the sizes. Raises what that raises."""
        f, decoder = Fields(values), cast(DecoderConfig, self.family.config.from_hf(values))
        pad = f.integer("pad_token_id", low=0, high=decoder.vocab_size - 1) if "pad_token_id" in f else None
        problem, reference = values.get("problem_type"), reference_class(self.family, decoder.model_type)
        return ClassifierConfig(
            decoder, labels_of(f), None if problem is None else str(problem), pad, reference
        )
