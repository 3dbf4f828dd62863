"""The documents of a corpus on disk: one Parquet table and a manifest, replaced as a whole or not at all.

`<home>/corpora/<name>/manifest.json` names the table that is in force. A new table is written beside it, then the manifest
is replaced in one step, then the old table is removed; a process that dies anywhere leaves the old or the new corpus.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import __version__, catalogue, files, groups, settings
from rag_vs_ft import language as languages
from rag_vs_ft.corpus import reading as readings
from rag_vs_ft.corpus.manifest import MANIFEST, CorpusCounts, CorpusManifest, read_manifest
from rag_vs_ft.corpus.reading import FileRead
from rag_vs_ft.corpus.sources import Options, Reading, read_source
from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Document, Heading, Place
from rag_vs_ft.settings import Home, check_name

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_GROUP = 256
AUTO = "auto"
"""In place of a language: recognise it again."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What an update did, in documents. `changed` have other text; `relabelled` only another title, url, service or date."""

    added: int
    changed: int
    removed: int
    unchanged: int
    relabelled: int


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """A corpus by its name and manifest; `changes` is set by `update`, whose `written` is False when nothing differed."""

    name: str
    manifest: CorpusManifest
    changes: Changes | None = None
    written: bool = True

    def to_json(self) -> dict[str, Any]:
        """The object that the `corpus` verbs print."""
        changes = asdict(self.changes) if self.changes else None
        return {"name": self.name, "changes": changes, "written": self.written, **self.manifest.to_json()}


class Corpus:
    """A corpus that is open for reading. Documents come in order of id and are read from disk as they are asked for.

    Whoever reads is of the groups `reader` (`settings.reader`): training, questions and pages see the documents that these groups
    may read. An index is built from all, and leaves passages out when it is searched.
    """

    def __init__(self, name: str, folder: Path, manifest: CorpusManifest) -> None:
        self.name = name
        self.manifest = manifest
        self.reader = settings.reader()
        self._table_path = folder / manifest.table

    @property
    def sha256(self) -> str:
        """Hash over the ids and text hashes of all documents."""
        return self.manifest.sha256

    def __len__(self) -> int:
        return self.manifest.counts.documents

    def documents(self) -> Iterator[Document]:
        """The documents that the reader may read, in order of id."""
        return (document for document in self.all_documents() if groups.may_read(document.groups, self.reader))

    def all_documents(self) -> Iterator[Document]:
        """All documents in order of id, also those for other groups."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self._path) as table:
                for batch in table.iter_batches(batch_size=_ROWS_PER_GROUP):
                    for row in batch.to_pylist():
                        yield _from_row(row)
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(error) from error

    def get(self, document_id: str) -> Document:
        """The document with this id; UserError when there is none."""
        row = self._rows.get(document_id)
        document = None if row is None else _from_row(self._table.slice(row, 1).to_pylist()[0])
        if document is None or not groups.may_read(document.groups, self.reader):
            raise UserError(f"corpus {self.name!r} has no document {document_id!r}", "ids are paths below the added folder")
        return document

    def __contains__(self, document_id: object) -> bool:
        return document_id in self._rows

    @cached_property
    def _table(self) -> pa.Table:
        import pyarrow.parquet as pq

        try:
            return pq.read_table(self._path)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self._table.column("id").to_pylist())}

    @cached_property
    def _path(self) -> Path:
        """The table's path, once its bytes are known to be those that were written; Parquet itself notices little."""
        try:
            found = files.sha256_file(self._table_path)
        except FileNotFoundError as error:
            raise Busy(f"corpus {self.name!r} was updated while it was open", "run the command again") from error
        except OSError as error:
            raise self._damaged(error) from error
        if found != self.manifest.table_sha256:
            raise self._damaged(ValueError("its bytes are not those that were written"))
        return self._table_path

    def _damaged(self, error: Exception) -> CheckFailed:
        return CheckFailed(
            f"corpus {self.name!r} is damaged: {self._table_path.name}: {str(error).splitlines()[0]}",
            f"remove {self._table_path.parent} and add the corpus again",
        )


def add(
    name: str,
    source: str,
    *,
    include_faq: bool = False,
    dialect: str | None = None,
    language: str | None = None,
    groups: tuple[str, ...] = (),
    home: Home,
    progress: Progress = silent,
) -> CorpusInfo:
    """Read SOURCE into a new corpus.

    `dialect` names the Markdown dialect of all its files; without it each folder's is recognised (`corpus.dialects`). `language`
    is the ISO 639-1 code of all its documents; without it each one's is recognised (`language.detect`). Tokens are counted with
    the embedding model's tokenizer where it has been pulled; else the manifest says null. `groups` may read what does not name
    others itself (`corpus.access`); none: everyone.

    Raises UserError when the name is taken or unusable, the source cannot be read or has no documents, or the language is not
    known, and Busy while another process writes it.
    """
    check_name("corpus", name)
    chosen = languages.language(language).code if language else None
    with _writing(home, name):
        if (home.corpora / name / MANIFEST).exists():
            raise UserError(f"corpus {name!r} exists", f"use another name, or: rag-vs-ft corpus update {name} {source}")
        return _write(name, source, include_faq, Chosen(dialect, chosen, groups), home, None, progress)


