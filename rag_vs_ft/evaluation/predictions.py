"""What came of asking one question of one arm, and the file that keeps it.

Each line carries a checksum of its content, so that a changed digit is noticed wherever the line is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PREDICTIONS = "predictions.jsonl"
CHECKSUM = "sha256"
AGAIN = "rag-vs-ft eval EXPERIMENT --resume computes such lines again and writes the file anew"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an arm made of a question. Log-probabilities are natural and summed over a text's tokens.

    `prior_logprobs` are those of the choices after the prompt without question and passages. `choice_values` are what an arm
    without a language model gives the choices instead; higher is better. `letter` is the number of the choice that a model named
    which was shown them (-1: it named none), None where it was not asked so. `answer` is the greedy answer, None when none was
    asked for. `seconds` are wall time: `score` of the scoring, `answer` of the greedy answer. `prompt_tokens` are as a server
    counts them.
    """

    choice_logprobs: tuple[float, ...] | None = None
    prior_logprobs: tuple[float, ...] | None = None
    choice_values: tuple[float, ...] | None = None
    answer_logprob: float | None = None
    answer: str | None = None
    finish: str = ""
    completion_tokens: int = 0
    score_seconds: float = 0.0
    answer_seconds: float = 0.0
    letter: int | None = None
    prompt_tokens: int | None = None

    def is_finite(self) -> bool:
        """Whether every number is one: a damaged or overflowing model gives NaN or infinity."""
        logprobs = (*(self.choice_logprobs or ()), *(self.prior_logprobs or ()), *(self.choice_values or ()))
        return all(map(math.isfinite, (*logprobs, self.answer_logprob or 0.0)))


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

    `citations` are ranks of the passages that the free answer rests on, `groundedness` the share of its claims that one in the
    prompt holds (None without an answer, claims or passages, and in runs of earlier versions). `key` is a hash of all that can
    change the outcome, `search_key` of all that can change the search and its time ("" when nothing was searched). `error` is
    set, and there is no outcome, when the question does not fit into the model's window.
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
    search_key: str = ""
    groundedness: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON Lines object, without its checksum."""
        return asdict(self)

    @staticmethod
    def of_json(record: Mapping[str, Any]) -> Prediction:
        """Read what `to_json` wrote, with or without scores and checksum; raises ValueError for anything else."""
        return _reader().validate_json(json.dumps(record), strict=True)


@cache
def _reader() -> TypeAdapter[Prediction]:
    from pydantic import TypeAdapter

    return TypeAdapter(Prediction)


# --- lines ------------------------------------------------------------------------------------------------------------


def line_of(record: Mapping[str, Any]) -> str:
    """A line of predictions.jsonl: the record and its checksum. Raises ValueError for a number that is not finite."""
    return json.dumps({**record, CHECKSUM: _checksum(record)}, ensure_ascii=False, allow_nan=False) + "\n"


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (1-based line number, object) of a predictions file.

    Lines of versions that wrote no checksum are taken as they are. Raises CheckFailed naming file and line for one that is not
    what was written, and UserError when the file cannot be read.
    """
    try:
        for number, raw in _lines(path):
            try:
                yield number, _record(raw)
            except ValueError as error:
                raise CheckFailed(f"{path}:{number}: {error}", AGAIN) from error
    except OSError as error:
        raise files.unusable(error) from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if raw.strip():
                yield number, raw


def _record(raw: bytes) -> dict[str, Any]:
    try:
        record = json.loads(raw, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(record, dict):
        raise ValueError("it is not an object")
    checksum = _checksum(record)
    if record.get(CHECKSUM, checksum) != checksum:
        raise ValueError("it is not what was written: its checksum is of other content")
    return record


def _checksum(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != CHECKSUM}
    return files.sha256_text(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")


# --- the cache --------------------------------------------------------------------------------------------------------


class Store:
    """Predictions on disk: this run's are appended to, and all runs' outcomes can be looked up by key.

    Only lines with a right checksum are used again. `notices` says in which files others stand: what they predict is computed
    again.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / PREDICTIONS
        self._outcomes: dict[str, Outcome] = {}
        self._seconds: dict[str, float] = {}
        self._written: set[tuple[str, str, str, str]] = set()
        self.notices: tuple[str, ...] = ()
        files.drop_half_line(self._path)
        others = sorted(path for path in folder.parent.glob(f"*/{PREDICTIONS}") if path != self._path)
        for path in [self._path, *others]:
            for prediction in self._read(path):
                self._keep(prediction)
                if path == self._path:
                    self._written.add(_place(prediction))

    def outcome(self, key: str) -> Outcome | None:
        """What came of the same prompt to the same weights, if it was computed before."""
        return self._outcomes.get(key)

    def search_seconds(self, key: str) -> float | None:
        """How long the same search took when it was first made."""
        return self._seconds.get(key)

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Append those that this run does not have yet. Raises UserError when the disk refuses."""
        new = [prediction for prediction in predictions if _place(prediction) not in self._written]
        try:
            # Not flushed: a prediction that a power failure loses is computed again.
            files.append_text(self._path, "".join(line_of(prediction.to_json()) for prediction in new), flush=False)
        except OSError as error:
            raise files.unusable(error) from error
        for prediction in new:
            self._written.add(_place(prediction))
            self._keep(prediction)

    def finish(
        self,
        dev: Iterable[Prediction],
        test: Iterable[Prediction],
        scores: Mapping[tuple[str, str], Any],
        unfinished: Collection[str],
    ) -> None:
        """Replace the file by just these, in this order, those of test questions with their scores. What there is of the
        unfinished arms is kept: they are resumed from it."""
        rows = [one.to_json() for one in self._read(self._path) if one.arm in unfinished] if unfinished else []
        rows += [prediction.to_json() for prediction in dev]
        rows += [{**one.to_json(), "scores": scores[one.arm, one.question_id]} for one in test]
        files.write_text(self._path, "".join(map(line_of, rows)))

    def _keep(self, prediction: Prediction) -> None:
        if not prediction.error:
            self._outcomes.setdefault(prediction.key, prediction.outcome)
        if prediction.search_key:
            self._seconds.setdefault(prediction.search_key, prediction.search_seconds)

    def _read(self, path: Path) -> Iterator[Prediction]:
        """The lines of a predictions file that can be used again; of the others the first is noted."""
        damaged: list[str] = []
        unsigned = 0
        try:
            for number, raw in _lines(path):
                try:
                    record = _record(raw)
                    if CHECKSUM in record:
                        yield Prediction.of_json(record)
                    else:
                        unsigned += 1
                except ValueError as error:
                    damaged.append(f"{path}:{number}: {str(error).splitlines()[0]}")
        except FileNotFoundError:
            return
        except OSError as error:
            damaged.append(f"{path}: {error.strerror}")
        if damaged:
            more = f" ({len(damaged)} such lines)" if len(damaged) > 1 else ""
            self._note(f"{damaged[0]}{more}; it is not used, and what is needed of it is computed again")
        if unsigned:
            self._note(f"{path}: {unsigned} predictions without a checksum, of an earlier version: they are not used again")

    def _note(self, notice: str) -> None:
        self.notices = tuple(dict.fromkeys((*self.notices, notice)))


def _place(prediction: Prediction) -> tuple[str, str, str, str]:
    return prediction.arm, prediction.split, prediction.question_id, prediction.key
