"""`rag-vs-ft choose CORPUS`: which way of giving a small model these documents answers best, within a budget of hours.

    choose("docs", home, hours=2)

    eval/results/choose-docs/
      questions.jsonl     mined from the documents, divided into dev and test by groups of near duplicates
      plan.json           what fits into the budget, from steps timed on this machine
      chosen.json         verdict, cost, what more hours would buy
      ...                 what every experiment leaves (`evaluation.harness`)

It mines, trains and compares with the same functions as the single verbs. Called again, it goes on where it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rag_vs_ft import files, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.corpus.splits import default_split, split_documents
from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.compare import Comparison, compare_runs, require_no_regression
from rag_vs_ft.evaluation.contexts import evidence_share
from rag_vs_ft.evaluation.figures import Summary
from rag_vs_ft.evaluation.harness import RunSummary, run_experiment
from rag_vs_ft.evaluation.heuristics import HEURISTICS
from rag_vs_ft.evaluation.manifest import MANIFEST
from rag_vs_ft.evaluation.measures import ACCURACY
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.evaluation.render import percent, points
from rag_vs_ft.evaluation.verdict import can_be_given
from rag_vs_ft.index import build, generations
from rag_vs_ft.language import words
from rag_vs_ft.mining import mine_cloze
from rag_vs_ft.models.naming import resolve
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Question, write_jsonl
from rag_vs_ft.settings import Home, check_name
from rag_vs_ft.training import runs
from rag_vs_ft.training import train as training
from rag_vs_ft.training.presets import checked_arm, load_preset
from rag_vs_ft.training.record import duration

QUESTIONS, PLAN, CHOSEN = "questions.jsonl", "plan.json", "chosen.json"
TRAIN: Mapping[str, str] = {"scratch": "nano", "lora": settings.LANGUAGE_MODEL}
"""Arm -> preset: what is trained by default."""
MOST_QUESTIONS = 500
FEWEST_QUESTIONS = 20
DEV_SHARE = 0.25
DEV_QUESTIONS = 40
"""Dev questions that each retriever and number of passages is tried on."""
KS = (1, 3, 5)
ASKING_SHARE = 0.5
"""Of the budget, at most: the rest is for training."""
FEWEST_STEPS = 20
"""Fewer optimizer steps teach nothing that choices would show."""
STILL_THERE = 0.8
"""Share of a question's evidence that its document must hold for the question to be asked again."""
_CLOSED_TOKENS, _PASSAGE_TOKENS = 100, 220
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Training:
    """One model to train: `steps` of the `wanted` fit into the budget and take `seconds`."""

    arm: str
    preset: str
    run: str
    steps: int
    wanted: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """What is done in `hours`: dev and test questions, what to train of the `models` (arm -> preset) that were asked for, and
    arms left out with the reason. Seconds are expected, from steps timed on this machine. `questions_sha256` is of the file of
    questions ("" in a plan of an earlier version)."""

    corpus: str
    corpus_sha256: str
    reader: str
    models: Mapping[str, str]
    hours: float
    questions: int
    dev_questions: int
    test_questions: int
    asking_seconds: float
    training: tuple[Training, ...]
    left_out: Mapping[str, str]
    questions_sha256: str = ""

    @property
    def seconds(self) -> float:
        """Of the whole."""
        return self.asking_seconds + sum(one.seconds for one in self.training)

    def __str__(self) -> str:
        lines = [
            f"within {self.hours:g} h, by steps timed on this machine:",
            f"  ask      {self.dev_questions} dev and {self.test_questions} test questions, {duration(self.asking_seconds)}",
        ]
        for one in self.training:
            lines.append(f"  train    {one.arm} ({one.preset}): {one.steps:,} of {one.wanted:,} steps, {duration(one.seconds)}")
        lines += [f"  left out {arm}: {reason}" for arm, reason in self.left_out.items()]
        return "\n".join([*lines, f"  in all   {duration(self.seconds)}"])


