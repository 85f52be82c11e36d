"""Text that must have a form: JSON schemas, regular expressions, grammars, by llguidance's token masks."""

import json
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from kun.errors import BadInput
from kun.generation.options import SamplingOptions

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


class Constraints:
    """Makes a constraint for each request that asks for one; the vocabulary is prepared once, at the first."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_ids: tuple[int, ...]) -> None:
        self._source = tokenizer
        self._vocab_size = vocab_size
        self._eos_ids = eos_ids
        self._lock = threading.Lock()

    @cached_property
    def _tokenizer(self) -> "LLTokenizer":
        from llguidance import LLTokenizer

        eos = list(self._eos_ids) or None
        return LLTokenizer(self._source.to_str(), n_vocab=self._vocab_size, eos_token=eos)

    def of(self, options: SamplingOptions) -> "Constraint | None":
        """The constraint that `options` ask for, or None. Raises `BadInput` for one that cannot be read."""
        grammar = _grammar(options)
        if grammar is None:
            return None
        from llguidance import LLMatcher

        with self._lock:
            tokenizer = self._tokenizer
        matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise BadInput(f"The schema or grammar cannot be used: {_first_line(matcher.get_error())}")
        return Constraint(matcher, self._vocab_size)


class Constraint:
    """Where one text stands in its grammar."""

    def __init__(self, matcher: "LLMatcher", vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def allowed(self) -> Tensor:
        """The tokens that may come next, bool [vocabulary]."""
        mask = torch.zeros((self._vocab_size + 31) // 32, dtype=torch.int32)
        self._matcher.unsafe_compute_mask_ptr(mask.data_ptr(), mask.numel() * mask.element_size())
        self._check()
        bits = (mask[:, None] >> torch.arange(32, dtype=torch.int32)) & 1
        return bits.flatten()[: self._vocab_size].bool()

    def take(self, token: int) -> None:
        """`token` was chosen."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def is_complete(self) -> bool:
        """Whether the text is whole and nothing more may follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BadInput(f"The schema or grammar cannot be followed: {_first_line(self._matcher.get_error())}")


def _grammar(options: SamplingOptions) -> str | None:
    from llguidance import LLMatcher

    try:
        if options.json_schema is not None:
            # compact JSON: a small model left free to indent may fill its whole answer with spaces
            overrides: Any = {"whitespace_flexible": False}
            return LLMatcher.grammar_from_json_schema(json.dumps(options.json_schema), overrides=overrides)
        if options.regex is not None:
            return LLMatcher.grammar_from_regex(options.regex)
        if options.grammar is not None:
            return LLMatcher.grammar_from_lark(options.grammar)
    except (ValueError, TypeError) as error:
        raise BadInput(f"The schema or grammar cannot be read: {error}") from error
    return None


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0][:300] if message.strip() else "no reason given"
