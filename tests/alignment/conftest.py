"""A small decoder with a chat template, and preferences for it to learn."""

import pytest
from small_talk import talks, write


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A checkpoint of a small LLaMA with bytes for tokens and ChatML for a template."""
    import kun

    folder = tmp_path_factory.mktemp("base")
    text = write(folder / "text.jsonl", ({"text": row["prompt"]} for row in talks(40)))
    recipe = folder / "base.toml"
    recipe.write_text(
        f"""
stage = "pretrain"
out = "{folder / "run"}"
[model]
family = "llama"
n_layers = 2
n_heads = 2
n_kv_heads = 1
d_model = 32
d_ff = 64
tokenizer = "bytes"
[data]
train = "{text}"
[train]
steps = 2
context = 128
batch_tokens = 512
precision = "fp32"
[optimizer]
lr = 1e-3
""",
        encoding="utf-8",
    )
    return kun.train(recipe).checkpoint


@pytest.fixture(scope="session")
def lm(base, tmp_path_factory):
    """The small decoder with a chat template, as a training on preferences saves it."""
    import kun

    folder = tmp_path_factory.mktemp("policy")
    data = write(folder / "pairs.jsonl", talks(4))
    recipe = folder / "dpo.toml"
    recipe.write_text(
        f'stage = "dpo"\nout = "{folder / "run"}"\n[model]\nfrom = "{base}"\n[data]\ntrain = "{data}"\n'
        '[train]\nsteps = 1\ncontext = 128\nbatch = 2\nprecision = "fp32"\n',
        encoding="utf-8",
    )
    made = kun.load(kun.train(recipe).checkpoint)
    yield made
    made.close()


@pytest.fixture
def preferences(tmp_path):
    return write(tmp_path / "pairs.jsonl", talks(120))


@pytest.fixture
def recipe(tmp_path, base, preferences):
    """The recipe of a stage that learns from preferences."""

    def made(stage, more="", **keys):
        train = {"steps": 40, "context": 128, "batch": 8, "precision": '"fp32"', "eval_every": 20} | keys
        lines = "\n".join(f"{key} = {value}" for key, value in train.items())
        path = tmp_path / f"{stage}.toml"
        path.write_text(
            f'stage = "{stage}"\nout = "{tmp_path / stage}"\n[model]\nfrom = "{base}"\n'
            f'[data]\ntrain = "{preferences}"\neval = 0.2\n[train]\n{lines}\n'
            f'[optimizer]\nlr = 3e-3\nschedule = "constant"\n{more}',
            encoding="utf-8",
        )
        return path

    return made


@pytest.fixture
def letters(recipe, tmp_path):
    """A recipe of training by rewards on prompts of one letter."""
    data = write(tmp_path / "letters.jsonl", [{"prompt": one, "completion": one} for one in "abcdefghijkl"])

    def made(objective, stage="ppo", **keys):
        path = recipe(stage, more=f"[objective]\nmax_tokens = 6\n{objective}\n", **{"steps": 2} | keys)
        return path, {"data.train": str(data), "data.eval": 0.3}

    return made
