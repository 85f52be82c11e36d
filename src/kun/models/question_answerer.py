"""Answers as they stand in a text, from an extractive question answerer (Devlin et al., arXiv:1810.04805)."""

from typing import TYPE_CHECKING

from kun.errors import BadInput
from kun.models.task_model import Span, TaskModel
from kun.text.tokenizer import sound
from kun.text.windows import windows

if TYPE_CHECKING:
    from tokenizers import Encoding

LONGEST_ANSWER = 64
"""Tokens."""


class QuestionAnswerer(TaskModel):
    """An encoder whose head says of each token how likely an answer starts and ends there."""

    def answer(self, question: str, context: str) -> Span | None:
        """The stretch of a text that answers a question, None where none does better than that there is no answer.

        A long text is read in windows. Raises `BadInput` for empty texts and for a question that leaves no room for
        the text.
        """
        if not all(isinstance(text, str) and text.strip() for text in (question, context)):
            raise BadInput("answer takes a question and a text, neither of them empty.")
        asked, text = map(sound, (question, context))
        seen = windows(self.tokenizer, asked, text, self.config.context_length)
        found = [self._best_span(window) for window in seen]
        nothing = min(empty for empty, _, _, _ in found)
        _, score, start, end = max(found, key=lambda one: one[1])
        return Span(text[start:end], start, end, score) if score > nothing else None

    def _best_span(self, window: "Encoding") -> tuple[float, float, int, int]:
        """The probability that a window has no answer, and that of its best span with its characters."""
        import torch

        ids, types = (torch.tensor([some], device=self.device) for some in (window.ids, window.type_ids))
        two = self.config.token_types > 1
        with torch.inference_mode():
            output = self.net(ids, None, types) if two else self.net(ids)
        starts, ends = (logits[0].float().softmax(dim=-1) for logits in output)
        of_text = torch.tensor([sequence == 1 for sequence in window.sequence_ids], device=ids.device)
        joint = (starts * of_text)[:, None] * (ends * of_text)[None]
        joint = joint.triu().tril(LONGEST_ANSWER - 1)
        place = int(joint.argmax())
        start, end = divmod(place, len(window.ids))
        return (
            float(starts[0] * ends[0]),
            float(joint.max()),
            window.offsets[start][0],
            window.offsets[end][1],
        )
