"""Run an experiment: settle on dev questions, freeze, open the test questions, ask every arm, write down everything.

    eval/results/<run>/
      experiment.toml           as it was read
      manifest.json             what is needed to repeat the run and to judge it: versions, hashes, what was frozen and skipped
      predictions.jsonl         one `predictions.Prediction` a line, written as they come
      summary.json              figures of each arm and each pair
      report.md, report.html
    eval/results/openings.jsonl   when the test questions of which file were opened, by which frozen configuration

A prediction is computed once: every `predictions.jsonl` below the results folder serves as the cache of all others, by a key
over all that can change it. Resuming a run is therefore running it again.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rag_vs_ft import catalogue, files
from rag_vs_ft.corpus import store
from rag_vs_ft.environment import git_commit, machine, peak_memory, reset_peak_memory, versions
from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.evaluation import arms as asking
from rag_vs_ft.evaluation import perplexity, report, settling
from rag_vs_ft.evaluation.contexts import CONTEXTS
from rag_vs_ft.evaluation.costs import ArmCost, arm_cost, run_record
from rag_vs_ft.evaluation.experiments import Arm, Experiment, load_experiment, question_paths, training_paths
from rag_vs_ft.evaluation.figures import SUMMARY, RetrievalFigures, Summary
from rag_vs_ft.evaluation.held_out import HeldOut, trained_on_validation, validation_documents
from rag_vs_ft.evaluation.leaks import Leaks, find_leaks
from rag_vs_ft.evaluation.manifest import (
    MANIFEST,
    CorpusUsed,
    FinishedManifest,
    HeldOutText,
    Identity,
    IndexUsed,
    ModelUsed,
    PredictionCounts,
    QuestionFile,
    RunManifest,
    read_manifest,
    write_manifest,
)
from rag_vs_ft.evaluation.predictions import Prediction, Store
from rag_vs_ft.evaluation.retrieval import evaluate_retrieval
from rag_vs_ft.evaluation.settling import Frozen, Tried
from rag_vs_ft.evaluation.summary import Table, question_scores, summarise
from rag_vs_ft.index import build
from rag_vs_ft.index.search import Index
from rag_vs_ft.models.loading import LanguageModel, load
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Hit, Question
from rag_vs_ft.settings import Home, check_name

VALIDATION_WINDOW = 1_024
"""Tokens that a model reads at most when held-out documents are scored: what GPT-2 can."""
DEMO = Path(__file__).with_name("demo.toml")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A finished run: its folder, its figures, and the arms that were skipped or failed, with the reason."""

    name: str
    folder: Path
    summary: Summary
    skipped: dict[str, str]
    failed: dict[str, str]

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
            raise CheckFailed(f"{len(self.failed)} arms failed:\n{shown}", f"see {self.folder / 'manifest.json'}; then --resume")


