"""A network with its engine and cache, shared by the models that differ only in the adapter beside its weights."""

import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kun.adaptation.adapters import Adapted
from kun.adaptation.fuse import fuse
from kun.generation.engine import Engine
from kun.settings import settings

if TYPE_CHECKING:
    from kun.adaptation.lora import Pair

PAGE_SIZE = 32


class Host:
    """Starts the engine when it is first needed, and anew when it was closed. Safe for several threads."""

    def __init__(
        self,
        net: nn.Module,
        config: Any,
        *,
        kv_dtype: torch.dtype | None,
        max_batch: int | None,
        max_queue: int | None,
        step_tokens: int,
        reuse: bool,
        paced: bool,
    ) -> None:
        self.net, self.max_batch = net, max_batch or settings().max_batch
        self._max_queue = max_queue or settings().max_queue
        self._step_tokens, self._reuse, self._paced = step_tokens, reuse, paced
        self._kv_dtype = kv_dtype or _kv_dtype(net)
        self.n_pages = self._pages(config.context_length)
        self._adapters: dict[str, Mapping[str, Pair]] = {}
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._start()
            return self._engine

    def network(self) -> Adapted:
        """The network fitted for steps, its adapters beside it; no other thread may run steps by the same one."""
        with self._lock:
            return self._network()

    def _network(self) -> Adapted:
        adapted = Adapted(fuse(self.net))
        for name, pairs in self._adapters.items():
            adapted.add(name, pairs)
        return adapted

    def _start(self) -> Engine:
        device = next(self.net.parameters(), torch.zeros(0)).device
        engine = Engine(
            self._network(),
            self.new_state(self.n_pages, device),
            max_rows=self.max_batch,
            max_queue=self._max_queue,
            step_tokens=self._step_tokens,
            reuse=self._reuse,
            paced=self._paced,
        )
        # also at the interpreter's exit, so that no thread is left within torch
        weakref.finalize(self, engine.close)
        return engine

    def new_state(self, n_pages: int, device: torch.device) -> Any:
        """What the network carries from step to step, with so many pages."""
        new_state: Any = self.net.new_state
        return new_state(n_pages, PAGE_SIZE, self._kv_dtype, device)

    def _pages(self, context_length: int) -> int:
        page = self.new_state(1, torch.device("cpu")).cache.bytes_per_page
        wanted = (self.max_batch + 1) * -(-context_length // PAGE_SIZE)
        return max(2, min(wanted, settings().max_kv_cache_bytes // page))

    def add(self, adapter: str, pairs: "Mapping[str, Pair]") -> None:
        """Have an adapter ready for rows that name it. Raises `BadInput` where it does not fit the network."""
        with self._lock:
            if self._engine is not None:
                self._adapted(self._engine).add(adapter, pairs)
            self._adapters[adapter] = pairs

    def _adapted(self, engine: Engine) -> Adapted:
        assert isinstance(engine.net, Adapted)
        return engine.net

    def close(self) -> None:
        """Cancel what runs and free the cache; the next request starts afresh."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


def _kv_dtype(net: nn.Module) -> torch.dtype:
    """The network's own: exact for float32; half of it in bfloat16."""
    for parameter in net.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32
