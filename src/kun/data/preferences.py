"""What people preferred: pairs and rankings of answers, out of the shapes in which they are published.

| shape | fields |
|---|---|
| Kun's, TRL's | prompt, chosen, rejected: each a text or a list of messages; margin (optional) |
| TRL's of HH | the same, the prompt a transcript that ends with "Assistant:" |
| TRL's with the prompt in the answers | chosen, rejected: texts or lists of messages that begin alike |
| HH | chosen, rejected: transcripts of turns of "Human:" and "Assistant:" |
| Alpaca | instruction, input (optional), chosen, rejected; or output: [chosen, rejected] |
| ShareGPT | conversations, chosen, rejected: turns of {from, value} |
| OpenAI's messages | messages, chosen, rejected: messages of {role, content} |
| OpenAI's preferences | input: {messages, tools}, preferred_output, non_preferred_output |
| rankings | prompt, ranking: answers, the best first; those that are as good as each other in a list of their own |
| TRL's unpaired | prompt, completion: each a text or a list of messages; label: true or false |
"""

import re
from collections.abc import Mapping, Sequence

from kun.data.messages import asked, messages_of, tools_of, turn_of, turns_of
from kun.data.record_fields import fields_of, missing, string
from kun.data.records import Record
from kun.data.rows import Answer, ChatMessage, Ranking, Unpaired
from kun.errors import BadRow

MOST_ANSWERS = 64
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ ]?")
_LABELS = {"true": True, "1": True, "false": False, "0": False}
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_preference(names: Mapping[str, object]) -> bool:
    """Whether fields are those of a pair or of a ranking."""
    output = names.get("output")
    return (
        {"chosen", "rejected"} <= names.keys()
        or {"prompt", "ranking"} <= names.keys()
        or {"preferred_output", "non_preferred_output"} <= names.keys()
        or ("instruction" in names and isinstance(output, list) and len(output) == 2)
    )


def is_unpaired(names: Mapping[str, object]) -> bool:
    """Whether fields are those of an answer that was found good or bad."""
    return {"prompt", "completion"} <= names.keys() and _is_good(names.get("label")) is not None


def to_unpaired(record: Record) -> Unpaired:
    """An answer that was found good or bad. Raises `BadRow`."""
    names = fields_of(record, "unpaired")
    prompt, is_good = names.get("prompt"), _is_good(names.get("label"))
    if not prompt or "completion" not in names or is_good is None:
        raise missing(record, "unpaired", "'prompt', 'completion' and 'label', which is true or false")
    answer = _answer(record, "completion", names["completion"], _is_open(prompt))
    return Unpaired(_as_prompt(record, prompt), answer, is_good, record.where)


def _is_good(label: object) -> bool | None:
    return _LABELS.get(str(label).strip().lower())


def to_ranking(record: Record) -> Ranking:
    """A pair or a ranking in any of the shapes above. Raises `BadRow`."""
    names = fields_of(record, "preference")
    if "ranking" in names:
        return _ranked(record, names)
    given = names.get("input")
    if isinstance(given, dict) and "preferred_output" in names:
        found = given.get("messages")
        if not isinstance(found, list):
            raise missing(record, "preference", "a list 'messages' in 'input'")
        sides = (names["preferred_output"], names.get("non_preferred_output"))
        return _pair(record, names, messages_of(record, found), sides, tools_of(record, given))
    output = names.get("output")
    if "chosen" not in names and isinstance(output, list) and len(output) == 2:
        return _pair(record, names, asked(record, names), (output[0], output[1]))
    if not {"chosen", "rejected"} <= names.keys():
        raise missing(record, "preference", "'chosen' and 'rejected', or 'prompt' and 'ranking'")
    chosen, rejected = names["chosen"], names["rejected"]
    prompt = _prompt(record, names)
    if prompt is None:
        return _parted(record, names, _whole(record, "chosen", chosen), _whole(record, "rejected", rejected))
    return _pair(record, names, prompt, (chosen, rejected), tools_of(record, names))


def _prompt(record: Record, names: Mapping[str, object]) -> tuple[ChatMessage, ...] | None:
    """What the answers go on from; None where it stands in the answers."""
    if isinstance(names.get("conversations"), list):
        return turns_of(record, names)
    if isinstance(found := names.get("messages"), list):
        return messages_of(record, found)
    if "instruction" in names:
        return asked(record, names)
    prompt = names.get("prompt")
    if prompt is None or prompt in ("", []):
        return None
    return _as_prompt(record, prompt)


def _as_prompt(record: Record, prompt: object) -> tuple[ChatMessage, ...]:
    if isinstance(prompt, list):
        return messages_of(record, prompt)
    text = string(record, "prompt", prompt)
    turns = transcript(text)
    return (turns[:-1] if _is_open(prompt) else turns) or ({"role": "user", "content": text},)


def _is_open(prompt: object) -> bool:
    """Whether a prompt is a transcript that ends with "Assistant:", behind which each answer begins with a space."""
    turns = transcript(prompt) if isinstance(prompt, str) else ()
    return len(turns) > 1 and turns[-1] == {"role": "assistant", "content": ""}


