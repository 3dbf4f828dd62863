"""`rag-vs-ft search`, `ask` and `demo`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import (
    MODEL_HELP,
    AllowRemoteOption,
    AsOption,
    HomeOption,
    IndexOption,
    JsonOption,
    OrLocalOption,
    PathOption,
    RerankDepthOption,
    RerankOption,
    RetrieverOption,
    ServiceOption,
    SinceOption,
    StageBar,
    filters_of,
    open_index,
    reranker_of,
    say,
    say_hidden,
    show,
)
from rag_vs_ft.errors import UserError

if TYPE_CHECKING:
    from rag_vs_ft.records import Answer

app = typer.Typer()


@app.command("search")
def search(
    question: Annotated[str, typer.Argument(help="What to look for.")],
    index: IndexOption = "sample",
    retriever: RetrieverOption = settings.RETRIEVER,
    fusion: Annotated[str, typer.Option("--fusion", help="How hybrid joins its legs: sum or rrf.")] = settings.FUSION,
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = settings.K,
    service: ServiceOption = "",
    path: PathOption = "",
    since: SinceOption = "",
    allow_remote: AllowRemoteOption = False,
    or_local: OrLocalOption = False,
    read_as: AsOption = None,
    rerank: RerankOption = "",
    rerank_depth: RerankDepthOption = settings.RERANK_DEPTH,
    explain: Annotated[bool, typer.Option("--explain", help="Show both legs, the matched terms and the fusion.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Find passages.

    Example: rag-vs-ft search "How many days are deleted vaults kept?" --index sample -k 3
    """
    from rag_vs_ft.ask import SearchRequest
    from rag_vs_ft.ask import search as search_in
    from rag_vs_ft.index.search import checked_k, checked_query

    checked_query(question)
    checked_k(k)
    filters = filters_of(service, path, since)
    opened = open_index(index, home)
    say_hidden(opened.hidden, "passages")
    reranker = reranker_of(rerank, rerank_depth, home)
    found = search_in(SearchRequest(question, k, retriever, fusion, filters, reranker, rerank_depth, explain), opened)
    for notice in found.notices:
        say(f"note: {notice}")
    if as_json:
        show(found.to_json())
        return
    for hit, reason in zip(found.hits, found.reasons, strict=True):
        print(f"[{hit.rank}] {hit.chunk.cited}  ({hit.score:.4f})\n    {hit.chunk.url or hit.chunk.document_id}")
        if reason:
            if hit.rerank_score is not None:
                print(f"    reranked from {hit.found_rank}, score {hit.rerank_score:.4f}")
            print(f"    bm25: {_leg(hit.bm25_rank, hit.bm25_score)}; dense: {_leg(hit.dense_rank, hit.dense_score)}")
            ranks = {"words": hit.document_bm25_rank, "vectors": hit.document_dense_rank}
            if shown := ", ".join(f"rank {rank} by {leg}" for leg, rank in ranks.items() if rank is not None):
                print(f"    its document: {shown}")
            print(f"    matched: {', '.join(reason['matched_terms']) or 'no term'}; {reason['score']}")
        print("\n".join(f"    {line}" for line in hit.chunk.text.splitlines()) + "\n")
    if not found.hits:
        say("nothing matches; " + ("try wider filters" if filters else "try other words, or --retriever dense"))


def _leg(rank: int | None, score: float | None) -> str:
    return "not in its list" if rank is None else f"rank {rank}, score {score:.4f}"


