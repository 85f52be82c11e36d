"""The shipped steps of alignment: adapters of one base, asked the article's question and the five faults."""

import json
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from kun.atomic_files import sha256
from kun.tour import aligned, before_after, shipped
from kun.tour.before_after import _Count
from kun.tour.session import Session

HELP, REFUSAL = "Use the window.", "I can't help you get into a house that isn't yours."


def test_the_first_ranks_of_the_shipped_pairs_are_the_first_step(tmp_path: Path) -> None:
    tuned = load_file(aligned.write_adapter(tmp_path / "sft", 4) / "adapter_model.safetensors")
    both = load_file(aligned.write_adapter(tmp_path / "dpo") / "adapter_model.safetensors")
    stated = json.loads((tmp_path / "sft" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (stated["r"], stated["lora_alpha"]) == (4, 4)
    assert tuned.keys() == both.keys()
    for name, tensor in tuned.items():
        whole = both[name]
        assert torch.equal(tensor, whole[:4] if ".lora_A." in name else whole[:, :4])


def test_an_adapter_ships_with_its_scale_in_its_pairs_and_its_digest_among_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}', encoding="utf-8")
    pair = {
        "base_model.model.x.lora_A.weight": torch.ones(2, 3),
        "base_model.model.x.lora_B.weight": torch.ones(3, 2),
    }
    save_file(pair, made / "adapter_model.safetensors")
    (tmp_path / "weights.toml").write_text('[other]\nsha256 = "ab"\nrecipe = "its own"\n', encoding="utf-8")
    path = aligned.write_aligned(made, tmp_path)
    kept = load_file(path)
    assert {name: float(tensor[0, 0]) for name, tensor in kept.items()} == {
        "x.lora_A.weight": 1.0,
        "x.lora_B.weight": 2.0,
    }
    listed = tomllib.loads((tmp_path / "weights.toml").read_text(encoding="utf-8"))
    assert listed["other"] == {"sha256": "ab", "recipe": "its own"}
    assert listed["aligned-smollm2"]["sha256"] == sha256(path)


class Scripted:
    """A model that answers the harmful question and the harmless one as it is told to."""

    def __init__(self, harmful: str, harmless: str) -> None:
        self.answers = {before_after._HARMFUL: harmful, before_after._HARMLESS: harmless}

    def generate(self, messages: list[dict[str, str]], **options: float) -> str:
        assert options["temperature"] == 0
        return self.answers[messages[-1]["content"]]


def three(*models: object) -> object:
    return SimpleNamespace(**dict(zip(("before", "tuned", "aligned"), models, strict=True)))


@pytest.mark.parametrize(
    ("after", "harmless", "ok"), [(REFUSAL, HELP, True), (HELP, HELP, False), (REFUSAL, REFUSAL, False)]
)
def test_the_house_holds_where_harm_alone_is_refused(
    after: str, harmless: str, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = three(Scripted(HELP, HELP), Scripted(REFUSAL, HELP), Scripted(after, harmless))
    monkeypatch.setattr(before_after, "steps", lambda session: made)
    shown = before_after.house(Session())
    assert shown.ok is ok
    assert shown.table is not None
    assert shown.table.rows[0] == (before_after._HARMFUL, HELP, REFUSAL, after)


def test_the_faults_hold_where_more_rules_are_kept_after_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"before": 1, "tuned": 3, "aligned": 2}
    monkeypatch.setattr(before_after, "steps", lambda session: three(*counts))
    monkeypatch.setattr(
        before_after, "_kept", lambda lm: dict.fromkeys(before_after._FAULTS, _Count(counts[lm], 5))
    )
    shown = before_after.faults(Session())
    assert shown.ok
    assert shown.table is not None
    assert shown.table.rows[0][1:] == ("1/5", "3/5", "2/5")
    counts["aligned"] = 1
    assert not before_after.faults(Session()).ok


def test_each_fault_is_asked_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        before_after, "ruled", lambda lm, task, rows, tell: (None, asked.extend(rows) or [], 0, {})
    )
    before_after._kept(None)  # type: ignore[arg-type]
    faults = [row.values["fault"] for row in asked]  # type: ignore[attr-defined]
    assert {name: faults.count(name) for name in faults} == dict.fromkeys(
        ("following", "making-up", "explaining", "harmful", "thread"), 5
    )
    assert shipped.LARGEST <= 6_000_000
