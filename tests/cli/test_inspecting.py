"""`kun inspect` says what it sees, as a table, as JSON and as a picture."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Kun

from kun.settings import DEFAULT_ENCODER, DEFAULT_MODEL

TEXT = "nobody doesn't know"
SIDE_BY_SIDE = ("-m", DEFAULT_MODEL, "-m", DEFAULT_ENCODER)


def seen(*line: object, kun: Kun) -> Any:
    ran = kun("inspect", *line, "--json")
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


def test_a_text_is_cut_by_each_tokenizer(kun: Kun) -> None:
    cuttings = seen("tokens", TEXT, *SIDE_BY_SIDE, kun=kun)["cuttings"]
    assert [one["tokenizer"] for one in cuttings] == [DEFAULT_MODEL, DEFAULT_ENCODER]
    for one in cuttings:
        assert (
            bytes(byte for piece in one["pieces"] for byte in piece["bytes"]).decode().split() == TEXT.split()
        )
    assert DEFAULT_ENCODER in kun("inspect", "tokens", TEXT, *SIDE_BY_SIDE).out


def test_attention_is_shown_for_all_words_or_one(kun: Kun) -> None:
    looks = seen("attention", TEXT, *SIDE_BY_SIDE, kun=kun)
    assert [(one["kind"], one["part"]) for one in looks] == [
        ("decoder", "self-attention"), ("encoder", "self-attention"),
    ]  # fmt: skip
    for one in looks:
        assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in one["weights"])
        assert one["looked_at"] == one["tokens"]
    word = looks[0]["tokens"][0]
    [steps] = seen("attention", TEXT, "-m", DEFAULT_MODEL, "--word", word, kun=kun)
    assert (steps["word"], steps["weights"][0], steps["scores"][1]) == (word, 1, None)
    told = kun("inspect", "attention", TEXT, "-m", DEFAULT_MODEL, "--word", word).out
    assert "2. softmax" in told
    later = steps["looked_at"][steps["place"] + 1 :]
    assert ("a decoder looks back only" in told) == bool(later)
    assert not later or f"does not see {' '.join(f'“{token}”' for token in later)}:" in told
    assert len(steps["moves"]) == len(steps["stack"]) == steps["place"]


def test_the_next_words_are_shown_at_every_place(kun: Kun) -> None:
    places = seen("logits", TEXT, "-m", DEFAULT_MODEL, "-k", 3, kun=kun)
    assert all(len(place["guesses"]) == 3 for place in places)
    assert places[-1]["followed"] is None
    assert "layer by layer" in kun("inspect", "logits", TEXT, "-m", DEFAULT_MODEL).out


def test_positions_are_measured(kun: Kun) -> None:
    kinds = seen("positions", "-n", 8, "--width", 8, kun=kun)
    assert {one["kind"] for one in kinds} >= {"index", "sinusoidal", "rotary", "relative", "alibi"}
    assert "1  I\n2  love\n3  AI" in kun("inspect", "positions", "-n", 8, "--width", 8).out


@pytest.mark.parametrize("line", [
    ("attention", TEXT, "-m", DEFAULT_MODEL), ("logits", TEXT, "-m", DEFAULT_MODEL),
    ("tokens", TEXT, "-m", DEFAULT_MODEL), ("positions", "-n", 8, "--width", 8),
])  # fmt: skip
def test_a_picture_goes_into_a_file_of_any_name(kun: Kun, tmp_path: Path, line: tuple[object, ...]) -> None:
    ran = kun("inspect", *line, "--picture", tmp_path / "看图 1.svg", "--json")
    assert ran.code == 0
    json.loads(ran.out)
    assert b"<svg" in (tmp_path / "看图 1.svg").read_bytes()


def test_what_no_font_has_is_said_in_one_line(kun: Kun, tmp_path: Path) -> None:
    for name, told in (("who.png", True), ("who.svg", False)):
        ran = kun("inspect", "attention", "a \U0002ebef b", "-m", DEFAULT_MODEL, "--picture", tmp_path / name)
        assert ("drawn as boxes" in ran.err) is told
        assert "Warning" not in ran.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("attention", ""), "The text is empty"),
        (("attention", TEXT, "--word", "whale"), "is 'whale'; there are"),
        (("attention", TEXT, "--layer", 99), "no layer 99"),
        (("attention", TEXT, "--answer", "yes"), "no answer to it"),
        (("logits", TEXT, "--picture", "next.pdf"), ".png or .svg"),
        (("logits", "z" * 70), "64 can be shown"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(kun: Kun, line: tuple[object, ...], words: str) -> None:
    ran = kun("inspect", *line, "-m", DEFAULT_MODEL)
    assert ran.code == 2
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_half_a_character_is_no_fault(kun: Kun) -> None:
    for command in ("tokens", "attention", "logits"):
        assert kun("inspect", command, "a \udcff b", "-m", DEFAULT_MODEL).code == 0
