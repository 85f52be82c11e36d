"""What a task is given to open its networks and its data with."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from kun.hub.opening import open_checkpoint
from kun.hub.pull import locate
from kun.training.job import Job
from kun.training.memory import A_NETWORK, enough_memory
from kun.training.progress import TrainingProgress
from kun.training.run import RunFolder

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Opener:
    """The job, the device that it computes on, the run's folder, and whom to tell of work that people wait for."""

    job: Job
    device: torch.device
    folder: RunFolder
    progress: TrainingProgress

    @property
    def dtype(self) -> torch.dtype:
        """The precision that networks compute in."""
        return torch.bfloat16 if self.job.train.precision == "bf16" else torch.float32

    def placed(self, net: Net) -> Net:
        """A network on the device, in the precision that it computes in."""
        return net.to(device=self.device, dtype=self.dtype)

    def frozen(self, name: str) -> nn.Module:
        """The network of another checkpoint, by catalog name, folder or hub id. Raises what opening one raises."""
        with enough_memory(*A_NETWORK):
            return self.placed(open_checkpoint(locate(name)).network())
