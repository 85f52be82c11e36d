"""Going on from a checkpoint: all of it, or an adapter beside it; conversations teach what the assistant says."""

import json

import pytest
import torch
from safetensors.torch import load_file

import kun
from kun.errors import BadRecipe
from kun.hub.opening import open_checkpoint
from kun.objectives.text.model import HeadRequirements, open_model
from kun.text.chat import ChatTemplate
from kun.training.opening import Opener
from kun.training.progress import silent
from kun.training.recipe import read_recipe
from kun.training.resolving import resolve
from kun.training.run import RunFolder

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def base(tmp_path):
    """A small LLaMA with a template, over bytes."""
    from kun.families.llama.config import LlamaConfig
    from kun.families.llama.llama import Llama
    from kun.hub.saving import save_checkpoint
    from kun.text.learn import byte_tokenizer

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    config = LlamaConfig(
        vocab_size=264,
        d_model=32,
        n_layers=2,
        n_heads=2,
        n_kv_heads=1,
        d_head=16,
        d_ff=64,
        max_positions=256,
        tied=True,
    )
    end = tokenizer.token_to_id("<|im_end|>")
    template = ChatTemplate(CHATML, {"eos_token": "<|im_end|>"})
    return save_checkpoint(
        tmp_path / "base",
        Llama(config),
        tokenizer=tokenizer,
        chat_template=template,
        generation_config={"eos_token_id": end},
    )


@pytest.fixture
def recipe(tmp_path, base):
    data = tmp_path / "chats.jsonl"
    words = ("fish", "bird", "sea", "cloud")
    rows = [
        {"instruction": f"Say {word}." + " " * number, "input": "", "output": word * 2}
        for number in range(7)
        for word in words
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
stage = "finetune"
out = "{tmp_path / "run"}"
[model]
from = "{base}"
[data]
train = "{data}"
[train]
steps = 30
context = 128
batch_tokens = 512
snapshot_every = 10
[optimizer]
lr = 3e-3
""",
        encoding="utf-8",
    )
    return path


def test_tuning_all_of_a_checkpoint_keeps_its_template_and_names_it_as_the_parent(recipe, base):
    run = kun.train(recipe)
    assert run.metrics[-1]["loss"] < 0.7 * run.metrics[0]["loss"]
    tuned = open_checkpoint(run.checkpoint)
    assert tuned.chat_template.source == CHATML
    assert tuned.generation_config == open_checkpoint(base).generation_config
    assert tuned.lineage["parents"][0]["identity"] == open_checkpoint(base).identity
    assert tuned.lineage["name"] == "run"  # as its folder is called, not "checkpoint" as each run's is
    assert (
        kun.load(run.checkpoint).generate([{"role": "user", "content": "Say fish."}], max_tokens=4)
        is not None
    )


def test_a_network_without_a_template_that_learns_conversations_gets_the_plain_one(recipe, base):
    (base / "chat_template.jinja").unlink()
    settings = json.loads((base / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    assert open_checkpoint(base).chat_template is None
    tuned = open_checkpoint(kun.train(recipe, {"train.steps": 2}).checkpoint)
    asked = [{"role": "user", "content": "Say fish."}]
    assert "Say fish." in tuned.chat_template.render(asked)
    assert kun.load(tuned.path).generate(asked, max_tokens=4) is not None


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_an_adapter_trains_beside_weights_that_stay_as_they_were(recipe, base, quantize):
    before = (base / "model.safetensors").read_bytes()
    changes = {"lora.rank": 4, "optimizer.lr": 1e-2} | ({"lora.quantize": quantize} if quantize else {})
    run = kun.train(recipe, changes)
    assert run.metrics[-1]["loss"] < 0.95 * run.metrics[0]["loss"]  # beside random weights that stay
    assert (base / "model.safetensors").read_bytes() == before
    assert (run.checkpoint / "adapter_config.json").is_file()
    snapshot = load_file(run.path / "snapshots" / "step-30" / "state.safetensors")
    assert all(".lora." in name for name in snapshot)
    assert kun.load(run.checkpoint).generate("Say", max_tokens=3) is not None


def test_an_adapter_run_that_was_interrupted_ends_with_the_same_bits(recipe, tmp_path):
    changes = {"lora.rank": 4, "lora.dropout": 0.1, "optimizer.schedule": "constant"}
    whole = kun.train(recipe, {**changes, "out": str(tmp_path / "whole")})
    kun.train(recipe, {**changes, "train.steps": 17})
    again = kun.train(recipe, changes, resume=True)
    ours, theirs = (load_file(run.checkpoint / "adapter_model.safetensors") for run in (again, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_only_what_the_assistant_says_is_learned(recipe):
    from kun.data.store import TokenStore

    run = kun.train(recipe, {"train.steps": 1})
    store = TokenStore.open(run.path / "data" / "train")
    tokenizer = open_checkpoint(run.checkpoint).tokenizer
    for index in range(len(store)):
        said = tokenizer.decode(store.ids(index)[store.learned(index)].tolist(), skip_special_tokens=False)
        assert said.rstrip("\n") in {f"{word * 2}<|im_end|>" for word in ("fish", "bird", "sea", "cloud")}


def test_an_adapter_needs_a_checkpoint_to_stand_beside(tmp_path, text):
    path = tmp_path / "r.toml"
    said = f'stage = "pretrain"\n[model]\nfamily = "gpt2"\n[data]\ntrain = "{text}"\n'
    path.write_text(f"{said}[train]\nsteps = 1\n[lora]\nrank = 2\n", encoding="utf-8")
    with pytest.raises(BadRecipe, match=r"model\.from"):
        kun.train(path)


def test_a_document_ends_with_the_checkpoints_own_end_token(recipe, base):
    job, _ = resolve(read_recipe(recipe))
    open = Opener(job, torch.device("cpu"), RunFolder(recipe.parent / "run"), silent)
    model = open_model(open, HeadRequirements())
    assert model.tokenizer.id_to_token(model.end) == "<|im_end|>"  # it has <|endoftext|>, too
