"""Memory that is too small: what it was wanted for, and what to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kun.errors import NoMemory

A_NETWORK = (
    "the network and its optimizer",
    "name a smaller model, train an adapter instead ([lora], with lora.quantize for a smaller base), or divide it over "
    "processes (parallel.shard)",
)
A_STEP = (
    "a batch",
    "lower train.micro_batch_tokens or train.context, or set train.activation_checkpointing = true",
)
AN_EVALUATION = "an evaluation", "lower train.micro_batch_tokens or train.context"
A_SAMPLE = "a sample", "leave out train.sample_every, or name fewer train.prompts"
DATA = "reading the data and laying them out", "name fewer (data.limit)"
OVERLAP = "comparing held-out data with those to learn from", "name fewer of them in data.eval"
A_CHECKPOINT = (
    "writing the checkpoint",
    "the last snapshot is whole: go on from it with --resume where there is more memory",
)
"""What memory may be too small for, and what helps then: all of the above."""


@contextmanager
def enough_memory(what: str, fix: str) -> Iterator[None]:
    """Where memory runs out within, raise `NoMemory`: what there was too little for, and what helps."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        # a processor's allocator has no type of error of its own
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not short:
            raise
        raise NoMemory(f"There is too little memory for {what}: {fix}.") from error
