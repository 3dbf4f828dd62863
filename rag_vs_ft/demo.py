"""The packaged sample from documents to cited answers and a first comparison: what `rag-vs-ft demo` and `make run` show."""

from __future__ import annotations

import sys
import time
from functools import partial

from rag_vs_ft import settings
from rag_vs_ft.ask import ask
from rag_vs_ft.corpus import store
from rag_vs_ft.evaluation.harness import demo_comparison
from rag_vs_ft.evaluation.questions import load_questions, sample_questions_path
from rag_vs_ft.evaluation.retrieval import evaluate_retrieval
from rag_vs_ft.index import build
from rag_vs_ft.index.search import RETRIEVERS, Index
from rag_vs_ft.models.loading import load
from rag_vs_ft.settings import Home

NAME = "sample"
QUESTIONS = (
    "How many days does a vault keep deleted items by default?",
    "How many nodes can a node pool of an AKS cluster have?",
    "Which command creates a lock on a resource group?",
)


def run(home: Home, progress: build.Progress | None = None) -> None:
    """Add the sample, index it, ask three questions, score three retrievers, and compare the model with and without passages."""
    started = time.perf_counter()
    _heading("1. Documents")
    known = [info.name for info in store.list_corpora(home)]
    info = store.update(NAME, home=home) if NAME in known else store.add(NAME, NAME, home=home)
    counts = info.manifest["counts"]
    print(f"The packaged Azure handbook: {counts['documents']} articles, {counts['words']:,} words.")

    _heading("2. Index")
    result = build.build(NAME, NAME, build.Recipe(), home, progress)
    made = f"built in {result.seconds['total']:.1f} s" if result.published else "up to date"
    embedder = result.generation.manifest["embedder"]
    print(f"{result.counts['chunks']} chunks in FAISS ({embedder['name']}, {embedder['precision']}) and BM25, {made}.")

    _heading(f"3. Three questions to {settings.LANGUAGE_MODEL}, with the passages found")
    print("(Three that come out right; step 5 shows how often that is so.)")
    index = Index.open(NAME, home)
    lm = load(settings.LANGUAGE_MODEL, engine=settings.engine())
    print("".join(f"\nnote: {notice}" for notice in lm.notices), end="")
    for question in QUESTIONS:
        print(f"\nQ: {question}\nA: ", end="")
        answer = ask(lm, question, index, on_text=lambda piece: print(piece, end="", flush=True))
        print(f"\n   ({answer.seconds:.1f} s, {answer.prompt_tokens} + {answer.completion_tokens} tokens)")
        for hit in [hit for hit in answer.hits if hit.rank in answer.citations] or answer.hits[:1]:
            print(f"   [{hit.rank}] {hit.chunk.breadcrumb} ({hit.chunk.document_id})")

    _heading("4. Which retriever finds the right article?")
    questions = load_questions(sample_questions_path(), split="dev")
    print(f"{'':8} recall@5  recall@10  MRR@10  nDCG@10   ms")
    for retriever in reversed(RETRIEVERS):
        report = evaluate_retrieval(partial(index.search, retriever=retriever), questions)
        print(
            f"{retriever:8} {report.recall_at_5:8.3f} {report.recall_at_10:10.3f} {report.mrr_at_10:7.3f} "
            f"{report.ndcg_at_10:8.3f} {report.latency_ms_p50:4.0f}"
        )
    print(f"({report.questions} dev questions of the sample with known articles)")

    _heading("5. Does retrieval help this model?")
    print(
        "Multiple choice on held-out questions; k and the score are chosen on dev questions first (a minute or two).", flush=True
    )
    compared = demo_comparison(home, progress=progress)
    print(f"{'':14}   right      95% interval")
    for arm in compared.summary["arms"]:
        low, high = arm["choice_accuracy_ci"] or (0.0, 1.0)
        print(f"{arm['arm']:14} {arm['choice_accuracy']:7.1%}   {low:6.1%} to {high:.1%}")
    print(
        f"{compared.summary['verdict']}\n(right-passage is a probe: a perfect search. Report: {compared.folder / 'report.html'})"
    )

    home_option = "" if home.root == settings.home().root else f" --home {home.root}"
    print(f"\nDone in {time.perf_counter() - started:.0f} s. Try next:")
    print(f'  rag-vs-ft ask "How do I keep a node pool from scaling to zero?"{home_option}')
    print(f'  rag-vs-ft search "az aks nodepool upgrade --max-surge" --explain{home_option}')
    print(f"  rag-vs-ft train scratch --corpus {NAME} --preset nano --run nano{home_option}")
    sys.stdout.flush()


def _heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)
