"""Snapshots of several processes: a safetensors file of each, from which any other number of processes goes on.

Written and read by torch.distributed.checkpoint, which knows which part of a tensor each file holds.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from kun.atomic_files import replace_folder, sealed, sha256, sync, writing_to
from kun.errors import NoSpace
from kun.hub.layout import read_json, write_json
from kun.training.processes import Processes

FACTS = "state.json"


def write(path: Path, facts: Mapping[str, object], tensors: dict[str, Tensor], processes: Processes) -> None:
    """Write the snapshot `path`, all processes together: it is whole or not there. Raises `NoSpace` on all."""
    fresh = path.parent / f".{path.name}.part"
    try:
        processes.first(lambda: _empty(fresh))
        processes.all_do(lambda: _write_part(fresh, tensors, processes.rank))
        if processes.is_first:
            processes.first(lambda: _complete(fresh, path, facts))
        else:
            processes.first(lambda: None)
    finally:
        if processes.is_first:
            shutil.rmtree(fresh, ignore_errors=True)


def _empty(folder: Path) -> None:
    with writing_to(folder.parent):
        if not folder.is_dir() or any(folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)


def _write_part(folder: Path, tensors: dict[str, Tensor], rank: int) -> None:
    """This process's file, and its digest next to it."""
    logging.getLogger("torch.distributed.checkpoint").setLevel(logging.ERROR)
    with writing_to(folder):
        try:
            save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
        except CheckpointException as error:
            if any("o space left" in str(failure) for failure, _ in error.failures.values()):
                raise NoSpace(f"The disk of {folder} is full.") from error
            raise
        for file in folder.glob(f"shard-{rank + 1:05d}-*.safetensors"):
            sync(file)
            write_json(folder / f"{file.name}.json", {"sha256": sha256(file)})


def _complete(fresh: Path, path: Path, facts: Mapping[str, object]) -> None:
    """Give the folder its name, once all that belongs to it is on the disk."""
    with writing_to(path.parent):
        written = sorted(fresh.glob("*.safetensors.json"))
        files = {file.name.removesuffix(".json"): read_json(file)["sha256"] for file in written}
        for file in written:
            file.unlink()
        (fresh / FACTS).write_bytes(sealed({**facts, "files": files}))
        sync(fresh / FACTS)
        sync(fresh)
        replace_folder(fresh, path)


def shapes(path: Path) -> dict[str, list[int]]:
    """The whole shape of every tensor in a snapshot."""
    return {name: list(written.size) for name, written in _metadata(path).items()}


def read(path: Path, state: dict[str, Tensor]) -> None:
    """Copy into `state` what belongs there, however it is spread."""
    alone = not dist.is_initialized()
    load(dict(state), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=alone)


def read_whole(path: Path) -> dict[str, Tensor]:
    """All tensors, each put together of its parts; by one process, without the others."""
    state = {
        name: torch.empty(written.size, dtype=written.properties.dtype)
        for name, written in _metadata(path).items()
    }
    load(dict(state), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    return state


def spread_like(place: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor, spread as the one that it is meant for."""
    if not hasattr(place, "placements"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    spread: Any = place
    return distribute_tensor(whole, spread.device_mesh, spread.placements, src_data_rank=None)


def _metadata(path: Path) -> dict[str, TensorStorageMetadata]:
    metadata: Any = HuggingFaceStorageReader(str(path)).read_metadata()
    return metadata.state_dict_metadata
