"""A repository of the Hugging Face hub: its files in the layout, each checked against the hub's own digest."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kun.atomic_files import Progress, inside, sha256
from kun.errors import DamagedFile, ModelNotFound, Unavailable, UnsupportedFormat
from kun.text.tokenizer_files import VOCABULARIES

_PATIENCE = 3.0
_SUFFIXES = (".json", ".safetensors", ".jinja")
_FOLDERS = ("", "1_Pooling")
_MOST_FILES = 500

_T = TypeVar("_T")


def fetch(repo: str, work: Path, progress: Progress) -> tuple[Path, str]:
    """Fetch the files of a checkpoint into `work`; returns their folder and the commit that they are of.

    Raises `Unavailable` within seconds where the hub cannot be reached, `ModelNotFound` for a repository that is
    not there, `UnsupportedFormat` for one without safetensors, `DamagedFile` for a wrong digest.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        info = _within(
            _PATIENCE + 1, lambda: HfApi().model_info(repo, files_metadata=True, timeout=_PATIENCE)
        )
        files = _wanted(repo, info.siblings or [])
        total = sum(file.size or 0 for file in files)
        done = 0
        folder = work / "hub"
        for file in files:
            progress(f"fetching {repo}", done, total)
            path = inside(folder, file.rfilename)
            hf_hub_download(repo, file.rfilename, revision=info.sha, local_dir=folder)
            _check(repo, file, path)
            done += file.size or 0
        progress(f"fetching {repo}", done, total)
    except GatedRepoError as error:
        raise Unavailable(
            f"{repo} is gated: accept its terms on the hub and log in (hf auth login)."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(f"The hub has no model {repo!r}: check its name, as owner/name.") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, TimeoutError) as error:
        raise Unavailable(
            f"The Hugging Face hub cannot be reached for {repo} ({_first_line(error)})."
        ) from error
    except (DamagedFile, ModelNotFound, UnsupportedFormat):
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise Unavailable(
            f"The Hugging Face hub cannot be reached for {repo} ({_first_line(error)})."
        ) from error
    except Exception as error:
        if type(error).__module__.startswith(("http", "requests", "urllib3")):
            raise Unavailable(
                f"The Hugging Face hub cannot be reached for {repo} ({_first_line(error)})."
            ) from error
        raise
    return folder, str(info.sha)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """The result of `call`, or `TimeoutError`: looking a name up has no time limit of its own."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = call()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def _wanted(repo: str, siblings: list[Any]) -> list[Any]:
    files = [
        file
        for file in siblings
        if file.rfilename in VOCABULARIES
        or (file.rfilename.endswith(_SUFFIXES) and file.rfilename.rpartition("/")[0] in _FOLDERS)
    ]
    names = {file.rfilename for file in files}
    if not any(name.endswith(".safetensors") for name in names):
        raise UnsupportedFormat(
            f"{repo} has no weights as safetensors, the one form that Kun reads from the hub."
        )
    if "config.json" not in names or len(files) > _MOST_FILES:
        raise UnsupportedFormat(f"{repo} is no model in the Hugging Face layout: it has no config.json.")
    return files


def _check(repo: str, file: Any, path: Path) -> None:
    """Large files carry a SHA-256, small ones git's own digest of a blob."""
    if file.lfs is not None:
        found, expected = sha256(path), file.lfs.sha256
    elif file.blob_id:
        data = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        expected = file.blob_id
    else:
        return
    if found != expected:
        path.unlink(missing_ok=True)
        raise DamagedFile(
            f"{file.rfilename} of {repo} has the digest {found}, but the hub says {expected}: "
            "it was deleted; pull again."
        )
