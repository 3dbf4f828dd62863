"""Questions from what an update changed: a sentence or table cell whose fact is another one in the new version of its document.

Documents are aligned by id, renamed ones by the statements that they share; in each, statements that went are paired with
statements that came. A pair makes a question when one run of words was replaced, edits without meaning left aside, and both
runs are facts of one kind: numbers (quantities, versions, dates), names in code, or states such as "Preview".
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.errors import UserError
from rag_vs_ft.funnel import Funnel
from rag_vs_ft.mining.common import GAP, Mined, guess_rates, question_id
from rag_vs_ft.mining.sound import cell_fault, update_fault
from rag_vs_ft.mining.spans import NUMBER_WORDS, is_made_up, spans
from rag_vs_ft.mining.statements import Statement, statements
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Question

SIMILAR = 0.5
"""Share of words that two sentences must have in common to be versions of one."""
RENAMED = 0.5
"""Share of statements, of the shorter document, that a renamed document must have in common with its old version."""


@dataclass(frozen=True, slots=True)
class _Change:
    """One fact that changed: the two statements, the two runs of words, and where the new run stands."""

    kind: str
    old: Statement
    new: Statement
    before: str
    after: str
    start: int

    @property
    def gap(self) -> str:
        return self.new.text[: self.start] + GAP + self.new.text[self.start + len(self.after) :]


def mine_updates(old: Corpus, new: Corpus, *, seed: int, balanced: bool = False, progress: Progress | None = None) -> Mined:
    """Forced choices between the old and the new fact, for each fact that differs between two versions of a corpus.

    The answer is the new one. Facts that change mostly grow, so "take the larger number" is often right: `balanced` leaves out as
    many questions as it takes to make that a coin's toss. Raises UserError when the two have few documents in common, or when no
    fact changed.
    """
    report = progress or silent
    if old.sha256 == new.sha256:
        raise UserError(f"corpora {old.name!r} and {new.name!r} are the same", "give two versions of a corpus, the older first")
    pairs, titles = _aligned(old, new, report)
    funnel = Funnel()
    changes: list[_Change] = []
    for done, (old_id, new_id) in enumerate(pairs, start=1):
        changes += _changes(list(statements(old.get(old_id))), list(statements(new.get(new_id))), funnel)
        if done % 100 == 0:
            report(f"{done} of {len(pairs)} changed documents compared, {len(changes)} facts")
    changes = _told_apart(changes, new, funnel)
    if not changes:
        raise UserError(
            f"no fact differs between {old.name!r} and {new.name!r} ({len(pairs)} documents differ)",
            "give two versions of a corpus that are further apart, the older first",
        )
    documents: dict[tuple[str, ...], list[str]] = defaultdict(list)
    first: dict[tuple[str, ...], _Change] = {}
    for change in changes:
        # Of a table cell, also its row: the same two versions are changed in many rows.
        key = (change.new.row, change.new.column, " ".join(change.gap.split()), change.before, change.after)
        documents[key].append(change.new.document_id)
        first.setdefault(key, change)
    if repeated := len(changes) - len(first):
        funnel.drop("repeated: the same change in another document", repeated)
    questions = [
        _question(change, titles[change.new.document_id], documents[key], old.name, new.name, seed)
        for key, change in sorted(first.items())
    ]
    if balanced:
        questions = _evened(questions, seed, funnel)
        if not questions:
            raise UserError("every changed number grew (or every one shrank)", "mine without --balanced: reports show that guess")
    return Mined(tuple(questions), funnel.counts(len(questions)), guess_rates(questions) | _lopsided(questions))


def _aligned(old: Corpus, new: Corpus, report: Progress) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Pairs of ids of documents whose text differs, and the titles of the new ones."""
    marks = {document.id: document.sha256 for document in old.documents()}
    titles: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    came: list[str] = []
    for document in new.documents():
        titles[document.id] = document.title
        if document.id not in marks:
            came.append(document.id)
        elif marks[document.id] != document.sha256:
            pairs.append((document.id, document.id))
    in_common = sum(key in titles for key in marks)
    went = [key for key in marks if key not in titles]
    holders: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, int] = {}
    for key in went:
        texts = {statement.text for statement in statements(old.get(key))}
        sizes[key] = len(texts)
        for text in texts:
            holders[text].add(key)
    renamed = 0
    for key in came:
        texts = {statement.text for statement in statements(new.get(key))}
        shared = Counter(holder for text in texts for holder in holders.get(text, ()))
        best = max(sorted(shared), key=lambda holder: shared[holder], default=None)
        if best and shared[best] >= 5 and shared[best] >= RENAMED * min(sizes[best], len(texts)):
            pairs.append((best, key))
            renamed += 1
    report(f"{len(pairs)} documents differ, {renamed} of them under another name")
    if in_common + renamed < 0.1 * min(len(marks), len(titles)):
        raise UserError(
            f"corpora {old.name!r} and {new.name!r} have {in_common} documents in common: they are not versions of one",
            "give two versions of the same corpus, the older first",
        )
    return sorted(pairs, key=lambda pair: pair[1]), titles


