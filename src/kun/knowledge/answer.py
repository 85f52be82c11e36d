"""Answers from documents: complete the question, find passages, let the model write, cite what it wrote."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

from kun.errors import BadInput
from kun.hub.catalog import catalog
from kun.knowledge.adding import EncoderLike
from kun.knowledge.declining import LIKELY, SURE, likelihood
from kun.knowledge.evidence import Evidence, evidence
from kun.knowledge.grounding import (
    cited,
    counts_another_thing,
    declines,
    is_carried,
    is_in,
    is_list_carried,
    is_list_item,
    says_nothing,
    without_citations,
)
from kun.knowledge.passage import Passage
from kun.knowledge.prompt import ChatTurn, Phrases, assemble, phrases
from kun.text.language import language_of
from kun.text.sentences import sentences

if TYPE_CHECKING:
    from kun.generation.results import Generation
    from kun.models.language_model import LanguageModel

_PASSAGES = 3
"""Passages that a model of half a billion parameters reads without losing the thread."""
_MAX_TOKENS = 160
_HISTORY_TURNS = 4
_LONGEST_QUESTION = 4000
_BEARING = 5
"""Sentences that bear on a question: their passages are read, and the first of them may be quoted."""
_CARRIERS = 2
"""How many of them may carry the first sentence of an answer: more, and chance agrees with anything."""
_QUOTES = 3
_SENTENCES = 3
"""The longest answer: what a small model says after that, it copies."""
_MARKS = ".!?…。！？；"
_LEANS = re.compile(
    r"\b(it|its|he|him|his|she|her|they|them|their|this|that|these|those|there|then)\b"
    r"|^\s*(and|but|or|what about|how about)\b"
    r"|[他她它]们?|这|那|呢[?？]?\s*$",
    re.IGNORECASE,
)


class SamplingChoice(TypedDict, total=False):
    """The options of generation that asking takes."""

    max_tokens: int
    temperature: float | None
    top_p: float | None
    seed: int | None


class AskOptions(SamplingChoice, total=False):
    """The options of asking: the conversation so far, how many passages, of which documents, and the model's."""

    history: Sequence[ChatTurn]
    k: int | None
    sources: Sequence[str] | None


class Searchable(Protocol):
    """The part of a knowledge base that answering uses."""

    @property
    def encoder(self) -> EncoderLike: ...

    def search(self, query: str, k: int, sources: Sequence[str] | None = None) -> list[Passage]: ...


@dataclass(frozen=True)
class Answer:
    """`text` cites `passages` as [1], [2] …; `prompt` is what the model read, `question` what was searched.

    `declined`: the documents do not say. `quoted`: sentences of the documents, since the model does not speak
    the language of the question, or said what the sentences that bear on the question do not carry.
    """

    text: str
    passages: list[Passage]
    prompt: list[ChatTurn] = field(default_factory=list)
    question: str = ""
    declined: bool = False
    quoted: bool = False


class AnswerStream:
    """An answer in pieces: iterate, then ask for `answer()`. Passages, prompt and question are known from the start."""

    def __init__(
        self,
        question: str,
        passages: list[Passage],
        prompt: list[ChatTurn],
        told: Phrases,
        bearing: Sequence[Evidence] = (),
        likely: float = 0.0,
    ) -> None:
        self.question, self.passages, self.prompt = question, passages, prompt
        self._told, self._bearing, self._likely = told, bearing, likely
        self._generation: Generation | None = None
        self._pieces: Iterator[str] = iter(())
        self._said: list[str] = []
        self._declined = False
        self._quoted = False
        self._stopped = False

    @classmethod
    def written(cls, stream: "AnswerStream", generation: "Generation") -> "AnswerStream":
        stream._generation = generation
        stream._pieces = stream._write(generation)
        return stream

    @classmethod
    def quoting(cls, stream: "AnswerStream") -> "AnswerStream":
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
        """Stop the model; what was said stays, and nothing is added."""
        self._stopped = True
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
        """Whole sentences, each with its citation: a sentence is held back until it is known what carries it.

        The first one decides: where no sentence that bears on the question carries it, those are quoted instead.
        """
        texts = [passage.text for passage in self.passages]
        said: list[str] = []
        for sentence in _whole_sentences(generation):
            if self._stopped:
                return
            plain = without_citations(sentence)
            if not said and not self._stands(plain):
                generation.cancel()
                yield from self._decline_or_quote(declines(plain, self._told.declined))
                return
            if plain.strip() in said or (said and not is_carried(plain, self.question, texts)):
                break
            said.append(plain.strip())
            yield cited(plain, texts)
            if sum(not is_list_item(one) for one in said) >= _SENTENCES:
                break
        generation.cancel()
        if not said and not self._stopped:
            yield from self._decline_or_quote(True)

    def _stands(self, sentence: str) -> bool:
        """True where the first sentence of an answer can stand."""
        bearing = [one.text for one in self._bearing]
        return (
            is_in(self._told.language, sentence)
            and not declines(sentence, self._told.declined)
            and not says_nothing(sentence, self.question)
            and not counts_another_thing(sentence, self.question)
            and (
                is_carried(sentence, self.question, bearing[:_CARRIERS])
                or is_list_carried(sentence, self.question, bearing)
            )
        )

    def _decline_or_quote(self, declined: bool) -> Iterator[str]:
        if declined and self._likely < SURE:
            self._declined = True
            yield self._told.declined
        else:
            yield from self._quote()

    def _quote(self) -> Iterator[str]:
        self._quoted = True
        yield self._told.quotes
        for one in self._bearing[:_QUOTES]:
            yield f"\n> {' '.join(one.text.split())} [{one.place + 1}]"


