"""What came of asking one question of one arm, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag_vs_ft.records import write_jsonl

PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model made of a prompt. Log-probabilities are natural and summed over a text's tokens.

    `prior_logprobs` are those of the choices after the prompt without question and passages. `answer` is the greedy answer,
    None when none was asked for. `seconds` are wall time: `score` of the scoring, `answer` of the greedy answer.
    """

    choice_logprobs: tuple[float, ...] | None = None
    prior_logprobs: tuple[float, ...] | None = None
    answer_logprob: float | None = None
    answer: str | None = None
    finish: str = ""
    completion_tokens: int = 0
    score_seconds: float = 0.0
    answer_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a prediction. `in_prompt` is False when the window had no room for it; `holds_answer` see the function."""

    rank: int
    chunk_id: str
    document_id: str
    score: float
    in_prompt: bool
    holds_answer: bool


@dataclass(frozen=True, slots=True)
class Prediction:
    """One line of predictions.jsonl: an arm's answer to a question and everything that led to it.

    `citations` are ranks of the passages that the free answer rests on. `key` is a hash of all that can change the outcome.
    `error` is set, and there is no outcome, when the question does not fit into the model's window.
    """

    arm: str
    split: str
    question_id: str
    key: str
    prompt: str
    prompt_tokens: int
    passages: tuple[Passage, ...]
    citations: tuple[int, ...]
    best_cosine: float | None
    search_seconds: float
    outcome: Outcome
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """The JSON Lines object."""
        return asdict(self)

    @staticmethod
    def of_json(record: dict[str, Any]) -> Prediction:
        """Read what `to_json` wrote, with or without scores; raises KeyError or TypeError for anything else."""
        record = {key: value for key, value in record.items() if key != "scores"}
        found = record["outcome"].items()
        outcome: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found}
        passages = tuple(Passage(**passage) for passage in record["passages"])
        rest = {"outcome": Outcome(**outcome), "passages": passages, "citations": tuple(record["citations"])}
        return Prediction(**{**record, **rest})


class Store:
    """Predictions on disk: this run's are appended to, and all runs' outcomes can be looked up by key."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PREDICTIONS
        self.outcomes: dict[str, tuple[Outcome, str]] = {}
        self._written: set[tuple[str, str, str, str]] = set()
        if self._path.is_file():
            # A line that a killed process left half written is cut off, so that the next one starts on a line of its own.
            data = self._path.read_bytes()
            if not data.endswith(b"\n"):
                self._path.write_bytes(data[: data.rfind(b"\n") + 1])
        for path in sorted(folder.parent.glob(f"*/{PREDICTIONS}")):
            for prediction in _read_predictions(path):
                self.outcomes[prediction.key] = (prediction.outcome, prediction.error)
                if path == self._path:
                    self._written.add(_place(prediction))

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Append those that this run does not have yet."""
        with self._path.open("a", encoding="utf-8", newline="\n") as out:
            for prediction in predictions:
                if _place(prediction) not in self._written:
                    self._written.add(_place(prediction))
                    self.outcomes[prediction.key] = (prediction.outcome, prediction.error)
                    out.write(json.dumps(prediction.to_json(), ensure_ascii=False) + "\n")

    def finish(
        self,
        dev: Iterable[Prediction],
        test: Iterable[Prediction],
        scores: Mapping[tuple[str, str], Any],
        unfinished: Collection[str],
    ) -> None:
        """Replace the file by just these, in this order, those of test questions with their scores. What there is of the
        unfinished arms is kept: they are resumed from it."""
        lines = [one.to_json() for one in _read_predictions(self._path) if one.arm in unfinished] if unfinished else []
        lines += [prediction.to_json() for prediction in dev]
        lines += [{**one.to_json(), "scores": scores[one.arm, one.question_id]} for one in test]
        write_jsonl(self._path, lines)


def _place(prediction: Prediction) -> tuple[str, str, str, str]:
    return prediction.arm, prediction.split, prediction.question_id, prediction.key


def _read_predictions(path: Path) -> Iterator[Prediction]:
    """The lines of a predictions file that this version understands: others cannot be reused, which costs time and nothing
    else."""
    for raw in path.read_bytes().split(b"\n"):
        try:
            if raw:
                yield Prediction.of_json(json.loads(raw))
        except (ValueError, KeyError, TypeError):
            continue
