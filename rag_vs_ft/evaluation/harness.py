"""Run an experiment: settle on dev questions, freeze, open the test questions, ask every arm, write down everything.

    eval/results/<run>/
      experiment.toml           as it was read
      manifest.json             what is needed to repeat the run and to judge it: versions, hashes, what was frozen and skipped
      predictions.jsonl         one `predictions.Prediction` a line, written as they come
      summary.json              figures of each arm and each pair
      report.md, report.html
    eval/results/openings.jsonl   when which test questions were opened, by which frozen configuration

The steps are `_open_world -> _settle -> _ask -> _summarise -> _write`; each takes records and gives one.

A prediction is computed once: every `predictions.jsonl` below the results folder serves as the cache of all others, by a key
over all that can change it. Resuming a run is therefore running it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.corpus import store
from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.engines import HERE, WorkEngine
from rag_vs_ft.environment import git_commit, machine, versions
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation import report, settling
from rag_vs_ft.evaluation.arms import SCORER_VERSION
from rag_vs_ft.evaluation.asking import Asked, Failure, World, ask
from rag_vs_ft.evaluation.contexts import CONTEXTS
from rag_vs_ft.evaluation.costs import training_cost
from rag_vs_ft.evaluation.experiments import Arm, Experiment, load_experiment, question_paths
from rag_vs_ft.evaluation.figures import SUMMARY, Openings, RetrievalFigures, Summary
from rag_vs_ft.evaluation.held_out import QuestionSet
from rag_vs_ft.evaluation.heuristics import HEURISTICS
from rag_vs_ft.evaluation.leaks import Leaks, find_leaks
from rag_vs_ft.evaluation.manifest import (
    MANIFEST,
    CorpusUsed,
    FinishedManifest,
    Identity,
    IndexUsed,
    PredictionCounts,
    QuestionFile,
    RunManifest,
    read_manifest,
    write_manifest,
)
from rag_vs_ft.evaluation.predictions import PREDICTIONS, Prediction, Store
from rag_vs_ft.evaluation.retrieval import evaluate_retrieval
from rag_vs_ft.evaluation.settling import Frozen, Tried
from rag_vs_ft.evaluation.summary import Table, question_scores, summarise
from rag_vs_ft.evaluation.training_text import TrainingText, training_text
from rag_vs_ft.index import build
from rag_vs_ft.index.opening import open_index
from rag_vs_ft.index.qdrant import is_published
from rag_vs_ft.index.search import Index
from rag_vs_ft.models import served
from rag_vs_ft.models.naming import resolve
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Question
from rag_vs_ft.settings import Home, check_name

DEMO = Path(__file__).with_name("demo.toml")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A finished run: its folder, its figures, the arms that were skipped or failed, with the reason, and what else to say."""

    name: str
    folder: Path
    summary: Summary
    skipped: dict[str, str]
    failed: dict[str, str]
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object that `eval --json` prints."""
        return {
            "run": self.name,
            "folder": str(self.folder),
            "skipped": self.skipped,
            "failed": self.failed,
            **self.summary.to_json(),
        }

    def raise_failures(self) -> None:
        """Raise CheckFailed when an arm failed midway."""
        if self.failed:
            shown = "\n".join(f"  {arm}: {reason}" for arm, reason in self.failed.items())
            raise CheckFailed(f"{len(self.failed)} arms failed:\n{shown}", f"see {self.folder / MANIFEST}; then --resume")


def run_experiment(
    path: Path,
    *,
    home: Home,
    questions: Sequence[Path] = (),
    limit: int | None = None,
    index: str | None = None,
    engine: WorkEngine = HERE,
    run_name: str | None = None,
    resume: bool = False,
    skip_missing: bool = False,
    progress: Progress = silent,
) -> RunSummary:
    """Run the experiment in the TOML file `path` and write its results folder.

    `questions` replace the experiment's question files, and `index` its index; `limit` takes a fixed sample of so many dev and
    so many test questions. Models answer where `engine` says. An arm that fails is named in the summary and the others go on
    (`RunSummary.raise_failures`).

    Raises UserError for a faulty experiment or question file, gold documents that the corpus lacks, a stale index, missing
    models (all named; with `skip_missing` their arms are left out and named in the report), a run name that is taken, a run to
    resume whose experiment has changed, or results that cannot be written; Busy while another process writes the run;
    CheckFailed for a damaged manifest or ledger.
    """
    experiment, text = load_experiment(path)
    if index is not None:
        experiment = experiment.model_copy(update={"index": index})
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit} leaves no question", "use 1 or more")
    paths = [file.resolve() for file in questions] or question_paths(experiment, path)
    name = check_name("run", run_name or experiment.name)
    folder = home.results / name
    with files.lock(
        home.results / f".{name}.lock",
        f"another process is writing the run {name!r}",
        "wait for it, or use --run with another name",
    ):
        request = _Request(
            experiment=experiment,
            text=text,
            path=path,
            home=home,
            folder=folder,
            identity=_identity(text if index is None else f"{text}\nindex {index}", paths, limit),
            questions=QuestionSet(experiment, paths, limit),
            skip_missing=skip_missing,
            engine=engine,
        )
        _require_fresh(folder, request.identity, resume)
        opened = _open_world(request, progress)
        settled = _settle(opened, progress)
        answers = _ask(opened, settled, progress)
        result = _summarise(opened, settled, answers, progress)
        return _write(opened, settled, answers, result)


def demo_comparison(
    home: Home, *, scratch_run: str | None = None, limit: int | None = None, progress: Progress = silent
) -> RunSummary:
    """The comparison that ends the demo: the embedded model alone, with retrieval and with the right passage, on the sample.

    `scratch_run` adds a model that was trained here, alone. Always a new run: it takes the place of the demo's last one, whose
    predictions are used again.
    """
    raw = DEMO.read_text(encoding="utf-8")
    name = "demo"
    if scratch_run is not None:
        raw += f'\n[[arms]]\nname = "scratch"\nmodel = "{check_name("run", scratch_run)}"\ncontext = "none"\n'
    source = home.results / name / "experiment.toml"
    try:
        files.write_text(source, raw)
        files.remove(source.with_name(MANIFEST))
    except OSError as error:
        raise files.unusable(error) from error
    return run_experiment(source, home=home, limit=limit, run_name=name, resume=True, progress=progress)


# --- the steps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Request:
    """What was asked for: the experiment as it was read from `path`, where its results go, and its questions."""

    experiment: Experiment
    text: str
    path: Path
    home: Home
    folder: Path
    identity: Identity
    questions: QuestionSet
    skip_missing: bool
    engine: WorkEngine


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is there: the world, the arms that have a model, and what those models may have read."""

    request: _Request
    world: World
    arms: tuple[Arm, ...]
    skipped: dict[str, str]
    training: TrainingText
    started: str


