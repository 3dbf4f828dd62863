"""The files of a source -> documents, in order of id: several at once, and only those that changed since the last time.

What became of each file is kept beside the documents (`files.parquet`): its size, time and hash, those of the files that it
includes, and the reason if it was left out. A file that is as it was is not given to its reader again. This file is a cache:
when it is missing, damaged or does not belong to the documents, everything is read.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import __version__, files, settings
from rag_vs_ft.corpus import child, readers
from rag_vs_ft.corpus.readers import BY_ENDING, Content, FileContext, LeftOut
from rag_vs_ft.corpus.sources import RawFile, Reading
from rag_vs_ft.corpus.text import normalise, one_line
from rag_vs_ft.progress import Progress
from rag_vs_ft.records import Document

if TYPE_CHECKING:
    import pyarrow as pa

FILES = "files.parquet"
_WINDOW = 8
"""Files that are read ahead for each reader."""
_SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again without another time; it is hashed the next time."""


@dataclass(frozen=True, slots=True)
class Known:
    """What became of a file.

    `facts` is the hash of what the source states of it. `parts` holds the path and hash of each file that it asked for ("": there
    was none). `left_out` is the reason for which it is not a document, with `detail`; `notes` is what was counted of it.
    """

    path: str
    kind: str
    dialect: str
    facts: str
    size: int
    changed: int
    sha256: str
    parts: tuple[tuple[str, str], ...]
    left_out: str
    detail: str
    notes: tuple[tuple[str, int], ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class FileRead:
    """One file of the source, and what is kept of it.

    `document` is None when the file was left out, and when it is as it was: the corpus then has the document already.
    """

    file: RawFile
    known: Known
    document: Document | None

    @property
    def taken_over(self) -> bool:
        """Whether the document is the one that the corpus has."""
        return self.document is None and not self.known.left_out


class Before:
    """What is known of the files of a corpus as it was; nothing when the readers have changed since."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self.known = known

    @staticmethod
    def load(folder: Path, table_sha256: str, include_faq: bool) -> Before:
        """Read what `save` wrote, if it belongs to this table of documents."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(folder / FILES, page_checksum_verification=True)
            if _stated(table, b"belongs to") != _belongs_to(table_sha256, include_faq) or _is_changed(table):
                return Before({})
            rows = [
                Known(**{**row, "parts": tuple(map(_pair, row["parts"])), "notes": tuple(map(_pair, row["notes"]))})
                for row in table.to_pylist()
            ]
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            return Before({})
        return Before({row.path: row for row in rows})


def save(folder: Path, known: list[Known], table_sha256: str, include_faq: bool) -> None:
    """Keep what became of each file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))
    note = pa.list_(pa.struct([("name", pa.string()), ("value", pa.int64())]))
    kinds = {"parts": part, "notes": note} | dict.fromkeys(("size", "changed", "tokens"), pa.int64())
    rows = [
        asdict(row) | {name: [{"name": key, "value": value} for key, value in getattr(row, name)] for name in ("parts", "notes")}
        for row in known
    ]
    schema = pa.schema(
        [(name, kinds.get(name, pa.string())) for name in Known.__dataclass_fields__],
        metadata={"belongs to": _belongs_to(table_sha256, include_faq), "rows": files.sha256_text(repr(rows))},
    )
    with files.replacing(folder / FILES) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd", write_page_checksum=True)


def damage(folder: Path, table_sha256: str) -> str | None:
    """What is wrong with what `save` wrote, or None. It costs time only: the next update reads every file again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder / FILES, page_checksum_verification=True)
        if _is_changed(table):
            return "its content is not what was written"
        belongs = _stated(table, b"belongs to").partition(" ")[0]
    except FileNotFoundError:
        return "it is missing"
    except (OSError, ValueError, pa.ArrowException) as error:
        return f"it cannot be read: {str(error).splitlines()[0]}"
    return None if belongs == table_sha256 else "it is of other documents"


def _is_changed(table: pa.Table) -> bool:
    """Whether the rows are other ones than were written; what an earlier version wrote has no hash of them."""
    stated = _stated(table, b"rows")
    return bool(stated) and stated != files.sha256_text(repr(table.to_pylist()))


def _stated(table: pa.Table, key: bytes) -> str:
    return str((table.schema.metadata or {}).get(key, b"").decode("utf-8", "replace"))


def _pair(row: dict[str, Any]) -> tuple[str, Any]:
    return row["name"], row["value"]


def _belongs_to(table_sha256: str, include_faq: bool) -> str:
    return f"{table_sha256} {include_faq} {__version__} {readers.VERSION}"


