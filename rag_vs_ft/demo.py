"""The packaged sample from documents to cited answers and a comparison of arms: what `rag-vs-ft demo` and `make run` show.

A second run uses what the first one made: index, trained model and predictions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial

from rag_vs_ft import files, settings
from rag_vs_ft.ask import AskRequest, ask
from rag_vs_ft.corpus import store
from rag_vs_ft.evaluation.experiments import load_experiment
from rag_vs_ft.evaluation.harness import DEMO, demo_comparison
from rag_vs_ft.evaluation.heuristics import HEURISTICS
from rag_vs_ft.evaluation.questions import load_questions, sample_questions_path
from rag_vs_ft.evaluation.retrieval import evaluate_retrieval
from rag_vs_ft.evaluation.settling import variants
from rag_vs_ft.index import build
from rag_vs_ft.index.search import RETRIEVERS, Index
from rag_vs_ft.models.loading import load
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.settings import SAMPLE, SAMPLE_QUESTIONS, Home
from rag_vs_ft.training import runs
from rag_vs_ft.training.presets import load_preset
from rag_vs_ft.training.record import RECORD, read_record
from rag_vs_ft.training.train import Request, resume, train

RUN, PRESET = "demo-nano", "nano"
TRAINING: Mapping[str, str] = {"steps": "150", "eval_every": "25"}
"""What the demo changes of the preset: checked often enough to watch, and ended about where the held-out loss stops falling."""
STAGES = {"index": 10.0, "answers": 15.0, "retrievers": 10.0, "training": 110.0, "comparison": 185.0}
"""Usual seconds on two cores: the estimate of the time left, until this machine has shown its pace."""


class _TimeLeft:
    """The time left of the whole demo, by the usual seconds of its stages and this machine's pace so far."""

    def __init__(self) -> None:
        self._usual = dict(STAGES)
        self._begun: list[str] = []
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._started

    def expect(self, stage: str, seconds: float) -> None:
        """A stage takes this long and not as usual, since most of it is there already."""
        self._usual[stage] = seconds

    def begin(self, stage: str) -> None:
        """The stage before has ended and this one starts."""
        self._begun.append(stage)

    def left(self, share: float = 0.0) -> str:
        """The time left in words, when this share of the running stage is done."""
        *before, running = self._begun
        done = sum(self._usual[stage] for stage in before) + share * self._usual[running]
        # As if twenty seconds had gone at the usual pace before: a first stage alone is no measure.
        pace = (20.0 + self.seconds) / (20.0 + done)
        seconds = pace * (sum(self._usual.values()) - done)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {max(10.0, round(seconds, -1)):.0f} s left"


def run(home: Home, progress: Progress = silent) -> None:
    """Add the sample, index it, ask three questions, score three retrievers, train a small GPT-2, and compare the arms."""
    clock = _TimeLeft()
    _heading("1. Documents")
    info = store.update(SAMPLE, home=home) if store.has_corpus(SAMPLE, home) else store.add(SAMPLE, SAMPLE, home=home)
    counts = info.manifest.counts
    print(f"The packaged Azure handbook: {counts.documents} articles, {counts.words:,} words.")
    if _finished_run(home):
        clock.expect("training", 1.0)
    if (home.results / "demo" / "summary.json").is_file():
        clock.expect("comparison", 20.0)

    clock.begin("index")
    _heading(f"2. Index ({clock.left()} in all)")
    result = build.build(SAMPLE, SAMPLE, build.Recipe(), home, progress)
    made = f"built in {result.seconds['total']:.1f} s" if result.published else "up to date"
    embedder = result.generation.manifest.inputs.embedder
    print(f"{result.counts.chunks} chunks in FAISS ({embedder.name}, {embedder.precision}) and BM25, {made}.")
    if not result.published:
        clock.expect("index", 1.0)

    clock.begin("answers")
    _heading(f"3. Three questions to {settings.LANGUAGE_MODEL}, with the passages found ({clock.left()} in all)")
    print("(Three that come out right; step 6 shows how often that is so.)")
    index = Index.open(SAMPLE, home)
    _ask(index, home)

    clock.begin("retrievers")
    _heading(f"4. Which retriever finds the right article? ({clock.left()} in all)")
    _score_retrievers(index)

    clock.begin("training")
    _heading(f"5. A GPT-2 of 5 million parameters, trained on these articles alone ({clock.left()} in all)")
    _train(home, clock)

    clock.begin("comparison")
    _heading(f"6. Which way answers best? ({clock.left()} in all)")
    _compare(home, progress, clock)

    home_option = "" if home.root == settings.home().root else f" --home {home.root}"
    print(f"\nDone in {clock.seconds:.0f} s. Try next:")
    print(f'  rag-vs-ft ask "How do I keep a node pool from scaling to zero?"{home_option}')
    print(f'  rag-vs-ft search "az aks nodepool upgrade --max-surge" --explain{home_option}')
    print(f'  rag-vs-ft sample {RUN} --prompt "A node pool"{home_option}')
    print(f"  rag-vs-ft train lora --corpus {SAMPLE} --preset {settings.LANGUAGE_MODEL} --run lora --set steps=20{home_option}")
    sys.stdout.flush()


