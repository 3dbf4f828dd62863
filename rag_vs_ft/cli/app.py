"""`rag-vs-ft app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rag_vs_ft.cli.common import HomeOption
from rag_vs_ft.errors import UserError

app = typer.Typer()

OPTIONS: dict[str, str | tuple[str, ...]] = {
    # Only this machine can reach the app, under no other name than its own: no DNS name of somebody else's can be made to lead
    # a browser here.
    "server.address": "127.0.0.1",
    "server.allowedHosts": ("localhost", "127.0.0.1"),
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.maxUploadSize": "1",
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    "server.disconnectedSessionTTL": "120",
    # Messages with a log id are the app's own; tracebacks stay in the terminal.
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
    "browser.gatherUsageStats": "false",
    "client.showErrorLinks": "false",
    "runner.magicEnabled": "false",
    # A full collection took 0.46 s with models loaded, after each rerun.
    "runner.postScriptGC": "false",
    # A page that leads to another one's view sets it; this is logged as if it were a fault.
    "global.disableWidgetStateDuplicationWarning": "true",
    # Contrast of 4.5 (WCAG AA): captions have 60% of the text's colour, and primary buttons are written on in white.
    "theme.light.textColor": "#0f1116",
    "theme.light.primaryColor": "#0b5cad",
    "theme.dark.primaryColor": "#2b77cf",
    "browser.serverAddress": "localhost",
}


@app.command("app")
def run(
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8501,
    home: HomeOption = None,
) -> None:
    """Open the app in a browser: ask, compare the arms, look inside. Only this machine can reach it.

    Example: rag-vs-ft app --port 8501
    """
    import os

    from streamlit.web.cli import main

    from rag_vs_ft import settings

    if not 1 <= port <= 65_535:
        raise UserError(f"port {port} is out of range", "use 1024 to 65535")
    if _taken(port):
        raise UserError(f"port {port} is taken by another program", f"use another one: rag-vs-ft app --port {port % 65_535 + 1}")
    settings.threads()  # a wrong setting is told here and not in a page
    settings.quiet_dependencies()
    os.environ["RAG_VS_FT_HOME"] = str(settings.home(home).root)
    options = [
        word
        for name, values in OPTIONS.items()
        for value in ((values,) if isinstance(values, str) else values)
        for word in (f"--{name}", value)
    ]
    # In this process, so that whatever ends the command ends the server.
    main(["run", str(find_main()), "--server.port", str(port), *options], standalone_mode=False)


def find_main() -> Path:
    """The app's main file: beside the package in a checkout, inside it in an installed one."""
    package = Path(__file__).resolve().parent.parent
    for place in (package.parent / "app" / "main.py", package / "_app" / "main.py"):
        if place.is_file():
            return place
    raise UserError(f"the app's files are not where they should be: {package / '_app'}", "install rag-vs-ft again")


def _taken(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise UserError(f"port {port} may not be used by you", "use 1024 or more") from error
        except OSError:
            return True
    return False