def update(
    name: str,
    source: str | None = None,
    *,
    dialect: str | None = None,
    language: str | None = None,
    groups: tuple[str, ...] | None = None,
    home: Home,
    progress: Progress = silent,
) -> CorpusInfo:
    """Read the corpus's source again (or another one) and say what changed; writes nothing when nothing did.

    A dialect, language or groups that were chosen before stay chosen until others are; the language "auto" is recognised again.
    Empty `groups` are everyone.

    Raises what `add` raises, and UserError when there is no such corpus.
    """
    old = open_corpus(name, home)
    with _writing(home, name):
        old = open_corpus(name, home)
        before = old.manifest
        spoken = before.language
        if language:
            spoken = None if language == AUTO else languages.language(language).code
        chosen = Chosen(dialect or before.dialect, spoken, before.groups if groups is None else groups)
        return _write(name, source or before.source, before.include_faq, chosen, home, old, progress)


def open_corpus(name: str, home: Home) -> Corpus:
    """Open a corpus for reading. Raises UserError when there is none of this name, CheckFailed when it is damaged."""
    folder = home.corpora / check_name("corpus", name)
    manifest = read_manifest(folder)
    if manifest is None:
        known = ", ".join(sorted(path.parent.name for path in home.corpora.glob(f"*/{MANIFEST}"))) or "none"
        raise UserError(f"no corpus {name!r} in {home.corpora}", f"there: {known}. Make one: rag-vs-ft corpus add {name} SOURCE")
    table = folder / manifest.table
    if not table.is_file() or table.stat().st_size != manifest.table_bytes:
        raise CheckFailed(
            f"corpus {name!r} is damaged: {table.name} is missing or cut off",
            f"remove {folder} and add the corpus again from {manifest.source}",
        )
    return Corpus(name, folder, manifest)


def has_corpus(name: str, home: Home) -> bool:
    """Whether there is a corpus of this name, whole or damaged."""
    return (home.corpora / name / "manifest.json").exists()


def list_corpora(home: Home) -> list[CorpusInfo]:
    """The corpora of this home by name. A damaged one is left out: opening it says what is wrong (`damaged_corpora`)."""
    return [CorpusInfo(name, found) for name, found in _all(home) if isinstance(found, CorpusManifest)]


def names(home: Home) -> list[str]:
    """Names of the corpora of this home, whole or damaged."""
    return [name for name, found in _all(home) if found is not None]


def damaged_corpora(home: Home) -> dict[str, CheckFailed]:
    """What is wrong with each corpus of this home whose manifest cannot be read, by name."""
    return {name: found for name, found in _all(home) if isinstance(found, CheckFailed)}


