"""What the fields of a record mean: text, conversations, pairs, labelled texts, questions, choices, preferences.

| format | fields |
|---|---|
| text | text (or content), or the text itself |
| alpaca | instruction, input (optional), output; system and history (optional) |
| sharegpt | conversations: a list of {from: system, human, gpt, …, value} |
| messages | messages: a list of {role: system, user, assistant or tool, content}; tools (optional); `kun.data.exports`
| pairs | source and target, or two languages, or the like; of a table without names its first two columns |
| labelled | one text or two, and label; of a table without names the label is a number in front, or stands last |
| preference | chosen and rejected, or a ranking, in one of the shapes of `kun.data.preferences` |
| unpaired | prompt and completion, texts or lists of messages, and label: true or false (TRL's unpaired preferences) |
| squad | context, question, answers: {text: [...], answer_start: [...]}; or SQuAD's own articles and paragraphs |
| choices | document (optional), question, choices: a list of answers, answer: the right one's number, letter or text |
"""

from collections.abc import Callable
from typing import Literal, TypeVar, get_args

from kun.data.choices import ANSWERS, to_choice
from kun.data.exports import exported, is_export
from kun.data.messages import asked, messages_of, tools_of, turns_of
from kun.data.preferences import is_preference, is_unpaired, to_ranking, to_unpaired
from kun.data.record_fields import columns, fields_of, first, listing, lowered, missing, string
from kun.data.records import Record
from kun.data.rows import Conversation, Labelled, Pair, Row, Text
from kun.data.squad import to_question
from kun.errors import BadRow, UnsupportedFormat
from kun.text.tokenizer import sound

T = TypeVar("T")

DataFormat = Literal[
    "text",
    "alpaca",
    "sharegpt",
    "messages",
    "pairs",
    "labelled",
    "squad",
    "choices",
    "preference",
    "unpaired",
]
FORMATS: tuple[DataFormat, ...] = get_args(DataFormat)

