"""Questions from the text itself: one checkable span of a sentence or table cell is taken out, four choices are given.

The choices are of one form, drawn so that their looks say nothing: within each rule the right one stands at every rank of
length, of frequency in the corpus and of size about equally often. What is asked and what is left out is decided by rules
only, so a reader can see from a question's tags and evidence where it comes from.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.engines import HERE, Poisoned, Shard, WorkEngine, in_order, require_all
from rag_vs_ft.errors import UserError
from rag_vs_ft.funnel import Funnel
from rag_vs_ft.mining.choices import CHOICES, Balance, Mentions, Pool, PoolMember, count_mentions, folder
from rag_vs_ft.mining.common import GAP, Mined, guess_rate, guess_rates, question_id
from rag_vs_ft.mining.sound import cell_fault, sentence_fault, span_fault, stems
from rag_vs_ft.mining.spans import Span, spans, stated_in
from rag_vs_ft.mining.statements import Statement, statements
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Document, Question

PER_DOCUMENT = 20
"""Questions of one document at most, so that long documents do not decide the figures."""
DOCUMENTS = 16
"""Documents in a shard."""
_PLENTY = ("service",)
"""Rules that find so much that they would fill the set: their turn comes one round later."""


@dataclass(slots=True)
class _Candidate:
    """A statement with the span that is asked for, the documents that state it word for word, and what may replace it."""

    statement: Statement
    span: Span
    title: str
    documents: list[str]
    alternatives: list[str] = field(default_factory=list)

    @property
    def gap(self) -> str:
        return self.statement.text[: self.span.start] + GAP + self.statement.text[self.span.end :]

    @property
    def beside(self) -> set[str]:
        """Stems of the words that the question shows beside its choices."""
        statement = self.statement
        return stems(f"{self.title} {statement.section} {statement.row} {statement.column} {self.gap}")

    @property
    def id(self) -> str:
        return question_id("cloze", self.statement.document_id, self.statement.row, self.statement.text, self.span.text)


@dataclass(slots=True)
class _Gathered:
    """What one pass over the corpus finds: candidates by document, and the spans of each form."""

    candidates: dict[str, list[_Candidate]]
    pools: dict[str, dict[str, PoolMember]]


def mine_cloze(
    corpus: Corpus,
    *,
    seed: int,
    limit: int | None = None,
    only: Container[str] | None = None,
    progress: Progress | None = None,
    engine: WorkEngine = HERE,
) -> Mined:
    """Gap questions with four choices from the documents of a corpus, or from those whose ids are in `only` (training documents).

    The same corpus, seed and `only` give the same questions; a limit takes some of them from everywhere. The corpus is read
    three times and never held; `engine` searches it for what can be asked. Raises UserError when nothing can be asked,
    CheckFailed when some documents could not be searched.
    """
    report = progress or silent
    funnel = Funnel()
    gathered = _gather(corpus, only, funnel, report, engine)
    counts = count_mentions(corpus, (text for pool in gathered.pools.values() for text in pool))
    report("possible choices counted in the corpus")
    chosen = _choose(gathered.candidates, seed, funnel)
    pools = {form: Pool(form, members, counts) for form, members in gathered.pools.items()}
    for candidate in chosen:
        rng = random.Random(f"{seed} {candidate.id}")
        near = folder(candidate.statement.document_id)
        candidate.alternatives = pools[candidate.span.form].draw(candidate.span, near, candidate.beside, rng)
    _strike_out(corpus, chosen)
    report(f"{len(chosen)} candidates compared with their documents")
    questions: list[Question] = []
    balances: dict[str, Balance] = defaultdict(Balance)
    for candidate in chosen:
        if len(candidate.alternatives) < CHOICES - 1:
            funnel.drop("choices: too few of the same form that the document does not hold")
        elif limit is not None and len(questions) >= limit:
            funnel.drop("beyond the limit")
        else:
            rng = random.Random(f"{candidate.id} {seed}")
            marks = pools[candidate.span.form].marks(candidate.span.text, candidate.alternatives, candidate.beside)
            others = balances[candidate.span.rule].choose(candidate.span.text, candidate.alternatives, marks, rng)
            if others is None:
                funnel.drop("choices: the right one would stand out")
            else:
                questions.append(_question(candidate, others, rng))
    if not questions:
        raise UserError(f"corpus {corpus.name!r}: no sentence that can be asked about", "it needs more, or longer, documents")
    return Mined(tuple(questions), funnel.counts(len(questions)), _balance(questions, counts))


# --- what can be asked ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Searched:
    """What one document gives: its spans (form, text, size), its sound candidates with what makes two the same, and the spans
    that were left out, by reason."""

    document_id: str
    spans: list[tuple[str, str, float | None]] = field(default_factory=list)
    candidates: list[tuple[tuple[str, ...], _Candidate]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    seen: int = 0


@dataclass(frozen=True, slots=True)
class SearchWork:
    """Documents, each with whether it is asked about -> what they give (`engines.Work`)."""

    def open(self) -> Callable[[list[tuple[Document, bool]]], list[_Searched]]:
        """Nothing has to be loaded."""
        return search_shard


def search_shard(documents: list[tuple[Document, bool]]) -> list[_Searched]:
    """What every engine does to a shard of documents."""
    return [_search(document, asked) for document, asked in documents]


def _search(document: Document, asked: bool) -> _Searched:
    found = _Searched(document.id)
    stated = list(statements(document))
    places = Counter(statement.place for statement in stated if statement.row)
    for statement in stated:
        in_text = spans(statement.text)
        found.spans += [(span.form, span.text, span.size) for span in in_text]
        if not asked or not in_text:
            continue
        found.seen += len(in_text)
        fault = cell_fault(statement) if statement.row else sentence_fault(statement.text)
        if statement.row and places[statement.place] > 1:
            fault = "cell: another row of this name"
        if fault:
            found.left_out[fault] += len(in_text)
            continue
        for span in in_text:
            if fault := span_fault(statement, span, document.title):
                found.left_out[fault] += 1
                continue
            # Of a sentence, its words; of a cell, also where it stands: "10" is said of many things.
            where = (document.title, *statement.place) if statement.row else ()
            candidate = _Candidate(statement, span, document.title, [document.id])
            found.candidates.append(((*where, candidate.gap.casefold()), candidate))
    return found


def _gather(corpus: Corpus, only: Container[str] | None, funnel: Funnel, report: Progress, engine: WorkEngine) -> _Gathered:
    """Sound candidates, with repeated texts made one and texts that have several answers left out."""
    pools: dict[str, dict[str, PoolMember]] = defaultdict(dict)
    found: dict[tuple[str, ...], list[_Candidate]] = defaultdict(list)
    asked = ((document, only is None or document.id in only) for document in corpus.documents())
    parts = enumerate(iter(lambda: list(islice(asked, DOCUMENTS)), []))
    shards = (Shard(f"documents {part[0][0].id} to {part[-1][0].id}", part, number) for number, part in parts)
    poisoned: list[Poisoned] = []
    done = 0
    for outcome in in_order(engine.run(SearchWork(), shards, here=search_shard, progress=report)):
        if isinstance(outcome, Poisoned):
            poisoned.append(outcome)
            continue
        done += len(outcome.result)
        if done % 200 < DOCUMENTS:
            report(f"{done} of {len(corpus)} documents searched")
        for one in outcome.result:
            for form, text, size in one.spans:
                member = pools[form].setdefault(text, PoolMember(size))
                member.documents.add(one.document_id)
                member.folders.add(folder(one.document_id))
            funnel.candidates += one.seen
            for reason, count in one.left_out.items():
                funnel.drop(reason, count)
            for key, candidate in one.candidates:
                found[key].append(candidate)
    require_all(poisoned, done // DOCUMENTS + len(poisoned), f"see rag-vs-ft corpus info {corpus.name}, and report the document")
    by_document: dict[str, list[_Candidate]] = defaultdict(list)
    for same in found.values():
        if len({candidate.span.text.casefold() for candidate in same}) > 1:
            funnel.drop("repeated: the same words with another answer elsewhere", len(same))
            continue
        first = same[0]
        first.documents = list(dict.fromkeys(candidate.statement.document_id for candidate in same))
        if len(same) > 1:
            funnel.drop("repeated: the same words elsewhere", len(same) - 1)
        by_document[first.statement.document_id].append(first)
    return _Gathered(by_document, pools)


def _choose(by_document: Mapping[str, list[_Candidate]], seed: int, funnel: Funnel) -> list[_Candidate]:
    """Up to PER_DOCUMENT candidates of each document, one of a statement, rules in turn; in the order of their ids."""
    chosen: list[_Candidate] = []
    for candidates in by_document.values():
        shuffled = sorted(candidates, key=lambda candidate: question_id(str(seed), candidate.id))
        turn: Counter[str] = Counter()
        order = []
        for candidate in shuffled:
            turn[candidate.span.rule] += 1
            order.append((turn[candidate.span.rule] + (candidate.span.rule in _PLENTY), candidate))
        taken: dict[str, _Candidate] = {}
        for _, candidate in sorted(order, key=lambda item: item[0]):
            if candidate.statement.text in taken:
                funnel.drop("another span of the same statement is asked")
            elif len(taken) == PER_DOCUMENT:
                funnel.drop(f"more than {PER_DOCUMENT} of one document")
            else:
                taken[candidate.statement.text] = candidate
        chosen += taken.values()
    return sorted(chosen, key=lambda candidate: candidate.id)


def _strike_out(corpus: Corpus, chosen: Sequence[_Candidate]) -> None:
    """Take out of each candidate's alternatives those that one of its documents mentions anywhere."""
    by_document: dict[str, list[_Candidate]] = defaultdict(list)
    for candidate in chosen:
        for key in candidate.documents:
            by_document[key].append(candidate)
    for document in corpus.documents():
        if document.id in by_document:
            text = " ".join(f"{document.title}\n{document.text}".split())
            for candidate in by_document[document.id]:
                candidate.alternatives = [other for other in candidate.alternatives if not stated_in(text, other)]


