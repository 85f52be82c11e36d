"""One database for all that is kept of people's words: SQLite (WAL) in KUN_HOME, or a PostgreSQL by its URL.

Rooms define tables of their own, and read and write them in transactions of a `Database`, each whole or not at all.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from kun.errors import (
    BadInput,
    Busy,
    DamagedFile,
    NoSpace,
    NotFound,
    NotWritable,
    Unavailable,
    UnsupportedFormat,
)

BUSY_MS = 10_000
"""Milliseconds that one waits for another program's transaction."""
_VERSIONS = "kun_versions"
_LOCK = 4_871_114
"""The number of the lock that writers of a PostgreSQL take one after the other."""


class Database:
    """Tables of one room in a database. Safe for several threads and processes.

    `place` is a file, made where there is none, or a URL. `version` is that of the tables' layout; with `durable` a
    transaction is on the disk when it ends, and not only safe from the end of this process.

    Opening and each transaction raise `Busy` when another program holds the database for long, `NotFound` when the file
    is gone, `NoSpace`, `NotWritable`, `Unavailable` (no server, no driver), `DamagedFile`, and opening
    `UnsupportedFormat` for tables of another version.
    """

    def __init__(
        self, place: Path | str, tables: MetaData, room: str, version: int = 1, durable: bool = False
    ) -> None:
        self._file, url = _located(place)
        self.name = str(self._file) if self._file else url.render_as_string(hide_password=True)
        self._engine = _engine(url, self.name)
        self._writing = self._engine.execution_options(kun_writes=True)
        self._inode: int | None = None
        self._here = threading.local()
        if self._file:
            event.listen(self._engine, "connect", _full if durable else _normal)
        event.listen(self._engine, "begin", _begin)
        with self._errors(), self._writing.begin() as connection:
            self._create(connection, tables, room, version)
        self._inode = self._found_inode()

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that sees one state of the database and hinders nobody."""
        with self._errors(), self._session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is alone in writing from its first statement on.

        Within another one of the same thread it is a part of that: undone alone where it fails, kept with the whole.
        """
        outer: Session | None = getattr(self._here, "session", None)
        if outer is not None:
            with outer.begin_nested():
                yield outer
            return
        with self._errors(), self._session(self._writing) as session:
            self._here.session = session
            try:
                yield session
            finally:
                self._here.session = None

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        self._check_there()
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def _create(self, connection: Connection, tables: MetaData, room: str, version: int) -> None:
        """The tables where there are none. Raises `UnsupportedFormat` where there are some of another version."""
        statement = f"CREATE TABLE IF NOT EXISTS {_VERSIONS} (room VARCHAR(64) PRIMARY KEY, version INTEGER)"
        connection.execute(text(statement))
        chosen = text(f"SELECT version FROM {_VERSIONS} WHERE room = :room")
        found = connection.execute(chosen, {"room": room}).scalar()
        if found is None:
            present = set(inspect(connection).get_table_names())
            found = 1 if present & set(tables.tables) else version  # the first layout told no version
            stated = text(f"INSERT INTO {_VERSIONS} (room, version) VALUES (:room, :version)")
            connection.execute(stated, {"room": room, "version": found})
        if found != version:
            age = "an older" if int(found) < version else "a newer"
            way = (
                "export with the Kun that wrote them what it can export, move the file away, and import that;"
                " the rest stays in the old file"
                if int(found) < version
                else "update Kun"
            )
            raise UnsupportedFormat(
                f"{self.name} holds {room} of {age} version ({found}; this Kun has {version}): {way}."
            )
        tables.create_all(connection)

    def _found_inode(self) -> int | None:
        try:
            return self._file.stat().st_ino if self._file else None
        except OSError:
            return None

    def _check_there(self) -> None:
        """Raise `NotFound` for a file that is gone, since what is written into an open one is lost with it."""
        if not self._file:
            return
        found = self._found_inode()
        if found is not None and found == self._inode:
            return
        self._engine.dispose()  # its connections are to the file that was there
        if found is None:
            raise NotFound(
                f"The database {self._file} is gone: put it back, or start Kun again to begin a new one."
            )
        self._inode = found

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except OperationalError as error:
            reason = str(error.orig).strip()
            if "locked" in reason or "busy" in reason:
                raise Busy(f"Another program holds {self.name}: try again in a moment.") from error
            if "full" in reason:
                raise NoSpace(f"The disk is full: make room to write {self.name}.") from error
            if "readonly" in reason or "unable to open" in reason:
                raise NotWritable(
                    f"{self.name} cannot be written ({reason}): give yourself the right to."
                ) from error
            if self._file is None:
                raise Unavailable(f"{self.name} cannot be reached ({reason}): is the server up?") from error
            raise DamagedFile(
                f"{self.name} cannot be used ({reason}): move it away, or put a copy back."
            ) from error
        except DatabaseError as error:
            raise DamagedFile(f"{self.name} is damaged ({error.orig}): move it away.") from error


def now() -> str:
    """The time in UTC, ISO 8601, to the microsecond: later times are greater texts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _located(place: Path | str) -> tuple[Path | None, URL]:
    if isinstance(place, Path):
        place = place.expanduser()
        place.parent.mkdir(parents=True, exist_ok=True)
        return place, URL.create("sqlite", database=str(place))
    if "://" not in place:
        return _located(Path(place))
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise BadInput(
            f"KUN_DATABASE is no URL of a database ({error}): use postgresql://user@host/name."
        ) from error
    if url.get_backend_name() == "sqlite":
        return _located(Path(url.database or ""))
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "postgresql":
        raise BadInput(
            f"KUN_DATABASE names a {url.get_backend_name()} database, of which Kun knows none: use SQLite or"
            " postgresql://user@host/name."
        )
    return None, url


def _engine(url: URL, name: str) -> Engine:
    options = {"timeout": BUSY_MS / 1000} if url.get_backend_name() == "sqlite" else {}
    try:
        return create_engine(url, connect_args=options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise Unavailable(
            f'{name} needs a driver that is not installed ({error}): pip install "psycopg[binary]".'
        ) from error


def _begin(connection: Connection) -> None:
    """Begin as this transaction needs it: a writer of SQLite takes the file at once, one of PostgreSQL a lock."""
    writes = connection.get_execution_options().get("kun_writes", False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _normal(connection: DBAPIConnection, _record: object) -> None:
    _prepare(connection, "NORMAL")


def _full(connection: DBAPIConnection, _record: object) -> None:
    _prepare(connection, "FULL")


def _prepare(connection: DBAPIConnection, synchronous: str) -> None:
    connection.isolation_level = None  # `_begin` begins transactions, not the driver
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(f"PRAGMA synchronous = {synchronous}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
