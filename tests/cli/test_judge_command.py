"""`kun judge` and `kun self-instruct` on the command line, with tiny models of random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import ENGLISH_ONLY, Kun
from tiny_models import save_writer

from kun.settings import DEFAULT_MODEL

ROOT = Path(__file__).parents[2]
QUESTIONS = ROOT / "examples" / "judging" / "en.jsonl"
SHORT = ("--limit", "2", "--max-tokens", "6", "--quantize", "none")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Short ones, for models with a short context; the second has two turns."""
    path = tmp_path / "questions.jsonl"
    rows = [
        {"question_id": 1, "category": "generic", "turns": ["Hi?"]},
        {"question_id": "two", "category": "math", "turns": ["1 + 1?", "And 2?"], "reference": ["2", "3"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two writers whose context holds a judge's prompt."""
    for number in (1, 2):
        save_writer(tmp_path / f"run-{number}" / "checkpoint", positions=8192, seed=number)
    return tmp_path / "run-1" / "checkpoint", tmp_path / "run-2" / "checkpoint"


def test_two_models_are_judged_and_a_second_run_asks_nobody(
    kun: Kun, runs: tuple[Path, Path], questions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "judged"
    line: list[Any] = ["judge", *runs, "-q", questions, "--judge", runs[0], "--out", out, *SHORT]
    ran = kun(*line, "--report", tmp_path / "page.html", "--picture", tmp_path / "radar.svg")
    assert ran.code == 0, ran.err
    assert "run-1" in ran.out
    assert "run-2" in ran.out
    assert "verdicts flip" in ran.out
    assert "run-2" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<svg" in (tmp_path / "radar.svg").read_text(encoding="utf-8")
    files = [*(out / "answers").glob("*.jsonl"), out / "verdicts.jsonl"]
    before = {path: path.read_bytes() for path in files}
    ran = kun(*line, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert {path: path.read_bytes() for path in files} == before
    assert {one["model"] for one in found["standings"]} == {"run-1", "run-2"}
    assert found["questions"] == 2
    assert found["consistency"]["compared"] == 2  # a model that is held to the form always gives a verdict
    assert found["unscored"] == 0
    assert found["folder"] == str(out)
    ran = kun(*line[:-1], "int8", "--json")  # other weights give other answers
    assert ran.code == 0, ran.err
    assert all(path.stat().st_size > len(before[path]) for path in (out / "answers").glob("*.jsonl"))


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (("--by", "taste"), "--by"),
        (("--category", "poetry"), "no category"),
        (("--report", "page.txt"), ".html"),
        (("--picture", "radar.pdf"), ".svg"),
        (("--judge", "absent-model"), "absent-model"),
    ],
)
def test_what_cannot_be_judged_is_told_in_a_sentence(
    kun: Kun, tmp_path: Path, more: tuple[str, ...], fault: str
) -> None:
    line = ("judge", ENGLISH_ONLY, DEFAULT_MODEL, "-q", QUESTIONS, "--out", tmp_path / "judged", *SHORT)
    ran = kun(*line, *more)
    assert ran.code in (1, 2)
    assert fault in ran.err
    assert "Traceback" not in ran.err


def test_models_of_one_name_are_to_be_told_apart(kun: Kun, tmp_path: Path) -> None:
    ran = kun("judge", ENGLISH_ONLY, ENGLISH_ONLY, "-q", QUESTIONS, "--out", tmp_path / "judged", *SHORT)
    assert ran.code == 2
    assert f"first={ENGLISH_ONLY}" in ran.err
    ran = kun("judge", ENGLISH_ONLY, "-q", QUESTIONS, "--by", "pairs", "--out", tmp_path / "judged", *SHORT)
    assert ran.code == 2
    assert "name a second one" in ran.err


def test_a_model_of_random_weights_makes_no_task_and_is_given_up(
    kun: Kun, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    seeds = ROOT / "examples" / "self-instruct" / "en.jsonl"
    out = tmp_path / "made.jsonl"
    line = ("self-instruct", seeds, "-o", out, "-m", runs[0], "--style", "alpaca", "--max-tokens", "16")
    ran = kun(*line, "--requests", "1", "--quantize", "none", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["ended"] == "nothing new in 5 rounds"
    assert found["kept"] == 0
    assert found["requests"] == 5
    assert found["prompt_tokens"] > 0
    ran = kun(*line, "--requests", "1", "--quantize", "none")
    assert "10 requests" in ran.out  # the cost of both runs
