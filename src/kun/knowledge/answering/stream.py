"""An answer, whole and in pieces."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kun.knowledge.answering.understanding import ChatTurn
from kun.knowledge.passage import Passage

if TYPE_CHECKING:
    from kun.generation.results import Generation
    from kun.knowledge.computing import Computed


@dataclass(frozen=True)
class Answer:
    """`text` cites `passages` as [1], [2] …; `prompt` is what the model read, `question` what was searched.

    `declined`: the documents do not say. `quoted`: sentences of the documents, since the model does not speak
    the language of the question, or twice wrote what no passage carries. `computed`: the calculation that gave the
    answer, where one did. Small talk has no passages.
    """

    text: str
    passages: list[Passage]
    prompt: list[ChatTurn] = field(default_factory=list)
    question: str = ""
    declined: bool = False
    quoted: bool = False
    computed: "Computed | None" = None


class AnswerStream:
    """An answer in pieces: iterate, then ask for `answer()`. Passages, prompt and question are known from the start."""

    def __init__(
        self,
        question: str,
        passages: list[Passage],
        prompt: list[ChatTurn],
        write: "Callable[[AnswerStream], Iterator[str]]",
    ) -> None:
        """`write` gives the pieces; it may set `declined` and `quoted` of the stream that it is given."""
        self.question, self.passages, self.prompt = question, passages, prompt
        self.declined = self.quoted = self.stopped = False
        self.computed: Computed | None = None
        self._running: list[Generation] = []
        self._pieces = write(self)
        self._said: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self._said.append(piece)
            yield piece

    def running(self, generation: "Generation") -> "Generation":
        """`generation`, which `cancel` ends too."""
        self._running.append(generation)
        if self.stopped:
            generation.cancel()
        return generation

    def cancel(self) -> None:
        """Stop the model; what was written stays, and nothing is added."""
        self.stopped = True
        for generation in self._running:
            generation.cancel()

    def answer(self) -> Answer:
        """Wait for the end; the whole answer."""
        for _ in self:
            pass
        passages = [] if self.declined else self.passages
        text = "".join(self._said).strip()
        return Answer(text, passages, self.prompt, self.question, self.declined, self.quoted, self.computed)
