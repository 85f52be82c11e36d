"""The one way from a path to a ready model."""

from pathlib import Path
from typing import TYPE_CHECKING

from kun.models.kinds import Candidate, kind_of
from kun.models.memory import release

if TYPE_CHECKING:
    import torch

    from kun.models.ready import ReadyModel


def open_model(
    path: Path,
    *,
    quantize: str | None = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = None,
) -> "ReadyModel":
    """A model that is ready to use, of the kind that what lies at `path` says.

    `quantize` is None, "int8" or "int4"; `dtype` is the checkpoint's and `device` the best here where None.
    Raises `DamagedFile`, `UnsupportedFormat`, `BadInput`.
    """
    candidate = Candidate(path)
    model = kind_of(candidate).opener(candidate, quantize=quantize, dtype=dtype, device=device)
    release()
    return model
