"""`rag-vs-ft corpus`: documents in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rag_vs_ft import language as languages
from rag_vs_ft import settings
from rag_vs_ft.cli.common import (
    HomeOption,
    JsonOption,
    StageBar,
    say,
    show,
    verbs,
)
from rag_vs_ft.errors import UserError
from rag_vs_ft.groups import parse

if TYPE_CHECKING:
    from rag_vs_ft.corpus.store import CorpusInfo

DialectOption = Annotated[
    str | None,
    typer.Option("--dialect", help="Dialect of all Markdown, such as learn or github [default: recognised for each folder]."),
]

LanguageOption = Annotated[
    str | None,
    typer.Option("--language", help="Language of all documents, such as de or ja [default: recognised for each document]."),
]

GroupsOption = Annotated[
    str | None,
    typer.Option(
        "--groups", help="Who may read documents that name no groups: names with commas between them; 'everyone' for all."
    ),
]

EVERYONE = "everyone"

app = verbs("Documents: add, update, look.")


@app.command("add")
def corpus_add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    source: Annotated[str, typer.Argument(help="sample, a folder, a document, a git URL, azure-docs, book:FILE or jsonl:FILE.")],
    include_faq: Annotated[bool, typer.Option("--include-faq", help="Take FAQ YAML in (questions are mined from it).")] = False,
    dialect: DialectOption = None,
    groups: GroupsOption = None,
    language: LanguageOption = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Read documents into a new corpus.

    Example: rag-vs-ft corpus add docs ~/azure-docs
    """
    from rag_vs_ft.corpus import store

    where = settings.home(home)
    info = store.add(
        name,
        source,
        include_faq=include_faq,
        dialect=dialect,
        language=language,
        groups=_groups(groups) or (),
        home=where,
        progress=StageBar(),
    )
    _show_corpus(info, as_json)


@app.command("update")
def corpus_update(
    name: Annotated[str, typer.Argument(help="The corpus.")],
    source: Annotated[str | None, typer.Argument(help="Another source than the one it came from.")] = None,
    dialect: DialectOption = None,
    groups: GroupsOption = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Language of all documents, or auto to recognise it again.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Read the source again, for git after pulling, and say what changed.

    Example: rag-vs-ft corpus update docs
    """
    from rag_vs_ft.corpus import store

    where, wanted = settings.home(home), _groups(groups)
    info = store.update(name, source, dialect=dialect, language=language, groups=wanted, home=where, progress=StageBar())
    _show_corpus(info, as_json)
    if info.written:
        say("indexes of this corpus are brought up to it by: rag-vs-ft index update NAME")


@app.command("info")
def corpus_info(name: str, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Counts, and every reason for which something was left out.

    Example: rag-vs-ft corpus info docs
    """
    from rag_vs_ft.corpus import store

    corpus = store.open_corpus(name, settings.home(home))
    _show_corpus(store.CorpusInfo(corpus.name, corpus.manifest), as_json)


@app.command("verify")
def corpus_verify(name: str, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Compare every file of a corpus with what was written; exits with 1 when one differs.

    Example: rag-vs-ft corpus verify docs
    """
    from rag_vs_ft.cli.doctor import show_faults
    from rag_vs_ft.corpus import store

    place = settings.home(home)
    hint = f"rag-vs-ft corpus update {name}; where that does not mend it, remove {place.corpora / name} and add it again"
    show_faults("corpus", name, store.verify(name, place), as_json, hint)


@app.command("list")
def corpus_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """The corpora of this home.

    Example: rag-vs-ft corpus list
    """
    from rag_vs_ft.corpus import store

    found, damaged = store.list_corpora(settings.home(home)), store.damaged_corpora(settings.home(home))
    for error in damaged.values():
        say(f"damaged: {error}")
    if as_json:
        show({"corpora": [info.to_json() for info in found]})
    for info in found if not as_json else ():
        print(f"{info.name:20} {info.manifest.counts.documents:>7,} documents  {info.manifest.source}")
    if not found and not damaged:
        say("no corpus yet: rag-vs-ft corpus add sample sample")


def _groups(stated: str | None) -> tuple[str, ...] | None:
    """The groups of `--groups`: None without it, none of them for everyone."""
    if stated is None or stated == EVERYONE:
        return None if stated is None else ()
    try:
        return parse(stated)
    except ValueError as error:
        raise UserError(f"--groups {stated[:40]!r}: {error}", "name groups, as in --groups staff,finance") from error


def _show_corpus(info: CorpusInfo, as_json: bool) -> None:
    if as_json:
        show(info.to_json())
        return
    counts = info.manifest.counts
    tokens = f", {counts.tokens:,} tokens" if counts.tokens else ""
    print(f"{info.name}: {counts.documents:,} documents, {counts.bytes:,} bytes, {counts.words:,} words{tokens}")
    print(f"source: {info.manifest.source}  ({info.manifest.created})")
    for repository, commit in info.manifest.commits.items():
        print(f"commit: {commit}  {repository}")
    if set(info.manifest.kinds) - {"markdown"}:
        print("kinds: " + ", ".join(f"{count:,} {kind}" for kind, count in info.manifest.kinds.items()))
    if info.manifest.languages:
        most = sorted(info.manifest.languages.items(), key=lambda item: -item[1])
        names = (f"{count:,} {languages.language(code).name if code else 'not told'}" for code, count in most)
        print("languages: " + ", ".join(names) + ("  (chosen)" if info.manifest.language else ""))
    if info.manifest.restricted:
        groups = ", ".join(f"{count:,} for {group}" for group, count in info.manifest.restricted.items())
        print(f"restricted: {groups}  (searched with --as GROUP)")
    for known in info.manifest.dialects:
        print(f"dialect: {known.dialect}  {known.folder or '.'}  ({known.reason()})")
    if info.changes:
        what = info.changes
        print(
            f"{what.added:,} added, {what.changed:,} changed, {what.removed:,} removed, {what.relabelled:,} relabelled, ", end=""
        )
        print(f"{what.unchanged:,} unchanged" + ("" if info.written else "; nothing written"))
    for title, counted, examples in (
        ("left out", info.manifest.skipped, info.manifest.skipped_examples),
        ("noted", info.manifest.notes, info.manifest.note_examples),
    ):
        for reason, count in counted.items():
            print(f"{title}: {count:>6,}  {reason}" + (f"  (e.g. {examples[reason][0]})" if examples.get(reason) else ""))
