"""The handbook: where it lies."""

import sys
from pathlib import Path

from kun.errors import NotFound


def handbook_folder() -> Path:
    """The folder of the handbook: in a checkout of the source, or where the installed package put it.

    Raises `NotFound` where it was not installed.
    """
    for folder in (
        Path(__file__).parents[3] / "examples" / "handbook",
        Path(sys.prefix) / "share" / "kun" / "handbook",
    ):
        if folder.is_dir():
            return folder
    raise NotFound("The handbook is not installed here: name your own documents with --documents FOLDER.")
