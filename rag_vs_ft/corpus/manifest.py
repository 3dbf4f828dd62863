"""The manifest of a corpus: what it was read from, what came out, and which table holds it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.corpus.dialects import Recognised
from rag_vs_ft.errors import CheckFailed

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class CorpusCounts:
    """Size of a corpus. `source_bytes` is the size of the files that became documents; `tokens` are the embedding model's, None
    while its tokenizer has not been pulled."""

    documents: int
    source_bytes: int
    bytes: int
    characters: int
    words: int
    tokens: int | None


@dataclass(frozen=True, slots=True)
class CorpusManifest:
    """What `manifest.json` holds.

    `source` reads the same again; `dialect` is the Markdown dialect that the user chose for all of it (None: `dialects` were
    recognised). `table` is the file of documents. `skipped` and `notes` count what was left out and what was mended, by reason,
    each with a few examples. `kinds` counts documents by the kind of their file. `language` is the one that the user chose for
    all documents (None: each one's was recognised), and `languages` counts documents by language ("": not told). `groups` are
    those that the user chose for documents that name none, and `restricted` counts documents by the groups that may read them.
    """

    source: str
    source_kind: str
    include_faq: bool
    commits: Mapping[str, str]
    created: str
    code_version: str
    sha256: str
    table: str
    table_bytes: int
    table_sha256: str
    counts: CorpusCounts
    tokenizer: str | None
    skipped: Mapping[str, int]
    skipped_examples: Mapping[str, tuple[str, ...]]
    notes: Mapping[str, int]
    note_examples: Mapping[str, tuple[str, ...]]
    dialect: str | None = None
    dialects: tuple[Recognised, ...] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)
    language: str | None = None
    languages: Mapping[str, int] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    restricted: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The object in `manifest.json`, which the `corpus` verbs print too."""
        return {"format": self.format, **asdict(self)}

    @property
    def main_language(self) -> str:
        """The language of most documents; "" when none was told."""
        told = {code: count for code, count in self.languages.items() if code}
        return max(sorted(told), key=lambda code: told[code], default="")

    def same_content(self, other: CorpusManifest) -> bool:
        """Whether both say the same but for when and by which version they were written."""
        return all(getattr(self, name) == getattr(other, name) for name in _CONTENT)


_CONTENT = ("source", "commits", "table_sha256", "skipped", "notes", "dialect", "dialects", "include_faq", "language", "groups")


def read_manifest(folder: Path) -> CorpusManifest | None:
    """The manifest of the corpus in `folder`; None when there is none. Raises CheckFailed when it is damaged."""
    path, hint = folder / MANIFEST, f"remove {folder} and add the corpus again"
    try:
        record = files.read_json(path, hint)
    except FileNotFoundError:
        return None
    if record.get("format") != FORMAT:
        raise CheckFailed(f"{path}: format {record.get('format')!r}, this version reads {FORMAT}", hint)
    from pydantic import ValidationError

    try:
        # By way of JSON, so that a strict reader takes lists for tuples and nothing else for something else.
        manifest = _reader().validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        raise CheckFailed(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", hint) from error
    if not re.fullmatch(r"documents-[0-9a-f]{16}\.parquet", manifest.table):
        raise CheckFailed(f"{path}: table: it names no table of documents", hint)
    return manifest


@cache
def _reader() -> TypeAdapter[CorpusManifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(CorpusManifest)
