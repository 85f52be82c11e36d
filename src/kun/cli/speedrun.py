"""`kun speedrun`: a GPT's life on this machine, in some minutes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kun.cli.output import JSON_OPTION, print_json, progress

if TYPE_CHECKING:
    from kun.tour.speedrun.facts import Answered, Interval, SpeedrunFacts

_SAMPLES = 3
_NAMES = {"pretrained": "pretraining", "finetuned": "fine-tuning", "rewarded": "PPO"}


def speedrun(
    minutes: float = typer.Option(15.0, min=0.5, help="The time for all of it; the network's size follows."),
    out: Path | None = typer.Option(
        None, help="The folder to write (default: a fresh one under KUN_HOME/runs)."
    ),
    seed: int = typer.Option(0, min=0, max=2**31 - 1, help="Decides all that is left to chance."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the speedrun in the folder of --out."),
    feedback: Path | None = typer.Option(
        None, help="A file of what people preferred, as kun feedback export writes it, for the reward model."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """A GPT's life on this machine: tokenizer, pretraining, fine-tuning, reward model, PPO, evaluation, report, chat.

    It learns from the documentation of the installed Python packages, so that nothing is downloaded. Every stage is
    a recipe in the folder, for `kun train`. Ctrl-C stops it, and --resume goes on.

    \b
    Examples:
      kun speedrun
      kun speedrun --minutes 60 --out my-gpt
      kun speedrun --out my-gpt --resume
    """
    from kun import api

    with progress(quiet=as_json) as report:
        done = api.speedrun(minutes, out=out, seed=seed, resume=resume, feedback=feedback, progress=report)
    samples = _samples(done.path)
    if as_json:
        told = {"run": str(done.path), "checkpoint": str(done.checkpoint), "report": str(done.report)}
        print_json({**told, **done.facts, "samples": samples})
        return
    for line in _summary(done.facts):
        typer.echo(line)
    for sample in samples:
        typer.echo(f"\n  {' '.join(sample['question'].split())}\n  → {' '.join(sample['said'].split())}")
    typer.echo(f"\nreport      {done.report}\ncheckpoint  {done.checkpoint}")
    typer.echo(f"Talk to it: kun chat {done.checkpoint}")
    typer.echo(f"Serve it:   kun serve --model {done.checkpoint} --quantize none")


def _samples(path: Path) -> "list[Answered]":
    """One answer of each kind, to questions that were never learned where there are such."""
    said = json.loads((path / "answers.json").read_text(encoding="utf-8"))
    first: dict[str, Answered] = {}
    for one in [*said["unseen"], *said["seen"]]:
        first.setdefault(one["kind"], one)
    return list(first.values())[:_SAMPLES]


def _summary(facts: "SpeedrunFacts") -> list[str]:
    seconds, size, bits = facts["seconds"], facts["size"], facts["measures"]["bits_per_byte"]
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    lines = [
        f"{sum(seconds.values()):.0f} s in all: {spent}",
        f"a network of {size['parameters']:,} parameters ({size['n_layers']} layers of {size['d_model']})",
        f"bits per byte of modules that it never read: {bits['untrained']:.2f} before, {bits['pretrained']:.2f} after "
        f"pretraining, {bits['finetuned']:.2f} after fine-tuning, {bits['rewarded']:.2f} after PPO "
        f"(xz needs {bits['xz']:.2f})",
    ]
    lines += _rewards(facts)
    for side, told in (("seen", "questions that it learned"), ("unseen", "questions that it never learned")):
        found = facts["measures"]["answers"][side]
        exact = ", ".join(f"{kind} {value['exact']:.0%}" for kind, value in found.items())
        lines.append(f"exactly right on {told}: {exact}")
    lines.append(
        "It is a very small model: what it does not know it makes up. The report says what it can do."
    )
    return lines


def _rewards(facts: "SpeedrunFacts") -> list[str]:
    """The reward of each stage's answers, and the gain of each over the one before."""
    measures = facts["measures"]
    rewards, gains = measures.get("rewards", {}), measures.get("gains", {})
    if not rewards:
        return []
    of_stages = ", ".join(f"{_NAMES[name]} {_interval(found['reward'])}" for name, found in rewards.items())
    count = next(iter(rewards.values()))["n"]
    return [
        f"reward of answers to {count} questions that no stage learned from: {of_stages}",
        *(f"{_NAMES[name]} {_verdict(gain)} on the same questions" for name, gain in gains.items()),
    ]


def _verdict(gain: "Interval") -> str:
    if gain["low"] > 0:
        return f"gained {_interval(gain)}"
    if gain["high"] < 0:
        return f"lost {_interval(gain)}"
    return f"changed it by {_interval(gain)}, no more than chance could,"


def _interval(found: "Interval") -> str:
    return f"{found['mean']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"
