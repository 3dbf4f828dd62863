"""What the models of an experiment were trained on, as far as it is known: the text that leaks are looked for in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rag_vs_ft.corpus.store import Corpus, open_corpus
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.costs import lineage
from rag_vs_ft.evaluation.experiments import Experiment, training_paths
from rag_vs_ft.records import Document
from rag_vs_ft.settings import Home
from rag_vs_ft.training.record import RunInput


@dataclass(frozen=True, slots=True)
class TrainingText:
    """The text of files by their name, and the documents of corpora, besides the experiment's own, that models have read.

    `notices` say what could not be looked at.
    """

    files: Mapping[str, str]
    corpora: Mapping[str, Iterable[Document]]
    notices: tuple[str, ...]


def training_text(experiment: Experiment, path: Path, home: Home, corpus: Corpus) -> TrainingText:
    """The files that the experiment (read from `path`) names, and for each run the records and the corpus that it, and the runs
    below it, were trained on.

    Raises UserError when a file that the experiment names cannot be read.
    """
    texts = {file.name: _text(file, "mend training_text in the experiment") for file in training_paths(experiment, path)}
    corpora: dict[str, Corpus] = {}
    notices: list[str] = []
    for model in dict.fromkeys(name for arm in experiment.arms for name in (arm.model, arm.adapter) if name):
        for record in lineage(home, model):
            if record.data is not None:
                file = Path(record.data.file)
                try:
                    texts.setdefault(file.name, _text(file, ""))
                except UserError as error:
                    notices.append(f"{model}: what it was trained on is not searched for leaks: {error.message}")
            if record.corpus is not None and record.corpus.sha256 != corpus.sha256:
                found, said = _corpus(record.corpus, home)
                if found is not None:
                    corpora[found.name] = found
                if said:
                    notices.append(f"{model}: {said}")
    return TrainingText(texts, {name: _Documents(one) for name, one in corpora.items()}, tuple(dict.fromkeys(notices)))


@dataclass(frozen=True, slots=True)
class _Documents:
    """A corpus as its documents, read when they are asked for."""

    corpus: Corpus

    def __iter__(self) -> Iterator[Document]:
        return iter(self.corpus.documents())


def _corpus(trained_on: RunInput, home: Home) -> tuple[Corpus | None, str]:
    """The corpus of this name, and what has to be said: it is not there, or not as it was when it was trained on."""
    try:
        found = open_corpus(trained_on.name, home)
    except UserError as error:
        return None, f"the corpus that it was trained on is not searched for leaks: {error.message}"
    if found.sha256 != trained_on.sha256:
        return found, f"the corpus {found.name!r} has changed since it was trained on: leaks are looked for in what is there now"
    return found, ""


def _text(path: Path, hint: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the training text {path}: {error}", hint) from error
