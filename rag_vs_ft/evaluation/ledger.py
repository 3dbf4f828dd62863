"""The ledger of openings: when which test questions were looked at, by what configuration.

A figure is worth less the more configurations have seen its questions. The ledger counts by question, so a changed file, or a
part of one, does not start from zero.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed
from rag_vs_ft.evaluation.figures import Openings
from rag_vs_ft.evaluation.questions import gold_answer
from rag_vs_ft.language import words
from rag_vs_ft.records import Question

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LEDGER = "openings.jsonl"


@dataclass(frozen=True, slots=True)
class Opening:
    """One line of the ledger. `questions` are fingerprints, `files` hashes of the question files; lines of earlier versions have
    the files alone."""

    time: str
    run: str
    configuration: str
    questions: frozenset[str]
    files: frozenset[str]

    def shares(self, other: Opening) -> bool:
        """Whether both opened some question."""
        if self.questions and other.questions:
            return not self.questions.isdisjoint(other.questions)
        return not self.files.isdisjoint(other.files)

    def to_json(self) -> dict[str, Any]:
        """The JSON Lines object."""
        return {**asdict(self), "questions": sorted(self.questions), "files": sorted(self.files)}


def fingerprint(question: Question) -> str:
    """What stays the same of a question when its file, id or punctuation changes: a hash of its words and its answer's."""
    return files.sha256_text(json.dumps([words(question.question), words(gold_answer(question) or "")]))[:16]


def record_opening(
    results: Path, *, run: str, configuration: Any, questions: Sequence[Question], file_hashes: Collection[str] = ()
) -> Openings:
    """Add a line, unless the same run with the same configuration has one (it was resumed), and count the openings of any of
    these questions.

    `configuration` is all that was frozen, as JSON. Raises CheckFailed naming the line of a damaged ledger, and UserError when
    it cannot be written: what cannot be counted is not opened.
    """
    path = results / LEDGER
    known = list(_read(path))
    line = Opening(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run,
        configuration=files.sha256_text(json.dumps(configuration)),
        questions=frozenset(map(fingerprint, questions)),
        files=frozenset(file_hashes),
    )
    mine = [opening for opening in known if opening.shares(line)]
    if not any((opening.run, opening.configuration) == (line.run, line.configuration) for opening in mine):
        try:
            files.drop_half_line(path)
            files.append_text(path, json.dumps(files.sealed(line.to_json())) + "\n")
        except OSError as error:
            raise files.unusable(error) from error
        mine.append(line)
    return Openings(len(mine), len({opening.configuration for opening in mine}))


def verify(results: Path, runs: Mapping[str, int]) -> list[str]:
    """What is wrong with the ledger of a results folder: the first line that is not what was written, or missing openings.

    `runs` names the finished runs and how many openings each one counted.
    """
    path = results / LEDGER
    try:
        there = [opening.run for opening in _read(path)]
    except CheckFailed as error:
        return [error.message]
    faults = [f"{path}: the opening of run {name!r} is missing" for name in sorted(set(runs) - set(there))]
    if not faults and len(there) < (most := max(runs.values(), default=0)):
        faults = [f"{path}: {len(there)} openings, and a run counted {most}"]
    return faults


def _read(path: Path) -> Iterator[Opening]:
    from pydantic import ValidationError

    hint = "restore that line, or move the file away: the openings in it are then no longer counted"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise files.unusable(error) from error
    # Text after the last line end was cut off while it was written, before the questions were opened.
    for number, raw in enumerate(data.split(b"\n")[:-1], start=1):
        if not raw.strip():
            continue
        where = f"{path}:{number}"
        record = files.json_object(raw.decode("utf-8", "replace"), where, hint)
        if "files" not in record:
            record |= {"files": record.get("questions"), "questions": []}
        try:
            yield _reader().validate_json(json.dumps(record), strict=True)
        except ValidationError as error:
            raise CheckFailed(f"{where}: it is not an opening: {error.errors()[0]['loc'][0]}", hint) from error


@cache
def _reader() -> TypeAdapter[Opening]:
    from pydantic import TypeAdapter

    return TypeAdapter(Opening)
