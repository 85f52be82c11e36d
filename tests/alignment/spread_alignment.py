"""Run by torchrun: gradients of the tasks of alignment on several processes, next to those of one.

`spread_alignment.py RECIPE OUT` prints a line of JSON for each task and size of micro-batch: how far the gradients are
from those of one process and one batch, relative to their norm. Then it trains by the recipe on all processes.
"""

import json
import sys

import numpy as np
import torch
import torch.distributed as dist

import kun
from kun.alignment.branches import Tree
from kun.alignment.experience import Experience, Piece, experience_batch
from kun.alignment.policy import Policy
from kun.alignment.preference_data import Compared
from kun.alignment.prompts import Prompt
from kun.alignment.rollouts import Rollout, tree_of
from kun.alignment.task import compared_batch
from kun.alignment.tasks.dpo import Dpo
from kun.alignment.tasks.grpo import Grpo
from kun.alignment.tasks.ppo import Ppo
from kun.alignment.tasks.reward import Reward
from kun.families.llama.config import LlamaConfig
from kun.families.llama.llama import Llama
from kun.networks.classifier import Classifier, ClassifierConfig
from kun.training.layout import ParallelLayout
from kun.training.networks import Networks
from kun.training.optimizers import Optimizer
from kun.training.processes import ALONE, joined
from kun.training.tables import OptimizerTable, Parallel

SIZE = LlamaConfig(vocab_size=64, d_model=32, n_layers=2, n_heads=2, n_kv_heads=1, d_head=16, d_ff=64)
CPU = torch.device("cpu")


def draw(rng, length):
    return rng.integers(0, 64, length).astype(np.int32)


def network(seed):
    torch.manual_seed(seed)
    return Llama(SIZE)


def policy():
    made = Policy(network(0))
    torch.nn.init.normal_(made.value.weight, std=0.1)
    return Networks(made)


def rankings():
    """Eight pairs: sixteen answers of 1 to 16 tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.arange(1, 17)).reshape(8, 2)
    made = []
    for number, both in enumerate(lengths):
        branches = tuple(draw(rng, length) for length in both)
        learned = tuple(np.ones(length, np.bool_) for length in both)
        made.append(Compared(Tree(draw(rng, 3 + number), branches, learned), (0, 1), f"x:{number}"))
    return made


def experiences(groups, answers):
    """Sixteen answers of 1 to 16 tokens, some of them cut, with scores and what is known of each token."""
    rng = np.random.default_rng(1)
    lengths = rng.permutation(np.arange(1, 17)).reshape(groups, answers)
    made = []
    for number, each in enumerate(lengths):
        prompt = Prompt(({"role": "user", "content": "x"},), draw(rng, 2 + number % 5), f"x:{number}")
        some = [
            Rollout(draw(rng, n), rng.normal(-4, 0.1, n).astype(np.float32), "", bool(n % 3)) for n in each
        ]
        one = Experience(prompt, tree_of(prompt, some), some, rng.normal(size=answers).astype(np.float32), {})
        one.tokens["sampler"] = [answer.log_probs for answer in some]
        for name in ("old", "reference", "values"):
            one.tokens[name] = [rng.normal(-4, 0.2, n).astype(np.float32) for n in each]
        made.append(one)
    return made


def cases():
    """Name, task, networks, data, how data become a batch, and how many of them make 16, 4 and 1 answers (or one)."""
    config = ClassifierConfig(SIZE, ("LABEL_0",), "regression")
    yield (
        "reward",
        Reward(Reward.Options()),
        lambda: Networks(Classifier(config, network(0))),
        rankings,
        compared_batch,
        (8, 2, 1),
    )
    dpo = Dpo(Dpo.Options())
    yield (
        "dpo",
        dpo,
        lambda: Networks(network(0), {"reference": network(1)}),
        rankings,
        compared_batch,
        (8, 2, 1),
    )
    for name, task, shape, sizes in (
        ("ppo", Ppo(Ppo.Options()), (16, 1), (16, 4, 1)),
        ("grpo", Grpo(Grpo.Options(answers=2)), (8, 2), (16, 4, 1)),
    ):

        def weighed(task=task, shape=shape, rank=0, world=1):
            some = experiences(*shape)[rank::world]
            task.judge().weigh(some, 0.1, CPU)
            return [(one, number) for one in some for number in range(len(one.answers))]

        yield name, task, policy, weighed, answers_batch, sizes


def answers_batch(some):
    """A batch of answers, those to one prompt in one tree."""
    pieces = []
    for one, number in some:
        if pieces and pieces[-1].whole is one:
            pieces[-1] = Piece(one, range(pieces[-1].answers.start, number + 1))
        else:
            pieces.append(Piece(one, range(number, number + 1)))
    return experience_batch(pieces)


def gradient(networks, processes, task, batches, table):
    layout = ParallelLayout(networks, processes)
    slots = Optimizer(layout.net, table).slots
    (count,) = processes.total(sum(task.count(batch) for batch in batches))
    layout.gradients(task, batches, count)
    layout.reduce(slots)
    each = [torch.zeros_like(slot.weight) if slot.gradient is None else slot.gradient for slot in slots]
    return torch.cat([one.flatten() for one in each])


def cut(data, make, size):
    return [make(data[first : first + size]) for first in range(0, len(data), size)]


def main(recipe, out):
    given, alone, table = list(cases()), {}, OptimizerTable()
    for name, task, networks, data, make, sizes in given:  # before anyone knows of other processes
        for size in sizes:
            alone[name, size] = gradient(networks(), ALONE, task, cut(data(), make, size), table)
    dist.init_process_group("gloo")
    with joined(Parallel(data=2)) as (processes, _):
        rank, world = processes.place("data"), processes.size("data")
        for name, task, networks, data, make, sizes in given:
            mine = data(rank=rank, world=world) if name in ("ppo", "grpo") else data()[rank::world]
            whole = alone[name, sizes[0]]
            for size in sizes:
                found = gradient(networks(), processes, task, cut(mine, make, size), table)
                apart = [float((one - whole).norm() / whole.norm()) for one in (alone[name, size], found)]
                if processes.is_first:
                    print(json.dumps({"task": name, "size": size, "apart": apart}), flush=True)
    kun.train(recipe, {"out": out, "parallel.data": 2})
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
