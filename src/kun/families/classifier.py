"""A decoder that judges: Radford et al., "Improving Language Understanding by Generative Pre-Training", section 3.2.

A linear layer reads the state of a text's last token, which has seen all of it. GPT-1 put a start token before a text,
a delimiter between two, and a token at whose state the answer is extracted behind; that is the tokenizer's business.
Hugging Face's …ForSequenceClassification has the same layout, and finds the last token by the id of padding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kun.families import JUDGES, Family
from kun.families.bert.heads import Logits
from kun.networks.fields import Fields, labels_of
from kun.networks.network import State, final_states


@dataclass(frozen=True)
class ClassifierConfig:
    """A decoder's own config, `decoder`, and the `labels` that are told apart (one for a number).

    `pad_id` stands at padding. All else that is asked of it is the decoder's.
    """

    decoder: Any
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    problem: str | None = None
    pad_id: int | None = None

    head = "SequenceClassification"
    token_types = 1

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "decoder":
            raise AttributeError(name)
        return getattr(self.decoder, name)

    @property
    def architecture(self) -> str:
        return JUDGES[self.decoder.model_type]

    @classmethod
    def from_hf(cls, values: Mapping[str, Any], *, decoder_type: Any) -> "ClassifierConfig":
        """Read a `config.json`, of which `decoder_type` reads the sizes. Raises what that raises."""
        f, decoder = Fields(values), decoder_type.from_hf(values)
        pad = f.integer("pad_token_id", low=0, high=decoder.vocab_size - 1) if "pad_token_id" in f else None
        return cls(decoder, labels_of(f), values.get("problem_type"), pad)

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        return self.decoder.to_hf() | {
            "architectures": [self.architecture],
            "id2label": {str(n): label for n, label in enumerate(self.labels)},
            "label2id": {label: n for n, label in enumerate(self.labels)},
            "problem_type": self.problem,
            "pad_token_id": self.pad_id,
        }


class Classifier(nn.Module):
    """`decoder`, which ends before its head, and `score`, which reads the state of the last token."""

    def __init__(
        self, config: ClassifierConfig, decoder: nn.Module | None = None, *, decoder_type: Any = None
    ) -> None:
        """Around a `decoder` that is there, head and all, or around a new one, which needs no head."""
        super().__init__()
        self.config = config
        self.decoder: Any = decoder_type(config.decoder) if decoder is None else decoder
        if decoder is None:
            self.decoder.lm_head = None
        self.decoder.head = final_states
        self.score = nn.Linear(config.d_model, len(config.labels), bias=False)
        if not self.score.weight.is_meta:
            nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Logits:
        """Logits [rows, labels] of padded rows [b, t]. Raises BadInput for an id outside the vocabulary."""
        return Logits(self.judge(self.states(input_ids, attention_mask), input_ids, attention_mask))

    def states(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """The decoder's final states [b, t, d_model]."""
        states: Tensor = self.decoder(input_ids, attention_mask).logits
        return states

    def judge(self, states: Tensor, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Logits [b, labels] of each row's last real token: by the mask, else by what is no padding."""
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if attention_mask is None and self.config.pad_id is not None:
            real = input_ids != self.config.pad_id
        last = torch.where(real.bool(), torch.arange(states.shape[1], device=states.device), 0).argmax(dim=-1)
        judged: Tensor = self.score(states[torch.arange(len(states), device=states.device), last])
        return judged

    def word_scores(self, states: Tensor) -> Tensor:
        """What the decoder's own head says, [..., vocabulary], of final states [..., d_model]."""
        said: Tensor = type(self.decoder).head(self.decoder, states)
        return said

    def from_hf_names(self, state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours; the decoder's head is no part of it."""
        theirs = {
            name: tensor for name, tensor in state.items() if name not in ("score.weight", "lm_head.weight")
        }
        ours = {f"decoder.{name}": tensor for name, tensor in self.decoder.from_hf_names(theirs).items()}
        return ours | {name: tensor for name, tensor in state.items() if name == "score.weight"}

    def to_hf_names(self, state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        decoders = {
            name.removeprefix("decoder."): tensor
            for name, tensor in state.items()
            if name.startswith("decoder.") and not name.startswith("decoder.lm_head.")
        }
        return self.decoder.to_hf_names(decoders) | {"score.weight": state["score.weight"]}


def judging(family: Family) -> Family:
    """The family of a decoder's judging form, which reads and does not write."""
    return replace(
        family,
        config_type=_ConfigType(family.config_type),
        network_type=partial(Classifier, decoder_type=family.network_type),
        kind="encoder",
    )


@dataclass(frozen=True)
class _ConfigType:
    """Stands for `ClassifierConfig` around the config of one decoder."""

    decoder_type: Any

    def from_hf(self, values: Mapping[str, Any]) -> ClassifierConfig:
        return ClassifierConfig.from_hf(values, decoder_type=self.decoder_type)
