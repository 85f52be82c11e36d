"""Adapters are models of the API: listed, asked for by name, one engine with their base."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import torch
import uvicorn
from tiny import CHAT, END, language_model, tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_models import save_encoder

from kun.adaptation.lora import LoraConfig, add_lora, lora_pairs
from kun.cli.serving import named_adapters
from kun.errors import BadInput
from kun.hub.adapter_saving import save_adapter
from kun.hub.opening import open_checkpoint
from kun.hub.saving import save_checkpoint
from kun.server.app import create_app
from kun.server.service import Service


@pytest.fixture
def home(tiny_home: Path, tmp_path: Path) -> Path:
    """A model with an adapter that is here, and another that lies elsewhere."""
    ends = {"eos_token_id": END, "bos_token_id": END}
    folder = tiny_home / "models" / "writer"
    net = language_model(positions=512).net
    base = open_checkpoint(
        save_checkpoint(folder, net, tokenizer=tokenizer(), chat_template=CHAT, generation_config=ends)
    )
    for seed, place in enumerate((tiny_home / "models" / "poet", tmp_path / "clerk")):
        torch.manual_seed(seed)
        adapted = add_lora(base.network(), LoraConfig(rank=2))
        for pair in lora_pairs(adapted).values():
            torch.nn.init.normal_(pair.b, std=0.5)
        save_adapter(place, adapted, origin=base)
    return tmp_path


@pytest.fixture
def service(home: Path) -> Iterator[Service]:
    made = Service(model="writer", quantize="int8", adapters={"office": home / "clerk"})
    yield made
    made.close()


def test_requests_that_name_adapters_share_one_engine(service: Service) -> None:
    config = uvicorn.Config(create_app(service, web=False), log_level="error", timeout_graceful_shutdown=5)
    server, listener = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
    while not server.started:
        time.sleep(0.01)
    try:
        assert {"writer", "poet", "office"} <= {model.id for model in client.models.list()}
        names = ["writer", "poet", "office"] * 3

        def ask(name: str) -> str:
            reply = client.completions.create(model=name, prompt="鲲之大", max_tokens=12, temperature=0)
            assert reply.model == name
            return reply.choices[0].text

        alone = {name: ask(name) for name in dict.fromkeys(names)}
        assert len(set(alone.values())) == 3
        with ThreadPoolExecutor(9) as pool:
            assert list(pool.map(ask, names)) == [alone[name] for name in names]
        said = client.chat.completions.create(
            model="poet", messages=[{"role": "user", "content": "hi"}], max_tokens=3
        )
        assert said.model == "poet"
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="clerk", prompt="x")
        assert len(service.loaded()) == 1
    finally:
        server.should_exit = True
        thread.join(20)


def test_a_name_that_is_taken_is_refused_at_the_start(home: Path) -> None:
    encoder = str(save_encoder(home / "reader"))
    Service(model="writer", encoder=encoder, adapters={"office": home / "clerk"}).check()
    with pytest.raises(BadInput, match="a model poet already"):
        Service(model="writer", encoder=encoder, adapters={"poet": home / "clerk"}).check()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["poet"], "NAME=FOLDER"),
        (["poet="], "NAME=FOLDER"),
        (["a=x", "a=y"], "Two adapters"),
        (["../a=x"], "no name"),
    ],
)
def test_adapters_on_the_command_line_are_names_and_folders(given: list[str], match: str) -> None:
    assert named_adapters(["poet=runs/a=b"]) == {"poet": "runs/a=b"}
    with pytest.raises(BadInput, match=match):
        named_adapters(given)
