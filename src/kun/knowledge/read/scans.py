"""Scanned pages of a PDF: drawn as a person would see them, and recognized. Runs in the worker's process only."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kun.errors import DamagedFile
from kun.knowledge.read.ocr import MOST_PICTURES, recognize
from kun.knowledge.read.pulse import beat

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

_SCALE = 150 / 72  # dots an inch over points an inch
_LONGEST = 2_400  # pixels of a side, however large a page says that it is
_FEW = 40  # letters: less under a picture is a stamp or a page's number
_COVERS = 0.4  # of the page


def with_scans(content: bytes, name: str, pages: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The texts of a PDF's pages, those of scanned ones by recognizing what is drawn on them; and what was left out.

    `MOST_PICTURES` pages are recognized at the most. Raises `DamagedFile`.
    """
    import pypdfium2

    texts = list(pages)
    wanted = [place for place, text in enumerate(texts) if sum(map(str.isalnum, text)) < _FEW]
    skipped: dict[str, str] = {}
    if not wanted:
        return texts, skipped
    count = 0
    try:
        with pypdfium2.PdfDocument(content) as document:
            for place in wanted:
                if place >= len(document) or not _is_drawn(document[place], bool(texts[place].strip())):
                    continue
                count += 1
                if count > MOST_PICTURES:
                    skipped[f"scanned pages from page {place + 1} on"] = "pages beyond the limit"
                    break
                found = _recognized(document[place])
                texts[place] = found if len(found) > len(texts[place].strip()) else texts[place]
                beat()
    except pypdfium2.PdfiumError as error:
        raise DamagedFile(f"{name} is damaged: download or save it again.") from error
    return texts, skipped


def _is_drawn(page: "PdfPage", has_text: bool) -> bool:
    """True if there is something to recognize: anything on a page without text, a large picture on one with little."""
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    if not has_text:
        return next(page.get_objects(max_depth=2), None) is not None
    width, height = page.get_size()
    for picture in page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE], max_depth=2):
        left, bottom, right, top = picture.get_bounds()
        if (right - left) * (top - bottom) > _COVERS * width * height:
            return True
    return False


def _recognized(page: "PdfPage") -> str:
    scale = min(_SCALE, _LONGEST / max(*page.get_size(), 1.0))
    return recognize(page.render(scale=scale, may_draw_forms=False).to_pil())
