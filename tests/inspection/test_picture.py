"""Pictures hold what they are of, as PNG and as SVG."""

from pathlib import Path

import pytest
from tiny_models import byte_level_tokenizer

from kun.errors import BadInput
from kun.inspection import picture
from kun.inspection.attention import looks
from kun.inspection.logits import next_words
from kun.inspection.opened import Opened
from kun.inspection.tokens import cut_tokens

TEXT = "nobody knows"


def test_each_picture_is_drawn_in_both_formats(decoder: Opened, encoder: Opened) -> None:
    seen = [look for opened in (decoder, encoder) for look in looks(opened, TEXT)]
    drawn = [
        lambda kind: picture.attention(seen, None, 1, kind),
        lambda kind: picture.steps(seen, [look.steps(1) for look in seen], kind),
        lambda kind: picture.next_words(next_words(decoder, TEXT), kind),
        lambda kind: picture.cuttings([cut_tokens(TEXT, byte_level_tokenizer(), "tiny")] * 2, kind),
    ]
    for draw in drawn:
        assert draw("png").startswith(b"\x89PNG")
        assert b"<svg" in draw("svg")[:600]


def test_text_in_an_svg_stays_text() -> None:
    svg = picture.cuttings([cut_tokens("nobody 世", byte_level_tokenizer(), "tiny")], "svg").decode()
    assert "tiny: " in svg


def test_a_text_of_markup_stays_text() -> None:
    svg = picture.cuttings([cut_tokens("<script>", byte_level_tokenizer(), "</svg><script>")], "svg").decode()
    assert "<script" not in svg


def test_a_part_of_a_character_is_shown_as_bytes() -> None:
    assert picture.shown("é".encode()[:1]) == "c3"
    assert picture.shown(b" a\n") == "␣a⏎"


def test_other_formats_are_refused() -> None:
    assert picture.format_of(Path("a.SVG")) == "svg"
    with pytest.raises(BadInput, match=r"\.png or \.svg"):
        picture.format_of(Path("a.pdf"))
