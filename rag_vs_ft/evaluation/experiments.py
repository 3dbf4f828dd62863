"""An experiment file: which arms answer which questions, and what is settled on dev questions before a test question is
opened."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.contexts import CONTEXTS
from rag_vs_ft.evaluation.heuristics import HEURISTICS
from rag_vs_ft.evaluation.questions import sample_questions_path
from rag_vs_ft.index.search import Retriever

ChoiceScore = Literal["sum", "per_byte", "pmi"]
SAMPLE = "sample"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


def _known_context(name: str) -> str:
    if name not in CONTEXTS:
        raise PydanticCustomError("context", f"there is no such context; there are: {', '.join(CONTEXTS)}")
    return name


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Arm(_Table):
    """One model, or one of `HEURISTICS`, with one kind of context.

    `k` passages, by `retriever`; left out, they are what dev questions settled on.
    """

    name: str = Field(pattern=_NAME, max_length=60)
    model: str = Field(min_length=1)
    context: Annotated[str, AfterValidator(_known_context)]
    adapter: str | None = None
    template: Literal["auto", "plain", "few-shot", "alpaca", "chat"] = "auto"
    k: int | None = Field(default=None, ge=1, le=100)
    retriever: Retriever | None = None


class Choose(_Table):
    """What dev questions settle, by choice accuracy: values to try, in order of preference. One value is a setting, not a
    choice.

    `questions` limits the dev questions that are scored (0: all).
    """

    k: tuple[int, ...] = Field(default=(settings.K,), min_length=1)
    retriever: tuple[Retriever, ...] = Field(default=("hybrid",), min_length=1)
    score: tuple[ChoiceScore, ...] = Field(default=("pmi",), min_length=1)
    questions: int = Field(default=0, ge=0)

    @property
    def open(self) -> bool:
        """Whether anything is left to choose."""
        return max(len(self.k), len(self.retriever), len(self.score)) > 1


class Answers(_Table):
    """Greedy answers: on how many test questions (0: none; they are a fixed sample), and how long at most, in tokens."""

    questions: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=48, ge=1, le=1024)


class Experiment(_Table):
    """A checked experiment.

    `questions` are question files, relative to the experiment file, or "sample" for the packaged ones. `source` is what the
    corpus is made from when it is not there yet. `train` maps a run to the command that makes it. `training_text` are files
    that models were trained on besides the corpus: the leak check reads them. `validation_documents` held-out documents are
    scored by every model in bits per byte. `parallel` questions are put to a server at once.
    """

    name: str = Field(pattern=_NAME, max_length=60)
    corpus: str = Field(min_length=1)
    index: str = Field(min_length=1)
    source: str = ""
    questions: tuple[str, ...] = Field(min_length=1)
    baseline: str
    seed: int = settings.SEED
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    test_questions: int = Field(default=0, ge=0)
    validation_documents: int = Field(default=0, ge=0)
    parallel: int = Field(default=1, ge=1, le=64)
    training_text: tuple[str, ...] = ()
    train: dict[str, str] = Field(default_factory=dict)
    choose: Choose = Choose()
    answers: Answers = Answers()
    arms: tuple[Arm, ...] = Field(min_length=1)


def load_experiment(path: Path) -> tuple[Experiment, str]:
    """The experiment in a TOML file, and the file's text. Raises UserError naming every fault of the file at once."""
    try:
        text = path.read_bytes().decode("utf-8")
        raw = tomllib.loads(text)
        tables = _tuples(raw)
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}", "experiments that come with the project: eval/experiments/"
        ) from error
    except ValueError as error:  # of the encoding or of TOML
        raise UserError(f"{path} is not TOML: {error}", "mend the file") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deep", "an experiment has tables and lists, and none inside of those") from error
    faults = list(_contradictions(raw))
    experiment = None
    try:
        experiment = Experiment.model_validate(tables)
    except ValidationError as error:
        # A list with only faulty entries is also counted as too short, which is not a fault of its own.
        own = [fault for fault in error.errors() if fault["type"] != "too_short" or not fault["input"]]
        faults = [_shown(fault) for fault in own] + faults
    if faults or experiment is None:
        raise UserError(
            f"{path}: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n" + "\n".join(f"  {fault}" for fault in faults),
            "the format is described in eval/README.md",
        )
    return experiment, text


def question_paths(experiment: Experiment, path: Path) -> list[Path]:
    """The question files of an experiment that was read from `path`."""
    return [sample_questions_path() if name == SAMPLE else (path.parent / name).resolve() for name in experiment.questions]


def training_paths(experiment: Experiment, path: Path) -> list[Path]:
    """The training texts of an experiment that was read from `path`."""
    return [(path.parent / name).resolve() for name in experiment.training_text]


def _tuples(value: Any) -> Any:
    """TOML's arrays as tuples, which is what the models hold; strict validation turns nothing else into anything."""
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _shown(fault: Any) -> str:
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{place}: there is no such key"
    if fault["type"] == "missing":
        return f"{place}: missing"
    given = repr(fault["input"])
    return f"{place}: {given if len(given) <= 100 else given[:100] + '...'}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _contradictions(raw: dict[str, Any]) -> Iterator[str]:
    """Faults between fields, found in the raw file so that they are reported together with those of single fields."""
    arms = [arm for arm in raw.get("arms", ()) if isinstance(arm, dict)] if isinstance(raw.get("arms"), list) else []
    names = Counter(arm["name"] for arm in arms if isinstance(arm.get("name"), str))
    for name, count in names.items():
        if count > 1:
            yield f"arms: {count} arms are named {name!r}"
    if isinstance(raw.get("baseline"), str) and raw["baseline"] not in names:
        yield f"baseline: {raw['baseline']!r} is not an arm; there are: {', '.join(names) or 'none'}"
    for arm in arms:
        context = CONTEXTS.get(str(arm.get("context")))
        heuristic = HEURISTICS.get(str(arm.get("model")))
        if heuristic and context and (fault := heuristic.fault(context)):
            yield f"arms: {arm.get('name')!r}: {fault}"
        for key in ("adapter", "template"):
            if heuristic and key in arm:
                yield f"arms: {arm.get('name')!r}: {key} has no meaning for {heuristic.name}, which is no language model"
        for key, used in (("k", context and context.uses_k), ("retriever", context and context.uses_retriever)):
            if context and not used and key in arm:
                yield f"arms: {arm.get('name')!r}: {key} has no meaning with context {context.name!r}"
    seen = Counter(
        (arm.get("model"), arm.get("adapter"), arm.get("context"), arm.get("template"), arm.get("k"), arm.get("retriever"))
        for arm in arms
    )
    for (model, *_), count in seen.items():
        if count > 1:
            yield f"arms: {count} arms of model {model!r} are the same but for their names"
    choose = raw.get("choose")
    ks = choose.get("k") if isinstance(choose, dict) else None
    if isinstance(ks, list) and any(type(k) is int and not 1 <= k <= 100 for k in ks):
        yield f"choose.k: {ks}: each must be 1 to 100"
