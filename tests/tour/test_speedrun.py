"""A whole speedrun of few seconds: interrupted, gone on with, and what it leaves."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

import kun
from kun.cli.app import run as command
from kun.errors import BadInput, Busy, NoSpace
from kun.tour.speedrun import sizes
from kun.tour.speedrun.page import write_page
from kun.tour.speedrun.questions import is_right
from kun.tour.speedrun.run import _DO, LEAST_MINUTES
from kun.training.loop import Loop
from kun.training.recipe import read_recipe
from kun.training.report.words import catalogue

VALUES = {
    "stage": "pretrain",
    "model": {"family": "llama", "tied": True, "tokenizer": "bytes"},
    "data": {"train": "unread"},
    "train": {"minutes": 1.0, "context": 128},
}
EVIL = "</p><script>ran()</script><img src=x onerror=ran()>"


@pytest.fixture(scope="module")
def speedrun(tmp_path_factory):
    """One that was interrupted in pretraining and gone on with; its folder, and when its data was written."""
    out = tmp_path_factory.mktemp("speedruns") / "run"
    step = Loop._step

    def interrupted(self):
        step(self)
        if self.state.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUN_NATIVE", "0")
        patch.setattr(Loop, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kun.speedrun(LEAST_MINUTES, out=out)
        stopped = json.loads((out / "speedrun.json").read_text(encoding="utf-8"))
        patch.setattr(Loop, "_step", step)
        written = (out / "data" / "docs.jsonl").stat().st_mtime_ns
        done = kun.speedrun(LEAST_MINUTES, out=out, resume=True)
    return done, stopped, written


@pytest.mark.slow
def test_an_interrupted_speedrun_goes_on_where_it_was(speedrun):
    done, stopped, written = speedrun
    assert stopped["state"] == "interrupted"
    assert stopped["done"] == ["data", "tokenizer"]
    assert done.facts["state"] == "done"
    assert done.facts["done"] == ["data", "tokenizer", "pretrain", "finetune", "evaluate"]
    assert (done.path / "data" / "docs.jsonl").stat().st_mtime_ns == written
    steps = [line["step"] for line in kun.Run(done.path / "pretrain", done.path).metrics]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 3


@pytest.mark.slow
def test_a_speedrun_leaves_a_model_that_foresees_text_better_than_nothing_and_can_be_asked(speedrun):
    done, _, _ = speedrun
    bits = done.facts["measures"]["bits_per_byte"]
    assert bits["pretrained"] < bits["untrained"]
    model = kun.load(done.checkpoint)
    assert isinstance(
        model.generate([{"role": "user", "content": "What does zlib.crc32 do?"}], max_tokens=4), str
    )
    assert model.generation_config["eos_token_id"] == [
        model.tokenizer.token_to_id("<|endoftext|>"),
        model.tokenizer.token_to_id("<|im_end|>"),
    ]


@pytest.mark.slow
def test_every_stage_of_a_speedrun_is_a_recipe_and_every_measure_a_task(speedrun):
    done, _, _ = speedrun
    names = {path.stem for path in (done.path / "recipes").glob("*.toml")}
    assert names == {"tokenizer", "pretrain", "finetune"}
    assert all(read_recipe(done.path / "recipes" / f"{name}.toml").stage == name for name in names)
    result = kun.evaluate(kun.load(done.path / "pretrain" / "checkpoint"), done.path / "tasks" / "bits.toml")
    assert result.measures["bits_per_byte"].value == pytest.approx(
        done.facts["measures"]["bits_per_byte"]["pretrained"], rel=0.02
    )


@pytest.mark.slow
def test_the_command_shows_what_is_done_and_how_to_talk_to_it(speedrun, capfd):
    done, _, _ = speedrun
    before = (done.path / "finetune" / "metrics.jsonl").stat().st_mtime_ns
    assert command(["speedrun", "--out", str(done.path), "--resume", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["checkpoint"] == str(done.checkpoint)
    assert {sample["kind"] for sample in told["samples"]} == {"purpose", "arguments", "module"}
    assert command(["speedrun", "--out", str(done.path), "--resume"]) == 0
    assert f"kun chat {done.checkpoint}" in capfd.readouterr().out
    assert (done.path / "finetune" / "metrics.jsonl").stat().st_mtime_ns == before
    page = done.report.read_text(encoding="utf-8")
    assert 'href="pretrain/report.html"' in page
    assert page.count('class="plot"') >= 6
    assert (done.path / "pretrain" / "report.html").is_file()


@pytest.mark.slow
def test_a_speedrun_is_not_written_over(speedrun):
    done, _, _ = speedrun
    with pytest.raises(BadInput, match="--resume"):
        kun.speedrun(LEAST_MINUTES, out=done.path)
    from filelock import FileLock

    with FileLock(done.path / ".lock"), pytest.raises(Busy):
        kun.speedrun(LEAST_MINUTES, out=done.path, resume=True)


def test_a_speedrun_that_failed_says_why_on_its_page(tmp_path, monkeypatch):
    def full(*_, **__):
        raise NoSpace("The disk is full.")

    monkeypatch.setattr("kun.tour.speedrun.run.write_corpus", full)
    with pytest.raises(NoSpace):
        kun.speedrun(1, out=tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "speedrun.json").read_text(encoding="utf-8"))
    assert (facts["state"], facts["why"], facts["done"]) == ("failed", "The disk is full.", [])
    assert "The disk is full." in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_the_time_of_a_stage_that_was_killed_is_spent(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    def working(work, report):
        for _ in range(3):
            time.sleep(0.02)
            report("working", 0, None, "")
        monkeypatch.setattr(
            "kun.tour.speedrun.run._State.write", killed
        )  # what a killed process writes: nothing more
        raise KeyboardInterrupt

    monkeypatch.setattr("kun.tour.speedrun.run._BETWEEN_WRITES", 0.0)
    with monkeypatch.context() as patch:
        patch.setitem(_DO, "data", working)
        with pytest.raises(KeyboardInterrupt):
            kun.speedrun(1, out=tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "speedrun.json").read_text(encoding="utf-8"))
    assert 0.05 < facts["seconds"]["data"] < 30
    assert facts["done"] == []


@pytest.mark.parametrize("said", ["Compute a checksum", " compute a  checksum. "])
def test_what_the_table_counts_as_right_the_page_marks_as_right(tmp_path, said):
    assert is_right(said, "Compute a checksum.")
    one = {"kind": "purpose", "question": "What?", "wanted": "Compute a checksum.", "said": said}
    (tmp_path / "answers.json").write_text(json.dumps({"seen": [one]}), encoding="utf-8")
    page = write_page(tmp_path, {"seconds": {"data": 1.0}, "state": "interrupted"}).read_text(
        encoding="utf-8"
    )
    assert '<span class="right">' in page
    assert '<span class="wrong">' not in page


@pytest.mark.parametrize(
    ("minutes", "options", "names"),
    [
        (0.01, {"out": "x"}, "0.01"),
        (1.0, {"resume": True}, "--out"),
        (1.0, {"out": __file__}, Path(__file__).name),
        (1.0, {"out": Path(__file__).parent}, "holds other things"),
    ],
)
def test_what_cannot_be_a_speedrun_is_refused(minutes, options, names):
    with pytest.raises(BadInput, match=re.escape(names)):
        kun.speedrun(minutes, **options)


def test_more_time_makes_a_larger_network_and_none_makes_the_smallest(monkeypatch):
    monkeypatch.setattr(sizes, "_speed", lambda net, operations, context: 3e11)
    times = (0.0, 60.0, 600.0, 6000.0, 1e6)
    chosen = [sizes.choose_size(VALUES, seconds) for seconds in times]
    parameters = [size.parameters for size in chosen]
    assert parameters == sorted(set(parameters))
    for size, seconds in zip(chosen[1:], times[1:], strict=True):
        assert size.tokens_per_s * seconds >= 1.5 * size.parameters


@pytest.mark.parametrize(("alone", "chosen"), [(2.0, 1), (1.1, 2), (0.6, 2)])
def test_one_thread_is_taken_where_others_only_hinder_it(monkeypatch, alone, chosen):
    threads = torch.get_num_threads()
    monkeypatch.setattr(
        sizes, "_speed", lambda net, operations, context: alone if torch.get_num_threads() == 1 else 1
    )
    torch.set_num_threads(2)
    try:
        assert sizes.choose_threads(VALUES) == chosen
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_what_a_model_said_cannot_act_in_the_report(tmp_path):
    (tmp_path / "answers.json").write_text(
        json.dumps({"seen": [{"kind": "purpose", "question": EVIL, "wanted": EVIL, "said": f"{EVIL}!"}]}),
        encoding="utf-8",
    )
    values = {"seconds": {"data": 1.0}, "state": "interrupted"}
    page = write_page(tmp_path, values).read_text(encoding="utf-8")
    assert page.count("<script>") == 1
    assert page.count("ran()") == 6


def test_every_text_of_the_report_is_there_in_both_languages():
    for key, texts in catalogue("kun.tour.speedrun").items():
        assert set(texts) == {"en", "zh"}, key
        places = [set(re.findall(r"\{(\w+)\}", text)) for text in texts.values()]
        assert places[0] == places[1], key