def ask_stream(
    base: Searchable,
    question: str,
    lm: "LanguageModel",
    *,
    history: Sequence[ChatTurn] = (),
    k: int | None = None,
    sources: Sequence[str] | None = None,
    **options: Unpack[SamplingChoice],
) -> AnswerStream:
    """Answer `question` from `base`; `history` is the conversation so far, `options` go to the model.

    Raises `BadInput` for an empty question or an unknown option, and what searching and generating raise.
    """
    from kun.generation.options import make_options

    question = question.strip()
    _check(question, options)
    chosen: SamplingChoice = {"max_tokens": _MAX_TOKENS, "temperature": 0.0}
    sampling = make_options(chosen | options)
    language = language_of(question)
    told = phrases(language)
    complete = completed(question, history, lm, told)
    found = base.search(complete, k or _PASSAGES, sources)
    found, bearing = _narrowed(found, _bearing(complete, found, base))
    reading = assemble(complete, found, bearing, lm, told, min(sampling.max_tokens, lm.context_length // 4))
    bearing = [one for one in bearing if one.place < len(reading.passages)]
    prompt = reading.asking(told.answer)
    fluent = speaks(lm, language)
    likely = likelihood(complete, reading.passages, bearing, lm if fluent else None, told)
    stream = AnswerStream(complete, reading.passages, prompt, told, bearing, likely)
    if likely < LIKELY:
        return AnswerStream.declining(stream)
    if not fluent:
        return AnswerStream.quoting(stream)
    return AnswerStream.written(stream, lm.submit(prompt, sampling))


def _bearing(question: str, found: Sequence[Passage], base: Searchable) -> list[Evidence]:
    if not found:
        return []
    return evidence(question, found, base.encoder)[:_BEARING]


def _narrowed(found: Sequence[Passage], bearing: Sequence[Evidence]) -> tuple[list[Passage], list[Evidence]]:
    """The best passage and those that hold some of the evidence, and the evidence with their places."""
    kept = sorted({0, *(one.place for one in bearing)}) if found else []
    return [found[place] for place in kept], [replace(one, place=kept.index(one.place)) for one in bearing]


def _whole_sentences(generation: "Generation") -> Iterator[str]:
    """The sentences as they are finished, what ends in a colon with what follows.

    One that was cut off is given only where there is no other.
    """
    held, finish = "", None
    any_whole = False
    for piece in generation:
        held += piece.text
        finish = piece.finish_reason
        start = 0
        for _, end in sentences(held)[:-1]:
            if not held[start:end].rstrip().endswith((":", "：")):
                any_whole = True
                yield held[start:end]
                start = end
        held = held[start:]
    if held.strip() and finish == "length" and held.rstrip()[-1] not in _MARKS:
        if not any_whole:
            yield f"{held.rstrip()} …"
    elif held.strip():
        yield held


def _check(question: str, options: Iterable[str]) -> None:
    if not question:
        raise BadInput("The question is empty: type what you want to know.")
    if len(question) > _LONGEST_QUESTION:
        raise BadInput(f"The question has {len(question):,} characters; {_LONGEST_QUESTION:,} are the most.")
    known = SamplingChoice.__annotations__
    unknown = [name for name in options if name not in known]
    if unknown:
        raise BadInput(f"There is no option {unknown[0]!r} of asking; there are {', '.join(known)}.")


def completed(question: str, history: Sequence[ChatTurn], lm: "LanguageModel", told: Phrases) -> str:
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
    """True where the catalog lists `language` for the model, or lists none."""
    entry = catalog().get(lm.name)
    return entry is None or not entry.languages or language in (*entry.languages, "und")
