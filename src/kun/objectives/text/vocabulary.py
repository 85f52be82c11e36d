"""Special tokens that an objective needs, and that a tokenizer may lack."""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

START, DELIMITER, EXTRACT, PAD = "<|start|>", "<|delimiter|>", "<|extract|>", "<|pad|>"
"""GPT-1's tokens around texts that are judged, and what fills the rest of a row."""


def sentinel(number: int) -> str:
    """T5's name of the token for a left-out span."""
    return f"<extra_id_{number}>"


def with_tokens(tokenizer: Tokenizer, tokens: Sequence[str]) -> tuple[Tokenizer, list[int]]:
    """A copy of the tokenizer that has these special tokens, and their ids."""
    copy: Tokenizer = Tokenizer.from_str(tokenizer.to_str())
    missing = [token for token in tokens if copy.token_to_id(token) is None]
    copy.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in missing])
    return copy, [int(copy.token_to_id(token) or 0) for token in tokens]


def judging_tokenizer(tokenizer: Tokenizer) -> tuple[Tokenizer, int]:
    """A copy that writes texts as a judging decoder reads them, and its id for padding.

    start text extract, or start text delimiter text extract: Radford et al. 2018, section 3.3.
    """
    copy, ids = with_tokens(tokenizer, (START, DELIMITER, EXTRACT, PAD))
    copy.post_processor = TemplateProcessing(
        single=f"{START} $A {EXTRACT}",
        pair=f"{START} $A {DELIMITER} $B {EXTRACT}",
        special_tokens=list(zip((START, DELIMITER, EXTRACT), ids[:3], strict=True)),
    )
    return copy, ids[3]
