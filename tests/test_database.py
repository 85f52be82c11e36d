"""The database of conversations and feedback: its place, its versions, its errors."""

from pathlib import Path

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kun.database import Database
from kun.errors import BadInput, NotFound, Unavailable, UnsupportedFormat
from kun.settings import settings


class Tables(DeclarativeBase):
    pass


class Line(Tables):
    __tablename__ = "lines"

    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


def opened(place: Path | str, version: int = 1, **options: bool) -> Database:
    return Database(place, Tables.metadata, "lines", version, **options)


def texts(database: Database) -> list[str]:
    with database.reading() as session:
        return [line.text for line in session.query(Line)]


def test_it_is_in_the_home_unless_a_url_is_set(bare_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().database_place == bare_home / "kun.db"
    monkeypatch.setenv("KUN_DATABASE", "postgresql://kun@host/kun")
    settings.cache_clear()
    assert settings().database_place == "postgresql://kun@host/kun"


@pytest.mark.parametrize("name", ["kun.db", "what?.db", "a#b%20.db", "鲲.db"])
def test_any_name_of_a_file_is_its_name(tmp_path: Path, name: str) -> None:
    for place in (tmp_path / "path" / name, f"{tmp_path}/text-{name}"):
        database = opened(place)
        with database.writing() as session:
            session.add(Line(text="kept"))
        assert Path(place).is_file()
        assert texts(opened(place)) == ["kept"]


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = opened(tmp_path / "kun.db")

    def fail() -> None:
        with database.writing() as session:
            session.add(Line(text="half"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert texts(database) == []


def test_tables_without_a_version_are_the_first_one(tmp_path: Path) -> None:
    database = opened(tmp_path / "kun.db")
    with database.writing() as session:
        session.connection().exec_driver_sql("DROP TABLE kun_versions")
    database.close()
    opened(tmp_path / "kun.db").close()
    with database.writing() as session:
        session.connection().exec_driver_sql("DROP TABLE kun_versions")
    with pytest.raises(UnsupportedFormat, match=r"older version \(1; this Kun has 2\)"):
        opened(tmp_path / "kun.db", version=2)


def test_a_durable_one_waits_for_the_disk(tmp_path: Path) -> None:
    for durable, level in ((True, 2), (False, 1)):
        database = opened(tmp_path / "kun.db", durable=durable)
        with database.reading() as session:
            assert session.connection().exec_driver_sql("PRAGMA synchronous").scalar() == level
            assert session.connection().exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        database.close()


def test_a_server_that_is_not_there_or_has_no_driver_is_told() -> None:
    with pytest.raises(Unavailable, match="kun"):
        opened("postgresql://kun@127.0.0.1:1/kun")


@pytest.mark.parametrize("url", ["mysql://kun:secret@host/kun", "nosuchdatabase://host/kun"])
def test_a_database_of_a_kind_that_kun_does_not_know_is_told(url: str) -> None:
    with pytest.raises(BadInput, match="use SQLite or postgresql") as told:
        opened(url)
    assert "secret" not in str(told.value)


def test_a_url_that_is_none_is_told() -> None:
    with pytest.raises((BadInput, Unavailable)):
        opened("://")


def test_a_file_that_is_gone_is_not_written_to(tmp_path: Path) -> None:
    database = opened(tmp_path / "kun.db")
    (tmp_path / "kun.db").unlink()
    with pytest.raises(NotFound, match="gone"), database.writing():
        pass
