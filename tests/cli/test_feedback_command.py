"""`kun feedback`: import twice, export, numbers; and exit codes of what went wrong."""

import json
from pathlib import Path

import pytest
from command_line import Kun

from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import Vote


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = ({"prompt": f"q{n}", "chosen": "a longer answer", "rejected": f"no {n}"} for n in range(3))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_importing_a_file_twice_adds_nothing_the_second_time(kun: Kun, file: Path) -> None:
    first, second = (json.loads(kun("feedback", "import", file, "--json").out) for _ in range(2))
    assert (first["rankings"], first["known"]) == (3, 0)
    assert (second["rankings"], second["known"]) == (0, 3)
    assert "3 there already" in kun("feedback", "import", file).out


def test_what_was_imported_is_exported_and_counted(kun: Kun, file: Path, tmp_path: Path) -> None:
    kun("feedback", "import", file)
    out = tmp_path / "out.jsonl"
    assert kun("feedback", "export", out).code == 0
    first = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    assert first["prompt"] == [{"role": "user", "content": "q0"}]
    assert kun("feedback", "export", out, "--format", "alpaca", "--json").code == 0
    assert json.loads(out.read_text(encoding="utf-8").splitlines()[0])["instruction"] == "q0"
    numbers = json.loads(kun("feedback", "stats", "--json").out)
    assert (numbers["votes"], numbers["raters"]) == (3, {"imported": 3})
    assert numbers["longer_wins"]["share"] == 1.0
    assert "Krippendorff" in kun("feedback", "stats").out


def test_the_agreement_of_two_people_is_shown(kun: Kun, home: Path) -> None:
    store = FeedbackStore.open()
    for number in range(3):
        answers = [({"role": "assistant", "content": text},) for text in ("a", "b")]
        id = store.add_item([{"role": "user", "content": str(number)}], answers, wanted=2)
        for rater in ("ada", "bob"):
            store.save(Vote(id, rater, ranks=(number % 2, 1 - number % 2)))
    store.close()
    assert json.loads(kun("feedback", "stats", "--json").out)["agreement"]["alpha"] == 1.0


def test_a_file_with_faults_does_the_rest_names_them_and_exits_with_1(kun: Kun, file: Path) -> None:
    file.write_text(file.read_text() + '{"prompt": "q", "chosen": "x", "rejected": "x"}\n', encoding="utf-8")
    ran = kun("feedback", "import", file)
    assert ran.code == 1
    assert "Added 3" in ran.out
    assert "pairs.jsonl:4" in ran.err


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        (("import", "nowhere.jsonl"), 1, "does not exist"),
        (("export", "out.jsonl"), 2, "no preferences"),
        (("export", "out.jsonl", "--format", "xml"), 2, "conversational"),
        (("export", "out.jsonl", "--kind", "words"), 2, "demonstrations"),
        (("export", "out.jsonl", "--kind", "thumbs", "--format", "hh"), 2, "one format"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    kun: Kun, line: tuple[str, ...], code: int, told: str
) -> None:
    ran = kun("feedback", *line)
    assert ran.code == code
    assert told in ran.err


def test_prompts_are_taken_from_a_text(kun: Kun, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("What is a whale?\n鲲是什么？\n", encoding="utf-8")
    assert "2 prompts" in kun("feedback", "import", tmp_path / "prompts.txt", "--prompts").out
    assert json.loads(kun("feedback", "stats", "--json").out)["waiting"] == 2