# --- one document -----------------------------------------------------------------------------------------------------


def _changes(before: Sequence[Statement], after: Sequence[Statement], funnel: Funnel) -> Iterator[_Change]:
    """Facts that changed between two versions of a document."""
    for old, new in _pairs(before, after):
        funnel.candidates += 1
        change = _change(old, new)
        if isinstance(change, str):
            funnel.drop(change)
        else:
            yield change


def _pairs(before: Sequence[Statement], after: Sequence[Statement]) -> Iterator[tuple[Statement, Statement]]:
    """Cells of the same row and column, and sentences that are most alike, of those that are in one version only."""
    for olds, news in _cells(before, after):
        if len(olds) == len(news) == 1 and olds[0].text != news[0].text:
            yield olds[0], news[0]
    old_texts, new_texts = {s.text for s in before if not s.row}, {s.text for s in after if not s.row}
    gone = list({s.text: s for s in before if not s.row and s.text not in new_texts}.values())
    come = list({s.text: s for s in after if not s.row and s.text not in old_texts}.values())
    new_words = [Counter(statement.text.casefold().split()) for statement in come]
    scored: list[tuple[float, int, int]] = []
    for place, statement in enumerate(gone):
        words = Counter(statement.text.casefold().split())
        for other, others in enumerate(new_words):
            score = 2 * (words & others).total() / (words.total() + others.total())
            if score >= SIMILAR:
                scored.append((-score, place, other))
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, place, other in sorted(scored):
        if place not in taken[0] and other not in taken[1]:
            taken[0].add(place)
            taken[1].add(other)
            yield gone[place], come[other]


def _cells(before: Sequence[Statement], after: Sequence[Statement]) -> Iterator[tuple[list[Statement], list[Statement]]]:
    """The cells of each place in the tables of a document (section, row and column by name), in both versions."""
    places: dict[tuple[str, ...], tuple[list[Statement], list[Statement]]] = defaultdict(lambda: ([], []))
    for side, given in enumerate((before, after)):
        for statement in given:
            if statement.row:
                places[statement.place][side].append(statement)
    yield from places.values()


# --- one statement ----------------------------------------------------------------------------------------------------

