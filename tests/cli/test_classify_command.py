"""`kun classify` on the command line."""

import json
from pathlib import Path

import pytest
from command_line import Kun

from kun.settings import DEFAULT_MODEL

LABELS = ("--labels", "cat,dog")


def test_a_text_has_the_score_of_each_label(kun: Kun) -> None:
    ran = kun("classify", "The quick brown fox.", *LABELS)
    assert ran.code == 0
    shares = [line.split() for line in ran.out.splitlines()]
    assert {label for _, label in shares} == {"cat", "dog"}
    assert sum(float(share) for share, _ in shares) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("model", [(), ("-m", DEFAULT_MODEL)])
def test_json_is_the_same_every_time(kun: Kun, model: tuple[str, ...]) -> None:
    ran = [kun("classify", "你好，世界！", *LABELS, "--json", *model).out for _ in range(2)]
    found = json.loads(ran[0])
    assert ran[0] == ran[1]
    assert found["text"] == "你好，世界！"
    assert list(found["scores"]) == ["cat", "dog"]
    assert found["label"] == max(found["scores"], key=found["scores"].get)


def test_a_file_of_texts_and_one_of_examples(kun: Kun, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a cat\n\na dog\n", encoding="utf-8")
    (tmp_path / "solved.jsonl").write_text('{"text": "miaow", "label": "cat"}\n', encoding="utf-8")
    line = ("classify", "--file", tmp_path / "texts.txt", *LABELS, "--examples", tmp_path / "solved.jsonl")
    assert [line.split()[2:] for line in kun(*line).out.splitlines()] == [["a", "cat"], ["a", "dog"]]
    assert [row["text"] for row in json.loads(kun(*line, "--json").out)] == ["a cat", "a dog"]
    assert json.loads(kun("classify", "-", *LABELS, "--json", stdin="a cat\n").out)["text"] == "a cat"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a text", "--labels", "cat,cat"), "'cat' is there twice"),
        (("a text", "--labels", "cat,"), "Label 2 of 2 is empty"),
        (("a text", "--labels", "cat"), "one label, 'cat'"),
        (("a text",), "There are no labels"),
        (("", *LABELS), "Text 1 is empty"),
        (LABELS, "There is no text"),
        (("--file", "nowhere.txt", *LABELS), "nowhere.txt does not exist"),
        (("fish.png", *LABELS), "fish.png is a picture, and only texts are classified yet"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    kun: Kun, arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fish.png").write_bytes(b"\x89PNG")
    ran = kun("classify", *arguments)
    assert ran.code == (1 if words.endswith("exist") else 2)
    assert words in ran.err
    assert not ran.out


def test_help_shows_examples(kun: Kun) -> None:
    assert 'kun classify "房间很干净，下次还来。" --labels "正面,负面"' in kun("classify", "--help").out
