"""The documents of a corpus on disk: one Parquet table and a manifest, replaced as a whole or not at all.

`<home>/corpora/<name>/manifest.json` names the table that is in force. A new table is written beside it, then the manifest
is replaced in one step, then the old table is removed; a process that dies anywhere leaves the old or the new corpus.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from rag_vs_ft import __version__, catalogue, settings
from rag_vs_ft.corpus.readers import BY_KIND, Context, LeftOut
from rag_vs_ft.corpus.sources import Options, RawFile, Reading, read_source
from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Document, Heading, sha256_text
from rag_vs_ft.settings import Home, check_name

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
_ROWS_PER_GROUP = 256


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
    manifest: dict[str, Any]
    changes: Changes | None = None
    written: bool = True

    def to_json(self) -> dict[str, Any]:
        """The object that the `corpus` verbs print."""
        changes = asdict(self.changes) if self.changes else None
        return {"name": self.name, "changes": changes, "written": self.written, **self.manifest}


class Corpus:
    """A corpus that is open for reading. Documents come in order of id and are read from disk as they are asked for."""

    def __init__(self, name: str, folder: Path, manifest: dict[str, Any]) -> None:
        self.name = name
        self.manifest = manifest
        self._table_path = folder / manifest["table"]

    @property
    def sha256(self) -> str:
        """Hash over the ids and text hashes of all documents."""
        return self.manifest["sha256"]

    def __len__(self) -> int:
        return self.manifest["counts"]["documents"]

    def documents(self) -> Iterator[Document]:
        """All documents in order of id."""
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
        if row is None:
            raise UserError(f"corpus {self.name!r} has no document {document_id!r}", "ids are paths below the added folder")
        return _from_row(self._table.slice(row, 1).to_pylist()[0])

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
            found = _file_sha256(self._table_path)
        except FileNotFoundError as error:
            raise Busy(f"corpus {self.name!r} was updated while it was open", "run the command again") from error
        except OSError as error:
            raise self._damaged(error) from error
        if found != self.manifest["table_sha256"]:
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
    home: Home,
    progress: Progress = silent,
) -> CorpusInfo:
    """Read SOURCE into a new corpus.

    `dialect` names the Markdown dialect of all its files; without it each folder's is recognised (`corpus.dialects`). Tokens are
    counted with the embedding model's tokenizer where it has been pulled; else the manifest says null. Raises
    UserError when the name is taken or unusable, the source cannot be read or has no documents, and Busy while another
    process writes it.
    """
    check_name("corpus", name)
    with _lock(home, name):
        if (home.corpora / name / "manifest.json").exists():
            raise UserError(f"corpus {name!r} exists", f"use another name, or: rag-vs-ft corpus update {name} {source}")
        return _write(name, source, include_faq, dialect, home, None, progress)


def update(
    name: str,
    source: str | None = None,
    *,
    dialect: str | None = None,
    home: Home,
    progress: Progress = silent,
) -> CorpusInfo:
    """Read the corpus's source again (or another one) and say what changed; writes nothing when nothing did.

    A dialect that was chosen before stays chosen until another one is.

    Raises what `add` raises, and UserError when there is no such corpus.
    """
    old = open_corpus(name, home)
    with _lock(home, name):
        old = open_corpus(name, home)
        before = old.manifest
        chosen = dialect or before.get("dialect")
        return _write(name, source or before["source"], before["include_faq"], chosen, home, old, progress)


def open_corpus(name: str, home: Home) -> Corpus:
    """Open a corpus for reading. Raises UserError when there is none of this name, CheckFailed when it is damaged."""
    folder = home.corpora / check_name("corpus", name)
    manifest = _read_manifest(folder)
    if manifest is None:
        known = ", ".join(sorted(path.parent.name for path in home.corpora.glob("*/manifest.json"))) or "none"
        raise UserError(f"no corpus {name!r} in {home.corpora}", f"there: {known}. Make one: rag-vs-ft corpus add {name} SOURCE")
    table = folder / manifest["table"]
    if not table.is_file() or table.stat().st_size != manifest["table_bytes"]:
        raise CheckFailed(
            f"corpus {name!r} is damaged: {table.name} is missing or cut off",
            f"remove {folder} and add the corpus again from {manifest['source']}",
        )
    return Corpus(name, folder, manifest)


def list_corpora(home: Home) -> list[CorpusInfo]:
    """All corpora of this home by name; folders without a manifest are none."""
    folders = sorted(home.corpora.iterdir()) if home.corpora.is_dir() else []
    found = [(folder.name, _read_manifest(folder)) for folder in folders if folder.is_dir()]
    return [CorpusInfo(name, manifest) for name, manifest in found if manifest is not None]


# --- reading ---------------------------------------------------------------------------------------------------------


def _documents(reading: Reading, include_faq: bool) -> Iterator[tuple[Document, int]]:
    """Each document and the size of its source in bytes; what was skipped and what was mended is counted in the reading."""
    for file in reading.files:
        try:
            document = _read(file, reading, include_faq)
        except LeftOut as reason:
            reading.skipped.add(str(reason), file.path)
        else:
            yield document, len(file.data)


def _read(file: RawFile, reading: Reading, include_faq: bool) -> Document:
    """The document that a file holds. Raises LeftOut."""
    content = BY_KIND[file.kind].read(file.data, Context(file.path, reading.read, file.dialect, include_faq))
    for what, count in content.notes.items():
        reading.notes.add(what, file.path, count)
    if not content.text:
        raise LeftOut("empty")
    known = file.known
    return Document(
        id=file.path,
        title=known.get("title") or content.title or Path(file.path).stem,
        text=content.text,
        headings=content.headings,
        url=known.get("url", ""),
        service=content.service or known.get("service", ""),
        date=content.date or known.get("date", ""),
        commit=known.get("commit", ""),
        description=content.description,
    )


# --- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def _lock(home: Home, name: str) -> Iterator[None]:
    """Only this process writes the corpus; what the disk refuses is told as the user's to mend."""
    try:
        home.corpora.mkdir(parents=True, exist_ok=True)
        with FileLock(home.corpora / f".{name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise Busy(f"another process is writing corpus {name!r}", "wait for it to end, then try again") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write corpus {name!r} in {home.corpora}: {reason}", "check free space and permissions"
        ) from error


