"""Pipelines in diffusers' layout: written whole, read back, refused where a component is not what it should be."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import LLAMA, byte_level_tokenizer, network

import kun
from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.hub.opening import open_checkpoint
from kun.hub.pipeline import Named, PipelineCheckpoint, save_pipeline
from kun.hub.store import installed
from kun.settings import settings

SCHEDULE = {"_class_name": "DDIMScheduler", "num_train_timesteps": 10}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = byte_level_tokenizer()
    net = network(LLAMA | {"vocab_size": tokenizer.get_vocab_size()})
    parts = {
        "text_encoder": net,
        "unet": Named(net, "kun", "TinyDrawer"),
        "tokenizer": tokenizer,
        "scheduler": SCHEDULE,
    }
    return save_pipeline(tmp_path / "drawer", parts, lineage={"licence": "MIT"})


def opened(folder: Path) -> PipelineCheckpoint:
    pipeline = open_checkpoint(folder)
    assert isinstance(pipeline, PipelineCheckpoint)
    return pipeline


def test_a_pipeline_comes_back_as_it_was_written(folder: Path) -> None:
    assert json.loads((folder / "model_index.json").read_text()) == {
        "_class_name": "KunPipeline",
        "text_encoder": ["transformers", "LlamaForCausalLM"],
        "unet": ["kun", "TinyDrawer"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    pipeline = opened(folder)
    pipeline.verify()
    assert pipeline.lineage["licence"] == "MIT"
    assert pipeline.schedule() == SCHEDULE
    assert pipeline.tokenizer.encode("fox").ids == byte_level_tokenizer().encode("fox").ids
    expected = network(pipeline.part("text_encoder").config).state_dict()
    read = pipeline.part("text_encoder").network().state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert pipeline.part("unet").state().keys() == pipeline.part("text_encoder").state().keys()


def test_any_change_of_a_component_changes_the_identity(folder: Path) -> None:
    before = opened(folder).identity
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("10", "20"))
    assert opened(folder).identity != before


def test_a_pipeline_without_a_component_names_it(folder: Path) -> None:
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(DamagedFile, match=r"drawer/scheduler is missing.*a schedule \(DDIMScheduler\)"):
        open_checkpoint(folder)


def test_a_component_of_another_kind_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    shutil.copytree(folder / "tokenizer", folder / "unet")
    with pytest.raises(DamagedFile, match=r"(kun\.json recorded|holds a tokenizer, where .* a network)"):
        open_checkpoint(folder)
    (folder / "kun.json").unlink()
    with pytest.raises(DamagedFile, match=r"unet holds a tokenizer, where .* names a network \(TinyDrawer\)"):
        open_checkpoint(folder)


def test_a_component_of_another_class_is_refused(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("TinyDrawer", "UNet2DConditionModel"))
    with pytest.raises(DamagedFile, match=r"is of a TinyDrawer, and .* names a UNet2DConditionModel"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "a\\..\\..\\b"])
def test_a_component_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {name: ["diffusers", "VAE"]}))
    with pytest.raises(DamagedFile, match="outside the folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize("stated", [["diffusers"], [1, 2], ["", "X"]])
def test_a_component_without_library_and_class_is_refused(folder: Path, stated: list[object]) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"vae": stated}))
    with pytest.raises(DamagedFile, match="'vae'"):
        open_checkpoint(folder)


def test_a_component_that_was_left_out_is_none(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"safety_checker": [None, None]}))
    assert "safety_checker" not in opened(folder).components


def test_a_pipeline_is_no_single_model(folder: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="pipeline"):
        kun.load(folder)
    with pytest.raises(UnsupportedFormat, match="no network named 'scheduler'"):
        opened(folder).part("scheduler")


def test_a_pipeline_under_the_home_is_listed_as_one(folder: Path, tiny_home: Path) -> None:
    shutil.copytree(folder, settings().models / "drawer")
    (listed,) = installed()
    assert (listed.kind, listed.whole) == ("pipeline", True)


def test_what_is_no_component_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    for parts in ({}, {"a/b": SCHEDULE}, {"x": 3}, {"x": {"_class_name": "Nothing"}}, {"_x": SCHEDULE}):
        with pytest.raises(BadInput):
            save_pipeline(tmp_path / "new", parts)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="holds other things"):
        save_pipeline(tmp_path / "mine", {"scheduler": SCHEDULE})