@dataclass(frozen=True, slots=True)
class Choice:
    """What came of it. `more` says what more hours would buy; `gate` compares with an earlier results folder."""

    run: RunSummary
    plan: BudgetPlan
    seconds: float
    more: tuple[str, ...]
    gate: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `choose --json` prints; the figures are in the run's summary.json."""
        summary = self.run.summary
        return {
            "run": self.run.name,
            "folder": str(self.run.folder),
            "verdict": summary.verdict,
            "plan": asdict(self.plan),
            "seconds": self.seconds,
            "arms": [
                {
                    "arm": arm.name,
                    "choice_accuracy": arm.accuracy.value,
                    "choice_accuracy_ci": arm.accuracy.interval,
                    "seconds_per_question": arm.seconds_per_question,
                    "seconds_per_right_answer": arm.seconds_per_right_answer,
                    "training_seconds": arm.cost.training_seconds,
                }
                for arm in summary.scored
            ],
            "break_even": [asdict(one) for one in summary.break_even],
            "more_hours": list(self.more),
            "gate": self.gate.to_json() if self.gate else None,
        }

    def __str__(self) -> str:
        summary = self.run.summary
        lines = [summary.verdict, "", "way, right, seconds a question, seconds for a right answer, seconds of training"]
        for arm in summary.scored:
            if can_be_given(arm) or arm.model in HEURISTICS:
                shown = (arm.seconds_per_question, arm.seconds_per_right_answer, arm.cost.training_seconds)
                seconds = ", ".join("-" if one is None else f"{one:.2f}" for one in shown)
                lines.append(f"  {arm.name}: {percent(arm.accuracy.value)}, {seconds}")
        for even in summary.break_even:
            after = even.questions_by_seconds
            when = "never" if after is None else f"after {after:,} questions"
            lines.append(f"training {even.finetuning} pays against {even.retrieval}: {when}")
        lines += ["", f"it took {duration(self.seconds)}; more hours would buy:", *(f"  {one}" for one in self.more)]
        if self.gate:
            lines += ["", self.gate.table()]
        return "\n".join(lines)


def choose(
    corpus: str,
    home: Home,
    *,
    hours: float = 2.0,
    reader: str = settings.LANGUAGE_MODEL,
    train: Mapping[str, str] = TRAIN,
    run_name: str = "",
    gate: Path | None = None,
    go_on: Callable[[BudgetPlan], bool] = lambda plan: True,
    progress: Progress = silent,
) -> Choice | None:
    """Compare the ways of giving `reader` the documents of `corpus` within `hours`; None when `go_on` refuses the plan.

    `train` maps arms of training to presets. `gate` is the results folder of an earlier `choose`: its questions are asked again,
    of the documents as they are now, with the settings and models that it has, and nothing is trained.

    Raises UserError for a corpus, preset or model that is not there, hours that are not positive, too few questions, or a results
    folder of other documents, hours or models.
    """
    began = time.perf_counter()
    if not 0 < hours < 10_000:
        raise UserError(f"--hours {hours:g} is no budget", "give hours, such as 2 or 0.5")
    opened = store.open_corpus(corpus, home)
    for arm, preset in train.items():  # before the minutes that indexing and mining take
        load_preset(preset, checked_arm(arm), {})
    if gate is None:
        resolve(reader, home)
    name = check_name("run", run_name or (f"choose-{corpus}-gate" if gate else f"choose-{corpus}"))
    folder = home.results / name
    if gate is not None and gate.resolve() == folder.resolve():
        raise UserError(f"{gate} is this run's own folder", "name the baseline's folder, or use --run with another name")
    progress("index")
    if generations.index_folder(corpus, home).is_dir():
        build.update(corpus, home, progress)
    else:
        build.build(corpus, corpus, build.Recipe(), home, progress)
    try:
        if gate is None:
            plan = _planned(folder, _Wanted(name, opened, home, hours, reader, dict(train)), progress)
        else:
            plan = _again(gate, folder, opened)
    except OSError as error:
        raise files.unusable(error) from error
    if not go_on(plan):
        return None
    if gate is None:
        for one in plan.training:
            _train(one, corpus, home, progress)
    experiment = folder / "experiment.toml"
    try:
        files.write_text(experiment, _experiment(plan, name))
        if gate is not None:
            files.remove(folder / MANIFEST)  # a gate is a new run each time
    except OSError as error:
        raise files.unusable(error) from error
    run = run_experiment(experiment, home=home, run_name=name, resume=True, progress=progress)
    result = Choice(run, plan, time.perf_counter() - began, _more(plan, run.summary))
    if gate is not None:
        result = replace(result, gate=compare_runs(gate, folder))
    files.write_record(folder / CHOSEN, result.to_json())
    return result


