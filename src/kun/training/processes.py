"""The processes of one training: who they are, what they agree on, and what is reported when one of them is gone.

Ranks are laid out as pipeline x data x tensor, tensor innermost, since tensor parallelism talks most and neighbours
talk fastest. Each process reads the rows of its place in `data`; those that differ in tensor or pipeline alone
read the same ones.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore

from kun import errors
from kun.errors import BadRecipe, KunError, ProcessLost
from kun.settings import launch
from kun.training.feed import ALL_ROWS, RankSlice
from kun.training.tables import Parallel

T = TypeVar("T")

_PATIENCE = timedelta(minutes=5)
"""How long a step's exchange may wait for a process that is there but does not answer."""
_BEAT = 0.5
"""Seconds between two signs of life."""
_SILENT = 4
"""Beats without a sign after which a process whose connection broke counts as gone."""
_LONG_SILENT = 120
"""The same where nothing broke: it may be too busy for a sign."""


class Processes:
    """This process among those of a training; one alone is among none."""

    rank, world = 0, 1
    mesh: DeviceMesh | None = None
    rows: RankSlice = ALL_ROWS

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def size(self, dimension: str) -> int:
        """How many processes there are along "pipeline", "data" or "tensor"."""
        return 1

    def place(self, dimension: str) -> int:
        """Which of them this one is."""
        return 0

    def group_of(self, groups: list[list[int]]) -> dist.ProcessGroup | None:
        """The one of these groups of ranks that this process is in, to exchange with; None where it is in none."""
        return None

    def total(self, *numbers: float) -> list[float]:
        """Sums over all the data of a step of what each process knows of its own rows."""
        return list(numbers)

    def first_says(self, *numbers: float) -> list[float]:
        """What the first process says, on all."""
        return list(numbers)

    def most(self, number: int) -> int:
        """The largest on any process."""
        return number

    def broadcast_from_rank0(
        self,
        make: Callable[[], T],
        read: Callable[[str], T] | None = None,
        write: Callable[[T], str] | None = None,
    ) -> T:
        """What the first process makes, on all; it goes through `write` and `read` as JSON. Its error is everyone's."""
        return make()

    @contextmanager
    def on_rank0(self, first: AbstractContextManager[None]) -> Iterator[None]:
        """Within it the first process is within `first`, too."""
        with first:
            yield

    def first(self, make: Callable[[], T]) -> T:
        """`make` on the first process, then, when it is done, on the others."""
        return make()

    def all_do(self, do: Callable[[], None]) -> None:
        """`do` on every process; where it raises a `KunError` on one, that is everyone's."""
        do()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within it each process tells the others that it lives, and one that is gone is named."""
        yield

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Within it the failure that another process leaves behind becomes `ProcessLost`, which names that process."""
        yield


ALONE = Processes()


def summed_over_processes(numbers: Sequence[float], device: torch.device) -> list[float]:
    """Sums of what each process gives, on all; where one trains alone, what it gives."""
    if not dist.is_initialized():
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


