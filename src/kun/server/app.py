"""The OpenAI-compatible API, and the web app beside it."""

import hmac
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from kun import __version__
from kun.errors import BadInput, ContextOverflow, KunError, NotPermitted, TooLarge
from kun.server import answering
from kun.server.bodies import Body, ChatRequest, CompletionRequest, EmbeddingRequest
from kun.server.service import Service
from kun.settings import settings

log = logging.getLogger("kun.server")
_OPEN_PATHS = ("/healthz",)


def create_app(service: Service, *, web: bool = True, api_keys: Sequence[str] = ()) -> FastAPI:
    """The application. With `api_keys`, every request to the API but `/healthz` must carry one of them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="Kun", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    _Errors(app)
    _routes(app, service)
    if web:
        from kun.server import web as pages

        pages.mount(app, service, api_keys)
    _guard(app, tuple(api_keys))
    return app


class _Errors:
    """Every failure as OpenAI's error body, with no trace of the inside."""

    def __init__(self, app: FastAPI) -> None:
        app.add_exception_handler(KunError, self.kun)
        app.add_exception_handler(RequestValidationError, self.validation)
        app.add_exception_handler(HTTPException, self.http)
        app.add_exception_handler(Exception, self.fault)

    async def kun(self, request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, KunError)
        code = "context_length_exceeded" if isinstance(error, ContextOverflow) else None
        return error_body(error.http_status, str(error), error.http_type, code)

    async def validation(self, request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return error_body(400, f"{place or 'The request'}: {first['msg']}", "invalid_request_error")

    async def http(self, request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return error_body(error.status_code, str(error.detail), "invalid_request_error")

    async def fault(self, request: Request, error: Exception) -> JSONResponse:
        log.error("A request failed", exc_info=error)
        return error_body(500, "The server failed on this request; its log says why.", "server_error")


def error_body(status: int, message: str, kind: str, code: str | None = None) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 429 else {}
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return JSONResponse(body, status_code=status, headers=headers)


def _guard(app: FastAPI, keys: tuple[str, ...]) -> None:
    """Keys, sizes and request ids, for the paths of the API; the web app has a gate of its own."""

    @app.middleware("http")
    async def guard(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        path = request.url.path
        is_api = path.startswith("/v1/") or path == "/metrics"
        try:
            if is_api:
                _check_origin(request)
                _check_key(request, keys)
                await _check_size(request)
        except KunError as error:
            return error_body(error.http_status, str(error), error.http_type)
        response = await call(request)
        if is_api:
            response.headers["x-request-id"] = uuid.uuid4().hex
            response.headers["x-content-type-options"] = "nosniff"
        return response


def _check_key(request: Request, keys: tuple[str, ...]) -> None:
    if not keys:
        return
    given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
    # every key is compared, so that the time taken tells nothing
    if not any([hmac.compare_digest(given, key.encode()) for key in keys]):
        raise NotPermitted("The API key is missing or wrong: send it as 'Authorization: Bearer KEY'.")


def _check_origin(request: Request) -> None:
    """A page of another site must not drive the server through a visitor's browser."""
    origin = request.headers.get("origin")
    if origin is not None and origin.split("://")[-1] != request.headers.get("host"):
        raise NotPermitted("Requests from pages of other sites are not answered.")


async def _check_size(request: Request) -> None:
    most, size, chunks = settings().max_request_bytes, 0, []
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise TooLarge(f"The request is larger than {most} bytes: send less at once.")
        chunks.append(chunk)
    request._body = b"".join(chunks)


def _routes(app: FastAPI, service: Service) -> None:
    metrics = _Metrics(service)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/metrics")
    async def prometheus() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(name) for name in await run_in_threadpool(_names, service)]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name not in await run_in_threadpool(_names, service):
            raise HTTPException(
                404, f"There is no model {name[:100]!r}: /v1/models lists those that are served."
            )
        return _model(name)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Any:
        _log_unknown(body)
        with metrics.timed("chat"):
            return await _respond(await answering.chat(service, body), body.stream, request)

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Any:
        _log_unknown(body)
        with metrics.timed("completions"):
            return await _respond(await answering.complete(service, body), body.stream, request)

    @app.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest) -> Any:
        _log_unknown(body)
        with metrics.timed("embeddings"):
            return await run_in_threadpool(answering.embed, service, body)


async def _respond(reply: answering.Reply, stream: bool, request: Request) -> Any:
    if stream:
        return StreamingResponse(
            reply.events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
    return await reply.whole(request.is_disconnected)


def _names(service: Service) -> list[str]:
    writers = [model.name for model in service.models()]
    based = [f"{base}@{writer}" for base in service.knowledge_bases() for writer in writers]
    return [*writers, *(model.name for model in service.encoders()), *based]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "kun"}


def _log_unknown(body: Body) -> None:
    if body.model_extra:
        log.info("Ignored fields of the request: %s", ", ".join(sorted(body.model_extra))[:500])


class _Metrics:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "kun_requests", "Requests by route and outcome", ["route", "outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "kun_request_seconds",
            "Seconds until a request is begun or done",
            ["route"],
            registry=self._registry,
        )
        self._engine = Gauge(
            "kun_engine", "Counters of the engine", ["model", "what"], registry=self._registry
        )

    def timed(self, route: str) -> "_Timed":
        return _Timed(self._requests, self._seconds, route)

    def text(self) -> bytes:
        for lm in self._service.loaded():
            for what, value in lm.stats().items():
                self._engine.labels(lm.name, what).set(value)
        return generate_latest(self._registry)


class _Timed:
    def __init__(self, requests: Counter, seconds: Histogram, route: str) -> None:
        self._requests, self._seconds, self._route = requests, seconds, route

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        outcome = (
            "ok"
            if error is None
            else type(error).__name__
            if isinstance(error, BadInput | KunError)
            else "fault"
        )
        self._requests.labels(self._route, outcome).inc()
        self._seconds.labels(self._route).observe(time.perf_counter() - self._started)