_STATES = frozenset(
    {"ga", "generally available", "preview", "deprecated", "retired", "supported", "not supported", "unsupported", "yes", "no"}
    | {"enabled", "disabled", "true", "false", "required", "optional", "none", "all", "always", "never"}
    | {"free", "basic", "standard", "premium"}
)
_SAME_STATES = (
    frozenset({"no", "optional", "none", "never", "false", "not supported", "unsupported", "disabled"}),
    frozenset({"yes", "required", "always", "true", "supported", "enabled", "all"}),
    frozenset({"ga", "generally available", "supported"}),
)
_FACTUAL = re.compile(r"\d|^`?--|[a-z]{2}[A-Z]\w|_|\w\.\w")
_EDGE = "\"'`*.,;:()[]!?"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_VALUE = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)*")
_MOST_DIGITS = 4_000
"""Python converts no more."""
_CODE_NAME = re.compile(r"-{0,2}[A-Za-z][A-Za-z0-9]*(?:[._/-][A-Za-z0-9]+)*")
_PATH_OR_URL = re.compile(r"://|/[A-Za-z]|[A-Za-z]/|[$<>@\\]")
_LONGEST_CELL = 40
_LONGEST_FACT = 6
"""Words of a fact at most."""
_POLISHED = 10
"""Words around a fact that may have been reworded at most."""
_MISSPELT = 0.94
"""Two names whose letters are at least this much alike (Ratcliff and Obershelp) are one name, spelt in two ways."""


class _Token(NamedTuple):
    """One word in the form in which edits without meaning vanish, and its range in the text."""

    plain: str
    start: int
    end: int


def _change(old: Statement, new: Statement) -> _Change | str:
    """The fact that differs between two versions of a statement, or the rule that excludes it."""
    olds, news = _tokens(old.text), _tokens(new.text)
    matcher = SequenceMatcher(None, [word.plain for word in olds], [word.plain for word in news], autojunk=False)
    edits = [edit for edit in matcher.get_opcodes() if edit[0] != "equal"]
    if not edits:
        return "no meaning: markup, punctuation, case or spelling"
    # Words around the fact may have been polished; a second number or name may not have changed with it.
    facts = [
        edit
        for edit in edits
        if len(edits) == 1 or _is_factual(old.text, olds[edit[1] : edit[2]], new.text, news[edit[3] : edit[4]])
    ]
    polished = sum(max(edit[2] - edit[1], edit[4] - edit[3]) for edit in edits if edit not in facts)
    if len(facts) != 1 or facts[0][0] != "replace" or polished > _POLISHED:
        return "reworded: more or less than one fact replaced"
    _, first, last, new_first, new_last = facts[0]
    was = (olds[first].start, olds[last - 1].end)
    now = (news[new_first].start, news[new_last - 1].end)
    typed = _typed(old.text, was, new.text, now)
    before, after, start = typed or (old.text[slice(*was)], new.text[slice(*now)], now[0])
    if not typed and not new.row:
        before, after, start = _trimmed(before, after, start)
    kind = "number" if typed else _kind(before, after, cell=bool(new.row))
    if kind is None:
        return "reworded: the words replaced are no numbers, names or states"
    if fault := (cell_fault(new, _LONGEST_CELL) if new.row else update_fault(new.text)):
        return fault
    if re.search(rf"(?<![\w.]){re.escape(before)}(?!\w)", new.text):
        return "span: stands beside the gap too"
    if after.casefold().split()[0] in NUMBER_WORDS and ":" in new.text:
        return "span: counts what the sentence lists"
    return _Change(kind, old, new, _in_style_of(before, after) if kind == "number" else before, after, start)


def _is_factual(old: str, olds: Sequence[_Token], new: str, news: Sequence[_Token]) -> bool:
    """Whether one of these words holds a number, or is written as a name in code."""
    shown = [old[word.start : word.end] for word in olds] + [new[word.start : word.end] for word in news]
    return any(map(_FACTUAL.search, [*shown, *(word.plain for word in (*olds, *news))]))


def _typed(old: str, was: tuple[int, int], new: str, now: tuple[int, int]) -> tuple[str, str, int] | None:
    """The dates, quantities or versions of one form of which the replaced words are a part: a "30," of "June 30, 2026".

    Both as text, and where the new one starts.
    """
    for before in spans(old):
        if before.size is not None and before.start <= was[0] and was[1] <= before.end:
            for after in spans(new):
                if after.form == before.form and after.size != before.size and after.start <= now[0] and now[1] <= after.end:
                    return before.text, after.text, after.start
    return None


