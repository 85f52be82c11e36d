"""Which tools a conversation gets: Kun's own and those of servers, by name."""

from collections.abc import Sequence

from kun.errors import BadInput
from kun.tools.mcp_client import Connections
from kun.tools.own import own_tools
from kun.tools.servers import servers
from kun.tools.tool import Tool, Toolbox


def chosen_tools(names: Sequence[str], connections: Connections) -> Toolbox:
    """The tools named: "all", one of Kun's own, or a server's name for all of its tools.

    Raises `BadInput` for an unknown name, `Unavailable` for a server that is gone, slow or speaks nonsense.
    """
    own = {tool.name: tool for tool in own_tools()}
    known = {server.name: server for server in servers()}
    wanted = [*own, *known] if "all" in names else list(dict.fromkeys(names))
    chosen: list[Tool] = []
    for name in wanted:
        if name in own:
            chosen.append(own[name])
        elif name in known:
            chosen += connections.tools(known[name])
        else:
            raise BadInput(f"There is no tool {name[:80]!r}; there are {', '.join(['all', *own, *known])}.")
    return Toolbox(chosen)