def _write(
    name: str,
    source: str,
    include_faq: bool,
    dialect: str | None,
    home: Home,
    old: Corpus | None,
    progress: Progress,
) -> CorpusInfo:
    """Read the source, write table and manifest if they differ from `old`, publish, sweep. The lock is held."""
    reading = read_source(source, Options(dialect, progress))
    folder = home.corpora / name
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "documents.tmp"
    try:
        summary = _write_table(temporary, _documents(reading, include_faq), progress)
        if not summary.marks:
            reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(reading.skipped.counts.items()))
            raise UserError(f"no documents in {source}", f"skipped: {reasons}" if reasons else "the source is empty")
        changes = _compare(old, summary.marks) if old else None
        corpus_sha256 = hashlib.sha256(
            "".join(f"{key}\0{text}\n" for key, (text, _) in sorted(summary.marks.items())).encode()
        ).hexdigest()
        table_sha256 = _file_sha256(temporary)
        table = f"documents-{table_sha256[:16]}.parquet"
        manifest = {
            "format": FORMAT,
            "source": reading.source,
            "source_kind": reading.kind,
            "include_faq": include_faq,
            "dialect": dialect,
            "dialects": [asdict(found) for found in reading.dialects.values()],
            "commits": dict(reading.commits),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "code_version": __version__,
            "sha256": corpus_sha256,
            "table": table,
            "table_bytes": temporary.stat().st_size,
            "table_sha256": table_sha256,
            "counts": summary.counts,
            "tokenizer": None if summary.counts["tokens"] is None else settings.EMBEDDER,
            "skipped": dict(sorted(reading.skipped.counts.items())),
            "skipped_examples": dict(sorted(reading.skipped.examples.items())),
            "notes": dict(sorted(reading.notes.counts.items())),
            "note_examples": dict(sorted(reading.notes.examples.items())),
        }
        same = ("source", "commits", "table_sha256", "skipped", "notes", "dialect", "dialects")
        if old and all(old.manifest.get(key) == manifest[key] for key in same):
            return CorpusInfo(name, old.manifest, changes, written=False)
        _fsync(temporary)
        temporary.replace(folder / table)
        _publish(folder / "manifest.json", manifest)
        _sweep(folder, table)
        return CorpusInfo(name, manifest, changes)
    finally:
        temporary.unlink(missing_ok=True)
        if not existed and not (folder / "manifest.json").exists():
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Summary:
    """`marks`: document id -> (text hash, hash of everything else but the commit)."""

    marks: dict[str, tuple[str, str]]
    counts: dict[str, int | None]