@app.command("ask")
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    index: IndexOption = "sample",
    model: Annotated[
        str, typer.Option("--model", help=f"{MODEL_HELP} extractive: the best sentences found, without a model.")
    ] = settings.LANGUAGE_MODEL,
    adapter: Annotated[str | None, typer.Option("--adapter", help="A LoRA adapter on top: a run or folder.")] = None,
    context: Annotated[str, typer.Option("--context", help="retrieved, or none: ask the bare model.")] = "retrieved",
    retriever: RetrieverOption = settings.RETRIEVER,
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = settings.ASK_K,
    service: ServiceOption = "",
    path: PathOption = "",
    since: SinceOption = "",
    allow_remote: AllowRemoteOption = False,
    or_local: OrLocalOption = False,
    read_as: AsOption = None,
    rerank: RerankOption = "",
    rerank_depth: RerankDepthOption = settings.RERANK_DEPTH,
    template: Annotated[str, typer.Option("--template", help="auto, plain, few-shot, alpaca or chat.")] = "auto",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", help="Length of the answer, at most.")
    ] = settings.MAX_NEW_TOKENS,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Nucleus sampling; 1 is off.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="For temperatures over 0.")] = settings.SEED,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    four_bit: Annotated[bool, typer.Option("--4bit", help="4-bit weights (CUDA only).")] = False,
    engine: Annotated[
        str,
        typer.Option("--engine", help="auto, transformers or openvino [default: $RAG_VS_FT_ENGINE or auto]."),
    ] = "",
    cite: Annotated[bool, typer.Option("--cite", help="Ask the model to cite passages as [1]; small ones cannot.")] = False,
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Print exactly what the model saw.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Ask a question and get an answer with its sources.

    Example: rag-vs-ft ask "Which port does the API server use?" --index sample
    """
    from rag_vs_ft.ask import AskRequest
    from rag_vs_ft.ask import ask as answer_from
    from rag_vs_ft.evaluation.contexts import CONTEXTS, WAYS
    from rag_vs_ft.index.search import checked_k, checked_query
    from rag_vs_ft.models import extractive
    from rag_vs_ft.models.generation import Sampling
    from rag_vs_ft.models.loading import load
    from rag_vs_ft.models.naming import run_of

    if context not in WAYS:
        raise UserError(f"context {context!r} is not known", f"use {' or '.join(reversed(WAYS))}")
    query, notices = checked_query(question)
    checked_k(k)
    request = AskRequest(
        query,
        k=k,
        retriever=retriever,
        filters=filters_of(service, path, since),
        rerank_depth=rerank_depth,
        template=template,
        max_new_tokens=max_new_tokens,
        sampling=Sampling(temperature, top_p, seed=seed),
        cite=cite,
    )
    opened = open_index(index, home) if CONTEXTS[context].is_search else None
    say_hidden(opened.hidden if opened else 0, "passages")
    where = settings.home(home)
    bar = StageBar()
    chosen = engine or settings.engine()
    lm = None
    if model != extractive.NAME:
        lm = load(model, where, adapter=adapter, device=device, four_bit=four_bit, engine=chosen, progress=bar)
    elif run_of(model, where):
        raise UserError(f"{model!r} means answers without a language model, and a run too", f"write run:{model} for the run")
    bar.close()
    answer = answer_from(
        lm,
        replace(request, rerank=reranker_of(rerank, rerank_depth, home, lm)),
        opened,
        on_text=None if as_json else lambda piece: print(piece, end="", flush=True),
    )
    if not as_json:
        print()
    for notice in (*notices, *answer.notices):
        say(f"note: {notice}")
    if as_json:
        show(answer.to_json() | ({"prompt": answer.prompt} if show_prompt else {}))
        return
    if show_prompt and lm:
        print(f"\n--- prompt ({answer.prompt_tokens}{f' of {lm.window}' if lm.window else ''} tokens) ---\n{answer.prompt}\n---")
    show_sources(answer)
    if lm is None:
        say(f"{answer.model}: {answer.seconds:.2f} s, no language model")
        return
    speed = answer.completion_tokens / answer.seconds if answer.seconds else 0.0
    written = f"{answer.prompt_tokens} + {answer.completion_tokens} tokens in {answer.seconds:.1f} s ({speed:.0f}/s)"
    say(f"{answer.model}{f' by {answer.engine}' if answer.engine else ''}: {written}")


def show_sources(answer: Answer) -> None:
    """Print the numbered passages; those the answer rests on are marked."""
    if answer.finish == "not relevant":
        print("\nThe closest passages, none of them close enough:")
    elif answer.hits:
        print("\nSources (* the answer rests on):")
    for hit in answer.hits:
        mark = "*" if hit.rank in answer.citations else " "
        print(f" {mark}[{hit.rank}] {hit.chunk.cited}\n      {hit.chunk.url or hit.chunk.document_id}")


@app.command("demo")
def demo(home: HomeOption = None) -> None:
    """Index the packaged sample, ask three questions, score retrieval, train a small model, and compare all arms.

    Example: rag-vs-ft demo
    """
    from rag_vs_ft.demo import run

    bar = StageBar()
    run(settings.home(home), bar)
    bar.close()
