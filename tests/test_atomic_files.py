"""Digests are compared once for each file and time of change; a sealed object knows its own."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kun import atomic_files
from kun.atomic_files import check_once, check_place, checking, new_file, sealed, sha256, unsealed
from kun.errors import BadInput, DamagedFile

LONG_AGO = 1_700_000_000


@pytest.fixture
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the clock has moved on from."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 40)
    monkeypatch.setattr(atomic_files, "_CLOCK_NS", -1)
    return path


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read through from now on."""
    found: list[Path] = []

    def counted(path: Path, progress: object = None) -> str:
        found.append(path)
        return sha256(path)

    monkeypatch.setattr(atomic_files, "sha256", counted)
    return found


@pytest.mark.usefixtures("bare_home")
def test_a_right_file_is_read_once(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, read = sha256(settled), reads(monkeypatch)
    for _ in range(3):
        check_once(settled, right)
    assert len(read) == 1


@pytest.mark.usefixtures("bare_home")
def test_a_file_that_changes_without_another_size_or_time_of_writing_is_read_again(settled: Path) -> None:
    right = sha256(settled)
    os.utime(settled, (LONG_AGO, LONG_AGO))
    check_once(settled, right)
    with settled.open("r+b") as file:
        file.seek(99)
        file.write(b"!")
    os.utime(settled, (LONG_AGO, LONG_AGO))
    with pytest.raises(DamagedFile, match=settled.name):
        check_once(settled, right)


@pytest.mark.usefixtures("bare_home")
def test_a_file_that_is_younger_than_the_clock_can_tell_is_not_remembered(
    settled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "_CLOCK_NS", 2 * 10**9)
    settled.touch()
    right, read = sha256(settled), reads(monkeypatch)
    check_once(settled, right)
    check_once(settled, right)
    assert len(read) == 2


def test_what_is_remembered_may_be_deleted_and_stays_bounded(
    settled: Path, bare_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "_MOST_VERDICTS", 8)
    kept = bare_home / "cache" / "checked"
    for number in range(30):
        other = settled.with_name(f"{number}")
        other.write_bytes(b"x" * number)
        check_once(other, sha256(other))
        assert len(list(kept.iterdir())) <= 8
    for verdict in kept.iterdir():
        verdict.unlink()
    kept.rmdir()
    check_once(settled, sha256(settled))
    assert len(list(kept.iterdir())) == 1


def test_a_home_that_cannot_be_written_costs_only_the_memory(settled: Path, bare_home: Path) -> None:
    (bare_home / "cache").write_text("a file in the folder's place")
    check_once(settled, sha256(settled))
    with pytest.raises(DamagedFile, match="SHA-256"):
        check_once(settled, "0" * 64)


@pytest.mark.usefixtures("bare_home")
def test_many_threads_may_check_at_once(settled: Path) -> None:
    right = sha256(settled)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_once(settled, right), range(64)))


@pytest.mark.usefixtures("bare_home")
def test_the_digest_goes_before_what_the_damage_led_to(settled: Path) -> None:
    with pytest.raises(DamagedFile, match="SHA-256"), checking({settled: "0" * 64}):
        raise KeyError("a tensor that is not there")
    with pytest.raises(KeyError), checking({settled: sha256(settled)}):
        raise KeyError("a fault of its own")
    with pytest.raises(DamagedFile, match="missing"), checking({settled.with_name("gone"): "0" * 64}):
        pass


def test_every_changed_byte_of_a_sealed_object_is_seen() -> None:
    value = {"step": 12, "place": [1, 2], "text": "é鲲", "empty": {}}
    whole = sealed(value)
    assert unsealed(whole) == value
    for at in range(len(whole)):
        for other in (whole[at] ^ 1, whole[at] ^ 32, 0, ord(" ")):
            changed = whole[:at] + bytes([other]) + whole[at + 1 :]
            if changed != whole:
                with pytest.raises(ValueError, match=r"."):
                    unsealed(changed)
        with pytest.raises(ValueError, match=r"."):
            unsealed(whole[:at])
    for more in (b" ", b"\n", b"\0", b"{}"):
        with pytest.raises(ValueError, match=r"."):
            unsealed(whole + more)


def test_an_object_without_a_seal_is_read_as_it_is() -> None:
    assert unsealed(json.dumps({"step": 12}).encode()) == {"step": 12}


def test_a_folder_or_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BadInput, match="pipe is a device or a pipe, which is not replaced"), new_file(pipe):
        pass
    assert pipe.is_fifo()
    with pytest.raises(BadInput, match="is a folder, which is not replaced"), new_file(tmp_path):
        pass
    with pytest.raises(BadInput, match="is a device or a pipe"):
        check_place(pipe, "page.html")
    assert {path.name for path in tmp_path.iterdir()} == {"pipe"}
