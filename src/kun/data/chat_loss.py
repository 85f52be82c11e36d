"""A conversation as token ids, rendered by the model's own chat template, with the assistant's tokens marked.

Where the template marks what the assistant says (`{% generation %}`), the marks are taken. Any other template is asked
for the conversation up to each answer, with the prompt for it, and up to its end: what lies between is the answer.
Both must be the beginning of the whole conversation; a template that writes earlier turns anew is refused, since what
a model learnt from it would not be what it meets. What a message of `weight` 0 says is not learned, as in OpenAI's
fine-tuning format.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from kun.data.rows import ChatMessage, Conversation
from kun.errors import BadInput, BadRow
from kun.text.chat import ChatTemplate

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as a server would render it, and the spans `[start, end)` of what the assistant says."""

    text: str
    answers: list[Span]


def learned_tokens(encoding: Encoding, rendered: Rendered) -> NDArray[np.bool_]:
    """Which tokens lie wholly within answers, bool [n]: a token that holds characters from before one does not."""
    learned = np.zeros(len(encoding), np.bool_)
    length = len(rendered.text)
    for start, end in rendered.answers:
        first = _token_from(encoding, start, length)
        while first < len(encoding) and _start_of(encoding, first) < start:
            first += 1
        learned[first : _token_from(encoding, end, length)] = True
    return learned


def _start_of(encoding: Encoding, token: int) -> int:
    characters = encoding.token_to_chars(token)
    return characters[0] if characters else 0


def _token_from(encoding: Encoding, character: int, length: int) -> int:
    """The first token that holds `character` or one after it; the number of tokens where there is none."""
    for place in range(character, length):
        token = encoding.char_to_token(place)
        if token is not None:
            return int(token)
    return len(encoding)


def render(row: Conversation, template: ChatTemplate, ends: Sequence[str] = ()) -> Rendered:
    """Render a conversation and find the answers to learn in it, each with the token that ends its turn.

    `ends` are texts that end a turn: white space that a template writes after one is not learned. Raises `BadRow`.
    """
    try:
        text, spans = template.render_marked(row.messages, tools=row.tools)
        if spans:
            spans = _learned(row, spans)
        else:
            spans = [_without_space(text, span, ends) for span in _between_renderings(row, template, text)]
    except BadInput as error:
        raise error if isinstance(error, BadRow) else BadRow(f"{row.where}: {error}") from error
    return Rendered(text, spans)


def _learned(row: Conversation, marked: list[Span]) -> list[Span]:
    """The marked spans of those answers that are to be learned."""
    wanted = [is_learned(message) for message in row.messages if message["role"] == "assistant"]
    if all(wanted):
        return marked
    if len(marked) != len(wanted):
        raise BadRow(
            f"{row.where}: the chat template marks {len(marked)} answers of {len(wanted)}, so that those of weight 0"
            " cannot be told: mark each answer in it with {% generation %}."
        )
    return [span for span, is_wanted in zip(marked, wanted, strict=True) if is_wanted]


def is_learned(message: ChatMessage) -> bool:
    """Whether a message is the assistant's and has not the weight 0."""
    return message["role"] == "assistant" and message.get("weight") != 0


def _between_renderings(row: Conversation, template: ChatTemplate, text: str) -> list[Span]:
    spans = []
    for place, message in enumerate(row.messages):
        if not is_learned(message):
            continue
        said = template.render(row.messages[: place + 1], tools=row.tools, add_generation_prompt=False)
        if not text.startswith(said):
            raise BadRow(
                f"{row.where}: the chat template writes the answer in message {place + 1} differently once more turns"
                " follow: end the conversation there, or mark answers in the template with {% generation %}."
            )
        spans.append((_start(row, template, place, said), len(said)))
    return spans


def _start(row: Conversation, template: ChatTemplate, place: int, said: str) -> int:
    """Where the answer in message `place` begins: after the prompt for it, else where its own words are."""
    before = row.messages[:place]
    prompt = template.render(before, tools=row.tools)
    if said.startswith(prompt):
        return len(prompt)
    asked = template.render(before, tools=row.tools, add_generation_prompt=False)
    words = str(row.messages[place]["content"]).strip()
    start = said.find(words, len(asked)) if said.startswith(asked) and words else -1
    if start < 0:
        raise BadRow(
            f"{row.where}: the answer in message {place + 1} cannot be told from what the chat template writes before"
            " it: mark answers in the template with {% generation %}."
        )
    return start


def _without_space(text: str, span: Span, ends: Sequence[str]) -> Span:
    start, end = span
    said = text[start:end].rstrip()
    return (start, start + len(said)) if said.endswith(tuple(ends)) else span
