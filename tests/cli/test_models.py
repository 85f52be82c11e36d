"""`kun pull`, `kun models`, `kun remove`, `kun doctor`."""

import json
from pathlib import Path

from command_line import ENGLISH_ONLY, Kun

from kun.server.service import Service
from kun.settings import DEFAULT_ENCODER, DEFAULT_MODEL


def test_what_is_here_is_not_pulled_again(kun: Kun, home: Path) -> None:
    ran = kun("pull", DEFAULT_MODEL, "--json")
    assert ran.code == 0
    assert json.loads(ran.out) == {
        "pulled": {DEFAULT_MODEL: str(home / "models" / DEFAULT_MODEL)},
        "failed": {},
    }


def test_an_unknown_name_is_said_with_the_nearest(kun: Kun) -> None:
    ran = kun("pull", "qwen2.5-coder-1.5b")
    assert (ran.code, ran.out) == (1, "")
    assert "did you mean qwen2.5-coder-1.5b-instruct, " in ran.err
    assert ran.err.count("\n") == 1


def test_the_others_are_pulled_where_one_fails(kun: Kun) -> None:
    ran = kun("pull", "absent", DEFAULT_MODEL, "--json")
    told = json.loads(ran.out)
    assert (ran.code, list(told["pulled"]), list(told["failed"])) == (1, [DEFAULT_MODEL], ["absent"])
    ran = kun("pull", "absent", DEFAULT_MODEL)
    assert (ran.code, DEFAULT_MODEL in ran.out) == (1, True)
    assert ran.err.startswith("failed: absent: ")


def test_models_are_listed_those_that_are_damaged_too(kun: Kun, home: Path) -> None:
    rows = {row["name"]: row for row in json.loads(kun("models", "--json").out)}
    assert rows[DEFAULT_MODEL]["here"]
    assert rows[DEFAULT_ENCODER]["kind"] == "encoder"
    assert rows[DEFAULT_MODEL]["bytes"] > 0
    absent = rows["qwen2.5-coder-1.5b-instruct"]
    assert (absent["here"], absent["whole"], absent["source"]) == (False, None, None)
    damaged = home / "models" / "damaged"
    damaged.mkdir()
    for file in (home / "models" / DEFAULT_MODEL).iterdir():
        content = file.read_bytes()
        (damaged / file.name).write_bytes(content[:-10] if file.suffix == ".safetensors" else content)
    rows = {row["name"]: row for row in json.loads(kun("models", "--json").out)}
    assert (rows["damaged"]["here"], rows["damaged"]["whole"]) == (True, False)
    assert "damaged" in kun("models").out
    assert kun("generate", "damaged", "-p", "x").code == 1


def test_models_are_removed_and_what_is_not_here_is_said(kun: Kun, home: Path) -> None:
    ran = kun("remove", "absent", "other-encoder", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["removed"], list(told["failed"])) == (1, ["other-encoder"], ["absent"])
    assert not (home / "models" / "other-encoder").exists()
    assert kun("remove", "../models").code == 2


def test_the_doctor_names_the_home_and_what_is_in_it(kun: Kun, home: Path) -> None:
    findings = json.loads(kun("doctor", "--json").out)
    assert str(home) in findings["KUN_HOME"]
    assert DEFAULT_MODEL in findings["models"]
    assert "KUN_OFFLINE" in findings["Hugging Face hub"]
    assert str(home) in kun("doctor").out.replace("\n", "")


def test_the_default_model_is_marked_and_changed_by_name(kun: Kun, home: Path) -> None:
    def marked() -> list[str]:
        return [row["name"] for row in json.loads(kun("models", "--json").out) if row["chosen"]]

    assert marked() == [DEFAULT_MODEL]
    ran = kun("models", "--default", ENGLISH_ONLY)
    assert (ran.code, ENGLISH_ONLY in ran.out) == (0, True)
    assert marked() == [ENGLISH_ONLY]
    assert f"* {ENGLISH_ONLY}" in kun("models").out
    assert ENGLISH_ONLY in json.loads(kun("doctor", "--json").out)["default model"]
    ran = kun("models", "--default", "absent")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert kun("models", "--default", DEFAULT_ENCODER).code == 2


def test_commands_follow_the_default_model(kun: Kun, home: Path, docs: Path) -> None:
    kun("models", "--default", ENGLISH_ONLY)
    kun("kb", "add", "notes", docs)
    assert kun("kb", "ask", "notes", "Who is Kun?").code == 0
    assert kun("quickstart", "--no-serve", "--documents", docs).out.startswith(f"Model: {ENGLISH_ONLY} (")
    assert Service().default_model == ENGLISH_ONLY