def run_experiment(
    path: Path,
    *,
    home: Home,
    questions: Sequence[Path] = (),
    limit: int | None = None,
    run_name: str | None = None,
    resume: bool = False,
    skip_missing: bool = False,
    progress: Progress | None = None,
) -> RunSummary:
    """Run the experiment in the TOML file `path` and write its results folder.

    `questions` replace the experiment's question files; `limit` takes a fixed sample of so many dev and so many test
    questions. An arm that fails is named in the summary and the others go on (`RunSummary.raise_failures`).

    Raises UserError for a faulty experiment or question file, gold documents that the corpus lacks, a stale index, missing
    models (all named; with `skip_missing` their arms are left out and named in the report), a run name that is taken, or a
    run to resume whose experiment has changed; Busy while another process writes the run.
    """
    experiment, text = load_experiment(path)
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit} leaves no question", "use 1 or more")
    paths = [file.resolve() for file in questions] or question_paths(experiment, path)
    name = check_name("run", run_name or experiment.name)
    folder = home.results / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(home.results / f".{name}.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise Busy(f"another process is writing the run {name!r}", "wait for it, or use --run with another name") from None
    try:
        identity = _identity(text, paths, limit)
        _require_fresh(folder, identity, resume)
        runner = _Runner(experiment, path, paths, home, folder, limit, progress or silent)
        return runner.run(name, text, identity, skip_missing)
    finally:
        lock.release()


def demo_comparison(
    home: Home, *, scratch_run: str | None = None, limit: int | None = None, progress: Progress | None = None
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
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(raw, encoding="utf-8")
    (home.results / name / MANIFEST).unlink(missing_ok=True)
    return run_experiment(source, home=home, limit=limit, run_name=name, resume=True, progress=progress)


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
            "use --run with another name: what has not changed is taken over from this run",
        )


class _Runner:
    """One run in the making."""

    def __init__(
        self,
        experiment: Experiment,
        path: Path,
        files: list[Path],
        home: Home,
        folder: Path,
        limit: int | None,
        progress: Progress,
    ) -> None:
        self.experiment, self.path, self.files, self.home, self.folder = experiment, path, files, home, folder
        self.limit, self.progress = limit, progress
        self.failed: dict[str, str] = {}
        self.tracebacks: dict[str, str] = {}
        self.models: dict[str, ModelUsed] = {}
        self.costs: dict[str, ArmCost] = {}
        self.computed = 0
        self.reused = 0

    def run(self, name: str, text: str, identity: Identity, skip_missing: bool) -> RunSummary:
        """All of it; see `run_experiment`."""
        started = datetime.now(UTC)
        skipped = self._missing_models()
        if skipped and not skip_missing:
            shown = "\n".join(f"  {arm}: {reason}" for arm, reason in skipped.items())
            raise UserError(
                f"{len(skipped)} arms have no model:\n{shown}", "make or pull them, or leave them out with --skip-missing"
            )
        arms = [arm for arm in self.experiment.arms if arm.name not in skipped]
        if not arms:
            raise UserError("no arm is left to run", "make or pull a model: see the reasons above" if skipped else "")
        held_out = HeldOut(self.experiment, self.files, self.limit)
        held_out.count_test()  # Faults of the files are told before anything is computed.
        dev = held_out.dev()
        self._open_index()
        self._require_gold(dev)
        training_text = self._training_text()
        self.store = Store(self.folder)
        (self.folder / "experiment.toml").write_text(text, encoding="utf-8")
        frozen, dev_rows = self._settle(arms, dev, held_out.tried(dev))
        embedder = self.index.manifest.inputs.embedder
        begun = RunManifest(
            run=name,
            experiment=self.experiment.name,
            experiment_file=str(self.path.resolve()),
            training_text=tuple(sorted(training_text)),
            identity=identity,
            frozen=frozen,
            skipped=skipped,
            seed=self.experiment.seed,
            scorer_version=asking.SCORER_VERSION,
            corpus=CorpusUsed(**asdict(self.index.manifest.inputs.corpus)),
            index=IndexUsed(self.index.name, self.index.generation.name, embedder.name, embedder.precision),
            versions=versions(),
            git_commit=git_commit(),
            machine=machine(),
            started=started.isoformat(timespec="seconds"),
        )
        write_manifest(self.folder, begun)

        test, openings = held_out.open_test(frozen, self.home.results, name, identity)
        self._require_gold(test)
        leaks = find_leaks(test, self.corpus.documents(), training_text)
        clusters = {question.id: _cluster(question, leaks) for question in test}
        arms = [settling.settled(arm, retriever=frozen.retriever, k=frozen.k) for arm in arms if arm.name not in self.failed]
        rows = self._ask(arms, test, "test", held_out.answered(test))
        arms = [arm for arm in arms if arm.name not in self.failed]
        if not arms:
            raise CheckFailed("every arm failed: " + "; ".join(f"{arm}: {why}" for arm, why in self.failed.items()), "mend them")
        table = Table(
            questions=tuple(test),
            arms=tuple(arms),
            rows=rows,
            clusters=clusters,
            flagged=frozenset(leaks.report.flagged),
            score=frozen.score,
            refuse_below=frozen.refuse_below,
        )
        baseline = self.experiment.baseline if self.experiment.baseline in rows else None
        summary = summarise(
            table,
            run=name,
            experiment=self.experiment.name,
            baseline=baseline,
            costs=self.costs,
            openings=openings,
            retrieval=self._retrieval(arms, test),
            skipped=skipped,
            failed=self.failed,
            progress=self.progress,
        )
        manifest = FinishedManifest(
            **begun.begun(),
            openings=openings,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            models=self.models,
            leaks=leaks.report,
            question_ids=tuple(question.id for question in test),
            answered_ids=tuple(sorted(held_out.answered(test))),
            predictions=PredictionCounts(self.computed, self.reused),
            failed=self.tracebacks,
        )
        whole = [rows[arm.name][question.id] for arm in arms for question in test]
        self.store.finish(dev_rows, whole, question_scores(table), self.failed)
        files.write_json(self.folder / SUMMARY, summary.to_json())
        write_manifest(self.folder, manifest)
        report.write(self.folder, summary, manifest, table)
        return RunSummary(name, self.folder, summary, skipped, self.failed)

    # --- what is there ------------------------------------------------------------------------------------------------

    def _missing_models(self) -> dict[str, str]:
        missing = {}
        for arm in self.experiment.arms:
            problems = [found for model in (arm.model, arm.adapter) if model and (found := self._problem(model))]
            if problems:
                missing[arm.name] = "; ".join(problems)
        return missing

    def _problem(self, model: str) -> str | None:
        """Why a model cannot be loaded, and the command that makes it; None when it is there."""
        if ".." not in Path(model).parts and (self.home.runs / model).is_dir():
            return None
        try:
            catalogue.locate(model)
        except UserError as error:
            if command := self.experiment.train.get(model.partition("/")[0]):
                return f"there is no run {model!r}; train it: {command}"
            return f"{error.message}; {error.hint}"
        return None

    def _open_index(self) -> None:
        experiment = self.experiment
        known = {info.name for info in store.list_corpora(self.home)}
        if experiment.source and experiment.corpus not in known:
            store.add(experiment.corpus, experiment.source, home=self.home)
        self.corpus = store.open_corpus(experiment.corpus, self.home)
        if experiment.source and not (self.home.indexes / experiment.index / "CURRENT").is_file():
            build.build(experiment.index, experiment.corpus, build.Recipe(), self.home, self.progress)
        self.index = Index.open(experiment.index, self.home)
        if self.index.manifest.inputs.corpus.sha256 != self.corpus.sha256:
            raise UserError(
                f"index {self.index.name!r} is not of the corpus {self.corpus.name!r} as it is now",
                f"rag-vs-ft index build {self.index.name} --corpus {self.corpus.name}",
            )

    # --- questions ----------------------------------------------------------------------------------------------------

    def _require_gold(self, questions: Sequence[Question]) -> None:
        missing = {gold: question for question in questions for gold in question.gold_documents if gold not in self.corpus}
        if missing:
            gold, question = next(iter(missing.items()))
            raise UserError(
                f"{len(missing)} gold documents are not in the corpus {self.corpus.name!r}, such as {gold!r} of question "
                f"{question.id!r}",
                "use the corpus that the questions were made for",
            )

    def _training_text(self) -> dict[str, str]:
        texts: dict[str, str] = {}
        files = training_paths(self.experiment, self.path)
        for model in dict.fromkeys(arm.adapter or arm.model for arm in self.experiment.arms):
            record = run_record(self.home, model)
            if record and record.data and Path(record.data.file).is_file():
                files.append(Path(record.data.file))
        for path in dict.fromkeys(files):
            try:
                texts[path.name] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(
                    f"cannot read the training text {path}: {error}", "mend training_text in the experiment"
                ) from error
        return texts

    def _settle(self, arms: Sequence[Arm], dev: Sequence[Question], asked: list[Question]) -> tuple[Frozen, list[Prediction]]:
        """What dev questions decide, and the predictions that they decided by."""
        choose = self.experiment.choose
        score, (retriever, k) = choose.score[0], settling.candidates(choose)[0]
        table: tuple[Tried, ...] = ()
        rows: list[Prediction] = []
        if choose.open:
            tried = settling.variants(arms, choose)
            found = self._ask([variant.settled for variant in tried], asked, "dev", set())
            for variant in tried:
                if reason := self.failed.pop(variant.settled.name, None):
                    self.failed[variant.arm.name] = f"on dev questions: {reason}"
            whole = [variant for variant in tried if variant.arm.name not in self.failed]
            if whole:
                score, (retriever, k), table = settling.choose_best(choose, whole, found, asked)
            rows = [row for predictions in found.values() for row in predictions.values()]
        refuse_below = settling.choose_threshold(lambda query: self.index.search(query, k, retriever=retriever), dev)
        return Frozen(k, retriever, score, refuse_below, len(dev), len(asked) if choose.open else 0, table), rows

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(
        self, arms: Sequence[Arm], questions: list[Question], split: str, answered: set[str]
    ) -> dict[str, dict[str, Prediction]]:
        """Ask each arm each question; arms of one model share its loading. Arms that fail are noted and left out."""
        rows: dict[str, dict[str, Prediction]] = {}
        for model in dict.fromkeys((arm.model, arm.adapter) for arm in arms):
            mine = [arm for arm in arms if (arm.model, arm.adapter) == model]
            lm = None
            try:
                self.progress(f"load {model[0]}", 0, 0)
                lm = load(
                    model[0],
                    adapter=model[1],
                    device=self.experiment.device,
                    dtype=self.experiment.dtype,
                    home=self.home.root,
                )
                if split == "test":
                    self._note_model(lm, mine[0])
            except Exception as error:
                for arm in mine:
                    self._note_failure(arm, error)
                continue
            priors: asking.Priors = {}
            for arm in mine:
                try:
                    rows[arm.name] = self._ask_arm(lm, arm, questions, split, answered, priors)
                except Exception as error:  # one arm's failure must not cost the others' hours
                    self._note_failure(arm, error)
            del lm
            _free()
        return rows

    def _ask_arm(
        self,
        lm: LanguageModel,
        arm: Arm,
        questions: list[Question],
        split: str,
        answered: set[str],
        priors: asking.Priors,
    ) -> dict[str, Prediction]:
        limit = self.experiment.answers.max_new_tokens
        room = asking.room_for(lm, questions, limit if answered else 0)
        rows: dict[str, Prediction] = {}
        tasks = []
        stage = f"{arm.name} ({split})"
        index = self.index if CONTEXTS[arm.context].shows_passages else None
        for number, question in enumerate(questions):
            passages = asking.find_passages(arm, question, index, self.experiment.seed)
            try:
                tokens = limit if question.id in answered else 0
                task = asking.prepare(lm, arm, question, passages, room=room, max_new_tokens=tokens)
            except UserError as error:
                rows[question.id] = asking.predict_error(arm, split, question, passages, error.message)
                continue
            if task.key in self.store.outcomes:
                rows[question.id] = asking.predict(arm, split, task, self.store.outcomes[task.key][0])
            else:
                tasks.append(task)
            self.progress(f"{stage}: passages", number + 1, len(questions))
        self.store.add(rows.values())
        self.reused += sum(not row.error for row in rows.values())
        if len(rows) == len(questions) and all(row.error for row in rows.values()):
            raise UserError(f"no question fits: {next(iter(rows.values())).error}")
        reset_peak_memory(lm.device)
        # Prompts of like length share a batch, and so little of it is padding; the longest first, so that what does not fit into
        # memory fails at once and the time left is not told too short.
        tasks.sort(key=lambda task: (-len(task.prompt.token_ids), task.question.id))
        done = len(rows)
        for start in range(0, len(tasks), asking.BATCH):
            batch = tasks[start : start + asking.BATCH]
            self.progress(stage, done, len(questions))
            outcomes = asking.run_batch(lm, batch, priors)
            new = [asking.predict(arm, split, task, outcome) for task, outcome in zip(batch, outcomes, strict=True)]
            self.store.add(new)
            rows |= {row.question_id: row for row in new}
            done += len(batch)
            self.computed += len(batch)
        self.progress(stage, len(questions), len(questions))
        if split == "test":
            index = self.index if CONTEXTS[arm.context].shows_passages else None
            peak = peak_memory(lm.device) if tasks else None
            self.costs[arm.name] = arm_cost(lm, index, arm.adapter or arm.model, self.home, peak)
        return rows

    def _note_failure(self, arm: Arm, error: Exception) -> None:
        message = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        self.failed[arm.name] = message.strip().splitlines()[0] if message.strip() else type(error).__name__
        self.tracebacks[arm.name] = "".join(traceback.format_exception(error))

    def _note_model(self, lm: LanguageModel, arm: Arm) -> None:
        documents = validation_documents(self.corpus, self.experiment.validation_documents)
        window = min(lm.window, VALIDATION_WINDOW)
        score = perplexity.score(lm, documents, window=window, progress=self.progress) if documents else None
        record = run_record(self.home, arm.adapter or arm.model)
        self.models[lm.name if lm.adapter is None else f"{lm.name} + {lm.adapter}"] = ModelUsed(
            weights_sha256=lm.weights_sha256,
            device=lm.device,
            dtype=lm.dtype,
            threads=lm.threads,
            window=lm.window,
            parameters=sum(weight.numel() for weight in lm.model.parameters()),
            validation=HeldOutText(**score.to_json()) if score else None,
            trained_on_validation=record is not None and trained_on_validation(record, self.corpus),
        )

    def _search(self, retriever: str, query: str, k: int) -> list[Hit]:
        return self.index.search(query, k, retriever=retriever)

    def _retrieval(self, arms: Sequence[Arm], questions: Sequence[Question]) -> dict[str, RetrievalFigures]:
        """Retrieval by itself, to depth 10, for each retriever that an arm searches with."""
        result: dict[str, RetrievalFigures] = {}
        if not any(question.gold_documents for question in questions):
            return result
        for retriever in dict.fromkeys(str(arm.retriever) for arm in arms if CONTEXTS[arm.context].is_search):
            found = evaluate_retrieval(partial(self._search, retriever), questions)
            result[retriever] = RetrievalFigures.of(found)
        return result


def _cluster(question: Question, leaks: Leaks) -> str:
    if not question.gold_documents:
        return question.id
    return leaks.clusters[question.gold_documents[0]]


def _free() -> None:
    """Give the memory of a model that is no longer needed back before the next is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
