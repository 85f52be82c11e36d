"""Multi-head attention in its three ways: Vaswani et al., arXiv:1706.03762, sections 3.2.2 and 3.2.3."""

from torch import Tensor, nn

from kun.blocks.attention import Bias
from kun.networks.attention_mask import AttentionMask
from kun.networks.decoder import Context
from kun.networks.source import Source


class MultiHeadAttention(nn.Module):
    """o(softmax(scale · q(x) k(y)ᵀ) v(y)) in `n_heads` parts at once; y is x, or the states of a source.

    `layer` is its number in a decoder, by which its keys and values are kept; `bias` is that of the projections.
    `scale` is 1/√d_head where it is None. The dropout is on the weights, in training alone.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_head: int,
        *,
        layer: int = 0,
        bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layer, self.d_head, self.scale, self.dropout = layer, d_head, scale, dropout
        self.q, self.k, self.v = (nn.Linear(d_model, n_heads * d_head, bias=bias) for _ in range(3))
        self.o = nn.Linear(n_heads * d_head, d_model, bias=bias)

    def self_attention(self, x: Tensor, mask: AttentionMask, bias: Bias | None = None) -> Tensor:
        """Each token of x [b, t, d_model] attends to all of its row; `bias` is added to the scores."""
        k, v = self.keys_values(x)
        return self.o(
            mask.attend(self.queries(x), k, v, bias=bias, scale=self.scale, dropout=self._p).flatten(-2)
        )

    def causal_attention(self, x: Tensor, context: Context, bias: Bias | None = None) -> Tensor:
        """Each token of x [b, t, d_model] attends to itself and those before it."""
        q, (k, v) = self.queries(x), self.keys_values(x)
        mixed = context.attend(self.layer, q, k, v, bias=bias, scale=self.scale, dropout=self._p)
        return self.o(mixed.flatten(-2))

    def cross_attention(self, x: Tensor, source: Source) -> Tensor:
        """Each token of x [b, t, d_model] attends to all of the source."""
        mixed = source.attend(self.layer, self.queries(x), self.keys_values, self.scale, self._p)
        return self.o(mixed.flatten(-2))

    def queries(self, x: Tensor) -> Tensor:
        return self.q(x).unflatten(-1, (-1, self.d_head))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.k(x).unflatten(-1, (-1, self.d_head)), self.v(x).unflatten(-1, (-1, self.d_head))

    @property
    def _p(self) -> float:
        return self.dropout if self.training else 0.0
