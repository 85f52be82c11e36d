"""From one text to another: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762.

With label smoothing (section 5.4 there), and with experts the losses that keep their routers even and small: Fedus et
al., arXiv:2101.03961, section 2.2, and Zoph et al., arXiv:2202.08906.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kun.blocks.experts import Routing
from kun.networks.experts import ExpertNetwork
from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch
from kun.training.objectives.objective import learned_tokens, means


@dataclass(frozen=True)
class Seq2Seq:
    """-log p(token of the target | the source, and the tokens before it), for the target and its end.

    The decoder begins with `start`, and is taught: it reads the target's own tokens. `pad` stands at padding.
    """

    start: int
    pad: int
    smoothing: float = 0.0

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        labels = batch["labels"]
        shifted = F.pad(labels[:, :-1], (1, 0), value=self.start)
        made = {**batch, "decoder_input_ids": shifted.masked_fill(shifted == IGNORED, self.pad)}
        real = labels != IGNORED
        return made if bool(real.all()) else made | {"decoder_attention_mask": real}

    def targets(self, batch: Batch) -> int:
        return learned_tokens(batch)

    def loss(self, net: Any, batch: Batch) -> Tensor:
        return self._loss(net, batch, self.smoothing)

    def _loss(self, net: Any, batch: Batch, smoothing: float) -> Tensor:
        given = {name: batch[name] for name in _GIVEN if name in batch}
        routing = Routing(), Routing()
        states = net.states(**given, routing=routing)
        loss = cross_entropy(net.head, states, batch["labels"], smoothing=smoothing)
        if not net.training or not isinstance(net, ExpertNetwork):
            return loss
        return loss + self.targets(batch) * net.auxiliary_loss(routing)

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(self._loss(net, batch, 0.0))}

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        return means(sums, targets)


_GIVEN = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