def _trimmed(before: str, after: str, start: int) -> tuple[str, str, int]:
    """Two runs cut down to the one word of each that holds a number: "100 AKS" and "1,000 Kubernetes" -> "100" and "1,000"."""
    old, new = ([word for word in run.split() if _is_number(word)] for run in (before, after))
    if len(old) != 1 or len(new) != 1 or (before.split() == old and after.split() == new):
        return before, after, start
    bare = new[0].strip(_EDGE)
    return old[0].strip(_EDGE), bare, start + after.index(bare)


def _is_number(word: str) -> bool:
    return any(letter.isdigit() for letter in word) or word.casefold().strip(_EDGE) in NUMBER_WORDS[2:]


def _tokens(text: str) -> list[_Token]:
    words: list[_Token] = []
    for match in re.finditer(r"\S+", text):
        bare = match[0].strip(_EDGE)
        if not bare:
            continue
        start = match.start() + match[0].index(bare)
        end = start + len(bare)
        plain = bare.casefold().replace("’", "'").replace("`", "")
        if negation := re.fullmatch(r"(\w+)n't|(can)not", plain):
            verb = negation[2] or {"ca": "can", "wo": "will"}.get(negation[1], negation[1])
            words += [_Token(verb, start, end), _Token("not", start, end)]
        elif quantity := re.fullmatch(r"(\d+(?:\.\d+)?)-?([a-z%]+)", plain):
            words += [_Token(quantity[1], start, start + len(quantity[1])), _Token(quantity[2], end - len(quantity[2]), end)]
        elif plain in NUMBER_WORDS:
            words.append(_Token(str(NUMBER_WORDS.index(plain)), start, end))
        elif re.fullmatch(r"\d{1,3}(?:,\d{3})+", plain):
            words.append(_Token(plain.replace(",", ""), start, end))
        else:
            words.append(_Token("might" if plain == "may" else plain, start, end))
    return words


def _kind(before: str, after: str, *, cell: bool) -> str | None:
    """What kind of fact two runs of words are, if they are facts of one kind and differ in it."""
    if max(len(before.split()), len(after.split())) > _LONGEST_FACT or is_made_up(before) or is_made_up(after):
        return None
    states = {before.casefold(), after.casefold()}
    if states <= _STATES and len(states) == 2 and not any(states <= same for same in _SAME_STATES):
        return "state"
    numbers = [[value.replace(",", "") for value in _NUMBER.findall(_in_digits(run))] for run in (before, after)]
    digits = [re.sub(r"\D", "", _in_digits(run)) for run in (before, after)]
    if all(numbers) and digits[0] != digits[1] and not any(map(_PATH_OR_URL.search, (before, after))):
        shapes = [_NUMBER.sub("#", _in_digits(run)).replace(" ", "").rstrip("s+`") for run in (before, after)]
        # One word each that is more than a number: a VM size, an operating system.
        words = all(run[0].isalpha() and " " not in run for run in (before, after))
        if shapes[0] == shapes[1] or cell or words:
            return "number"
    names = all(_CODE_NAME.fullmatch(run) and _is_code(run) for run in (before, after))
    letters = [re.sub(r"[^a-z0-9]", "", run.casefold()) for run in (before, after)]
    if names and not any(numbers) and SequenceMatcher(None, letters[0], letters[1], autojunk=False).ratio() < _MISSPELT:
        return "name"
    return None


def _in_digits(run: str) -> str:
    return " ".join(str(NUMBER_WORDS.index(word)) if word in NUMBER_WORDS else word for word in run.casefold().split())


def _is_code(run: str) -> bool:
    return bool(re.search(r"^--?[a-z]|[a-z][A-Z]|[._]", run))


def _in_style_of(before: str, after: str) -> str:
    """The old numbers written as the new ones are ("4GB" beside "2 GB" -> "4 GB"), so that the style tells nothing."""
    values, blanks = _NUMBER.findall(before), _NUMBER.split(after)
    if len(blanks) != len(values) + 1:
        return before
    same = re.sub(r"[\s`-]", "", _NUMBER.sub("#", before)).casefold() == re.sub(r"[\s`-]", "", "#".join(blanks)).casefold()
    return blanks[0] + "".join(value + blank for value, blank in zip(values, blanks[1:], strict=True)) if same else before