def _all(home: Home) -> Iterator[tuple[str, CorpusManifest | CheckFailed | None]]:
    for folder in sorted(home.corpora.iterdir()) if home.corpora.is_dir() else []:
        if folder.is_dir():
            try:
                found = read_manifest(folder)
                if found is None and any(folder.glob("documents-*.parquet")):
                    raise CheckFailed(f"{folder / MANIFEST} is missing", f"rag-vs-ft corpus add {folder.name} SOURCE")
                yield folder.name, found
            except CheckFailed as error:
                yield folder.name, error


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the user chose for all documents of a corpus (None, or no groups: each document's own)."""

    dialect: str | None
    language: str | None
    groups: tuple[str, ...]


def verify(name: str, home: Home) -> list[str]:
    """Compare every file of a corpus with what was written; the faults, each naming its file.

    Raises UserError when there is no such corpus.
    """
    folder = home.corpora / check_name("corpus", name)
    try:
        corpus = open_corpus(name, home)
        read = sum(1 for _ in corpus.documents())
    except (CheckFailed, Busy) as error:
        return [error.message]
    faults = [] if read == len(corpus) else [f"{corpus.manifest.table}: {read} documents, the manifest says {len(corpus)}"]
    if problem := readings.damage(folder, corpus.manifest.table_sha256):
        faults.append(f"{folder / readings.FILES}: {problem}; the next corpus update reads every file again and mends it")
    return faults


# --- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def _writing(home: Home, name: str) -> Iterator[None]:
    """Only this process writes the corpus; what the disk refuses is a UserError that says so."""
    with files.lock(home.corpora / f".{name}.lock", f"another process is writing corpus {name!r}"):
        try:
            yield
        except OSError as error:
            raise files.unusable(error) from error


def _write(
    name: str,
    source: str,
    include_faq: bool,
    chosen: Chosen,
    home: Home,
    old: Corpus | None,
    progress: Progress,
) -> CorpusInfo:
    """Read the source, write table and manifest if they differ from `old`, publish, sweep. The lock is held."""
    language = chosen.language
    reading = read_source(source, Options(home, chosen.dialect, chosen.groups, progress))
    folder = home.corpora / name
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "documents.tmp"
    count_tokens = _token_counter()
    before = readings.Before({})
    if old and (old.manifest.counts.tokens is None) == (count_tokens is None):
        before = readings.Before.load(folder, old.manifest.table_sha256, include_faq)
    try:
        found = readings.read(reading, before, include_faq, count_tokens, progress)
        first = _until_new(found)
        known: list[readings.Known] = []
        changes: Changes | None
        if old and _nothing_new(first, old, reading) and old.manifest.language == language:
            known = [read.known for read in first]
            table, changes = _Table.of(old.manifest), Changes(0, 0, 0, len(old), 0)
        else:
            table = _write_table(temporary, _documents(chain(first, found), known, old, language), count_tokens is not None)
            if not table.marks:
                reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(reading.skipped.counts.items()))
                raise UserError(f"no documents in {source}", f"left out: {reasons}" if reasons else "the source is empty")
            changes = _compare(old, table.marks) if old else None
        manifest = CorpusManifest(
            source=reading.source,
            source_kind=reading.kind,
            include_faq=include_faq,
            commits=dict(reading.commits),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            code_version=__version__,
            sha256=table.sha256,
            table=f"documents-{table.table_sha256[:16]}.parquet",
            table_bytes=table.table_bytes,
            table_sha256=table.table_sha256,
            counts=table.counts,
            tokenizer=None if table.counts.tokens is None else settings.EMBEDDER,
            skipped=dict(sorted(reading.skipped.counts.items())),
            skipped_examples={key: tuple(value) for key, value in sorted(reading.skipped.examples.items())},
            notes=dict(sorted(reading.notes.counts.items())),
            note_examples={key: tuple(value) for key, value in sorted(reading.notes.examples.items())},
            dialect=chosen.dialect,
            dialects=tuple(reading.dialects.values()),
            kinds=table.kinds,
            language=language,
            languages=table.languages,
            groups=chosen.groups,
            restricted=table.restricted,
        )
        written = not (old and old.manifest.same_content(manifest))
        if written:
            if temporary.exists():
                files.publish(temporary, folder / manifest.table)
            files.write_record(folder / MANIFEST, manifest.to_json())
        if written or known != list(before.known.values()):
            with suppress(OSError):  # without it everything is read again, no more
                readings.save(folder, known, table.table_sha256, include_faq)
        # Also when nothing differed: a process that was killed after its manifest has swept nothing.
        _sweep(folder, manifest.table)
        return CorpusInfo(name, manifest if written or old is None else old.manifest, changes, written)
    finally:
        files.discard(temporary)
        if not existed and not (folder / MANIFEST).exists():
            files.discard(folder)


def _until_new(found: Iterator[FileRead]) -> list[FileRead]:
    """The files up to the first that has a new document."""
    first = []
    for read in found:
        first.append(read)
        if read.document:
            break
    return first


def _nothing_new(first: list[FileRead], old: Corpus, reading: Reading) -> bool:
    """Whether the documents are those that the corpus has."""
    if any(read.document for read in first) or dict(old.manifest.commits) != dict(reading.commits):
        return False
    return sum(read.taken_over for read in first) == len(old)


