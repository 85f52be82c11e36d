"""A service over a tiny random model, an encoder without weights and a scripted knowledge base; live when asked for."""

import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openai
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1] / "generation"))

from tiny import language_model, tokenizer

from kun.errors import KnowledgeBaseNotFound, ModelNotFound
from kun.knowledge.computing import Computed
from kun.knowledge.passage import Passage
from kun.models.language_model import LanguageModel
from kun.server.app import create_app
from kun.server.service import ModelInfo

DIMENSIONS = 8


class TinyEncoder:
    """Bytes counted into a few numbers."""

    name, dimensions, max_tokens = "tiny-encoder", DIMENSIONS, 64
    recipe = SimpleNamespace(prefixes={"query": "query: ", "passage": "passage: "})

    def __init__(self) -> None:
        self.tokenizer = tokenizer()

    def embed(self, texts: Sequence[str], kind: str | None = None) -> np.ndarray:
        vectors = np.ones((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            for byte in (self.recipe.prefixes.get(kind, "") + text).encode():
                vectors[row, byte % DIMENSIONS] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class TinyJudge:
    """Scores a conversation by how many bytes it has."""

    name, config = "tiny-judge", SimpleNamespace(context_length=512)

    def tokens(self, conversation: Any) -> list[int]:
        text = conversation if isinstance(conversation, str) else repr(conversation)
        return list(text.encode("utf-8", "replace"))

    def score_tokens(self, rows: Sequence[list[int]]) -> np.ndarray:
        return np.array([len(row) for row in rows], np.float32)


class Notes:
    """A knowledge base of two passages, answered from by the model that it is given, or held up by `gate`."""

    passages = (
        Passage("The Kun is a fish.", "fish.md", "Fish", None, 1.5, "1", None),
        Passage("鹏之背，不知其几千里也。", "鹏.pdf", "", 3, np.float32(0.5), "2", None),
    )

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.cancelled = threading.Event()
        self.computed: Computed | None = None

    def ask_stream(self, question: str, lm: LanguageModel, **options: Any) -> "NotesStream":
        self.asked.append({"question": question, **options})
        return NotesStream(self, question)


@dataclass
class NotesStream:
    base: Notes
    question: str
    said: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        for piece in ("A fish [1].", " 一只鸟 [2]。"):
            while not self.base.gate.wait(0.01):
                if self.base.cancelled.is_set():
                    return
            self.said.append(piece)
            yield piece

    def cancel(self) -> None:
        self.base.cancelled.set()

    def answer(self) -> Any:
        if not self.said:
            list(self)
        prompt = [{"role": "user", "content": f"Passages … {self.question}"}]
        return SimpleNamespace(
            text="".join(self.said), passages=list(self.base.passages), prompt=prompt, question=self.question,
            declined=False, quoted=False, computed=self.base.computed,
        )  # fmt: skip


class TinyService:
    """What `kun.server.service.Service` offers to the API."""

    default_model, default_encoder, default_reward = "tiny", "tiny-encoder", "tiny-judge"

    def __init__(self, **changes: Any) -> None:
        self.lm = language_model(name="tiny", **changes)
        self.notes = Notes()
        self._encoder = TinyEncoder()

    def models(self) -> list[ModelInfo]:
        return [ModelInfo("tiny", "decoder")]

    def encoders(self) -> list[ModelInfo]:
        return [ModelInfo("tiny-encoder", "encoder")]

    def knowledge_bases(self) -> list[str]:
        return ["notes"]

    def names(self) -> list[str]:
        return ["tiny", "tiny-encoder", "tiny-judge", "notes@tiny"]

    def loaded(self) -> list[LanguageModel]:
        return [self.lm]

    def language_model(self, name: str | None = None) -> LanguageModel:
        if name not in (None, "tiny"):
            raise ModelNotFound(f"The model {name} is not served here.")
        return self.lm

    def encoder(self, name: str | None = None) -> TinyEncoder:
        if name not in (None, "tiny-encoder"):
            raise ModelNotFound(f"The encoder {name} is not served here.")
        return self._encoder

    def reward_model(self, name: str | None = None) -> TinyJudge:
        if name not in (None, "tiny-judge"):
            raise ModelNotFound(f"The reward model {name} is not served here.")
        return TinyJudge()

    def knowledge_base(self, name: str) -> Notes:
        if name != "notes":
            raise KnowledgeBaseNotFound(f"There is no knowledge base {name}.")
        return self.notes

    def close(self) -> None:
        self.lm.close()


@dataclass
class Live:
    """A server that really listens, and clients for it."""

    service: TinyService
    url: str

    def client(self, **changes: Any) -> openai.OpenAI:
        given = {"api_key": "none", "max_retries": 0, "timeout": 60} | changes
        return openai.OpenAI(base_url=f"{self.url}/v1", **given)

    def wait(self, what: str, value: float, seconds: float = 20) -> None:
        """Until the engine's count `what` is `value`."""
        end = time.monotonic() + seconds
        while self.service.lm.stats()[what] != value:
            assert time.monotonic() < end, f"{what} is {self.service.lm.stats()[what]}, not {value}"
            time.sleep(0.01)


def listening(service: TinyService, api_keys: Sequence[str] = ()) -> Iterator[Live]:
    given: Any = service
    config = uvicorn.Config(
        create_app(given, web=False, api_keys=api_keys), log_level="error", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Live(service, f"http://127.0.0.1:{listener.getsockname()[1]}")
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
