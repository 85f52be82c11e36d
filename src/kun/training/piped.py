"""Training whose layers lie on several processes, one after the other."""

from collections.abc import Callable
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from kun.adaptation.sharding.pipeline import Stage, check_stages, keep_stage
from kun.errors import BadRecipe
from kun.networks.decoder import Decoder
from kun.networks.network import Network
from kun.training.cross_entropy import cross_entropy
from kun.training.feed import Batch
from kun.training.layout import ParallelLayout, shell
from kun.training.networks import Net, Networks
from kun.training.optimizers import Slot
from kun.training.processes import Processes
from kun.training.task import Loss, Task

Schedule = Schedule1F1B | ScheduleGPipe


class Piped(ParallelLayout[Net]):
    """Each process has some layers. An embedding that is the head, too, lies on the first and on the last of them."""

    def __init__(self, networks: Networks[Net], processes: Processes) -> None:
        net = networks.trained
        self.stage, self.n_stages = processes.place("pipeline"), processes.size("pipeline")
        assert isinstance(net, Network)
        check_stages(net, self.n_stages)
        assert isinstance(net, Decoder)
        self.is_tied = net.lm_head is None
        outline = shell(net) if processes.is_first else None
        super().__init__(networks, processes)
        self._shell, self.is_whole, self.is_part = outline, False, True
        self.width: int = net.config.d_model
        self.dtype = next(net.parameters()).dtype
        keep_stage(net, self.stage, self.n_stages)
        self._ends = self._tie()
        self._schedules: dict[tuple[int, int, int], Schedule] = {}
        self._count = 1.0

    @property
    def is_last(self) -> bool:
        return self.stage == self.n_stages - 1

    def gradients(self, task: Task[Net], batches: list[Batch], count: float) -> Loss:
        self._count = count
        whole = _joined(batches)
        n_rows = len(whole["input_ids"])
        wanted = max(len(batches), self.n_stages)
        parts = next((n for n in range(wanted, n_rows + 1) if n_rows % n == 0), None)
        if parts is None:
            raise BadRecipe(
                f"A step has {n_rows} rows for each pipeline of {self.n_stages} stages, which needs as many at least: "
                f"raise train.batch_tokens."
            )
        losses: list[Tensor] = []
        self._run(self._schedule(whole, parts).step, whole, losses)
        total = torch.stack([loss.detach() for loss in losses]).sum() if losses else torch.zeros(())
        return Loss(total, task.count(whole))

    def measure(self, task: Task[Net], batch: Batch) -> dict[str, float]:
        self._count = 1.0
        losses: list[Tensor] = []
        with torch.no_grad():
            whole = _joined([batch])
            self._run(self._schedule(whole, 1).eval, whole, losses)
        return {"loss": float(sum(losses))}

    def groups(self, name: str) -> list[dist.ProcessGroup]:
        tied = [self._ends] if self._ends is not None and name.startswith("embed.") else []
        return [*super().groups(name), *tied]

    def copies(self, slot: Slot) -> int:
        return super().copies(slot) * (2 if self.is_tied and slot.name.startswith("embed.") else 1)

    def check(self, task: Task[Net]) -> None:
        """Raise `BadRecipe` for a task that a pipeline does not know."""
        if not task.is_pipelined:
            raise BadRecipe("parallel.pipeline is for the next-token objective: use parallel.data or tensor.")

    def _tie(self) -> dist.ProcessGroup | None:
        """The first and the last stage of this pipeline, where they share the embedding."""
        mesh = self.processes.mesh
        assert mesh is not None
        if not self.is_tied:
            return None
        return self.processes.group_of([[one[0], one[-1]] for one in mesh.mesh.flatten(1).T.tolist()])

    def _run(self, act: Callable[..., object], whole: Batch, losses: list[Tensor]) -> None:
        inputs = (whole["input_ids"],) if self.stage == 0 else ()
        target = whole["labels"] if self.is_last else None
        act(
            *inputs,
            target=target,
            losses=losses if self.is_last else None,
            attention_mask=whole["attention_mask"],
        )

    def _schedule(self, whole: Batch, parts: int) -> Schedule:
        """A schedule for batches of this shape in so many parts, which is made once."""
        rows, length = whole["input_ids"].shape
        key = (rows, length, parts)
        if key not in self._schedules:
            ids = whole["input_ids"][: rows // parts]
            states = torch.empty(
                *ids.shape, self.width, dtype=self.dtype, device=ids.device, requires_grad=True
            )
            assert self.processes.mesh is not None
            stage = PipelineStage(
                Stage(cast(Decoder, self.net)),
                self.stage,
                self.n_stages,
                ids.device,
                input_args=(ids if self.stage == 0 else states,),
                output_args=(states,),
                group=self.processes.mesh["pipeline"].get_group(),
            )
            kind: type[Schedule] = Schedule1F1B if parts >= self.n_stages else ScheduleGPipe
            self._schedules[key] = kind(stage, parts, loss_fn=self._loss, scale_grads=False)
        return self._schedules[key]

    def _loss(self, states: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(self.net, Decoder)
        return cross_entropy(self.net.head, states, labels) / self._count


def _joined(batches: list[Batch]) -> Batch:
    """The rows of several batches as one; each with its mask."""
    masked = [
        batch
        if "attention_mask" in batch
        else {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
        for batch in batches
    ]
    names = ("input_ids", "labels")
    whole = {name: torch.cat([batch[name] for batch in masked]) for name in names}
    return whole | {"attention_mask": torch.cat([batch["attention_mask"].int() for batch in masked])}
