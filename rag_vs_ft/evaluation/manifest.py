"""manifest.json of a run as a record: what is needed to repeat the run, and to judge it.

It is written twice: as a `RunManifest` before the test questions are opened, and as a `FinishedManifest` when all is done.
Keys exist at the file boundary only: `to_json` and `read_manifest`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.environment import Machine
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation.figures import Openings
from rag_vs_ft.evaluation.leaks import LeakReport
from rag_vs_ft.evaluation.settling import Frozen

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from rag_vs_ft.index.search import Index

FORMAT = 1
MANIFEST = "manifest.json"
HINT = "move that folder away, or run the experiment under another name with --run: what was predicted there is used again"


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """A question file and the hash of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a run the run it is: resuming one with another identity would mix two experiments."""

    experiment_sha256: str
    questions: tuple[QuestionFile, ...]
    limit: int | None


@dataclass(frozen=True, slots=True)
class CorpusUsed:
    """The corpus by name and by the hash of its documents."""

    name: str
    sha256: str
    table: str = ""
    source: str = ""
    commits: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True, slots=True)
class IndexUsed:
    """The index and the generation that was searched, and what embedded it: fp32 and int8 give other figures."""

    name: str
    generation: str
    embedder: str = ""
    precision: str = ""

    @staticmethod
    def of(index: Index) -> IndexUsed:
        """The index as it is open."""
        embedder = index.manifest.inputs.embedder
        return IndexUsed(index.name, index.generation.name, embedder.name, embedder.precision)


@dataclass(frozen=True, slots=True)
class HeldOutText:
    """How well a model predicts the documents that training holds out; see `perplexity.TextScore`."""

    documents: int
    tokens: int
    bytes: int
    words: int
    bits_per_byte: float
    token_perplexity: float
    word_perplexity: float
    window: int
    stride: int


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """A model by the hash of its weights, and how it ran. Of a model behind a server (device "server") no more is known than its
    address; `window` is 0 where the server does not say. `trained_on_validation`: it may know the held-out documents."""

    weights_sha256: str
    device: str
    dtype: str
    threads: int
    window: int
    parameters: int
    validation: HeldOutText | None
    trained_on_validation: bool


@dataclass(frozen=True, slots=True)
class PredictionCounts:
    """How many predictions this run computed, and how many it took from the cache."""

    computed: int = 0
    reused: int = 0

    def __add__(self, other: PredictionCounts) -> PredictionCounts:
        """Of both together."""
        return PredictionCounts(self.computed + other.computed, self.reused + other.reused)


@dataclass(frozen=True, slots=True)
class RunManifest:
    """What is known, and on disk, before a test question is opened. `training_text` names the files and
    `training_corpora` the other corpora that are searched for leaks."""

    run: str
    experiment: str
    experiment_file: str
    training_text: tuple[str, ...]
    training_corpora: tuple[str, ...]
    identity: Identity
    frozen: Frozen
    skipped: Mapping[str, str]
    seed: int
    scorer_version: int
    corpus: CorpusUsed
    index: IndexUsed
    versions: Mapping[str, str]
    git_commit: str | None
    machine: Machine
    started: str

    def begun(self) -> dict[str, Any]:
        """These fields by name: what a `FinishedManifest` of the same run starts with."""
        return {one.name: getattr(self, one.name) for one in fields(RunManifest)}

    def to_json(self) -> dict[str, Any]:
        """The object in manifest.json."""
        record = {"format": FORMAT} | asdict(self) | {"frozen": self.frozen.to_json()}
        return record | record.pop("identity")


@dataclass(frozen=True, slots=True)
class FinishedManifest(RunManifest):
    """And what came of the run. `failed` holds the traceback of each arm that failed; `files` size and SHA-256 of what was
    written before this (empty in manifests of earlier versions)."""

    openings: Openings
    finished: str
    models: Mapping[str, ModelUsed]
    leaks: LeakReport
    question_ids: tuple[str, ...]
    answered_ids: tuple[str, ...]
    predictions: PredictionCounts
    failed: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Write manifest.json of a run."""
    files.write_record(folder / MANIFEST, manifest.to_json())


def read_manifest(folder: Path) -> RunManifest:
    """The manifest of a run; a `FinishedManifest` when the run has finished.

    Raises FileNotFoundError when it is missing, and CheckFailed naming the file and the first faulty field for anything else
    than a manifest.
    """
    from pydantic import ValidationError

    path = folder / MANIFEST
    record = files.read_json(path, HINT)
    if record.get("format") != FORMAT:
        raise CheckFailed(f"{path} is of format {record.get('format')!r}, not {FORMAT}", HINT)
    record.setdefault("training_corpora", [])  # manifests of earlier versions
    record["identity"] = {key.name: record.pop(key.name, None) for key in fields(Identity)}
    if isinstance(frozen := record.get("frozen"), dict):
        record["frozen"] = Frozen.nested(frozen)
    reader = _finished() if "finished" in record else _begun()
    try:
        return reader.validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"] if part != "identity")
        raise CheckFailed(f"{path}: {place}: {fault['msg'][0].lower()}{fault['msg'][1:]}", HINT) from error


def read_finished(folder: Path) -> FinishedManifest:
    """The manifest of a finished run. Raises UserError when the folder holds none, and what `read_manifest` raises."""
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no finished run: it has no {MANIFEST}", HINT) from None
    if not isinstance(manifest, FinishedManifest):
        raise UserError(f"the run in {folder} was stopped", "rag-vs-ft eval EXPERIMENT --resume goes on with it")
    return manifest


@cache
def _begun() -> TypeAdapter[RunManifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(RunManifest)


@cache
def _finished() -> TypeAdapter[FinishedManifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(FinishedManifest)
