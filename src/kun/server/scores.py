"""Log-probabilities in OpenAI's two shapes."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, TypedDict

from kun.server.failures import JsonObject

if TYPE_CHECKING:
    from kun.generation.results import TokenLogprob
    from kun.models.language_model import LanguageModel


class PlainScores(TypedDict):
    """Log-probabilities of a completion: lists that run side by side, one entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


_LEAST = -9999.0
"""Stands for the logarithm of zero, which JSON does not have."""


def chat_scores(lm: "LanguageModel", scores: "Sequence[TokenLogprob]") -> JsonObject:
    """Of a chat: each token with its bytes, since one token may be half a character."""

    def one(token: int, value: float) -> JsonObject:
        data = lm.token_bytes(token)
        return {"token": data.decode("utf-8", "replace"), "logprob": max(value, _LEAST), "bytes": list(data)}

    return {
        "content": [
            one(score.token_id, score.logprob) | {"top_logprobs": [one(*each) for each in score.top]}
            for score in scores
        ]
    }


def plain_scores(
    lm: "LanguageModel", first: int | None, scores: "Sequence[TokenLogprob | None]", before: int = 0
) -> PlainScores:
    """Of a completion. `first` is the token without a score, `before` an offset."""
    tokens = [_text(lm, first if score is None else score.token_id) for score in scores]
    return {
        "tokens": tokens,
        "token_logprobs": [None if score is None else max(score.logprob, _LEAST) for score in scores],
        "top_logprobs": [None if score is None else _top(lm, score) for score in scores],
        "text_offset": list(accumulate(map(len, tokens[:-1]), initial=before)) if tokens else [],
    }


def _top(lm: "LanguageModel", score: "TokenLogprob") -> dict[str, float]:
    """The likeliest tokens and the chosen one; of tokens that look alike, the likelier."""
    top: dict[str, float] = {}
    for token, value in [*score.top, (score.token_id, score.logprob)]:
        top.setdefault(_text(lm, token), max(value, _LEAST))
    return top


def _text(lm: "LanguageModel", token: int | None) -> str:
    """A token's text; one that is no whole character is written in its bytes, as OpenAI does."""
    data = b"" if token is None else lm.token_bytes(token)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
