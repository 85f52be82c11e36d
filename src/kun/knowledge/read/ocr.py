"""Text recognition of scanned pages and pictures, in Chinese and English. Runs in the worker's process only.

The models are those inside RapidOCR's package (PP-OCRv6 small, Apache-2.0), run by ONNX Runtime on the processor:
nothing is fetched. One finds the lines, one reads them; the order in which they are read is found here.
"""

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from kun.errors import DamagedFile, HoldsNoText, TooLarge
from kun.knowledge.read.extracted import Extracted, paged
from kun.knowledge.read.lines import Line, text_of_lines
from kun.knowledge.read.pulse import beat

if TYPE_CHECKING:
    from PIL.Image import Image
    from rapidocr import RapidOCR
    from rapidocr.utils.output import RapidOCROutput

MOST_PICTURES = 500  # pages of one file
_MOST_PIXELS = 180_000_000
_LONGEST = 2_000  # pixels of a side; more tell the reader of lines nothing
_LOOKED_AT = 960  # pixels of a side at which lines are looked for
_SMALLEST = 24  # pixels: less is an icon
_SURE = 0.5  # of a line's reading
_JUDGED = 6  # letters from which a page is judged to be upside down …
_UPSIDE_DOWN = 0.75  # … where its lines are less sure than this
_UPRIGHT = 1.5  # a box this much higher than wide is a line that runs up or down


def read_picture(file: Path, name: str) -> Extracted:
    """The text of a picture, page by page where the file holds several.

    Raises `HoldsNoText` for one in which no text is found, `DamagedFile`, `TooLarge`.
    """
    from PIL import Image, ImageSequence

    try:
        with Image.open(file) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise TooLarge(
                    f"{name} has {picture.width:,} × {picture.height:,} pixels, more than are read: make it smaller."
                )
            is_film = picture.format == "GIF"
            frames = [picture] if is_film else ImageSequence.Iterator(picture)
            pages = []
            for _, frame in zip(range(MOST_PICTURES), frames, strict=False):
                pages.append(recognize(frame))
                beat()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DamagedFile(f"{name} is a damaged picture: save or download it again.") from error
    if not any(page.strip() for page in pages):
        raise HoldsNoText(f"{name} is a picture in which no text was found.", "a picture without text")
    return paged(pages, "text") if len(pages) > 1 else Extracted(pages[0] + "\n", "text")


def recognize(picture: "Image") -> str:
    """The text of a picture in the order in which it is read, paragraphs parted by empty lines; empty for none."""
    pixels = _pixels(picture)
    if min(pixels.shape[:2]) < _SMALLEST:
        return ""
    lines = _read(pixels)
    letters = sum(len(line.text) for line in lines)
    if 2 * sum(len(line.text) for line in lines if line.height > _UPRIGHT * line.width) > letters:
        lines = max((_read(np.rot90(pixels, times)) for times in (1, 3)), key=_legibility)
    elif letters > _JUDGED and _legibility(lines) < _UPSIDE_DOWN * letters:
        lines = max(lines, _read(np.rot90(pixels, 2)), key=_legibility)
    return text_of_lines([line for line in lines if line.score >= _SURE])


def _legibility(lines: list[Line]) -> float:
    """The letters of the lines, each by how sure its line is: most where the page is the right way up."""
    return sum(line.score * len(line.text) for line in lines)


def _pixels(picture: "Image") -> np.ndarray:
    """A picture as uint8 [height, width, 3], upright, transparent parts white, within `_LONGEST`."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    if max(picture.size) > _LONGEST:
        picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _read(pixels: np.ndarray) -> list[Line]:
    # blue first, as the models have learned it; the class of what comes back is that of all steps together
    found = cast("RapidOCROutput", _engine()(np.ascontiguousarray(pixels[:, :, ::-1])))
    if found.boxes is None:
        return []
    read = zip(found.boxes, found.txts or (), found.scores or (), strict=True)
    return [
        Line(np.asarray(box, dtype=float), _tidied(text), float(score))
        for box, text, score in read
        if text.strip()
    ]


def _tidied(text: str) -> str:
    """A line without the spaces that the reader sees between Chinese characters."""
    return re.sub(r"(?<=[\u2e80-\u9fff\uff00-\uffef]) +(?=[\u2e80-\u9fff\uff00-\uffef])", "", text.strip())


@functools.cache
def _engine() -> "RapidOCR":
    import rapidocr

    models = Path(rapidocr.__file__).parent / "models"
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.text_score": 0.0,  # unsure lines tell that a page is upside down
            "Global.max_side_len": _LONGEST,
            "Rec.rec_batch_num": 1,  # lines of one width would be padded to the longest
            "Det.limit_type": "max",
            "Det.limit_side_len": _LOOKED_AT,
            # by their paths, so that nothing is ever looked for elsewhere
            "Det.model_path": str(next(models.glob("*_det_*.onnx"))),
            "Rec.model_path": str(next(models.glob("*_rec_*.onnx"))),
        }
    )
