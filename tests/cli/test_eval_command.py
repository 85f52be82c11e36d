"""`kun eval` on the command line."""

import json
from pathlib import Path

import pytest
from command_line import ENGLISH_ONLY, Kun

TASKS = Path(__file__).parents[2] / "examples" / "tasks"


@pytest.mark.parametrize("path", sorted(TASKS.glob("*.toml")), ids=lambda path: path.stem)
def test_each_example_is_measured(path: Path, kun: Kun) -> None:
    ran = kun("eval", ENGLISH_ONLY, "--task", path, "--limit", "2", "--json")
    assert ran.code == 0, ran.err
    (result,) = json.loads(ran.out)
    assert (result["task"], result["n"]) == (path.stem, 2)
    assert all(set(measure) == {"value", "error", "goal"} for measure in result["measures"].values())
    assert result["samples"]


def test_two_models_stand_side_by_side(kun: Kun, tmp_path: Path) -> None:
    page = tmp_path / "facts.html"
    line = ("eval", ENGLISH_ONLY, "-t", TASKS / "facts.toml", "--against", "qwen2.5-coder-0.5b-instruct")
    ran = kun(*line, "--shots", "1", "--report", page)
    assert ran.code == 0, ran.err
    assert "difference of rows" in ran.out
    assert "+0.0000 ± 0.0000" in ran.out  # the two tiny models are the same
    assert page.read_text(encoding="utf-8").count("facts.jsonl:1<") == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--task", "absent.toml"), "absent.toml does not exist"),
        (("--task", TASKS / "facts.toml", "--report", "page.pdf"), "must end in .html"),
        (("--task", TASKS / "prose.toml", "--shots", "2"), "Perplexity shows no examples"),
        (("--task", TASKS / "prose.toml", "--precision", "bf16", "--quantize", "int8"), "few bits"),
        ((), "--task"),
    ],
)
def test_a_wrong_call_is_one_sentence(options: tuple[object, ...], words: str, kun: Kun) -> None:
    ran = kun("eval", ENGLISH_ONLY, *options)
    assert ran.code in (1, 2)
    assert words in ran.err
    assert "Traceback" not in ran.err