class _Files:
    """Hashes of a source's files, each computed at most once, and not at all where size and time are as they were."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._parts: dict[str, str] = {}

    def part(self, path: str) -> str:
        """The hash of a file that another one includes, and of the groups it is for; "" when there is none."""
        if path not in self._parts:
            data = self.reading.bytes_of(path)
            if data is None:
                self._parts[path] = ""
            else:
                groups = self.groups(path, data)
                self._parts[path] = files.sha256(data + (repr(groups).encode() if groups else b""))
        return self._parts[path]

    def groups(self, path: str, data: bytes) -> tuple[str, ...] | None:
        """The groups that the file at `path` is for; None when they cannot be read."""
        kind = BY_ENDING[ending].kind if (ending := Path(path).suffix.lower()) in BY_ENDING else ""
        try:
            return self.reading.access.of_document(path, kind, data)
        except LeftOut:
            return None

    def may_be_read(self, path: str, groups: tuple[str, ...]) -> bool:
        """Whether everyone who may read a document for `groups` may read the file that it includes."""
        data = self.reading.bytes_of(path)
        needed = self.groups(path, data) if data is not None else ()
        return needed == () or (needed is not None and bool(groups) and set(groups) <= set(needed))


def read(
    reading: Reading,
    before: Before,
    include_faq: bool,
    count_tokens: Callable[[list[str]], int] | None,
    progress: Progress,
) -> Iterator[FileRead]:
    """Read the files of a source in order of id; what was left out and what was noted is counted in `reading`."""
    workers = max(1, min(settings.threads(), len(reading.files)))
    parts = _Files(reading)
    waiting: deque[Future[FileRead]] = deque()
    todo = iter(reading.files)
    done = 0

    def work(file: RawFile) -> FileRead:
        found = _read(file, reading, before.known.get(file.path), parts, include_faq)
        if found.document and count_tokens:
            found = replace(found, known=replace(found.known, tokens=count_tokens([found.document.text])))
        return found

    executor = ThreadPoolExecutor(workers, thread_name_prefix="read")
    try:
        while True:
            while len(waiting) < workers * _WINDOW and (file := next(todo, None)):
                waiting.append(executor.submit(work, file))
            if not waiting:
                return
            found = waiting.popleft().result()
            for what, count in found.known.notes:
                reading.notes.add(what, found.file.path, count)
            if found.known.left_out:
                detail = f": {found.known.detail}" if found.known.detail else ""
                reading.skipped.add(found.known.left_out, found.file.path + detail)
            done += 1
            if done % 50 == 0 or done == len(reading.files):
                progress("read documents", done, len(reading.files))
            yield found
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _read(file: RawFile, reading: Reading, known: Known | None, parts: _Files, include_faq: bool) -> FileRead:
    started = time.time_ns()
    size, changed = file.stamp or (0, 0)
    if changed > started - _SETTLED_NS:
        changed = 0
    now = Known(file.path, file.kind, file.dialect, "", size, changed, "", (), "", "", (), 0)
    try:
        outside = reading.access.of(file.path)
    except LeftOut as reason:
        return _left_out(file, now, reason)
    stated = sorted((key, value) for key, value in file.known.items() if key != "commit")
    facts = files.sha256_text(repr((stated, outside)))[:16]
    now = replace(now, facts=facts)
    alike = known is not None and (known.kind, known.dialect, known.facts) == (file.kind, file.dialect, facts)
    if alike and known and changed and (known.size, known.changed) == (size, changed) and _same_parts(known, parts):
        return FileRead(file, known, None)
    try:
        data = file.read()
    except LeftOut as reason:
        return _left_out(file, now, reason)
    sha256 = files.sha256(data)
    if alike and known and known.sha256 == sha256 and _same_parts(known, parts):
        return FileRead(file, replace(known, size=size, changed=changed), None)
    try:
        groups = reading.access.of_document(file.path, file.kind, data)
    except LeftOut as reason:
        return _left_out(file, replace(now, sha256=sha256), reason)
    asked: dict[str, str] = {}
    refused: set[str] = set()

    def text_of(path: str) -> str | None:
        asked[path] = parts.part(path)
        if not parts.may_be_read(path, groups):
            refused.add(path)
            return None
        return reading.text_of(path)

    try:
        if not data:
            raise LeftOut("empty")
        content: Content | LeftOut = child.read(file.kind, data, FileContext(file.path, text_of, file.dialect, include_faq))
    except LeftOut as reason:
        content = reason
    now = replace(now, sha256=sha256, parts=tuple(asked.items()))
    if isinstance(content, LeftOut):
        return _left_out(file, now, content)
    if refused:
        content = content.with_notes(Counter({"include of a file that is for other groups": len(refused)}))
    now = replace(now, notes=tuple(sorted(content.notes.items())))
    if not content.text.strip():
        return _left_out(file, now, LeftOut("empty"))
    return FileRead(file, now, _document(file, content, groups))


def _same_parts(known: Known, parts: _Files) -> bool:
    return all(parts.part(path) == sha256 for path, sha256 in known.parts)


def _left_out(file: RawFile, known: Known, reason: LeftOut) -> FileRead:
    return FileRead(file, replace(known, left_out=reason.reason, detail=reason.detail), None)


def _document(file: RawFile, content: Content, groups: tuple[str, ...]) -> Document:
    """The document that a file holds; what its fields say is on one line each, without controls."""

    def clean(value: str) -> str:
        return one_line(normalise(value))

    known = file.known
    return Document(
        id=file.id,
        title=clean(known.get("title", "")) or clean(content.title) or clean(Path(file.path).stem) or file.id,
        text=content.text,
        headings=content.headings,
        url=clean(known.get("url", "")),
        service=clean(content.service) or clean(known.get("service", "")),
        date=clean(content.date) or clean(known.get("date", "")),
        commit=known.get("commit", ""),
        description=clean(content.description),
        kind=file.kind,
        places=content.places,
        language=content.language,
        groups=groups,
    )