_TEXTS = ("text", "content", "document", "body")
_PAIRS = (
    ("source", "target"),
    ("src", "tgt"),
    ("document", "summary"),
    ("article", "highlights"),
    ("text", "summary"),
    ("question", "answer"),
    ("query", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("input", "output"),
)
_JUDGED = (
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("text_a", "text_b"),
    ("text",),
    ("sentence",),
    ("content",),
    ("review",),
    ("comment",),
)
_LABELS = ("label", "labels", "class", "category", "sentiment", "score", "rating")


def detect(record: Record) -> DataFormat:
    """The format of a file, from its first record. Raises `UnsupportedFormat`, which says what was found."""
    value = record.value
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return _detect_cells(record.where, value)
    names = lowered(value)
    if is_preference(names):
        return "preference"
    if is_unpaired(names):
        return "unpaired"
    if isinstance(names.get("messages"), list) or is_export(names):
        return "messages"
    turns = names.get("conversations")
    if isinstance(turns, list):
        return "messages" if turns and isinstance(turns[0], dict) and "role" in turns[0] else "sharegpt"
    if "instruction" in names and ("output" in names or "response" in names):
        return "alpaca"
    if "context" in names and "question" in names and "answers" in names:
        return "squad"
    if "question" in names and first(names, ANSWERS):
        return "choices"
    if columns(names, _JUDGED) and first(names, _LABELS):
        return "labelled"
    if _pair_columns(names):
        return "pairs"
    if first(names, _TEXTS):
        return "text"
    raise UnsupportedFormat(
        f"{record.where} has the fields {listing(value)}, which no format has: name the format"
        f" ({', '.join(FORMATS)}) and its fields as the documentation on data lists them."
    )


def _detect_cells(where: str, cells: list[str]) -> DataFormat:
    if len(cells) < 2:
        return "text"
    return "labelled" if _is_number(cells[0]) or _is_number(cells[-1]) else "pairs"


def to_row(record: Record, format: DataFormat) -> Row | None:
    """The row that a record is in a format; None where it is empty (a text of white space alone).

    Raises `BadRow` where a field is missing, empty or of the wrong type.
    """
    return _READERS[format](record)


def _pair_columns(names: dict[str, object]) -> tuple[str, str] | None:
    """The fields of a pair: the usual ones, else the two languages in the order of the file."""
    if known := columns(names, _PAIRS):
        return known[0], known[1]
    languages = [name for name in names if _is_language(name)]
    return (languages[0], languages[1]) if len(languages) == 2 else None


def _is_language(name: str) -> bool:
    base, _, region = name.replace("_", "-").partition("-")
    return base.isascii() and base.isalpha() and 2 <= len(base) <= 3 and base != "id" and len(region) <= 4


def _to_text(record: Record) -> Row | None:
    value = record.value
    if isinstance(value, dict):
        names = lowered(value)
        name = first(names, _TEXTS)
        if name is None:
            raise missing(record, "text", "a field 'text'")
        value = string(record, name, names[name], empty=True)
    elif isinstance(value, list):
        value = " ".join(value)
    return Text(sound(value), record.where) if value.strip() else None


def _to_alpaca(record: Record) -> Row:
    names = fields_of(record, "alpaca")
    answer = first(names, ("output", "response"))
    if "instruction" not in names or answer is None:
        raise missing(record, "alpaca", "'instruction' and 'output'")
    said = {"role": "assistant", "content": string(record, answer, names[answer])}
    return Conversation((*asked(record, names), said), record.where)


def _to_sharegpt(record: Record) -> Row:
    names = fields_of(record, "sharegpt")
    if not isinstance(names.get("conversations"), list):
        raise missing(record, "sharegpt", "a list 'conversations'")
    return _checked(Conversation(turns_of(record, names), record.where))


def _to_messages(record: Record) -> Row:
    names = fields_of(record, "messages")
    if is_export(names):
        return _checked(Conversation(exported(record, names), record.where))
    found = names.get("messages", names.get("conversations"))
    if not isinstance(found, list):
        raise missing(record, "messages", "a list 'messages'")
    messages = messages_of(record, found)
    return _checked(Conversation(messages, record.where, tools_of(record, names)))


def _checked(row: Conversation) -> Conversation:
    """A conversation that a person begins and in which the assistant speaks. Raises `BadRow`."""
    spoken = [message["role"] for message in row.messages if message["role"] not in ("system", "developer")]
    if not spoken:
        raise BadRow(f"{row.where} is a conversation in which nobody speaks: mend or skip the row.")
    if spoken[0] != "user":
        raise BadRow(
            f"{row.where} is a conversation that begins with the {spoken[0]}, not the user: mend or skip the row."
        )
    if "assistant" not in spoken:
        raise BadRow(f"{row.where} is a conversation without an answer to learn: mend or skip the row.")
    return row


def _to_pair(record: Record) -> Row:
    value = record.value
    if isinstance(value, list):
        if len(value) < 2:
            raise missing(record, "pairs", "two columns")
        return Pair(string(record, "column 1", value[0]), string(record, "column 2", value[1]), record.where)
    names = fields_of(record, "pairs")
    translation = names.get("translation")
    if isinstance(translation, dict):  # the hub's form of translations
        names = lowered(translation)
    pair = _pair_columns(names)
    if pair is None:
        raise missing(record, "pairs", "'source' and 'target'")
    source, target = pair
    return Pair(string(record, source, names[source]), string(record, target, names[target]), record.where)


def _to_labelled(record: Record) -> Row:
    value = record.value
    if isinstance(value, list):
        if len(value) < 2:
            raise missing(record, "labelled", "a text and a label in its first or last column")
        mark, text = (value[0], value[1]) if _is_number(value[0]) else (value[-1], value[0])
        return Labelled((string(record, "text", text),), _label(record, "label", mark), record.where)
    names = fields_of(record, "labelled")
    judged, label = columns(names, _JUDGED), first(names, _LABELS)
    if judged is None or label is None:
        raise missing(record, "labelled", "'text' (or 'sentence1' and 'sentence2') and 'label'")
    texts = [string(record, name, names[name]) for name in judged]
    return Labelled(tuple(texts), _label(record, label, names[label]), record.where)


def _label(record: Record, name: str, value: object) -> str | float:
    """A class as text, or a number that has a fraction as it is."""
    if isinstance(value, float):
        return value
    if isinstance(value, str) and value.strip():
        return sound(value.strip())
    if isinstance(value, int):  # true and false too
        return str(value)
    raise BadRow(f"{record.where}: {name!r} holds no label: mend or skip the row.")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


_READERS: dict[DataFormat, Callable[[Record], Row | None]] = {
    "text": _to_text,
    "alpaca": _to_alpaca,
    "sharegpt": _to_sharegpt,
    "messages": _to_messages,
    "pairs": _to_pair,
    "labelled": _to_labelled,
    "squad": to_question,
    "choices": to_choice,
    "preference": to_ranking,
    "unpaired": to_unpaired,
}


def check_format(name: str) -> DataFormat:
    """`name` as a format. Raises `UnsupportedFormat`, naming those there are."""
    if name not in FORMATS:
        raise UnsupportedFormat(f"There is no data format {name!r}: use one of {', '.join(FORMATS)}.")
    return name
