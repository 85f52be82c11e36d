"""Training on preferences and by rewards beside TRL: a reward model, DPO, GRPO and PPO, one thread, bfloat16.

The same pairs and prompts of hh-rlhf, none longer than the context, so that neither leaves any out; both networks have
float32 weights. `--peers` names the Python of an environment with trl (its PPO is in versions up to 1.12).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.table import Options, Row, main, skipped

MODEL = "smollm2-135m-instruct"
CONTEXT, BATCH, TOKENS, ANSWERS, TOGETHER = 320, 8, 48, 16, 8
STEPS, COMPARED = 4, 32
THREADS = {**os.environ, "OMP_NUM_THREADS": "1"}


def measure(options: Options) -> Iterable[Row]:
    file = options.data / "hh-rlhf" / "harmless.jsonl" if options.data else None
    if file is None or not file.is_file():
        yield skipped("training on preferences beside TRL", "needs --data with hh-rlhf/")
        return
    with tempfile.TemporaryDirectory() as name:
        beside = _Beside(Path(name), options, file)
        yield beside.speed("reward model", "reward", least=1.5, aim=3)
        yield beside.speed("DPO", "dpo", least=2.5, aim=5)
        yield beside.dpo_loss()
        yield beside.speed("GRPO", "grpo", {"objective.answers": TOGETHER}, least=2.5, aim=5)
        yield beside.speed("PPO", "ppo", least=2.5, aim=5)


@dataclass
class _Beside:
    """Runs Kun's trainings and TRL's, each in a process of its own, on files in `folder`."""

    folder: Path
    options: Options
    source: Path

    def __post_init__(self) -> None:
        from kun.hub.pull import locate

        self.model = str(locate(MODEL))
        conversations = _conversations(self.source)
        self.pairs = self._write("pairs", conversations)
        self.few = self._write("few", conversations[:COMPARED])
        self.texts = self._write("texts", _texts(conversations[:COMPARED]))

    def out(self, name: str) -> Path:
        return self.folder / name

    def speed(
        self, what: str, stage: str, changes: Mapping[str, object] | None = None, *, least: float, aim: float
    ) -> Row:
        """Items a second of ours and of TRL, of the median step."""
        by_rewards = stage in ("grpo", "ppo")
        if by_rewards:
            reward = str(self.out("reward") / "checkpoint")
            sampled = {"train.batch": ANSWERS, "objective.max_tokens": TOKENS, "objective.reward": reward}
            ours = self._ours(stage, self.pairs, {**sampled, **(changes or {})})
            theirs = self._theirs(stage, self.pairs, f"--reward={reward}")
        else:
            ours = self._ours(stage, self.pairs, {"train.batch": BATCH})
            theirs = self._theirs(stage, self.pairs)
        mine = statistics.median(_steps([line["seconds"] for line in ours]))

        def told(seconds: float) -> str:
            return f"{seconds:.1f} s a step" if by_rewards else f"{BATCH / seconds:.2f} pairs/s"

        name = f"{what} on SmolLM2 against TRL, one thread, bfloat16"
        if isinstance(theirs, str):
            return Row(name, told(mine), note=theirs)
        other = statistics.median(theirs["seconds"])
        ratio, lengths = other / mine, ""
        if "length" in theirs:
            mean = statistics.fmean(line["length"] for line in ours)
            lengths = f"tokens of an answer: {mean:.0f}, of TRL's {theirs['length']:.0f}"
        peer = f"{told(other)}, ours {told(mine)}"
        return Row(name, f"{ratio:.2f}×", f"{least}×", f"{aim}×", peer, ratio >= least, lengths)

    def dpo_loss(self) -> Row:
        """Of a network after some steps of DPO against the one it began as, in float32."""
        changes = {"data.eval": str(self.few), "train.precision": "fp32", "train.batch": BATCH}
        mine = self._ours("dpo", self.few, changes, out="compared")[-1]["eval_loss"]
        what = f"the loss of DPO on {COMPARED} pairs, a trained network against its start, float32"
        trained = str(self.out("compared") / "checkpoint")
        theirs = self._theirs("loss", self.texts, "--reference", self.model, model=trained)
        if isinstance(theirs, str):
            return Row(what, f"{mine:.6f}", note=theirs)
        apart = abs(mine - theirs["loss"])
        told = f"{theirs['loss']:.6f}, ours {mine:.6f}"
        return Row(what, f"{apart:.1e} apart", "1e-5", peer=told, holds=apart <= 1e-5)

    def _ours(
        self, stage: str, data: Path, changes: Mapping[str, object], out: str = ""
    ) -> list[dict[str, Any]]:
        """The metrics of a training."""
        folder = self.out(out or stage)
        values: dict[str, object] = {
            "stage": stage,
            "out": str(folder),
            "model.from": self.model,
            "data.train": str(data),
            "train.steps": 2 if self.options.quick else STEPS + 1,
            "train.context": CONTEXT,
            "optimizer.lr": 1e-5,
            "optimizer.schedule": "constant",
            **changes,
        }
        file = folder.with_suffix(".toml")
        file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()), "utf-8")
        code = "import sys; from kun.cli import main; sys.argv[0] = 'kun'; main()"
        subprocess.run(
            [sys.executable, "-c", code, "train", str(file)], check=True, capture_output=True, env=THREADS
        )
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]

    def _theirs(self, kind: str, data: Path, *more: str, model: str = "") -> dict[str, Any] | str:
        """What TRL measured, or why it did not."""
        if self.options.peers is None:
            return "no peer: --peers names the Python of an environment with trl"
        steps = "1" if self.options.quick else str(STEPS)
        command = [str(self.options.peers), "-m", "benchmarks.preferences_peer", kind, *more]
        command += [f"--model={model or self.model}", f"--data={data}", f"--steps={steps}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=THREADS)
        if done.returncode:
            return f"the peer ended with {done.returncode}: {done.stderr.strip().splitlines()[-1]}"
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    def _write(self, name: str, rows: Iterable[Mapping[str, object]]) -> Path:
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return path


def _steps(ends: list[float]) -> list[float]:
    """The seconds of each step but the first, which warms up, of the times at which steps end."""
    return [after - before for before, after in pairwise(ends)]


def _conversations(source: Path) -> list[dict[str, Any]]:
    """The first pairs of which neither conversation is longer than the context, as messages."""
    from kun.data.rows import Ranking
    from kun.data.sources import Rows

    template, tokenizer = _reader()
    found: list[dict[str, Any]] = []
    for row in Rows(str(source)):
        assert isinstance(row, Ranking)
        better, worse = row.answers
        texts = [
            template.render([*row.prompt, *said], add_generation_prompt=False) for said in (better, worse)
        ]
        if max(len(tokenizer.encode(text).ids) for text in texts) < CONTEXT:
            found.append({"prompt": row.prompt, "chosen": better, "rejected": worse})
        if len(found) == (STEPS + 2) * BATCH:
            break
    return found


def _texts(rows: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    """Pairs as the texts that their template makes, which end where an answer ends: what TRL reads as it stands.

    Of messages it would also learn the line break that the template puts behind the end of a turn.
    """
    template, _ = _reader()
    for row in rows:
        yield {
            "prompt": template.render(row["prompt"]),
            "chosen": row["chosen"][0]["content"],
            "rejected": row["rejected"][0]["content"],
        }


def _reader() -> tuple[Any, Any]:
    """The model's template and tokenizer."""
    from kun.hub.opening import open_checkpoint
    from kun.hub.pull import locate

    opened = open_checkpoint(locate(MODEL))
    return opened.chat_template, opened.tokenizer


if __name__ == "__main__":
    main(measure, __doc__)
