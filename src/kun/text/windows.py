"""A long text beside a question, in windows that a network can read; a text with a question and its answers."""

from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer

from kun.errors import BadInput

ANSWER = "answer"
"""The one label of a model that was trained to score answers, by which it is known."""
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


def with_answers(
    tokenizer: Tokenizer, document: str, question: str, answers: Sequence[str], longest: int | None
) -> tuple[list[Encoding], bool]:
    """A document ("" for none) and a question before each answer, with what the tokenizer puts around a pair.

    Training and serving both read it so. Where the longest has more than `longest` tokens the document loses its end;
    the second value tells that. Raises `BadInput` where question and answer alone are too long.
    """
    ends = tokenizer.encode_batch(list(answers), add_special_tokens=False)
    room = None
    if longest is not None:
        room = longest - max(map(len, ends)) - tokenizer.num_special_tokens_to_add(True)
    kept = document
    while True:
        # encoded as one text: a tokenizer may put the end of the one and the beginning of the other in one token
        first = tokenizer.encode(f"{kept}\n{question}" if kept else question, add_special_tokens=False)
        if room is None or len(first) <= room:
            break
        starts = [start for start, end in first.offsets if start < end <= len(kept)]
        over = len(first) - room
        assert longest is not None
        if over >= len(starts):
            raise BadInput(
                f"the question and an answer have {len(first) - len(starts) + longest - room} tokens, more than the "
                f"{longest} of the context: shorten them."
            )
        kept = kept[: starts[len(starts) - over]]
    return [tokenizer.post_process(first, answer) for answer in ends], kept != document
