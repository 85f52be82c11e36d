"""What training on preferences and by rewards is measured against, in a process of its own: TRL's trainers.

python -m benchmarks.preferences_peer reward --model FOLDER --data PAIRS
python -m benchmarks.preferences_peer dpo --model FOLDER --data PAIRS
python -m benchmarks.preferences_peer loss --model TRAINED --reference FOLDER --data PAIRS
python -m benchmarks.preferences_peer grpo --model FOLDER --data PAIRS --reward FOLDER
python -m benchmarks.preferences_peer ppo --model FOLDER --data PAIRS --reward FOLDER

Networks have float32 weights and compute in bfloat16 (`loss` in float32), without gradient checkpointing, which would
only make them slower here. PPO is in TRL up to 1.12.
"""

import argparse
import json
import tempfile
import time
from itertools import pairwise
from typing import Any

import torch
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

BATCH = 8
ANSWERS, TOKENS, TEMPERATURE, TOGETHER, PARTS = 16, 48, 1.0, 8, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--model", required=True)
    parser.add_argument("--reference")
    parser.add_argument("--reward")
    parser.add_argument("--data", required=True)
    parser.add_argument("--context", type=int, default=320)
    parser.add_argument("--steps", type=int, default=4)
    given = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(KINDS[given.kind](given, folder)))


class Clock(TrainerCallback):
    """The seconds from the end of one step to the end of the next; of the first, which warms up, nothing is kept."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: object, **named: object) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        return [after - before for before, after in pairwise(self.ends)]


def _arguments(given: argparse.Namespace, folder: str, **more: object) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": BATCH,
        "max_steps": given.steps + 1,
        "learning_rate": 1e-5,
        "bf16": True,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "optim": "adamw_torch_fused",
    } | more


def _lm(name: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)


def _scorer(name: str) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, dtype=torch.float32)


def _pairs(given: argparse.Namespace) -> Any:
    return load_dataset("json", data_files=given.data, split="train")


def _reward(given: argparse.Namespace, folder: str) -> dict[str, object]:
    from trl import RewardConfig, RewardTrainer

    net, clock = _scorer(given.model), Clock()
    how = RewardConfig(**_arguments(given, folder, max_length=given.context))
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    net.config.pad_token_id = tokenizer.pad_token_id
    RewardTrainer(
        net, how, train_dataset=_pairs(given), processing_class=tokenizer, callbacks=[clock]
    ).train()
    return {"seconds": clock.seconds, "items": BATCH}


def _dpo(given: argparse.Namespace, folder: str) -> dict[str, object]:
    from trl import DPOConfig, DPOTrainer

    clock = Clock()
    how = DPOConfig(**_arguments(given, folder, max_length=given.context))
    DPOTrainer(
        _lm(given.model),
        ref_model=_lm(given.model),
        args=how,
        train_dataset=_pairs(given),
        processing_class=AutoTokenizer.from_pretrained(given.model),
        callbacks=[clock],
    ).train()
    return {"seconds": clock.seconds, "items": BATCH}


def _loss(given: argparse.Namespace, folder: str) -> dict[str, object]:
    """The loss of DPO of one network against another, over all pairs, in float32."""
    from trl import DPOConfig, DPOTrainer

    changes = {"bf16": False, "per_device_eval_batch_size": BATCH, "max_length": given.context}
    trainer = DPOTrainer(
        _lm(given.model),
        ref_model=_lm(given.reference),
        args=DPOConfig(**_arguments(given, folder, **changes)),
        train_dataset=_pairs(given),
        eval_dataset=_pairs(given),
        processing_class=AutoTokenizer.from_pretrained(given.model),
    )
    return {"loss": trainer.evaluate()["eval_loss"]}


def _grpo(given: argparse.Namespace, folder: str) -> dict[str, object]:
    from trl import GRPOConfig, GRPOTrainer

    clock, lengths = Clock(), list[float]()

    def counted(completion_ids: list[list[int]], **named: object) -> list[float]:
        lengths.extend(map(len, completion_ids))
        return [0.0] * len(completion_ids)

    how = GRPOConfig(
        **_arguments(
            given,
            folder,
            per_device_train_batch_size=ANSWERS,
            num_generations=TOGETHER,
            max_completion_length=TOKENS,
            temperature=TEMPERATURE,
            beta=0.05,
        )
    )
    GRPOTrainer(
        _lm(given.model),
        reward_funcs=[given.reward, counted],
        args=how,
        train_dataset=_pairs(given),
        processing_class=AutoTokenizer.from_pretrained(given.model),
        callbacks=[clock],
    ).train()
    return {"seconds": clock.seconds, "items": ANSWERS, "length": sum(lengths) / len(lengths)}


def _ppo(given: argparse.Namespace, folder: str) -> dict[str, object]:
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    clock, tokenizer = Clock(), AutoTokenizer.from_pretrained(given.model, padding_side="left")
    rows = _pairs(given).map(
        lambda row: {
            "input_ids": tokenizer.apply_chat_template(
                row["prompt"], add_generation_prompt=True, return_dict=True
            )["input_ids"]
        },
        remove_columns=["prompt", "chosen", "rejected"],
    )
    how = PPOConfig(
        **_arguments(
            given,
            folder,
            max_steps=-1,
            per_device_train_batch_size=ANSWERS // PARTS,  # all at once were ended by the system, of 24 GB
            gradient_accumulation_steps=PARTS,
            total_episodes=ANSWERS * (given.steps + 1),
            num_ppo_epochs=1,
            num_mini_batches=1,
            response_length=TOKENS,
            temperature=TEMPERATURE,
            local_rollout_forward_batch_size=ANSWERS // PARTS,
            num_sample_generations=0,
        )
    )
    trainer = PPOTrainer(
        args=how,
        processing_class=tokenizer,
        model=_lm(given.model),
        ref_model=_lm(given.model),
        reward_model=_scorer(given.reward),
        value_model=_scorer(given.reward),
        train_dataset=rows,
        eval_dataset=rows.select(range(ANSWERS)),
        callbacks=[clock],
    )
    trainer.train()
    return {"seconds": clock.seconds, "items": ANSWERS}


KINDS = {"reward": _reward, "dpo": _dpo, "loss": _loss, "grpo": _grpo, "ppo": _ppo}

if __name__ == "__main__":
    main()
