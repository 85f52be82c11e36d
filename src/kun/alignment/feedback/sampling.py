"""Answers to rank: some of each model that is asked, none twice."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from kun.alignment.feedback.votes import FEWEST, MOST
from kun.data.rows import Answer, ChatMessage
from kun.errors import BadInput
from kun.generation.options import SamplingOptions

_ROUNDS = 3
"""How often one asks anew for answers that were equal or empty."""


class Written(Protocol):
    """A piece of an answer."""

    @property
    def text(self) -> str: ...


class Writer(Protocol):
    """A language model, as far as it is needed here."""

    @property
    def name(self) -> str: ...

    def submit(self, prompt: list[dict[str, object]], options: SamplingOptions) -> Iterable[Written]: ...


def sample(
    writers: Sequence[Writer],
    prompt: Sequence[ChatMessage],
    count: int,
    *,
    temperature: float = 1.0,
    max_tokens: int = 512,
    seed: int = 0,
) -> tuple[list[Answer], list[str]]:
    """`count` answers that differ, 2 to 9, and the name of the model that wrote each; fewer where no more came.

    Models take turns. An answer that does not end is cut after `max_tokens`. Raises `BadInput` for a count out of range
    and where fewer than two different answers came, and what the models raise (`ContextOverflow`, `Busy`).
    """
    if not FEWEST <= count <= MOST:
        raise BadInput(f"{count} answers cannot be ranked at a time: choose {FEWEST} to {MOST}.")
    if not writers:
        raise BadInput("No model is to answer: name at least one.")
    messages = [dict(message) for message in prompt]
    found: dict[str, str] = {}
    for round in range(_ROUNDS):
        asked = [
            (
                writer.name,
                writer.submit(messages, _options(temperature, max_tokens, seed + round * MOST + number)),
            )
            for number, writer in enumerate(_turns(writers, count, list(found.values())))
        ]
        for name, generation in asked:  # all of them are in the engine before one is waited for
            text = "".join(piece.text for piece in generation).strip()
            if text:
                found.setdefault(text, name)
        if len(found) >= count or temperature == 0:
            break
    if len(found) < FEWEST:
        raise BadInput("The answers are all the same or empty: raise the temperature, or ask several models.")
    answers: list[Answer] = [({"role": "assistant", "content": text},) for text in found]
    return answers[:count], list(found.values())[:count]


def _options(temperature: float, max_tokens: int, seed: int) -> SamplingOptions:
    return SamplingOptions(max_tokens=max_tokens, temperature=temperature, seed=seed)


def _turns(writers: Sequence[Writer], count: int, done: Sequence[str]) -> list[Writer]:
    """Whom to ask for what is missing: those first who have the fewest answers."""
    have = {writer.name: done.count(writer.name) for writer in writers}
    turns: list[Writer] = []
    for _ in range(count - len(done)):
        writer = min(writers, key=lambda one: have[one.name])
        have[writer.name] += 1
        turns.append(writer)
    return turns
