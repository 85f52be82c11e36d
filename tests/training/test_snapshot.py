"""Whatever moment a process is killed in, the newest whole snapshot is there afterwards."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kun.atomic_files import sha256
from kun.errors import DamagedFile
from kun.hub.layout import read_json, write_json
from kun.training import sharded
from kun.training.snapshot import newest, remove_unfinished, write_snapshot

OLD, NEW = torch.zeros(3), torch.ones(3)


def whole(folder: Path, tensor: torch.Tensor) -> None:
    write_snapshot(folder, 5, {"weight": tensor}, {}, keep=1)


def in_parts(folder: Path, tensor: torch.Tensor) -> None:
    """What the first of several processes does once all have written their parts."""
    fresh = folder / ".step-5.part"
    sharded._empty(fresh)
    file = fresh / "shard-00001-model-00001-of-00001.safetensors"
    save_file({"weight": tensor}, file)
    write_json(fresh / f"{file.name}.json", {"sha256": sha256(file)})
    sharded._complete(fresh, folder / "step-5", {"step": 5})


def killed_before(count: int, write: Callable[[], None]) -> bool:
    """Do `write` in a process that is killed before it gives the name number `count`, or removes a folder then.

    False where there were not so many.
    """
    child = os.fork()
    if child == 0:
        left = count

        def counted(do: Callable[..., object]) -> Callable[..., object]:
            def call(*given: object, **named: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return do(*given, **named)

            return call

        for owner, name in ((os, "rename"), (os, "rmdir"), (os, "unlink")):
            setattr(owner, name, counted(getattr(owner, name)))
        write()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("write", [whole, in_parts])
def test_a_snapshot_that_is_written_anew_is_never_missing(write, tmp_path: Path) -> None:
    count, found = 0, []
    killed = True
    while killed:
        count += 1
        folder = tmp_path / str(count)
        write(folder, OLD)
        killed = killed_before(count, lambda folder=folder: write(folder, NEW))
        remove_unfinished(folder)
        assert [path.name for path in folder.iterdir()] == ["step-5"]
        snapshot = newest(folder)
        assert snapshot is not None
        (file,) = snapshot.path.glob("*.safetensors")
        found.append(load_file(file)["weight"].mean().item())
    assert found == sorted(found)
    assert set(found) == {0.0, 1.0}


def test_any_changed_byte_of_its_facts_leads_to_the_snapshot_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (5, 8):
        write_snapshot(tmp_path, step, {"weight": OLD}, {"row": 128, "epoch": 0}, keep=2)
    facts = tmp_path / "step-8" / "state.json"
    sound = facts.read_bytes()
    for at in range(len(sound)):
        facts.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        snapshot = newest(tmp_path)
        assert snapshot is not None
        assert snapshot.step == 5
        assert str(facts) in caplog.text
        caplog.clear()


def test_changed_facts_are_named_where_there_is_no_other_snapshot(tmp_path: Path) -> None:
    write_snapshot(tmp_path, 5, {"weight": OLD}, {"row": 128}, keep=1)
    facts = tmp_path / "step-5" / "state.json"
    facts.write_text(facts.read_text().replace("128", "129"))
    with pytest.raises(DamagedFile, match=r"state\.json.*its own digest"):
        newest(tmp_path)


def test_a_snapshot_of_before_digests_of_its_facts_opens_as_it_is(tmp_path: Path) -> None:
    write_snapshot(tmp_path, 5, {"weight": OLD}, {"row": 128}, keep=1)
    facts = tmp_path / "step-5" / "state.json"
    write_json(facts, read_json(facts))
    assert "seal" not in facts.read_text()
    snapshot = newest(tmp_path)
    assert snapshot is not None
    assert snapshot.facts["row"] == 128
