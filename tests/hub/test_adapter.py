"""An adapter's folder: what is in it, what it makes of its base, and what is wrong with one that does not fit."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import LLAMA, TEMPLATE, byte_level_tokenizer, network, save_encoder

import kun
from kun.adaptation.lora import LoraConfig, add_lora, lora_pairs
from kun.errors import BadInput, BaseMismatch, DamagedFile, KunError, ModelNotFound, UnsupportedFormat
from kun.hub import store
from kun.hub.adapter import AdapterCheckpoint
from kun.hub.adapter_saving import save_adapter
from kun.hub.checkpoint import Checkpoint
from kun.hub.opening import open_checkpoint
from kun.hub.saving import save_checkpoint

IDS = torch.arange(3, 20)[None]


def adapted(base: Checkpoint, seed: int = 1, **config: Any) -> Any:
    """The base's network with an adapter that changes what it says."""
    torch.manual_seed(seed)
    net = add_lora(base.network("float32"), LoraConfig(**({"rank": 3} | config)))
    for pair in lora_pairs(net).values():
        torch.nn.init.normal_(pair.b, std=0.2)
    return net


def logits(net: Any) -> torch.Tensor:
    with torch.no_grad():
        return net(IDS).logits


@pytest.fixture
def base(llama_folder: Path) -> Checkpoint:
    return open_checkpoint(llama_folder)


@pytest.fixture
def folder(base: Checkpoint, tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "poet", adapted(base), origin=base, lineage={"recipe": {"steps": 3}})


def changed(folder: Path, change: Callable[[dict[str, Any]], Any], file: str = "adapter_config.json") -> None:
    said = json.loads((folder / file).read_text())
    change(said)
    (folder / file).write_text(json.dumps(said))