class Several(Processes):
    """One of several processes that torchrun started."""

    def __init__(self, parallel: Parallel, device: torch.device) -> None:
        self.mesh = init_device_mesh(
            device.type,
            (parallel.pipeline, parallel.data, parallel.tensor),
            mesh_dim_names=("pipeline", "data", "tensor"),
        )
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.rows = RankSlice(self.place("data"), parallel.data)
        self._speaks = self.place("tensor") == 0 and self.place("pipeline") == parallel.pipeline - 1
        self._device = device
        self._count = 0
        self._beats = _Beats(self.rank, self.world)

    @cached_property
    def _store(self) -> PrefixStore:
        return PrefixStore("kun", dist.distributed_c10d._get_default_store())

    def size(self, dimension: str) -> int:
        assert self.mesh is not None
        return self.mesh[dimension].size()

    def place(self, dimension: str) -> int:
        assert self.mesh is not None
        return self.mesh[dimension].get_local_rank()

    def group_of(self, groups: list[list[int]]) -> dist.ProcessGroup | None:
        made = [dist.new_group(ranks) for ranks in groups]  # every process makes every group
        return next((group for group, ranks in zip(made, groups, strict=True) if self.rank in ranks), None)

    def total(self, *numbers: float) -> list[float]:
        return self._summed(numbers if self._speaks else [0.0] * len(numbers))

    def first_says(self, *numbers: float) -> list[float]:
        return self._summed(numbers if self.is_first else [0.0] * len(numbers))

    def most(self, number: int) -> int:
        largest = torch.tensor(number, device=self._device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def _summed(self, numbers: Sequence[float]) -> list[float]:
        return summed_over_processes(numbers, self._device)

    def broadcast_from_rank0(
        self,
        make: Callable[[], T],
        read: Callable[[str], T] | None = None,
        write: Callable[[T], str] | None = None,
    ) -> T:
        key = self._next("first")
        if not self.is_first:
            heard = self._heard(key)
            return cast(T, heard) if read is None else read(str(heard))
        with self._telling(key) as stated:
            made = make()
            stated.append(made if write is None else write(made))
        return made

    def first(self, make: Callable[[], T]) -> T:
        key = self._next("first")
        if not self.is_first:
            self._heard(key)
            return make()
        with self._telling(key):
            return make()

    @contextmanager
    def on_rank0(self, first: AbstractContextManager[None]) -> Iterator[None]:
        with ExitStack() as stack:
            self.first(lambda: stack.enter_context(first) if self.is_first else None)
            yield

    def all_do(self, do: Callable[[], None]) -> None:
        key = self._next("all")
        failure: KunError | None = None
        try:
            with self._telling(f"{key}/{self.rank}"):
                do()
        except KunError as error:
            failure = error
        for rank in range(self.world):
            if rank != self.rank:
                self._heard(f"{key}/{rank}")
        if failure:
            raise failure

    def _next(self, kind: str) -> str:
        """A name that all processes give to the same place in the program, which they reach in the same order."""
        self._count += 1
        return f"{kind}/{self._count}"

    @contextmanager
    def _telling(self, key: str) -> Iterator[list[object]]:
        """Tell the others what the block leaves in its list, or the error that it ends with."""
        stated: list[object] = []
        try:
            yield stated
        except KunError as error:
            self._store.set(key, json.dumps({"error": type(error).__name__, "text": str(error)}))
            raise
        self._store.set(key, json.dumps({"value": stated[0] if stated else None}))

    def _heard(self, key: str) -> object:
        """What another process tells, however long it takes, as long as all are alive."""
        while not self._store.check([key]):
            time.sleep(0.05)
            if gone := self._beats.long_silent():
                raise self._lost(gone)
        heard = json.loads(self._store.get(key))
        if "error" in heard:
            raise _told(getattr(errors, heard["error"])(heard["text"]))
        return heard["value"]

    @contextmanager
    def together(self) -> Iterator[None]:
        self._beats.start()
        try:
            with self.naming():
                yield
        finally:
            self._beats.stop()

    @contextmanager
    def naming(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _SIGNS):
                raise
            _turn_deaf()
            raise self._lost(self._beats.silent()) from error

    def _lost(self, gone: list[int]) -> ProcessLost:
        who = f"Process {', '.join(map(str, gone))}" if gone else "One"
        error = ProcessLost(
            f"{who} of the {self.world} processes (ranks 0 to {self.world - 1}) is gone, so that the others stop, too. "
            f"Nothing up to the newest snapshot is lost: start again with --resume, on as many processes or on another "
            f"number (and parallel.data to fit)."
        )
        error.is_told = self.rank != min(rank for rank in range(self.world) if rank not in gone)
        return error


_SIGNS = (
    "onnection closed",
    "onnection reset",
    "gloo",
    "Gloo",
    "NCCL",
    "Timed out",
    "Broken pipe",
    "timeout",
)
"""What torch says where another process does not answer."""


def _told(error: KunError) -> KunError:
    error.is_told = True
    return error


def _turn_deaf() -> None:
    """From now on torchrun's wish that the others end, too, does not cut short what they say: they end anyway."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Beats:
    """A sign of life of this process every half second, and how long those of the others are ago."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self._ended = threading.Event()
        self._seen = [0] * world
        self._missed = [0] * world
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        # a store of its own: the connection is held while one waits on it
        common: Any = dist.distributed_c10d._get_default_store()
        store = PrefixStore("kun-beats", common.clone())
        store.add(str(self.rank), 1)
        self._thread = threading.Thread(target=self._beat, args=(store,), daemon=True, name="kun-beats")
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5)

    def _beat(self, store: PrefixStore) -> None:
        while not self._ended.wait(_BEAT):
            try:
                store.add(str(self.rank), 1)
                for other in range(self.world):
                    count = store.add(str(other), 0)
                    self._missed[other] = 0 if count != self._seen[other] else self._missed[other] + 1
                    self._seen[other] = count
            except RuntimeError:  # the store is gone with the process or agent that kept it
                return

    def silent(self) -> list[int]:
        """The processes that give no sign, once that is certain; of two, the other whose connection closed."""
        for _ in range(2 * _SILENT):
            time.sleep(_BEAT)
            gone = self._gone()
            if gone:
                return gone
        return [1 - self.rank] if self.world == 2 else []

    def long_silent(self) -> list[int]:
        """The processes that have given no sign for long."""
        return [rank for rank in self._gone() if self._missed[rank] >= _LONG_SILENT]

    def _gone(self) -> list[int]:
        return [rank for rank in range(self.world) if rank != self.rank and self._missed[rank] >= _SILENT]


