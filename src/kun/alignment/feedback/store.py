"""The store of feedback: prompts, answers to rank, votes, demonstrations, thumbs. Each write is on the disk at once."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from kun.alignment.feedback.rows import (
    item_row,
    public_item,
    public_items,
    put_claim,
    put_item,
    put_prompt,
    values_of,
    vote_of,
)
from kun.alignment.feedback.tables import (
    VERSION,
    AnswerRow,
    ClaimRow,
    DemonstrationRow,
    DraftRow,
    ItemRow,
    PromptRow,
    Tables,
    ThumbRow,
    VoteRow,
    WritingRow,
)
from kun.alignment.feedback.votes import (
    MOST,
    Demonstration,
    Item,
    Prompt,
    Thumb,
    Tools,
    Vote,
    check_name,
    check_text,
    digest,
    messages_from,
    plain,
    tools_from,
)
from kun.data.rows import Answer, ChatMessage
from kun.database import Database, now
from kun.errors import BadInput
from kun.settings import settings
from kun.text.tokenizer import sound

IMPORTED = "imported"
"""Who rated what came from a file."""
_UNSEEN = "[]"
"""The order on the screen of a vote that came from a file."""
_CLAIM = timedelta(minutes=30)
"""How long an item waits for the person on whose screen it is."""
_RATED = (
    select(func.count())
    .where(VoteRow.item == ItemRow.id, VoteRow.verdict != "skipped")
    .correlate(ItemRow)
    .scalar_subquery()
)
"""How many people judged an item."""


class FeedbackStore:
    """Feedback in one database. Safe for several threads, processes and people at once.

    Methods raise `BadInput` for what cannot be stored, `NotFound` for an item that is not there, and what a `Database`
    raises: `Busy`, `DamagedFile`, `NoSpace`, `NotFound`, `UnsupportedFormat`.
    """

    def __init__(self, database: Path | str) -> None:
        self._database = Database(database, Tables.metadata, "feedback", VERSION, durable=True)

    @classmethod
    def open(cls) -> "FeedbackStore":
        """That of this machine: `kun.db` in KUN_HOME, or what KUN_DATABASE names."""
        return cls(settings().database_place)

    def close(self) -> None:
        self._database.close()

    def together(self) -> AbstractContextManager[object]:
        """Several writes of this thread as one transaction, which is on the disk at its end: for many at a time."""
        return self._database.writing()

    # Prompts and items

    def add_prompt(self, messages: Sequence[ChatMessage], source: str = "", tools: Tools = None) -> str:
        """Keep a prompt, once; its id."""
        with self._database.writing() as session:
            return put_prompt(session, messages, source, tools)

    def prompts(self, waiting: bool = False) -> list[Prompt]:
        """All prompts in the order in which they came, or those that have no answers to rank yet."""
        chosen = select(PromptRow).order_by(PromptRow.number)
        if waiting:
            answered = (select(ItemRow.prompt), select(DemonstrationRow.prompt))
            chosen = chosen.where(*(PromptRow.id.not_in(some) for some in answered))
        with self._database.reading() as session:
            return [
                Prompt(row.id, messages_from(row.messages), row.source) for row in session.scalars(chosen)
            ]

    def waits(self, prompt: str) -> bool:
        """A prompt is there, has no answers to rank, and nobody wrote one."""
        with self._database.reading() as session:
            return _waits(session, prompt)

    def remove_prompt(self, prompt: str) -> bool:
        """Forget a prompt that waits; False where it is gone, or was answered meanwhile."""
        with self._database.writing() as session:
            if not _waits(session, prompt):
                return False
            session.execute(delete(PromptRow).where(PromptRow.id == prompt))
            return True

    def add_item(
        self,
        prompt: Sequence[ChatMessage],
        answers: Sequence[Answer],
        models: Sequence[str] = (),
        *,
        wanted: int = 1,
        source: str = "",
        tools: Tools = None,
    ) -> str:
        """Answers for `wanted` people to rank, 2 to 9 that differ; the id, that of before for the same ones."""
        if wanted < 1:
            raise BadInput(f"An item is for at least one person who rates, not {wanted}.")
        with self._database.writing() as session:
            return put_item(session, prompt, answers, models, wanted, source, tools, MOST)

    def want(self, people: int) -> None:
        """Let so many people rate each item; what came from files ranked already stays as it is."""
        if not 1 <= people <= 100:
            raise BadInput(f"{people} people cannot rate an item: choose 1 to 100.")
        with self._database.writing() as session:
            session.execute(update(ItemRow).where(ItemRow.wanted > 0).values(wanted=people))

    def wanted(self) -> int:
        """How many people rate each item, the most of all; 1 where there are none."""
        with self._database.reading() as session:
            return session.scalar(select(func.max(ItemRow.wanted))) or 1

    def item(self, id: str, rater: str = "") -> Item:
        """An item as `rater` sees it. Raises `NotFound`."""
        with self._database.reading() as session:
            return public_item(session, item_row(session, id).id, rater)

    # Rating

    def next(self, rater: str) -> Item | None:
        """The next item for a person: one on their screen already, else the oldest that still wants somebody.

        It is theirs for half an hour, so that no more people rate an item than are wanted. None where all is done.
        """
        rater = check_name(rater)
        fresh = _fresh()
        voted = select(VoteRow.item).where(VoteRow.rater == rater)
        claims = (
            select(func.count())
            .where(ClaimRow.item == ItemRow.id, ClaimRow.rater != rater, ClaimRow.claimed_at > fresh)
            .correlate(ItemRow)
            .scalar_subquery()
        )
        held = select(ClaimRow.item).where(ClaimRow.rater == rater, ClaimRow.claimed_at > fresh)
        free = select(ItemRow).where(ItemRow.wanted > 0, ItemRow.id.not_in(voted))
        with self._database.writing() as session:
            row = session.scalars(free.where(ItemRow.id.in_(held)).limit(1)).first()
            if row is None:
                open = free.where(_RATED + claims < ItemRow.wanted).order_by(ItemRow.number).limit(1)
                row = session.scalars(open).first()
            if row is None:
                return None
            put_claim(session, row.id, rater)
            return public_item(session, row.id, rater)

    def left(self, rater: str) -> int:
        """How many items still want somebody, and this person has not seen."""
        voted = select(VoteRow.item).where(VoteRow.rater == rater)
        open = (ItemRow.wanted > 0, ItemRow.id.not_in(voted), ItemRow.wanted > _RATED)
        chosen = select(func.count()).select_from(ItemRow).where(*open)
        with self._database.reading() as session:
            return session.scalar(chosen) or 0

    def save(self, vote: Vote) -> None:
        """Keep a vote, in the place of this person's earlier one on the item; it is on the disk when this returns."""
        rater = check_name(vote.rater)
        key = _vote_key(vote.item, rater)
        with self._database.writing() as session:
            item = item_row(session, vote.item)
            answers = session.scalar(select(func.count()).where(AnswerRow.item == item.id)) or 0
            vote.checked(answers)
            for table in (VoteRow, DraftRow):
                session.execute(delete(table).where(table.key == key))
            session.execute(delete(ClaimRow).where(ClaimRow.item == item.id, ClaimRow.rater == rater))
            session.add(VoteRow(**values_of(vote, rater, key)))

    def undo(self, rater: str) -> Vote | None:
        """Take back this person's last vote on a screen, and give them its item next; None where there is none.

        What they said stays as their `draft`.
        """
        rater = check_name(rater)
        last = select(VoteRow).where(VoteRow.rater == rater, VoteRow.shown != _UNSEEN)
        with self._database.writing() as session:
            row = session.scalars(last.order_by(VoteRow.number.desc()).limit(1)).first()
            if row is None:
                return None
            vote = vote_of(row)
            session.execute(delete(DraftRow).where(DraftRow.key == row.key))
            session.add(DraftRow(**values_of(vote, rater, row.key)))
            session.delete(row)
            session.execute(delete(ClaimRow).where(ClaimRow.rater == rater))
            put_claim(session, vote.item, rater)
            return vote

    def draft(self, item: str, rater: str) -> Vote | None:
        """The vote on an item that this person took back, which counts for nothing; None where there is none."""
        key = _vote_key(item, check_name(rater))
        with self._database.reading() as session:
            row = session.scalars(select(DraftRow).where(DraftRow.key == key)).first()
            return None if row is None else vote_of(row)

    def add_ranked(
        self,
        prompt: Sequence[ChatMessage],
        groups: Sequence[Sequence[Answer]],
        *,
        rater: str = IMPORTED,
        margin: float = 0.0,
        source: str = "",
        tools: Tools = None,
    ) -> bool:
        """Keep a ranking from elsewhere, the best group first; False where it is there already.

        An answer that comes twice counts where it is better. Raises `BadInput` for fewer than two different answers.
        """
        places: dict[str, int] = {}
        for rank, group in enumerate(groups):
            for answer in group:
                places.setdefault(plain(answer), rank)
        answers = [answer for group in groups for answer in group]
        with self._database.writing() as session:
            id = put_item(session, prompt, answers, (), 0, source, tools, None)
            stored = session.scalars(select(AnswerRow).where(AnswerRow.item == id).order_by(AnswerRow.place))
            found = [places[row.messages] for row in stored]
            dense = {rank: number for number, rank in enumerate(sorted(set(found)))}
            ranks = tuple(dense[rank] for rank in found)
            key = digest("ranked", id, rater, json.dumps(ranks))
            if session.scalar(select(VoteRow.number).where(VoteRow.key == key)) is not None:
                return False
            vote = Vote(id, check_name(rater), ranks=ranks, margin=margin)
            session.add(VoteRow(**values_of(vote.checked(len(ranks)), vote.rater, key)))
            return True

    def votes(self) -> Iterator[tuple[Item, Vote]]:
        """All votes with their items, in the order in which they were saved."""
        after = 0
        while True:
            chosen = select(VoteRow).where(VoteRow.number > after).order_by(VoteRow.number).limit(500)
            with self._database.reading() as session:
                rows = session.scalars(chosen).all()
                items = public_items(session, {row.item for row in rows})
            yield from ((items[row.item], vote_of(row)) for row in rows)
            if not rows:
                return
            after = rows[-1].number

    # Demonstrations and thumbs

    def next_to_write(self, writer: str, without: Collection[str] = ()) -> Prompt | None:
        """A prompt that nobody has written an answer to, none of those `without`; None where there is none.

        It is this person's for half an hour, or until they are given another.
        """
        writer = check_name(writer)
        others = select(WritingRow.prompt).where(
            WritingRow.writer != writer, WritingRow.claimed_at > _fresh()
        )
        done = select(DemonstrationRow.prompt)
        ranked = select(ItemRow.prompt).where(ItemRow.wanted == 0)
        chosen = select(PromptRow).where(*(PromptRow.id.not_in(some) for some in (done, ranked, others)))
        with self._database.writing() as session:
            session.execute(delete(WritingRow).where(WritingRow.writer == writer))
            for row in session.scalars(chosen.order_by(PromptRow.number)):
                if row.id not in without:
                    session.add(WritingRow(writer=writer, prompt=row.id, claimed_at=now()))
                    return Prompt(row.id, messages_from(row.messages), row.source)
        return None

    def demonstrate(
        self,
        prompt: Sequence[ChatMessage],
        answer: str,
        writer: str = IMPORTED,
        source: str = "",
        tools: Tools = None,
    ) -> bool:
        """Keep an answer that a person wrote; False where it is there already."""
        if not answer.strip():
            raise BadInput("The answer is empty: write one.")
        answer = sound(check_text("answer", answer))
        with self._database.writing() as session:
            of = put_prompt(session, prompt, source, tools)
            id = digest("demonstration", of, answer)
            if session.scalar(select(DemonstrationRow.number).where(DemonstrationRow.id == id)) is not None:
                return False
            made = DemonstrationRow(
                id=id, prompt=of, answer=answer, writer=check_name(writer), created_at=now()
            )
            session.add(made)
            return True

    def demonstrations(self) -> list[Demonstration]:
        """All of them, in the order in which they were written."""
        chosen = (
            select(DemonstrationRow, PromptRow.messages, PromptRow.tools)
            .join(PromptRow, PromptRow.id == DemonstrationRow.prompt)
            .order_by(DemonstrationRow.number)
        )
        with self._database.reading() as session:
            return [
                Demonstration(messages_from(messages), row.answer, row.writer, tools_from(tools))
                for row, messages, tools in session.execute(chosen)
            ]

    def thumb(self, thumb: Thumb) -> bool:
        """Keep a thumb in the place of this person's earlier one on the message; a value of 0 takes it back.

        It holds all that it is about, and so may come when the message is deleted. False where it is there already.
        """
        if thumb.value not in (-1, 0, 1):
            raise BadInput(f"A thumb is 1, -1, or 0 to take it back, not {thumb.value}.")
        with self._database.writing() as session:
            of = (ThumbRow.message == thumb.message, ThumbRow.rater == thumb.rater)
            before = session.scalar(select(ThumbRow.value).where(*of)) or 0
            session.execute(delete(ThumbRow).where(*of))
            if thumb.value:
                row = ThumbRow(
                    message=thumb.message, rater=thumb.rater, value=thumb.value, prompt=plain(thumb.prompt),
                    answer=sound(check_text("answer", thumb.answer)), model=thumb.model, created_at=now(),
                )  # fmt: skip
                session.add(row)
            return thumb.value != before

    def thumbs(self, rater: str | None = None) -> list[Thumb]:
        """All thumbs, or those of one person, in the order in which they were given."""
        chosen = select(ThumbRow).order_by(ThumbRow.created_at)
        if rater is not None:
            chosen = chosen.where(ThumbRow.rater == rater)
        with self._database.reading() as session:
            return [
                Thumb(row.message, row.rater, row.value, messages_from(row.prompt), row.answer, row.model)
                for row in session.scalars(chosen)
            ]


def _fresh() -> str:
    """The time from which on claims hold."""
    return (datetime.now(UTC) - _CLAIM).isoformat(timespec="microseconds")


def _vote_key(item: str, rater: str) -> str:
    return digest("vote", item, rater)


def _waits(session: Session, prompt: str) -> bool:
    answered = (
        session.scalar(select(table.number).where(table.prompt == prompt).limit(1))
        for table in (ItemRow, DemonstrationRow)
    )
    is_there = session.scalar(select(PromptRow.number).where(PromptRow.id == prompt)) is not None
    return is_there and not any(answered)
