"""The process: models loaded once, where it listens, when it is ready, how it ends."""

import asyncio
import inspect
import os
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from kun import api
from kun.errors import BadInput, Busy, KnowledgeBaseNotFound, ModelNotFound, NotPermitted, Unavailable
from kun.knowledge.adding import TokenEncoder, states_of
from kun.server import service as services
from kun.server.run import serve
from kun.server.service import Service
from kun.server.workers import Workers

HERE = [
    SimpleNamespace(name="writer", kind="decoder", base=None, path=Path("writer")),
    SimpleNamespace(name="reader", kind="encoder", base=None, path=Path("reader")),
]


class Model:
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def loads(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The language models that were loaded, in order."""
    loaded: list[str] = []

    def load(name: str, quantize: str | None = None) -> Model:
        loaded.append(name)
        time.sleep(0.05)
        return Model()

    monkeypatch.setattr(services, "installed", lambda: HERE)
    monkeypatch.setattr(api, "load_language_model", load)
    return loaded


# what is served


def test_a_model_is_loaded_once_for_all_who_ask_at_once(loads: list[str]) -> None:
    service = Service(model="writer")
    with ThreadPoolExecutor(8) as pool:
        models = set(pool.map(service.language_model, [None, "writer"] * 8))
    assert len(models) == 1
    assert loads == ["writer"]


def test_only_models_that_are_here_are_loaded_and_never_a_path(loads: list[str], tmp_path: Path) -> None:
    service = Service(model="writer", encoder="reader")
    for name in ("absent", str(tmp_path), "../writer", "smollm2-135m-instruct"):
        with pytest.raises(ModelNotFound):
            service.language_model(name)
    with pytest.raises(BadInput, match="encoder"):
        service.language_model("reader")
    with pytest.raises(BadInput, match="language model"):
        service.encoder("writer")
    for name in ("../notes", "/etc", "a@b", ""):
        with pytest.raises(BadInput):
            service.knowledge_base(name)
    with pytest.raises(KnowledgeBaseNotFound):
        service.knowledge_base("absent")
    assert loads == []


def test_a_model_from_a_path_goes_by_its_last_part(loads: list[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.touch()
    service = Service(model=str(file))
    assert service.models()[0].name == "mine"
    service.language_model("mine")
    assert loads == [str(file)]


def test_a_checkpoint_goes_by_the_run_that_left_it(loads: list[str], tmp_path: Path) -> None:
    folders = [tmp_path / run / "checkpoint" for run in ("rhymes", "letters")]
    for folder in folders:
        folder.mkdir(parents=True)
    assert [Service(model=str(folder)).models()[0].name for folder in folders] == ["rhymes", "letters"]


def test_a_model_that_arrives_after_the_end_is_closed(
    loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    late, begun, go = Model(), threading.Event(), threading.Event()

    def load(name: str, quantize: str | None = None) -> Model:
        begun.set()
        go.wait(10)
        return late

    monkeypatch.setattr(api, "load_language_model", load)
    service = Service(model="writer")
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(service.language_model)
        begun.wait(10)
        started = time.monotonic()
        service.close()  # does not wait for what is loading
        assert time.monotonic() - started < 1
        go.set()
        with pytest.raises(Unavailable):
            asking.result(10)
    assert late.closed


def test_a_load_that_failed_is_tried_again(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, quantize: str | None = None) -> Model:
        raise Unavailable("not now")

    service = Service(model="writer")
    with monkeypatch.context() as patch:
        patch.setattr(api, "load_language_model", fail)
        with pytest.raises(Unavailable):
            service.language_model()
    assert service.language_model()


def test_the_encoder_of_a_base_gives_states_of_tokens_without_being_loaded_for_the_question(
    loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    states = np.zeros((1, 2), dtype=np.float32)

    def open_encoder(name: str) -> SimpleNamespace:
        loaded.append(name)
        return SimpleNamespace(embed_tokens=lambda texts, kind: (states, [states] * len(texts)))

    monkeypatch.setattr("kun.models.encoder.Encoder.open", open_encoder)
    monkeypatch.setattr(api, "knowledge_base", lambda name: SimpleNamespace(path=name, encoder_name="reader"))
    monkeypatch.setattr(services, "KnowledgeBase", lambda path, encoder: encoder)
    encoder: Any = Service(model="writer", encoder="reader").knowledge_base("notes")
    assert inspect.getattr_static(encoder, "embed_tokens")  # as isinstance looks from Python 3.12 on
    assert isinstance(encoder, TokenEncoder)
    assert loaded == []
    assert states_of(["a", "b"], "query", encoder)[1] == [states, states]
    assert loaded == ["reader"]


# threads


def test_more_calls_than_may_wait_are_told_to_come_back() -> None:
    gate = threading.Event()

    async def crowd() -> list[Any]:
        workers = Workers("test", 2, most_waiting=3)
        calls = [asyncio.ensure_future(workers.run(gate.wait, 10)) for _ in range(10)]
        await asyncio.sleep(0.2)
        gate.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(crowd())
    assert results.count(True) == 5
    assert sum(isinstance(result, Busy) for result in results) == 5


def test_what_comes_out_for_a_caller_who_left_is_handed_over() -> None:
    gate, handed = threading.Event(), threading.Event()

    def slow() -> str:
        gate.wait(10)
        return "late"

    async def leave() -> None:
        workers = Workers("test", 1, most_waiting=1)
        call = asyncio.ensure_future(workers.run(slow, abandoned=lambda late: handed.set()))
        await asyncio.sleep(0.1)
        call.cancel()
        gate.set()

    asyncio.run(leave())
    assert handed.wait(5)


# the process


def test_an_address_that_others_reach_wants_a_key(tiny_home: Path) -> None:
    service: Any = None
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org", ""):
        with pytest.raises(NotPermitted, match="KUN_API_KEYS"):
            serve(host, 0, service=service)


def test_a_port_that_is_taken_is_named(tiny_home: Path) -> None:
    service: Any = None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Busy, match=str(port)):
            serve("127.0.0.1", port, service=service)
    with pytest.raises(BadInput):
        serve("127.0.0.1", 99999, service=service)


PROCESS = """
import sys
from kun.server.run import serve
from kun.server.service import Service
service = Service(model="absent", encoder="absent-too")
serve("127.0.0.1", 0, service=service, web=sys.argv[1] == "web", on_ready=lambda url: print("Ready:", url, flush=True))
"""


@pytest.mark.parametrize("web", ["web", "no-web"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_process_answers_when_it_says_so_and_ends_when_it_is_told_to(
    tiny_home: Path, python: str, web: str, end: signal.Signals
) -> None:
    environment = {**os.environ, "KUN_HOME": str(tiny_home), "KUN_OFFLINE": "1"}
    started = time.monotonic()
    process = subprocess.Popen(
        [python, "-c", PROCESS, web],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"Ready: (\S+)", process.stdout.readline())
        assert found
        assert httpx.get(f"{found[1]}/healthz", trust_env=False, timeout=60).json()["status"] == "ok"
        assert time.monotonic() - started < 30
        body = {"messages": [{"role": "user", "content": "hi"}]}
        asked = httpx.post(f"{found[1]}/v1/chat/completions", json=body, trust_env=False, timeout=60)
        assert asked.status_code == 404  # its default model is not here, and it goes on
        for path, status in (("/v1/embeddings", 405), ("/v1/nowhere", 404)):
            answer = httpx.get(f"{found[1]}{path}", trust_env=False, timeout=60)
            assert answer.status_code == status
            assert answer.json()["error"]["message"]
        page = httpx.get(found[1], trust_env=False, timeout=60, headers={"accept": "text/html"})
        assert page.status_code == (200 if web == "web" else 404)
        process.send_signal(end)
        process.wait(20)
    finally:
        process.kill()
        process.communicate()
