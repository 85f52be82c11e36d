"""Questions with candidate answers, as in RACE (Lai et al., arXiv:1704.04683) and the Story Cloze Test."""

from string import ascii_uppercase

from kun.data.record_fields import fields_of, first, missing, string
from kun.data.records import Record
from kun.data.rows import Choice
from kun.errors import BadRow
from kun.text.tokenizer import sound

DOCUMENT = ("document", "context", "article", "passage", "story")
ANSWERS = ("choices", "options", "candidates", "endings")
_RIGHT = ("answer", "right", "label")
_MOST = 26


def to_choice(record: Record) -> Choice:
    """A question with its answers, the right one named by text, letter, or number from 0. Raises `BadRow`."""
    names = fields_of(record, "choices")
    listed, right = first(names, ANSWERS), first(names, _RIGHT)
    if "question" not in names or listed is None or right is None:
        raise missing(record, "choices", "'question', 'choices' and 'answer'")
    answers = names[listed]
    if not isinstance(answers, list) or not 2 <= len(answers) <= _MOST:
        raise BadRow(f"{record.where}: {listed!r} is no list of 2 to {_MOST} answers: mend or skip the row.")
    texts = tuple(string(record, listed, answer) for answer in answers)
    if len(set(texts)) < len(texts):
        raise BadRow(f"{record.where}: {listed!r} has the same answer twice: mend or skip the row.")
    named = first(names, DOCUMENT)
    document = "" if named is None else string(record, named, names[named], empty=True)
    question = string(record, "question", names["question"])
    return Choice(document, question, texts, _right(record, right, names[right], texts), record.where)


def _right(record: Record, name: str, value: object, answers: tuple[str, ...]) -> int:
    text = sound(str(value).strip())
    if isinstance(value, str) and text in answers:
        return answers.index(text)
    if len(text) == 1 and text.upper() in ascii_uppercase[: len(answers)]:
        return ascii_uppercase.index(text.upper())
    if text.isascii() and text.isdigit() and len(text) < 3 and int(text) < len(answers):
        return int(text)
    raise BadRow(
        f"{record.where}: {name!r} is {text[:40]!r}, which is none of its {len(answers)} answers: give the number from "
        "0, the letter or the text of one, or skip the row."
    )
