"""The ways to align a model next to each other: SFT, best of n, rejection sampling, DPO, PPO and GRPO.

One start, SmolLM2 fine-tuned on the better answers of 700 pairs (SFT). Every other way begins there, has the same
reward model or the pairs that it learned from, and the same minutes. All answer the same prompts, which none has seen.
The gain in reward is told in standard deviations of the start's answers: by that reward model, and by a second one that
learned from other pairs, which shows how much of a gain is the first one's own taste. The divergence is in nats an
answer, of best of n the bound log n - (n - 1)/n. Hours on two cores; --quick shows in minutes that all of it runs.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import Options, Row, main, skipped

BASE = "smollm2-135m-instruct"
MINUTES, CONTEXT, TOKENS, ASKED = 20.0, 320, 48, 64
STEP_TOKENS = 2048
LEARNED, OTHERS = slice(0, 700), slice(700, 1300)
BEST_OF, REJECTED = 16, 8
SEED = 0
WIDTH = 1.96


@dataclass
class Judges:
    """The reward model that everything goes by, and one of other pairs; what the start's answers score by each."""

    models: Sequence[Any]
    start: list[np.ndarray] = field(default_factory=list)

    def scores(self, prompts: Sequence[Any], answers: Sequence[Sequence[Any]]) -> list[np.ndarray]:
        """By each judge float32 [prompts]: of the first answer to each prompt."""
        from kun.alignment.rollouts import ByRewardModel

        return [
            np.array([each[0] for each in ByRewardModel(model)(prompts, answers)], np.float64)
            for model in self.models
        ]

    def gains(self, scores: Sequence[np.ndarray]) -> str:
        """Over the start, on the same prompts, in standard deviations of the start's answers, with 95 % intervals."""
        shown = []
        for mine, start in zip(scores, self.start, strict=True):
            gain = (mine - start) / start.std()
            error = gain.std(ddof=1) / len(gain) ** 0.5
            shown.append(f"{gain.mean():+.2f} ± {WIDTH * error:.2f}")
        return f"reward {shown[0]}, by the second {shown[1]}"


def measure(options: Options) -> Iterable[Row]:
    file = options.data / "hh-rlhf" / "harmless.jsonl" if options.data else None
    if file is None or not file.is_file():
        yield skipped("ways to align", "needs --data with hh-rlhf/")
        return
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as name:
        yield from _compared(rows, _Trainings(Path(name), options.quick))


