"""Encoder-decoders with mixtures of experts, and the losses that keep their routers even."""

from typing import Protocol

from torch import Tensor

from kun.blocks.experts import Routing
from kun.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Routers, Seq2SeqOutput


class ExpertConfig(EncoderDecoderConfig, Protocol):
    """The sizes that layers with experts, and their losses, are made by."""

    @property
    def experts_per_token(self) -> int: ...

    @property
    def z_loss(self) -> float:
        """The coefficient of the routers' z loss."""

    @property
    def balance_loss(self) -> float:
        """The coefficient of the loss that keeps experts evenly busy."""


class ExpertNetwork(EncoderDecoder):
    """An encoder-decoder whose feed-forward parts are, in some layers, mixtures of experts.

    The experts of a batch shall be evenly busy, or those of each row where `even_rows`.
    """

    config: ExpertConfig
    even_rows: bool = False

    def routed(self, output: Seq2SeqOutput, reading: Routing, writing: Routing) -> Seq2SeqOutput:
        """The output with the routers' logits and losses.

        The logits are [b, s or t, n_experts] for each sparse layer, or [b · s or t, n_experts] unless `even_rows`.
        """
        noted = (self._shown(reading), self._shown(writing))
        return Seq2SeqOutput(*output[:2], *noted, *self._losses(reading), *self._losses(writing))

    def auxiliary_loss(self, routing: tuple[Routing, Routing]) -> Tensor:
        """The routers' losses of both stacks, multiplied by their coefficients: float32 []."""
        (z, balance), (more_z, more_balance) = map(self._losses, routing)
        return self.config.z_loss * (z + more_z) + self.config.balance_loss * (balance + more_balance)

    def _losses(self, routing: Routing) -> tuple[Tensor, Tensor]:
        return routing.losses(self.config.experts_per_token, by_row=self.even_rows)

    def _shown(self, routing: Routing) -> Routers:
        return tuple(one if self.even_rows else one.flatten(0, 1) for one in routing.logits)