@dataclass(frozen=True, slots=True)
class _Settled:
    """What dev questions decided, the arms filled in by it, and the manifest that was written before the test questions."""

    frozen: Frozen
    arms: tuple[Arm, ...]
    rows: tuple[Prediction, ...]
    counts: PredictionCounts
    failures: dict[str, Failure]
    manifest: RunManifest


@dataclass(frozen=True, slots=True)
class _Answers:
    """The test questions, how often they were opened, what of them leaked, and what every arm made of them."""

    questions: tuple[Question, ...]
    answered: frozenset[str]
    openings: Openings
    leaks: Leaks
    arms: tuple[Arm, ...]
    asked: Asked
    failures: dict[str, Failure]


@dataclass(frozen=True, slots=True)
class _Result:
    """The figures and what they were made from."""

    table: Table
    summary: Summary
    manifest: FinishedManifest


def _open_world(request: _Request, progress: Progress) -> _Opened:
    started = datetime.now(UTC)
    experiment, home = request.experiment, request.home
    skipped = _missing_models(experiment, home)
    if skipped and not request.skip_missing:
        shown = "\n".join(f"  {arm}: {reason}" for arm, reason in skipped.items())
        raise UserError(
            f"{len(skipped)} arms have no model:\n{shown}", "make or pull them, or leave them out with --skip-missing"
        )
    arms = tuple(arm for arm in experiment.arms if arm.name not in skipped)
    if not arms:
        raise UserError("no arm is left to run", "make or pull a model: see the reasons above" if skipped else "")
    request.questions.check()
    dev = request.questions.dev()
    corpus, index = _corpus_and_index(experiment, home, progress)
    _require_gold(corpus, dev)
    training = training_text(experiment, request.path, home, corpus)
    try:
        files.write_text(request.folder / "experiment.toml", request.text)
        predictions = Store(request.folder)
    except OSError as error:
        raise files.unusable(error) from error
    world = World(experiment, home, corpus, index, tuple(dev), predictions, request.engine)
    return _Opened(request, world, arms, skipped, training, started.isoformat(timespec="seconds"))


