"""`/openapi.json` is the API as it is: schemathesis makes requests from it and holds every answer to it."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from tiny_service import TinyService

from kun.server.app import create_app

_service: Any = TinyService(positions=128)
_schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(_service, web=False))
_operations = {one.ok().label: one.ok() for one in _schema.get_all_operations()}
_MODELS = {
    "POST /v1/chat/completions": ("tiny", "notes@tiny"),
    "POST /v1/completions": ("tiny",),
    "POST /v1/embeddings": ("tiny-encoder",),
    "POST /v1/scores": ("tiny-judge",),
}
# that a request which fits the schema is taken, is checked below: schemathesis knows no reason for which it may not be
_EXCLUDED = [schemathesis.checks.positive_data_acceptance]
#: what no schema can say: whether a prompt fits, and which fields and values go together
_REFUSALS = (
    "The prompt has", "Conversation ",
    "A prompt is", "A text has", "The question has", "Token ", "logit_bias names token",
    "dimensions is",
    "suffix is not supported", "best_of", "top_logprobs needs logprobs", "does not see or hear",
    "A knowledge base answers questions", "A knowledge base gives one answer", "No document is named",
    "tool_choice", "Each tool must be", "A tool's name must be", "The parameters of the tool", "Each of tool_calls",
    "Tools and a schema", "The arguments of the call", "response_format of type json_schema needs",
    "json_schema cannot be used", "tools cannot be used", "The question is empty", "The prompt is empty",
    "No text can be held to", "There is no tool ", "run_tools do not go together",
)  # fmt: skip


# of a request without parameters, or with a path that may be anything, there is no wrong one
_CASES = [(label, GenerationMode.POSITIVE) for label in sorted(_operations)]
_CASES += [(label, GenerationMode.NEGATIVE) for label in sorted(_MODELS)]


@pytest.mark.parametrize(("label", "mode"), _CASES, ids=lambda part: getattr(part, "value", part))
def test_every_answer_is_as_the_schema_says(label: str, mode: GenerationMode) -> None:
    strategy = _operations[label].as_strategy(generation_mode=mode)

    @settings(max_examples=30, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def check(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and label in _MODELS and isinstance(case.body, dict):
            names = _MODELS[label]
            case.body["model"] = names[len(str(case.body)) % len(names)]
        answer = case.call_and_validate(excluded_checks=_EXCLUDED, timeout=120)
        if mode is GenerationMode.POSITIVE and answer.status_code in (400, 422):
            message = answer.json()["error"]["message"]
            assert any(reason in message for reason in _REFUSALS), message

    check()


def test_the_schema_names_every_route_and_no_422_of_fastapi_s() -> None:
    raw = _schema.raw_schema
    assert set(raw["paths"]) == {
        "/healthz",
        "/metrics",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/scores",
    }
    assert "HTTPValidationError" not in str(raw)
