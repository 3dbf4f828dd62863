"""`rag-vs-ft serve` and `mcp`: doors for other programs."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.app import check_free
from rag_vs_ft.cli.common import AllowRemoteOption, AsOption, HomeOption, OrLocalOption, PublishedOption, say
from rag_vs_ft.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from rag_vs_ft.shelf import Shelf

app = typer.Typer()

ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", help="A language model to serve (repeat for several; the first is the default), or extractive."),
]


@app.command("serve")
def serve(
    model: ModelsOption = None,
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8765,
    address: Annotated[
        str, typer.Option("--address", help="Address to listen on; 0.0.0.0 is every network of this machine.")
    ] = "127.0.0.1",
    host: Annotated[
        list[str] | None, typer.Option("--host", help="A name under which programs reach it, as often as needed.")
    ] = None,
    waiting: Annotated[int, typer.Option("--waiting", help="Questions that may wait for an answer.", min=0, max=1000)] = 8,
    engine: Annotated[
        str, typer.Option("--engine", help="auto, transformers or openvino [default: $RAG_VS_FT_ENGINE or auto].")
    ] = "",
    index: PublishedOption = None,
    allow_remote: AllowRemoteOption = False,
    or_local: OrLocalOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Serve search and answers over HTTP, also to clients of OpenAI's chat completions.

    Only this machine can reach it, unless a bearer token is set in RAG_VS_FT_TOKEN and --address or --host is given. Needs
    `pip install 'rag-vs-ft[serve]'`.

    Example: rag-vs-ft serve --port 8765
    """
    try:
        import uvicorn

        from rag_vs_ft.api.door import TOKEN_VARIABLE
        from rag_vs_ft.api.service import create
    except ImportError as error:
        raise _missing(error, "serve") from error
    from rag_vs_ft.serving import ServerAddress

    place = ServerAddress(port, address, tuple(host or ()), password=os.environ.pop(TOKEN_VARIABLE, ""), variable=TOKEN_VARIABLE)
    check_free("serve", port, address)
    shelf = _shelf(model, engine, waiting, home)
    say(f"loading {', '.join(shelf.models)} ...")
    shelf.load()
    where = f"http://{place.hosts[0] if place.hosts else address}:{port}"
    say(f"{where}/docs lists the routes; for OpenAI's clients base_url is {where}/v1. Ctrl+C ends it")
    if not shelf.indexes():
        say("no index yet: rag-vs-ft index build NAME --corpus CORPUS (it is found without a restart)")
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each client that went away
    uvicorn.run(
        create(shelf, place),
        host=address,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=65_536,
        timeout_graceful_shutdown=30,
    )


@app.command("mcp")
def mcp(
    index: Annotated[
        str, typer.Option("--index", help="The index that is searched unless another is named: a name, or qdrant:URL/NAME.")
    ] = "sample",
    model: ModelsOption = None,
    allow_remote: AllowRemoteOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Offer search and answers to an assistant as tools, over standard input and output (Model Context Protocol).

    Needs `pip install 'rag-vs-ft[mcp]'`.

    Example: rag-vs-ft mcp --index sample
    """
    try:
        from rag_vs_ft import assistant_tools
    except ImportError as error:
        raise _missing(error, "mcp") from error
    from rag_vs_ft.index.qdrant import is_published

    if is_published(index):
        os.environ["RAG_VS_FT_PUBLISHED"] = index
    shelf = _shelf(model, "", 0, home)
    shelf.index(index)
    # What is printed by mistake must not stand between the messages of the protocol.
    protocol, sys.stdout = sys.stdout, sys.stderr
    try:
        server = assistant_tools.create(shelf, index)
        sys.stdout = protocol
        server.run("stdio")
    finally:
        sys.stdout = protocol


def _shelf(models: list[str] | None, engine: str, waiting: int, home: Path | None) -> Shelf:
    from rag_vs_ft.shelf import Shelf

    settings.threads()
    settings.quiet_dependencies()
    names = tuple(dict.fromkeys(models or [settings.LANGUAGE_MODEL]))
    return Shelf(settings.home(home), names, engine=settings.check_engine(engine or settings.engine()), waiting=waiting)


def _missing(error: ImportError, extra: str) -> UserError:
    return UserError(f"{error.name or error} is not installed", f"pip install 'rag-vs-ft[{extra}]'")
