"""From a message to an answer: understand it, find passages, show sections, let the model write, and check that."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

from kun.errors import BadInput
from kun.hub.catalog import catalog
from kun.knowledge.adding import EncoderLike
from kun.knowledge.answering.agreeing import correction
from kun.knowledge.answering.asking import asking, further_searches, request
from kun.knowledge.answering.checking import Checker
from kun.knowledge.answering.crossing import (
    Rendering,
    may_be_across,
    other_language,
    surer,
    together,
    translated,
)
from kun.knowledge.answering.declining import likelihood
from kun.knowledge.answering.evidence import Evidence
from kun.knowledge.answering.identifiers import identifiers, nearest, spellings
from kun.knowledge.answering.looking import Look, is_of, look, with_named
from kun.knowledge.answering.phrases import Phrases, declined, phrases, unknown
from kun.knowledge.answering.policy import POLICY, Policy
from kun.knowledge.answering.prompting import Reading, reading
from kun.knowledge.answering.quoting import quotes
from kun.knowledge.answering.stream import AnswerStream
from kun.knowledge.answering.understanding import ChatTurn, completed, kind_of
from kun.knowledge.answering.units import Unit
from kun.knowledge.answering.writing import Writer, cited
from kun.knowledge.computation.sheets import Computable, Named
from kun.knowledge.computing import Computed, compute
from kun.knowledge.orders import without_orders
from kun.knowledge.passage import Passage
from kun.knowledge.rows import StoredText
from kun.text.language import language_of

if TYPE_CHECKING:
    from kun.generation.options import SamplingOptions
    from kun.models.language_model import LanguageModel


_PLACES = 5
"""Places of a word that are read for orders around them."""


class SamplingChoice(TypedDict, total=False):
    """The options of generation that asking takes."""

    max_tokens: int
    temperature: float | None
    top_p: float | None
    seed: int | None


class Searchable(Computable, Protocol):
    """The part of a knowledge base that answering uses."""

    @property
    def encoder(self) -> EncoderLike: ...


class _Within:
    """The documents of a base that an asker keeps to."""

    def __init__(self, base: Searchable, allowed: Sequence[str]) -> None:
        self._base, self._allowed = base, allowed

    def search(self, query: str, k: int = 5, sources: Sequence[str] | None = None) -> list[Passage]:
        return self._base.search(query, k, sources or self._allowed)

    def text_of(self, source: str) -> StoredText:
        return self._base.text_of(source)

    def sources(self) -> Sequence[Named]:
        """None by their names: what is looked in was chosen already."""
        return []


class Answerer:
    """Answers questions from `base` with `lm`, by `policy`."""

    def __init__(self, base: Searchable, lm: "LanguageModel", policy: Policy = POLICY) -> None:
        self._base, self._lm, self._policy = base, lm, policy

    def stream(
        self,
        question: str,
        history: Sequence[ChatTurn] = (),
        k: int | None = None,
        sources: Sequence[str] | None = None,
        **options: Unpack[SamplingChoice],
    ) -> AnswerStream:
        """Answer `question`; `history` is the conversation so far, `options` go to the model.

        Raises `BadInput` for an empty question or an unknown option, and what searching and generating raise.
        """
        from kun.generation.options import make_options

        question = question.strip()
        self._check(question, options)
        chosen: SamplingChoice = {"max_tokens": self._policy.answer_tokens, "temperature": 0.0}
        sampling = make_options(chosen | options)
        language = language_of(question)
        told = phrases(language)
        kind = kind_of(question)
        if kind in ("greeting", "thanks"):
            return _saying(question, told.greeting if kind == "greeting" else told.thanks)
        if kind == "about_last":
            return self._about_last(question, history, told, sampling)
        complete = completed(question, history, self._lm, told, self._policy)
        found = self._found(complete, k or self._policy.found, sources)
        named = {one: self._holding(one, sources) for one in self._asked(complete)}
        missing = self._missing([one for one in named if not named[one]], complete, found)
        if missing:
            return _declining(complete, missing)
        looked_in = self._base if sources is None else _Within(self._base, sources)
        computed = compute(complete, looked_in, found)
        if computed is not None and _is_sure(computed, language):
            return _calculated(complete, computed)
        holding = [one for holders in named.values() for one in holders]
        first, tokens = self._policy.shown_passages, sampling.max_tokens
        home = self._look(complete, with_named(complete, holding, found, first), told, tokens)
        theirs = self._in_their_language(complete, home, [*holding, *found], computed is not None)
        if not theirs:
            return _calculated(complete, computed) if computed else self._from_look(complete, home, sampling)
        render = Rendering(complete, told, self._lm, self._policy)
        spoken = other_language(language)
        there = self._found(theirs, k or self._policy.found, sources)
        computed = compute(theirs, looked_in, there)
        if computed is not None and all(is_of(one, spoken) for one in computed.passages):
            return _calculated(complete, computed, render)
        there = together(*([one for one in each if is_of(one, spoken)] for each in (there, found)))
        there = with_named(theirs, [one for one in holding if is_of(one, spoken)], there, first)
        away = self._look(theirs, there, phrases(spoken), tokens)
        sure = surer(away, home, self._lm, self._policy) if away else 0.0
        if away is None or not sure:
            return self._from_look(complete, home, sampling)
        if sure < self._policy.likely_across and not away.names:
            return _declining(complete, declined(complete, told))
        return self._from_look(complete, away, sampling, render, sure)

    def _found(self, question: str, k: int, sources: Sequence[str] | None) -> list[Passage]:
        """The best passages of the search for a question and of its further ones in turn, each once."""
        lists = [self._base.search(one, k, sources) for one in (question, *further_searches(question))]
        merged: dict[tuple[str, int, str], Passage] = {}
        for one in chain.from_iterable(zip_longest(*lists)):
            if one:
                merged.setdefault((one.source, one.start, one.text), one)
        return list(merged.values())

    def _check(self, question: str, options: Iterable[str]) -> None:
        if not question:
            raise BadInput("The question is empty: type what you want to know.")
        if len(question) > self._policy.longest_question:
            raise BadInput(
                f"The question has {len(question):,} characters; {self._policy.longest_question:,} are the most."
            )
        known = SamplingChoice.__annotations__
        unknown_options = [name for name in options if name not in known]
        if unknown_options:
            raise BadInput(
                f"There is no option {unknown_options[0]!r} of asking; there are {', '.join(known)}."
            )

    def _about_last(
        self, request: str, history: Sequence[ChatTurn], told: Phrases, sampling: "SamplingOptions"
    ) -> AnswerStream:
        """The last answer, worked on as asked from its text alone: nothing is searched."""
        from kun.knowledge.answering.writing import without_citations

        last = next((turn["content"] for turn in reversed(history) if turn.get("role") == "assistant"), "")
        if not last:
            return _saying(request, told.no_last)
        asked = told.about_last.format(answer=without_citations(last), request=request)
        prompt: list[ChatTurn] = [{"role": "user", "content": asked}]

        def write(stream: AnswerStream) -> Iterator[str]:
            for piece in stream.running(self._lm.submit(prompt, sampling)):
                yield piece.text

        return AnswerStream(request, [], prompt, write)

    def _asked(self, question: str) -> list[str]:
        return identifiers(question)[: self._policy.checked_identifiers]

    def _holding(self, identifier: str, sources: Sequence[str] | None) -> list[Passage]:
        """The best passages in which an identifier stands, however it is spelled."""
        for spelling in spellings(identifier):
            best = self._base.search(spelling, self._policy.named, sources)
            if holding := [one for one in best if one.reasons and one.reasons.exact]:
                return holding
        return []

    def _missing(self, missing: list[str], question: str, found: Sequence[Passage]) -> str:
        """The sentence that says which identifiers of a question stand nowhere; "" where all do."""
        if not missing:
            return ""
        sources_found = dict.fromkeys(one.source for one in found)
        texts = [self._base.text_of(source).text for source in sources_found]
        alike = dict.fromkeys(other for one in missing for other in nearest(one, texts))
        near = [one for one in alike if any(_is_evidence(one, text) for text in texts)]
        if not near and any(" " in one for one in missing):
            missing = [
                one for one in missing if " " not in one
            ]  # "Claude 3": a name, and no series of numbers
        return unknown(missing, near, phrases(language_of(question))) if missing else ""

    def _in_their_language(
        self, question: str, home: Look | None, found: Sequence[Passage], in_doubt: bool
    ) -> str:
        """The question in the other language, where documents in that may answer it; "" else."""
        language = language_of(question)
        other = other_language(language)
        if not other or not speaks(self._lm, language) or not speaks(self._lm, other):
            return ""
        if not in_doubt and not may_be_across(home, found, language, self._policy):
            return ""
        return translated(question, other, self._lm, self._policy)

    def _look(self, question: str, found: Sequence[Passage], told: Phrases, tokens: int) -> Look | None:
        return look(question, found, told, self._base, self._lm, self._policy, tokens)

    def _from_look(
        self,
        question: str,
        seen: Look | None,
        sampling: "SamplingOptions",
        render: Rendering | None = None,
        sure: float = 0.0,
    ) -> AnswerStream:
        """An answer from what is shown.

        `render` puts it into the language of `question`, which is another one; `sure` is the probability that it is
        answered, where that is known.
        """
        lm, policy = self._lm, self._policy
        told = phrases(language_of(question))
        if seen is None:
            return _declining(question, declined(question, told))
        fluent = speaks(lm, seen.told.language)
        likely = sure or likelihood(
            question, seen.passages, seen.evidence, lm if fluent else None, told, policy
        )
        read = reading(seen.question, seen.passages, seen.told)
        if likely < policy.likely and not seen.names:
            return _declining(question, declined(question, told))
        writing = _Writing(question, read, seen.units, seen.evidence, likely, told, policy)
        checker = Checker(
            seen.question,
            seen.units,
            policy,
            seen.meaning.near,
            identifiers(seen.question),
            likely < policy.doubtful,
        )
        writer = Writer(checker, seen.told, policy, render)

        def write(stream: AnswerStream) -> Iterator[str]:
            if fluent:
                yield from writing.written(stream, lm, sampling, writer)
            else:
                yield from writing.quoted(stream)

        wanted = request(seen.question, seen.told.answer)
        if render is not None:  # a word or two can be checked in one language, but not be put into another
            wanted += seen.told.whole
        return AnswerStream(question, seen.passages, read.asking(wanted), write)


class _Writing:
    """One answer from passages as it comes about."""

    def __init__(
        self,
        question: str,
        read: Reading,
        units: Sequence[Unit],
        evidence: Sequence[Evidence],
        likely: float,
        told: Phrases,
        policy: Policy,
    ) -> None:
        self._question, self._read, self._units, self._evidence = question, read, units, evidence
        self._likely, self._told, self._policy = likely, told, policy

    def written(
        self, stream: AnswerStream, lm: "LanguageModel", sampling: "SamplingOptions", writer: Writer
    ) -> Iterator[str]:
        """The model's sentences that passages carry; written once more where the first failed; else quotes."""
        yield from writer.write(stream.running(lm.submit(stream.prompt, sampling)), skipping=False)
        if writer.given or stream.stopped:
            return
        if not writer.declined or self._likely >= self._policy.insist:
            best = "\n".join(f"- {one.unit.text}" for one in self._pointed_to())
            again = self._read.asking(writer.told.again.format(text=best))
            yield from writer.write(stream.running(lm.submit(again, sampling)), skipping=True)
        if writer.given or stream.stopped:
            return
        denied = self._correction()
        if denied is not None:
            stream.quoted = True
            yield cited(denied[0], denied[1].place)
        elif self._likely < self._policy.sure:
            stream.declined = True
            yield declined(self._question, self._told)
        else:
            yield from self.quoted(stream)

    def _pointed_to(self) -> list[Evidence]:
        """The units that bear most on the question, those first that may hold the condition it asks for."""
        most = self._policy.again
        form = asking(self._question)
        return sorted(self._evidence[: 2 * most], key=lambda one: not form.fits(one.unit.text))[:most]

    def _correction(self) -> tuple[str, Unit] | None:
        if asking(self._question).form != "yes_no":
            return None
        return correction(self._question, self._evidence, self._policy.corrects)

    def quoted(self, stream: AnswerStream) -> Iterator[str]:
        stream.quoted = True
        yield self._told.quotes
        for text, place in quotes(self._question, self._evidence, self._units, self._policy):
            yield f"\n> {text} [{place + 1}]"