def check_parallel(parallel: Parallel, world: int) -> None:
    """Raise `BadRecipe` where the sizes of [parallel] and the number of processes do not fit; it names some that do."""
    given = parallel.data * parallel.tensor * parallel.pipeline
    if given != world:
        wanted = f"parallel.data × tensor × pipeline is {given}, and there "
        wanted += "is 1 process" if world == 1 else f"are {world} processes"
        others = parallel.tensor * parallel.pipeline
        if world == 1:
            fix = f"start it with torchrun --nproc_per_node={given} -m kun train …"
        elif world % others == 0:
            fix = f"parallel.data = {world // others} would do"
        else:
            fix = (
                f"their product has to be {world}: parallel.data = {world}, tensor = 1, pipeline = 1 would do"
            )
        raise BadRecipe(f"{wanted}: {fix}.")
    if parallel.data % parallel.expert:
        fitting = [str(n) for n in divisors(parallel.data)]
        raise BadRecipe(
            f"parallel.expert = {parallel.expert} does not divide parallel.data = {parallel.data}: "
            f"{', '.join(fitting)} would do."
        )


@contextmanager
def joined(parallel: Parallel) -> Iterator[tuple[Processes, torch.device]]:
    """The processes that torchrun started, this one among them, and the device of this one.

    Raises `BadRecipe` where their number is not the recipe's; `ProcessLost` where one ends before its time.
    """
    started = launch()
    check_parallel(parallel, started.world if started else 1)
    if started is None or started.world == 1:
        yield ALONE, torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", started.local_rank)
        torch.cuda.set_device(device)
    mine = not dist.is_initialized()
    if mine:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        processes = Several(parallel, device)
        with processes.together():
            yield processes, device
            processes.all_do(lambda: None)  # the store lives as long as the process that keeps it
    finally:
        if mine:
            dist.destroy_process_group()


def divisors(*numbers: int) -> list[int]:
    """What divides all of them."""
    common = math.gcd(*numbers)
    return [n for n in range(1, common + 1) if common % n == 0]
