"""`rag-vs-ft index`: chunks, vectors and BM25 out of a corpus."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import (
    AddressOption,
    AllowRemoteOption,
    EngineOption,
    HomeOption,
    JsonOption,
    StageBar,
    WorkersOption,
    say,
    show,
    verbs,
)
from rag_vs_ft.errors import CheckFailed, UserError

if TYPE_CHECKING:
    from rag_vs_ft.index.build import BuildResult

app = verbs("Indexes: build, update, verify, roll back, look.")


@app.command("build")
def index_build(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    corpus: Annotated[str | None, typer.Option("--corpus", help="The corpus [default: the one of the same name].")] = None,
    embedder: Annotated[str, typer.Option("--embedder", help="Embedding model: a name, hub id or folder.")] = settings.EMBEDDER,
    precision: Annotated[str, typer.Option("--precision", help="auto, int8, fp32 or fp16 (for a GPU).")] = "auto",
    dimension: Annotated[
        int | None,
        typer.Option("--dimension", help="Keep only the first numbers of a vector, for models trained for it [default: all]."),
    ] = None,
    chunk_size: Annotated[
        int | None,
        typer.Option(
            "--chunk-size", help="Tokens of text in a chunk, at most [default: what the model's window allows, up to 200]."
        ),
    ] = None,
    bm25: Annotated[str, typer.Option("--bm25", help="bm25s or rank-bm25.")] = "bm25s",
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
    allow_remote: AllowRemoteOption = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Chunk, embed and index a corpus; the old generation answers until the new one is whole.

    Example: rag-vs-ft index build docs --corpus docs
    """
    from rag_vs_ft.engines import WorkEngine
    from rag_vs_ft.index import build
    from rag_vs_ft.index.lexical import Bm25Settings

    where = WorkEngine(engine, workers, address)
    recipe = build.Recipe(
        embedder=embedder, precision=precision, dimension=dimension, chunk_size=chunk_size, bm25=Bm25Settings(backend=bm25)
    )
    bar = StageBar()
    result = build.build(name, corpus or name, recipe, settings.home(home), bar, where)
    bar.close()
    _show_build(result, as_json)


