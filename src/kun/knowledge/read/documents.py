"""The readers of PDF and Office files. In the worker's process only."""

from collections.abc import Callable
from pathlib import Path

from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.pdf import read_pdf
from kun.knowledge.read.sheets import read_sheets
from kun.knowledge.read.slides import read_slides
from kun.knowledge.read.word import read_word

READERS: dict[str, Callable[[Path, str], Extracted]] = {
    "pdf": read_pdf,
    "docx": read_word,
    "pptx": read_slides,
    "xlsx": read_sheets,
}