def _told_apart(changes: Sequence[_Change], new: Corpus, funnel: Funnel) -> list[_Change]:
    """The changes whose old statement stands nowhere in the new corpus: else both facts would be right."""
    olds = {change.old.text for change in changes if not change.old.row}
    still = set()
    for document in new.documents():
        still.update(olds.intersection(statement.text for statement in statements(document) if not statement.row))
    kept = [change for change in changes if change.old.row or change.old.text not in still]
    if dropped := len(changes) - len(kept):
        funnel.drop("the old statement still stands in another document", dropped)
    return kept


# --- questions --------------------------------------------------------------------------------------------------------


def _question(change: _Change, title: str, documents: Sequence[str], old: str, new: str, seed: int) -> Question:
    statement = change.new
    identity = question_id("updates", statement.document_id, statement.row, statement.column, change.old.text, statement.text)
    choices = [change.before, change.after]
    random.Random(f"{seed} {identity}").shuffle(choices)
    section = f', section "{statement.section}"' if statement.section else ""
    if statement.row:
        shown = "" if change.gap == GAP else f" Fill the gap: {change.gap}"
        text = (
            f'According to a table in the current version of "{title}"{section}: what is "{statement.column}" '
            f'where "{statement.key}" is "{statement.row}"?{shown}'
        )
    else:
        gap = change.gap.replace(f"`{GAP}`", GAP)
        text = f'According to the current version of "{title}"{section}, what belongs in the gap? {gap}'
    return Question(
        id=identity,
        question=text,
        answer=change.after,
        choices=tuple(choices),
        answer_index=choices.index(change.after),
        gold_documents=tuple(dict.fromkeys(documents)),
        answerable=True,
        source=f"updates:{old}->{new}#{change.old.text}",
        tags=("updates", f"rule:{change.kind}", "table" if statement.row else "sentence"),
        evidence=(statement.text,),
    )


def numbers_of(choice: str) -> tuple[int, ...]:
    """The numbers of a choice, versions part by part, to compare choices by."""
    parts = (part for run in _VALUE.findall(_in_digits(choice)) for part in run.replace(",", "").split("."))
    return tuple(int(part[:_MOST_DIGITS]) for part in parts)


def larger_number(question: Question) -> float | None:
    """Whether the choice with the larger number is right (versions part by part); None where the numbers do not differ."""
    numbers = [numbers_of(choice) for choice in question.choices or ()]
    if len(set(numbers)) < 2:
        return None
    return (numbers[question.answer_index or 0] == max(numbers)) / numbers.count(max(numbers))


def _evened(questions: Sequence[Question], seed: int, funnel: Funnel) -> list[Question]:
    """The questions without the surplus of those in which the larger (or smaller) number is right; which go is by chance."""
    sides = {side: [question for question in questions if larger_number(question) == side] for side in (0.0, 1.0)}
    fewer = min(map(len, sides.values()))
    surplus = {
        question.id
        for side in sides.values()
        for question in sorted(side, key=lambda question: question_id(str(seed), question.id))[fewer:]
    }
    if surplus:
        funnel.drop("direction: more facts that grew than that shrank, or the other way round", len(surplus))
    return [question for question in questions if question.id not in surplus]


def _lopsided(questions: Sequence[Question]) -> dict[str, float]:
    """What no choice of others can even out: how often the larger number is right, and the share of the largest document."""
    guesses = [guess for question in questions if (guess := larger_number(question)) is not None]
    largest = Counter(question.gold_documents[0] for question in questions).most_common(1)[0][1]
    rates = {"larger number": round(sum(guesses) / len(guesses), 4)} if guesses else {}
    return rates | {"share of the largest document": round(largest / len(questions), 4)}
