"""A conversation as token ids, rendered by the model's own chat template, with the assistant's tokens marked.

Where the template marks what the assistant says (`{% generation %}`), the marks are taken. Any other template is asked
for the conversation up to each answer, with the prompt for it, and up to its end: what lies between is the answer.
Both must be the beginning of the whole conversation; a template that writes earlier turns anew is refused, since what
a model learnt from it would not be what it meets.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from kun.data.rows import Conversation
from kun.errors import BadInput, BadRow
from kun.text.chat import ChatTemplate

Span = tuple[int, int]


def conversation_ids(
    row: Conversation, tokenizer: Tokenizer, template: ChatTemplate
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The ids int32 [n] of the rendered conversation, as a server would encode it, and which are learned, bool [n].

    Learned are the assistant's words and the token that ends each turn. A token that holds characters from before an
    answer is not. `tokenizer` must not trim its offsets. Raises `BadRow`.
    """
    text, spans = answers(row, template, _special_texts(tokenizer))
    encoding = tokenizer.encode(text, add_special_tokens=False)
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    learned = np.zeros(len(offsets), np.bool_)
    for start, end in spans:
        learned |= (offsets[:, 0] >= start) & (offsets[:, 1] <= end)
    if not learned.any():
        raise BadRow(f"{row.where} has no token of the assistant's to learn: mend or skip the row.")
    return np.array(encoding.ids, np.int32), learned


def answers(row: Conversation, template: ChatTemplate, ends: Sequence[str] = ()) -> tuple[str, list[Span]]:
    """The rendered conversation and the spans `[start, end)` of what the assistant says.

    `ends` are texts that end a turn: white space that a template writes after one is not learned. Raises `BadRow`.
    """
    try:
        text, spans = template.render_marked(row.messages, tools=row.tools)
        if not spans:
            spans = [_without_space(text, span, ends) for span in _between_renderings(row, template, text)]
    except BadInput as error:
        raise error if isinstance(error, BadRow) else BadRow(f"{row.where}: {error}") from error
    return text, spans


def _between_renderings(row: Conversation, template: ChatTemplate, text: str) -> list[Span]:
    spans = []
    for place, message in enumerate(row.messages):
        if message["role"] != "assistant":
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
    words = row.messages[place]["content"].strip()
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


def _special_texts(tokenizer: Tokenizer) -> list[str]:
    return [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
