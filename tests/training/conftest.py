"""A small text and the recipe of a run that takes seconds."""

import random

import pytest

WORDS = (
    "the fish of the northern sea turns into a bird whose back is broad and whose wings are clouds".split()
)


@pytest.fixture
def text(tmp_path):
    """Sentences of few words, in lines: what a small network learns in some steps."""
    chance = random.Random(0)
    path = tmp_path / "text.jsonl"
    lines = [" ".join(chance.choice(WORDS) for _ in range(chance.randint(3, 30))) for _ in range(200)]
    path.write_text("".join(f'{{"text": "{line}"}}\n' for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def recipe(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
stage = "pretrain"
out = "{tmp_path / "run"}"
[model]
family = "gpt2"
n_layers = 2
n_heads = 2
d_model = 32
dropout = 0.1
tokenizer = "bytes"
[data]
train = "{text}"
eval = 0.1
[train]
steps = 12
context = 32
batch_tokens = 256
micro_batch_tokens = 128
snapshot_every = 5
eval_every = 4
[optimizer]
lr = 3e-3
warmup = 2
""",
        encoding="utf-8",
    )
    return path
