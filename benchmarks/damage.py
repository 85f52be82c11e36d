"""Files that a disk has damaged: of 32 seeded damages to each kind none may be used unseen; and the cost of looking."""

import contextlib
import hashlib
import logging
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import kun
from benchmarks.table import Options, Row, main
from kun import api
from kun.atomic_files import sha256
from kun.errors import KunError
from kun.hub.layout import write_lineage
from kun.hub.opening import open_checkpoint
from kun.knowledge.store import Store
from kun.settings import DEFAULT_MODEL
from kun.training.snapshot import newest

MODEL = "smollm2-135m-instruct"
DAMAGES = 32
MOST_CUT = 2**20
RECIPE = """
stage = "pretrain"
[model]
family = "llama"
n_layers = 2
n_heads = 4
d_model = 64
vocab_size = 512
tokenizer = "bytes"
[train]
steps = 8
context = 64
batch_tokens = 512
snapshot_every = 4
"""


def measure(options: Options) -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _models(folder)
        yield _snapshot(folder)
        yield _store(folder)
    yield from _cost(options)


def _models(folder: Path) -> Iterable[Row]:
    with kun.load(MODEL, quantize=None) as lm:
        weights = kun.save(lm, folder / "weights")
    yield _row("weights", [weights / "model.safetensors"], lambda: _tensors(weights))
    file = api.export(weights, folder / "exported" / "model.gguf", format="gguf", dtype="Q8_0").path
    record = {file.name: {"sha256": sha256(file), "bytes": file.stat().st_size}}
    write_lineage(file.parent, {"name": "gguf"}, record)
    yield _row("GGUF", [file], lambda: _tensors(file))
    text = folder / "text.txt"
    text.write_text("A fish changes into a bird, and its name is Peng. " * 200)
    recipe = folder / "adapter.toml"
    recipe.write_text(f'stage = "finetune"\n[model]\nfrom = "{weights}"\n[lora]\nrank = 8\n')
    small = {"train.steps": 2, "train.batch_tokens": 256, "train.context": 64}
    run = kun.train(recipe, {"data.train": str(text), "out": str(folder / "adapter"), **small})
    adapter = run.checkpoint
    yield _row("adapter", [adapter / "adapter_model.safetensors"], lambda: _tensors(adapter))
    yield _row("tokenizer", [weights / "tokenizer.json"], lambda: _tokenizer(weights))


def _snapshot(folder: Path) -> Row:
    text = folder / "text.txt"
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    run = kun.train(recipe, {"data.train": str(text), "out": str(folder / "tiny")})
    snapshots = run.path / "snapshots"
    last = newest(snapshots)
    assert last is not None

    def read() -> object:
        found = newest(snapshots)
        return found and (found.facts, _digest(found.tensors()))

    return _row("snapshot", sorted(last.path.iterdir()), read)


def _store(folder: Path) -> Row:
    documents = folder / "documents"
    documents.mkdir()
    for number in range(12):
        (documents / f"{number}.md").write_text(f"# Part {number}\n\nFish number {number} changes. " * 20)
    with contextlib.closing(kun.KnowledgeBase.open(folder / "base")) as base:
        base.add(documents)
        (documents / "3.md").write_text("Another text.")
        base.add(documents)

    def read() -> object:
        store = Store(folder / "base")
        table = store.passages()
        return table.texts, table.vectors.tobytes(), store.documents(), store.counts()

    files = [path for path in (folder / "base").rglob("*") if path.is_file() and path.suffix != ".lock"]
    return _row("store", sorted(files), read)


def _tensors(path: Path) -> str:
    return _digest(open_checkpoint(path).network("float32").state_dict())


def _tokenizer(path: Path) -> str:
    return open_checkpoint(path).tokenizer.to_str()


def _digest(state: dict[str, object]) -> str:
    import torch

    whole = hashlib.sha256()
    for name, tensor in state.items():
        assert isinstance(tensor, torch.Tensor)
        whole.update(name.encode() + tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _row(what: str, files: list[Path], read: Callable[[], object]) -> Row:
    """Damages in turn, each undone: named by an error or in the log, without effect, or unseen."""
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logging.getLogger("kun").addHandler(handler)
    sound = read()
    counts = {"named": 0, "recovered": 0, "unseen": 0}
    for seed in range(DAMAGES):
        with damaged(files[seed % len(files)], seed):
            said.clear()
            try:
                same = read() == sound
                outcome = "named" if said else "recovered" if same else "unseen"
            except KunError:
                outcome = "named"
        counts[outcome] += 1
    logging.getLogger("kun").removeHandler(handler)
    return Row(
        what=f"{DAMAGES} damages to {what}: unseen",
        figure=str(counts["unseen"]),
        at_least="0",
        holds=not counts["unseen"],
        note=f"{counts['named']} named, {counts['recovered']} without effect",
    )


@contextlib.contextmanager
def damaged(path: Path, seed: int) -> Iterator[None]:
    """Within it a bit of a file is turned, some bytes are zero, its end is missing, or there are bytes more."""
    rng = random.Random(seed)
    size = path.stat().st_size
    kind = ("flip", "zero", "truncate", "append")[seed % 4]
    at = (
        size
        if kind == "append"
        else rng.randrange(max(0, size - MOST_CUT) if kind == "truncate" else 0, size)
    )
    with path.open("r+b") as file:
        file.seek(at)
        before = file.read()[:MOST_CUT] if kind != "truncate" else file.read()
        file.seek(at)
        if kind == "flip":
            file.write(bytes([before[0] ^ 1 << rng.randrange(8)]))
        elif kind == "zero":
            count = rng.randint(1, 512)
            file.write(bytes(len(before[:count])) if any(before[:count]) else b"\1")
        elif kind == "truncate":
            file.truncate(at)
        else:
            file.write(rng.randbytes(rng.randint(1, 64)))
    try:
        yield
    finally:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(before)
            file.truncate(size)


def _cost(options: Options) -> Iterable[Row]:
    """Opening the default model's files with nothing remembered, and with all of it."""
    from kun.atomic_files import check_once
    from kun.hub.pull import locate

    folder = locate(DEFAULT_MODEL)
    checkpoint = open_checkpoint(folder)
    files = checkpoint.digests()
    size = sum(path.stat().st_size for path in files)

    def timed() -> float:
        start = time.perf_counter()
        open_checkpoint(folder)
        for path, expected in files.items():
            check_once(path, expected)
        return time.perf_counter() - start

    repeats = 3 if options.quick else 7
    first = []
    for _ in range(repeats):
        shutil.rmtree(kun_cache(), ignore_errors=True)
        first.append(timed())
    then = [timed() for _ in range(repeats)]
    what = f"digests of {DEFAULT_MODEL}, {size / 1e6:.0f} MB"
    for name, times, most in (("the first time", first, 0.4), ("then", then, 0.02)):
        middle = statistics.median(times)
        yield Row(f"{what}: {name}", f"{middle:.3f} s", f"{most} s", holds=middle <= most)


def kun_cache() -> Path:
    from kun.settings import settings

    return settings().home / "cache" / "checked"


if __name__ == "__main__":
    main(measure, __doc__)
