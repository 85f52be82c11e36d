"""The server process: where it listens, when it is ready, how it ends."""

import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from functools import partial

import uvicorn

from kun.errors import BadInput, Busy, NotPermitted
from kun.models.memory import share_arenas
from kun.server.app import create_app
from kun.server.service import Service
from kun.settings import settings

_GRACE_SECONDS = 5
_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 2048


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    service: Service,
    web: bool = True,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; `on_ready` is told the address once it answers.

    Raises `NotPermitted` for an address that others can reach, unless keys are set; `Busy` for a port in use.
    """
    share_arenas()
    with _listen(host, port) as listener:
        _run(listener, host, service, web, on_ready)


def check_address(host: str, port: int) -> None:
    """Raise what `serve` would raise for this address."""
    _listen(host, port).close()


def _run(
    listener: socket.socket, host: str, service: Service, web: bool, on_ready: Callable[[str], None]
) -> None:
    config = uvicorn.Config(
        create_app(service, web=web, api_keys=settings().api_keys),
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=_BACKLOG,
    )
    started = partial(_ready, service, on_ready, host, listener.getsockname()[1])
    _Server(config, started).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens already: whoever comes before the application is there waits in its queue."""
    if not settings().api_keys and not is_loopback(host):
        raise NotPermitted(
            f"{host} can be reached by others, and no key is set: set KUN_API_KEYS, or listen on 127.0.0.1."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (socket.gaierror, OverflowError) as error:
        raise BadInput(f"{host} and port {port} are no address of this machine: use 127.0.0.1.") from error
    except OSError as error:
        raise Busy(
            f"Port {port} of {host} cannot be used ({os.strerror(error.errno or 0)}): choose another with --port."
        ) from error


def _ready(service: Service, on_ready: Callable[[str], None], host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    on_ready(f"http://{shown}:{port}")
    threading.Thread(target=service.warm, name="kun-warm", daemon=True).start()


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started_callback = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started_callback()
