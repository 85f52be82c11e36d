"""A language model that is ready to write: the one way text comes out of Kun."""

import copy
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import nn

from kun.errors import BadInput, Busy, UnsupportedFormat
from kun.generation.engine import Engine
from kun.generation.host import PAGE_SIZE, Host
from kun.generation.options import Messages, Prompt, SamplingOptions, make_options
from kun.generation.prompt import Prompts
from kun.generation.requests import Requests
from kun.generation.results import Completion, Generation, TokenLogprob
from kun.generation.stream import ends_of
from kun.generation.tools import tool_use
from kun.models.kinds import Candidate
from kun.models.ready import TextModel
from kun.networks.family import Family
from kun.networks.missing_head import missing_head
from kun.networks.network import Network
from kun.settings import settings
from kun.text.chat import ChatTemplate
from kun.text.tokenizer import token_bytes

if TYPE_CHECKING:
    from kun.hub.adapter import AdapterCheckpoint
    from kun.hub.checkpoint import Checkpoint


class LanguageModel(TextModel):
    """A decoder with its tokenizer, its chat template and an engine that batches all who call.

    Every method may be called from any thread. `net` is the torch module, `config` its family's config,
    `generation_config` what the checkpoint advises. Unless it is `paced`, prompts are read as fast as can be, whoever
    waits for words meanwhile, and requests that begin together have the same bits whenever they do.
    """

    def __init__(
        self,
        net: nn.Module,
        tokenizer: Tokenizer,
        config: Any = None,
        *,
        template: ChatTemplate | None = None,
        generation_config: Mapping[str, Any] | None = None,
        name: str = "model",
        family: Family | None = None,
        checkpoint: "Checkpoint | None" = None,
        kv_dtype: torch.dtype | None = None,
        max_batch: int | None = None,
        max_queue: int | None = None,
        step_tokens: int = 512,
        reuse: bool = True,
        paced: bool = True,
    ) -> None:
        super().__init__(net, tokenizer, name=name, family=family, checkpoint=checkpoint, template=template)
        self.config = config = config or self.config
        self.generation_config = dict(generation_config or {})
        self._advice = _advice(self.family, self.generation_config)
        self.host = Host(
            net,
            config,
            kv_dtype=kv_dtype,
            max_batch=max_batch,
            max_queue=max_queue,
            step_tokens=step_tokens,
            reuse=reuse,
            paced=paced,
        )
        self.context_length: int = min(config.context_length, self.host.n_pages * PAGE_SIZE)
        self._speak(name, tokenizer, template)

    def _speak(
        self, name: str, tokenizer: Tokenizer, template: ChatTemplate | None, adapter: str | None = None
    ) -> None:
        """Take a name, and the ways from what callers give to tokens and back; rows have the `adapter`."""
        self.name, self.tokenizer, self.template, self.adapter = name, tokenizer, template, adapter
        bos = self.generation_config.get("bos_token_id")
        self._prompts = Prompts(
            tokenizer,
            template,
            vocabulary=self.config.vocab_size,
            limit=self.context_length,
            bos=bos if isinstance(bos, int) else None,
            name=name,
            open_ended=self.family.kind == "decoder",
        )
        self._requests = Requests(
            self.host,
            self._prompts,
            self.context_length,
            ends_of(self.generation_config.get("eos_token_id")),
            adapter,
        )

    @classmethod
    def open(
        cls,
        path_or_name: "str | Path",
        *,
        quantize: str | None = None,
        dtype: "torch.dtype | str | None" = None,
        device: "torch.device | str | None" = None,
    ) -> "LanguageModel":
        """Load a model by its catalog name, its folder or its .gguf file.

        An adapter over quantized weights stands beside them, where its rows can; else it is merged into floats.
        Raises `ModelNotFound`, `DamagedFile`, `UnsupportedFormat`, `BadInput`.
        """
        from kun.hub.pull import locate

        candidate = Candidate(locate(path_or_name))
        if candidate.opened().kind == "encoder":
            raise UnsupportedFormat(
                f"{path_or_name} is a text encoder and writes no text: use a language model."
            )
        return cls.from_candidate(candidate, quantize=quantize, dtype=dtype, device=device)

    @classmethod
    def from_candidate(
        cls,
        candidate: Candidate,
        *,
        quantize: str | None,
        dtype: "torch.dtype | str | None",
        device: "torch.device | str | None",
    ) -> "LanguageModel":
        """The language model of a checkpoint, `open` of what lies at the candidate's path."""
        from kun.hub.adapter import AdapterCheckpoint

        checkpoint = candidate.opened()
        if settings().threads:
            torch.set_num_threads(settings().threads)
        if isinstance(checkpoint, AdapterCheckpoint) and quantize is not None:
            base = cls._of(checkpoint.base, dtype, device, quantize)
            if base.shares_with(checkpoint):
                return base.with_adapter(checkpoint)
        return cls._of(checkpoint, dtype, device, quantize)

    @classmethod
    def _of(
        cls,
        checkpoint: "Checkpoint",
        dtype: "torch.dtype | str | None",
        device: "torch.device | str | None",
        quantize: str | None,
    ) -> "LanguageModel":
        from kun.hub.store import display_name

        net = checkpoint.network(dtype=dtype, device=device, quantize=quantize)
        return cls(
            net,
            checkpoint.tokenizer,
            template=checkpoint.chat_template,
            generation_config=checkpoint.generation_config,
            name=display_name(checkpoint.path),
            family=checkpoint.family,
            checkpoint=checkpoint,
        )

    def shares_with(self, adapter: "AdapterCheckpoint") -> bool:
        """Whether rows with this adapter can run in one step with rows of this model."""
        return self.engine.state.rows_apart and not adapter.whole

    def with_adapter(
        self, adapter: "str | Path | AdapterCheckpoint", name: str | None = None
    ) -> "LanguageModel":
        """This model with an adapter beside its weights, by another name; both share the network, engine and cache.

        Raises `BaseMismatch` for an adapter of other weights, `UnsupportedFormat` for one that cannot be chosen row
        by row, and `DamagedFile`.
        """
        from kun.hub.adapter import AdapterCheckpoint
        from kun.hub.store import display_name

        if not isinstance(adapter, AdapterCheckpoint):
            adapter = AdapterCheckpoint.open(adapter, self._base_checkpoint)
        if not self.shares_with(adapter):
            raise UnsupportedFormat(
                f"{adapter.path} cannot stand beside {self.name} in one step: it replaces whole tensors, or the "
                f"architecture mixes the rows of a step; load it by itself."
            )
        assert isinstance(self.net, Network)
        self.host.add(adapter.identity, adapter.pairs(self.net))
        adapted = copy.copy(self)
        adapted.checkpoint = adapter
        adapted._speak(
            name or display_name(adapter.path), adapter.tokenizer, adapter.chat_template, adapter.identity
        )
        return adapted

    @property
    def _base_checkpoint(self) -> "Checkpoint | None":
        return getattr(self.checkpoint, "base", self.checkpoint)

    # writing

    def generate(
        self, prompt: Prompt | Sequence[Prompt], options: SamplingOptions | None = None, **given: Any
    ) -> Any:
        """The answer to one prompt: a text, messages (through the chat template), or token ids.

        A list of prompts gives a list, and n > 1 a list each. The keywords are the fields of `SamplingOptions`.
        Raises `BadInput`, `ContextOverflow`; `Busy` when others have filled the queue.
        """
        chosen = _options(options, given)
        many = _is_many(prompt)
        prompts: Sequence[Any] = list(prompt) if many else [prompt]
        texts = [[one.text for one in each] for each in self._complete(prompts, chosen)]
        shaped = [each if chosen.n > 1 else each[0] for each in texts]
        return shaped if many else shaped[0]

    def stream(self, prompt: Prompt, options: SamplingOptions | None = None, **given: Any) -> Iterator[str]:
        """The answer in pieces of whole characters. To stop reading is to cancel."""
        chosen = _options(options, given)
        if chosen.n != 1:
            raise BadInput("A stream carries one answer: leave n out, or use generate.")
        if chosen.beams > 1:
            raise BadInput("Beams give whole answers, so that there is nothing to stream: use generate.")
        return _texts(self.submit(prompt, chosen))

    def submit(
        self,
        prompt: Prompt,
        options: SamplingOptions | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        parallel_tool_calls: bool = True,
    ) -> Generation:
        """Queue a prompt and come back at once. `tools` and what is asked of them are those of OpenAI's API.

        Raises `BadInput`, `ContextOverflow`, and `Busy` when the queue is full.
        """
        self._check_head()
        options = (options or SamplingOptions()).filled(self._advice)
        use = tool_use(tools, tool_choice, parallel_tool_calls)
        if use is not None and options.beams > 1:
            raise BadInput("Tools cannot be combined with beams: leave one of them out.")
        if use is not None and options.constrained:
            raise BadInput("Tools and a schema, regex or grammar cannot be asked for at once: choose one.")
        rows = self._requests.writing(prompt, options, use)
        self.engine.submit(rows)
        return rows[0].generation

    def _check_head(self) -> None:
        """Raises `UnsupportedFormat` for a network that was saved without the layer that scores words."""
        missing = missing_head(self.net)
        if missing is not None:
            raise UnsupportedFormat(f"{self.name}: {missing.reason}")

    def _complete(self, prompts: Sequence[Any], options: SamplingOptions) -> list[list[Completion]]:
        """All of them, at most as many at once as the batch holds twice, so that the queue has room for others."""
        running: deque[Generation] = deque()
        done: list[list[Completion]] = []
        try:
            for prompt in prompts:
                while len(running) >= 2 * self.host.max_batch:
                    done.append(running[0].result())
                    running.popleft()
                running.append(self._submit_patiently(prompt, options, running, done))
            while running:
                done.append(running[0].result())
                running.popleft()
        finally:
            for generation in running:
                generation.cancel()
        return done

    def _submit_patiently(
        self, prompt: Any, options: SamplingOptions, running: deque[Generation], done: list[list[Completion]]
    ) -> Generation:
        while True:
            try:
                return self.submit(prompt, options)
            except Busy:
                if not running:
                    raise
                done.append(running[0].result())
                running.popleft()

    # reading

    def render(self, messages: Messages, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The prompt that the chat template makes of `messages`. Raises `BadInput` where there is no template."""
        return self._prompts.render(messages, tools)

    def encode(self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] | None = None) -> list[int]:
        """The token ids that the network would read. Raises `ContextOverflow`, `BadInput`."""
        return self._prompts.encode(prompt, tools=tools).ids

    def count(self, text: str) -> int:
        """How many tokens `text` has, without any that the tokenizer adds."""
        return self._prompts.count(text)

    def prompt_logprobs(self, prompt: Prompt, top: int = 0) -> list[TokenLogprob | None]:
        """For each token of a prompt its log-probability after those before it; None for the first."""
        if isinstance(top, bool) or not 0 <= top <= 100:
            raise BadInput(f"top is {top}; it must be a whole number from 0 to 100.")
        self._check_head()
        row = self._requests.reading(prompt, top)
        if row.scores is None:
            return [None] * len(row.tokens)
        self.engine.submit([row])
        row.generation.result()
        return [None, *row.scores]

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for; part of a character for some."""
        return token_bytes(self.tokenizer, token)

    # the engine

    @property
    def engine(self) -> Engine:
        return self.host.engine

    def stats(self) -> dict[str, float]:
        """running, queued, steps, prompt_tokens, cached_tokens, generated_tokens, tokens_per_s, pages, …"""
        return self.engine.stats()

    def close(self) -> None:
        """Cancel what runs, of those with other adapters too, and free the cache; the next request starts afresh."""
        self.host.close()

    def __enter__(self) -> "LanguageModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _advice(family: Family, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a generation config says where a caller does not; of a text made of another the likeliest is meant."""
    if family.kind == "encoder-decoder" and not said.get("do_sample"):
        return {**said, "temperature": 0.0}
    return said


def _options(options: SamplingOptions | None, given: Mapping[str, Any]) -> SamplingOptions:
    if options is not None and given:
        raise BadInput("Give options as one object or as keywords, not both.")
    return options or make_options(given)


def _is_many(prompt: Any) -> bool:
    """Whether this is a list of prompts: texts, or lists of messages or token ids."""
    if isinstance(prompt, str) or not isinstance(prompt, Sequence):
        return False
    return not prompt or isinstance(prompt[0], str | list | tuple)


def _texts(generation: Generation) -> Iterator[str]:
    try:
        for piece in generation:
            if piece.text:
                yield piece.text
    finally:
        if not generation.done:
            generation.cancel()


def as_language_model(model: object, name: str | Path | None) -> LanguageModel:
    """The model, which must write text. Raises `BadInput` for another one, which was asked for by `name`."""
    if not isinstance(model, LanguageModel):
        raise BadInput(
            f"{name} is no language model and writes no text: name one that is (kun models lists them)."
        )
    return model
