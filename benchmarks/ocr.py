"""Recognition of scanned pages: ten pages of the handbook, five a language, as a bad scanner gives them.

Each page is set at 150 dots an inch on A4, turned by 1°, blurred, and saved as JPEG of quality 60; the text that is
recognized is held against the text that was set, white space left out.

Figures are means over the pages: the share of wrong characters (edit distance over length) and seconds of the clock;
those of the processor, and the single pages, are in the notes. A font with Chinese must be installed.
"""

import io
import re
import statistics
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.table import Options, Row, main, skipped
from kun.knowledge.read.ocr import recognize

HANDBOOK = Path("examples/handbook")
A4 = (1240, 1754)  # pixels at 150 dots an inch
MARGIN = 110
SIZE = 23  # pixels of a letter: 11 points
LEADING = 36
FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)
PAGES = (
    "01-transformer",
    "03-instructgpt",
    "06-generating-content",
    "09-llama-alpaca-vicuna",
    "14-alignment",
)


def measure(options: Options) -> Iterable[Row]:
    path = next((font for font in FONTS if Path(font).is_file()), None)
    if path is None:
        yield skipped(
            "recognition of scanned pages", f"no font with Chinese; install one of {', '.join(FONTS)}"
        )
        return
    font = ImageFont.truetype(path, SIZE)
    recognize(Image.new("L", (200, 100), 250))  # the models are read
    wrong, seconds, busy = [], [], []
    for language in ("en", "zh"):
        for name in PAGES[:1] if options.quick else PAGES:
            text = (HANDBOOK / language / f"{name}.md").read_text(encoding="utf-8")
            page, shown = set_page(plain(text), font)
            picture = scanned(page)
            started, worked = time.perf_counter(), time.process_time()
            found = recognize(picture)
            seconds.append(time.perf_counter() - started)
            busy.append(time.process_time() - worked)
            wrong.append(distance(squeezed(shown), squeezed(found)) / len(squeezed(shown)))
    share, took = statistics.mean(wrong), statistics.mean(seconds)
    each = "by page " + ", ".join(f"{one:.2%}" for one in wrong)
    yield Row(
        "characters recognized wrong on a scanned page",
        f"{share:.2%}",
        "3%",
        "1%",
        holds=share <= 0.03,
        note=each,
    )
    yield Row(
        "recognition of a scanned page",
        f"{took:.1f} s",
        "6 s",
        "3 s",
        holds=took <= 6,
        note=f"{statistics.mean(busy):.1f} s of the processor",
    )


def plain(markdown: str) -> list[str]:
    """The paragraphs of a page without its Markdown, as they are printed."""
    markdown = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    markdown = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", markdown)
    markdown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    lines = [re.sub(r"^[#>\s*-]+|[*`_|]", "", line).strip() for line in markdown.split("\n")]
    return [line for line in lines if any(letter.isalnum() for letter in line)]


def set_page(paragraphs: list[str], font: ImageFont.FreeTypeFont) -> tuple[Image.Image, str]:
    """A page full of the paragraphs, and the text on it."""
    page = Image.new("L", A4, 250)
    draw = ImageDraw.Draw(page)
    height, shown = MARGIN, []
    for paragraph in paragraphs:
        for line in wrapped(paragraph, font, A4[0] - 2 * MARGIN):
            if height > A4[1] - MARGIN - LEADING:
                return page, "\n".join(shown)
            draw.text((MARGIN, height), line, font=font, fill=25)
            shown.append(line)
            height += LEADING
        height += LEADING // 2
    return page, "\n".join(shown)


def wrapped(paragraph: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines that fit; Chinese breaks anywhere, other words between them."""
    lines, line = [], ""
    for piece in re.findall(r"[\u2e80-\u9fff\uff00-\uffef]|[^\s\u2e80-\u9fff\uff00-\uffef]+|\s+", paragraph):
        if line and font.getlength(line + piece) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line or not piece.isspace() else ""
    return [*lines, line.rstrip()] if line.strip() else lines


def scanned(page: Image.Image) -> Image.Image:
    """The page as a bad scanner gives it."""
    page = page.rotate(1, resample=Image.Resampling.BICUBIC, fillcolor=250)
    page = page.filter(ImageFilter.GaussianBlur(0.8))
    noise = np.random.default_rng(7).normal(0, 4, (page.height, page.width))
    page = Image.fromarray(np.clip(np.asarray(page) + noise, 0, 255).astype(np.uint8))
    content = io.BytesIO()
    page.save(content, "JPEG", quality=60)
    return Image.open(content)


def distance(one: str, other: str) -> int:
    """The edit distance, row by row."""
    letters = np.array([ord(letter) for letter in other])
    row = np.arange(len(other) + 1)
    for place, letter in enumerate(one, 1):
        best = np.minimum(row[:-1] + (letters != ord(letter)), row[1:] + 1)
        following = np.concatenate([[place], best])
        steps = np.arange(len(following))
        row = np.minimum.accumulate(following - steps) + steps
    return int(row[-1])


def squeezed(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


if __name__ == "__main__":
    main(measure, __doc__)
