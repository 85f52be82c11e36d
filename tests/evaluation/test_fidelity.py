"""The proof of an export: it passes what is the same, and finds a wrong template, tokenizer or weight."""

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_masked import write as write_masked
from tiny_models import save_writer

from kun.adaptation.lora import LoraConfig, add_lora, lora_pairs, merge
from kun.hub.adapter import AdapterCheckpoint
from kun.hub.adapter_saving import save_adapter
from kun.hub.checkpoint import Checkpoint
from kun.hub.export import fidelity, reading, verdict
from kun.hub.export.comparing import Tolerance, compare_chats, compare_states, compare_tokens
from kun.hub.export.exporting import Export
from kun.hub.export.fidelity import export_model, prove
from kun.hub.export.verdict import ExportDiffers
from kun.hub.layout import read_json, write_json
from kun.hub.opening import open_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(save_writer(tmp_path_factory.mktemp("models") / "tiny", positions=64))


def exported(checkpoint: Checkpoint, folder: Path, format: str = "hf") -> tuple[Export, Path]:
    export = Export.of(checkpoint, format, None)
    return export, export.write(folder).path


def test_transformers_reads_an_export_as_the_model_it_was_made_of(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    found = export_model(checkpoint, tmp_path / "out", verify=True).fidelity
    (shown,) = found.readings
    assert found.verdict == "same", found.sentence
    assert shown.tokens.total > 10
    assert shown.chats.total > 5
    assert shown.states.positions > 50


def test_a_template_that_was_broken_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    export, path = exported(checkpoint, tmp_path / "out")
    template = path / "chat_template.jinja"
    template.write_text(template.read_text().replace("\n", " ", 1), encoding="utf-8")
    config = read_json(path / "tokenizer_config.json")
    write_json(path / "tokenizer_config.json", config | {"chat_template": template.read_text()})
    found = prove(export, path)
    assert found.verdict == "differs"
    assert "renders" in found.sentence


@pytest.fixture(scope="module")
def adapter(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> AdapterCheckpoint:
    """An adapter of the tiny model that changes what it says."""
    torch.manual_seed(0)
    net = add_lora(checkpoint.network(), LoraConfig(rank=4))
    with torch.no_grad():
        for pair in lora_pairs(net).values():
            pair.b.normal_(std=0.1)
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    return AdapterCheckpoint.open(save_adapter(folder, net, origin=checkpoint), base=checkpoint)


def test_an_adapter_is_exported_as_the_model_that_it_makes_of_its_base(
    adapter: AdapterCheckpoint, tmp_path: Path
) -> None:
    exported = export_model(adapter, tmp_path / "out", verify=True)
    assert exported.fidelity.verdict == "same", exported.fidelity.sentence
    merging, shown = exported.fidelity.readings
    assert merging.states.positions == shown.states.positions
    ids = torch.tensor([[5, 6, 7]])
    merged: Any = open_checkpoint(exported.path).network()
    apart: Any = adapter.adapted("float32", "cpu")
    base: Any = adapter.base.network()
    torch.testing.assert_close(merged(ids).logits, apart(ids).logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(merged(ids).logits, base(ids).logits, atol=1e-2)


def test_an_adapter_that_was_merged_wrongly_is_found_and_not_exported(
    adapter: AdapterCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(net: Any) -> Any:
        for pair in lora_pairs(net).values():
            pair.scale /= 2
        return merge(net)

    monkeypatch.setattr("kun.adaptation.lora.merge", halved)
    # the file is what Kun merged, and its reader reads just that: only the base with the adapter tells
    monkeypatch.setattr(fidelity, "_readers", lambda export: ())
    with pytest.raises(ExportDiffers, match="the base with its adapter computes other numbers"):
        export_model(adapter, tmp_path / "out", verify=True)
    assert not (tmp_path / "out").exists()


def test_a_weight_that_was_written_wrongly_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other: Any = checkpoint.network()
    with torch.no_grad():
        other.layers[1].attention.q.weight.data = other.layers[1].attention.q.weight.flip(0).clone()
    export = Export.of(checkpoint, "hf", None)
    found = prove(export, replace(export, net=other).write(tmp_path / "out").path)
    assert found.verdict == "differs"
    assert "other numbers" in found.sentence


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("BertForQuestionAnswering", "head.span.weight"),
        ("BertForPreTraining", "head.next.bias"),
        ("BertModel", "pooler.weight"),
    ],
)
def test_all_that_an_encoder_says_is_compared(name: str, weight: str, tmp_path: Path) -> None:
    export = Export.of(open_checkpoint(write_masked(tmp_path / "model", name)), "hf", None)
    right = prove(export, export.write(tmp_path / "right").path)
    assert right.verdict == "same", right.sentence
    other: Any = copy.deepcopy(export.net)
    with torch.no_grad():
        last = other.get_parameter(weight)[-1]  # of an answer's span the end
        last += torch.rand_like(last)
    wrong = prove(export, replace(export, net=other).write(tmp_path / "wrong").path)
    assert wrong.verdict == "differs"


def test_a_reader_that_says_nothing_is_ended(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, path = exported(checkpoint, tmp_path / "out")
    script = tmp_path / "mute.py"
    script.write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    monkeypatch.setitem(reading.READERS, "transformers", str(script))
    monkeypatch.setattr(reading, "_PATIENCE", 0.2)
    found = prove(export, path)
    assert found.verdict == "not compared"
    assert "transformers was ended: it had said nothing" in found.sentence


def test_an_export_that_differs_is_not_left(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = verdict.Reading("a reader", tokens=compare_tokens(["a"], [[1]], [[2]]))
    monkeypatch.setattr(
        fidelity, "prove", lambda *given: verdict.Fidelity("gguf", "F32", (shown,), None, None, ())
    )
    with pytest.raises(ExportDiffers, match="token 0 is 2 instead of 1"):
        export_model(checkpoint, tmp_path / "out", format="gguf", verify=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_rows_in_the_wrong_order_in_a_gguf_are_found(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "_readers", lambda export: ("transformers",))
    right, path = exported(checkpoint, tmp_path / "right", "gguf")
    found = prove(right, path)
    assert found.readings[0].states is not None
    assert found.readings[0].ok
    assert found.verdict == "not compared"  # transformers alone shows no tokens
    monkeypatch.setattr("kun.hub.export.gguf.row_order", lambda order, n_rows, heads: np.arange(n_rows))
    wrong, path = exported(checkpoint, tmp_path / "wrong", "gguf")
    assert prove(wrong, path).verdict == "differs"


def test_a_reader_that_is_not_here_is_named_with_the_mend(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, path = exported(checkpoint, tmp_path / "out")
    monkeypatch.setattr("kun.hub.export.reading._run", lambda *given: (3, ""))
    found = prove(export, path)
    assert found.verdict == "not compared"
    assert found.missing == ("tokens", "chats", "logits")
    assert "kun[verify]" in found.sentence


def test_too_little_memory_is_said_and_the_rest_compared(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, path = exported(checkpoint, tmp_path / "out")
    monkeypatch.setattr(fidelity, "_memory", lambda net: (2**40, 2**30))
    found = prove(export, path)
    assert found.missing == ("logits",)
    assert found.readings[0].tokens is not None


def test_the_first_difference_is_shown_where_it_is() -> None:
    check = compare_tokens(["a", "b"], [[1, 2], [3, 4]], [[1, 2], [3]])
    assert (check.same, check.total) == (1, 2)
    assert check.first == {"text": "b", "token": 1, "kun": 4, "reader": None}
    chats = compare_chats(["x"], ["hello\nworld"], ["hello world"])
    assert chats.first == {"chat": "x", "character": 5, "kun": "hello\nworld", "reader": "hello world"}
    assert not compare_chats(["x"], ["a"], [None]).ok
    assert compare_chats(["x"], [None], [None]).ok


def states(change: Callable[[np.ndarray], None] = lambda x: None) -> np.ndarray:
    numbers = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    change(numbers)
    return numbers


def test_the_largest_difference_is_found_with_its_place() -> None:
    def push(numbers: np.ndarray) -> None:
        numbers[35, 7] += 2.5

    places = [(i // 10, i % 10) for i in range(40)]
    check = compare_states(states(), states(push), places, True, Tolerance(0.1, 0.1, 1e-3))
    assert not check.ok
    assert check.largest == pytest.approx(2.5, rel=1e-5)
    assert check.typical == pytest.approx(check.relative / 2000**0.5)
    assert (check.where["sequence"], check.where["token"], check.where["number"]) == (3, 5, 7)
    same = compare_states(states(), states(), places, True, Tolerance(0.1, 0.1, 1e-3))
    assert same.ok
    assert same.agreement == 1.0
    assert same.worst_kl == 0.0


def test_numbers_that_are_none_are_no_agreement() -> None:
    def spoil(numbers: np.ndarray) -> None:
        numbers[3, 3] = np.nan

    assert not compare_states(
        states(), states(spoil), [(0, i) for i in range(40)], False, Tolerance(1, 1, 1)
    ).ok


def test_what_llama_cpp_may_differ_is_in_proportion_to_what_its_rounding_costs() -> None:
    def push(numbers: np.ndarray) -> None:
        numbers += np.random.default_rng(1).normal(size=numbers.shape).astype(np.float32) * 0.01

    cost = compare_states(states(), states(push), [(0, i) for i in range(40)], True, None)
    allowed = fidelity._tolerance(cost)
    assert allowed.typical == pytest.approx(2 * cost.typical)
    assert allowed.mean_kl == pytest.approx(4 * cost.mean_kl)
    assert fidelity._tolerance(None) == fidelity._tolerance(replace(cost, typical=np.inf))
