"""Memory that is too small: what it was wanted for, and what to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kun.errors import NoMemory


@contextmanager
def enough_memory(what: str, mend: str) -> Iterator[None]:
    """Where memory runs out within, raise `NoMemory`: what there was too little for, and how to mend that."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        # a processor's allocator has no type of error of its own
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not short:
            raise
        raise NoMemory(f"There is too little memory for {what}: {mend}.") from error
