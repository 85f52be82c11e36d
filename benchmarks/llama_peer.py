"""llama.cpp at the other end of a pipe, in an environment of its own: one request a line, the seconds back.

Run as `python llama_peer.py FILE.gguf THREADS`. It calls llama.cpp itself, without the sampling and detokenizing
that its Python class adds, so that what is measured is the best of it.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import llama_cpp
import numpy as np

Ids = list[int]


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    peer = Peer(path, threads)
    work: dict[str, Callable[..., float]] = {"decode": peer.decode, "prefill": peer.prefill}
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(work[request.pop("do")](**request), flush=True)


class Peer:
    """A model of llama.cpp with its defaults, but for the threads and a context that holds every request."""

    def __init__(self, path: str, threads: int) -> None:
        self.model: Any = llama_cpp.Llama(
            path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self.context = self.model._ctx.ctx

    def decode(self, ids: Ids, count: int) -> float:
        """Seconds for `count` greedy tokens after the first one."""
        self._forget()
        self._run(ids)
        token = self._likeliest()
        start = time.perf_counter()
        for _ in range(count):
            self._run([token])
            token = self._likeliest()
        return time.perf_counter() - start

    def prefill(self, ids: Ids) -> float:
        """Seconds until the first token after a prompt is known."""
        self._forget()
        start = time.perf_counter()
        self._run(ids)
        self._likeliest()
        return time.perf_counter() - start

    def _forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def _run(self, ids: Ids) -> None:
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError("llama_decode failed")

    def _likeliest(self) -> int:
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, (self.model.n_vocab(),)).argmax())


if __name__ == "__main__":
    main()
