"""The handbook's pictures: drawn by code, committed as drawn, linked, and legible in both languages."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kun.families.transformer import TransformerConfig
from kun.tour.drawings.canvas import Canvas, Language, text_width
from kun.tour.drawings.drawn import DRAWINGS, LANGUAGES, write_drawings
from kun.tour.drawings.pictures import kept
from kun.tour.drawings.spaces import LATENT_CHANNELS, LATENT_SIDE

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "examples" / "drawings"
SVG = "{http://www.w3.org/2000/svg}"
CASES = [(name, language) for name in DRAWINGS for language in LANGUAGES]


def test_the_committed_drawings_are_those_that_the_code_draws(tmp_path: Path) -> None:
    write_drawings(tmp_path)
    drawn = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.svg")}
    committed = {path.relative_to(COMMITTED): path.read_bytes() for path in COMMITTED.rglob("*.svg")}
    assert drawn == committed, "make drawings"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_drawing_stands_in_an_article_and_every_link_leads_to_one(language: Language) -> None:
    linked = []
    for page in sorted((ROOT / "examples" / "handbook" / language).glob("*.md")):
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            assert path.is_file(), f"{page.name}: {target}"
            linked.append(path.relative_to(COMMITTED / language).stem)
    assert sorted(linked) == sorted(DRAWINGS)


@pytest.mark.parametrize(("name", "language"), CASES)
def test_no_words_lie_outside_the_drawing_or_are_too_small(name: str, language: Language) -> None:
    root = ElementTree.fromstring(DRAWINGS[name](language))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for text in root.iter(f"{SVG}text"):
        words, size = text.text or "", float(text.attrib["font-size"])
        share = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.attrib["text-anchor"]]
        left = float(text.attrib["x"]) - share * text_width(words, size)
        assert left >= 0, words
        assert left + text_width(words, size) <= width, words
        assert 0 < float(text.attrib["y"]) < height, words
        assert size >= 9, words


@pytest.mark.parametrize("name", DRAWINGS)
def test_both_languages_have_the_same_shapes_and_words_of_their_own(name: str) -> None:
    english, chinese = (ElementTree.fromstring(DRAWINGS[name](language)) for language in LANGUAGES)
    assert [part.tag for part in english.iter()] == [part.tag for part in chinese.iter()]
    assert not re.search("[一-鿿]", "".join(english.itertext()))
    assert re.search("[一-鿿]", "".join(chinese.itertext()))


def test_the_transformers_drawing_has_the_sizes_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "512 → 2048 → 512" in DRAWINGS["transformer"]("en")
    small = TransformerConfig(
        d_model=96, n_heads=4, n_decoder_heads=4, d_ff=384, n_layers=3, n_decoder_layers=2
    )
    monkeypatch.setattr("kun.tour.drawings.blocks.TransformerConfig", lambda: small)
    drawn = DRAWINGS["transformer"]("en")
    for words in ("96 → 384 → 96", "self-attention, 4 × 24", "Encoder, 3 layers", "Decoder, 2 layers"):
        assert words in drawn


def test_ink_spreads_by_the_schedule_of_the_paper() -> None:
    assert kept(0) == 1
    assert kept(1) == pytest.approx(1 - 1e-4)
    assert kept(1000) == pytest.approx(4.04e-5, rel=0.01)  # nothing of the picture is left
    shares = [kept(step) for step in range(0, 1001, 100)]
    assert shares == sorted(shares, reverse=True)


def test_the_latent_of_the_drawing_is_the_handbooks() -> None:
    page = (ROOT / "examples" / "handbook" / "en" / "06-generating-content.md").read_text(encoding="utf-8")
    assert f"{LATENT_SIDE} by {LATENT_SIDE} with {LATENT_CHANNELS} channels" in page


def test_words_are_escaped_and_made_to_fit() -> None:
    canvas = Canvas(100, 50, ("a < b", "甲 < 乙"), "zh")
    canvas.box(0, 0, 60, 30, ("short", "这一行字太长了，放不下"))
    root = ElementTree.fromstring(canvas.svg())
    assert root.findtext(f"{SVG}title") == "甲 < 乙"
    text = next(root.iter(f"{SVG}text"))
    assert text_width(text.text or "", float(text.attrib["font-size"])) <= 50.5
