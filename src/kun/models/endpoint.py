"""An OpenAI-compatible endpoint that writes answers: asked over HTTP, with patience and within limits."""

import json
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import IO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from kun.errors import BadInput, Busy, ModelNotFound, NotFound, NotPermitted, Unavailable
from kun.models.writers import Asked, Written
from kun.settings import settings

T = TypeVar("T")

_NAMED = re.compile(r"(?:(?P<model>.+)@)?(?P<url>https?://\S+)", re.IGNORECASE)
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LARGEST_REPLY = 2**26
_WAKE_SECONDS = 0.5
_LONGEST_WAIT = 120.0
_OPTIONAL = ("temperature", "seed", "stop")
"""What some endpoints take no value of; it is left out where one says so."""


def is_endpoint(name: str) -> bool:
    """Whether a name is that of an endpoint: MODEL@URL, or URL alone for the first model that is served there."""
    return _NAMED.fullmatch(name) is not None


class Endpoint:
    """A model at an OpenAI-compatible URL (`https://host/v1`), which `/chat/completions` is added to.

    What is worth another try (limits of rate, errors of the server, a broken line, a reply that is none) is tried again
    after a growing wait, or after the one that the server asks for. The key is the one of `KUN_ENDPOINT_KEYS` for the
    host, unless `key` is given; redirects are not followed, so that it goes nowhere else.
    """

    can_constrain = False

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        key: str | None = None,
        parallel: int = 4,
        timeout: float = 300.0,
        tries: int = 6,
        first_wait: float = 1.0,
    ) -> None:
        """`timeout` is the seconds that one reply may take, `first_wait` those before the second try.

        There are twice as many `tries` where only the rate is limited, and half as many where no reply comes in time.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise BadInput(f"{url} is no address of an endpoint: give one such as https://host/v1.")
        self.host = parts.netloc
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"
        self._is_here = _is_loopback(parts.hostname)
        if settings().offline and not self._is_here:
            raise Unavailable(
                f"{self.url} is on the network, and KUN_OFFLINE is set: unset it, or ask a local one."
            )
        self._key = _key_for(self.host, parts.hostname) if key is None else key
        if not self._key.isascii() or not self._key.isprintable():
            raise BadInput(
                f"The key for {self.host} holds characters that no header can carry: copy it again."
            )
        self.parallel, self.timeout, self.tries, self.first_wait = parallel, timeout, tries, first_wait
        self._opener = _opener(self._is_here)
        self._renamed: dict[str, str | None] = {}
        self.model = model or self._first_model()

    @classmethod
    def named(cls, name: str, *, parallel: int = 4, timeout: float = 300.0) -> "Endpoint":
        """The endpoint of `MODEL@URL` or `URL`. Raises `BadInput`, and what asking for its models raises."""
        found = _NAMED.fullmatch(name)
        if found is None:
            raise BadInput(f"{name} names no endpoint: write MODEL@https://host/v1.")
        return cls(found["url"], found["model"] or "", parallel=parallel, timeout=timeout)

    @property
    def name(self) -> str:
        return self.model

    @property
    def identity(self) -> str:
        return f"{self.model}@{self.url}"

    def fits(self, asked: Asked) -> bool:
        return True

    def close(self) -> None:
        pass

    def write(self, asked: Sequence[Asked]) -> Iterator[tuple[int, Written | BadInput]]:
        """`parallel` at once, each as it is done. Who stops reading, or presses Ctrl-C, waits for none of them."""
        waiting: SimpleQueue[tuple[int, Asked]] = SimpleQueue()
        done: SimpleQueue[tuple[int, Written | Exception]] = SimpleQueue()
        leaving = Event()
        for place, one in enumerate(asked):
            waiting.put((place, one))

        def work() -> None:
            with suppress(Empty):
                while not leaving.is_set():
                    place, one = waiting.get_nowait()
                    done.put((place, self._outcome(one, leaving)))

        for _ in range(min(self.parallel, len(asked))):
            Thread(target=work, name="endpoint", daemon=True).start()
        try:
            for _ in asked:
                place, outcome = _next(done)
                if isinstance(outcome, Written) or (
                    isinstance(outcome, BadInput) and not isinstance(outcome, NotFound)
                ):
                    yield place, outcome
                else:  # what is wrong with the endpoint stops all of them
                    raise outcome
        finally:
            leaving.set()

    def _outcome(self, asked: Asked, leaving: Event) -> Written | Exception:
        try:
            return self._answer(asked, leaving)
        except Exception as error:
            return error

    def _answer(self, asked: Asked, leaving: Event) -> Written:
        body: dict[str, object] = {
            "model": self.model,
            "messages": [dict(message) for message in asked.messages],
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
        }
        if asked.seed is not None:
            body["seed"] = asked.seed
        if asked.stop:
            body["stop"] = list(asked.stop)
        return _written(self._patiently("/chat/completions", body, leaving))

    def _first_model(self) -> str:
        served = self._patiently("/models", None, Event())
        listed = served.get("data")
        first = listed[0] if isinstance(listed, list) and listed else None
        name = first.get("id") if isinstance(first, dict) else None
        if not isinstance(name, str) or not name:
            raise ModelNotFound(f"{self.url} lists no model: name one, as in MODEL@{self.url}.")
        return name

    def _patiently(self, path: str, body: dict[str, object] | None, leaving: Event) -> dict[str, object]:
        """The JSON object that is replied, at the latest at the last try."""
        failure = _Again("it was not asked")
        changes, attempt, spent = 0, 0, 0.0
        while spent < self.tries:
            try:
                reply = self._once(path, None if body is None else self._as_taken(body))
                if body is not None:
                    _written(reply)  # a reply that is none is worth another try
                return reply
            except _Refused as refused:
                changes += 1
                if changes > len(_OPTIONAL) + 1:
                    raise BadInput(f"{self.url}: {refused.why}") from refused
                self._renamed[refused.name] = refused.other
                continue
            except _Again as again:
                failure = again
            attempt += 1
            spent += failure.share
            wait = self.first_wait * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
            wait = min(max(wait, failure.wait), _LONGEST_WAIT)
            if spent < self.tries and leaving.wait(wait):
                break
        kind = Busy if failure.is_limit else Unavailable
        raise kind(
            f"{self.url} gave no usable reply (tries: {attempt}; {failure}): try again later; what is done is kept."
        )

    def _as_taken(self, body: Mapping[str, object]) -> dict[str, object]:
        """The body with fields renamed or left out as the endpoint asked for."""
        names = {name: self._renamed.get(name, name) for name in body}
        return {new: body[name] for name, new in names.items() if new is not None}

    def _once(self, path: str, body: Mapping[str, object] | None) -> dict[str, object]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "kun"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, headers)
        deadline = time.monotonic() + self.timeout
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                raw = _whole(response, deadline)
        except HTTPError as error:
            with error:
                raise self._failure(error, _start_of(error)) from error
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                raise _Again(f"no reply within {self.timeout:g} s", is_slow=True) from error
            raise _Again(f"{type(error).__name__}: {reason}"[:200]) from error
        try:
            reply: object = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _Again(f"a reply that is no JSON: {raw[:80]!r}") from error
        if not isinstance(reply, dict):
            raise _Again(f"a reply that is no object: {raw[:80]!r}")
        return reply

    def _failure(self, error: HTTPError, raw: bytes) -> Exception:
        """What a status that is no success means."""
        code, param, why = _told(raw)
        why = why or str(error.reason)
        if error.code in (401, 403):
            return NotPermitted(
                f"{self.url} refuses the key ({error.code}: {why}): set KUN_ENDPOINT_KEYS={self.host}=KEY."
            )
        if code == "insufficient_quota":
            return NotPermitted(f"{self.url} says that the account's quota is used up: {why}")
        if error.code == 404:
            return ModelNotFound(
                f"{self.url} knows no {self.model or 'models'} ({why}): check address and name."
            )
        if 300 <= error.code < 400:
            where = error.headers.get("Location", "another address")
            return NotFound(f"{self.url} redirects to {where}: give that address if you trust it.")
        if error.code == 400 and "max_completion_tokens" in why:
            return _Refused("max_tokens", "max_completion_tokens", why)
        if (
            error.code == 400
            and param in _OPTIONAL
            and code in ("unsupported_value", "unsupported_parameter")
        ):
            return _Refused(param, None, why)
        if error.code in _RETRIED or error.code >= 500:
            return _Again(f"{error.code}: {why}", _asked_wait(error.headers), is_limit=error.code == 429)
        return BadInput(f"{self.url} refuses the request ({error.code}): {why}")


class _Again(Exception):
    """A failure after which another try may do; `wait` is how many seconds the server asks for.

    `share` is how many of the tries it takes: a limit of rate passes by waiting, and a reply that never came has
    taken its time already.
    """

    def __init__(self, why: str, wait: float = 0.0, is_limit: bool = False, is_slow: bool = False) -> None:
        super().__init__(why)
        self.wait, self.is_limit = wait, is_limit
        self.share = 0.5 if is_limit else 2.0 if is_slow else 1.0


class _Refused(Exception):
    """A field that the endpoint does not take: it goes by an`other` name, or is left out."""

    def __init__(self, name: str, other: str | None, why: str) -> None:
        super().__init__(why)
        self.name, self.other, self.why = name, other, why


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        return None


def _opener(is_here: bool) -> OpenerDirector:
    """No proxy lies on the way to this very machine."""
    return build_opener(_NoRedirects(), *([ProxyHandler({})] if is_here else []))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key_for(netloc: str, hostname: str) -> str:
    """The key of the host, else the one for every host, else none."""
    general = ""
    for entry in settings().endpoint_keys:
        host, mark, key = entry.partition("=")
        if mark and (host in (netloc, hostname)):
            return key
        if not mark or not ("." in host or ":" in host or host == "localhost"):
            general = general or entry
    return general


def _next(done: "SimpleQueue[T]") -> T:
    """The next of a queue; woken now and then, so that Ctrl-C is heard on every platform."""
    while True:
        with suppress(Empty):
            return done.get(timeout=_WAKE_SECONDS)


def _whole(response: HTTPResponse, deadline: float) -> bytes:
    """The body, which may neither drip for ever nor grow without end."""
    parts, size = [], 0
    while part := response.read1(2**16):
        parts.append(part)
        size += len(part)
        if size > _LARGEST_REPLY:
            raise _Again(f"a reply of more than {_LARGEST_REPLY >> 20} MiB")
        if time.monotonic() > deadline:
            raise _Again("the reply took too long", is_slow=True)
    return b"".join(parts)


def _start_of(error: HTTPError) -> bytes:
    """The beginning of an error's body; nothing where the line broke."""
    try:
        return error.read(2**16)
    except (OSError, HTTPException):
        return b""


def _told(raw: bytes) -> tuple[str, str, str]:
    """Code, parameter and message of OpenAI's error body; the text itself of another one."""
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        return "", "", " ".join(raw.decode("utf-8", "replace").split())[:200]
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return "", "", str(error)[:200]
    code, param, why = (error.get(name) or "" for name in ("code", "param", "message"))
    return str(code), str(param), str(why or error)[:400]


def _asked_wait(headers: Message) -> float:
    """The seconds of Retry-After, a number or a date."""
    value = (headers.get("Retry-After") or "").strip()
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _written(reply: Mapping[str, object]) -> Written:
    """The answer of a chat completion. Raises `_Again` for one that is none."""
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise _Again(f"a reply without an answer: {json.dumps(reply)[:80]}")
    text, finish = message.get("content"), choice.get("finish_reason")
    if isinstance(text, list):
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if text is None and finish is not None:
        text = ""
    if not isinstance(text, str):
        raise _Again(f"an answer that is no text: {json.dumps(message)[:80]}")
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, own = (
        value if isinstance(value := counts.get(name), int) else 0
        for name in ("prompt_tokens", "completion_tokens")
    )
    return Written(text, prompt, own, finish in ("stop", "eos", None))
