"""Which files a folder holds for a knowledge base, and what they are called in it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kun.errors import NotFound, TooLarge

MAX_FILES = 200_000
_SKIPPED_FOLDERS = frozenset(
    {
        "node_modules",
        "__pycache__",
        "__MACOSX",
        "venv",
        "site-packages",
        "$RECYCLE.BIN",
        "System Volume Information",
    }
)
_BINARIES = frozenset(
    """
    .png .jpg .jpeg .gif .bmp .tif .tiff .webp .ico .icns .svg .heic .avif .psd .mp3 .wav .flac .ogg .m4a .aac
    .mp4 .mov .avi .mkv .webm .zip .gz .bz2 .xz .zst .7z .rar .tar .tgz .jar .war .whl .egg .exe .dll .so .dylib
    .a .o .obj .lib .class .pyc .pyo .pyd .wasm .bin .dat .db .sqlite .sqlite3 .pt .pth .ckpt .safetensors .gguf
    .onnx .npy .npz .parquet .lance .arrow .feather .pkl .ttf .otf .woff .woff2 .eot .iso .img .dmg .deb .rpm .apk
    .lock .map .min.js .min.css
    """.split()
)


@dataclass(frozen=True)
class Found:
    """A file to add: where it is, the name it would like, the name of the folder it was added from."""

    file: Path
    name: str
    folder: str

    @property
    def key(self) -> str:
        """The absolute path, as text that every table can hold."""
        return path_key(self.file)


@dataclass(frozen=True)
class Listing:
    """The files to add, and the folders, by their keys, that could not be listed, with the reason."""

    found: list[Found]
    closed: dict[str, str] = field(default_factory=dict)


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
    text are left out. A symbolic link is followed only if it stays within the folder. Raises `NotFound`.
    """
    root = path.expanduser().resolve()
    if root.is_file():
        return Listing([Found(root, printable(root.name), printable(root.parent.name))])
    if not root.is_dir():
        raise NotFound(f"{printable(str(path))} does not exist: give the path of a file or a folder.")
    closed: dict[str, str] = {}
    found = sorted(_walk(root, closed), key=lambda item: item.name)
    if len(found) > MAX_FILES:
        raise TooLarge(
            f"{printable(str(path))} holds more than {MAX_FILES:,} files: add its folders one by one."
        )
    return Listing(found, closed)


def _walk(root: Path, closed: dict[str, str]) -> Iterator[Found]:
    def note(error: OSError) -> None:
        closed[path_key(Path(error.filename or root))] = error.strerror or str(error)

    count = 0
    for folder, folders, files in os.walk(root, onerror=note):
        here = Path(folder)
        folders[:] = [name for name in folders if _is_wanted_folder(here / name)]
        for name in files:
            file = here / name
            if name.startswith((".", "~$")) or _is_binary(name) or not _stays_within(file, root):
                continue
            count += 1
            if count > MAX_FILES + 1:
                return
            yield Found(file, printable(file.relative_to(root).as_posix()), printable(root.name))


def _is_wanted_folder(folder: Path) -> bool:
    name = folder.name
    hidden = name.startswith(".") or name in _SKIPPED_FOLDERS
    return not (hidden or (folder / "kb.json").is_file() or (folder / "pyvenv.cfg").is_file())


def _is_binary(name: str) -> bool:
    lowered = name.lower()
    return os.path.splitext(lowered)[1] in _BINARIES or lowered.endswith((".min.js", ".min.css"))  # noqa: PTH122


def _stays_within(file: Path, root: Path) -> bool:
    """Whether it is a plain file, or a link to one under `root`; pipes and devices are neither.

    One that cannot be looked at is taken for a plain file: whoever reads it is told why that cannot be done.
    """
    try:
        if not file.is_symlink():
            return file.is_file()
        target = file.resolve()
        return target.is_file() and target.is_relative_to(root)
    except OSError:
        return True
