"""A long text beside a question, in windows that a network can read."""

from tokenizers import Encoding, Tokenizer

from kun.errors import BadInput

_LEAST = 8
"""Tokens of the text that a window must have room for."""


def windows(tokenizer: Tokenizer, question: str, context: str, longest: int | None) -> list[Encoding]:
    """The question with each stretch of the text that fits beside it into `longest` tokens; neighbours share a quarter.

    Raises `BadInput` for a question that leaves no room.
    """
    asked, text = (tokenizer.encode(one, add_special_tokens=False) for one in (question, context))
    if longest is not None:
        room = longest - len(asked) - tokenizer.num_special_tokens_to_add(True)
        if room < _LEAST:
            raise BadInput(
                f"The question has {len(asked)} tokens, which leaves no room for a text in {longest}: shorten it."
            )
        text.truncate(room, stride=room // 4)
    # put together piece by piece: the tokenizer's own overflow does not know which text a token is of
    return [tokenizer.post_process(asked, piece) for piece in (text, *text.overflowing)]
