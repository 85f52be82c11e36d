"""`kun eval` on the command line."""

import errno
import json
import re
from pathlib import Path
from statistics import mean, stdev

import pytest
from command_line import ENGLISH_ONLY, Kun
from tiny_models import save_writer

TASKS = Path(__file__).parents[2] / "examples" / "tasks"
MEASURED = [
    path
    for path in sorted(TASKS.glob("*.toml"))
    if "\nreward =" not in path.read_text("utf-8")  # a model that a recipe trains: see tests/alignment
]


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_each_example_is_measured(path: Path, kun: Kun) -> None:
    ran = kun("eval", ENGLISH_ONLY, "--task", path, "--limit", "2", "--json")
    assert ran.code == 0, ran.err
    (result,) = json.loads(ran.out)
    assert (result["task"], result["n"]) == (path.stem, 2)
    assert all(
        set(measure) == {"value", "error", "goal", "low", "high"} for measure in result["measures"].values()
    )
    assert result["samples"]


def test_two_models_stand_side_by_side(kun: Kun, home: Path, tmp_path: Path) -> None:
    other = home / "models" / "other"
    save_writer(other, positions=256, seed=1)  # it takes less text at once, too
    page = tmp_path / "prose.html"
    line = ("eval", ENGLISH_ONLY, "-t", TASKS / "prose.toml", "--against", other)
    ran = kun(*line, "--report", page)
    assert ran.code == 0, ran.err
    one, another = json.loads(kun(*line, "--json", "--samples", "100").out)
    scores = [{sample["where"]: sample["score"] for sample in found["samples"]} for found in (one, another)]
    apart = [scores[0][where] - scores[1][where] for where in scores[0]]
    assert abs(mean(apart)) > 0.001
    paired = f"{mean(apart):+.4f} ± {stdev(apart) / len(apart) ** 0.5:.4f}"
    assert re.search(rf"difference of rows +{re.escape(paired)}", ran.out)
    shown = page.read_text(encoding="utf-8")
    assert shown.count(f"{one['samples'][0]['where']}<") == 2
    for found in (one, another):
        told = f"{found['model']}: context {found['notes']['context']}, stride {found['notes']['stride']}"
        assert told in ran.out
        assert told in shown


