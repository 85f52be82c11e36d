"""Rotary positions, and their published ways to a longer context: Su et al., "RoFormer", arXiv:2104.09864.

Scalings: linear (Chen et al., arXiv:2306.15595), dynamic NTK (bloc97 and emozilla, 2023), YaRN (Peng et al.,
arXiv:2309.00071), Llama 3.1 (arXiv:2407.21783). Pairs are (i, i + d/2), the layout of Hugging Face checkpoints, not
neighbours as in the paper.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

Scaling = Literal["default", "linear", "dynamic", "llama3", "yarn"]
SCALINGS: tuple[Scaling, ...] = ("default", "linear", "dynamic", "llama3", "yarn")


@dataclass(frozen=True)
class RotaryConfig:
    """Sizes and scaling of rotary positions. `original` is the context, in tokens, before a scaling."""

    theta: float = 10000.0
    scaling: Scaling = "default"
    factor: float = 1.0
    original: int = 2048
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


class Rotary(nn.Module):
    """Cosines and sines for positions.

    The frequencies are neither parameter nor buffer: they follow from the config, must stay float32
    whatever the network's dtype is, and must be there when the network was built on the meta device.
    """

    def __init__(self, config: RotaryConfig, d_head: int) -> None:
        super().__init__()
        self.config, self.d_head = config, d_head
        self.scale = _attention_factor(config)
        self._frequencies = frequencies(config, d_head)

    def frequencies(self, length: int, device: torch.device) -> Tensor:
        """float32 [d_head / 2], radians per position, for a sequence of `length` tokens."""
        if self.config.scaling == "dynamic" and length > self.config.original:
            return frequencies(self.config, self.d_head, length).to(device)
        if self._frequencies.device != device:
            self._frequencies = self._frequencies.to(device)
        return self._frequencies

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine, [b, t, d_head] each, for integer positions [b, t]."""
        length = int(positions.max()) + 1 if self.config.scaling == "dynamic" and positions.numel() else 0
        angles = positions[..., None].float() * self.frequencies(length, positions.device)
        angles = torch.cat((angles, angles), dim=-1)
        return (angles.cos() * self.scale).to(dtype), (angles.sin() * self.scale).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [b, t, heads, d_head] by the angles whose cosine and sine are [b, t, d], its first d numbers."""
    if has_torch_function((x,)):
        rotated: Tensor = handle_torch_function(rotate, (x,), x, cos, sin)
        return rotated
    width = cos.shape[-1]
    if width < x.shape[-1]:
        return torch.cat((rotate(x[..., :width], cos, sin), x[..., width:]), dim=-1)
    low, high = x.chunk(2, dim=-1)
    return x * cos[:, :, None] + torch.cat((-high, low), dim=-1) * sin[:, :, None]


def frequencies(config: RotaryConfig, d_head: int, length: int = 0) -> Tensor:
    """float32 [d_head / 2] on the CPU; `length` (tokens) matters to the dynamic scaling alone."""
    theta = config.theta
    if config.scaling == "dynamic":
        stretch = config.factor * max(length, config.original) / config.original - (config.factor - 1)
        theta *= stretch ** (d_head / (d_head - 2))
    steps = torch.arange(0, d_head, 2, dtype=torch.float32, device="cpu") / d_head
    plain = 1.0 / (theta**steps)
    match config.scaling:
        case "linear":
            return plain / config.factor
        case "llama3":
            return _llama3(plain, config)
        case "yarn":
            return _yarn(theta**steps, config, d_head)
        case _:
            return plain


def _llama3(plain: Tensor, config: RotaryConfig) -> Tensor:
    """Slow rotations are stretched, fast ones kept, those between blended by how often they turn in the context."""
    wavelength = 2 * math.pi / plain
    turns = config.original / wavelength
    blend = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    blended = (1 - blend) * plain / config.factor + blend * plain
    slow = wavelength > config.original / config.low_freq_factor
    fast = wavelength < config.original / config.high_freq_factor
    return torch.where(slow, plain / config.factor, torch.where(fast, plain, blended))


def _yarn(periods: Tensor, config: RotaryConfig, d_head: int) -> Tensor:
    """Interpolate the dimensions that turn seldom, extrapolate those that turn often, ramp between."""

    def dimension(turns: float) -> float:
        return d_head * math.log(config.original / (turns * 2 * math.pi)) / (2 * math.log(config.theta))

    low, high = dimension(config.beta_fast), dimension(config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d_head - 1)
    width = high - low or 0.001
    ramp = ((torch.arange(d_head // 2, dtype=torch.float32, device="cpu") - low) / width).clamp(0, 1)
    keep = 1 - ramp
    return 1.0 / (config.factor * periods) * (1 - keep) + 1.0 / periods * keep


def _attention_factor(config: RotaryConfig) -> float:
    """YaRN's temperature, as a factor on cosine and sine; 1 for the other scalings."""
    if config.scaling != "yarn":
        return 1.0
    if config.attention_factor is not None:
        return config.attention_factor

    def temperature(weight: float) -> float:
        return 1.0 if config.factor <= 1 else 0.1 * weight * math.log(config.factor) + 1.0

    if config.mscale and config.mscale_all_dim:
        return temperature(config.mscale) / temperature(config.mscale_all_dim)
    return temperature(1.0)