def require_no_worse(choice: Choice) -> None:
    """Raise CheckFailed, with the questions lost, when an arm answers significantly worse than in the baseline."""
    if choice.gate is not None:
        require_no_regression([choice.gate])


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was asked for: the run's name, documents, budget, the model that answers, and what to train (arm -> preset)."""

    name: str
    corpus: Corpus
    home: Home
    hours: float
    reader: str
    train: Mapping[str, str]


def _planned(folder: Path, wanted: _Wanted, progress: Progress) -> BudgetPlan:
    """The plan that the folder holds, or else a new one: timed anew, it would differ, and nothing could go on."""
    if (folder / PLAN).is_file():
        plan = read_plan(folder)
        asked = {"documents": wanted.corpus.sha256, "--hours": wanted.hours, "--reader": wanted.reader, "--train": wanted.train}
        was = {"documents": plan.corpus_sha256, "--hours": plan.hours, "--reader": plan.reader, "--train": plan.models}
        if changed := [key for key in asked if asked[key] != was[key]]:
            raise UserError(
                f"{folder.name} was begun with other {', '.join(changed)}",
                f"name another with --run, or compare with it: --gate {folder}",
            )
        return plan
    progress("questions")
    documents = list(wanted.corpus.documents())
    in_training = set(default_split(documents).train)
    mined = mine_cloze(wanted.corpus, seed=settings.SEED, limit=MOST_QUESTIONS, only=in_training, progress=progress)
    dev = set(split_documents(documents, fraction=DEV_SHARE, seed=settings.SEED + 1).validation)
    questions = [replace(question, split="dev" if question.gold_documents[0] in dev else "test") for question in mined.questions]
    for split in ("dev", "test"):
        if (count := sum(question.split == split for question in questions)) < FEWEST_QUESTIONS // 4:
            raise UserError(
                f"{wanted.corpus.name} gives {len(questions)} questions, of which {count} for {split}: too few to compare",
                "add documents, or write questions yourself and use `rag-vs-ft eval`",
            )
    return _written(folder, _fit(questions, wanted, progress), questions)


def _written(folder: Path, plan: BudgetPlan, questions: list[Question]) -> BudgetPlan:
    """The plan as it is written, after its questions."""
    write_jsonl(folder / QUESTIONS, (question.to_json() for question in questions))
    plan = replace(plan, questions_sha256=files.sha256_file(folder / QUESTIONS))
    files.write_record(folder / PLAN, asdict(plan))
    return plan


