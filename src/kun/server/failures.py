"""Failures as OpenAI's error bodies, with no trace of the inside."""

import json
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kun.errors import Busy, ContextOverflow, KnowledgeBaseNotFound, KunError, ModelNotFound, NotPermitted

_CODES: dict[type[KunError], str] = {
    ContextOverflow: "context_length_exceeded",
    ModelNotFound: "model_not_found",
    KnowledgeBaseNotFound: "model_not_found",
    NotPermitted: "invalid_api_key",
    Busy: "rate_limit_exceeded",
}
_UNION_TAGS = {"str", "int", "float", "bool", "dict", "constrained-str"}
RETRY_SECONDS = 1
JsonObject = dict[str, object]


class ClientLeft(Exception):
    """The client is gone: what is answered, nobody reads."""


class Json(JSONResponse):
    """JSON in UTF-8; half a character (a lone surrogate from a request) becomes a question mark."""

    def render(self, content: object) -> bytes:
        return encoded(content)


def encoded(content: object) -> bytes:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def error_object(message: str, kind: str, code: str | None = None, param: str | None = None) -> JsonObject:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(
    status: int,
    message: str,
    kind: str = "invalid_request_error",
    *,
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Json:
    given = dict(headers or {})
    if status == 429:
        given["Retry-After"] = str(RETRY_SECONDS)
    if status == 401:
        given["WWW-Authenticate"] = "Bearer"
    return Json(error_object(message, kind, code, param), status_code=status, headers=given)


def kun_error(error: KunError) -> Json:
    return error_response(error.http_status, str(error), error.http_type, code=code_of(error))


def code_of(error: KunError) -> str | None:
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)


def handle_failures(app: FastAPI) -> None:
    """Make every failure of the routes an error body."""

    @app.exception_handler(KunError)
    async def kun(request: Request, error: KunError) -> Json:
        return kun_error(error)

    @app.exception_handler(ClientLeft)
    async def left(request: Request, error: ClientLeft) -> Json:
        return error_response(499, "The client has left.")

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Json:
        message, param = _first(error)
        return error_response(400, message, param=param)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Json:
        return error_response(error.status_code, str(error.detail), headers=error.headers)


def _first(error: RequestValidationError) -> tuple[str, str | None]:
    """The first fault, and the field that it is in: "messages.0.role"."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "The body is not JSON: send an object with Content-Type: application/json.", None
    place = [part for part in first["loc"][1:] if isinstance(part, int) or _is_field(part)]
    param = ".".join(map(str, place))[:100]
    if not param:
        return "The body must be a JSON object, with Content-Type: application/json.", None
    return f"{param}: {first['msg']}.", param


def _is_field(part: str) -> bool:
    return part.isidentifier() and part not in _UNION_TAGS