def test_a_model_that_is_not_there_is_named_before_another_one_is_opened(kun: Kun, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    save_writer(damaged, positions=256, seed=1)
    (damaged / "model.safetensors").write_bytes(b"no weights")
    line = ("eval", damaged, "-t", TASKS / "prose.toml")
    assert "model.safetensors" in kun(*line).err
    missing = tmp_path / "missing"
    ran = kun(*line, "--against", missing)
    assert ran.code != 0
    assert f"There is no model '{missing}'" in ran.err


def test_several_models_are_measured_against_the_first_and_drawn(
    kun: Kun, home: Path, tmp_path: Path
) -> None:
    """Perplexity over a folder of texts, its change with an interval, and a picture."""
    for number in (1, 2):
        save_writer(tmp_path / str(number) / "checkpoint", positions=256, seed=number)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number, text in enumerate(("A fish of the north.", "It became a bird.", "The sea is wide.")):
        (texts / f"{number}.md").write_text(text, encoding="utf-8")
    (tmp_path / "sea.toml").write_text('kind = "perplexity"\ndata = "texts"\n', encoding="utf-8")
    picture = tmp_path / "sea.svg"
    line = ["eval", str(tmp_path / "1" / "checkpoint"), "-t", str(tmp_path / "sea.toml")]
    line += ["--against", str(tmp_path / "2" / "checkpoint"), "--against", ENGLISH_ONLY]
    ran = kun(*line, "--picture", picture)
    assert ran.code == 0, ran.err
    assert "perplexity changes by" in ran.out
    assert "sea" in picture.read_text(encoding="utf-8")
    found = json.loads(kun(*line, "--json").out)
    assert [one["model"] for one in found[:2]] == ["1", "2"]
    assert [one["n"] for one in found] == [3, 3, 3]
    assert "change" not in found[0]
    before, after = (one["measures"]["perplexity"]["value"] for one in found[:2])
    change = found[1]["change"]
    assert abs(change["value"] - (after / before - 1)) < 1e-6
    assert change["low"] <= change["value"] <= change["high"]


def test_a_set_is_measured_in_both_languages_with_changes_of_its_shares(
    kun: Kun, home: Path, tmp_path: Path
) -> None:
    other = home / "models" / "tuned"
    save_writer(other, positions=256, seed=2)
    picture = tmp_path / "safety.svg"
    line = ("eval", ENGLISH_ONLY, "-t", "safety", "--against", other, "--limit", 2)
    ran = kun(*line, "--picture", picture)
    assert ran.code == 0, ran.err
    assert "safety-en: rules, 2 rows" in ran.out
    assert "safety-zh: rules, 2 rows" in ran.out
    assert ran.out.count("changes by") == 2
    assert "refusal" in picture.read_text(encoding="utf-8")
    found = json.loads(kun(*line, "--json").out)
    assert [one["task"] for one in found] == ["safety-en"] * 2 + ["safety-zh"] * 2
    before, after = found[0]["measures"]["refusal"], found[1]["measures"]["refusal"]
    assert found[1]["changes"]["refusal"]["value"] == after["value"] - before["value"]
    assert before["low"] <= before["value"] <= before["high"]


def test_a_report_that_cannot_be_written_leaves_the_one_before_it(
    kun: Kun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "facts.html"
    page.write_text("before", encoding="utf-8")

    def full(path: Path, *given: object, **named: object) -> int:
        path.write_bytes(b"<!doctype")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    ran = kun("eval", ENGLISH_ONLY, "-t", TASKS / "facts.toml", "--report", page)
    assert ran.code == 1
    assert "is full" in ran.err
    assert page.read_bytes() == b"before"
    assert list(tmp_path.glob("*.html")) == [page]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, (), "rows.jsonl does not exist"),
        ("{\n", (), "rows.jsonl:1 is no JSON"),
        ('{"q": "?", "a": 0}\n', ("--shots", "1"), "1 shots need rows to show"),
    ],
)
def test_a_task_is_checked_with_its_data_before_a_model_is_loaded(
    content: str | None, options: tuple[str, ...], words: str, kun: Kun, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if content is not None:
        (tmp_path / "rows.jsonl").write_text(content, encoding="utf-8")
    task = tmp_path / "task.toml"
    task.write_text(
        'kind = "multiple-choice"\ndata = "rows.jsonl"\nprompt = "{{ q }}"\nchoices = ["x", "y"]\nanswer = "a"\n',
        encoding="utf-8",
    )
    monkeypatch.setattr("kun.api.load", lambda *given, **how: pytest.fail("a model was loaded"))
    ran = kun("eval", ENGLISH_ONLY, "-t", task, *options)
    assert ran.code in (1, 2)
    assert words in ran.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--task", "absent.toml"), "absent.toml does not exist"),
        (("--task", TASKS / "facts.toml", "--report", "page.pdf"), "must end in .html"),
        (("--task", TASKS / "facts.toml", "--picture", "bars.pdf"), "must end in .png or .svg"),
        (("--task", TASKS / "prose.toml", "--shots", "2"), "Perplexity shows no examples"),
        (("--task", "safety", "--shots", "2"), "A task of rules shows no examples"),
        (("--task", TASKS / "prose.toml", "--precision", "bf16", "--quantize", "int8"), "few bits"),
        ((), "--task"),
    ],
)
def test_a_wrong_call_is_one_sentence(options: tuple[object, ...], words: str, kun: Kun) -> None:
    ran = kun("eval", ENGLISH_ONLY, *options)
    assert ran.code in (1, 2)
    assert words in ran.err
    assert "Traceback" not in ran.err
