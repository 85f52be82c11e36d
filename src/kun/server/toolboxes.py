"""The tools that chats of one server may use: the API's and the page's, over the same connections."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kun.knowledge.base_tools import BaseTools
from kun.tools.choosing import chosen_tools, tool_names
from kun.tools.mcp_client import Connections
from kun.tools.tool import Toolbox

if TYPE_CHECKING:
    from kun.server.service import Service


class Toolboxes:
    """Tools by name; the servers of other people that were started stay until `close`."""

    def __init__(self, service: "Service") -> None:
        self._connections = Connections()
        self._others = [BaseTools(service.knowledge_bases, service.knowledge_base)]

    def names(self, on_fault: Callable[[str], None]) -> list[str]:
        """All that can be chosen; `on_fault` learns of a damaged list of servers."""
        return tool_names(self._others, on_fault)

    def chosen(self, names: Sequence[str], on_fault: Callable[[str], None] | None = None) -> Toolbox:
        """As `kun.tools.choosing.chosen_tools`, which see for what is raised."""
        return chosen_tools(names, self._connections, self._others, on_fault)

    def close(self) -> None:
        self._connections.close()
