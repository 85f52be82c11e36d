"""The tables of feedback. Messages, ranks and the like are JSON; the order of rows is that of their numbers."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

VERSION = 1


class Tables(DeclarativeBase):
    """The base of all tables of feedback."""


class PromptRow(Tables):
    """Messages that wait for an answer; its id is a digest of them, so that each is there once."""

    __tablename__ = "feedback_prompts"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    messages: Mapped[str]
    tools: Mapped[str] = mapped_column(default="")
    source: Mapped[str] = mapped_column(default="")
    created_at: Mapped[str]


class ItemRow(Tables):
    """A prompt with answers that are ranked together, by `wanted` people."""

    __tablename__ = "feedback_items"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    prompt: Mapped[str] = mapped_column(ForeignKey("feedback_prompts.id", ondelete="CASCADE"), index=True)
    wanted: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[str]


class AnswerRow(Tables):
    """One of an item's answers; they are in the order of their digests, which tells nothing of who wrote them."""

    __tablename__ = "feedback_answers"

    item: Mapped[str] = mapped_column(ForeignKey("feedback_items.id", ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    messages: Mapped[str]
    model: Mapped[str] = mapped_column(default="")


class _Said:
    """The columns of what a person said of an item. `key` is one for the two, so that nobody says two things of it."""

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(unique=True)
    item: Mapped[str] = mapped_column(ForeignKey("feedback_items.id", ondelete="CASCADE"))
    rater: Mapped[str]
    verdict: Mapped[str]
    ranks: Mapped[str] = mapped_column(default="[]")
    shown: Mapped[str] = mapped_column(default="[]")
    flags: Mapped[str] = mapped_column(default="{}")
    note: Mapped[str] = mapped_column(default="")
    correction: Mapped[str] = mapped_column(default="")
    margin: Mapped[float] = mapped_column(default=0.0)
    created_at: Mapped[str]


class VoteRow(_Said, Tables):
    """A person's ranking of an item."""

    __tablename__ = "feedback_votes"
    __table_args__ = (
        Index("feedback_votes_of_item", "item", "rater"),
        Index("feedback_votes_of_rater", "rater"),
    )


class DraftRow(_Said, Tables):
    """A vote that was taken back: it counts for nothing, and is on the ballot when its item comes again."""

    __tablename__ = "feedback_drafts"


class ClaimRow(Tables):
    """An item that is on a person's screen, so that it is not given to more people than are wanted."""

    __tablename__ = "feedback_claims"

    item: Mapped[str] = mapped_column(ForeignKey("feedback_items.id", ondelete="CASCADE"), primary_key=True)
    rater: Mapped[str] = mapped_column(primary_key=True)
    claimed_at: Mapped[str]


class WritingRow(Tables):
    """The prompt to which a person writes, so that it is not given to another."""

    __tablename__ = "feedback_writing"

    writer: Mapped[str] = mapped_column(primary_key=True)
    prompt: Mapped[str] = mapped_column(ForeignKey("feedback_prompts.id", ondelete="CASCADE"))
    claimed_at: Mapped[str]


class DemonstrationRow(Tables):
    """An answer that a person wrote."""

    __tablename__ = "feedback_demonstrations"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    prompt: Mapped[str] = mapped_column(ForeignKey("feedback_prompts.id", ondelete="CASCADE"), index=True)
    answer: Mapped[str]
    writer: Mapped[str] = mapped_column(default="")
    created_at: Mapped[str]


class ThumbRow(Tables):
    """A thumb on a message of a chat, with a copy of what it is about: the message itself may be deleted."""

    __tablename__ = "feedback_thumbs"

    message: Mapped[str] = mapped_column(primary_key=True)
    rater: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]
    prompt: Mapped[str]
    answer: Mapped[str]
    model: Mapped[str] = mapped_column(default="")
    created_at: Mapped[str]
