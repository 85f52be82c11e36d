"""From a prompt and what a caller asks of it to the rows that the engine runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

from kun.errors import BadInput, ContextOverflow
from kun.generation.beams import BeamSearch
from kun.generation.calls import ToolCalls
from kun.generation.constraint import Constrainer
from kun.generation.host import PAGE_SIZE, Host
from kun.generation.options import Prompt, SamplingOptions
from kun.generation.prompt import Encoded, Prompts, answered, results_first
from kun.generation.results import Generation
from kun.generation.row import EngineRow
from kun.generation.sampling import Sampler
from kun.generation.stream import TextStream
from kun.generation.tools import ToolUse
from kun.networks.decoding import RowState


class Requests:
    """Makes rows for one model, or for one `adapter` beside its weights; `ends` are the tokens that end an answer."""

    def __init__(
        self, host: Host, prompts: Prompts, context_length: int, ends: frozenset[int], adapter: str | None
    ) -> None:
        self.host, self.prompts, self.context_length = host, prompts, context_length
        self._ends, self._adapter = ends, adapter
        self._constrainer = Constrainer(prompts.tokenizer, prompts.vocabulary, sorted(ends))

    def writing(self, prompt: Prompt, options: SamplingOptions, use: ToolUse | None) -> list[EngineRow]:
        """The rows of one generation: one for each of the n answers, or the root of a search.

        Raises `BadInput`, `ContextOverflow`.
        """
        self._check_tokens(options)
        encoded = self._encode(prompt, options, use)
        state = self._begin(encoded.ids)
        generation = Generation(len(encoded.ids), options.n, encoded.truncated)
        if options.beams > 1:
            return [self._search(generation, state, options).root]
        if use is not None and use.mode == "auto":
            use = replace(use, answered=answered(prompt))
        rows = self._rows(generation, state, options, use)
        if use is not None and use.answered:
            # small models that see a call in the conversation write it again: then they get its result alone
            told = self._encode(results_first(prompt), options, None)
            plain = self._rows(generation, self._begin(told.ids), options, None)
            for row, instead in zip(rows, plain, strict=True):
                row.instead = instead
        return rows

    def reading(self, prompt: Prompt, top: int) -> EngineRow:
        """A row whose `scores` will be the log-probabilities of the prompt's tokens, of its second and all after it.

        There is nothing to run, and `scores` is None, for a prompt of fewer than two. Unlike a prompt to be continued,
        one that is only read may fill the context. Raises `BadInput`, `ContextOverflow`.
        """
        ids = self.prompts.encode(prompt).ids
        generation, sampler = Generation(len(ids), 1), Sampler(SamplingOptions(), [])
        if len(ids) < 2:
            return EngineRow(generation, 0, RowState(ids), sampler, None, len(ids))
        state = self._begin(ids)
        if state.tokens != ids or state.prefix or state.rereads or not state.keeps:
            raise BadInput(
                f"{self.prompts.name} reads a prompt as a whole: its tokens have no log-probabilities."
            )
        return EngineRow(generation, 0, state, sampler, None, len(ids), scores=[], top=top)

    def _rows(
        self, generation: Generation, state: RowState, options: SamplingOptions, use: ToolUse | None
    ) -> list[EngineRow]:
        """A row for each of the n answers."""
        constraint = self._constrainer.of(options, use)
        limit = self._limit(state, options)
        rows = []
        for index in range(options.n):
            calls = ToolCalls(use) if use else None
            stream = TextStream(index, self.prompts.tokenizer, options, self._ends, calls)
            sampler = Sampler(options, state.tokens, index, constraint.fresh() if constraint else None)
            rows.append(EngineRow(generation, index, state, sampler, stream, limit))
        return rows

    def _search(self, generation: Generation, state: RowState, options: SamplingOptions) -> BeamSearch:
        limit = self._limit(state, options)
        self._check_beams(options, state, limit)
        streams = [
            TextStream(index, self.prompts.tokenizer, options, self._ends) for index in range(options.n)
        ]
        root = EngineRow(generation, 0, state, Sampler(options, state.tokens), None, limit)
        return BeamSearch(root, options, streams)

    def _limit(self, state: RowState, options: SamplingOptions) -> int:
        """How many tokens a row may have. Raises `ContextOverflow` where what it keeps besides leaves no room."""
        room = (self.host.n_pages - -(-state.beside // PAGE_SIZE)) * PAGE_SIZE
        if room <= len(state.tokens):
            raise ContextOverflow(
                f"The source has {state.beside} tokens, which leave no room in the cache of {self.host.n_pages} "
                f"pages of {PAGE_SIZE}: shorten it, or raise KUN_MAX_KV_CACHE_BYTES."
            )
        return min(len(state.tokens) + options.max_tokens, self.context_length, room)

    def _begin(self, ids: Sequence[int]) -> RowState:
        """How a row begins; pages that were filled with an adapter serve only rows with the same."""
        state = self.host.engine.state.start(ids)
        state.adapter = self._adapter
        if self._adapter is not None and state.root is not None:
            state.root = blake2b(state.root + self._adapter.encode(), digest_size=16).digest()
        return state

    def _check_beams(self, options: SamplingOptions, state: RowState, limit: int) -> None:
        """All beams run at once, so that there must be room for them, if need be without any other row."""
        if options.beams > self.host.max_batch:
            raise BadInput(
                f"{options.beams} beams are more than the {self.host.max_batch} rows that run at once: ask for fewer, "
                f"or raise KUN_MAX_BATCH."
            )
        kept = len(state.tokens) - state.rereads if state.keeps else 0
        shared = max(0, kept) // PAGE_SIZE
        pages = shared + options.beams * (-(-limit // PAGE_SIZE) - shared) + 1 + -(-state.beside // PAGE_SIZE)
        if pages > self.host.n_pages:
            raise BadInput(
                f"{options.beams} beams of up to {limit} tokens do not fit in the cache of {self.host.n_pages} pages "
                f"of {PAGE_SIZE}: lower beams or max_tokens, or raise KUN_MAX_KV_CACHE_BYTES."
            )

    def _encode(self, prompt: Prompt, options: SamplingOptions, use: ToolUse | None) -> Encoded:
        if use is not None and (isinstance(prompt, str) or not _is_chat(prompt)):
            raise BadInput("Tools need messages, not a bare text: send a list of messages.")
        room = min(options.max_tokens, self.context_length // 4)
        tools = use.described if use else None
        return self.prompts.encode(prompt, tools=tools, room=room, truncate=options.truncate)

    def _check_tokens(self, options: SamplingOptions) -> None:
        vocabulary = self.prompts.vocabulary
        beyond = [token for token in options.logit_bias if token >= vocabulary]
        if beyond:
            raise BadInput(f"logit_bias names token {beyond[0]}; this model has {vocabulary}.")


def _is_chat(prompt: Prompt) -> bool:
    return isinstance(prompt, Sequence) and bool(prompt) and isinstance(prompt[0], Mapping)
