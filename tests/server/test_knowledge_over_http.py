"""A knowledge base asked over HTTP, nothing of it scripted: documents, encoder, store, model, server, client."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tiny_service import Live, listening

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from tiny_models import save_encoder, save_writer

from kun import api
from kun.server.service import Service
from kun.server.web.knowledge import AddingProgress
from kun.settings import DEFAULT_ENCODER, settings

#: the catalog says that it writes English only: asked in Chinese it quotes, whatever its weights are
MODEL = "smollm2-135m-instruct"
QUESTION: Any = [{"role": "user", "content": "鹏之背有多长？"}]
QUOTE = "鹏之背，不知其几千里也。 [1]"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    patch.setenv("KUN_HOME", str(home))
    patch.setenv("KUN_NATIVE", "0")
    settings.cache_clear()
    save_writer(home / "models" / MODEL)
    save_encoder(home / "models" / DEFAULT_ENCODER)
    docs = home / "docs"
    (docs / "zh").mkdir(parents=True)
    (docs / "fish.md").write_text("# Fish\n\nThe Kun is a fish of the northern sea.\n", encoding="utf-8")
    (docs / "zh" / "鹏.md").write_text("# 鹏\n\n鹏之背，不知其几千里也。\n", encoding="utf-8")
    api.create_knowledge_base("notes").add(docs)
    service: Any = Service(model=MODEL)
    yield from listening(service)
    patch.undo()
    settings.cache_clear()


@pytest.fixture(scope="module")
def client(served: Live) -> openai.OpenAI:
    return served.client()


def ask(client: openai.OpenAI, stream: bool, **extra: Any) -> Any:
    return client.chat.completions.create(
        model=f"notes@{MODEL}", messages=QUESTION, stream=stream, extra_body=extra
    )


def check_citations(citations: list[dict[str, Any]]) -> None:
    assert [one["index"] for one in citations] == [*range(1, len(citations) + 1)]
    first = citations[0]
    assert (first["source"], first["heading"], first["page"]) == ("zh/鹏.md", "鹏", None)
    assert "不知其几千里" in first["text"]
    assert isinstance(first["score"], float)


def test_every_knowledge_base_is_listed_as_a_model(client: openai.OpenAI) -> None:
    assert f"notes@{MODEL}" in [model.id for model in client.models.list().data]


def test_the_whole_answer_carries_its_citations_at_the_top(client: openai.OpenAI) -> None:
    answer = ask(client, stream=False)
    assert QUOTE in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    check_citations(answer.citations)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert not hasattr(answer, "prompt")


def test_a_stream_carries_them_in_its_last_chunk(client: openai.OpenAI) -> None:
    *chunks, last = ask(client, stream=True)
    assert QUOTE in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert last.choices[0].finish_reason == "stop"
    check_citations(last.citations)
    assert not any(hasattr(chunk, "citations") for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_the_assembled_prompt_comes_on_request(client: openai.OpenAI, stream: bool) -> None:
    answer = ask(client, stream, return_prompt=True)
    last = list(answer)[-1] if stream else answer
    assert last.question == QUESTION[0]["content"]
    assert [message["role"] for message in last.prompt] == ["system", "user"]
    assert "不知其几千里" in last.prompt[-1]["content"]


def test_passages_are_chosen_by_number_and_source(client: openai.OpenAI) -> None:
    assert len(ask(client, False, k=1).citations) == 1
    with pytest.raises(openai.NotFoundError, match="nothing"):
        ask(client, False, sources=["nothing.md"])


def test_what_the_model_writes_itself_is_cited_or_declined(client: openai.OpenAI) -> None:
    """In English it writes, nonsense for want of training: either way the answer has the same form."""
    answer: Any = client.chat.completions.create(
        model=f"notes@{MODEL}",
        messages=[{"role": "user", "content": "Where does the Kun live?"}],
        max_tokens=20,
    )
    assert isinstance(answer.choices[0].message.content, str)
    assert {one["source"] for one in answer.citations} <= {"fish.md", "zh/鹏.md"}


def test_adding_tells_the_page_how_far_it_is(served: Live, tmp_path: Path) -> None:
    (tmp_path / "更多.md").write_text("# 更多\n\n北冥有鱼。\n", encoding="utf-8")
    progress = AddingProgress()
    report = api.create_knowledge_base("uploaded").add(tmp_path, progress=progress)
    api.delete_knowledge_base("uploaded")
    assert report.added == ["更多.md"]
    assert (progress.done, progress.total) == (1, 1)
    assert "passages/s" in progress.detail
