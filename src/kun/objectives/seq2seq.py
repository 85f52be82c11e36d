"""From one text to another: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762.

With label smoothing (section 5.4 there), and with experts the losses that keep their routers even and small: Fedus et
al., arXiv:2101.03961, section 2.2, and Zoph et al., arXiv:2202.08906.
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from kun.blocks.experts import Routing
from kun.data.rows import Pair
from kun.data.tokenized import RowTokenizer
from kun.networks.encoder_decoder import EncoderDecoder
from kun.networks.experts import ExpertNetwork
from kun.objectives.text.model import TrainingModel
from kun.objectives.text.task import PaddedTask
from kun.training.cross_entropy import IGNORED, cross_entropy
from kun.training.feed import Batch
from kun.training.networks import Networks
from kun.training.opening import Opener
from kun.training.tables import Table
from kun.training.task import Loss


class Seq2Seq(PaddedTask):
    """-log p(token of the target | the source, and the tokens before it), for the target and its end.

    The decoder begins with `start`, and is taught: it reads the target's own tokens. `pad` is the id of padding.
    """

    name = "seq2seq"
    stages: ClassVar[tuple[str, ...]] = ("translate",)
    rows: ClassVar[tuple[type, ...]] = (Pair,)
    advice = 'an encoder-decoder learns from pairs (format = "pairs"): name such data.'
    writes = True
    counts_peak = False  # each token goes through one half only, and which is not counted

    class Options(Table):
        label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    options: Options

    def __init__(self, options: Options | None = None, *, start: int = 0, pad: int = 0) -> None:
        super().__init__(options)
        self.start, self.pad = start, pad

    def fit(self, model: TrainingModel, open: Opener) -> None:
        self.start, self.pad = model.net.config.start_token, model.pad

    def row_tokenizer(self, open: Opener) -> RowTokenizer:
        model = self.model
        return RowTokenizer(
            model.tokenizer, end=model.end, longest=model.context, long=open.job.data.too_long
        )

    def prepare(self, batch: Batch, rng: np.random.Generator) -> Batch:
        labels = batch["labels"]
        shifted = F.pad(labels[:, :-1], (1, 0), value=self.start)
        made = {**batch, "decoder_input_ids": shifted.masked_fill(shifted == IGNORED, self.pad)}
        real = labels != IGNORED
        return made if bool(real.all()) else made | {"decoder_attention_mask": real}

    def loss(self, networks: Networks[nn.Module], batch: Batch) -> Loss:
        return self._loss(networks.trained, batch, self.options.label_smoothing)

    def _loss(self, net: nn.Module, batch: Batch, smoothing: float) -> Loss:
        assert isinstance(net, EncoderDecoder)
        count, routing = self.count(batch), (Routing(), Routing())
        states = net.states(
            batch["input_ids"],
            batch.get("attention_mask"),
            decoder_input_ids=batch["decoder_input_ids"],
            decoder_attention_mask=batch.get("decoder_attention_mask"),
            routing=routing,
        )
        loss = cross_entropy(net.head, states, batch["labels"], smoothing=smoothing)
        if net.training and isinstance(net, ExpertNetwork):
            loss = loss + count * net.auxiliary_loss(routing)
        return Loss(loss, count)

    def measure(self, networks: Networks[nn.Module], batch: Batch) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(self._loss(networks.trained, batch, 0.0).sum)}
