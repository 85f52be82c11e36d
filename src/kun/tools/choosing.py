"""Which tools a conversation gets: Kun's own, those of servers, and those of rooms above, by name."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from kun.errors import BadInput, KunError
from kun.tools.mcp_client import Connections
from kun.tools.own import own_tools
from kun.tools.servers import Server, servers
from kun.tools.tool import Tool, Toolbox


class OtherTools(Protocol):
    """Tools over things that have names, such as knowledge bases: they are chosen as `PREFIX:NAME`."""

    @property
    def prefix(self) -> str: ...

    def names(self) -> Sequence[str]:
        """The names of all things that there are."""

    def tools(self, names: Sequence[str]) -> list[Tool]:
        """The tools over the things named, one set for all of them."""


def tool_names(others: Sequence[OtherTools] = (), on_fault: Callable[[str], None] | None = None) -> list[str]:
    """All names that can be chosen. A damaged list of servers is raised, or told to `on_fault` and left out."""
    more = [f"{kind.prefix}:{name}" for kind in others for name in kind.names()]
    return [*(tool.name for tool in own_tools()), *(server.name for server in _servers(on_fault)), *more]


def _servers(on_fault: Callable[[str], None] | None) -> list[Server]:
    try:
        return servers()
    except KunError as error:
        if on_fault is None:
            raise
        on_fault(str(error))
        return []


def chosen_tools(
    names: Sequence[str],
    connections: Connections,
    others: Sequence[OtherTools] = (),
    on_fault: Callable[[str], None] | None = None,
) -> Toolbox:
    """The tools named: "all", one of Kun's own, a server's name for all of its tools, or `PREFIX:NAME`.

    Raises `BadInput` for an unknown name, `Unavailable` for a server that is gone, slow or speaks nonsense; with
    `on_fault`, that learns of each in a sentence, and the other tools are given.
    """
    own = {tool.name: tool for tool in own_tools()}
    known = {server.name: server for server in _servers(on_fault)}
    every = [*own, *known, *(f"{kind.prefix}:{name}" for kind in others for name in kind.names())]
    wanted = every if "all" in names else list(dict.fromkeys(names))
    faults: list[KunError] = [
        BadInput(f"There is no tool {name[:80]!r}; there are {', '.join(['all', *every])}.")
        for name in wanted
        if name not in every
    ]
    chosen = [own[name] for name in wanted if name in own]
    for answer in _asked([known[name] for name in wanted if name in known], connections):
        if isinstance(answer, KunError):
            faults.append(answer)
        else:
            chosen += answer
    for kind in others:
        start = f"{kind.prefix}:"
        things = [name.removeprefix(start) for name in wanted if name in every and name.startswith(start)]
        chosen += kind.tools(things) if things else []
    for fault in faults:
        if on_fault is None:
            raise fault
        on_fault(str(fault))
    return Toolbox(chosen)


def _asked(wanted: Sequence[Server], connections: Connections) -> list[list[Tool] | KunError]:
    """The tools of each server, or its fault: all are asked at once, and those that are slow waited for once."""

    def ask(server: Server) -> list[Tool] | KunError:
        try:
            return connections.tools(server)
        except KunError as error:
            return error

    if not wanted:
        return []
    with ThreadPoolExecutor(len(wanted), "kun-tool-servers") as threads:
        return list(threads.map(ask, wanted))
