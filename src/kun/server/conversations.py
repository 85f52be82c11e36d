"""Conversations, kept in SQLite: each write is one transaction, and readers never wait (WAL)."""

import builtins
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NotRequired, TypedDict
from uuid import uuid4

from sqlalchemy import ForeignKey, Index, delete, func, or_, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from kun.database import Database, now
from kun.errors import BadInput, NotFound

Role = Literal["user", "assistant"]
Status = Literal["running", "done", "stopped", "failed"]

MAX_TITLE = 120
MAX_MESSAGE = 200_000
_TITLE_FROM_MESSAGE = 48
_MAX_LISTED = 500


@dataclass(frozen=True)
class Conversation:
    """A conversation without its messages; times are ISO 8601, UTC. No `model`: the default; no `knowledge`: none."""

    id: str
    title: str
    model: str
    knowledge: str
    updated_at: str


class PlainPassage(TypedDict):
    """A passage as JSON: it is kept with the answer, so that it opens even when the document is gone."""

    id: str
    text: str
    source: str
    heading: str
    page: int | None
    score: float
    reasons: dict[str, float] | None
    start: NotRequired[int]
    end: NotRequired[int]


class AnswerError(TypedDict, total=False):
    """The class of an error, and its message."""

    kind: str
    message: str


class PlainCall(TypedDict):
    """A call of a tool as JSON. `limit`: the seconds that it may take; `is_running`: it has no result yet."""

    name: str
    arguments: dict[str, object]
    limit: float
    is_running: bool
    result: str
    failed: bool
    seconds: float


class AnswerDetails(TypedDict, total=False):
    """The facts of an answer, as far as they are known."""

    wanted_model: str
    model: str
    knowledge: str
    passages: list[PlainPassage]
    prompt: str
    question: str
    declined: bool
    quoted: bool
    calculation: str
    calls: list[PlainCall]
    tool_faults: list[str]
    finish_reason: str
    tokens: int
    seconds: float
    error: AnswerError


@dataclass(frozen=True)
class StoredMessage:
    """One message; `details` belong to an answer."""

    id: str
    role: Role
    text: str
    status: Status = "done"
    details: AnswerDetails = field(default_factory=AnswerDetails)


class _Base(DeclarativeBase):
    pass


