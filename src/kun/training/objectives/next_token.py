"""Next token: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, equation 1."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kun.training.cross_entropy import cross_entropy
from kun.training.feed import Batch
from kun.training.objectives.objective import learned_tokens, means


class NextToken:
    """-log p(token | the tokens before it in its document), at every place whose next token is to be learned."""

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        return batch

    def targets(self, batch: Batch) -> int:
        return learned_tokens(batch)

    def loss(self, net: Any, batch: Batch) -> Tensor:
        # embedded outside of what is compiled: its gradient adds up in an order that never varies
        embedded = net.embed_tokens(batch["input_ids"])
        states = net.states(inputs_embeds=embedded, attention_mask=batch.get("attention_mask"))
        return cross_entropy(net.head, states, batch["labels"])

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(self.loss(net, batch))}

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        return means(sums, targets)