@app.command("update")
def index_update(
    name: str,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
    allow_remote: AllowRemoteOption = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Bring an index up to its corpus: only new chunk texts are embedded.

    Example: rag-vs-ft index update docs
    """
    from rag_vs_ft.engines import WorkEngine
    from rag_vs_ft.index import build

    bar = StageBar()
    result = build.update(name, settings.home(home), bar, WorkEngine(engine, workers, address))
    bar.close()
    _show_build(result, as_json)


def _show_build(result: BuildResult, as_json: bool) -> None:
    for notice in result.notices:
        say(notice)
    if as_json:
        show(result.to_json())
        return
    counts = result.counts
    if not result.published:
        print(f"{result.generation.folder.parent.name}: nothing has changed; {result.generation.name} answers")
        return
    print(f"{result.generation.folder.parent.name}: {result.generation.name} answers now")
    print(f"{counts.documents:,} documents, {counts.chunks:,} chunks: {counts.chunks_kept:,} kept, ", end="")
    print(f"{counts.chunks_added:,} added, {counts.chunks_removed:,} removed; {counts.embedded:,} texts embedded")
    print("seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result.seconds.items()))


@app.command("publish")
def index_publish(
    name: str,
    to: Annotated[str, typer.Option("--to", help="Address of a Qdrant server, as in http://127.0.0.1:6333.")],
    shards: Annotated[int | None, typer.Option("--shards", help="Shards of a collection [default: the server's].", min=1)] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", help="Copies of each shard [default: the server's].", min=1)
    ] = None,
    allow_remote: AllowRemoteOption = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Send an index to a Qdrant server, all its passages with it; only what changed since it was last sent.

    It is then searched with --index qdrant:URL/NAME. The server's key is read from RAG_VS_FT_QDRANT_KEY. Needs
    `pip install 'rag-vs-ft[qdrant]'`.

    Example: rag-vs-ft index publish docs --to http://127.0.0.1:6333
    """
    from rag_vs_ft.index.publishing import publish

    bar = StageBar()
    found = publish(name, to, settings.home(home), shards=shards, replicas=replicas, progress=bar)
    bar.close()
    if found.restricted:
        say(f"note: {found.restricted:,} passages for named groups are on the server; whoever has its key can read them")
    if as_json:
        show(found.to_json())
        return
    print(f"{name}: {found.generation} {'answers' if found.switched else 'answered already'} at qdrant:{to.rstrip('/')}/{name}")
    for what, sent in (("passages", found.passages), ("documents", found.documents)):
        print(f"{what + ':':10} {sent.sent:,} sent, {sent.kept:,} there already, {sent.removed:,} removed")
    print(f"collection {found.collection}" + (f", before it {found.previous}" if found.previous else ""))


@app.command("verify")
def index_verify(name: str, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Compare every file of every generation with its checksum; exits with 1 when one differs.

    Example: rag-vs-ft index verify docs
    """
    from rag_vs_ft.index import generations

    folder = generations.index_folder(name, settings.home(home))
    faults = generations.verify_all(folder)
    current = generations.current(folder).name
    if as_json:
        show({"index": name, "generation": current, "ok": not faults, "faults": faults})
    else:
        print(f"{name}: {current} answers; {'every file is as it was built' if not faults else f'{len(faults)} faults'}")
    if faults:
        for fault in faults:
            say(fault)
        raise CheckFailed(f"index {name!r} is damaged", f"rag-vs-ft index rollback {name}, or build it again")


@app.command("rollback")
def index_rollback(name: str, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Let the generation before the current one answer again.

    Example: rag-vs-ft index rollback docs
    """
    from rag_vs_ft.index import generations

    folder = generations.index_folder(name, settings.home(home))
    with generations.building(folder):
        generation = generations.rollback(folder)
    if as_json:
        show({"index": name, "generation": generation.name})
    else:
        print(f"{name}: {generation.name} of {generation.manifest.created} answers again")


@app.command("info")
def index_info(name: str, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """What an index was made of, by what, and its generations.

    Example: rag-vs-ft index info docs
    """
    from rag_vs_ft.index import generations

    folder = generations.index_folder(name, settings.home(home))
    current = generations.current(folder)
    kept = generations.all_generations(folder)
    if as_json:
        show({"index": name, "manifest": current.manifest.to_json(), "generations": [generation.name for generation in kept]})
        return
    manifest, was = current.manifest, current.manifest.inputs
    print(
        f"{name}: {current.name} of {manifest.created}, {manifest.bytes / 1e6:.1f} MB (kept: {', '.join(g.name for g in kept)})"
    )
    print(f"corpus:   {was.corpus.name} ({was.corpus.source}), sha256 {was.corpus.sha256[:16]}")
    print("counts:   " + ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in asdict(manifest.counts).items()))
    record = manifest.to_json()
    parts = {label: record[label] for label in ("chunker", "analyzer", "bm25", "embedder", "dense")}
    for label, part in parts.items():
        print(f"{label + ':':9} " + ", ".join(f"{key} {value}" for key, value in part.items()))


@app.command("list")
def index_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """The indexes of this home.

    Example: rag-vs-ft index list
    """
    from rag_vs_ft.index import generations

    place = settings.home(home)
    names = generations.list_indexes(place)
    if as_json:
        show({"indexes": names})
    for name in names if not as_json else ():
        try:
            manifest = generations.current(generations.index_folder(name, place)).manifest
        except UserError as error:  # one damaged index does not hide the others
            print(f"{name:20} {error.message}")
            continue
        print(f"{name:20} {manifest.generation}  {manifest.counts.chunks:>9,} chunks  {manifest.created}")
    if not names:
        say("no index yet: rag-vs-ft corpus add sample sample && rag-vs-ft index build sample")
