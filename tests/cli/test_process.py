"""`kun` as a process: exit codes, errors of one sentence, Ctrl-C, and the system that stays."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import ENTRY, Kun, Process

from kun import api
from kun.cli.app import app
from kun.settings import DEFAULT_MODEL, settings

Start = Callable[..., Process]


def test_the_help_lists_every_command_with_examples_and_imports_no_torch(start: Start) -> None:
    code = "import sys; from kun.cli.app import run; run(['--help']); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *shown, last = ran.stdout.splitlines()
    assert last == "False"
    for command in ("quickstart", "pull", "models", "remove", "chat", "generate", "kb", "serve", "doctor"):
        assert any(line.split()[:1] == [command] for line in shown)


@pytest.mark.parametrize(
    "command",
    ["quickstart", "pull", "models", "remove", "chat", "generate", "serve", "doctor", "kb", "kb create", "kb add",
     "kb search", "kb ask", "kb list", "kb remove", "kb reindex"],
)  # fmt: skip
def test_every_command_says_how_it_is_called(kun: Kun, command: str) -> None:
    ran = kun(*command.split(), "--help")
    assert ran.code == 0
    assert f"  kun {command} " in ran.out or f"  kun {command}\n" in ran.out
    assert "…" not in ran.out.split("Options:")[0]


def test_an_error_is_one_sentence_and_a_traceback_only_where_it_is_asked_for(start: Start) -> None:
    ran = start("kb", "list", "absent").wait()
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "kun: There is no knowledge base absent: `kun kb list` shows those that are here.\n"
    for line in (("--debug", "kb", "list", "absent"), ("kb", "list", "absent", "--debug")):
        ran = start(*line).wait()
        assert ran.code == 1
        assert "Traceback" in ran.err
        assert "KnowledgeBaseNotFound" in ran.err


@pytest.mark.parametrize(
    "line", ["nonsense", "generate", "kb search notes", "kb search notes x -k 0", "models --no"]
)
def test_a_wrong_call_is_2_and_says_how_to_call(kun: Kun, line: str) -> None:
    ran = kun(*line.split())
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: kun" in ran.err


def test_a_setting_that_cannot_be_used_is_named(kun: Kun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUN_MAX_QUEUE", "many")
    settings.cache_clear()
    ran = kun("models")
    assert ran.code == 2
    assert "KUN_MAX_QUEUE" in ran.err


def test_a_home_that_cannot_be_written_is_named(
    kun: Kun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("KUN_HOME", str(tmp_path / "a file"))
    settings.cache_clear()
    for line in (("kb", "create", "notes"), ("pull", DEFAULT_MODEL)):
        ran = kun(*line)
        assert (ran.code, ran.out) == (1, "")
        assert "a file" in ran.err
        assert "set KUN_HOME" in ran.err


def test_an_empty_setting_is_none_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUN_HOME", "")
    settings.cache_clear()
    assert settings().home != Path()
    assert settings().home.is_absolute()


def test_a_reader_that_leaves_ends_the_command_quietly(home: Path) -> None:
    line = f'"{sys.executable}" -c "{ENTRY}" models | head -n 1'
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert ran.stderr == ""


@pytest.mark.parametrize("seconds", [0.3, 1.5, 4.0])
def test_ctrl_c_ends_a_command_wherever_it_is(start: Start, seconds: float) -> None:
    process = start("generate", DEFAULT_MODEL, "-p", "x", "--max-tokens", 4000, "--quantize", "none")
    time.sleep(seconds)
    process.interrupt()
    ran = process.wait(20)
    if ran.code:  # it may have been done by then
        assert ran.code == 130
        assert "Traceback" not in ran.err


def test_ctrl_c_while_adding_keeps_what_is_there(start: Start, kun: Kun, docs: Path) -> None:
    assert kun("kb", "add", "notes", docs).code == 0
    for number in range(300):
        (docs / f"{number}.md").write_text(
            f"# Part {number}\n\n" + "Words about the sea. " * 300, encoding="utf-8"
        )
    process = start("kb", "add", "notes", docs)
    time.sleep(4)
    process.interrupt()
    ran = process.wait(20)
    assert (ran.code, ran.err.splitlines()[-1]) == (130, "kun: Interrupted.")
    assert (
        json.loads(kun("kb", "search", "notes", "northern sea", "-k", 1, "--json").out)[0]["source"]
        == "fish.md"
    )


def test_quickstart_answers_and_leaves(kun: Kun, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {path.name for path in api.handbook().iterdir()} >= {"en", "zh"}
    monkeypatch.setattr(api, "handbook", lambda: docs)  # two documents are as good
    ran = kun("quickstart", "--no-serve", "--json")
    told = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert told.keys() == {"answers", "seconds"}
    assert len(told["answers"]) == 2
    for answer in told["answers"]:
        assert answer.keys() == {"question", "text", "passages"}
        assert all(passage.keys() == {"source", "text", "score"} for passage in answer["passages"])
    assert json.loads(kun("kb", "list", "--json").out)[0]["name"] == "handbook"


def test_quickstart_reads_ones_own_documents(kun: Kun, docs: Path) -> None:
    told = json.loads(kun("quickstart", "--no-serve", "--json", "--documents", docs, "-q", "Who is Kun?").out)
    assert [answer["question"] for answer in told["answers"]] == ["Who is Kun?"]
    assert {passage["source"] for passage in told["answers"][0]["passages"]} <= {"fish.md", "zh/大 鹏.md"}
    assert kun("quickstart", "--no-serve", "--documents", docs / "nowhere").code == 1


def test_quickstart_stays_until_ctrl_c(start: Start, docs: Path) -> None:
    process = start("quickstart", "--documents", docs, "-q", "Who is Kun?", "--port", 0)
    lines = []
    while not (lines and lines[-1].startswith("Ready: ")):
        lines.append(process.line())
        assert lines[-1], process.wait().err
    url = lines[-1].removeprefix("Ready: ").strip()
    with urllib.request.urlopen(f"{url}/healthz") as answer:
        assert json.load(answer)["status"] == "ok"
    process.interrupt()
    ran = process.wait(20)
    assert (ran.code, ran.out) == (130, "")
    assert "Traceback" not in ran.err


def test_the_port_is_looked_at_before_anything_is_done(kun: Kun) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in ("serve", "quickstart"):
            ran = kun(command, "--port", port)
            assert (ran.code, ran.out) == (1, "")
            assert ran.err == (
                f"kun: Port {port} of 127.0.0.1 cannot be used (Address already in use): choose another with --port.\n"
            )
    ran = kun("serve", "--host", "0.0.0.0")
    assert (ran.code, "KUN_API_KEYS" in ran.err) == (1, True)


@pytest.mark.parametrize(("option", "name"), [("--model", "other-encoder"), ("--encoder", DEFAULT_MODEL)])
def test_what_is_served_must_be_of_its_kind(kun: Kun, option: str, name: str) -> None:
    ran = kun("serve", "--port", 0, option, name)
    assert (ran.code, ran.out) == (2, "")
    assert name in ran.err


def test_no_command_is_left_out_of_the_tests() -> None:
    commands = {command.name for command in app.registered_commands}
    assert commands == {
        "quickstart",
        "pull",
        "models",
        "remove",
        "chat",
        "generate",
        "fill",
        "classify",
        "tour",
        "eval",
        "train",
        "score",
        "judge",
        "self-instruct",
        "export",
        "speedrun",
        "serve",
        "doctor",
    }