class _Conversation(_Base):
    __tablename__ = "conversations"
    __table_args__ = (Index("conversations_by_time", "owner", "updated_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    title: Mapped[str]
    model: Mapped[str] = mapped_column(default="")
    knowledge: Mapped[str] = mapped_column(default="")
    updated_at: Mapped[str]

    def public(self) -> Conversation:
        return Conversation(self.id, self.title, self.model, self.knowledge, self.updated_at)


class _Message(_Base):
    __tablename__ = "messages"
    __table_args__ = (Index("messages_by_place", "conversation", "place", unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True)
    conversation: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    place: Mapped[int]
    role: Mapped[str]
    text: Mapped[str]
    status: Mapped[str] = mapped_column(default="done")
    details: Mapped[str] = mapped_column(default="{}")

    def public(self) -> StoredMessage:
        return StoredMessage(self.id, self.role, self.text, self.status, json.loads(self.details))  # type: ignore[arg-type]


class Conversations:
    """All conversations of one database. `owner` keeps those of different API keys apart; "" where there are none.

    Safe for several threads and processes. Raises `NotFound` for what is not there (or is another owner's), and what a
    `Database` raises.
    """

    def __init__(self, database: Path | str) -> None:
        self._database = Database(database, _Base.metadata, "conversations")

    def close(self) -> None:
        self._database.close()

    # Conversations

    def create(
        self, owner: str, first_message: str = "", model: str = "", knowledge: str = ""
    ) -> Conversation:
        """A new conversation, named after its first message."""
        row = _Conversation(
            id=uuid4().hex,
            owner=owner,
            title=title_of(first_message),
            model=model,
            knowledge=knowledge,
            updated_at=now(),
        )
        with self._database.writing() as session:
            session.add(row)
            session.flush()
            return row.public()

    def get(self, owner: str, id: str) -> Conversation:
        with self._database.reading() as session:
            return _owned(session, owner, id).public()

    def list(self, owner: str, query: str = "") -> list[Conversation]:
        """The newest first; with a query those whose title or messages hold it, ignoring case."""
        chosen = select(_Conversation).where(_Conversation.owner == owner)
        if query.strip():
            pattern = f"%{_escaped(query.strip())}%"
            inside = select(_Message.conversation).where(_Message.text.ilike(pattern, escape="\\"))
            chosen = chosen.where(
                or_(_Conversation.title.ilike(pattern, escape="\\"), _Conversation.id.in_(inside))
            )
        with self._database.reading() as session:
            rows = session.scalars(chosen.order_by(_Conversation.updated_at.desc()).limit(_MAX_LISTED))
            return [row.public() for row in rows]

    def change(
        self,
        owner: str,
        id: str,
        *,
        title: str | None = None,
        model: str | None = None,
        knowledge: str | None = None,
    ) -> Conversation:
        """Rename it, or choose another model or knowledge base for it."""
        with self._database.writing() as session:
            row = _owned(session, owner, id)
            if title is not None:
                row.title = _checked_title(title)
            row.model = row.model if model is None else model
            row.knowledge = row.knowledge if knowledge is None else knowledge
            return row.public()

    def delete(self, owner: str, id: str) -> None:
        with self._database.writing() as session:
            session.delete(_owned(session, owner, id))

    # Messages

    def messages(self, owner: str, id: str) -> "builtins.list[StoredMessage]":
        with self._database.reading() as session:
            _owned(session, owner, id)
            rows = session.scalars(
                select(_Message).where(_Message.conversation == id).order_by(_Message.place)
            )
            return [row.public() for row in rows]

    def exchange(self, owner: str, id: str, text: str) -> tuple[StoredMessage, StoredMessage]:
        """Append a user's message and the running answer to it, together."""
        if not text.strip():
            raise BadInput("The message is empty: type something first.")
        if len(text) > MAX_MESSAGE:
            raise BadInput(
                f"The message has {len(text):,} characters, more than {MAX_MESSAGE:,}: shorten it."
            )
        with self._database.writing() as session:
            row = _owned(session, owner, id)
            row.title = row.title or title_of(text)
            row.updated_at = now()
            asked = _append(session, id, "user", text, "done")
            answer = _append(session, id, "assistant", "", "running")
            return asked.public(), answer.public()

    def answer_again(self, owner: str, id: str, message: str) -> StoredMessage:
        """Take back an answer and all after it; return the running answer that takes its place."""
        with self._database.writing() as session:
            _owned(session, owner, id).updated_at = now()
            self._truncate(session, id, message, "assistant")
            return _append(session, id, "assistant", "", "running").public()

    def take_back(self, owner: str, id: str, message: str) -> None:
        """Remove a user's message and all after it."""
        with self._database.writing() as session:
            _owned(session, owner, id)
            self._truncate(session, id, message, "user")

    def write(self, message: str, text: str, status: Status, details: AnswerDetails) -> None:
        """Store the state of an answer; one that was taken back meanwhile stays away."""
        with self._database.writing() as session:
            session.execute(
                update(_Message)
                .where(_Message.id == message)
                .values(text=text, status=status, details=json.dumps(details, ensure_ascii=False))
            )

    def stop_running(self) -> int:
        """Mark what an earlier process left running as stopped; return how many there were."""
        with self._database.writing() as session:
            orphans = session.scalars(select(_Message).where(_Message.status == "running")).all()
            for orphan in orphans:
                orphan.status = "stopped"
            return len(orphans)

    @staticmethod
    def _truncate(session: Session, id: str, message: str, role: Role) -> None:
        row = session.get(_Message, message)
        if row is None or row.conversation != id or row.role != role:
            raise NotFound("This message is no longer in the conversation: load the page again.")
        session.execute(delete(_Message).where(_Message.conversation == id, _Message.place >= row.place))


def title_of(text: str) -> str:
    """A title from a first message: its first line, cut at a word where there is one."""
    line = " ".join(next((line for line in text.splitlines() if line.strip()), "").split())
    if len(line) <= _TITLE_FROM_MESSAGE:
        return line
    cut = line[:_TITLE_FROM_MESSAGE]
    head, space, _ = cut.rpartition(" ")
    return (head if space and len(head) > _TITLE_FROM_MESSAGE // 2 else cut).rstrip() + "…"


def _checked_title(title: str) -> str:
    title = " ".join(title.split())
    if not title:
        raise BadInput("The title is empty: type one.")
    return title[:MAX_TITLE]


def _owned(session: Session, owner: str, id: str) -> _Conversation:
    row = session.get(_Conversation, id)
    if row is None or row.owner != owner:
        raise NotFound("This conversation does not exist, or was deleted.")
    return row


def _append(session: Session, id: str, role: Role, text: str, status: Status) -> _Message:
    last = session.scalar(select(func.max(_Message.place)).where(_Message.conversation == id))
    place = 0 if last is None else last + 1
    row = _Message(
        id=uuid4().hex, conversation=id, place=place, role=role, text=text, status=status, details="{}"
    )
    session.add(row)
    session.flush()
    return row


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
