"""Dev and test questions apart, and the ledger of when test questions were opened.

Dev questions settle; test questions are scored, once everything is settled. A question file that is not divided is all test.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rag_vs_ft.corpus.splits import default_split
from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.experiments import Experiment
from rag_vs_ft.evaluation.figures import Openings
from rag_vs_ft.evaluation.manifest import Identity
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.evaluation.settling import Frozen
from rag_vs_ft.records import Document, Question, read_jsonl, sha256_text
from rag_vs_ft.settings import SEED, VALIDATION_FRACTION
from rag_vs_ft.training.record import RunRecord

LEDGER = "openings.jsonl"


def validation_documents(corpus: Corpus, count: int) -> list[Document]:
    """The first `count` documents, by id, that training holds out by its default settings."""
    held = default_split(corpus.documents()).validation if count else ()
    return [corpus.get(name) for name in held[:count]]


def side_documents(corpus: Corpus, side: str, count: int) -> list[Document]:
    """`count` documents (0: all) of one side ("train", "validation") of training's default split, spread evenly by id."""
    if side not in ("train", "validation"):
        raise UserError(f"there is no side {side!r}", "use validation or train")
    if count < 0:
        raise UserError(f"{count} is not a number of documents", "use 1 or more, or 0 for all")
    ids = getattr(default_split(corpus.documents()), side)
    some = min(count, len(ids)) or len(ids)
    return [corpus.get(ids[number * len(ids) // some]) for number in range(some)]


def trained_on_validation(record: RunRecord, corpus: Corpus) -> bool:
    """Whether a run may have learned from `validation_documents`: it held out other documents, or those of another corpus."""
    if record.corpus is None:
        return False
    chosen = (record.settings.get("validation_fraction"), record.settings.get("seed"), record.corpus.sha256)
    return chosen != (VALIDATION_FRACTION, SEED, corpus.sha256)


class HeldOut:
    """The questions of an experiment. Test questions are handed out only against a `Frozen` configuration."""

    def __init__(self, experiment: Experiment, files: Sequence[Path], limit: int | None) -> None:
        self._experiment, self._files, self._limit = experiment, tuple(files), limit

    def dev(self) -> list[Question]:
        """All dev questions; UserError when something has to be chosen and there are none with choices."""
        dev = [question for question in self._all() if question.split == "dev"]
        if self._experiment.choose.open and not any(question.choices for question in dev):
            raise UserError(
                "there are values to choose from and no dev question with choices to choose by",
                'divide a question file (split "dev" and "test"), or give one value each under [choose]',
            )
        return dev

    def tried(self, dev: Sequence[Question]) -> list[Question]:
        """The dev questions with choices that arms are tried on."""
        return self._sample([question for question in dev if question.choices is not None], self._experiment.choose.questions)

    def count_test(self) -> int:
        """How many test questions with choices there will be: all that is known of them before they are opened.

        Raises UserError when an id occurs in two files or there is no test question.
        """
        owner: dict[str, Path] = {}
        for file in self._files:
            for question in load_questions(file, split=None, opened_by="eval"):
                if question.id in owner:
                    raise UserError(f"{file}: the id {question.id!r} is also one of {owner[question.id]}", "ids must be unique")
                owner[question.id] = file
        test = self._test()
        if not test:
            raise UserError("there are no test questions", "give a file that has some, or one that is not divided")
        return sum(question.choices is not None for question in test)

    def open_test(self, frozen: Frozen, results: Path, run: str, identity: Identity) -> tuple[list[Question], Openings]:
        """The test questions, after writing the opening down; also how often they were opened, by how many configurations."""
        return self._test(), record_opening(results / LEDGER, frozen, run, identity)

    def answered(self, questions: Sequence[Question]) -> set[str]:
        """Ids of those that get a free answer too."""
        return {question.id for question in sorted(questions, key=self._lot)[: self._experiment.answers.questions]}

    def _all(self) -> list[Question]:
        return [question for file in self._files for question in load_questions(file, split=None, opened_by="eval")]

    def _test(self) -> list[Question]:
        return self._sample([question for question in self._all() if question.split != "dev"], self._experiment.test_questions)

    def _sample(self, questions: Sequence[Question], size: int) -> list[Question]:
        """A fixed sample in the file's order; a larger one holds every smaller one."""
        wanted = min([count for count in (size, self._limit) if count] or [len(questions)])
        chosen = {question.id for question in sorted(questions, key=self._lot)[:wanted]}
        return [question for question in questions if question.id in chosen]

    def _lot(self, question: Question) -> tuple[int, str]:
        return zlib.crc32(f"{self._experiment.seed} {question.id}".encode()), question.id


def record_opening(ledger: Path, frozen: Frozen, run: str, identity: Identity) -> Openings:
    """Add a line to the ledger, unless the same run with the same configuration has one (it was resumed).

    Returns `times`, the openings of any of these question files, and `configurations`, by how many frozen configurations.
    """
    files = sorted(file.sha256 for file in identity.questions)
    configuration = [
        frozen.k,
        frozen.retriever,
        frozen.score,
        frozen.refuse_below,
        identity.experiment_sha256,
        identity.limit,
    ]
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run,
        "configuration": sha256_text(json.dumps(configuration)),
        "questions": files,
    }
    known = [record for _, record in read_jsonl(ledger)] if ledger.is_file() else []
    if not any({**record, "time": ""} == {**line, "time": ""} for record in known):
        with ledger.open("a", encoding="utf-8", newline="\n") as out:
            out.write(json.dumps(line) + "\n")
        known.append(line)
    mine = [record for record in known if set(record.get("questions", ())) & set(files)]
    return Openings(len(mine), len({record.get("configuration") for record in mine}))
