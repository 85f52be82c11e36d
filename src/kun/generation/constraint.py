"""Constrained decoding: only tokens that keep the text within a JSON schema, an expression or a grammar.

Masks come from llguidance (https://github.com/guidance-ai/llguidance), an Earley parser over the vocabulary.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from tokenizers import Tokenizer

from kun.errors import BadInput
from kun.generation.options import SamplingOptions
from kun.generation.tools import CLOSE, OPEN, ToolUse, weaker
from kun.generation.tools import grammar as tool_grammar

_LIMITS = LLParserLimits(max_grammar_size=200_000, max_lexer_states=100_000, verbose_errors=False)


class Constraint:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._mask = np.zeros((vocabulary + 31) // 32, dtype=np.int32)

    def prepare(self) -> None:
        """Find out which tokens may come next. Raises `BadInput` where the grammar is too hard for that."""
        self._mask.fill(0)
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()

    def allowed(self, vocabulary: int) -> np.ndarray:
        """What `prepare` found, as bool [vocabulary]."""
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        return bits[:vocabulary].view(np.bool_)

    def consume(self, token: int) -> bool:
        """Go on with `token`; whether the text is complete and nothing can follow."""
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BadInput(f"The constraint cannot be followed: {_short(self._matcher.get_error())}.")

    def fresh(self) -> "Constraint":
        """The same constraint at its beginning, for another answer."""
        return Constraint(self._matcher.deep_copy(), len(self._mask) * 32)


class Constrainer:
    """Makes constraints for one tokenizer; learning its vocabulary takes a second, once, when first needed."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, ends: Sequence[int]) -> None:
        self._tokenizer, self._vocabulary, self._ends = tokenizer, vocabulary, list(ends)
        self._lock = Lock()
        self._known: LLTokenizer | None = None

    def _llguidance(self) -> LLTokenizer:
        with self._lock:
            if self._known is None:
                ends = [end for end in self._ends if end < self._vocabulary]
                if not ends:
                    raise BadInput("This model has no end-of-text token, so its text cannot be constrained.")
                try:
                    self._known = LLTokenizer(
                        self._tokenizer.to_str(), n_vocab=self._vocabulary, eos_token=ends
                    )
                except ValueError as error:
                    raise BadInput(
                        f"This model's tokenizer cannot be constrained: {_short(error)}."
                    ) from error
            return self._known

    def of(self, options: SamplingOptions, use: ToolUse | None) -> Constraint | None:
        """The constraint that options or tools ask for. Raises `BadInput` for one that is not sound."""
        if options.constrained:
            name, source = _source(options)
            matcher = self._matcher(source)
        elif use is not None:
            name, matcher = "tools", self._of_tools(use)
        else:
            return None
        if matcher.is_error():
            raise BadInput(f"{name} cannot be used as a constraint: {_short(matcher.get_error())}.")
        return Constraint(matcher, self._vocabulary)

    def _of_tools(self, use: ToolUse) -> LLMatcher:
        """A schema that no text can be held to is weakened, for it is another program's: its user can't change it."""
        marks = self._tokenizer.token_to_id(OPEN), self._tokenizer.token_to_id(CLOSE)
        for tried in (lambda: use, lambda: weaker(use), lambda: weaker(use, bare=True)):
            with suppress(RecursionError):  # of a schema that is nested too deeply
                matcher = self._matcher(LLMatcher.grammar_from_lark(tool_grammar(tried(), marks)))
                if not matcher.is_error():
                    break
        return matcher

    def _matcher(self, source: str) -> LLMatcher:
        return LLMatcher(self._llguidance(), source, log_level=0, limits=_LIMITS)


def _source(options: SamplingOptions) -> tuple[str, str]:
    if options.regex is not None:
        return "regex", LLMatcher.grammar_from_regex(options.regex)
    if options.grammar is not None:
        return "grammar", LLMatcher.grammar_from_lark(options.grammar)
    try:
        return "json_schema", LLMatcher.grammar_from_json_schema(json.dumps(_schema(options.json_schema)))
    except ValueError as error:
        raise BadInput(f"json_schema cannot be used as a constraint: {_short(error)}.") from error


def _schema(given: Any) -> Any:
    """The schema as an object. Whitespace is fixed: a model left free may write nothing else."""
    if given is True:
        given = {"type": "object"}
    if isinstance(given, str):
        given = json.loads(given)
    if not isinstance(given, dict):
        given = dict(given) if hasattr(given, "keys") else {"type": "object"} if given is None else given
    if not isinstance(given, dict):
        raise ValueError("a schema is an object")
    layout = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return {"x-guidance": layout, **given}


def _short(error: object) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
