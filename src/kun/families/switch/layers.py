"""Layers of which some have experts in the place of their feed-forward part; the norm comes first."""

from collections.abc import Callable

from torch import Tensor, nn

from kun.blocks.attention import Bias
from kun.blocks.dropout import Dropout
from kun.blocks.experts import Experts, Routing
from kun.networks.attention_mask import AttentionMask
from kun.networks.decoder import Context
from kun.networks.multi_head import MultiHeadAttention
from kun.networks.source import Source


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), or x + experts(norm(x))."""

    def __init__(
        self, norm: Callable[[], nn.Module], attention: MultiHeadAttention, mlp: nn.Module, dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = norm(), attention
        self.mlp_norm, self.mlp = norm(), mlp
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, bias: Bias | None, mask: AttentionMask) -> Tensor:
        h = x + self.dropout(self.attention.self_attention(self.attention_norm(x), mask, bias))
        return h + self.dropout(feed(self.mlp, self.mlp_norm(h), mask.routing))


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), x + cross-attention(norm(x)), then x + feed-forward(norm(x)), or x + experts(norm(x))."""

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        attention: MultiHeadAttention,
        cross: MultiHeadAttention,
        mlp: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = norm(), attention
        self.cross_norm, self.cross = norm(), cross
        self.mlp_norm, self.mlp = norm(), mlp
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, bias: Bias | None, context: Context, source: Source) -> Tensor:
        h = x + self.dropout(self.attention.causal_attention(self.attention_norm(x), context, bias))
        h = h + self.dropout(self.cross.cross_attention(self.cross_norm(h), source))
        return h + self.dropout(feed(self.mlp, self.mlp_norm(h), context.routing))


def feed(mlp: nn.Module, x: Tensor, routing: Routing) -> Tensor:
    """The feed-forward part of x [b, t, d_model], whose experts, where it has some, note what they do."""
    fed: Tensor = mlp(x, routing) if isinstance(mlp, Experts) else mlp(x)
    return fed
