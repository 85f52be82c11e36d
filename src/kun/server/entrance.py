"""Checks that every request passes, to the API as to the web app: its host, its origin, its key, its length."""

import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers

_API = ("/v1", "/healthz", "/metrics", "/openapi.json")
COMMON_HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
"""Headers of every answer, whatever else it forbids."""
_MOST_DIGITS = 18


def is_api(path: str) -> bool:
    """True for a path of the API, where keys are asked for, not sessions."""
    return any(path == prefix or path.startswith(prefix + "/") for prefix in _API)


def refusal(headers: Headers, keys: Sequence[str]) -> str | None:
    """The reason to turn a request away by its Host or Origin, None where there is none.

    Without keys a page of another site could point a name of its own at this machine (DNS rebinding) and read the
    answers, so that only localhost, addresses and names without a dot are served.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if not keys and _is_public_name(host):
        return "Without API keys this server answers only to localhost and to addresses."
    if origin is not None and _host_of(origin) != host.lower():
        return "Pages of other sites are not answered."
    return None


def is_key(sent: bytes, keys: Sequence[str]) -> bool:
    """True for one of `keys`; every one is compared, so that the time taken tells nothing."""
    return any([hmac.compare_digest(sent, key.encode()) for key in keys])


def is_longer(headers: Headers, most: int) -> bool:
    """True where the body is announced as longer than `most` bytes, or with a length that is no number."""
    length = headers.get("content-length", "0")
    return not length.isdecimal() or len(length) > _MOST_DIGITS or int(length) > most


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_public_name(host: str) -> bool:
    """True for a name that another's DNS could point here: one with a dot that is no address, or no name at all."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." in name and not name.endswith(".localhost")
    return False