def _settle(opened: _Opened, progress: Progress) -> _Settled:
    """Choose by dev questions, freeze, and write down what is frozen."""
    request, world = opened.request, opened.world
    choose = request.experiment.choose
    score, (retriever, k) = choose.score[0], settling.candidates(choose)[0]
    table: tuple[Tried, ...] = ()
    rows: tuple[Prediction, ...] = ()
    counts = PredictionCounts()
    failures: dict[str, Failure] = {}
    tried_on = request.questions.tried(world.dev) if choose.open else []
    if choose.open:
        tried = settling.variants(opened.arms, choose)
        found = ask(world, [one.settled for one in tried], tried_on, split="dev", answered=(), progress=progress)
        for one in tried:
            if failure := found.failures.get(one.settled.name):
                failures[one.arm.name] = replace(failure, reason=f"on dev questions: {failure.reason}")
        whole = [one for one in tried if one.arm.name not in failures]
        if whole:
            score, (retriever, k), table = settling.choose_best(choose, whole, found.rows, tried_on)
        rows = tuple(row for predictions in found.rows.values() for row in predictions.values())
        counts = found.counts
    refuse_below = settling.choose_threshold(lambda query: world.index.search(query, k, retriever=retriever), world.dev)
    frozen = Frozen(k, retriever, score, refuse_below, len(world.dev), len(tried_on), table)
    manifest = RunManifest(
        run=request.folder.name,
        experiment=request.experiment.name,
        experiment_file=str(request.path.resolve()),
        training_text=tuple(sorted(opened.training.files)),
        training_corpora=tuple(sorted(opened.training.corpora)),
        identity=request.identity,
        frozen=frozen,
        skipped=opened.skipped,
        seed=request.experiment.seed,
        scorer_version=SCORER_VERSION,
        corpus=CorpusUsed(**asdict(world.index.manifest.inputs.corpus)),
        index=IndexUsed.of(world.index),
        versions=versions(),
        git_commit=git_commit(),
        machine=machine(),
        started=opened.started,
    )
    write_manifest(request.folder, manifest)
    arms = [settling.settled(arm, retriever=retriever, k=k) for arm in opened.arms if arm.name not in failures]
    return _Settled(frozen, tuple(arms), rows, counts, failures, manifest)


def _ask(opened: _Opened, settled: _Settled, progress: Progress) -> _Answers:
    """Open the test questions, look for leaks, and ask every arm."""
    request, world = opened.request, opened.world
    test, openings = request.questions.open_test(settled.frozen, request.home.results, request.folder.name, request.identity)
    _require_gold(world.corpus, test)
    leaks = find_leaks(test, world.corpus.documents(), opened.training.files, opened.training.corpora)
    answered = request.questions.answered(test)
    asked = ask(world, settled.arms, test, split="test", answered=answered, progress=progress)
    failures = settled.failures | dict(asked.failures)
    arms = tuple(arm for arm in settled.arms if arm.name not in failures)
    if not arms:
        shown = "; ".join(f"{arm}: {failure.reason}" for arm, failure in failures.items())
        raise CheckFailed(f"every arm failed: {shown}", "mend them, then --resume")
    return _Answers(tuple(test), frozenset(answered), openings, leaks, arms, asked, failures)


def _summarise(opened: _Opened, settled: _Settled, answers: _Answers, progress: Progress) -> _Result:
    """The figures of all arms, and the manifest with what came of the run."""
    request, asked = opened.request, answers.asked
    table = Table(
        questions=answers.questions,
        arms=answers.arms,
        rows=asked.rows,
        clusters={question.id: _cluster(question, answers.leaks) for question in answers.questions},
        flagged=frozenset(answers.leaks.report.flagged),
        score=settled.frozen.score,
        refuse_below=settled.frozen.refuse_below,
    )
    summary = summarise(
        table,
        run=request.folder.name,
        experiment=request.experiment.name,
        baseline=request.experiment.baseline if request.experiment.baseline in asked.rows else None,
        costs=asked.costs,
        openings=answers.openings,
        retrieval=_retrieval(opened.world.index, answers.arms, answers.questions),
        skipped=opened.skipped,
        failed={arm: failure.reason for arm, failure in answers.failures.items()},
        progress=progress,
    )
    manifest = FinishedManifest(
        **settled.manifest.begun(),
        openings=answers.openings,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        models=asked.models,
        leaks=answers.leaks.report,
        question_ids=tuple(question.id for question in answers.questions),
        answered_ids=tuple(sorted(answers.answered)),
        predictions=settled.counts + asked.counts,
        failed={arm: failure.traceback for arm, failure in answers.failures.items()},
    )
    return _Result(table, summary, manifest)


def _write(opened: _Opened, settled: _Settled, answers: _Answers, result: _Result) -> RunSummary:
    """Write the results folder. The predictions are in it already, so a full disk costs this step alone."""
    folder, failed = opened.request.folder, {arm: failure.reason for arm, failure in answers.failures.items()}
    test = [answers.asked.rows[arm.name][question.id] for arm in answers.arms for question in answers.questions]
    try:
        opened.world.store.finish(settled.rows, test, question_scores(result.table), failed)
        files.write_record(folder / SUMMARY, result.summary.to_json())
        written = files.listed(folder)
        kept = {name: written[name] for name in (PREDICTIONS, SUMMARY)}
        write_manifest(folder, replace(result.manifest, files=kept))
        report.write(folder, result.summary, result.manifest, result.table)
    except OSError as error:
        raise files.unusable(error) from error
    notices = (*opened.world.store.notices, *opened.training.notices)
    return RunSummary(folder.name, folder, result.summary, opened.skipped, failed, notices)


