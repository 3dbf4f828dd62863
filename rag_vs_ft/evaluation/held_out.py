"""What is held out: test questions, which are opened last, and the documents that training leaves out.

Dev questions settle; test questions are scored, once everything is settled. A question file that is not divided is all test.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from rag_vs_ft.corpus.splits import default_split
from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.experiments import Experiment
from rag_vs_ft.evaluation.figures import Openings
from rag_vs_ft.evaluation.ledger import fingerprint, record_opening
from rag_vs_ft.evaluation.manifest import Identity
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.evaluation.settling import Frozen
from rag_vs_ft.records import Document, Question
from rag_vs_ft.settings import SEED, VALIDATION_FRACTION
from rag_vs_ft.training.record import RunRecord


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


class QuestionSet:
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

    def check(self) -> None:
        """Raise UserError when an id occurs in two files, a question is both dev and test, or there is no test question.

        Faults of the files are reported before anything is computed.
        """
        owner: dict[str, Path] = {}
        dev: dict[str, str] = {}
        test: list[Question] = []
        for file in self._files:
            for question in load_questions(file, split=None, opened_by="eval"):
                if question.id in owner:
                    raise UserError(f"{file}: the id {question.id!r} is also one of {owner[question.id]}", "ids must be unique")
                owner[question.id] = file
                if question.split == "dev":
                    dev[fingerprint(question)] = question.id
                else:
                    test.append(question)
        both = [(dev[key], question.id) for question in test if (key := fingerprint(question)) in dev]
        if both:
            raise UserError(
                f"{len(both)} test questions are dev questions too: {both[0][1]!r} asks what {both[0][0]!r} does",
                "leave each question on one side: what was chosen by a question cannot be tested by it",
            )
        if not test:
            raise UserError("there are no test questions", "give a file that has some, or one that is not divided")

    def open_test(self, frozen: Frozen, results: Path, run: str, identity: Identity) -> tuple[list[Question], Openings]:
        """The test questions, after writing the opening down; also how often they were opened, by how many configurations."""
        test = self._test()
        chosen = [frozen.k, frozen.retriever, frozen.score, frozen.refuse_below]
        openings = record_opening(
            results,
            run=run,
            configuration=[*chosen, identity.experiment_sha256, identity.limit],
            questions=test,
            file_hashes=[file.sha256 for file in identity.questions],
        )
        return test, openings

    def answered(self, questions: Sequence[Question]) -> set[str]:
        """Ids of those that get a free answer too."""
        return {question.id for question in sorted(questions, key=self._draw)[: self._experiment.answers.questions]}

    def _all(self) -> list[Question]:
        return [question for file in self._files for question in load_questions(file, split=None, opened_by="eval")]

    def _test(self) -> list[Question]:
        return self._sample([question for question in self._all() if question.split != "dev"], self._experiment.test_questions)

    def _sample(self, questions: Sequence[Question], size: int) -> list[Question]:
        """A fixed sample in the file's order; a larger one holds every smaller one."""
        wanted = min([count for count in (size, self._limit) if count] or [len(questions)])
        chosen = {question.id for question in sorted(questions, key=self._draw)[:wanted]}
        return [question for question in questions if question.id in chosen]

    def _draw(self, question: Question) -> tuple[int, str]:
        return zlib.crc32(f"{self._experiment.seed} {question.id}".encode()), question.id
