"""The manifest of a generation: what the index was made of and by what, and the size and SHA-256 of each of its files.

The dataclasses mirror the JSON. `from_json` is the only reader: a manifest of another shape is a CheckFailed that names the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index.chunking import Chunker
from rag_vs_ft.index.embedding import EmbedderId
from rag_vs_ft.index.lexical import Analyzer, Bm25Settings

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1


@dataclass(frozen=True, slots=True)
class CorpusState:
    """The corpus as it was read: its name, the hash over its documents, its table, source and commits."""

    name: str
    sha256: str
    table: str
    source: str
    commits: dict[str, str]
    created: str


@dataclass(frozen=True, slots=True)
class Vectors:
    """`version` of the code that turned texts into vectors."""

    version: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that decides an index: two with equal inputs have equal files."""

    corpus: CorpusState
    chunker: Chunker
    analyzer: Analyzer
    bm25: Bm25Settings
    embedder: EmbedderId
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class DenseKind:
    """The kind of vector index (`index.dense.KINDS`)."""

    kind: str


@dataclass(frozen=True, slots=True)
class IndexCounts:
    """What a build found: documents, chunks (against the generation before), tokens; texts that were taken over or embedded."""

    documents: int
    chunks: int
    chunks_kept: int
    chunks_added: int
    chunks_removed: int
    tokens: int
    unique_texts: int
    reused: int
    embedded: int


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """The manifest of one generation. `generations.publish` fills in `generation`, `created` (ISO 8601) and `files`.

    `seconds` are of this build alone. `seconds_in_all` adds those of the generations whose vectors it reused: what the index
    has cost. It is None where that is not known. `languages` counts chunks by the language that BM25 read them in; it is empty in
    an index of an earlier version, which read all as English.
    """

    code_version: str
    inputs: Inputs
    dense: DenseKind
    counts: IndexCounts
    seconds: dict[str, float]
    threads: int
    seconds_in_all: float | None = None
    languages: dict[str, int] = field(default_factory=dict)
    generation: str = ""
    created: str = ""
    files: dict[str, FileRecord] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def cost_seconds(self) -> float | None:
        """Seconds that the index has cost, its updates included; None when it was updated before that was recorded."""
        if self.seconds_in_all is None and not self.counts.reused:
            return sum(self.seconds.values())
        return self.seconds_in_all

    def to_json(self) -> dict[str, Any]:
        """The object in `manifest.json`: the inputs are on one level with the other fields."""
        record = asdict(self)
        return {
            "format": FORMAT,
            "generation": record["generation"],
            "created": record["created"],
            "code_version": record["code_version"],
            "corpus": record["inputs"]["corpus"],
            "chunker": self.inputs.chunker.to_json(),
            "analyzer": self.inputs.analyzer.to_json(),
            "bm25": record["inputs"]["bm25"],
            "embedder": self.inputs.embedder.to_json(),
            "vectors": record["inputs"]["vectors"],
            "dense": record["dense"],
            "languages": record["languages"],
            "counts": record["counts"],
            "seconds": record["seconds"],
            "seconds_in_all": record["seconds_in_all"],
            "threads": record["threads"],
            "files": record["files"],
        }

    @staticmethod
    def read(path: Path) -> IndexManifest:
        """The manifest in the file `path`; CheckFailed, naming the file and the next step, when it is not one."""
        hint = f"rag-vs-ft index rollback {path.parent.parent.name}, or build the index again"
        try:
            record = files.read_json(path, hint)
        except FileNotFoundError as error:
            raise CheckFailed(f"{path} is missing", hint) from error
        manifest = IndexManifest.parse(record, str(path), hint)
        if manifest.generation != path.parent.name:
            raise CheckFailed(f"{path} is damaged: it is not the manifest of this folder", hint)
        return manifest

    @staticmethod
    def parse(record: dict[str, Any], path: str, hint: str) -> IndexManifest:
        """The manifest in a JSON object that was read from `path`; CheckFailed when it is not one."""
        if record.get("format") != FORMAT:
            raise CheckFailed(f"{path} has format {record.get('format')!r}, this version reads {FORMAT}", hint)
        try:
            manifest = _adapter().validate_json(json.dumps(record | {"inputs": record}), strict=True)
            datetime.fromisoformat(manifest.created)
        except UserError as error:  # a setting that is out of range
            raise CheckFailed(f"{path} is damaged: {error.message}", hint) from error
        except ValueError as error:
            raise CheckFailed(f"{path} is damaged: {_reason(error)}", hint) from error
        inside = all(name and not Path(name).is_absolute() and ".." not in Path(name).parts for name in manifest.files)
        if not manifest.files or not inside:
            raise CheckFailed(f"{path} is damaged: it is not the manifest of this folder", hint)
        return manifest


@cache
def _adapter() -> TypeAdapter[IndexManifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(IndexManifest)


def _reason(error: ValueError) -> str:
    """The first fault in one line: where it is and what it is."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'] if part != 'inputs')}: {first['msg']}"