def _pair(
    record: Record,
    names: Mapping[str, object],
    prompt: tuple[ChatMessage, ...],
    sides: tuple[object, object],
    tools: tuple[Mapping[str, object], ...] | None = None,
) -> Ranking:
    is_open = _is_open(names.get("prompt"))
    chosen, rejected = (
        _answer(record, name, side, is_open) for name, side in zip(("chosen", "rejected"), sides, strict=True)
    )
    return Ranking(prompt, ((chosen,), (rejected,)), record.where, _margin(record, names), tools)


def _answer(record: Record, name: str, value: object, is_open: bool = False) -> Answer:
    """What one side says, which may be nothing: a text, a message, a turn, or a list of messages or turns."""
    if isinstance(value, str):
        said = string(record, name, value, empty=True)
        return ({"role": "assistant", "content": said.removeprefix(" ") if is_open else said},)
    given = [value] if isinstance(value, dict) else value
    if not isinstance(given, list) or not given:
        raise BadRow(
            f"{record.where}: {name!r} is neither a text nor a list of messages: mend or skip the row."
        )
    if all(isinstance(one, dict) and "from" in one for one in given):
        return tuple(turn_of(record, number, one, empty=True) for number, one in enumerate(given, 1))
    return messages_of(record, given, empty=True)


def _whole(record: Record, name: str, value: object) -> tuple[ChatMessage, ...] | str:
    """A conversation with its prompt; a text that is no transcript as it is."""
    if isinstance(value, str):
        return transcript(value) or string(record, name, value)
    return _answer(record, name, value)


def transcript(text: str) -> tuple[ChatMessage, ...]:
    """The turns of a transcript in HH's form; () for any other text."""
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        return ()
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = ((mark[1], text[mark.end() : end].strip()) for mark, end in zip(marks, ends, strict=True))
    return tuple({"role": _ROLES[speaker], "content": said} for speaker, said in turns)


def _parted(
    record: Record,
    names: Mapping[str, object],
    chosen: tuple[ChatMessage, ...] | str,
    rejected: tuple[ChatMessage, ...] | str,
) -> Ranking:
    """Two conversations: the prompt is what they share, the rest of each its answer."""
    margin = _margin(record, names)
    if isinstance(chosen, str) or isinstance(rejected, str):
        if not (isinstance(chosen, str) and isinstance(rejected, str)):
            raise BadRow(
                f"{record.where}: one answer is a transcript, the other is not: mend or skip the row."
            )
        return _parted_texts(record, chosen, rejected, margin)
    shared = _shared(chosen, rejected)
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)  # neither side is without an answer
    if shared < 1:
        raise BadRow(f"{record.where}: the two conversations share no prompt: give one, or skip the row.")
    sides = ((chosen[shared:],), (rejected[shared:],))
    return Ranking(chosen[:shared], sides, record.where, margin, tools_of(record, names))


def _parted_texts(record: Record, chosen: str, rejected: str, margin: float) -> Ranking:
    """Two texts that begin alike: they part at the word in which they first differ."""
    shared = chosen[: _shared(chosen, rejected)]
    prompt = shared[: max(shared.rfind(" "), shared.rfind("\n"), -1) + 1]
    if not prompt.strip():
        raise BadRow(f"{record.where}: the two texts share no beginning: give a 'prompt', or skip the row.")
    sides = tuple((({"role": "assistant", "content": text[len(prompt) :]},),) for text in (chosen, rejected))
    return Ranking(({"role": "user", "content": prompt.strip()},), sides, record.where, margin)


def _shared(a: Sequence[object], b: Sequence[object]) -> int:
    """How long two sequences are the same."""
    return next(
        (place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _ranked(record: Record, names: Mapping[str, object]) -> Ranking:
    prompt, found = names.get("prompt"), names["ranking"]
    if not prompt or not isinstance(found, list):
        raise missing(record, "preference", "'prompt' and a list 'ranking'")
    is_open = _is_open(prompt)
    groups = tuple(_group(record, place, one, is_open) for place, one in enumerate(found, 1))
    if not 2 <= sum(map(len, groups)) <= MOST_ANSWERS:
        raise BadRow(
            f"{record.where}: 'ranking' holds {sum(map(len, groups))} answers; 2 to {MOST_ANSWERS} can be ranked:"
            " mend or skip the row."
        )
    return Ranking(
        _as_prompt(record, prompt), groups, record.where, _margin(record, names), tools_of(record, names)
    )


def _group(record: Record, place: int, value: object, is_open: bool) -> tuple[Answer, ...]:
    """The answers at one place: one, or a list of several that are as good as each other."""
    is_tie = isinstance(value, list) and not all(isinstance(one, dict) for one in value)
    given = value if is_tie and isinstance(value, list) else [value]
    if not given or value == []:
        raise BadRow(f"{record.where}: place {place} of 'ranking' is empty: mend or skip the row.")
    return tuple(_answer(record, f"place {place}", one, is_open) for one in given)


def _margin(record: Record, names: Mapping[str, object]) -> float:
    margin = names.get("margin")
    if margin is None:
        return 0.0
    if not isinstance(margin, int | float) or not 0 <= margin < float("inf"):
        raise BadRow(f"{record.where}: 'margin' is {margin!r}, no number from 0 on: mend or skip the row.")
    return float(margin)
