"""`rag-vs-ft app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rag_vs_ft.cli.common import AllowRemoteOption, AsOption, HomeOption, OrLocalOption, PublishedOption
from rag_vs_ft.errors import UserError

app = typer.Typer()


@app.command("app")
def run(
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8501,
    address: Annotated[
        str, typer.Option("--address", help="Address to listen on; 0.0.0.0 is every network of this machine.")
    ] = "127.0.0.1",
    host: Annotated[
        list[str] | None, typer.Option("--host", help="A name under which browsers reach the app, as often as needed.")
    ] = None,
    base_path: Annotated[str, typer.Option("--base-path", help="Path below which a reverse proxy serves the app.")] = "",
    index: PublishedOption = None,
    allow_remote: AllowRemoteOption = False,
    or_local: OrLocalOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Open the app in a browser: ask, compare the arms, look inside.

    Only this machine can reach it, unless a password is set in RAG_VS_FT_PASSWORD and --address or --host is given. Passwords
    and answers are readable on the way unless a proxy with TLS is in front of it.

    Example: rag-vs-ft app --port 8501
    """
    import os

    from rag_vs_ft import schedules, settings
    from rag_vs_ft.serving import PASSWORD_VARIABLE, ServerAddress, serve

    # Taken out of the environment, which the processes of long work inherit.
    place = ServerAddress(port, address, tuple(host or ()), base_path, os.environ.pop(PASSWORD_VARIABLE, ""))
    check_free("app", port, address)
    settings.threads()  # a wrong setting is reported here and not in a page
    settings.quiet_dependencies()
    os.environ["RAG_VS_FT_HOME"] = str(settings.home(home).root)
    schedules.begin(settings.home())
    serve(find_main(), place)


def find_main() -> Path:
    """The app's main file: beside the package in a checkout, inside it in an installed one."""
    package = Path(__file__).resolve().parent.parent
    for place in (package.parent / "app" / "main.py", package / "_app" / "main.py"):
        if place.is_file():
            return place
    raise UserError(f"the app's files are not where they should be: {package / '_app'}", "install rag-vs-ft again")


def check_free(verb: str, port: int, address: str) -> None:
    """Raise UserError when nothing can listen on this port, with the option of `verb` that helps."""
    if _taken(port, address):
        raise UserError(
            f"port {port} is taken by another program", f"use another one: rag-vs-ft {verb} --port {port % 65_535 + 1}"
        )


def _taken(port: int, address: str) -> bool:
    import errno
    import socket

    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError as error:
            raise UserError(f"port {port} may not be used by you", "use 1024 or more") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise UserError(
                f"cannot listen on {address}: {error.strerror}", "use 127.0.0.1, 0.0.0.0 or an address of it"
            ) from error
    return False
