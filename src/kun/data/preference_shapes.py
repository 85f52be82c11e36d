"""Preferences as records, in the shapes in which they are published: the way back from `kun.data.preferences`.

| shape | fields of a record |
|---|---|
| conversational | prompt, chosen, rejected: lists of messages (TRL's conversational columns) |
| standard | prompt, chosen, rejected: texts (TRL's standard columns); several turns as a transcript |
| hh | chosen, rejected: transcripts of turns of "Human:" and "Assistant:", prompt and answer |
| alpaca | instruction, input, chosen, rejected; system and history where there are some |
| sharegpt | conversations, chosen, rejected: turns of {from, value} |
| openai | messages, chosen, rejected: messages of {role, content} |
| openai-preferences | input: {messages}, preferred_output, non_preferred_output |
| ranking | prompt, ranking: all answers, the best first, ties in a list; nothing is lost |

A pair is a record; a ranking of more answers becomes a pair for each two of unlike places, except in the last shape.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

from kun.data.preferences import transcript
from kun.data.rows import Answer, ChatMessage, Ranking
from kun.errors import BadRow

Shape = Literal[
    "conversational", "standard", "hh", "alpaca", "sharegpt", "openai", "openai-preferences", "ranking"
]
SHAPES: tuple[Shape, ...] = get_args(Shape)
Fields = dict[str, object]

_SPEAKERS = {"user": "Human", "assistant": "Assistant"}
_FROM = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


def records(ranking: Ranking, shape: Shape = "conversational") -> Iterator[Fields]:
    """The records of a ranking. Raises `BadRow` where the shape has no place for what it holds."""
    if shape == "ranking":
        groups = [
            _messages(group[0]) if len(group) == 1 else [_messages(answer) for answer in group]
            for group in ranking.groups
        ]
        yield _with({"prompt": _messages(ranking.prompt), "ranking": groups}, ranking)
        return
    write = _WRITERS[shape]
    for better, worse in pairs(ranking):
        yield _with(write(ranking, better, worse), ranking)


def pairs(ranking: Ranking) -> Iterator[tuple[Answer, Answer]]:
    """A better and a worse answer, for each two of unlike places."""
    for place, group in enumerate(ranking.groups):
        for other in ranking.groups[place + 1 :]:
            yield from ((better, worse) for better in group for worse in other)


def _with(fields: Fields, ranking: Ranking) -> Fields:
    """The fields with what every shape may have."""
    if ranking.margin:
        fields["margin"] = ranking.margin
    if ranking.tools and "input" not in fields:
        fields["tools"] = [dict(tool) for tool in ranking.tools]
    return fields


def _conversational(ranking: Ranking, better: Answer, worse: Answer) -> Fields:
    prompt = _messages(ranking.prompt)
    return {"prompt": prompt, "chosen": _messages(better), "rejected": _messages(worse)}


def _standard(ranking: Ranking, better: Answer, worse: Answer) -> Fields:
    """Texts that are right one behind the other, as TRL puts them together."""
    where = ranking.where
    turns = ranking.prompt
    chosen, rejected = (_said(where, answer) for answer in (better, worse))
    if len(turns) == 1 and turns[0]["role"] == "user":
        prompt = str(turns[0]["content"])
        if transcript(prompt):
            raise BadRow(f"{where}: the prompt reads as a transcript itself: write another shape.")
    else:
        prompt = _transcribed(where, turns)
        if turns[-1]["role"] != "assistant":
            prompt, chosen, rejected = f"{prompt}\n\nAssistant:", f" {chosen}", f" {rejected}"
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _hh(ranking: Ranking, better: Answer, worse: Answer) -> Fields:
    if ranking.prompt[-1]["role"] == "assistant":
        raise BadRow(
            f"{ranking.where}: the answer goes on an assistant's message: write another shape than hh."
        )
    chosen, rejected = (_transcribed(ranking.where, (*ranking.prompt, *one)) for one in (better, worse))
    return {"chosen": chosen, "rejected": rejected}


def _alpaca(ranking: Ranking, better: Answer, worse: Answer) -> Fields:
    where, turns = ranking.where, list(ranking.prompt)
    fields: Fields = {}
    if turns and turns[0]["role"] == "system":
        fields["system"] = _text(where, turns.pop(0))
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        raise BadRow(f"{where}: the turns do not go to and fro, as alpaca has them: write another shape.")
    texts = [_text(where, turn) for turn in turns]
    fields |= {"instruction": texts[-1], "input": ""}
    if len(texts) > 1:
        fields["history"] = [[asked, said] for asked, said in zip(texts[:-1:2], texts[1::2], strict=True)]
    return fields | {"chosen": _said(where, better), "rejected": _said(where, worse)}


def _sharegpt(ranking: Ranking, better: Answer, worse: Answer) -> Fields:
    where, turns = ranking.where, list(ranking.prompt)
    chosen, rejected = (_turn(where, _only(where, one)) for one in (better, worse))
    prompt = [_turn(where, turn) for turn in turns]
    return {"conversations": prompt, "chosen": chosen, "rejected": rejected}


def _openai(ranking: Ranking, better: Answer, worse: Answer) -> Fields:
    where = ranking.where
    chosen, rejected = dict(_only(where, better)), dict(_only(where, worse))
    return {"messages": _messages(ranking.prompt), "chosen": chosen, "rejected": rejected}


def _openai_preferences(ranking: Ranking, better: Answer, worse: Answer) -> Fields:
    given: Fields = {"messages": _messages(ranking.prompt)}
    if ranking.tools:
        given["tools"] = [dict(tool) for tool in ranking.tools]
    return {
        "input": given,
        "preferred_output": _messages(better),
        "non_preferred_output": _messages(worse),
    }


_WRITERS: dict[Shape, Callable[[Ranking, Answer, Answer], Fields]] = {
    "conversational": _conversational,
    "standard": _standard,
    "hh": _hh,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "openai": _openai,
    "openai-preferences": _openai_preferences,
}


def _messages(messages: Sequence[ChatMessage]) -> list[Fields]:
    return [dict(message) for message in messages]


def _only(where: str, answer: Answer) -> ChatMessage:
    """The one message of an answer."""
    if len(answer) != 1:
        raise BadRow(
            f"{where}: an answer has {len(answer)} messages, and this shape has room for one: write another."
        )
    return answer[0]


def _text(where: str, message: ChatMessage) -> str:
    """The text of a message that is nothing else."""
    if message.get("tool_calls") or message["role"] == "tool":
        raise BadRow(
            f"{where}: a message calls a tool, which this shape has no place for: write conversational."
        )
    return str(message["content"])


def _said(where: str, answer: Answer) -> str:
    message = _only(where, answer)
    if message["role"] != "assistant":
        raise BadRow(f"{where}: an answer is the {message['role']}'s: write conversational.")
    return _text(where, message)


def _turn(where: str, message: ChatMessage) -> Fields:
    role = str(message["role"])
    if role not in _FROM or message.get("tool_calls"):
        raise BadRow(
            f"{where}: sharegpt has no place for a {role}'s message with calls: write conversational."
        )
    return {"from": _FROM[role], "value": str(message["content"])}


def _transcribed(where: str, messages: Sequence[ChatMessage]) -> str:
    """Turns as HH has them. Raises `BadRow` where reading them, without the space around, would give other turns."""
    speakers = [_SPEAKERS.get(str(message["role"])) for message in messages]
    if None in speakers:
        other = next(message["role"] for message in messages if message["role"] not in _SPEAKERS)
        raise BadRow(f"{where}: a transcript has no place for a {other}'s message: write conversational.")
    texts = [_text(where, message) for message in messages]
    written = "".join(f"\n\n{who}: {text}" for who, text in zip(speakers, texts, strict=True))
    read = transcript(written)
    if [turn["content"] for turn in read] != texts:
        raise BadRow(f"{where}: a transcript would not read back as it was: write conversational.")
    return written