def test_an_adapter_trained_on_an_adapter_is_one_of_the_base_of_both(
    base: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    start = open_checkpoint(folder)
    net = adapted(start, seed=2, rank=2)
    both = open_checkpoint(save_adapter(tmp_path / "both", net, origin=start))
    assert isinstance(both, AdapterCheckpoint)
    assert both.base.identity == base.identity
    assert both.stated["r"] == 3 + 2
    assert [parent["identity"] for parent in both.lineage["parents"]] == [base.identity, start.identity]
    assert torch.allclose(logits(both.network("float32")), logits(net), atol=1e-5)
    assert not torch.allclose(logits(net), logits(start.network("float32")), atol=1e-3)


def test_a_checkpoint_opened_from_an_adapter_is_the_merged_model(base: Checkpoint, folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert isinstance(checkpoint, AdapterCheckpoint)
    torch.testing.assert_close(logits(checkpoint.network()), logits(adapted(base)), rtol=1e-4, atol=1e-5)
    assert checkpoint.identity != base.identity
    assert checkpoint.generation_config == base.generation_config
    assert checkpoint.chat_template is not None
    assert checkpoint.chat_template.source == TEMPLATE
    assert checkpoint.lineage["parents"] == [{"name": "tiny-llama", "identity": base.identity}]
    checkpoint.verify()


def test_training_goes_on_from_what_was_saved(base: Checkpoint, folder: Path) -> None:
    net, before = AdapterCheckpoint.open(folder).adapted(), adapted(base)
    assert torch.equal(logits(net), logits(before))
    trains = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    assert trains == [name for name, parameter in before.named_parameters() if parameter.requires_grad]


def test_its_own_template_and_tokenizer_are_used_not_the_bases(base: Checkpoint, tmp_path: Path) -> None:
    other = byte_level_tokenizer()
    other.add_tokens(["<poem>"])
    template = "{{ messages[0].content }}!"
    folder = save_adapter(
        tmp_path / "poet", adapted(base), origin=base, tokenizer=other, chat_template=template
    )
    checkpoint = open_checkpoint(folder)
    assert checkpoint.chat_template is not None
    assert checkpoint.chat_template.render([{"role": "user", "content": "hi"}]) == "hi!"
    assert checkpoint.tokenizer.token_to_id("<poem>") is not None
    assert base.tokenizer.token_to_id("<poem>") is None


def test_merged_it_is_saved_as_an_ordinary_checkpoint(base: Checkpoint, folder: Path, tmp_path: Path) -> None:
    lm: Any = kun.load(folder)
    wanted = lm.generate("The quick", max_tokens=8, temperature=0)
    kun.save(lm, tmp_path / "whole")
    whole = open_checkpoint(tmp_path / "whole")
    assert not isinstance(whole, AdapterCheckpoint)
    assert whole.lineage["parents"] == [{"name": "poet", "identity": open_checkpoint(folder).identity}]
    assert whole.lineage["licence"] == "Apache-2.0"
    torch.testing.assert_close(logits(whole.network()), logits(adapted(base)), rtol=1e-4, atol=1e-5)
    again: Any = kun.load(tmp_path / "whole")
    assert again.generate("The quick", max_tokens=8, temperature=0) == wanted
    assert again.template.source == TEMPLATE


def test_a_bfloat16_base_is_merged_in_float32(base: Checkpoint, tmp_path: Path) -> None:
    """Rounded to bfloat16, small changes of large weights would be lost."""
    half = save_checkpoint(
        tmp_path / "half", base.network().bfloat16(), tokenizer=base.tokenizer, origin=base
    )
    origin = open_checkpoint(half)
    net = adapted(origin)
    for pair in lora_pairs(net).values():
        pair.b.data *= 1e-3
    merged = open_checkpoint(save_adapter(tmp_path / "fine", net, origin=origin)).network()
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(merged), logits(net), rtol=1e-5, atol=1e-6)
    assert not torch.equal(logits(merged), logits(origin.network("float32")))


def test_a_head_that_trained_entirely_goes_with_the_adapter(tmp_path: Path) -> None:
    base = open_checkpoint(save_encoder(tmp_path / "encoder"))
    config = {**base.config, "architectures": ["BertForSequenceClassification"]}
    config |= {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}
    net: Any = network(config)
    plain = base.network().state_dict()
    net.load_state_dict(plain, strict=False)
    add_lora(net, LoraConfig(rank=2, whole=("head",)))
    for pair in lora_pairs(net).values():
        torch.nn.init.normal_(pair.b, std=0.2)
    folder = save_adapter(tmp_path / "judge", net, origin=base)
    said = json.loads((folder / "adapter_config.json").read_text())
    assert (said["task_type"], said["modules_to_save"]) == ("SEQ_CLS", ["classifier"])
    checkpoint = open_checkpoint(folder)
    assert checkpoint.head == "SequenceClassification"
    torch.testing.assert_close(logits(checkpoint.network()), logits(net), rtol=1e-4, atol=1e-5)
    assert isinstance(checkpoint, AdapterCheckpoint)
    trains = {name for name, one in checkpoint.adapted().named_parameters() if one.requires_grad}
    assert trains == {name for name, one in net.named_parameters() if one.requires_grad}


def test_an_adapter_of_an_encoder_keeps_the_bases_pooling_and_prompts(tmp_path: Path) -> None:
    base = open_checkpoint(save_encoder(tmp_path / "encoder"))
    prompts = {"prompts": {"query": "ask: ", "passage": "say: "}, "default_prompt_name": None}
    changed(base.path, lambda said: said.update(prompts), "config_sentence_transformers.json")
    encoder: Any = kun.load(save_adapter(tmp_path / "near", adapted(base), origin=base))
    assert encoder.recipe.prefixes["query"] == "ask: "
    plain: Any = kun.load(base.path)
    assert (encoder.embed(["a fox"])[0] @ plain.embed(["a fox"])[0]) < 0.9999


def test_the_base_is_found_again_by_its_digest(
    base: Checkpoint, folder: Path, tiny_home: Path, tmp_path: Path
) -> None:
    (tiny_home / "models").mkdir()
    shutil.move(base.path, tiny_home / "models" / "renamed")
    assert AdapterCheckpoint.open(folder).base.path == tiny_home / "models" / "renamed"
    shutil.rmtree(tiny_home / "models" / "renamed")
    with pytest.raises(ModelNotFound, match="adapter of tiny-llama, which is not here"):
        open_checkpoint(folder)


def test_a_base_that_is_named_is_the_one_or_none(base: Checkpoint, folder: Path, tmp_path: Path) -> None:
    assert AdapterCheckpoint.open(folder, base.path).base.path == base.path
    with pytest.raises(ModelNotFound, match="elsewhere"):
        AdapterCheckpoint.open(folder, tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="is an adapter itself"):
        AdapterCheckpoint.open(folder, folder)


def test_it_is_listed_with_the_models(base: Checkpoint, folder: Path, tiny_home: Path) -> None:
    (tiny_home / "models").mkdir()
    shutil.move(folder, tiny_home / "models" / "poet")
    (listed,) = store.installed()
    assert (listed.name, listed.kind, listed.base, listed.whole) == ("poet", "decoder", "tiny-llama", True)
    assert "adapter of tiny-llama" in listed.description
    assert store.resolve("poet") == tiny_home / "models" / "poet"
    path = listed.path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert not store.installed()[0].whole
    store.remove("poet")
    assert not store.installed()


def test_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    config = LLAMA | {"vocab_size": tokenizer.get_vocab_size()}
    other = save_checkpoint(tmp_path / "other", network(config, seed=9), tokenizer=tokenizer)
    with pytest.raises(BaseMismatch, match=re.escape(str(other)) + r" is another .* trained on"):
        AdapterCheckpoint.open(folder, other)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"peft_type": "IA3"}, UnsupportedFormat, "IA3"),
        ({"use_dora": True}, UnsupportedFormat, "use_dora"),
        ({"bias": "all"}, UnsupportedFormat, "biases"),
        ({"lora_alpha": "much"}, KunError, "lora_alpha"),
    ],
)
def test_what_kun_does_not_read_is_named(
    folder: Path, change: dict[str, Any], error: type[Exception], match: str
) -> None:
    changed(folder, lambda said: said.update(change))
    with pytest.raises(error, match=match):
        open_checkpoint(folder).network()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda state: state.popitem(), "does not hold pairs"),
        (lambda state: state.update({n: t[:-1] for n, t in state.items() if "q_proj.lora_B" in n}), "rows"),
        (
            lambda state: state.update({n: t[:, :-1].clone() for n, t in state.items() if "lora_A" in n}),
            "shape",
        ),
        (
            lambda state: state.update(
                {n.replace("model.layers.1", "model.layers.7"): state.pop(n) for n in list(state)}
            ),
            "layers.7",
        ),
        (lambda state: state.update({n: t.int() for n, t in state.items()}), "floating"),
    ],
)
def test_pairs_that_do_not_fit_are_named(folder: Path, change: Callable[[Any], Any], match: str) -> None:
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    change(state)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    (folder / "kun.json").unlink()
    with pytest.raises(DamagedFile, match=match):
        open_checkpoint(folder).network()


def test_a_file_cut_short_and_a_pickle_are_refused(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedFile, match=re.escape(str(path))):
        open_checkpoint(folder)
    (folder / "kun.json").unlink()
    path.rename(folder / "adapter_model.bin")
    with pytest.raises(UnsupportedFormat, match="pickle"):
        open_checkpoint(folder).network()


def test_what_is_no_adapter_is_not_saved_as_one_nor_overwritten(base: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no adapter"):
        save_adapter(tmp_path / "a", base.network(), origin=base)
    with pytest.raises(BadInput, match="holds other things"):
        save_adapter(base.path, adapted(base), origin=base)
    with pytest.raises(BadInput, match="merge it first"):
        save_checkpoint(tmp_path / "b", adapted(base), tokenizer=base.tokenizer, origin=base)
