"""A whole speedrun of few seconds: interrupted, gone on with, and what it leaves."""

import json
import math
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

import kun
from kun.cli.app import run as command
from kun.cli.speedrun import _rewards
from kun.errors import BadInput, Busy, KunError, NoSpace
from kun.tour.speedrun import sizes
from kun.tour.speedrun.page import write_page
from kun.tour.speedrun.questions import is_right
from kun.tour.speedrun.run import _DO, _STARTING, LEAST_MINUTES, _State, _Work
from kun.tour.speedrun.stages import stages
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


STAGES = ["data", "tokenizer", "pretrain", "finetune", "preferences", "reward", "ppo", "evaluate"]


@pytest.fixture(scope="module")
def speedrun(tmp_path_factory):
    """One that was interrupted in pretraining and in PPO, what was done then, and when its data was written."""
    folder = tmp_path_factory.mktemp("speedruns")
    out, votes = folder / "run", folder / "votes.jsonl"
    vote = {"prompt": "What does zlib.crc32 do?", "chosen": "Compute a checksum.", "rejected": "Nothing."}
    votes.write_text(json.dumps(vote) + "\n", encoding="utf-8")
    step = Loop._step
    interruptions = {"pretrain": 3, "ppo": 2}  # of PPO a busy machine makes few steps in its time

    def interrupted(self):
        step(self)
        if self.state.step == interruptions.get(self.job.stage):
            del interruptions[self.job.stage]
            os.kill(os.getpid(), signal.SIGINT)

    stopped = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUN_NATIVE", "0")
        patch.setattr(Loop, "_step", interrupted)
        for resume in (False, True):
            with pytest.raises(KeyboardInterrupt):
                kun.speedrun(LEAST_MINUTES, out=out, resume=resume, feedback=votes)
            stopped.append(json.loads((out / "speedrun.json").read_text(encoding="utf-8")))
        written = (out / "data" / "docs.jsonl").stat().st_mtime_ns
        done = kun.speedrun(LEAST_MINUTES, out=out, resume=True)
    return done, stopped, written


@pytest.mark.slow
def test_an_interrupted_speedrun_goes_on_where_it_was(speedrun):
    done, stopped, written = speedrun
    assert [one["state"] for one in stopped] == ["interrupted"] * 2
    assert [one["done"] for one in stopped] == [STAGES[:2], STAGES[:6]]
    assert done.facts["state"] == "done"
    assert done.facts["done"] == STAGES
    assert (done.path / "data" / "docs.jsonl").stat().st_mtime_ns == written
    for stage in ("pretrain", "ppo"):
        steps = [line["step"] for line in kun.Run(done.path / stage, done.path).metrics]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) > 2


@pytest.mark.slow
def test_every_stage_answers_the_same_questions_and_its_answers_are_rewarded_with_intervals(speedrun):
    done, _, _ = speedrun
    measures = done.facts["measures"]
    assert list(measures["rewards"]) == ["pretrained", "finetuned", "rewarded"]
    for found in measures["rewards"].values():
        assert found["reward"]["low"] < found["reward"]["mean"] < found["reward"]["high"]
        assert 0 <= found["ended"] <= 1
    gain, means = measures["gains"]["rewarded"], measures["rewards"]
    assert gain["mean"] == pytest.approx(
        means["rewarded"]["reward"]["mean"] - means["finetuned"]["reward"]["mean"], abs=1e-5
    )
    told = json.loads((done.path / "stages.json").read_text(encoding="utf-8"))["asked"]
    learned = (done.path / "data" / "chats.jsonl").read_text(encoding="utf-8")
    rewarded = (done.path / "data" / "prompts.jsonl").read_text(encoding="utf-8")
    for one in told:
        assert set(one["said"]) == {"pretrained", "finetuned", "rewarded"}
        assert json.dumps(one["question"], ensure_ascii=False) not in learned + rewarded