def _write_table(path: Path, documents: Iterable[tuple[Document, int]], progress: Progress) -> _Summary:
    import pyarrow as pa
    import pyarrow.parquet as pq

    marks: dict[str, tuple[str, str]] = {}
    counts = {"documents": 0, "source_bytes": 0, "bytes": 0, "characters": 0, "words": 0}
    count_tokens = _token_counter()
    tokens = 0
    rows: list[dict[str, Any]] = []
    schema = _schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            nonlocal tokens
            if count_tokens and rows:
                tokens += count_tokens([row["text"] for row in rows])
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()
            progress("read documents", counts["documents"])

        for document, size in documents:
            row = asdict(document)
            rows.append(row)
            labels = {key: value for key, value in row.items() if key not in ("text", "commit")}
            marks[document.id] = (document.sha256, sha256_text(json.dumps(labels, sort_keys=True)))
            counts["documents"] += 1
            counts["source_bytes"] += size
            counts["bytes"] += len(document.text.encode())
            counts["characters"] += len(document.text)
            counts["words"] += len(document.text.split())
            if len(rows) == _ROWS_PER_GROUP:
                flush()
        if rows:
            flush()
    return _Summary(marks, {**counts, "tokens": tokens if count_tokens else None})


def _token_counter() -> Callable[[list[str]], int] | None:
    """Counts the tokens of texts with the embedding model's tokenizer, special tokens left out; None while it is not pulled."""
    file = catalogue.folder(catalogue.find(settings.EMBEDDER)) / "tokenizer.json"
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
    names = ("id", "title", "text", "url", "service", "date", "commit", "description")
    return pa.schema([*((name, pa.string()) for name in names), ("headings", pa.list_(heading))])


def _from_row(row: dict[str, Any]) -> Document:
    return Document(**{**row, "headings": tuple(Heading(**heading) for heading in row["headings"])})


def _marks_of(corpus: Corpus) -> dict[str, tuple[str, str]]:
    marks = {}
    for document in corpus.documents():
        labels = {key: value for key, value in asdict(document).items() if key not in ("text", "commit")}
        marks[document.id] = (document.sha256, sha256_text(json.dumps(labels, sort_keys=True)))
    return marks


def _compare(old: Corpus, marks: dict[str, tuple[str, str]]) -> Changes:
    before = _marks_of(old)
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


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckFailed(f"cannot read {path}: {error}", f"remove {folder} and add the corpus again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else "no format"
        raise UserError(f"{path}: format {found!r}, this version reads {FORMAT}", f"remove {folder} and add the corpus again")
    if not re.fullmatch(r"documents-[0-9a-f]{16}\.parquet", str(manifest.get("table"))):
        raise CheckFailed(f"{path} names no documents table", f"remove {folder} and add the corpus again")
    return manifest


def _publish(path: Path, manifest: dict[str, Any]) -> None:
    temporary = path.with_name("manifest.tmp")
    temporary.write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    _fsync(temporary)
    temporary.replace(path)
    _fsync(path.parent)


def _sweep(folder: Path, table: str) -> None:
    """Remove tables that no manifest names and what a killed process left."""
    for path in folder.iterdir():
        if path.name not in (table, "manifest.json"):
            path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows cannot open a folder
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
