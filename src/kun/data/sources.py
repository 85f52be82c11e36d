"""Where data comes from: files, folders, lists of them, the hub, the documentation of installed packages.

    Rows("corpus/")                          every file of text, JSON, CSV, TSV or Parquet in a folder
    Rows(["a.jsonl", "b.csv.gz"])            several, one after the other
    Rows("installed-docs")                   docstrings and signatures of the installed Python packages
    Rows("owner/name:config@split")          a data set of the hub, streamed

The order is the same every time: as listed, files of a folder by their path.
"""

import os
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path

from kun.data.formats import DataFormat, detect, to_row
from kun.data.records import TABLES, Record, kind_of, read_records
from kun.data.rows import BadRows, Row
from kun.data.squad import flattened
from kun.errors import BadInput, BadRow, NotFound, NotPermitted, Unavailable, UnsupportedFormat
from kun.settings import settings

Source = str | Path | Sequence[str | Path]

INSTALLED_DOCS = "installed-docs"
_HUB = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.\[\]:%+-]+))?", re.ASCII
)
_DATA = {*TABLES, ".json", ".jsonl", ".ndjson", ".parquet"}
_TEXT = frozenset(
    """
    .txt .text .md .markdown .rst .tex .org .adoc .log .py .pyi .pyx .c .h .cc .cpp .hpp .cu .rs .go .java .kt .scala
    .js .jsx .mjs .ts .tsx .rb .php .pl .lua .r .jl .swift .m .cs .fs .hs .ml .ex .exs .clj .el .lisp .sh .bash .zsh
    .sql .html .htm .css .scss .xml .yaml .yml .toml .ini .cfg .proto .cmake .srt .vtt
    """.split()
)


class Rows:
    """The rows of a source, read anew, in the same order, each time they are asked for.

    `format` is detected for each file where it is not told. With `skip_bad`, rows that cannot be used are counted in
    `bad` instead of being errors. Of more than `limit` rows the first are given.

    Iterating raises `NotFound` for what is not there, `BadInput` for what was named twice or holds nothing,
    `UnsupportedFormat`, and `BadRow`.
    """

    def __init__(
        self,
        source: Source,
        format: DataFormat | None = None,
        skip_bad: bool = False,
        limit: int | None = None,
    ) -> None:
        self.source = source
        self.format = format
        self.limit = limit
        self.bad = BadRows(skip_bad)

    def __iter__(self) -> Iterator[Row]:
        return islice(self._all(), self.limit)

    def _all(self) -> Iterator[Row]:
        self.bad.reset()
        found = False
        for records in _parts(self.source, self.bad):
            format = self.format
            for record in (flat for found_there in records for flat in flattened(found_there)):
                format = format or detect(record)
                row = self._row(record, format)
                if row is not None:
                    found = True
                    yield row
        if not found:
            besides = f" besides {self.bad.count} bad rows" if self.bad.count else ""
            raise BadInput(
                f"{_named(self.source)} holds no data{besides}: name a source with at least one row."
            )

    def _row(self, record: Record, format: DataFormat) -> Row | None:
        try:
            return to_row(record, format)
        except BadRow as error:
            self.bad.meet(error)
            return None

    def fingerprint(self) -> str:
        """A digest of the source's names and of its files' sizes and times; "" where there is something else in it."""
        listed = _listed(self.source)
        if any(_is_virtual(one) for one in listed):
            return ""
        told = sha256(f"{self.format} {self.bad.skip} {self.limit}".encode())
        for path in (path for one in listed for path in _files(Path(one))):
            state = path.stat()
            told.update(f"\n{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode())
        return told.hexdigest()


def _named(source: Source) -> str:
    return ", ".join(str(one) for one in _listed(source))


def _listed(source: Source) -> list[str | Path]:
    listed = [source] if isinstance(source, str | Path) else list(source)
    if not listed:
        raise BadInput("The list of sources is empty: name at least one file or folder.")
    return listed


def _parts(source: Source, bad: BadRows) -> Iterator[Iterator[Record]]:
    """The records of each file, and of each source that is no file."""
    listed = _listed(source)
    seen: set[str | Path] = set()
    for one in listed:
        for part in [one] if _is_virtual(one) else _files(Path(one)):
            name = part if _is_virtual(part) else Path(part).resolve()
            if name in seen:
                raise BadInput(f"{part} is named twice among the sources: name it once.")
            seen.add(name)
    for one in listed:
        if one == INSTALLED_DOCS:
            yield _installed()
        elif _is_virtual(one):
            yield _from_hub(str(one))
        else:
            for path in _files(Path(one)):
                yield read_records(path, bad)


def _is_virtual(one: str | Path) -> bool:
    """Whether a source is no path: installed documentation, or an id of the hub that is no path here."""
    if isinstance(one, Path):
        return False
    if one == INSTALLED_DOCS:
        return True
    match = _HUB.fullmatch(one)
    if match is None or Path(one).exists() or Path(one).parts[0] in (".", ".."):
        return False
    return kind_of(Path(match["name"])) not in _DATA | _TEXT and Path(match["name"]).suffix != ".gz"


def _files(path: Path) -> list[Path]:
    """A file itself, or the readable files of a folder. Raises `NotFound`, `NotPermitted`, `UnsupportedFormat`."""
    path = path.expanduser()
    if path.is_file():
        if not os.access(path, os.R_OK):
            raise NotPermitted(f"{path} may not be read: change its permissions.")
        return [path]
    if not path.is_dir():
        raise NotFound(f"There is no file or folder {path}: mend the path of the data.")
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    readable = [file for file in found if kind_of(file) in _DATA | _TEXT]
    if not readable:
        raise UnsupportedFormat(
            f"The folder {path} holds no file of a kind that is read (text, source code, JSON, CSV, TSV, Parquet):"
            " name the files themselves to read them as text."
        )
    return readable


def _installed() -> Iterator[Record]:
    from kun.data.installed import documents

    for name, text in documents():
        yield Record(f"{INSTALLED_DOCS}:{name}", text)


def _from_hub(name: str) -> Iterator[Record]:
    """The rows of a hub's data set, streamed. Raises `NotFound`, `Unavailable`."""
    match = _HUB.fullmatch(name)
    assert match is not None
    try:
        import datasets
    except ImportError as error:
        raise NotFound(
            f"There is no file or folder {name}; to read it as a data set of the hub, install the package that can:"
            " pip install 'kun[datasets]'."
        ) from error
    if settings().offline:
        raise Unavailable(
            f"{name} is a data set of the hub, and KUN_OFFLINE is set: unset it, or name a file."
        )
    try:
        stream = datasets.load_dataset(
            match["name"], match["config"], split=match["split"] or "train", streaming=True
        )
        for number, value in enumerate(stream, 1):
            yield Record(f"{name}:{number}", value)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unavailable(f"The data set {name} cannot be read from the hub: {why}") from error