def _question(candidate: _Candidate, others: Sequence[str], rng: random.Random) -> Question:
    statement, span = candidate.statement, candidate.span
    choices = [span.text, *others]
    rng.shuffle(choices)
    section = f', section "{statement.section}"' if statement.section else ""
    if statement.row:
        shown = "" if candidate.gap == GAP else f" Fill the gap: {candidate.gap}"
        text = (
            f'According to a table in "{candidate.title}"{section}: what is "{statement.column}" '
            f'where "{statement.key}" is "{statement.row}"?{shown}'
        )
    else:
        gap = candidate.gap.replace(f"`{GAP}`", GAP)
        text = f'According to "{candidate.title}"{section}, what belongs in the gap? {gap}'
    return Question(
        id=candidate.id,
        question=text,
        answer=span.text,
        choices=tuple(choices),
        answer_index=choices.index(span.text),
        gold_documents=tuple(candidate.documents),
        answerable=True,
        source=f"cloze:{statement.document_id}",
        tags=("cloze", f"rule:{span.rule}", "table" if statement.row else "sentence"),
        evidence=(statement.text,),
    )


def _balance(questions: Sequence[Question], counts: Mentions) -> dict[str, float]:
    """What guessing by looks brings: the choices alone, how common they are in the corpus, and the words of the question."""
    rates = guess_rates(questions)
    if questions:
        rates |= guess_rate(questions, "most frequent", lambda choice, _: counts.mentions[choice])
        rates |= guess_rate(questions, "least frequent", lambda choice, _: -counts.mentions[choice])
        rates |= guess_rate(questions, "in most documents", lambda choice, _: counts.documents[choice])
        rates |= guess_rate(questions, "most words of the question", lambda choice, asked: len(stems(choice) & stems(asked)))
    return rates
