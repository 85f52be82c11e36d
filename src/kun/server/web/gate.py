"""The way into the web app: sessions by key, bodies of bounded size, headers that forbid the rest."""

import hashlib
import hmac
import os
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kun.server.entrance import COMMON_HEADERS, is_api, is_key, is_longer, refusal
from kun.server.web.state import KEPT_S, RATER_COOKIE, known_rater, new_rater, rater_cookie
from kun.server.web.words import Words, preferred_language
from kun.settings import settings

COOKIE = "kun_session"
_SESSION_S = 30 * 24 * 3600
_OPEN = ("/login", "/kun-static/", "/favicon.ico")
_MAX_BODY = 8 * 2**20
_MAX_FAILURES = 10
_FAILURE_WINDOW_S = 60.0
# nicegui's templates are compiled in the browser and its page begins with inline scripts: hence both unsafe words.
# Nothing that a model or a document wrote becomes markup (markdown.py), and no address but this one is reached.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    **COMMON_HEADERS,
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass
class Sessions:
    """Signed cookies that name a key without holding it; a key that is taken away ends its sessions."""

    api_keys: tuple[str, ...]
    secret: bytes
    _failures: dict[str, deque[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._serializer = URLSafeTimedSerializer(self.secret, salt="kun session")
        self._owners = {
            self._mark(key): hashlib.pbkdf2_hmac("sha256", key.encode(), b"kun conversations", 100_000).hex()[
                :32
            ]
            for key in self.api_keys
        }

    def _mark(self, key: str) -> str:
        return hmac.new(self.secret, key.encode(), "sha256").hexdigest()[:32]

    def owner(self, cookie: str | None) -> str | None:
        """Whose session it is; "" where no keys are asked for, None for no valid session."""
        if not self.api_keys:
            return ""
        try:
            mark = self._serializer.loads(cookie or "", max_age=_SESSION_S)
        except BadSignature:
            return None
        return self._owners.get(mark) if isinstance(mark, str) else None

    def log_in(self, key: str, address: str) -> str | None:
        """The cookie for a key, None for a wrong one."""
        if is_key(key.encode(), self.api_keys):
            return self._serializer.dumps(self._mark(key))
        if len(self._failures) > 10_000:
            self._failures.clear()
        self._failures.setdefault(address, deque(maxlen=_MAX_FAILURES)).append(time.monotonic())
        return None

    def must_wait(self, address: str) -> bool:
        failures = self._failures.get(address) or deque()
        return len(failures) == _MAX_FAILURES and time.monotonic() - failures[0] < _FAILURE_WINDOW_S


def session_secret(home: Path) -> bytes:
    """The secret that signs sessions, made once, readable by its owner only."""
    file = home / "session.secret"
    home.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = file.read_bytes()
        if len(secret) >= 32:
            return secret
        file.unlink(missing_ok=True)
        return session_secret(home)
    with os.fdopen(descriptor, "wb") as out:
        secret = secrets.token_hex(32).encode()
        out.write(secret)
        out.flush()
        os.fsync(out.fileno())
    return secret


class Gate:
    """ASGI middleware before the web app; the API passes through untouched, it has keys of its own."""

    def __init__(self, app: ASGIApp, web: object, sessions: Sessions) -> None:
        self._app = app
        self._web = web
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_api(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is None and scope["path"] in ("/login", "/logout") and scope["type"] == "http":
            refused = await self._session(Request(scope, receive))
        cookies = _cookies(headers)
        owner = self._sessions.owner(cookies.get(COOKIE))
        if refused is None and owner is None and not scope["path"].startswith(_OPEN):
            is_page = scope["type"] == "http" and "text/html" in headers.get("accept", "")
            refused = RedirectResponse("/login", 303) if is_page else PlainTextResponse("Log in first.", 401)
        if refused is not None:
            await _refuse(refused, scope, receive, send)
            return
        known = known_rater(cookies.get(RATER_COOKIE))
        rater = known or new_rater()
        scope["kun.web"], scope["kun.owner"], scope["kun.rater"] = self._web, owner or "", rater
        sent = _with_headers(send) if known else _with_rater(_with_headers(send), rater)
        await self._app(scope, _bounded(receive, _limit(scope["path"])), sent)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        reason = refusal(headers, self._sessions.api_keys)
        if reason is not None:
            return PlainTextResponse(reason, 403)
        if is_longer(headers, _limit(scope["path"])):
            return PlainTextResponse("The request is too large.", 413)
        return None

    async def _session(self, request: Request) -> Response:
        if request.url.path == "/logout":
            response: Response = RedirectResponse("/login" if self._sessions.api_keys else "/", 303)
            if request.method == "POST":
                response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
            return response
        if self._sessions.owner(request.cookies.get(COOKIE)) is not None:
            return RedirectResponse("/", 303)
        if request.method != "POST":
            return login_page(request, "")
        address = request.client.host if request.client else ""
        if self._sessions.must_wait(address):
            return login_page(request, "login_wait", 429)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > 4096:
                return login_page(request, "login_wrong", 413)
        key = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0]
        cookie = self._sessions.log_in(key.strip(), address)
        if cookie is None:
            return login_page(request, "login_wrong", 401)
        response = RedirectResponse("/", 303)
        is_secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, cookie, max_age=_SESSION_S, path="/", httponly=True, samesite="strict", secure=is_secure
        )
        return response


def login_page(request: Request, problem: str, status: int = 200) -> HTMLResponse:
    language = preferred_language(
        request.cookies.get("kun_language"), request.headers.get("accept-language", "")
    )
    words = Words(language)
    page = files(__package__).joinpath("login.html").read_text("utf-8")
    texts = {
        "language": language,
        "theme": request.cookies.get("kun_theme", "auto"),
        "problem": words(problem) if problem else "",
        "app": words("app"),
        **{key: words(key) for key in ("tagline", "login_title", "login_intro", "login_key")},
    }
    for key, text in texts.items():
        page = page.replace("{" + key + "}", escape(text))
    return HTMLResponse(page, status)


def _cookies(headers: Headers) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs}


def _limit(path: str) -> int:
    is_upload = path.startswith("/_nicegui/client/") and "/upload/" in path
    return settings().max_file_bytes + 2**20 if is_upload else _MAX_BODY


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body that goes on beyond its limit ends as if the client had left."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > limit:
                return {"type": "http.disconnect"}
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return with_headers


def _with_rater(send: Send, rater: str) -> Send:
    """Pages bring the browser the name under which it rates."""

    async def with_rater(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith("text/html"):
                kept = f"{RATER_COOKIE}={rater_cookie(rater)}; Path=/; Max-Age={KEPT_S}; SameSite=Lax"
                headers.append("Set-Cookie", kept)
        await send(message)

    return with_rater


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await response(scope, receive, _with_headers(send))
