"""Which files a folder holds for a knowledge base, and what they are called in it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kun.errors import NotFound, TooLarge

MAX_FILES = 200_000
_SKIPPED_FOLDERS = {
    "node_modules": "installed packages",
    "site-packages": "installed packages",
    "venv": "installed packages",
    "__pycache__": "compiled code",
    "__MACOSX": "a folder of the system",
    "$RECYCLE.BIN": "a folder of the system",
    "System Volume Information": "a folder of the system",
}
_NO_DOCUMENTS = {
    suffix: what
    for what, suffixes in {
        "a drawing": ".svg .psd .ico .icns .heic .avif .gif",
        "a sound": ".mp3 .wav .flac .ogg .m4a .aac .wma",
        "a film": ".mp4 .mov .avi .mkv .webm .wmv",
        "an archive": ".zip .gz .bz2 .xz .zst .7z .rar .tar .tgz .jar .war .whl .egg .deb .rpm .apk",
        "a program": ".exe .dll .so .dylib .a .o .obj .lib .class .pyc .pyo .pyd .wasm .bin",
        "an image of a disk": ".iso .img .dmg",
        "a database": ".db .sqlite .sqlite3 .lance",
        "data of numbers": ".dat .npy .npz .parquet .arrow .feather .pkl",
        "weights of a model": ".pt .pth .ckpt .safetensors .gguf .onnx",
        "a font": ".ttf .otf .woff .woff2 .eot",
        "a file that a program generated": ".lock .map .min.js .min.css",
    }.items()
    for suffix in suffixes.split()
}


@dataclass(frozen=True)
class Found:
    """A file to add: where it is, the name it would like, the name of the folder it was added from.

    `in_folder` is false for a file that was named by itself.
    """

    file: Path
    name: str
    folder: str
    in_folder: bool = True

    @property
    def key(self) -> str:
        """The absolute path, as text that every table can hold."""
        return path_key(self.file)


@dataclass(frozen=True)
class Listing:
    """The files to add; the folders, by their keys, that could not be listed, with the reason; what was left out
    on purpose, by name, with the kind of thing that it is."""

    found: list[Found]
    closed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def path_key(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(name: str) -> str:
    """A name on one line: control characters as their pictures (␊ for a newline), broken bytes as �."""
    name = os.fsencode(name).decode("utf-8", "replace")
    return "".join(_picture(letter) for letter in name)


def _picture(letter: str) -> str:
    if letter < " ":
        return chr(0x2400 + ord(letter))
    return letter if letter.isprintable() or letter == " " else "�"


def find(path: Path) -> Listing:
    """The file itself, or the files under a folder that can be read, in the order of their names.

    Hidden files, the folders of version control and of packages, and files whose name says that they hold no
    text are left out, and named. A symbolic link is followed only if it stays within the folder. Raises `NotFound`,
    `TooLarge`.
    """
    try:
        root = path.expanduser().resolve()
    except (OSError, RuntimeError) as error:  # a link onto itself; RuntimeError before Python 3.13
        raise NotFound(
            f"{printable(str(path))} is a link that leads nowhere: add what it should name."
        ) from error
    if root.is_file():
        return Listing([Found(root, printable(root.name), printable(root.parent.name), in_folder=False)])
    if not root.is_dir():
        raise NotFound(f"{printable(str(path))} does not exist: give the path of a file or a folder.")
    listing = Listing([])
    for item in _walk(root, listing):
        listing.found.append(item)
        if len(listing.found) > MAX_FILES:
            raise TooLarge(
                f"{printable(str(path))} holds more than {MAX_FILES:,} files: add its folders one by one."
            )
    listing.found.sort(key=lambda item: item.name)
    return listing


def _walk(root: Path, listing: Listing) -> Iterator[Found]:
    def note(error: OSError) -> None:
        listing.closed[path_key(Path(error.filename or root))] = error.strerror or str(error)

    def skip(path: Path, what: str, end: str = "") -> None:
        if len(listing.skipped) < MAX_FILES:
            listing.skipped[printable(path.relative_to(root).as_posix()) + end] = what

    for folder, folders, files in os.walk(root, onerror=note):
        here = Path(folder)
        wanted = []
        for name in folders:
            if why := _folder_left_out(here / name):
                skip(here / name, why, "/")
            else:
                wanted.append(name)
        folders[:] = wanted
        for name in files:
            file = here / name
            if why := _file_left_out(file, root):
                skip(file, why)
            else:
                yield Found(file, printable(file.relative_to(root).as_posix()), printable(root.name))


def _folder_left_out(folder: Path) -> str | None:
    """The reason for which a folder is not looked into, None for one that is."""
    if folder.name in _SKIPPED_FOLDERS:
        return _SKIPPED_FOLDERS[folder.name]
    if folder.name.startswith("."):
        return "a hidden folder"
    with suppress(OSError):  # one that is closed is reported when it is listed
        if (folder / "kb.json").is_file():
            return "a knowledge base"
        if (folder / "pyvenv.cfg").is_file():
            return "installed packages"
    return "a link to a folder" if folder.is_symlink() else None


def _file_left_out(file: Path, root: Path) -> str | None:
    """The reason for which a file is not read, None for one that is.

    One that cannot be looked at is taken for a plain file: the sentence of the read that fails names the fault.
    """
    lowered = file.name.lower()
    if lowered.startswith((".", "~$")):
        return "a hidden file"
    if lowered.endswith((".min.js", ".min.css")):
        return _NO_DOCUMENTS[".min.js"]
    if what := _NO_DOCUMENTS.get(file.suffix.lower()):
        return what
    try:
        if not file.is_symlink():
            return None if file.is_file() else "a pipe or a device"
        target = file.resolve()
        if not target.exists():
            return "a link that leads nowhere"
        return None if target.is_file() and target.is_relative_to(root) else "a link out of the folder"
    except (OSError, RuntimeError):  # RuntimeError: a link onto itself, before Python 3.13
        return None
