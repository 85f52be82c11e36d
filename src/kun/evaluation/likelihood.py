"""The one scorer: log-likelihoods of continuations, many at once, each beginning read once.

Rows stand packed over a paged cache (Kwon et al., arXiv:2309.06180), so that nothing is padding. What all questions
begin with, such as the solved examples of a few-shot prompt, is run once for all; a question's own part once for
all its answers. An encoder-decoder reads the context as its source.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kun.errors import BadInput
from kun.evaluation.progress import Tell, silent
from kun.networks.decoding import DecodingState, RowState

if TYPE_CHECKING:
    from kun.models.language_model import LanguageModel

PAGE_SIZE = 16
BATCH_TOKENS = 2048
"""Tokens of one step: enough to keep the matrix products busy, few enough to stay in little memory."""
MOST_LOGITS = 2**26
"""Numbers of one step's logits: 256 MB in float32."""


@dataclass(frozen=True)
class Likelihood:
    """The natural log-probability of a continuation of `tokens` tokens, and whether each was the likeliest."""

    logprob: float
    tokens: int
    greedy: bool


@dataclass(frozen=True)
class Question:
    """A context's token ids, and the continuations to be weighed after it; none of them is empty."""

    context: list[int]
    continuations: list[list[int]]

    @property
    def tokens(self) -> int:
        return len(self.context) + sum(map(len, self.continuations))


@dataclass(eq=False)
class _Row:
    """A row of a step: `tokens` to run after the `cached` ones; `follow[i]` are the tokens asked for after
    `tokens[first + i]`, and `found` is each one's log-probability and whether it is the likeliest."""

    state: RowState
    table: list[int]
    tokens: list[int]
    cached: int
    first: int = 0
    follow: list[list[int]] = field(default_factory=list)
    done: int = 0
    found: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.done

    def wanted(self, count: int) -> range:
        """The places among the next `count` tokens whose logits are asked for."""
        return range(max(self.done, self.first), min(self.done + count, self.first + len(self.follow)))


