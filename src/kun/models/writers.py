"""Whoever writes an answer to messages: a language model here, or an endpoint elsewhere (`kun.models.endpoint`)."""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kun.errors import BadInput, Busy, ContextOverflow
from kun.generation.options import Prompt, SamplingOptions
from kun.generation.results import Generation
from kun.models.language_model import LanguageModel

ChatMessages = tuple[Mapping[str, str], ...]

_SPEAKERS = {"user": "User", "assistant": "Assistant"}
_NEXT_TURN = "\nUser:"


@dataclass(frozen=True)
class Asked:
    """Messages that want an answer of at most `max_tokens`; `regex` constrains it where the writer can."""

    messages: ChatMessages
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    regex: str | None = None


@dataclass(frozen=True)
class Written:
    """An answer, the tokens of its prompt and of its own (0 where nobody counted), and whether it came to its end."""

    text: str
    prompt_tokens: int
    tokens: int
    ended: bool


class Writer(Protocol):
    """Writes answers. `identity` changes with whatever may change them."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def can_constrain(self) -> bool:
        """Whether an answer keeps to a regex."""
        ...

    def write(self, asked: Sequence[Asked]) -> Iterator[tuple[int, Written | BadInput]]:
        """Answers as they are done, each with its place; an error for what is wrong with one of the questions.

        Raises what stops all of them: `Unavailable`, `NotPermitted`, `ModelNotFound`, `Busy`.
        """
        ...

    def fits(self, asked: Asked) -> bool:
        """Whether prompt and answer fit the context, as far as that is known here."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class LocalWriter:
    """A language model of this process. One without a chat template goes on from a plain transcript."""

    can_constrain = True

    def __init__(self, lm: LanguageModel, held: str = "") -> None:
        """`held` says how the weights are held ("int4"), which changes what is written."""
        self.lm, self._held = lm, held

    @property
    def name(self) -> str:
        return self.lm.name

    @property
    def identity(self) -> str:
        weights = self.lm.checkpoint.identity if self.lm.checkpoint is not None else self.lm.name
        return f"{weights} {self._held}".rstrip()

    def write(self, asked: Sequence[Asked]) -> Iterator[tuple[int, Written | BadInput]]:
        """As many at once as the batch holds twice, in their order."""
        waiting = deque(enumerate(asked))
        running: deque[tuple[int, Generation]] = deque()
        try:
            while waiting or running:
                if waiting and len(running) < 2 * self.lm.host.max_batch:
                    place, one = waiting[0]
                    try:
                        running.append((place, self._submit(one)))
                        waiting.popleft()
                        continue
                    except Busy:
                        if not running:
                            raise
                    except BadInput as error:
                        waiting.popleft()
                        yield place, error
                        continue
                place, generation = running[0]
                answer = generation.result()[0]
                running.popleft()
                ended = answer.finish_reason == "stop"
                yield (
                    place,
                    Written(answer.text, generation.prompt_tokens, len(answer.token_ids), ended),
                )
        finally:
            for _, generation in running:
                if not generation.done:
                    generation.cancel()

    def fits(self, asked: Asked) -> bool:
        try:
            ids = self.lm.encode(self._prompt(asked))
        except ContextOverflow:
            return False
        return len(ids) + asked.max_tokens <= self.lm.context_length

    def close(self) -> None:
        self.lm.close()

    def _submit(self, asked: Asked) -> Generation:
        stop = asked.stop if self.lm.template is not None else (*asked.stop, _NEXT_TURN)
        options = SamplingOptions(
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            seed=asked.seed,
            stop=stop,
            regex=asked.regex,
        )
        return self.lm.submit(self._prompt(asked), options)

    def _prompt(self, asked: Asked) -> Prompt:
        return list(asked.messages) if self.lm.template is not None else transcript(asked.messages)


def transcript(messages: ChatMessages) -> str:
    """Messages as a text that a model without a chat template goes on from."""
    parts = [
        f"{_SPEAKERS[message['role']]}: {message['content']}"
        if message["role"] in _SPEAKERS
        else message["content"]
        for message in messages
    ]
    return "\n\n".join([*parts, "Assistant:"])


def short_digest(*parts: object) -> str:
    """16 hexadecimal digits that change with any of the parts (of plain types)."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