class _Trainings:
    """Trains one way after the other, each for the same minutes."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick

    def write(self, name: str, rows: Iterable[Mapping[str, object]]) -> Path:
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def run(
        self,
        name: str,
        stage: str,
        start: str | Path,
        data: Path,
        *,
        objective: Mapping[str, object] | None = None,
        lr: float = 3e-5,
        adapter: bool = False,
        **train: object,
    ) -> Path:
        """The checkpoint of a training, of the whole network or of an adapter."""
        from kun.training.recipe import parse_recipe
        from kun.training.train import train as run

        limit: dict[str, object] = {"steps": 2} if self.quick else {"minutes": MINUTES}
        recipe: dict[str, Any] = {
            "stage": stage,
            "out": str(self.folder / name),
            "seed": SEED,
            "model": {"from": str(start)},
            "data": {"train": str(data)},
            "train": {**limit, "context": CONTEXT, **train},
            "optimizer": {"lr": lr, "schedule": "linear", "warmup": 5, "weight_decay": 0.0},
            "objective": dict(objective or {}),
        }
        if adapter:
            recipe["lora"] = {"rank": 16}
        return run(parse_recipe(recipe), name).checkpoint


def _compared(rows: list[dict[str, str]], trainings: _Trainings) -> Iterable[Row]:
    import kun
    from kun.alignment.candidates import (
        Sampling,
        read_prompts,
        sampled_answers,
        scored_candidates,
        write_kept,
    )
    from kun.alignment.rollouts import ByRewardModel

    quick = trainings.quick
    pairs = trainings.write("pairs", rows[LEARNED][: 24 if quick else None])
    others = trainings.write("others", rows[OTHERS][: 24 if quick else None])
    unseen = trainings.write("unseen", rows[1300:])
    talks = [talk for talk in map(_chosen, rows[LEARNED]) if str(talk[-1]["content"]).strip()]
    chosen = trainings.write("chosen", [{"messages": talk} for talk in talks])
    sft = trainings.run("sft", "finetune", BASE, chosen, batch_tokens=STEP_TOKENS)
    first, second = (
        trainings.run(name, "reward", BASE, data, batch=8)
        for name, data in (("first", pairs), ("second", others))
    )
    judges = Judges([kun.load(first), kun.load(second)])
    how, many = Sampling(1, TOKENS, 1.0, SEED), Sampling(BEST_OF, TOKENS, 1.0, SEED)
    with kun.load(sft) as start:
        asked = read_prompts(start, unseen, how).prompts[: 4 if quick else ASKED]
        answers = [some for _, some in sampled_answers(start, asked, how)]
        judges.start = judges.scores(asked, answers)
        note = f"{len(asked)} prompts, {TOKENS} tokens"
        yield Row("SFT, where all others begin", _shape(answers), note=note)

        found = list(scored_candidates(start, ByRewardModel(judges.models[0]), asked, many))
        best = [[one.answers[one.best]] for one in found]
        scored = judges.gains(judges.scores(asked, best))
        shown = f"{scored}, at most {many.divergence:.1f} nats, {_shape(best)}"
        yield Row(
            f"best of {BEST_OF}", shown, note=f"{BEST_OF} times the sampling for each answer; nothing trained"
        )

        learned = read_prompts(start, pairs, how).prompts[: 8 if quick else None]
        sampling = Sampling(REJECTED, TOKENS, 1.0, SEED + 1)
        kept = trainings.folder / "kept.jsonl"
        outcome = write_kept(
            scored_candidates(start, ByRewardModel(judges.models[0]), learned, sampling), kept
        )

        by_rewards: dict[str, Any] = {"reward": str(first), "max_tokens": TOKENS, "kl": 0.05}
        ways: dict[str, tuple[str, Path, dict[str, Any], dict[str, Any]]] = {
            f"rejection sampling, {outcome.kept} answers": (
                "finetune",
                kept,
                {},
                {"batch_tokens": STEP_TOKENS},
            ),
            "DPO": ("dpo", pairs, {}, {"batch": 8}),
            "PPO": ("ppo", pairs, by_rewards, {"batch": 16}),
            "GRPO": ("grpo", pairs, {**by_rewards, "answers": 8}, {"batch": 16}),
        }
        for number, (what, (stage, data, objective, train)) in enumerate(ways.items()):
            made = trainings.run(
                f"way-{number}", stage, sft, data, objective=objective, lr=1e-4, adapter=True, **train
            )
            with kun.load(made) as policy:
                said = [some for _, some in sampled_answers(policy, asked, how)]
                nats = _divergence(policy, start, asked, said)
            scored = judges.gains(judges.scores(asked, said))
            yield Row(what, f"{scored}, {nats:.1f} nats, {_shape(said)}", note=note)


def _chosen(row: Mapping[str, str]) -> list[dict[str, object]]:
    """The better conversation as messages; some people of HH preferred an answer without a word."""
    from kun.data.preferences import to_ranking
    from kun.data.records import Record

    ranking = to_ranking(Record("pairs", dict(row)))
    return [dict(message) for message in (*ranking.prompt, *ranking.answers[0])]


def _shape(answers: Sequence[Sequence[Any]]) -> str:
    some = [each[0] for each in answers]
    length = sum(len(one.ids) for one in some) / len(some)
    return f"{length:.0f} tokens, {sum(one.ended for one in some) / len(some):.0%} ended"


def _divergence(policy: Any, start: Any, prompts: Sequence[Any], answers: Sequence[Sequence[Any]]) -> float:
    """The mean of log p - log p of the start over the policy's own answers, in nats an answer, without their ends."""
    sums = []
    for prompt, some in zip(prompts, answers, strict=True):
        answer = some[0].ids.tolist()
        if not answer:
            continue
        ids = [*prompt.ids.tolist(), *answer]
        by = [
            sum(each.logprob for each in lm.prompt_logprobs(ids)[-len(answer) :] if each is not None)
            for lm in (policy, start)
        ]
        sums.append(by[0] - by[1])
    return float(np.mean(sums)) if sums else 0.0


if __name__ == "__main__":
    main(measure, __doc__)
