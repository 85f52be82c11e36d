"""What may happen to a file on a disk, seeded: a bit that turns, zeros, an end that is missing, bytes more."""

import random
from collections.abc import Callable
from pathlib import Path


def damaged(path: Path, seed: int) -> str:
    """Damage a file in its place, always so that its bytes differ; returns the kind of damage."""
    rng = random.Random(seed)
    kind, damage = list(DAMAGES.items())[seed % len(DAMAGES)]
    whole = path.read_bytes()
    changed = whole
    while changed == whole:
        changed = damage(whole, rng)
    path.write_bytes(changed)
    return kind


def _flipped(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _zeroed(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    size = min(rng.randint(1, 512), len(data) - at)
    return data[:at] + bytes(size) + data[at + size :]


def _truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _longer(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randint(1, 64))


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": _flipped,
    "zero": _zeroed,
    "truncate": _truncated,
    "append": _longer,
}