# --- what is there ----------------------------------------------------------------------------------------------------


def _identity(text: str, paths: Sequence[Path], limit: int | None) -> Identity:
    return Identity(files.sha256_text(text), tuple(QuestionFile(str(path), _file_sha256(path)) for path in paths), limit)


def _file_sha256(path: Path) -> str:
    try:
        return files.sha256_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error


def _require_fresh(folder: Path, identity: Identity, resume: bool) -> None:
    if not (folder / MANIFEST).exists():
        return
    if not resume:
        raise UserError(
            f"there is a run {folder.name!r} in {folder.parent}", "continue it with --resume, or name another with --run"
        )
    old = read_manifest(folder).identity
    changed = [key.name for key in fields(Identity) if getattr(old, key.name) != getattr(identity, key.name)]
    if changed:
        raise UserError(
            f"the run {folder.name!r} was of another {', '.join(changed)}: resuming would mix two experiments",
            "use --run with another name: what has not changed is not computed again",
        )


def _missing_models(experiment: Experiment, home: Home) -> dict[str, str]:
    missing = {}
    for arm in experiment.arms:
        problems = [found for model in (arm.model, arm.adapter) if model and (found := _problem(model, experiment, home))]
        if problems:
            missing[arm.name] = "; ".join(problems)
    return missing


def _problem(model: str, experiment: Experiment, home: Home) -> str | None:
    """Why a model cannot be loaded, and the command that makes it; None when it is there."""
    if model in HEURISTICS:
        if (home.runs / model).is_dir():
            raise UserError(
                f"{model!r} is a heuristic, and the name of a run in {home.runs} too", f"write run:{model} for the run"
            )
        return None
    try:
        if served.is_address(model):
            served.model_at(model)
            return None
        resolve(model, home)
        training_cost(home, model)  # the names of what it was trained on must mean one thing too
    except UserError as error:
        if command := experiment.train.get(model.partition("/")[0]):
            return f"there is no run {model!r}; train it: {command}"
        return f"{error.message}; {error.hint}"
    return None


def _corpus_and_index(experiment: Experiment, home: Home, progress: Progress) -> tuple[Corpus, Index]:
    # By name, and not by listing: a damaged corpus or index of another name must not stop this run.
    if experiment.source and not store.has_corpus(experiment.corpus, home):
        store.add(experiment.corpus, experiment.source, home=home)
    corpus = store.open_corpus(experiment.corpus, home)
    here = not is_published(experiment.index)
    if here and experiment.source and not (home.indexes / experiment.index / "CURRENT").is_file():
        build.build(experiment.index, experiment.corpus, build.Recipe(), home, progress)
    index = open_index(experiment.index, home)
    if index.notices:
        raise UserError(index.notices[0], "an evaluation needs the index that it names: run it without RAG_VS_FT_OR_LOCAL")
    if index.manifest.inputs.corpus.sha256 != corpus.sha256:
        raise UserError(
            f"index {index.name!r} is not of the corpus {corpus.name!r} as it is now",
            f"rag-vs-ft index build {index.name} --corpus {corpus.name}",
        )
    return corpus, index


def _require_gold(corpus: Corpus, questions: Sequence[Question]) -> None:
    missing = {gold: question for question in questions for gold in question.gold_documents if gold not in corpus}
    if missing:
        gold, question = next(iter(missing.items()))
        raise UserError(
            f"{len(missing)} gold documents are not in the corpus {corpus.name!r}, such as {gold!r} of question {question.id!r}",
            "use the corpus that the questions were made for",
        )


def _retrieval(index: Index, arms: Sequence[Arm], questions: Sequence[Question]) -> dict[str, RetrievalFigures]:
    """Retrieval by itself, to depth 10, for each retriever that an arm searches with."""
    if not any(question.gold_documents for question in questions):
        return {}
    retrievers = dict.fromkeys(str(arm.retriever) for arm in arms if CONTEXTS[arm.context].is_search)
    return {
        name: RetrievalFigures.of(evaluate_retrieval(partial(index.search, retriever=name), questions)) for name in retrievers
    }


def _cluster(question: Question, leaks: Leaks) -> str:
    if not question.gold_documents:
        return question.id
    return leaks.clusters[question.gold_documents[0]]
