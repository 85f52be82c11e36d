"""A reward model over HTTP: its scores are those in Python, and what cannot be scored is refused."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_models import save_encoder, save_reward_model, save_writer

import kun
from kun.alignment.reward_model import RewardModel
from kun.cli.app import run as command
from kun.errors import BadInput
from kun.server.app import create_app
from kun.server.service import Service

FIRST = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "a café"}]
SECOND = [
    {"role": "system", "content": "Be kind."},
    *FIRST,
    {"role": "user", "content": "more"},
    {"role": "assistant", "content": ""},
]
TEXT = "nobody knows"
LONG = [{"role": "user", "content": "fox " * 200}, {"role": "assistant", "content": "dog"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    save_reward_model(folder / "judge")
    save_writer(folder / "writer")
    save_encoder(folder / "reader")
    return folder


@pytest.fixture
def service(home: Path, tiny_home: Path) -> Iterator[Service]:
    places = {name: str(home / name) for name in ("writer", "reader", "judge")}
    made = Service(model=places["writer"], encoder=places["reader"], reward=places["judge"])
    made.check()
    yield made
    made.close()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service, web=False)) as made:
        yield made


def ask(client: TestClient, given: object, **more: Any) -> Any:
    return client.post("/v1/scores", json={"model": "judge", "input": given} | more)


def scored(client: TestClient, given: object, **more: Any) -> list[float]:
    answer = ask(client, given, **more)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [one["index"] for one in body["data"]] == list(range(len(body["data"])))
    assert {one["object"] for one in body["data"]} == {"score"}
    assert (body["object"], body["model"]) == ("list", "judge")
    return [one["score"] for one in body["data"]]


def judge(home: Path) -> RewardModel:
    model = kun.load(home / "judge")
    assert isinstance(model, RewardModel)
    return model


def test_scores_are_those_of_the_model_in_python_together_and_alone(client: TestClient, home: Path) -> None:
    wanted = judge(home).score([FIRST, SECOND, TEXT])
    assert np.ptp(wanted) > 1e-3
    together = scored(client, [FIRST, {"messages": SECOND}, TEXT])
    np.testing.assert_allclose(together, wanted, rtol=1e-5, atol=1e-5)
    alone = [scored(client, one)[0] for one in (FIRST, {"messages": SECOND}, TEXT)]
    np.testing.assert_allclose(alone, wanted, rtol=1e-5, atol=1e-5)
    assert scored(client, [TEXT]) == pytest.approx(wanted[2:].tolist(), rel=1e-5)


def test_scores_are_those_of_kun_score(
    client: TestClient, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps({"messages": FIRST}) + "\n", encoding="utf-8")
    assert command(["score", str(home / "judge"), str(path), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert scored(client, FIRST) == pytest.approx(row["scores"], rel=1e-5, abs=1e-5)


def test_tokens_are_counted_and_the_figures_tell_of_them(client: TestClient, home: Path) -> None:
    usage = ask(client, [FIRST, TEXT]).json()["usage"]
    model = judge(home)
    tokens = sum(len(model.tokens(one)) for one in (FIRST, TEXT))
    assert usage == {"prompt_tokens": tokens, "total_tokens": tokens}
    text = client.get("/metrics").text
    assert f"kun_scored_tokens_total {float(tokens)}" in text
    assert 'kun_requests_total{route="/v1/scores",status="200"} 1.0' in text


def test_the_reward_model_is_listed_and_is_the_one_that_is_asked_where_none_is_named(
    client: TestClient,
) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["writer", "reader", "judge"]
    assert client.get("/v1/models/judge").json()["id"] == "judge"
    answer = client.post("/v1/scores", json={"input": FIRST}).json()
    assert answer["model"] == "judge"


def test_what_is_too_long_is_refused_unless_it_may_lose_its_beginning(client: TestClient, home: Path) -> None:
    answer = ask(client, [FIRST, LONG])
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["message"].startswith("Conversation 1 has ")
    assert scored(client, LONG, truncate=True) == pytest.approx(judge(home).score([LONG]).tolist(), rel=1e-5)
    assert ask(client, LONG, truncate=True).json()["usage"]["total_tokens"] == 128


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ([], "input"),
        ({"messages": []}, "input.messages"),
        ([FIRST, []], "input.1"),
        ([{"role": "judge", "content": "x"}], "input.0.role"),
        ([FIRST, {"messages": [{"role": "robot"}]}], "input.1.messages.0.role"),
        (7, "input"),
        (["x"] * 2049, "input"),
        ({"talk": "x"}, "input.messages"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place(
    client: TestClient, given: object, param: str
) -> None:
    answer = ask(client, given)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_nothing_and_pictures_are_not_scored(client: TestClient) -> None:
    assert "without a word" in ask(client, "").json()["error"]["message"]
    seen = [{"role": "user", "content": [{"type": "image_url"}]}]
    assert "does not see" in ask(client, seen).json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "status", "match"), [("other", 404, "judge is"), ("writer", 400, "scores nothing")]
)
def test_another_model_scores_nothing_and_the_one_that_does_is_named(
    client: TestClient, model: str, status: int, match: str
) -> None:
    answer = ask(client, FIRST, model=model)
    assert answer.status_code == status
    assert match in answer.json()["error"]["message"]


def test_without_a_reward_model_the_error_says_how_one_is_served(home: Path, tiny_home: Path) -> None:
    service = Service(model=str(home / "writer"), encoder=str(home / "reader"))
    with TestClient(create_app(service, web=False)) as client:
        answer = client.post("/v1/scores", json={"input": FIRST})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
        assert "kun serve --reward" in answer.json()["error"]["message"]


def test_a_key_is_asked_for_and_another_method_is_not_taken(service: Service) -> None:
    with TestClient(create_app(service, web=False, api_keys=("secret",))) as client:
        assert client.post("/v1/scores", json={"input": FIRST}).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert client.post("/v1/scores", json={"input": FIRST}, headers=headers).status_code == 200
        assert client.get("/v1/scores", headers=headers).status_code == 405


def test_what_is_no_reward_model_is_refused_at_the_start(home: Path, tiny_home: Path) -> None:
    given = {"model": str(home / "writer"), "encoder": str(home / "reader")}
    with pytest.raises(BadInput, match="writer is no reward model"):
        Service(**given, reward=str(home / "writer")).check()
    with pytest.raises(BadInput, match="reader is no reward model"):
        Service(**given, reward=str(home / "reader")).check()
    same = save_reward_model(tiny_home.parent / "elsewhere" / "writer")
    with pytest.raises(BadInput, match="a model writer already"):
        Service(**given, reward=str(same)).check()
