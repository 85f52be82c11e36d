"""A service whose models answer from a script: what the web app shows is then known to the letter."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_models import LLAMA, byte_level_tokenizer, network

from kun.errors import KnowledgeBaseNotFound, KunError, ModelNotFound, NotFound
from kun.generation.results import Progress
from kun.knowledge.passage import Passage, Reasons
from kun.knowledge.rows import Table
from kun.knowledge.topics import Topics, topics_of
from kun.wordvectors.vectors import WordVectors

ANSWER = "Deep water holds **great** fish.\n\n```python\nprint('kun')\n```\n\nThat is all there is to say."


class FakeGeneration:
    def __init__(self, text: str, delay: float, calls: Sequence[tuple[str, dict[str, Any]]] = ()) -> None:
        self._text, self._delay, self._stopped = text, delay, threading.Event()
        self._calls = [
            {"id": str(n), "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(calls)
        ]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self._text), 4):
            if self._stopped.wait(self._delay):
                return
            yield SimpleNamespace(text=self._text[start : start + 4], finish_reason=None, tool_calls=())
        yield SimpleNamespace(text="", finish_reason="stop", tool_calls=self._calls)

    @property
    def progress(self) -> Progress:
        """Half of a prompt of some length, until the first words."""
        return Progress(None, 1000, 2000, 0)

    def cancel(self) -> None:
        self._stopped.set()


class FakeModel:
    """Answers `answers[question]`, else `ANSWER` and how often it was asked.

    With tools it makes the calls of `calls[question]` first, and answers with their results.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: dict[str, str | KunError] = {}
        self.calls: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.offered: list[list[str]] = []
        self.delay = 0.005
        self.asked: list[list[dict[str, str]]] = []

    def answer_to(self, question: str) -> str:
        answer = self.answers.get(question, f"{ANSWER} ({len(self.asked)})")
        if isinstance(answer, KunError):
            raise answer
        return answer

    def submit(self, messages: list[dict[str, str]], options: Any = None, **given: Any) -> FakeGeneration:
        self.asked.append(messages)
        tools = [tool["function"]["name"] for tool in given.get("tools") or ()]
        self.offered.append(tools)
        read = [message["content"] for message in messages if message["role"] == "tool"]
        if read:
            return FakeGeneration(f"I read: {' | '.join(read)}", self.delay)
        calls = self.calls.get(messages[-1]["content"], ())
        if calls and tools:
            return FakeGeneration("", self.delay, calls)
        return FakeGeneration(self.answer_to(messages[-1]["content"]), self.delay)

    def render(self, messages: list[dict[str, str]], tools: Any = None) -> str:
        return "".join(f"<|{m['role']}|>{m['content']}\n" for m in messages)

    def count(self, text: str) -> int:
        return max(1, len(text) // 4)


class FakeStream:
    def __init__(self, question: str, text: str, passages: list[Passage], delay: float) -> None:
        self.passages, self.question = passages, question
        self.prompt = [{"role": "user", "content": f"Passages: {len(passages)}. {question}"}]
        self._text, self._generation = text, FakeGeneration(text, delay)

    def __iter__(self) -> Iterator[str]:
        return (piece.text for piece in self._generation)

    def cancel(self) -> None:
        self._generation.cancel()

    def answer(self) -> Any:
        declined = self._text.startswith("The documents do not")
        computed = SimpleNamespace(calculation="2 + 2 = 4") if self.question.startswith("How many") else None
        return SimpleNamespace(
            text=self._text, passages=self.passages, declined=declined, quoted=False, computed=computed
        )


@dataclass
class FakeBase:
    """Whole files as passages, found when they hold a word of the query."""

    name: str
    path: Path
    documents: dict[str, str] = field(default_factory=dict)
    is_cut_as_before: bool = False

    @property
    def uploads(self) -> Path:
        return self.path / "uploads"

    def add(self, *paths: Path, progress: Callable[..., None] | None = None) -> Any:
        report = SimpleNamespace(added=[], replaced=[], removed=[], unchanged=[], failed={}, skipped={})
        for place, path in enumerate(paths):
            if progress:
                progress("adding", place, len(paths), path.name)
            text = path.read_bytes()
            if b"\0" in text or not text:
                report.failed[path.name] = "it holds no text"
                continue
            (report.replaced if path.name in self.documents else report.added).append(path.name)
            self.documents[path.name] = text.decode("utf-8", "replace")
        return report

    def remove(self, *sources: str) -> list[str]:
        import fnmatch

        gone = [name for name in self.documents if any(fnmatch.fnmatchcase(name, s) for s in sources)]
        for name in gone:
            del self.documents[name]
        return gone

    def sources(self) -> list[Any]:
        return [
            SimpleNamespace(
                name=name,
                bytes=len(text.encode()),
                passages=1,
                added_at="2026-11-24T02:00:00+00:00",
                digest="",
            )
            for name, text in sorted(self.documents.items())
        ]

    def topics(self, groups: int | None = None) -> Topics:
        """Each file is as far from the others as any."""
        names, n = sorted(self.documents), len(self.documents)
        texts = [self.documents[name] for name in names]
        none, places = np.zeros(n, np.int32), np.zeros(n, np.int64)
        ends = np.array([len(text) for text in texts], np.int64)
        ids = [f"{name}-0" for name in names]
        table = Table(ids, texts, names, [""] * n, none, places, ends, np.eye(n, dtype=np.float32))
        return topics_of(self.name, table, groups)

    def document(self, source: str) -> str:
        if source not in self.documents:
            raise NotFound(f"{self.name} holds no document {source}.")
        return self.documents[source]

    def search(self, query: str, k: int = 5, sources: Sequence[str] | None = None) -> list[Passage]:
        found = []
        for name, text in self.documents.items():
            share = sum(word in text for word in query.split()) / len(query.split())
            if share:
                reasons = Reasons(query in text, share, 0.5, within=query not in text, tokens=0.7)
                for start in range(0, len(text), 400):
                    piece = text[start : start + 400]
                    found.append(
                        Passage(piece, name, "Part > Chapter", 3, share, f"{name}-{start}", reasons, start)
                    )
        return found[:k]

    def ask_stream(self, question: str, lm: FakeModel, *, history: Any = (), **_: Any) -> FakeStream:
        lm.asked.append([*history, {"role": "user", "content": question}])
        passages = self.search(question, 3)
        default = "The sea is deep [1]." if passages else "The documents do not answer this."
        answer = lm.answers.get(question, default)
        assert isinstance(answer, str)
        return FakeStream(question, answer, passages, lm.delay)


class FakeService:
    default_model = "fake-model"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lm = FakeModel("fake-model")
        self.bases: dict[str, FakeBase] = {}

    def models(self) -> list[Any]:
        return [SimpleNamespace(name=name, kind="decoder") for name in ("fake-model", "absent-model")]

    def readable(self) -> list[Any]:
        return [SimpleNamespace(name="tiny-llama", kind="decoder")]

    def opened(self, name: str) -> Any:
        """A tiny network with random weights: what is shown of it is computed."""
        from kun.inspection.opened import Opened

        tokenizer = self.tokenizer(name)
        return Opened.of(
            name, network(LLAMA | {"vocab_size": tokenizer.get_vocab_size()}), tokenizer, "decoder"
        )

    def tokenizer(self, name: str) -> Any:
        return byte_level_tokenizer()

    def vectors(self) -> list[str]:
        return ["tiny-vectors"]

    def word_vectors(self, name: str) -> WordVectors:
        """Vectors in which king − man + woman lies nearest to king itself, then to queen."""
        rows = [[1, 0.3, 1], [1, -0.1, 0.2], [1, 0.3, 0], [1, -0.3, 0], [0, 0.2, 2]]
        return WordVectors(["king", "queen", "man", "woman", "throne"], np.array(rows, np.float32), name=name)

    def language_model(self, name: str | None = None) -> FakeModel:
        if name == "absent-model":
            raise ModelNotFound("absent-model is not here: kun pull absent-model fetches it.")
        time.sleep(0.02)
        return self.lm

    def knowledge_bases(self) -> list[str]:
        return sorted(self.bases)

    def knowledge_base(self, name: str) -> FakeBase:
        if name not in self.bases:
            raise KnowledgeBaseNotFound(f"There is no knowledge base {name}.")
        return self.bases[name]

    def create_knowledge_base(self, name: str) -> FakeBase:
        self.bases[name] = FakeBase(name, self.folder / name)
        return self.bases[name]

    def delete_knowledge_base(self, name: str) -> None:
        del self.bases[name]
