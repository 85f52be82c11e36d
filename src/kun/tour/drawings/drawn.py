"""Every drawing by its name, and the folder of files that the handbook links to."""

from collections.abc import Callable, Mapping
from pathlib import Path

from kun.atomic_files import new_file
from kun.tour.drawings.blocks import transformer
from kun.tour.drawings.canvas import Language
from kun.tour.drawings.pictures import ink, inpainting
from kun.tour.drawings.spaces import clip, stable_diffusion
from kun.tour.drawings.steps import content, instructgpt

LANGUAGES: tuple[Language, ...] = ("en", "zh")
DRAWINGS: Mapping[str, Callable[[Language], str]] = {
    "transformer": transformer,
    "instructgpt": instructgpt,
    "content": content,
    "ink": ink,
    "clip": clip,
    "stable-diffusion": stable_diffusion,
    "inpainting": inpainting,
}


def write_drawings(folder: Path) -> None:
    """Write every drawing to `folder`/LANGUAGE/NAME.svg."""
    for language in LANGUAGES:
        for name, draw in DRAWINGS.items():
            path = folder / language / f"{name}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as fresh:
                fresh.write_text(draw(language), encoding="utf-8", newline="\n")
