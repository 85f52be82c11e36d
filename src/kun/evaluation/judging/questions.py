"""Questions to be answered by several models: FastChat's JSON lines (`question_id`, `category`, `turns`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kun.data.records import Record, read_records
from kun.data.rows import BadRows
from kun.errors import BadInput, BadRow, NotFound

MOST_TURNS = 32
QuestionId = int | str


@dataclass(frozen=True)
class Question:
    """One question of one or several turns, and an answer that is known to be right, where there is one, by turn."""

    id: QuestionId
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()
    where: str = ""


def read_questions(
    path: Path, *, references: Path | None = None, categories: Sequence[str] = (), limit: int | None = None
) -> list[Question]:
    """The questions of a file, those of some `categories` alone where these are named, in the order of the file.

    Of `limit` questions every category has its share: the first of each, then the second, as far as they go.
    `references` is a file of answers in FastChat's shape (`question_id`, `choices`: [{`turns`}]) that are right.
    Raises `BadRow` with file and line, `BadInput` for no question at all or a category that is not there, `NotFound`.
    """
    found = _distinct([_question(record) for record in _records(path)])
    if not found:
        raise BadInput(f"{path} holds no question: give a file with a question a line.")
    known = dict.fromkeys(question.category for question in found)
    for name in categories:
        if name not in known:
            raise BadInput(f"{path} has no category {name!r}; it has {', '.join(known)}.")
    if references is not None:
        right = answers_in(references)
        found = [replace(one, reference=right.get(one.id, one.reference)) for one in found]
    wanted = [one for one in found if not categories or one.category in categories]
    return wanted if limit is None else _spread(wanted, limit)


def _spread(questions: Sequence[Question], limit: int) -> list[Question]:
    """The first `limit` where the categories take turns, in their old order."""
    seen: Counter[str] = Counter()
    turns = []
    for place, one in enumerate(questions):
        turns.append((seen[one.category], place))
        seen[one.category] += 1
    return [questions[place] for place in sorted(place for _, place in sorted(turns)[:limit])]


def answers_in(path: Path) -> dict[QuestionId, tuple[str, ...]]:
    """The answers of a file in FastChat's shape, by question. Raises `BadRow`, `NotFound`."""
    return {_id(record, names): answer_turns(names, record.where) for record, names in _objects(path)}


def answer_turns(names: Mapping[str, object], where: str) -> tuple[str, ...]:
    """The turns of the first of the `choices` of an answer. Raises `BadRow`."""
    choices = names.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    turns = first.get("turns") if isinstance(first, dict) else None
    return _texts(turns, "turns of its first choice", where)


def _records(path: Path) -> list[Record]:
    if not path.is_file():
        raise NotFound(f"{path} does not exist: give a file of questions, such as examples/judging/en.jsonl.")
    return list(read_records(path, BadRows()))


def _objects(path: Path) -> list[tuple[Record, dict[str, object]]]:
    return [(record, _fields(record)) for record in _records(path)]


def _fields(record: Record) -> dict[str, object]:
    if not isinstance(record.value, dict):
        raise BadRow(
            f"{record.where} holds no question: each line is an object with question_id, category and turns."
        )
    return record.value


def _question(record: Record) -> Question:
    names = _fields(record)
    category = names.get("category", "general")
    if not isinstance(category, str) or not category.strip():
        raise BadRow(f"{record.where}: 'category' is no text: fix or remove the line.")
    turns = _texts(names.get("turns"), "'turns'", record.where)
    given = names.get("reference")
    reference = () if not given else _texts(given, "'reference'", record.where)
    return Question(_id(record, names), category.strip(), turns, reference, record.where)


def _id(record: Record, names: Mapping[str, object]) -> QuestionId:
    found = names.get("question_id")
    if isinstance(found, bool) or not isinstance(found, int | str) or found == "":
        raise BadRow(
            f"{record.where}: 'question_id' is {found!r}, no number or name: fix or remove the line."
        )
    return found


def _texts(value: object, name: str, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_TURNS:
        raise BadRow(f"{where}: {name} must be a list of 1 to {MOST_TURNS} texts: fix or remove the line.")
    for one in value:
        if not isinstance(one, str) or not one.strip():
            raise BadRow(f"{where}: {name} holds {one!r:.40}, no text: fix or remove the line.")
    return tuple(value)


def _distinct(found: list[Question]) -> list[Question]:
    seen: dict[QuestionId, Question] = {}
    for one in found:
        if one.id in seen:
            raise BadRow(
                f"{one.where}: question_id {one.id!r} stands at {seen[one.id].where} already: number them apart."
            )
        seen[one.id] = one
    return found
