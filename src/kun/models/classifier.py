"""Classes of texts, and of pairs of texts, from a sequence classifier."""

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING, overload

from kun.errors import BadInput, ContextOverflow
from kun.models.batching import batches
from kun.models.task_model import Judgement, TaskModel, Text
from kun.text.tokenizer import sound
from kun.text.windows import ANSWER, with_answers

if TYPE_CHECKING:
    from tokenizers import Encoding


class Classifier(TaskModel):
    """An encoder, or a decoder, whose head gives a number for each of `config.labels`."""

    @overload
    def classify(self, texts: Text) -> Judgement: ...
    @overload
    def classify(self, texts: list[Text]) -> list[Judgement]: ...
    def classify(self, texts: Text | list[Text]) -> Judgement | list[Judgement]:
        """The likeliest class of a text, or of a pair of texts in a tuple. A list of them gives a list.

        Raises `BadInput` for what is no text, `ContextOverflow` for a text that is too long.
        """
        several = texts if isinstance(texts, list) else [texts]
        classes = self._each([self._encode(one) for one in several])
        return classes if isinstance(texts, list) else classes[0]

    def choose(self, document: str, question: str, answers: Sequence[str]) -> Judgement:
        """The likeliest of some answers to a question on a document ("" for none), as GPT-1 chose (objective `choose`).

        A document that is too long loses its end, as in training. Raises `BadInput` for a model that was not trained
        for it, fewer than two answers, an empty one or one twice, `ContextOverflow` for a question too long.
        """
        if self.config.labels != (ANSWER,):
            raise self._lacks("scores no answers", 'fine-tune it with objective.name = "choose" first.')
        if len(answers) < 2 or not all(isinstance(one, str) and one.strip() for one in [question, *answers]):
            raise BadInput(
                "choose takes a document, a question and at least two answers, none of them empty."
            )
        if len(set(answers)) < len(answers):
            twice = next(answer for answer in answers if list(answers).count(answer) > 1)
            raise BadInput(f"The answer {twice!r} stands there twice: leave one of them out.")
        try:
            encodings, _ = with_answers(
                self.tokenizer,
                sound(document),
                sound(question),
                [*map(sound, answers)],
                self.config.context_length,
            )
        except BadInput as error:
            raise ContextOverflow(f"{self.name}: {error}") from error
        judged = self._each(encodings)
        shares = [exp(one.score - max(each.score for each in judged)) for one in judged]
        probabilities = {answer: share / sum(shares) for answer, share in zip(answers, shares, strict=True)}
        best = max(answers, key=probabilities.__getitem__)
        return Judgement(best, probabilities[best], probabilities)

    def _each(self, encodings: "Sequence[Encoding]") -> list[Judgement]:
        classes: dict[int, Judgement] = {}
        for batch in batches([len(encoding) for encoding in encodings]):
            classes.update(zip(batch, self._run([encodings[place] for place in batch]), strict=True))
        return [classes[place] for place in range(len(encodings))]

    def _encode(self, text: Text) -> "Encoding":
        pair = text if isinstance(text, tuple) else (text,)
        if not 1 <= len(pair) <= 2 or not all(isinstance(one, str) and one.strip() for one in pair):
            raise BadInput(
                "classify takes a text, a pair of texts in a tuple, or a list of these, none of them empty."
            )
        return self._within_limit(*pair)

    def _run(self, encodings: "list[Encoding]") -> list[Judgement]:
        import torch

        longest = max(map(len, encodings))
        ids, types, mask = (torch.zeros(len(encodings), longest, dtype=torch.long) for _ in range(3))
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = torch.tensor(encoding.ids)
            types[row, : len(encoding)] = torch.tensor(encoding.type_ids)
            mask[row, : len(encoding)] = 1
        two = bool(types.any()) and self.config.token_types > 1
        given = [ids, mask, types] if two else [ids, mask]
        with torch.inference_mode():
            logits = self.net(*(tensor.to(self.device) for tensor in given)).logits.float()
        if self.config.problem == "regression":
            return [Judgement(None, number, {}) for number in logits[:, 0].tolist()]
        labels = self.config.labels
        made = [dict(zip(labels, row, strict=True)) for row in logits.softmax(dim=-1).tolist()]
        best = [max(labels, key=shares.__getitem__) for shares in made]
        return [Judgement(label, shares[label], shares) for label, shares in zip(best, made, strict=True)]