@pytest.mark.slow
def test_what_people_preferred_is_learned_from_too(speedrun):
    done, _, _ = speedrun
    assert done.facts["preferences"]["clicked"] == 1
    assert done.facts["preferences"]["made"] > 10
    last = (done.path / "data" / "preferences.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert "Compute a checksum." in last


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
    assert names == {"tokenizer", "pretrain", "finetune", "reward", "ppo"}
    assert all(read_recipe(done.path / "recipes" / f"{name}.toml").stage == name for name in names)
    result = kun.evaluate(kun.load(done.path / "pretrain" / "checkpoint"), done.path / "tasks" / "bits.toml")
    assert result.measures["bits_per_byte"].value == pytest.approx(
        done.facts["measures"]["bits_per_byte"]["pretrained"], rel=0.02
    )


@pytest.mark.slow
def test_the_command_shows_what_is_done_and_how_to_talk_to_it(speedrun, capfd):
    done, _, _ = speedrun
    before = (done.path / "ppo" / "metrics.jsonl").stat().st_mtime_ns
    assert command(["speedrun", "--out", str(done.path), "--resume", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["checkpoint"] == str(done.checkpoint)
    assert {sample["kind"] for sample in told["samples"]} == {"purpose", "arguments", "module"}
    assert command(["speedrun", "--out", str(done.path), "--resume"]) == 0
    shown = capfd.readouterr().out
    assert f"kun chat {done.checkpoint}" in shown
    assert f"kun serve --model {done.checkpoint}" in shown
    assert re.search(r"PPO (gained|lost|changed it by) [+-]\d", shown)
    assert (done.path / "ppo" / "metrics.jsonl").stat().st_mtime_ns == before
    page = done.report.read_text(encoding="utf-8")
    assert 'href="pretrain/report.html"' in page
    assert page.count('class="plot"') >= 6
    assert (done.path / "pretrain" / "report.html").is_file()


@pytest.mark.slow
def test_one_command_asks_every_stage_the_same_and_shows_it_on_one_page(speedrun, tmp_path, capfd):
    done, _, _ = speedrun
    first, *others = (str(done.path / name / "checkpoint") for name in ("pretrain", "finetune", "ppo"))
    line = ["generate", first, *(part for each in others for part in ("--against", each)), "--chat"]
    line += ["-p", "What does zlib.crc32 do?", "--max-tokens", "8", "--report", str(tmp_path / "stages.html")]
    assert command(line) == 0
    shown, page = capfd.readouterr().out, (tmp_path / "stages.html").read_text(encoding="utf-8")
    assert page.count("<h2>") == 1
    for name in ("pretrain", "finetune", "ppo"):
        assert name in shown
        assert f"<th>{name}" in page


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


def test_trainings_share_what_is_left_of_the_time(tmp_path):
    state = _State.new(tmp_path / "speedrun.json", 15.0, 0)
    work = _Work(tmp_path, state)
    spent = {"data": 20.0, "tokenizer": 25.0}
    for name in _STARTING:
        state.values["seconds"] = dict(spent)
        spent[name] = work.seconds(name) + work.starting(name)
    assert sum(spent.values()) == pytest.approx(0.92 * 15 * 60, abs=0.1)  # the rest is for asking
    state.values["seconds"] = {"data": 10_000.0}
    assert work.seconds("ppo") > 0


def test_what_a_busy_machine_takes_longer_for_is_kept_for_the_next_trainings(tmp_path):
    state = _State.new(tmp_path / "speedrun.json", 5.0, 0)
    work = _Work(tmp_path, state)
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "metrics.jsonl").write_text('{"seconds": 90.0}\n', encoding="utf-8")
    state.values["done"] = ["data", "tokenizer", "pretrain"]
    found = {}
    for busy in (1.0, 4.0):
        spent = {"data": 5.0, "tokenizer": 6.0, "pretrain": 90.0 + 6.0 * busy}
        state.values["seconds"] = dict(spent)
        assert work.slowness == busy
        for name in ("finetune", "reward", "ppo"):
            state.values["seconds"] = dict(spent)
            spent[name] = work.seconds(name) + busy * work.starting(name)
        assert sum(spent.values()) == pytest.approx(0.92 * 5 * 60, abs=0.1)
        found[busy] = spent["ppo"]
    assert found[4.0] > 0.6 * found[1.0]


def test_the_time_that_a_stage_measures_for_is_not_given_to_its_training(tmp_path):
    state = _State.new(tmp_path / "speedrun.json", 5.0, 0)
    before = state.left
    with state.stage("finetune", lambda *_: None):
        time.sleep(0.05)
        assert state.left < before - 0.04


def test_a_speedrun_of_an_earlier_version_is_not_gone_on_with(tmp_path):
    (tmp_path / "speedrun.json").write_text(
        json.dumps({"minutes": 1.0, "seed": 0, "state": "done", "done": ["data"], "seconds": {}}),
        encoding="utf-8",
    )
    with pytest.raises(BadInput, match="earlier version"):
        kun.speedrun(1, out=tmp_path, resume=True)


def test_a_file_without_preferences_is_refused_before_anything_is_trained(tmp_path):
    votes = tmp_path / "votes.jsonl"
    votes.write_text('{"text": "nobody preferred this"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=re.escape("votes.jsonl")):
        kun.speedrun(1, out=tmp_path / "run", feedback=votes)
    assert not (tmp_path / "run").exists()


def test_preferences_that_come_after_the_reward_model_has_its_own_are_refused(tmp_path, monkeypatch):
    run, votes, others = tmp_path / "run", tmp_path / "votes.jsonl", tmp_path / "others.jsonl"
    for path in (votes, others):
        path.write_text('{"prompt": "Why?", "chosen": "So.", "rejected": "Not."}\n', encoding="utf-8")
    (run / "data").mkdir(parents=True)
    (run / "data" / "prompts.jsonl").touch()
    facts = {"minutes": 1.0, "seed": 0, "state": "done", "done": STAGES, "seconds": {}}
    file = run / "speedrun.json"
    file.write_text(json.dumps({**facts, "feedback": str(votes)}), encoding="utf-8")
    monkeypatch.setattr("kun.tour.speedrun.run.write_page", lambda *_: None)
    with pytest.raises(BadInput, match=r"others\.jsonl.*--feedback"):
        kun.speedrun(1, out=run, resume=True, feedback=others)
    assert json.loads(file.read_text(encoding="utf-8"))["state"] == "done"
    assert kun.speedrun(1, out=run, resume=True, feedback=votes).facts["feedback"] == str(votes)


def test_gains_that_chance_could_have_made_are_told_apart_in_the_report():
    rewards = {
        name: {
            "reward": {"mean": m, "low": m - 0.2, "high": m + 0.2},
            "exact": 0.1,
            "ended": 1.0,
            "length": 9.0,
            "n": 50,
        }
        for name, m in (("pretrained", -1.0), ("finetuned", 0.0), ("rewarded", 0.1))
    }
    gains = {
        "finetuned": {"mean": 1.0, "low": 0.7, "high": 1.3},
        "rewarded": {"mean": 0.1, "low": -0.1, "high": 0.3},
    }
    said = {"said": EVIL, "reward": 0.5}
    told = [{"kind": "purpose", "question": EVIL, "wanted": said, "said": {"finetuned": said}}]
    page = stages(
        {"bits_per_byte": {}, "answers": {}, "choices": {}, "rewards": rewards, "gains": gains}, told
    )
    assert "SFT gained +1.00 [+0.70, +1.30]" in page
    assert "PPO changed it by +0.10" in page
    assert "<script>" not in page
    assert stages(None, []) == ""


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.3, "PPO gained +0.20"),
        (-0.3, -0.1, "PPO lost -0.20"),
        (-0.1, 0.5, "PPO changed it by +0.20 (-0.10 to +0.50), no more than chance"),
    ],
)
def test_the_command_speaks_of_a_gain_only_where_it_is_more_than_chance(low, high, said):
    mean = {"mean": math.copysign(0.2, high), "low": low, "high": high}
    told = {"reward": mean, "exact": 0.0, "ended": 1.0, "length": 1.0, "n": 9}
    lines = _rewards({"measures": {"rewards": {"rewarded": told}, "gains": {"rewarded": mean}}})
    assert said in lines[-1]


@pytest.mark.parametrize(
    ("minutes", "options", "names"),
    [
        (0.01, {"out": "x"}, "0.01"),
        (1.0, {"out": "x", "feedback": "no-votes.jsonl"}, "no-votes.jsonl"),
        (1.0, {"resume": True}, "--out"),
        (1.0, {"out": __file__}, Path(__file__).name),
        (1.0, {"out": Path(__file__).parent}, "holds other things"),
    ],
)
def test_what_cannot_be_a_speedrun_is_refused(minutes, options, names):
    with pytest.raises(KunError, match=re.escape(names)):
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
