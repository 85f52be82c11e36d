"""Snapshots: all that resuming needs, bit for bit, in folders that are whole or not there."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kun.atomic_files import check_once, new_folder, restore_replaced, sealed, sha256
from kun.errors import DamagedFile, NoSpace
from kun.hub.layout import read_json
from kun.training import sharded
from kun.training.processes import ALONE, Processes
from kun.training.sharded import FACTS

log = logging.getLogger(__name__)
_STEP = re.compile(r"step-(\d+)")
_TENSORS = "state.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """A snapshot whose digests were right: the step after which it was taken, `facts` (plain values), its folder.

    Of one process it is a file; of several, a file each, in which tensors may lie in parts.
    """

    step: int
    facts: Mapping[str, Any]
    path: Path

    @property
    def is_sharded(self) -> bool:
        return "files" in self.facts

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name: mapped from the disk, or put together of their parts."""
        if self.is_sharded:
            return sharded.read_whole(self.path)
        from safetensors.torch import load_file

        return load_file(self.path / _TENSORS)

    @torch.no_grad()
    def load_into(self, state: dict[str, Tensor], *, partly: bool = False) -> None:
        """Copy its tensors into `state`, which may be spread over processes otherwise than when it was written.

        Raises `DamagedFile` where names or sizes differ, but for names that only the snapshot has where `partly`.
        """
        if self.is_sharded:
            _check_shapes(state, sharded.shapes(self.path), partly)
            sharded.read(self.path, state)
            return
        held = self.tensors()
        _check_shapes(state, {name: list(tensor.shape) for name, tensor in held.items()}, partly)
        for name, tensor in state.items():
            tensor.copy_(sharded.spread_like(tensor, held[name]))


def _check_shapes(state: Mapping[str, Tensor], shapes: Mapping[str, list[int]], partly: bool) -> None:
    for name in sorted(state.keys() - shapes.keys() if partly else state.keys() ^ shapes.keys()):
        which = "lacks" if name in state else "has, and this network has not,"
        raise DamagedFile(f"The snapshot {which} {name}: it was written with another model or optimizer.")
    for name, tensor in state.items():
        if list(tensor.shape) != shapes[name]:
            shape = f"{shapes[name]} where this network has {list(tensor.shape)}"
            raise DamagedFile(f"The snapshot's {name} has shape {shape}: it was written with other sizes.")


def write_snapshot(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, object],
    *,
    keep: int,
    processes: Processes = ALONE,
) -> Path:
    """Write `folder/step-N`, then remove all but the newest `keep`. Raises `NoSpace`; what was there stays."""
    path = folder / f"step-{step}"
    try:
        if processes.world > 1:
            sharded.write(path, {**facts, "step": step}, dict(tensors), processes)
        else:
            _write(path, {**facts, "step": step}, tensors)
    except NoSpace as error:
        kept = steps(folder)
        whole = f"the snapshot of step {kept[-1]} is whole" if kept else "there is no snapshot yet"
        raise NoSpace(
            f"The disk of {folder} is full, so that step {step} has no snapshot; {whole}. Free some space and go on "
            f"with --resume."
        ) from error
    if processes.is_first:
        for old in steps(folder)[:-keep]:
            shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    return path


def _write(path: Path, facts: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    with new_folder(path) as fresh:
        _save(save_file, {name: t.contiguous() for name, t in tensors.items()}, fresh / _TENSORS)
        (fresh / FACTS).write_bytes(sealed({**facts, "sha256": sha256(fresh / _TENSORS)}))


def _save(
    save_file: Callable[[dict[str, Tensor], Path], object], tensors: dict[str, Tensor], path: Path
) -> None:
    """safetensors hides the operating system's number of a full disk in a sentence of its own."""
    try:
        save_file(tensors, path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        if "os error 28" in str(error) or "No space" in str(error):
            raise OSError(28, "No space left on device", str(path)) from error
        raise


def steps(folder: Path) -> list[int]:
    """The steps that have a snapshot, in order."""
    if not folder.is_dir():
        return []
    found = [_STEP.fullmatch(path.name) for path in folder.iterdir()]
    return sorted(int(match[1]) for match in found if match)


def newest(folder: Path) -> Snapshot | None:
    """The newest whole snapshot; one that is damaged is named in the log and passed over for the one before it.

    Raises `DamagedFile`, which names them, where snapshots are there and none is whole.
    """
    faults: list[str] = []
    for step in reversed(steps(folder)):
        path = folder / f"step-{step}"
        try:
            found = opened(folder, step)
            digests = found.facts.get("files") or {_TENSORS: found.facts.get("sha256")}
            for name, digest in digests.items():
                check_once(path / name, str(digest))
            for fault in faults:
                log.warning("%s The snapshot of step %d is used.", fault, step)
            return found
        except (DamagedFile, OSError) as error:
            faults.append(str(error))
    if faults:
        raise DamagedFile(f"No snapshot in {folder} is whole: {faults[0]} Start anew in another folder.")
    return None


def newest_step(folder: Path) -> int | None:
    """That of the newest whole snapshot. Raises as `newest`."""
    found = newest(folder)
    return None if found is None else found.step


def opened(folder: Path, step: int) -> Snapshot:
    """The snapshot of a step, the digests of its tensors unchecked. Raises `DamagedFile`."""
    path = folder / f"step-{step}"
    return Snapshot(step, read_json(path / FACTS), path)


def remove_unfinished(folder: Path) -> None:
    """What a killed process left half written; a snapshot that it was replacing gets its name back first."""
    restore_replaced(folder)
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def remove_after(folder: Path, step: int) -> None:
    """Remove the snapshots of steps after `step`, which could oust those that a run goes on from."""
    for later in steps(folder):
        if later > step:
            shutil.rmtree(folder / f"step-{later}", ignore_errors=True)


def lines_until(path: Path, step: int) -> list[dict[str, Any]]:
    """The objects of a metrics file up to a step; a last line that was cut short is left out."""
    kept = []
    if path.is_file():
        # str.splitlines would also cut at what ends a line within a text
        for line in path.read_text(encoding="utf-8").split("\n"):
            if not line:
                continue
            try:
                value = json.loads(line)
            except ValueError:
                break
            if value.get("step", 0) <= step:
                kept.append(value)
    return kept
