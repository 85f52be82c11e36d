"""A table of rows in 4-bit blocks, looked up as it lies in its file: only the rows that are asked for become floats."""

import numpy as np
import torch
from torch import Tensor, nn

BLOCK = 32
BLOCK_BYTES = 2 + BLOCK // 2


def from_blocks(raw: np.ndarray) -> np.ndarray:
    """The numbers of blocks of 32, float32: a float16 scale, then 16 bytes whose low nibbles are the first half.

    `raw` is uint8 [..., bytes], whole blocks one behind the other; the result [..., numbers].
    """
    blocks = raw.reshape(-1, BLOCK_BYTES)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 2:]
    values = np.empty((len(blocks), BLOCK), np.float32)
    np.subtract(packed & 15, 8, out=values[:, : BLOCK // 2], dtype=np.float32)
    np.subtract(packed >> 4, 8, out=values[:, BLOCK // 2 :], dtype=np.float32)
    values *= scales
    return values.reshape(*raw.shape[:-1], -1)


class BlockRows(nn.Module):
    """An embedding whose table is uint8 [n, bytes a row], mapped from a file: ids [...] -> float32 [..., d]."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__()
        self._rows = rows

    def forward(self, ids: Tensor) -> Tensor:
        wanted, which = np.unique(ids.numpy(), return_inverse=True)
        values = torch.from_numpy(from_blocks(self._rows[wanted]))
        return values[torch.from_numpy(which.reshape(-1))].view(*ids.shape, -1)
