"""Snapshots: all that resuming needs, bit for bit, in folders that are whole or not there."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kun.errors import DamagedFile, NoSpace
from kun.hub.files import check_digest, new_folder, sha256
from kun.hub.layout import read_json, write_json

_STEP = re.compile(r"step-(\d+)")
_TENSORS, _FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Snapshot:
    """A snapshot whose digest was right: the step after which it was taken, `facts` (plain values), its folder."""

    step: int
    facts: Mapping[str, Any]
    path: Path

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, mapped from the disk."""
        from safetensors.torch import load_file

        return load_file(self.path / _TENSORS)


def write_snapshot(
    folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, keep: int
) -> Path:
    """Write `folder/step-N`, then remove all but the newest `keep`. Raises `NoSpace`; what was there stays."""
    from safetensors.torch import save_file

    path = folder / f"step-{step}"
    try:
        with new_folder(path) as fresh:
            _save(save_file, {name: t.contiguous() for name, t in tensors.items()}, fresh / _TENSORS)
            digest = sha256(fresh / _TENSORS)
            write_json(fresh / _FACTS, {**facts, "step": step, "sha256": digest})
    except NoSpace as error:
        kept = steps(folder)
        told = f"the snapshot of step {kept[-1]} is whole" if kept else "there is no snapshot yet"
        raise NoSpace(
            f"The disk of {folder} is full, so that step {step} has no snapshot; {told}. Free some space and go on "
            f"with --resume."
        ) from error
    for old in steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    return path


def _save(save_file: Any, tensors: dict[str, Tensor], path: Path) -> None:
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
    """The newest whole snapshot; one that is damaged is passed over for the one before it.

    Raises `DamagedFile`, which names them, where snapshots are there and none is whole.
    """
    faults = []
    for step in reversed(steps(folder)):
        path = folder / f"step-{step}"
        try:
            facts = read_json(path / _FACTS)
            check_digest(path / _TENSORS, str(facts.get("sha256")), str(path / _TENSORS))
            return Snapshot(step, facts, path)
        except (DamagedFile, OSError) as error:
            faults.append(str(error))
    if faults:
        raise DamagedFile(f"No snapshot in {folder} is whole: {faults[0]} Start anew in another folder.")
    return None


def remove_unfinished(folder: Path) -> None:
    """What a killed process left half written."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def lines_until(path: Path, step: int) -> list[dict[str, Any]]:
    """The objects of a metrics file up to a step; a last line that was cut short is left out."""
    kept = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                break
            if value.get("step", 0) <= step:
                kept.append(value)
    return kept
