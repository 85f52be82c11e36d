"""The OpenAI-compatible API, and the web app next to it."""

import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException

from kun.errors import ModelNotFound
from kun.server.answering import Answering
from kun.server.bodies import ChatRequest, CompletionRequest, EmbeddingRequest, ScoreRequest
from kun.server.failures import Json, JsonObject, handle_failures
from kun.server.guard import Guard
from kun.server.metrics import Metrics
from kun.server.replies import EventStream, Reply, unless_left
from kun.server.service import Service
from kun.server.shapes import (
    ChatCompletion,
    Embeddings,
    Health,
    Model,
    Models,
    Scores,
    TextCompletion,
    answers,
)
from kun.server.toolboxes import Toolboxes
from kun.version import __version__

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def create_app(service: Service, *, web: bool = True, api_keys: Sequence[str] = ()) -> FastAPI:
    """The application. With `api_keys`, every request to the API but `/healthz` must carry one of them."""
    metrics = Metrics(service)
    toolboxes = Toolboxes(service)
    answering = Answering(service, metrics, toolboxes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        answering.close()
        toolboxes.close()
        service.close()

    app = FastAPI(title="Kun", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    handle_failures(app)
    _about(app, service, answering, metrics)
    _models(app, answering)
    _close_v1(app)
    if web:
        from kun.server.web.mounting import mount

        mount(app, service, api_keys, toolboxes)
    app.add_middleware(Guard, keys=api_keys, metrics=metrics, everything=not web)
    _describe(app, has_keys=bool(api_keys))
    return app


def _about(app: FastAPI, service: Service, answering: Answering, metrics: Metrics) -> None:
    """The routes on the state of the server."""
    started = int(time.time())

    def described(name: str) -> JsonObject:
        return {"id": name, "object": "model", "created": started, "owned_by": "kun"}

    @app.get("/healthz", responses={200: {"model": Health}})
    async def healthz() -> Response:
        return Json({"status": "ok", "version": __version__})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        text = await answering.quick.run(metrics.text)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", responses=answers(Models))
    async def models() -> Response:
        names = await answering.quick.run(service.names)
        return Json({"object": "list", "data": [described(name) for name in names]})

    @app.get("/v1/models/{model:path}", responses=answers(Model, errors=(404,)))
    async def model(model: str) -> Response:
        if model not in await answering.quick.run(service.names):
            raise ModelNotFound(f"There is no model {model[:100]!r}: /v1/models lists those that are served.")
        return Json(described(model))


def _models(app: FastAPI, answering: Answering) -> None:
    """The routes that models answer."""
    asked = (400, 404, 409, 422)

    @app.post("/v1/chat/completions", responses=answers(ChatCompletion, streams=True, errors=asked))
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await _respond(request, answering.chat(body), bool(body.stream))

    @app.post("/v1/completions", responses=answers(TextCompletion, streams=True, errors=asked))
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await _respond(request, answering.complete(body), bool(body.stream))

    @app.post("/v1/embeddings", responses=answers(Embeddings, errors=asked))
    async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
        return Json(await unless_left(request.receive, answering.embed(body)))

    @app.post("/v1/scores", responses=answers(Scores, errors=asked))
    async def scores(body: ScoreRequest, request: Request) -> Response:
        return Json(await unless_left(request.receive, answering.score(body)))


async def _respond(request: Request, begin: Awaitable[Reply], stream: bool) -> Response:
    reply = await unless_left(request.receive, begin)
    if stream:
        return EventStream(reply)
    try:
        return Json(await unless_left(request.receive, reply.whole()))
    finally:
        reply.cancel()


def _close_v1(app: FastAPI) -> None:
    """Paths and methods that the API does not have are its own errors, not pages of the web app."""
    methods = {"/v1/models": "GET", "/v1/chat/completions": "POST", "/v1/completions": "POST"}
    methods |= {"/v1/embeddings": "POST", "/v1/scores": "POST", "/healthz": "GET", "/metrics": "GET"}

    async def nowhere(request: Request) -> Response:
        path = request.url.path
        allowed = methods.get(path) or ("GET" if path.startswith("/v1/models/") else None)
        if allowed:
            raise HTTPException(405, f"{path[:100]} takes {allowed}.", headers={"Allow": allowed})
        raise HTTPException(404, f"There is nothing at {path[:100]}.")

    for path in ("/v1/{rest:path}", "/healthz", "/metrics"):
        app.add_api_route(path, nowhere, methods=_METHODS, include_in_schema=False)


def _describe(app: FastAPI, has_keys: bool) -> None:
    """`/openapi.json` as the API is: bad requests are 400, and a key is asked for where there are keys."""
    made = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            for path in schema["paths"].values():
                for operation in path.values():
                    _without_422(operation)
            schema["components"]["schemas"].pop("HTTPValidationError", None)
            schema["components"]["schemas"].pop("ValidationError", None)
            if has_keys:
                schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"key": []}]
                schema["paths"]["/healthz"]["get"]["security"] = []
        return app.openapi_schema or made()

    app.openapi = described  # type: ignore[method-assign]


def _without_422(operation: dict[str, Any]) -> None:
    """FastAPI promises 422 for what does not fit the schema; here that is 400."""
    told = operation["responses"].get("422", {})
    if "HTTPValidationError" in str(told):
        del operation["responses"]["422"]
