"""The kinds of context that an arm can show its model with a question: one table, which everything else reads.

A new context is one function and one entry of `CONTEXTS`. What is drawn at random depends on the experiment's seed and the
question's id, so it does not change with the order or number of questions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rag_vs_ft import settings
from rag_vs_ft.ask import distinct
from rag_vs_ft.evaluation.metrics import holds
from rag_vs_ft.evaluation.questions import gold_answer, word_overlap
from rag_vs_ft.index.search import Filters, Index
from rag_vs_ft.records import Chunk, Hit, Question

ALTERED = "~altered"
"""Ends the id of a passage that the context `conflicting` has changed."""


@dataclass(frozen=True, slots=True)
class PassageSource:
    """What passages are drawn from: a question, an index, and how to search it. `draw` is seeded for this question."""

    question: Question
    index: Index
    k: int
    retriever: str
    draw: random.Random

    def search(self, k: int) -> list[Hit]:
        """The best `k` hits, equal texts once."""
        return distinct(self.index.search(self.question.question, k, retriever=self.retriever))


@dataclass(frozen=True, slots=True)
class Context:
    """A kind of context. `passages` draws what is shown, None shows nothing.

    `uses_k` and `uses_retriever` say which settings change the passages; giving an arm another is a fault of its experiment.
    A probe knows the gold documents or ignores the question: it measures what search and reading contribute, and is not a way to
    answer, so it never wins a verdict. `shows` says to readers of a report what the model is shown.
    """

    name: str
    uses_k: bool
    uses_retriever: bool
    is_probe: bool
    passages: Callable[[PassageSource], Sequence[Hit]] | None
    shows: str

    @property
    def shows_passages(self) -> bool:
        """Whether the prompt may hold passages."""
        return self.passages is not None

    @property
    def is_search(self) -> bool:
        """Whether the passages are what a search finds, as a user would get them."""
        return self.shows_passages and not self.is_probe


# --- passages ---------------------------------------------------------------------------------------------------------


def _retrieved(source: PassageSource) -> Sequence[Hit]:
    return source.search(source.k)


def _oracle(source: PassageSource) -> list[Hit]:
    question = source.question
    ranked: list[Hit] = []
    for document in question.gold_documents:
        # The filter takes a path's start: "a.md" is also the start of "a.mdx".
        found = source.index.search(question.question, 100, retriever=source.retriever, filters=Filters(path=document))
        ranked += [hit for hit in found if hit.chunk.document_id == document]
    known = {hit.chunk.id for hit in ranked}
    ranked += [Hit(0, chunk, 0.0) for chunk in source.index.chunks_of(question.gold_documents) if chunk.id not in known]
    if not question.evidence:
        return list({hit.chunk.document_id: hit for hit in reversed(ranked)}.values())[::-1]
    best = [max(ranked, key=lambda hit: evidence_share(evidence, hit.chunk.text)) for evidence in question.evidence if ranked]
    return list({hit.chunk.id: hit for hit in best}.values())


def _among_distractors(source: PassageSource) -> Sequence[Hit]:
    hits = _oracle(source)
    hits += _gold_removed(replace(source, k=max(source.k - len(hits), 1)))
    source.draw.shuffle(hits)
    return hits


def _conflicting(source: PassageSource) -> Sequence[Hit]:
    hits = _oracle(source)
    question = source.question
    if question.choices is not None and question.answer_index is not None:
        wrong = source.draw.choice([text for number, text in enumerate(question.choices) if number != question.answer_index])
        hits += contradicting(hits, question.choices[question.answer_index], wrong)
        source.draw.shuffle(hits)
    return hits


def contradicting(hits: Sequence[Hit], right: str, wrong: str) -> list[Hit]:
    """Copies of the passages that have the words `right`, with `wrong` in their place; none where they stand in no passage."""
    # Whole words and numbers: "5" is neither in "15" nor in "1.5".
    words = re.compile(r"(?<!\w)(?<!\d[.,])" + r"\s+".join(map(re.escape, right.split())) + r"(?!\w|[.,]\d)", re.IGNORECASE)
    found = []
    for hit in hits:
        text = words.sub(lambda _: wrong, hit.chunk.text) if right.split() else hit.chunk.text
        if text != hit.chunk.text:
            found.append(replace(hit, chunk=replace(hit.chunk, id=hit.chunk.id + ALTERED, text=text)))
    return found


def _gold_removed(source: PassageSource) -> list[Hit]:
    gold = source.question.gold_documents
    chunks = sum(1 for _ in source.index.chunks_of(gold))
    hits = source.search(min(source.k + chunks, settings.MAX_HITS))
    return [hit for hit in hits if hit.chunk.document_id not in gold][: source.k]


def _random(source: PassageSource) -> Sequence[Hit]:
    return [Hit(0, chunk, 0.0) for chunk in _random_chunks(source)]


def _random_chunks(source: PassageSource) -> Iterator[Chunk]:
    index, k = source.index, source.k
    drawn = index.random_chunks(source.draw, k + 50)
    others = (chunk for chunk in drawn if chunk.document_id not in source.question.gold_documents)
    return (chunk for chunk, _ in zip(others, range(k), strict=False))


CONTEXTS = {
    context.name: context
    for context in (
        # No passages.
        Context("none", uses_k=False, uses_retriever=False, is_probe=False, passages=None, shows="no passages"),
        # The best `k` chunks of a search.
        Context("retrieved", uses_k=True, uses_retriever=True, is_probe=False, passages=_retrieved, shows="what a search finds"),
        # For each piece of evidence the gold chunk that holds most of it; without evidence, the best chunk of each gold document.
        Context("oracle", uses_k=False, uses_retriever=True, is_probe=True, passages=_oracle, shows="shown the right passage"),
        # The oracle's and, up to `k` passages but at least one, the best of other documents, in random order.
        Context(
            "oracle+distractors",
            uses_k=True,
            uses_retriever=True,
            is_probe=True,
            passages=_among_distractors,
            shows="shown the right passage among others",
        ),
        # `k` chunks of documents that are not gold.
        Context("random", uses_k=True, uses_retriever=False, is_probe=True, passages=_random, shows="shown passages at random"),
        # The best `k` chunks of documents that are not gold.
        Context(
            "gold-removed",
            uses_k=True,
            uses_retriever=True,
            is_probe=True,
            passages=_gold_removed,
            shows="shown what a search finds without the right documents",
        ),
        # The oracle's and, in random order, a copy of each that has the right choice's words, with a wrong choice in their place.
        # A question whose passages do not have them is shown the oracle's alone; `holds_answer` tells the copies apart.
        Context(
            "conflicting",
            uses_k=False,
            uses_retriever=True,
            is_probe=True,
            passages=_conflicting,
            shows="shown the right passage beside one that says otherwise",
        ),
    )
}
"""Every context by its name, in the order in which they are listed to a user."""
WAYS = tuple(name for name, context in CONTEXTS.items() if not context.is_probe)
"""Names of the contexts that a user can be answered with."""


# --- what passages hold -----------------------------------------------------------------------------------------------


def evidence_share(evidence: str, text: str) -> float:
    """How much of a piece of evidence a text holds: over 1 when it has all of it in a row, else the share of its words."""
    return 2.0 if holds(text, evidence) else word_overlap(evidence, text)


def holds_answer(question: Question, chunk: Chunk) -> bool:
    """Whether a passage proves the answer: it holds evidence, or, for questions without, the answer in a gold document."""
    if chunk.id.endswith(ALTERED):
        return False
    if question.evidence:
        return any(evidence_share(evidence, chunk.text) >= 0.8 for evidence in question.evidence)
    return chunk.document_id in question.gold_documents and holds(chunk.text, gold_answer(question) or "")
