"""Records out of files of every kind, and what a broken one is told to be."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.data import records
from kun.data.records import read_records
from kun.data.rows import BadRows
from kun.errors import BadRow, DamagedFile, UnsupportedFormat


def read(path: Path, skip: bool = False) -> list[Any]:
    return [record.value for record in read_records(path, BadRows(skip))]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_text_file_is_one_document_and_its_line_ends_are_unix(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "one\r\ntwo\n\n三\n")
    (record,) = read_records(path, BadRows())
    assert record == (f"{path}:1", "one\ntwo\n\n三\n")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert read(written(tmp_path, "a.txt", b"\xef\xbb\xbfone")) == ["one"]


@given(st.lists(st.text(alphabet="ab \n好", max_size=60), max_size=30))
def test_a_long_text_is_cut_and_nothing_of_it_is_lost(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    path = written(tmp_path_factory.mktemp("text"), "a.txt", "".join(parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "LONGEST_DOCUMENT", 40)
        patch.setattr(records, "_CHUNK", 16)
        pieces = read(path)
    assert "".join(pieces).rstrip() == "".join(parts).rstrip()
    assert all(len(piece) <= 80 for piece in pieces)


def test_a_long_text_is_cut_where_a_paragraph_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LONGEST_DOCUMENT", 10)
    path = written(tmp_path, "a.txt", "first line\nmore\n\nsecond\n")
    assert list(read_records(path, BadRows())) == [
        (f"{path}:1", "first line\nmore\n\n"),
        (f"{path}:4", "second\n"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("行一\n酒店太旧了".encode("gb18030"), r"byte 0 \(line 1\) is 0xD0.*iconv -f GB18030"),
        (b"fine\ncaf\xe9 au lait", r"byte 8 \(line 2\) is 0xE9.*WINDOWS-1252"),
        ("text".encode("utf-16"), "is in UTF-16.*iconv -f UTF-16"),
        (b"a\0b\0", r"byte 1 \(line 1\) is zero"),
        ("好".encode()[:2], r"byte 0 \(line 1\) is 0xE5"),
    ],
)
def test_text_in_another_encoding_is_named_with_its_byte_and_the_mend(
    tmp_path: Path, content: bytes, told: str
) -> None:
    with pytest.raises(UnsupportedFormat, match=told):
        read(written(tmp_path, "a.txt", content))


def test_the_byte_is_right_beyond_the_first_piece_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_CHUNK", 7)
    with pytest.raises(UnsupportedFormat, match=r"byte 33 \(line 3\) is 0xFF"):
        read(written(tmp_path, "a.txt", "好好好好好\n".encode() * 2 + b"x\xff\n"))


def test_a_broken_line_of_json_is_named_or_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"text": "a"}\n\n{"text": \n[1]\n{"text": "b"}')
    with pytest.raises(BadRow, match=r"a\.jsonl:3 is no JSON"):
        read(path)
    bad = BadRows(skip=True)
    assert [record.where for record in read_records(path, bad)] == [f"{path}:1", f"{path}:5"]
    assert bad.count == 2
    assert "holds a list" in bad.examples[1]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=8)


@given(OBJECTS, st.sampled_from([None, 0, 2]), st.integers(1, 50))
def test_any_json_list_is_read_object_by_object(
    tmp_path_factory: pytest.TempPathFactory, objects: list[dict[str, Any]], indent: int | None, chunk: int
) -> None:
    path = written(tmp_path_factory.mktemp("json"), "a.json", json.dumps(objects, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_CHUNK", chunk)
        assert read(path) == objects


def test_objects_of_a_list_in_one_line_are_named_by_their_number(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", '[{"text": "a"}, {"text": "b"}, {"text": "c"}]')
    wheres = [record.where.rpartition("/")[2] for record in read_records(path, BadRows())]
    assert wheres == ["a.json:1", "a.json:1 (value 2)", "a.json:1 (value 3)"]


def test_objects_of_a_json_list_are_named_by_the_line_where_they_begin(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", '[\n  {\n    "text": "a"\n  },\n  {"text": "b"}\n]\n')
    assert [record.where for record in read_records(path, BadRows())] == [f"{path}:2", f"{path}:5"]


@pytest.mark.parametrize(
    ("content", "line"), [('[{"a": 1},\n {"b": }]', 2), ('[\n{"a": 1}\n', 3), ('[{"a": 1}] {}', 1)]
)
def test_broken_json_is_named_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    with pytest.raises(DamagedFile, match=rf"a\.json:{line} is no JSON"):
        read(written(tmp_path, "a.json", content))


def test_a_table_with_a_row_of_names_gives_objects_and_one_without_gives_cells(tmp_path: Path) -> None:
    named = written(tmp_path, "a.csv", 'label,review\n1,"good, ""very""\ngood"\n')
    assert read(named) == [{"label": "1", "review": 'good, "very"\ngood'}]
    bare = written(tmp_path, "b.tsv", 'Hello "you\t你好\n"Yes\t是\n')
    assert read(bare) == [['Hello "you', "你好"], ['"Yes', "是"]]


def test_a_row_of_a_table_with_cells_too_many_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'text,label\na,1\n"b\nb",2\nc,3,4\nd,5\n')
    with pytest.raises(BadRow, match=r"a\.csv:5 has 3 cells where the first line names 2"):
        read(path)
    assert len(read(path, skip=True)) == 3


def test_an_open_quote_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRow, match=r"a\.csv:2 is no row of a table"):
        read(written(tmp_path, "a.csv", 'text,label\n"a,1\n'))


def test_parquet_is_read_row_by_row_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "好"], "label": [0, 1]}), path)
    assert read(path) == [{"text": "a", "label": 0}, {"text": "好", "label": 1}]
    with pytest.raises(DamagedFile, match=r"b\.parquet is no readable Parquet"):
        read(written(tmp_path, "b.parquet", path.read_bytes()[:-9]))


def test_compressed_files_are_read_by_the_name_within(tmp_path: Path) -> None:
    packed = gzip.compress(b'{"text": "a"}\n{"text": "b"}\n' * 2000)
    path = written(tmp_path, "a.jsonl.gz", packed)
    assert len(read(path)) == 4000
    with pytest.raises(DamagedFile, match=r"b\.jsonl\.gz is damaged"):
        read(written(tmp_path, "b.jsonl.gz", packed[:-20]))
