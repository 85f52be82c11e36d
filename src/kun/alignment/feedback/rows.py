"""Reading and writing the rows of feedback's tables, within a transaction of the store."""

import json
from collections.abc import Collection, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from kun.alignment.feedback.tables import AnswerRow, ClaimRow, DraftRow, ItemRow, PromptRow, VoteRow
from kun.alignment.feedback.votes import (
    FEWEST,
    Item,
    Tools,
    Vote,
    check_text,
    digest,
    messages_from,
    order_for,
    plain,
    tools_from,
)
from kun.data.rows import Answer, ChatMessage
from kun.database import now
from kun.errors import BadInput, NotFound
from kun.text.tokenizer import sound


def put_prompt(session: Session, messages: Sequence[ChatMessage], source: str, tools: Tools) -> str:
    """Keep a prompt, once; its id. Raises `BadInput` for an empty or a very long one."""
    if not messages or not any(str(message.get("content") or "").strip() for message in messages):
        raise BadInput("The prompt is empty: write one.")
    text, named = plain(messages), plain(tools) if tools else ""
    check_text("prompt", text)
    id = digest("prompt", text, named)
    if session.scalar(select(PromptRow.number).where(PromptRow.id == id)) is None:
        session.add(PromptRow(id=id, messages=text, tools=named, source=source, created_at=now()))
        session.flush()
    return id


def put_item(
    session: Session,
    prompt: Sequence[ChatMessage],
    answers: Sequence[Answer],
    models: Sequence[str],
    wanted: int,
    source: str,
    tools: Tools,
    most: int | None,
) -> str:
    """Keep answers to a prompt, once; the id. Raises `BadInput` for fewer than two or more than `most` that differ."""
    written = dict(zip((plain(answer) for answer in answers), models or [""] * len(answers), strict=True))
    if len(written) < FEWEST:
        equal = f"{len(answers)} equal ones" if len(answers) > 1 else f"{len(answers)}"
        raise BadInput(f"A ranking needs at least {FEWEST} different answers, not {equal}: add others.")
    if most is not None and len(written) > most:
        raise BadInput(
            f"{len(written)} answers are more than {most}, which one ranks at a time: leave some out."
        )
    of = put_prompt(session, prompt, source, tools)
    ordered = sorted(written, key=digest)
    id = digest("item", of, *ordered)
    found = session.scalars(select(ItemRow).where(ItemRow.id == id)).first()
    if found is not None:
        found.wanted = max(found.wanted, wanted)
        return id
    session.add(ItemRow(id=id, prompt=of, wanted=wanted, created_at=now()))
    session.flush()
    for place, text in enumerate(ordered):
        check_text("answer", text)
        session.add(AnswerRow(item=id, place=place, messages=text, model=written[text]))
    session.flush()
    return id


def item_row(session: Session, id: str) -> ItemRow:
    """Raises `NotFound` for an item that is not there."""
    row = session.scalars(select(ItemRow).where(ItemRow.id == id)).first()
    if row is None:
        raise NotFound("These answers are no longer in the feedback: go on with the next ones.")
    return row


def public_item(session: Session, id: str, rater: str) -> Item:
    """An item by its id, as `rater` sees it."""
    return public_items(session, {id}, rater)[id]


def public_items(session: Session, ids: Collection[str], rater: str = "") -> dict[str, Item]:
    """Items by their ids, as `rater` sees them."""
    chosen = select(AnswerRow).where(AnswerRow.item.in_(ids)).order_by(AnswerRow.place)
    answers: dict[str, list[AnswerRow]] = {id: [] for id in ids}
    for answer in session.scalars(chosen):
        answers[answer.item].append(answer)
    asked = (
        select(ItemRow.id, PromptRow.messages, PromptRow.tools)
        .join(PromptRow, PromptRow.id == ItemRow.prompt)
        .where(ItemRow.id.in_(ids))
    )
    return {
        id: Item(
            id,
            messages_from(messages),
            tuple(messages_from(answer.messages) for answer in answers[id]),
            tuple(answer.model for answer in answers[id]),
            order_for(id, rater, len(answers[id])),
            tools_from(tools),
        )
        for id, messages, tools in session.execute(asked)
    }


def put_claim(session: Session, item: str, rater: str) -> None:
    """An item is on the screen of `rater`, from now on."""
    session.execute(delete(ClaimRow).where(ClaimRow.item == item, ClaimRow.rater == rater))
    session.add(ClaimRow(item=item, rater=rater, claimed_at=now()))


def values_of(vote: Vote, rater: str, key: str) -> dict[str, object]:
    """The columns of a vote."""
    return {
        "key": key,
        "item": vote.item,
        "rater": rater,
        "verdict": vote.verdict,
        "ranks": json.dumps(vote.ranks),
        "shown": json.dumps(vote.shown),
        "flags": json.dumps(dict(vote.flags)),
        "note": sound(vote.note),
        "correction": sound(vote.correction),
        "margin": vote.margin,
        "created_at": now(),
    }


def vote_of(row: VoteRow | DraftRow) -> Vote:
    """The vote of a row."""
    flags = {int(place): tuple(flags) for place, flags in json.loads(row.flags).items()}
    return Vote(
        row.item, row.rater, row.verdict, tuple(json.loads(row.ranks)), tuple(json.loads(row.shown)),  # type: ignore[arg-type]
        flags, row.note, row.correction, row.margin,
    )  # fmt: skip