def _documents(
    found: Iterable[FileRead], known: list[readings.Known], old: Corpus | None, language: str | None
) -> Iterator[tuple[Document, readings.Known]]:
    """Each document in order of id, those that are as they were from the corpus; what is kept of each file goes to `known`."""
    before = old.all_documents() if old else iter(())
    for read in found:
        known.append(read.known)
        document = read.document
        if read.taken_over:
            document = next(candidate for candidate in before if candidate.id == read.file.id)
            document = replace(document, commit=read.file.known.get("commit", ""))
            # What was chosen before is no evidence once something else is.
            if document and not language and old and old.manifest.language:
                document = replace(document, language=languages.detect(document.text))
        if document:
            yield replace(document, language=language or document.language), read.known


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of documents. `marks`: document id -> (text hash, hash of everything else but the commit); `kinds`, `languages` and
    `restricted` (by group) count documents."""

    sha256: str
    table_sha256: str
    table_bytes: int
    counts: CorpusCounts
    kinds: dict[str, int]
    languages: dict[str, int]
    restricted: dict[str, int]
    marks: dict[str, tuple[str, str]]

    @staticmethod
    def of(manifest: CorpusManifest) -> _Table:
        """The table of a corpus that is there."""
        counted = dict(manifest.kinds), dict(manifest.languages), dict(manifest.restricted)
        return _Table(manifest.sha256, manifest.table_sha256, manifest.table_bytes, manifest.counts, *counted, {})


def _write_table(path: Path, documents: Iterable[tuple[Document, readings.Known]], tokens_counted: bool) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    marks: dict[str, tuple[str, str]] = {}
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    spoken: Counter[str] = Counter()
    restricted: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    schema = _schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for document, known in documents:
            rows.append(_row(document))
            marks[document.id] = _marks(document)
            kinds[document.kind] += 1
            spoken[document.language] += 1
            restricted.update(document.groups)
            counts.update(
                documents=1,
                source_bytes=known.size,
                bytes=len(document.text.encode()),
                characters=len(document.text),
                words=len(document.text.split()),
                tokens=known.tokens,
            )
            if len(rows) == _ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows.clear()
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    totals = {name: counts[name] for name in ("documents", "source_bytes", "bytes", "characters", "words")}
    return _Table(
        sha256=files.sha256_text("".join(f"{key}\0{text}\n" for key, (text, _) in sorted(marks.items()))),
        table_sha256=files.sha256_file(path),
        table_bytes=path.stat().st_size,
        counts=CorpusCounts(**totals, tokens=counts["tokens"] if tokens_counted else None),
        kinds=dict(sorted(kinds.items())),
        languages=dict(sorted(spoken.items())),
        restricted=dict(sorted(restricted.items())),
        marks=marks,
    )


def _token_counter() -> Callable[[list[str]], int] | None:
    """Counts the tokens of texts with the embedding model's tokenizer, special tokens left out; None while it is not pulled."""
    file = catalogue.find(settings.EMBEDDER).folder / "tokenizer.json"
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: sum(len(found) for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False))


def _schema() -> pa.Schema:
    import pyarrow as pa

    heading = pa.struct([("level", pa.int8()), ("text", pa.string()), ("offset", pa.int64())])
    place = pa.struct([("offset", pa.int64()), ("name", pa.string())])
    names = ("id", "title", "text", "url", "service", "date", "commit", "description", "kind", "language")
    columns = [(name, pa.string()) for name in names]
    lists = [("headings", pa.list_(heading)), ("places", pa.list_(place)), ("groups", pa.list_(pa.string()))]
    return pa.schema([*columns, *lists])


def _row(document: Document) -> dict[str, Any]:
    """The row of a document; `asdict` would copy each text and each number by themselves."""
    row = {name: getattr(document, name) for name in Document.__dataclass_fields__}
    row["headings"] = [{"level": found.level, "text": found.text, "offset": found.offset} for found in document.headings]
    row["places"] = [{"offset": found.offset, "name": found.name} for found in document.places]
    return row


def _from_row(row: dict[str, Any]) -> Document:
    """A document of a row; a table of an earlier version has no kind, places, language or groups."""
    headings = tuple(Heading(**heading) for heading in row["headings"])
    places = tuple(Place(**place) for place in row.get("places", ()))
    return Document(**{**row, "headings": headings, "places": places, "groups": tuple(row.get("groups") or ())})


def _marks(document: Document) -> tuple[str, str]:
    labels = {key: value for key, value in _row(document).items() if key not in ("text", "commit")}
    labels["language"] = document.language or "en"  # what a table of an earlier version was read as
    return document.sha256, files.sha256_text(json.dumps(labels, sort_keys=True))


def _compare(old: Corpus, marks: dict[str, tuple[str, str]]) -> Changes:
    before = {document.id: _marks(document) for document in old.all_documents()}
    both = before.keys() & marks.keys()
    changed = sum(before[key][0] != marks[key][0] for key in both)
    relabelled = sum(before[key][0] == marks[key][0] and before[key] != marks[key] for key in both)
    return Changes(
        added=len(marks.keys() - before.keys()),
        changed=changed,
        removed=len(before.keys() - marks.keys()),
        unchanged=len(both) - changed - relabelled,
        relabelled=relabelled,
    )


def _sweep(folder: Path, table: str) -> None:
    """Remove tables that no manifest names and what a killed process left."""
    for path in folder.iterdir():
        if path.name not in (table, MANIFEST, readings.FILES):
            files.remove(path)
