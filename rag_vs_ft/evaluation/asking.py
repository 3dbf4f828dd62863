"""Ask arms their questions: a model is loaded once, what is known is taken from the cache, one arm's failure is its own."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.engines import HERE, Poisoned, Shard, WorkEngine, WorkerPool, in_order, require_all
from rag_vs_ft.environment import peak_memory, reset_peak_memory
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation import perplexity
from rag_vs_ft.evaluation.arms import (
    BATCH,
    HeuristicReader,
    ModelReader,
    Priors,
    Reader,
    Task,
    find_passages,
    predict,
    predict_error,
    room_for,
    run_batch,
)
from rag_vs_ft.evaluation.contexts import CONTEXTS
from rag_vs_ft.evaluation.costs import ArmCost, arm_cost, run_record
from rag_vs_ft.evaluation.experiments import Arm, Experiment
from rag_vs_ft.evaluation.held_out import trained_on_validation, validation_documents
from rag_vs_ft.evaluation.heuristics import HEURISTICS, places_of
from rag_vs_ft.evaluation.manifest import HeldOutText, ModelUsed, PredictionCounts
from rag_vs_ft.evaluation.predictions import Outcome, Prediction, Store
from rag_vs_ft.evaluation.served import NONE_NAMED, ServedReader
from rag_vs_ft.index.search import Index
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.loading import load
from rag_vs_ft.progress import Progress
from rag_vs_ft.records import Question
from rag_vs_ft.settings import Home

VALIDATION_WINDOW = 1_024
"""Tokens that a model reads at most when held-out documents are scored: what GPT-2 can."""


@dataclass(frozen=True, slots=True)
class World:
    """What arms are asked in: the experiment, its corpus and index, the dev questions, where predictions are kept, and where
    models answer."""

    experiment: Experiment
    home: Home
    corpus: Corpus
    index: Index
    dev: tuple[Question, ...]
    store: Store
    engine: WorkEngine = HERE


@dataclass(frozen=True, slots=True)
class AnswerWork:
    """Tasks of one model -> their outcomes (`engines.Work`)."""

    home: Home
    model: str
    adapter: str | None
    device: str
    dtype: str

    def open(self) -> Callable[[Sequence[Task]], list[Outcome]]:
        """With the model loaded, and nothing known of what it makes of choices alone."""
        return partial(
            run_batch, load(self.model, self.home, adapter=self.adapter, device=self.device, dtype=self.dtype), priors={}
        )


class _Workers:
    """Workers of the engine with one model loaded, for all its arms; started when they are first needed."""

    def __init__(self, world: World, model: str, adapter: str | None) -> None:
        experiment = world.experiment
        self._work = AnswerWork(world.home, model, adapter, experiment.device, experiment.dtype)
        self._engine = world.engine
        self._pool: WorkerPool | None = None

    def answer(
        self, arm: Arm, batches: Sequence[Sequence[Task]], progress: Progress
    ) -> Iterator[list[tuple[Task, Outcome | UserError]]]:
        """The batches with their outcomes, in their order. Raises CheckFailed, after all others, for those that could not be
        finished: what was answered is kept, and the next run asks the rest."""
        if not batches:
            return
        if self._pool is None or self._pool.closed:
            self._pool = WorkerPool(self._engine, self._work)
        shards = [Shard(f"{arm.name}, batch {number + 1}", batch, number) for number, batch in enumerate(batches)]
        poisoned: list[Poisoned] = []
        for outcome in in_order(self._pool.run(shards, progress)):
            if isinstance(outcome, Poisoned):
                poisoned.append(outcome)
            else:
                yield list(zip(outcome.shard.data, outcome.result, strict=True))
        require_all(poisoned, len(shards), "run the same command with --resume: the rest is asked again")

    def close(self) -> None:
        if self._pool is not None and not self._pool.closed:
            self._pool.close()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an arm failed, in a line, and the traceback."""

    reason: str
    traceback: str

    @staticmethod
    def of(error: Exception) -> Failure:
        """The failure that an exception is."""
        message = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        reason = message.strip().splitlines()[0] if message.strip() else type(error).__name__
        return Failure(reason, "".join(traceback.format_exception(error)))


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking: the predictions by arm and question id of the arms that were asked everything, what those arms cost,
    the models by name, and why the other arms failed."""

    rows: Mapping[str, Mapping[str, Prediction]]
    costs: Mapping[str, ArmCost]
    models: Mapping[str, ModelUsed]
    failures: Mapping[str, Failure]
    counts: PredictionCounts


def ask(
    world: World,
    arms: Sequence[Arm],
    questions: Sequence[Question],
    *,
    split: str,
    answered: Collection[str],
    progress: Progress,
) -> Asked:
    """Ask each arm each question, and those in `answered` (ids) for a free answer too.

    Predictions are written as they come. Raises UserError when they cannot be: nothing that is there is lost, and the same
    command goes on.
    """
    rows: dict[str, dict[str, Prediction]] = {}
    costs: dict[str, ArmCost] = {}
    models: dict[str, ModelUsed] = {}
    failures: dict[str, Failure] = {}
    computed = reused = asked = 0
    for model in dict.fromkeys((arm.model, arm.adapter) for arm in arms):
        mine = [arm for arm in arms if (arm.model, arm.adapter) == model]
        lm = None
        if model[0] not in HEURISTICS:
            try:
                progress(f"load {model[0]}")
                lm = _load(world, *model, progress)
                if split == "test":
                    models[lm.name if lm.adapter is None else f"{lm.name} + {lm.adapter}"] = _model_used(
                        world, lm, mine[0], progress
                    )
            except Exception as error:
                failures |= {arm.name: Failure.of(error) for arm in mine}
                asked += len(mine)
                continue
        priors: Priors = {}
        workers = _Workers(world, *model)
        for arm in mine:
            reset_peak_memory(lm.device if lm else "cpu")
            found: dict[str, Prediction] = {}
            asked += 1
            stage = f"{arm.name} ({split}), arm {asked} of {len(arms)}"
            steps = _steps(world, arm, lm, priors, questions, split, answered, stage, progress, workers)
            new = 0
            while True:
                try:
                    step = next(steps, None)
                except Exception as error:  # one arm's failure must not cost the others' hours
                    failures[arm.name] = Failure.of(error)
                    break
                if step is None:
                    # In the order of the questions: what was computed before comes first, and a resumed run's file would differ.
                    rows[arm.name] = {question.id: found[question.id] for question in questions}
                    break
                # Outside of what an arm may fail by: what cannot be written is lost for every arm.
                world.store.add(step.rows)
                found |= {row.question_id: row for row in step.rows}
                new += len(step.rows) if step.computed else 0
                reused += 0 if step.computed else sum(not row.error for row in step.rows)
            computed += new
            if arm.name in rows and split == "test":
                index = world.index if CONTEXTS[arm.context].shows_passages else None
                peak = peak_memory(lm.device) if lm and new else None
                costs[arm.name] = arm_cost(lm, index, arm.adapter or arm.model, world.home, peak)
        workers.close()
        del lm
        _free()
    return Asked(rows, costs, models, failures, PredictionCounts(computed, reused))


@dataclass(frozen=True, slots=True)
class _Step:
    """Predictions that are new to this run, and whether they had to be computed."""

    rows: tuple[Prediction, ...]
    computed: bool


def _steps(
    world: World,
    arm: Arm,
    lm: LanguageModel | None,
    priors: Priors,
    questions: Sequence[Question],
    split: str,
    answered: Collection[str],
    stage: str,
    progress: Progress,
    workers: _Workers,
) -> Iterator[_Step]:
    """Ask an arm its questions: first what the cache knows, then batch after batch."""
    reader = _reader(world, lm, arm, questions, priors, bool(answered))
    known: list[Prediction] = []
    tasks: list[Task] = []
    index = world.index if CONTEXTS[arm.context].shows_passages else None
    for number, question in enumerate(questions, start=1):
        passages = find_passages(arm, question, index, world.experiment.seed)
        # A search is as slow as it was when it was first made: what was computed once is timed once.
        if (before := world.store.search_seconds(passages.key)) is not None:
            passages = replace(passages, seconds=before)
        try:
            task = reader.prepare(question, passages, answer=question.id in answered)
        except UserError as error:
            known.append(predict_error(arm, split, question, passages, error.message))
        else:
            outcome = world.store.outcome(task.key)
            if outcome is None:
                tasks.append(task)
            else:
                known.append(predict(arm, split, task, outcome))
        progress(f"{stage}: passages", number, len(questions))
    yield _Step(tuple(known), computed=False)
    if len(known) == len(questions) and all(row.error for row in known):
        raise UserError(f"no question fits: {known[0].error}")
    # Prompts of like length share a batch, and so little of it is padding; the longest first, so that what does not fit into
    # memory fails at once and the time left is not told too short.
    tasks.sort(key=lambda task: (-len(task.prompt.token_ids), task.question.id))
    size = max(BATCH, world.experiment.parallel) if lm and lm.server else BATCH
    batches = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    if world.engine.is_here or lm is None or lm.server:
        answered_batches: Iterator[list[tuple[Task, Outcome | UserError]]] = map(reader.answer, batches)
    else:
        answered_batches = workers.answer(arm, batches, progress)
    progress(stage, len(known), len(questions))
    done = len(known)
    for batch in answered_batches:
        yield _Step(tuple(_predicted(arm, split, task, outcome) for task, outcome in batch), True)
        done += len(batch)
        progress(stage, done, len(questions))


def _predicted(arm: Arm, split: str, task: Task, outcome: Outcome | UserError) -> Prediction:
    if isinstance(outcome, UserError):
        none = Outcome(letter=NONE_NAMED) if task.by_letter else None
        return predict_error(arm, split, task.question, task.passages, outcome.message, none)
    return predict(arm, split, task, outcome)


def _reader(
    world: World, lm: LanguageModel | None, arm: Arm, questions: Sequence[Question], priors: Priors, answers: bool
) -> Reader:
    if lm is None:
        return HeuristicReader(HEURISTICS[arm.model], places_of(world.dev))
    limit = world.experiment.answers.max_new_tokens
    if lm.server:
        return ServedReader(lm, lm.server, arm, limit, world.experiment.parallel)
    return ModelReader(lm, arm, room_for(lm, questions, limit if answers else 0), limit, priors)


def _load(world: World, model: str, adapter: str | None, progress: Progress) -> LanguageModel:
    experiment = world.experiment
    return load(model, world.home, adapter=adapter, device=experiment.device, dtype=experiment.dtype, progress=progress)


def _model_used(world: World, lm: LanguageModel, arm: Arm, progress: Progress) -> ModelUsed:
    if lm.server:
        return ModelUsed(lm.weights_sha256, lm.device, lm.dtype, lm.threads, lm.window, 0, None, False)
    documents = validation_documents(world.corpus, world.experiment.validation_documents)
    window = min(lm.window, VALIDATION_WINDOW)
    score = perplexity.score(lm, documents, window=window, progress=progress) if documents else None
    record = run_record(world.home, arm.adapter or arm.model)
    return ModelUsed(
        weights_sha256=lm.weights_sha256,
        device=lm.device,
        dtype=lm.dtype,
        threads=lm.threads,
        window=lm.window,
        parameters=sum(weight.numel() for weight in lm.model.parameters()),
        validation=HeldOutText(**score.to_json()) if score else None,
        trained_on_validation=record is not None and trained_on_validation(record, world.corpus),
    )


def _free() -> None:
    """Give the memory of a model that is no longer needed back before the next is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
