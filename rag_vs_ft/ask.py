"""A question, an index and a model -> an answer with its passages: what `ask`, the demo and the app all call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.index.search import Filters, Index, checked_query
from rag_vs_ft.language import language
from rag_vs_ft.models import extractive, follow_ups
from rag_vs_ft.models.generation import GREEDY, Sampling, answer_question
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.prompting import language_of
from rag_vs_ft.records import Answer, Hit, Reranker


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A question and how passages are found for it; `explain` asks why each stands where it does."""

    question: str
    k: int = settings.K
    retriever: str = settings.RETRIEVER
    fusion: str = settings.FUSION
    filters: Filters | None = None
    rerank: Reranker | None = None
    rerank_depth: int = settings.RERANK_DEPTH
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found. `reasons` has for each hit what `Index.explain` says, or None where nobody asked."""

    hits: tuple[Hit, ...]
    reasons: tuple[dict[str, Any] | None, ...]
    index_generation: str
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that `search --json`, the service and the tools for assistants give; `explain` only where it was asked."""
        hits = zip(self.hits, self.reasons, strict=True)
        return {
            "hits": [hit.to_json() | ({"explain": reason} if reason else {}) for hit, reason in hits],
            "index_generation": self.index_generation,
            "notices": list(self.notices),
        }


def search(request: SearchRequest, index: Index) -> Found:
    """The passages of `index` for a question. Raises UserError as `Index.search` does."""
    query, notices = checked_query(request.question)
    how = {"retriever": request.retriever, "fusion": request.fusion}
    hits = index.search(
        query, request.k, **how, filters=request.filters, rerank=request.rerank, rerank_depth=request.rerank_depth
    )
    reasons = [
        index.explain(query, hit, **how, filters=request.filters, k=request.k) if request.explain else None for hit in hits
    ]
    return Found(tuple(hits), tuple(reasons), index.generation.name, (*index.notices, *notices))


@dataclass(frozen=True, slots=True)
class AskRequest:
    """A question and how it is to be answered: the search (`k` to `rerank_depth`), the prompt's template, and the decoding, which
    also ends before any of `stop`. `earlier` are the questions of the conversation before it, oldest first; `cite` asks
    the model for the numbers of the passages, and `rewrite` to rewrite a question that refers to an earlier one.
    """

    question: str
    k: int = settings.ASK_K
    retriever: str = settings.RETRIEVER
    filters: Filters | None = None
    rerank: Reranker | None = None
    rerank_depth: int = settings.RERANK_DEPTH
    template: str = "auto"
    max_new_tokens: int = settings.MAX_NEW_TOKENS
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    cite: bool = False
    rewrite: bool = False


def ask(
    lm: LanguageModel | None,
    request: AskRequest,
    index: Index | None,
    *,
    on_text: Callable[[str], None] | None = None,
    on_hits: Callable[[Sequence[Hit]], None] | None = None,
) -> Answer:
    """Answer `request` from the passages that `index` finds, or from the bare model when `index` is None.

    `lm` None answers with the best sentences of the passages, without a language model, and raises UserError without an index.

    When nothing relevant is found, that is the answer, in the language of the documents, and the model is not asked. `on_hits`
    gets the passages as soon as they are there, `on_text` each piece of the answer. `seconds` of the answer counts retrieval and
    generation.
    """
    started = time.perf_counter()
    asked = follow_ups.standalone(lm if request.rewrite else None, request.earlier, request.question)
    told: tuple[str, ...] = (f"read as: {asked}",) if asked != request.question else ()
    told += index.notices if index is not None else ()
    hits: list[Hit] | None = None
    if index is not None:
        hits = index.search(
            asked,
            request.k,
            retriever=request.retriever,
            filters=request.filters,
            rerank=request.rerank,
            rerank_depth=request.rerank_depth,
        )
        if on_hits:
            on_hits(hits)
        if not is_relevant(hits):
            said = language(language_of(hits) or _main_language(index)).prompt.nothing_relevant
            if on_text:
                on_text(said)
            return Answer(
                answer=said,
                citations=(),
                hits=tuple(hits),
                prompt_tokens=0,
                completion_tokens=0,
                seconds=time.perf_counter() - started,
                model=lm.name if lm else extractive.NAME,
                index_generation=index.generation.name,
                finish="not relevant",
                notices=(*told, "no passage is close enough to the question, so the model was not asked"),
            )
    read = distinct(hits) if hits is not None else None
    if lm is None:
        answer = _extracted(asked, read, on_text)
    else:
        answer = answer_question(
            lm,
            asked,
            read,
            template=request.template,
            max_new_tokens=request.max_new_tokens,
            sampling=request.sampling,
            stop=request.stop,
            cite=request.cite,
            on_text=on_text,
        )
    return replace(
        answer,
        hits=tuple(hits or ()),
        seconds=time.perf_counter() - started,
        index_generation=index.generation.name if index is not None else None,
        notices=(*told, *answer.notices),
    )


def _main_language(index: Index) -> str:
    """The language that most of an index's passages are in; "" where none is known."""
    known = {code: count for code, count in index.manifest.languages.items() if code}
    return max(sorted(known), key=lambda code: known[code], default="")


def _extracted(question: str, hits: Sequence[Hit] | None, on_text: Callable[[str], None] | None) -> Answer:
    """The best sentences of the passages as an answer; it counts no tokens, since no model read or wrote any."""
    if hits is None:
        raise UserError("an extractive answer is taken from passages", "name an index, and leave --context none out")
    found = extractive.extract(question, hits)
    if on_text and found.answer:
        on_text(found.answer)
    return Answer(
        answer=found.answer,
        citations=found.citations,
        hits=tuple(hits),
        prompt_tokens=0,
        completion_tokens=0,
        seconds=0.0,
        model=extractive.NAME,
        finish="end",
        notices=() if found.answer else ("no sentence of the passages shares a word with the question",),
    )


def distinct(hits: Sequence[Hit]) -> list[Hit]:
    """Hits without those whose text an earlier one has: included text repeats, and a window is small."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(hit.chunk.text, hit)
    return list(first.values())


def is_relevant(hits: Sequence[Hit]) -> bool:
    """Whether any passage is close enough to the question for an answer to rest on it.

    By the best cosine among the hits; hits that BM25 alone found have none, and a match of words counts as relevant.
    """
    cosines = [hit.dense_score for hit in hits if hit.dense_score is not None]
    if not cosines:
        return bool(hits)
    return max(cosines) >= settings.RELEVANT_COSINE
