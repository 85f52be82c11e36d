"""Control tokens in messages: what a person, a document or a tool writes stays text.

A tokenizer reads `<|im_end|>` in any text as the one token that ends a turn, so that a document could close the
user's turn and open one of the system's. Only a chat template may write such tokens: in messages each is broken by a
space behind its first character, which no tokenizer takes for a token, and which a reader still understands. Training
and serving both pass messages through here, so that they render the same.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Tokenizer

from kun.errors import BadInput

_DEEPEST = 128
_TAG = re.compile(r"</?[a-z][a-z_]*>")
"""`<think>`, `</tool_call>`: what models and those who instruct them write themselves."""


class ControlTokens:
    """The texts of a tokenizer's control tokens, taken out of the messages for one chat template."""

    def __init__(self, texts: Iterable[str]) -> None:
        texts = sorted({text for text in texts if len(text) > 1}, key=len, reverse=True)
        self._all = _one_of(texts)
        self._turns = _one_of([text for text in texts if not _TAG.fullmatch(text)])

    @classmethod
    def of(cls, tokenizer: Tokenizer, template: str) -> "ControlTokens":
        """The special tokens of `tokenizer`, and those of its added ones that the source `template` writes."""
        added = tokenizer.get_added_tokens_decoder().values()
        return cls(token.content.strip() for token in added if token.special or token.content in template)

    def as_text(self, message: Mapping[str, object]) -> dict[str, object]:
        """`message` without control tokens; the system and the assistant keep tags such as `<think>`."""
        own = message.get("role") in ("system", "developer", "assistant")
        pattern = self._turns if own else self._all
        return {key: value if key == "role" else _broken(value, pattern) for key, value in message.items()}

    def tools_as_text(self, tools: Sequence[Mapping[str, object]] | None) -> list[dict[str, object]] | None:
        """The descriptions of tools without control tokens; servers that others run may have written them."""
        if tools is None:
            return None
        return [{key: _broken(value, self._turns) for key, value in tool.items()} for tool in tools]


def _one_of(texts: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def _broken(value: object, pattern: re.Pattern[str] | None, depth: int = 0) -> object:
    """`value` with the tokens in all its texts broken. Raises `BadInput` for lists in lists without end."""
    if isinstance(value, str):
        return pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", value) if pattern else value
    if depth > _DEEPEST:
        raise BadInput(f"A message or a tool is nested more than {_DEEPEST} levels deep: send a flatter one.")
    if isinstance(value, Mapping):
        return {key: _broken(one, pattern, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_broken(one, pattern, depth + 1) for one in value]
    return value
