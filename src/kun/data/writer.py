"""The files of a token store as they grow, and the journal from which an interrupted build goes on."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from kun.atomic_files import new_file, sha256, sync
from kun.data.blocks import Block
from kun.data.columns import shard_name
from kun.data.described import DOCUMENT_COLUMNS, STORE, TOKEN_COLUMNS, VERSION, Counts, Described

JOURNAL = "journal.jsonl"


@dataclass
class State:
    """How far a build is: rows read, a digest of them all, and the numbers in each column."""

    tokenizer: str
    shard: int
    types: dict[str, str]
    read: int = 0
    chain: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


class StoreWriter:
    """Appends blocks to the files of `folder`; `commit` makes what was appended last."""

    def __init__(self, folder: Path, tokenizer: str, shard: int, vocabulary: int) -> None:
        """Goes on from the journal in `folder` where one was written with the same tokenizer and shards."""
        self.folder = folder
        ids = "<u2" if vocabulary <= 2**16 else "<i4"
        types = {"ids": ids, "source": ids, "learned": "|u1", "types": "|u1"}
        types.update({name: dtype.str for name, dtype in DOCUMENT_COLUMNS.items()})
        self._fresh = State(tokenizer, shard, types)
        (folder / STORE).unlink(missing_ok=True)
        self.state = self._journalled() or self._fresh
        self._files: dict[str, IO[bytes]] = {}
        self._cut_back()

    def _journalled(self) -> State | None:
        """The last whole line of the journal, if it speaks of this build and the files are as long as it says."""
        found = None
        with suppress(FileNotFoundError):
            for line in (self.folder / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, TypeError, KeyError):  # the last one may be torn
                    values = json.loads(line)
                    found = State(**values | {"counts": Counts(**values["counts"])})
        same = found is not None and all(
            getattr(found, name) == getattr(self._fresh, name) for name in ("tokenizer", "shard", "types")
        )
        return found if same and found is not None and self._holds(found) else None

    def _holds(self, state: State) -> bool:
        return all(
            path.is_file() and path.stat().st_size >= size for path, size in self._paths(state).items()
        )

    def _paths(self, state: State) -> dict[Path, int]:
        """Each file and its bytes."""
        sizes = {}
        for name, size in state.sizes.items():
            width = np.dtype(state.types[name]).itemsize
            if name not in TOKEN_COLUMNS:
                sizes[self.folder / f"{name}.bin"] = size * width
                continue
            for number in range(-(-size // state.shard)):
                part = min(state.shard, size - number * state.shard)
                sizes[self.folder / shard_name(name, number)] = part * width
        return sizes

    def _cut_back(self) -> None:
        """Take away what was written after the last commit."""
        kept = self._paths(self.state)
        for path in self.folder.glob("*.bin"):
            if path in kept:
                os.truncate(path, kept[path])
            else:
                path.unlink()
        if not self.state.read:
            (self.folder / JOURNAL).unlink(missing_ok=True)
            return
        with new_file(self.folder / JOURNAL) as fresh:  # without a line that was torn
            fresh.write_text(self._line(), encoding="utf-8")

    def restart(self) -> None:
        """Begin from nothing, since the rows are others than the journal's."""
        self.close()
        self.state = State(self._fresh.tokenizer, self._fresh.shard, self._fresh.types)
        self._cut_back()

    def append(self, block: Block, digests: Sequence[bytes], sides: Sequence[bytes]) -> None:
        """Add a block; `digests` and `sides` are those of its documents."""
        for name, column in block.columns.items():
            self._extend(name, column.astype(self.state.types[name]))
        self._extend("digests", np.frombuffer(b"".join(digests), "V16"))
        self._extend("sides", np.frombuffer(b"".join(sides), "<u8"))
        counts = self.state.counts
        counts.documents += len(digests)
        counts.dropped += block.dropped
        counts.cut += block.cut

    def _extend(self, name: str, column: NDArray) -> None:
        size, shard = self.state.sizes.get(name, 0), self.state.shard
        self.state.sizes[name] = size + len(column)
        if name not in TOKEN_COLUMNS:
            self._file(f"{name}.bin").write(column.tobytes())
            return
        while len(column):
            number, filled = divmod(size, shard)
            part, column = column[: shard - filled], column[shard - filled :]
            self._file(shard_name(name, number)).write(part.tobytes())
            size += len(part)

    def _file(self, name: str) -> IO[bytes]:
        if name not in self._files:
            self._files[name] = (self.folder / name).open("ab")
        return self._files[name]

    def commit(self) -> None:
        """Put everything on the disk, then say so in the journal."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(self._line())
            journal.flush()
            os.fsync(journal.fileno())

    def _line(self) -> str:
        return json.dumps(asdict(self.state)) + "\n"

    def finish(self, fingerprint: str, counts: Counts) -> None:
        """Write store.json, which makes the store whole."""
        self.commit()
        self.close()
        state = self.state
        described = Described(
            version=VERSION,
            fingerprint=fingerprint,
            tokenizer=state.tokenizer,
            shard=state.shard,
            n_documents=counts.documents,
            types={name: kind for name, kind in state.types.items() if name in state.sizes},
            sizes=state.sizes,
            digests={path.name: sha256(path) for path in sorted(self._paths(state))},
            counts=counts,
        )
        sync(self.folder)
        with new_file(self.folder / STORE) as fresh:
            fresh.write_text(described.json(), encoding="utf-8")
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files = {}
