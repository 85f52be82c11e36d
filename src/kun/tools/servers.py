"""The servers of the Model Context Protocol that a person added: their names and commands, kept in `KUN_HOME`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from kun.atomic_files import new_file, writing_to
from kun.errors import BadInput, DamagedFile, NotFound
from kun.settings import settings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}", re.IGNORECASE)
_MOST = 32


@dataclass(frozen=True)
class Server:
    """A server by its command (it is started, and spoken to over its standard streams) or by its address."""

    name: str
    command: tuple[str, ...] = ()
    url: str = ""

    @property
    def shown(self) -> str:
        return self.url or " ".join(self.command)


def servers_file() -> Path:
    return settings().home / "tools.json"


def servers() -> list[Server]:
    """Those that were added, by name. Raises `DamagedFile`."""
    path = servers_file()
    if not path.exists():
        return []
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["servers"]
        return [
            Server(str(name), tuple(map(str, one.get("command", ()))), str(one.get("url", "")))
            for name, one in sorted(known.items())
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} cannot be read as a list of servers: correct it or remove it.") from error


def add_server(server: Server) -> None:
    """Keep a server. Raises `BadInput` for a name that is taken or odd, or for neither command nor address."""
    if not _NAME.fullmatch(server.name):
        raise BadInput(
            f"{server.name[:60]!r} cannot name a server: use letters, digits and hyphens, 31 at most."
        )
    if bool(server.command) == bool(server.url):
        raise BadInput("A server has a command or an address: give one of the two.")
    if server.url and not re.match(r"https?://\S+$", server.url):
        raise BadInput(f"{server.url[:100]!r} is no address: it begins with http:// or https://.")
    known = servers()
    if any(one.name == server.name for one in known):
        raise BadInput(f"There is a server {server.name} already: remove it first, or choose another name.")
    if len(known) >= _MOST:
        raise BadInput(f"There are {_MOST} servers, as many as there may be: remove one first.")
    _write([*known, server])


def remove_server(name: str) -> None:
    """Forget a server. Raises `NotFound`."""
    known = servers()
    kept = [one for one in known if one.name != name]
    if len(kept) == len(known):
        names = ", ".join(one.name for one in known)
        raise NotFound(
            f"There is no server {name[:60]}: {f'there are {names}.' if names else 'none was added.'}"
        )
    _write(kept)


def _write(known: list[Server]) -> None:
    rows = {
        one.name: {"command": list(one.command)} if one.command else {"url": one.url}
        for one in sorted(known, key=lambda one: one.name)
    }
    path = servers_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_to(path), new_file(path) as file:
        file.write_text(json.dumps({"servers": rows}, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
