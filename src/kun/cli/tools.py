"""`kun tools`: what a model may call in a chat, and the servers of others that a person adds."""

import typer

from kun.cli import output
from kun.errors import BadInput
from kun.tools.mcp_client import Connections
from kun.tools.own import own_tools
from kun.tools.servers import Server, add_server, remove_server, servers

app = typer.Typer(
    help="""Tools that a model may call in a chat: Kun's own, knowledge bases, servers of the Model Context Protocol.

    \b
    Examples:
      kun tools list
      kun tools add time uvx mcp-server-time
      kun chat --tools calculate,time,base:handbook
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("add", context_settings={"allow_interspersed_args": False})
def add(
    name: str = typer.Argument(..., help="A short name for the server."),
    command: list[str] | None = typer.Argument(None, help="The command that starts it, with its arguments."),
    url: str = typer.Option("", help="The address of a server that runs elsewhere, instead of a command."),
) -> None:
    """Add a server; it is started once, so that what it offers is known to work.

    \b
    Examples:
      kun tools add time uvx mcp-server-time
      kun tools add --url http://127.0.0.1:9000/mcp wiki
    """
    server = Server(name, tuple(command or ()), url)
    add_server(server)
    try:
        with Connections() as connections:
            tools = connections.tools(server)
    except BaseException:
        remove_server(name)
        raise
    typer.echo(f"{name}: {', '.join(tool.name for tool in tools) or 'no tools'}")


@app.command("list")
def list_tools(
    as_json: bool = output.JSON_OPTION,
    check: bool = typer.Option(False, "--check", help="Start each server and list what it offers."),
) -> None:
    """The tools that `kun chat --tools` takes.

    \b
    Example:
      kun tools list --check
    """
    from kun.knowledge.base_tools import BaseTools

    rows = [{"name": tool.name, "from": "Kun", "about": tool.description} for tool in own_tools()]
    with Connections() as connections:
        for server in servers():
            about = server.shown
            if check:
                about = ", ".join(tool.name for tool in connections.tools(server))
            rows.append({"name": server.name, "from": "server", "about": about})
    bases = BaseTools.here()
    for name in bases.names():
        tools = ", ".join(tool.name for tool in bases.tools([name]))
        rows.append({"name": f"{bases.prefix}:{name}", "from": "knowledge base", "about": tools})
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(
            ["name", "from", "about"], [[row["name"], row["from"], row["about"]] for row in rows]
        )


@app.command("remove")
def remove(names: list[str] = typer.Argument(..., help="Servers that were added.")) -> None:
    """Forget servers.

    \b
    Example:
      kun tools remove time
    """
    if not names:
        raise BadInput("Name a server: `kun tools list` shows those that were added.")
    for name in names:
        remove_server(name)
        typer.echo(f"Removed {name}.")
