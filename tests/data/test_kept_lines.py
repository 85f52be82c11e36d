"""Lines that survive a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kun.data.kept_lines import KeptLines
from kun.errors import Busy, DamagedFile


def test_what_was_kept_is_there_in_the_next_run(tmp_path: Path) -> None:
    with KeptLines(tmp_path / "new" / "rows.jsonl") as kept:
        assert kept.before == []
        kept.append({"text": "鲲\n\ud800"})
    with KeptLines(tmp_path / "new" / "rows.jsonl") as kept:
        assert kept.before == [{"text": "鲲\n?"}]


def test_half_a_line_is_cut_off_and_a_whole_one_without_an_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\n{"n": 2', encoding="utf-8")
    with KeptLines(path) as kept:
        kept.append({"n": 3})
    assert path.read_text(encoding="utf-8") == '{"n": 1}\n{"n": 3}\n'
    path.write_text('{"n": 1}\n{"n": 2}', encoding="utf-8")
    with KeptLines(path) as kept:
        assert [line["n"] for line in kept.before] == [1, 2]
        kept.append({"n": 3})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("line", ["no JSON", "[1]"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"n": 1}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DamagedFile, match=r"rows\.jsonl:2"), KeptLines(path):
        pass
    with pytest.raises(DamagedFile), KeptLines(path):  # the lock was given back
        pass


def test_two_at_once_are_told_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with KeptLines(path), pytest.raises(Busy, match="Another process adds"), KeptLines(path):
        pass


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_nothing_that_was_kept_is_lost_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom kun.data.kept_lines import KeptLines\n"
        "with KeptLines(Path(sys.argv[1])) as kept:\n"
        "    for n in range(10**6):\n        kept.append({'n': n})\n        print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].split()
    last = int(rest[-1]) if rest else last
    with KeptLines(path) as kept:
        assert [line["n"] for line in kept.before][: last + 1] == list(range(last + 1))