def _fit(questions: list[Question], wanted: _Wanted, progress: Progress) -> BudgetPlan:
    reader, home, corpus = wanted.reader, wanted.home, wanted.corpus
    budget = wanted.hours * _HOUR
    progress("time a question")
    closed = _seconds_of(reader, home, _CLOSED_TOKENS)
    by_k = {k: _seconds_of(reader, home, _CLOSED_TOKENS + k * _PASSAGE_TOKENS) for k in KS}
    test = sum(question.split == "test" for question in questions)
    dev = min(DEV_QUESTIONS, len(questions) - test)
    # Both retrievers, each k, on dev; then alone, retrieval, the right passage and two arms for each trained model, on test.
    on_dev = 2 * sum(by_k.values())
    on_test = closed + 2 * by_k[KS[-1]] + len(wanted.train) * (closed + by_k[KS[-1]])
    share = min(1.0, ASKING_SHARE * budget / (dev * on_dev + test * on_test))
    dev, test = max(FEWEST_QUESTIONS // 4, int(dev * share)), max(FEWEST_QUESTIONS // 4, int(test * share))
    asking = dev * on_dev + test * on_test
    each = max(0.0, budget - asking) / max(1, len(wanted.train))
    chosen: list[Training] = []
    left_out: dict[str, str] = {}
    for arm, preset in wanted.train.items():
        progress(f"time a step of {arm}")
        plan = training.plan(training.Request(checked_arm(arm), preset, corpus.name), home)
        step = (plan.seconds or 0.0) / max(1, plan.steps)
        steps = min(plan.steps, int(each / step) if step else plan.steps)
        if steps < min(FEWEST_STEPS, plan.steps):
            left_out[arm] = (
                f"{steps} steps fit, {FEWEST_STEPS} are the least; all {plan.steps:,} take {duration(plan.seconds or 0)}"
            )
            continue
        chosen.append(Training(arm, preset, f"{wanted.name}-{arm}", steps, plan.steps, steps * step))
    return BudgetPlan(
        corpus=corpus.name,
        corpus_sha256=corpus.sha256,
        reader=reader,
        models=wanted.train,
        hours=wanted.hours,
        questions=len(questions),
        dev_questions=dev,
        test_questions=test,
        asking_seconds=asking,
        training=tuple(chosen),
        left_out=left_out,
    )


def _seconds_of(reader: str, home: Home, tokens: int) -> float:
    """Seconds to score four choices after a prompt of so many tokens: the second time, since the first one warms up."""
    from rag_vs_ft.models.likelihood import continuation_logprobs
    from rag_vs_ft.models.loading import load

    lm = load(reader, home)
    if not lm.abilities.scores:
        raise UserError(f"{reader} does not say how likely a text is", "give --reader a model whose weights are here")
    some = list(lm.tokenizer.encode("The pump stops when the tank is full. ", add_special_tokens=False))
    prompt = (some * (tokens // len(some) + 1))[: min(tokens, lm.window - 8)]
    started = 0.0
    for _ in range(2):
        started = time.perf_counter()
        continuation_logprobs(lm, prompt, [some[:4]] * 4)
    return time.perf_counter() - started


def read_plan(folder: Path) -> BudgetPlan:
    """The plan in a results folder of `choose`. Raises UserError when it holds none, or it or its questions are damaged."""
    from pydantic import TypeAdapter, ValidationError

    hint = "name a results folder of `rag-vs-ft choose`"
    anew = f"remove {folder} and begin anew"
    try:
        plan = TypeAdapter(BudgetPlan).validate_json(json.dumps(files.read_json(folder / PLAN, anew)))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no {PLAN}", hint) from None
    except ValidationError as error:
        raise UserError(f"{folder / PLAN} is damaged: {error.errors()[0]['msg']}", anew) from error
    questions = folder / QUESTIONS
    if not questions.is_file() or plan.questions_sha256 not in ("", files.sha256_file(questions)):
        raise UserError(f"{questions} is not what was written", anew)
    return plan


def _again(gate: Path, folder: Path, opened: Corpus) -> BudgetPlan:
    """The baseline's plan and those of its questions that the documents of now still answer, for a run of the same kind."""
    plan = read_plan(gate)
    if plan.corpus != opened.name:
        raise UserError(f"{gate} is about {plan.corpus!r}, not about {opened.name!r}", "name a folder of the same documents")
    texts = {document.id: document.text for document in opened.documents()}
    asked = load_questions(gate / QUESTIONS, split=None, opened_by="eval")
    kept = [question for question in asked if _still_answered(question, texts)]
    if not any(question.split == "test" for question in kept):
        raise UserError(f"the documents answer none of the {len(asked)} questions of {gate} any more", "choose anew")
    left_out = dict(plan.left_out)
    if dropped := len(asked) - len(kept):
        left_out["questions"] = f"{dropped} of {len(asked)} are no longer answered by the documents"
    return _written(folder, replace(plan, corpus_sha256=opened.sha256, questions=len(kept), left_out=left_out), kept)


def _still_answered(question: Question, texts: Mapping[str, str]) -> bool:
    """Whether a gold document is there and still holds the sentence that the question comes from."""
    held = [texts[name] for name in question.gold_documents if name in texts]
    if not held:
        return False
    return not question.evidence or all(
        any(evidence_share(evidence, text) >= STILL_THERE for text in held) for evidence in question.evidence if words(evidence)
    )


# --- the work ---------------------------------------------------------------------------------------------------------


def _train(one: Training, corpus: str, home: Home, progress: Progress) -> None:
    """Train it, or go on with it; a finished run of its name is taken if it was trained just so, and refused otherwise."""
    overrides = {"steps": str(one.steps), "eval_every": str(max(1, one.steps // 5)), "warmup_steps": str(one.steps // 10)}
    request = training.Request(checked_arm(one.arm), one.preset, corpus, overrides=overrides)
    if runs.has_checkpoint(runs.run_folder(home, one.run)):
        training.resume(one.run, home, request, progress=progress)
    else:
        training.train(request, one.run, home, progress=progress)


def _experiment(plan: BudgetPlan, name: str) -> str:
    """The experiment file: what a user could have written."""
    arms: list[tuple[str, str, str]] = [
        ("alone", plan.reader, "none"),
        ("retrieval", plan.reader, "retrieved"),
        ("right-passage", plan.reader, "oracle"),
    ]
    for one in plan.training:
        arms.append((one.arm, one.run, "none"))
        if one.arm != "scratch":
            arms.append((f"{one.arm}+retrieval", one.run, "retrieved"))
    arms += [(rule, rule, "retrieved") for rule in ("string-match", "word-overlap")]
    arms += [(rule, rule, "none") for rule in ("longest-choice", "majority")]
    head = (
        f"# Written by `rag-vs-ft choose {plan.corpus}`.\n"
        f"name = {json.dumps(name)}\ncorpus = {json.dumps(plan.corpus)}\nindex = {json.dumps(plan.corpus)}\n"
        f'questions = ["{QUESTIONS}"]\nbaseline = "alone"\ntest_questions = {plan.test_questions}\n\n'
        f'[choose]\nk = {list(KS)}\nretriever = ["hybrid", "bm25"]\nscore = ["pmi", "sum", "per_byte"]\n'
        f"questions = {plan.dev_questions}\n"
    )
    table = "".join(
        f"\n[[arms]]\nname = {json.dumps(arm)}\nmodel = {json.dumps(model)}\ncontext = {json.dumps(context)}\n"
        for arm, model, context in arms
    )
    return head + table


def _more(plan: BudgetPlan, summary: Summary) -> tuple[str, ...]:
    """What more hours would buy: a smaller difference that can be told, longer training, arms that were left out."""
    found: list[str] = []
    told = [
        pair.detectable
        for pair in summary.pairs
        if pair.measure == ACCURACY.name and pair.planned and pair.detectable is not None and pair.detectable <= 1
    ]
    asked = summary.questions.with_choices
    if told:
        smallest = points(max(told)).lstrip("+")
        found.append(f"these {asked} questions show differences of {smallest} points or more; four times as many, half of that")
    else:
        found.append(f"these {asked} questions are too few, or the answers too alike, to tell a difference")
    found += [
        f"{one.arm}: {one.wanted:,} steps instead of {one.steps:,}: {duration(one.seconds * (one.wanted / one.steps - 1))} more"
        for one in plan.training
        if one.steps < one.wanted
    ]
    found += [f"{arm}: {reason}" for arm, reason in plan.left_out.items()]
    return tuple(found)
