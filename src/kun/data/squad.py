"""SQuAD's questions on texts, in its own form of articles and paragraphs or the hub's of one question a record."""

from collections.abc import Iterator

from kun.data.record_fields import fields_of, missing, string
from kun.data.records import Record
from kun.data.rows import Question
from kun.errors import BadRow


def flattened(record: Record) -> Iterator[Record]:
    """The questions of a record in SQuAD's own form (`data`, or an article's `paragraphs`); others as they are."""
    value = record.value
    articles = value.get("data") if isinstance(value, dict) else None
    if isinstance(value, dict) and isinstance(value.get("paragraphs"), list):
        articles = [value]
    if not isinstance(articles, list) or not all(
        isinstance(one, dict) and "paragraphs" in one for one in articles
    ):
        yield record
        return
    number = 0
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        for asked in paragraph.get("qas") or []:
            number += 1
            yield Record(f"{record.where}, question {number}", {"context": paragraph.get("context"), **asked})


def to_question(record: Record) -> Question:
    """A question with its answer, which stands in the text where it is told to. Raises `BadRow`."""
    names = fields_of(record, "squad")
    context, question = (string(record, name, names.get(name)) for name in ("context", "question"))
    found = names.get("answers")
    if isinstance(found, list):  # SQuAD's own form; the hub's is an object of two lists
        found = {
            name: [one.get(name) for one in found if isinstance(one, dict)]
            for name in ("text", "answer_start")
        }
    if not isinstance(found, dict) or len(found.get("text") or []) != len(found.get("answer_start") or []):
        raise missing(record, "squad", "'answers' with 'text' and 'answer_start'")
    if not found.get("text"):
        return Question(context, question, None, 0, record.where)
    answer, start = found["text"][0], found["answer_start"][0]
    if (
        not isinstance(start, int)
        or not isinstance(answer, str)
        or context[start : start + len(answer)] != answer
    ):
        raise BadRow(
            f"{record.where}: the answer {answer!r} does not stand at {start} in its text: mend or skip the row."
        )
    return Question(context, question, answer, start, record.where)
