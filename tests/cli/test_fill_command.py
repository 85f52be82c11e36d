"""`kun fill` on the command line."""

import json
import sys
from io import StringIO
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from tiny_masked import write

import kun
from kun.cli import main
from kun.cli.filling import _print
from kun.models.task_model import Filling


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("bert"), "BertForMaskedLM"))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_words_are_printed_with_their_probabilities(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Paris is the [MASK] of France."
    assert run("fill", model, text, "--k", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    wanted = kun.load(model).fill(text, k=3)
    assert lines == [text, *(f"{word.probability:8.4f}  {word.text.strip()}" for word in wanted)]


def test_a_space_is_seen_where_it_is_what_stands_there(capsys: pytest.CaptureFixture[str]) -> None:
    _print("a[MASK]b", [[Filling(32, " ", 0.5), Filling(99, "c", 0.25)]])
    assert capsys.readouterr().out.splitlines() == ["a[MASK]b", "  0.5000  ' '", "  0.2500  c"]


def test_each_of_several_masks_is_told_apart(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fill", model, "The [MASK] [MASK].", "-k", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("mask")] == ["mask 1", "mask 2"]
    assert len(lines) == 1 + 2 * 3


def test_json_has_a_list_for_each_mask_of_each_text(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fill", model, "A [MASK].", "A [MASK] [MASK].", "--k", "2", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["text"] for row in rows] == ["A [MASK].", "A [MASK] [MASK]."]
    assert [[len(words) for words in row["masks"]] for row in rows] == [[2], [2, 2]]
    assert rows[0]["masks"][0][0].keys() == {"token", "text", "probability"}


def test_a_text_is_read_from_standard_input(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("A [MASK].\n"))
    assert run("fill", model, "-") == 0
    assert capsys.readouterr().out.startswith("A [MASK].\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no gap"], 2, "write [MASK]"),
        (["[MASK]", "--k", "0"], 2, "k is 0"),
        (["[MASK] " * 200], 1, "takes 40 tokens"),
        ([], 2, "TEXT"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_a_code(
    model: str, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fill", model, *arguments) == code
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err
    assert not said.out


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fill", "--help") == 0
    assert "kun fill google-bert/bert-base-uncased" in capsys.readouterr().out
