"""`rag-vs-ft eval`, `report` and `eval-retrieval`: scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import (
    MODEL_HELP,
    AddressOption,
    AllowRemoteOption,
    AsOption,
    EngineOption,
    HomeOption,
    IndexOption,
    JsonOption,
    PathOption,
    RerankDepthOption,
    RerankOption,
    RetrieverOption,
    ServiceOption,
    SinceOption,
    StageBar,
    WorkersOption,
    filters_of,
    open_index,
    reranker_of,
    say,
    show,
)
from rag_vs_ft.errors import UserError

app = typer.Typer()


@app.command("eval")
def evaluate(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (TOML); see eval/README.md.")],
    questions: Annotated[list[Path] | None, typer.Option("--questions", help="Instead of the experiment's own files.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="A fixed sample of so many dev and test questions.")] = None,
    index: Annotated[
        str | None, typer.Option("--index", help="Instead of the experiment's own index: a name, or qdrant:URL/NAME.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Name of the results folder [default: the experiment's].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave out arms whose model is not there.")] = False,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    allow_remote: AllowRemoteOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Ask every arm of an experiment the same held-out questions, and write the report.

    Example: rag-vs-ft eval eval/experiments/quick.toml --skip-missing
    """
    from rag_vs_ft.engines import WorkEngine
    from rag_vs_ft.evaluation.harness import run_experiment

    where = WorkEngine(engine, workers, address)
    bar = StageBar()
    result = run_experiment(
        experiment,
        home=settings.home(home),
        questions=questions or (),
        limit=limit,
        index=index,
        engine=where,
        run_name=run,
        resume=resume,
        skip_missing=skip_missing,
        progress=bar,
    )
    bar.close()
    if as_json:
        show(result.to_json())
    else:
        print((result.folder / "report.md").read_text(encoding="utf-8"))
    for notice in result.notices:
        say(f"note: {notice}")
    for arm, reason in result.skipped.items():
        say(f"skipped: {arm}: {reason}")
    say(f"report: {result.folder / 'report.html'}")
    result.raise_failures()


@app.command("report")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Results folders; several are compared with the first.")],
    gate: Annotated[bool, typer.Option("--gate", help="Exit with 1 when an arm became significantly worse.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the report of a run, or compare runs question by question.

    Example: rag-vs-ft report eval/results/monday eval/results/tuesday --gate
    """
    from rag_vs_ft.evaluation.compare import compare_all, read_report, require_no_regression
    from rag_vs_ft.evaluation.figures import read_summary

    if len(runs) == 1 and not gate:
        if as_json:
            show(read_summary(runs[0]).to_json())
        else:
            print(read_report(runs[0]))
        return
    comparisons = compare_all(runs)
    if as_json:
        show({"comparisons": [comparison.to_json() for comparison in comparisons]})
    else:
        print("\n\n".join(comparison.table() for comparison in comparisons))
    if gate:
        require_no_regression(comparisons)


@app.command("eval-retrieval")
def eval_retrieval(
    questions: Annotated[Path, typer.Option("--questions", help="A question file, or a folder in BEIR's layout (its queries).")],
    index: IndexOption = "sample",
    retriever: RetrieverOption = settings.RETRIEVER,
    fusion: Annotated[str, typer.Option("--fusion", help="How hybrid joins its legs: sum or rrf.")] = settings.FUSION,
    split: Annotated[
        str, typer.Option("--split", help="dev or test, for a file that is divided; in BEIR's layout any of qrels.")
    ] = "dev",
    service: ServiceOption = "",
    path: PathOption = "",
    since: SinceOption = "",
    rerank: RerankOption = "",
    rerank_depth: RerankDepthOption = settings.RERANK_DEPTH,
    as_json: JsonOption = False,
    allow_remote: AllowRemoteOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Score retrieval alone: recall, MRR, nDCG over documents, with intervals and latency.

    A folder in BEIR's layout holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv; `corpus add NAME jsonl:FOLDER/corpus.jsonl`
    takes its documents.

    Example: rag-vs-ft eval-retrieval --index sample --questions eval/questions/sample.jsonl
    """
    from rag_vs_ft.evaluation.ledger import record_opening
    from rag_vs_ft.evaluation.questions import load_questions
    from rag_vs_ft.evaluation.retrieval import evaluate_retrieval, load_beir

    filters = filters_of(service, path, since)
    judged = None
    if questions.is_dir():
        beir = load_beir(questions, split)
        loaded, judged = list(beir.questions), beir.judged
    elif split in ("dev", "test"):
        loaded = load_questions(questions, split="test" if split == "test" else "dev", opened_by="eval-retrieval")
    else:
        raise UserError(f"split {split!r} is not known", "use dev or test")
    opened = open_index(index, home)
    for notice in opened.notices:
        say(f"note: {notice}")
    reranker = reranker_of(rerank, rerank_depth, home)
    known = opened.document_ids(filters)
    missing = sorted({gold for question in loaded for gold in question.gold_documents} - known)
    searched = {"retriever": retriever, "fusion": fusion} | {
        "rerank": {"name": rerank, "depth": rerank_depth} if rerank else None,
        "filters": asdict(filters) if filters else None,
    }
    openings = None
    if split == "test":  # Written down before anything is seen.
        generation = [opened.name, opened.generation.name, opened.manifest.inputs.corpus.sha256]
        results = settings.home(home).results
        openings = record_opening(results, run="eval-retrieval", configuration=[generation, searched], questions=loaded)
    report = evaluate_retrieval(
        lambda query, k: opened.search(
            query, k, retriever=retriever, fusion=fusion, filters=filters, rerank=reranker, rerank_depth=rerank_depth
        ),
        loaded,
        judged=judged,
    )
    if missing:
        place = "what the filters leave" if filters else "the index"
        say(f"note: {len(missing)} gold documents are not in {place} and count as not found (e.g. {missing[0]})")
    if as_json:
        show(
            report.to_json()
            | {"index": index, "index_generation": opened.generation.name, **searched}
            | ({"openings": asdict(openings)} if openings else {})
            | {"file": str(questions), "split": split, "missing_gold_documents": missing}
        )
        return
    if openings:
        say(f"these test questions were opened {openings.times} times here, by {openings.configurations} configurations")
    print(f"{questions}: {report.questions} questions scored, {report.left_out} without gold documents left out")
    for metric, interval in report.intervals.items():
        shown = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "(too few documents for an interval)"
        print(f"{metric:14} {getattr(report, metric):.3f}  {shown}")
    print(f"latency        {report.latency_ms_p50:.1f} ms median, {report.latency_ms_p99:.1f} ms 99th percentile")


@app.command("eval-injection")
def eval_injection(
    models: Annotated[list[str], typer.Argument(help=f"As many as you like. {MODEL_HELP}")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """How often a model obeys an instruction that somebody has planted in a passage: 32 made cases, asked greedily.

    Example: rag-vs-ft eval-injection smollm2-135m-instruct
    """
    from rag_vs_ft.evaluation.injection import measure
    from rag_vs_ft.models.loading import load

    bar = StageBar()
    found = [measure(load(model, settings.home(home)), progress=bar) for model in models]
    bar.close()
    if as_json:
        show({"models": [one.to_json() for one in found]})
        return
    for one in found:
        low, high = one.interval
        print(f"{one.model}: obeyed {one.obeyed} of {one.tries} planted instructions ({low:.0%} to {high:.0%})")
        print("  by kind: " + ", ".join(f"{name} {count}" for name, count in one.by_order.items()))
        print(
            f"  right: {one.right} of {one.tries} in spite of them, {one.right_clean} of {one.clean} without; chance {one.chance}"
        )
