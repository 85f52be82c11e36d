"""Answers from documents: complete the question, find passages, let the model write, cite what it wrote."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kun.errors import BadInput
from kun.hub.catalog import catalog
from kun.knowledge.grounding import best_sentences, cited, declines, is_made_up, without_citations
from kun.knowledge.prompt import Message, Phrases, assemble, phrases
from kun.text.language import language_of
from kun.text.sentences import sentences

if TYPE_CHECKING:
    from kun.generation import Generation, LanguageModel
    from kun.knowledge.base import KnowledgeBase, Passage

_PASSAGES = 3
"""How many passages a model of half a billion parameters reads without losing the thread."""
_MAX_TOKENS = 160
_HISTORY_TURNS = 4
_LONGEST_QUESTION = 4000
_QUOTES = 2
_OPTIONS = ("max_tokens", "temperature", "top_p", "seed")
_LEANS = re.compile(
    r"\b(it|its|he|him|his|she|her|they|them|their|this|that|these|those|there|then)\b"
    r"|^\s*(and|but|or|what about|how about)\b"
    r"|[他她它]们?|这|那|呢[?？]?\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """`text` cites `passages` as [1], [2] …; `prompt` is what the model read, `question` what was searched.

    `declined`: the documents do not say. `quoted`: sentences of the documents, since the model does not speak
    the language of the question.
    """

    text: str
    passages: list["Passage"]
    prompt: list[Message] = field(default_factory=list)
    question: str = ""
    declined: bool = False
    quoted: bool = False


class AnswerStream:
    """An answer in pieces: iterate, then ask for `answer()`. Passages, prompt and question are known from the start."""

    def __init__(
        self, question: str, passages: list["Passage"], prompt: list[Message], told: Phrases, language: str
    ) -> None:
        self.question, self.passages, self.prompt = question, passages, prompt
        self._told, self._language = told, language
        self._generation: Generation | None = None
        self._pieces: Iterator[str] = iter(())
        self._said: list[str] = []
        self._declined = False
        self._quoted = False

    @classmethod
    def written(cls, stream: "AnswerStream", generation: "Generation") -> "AnswerStream":
        stream._generation = generation
        stream._pieces = stream._write(generation)
        return stream

    @classmethod
    def quoting(cls, stream: "AnswerStream") -> "AnswerStream":
        stream._quoted = True
        stream._pieces = stream._quote()
        return stream

    @classmethod
    def declining(cls, stream: "AnswerStream") -> "AnswerStream":
        stream._declined = True
        stream._pieces = iter([stream._told.declined])
        return stream

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self._said.append(piece)
            yield piece

    def cancel(self) -> None:
        """Stop the model; what was said stays."""
        if self._generation is not None:
            self._generation.cancel()

    def answer(self) -> Answer:
        """Wait for the end; the whole answer."""
        for _ in self:
            pass
        text = "".join(self._said).strip()
        passages = [] if self._declined else self.passages
        return Answer(text, passages, self.prompt, self.question, self._declined, self._quoted)

    def _write(self, generation: "Generation") -> Iterator[str]:
        """Whole sentences, each with its citation: a sentence is held back until it is known what carries it."""
        texts = [passage.text for passage in self.passages]
        held = ""
        said = False
        for piece in generation:
            held += piece.text
            spans = sentences(held)
            if len(spans) > 1:
                cut = spans[-1][0]
                for start, end in spans[:-1]:
                    yield self._one(held[start:end], texts)
                    said = True
                    if self._declined:
                        return
                held = held[cut:]
        if held.strip():
            yield self._one(held, texts)
        elif not said:
            self._declined = True
            yield self._told.declined

    def _one(self, sentence: str, texts: Sequence[str]) -> str:
        plain = without_citations(sentence)
        if not self._said and declines(plain, self._told.declined):
            self._declined = True
            return plain
        if not self._said and is_made_up(plain, self.question, texts):
            self._declined = True
            self.cancel()
            return self._told.declined
        return cited(plain, texts) if plain.strip() else plain

    def _quote(self) -> Iterator[str]:
        yield self._told.quotes
        texts = [passage.text for passage in self.passages]
        for place, sentence in best_sentences(self.question, texts, _QUOTES):
            yield f"\n> {sentence} [{place + 1}]"


def ask_stream(
    base: "KnowledgeBase",
    question: str,
    lm: "LanguageModel",
    *,
    history: Sequence[Message] = (),
    k: int | None = None,
    sources: Sequence[str] | None = None,
    **options: Any,
) -> AnswerStream:
    """Answer `question` from `base`; `history` is the conversation so far, `options` go to the model.

    Raises `BadInput` for an empty question or an unknown option, and what searching and generating raise.
    """
    from kun.generation import SamplingOptions

    question = question.strip()
    _check(question, options)
    sampling = SamplingOptions(**{"max_tokens": _MAX_TOKENS, "temperature": 0.0} | options)
    language = language_of(question)
    told = phrases(language)
    complete = completed(question, history, lm, told)
    found = base.search(complete, k or _PASSAGES, sources)
    prompt, passages = assemble(complete, found, lm, told, min(sampling.max_tokens, lm.context_length // 4))
    stream = AnswerStream(complete, passages, prompt, told, language)
    if not passages:
        return AnswerStream.declining(stream)
    if not speaks(lm, language):
        return AnswerStream.quoting(stream)
    return AnswerStream.written(stream, lm.submit(prompt, sampling))


def _check(question: str, options: dict[str, Any]) -> None:
    if not question:
        raise BadInput("The question is empty: type what you want to know.")
    if len(question) > _LONGEST_QUESTION:
        raise BadInput(f"The question has {len(question):,} characters; {_LONGEST_QUESTION:,} are the most.")
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise BadInput(f"There is no option {unknown[0]!r} of asking; there are {', '.join(_OPTIONS)}.")


def completed(question: str, history: Sequence[Message], lm: "LanguageModel", told: Phrases) -> str:
    """A question that leans on the conversation, made to stand alone; any other as it is."""
    asked = [turn["content"] for turn in history if turn.get("role") == "user"]
    if not asked or not _LEANS.search(question):
        return question
    turns = "\n".join(f"{turn['role']}: {turn['content'][:400]}" for turn in history[-_HISTORY_TURNS:])
    request = told.follow_up.format(history=turns, question=question)
    written = str(lm.generate([{"role": "user", "content": request}], max_tokens=64, temperature=0))
    rewritten = written.strip().split("\n")[0].strip()
    # a rewriting that lost the question's own words, or grew into an answer, is worse than both questions together
    return rewritten if _is_sound(rewritten, question, asked[-1]) else f"{asked[-1]} {question}"


def _is_sound(rewritten: str, question: str, before: str) -> bool:
    from kun.text.words import STOP_WORDS, words

    said = set(words(rewritten))
    own = {word for word in words(question) if word not in STOP_WORDS and not _LEANS.fullmatch(word)}
    borrowed = {word for word in words(before) if word not in STOP_WORDS}
    fits = len(rewritten) <= len(question) + len(before) + 40
    return bool(rewritten) and fits and own <= said and bool(borrowed & said)


def speaks(lm: "LanguageModel", language: str) -> bool:
    """Whether a model is said to speak `language`; one that nothing is said of is trusted."""
    entry = catalog().get(lm.name)
    return entry is None or not entry.languages or language in (*entry.languages, "und")
