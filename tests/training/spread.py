"""Run by torchrun: networks of every family on several processes, step by step beside the same network on one.

`spread.py CASE …` prints a line of JSON for each: the largest differences of the losses and of the gradients' norms.
"""

import json
import sys

import torch
import torch.distributed as dist
from torch.nn import functional as F

from kun.objectives.next_token import NextToken
from kun.objectives.text.fresh import new_config
from kun.text.learn import byte_tokenizer
from kun.training.feed import Batch
from kun.training.layout import ParallelLayout
from kun.training.networks import Networks
from kun.training.optimizers import Optimizer
from kun.training.processes import ALONE, joined
from kun.training.recipe import parse_recipe
from kun.training.resolving import find_family, resolve
from kun.training.spreading import lay_out
from kun.training.tables import Model
from kun.training.task import Loss

ROWS, LENGTH = 8, 12
STEPS, FEWER = 50, 20
"""Steps of a GPT on two processes, and of a Switch Transformer; for the others, of the same layers, fewer do."""
SIZES = {"d_model": 16, "n_heads": 4, "n_layers": 2}
FAMILIES = {
    "gpt": {},
    "gpt untied": {"tied": False},
    "llama": {"n_kv_heads": 2},
    "bloom": {},
    "glm": {"n_kv_heads": 2, "d_head": 4},
    "bert": {"head": "MaskedLM"},
    "t5": {"d_head": 4},
    "transformer": {},
    "switch": {
        "d_head": 4,
        "n_experts": 4,
        "n_sparse_layers": 1,
        "n_sparse_decoder_layers": 1,
        "jitter": 0.0,
    },
    "gshard": {
        "n_experts": 4,
        "sparse_step": 1,
        "decoder_sparse_step": 2,
        "output_masking": 0.0,
        "second_expert": "all",
    },
}


class Logits(NextToken):
    """Cross-entropy of whatever logits a network gives."""

    name = "logits"

    def count(self, batch: Batch) -> int:
        return batch["labels"].numel()

    def loss(self, networks, batch):
        given = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = networks.trained(**given).logits
        labels = batch["labels"].flatten()
        summed = F.cross_entropy(logits.flatten(0, -2).float(), labels, reduction="sum")
        return Loss(summed, self.count(batch))


def make(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = Model(family=family.split(maxsplit=1)[0], **SIZES, **FAMILIES[family])
    config = new_config(model, byte_tokenizer(), LENGTH)
    net = find_family(model.family).network(config)
    with torch.no_grad():
        for parameter in net.parameters():  # norms and biases, too, somewhere else than where they start
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return net


def rows_of(step: int, net: torch.nn.Module) -> Batch:
    """The rows of a step: sequences that can be learned, in documents and with padding."""
    chance = torch.Generator().manual_seed(step)
    starts = torch.randint(0, 200, (ROWS, 1), generator=chance)
    ids = (starts + torch.arange(LENGTH + 1) * 3) % 250
    batch = {"input_ids": ids[:, :-1].contiguous(), "labels": ids[:, 1:].contiguous()}
    if hasattr(net, "encoder"):
        return {**batch, "decoder_input_ids": batch["input_ids"].flip(0).contiguous()}
    documents = torch.ones(ROWS, LENGTH, dtype=torch.int32)
    documents[:, LENGTH // 2 :] = 2
    return {**batch, "attention_mask": documents}


def train(layout: ParallelLayout, objective, parts: list[slice], recipe) -> list[tuple[float, float]]:
    """Losses and norms of all steps; `parts` are the rows that this process takes, as much as goes through at once."""
    optimizer = Optimizer(layout.net, recipe.optimizer)
    told = []
    layout.net.train()
    for step in range(recipe.train.steps):
        whole = rows_of(step, layout.net)
        batches = [{name: tensor[part] for name, tensor in whole.items()} for part in parts]
        (targets,) = layout.processes.total(sum(objective.count(batch) for batch in batches))
        (loss,) = layout.processes.total(float(layout.gradients(objective, batches, targets).sum))
        layout.reduce(optimizer.slots)
        norm = layout.norm(optimizer.slots)
        optimizer.step(1.0, norm)
        told.append((loss, float(norm)))
    return told


def main(case: str) -> None:
    family, *words = case.split(",")
    table = {key: int(value) for key, value in (word.split("=") for word in words)}
    is_long = family == "switch" or (dist.get_world_size() == 2 and family in ("gpt", "gpt muon"))
    steps = STEPS if is_long else FEWER
    if "shard" in table:
        table["shard"] = bool(table["shard"])
    recipe = parse_recipe(
        {
            "stage": "pretrain",
            "model": {"family": "gpt2"},
            "data": {"train": "none"},
            "train": {"steps": steps, "precision": "fp32"},
            "optimizer": {"lr": 3e-3, "name": "muon" if "muon" in family else "adamw", "muon_lr": 0.002},
            "parallel": table,
        }
    )
    job, _ = resolve(recipe)
    family = family.removesuffix(" muon")
    with joined(recipe.parallel) as (processes, _):
        data = table.get("data", 1)
        each = ROWS // data
        objective = NextToken() if "pipeline" in table else Logits()
        if processes.is_first:  # the others wait
            alone = train(
                ParallelLayout(Networks(make(family)), ALONE),
                objective,
                [slice(i * each, (i + 1) * each) for i in range(data)],
                recipe,
            )
        first = processes.place("data") * each
        halves = [slice(first, first + each // 2), slice(first + each // 2, first + each)]
        parts = [slice(first, first + each)] if "expert" in table else halves
        ours = train(lay_out(Networks(make(family)), job, processes), objective, parts, recipe)
    if processes.is_first:
        apart = [abs(a[0] - b[0]) for a, b in zip(alone, ours, strict=True)]
        norms = [abs(a[1] - b[1]) / a[1] for a, b in zip(alone, ours, strict=True)]
        learned = alone[0][0] - alone[-1][0]
        early, loss, norm = max(apart[:10] + norms[:10]), max(apart), max(norms)
        print(
            json.dumps({"case": case, "loss": loss, "early": early, "norm": norm, "learned": learned}),
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for one in sys.argv[1:]:
        main(one)
    dist.destroy_process_group()
