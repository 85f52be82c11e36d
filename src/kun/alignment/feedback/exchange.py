"""Feedback from files and into files: what was imported once adds nothing the second time."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar, get_args

from kun.alignment.feedback.store import IMPORTED, FeedbackStore
from kun.alignment.feedback.votes import Thumb, digest, plain, ranked
from kun.alignment.prompts import asked
from kun.atomic_files import Progress, new_file, silent
from kun.data.formats import detect, to_row
from kun.data.messages import asked as instructed
from kun.data.messages import messages_of
from kun.data.preference_shapes import Fields, Shape, pairs, records
from kun.data.record_fields import lowered
from kun.data.records import Record, read_records
from kun.data.rows import Answer, BadRows, ChatMessage, Conversation, Pair, Ranking, Row, Unpaired
from kun.data.sources import Rows
from kun.errors import BadInput, BadRow, NotFound, UnsupportedFormat

T = TypeVar("T")

Kind = Literal["preferences", "demonstrations", "thumbs"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Contradictory = Literal["keep", "drop"]
CONTRADICTORY: tuple[Contradictory, ...] = get_args(Contradictory)
_KEPT = 10
"""Faults that are told with their places."""
_AT_ONCE = 500
"""Rows that become one transaction."""


@dataclass
class Imported:
    """How many rows became new rankings, demonstrations, thumbs, prompts; those that were there, and those left out."""

    rankings: int = 0
    demonstrations: int = 0
    thumbs: int = 0
    prompts: int = 0
    known: int = 0
    left_out: int = 0
    contradictory: int = 0
    examples: list[str] = field(default_factory=list)

    def leave_out(self, why: str) -> None:
        self.left_out += 1
        if len(self.examples) < _KEPT:
            self.examples.append(why)


@dataclass
class Exported:
    """How many records were written, and what was left out, and why."""

    records: int = 0
    left_out: int = 0
    contradictory: int = 0
    examples: list[str] = field(default_factory=list)


def import_file(
    store: FeedbackStore,
    file: Path,
    *,
    rater: str = IMPORTED,
    limit: int | None = None,
    progress: Progress = silent,
) -> Imported:
    """Rankings become votes of `rater`, answers found good or bad thumbs, conversations and pairs demonstrations.

    Rows that cannot be used, and rankings of equal answers, are left out and counted, with their places. Raises
    `NotFound`, `UnsupportedFormat`, `BadInput` for a file without rows, and what the store raises.
    """
    rows, made = Rows(file, skip_bad=True, limit=limit), Imported()
    known = {key for ranking in rankings(store) for key in _keys(ranking)}
    for done, some in _blocks(rows):
        with store.together():
            for row in some:
                try:
                    _take(store, row, made, rater, known)
                except BadInput as error:
                    made.leave_out(f"{row.where}: {error}")
        progress("importing", done, None)
    made.left_out += rows.bad.count
    made.examples = [*rows.bad.examples, *made.examples][:_KEPT]
    return made


def _blocks(rows: Iterable[T]) -> Iterator[tuple[int, list[T]]]:
    """Some rows at a time, and how many there were by then."""
    done, some = 0, list[T]()
    for row in rows:
        some.append(row)
        if len(some) == _AT_ONCE:
            done += len(some)
            yield done, some
            some = []
    if some:
        yield done + len(some), some


def _take(
    store: FeedbackStore, row: Row, made: Imported, rater: str, known: set[tuple[str, str, str]]
) -> None:
    if isinstance(row, Ranking):
        is_new = store.add_ranked(
            row.prompt, row.groups, rater=rater, margin=row.margin, source="file", tools=row.tools
        )
        made.known += not is_new
        made.rankings += is_new
        keys = _keys(row)
        made.contradictory += is_new and any(
            (prompt, worse, better) in known for prompt, better, worse in keys
        )
        known.update(keys)
    elif isinstance(row, Conversation | Pair):
        is_new = _demonstrate(store, row, rater)
        made.known += not is_new
        made.demonstrations += is_new
    elif isinstance(row, Unpaired):
        is_new = store.thumb(_thumb(row, rater))
        made.known += not is_new
        made.thumbs += is_new
    else:
        raise BadInput("there is no preference and no answer: with --prompts its text is a prompt.")


def _demonstrate(store: FeedbackStore, row: Conversation | Pair, rater: str) -> bool:
    prompt, answer = asked(row)
    if isinstance(row, Pair):
        return store.demonstrate(prompt, answer, rater, "file")
    if row.messages[len(prompt)].get("tool_calls"):
        raise BadInput("its last answer calls a tool, and a demonstration is a text: end it with one.")
    return store.demonstrate(prompt, answer, rater, "file", row.tools)


def _thumb(row: Unpaired, rater: str) -> Thumb:
    """The thumb of a row; equal rows are one of a person, and one up and one down on an answer are two."""
    if [message["role"] for message in row.answer] != ["assistant"] or row.answer[0].get("tool_calls"):
        raise BadInput("a thumb is on one text of the assistant, and this answer is something else.")
    id = digest("thumb", plain(row.prompt), plain(row.answer), str(row.is_good))
    return Thumb(id, rater, 1 if row.is_good else -1, row.prompt, str(row.answer[0]["content"]), "")


def import_prompts(store: FeedbackStore, file: Path, *, limit: int | None = None) -> Imported:
    """What is asked in a file becomes prompts to be answered: lines of a text, or rows of any format.

    A row may hold a prompt alone: {"prompt": …}, a text or messages; {"question": …}; {"instruction": …, "input": …};
    messages that end with the user's; or FastChat's {"turns": […]}, of which the first is asked. Raises what
    `import_file` raises.
    """
    if not file.is_file():
        raise NotFound(f"{file} does not exist: give the path of a file with prompts.")
    bad, made = BadRows(skip=True), Imported()
    found = islice((one for record in read_records(file, bad) for one in _prompts(record, bad)), limit)
    before = {prompt.id for prompt in store.prompts()}
    for _, some in _blocks(found):
        with store.together():
            for messages in some:
                id = store.add_prompt(messages, source="file")
                made.prompts += id not in before
                made.known += id in before
                before.add(id)
    made.left_out, made.examples = bad.count, bad.examples[:_KEPT]
    if not made.prompts and not made.known:
        why = f" ({made.examples[0]})" if made.examples else ""
        raise BadInput(f"{file} holds no prompts{why}: write one on each line.")
    return made


def _prompts(record: Record, bad: BadRows) -> Iterator[Sequence[ChatMessage]]:
    value = record.value
    if isinstance(value, str):
        yield from (
            ({"role": "user", "content": line.strip()},) for line in value.splitlines() if line.strip()
        )
        return
    try:
        alone = _alone(record, lowered(value)) if isinstance(value, dict) else None
        if alone is not None:
            yield alone
            return
        row = to_row(record, detect(record))
        if row is not None:
            yield asked(row)[0]
    except BadRow as error:
        bad.meet(error)
    except (BadInput, UnsupportedFormat) as error:
        bad.meet(BadRow(str(error)))


def _alone(record: Record, names: dict[str, object]) -> Sequence[ChatMessage] | None:
    """A prompt that stands in a row by itself. Raises `BadRow`."""
    if isinstance(found := names.get("prompt"), list):
        return messages_of(record, found)
    if isinstance(found := names.get("messages"), list):
        messages = messages_of(record, found)
        return messages if messages and messages[-1]["role"] == "user" else None
    turns = names.get("turns")
    if isinstance(turns, list) and turns and isinstance(turns[0], str):
        return ({"role": "user", "content": turns[0]},)
    if {"chosen", "output", "answer", "answers", "response", "completion"} & names.keys():
        return None
    if "instruction" in names:
        return instructed(record, names)
    for name in ("prompt", "question"):
        if isinstance(text := names.get(name), str) and text.strip():
            return ({"role": "user", "content": text},)
    return None


def rankings(store: FeedbackStore) -> Iterator[Ranking]:
    """What people prefer: each vote that prefers something, then thumbs up and down on answers to one prompt."""
    for number, (item, vote) in enumerate(store.votes(), 1):
        ranking = ranked(item, vote, f"vote {number} of {vote.rater}")
        if ranking is not None:
            yield ranking
    yield from _from_thumbs(store.thumbs())


def _from_thumbs(thumbs: Sequence[Thumb]) -> Iterator[Ranking]:
    """Answers with more thumbs up than down are better than those with more down, if they answer one prompt."""
    sums: dict[tuple[str, str], int] = {}
    prompts: dict[str, tuple[ChatMessage, ...]] = {}
    for thumb in thumbs:
        key = plain(thumb.prompt)
        prompts[key] = thumb.prompt
        sums[key, thumb.answer] = sums.get((key, thumb.answer), 0) + thumb.value
    for key, prompt in prompts.items():
        up, down = (
            tuple(_answer(text) for (of, text), value in sums.items() if of == key and value * sign > 0)
            for sign in (1, -1)
        )
        if up and down:
            yield Ranking(prompt, (up, down), "thumbs")


def _answer(text: str) -> Answer:
    return ({"role": "assistant", "content": text},)


def export_file(
    store: FeedbackStore,
    file: Path,
    *,
    kind: Kind = "preferences",
    shape: Shape = "conversational",
    contradictory: Contradictory = "keep",
) -> Exported:
    """Write feedback as lines of JSON, the file whole or not at all.

    Of preferences with `contradictory` "drop" pairs are left out of which the reverse is there; what a shape has no
    place for is left out too, and counted. Raises `BadInput` where there is nothing to write.
    """
    made = Exported()
    lines = list(_records(store, made, kind, shape, contradictory))
    if not lines:
        why = f" ({made.examples[0]})" if made.examples else ""
        raise BadInput(f"There are no {kind} to export{why}: collect or import some first.")
    with new_file(file) as fresh, fresh.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    made.records = len(lines)
    return made


def _records(
    store: FeedbackStore, made: Exported, kind: Kind, shape: Shape, contradictory: Contradictory
) -> Iterator[Fields]:
    if kind == "demonstrations":
        for one in store.demonstrations():
            messages = [dict(message) for message in one.prompt]
            row: Fields = {"messages": [*messages, {"role": "assistant", "content": one.answer}]}
            yield row | ({"tools": [dict(tool) for tool in one.tools]} if one.tools else {})
    elif kind == "thumbs":  # TRL's unpaired preferences
        for thumb in store.thumbs():
            prompt = [dict(message) for message in thumb.prompt]
            completion = [{"role": "assistant", "content": thumb.answer}]
            yield {"prompt": prompt, "completion": completion, "label": thumb.value > 0}
    else:
        yield from _preferences(list(rankings(store)), made, shape, contradictory)


def _preferences(
    found: Sequence[Ranking], made: Exported, shape: Shape, contradictory: Contradictory
) -> Iterator[Fields]:
    """The records of each ranking; equal ones of several people stay, since each is somebody's judgement."""
    every = [key for ranking in found for key in _keys(ranking)]
    held = set(every)
    made.contradictory = sum((prompt, worse, better) in held for prompt, better, worse in every)
    for ranking in found:
        parts = [ranking]
        if contradictory == "drop":
            parts = list(_without(ranking, held))
        for part in parts:
            try:
                yield from list(records(part, shape))
            except BadRow as error:
                made.left_out += 1
                if len(made.examples) < _KEPT:
                    made.examples.append(str(error))


def _without(ranking: Ranking, held: set[tuple[str, str, str]]) -> Iterator[Ranking]:
    """The ranking, or where one of its pairs has its reverse, its other pairs one by one."""
    prompt = plain(ranking.prompt)
    clean = [
        (better, worse)
        for better, worse in pairs(ranking)
        if (prompt, plain(worse), plain(better)) not in held
    ]
    if len(clean) == len(list(pairs(ranking))):
        yield ranking
        return
    for better, worse in clean:
        yield Ranking(ranking.prompt, ((better,), (worse,)), ranking.where, ranking.margin, ranking.tools)


def _keys(ranking: Ranking) -> list[tuple[str, str, str]]:
    """Each pair as texts: prompt, better and worse answer."""
    prompt = plain(ranking.prompt)
    return [(prompt, plain(better), plain(worse)) for better, worse in pairs(ranking)]
