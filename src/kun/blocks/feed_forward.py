"""The feed-forward part of a layer: Vaswani et al., arXiv:1706.03762, section 3.3; gated: Shazeer, arXiv:2002.05202."""

from torch import Tensor, nn

from kun.blocks.activations import ACTIVATIONS, swiglu
from kun.blocks.dropout import Dropout


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) · up(x)) where `gated`; dropout is on what `down` reads."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        activation: str,
        *,
        gated: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=bias) if gated else None
        self.up = nn.Linear(d_model, d_ff, bias=bias)
        self.down = nn.Linear(d_ff, d_model, bias=bias)
        self.activation, self.dropout = ACTIVATIONS[activation], Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d_model] -> its shape."""
        if self.gate is None:
            hidden = self.activation(self.up(x))
        elif self.activation is ACTIVATIONS["silu"]:
            hidden = swiglu(self.gate(x), self.up(x))
        else:
            up = self.up(x)
            hidden = self.activation(self.gate(x)) * up
        return self.down(self.dropout(hidden))
