"""Adds a folder to a knowledge base with the small encoder; the fault tests run it as a process of its own."""

import sys
import time
from pathlib import Path

import numpy as np
from fake_encoder import FakeEncoder

from kun.knowledge import adding
from kun.knowledge.base import KnowledgeBase


class SlowEncoder(FakeEncoder):
    """Takes a moment for each batch, so that there is something to interrupt."""

    def embed(self, texts: list[str], kind: str | None = None) -> np.ndarray:
        time.sleep(0.002 * len(texts))
        return super().embed(texts, kind)


if __name__ == "__main__":
    adding.BATCH = 8
    base = KnowledgeBase.open(Path(sys.argv[1]), encoder=SlowEncoder())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    report = base.add(*(Path(path) for path in sys.argv[2:]))
    sys.stdout.write(f"{len(report.added)} {len(report.unchanged)} {len(report.failed)}\n")
