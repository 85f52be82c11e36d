"""Layers without their residuals or norms, to see what these are for."""

from torch import Tensor, nn

from kun.errors import BadInput
from kun.families.gpt.gpt import GPT, PreNormLayer
from kun.networks.decoder import Context


class AblatedLayer(nn.Module):
    """A GPT's layer, its attention and its feed-forward part in their order, without what is left out."""

    def __init__(self, layer: PreNormLayer, *, residuals: bool, norms: bool) -> None:
        super().__init__()
        self.residuals = residuals
        self.attention_norm = layer.attention_norm if norms else nn.Identity()
        self.attention = layer.attention
        self.mlp_norm = layer.mlp_norm if norms else nn.Identity()
        self.mlp = layer.mlp

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """States [b, t, d_model] behind the layer."""
        mixed = self.attention(self.attention_norm(x), context)
        h = x + mixed if self.residuals else mixed
        changed = self.mlp(self.mlp_norm(h))
        return h + changed if self.residuals else changed


def ablate(net: nn.Module, *, residuals: bool = True, norms: bool = True) -> None:
    """Leave residuals or norms out of all layers of a GPT, and the last norm with the others.

    Raises `BadInput` for another network than a GPT whose norms stand before its parts (from GPT-2 on).
    """
    if not isinstance(net, GPT) or not all(isinstance(layer, PreNormLayer) for layer in net.layers):
        raise BadInput("Residuals and norms can be left out of a GPT from GPT-2 on: name gpt2 or gpt3.")
    net.layers = nn.ModuleList(
        AblatedLayer(layer, residuals=residuals, norms=norms)
        for layer in net.layers
        if isinstance(layer, PreNormLayer)
    )
    if not norms:
        net.norm = nn.Identity()
