"""Kun's own client of OpenAI-compatible endpoints, against Kun's own server."""

from tiny_service import Live

from kun.models.endpoint import Endpoint
from kun.models.writers import Asked, LocalWriter, Written


def test_a_server_of_ours_answers_as_the_model_itself_does(live: Live) -> None:
    asked = [Asked(({"role": "user", "content": f"Hello {n}"},), 8, 0.8, seed=n) for n in range(3)]
    there = dict(Endpoint(live.url, "tiny").write(asked))
    here = dict(LocalWriter(live.service.lm).write(asked))
    assert all(isinstance(one, Written) for one in there.values())
    assert there == here


def test_the_first_model_that_is_served_has_a_name(live: Live) -> None:
    assert Endpoint.named(live.url).name == "tiny"


def test_a_model_without_a_template_goes_on_from_a_transcript(live: Live) -> None:
    writer = LocalWriter(live.service.lm)
    template, live.service.lm.template = live.service.lm.template, None
    try:
        (answer,) = [one for _, one in writer.write([Asked(({"role": "user", "content": "Hi"},), 4)])]
    finally:
        live.service.lm.template = template
    assert isinstance(answer, Written)
    assert answer.prompt_tokens > 0