def _is_evidence(word: str, text: str) -> bool:
    """True for a word that is in a text, and not in orders alone; the first places are looked at."""
    places = islice(re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text), _PLACES)
    return any(word in without_orders(text, *place.span()) for place in places)


def _saying(question: str, text: str) -> AnswerStream:
    """An answer that needs neither documents nor a model."""
    return AnswerStream(question, [], [], lambda stream: iter([text]))


def _calculated(question: str, computed: Computed, render: Rendering | None = None) -> AnswerStream:
    """An answer that was calculated: no model wrote it, only `render` puts it into another language."""

    def write(stream: AnswerStream) -> Iterator[str]:
        stream.computed, stream.declined = computed, computed.declined
        yield computed.text if render is None else render.cited(computed.text)

    return AnswerStream(question, list(computed.passages), [], write)


def _declining(question: str, text: str) -> AnswerStream:
    def write(stream: AnswerStream) -> Iterator[str]:
        stream.declined = True
        yield text

    return AnswerStream(question, [], [], write)


def _is_sure(computed: Computed, language: str) -> bool:
    """False for a single row of another language that was counted: what is asked of it may be in a column."""
    counted = str(computed.program.get("operation", "")).startswith("count")
    single = counted and re.match(r"1[.。]", computed.text) is not None
    return not single or all(is_of(one, language) for one in computed.passages)


def speaks(lm: "LanguageModel", language: str) -> bool:
    """True where the catalog lists `language` for the model, or lists none."""
    entry = catalog().get(lm.name)
    return entry is None or not entry.languages or language in (*entry.languages, "und")
