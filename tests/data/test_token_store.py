"""Stores of tokens: what went in comes out, interrupted builds go on, damage is named, splits stand still."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows_of_many import many_rows, tokenizer

from kun.data import building, writer
from kun.data.rows import BadRows, Conversation, Labelled, Pair, Row, Text
from kun.data.sources import Rows
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer, Tokenized, classes_of
from kun.errors import BadInput, BadRow, DamagedFile, NoSpace
from kun.text.learn import byte_tokenizer, learn_tokenizer

TEXTS = st.lists(st.text(alphabet="ab 好🙂\n", min_size=1, max_size=30), min_size=1, max_size=40)


def contents(store: TokenStore) -> list[list[int]]:
    return [store.ids(index).tolist() for index in range(len(store))]


def built(folder: Path, rows: list[Row], **options: object) -> TokenStore:
    return TokenStore.build(folder, rows, tokenizer(), **({"processes": 1} | options))  # type: ignore[arg-type]


@settings(max_examples=40)
@given(TEXTS, st.sampled_from([7, 50, 2**27]))
def test_what_went_in_comes_out_in_order_and_duplicates_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], shard: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = built(folder, [Text(text) for text in texts], shard=shard)
    unique = list(dict.fromkeys(texts))
    assert contents(store) == [[*text.encode(), 256] for text in unique]
    assert contents(TokenStore.open(folder)) == contents(store)
    assert store.counts.duplicates == len(texts) - len(unique)
    assert store.n_tokens == store.lengths.sum() == sum(len(text.encode()) + 1 for text in unique)
    assert store.ids(0).dtype == np.int32


def test_the_result_does_not_depend_on_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_ROWS", 10)
    one = built(tmp_path / "one", many_rows(200), processes=1)
    three = built(tmp_path / "three", many_rows(200), processes=3)
    assert one.digest == three.digest
    assert one.counts == three.counts


def test_a_worker_needs_no_torch() -> None:
    code = "import sys, kun.data.workers, kun.data.installed; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_build_that_was_killed_goes_on_where_it_was_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, count = tmp_path / "killed", 400
    script = Path(__file__).with_name("building_process.py")
    process = subprocess.Popen([sys.executable, str(script), str(folder), str(count), "0.005"])
    deadline = time.monotonic() + 60
    while not (folder / writer.JOURNAL).is_file() or (folder / writer.JOURNAL).read_text().count("\n") < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(DamagedFile, match="no finished token store"):
        TokenStore.open(folder)

    monkeypatch.setattr(building, "_ROWS", 10)
    tokenized: list[int] = []
    original = building.blocks_of

    def counting(batches: Iterator, *rest: object) -> Iterator:  # type: ignore[type-arg]
        for batch, block in original(batches, *rest):  # type: ignore[arg-type]
            tokenized.append(len(batch.rows))
            yield batch, block

    monkeypatch.setattr(building, "blocks_of", counting)
    resumed = built(folder, many_rows(count), shard=1000)
    assert sum(tokenized) < len(resumed)
    undisturbed = built(tmp_path / "undisturbed", many_rows(count), shard=1000)
    assert resumed.digest == undisturbed.digest
    assert resumed.counts == undisturbed.counts
    TokenStore.open(folder)


@pytest.mark.parametrize("torn", [b"", b'{"read": 12, "chai', b"\xff\n"])
def test_what_was_written_after_the_last_commit_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    monkeypatch.setattr(building, "_ROWS", 10)
    monkeypatch.setattr(building, "_BATCHES", 3)

    def interrupted() -> Iterator[Row]:
        yield from many_rows(95)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TokenStore.build(tmp_path / "a", interrupted(), tokenizer(), processes=1, shard=100)
    with (tmp_path / "a" / writer.JOURNAL).open("ab") as journal:
        journal.write(torn)
    with (tmp_path / "a" / "lengths.bin").open("ab") as column:
        column.write(b"half")
    resumed = built(tmp_path / "a", many_rows(120), shard=100)
    assert resumed.digest == built(tmp_path / "b", many_rows(120), shard=100).digest


def test_an_interrupted_build_of_other_rows_begins_anew_or_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_ROWS", 10)
    monkeypatch.setattr(building, "_BATCHES", 1)

    def interrupted() -> Iterator[Row]:
        yield from many_rows(50)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            TokenStore.build(tmp_path / "a", interrupted(), tokenizer(), processes=1)
    others: list[Row] = [Text(f"other {n}") for n in range(60)]
    with pytest.raises(BadInput, match="interrupted build of other rows"):
        TokenStore.build(tmp_path / "a", iter(others), tokenizer(), processes=1)
    store = built(tmp_path / "a", others)
    assert store.digest == built(tmp_path / "b", others).digest


def test_a_full_disk_is_told_and_the_build_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_ROWS", 10)
    monkeypatch.setattr(building, "_BATCHES", 1)
    original, calls = writer.StoreWriter.append, []

    def full(self: writer.StoreWriter, *arguments: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writer.StoreWriter, "append", full)
    with pytest.raises(NoSpace, match="is full"):
        built(tmp_path / "a", many_rows(100))
    store = built(tmp_path / "a", many_rows(100))
    assert store.digest == built(tmp_path / "b", many_rows(100)).digest


def test_a_store_of_the_same_source_is_opened_and_of_another_built(tmp_path: Path) -> None:
    def explode() -> Iterator[Row]:
        raise AssertionError("read")
        yield

    folder = tmp_path / "store"
    first = built(folder, many_rows(20), fingerprint="a")
    again = TokenStore.build(folder, explode(), tokenizer(), fingerprint="a")
    assert again.digest == first.digest
    with pytest.raises(AssertionError, match="read"):
        TokenStore.build(folder, explode(), tokenizer(), fingerprint="b")


def test_damage_is_named(tmp_path: Path) -> None:
    original = tmp_path / "store"
    built(original, many_rows(50))
    for name, change, told in [
        ("ids-00000.bin", lambda content: content[:-1], "ids-00000.bin has"),
        (
            "ids-00000.bin",
            lambda content: bytes([content[0] ^ 1]) + content[1:],
            "ids-00000.bin has the SHA-256",
        ),
        ("lengths.bin", None, "lengths.bin is missing"),
        ("store.json", lambda content: content[:-9], "store.json cannot be read"),
        ("store.json", lambda content: content.replace(b'"version": 1', b'"version": 9'), "of version 9"),
    ]:
        folder = tmp_path / "damaged"
        shutil.copytree(original, folder)
        path = folder / name
        path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
        with pytest.raises(DamagedFile, match=told):
            TokenStore.open(folder)
        shutil.rmtree(folder)


def test_bad_rows_are_errors_or_counted_wherever_they_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    labels = ["1", "0", "oops", "1"]
    lines = [json.dumps({"text": f"t{n}", "label": label}) for n, label in enumerate(labels)]
    path.write_text("\n".join([*lines[:1], "{", *lines[1:]]))
    rows = RowTokenizer(byte_tokenizer(), classes=("0", "1"))
    with pytest.raises(BadRow, match=r"a\.jsonl:2 is no JSON"):
        TokenStore.build(tmp_path / "s", Rows(path), rows)
    source = Rows(path, skip_bad=True)
    store = TokenStore.build(tmp_path / "s", source, rows, bad=source.bad)
    assert (store.counts.bad, len(store)) == (2, 3)
    assert store.labels.tolist() == [1, 0, 1]
    assert "has the label 'oops', which is not in the training data ('0', '1')" in store.counts.examples[1]


def test_rows_that_are_all_too_long_leave_nothing_and_that_is_told(tmp_path: Path) -> None:
    rows = RowTokenizer(byte_tokenizer(), longest=3, long="drop")
    with pytest.raises(BadInput, match="of 1 rows 1 were too long"):
        TokenStore.build(tmp_path, [Pair("long source", "long target")], rows)


def test_rows_of_two_kinds_in_one_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="b:1 is a pair, but the data began with running text"):
        built(tmp_path, [Text("a", "a:1"), Pair("a", "b", "b:1")])


def test_running_text_that_spells_a_special_token_is_text(tmp_path: Path) -> None:
    store = built(tmp_path, [Text("a<|endoftext|>")])
    assert contents(store) == [[*b"a<|endoftext|>", 256]]


def test_pairs_keep_their_sources_and_labelled_pairs_which_text_is_which(tmp_path: Path) -> None:
    store = built(tmp_path / "pairs", [Pair("dog", "狗"), Pair("cat", "猫")])
    assert [bytes(store.source_ids(n)[:-1].tolist()).decode() for n in range(2)] == ["dog", "cat"]
    assert [bytes(store.ids(n)[:-1].tolist()).decode() for n in range(2)] == ["狗", "猫"]
    rows: list[Row] = [Labelled(("a", "bc"), 0.5), Labelled(("d", "e"), 2)]
    judged = built(tmp_path / "judged", rows)
    assert judged.ids(0).tolist() == [*b"a", 256, *b"bc", 256]
    assert judged.types(0).tolist() == [0, 0, 1, 1, 1]
    assert judged.labels.tolist() == [0.5, 2]


@pytest.mark.parametrize("texts", [("a good film",), ("a good film", "bad")])
def test_labelled_texts_are_cut_to_the_context_with_their_special_tokens_whole(
    texts: tuple[str, ...],
) -> None:
    wordpiece = learn_tokenizer(["a good film, a bad film"] * 9, "wordpiece", 60).tokenizer
    (whole,) = RowTokenizer(wordpiece)([Labelled(texts, 1)])
    (cut,) = RowTokenizer(wordpiece, longest=7)([Labelled(texts, 1)])
    assert isinstance(whole, Tokenized)
    assert isinstance(cut, Tokenized)
    reference = wordpiece.encode(*texts)
    assert whole.ids.tolist() == reference.ids
    assert (None if whole.types is None else whole.types.tolist()) == (
        reference.type_ids if texts[1:] else None
    )
    assert (len(cut.ids), cut.was_cut) == (min(7, len(reference)), len(reference) > 7)
    assert cut.ids[-1] == wordpiece.token_to_id("[SEP]")
    (joined,) = RowTokenizer(byte_tokenizer(), end=256, longest=7)([Labelled(texts, 1)])
    assert isinstance(joined, Tokenized)
    assert (len(joined.ids), joined.ids[-1], (joined.ids == 256).sum()) == (7, 256, len(texts))
    assert RowTokenizer(byte_tokenizer(), longest=7, long="drop")([Labelled(texts, 1)]) == [None]


def test_a_label_that_is_no_number_is_named_where_numbers_are_learned(tmp_path: Path) -> None:
    with pytest.raises(BadRow, match="x:1 has the label 'good', which is no number"):
        TokenStore.build(tmp_path, [Labelled(("a",), "good", "x:1")], RowTokenizer(byte_tokenizer()))


def test_classes_are_in_the_order_of_numbers_where_they_are_numbers() -> None:
    assert classes_of(Labelled(("a",), label) for label in ["10", "2", "b", "a", "2"]) == (
        "2",
        "10",
        "a",
        "b",
    )
    with pytest.raises(BadInput, match="All rows have the label '1'"):
        classes_of([Labelled(("a",), "1")])
    with pytest.raises(BadInput, match="x:1 has no label"):
        classes_of([Text("a", "x:1")])


def documents(store: TokenStore) -> set[bytes]:
    return {digest.tobytes() for digest in store.digests}


def test_a_split_is_the_same_in_any_order_and_nothing_moves_when_rows_are_added(tmp_path: Path) -> None:
    rows = many_rows(600)
    _, held_out = built(tmp_path / "a", rows).split(0.1)
    shuffled = rows.copy()
    random.Random(0).shuffle(shuffled)
    store = built(tmp_path / "b", shuffled)
    train, again = store.split(0.1)
    assert documents(held_out) == documents(again)
    assert documents(train) | documents(again) == documents(store)
    assert not documents(train) & documents(again)
    assert 0.05 < len(again) / len(store) < 0.15
    _, of_more = built(tmp_path / "c", [*rows, *[Text(f"more {n}") for n in range(300)]]).split(0.1)
    assert documents(of_more) & documents(store) == documents(held_out)


@settings(max_examples=40)
@given(TEXTS, st.floats(0.001, 0.999))
def test_each_side_of_a_split_has_a_document(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], share: float
) -> None:
    store = built(tmp_path_factory.mktemp("store"), [Text(text) for text in texts])
    if len(store) == 1:
        with pytest.raises(BadInput, match="one document, which cannot be divided"):
            store.split(share)
        return
    train, held_out = store.split(share)
    assert len(train) >= 1
    assert len(held_out) >= 1
    assert sorted(contents(train) + contents(held_out)) == sorted(contents(store))


def test_the_two_sides_have_digests_of_their_own(tmp_path: Path) -> None:
    store = built(tmp_path, many_rows(50))
    train, held_out = store.split(0.2)
    assert len({store.digest, train.digest, held_out.digest}) == 3


@pytest.mark.parametrize("share", [0, 1, -0.1, 2])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(BadInput, match="share for evaluation"):
        built(tmp_path, many_rows(5)).split(share)


def test_conversations_are_counted_when_cut_or_dropped(tmp_path: Path) -> None:
    from kun.text.chat import ChatTemplate
    from kun.text.learn import CHATML

    rows: list[Row] = [
        Conversation(({"role": "user", "content": "q"}, {"role": "assistant", "content": "a" * n}))
        for n in (5, 500)
    ]
    tokens, template = learn_tokenizer(["a"], "bytes", 300).tokenizer, ChatTemplate(CHATML)
    cut = TokenStore.build(tmp_path / "cut", rows, RowTokenizer(tokens, template=template, longest=64))
    assert (cut.counts.cut, len(cut)) == (1, 2)
    dropping = RowTokenizer(tokens, template=template, longest=64, long="drop")
    dropped = TokenStore.build(tmp_path / "dropped", rows, dropping, bad=BadRows())
    assert (dropped.counts.dropped, len(dropped)) == (1, 1)