class Scorer:
    """Weighs continuations with a language model. Raises `BadInput` for one that reads a text only as a whole."""

    def __init__(self, lm: "LanguageModel", batch_tokens: int = BATCH_TOKENS) -> None:
        self._lm, self._batch_tokens = lm, batch_tokens
        self._net = lm.host.network()
        self._cache_dtype = next(
            (p.dtype for p in lm.net.parameters() if p.is_floating_point()), torch.float32
        )
        self._device = next((p.device for p in lm.net.parameters()), torch.device("cpu"))
        self.reads_source = lm.family.kind == "encoder-decoder"
        self.longest: int = lm.config.context_length
        start = self._state(1).start([0])
        if start.rereads or not start.keeps:
            raise BadInput(
                f"{lm.name} reads a text as a whole: it weighs no continuations, choose another model."
            )

    # texts to tokens

    @property
    def begin(self) -> int | None:
        """The token that a text begins with where nothing else stands before it: bos, or eos as in GPT-2."""
        lm = self._lm
        for name in ("bos_token", "eos_token"):
            token = lm.generation_config.get(f"{name}_id")
            token = token[0] if isinstance(token, list) and token else token
            if isinstance(token, int):
                return token
        named = lm.checkpoint.special_tokens if lm.checkpoint else {}
        tokens = (lm.tokenizer.token_to_id(named.get(name, "")) for name in ("bos_token", "eos_token"))
        return next((token for token in tokens if token is not None), None)

    def opening(self, text: str) -> str:
        """The part of a text that its first token stands for."""
        end: int = self._lm.tokenizer.encode(text, add_special_tokens=False).offsets[0][1]
        return text[:end]

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The token ids of a text; `special` with what the tokenizer puts before it (around it, for a source)."""
        encoding = self._lm.tokenizer.encode(text, add_special_tokens=special)
        ids: list[int] = encoding.ids
        if special and not self.reads_source and 0 in encoding.special_tokens_mask:
            ids = ids[: len(ids) - encoding.special_tokens_mask[::-1].index(0)]
        return ids

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Both as token ids. Tokens may reach over the seam, so both are cut together; spaces go with what follows.

        This is what lm-eval does. Raises `BadInput` for a continuation without a token.
        """
        kept = context.rstrip()
        continuation, context = context[len(kept) :] + continuation, kept
        if self.reads_source:
            before, after = self.encode(context), self.encode(continuation, special=False)
        else:
            before = self.encode(context) if context else []
            after = self.encode(context + continuation)[len(before) :]
            if not before:
                if self.begin is None:
                    raise BadInput(f"The context is empty, and {self._lm.name} has no token to begin with.")
                before = [self.begin]
        if not after:
            raise BadInput(f"The answer {continuation!r} has no token of its own, so it cannot be weighed.")
        return before, after

    def room(self, continuation: int) -> int:
        """The number of context tokens that fit before a continuation of so many, whose last one is not run."""
        return self.longest if self.reads_source else self.longest + 1 - continuation

    # tokens to log-probabilities

    def weigh(self, questions: Sequence[Question], tell: Tell = silent) -> list[list[Likelihood]]:
        """For each question the likelihood of each of its continuations.

        Contexts must leave room for the longest of them (see `room`).
        """
        order = sorted(range(len(questions)), key=lambda place: -questions[place].tokens)
        shared = self._shared(questions)
        batches = list(self._batches(questions, order))
        pages = len(shared) // PAGE_SIZE
        state = self._state(pages + max((_pages(questions, b, len(shared)) for b in batches), default=1))
        found: list[list[Likelihood]] = [[] for _ in questions]
        done = 0
        with torch.inference_mode():
            if shared:
                self._run(state, [_Row(state.start(shared), list(range(pages)), shared, 0)])
            for batch in batches:
                weighed = self._weigh(state, [questions[place] for place in batch], pages)
                for place, likelihoods in zip(batch, weighed, strict=True):
                    found[place] = likelihoods
                done += len(batch)
                tell(done, len(questions))
        return found

    def _state(self, n_pages: int) -> DecodingState:
        new_state: Any = self._lm.net.new_state
        state: DecodingState = new_state(n_pages, PAGE_SIZE, self._cache_dtype, self._device)
        return state

    def _shared(self, questions: Sequence[Question]) -> list[int]:
        """Whole pages that all contexts begin with; at least one token is left to each."""
        if len(questions) < 2 or self.reads_source:
            return []
        first, last = min(q.context for q in questions), max(q.context for q in questions)
        shortest = min(len(question.context) for question in questions) - 1
        pairs = zip(first, last, strict=False)
        common = next((n for n, (one, other) in enumerate(pairs) if one != other), shortest)
        start = self._state(1).start(first)
        if start.prefix or start.root != b"" or start.tokens != first:
            return []  # what stands in a page depends on more than the tokens up to it
        return first[: min(common, shortest) // PAGE_SIZE * PAGE_SIZE]

    def _batches(self, questions: Sequence[Question], order: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        total = 0
        for place in order:
            if batch and total + questions[place].tokens > self._batch_tokens:
                yield batch
                batch, total = [], 0
            batch.append(place)
            total += questions[place].tokens
        if batch:
            yield batch

    def _weigh(self, state: DecodingState, questions: list[Question], shared: int) -> list[list[Likelihood]]:
        """A batch: contexts each with its first continuation, then the other continuations after the contexts."""
        free = iter(range(shared, state.cache.n_pages))
        firsts = [self._first(state, question, shared, free) for question in questions]
        self._run(state, firsts)
        others = [
            [
                self._other(state, row, question, place, free)
                for place in range(1, len(question.continuations))
            ]
            for row, question in zip(firsts, questions, strict=True)
        ]
        self._run(state, [row for rows in others for row in rows if row.tokens])
        return [
            _likelihoods(question, row, rest)
            for question, row, rest in zip(questions, firsts, others, strict=True)
        ]

    def _first(self, state: DecodingState, question: Question, shared: int, free: Iterator[int]) -> _Row:
        start = state.start(question.context)
        first = question.continuations[0]
        tokens = [*start.tokens, *first[:-1]]
        cached = shared * PAGE_SIZE
        follow = [[each[0] for each in question.continuations], *([token] for token in first[1:])]
        table = list(range(shared))
        table += [next(free) for _ in range(_whole(len(tokens)) - shared)]
        return _Row(start, table, tokens[cached:], cached, len(start.tokens) - 1 - cached, follow)

    def _other(
        self, state: DecodingState, first: _Row, question: Question, place: int, free: Iterator[int]
    ) -> _Row:
        """A continuation in pages of its own, after a copy of the context's last page where that is not full."""
        tokens = question.continuations[place][:-1]
        cached = first.cached + first.first + 1
        whole, rest = divmod(cached, PAGE_SIZE)
        table = first.table[:whole]
        table += [next(free) for _ in range(_whole(cached + len(tokens)) - whole if tokens else 0)]
        if rest and tokens:
            state.cache.copy(first.table[whole], table[whole])
        follow = [[token] for token in question.continuations[place][1:]]
        return _Row(first.state, table, tokens, cached, 0, follow)

    def _run(self, state: DecodingState, rows: list[_Row]) -> None:
        """All tokens of all rows, in as many steps as tokens and logits ask for."""
        while any(row.pending for row in rows):
            plan = list(self._plan(rows))
            step = state.step(
                [row.state for row, _ in plan],
                [row.table for row, _ in plan],
                [row.cached + row.done for row, _ in plan],
                [count for _, count in plan],
            )
            step.adapters = [self._lm.adapter] * len(plan)
            packed = [token for row, count in plan for token in row.tokens[row.done : row.done + count]]
            places, starts = [], 0
            for row, count in plan:
                places += [starts + place - row.done for place in row.wanted(count)]
                starts += count
            ids = torch.tensor([packed], device=self._device)
            logits = self._net(
                ids, cache=step, logits_at=torch.tensor(places or [0], device=self._device)
            ).logits[0]
            for row, count in plan:
                wanted = row.wanted(count)
                follow = row.follow[wanted.start - row.first : wanted.stop - row.first] if wanted else []
                row.found += _logprobs(logits[: len(wanted)], follow)
                logits = logits[len(wanted) :]
                row.done += count

    def _plan(self, rows: Sequence[_Row]) -> Iterator[tuple[_Row, int]]:
        """Which rows run how many tokens in the next step; what must be run at once is, whatever it takes."""
        budget, asked = self._batch_tokens, max(1, MOST_LOGITS // self._lm.config.vocab_size)
        taken = False
        for row in rows:
            at_once = max(1, row.state.prefix - row.cached - row.done)
            count = min(row.pending, budget)
            over = len(row.wanted(count)) - asked
            count -= max(0, over)
            if not row.pending or (count < at_once and taken):
                continue
            count = max(count, at_once)
            yield row, count
            taken = True
            budget, asked = max(0, budget - count), max(0, asked - len(row.wanted(count)))


def _pages(questions: Sequence[Question], batch: Sequence[int], shared: int) -> int:
    """At most so many pages does a batch take beside the shared ones; a family may add tokens to a context."""
    count = 0
    for question in (questions[place] for place in batch):
        first, *others = map(len, question.continuations)
        count += _whole(len(question.context) - shared + first + PAGE_SIZE)
        count += sum(_whole(length + PAGE_SIZE) for length in others)
    return count


def _whole(tokens: int) -> int:
    """Pages for so many tokens."""
    return -(-tokens // PAGE_SIZE)


def _logprobs(logits: Tensor, follow: Sequence[Sequence[int]]) -> list[tuple[float, bool]]:
    """For each token asked for after a row of logits [n, vocabulary]: its log-probability, and if it is the first."""
    if not follow:
        return []
    logits = logits.float()
    rows = torch.tensor([row for row, tokens in enumerate(follow) for _ in tokens], device=logits.device)
    tokens = torch.tensor([token for asked in follow for token in asked], device=logits.device)
    chosen = logits[rows, tokens] - logits.logsumexp(dim=-1)[rows]
    likeliest = logits.argmax(dim=-1)[rows] == tokens
    return list(zip(chosen.double().tolist(), likeliest.tolist(), strict=True))


def _likelihoods(question: Question, first: _Row, others: Sequence[_Row]) -> list[Likelihood]:
    """Scores after the context belong to every continuation's first token, in their order."""
    n = len(question.continuations)
    rests = [first.found[n:], *(row.found for row in others)]
    each = [[begun, *rest] for begun, rest in zip(first.found[:n], rests, strict=True)]
    return [
        Likelihood(sum(logprob for logprob, _ in found), len(found), all(greedy for _, greedy in found))
        for found in each
    ]
