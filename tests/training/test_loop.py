"""The loop: that it learns, that it goes on bit for bit, and what stops it."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import kun
import kun.data.overlap as module
from kun.data.packing import PackedRows
from kun.errors import BadInput, BadRecipe, Busy, DamagedFile, Diverged, NoMemory, NoSpace
from kun.training.loop import Loop
from kun.training.run import Run, read_lines
from kun.training.snapshot import steps


def _weights(run):
    return load_file(run.checkpoint / "model.safetensors")


def _told(run):
    """The metrics without what depends on the clock."""
    clock = ("seconds", "items_per_s", "tokens_per_s", "peak_share")
    return [{k: v for k, v in line.items() if k not in clock} for line in run.metrics]


def _same(one, other):
    assert _told(one) == _told(other)
    ours, theirs = _weights(one), _weights(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_run_learns_and_leaves_what_the_design_says(recipe):
    run = kun.train(recipe, {"train.steps": 60, "train.sample_every": 30})
    assert run.metrics[-1]["loss"] < 0.75 * run.metrics[0]["loss"]
    assert [line["step"] for line in run.metrics] == list(range(1, 61))
    assert {
        "step",
        "loss",
        "lr",
        "grad_norm",
        "items",
        "items_per_s",
        "tokens",
        "tokens_per_s",
        "seconds",
    } <= run.metrics[0].keys()
    assert [line["step"] for line in run.metrics if "eval_loss" in line] == list(range(4, 61, 4))
    assert steps(run.path / "snapshots") == [55, 60]
    model = kun.load(run.checkpoint)
    sentence = "the fish turns into a bird"
    likely = [token.logprob for token in model.prompt_logprobs(sentence)[1:]]
    assert sum(likely) / len(likely) > -0.75 * math.log(
        320
    )  # one that learned nothing gives each of 320 as much
    lineage = json.loads((run.checkpoint / "kun.json").read_text(encoding="utf-8"))
    assert lineage["recipe"]["stage"] == "pretrain"
    assert lineage["metrics"]["steps"] == 60
    samples = (run.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["step"] for line in samples} == {30, 60}


VARIANTS = {
    "adamw in bfloat16": {},
    "adamw in float32": {"train.precision": "fp32"},
    "muon with averages": {"optimizer.name": "muon", "train.ema": 0.9},
    "sgd with momentum": {"optimizer.name": "sgd", "optimizer.lr": 0.3},
    "wsd until epochs end": {"optimizer.schedule": "wsd", "train.steps": None, "train.epochs": 1.2},
    "compiled": {"train.compile": True},
    "compiled in float32": {"train.compile": True, "train.precision": "fp32"},
    "with states computed again": {"train.activation_checkpointing": True},
    "the best weights": {"train.keep": "best", "train.eval_every": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_was_interrupted_ends_with_the_same_bits(recipe, tmp_path, monkeypatch, variant):
    changes = {key: value for key, value in VARIANTS[variant].items() if value is not None}
    if "train.epochs" in changes:
        recipe.write_text(recipe.read_text(encoding="utf-8").replace("steps = 12\n", ""), encoding="utf-8")
    whole = kun.train(recipe, {**changes, "out": str(tmp_path / "whole")})
    step, halt = Loop._step, 8

    def interrupted(self):
        step(self)
        if self.state.step == halt:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kun.train(recipe, changes)
    monkeypatch.setattr(Loop, "_step", step)
    assert halt in steps(tmp_path / "run" / "snapshots")
    _same(whole, kun.train(recipe, changes, resume=True))


def test_a_run_that_was_killed_goes_on_from_its_newest_whole_snapshot(recipe, tmp_path):
    longer = {"train.steps": 40}
    whole = kun.train(recipe, {**longer, "out": str(tmp_path / "whole")})
    code = f"import kun; kun.train({str(recipe)!r}, {longer!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 120
    while not steps(tmp_path / "run" / "snapshots") and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    # besides the snapshots that were whole, one that lost its end
    newest = max(steps(tmp_path / "run" / "snapshots"))
    torn = tmp_path / "run" / "snapshots" / "step-39"
    shutil.copytree(tmp_path / "run" / "snapshots" / f"step-{newest}", torn, dirs_exist_ok=True)
    state = torn / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    _same(whole, kun.train(recipe, longer, resume=True))


def test_a_finished_run_can_be_given_more_steps(recipe):
    kun.train(recipe, {"optimizer.schedule": "constant"})
    more = kun.train(recipe, {"optimizer.schedule": "constant", "train.steps": 20}, resume=True)
    assert [line["step"] for line in more.metrics] == list(range(1, 21))


def test_a_folder_that_holds_a_run_is_not_written_over(recipe, tmp_path):
    kun.train(recipe)
    with pytest.raises(BadInput, match="--resume"):
        kun.train(recipe)
    with pytest.raises(BadRecipe, match=r"optimizer\.lr"):
        kun.train(recipe, {"optimizer.lr": 0.5}, resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(BadInput, match="other things"):
        kun.train(recipe, {"out": str(other)})


def test_a_run_goes_on_with_the_tokens_that_it_began_with(recipe, text, tmp_path):
    whole = kun.train(recipe, {"out": str(tmp_path / "whole"), "optimizer.schedule": "constant"})
    kun.train(recipe, {"train.steps": 8, "optimizer.schedule": "constant"})
    text.unlink()
    _same(whole, kun.train(recipe, {"optimizer.schedule": "constant"}, resume=True))


def test_a_snapshot_of_other_data_is_refused(recipe, text, tmp_path):
    kun.train(recipe, {"train.steps": 6})
    text.write_text(
        '{"text": "another text altogether"}\n{"text": "and one more, not alike"}\n' * 3, encoding="utf-8"
    )
    kun.train(recipe, {"train.steps": 6, "out": str(tmp_path / "other"), "data.eval": 0.5})
    shutil.rmtree(tmp_path / "run" / "data")
    shutil.copytree(tmp_path / "other" / "data", tmp_path / "run" / "data")
    with pytest.raises(DamagedFile, match="data"):
        kun.train(recipe, resume=True)


def test_a_snapshot_that_was_evaluated_on_other_data_is_refused(recipe, text, tmp_path):
    held_out = tmp_path / "eval.jsonl"
    held_out.write_text('{"text": "the fish"}\n', encoding="utf-8")
    changes = {"data.eval": str(held_out)}
    kun.train(recipe, {**changes, "train.steps": 6})
    held_out.write_text('{"text": "the bird"}\n', encoding="utf-8")
    shutil.rmtree(tmp_path / "run" / "data" / "eval")
    with pytest.raises(DamagedFile, match="evaluated on"):
        kun.train(recipe, changes, resume=True)


def test_a_snapshot_of_other_sizes_is_refused(recipe, tmp_path):
    kun.train(recipe, {"train.steps": 6})
    written = (tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8")
    (tmp_path / "run" / "recipe.toml").write_text(
        written.replace("d_model = 32", "d_model = 64"), encoding="utf-8"
    )
    with pytest.raises(DamagedFile, match="other sizes"):
        kun.train(recipe, {"model.d_model": 64}, resume=True)


def test_two_processes_do_not_train_in_one_folder(recipe, monkeypatch):
    step = Loop._step

    def second(self):
        monkeypatch.setattr(Loop, "_step", step)
        with pytest.raises(Busy):
            kun.train(recipe, resume=True)
        step(self)

    monkeypatch.setattr(Loop, "_step", second)
    kun.train(recipe)


def test_a_full_disk_names_the_snapshot_that_is_whole(recipe, tmp_path, monkeypatch):
    import safetensors.torch

    save = safetensors.torch.save_file
    count = 0

    def full(tensors, path, *rest):
        nonlocal count
        count += "snapshots" in str(path)
        if count == 2 and "snapshots" in str(path):
            raise OSError(28, "No space left on device")
        return save(tensors, path, *rest)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(NoSpace, match="step 5 is whole"):
        kun.train(recipe)
    assert steps(tmp_path / "run" / "snapshots") == [5]


def test_a_loss_that_is_no_number_names_the_batch_and_spoils_nothing(recipe, tmp_path, monkeypatch):
    from kun.objectives.next_token import NextToken

    loss, count = NextToken.loss, 0

    def broken(self, networks, batch):
        nonlocal count
        count += networks.trained.training
        made = loss(self, networks, batch)
        return replace(made, sum=made.sum * (float("nan") if count == 15 else 1.0))

    monkeypatch.setattr(NextToken, "loss", broken)
    with pytest.raises(Diverged, match=r"step 8 .*rows from"):
        kun.train(recipe)
    assert steps(tmp_path / "run" / "snapshots") == [5]


def test_training_stops_when_evaluation_gets_no_better(recipe):
    run = kun.train(
        recipe, {"train.steps": 400, "train.patience": 2, "train.eval_every": 1, "optimizer.lr": 1e-12}
    )
    assert run.metrics[-1]["step"] < 400


def test_gradients_of_parts_of_a_step_add_up_to_those_of_the_whole(recipe, tmp_path):
    changes = {"train.precision": "fp32", "model.dropout": 0.0, "train.steps": 3}
    parts = kun.train(recipe, {**changes, "train.micro_batch_tokens": 32, "out": str(tmp_path / "a")})
    whole = kun.train(recipe, {**changes, "train.micro_batch_tokens": 256, "out": str(tmp_path / "b")})
    for one, other in zip(parts.metrics, whole.metrics, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_minutes_end_a_training(recipe):
    began = time.monotonic()
    run = kun.train(recipe, {"train.steps": 10**9, "train.minutes": 0.05})
    assert 3 <= run.metrics[-1]["seconds"] <= 30
    assert time.monotonic() - began < 60


def test_the_last_step_is_evaluated_where_minutes_end_a_training(recipe):
    run = kun.train(recipe, {"train.steps": 10**9, "train.minutes": 0.02, "train.eval_every": 10**6})
    assert ["eval_loss" in line for line in run.metrics] == [False] * (len(run.metrics) - 1) + [True]


def test_what_is_held_out_is_evaluated_at_the_end_where_the_recipe_does_not_say_when(recipe):
    recipe.write_text(recipe.read_text().replace("eval_every = 4\n", ""))
    run = kun.train(recipe, {"train.steps": 3})
    assert ["eval_loss" in line for line in run.metrics] == [False, False, True]


def test_a_sample_is_written_at_the_end_where_an_evaluation_brings_it(recipe, tmp_path):
    changes = {"train.patience": 1, "train.eval_every": 1, "optimizer.lr": 1e-12, "train.sample_every": 1000}
    last = kun.train(recipe, {**changes, "train.steps": 400}).metrics[-1]["step"]
    assert last < 400
    assert {line["step"] for line in read_lines(tmp_path / "run" / "samples.jsonl")} == {last}


def _heard(recipe, changes=None, **given):
    """What a training tells, by stage."""
    heard = {}
    kun.train(
        recipe,
        changes or {},
        progress=lambda stage, done, total, detail: heard.update({stage: detail}),
        **given,
    )
    return heard


def test_a_run_that_resumes_where_nothing_began_says_so(recipe, tmp_path):
    assert str(tmp_path / "run") in _heard(recipe, resume=True)["starting from the beginning"]


def test_a_run_that_goes_on_with_other_threads_says_that_its_bits_may_differ(recipe, tmp_path):
    before = torch.get_num_threads()
    kun.train(recipe, {"train.steps": 5})
    assert not any("bit" in stage for stage in _heard(recipe, {"train.steps": 8}, resume=True))
    try:
        torch.set_num_threads(before + 1)
        heard = _heard(recipe, resume=True)
    finally:
        torch.set_num_threads(before)
    assert heard["going on, but bits may differ"] == f"threads = {before} before, {before + 1} now"
    facts = json.loads((tmp_path / "run" / "facts.json").read_text(encoding="utf-8"))
    assert facts["note"] == f"Going on, but bits may differ: threads = {before} before, {before + 1} now."


def test_a_run_that_goes_on_with_other_sums_says_which(recipe):
    kun.train(recipe, {"train.steps": 5})
    changes = {"train.steps": 6, "train.micro_batch_tokens": 64, "train.activation_checkpointing": True}
    assert _heard(recipe, changes, resume=True)["going on, but bits may differ"] == (
        "train.micro_batch_tokens = 128 before, 64 now; train.activation_checkpointing = False before, True now"
    )


def test_a_form_of_batch_that_cannot_be_compiled_is_computed_uncompiled(recipe, tmp_path, monkeypatch):
    from torch._inductor import config

    changes = {"train.precision": "fp32", "model.dropout": 0.0, "train.steps": 3}
    plain = kun.train(recipe, {**changes, "train.compile": False, "out": str(tmp_path / "plain")})
    compile, broken = Loop.compile, ExitStack()

    def then_break(self):
        compile(self)
        assert self.compiled
        # monkeypatch would leave this config without its compiler
        broken.enter_context(config.patch("cpp.cxx", ("no-such-compiler",)))
        self.feed.micro_rows = 2

    monkeypatch.setattr(Loop, "compile", then_break)
    with broken:
        heard = _heard(recipe, {**changes, "train.compile": True})
    assert heard["not compiled"]
    facts = json.loads((tmp_path / "run" / "facts.json").read_text(encoding="utf-8"))
    assert facts["note"].startswith("Not compiled: ")
    for ours, theirs in zip(read_lines(tmp_path / "run" / "metrics.jsonl"), plain.metrics, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def test_a_run_that_could_not_compile_a_batch_goes_on_uncompiled_with_the_same_bits(
    recipe, tmp_path, monkeypatch
):
    changes = {"train.compile": True, "train.precision": "fp32", "train.snapshot_every": 1, "train.steps": 6}
    computed, step = Loop._computed, Loop._step
    failed = type("Failed", (Exception,), {"__module__": "torch._inductor.exc"})
    broken = True

    def breaking(self, prepared, count):
        if broken and self.state.step == 2 and self.compiled:
            raise failed("no compiler knows this form")
        return computed(self, prepared, count)

    def killed(self):
        if self.state.step == 4:
            raise RuntimeError("killed")
        step(self)

    monkeypatch.setattr(Loop, "_computed", breaking)
    whole = kun.train(recipe, {**changes, "out": str(tmp_path / "whole")})
    monkeypatch.setattr(Loop, "_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        kun.train(recipe, changes)
    monkeypatch.setattr(Loop, "_step", step)
    broken = False  # the snapshot alone tells that it was so
    heard = _heard(recipe, changes, resume=True)
    assert "no compiler knows" in heard["not compiled"]
    assert not any("bits" in stage for stage in heard)
    _same(whole, Run(tmp_path / "run", tmp_path / "run" / "checkpoint"))


def _out_of_memory(*_, **__):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("kun.objectives.text.model._new", r"the network.*\[lora\]"),
        ("kun.objectives.text.task.PackedRows", r"reading the data.*data\.limit"),
        ("kun.data.overlap._all_grams", r"comparing held-out data.*data\.eval"),
        ("kun.hub.saving.write_weights", r"writing the checkpoint.*--resume"),
        ("kun.training.loop.Optimizer", r"the network and its optimizer.*\[lora\]"),
        ("kun.objectives.next_token.NextToken.loss", "a batch.*micro_batch_tokens"),
        ("kun.objectives.next_token.NextToken.measure", "an evaluation.*micro_batch_tokens"),
    ],
)
def test_memory_that_is_too_small_is_told_with_what_to_lower(recipe, monkeypatch, where, told):
    monkeypatch.setattr(where, _out_of_memory)
    with pytest.raises(NoMemory, match=told):
        kun.train(recipe)


def test_held_out_data_are_packed_and_compared_with_the_training_data_once(recipe, monkeypatch):
    seen = {"planned": 0, "compared": 0}
    plan, compare = PackedRows.plan, module._all_grams

    def planned(self, epoch=0):
        seen["planned"] += self.seed == 0 and epoch == 0
        return plan(self, epoch)

    def compared(*given):
        seen["compared"] += 1
        return compare(*given)

    monkeypatch.setattr(PackedRows, "plan", planned)
    monkeypatch.setattr(module, "_all_grams", compared)
    changes = {"train.eval_every": 1, "seed": 5}
    kun.train(recipe, {**changes, "train.steps": 6})
    assert seen == {"planned": 1, "compared": 1}
    run = kun.train(recipe, changes, resume=True)
    assert seen == {"planned": 2, "compared": 1}
    assert "overlap" in json.loads((run.path / "facts.json").read_text(encoding="utf-8"))
