"""What a task may say, and what its rows must hold."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from task_files import Write

from kun.errors import BadInput, BadRecipe, DamagedFile, KunError, NotFound, UnsupportedFormat
from kun.evaluation.prepare import prepared
from kun.evaluation.rows import read_rows
from kun.evaluation.run import evaluate
from kun.evaluation.task import read_task
from kun.models.language_model import LanguageModel

CHOICE: dict[str, Any] = {
    "kind": "multiple-choice",
    "prompt": "{{ q }}",
    "choices": ["x", "y"],
    "answer": "a",
}
EXAMPLES = Path(__file__).parents[2] / "examples" / "tasks"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"kind": "perplexty", "data": "x"}, "kind is 'perplexty'.*did you mean 'perplexity'"),
        ({"data": "x"}, "kind is None; it is one of perplexity, multiple-choice"),
        (
            {"kind": "perplexity", "data": "x", "strid": 3},
            "no key 'strid' for perplexity.*did you mean 'stride'",
        ),
        ({"kind": "perplexity"}, "the key 'data' is missing"),
        ({"kind": "perplexity", "data": "x", "context": 1}, "context: "),
        ({"kind": "translation", "data": "x", "tokenize": "chinese"}, "tokenize: "),
        ({"kind": "classification", "data": "x", "labels": {"0": "no"}}, "labels: "),
    ],
)
def test_a_task_that_cannot_be_is_one_sentence(said: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRecipe, match=words):
        read_task(said)


def test_a_file_that_is_no_toml_or_not_there_is_named(write: Write) -> None:
    with pytest.raises(BadRecipe, match=r"task\.toml is no TOML"):
        read_task(write("task.toml", "kind = "))
    with pytest.raises(NotFound, match=r"absent\.toml does not exist"):
        read_task("absent.toml")


def test_paths_are_relative_to_the_tasks_file(write: Write, tmp_path: Path) -> None:
    write("rows.jsonl", '{"q": 1}\n')
    task = read_task(write("t.toml", 'kind = "perplexity"\ndata = "rows.jsonl"\n'))
    assert task.data == tmp_path / "rows.jsonl"
    assert task.name == "t"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_are_tasks_with_data(path: Path) -> None:
    _, rows = prepared(path)
    assert len(rows) >= 4


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("a.jsonl", '{"q": 1}\n{"q": \n', DamagedFile, "a.jsonl:2 is no JSON"),
        ("a.jsonl", '{"q": 1}\n\n[1]\n', DamagedFile, "a.jsonl:3 is '.1.'"),
        ("a.csv", "q,a\n1,2\n3\n", DamagedFile, "a.csv:3 has 1 cells; there are 2 columns"),
        ("a.csv", 'q,a\n"1\n2",3\n4,"5"6\n', DamagedFile, "a.csv:4 cannot be read"),
        ("a.tsv", "q\ta\n", BadInput, "a.tsv has no rows"),
        ("a.xlsx", "", UnsupportedFormat, "a.xlsx is no table"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(
    name: str, content: str, error: type[KunError], words: str, write: Write
) -> None:
    with pytest.raises(error, match=words):
        read_rows(write(name, content))


def test_text_in_another_encoding_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("q\n好\n".encode() + "坏\n".encode("gb18030"))
    with pytest.raises(DamagedFile, match=r"a\.tsv:3 is not UTF-8"):
        read_rows(path)


def test_cells_are_read_with_their_place(write: Write) -> None:
    table = read_rows(write("a.csv", '\ufeffq,a\n"1\n2",3\n\n4,5\n'))
    assert [(row.values, row.where) for row in table] == [
        ({"q": "1\n2", "a": "3"}, "a.csv:2"),
        ({"q": "4", "a": "5"}, "a.csv:5"),
    ]
    bare = read_rows(write("b.tsv", 'say "hi"\t2\n'), ("q", "a"))
    assert bare[0].values == {"q": 'say "hi"', "a": "2"}


def test_a_cell_may_hold_a_long_text_and_one_beyond_all_measure_is_named(write: Write) -> None:
    long = "x" * 200_000
    assert read_rows(write("a.csv", f"q\n{long}\n"))[0].values == {"q": long}
    with pytest.raises(DamagedFile, match=r"a\.csv:2 cannot be read .*field limit"):
        read_rows(write("a.csv", f"q\n{'x' * (2**24 + 1)}\n"))


def _faults() -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    yield {"prompt": "{{ qq }}"}, {"q": "?", "a": 0}, "rows.jsonl:1: prompt asks for what the row lacks.*qq"
    yield {"answer": "b"}, {"q": "?", "a": 0}, "rows.jsonl:1 has no column 'b'"
    yield {}, {"q": "?", "a": 2}, "rows.jsonl:1: a is '2', which is none of its 2 answers"
    yield {}, {"q": "?", "a": "z"}, "none of its 2 answers"
    yield {}, {"q": "?", "a": "²"}, "a is '²', which is none of its 2 answers"
    yield {}, {"q": "?", "a": "1" * 5000}, "none of its 2 answers"
    yield {"prompt": "{{ '{2}'.format(q) }}"}, {"q": "?", "a": 0}, "rows.jsonl:1: prompt cannot be filled in"
    yield {"choices": "list"}, {"q": "?", "a": 0, "list": ["one"]}, "list must be a list of at least two"
    yield {"prompt": "{{ q"}, {"q": "?", "a": 0}, "prompt is no template"
    yield {"shots": 1}, {"q": "?", "a": 0}, "1 shots need rows to show"
    yield {"shots": 2, "examples": "rows.jsonl"}, {"q": "?", "a": 0}, "has 1 rows, fewer than the 2 shots"


@pytest.mark.parametrize(("changes", "row", "words"), list(_faults()))
def test_a_row_that_does_not_fit_its_task_is_named(
    changes: dict[str, Any], row: dict[str, Any], words: str, llama: LanguageModel, write: Write
) -> None:
    data = write("rows.jsonl", json.dumps(row) + "\n")
    if "examples" in changes:
        changes = changes | {"examples": data}
    with pytest.raises(BadInput, match=re.compile(words)):
        evaluate(llama, {**CHOICE, "data": data, **changes})


@pytest.mark.parametrize(("given", "words"), [({"limit": 0}, "limit is 0"), ({"shots": -1}, "shots is -1")])
def test_a_count_that_cannot_be_is_refused(
    given: dict[str, Any], words: str, llama: LanguageModel, write: Write
) -> None:
    data = write("rows.jsonl", '{"q": "?", "a": 0}\n')
    with pytest.raises(BadInput, match=words):
        evaluate(llama, {**CHOICE, "data": data}, **given)