def _ask(index: Index, home: Home) -> None:
    lm = load(settings.LANGUAGE_MODEL, home, engine=settings.engine(), progress=_tell_detail)
    print("".join(f"\nnote: {notice}" for notice in lm.notices), end="")
    for question in SAMPLE_QUESTIONS:
        print(f"\nQ: {question}\nA: ", end="")
        answer = ask(lm, AskRequest(question), index, on_text=lambda piece: print(piece, end="", flush=True))
        print(f"\n   ({answer.seconds:.1f} s, {answer.prompt_tokens} + {answer.completion_tokens} tokens)")
        for hit in [hit for hit in answer.hits if hit.rank in answer.citations] or answer.hits[:1]:
            print(f"   [{hit.rank}] {hit.chunk.cited} ({hit.chunk.document_id})")


def _tell_detail(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
    if detail:
        print(detail)


def _score_retrievers(index: Index) -> None:
    questions = load_questions(sample_questions_path(), split="dev")
    print(f"{'':8} recall@5  recall@10  MRR@10  nDCG@10   ms")
    for retriever in reversed(RETRIEVERS):
        report = evaluate_retrieval(partial(index.search, retriever=retriever), questions)
        print(
            f"{retriever:8} {report.recall_at_5:8.3f} {report.recall_at_10:10.3f} {report.mrr_at_10:7.3f} "
            f"{report.ndcg_at_10:8.3f} {report.latency_ms_p50:4.0f}"
        )
    print(f"({report.questions} dev questions of the sample with known articles)")


def _finished_run(home: Home) -> bool:
    """Whether the demo's model is there, trained to the end on the corpus as it is. One that was begun otherwise is removed."""
    folder = runs.run_folder(home, RUN)
    if not (folder / RECORD).is_file():
        return False
    record = read_record(folder)
    same = record.settings == load_preset(PRESET, "scratch", TRAINING).model_dump()
    if same and record.corpus and record.corpus.sha256 == store.open_corpus(SAMPLE, home).sha256:
        return record.state == "finished"
    with runs.lock(folder):
        files.remove(folder)
    return False


def _train(home: Home, clock: _TimeLeft) -> None:
    def watch(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if stage == "step":
            print(f"step {done:3}/{total}: {detail} ({clock.left(done / total)} in all)", flush=True)

    if runs.has_checkpoint(runs.run_folder(home, RUN)):
        result = resume(RUN, home, progress=watch).outcome
    else:
        result = train(Request("scratch", PRESET, SAMPLE, overrides=TRAINING), RUN, home, progress=watch).outcome
    print(
        f"{result.steps} steps in {result.seconds:.0f} s; {result.best_bits_per_byte:.3f} bits per byte of articles held out "
        "from training (lower is better).\nSo few words teach the manner of a text and hardly a fact: the comparison shows it."
    )


def _compare(home: Home, tell: Progress, clock: _TimeLeft) -> None:
    experiment, _ = load_experiment(DEMO)
    tried = len(variants(experiment.arms, experiment.choose)) + 1
    readers = sum(arm.model not in HEURISTICS for arm in experiment.arms) + 1
    work = tried * experiment.choose.questions + readers * experiment.test_questions
    asked: dict[str, int] = {}
    labels: dict[str, str] = {}

    def watch(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if stage.endswith(")"):  # an arm and its questions
            asked[stage] = done
        tell(labels.setdefault(stage, f"{stage}, {clock.left(sum(asked.values()) / work)} in all"), done, total)

    print("Multiple choice on held-out questions; the number of passages and the score are chosen on dev questions first.")
    sys.stdout.flush()
    compared = demo_comparison(home, scratch_run=RUN, progress=watch)
    width = max(len(arm.name) for arm in compared.summary.scored)
    print(f"{'':{width}}   right      95% interval")
    for arm in compared.summary.scored:
        low, high = arm.accuracy.interval or (0.0, 1.0)
        print(f"{arm.name:{width}} {arm.right:7.1%}   {low:6.1%} to {high:.1%}")
    print(f"{compared.summary.verdict}\nReport: {compared.folder / 'report.html'}")


def _heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)
