"""Question files: load them, and check that they are sound.

A file is JSON Lines, one `records.Question` a line. Only `id` and `question` are required; a key that is not known is a
fault, so that a misspelt one cannot go unnoticed. A set may be divided: then every line has `split` "dev" (for choosing
settings) or "test" (for the final figures), and all questions on one document are on the same side.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from rag_vs_ft.corpus.text import normalise
from rag_vs_ft.errors import UserError
from rag_vs_ft.language import language, stemmer, words
from rag_vs_ft.records import Document, Question

ALPHA = 0.001
"""An imbalance of the choices is a fault when chance alone would bring one as large less often than this."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a question file: 1-based line (None: the set as a whole), field, and what was found there."""

    line: int | None
    field: str
    message: str

    def __str__(self) -> str:
        return f"{f'line {self.line}' if self.line else 'set'}: {self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class QuestionReport:
    """What `check_questions` found: the faults in the order of their lines, and figures about the set."""

    path: str
    questions: int
    faults: tuple[Fault, ...]
    summary: dict[str, Any]

    @property
    def ok(self) -> bool:
        """True when the file has no fault."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """The object that `questions check --json` prints."""
        return {"ok": self.ok, **asdict(self)}


def sample_questions_path() -> Path:
    """The packaged sample's question file."""
    return Path(__file__).resolve().parent.parent / "sample" / "questions.jsonl"


def load_questions(path: Path, *, split: Literal["dev", "test"] | None = "dev", opened_by: str | None = None) -> list[Question]:
    """The questions of one split of a file, in the file's order; `split=None` is every split.

    A file that is not divided is loaded whole whatever `split` says. Questions held out for testing are given only to code
    that names itself in `opened_by` (the harness and `eval-retrieval`, which record it in what they write): nothing that
    chooses settings can load them by accident.

    Raises UserError naming every fault of the format, or when the split is empty or test questions are asked for unnamed.
    """
    numbered, faults, _ = _read(path)
    if faults:
        raise UserError(
            f"{path}: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n" + "\n".join(f"  {fault}" for fault in faults),
            "the format is described in docs/guide.md; `rag-vs-ft questions check FILE` checks the whole file",
        )
    questions = [question for _, question in numbered]
    chosen = [question for question in questions if split is None or question.split in ("", split)]
    if not chosen:
        raise UserError(f"{path}: no questions{f' of split {split!r}' if questions else ''}", "choose another split or file")
    if not opened_by and any(question.split == "test" for question in chosen):
        raise UserError(
            f"{path}: its test questions are held out",
            "choose settings on split 'dev'; `rag-vs-ft eval` and `eval-retrieval --split test` open the test questions",
        )
    return chosen


def gold_answer(question: Question) -> str | None:
    """The answer's text; the right choice where no free answer is given."""
    if question.answer is None and question.choices is not None and question.answer_index is not None:
        return question.choices[question.answer_index]
    return question.answer


def check_questions(path: Path, documents: Iterable[Document] | None = None) -> QuestionReport:
    """Check a question file: its format, the balance of its choices, its splits and, given documents, its truth to them.

    With documents: every gold document exists, a gold document has every evidence and every number of an answer, and
    no question is worded as a document is. Raises UserError only when the file cannot be read.
    """
    numbered, faults, remarks = _read(path)
    faults += remarks + _split_faults(numbered)
    balance, balance_faults = _balance([question for _, question in numbered])
    faults += balance_faults
    questions = [question for _, question in numbered]
    summary: dict[str, Any] = {
        "tags": _counts(tag for question in questions for tag in question.tags),
        "splits": _counts(question.split or "none" for question in questions),
        "answerable": _counts(str(question.answerable).lower() for question in questions),
        "with_choices": sum(question.choices is not None for question in questions),
        "with_gold_documents": sum(bool(question.gold_documents) for question in questions),
        **balance,
    }
    if documents is not None:
        corpus_summary, corpus_faults = _check_against(numbered, documents)
        summary |= corpus_summary
        faults += corpus_faults
    faults.sort(key=lambda fault: (fault.line is None, fault.line or 0))
    return QuestionReport(str(path), len(questions), tuple(faults), summary)


# --- the format -------------------------------------------------------------------------------------------------------


_ENDS = " .,;:!?"
_SURROGATE = re.compile("[\ud800-\udfff]")


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not _SURROGATE.search(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_text, "a text that is not empty"),
    "question": (_text, "a text that is not empty"),
    "answer": (lambda value: value is None or _text(value), "a text that is not empty, or null"),
    "choices": (lambda value: value is None or (_texts(value) and len(value) > 1), "two or more texts, or null"),
    "answer_index": (lambda value: value is None or type(value) is int, "a whole number, or null"),
    "gold_documents": (_texts, "a list of document ids"),
    "answerable": (lambda value: value is None or type(value) is bool, "true, false or null"),
    "source": (lambda value: isinstance(value, str) and not _SURROGATE.search(value), "a text"),
    "tags": (_texts, "a list of texts"),
    "evidence": (_texts, "a list of texts"),
    "split": (lambda value: value in ("dev", "test", ""), '"dev", "test" or ""'),
}
assert list(_FIELDS) == [field.name for field in fields(Question)]


def _read(path: Path) -> tuple[list[tuple[int, Question]], list[Fault], list[Fault]]:
    """The well-formed questions with their line numbers, the faults of all other lines, and what was put right in reading."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    numbered: list[tuple[int, Question]] = []
    faults: list[Fault] = []
    remarks: list[Fault] = []
    first_line_of: dict[str, int] = {}
    for line, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        record, found, mended = _parse(line, raw)
        remarks += mended
        if isinstance(name := record.get("id"), str):
            if name in first_line_of:
                found.append(Fault(line, "id", f"{name!r} is also the id of line {first_line_of[name]}"))
            first_line_of.setdefault(name, line)
        faults += found
        if not found:
            # Every sequence field of Question is a tuple.
            values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
            numbered.append((line, Question(**values)))
    if any(question.split for _, question in numbered):
        missing = [line for line, question in numbered if not question.split]
        faults += [Fault(line, "split", "missing, while other questions of the set have one") for line in missing]
    return numbered, faults, remarks


def _parse(line: int, raw: bytes) -> tuple[dict[str, Any], list[Fault], list[Fault]]:
    """One line's object ({} if it is none), its faults, and what was put right in reading it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if repeated := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
            raise ValueError(f"key {repeated[0]!r} occurs twice")
        return dict(pairs)

    try:
        record = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        return {}, [Fault(line, "line", f"not UTF-8 (byte {error.start})")], []
    except RecursionError:
        return {}, [Fault(line, "line", "not a question: nested too deep")], []
    except ValueError as error:
        return {}, [Fault(line, "line", f"not JSON: {error}")], []
    if not isinstance(record, dict):
        return {}, [Fault(line, "line", f"an object was expected, found {_shown(record)}")], []
    mended = list(_mend(line, record))
    unknown = [Fault(line, key, f"unknown key; known are {', '.join(_FIELDS)}") for key in record if key not in _FIELDS]
    missing = [Fault(line, key, "missing") for key in ("id", "question") if key not in record]
    wrong = [
        Fault(line, key, f"{_shown(record[key])}: {expected} was expected")
        for key, (accepts, expected) in _FIELDS.items()
        if key in record and not accepts(record[key])
    ]
    return record, unknown + missing + wrong or list(_contradictions(line, record)), mended


def _mend(line: int, record: dict[str, Any]) -> Iterator[Fault]:
    """Put the texts that are scored into their normal form, in place, and tell each that was not.

    A model finds " 90 days" several nats less likely than "90 days", so white space or an invisible mark would decide.
    """
    choices = record.get("choices")
    if isinstance(choices, list):
        record["choices"] = plain = [normalise(choice).strip() if isinstance(choice, str) else choice for choice in choices]
        for given, read in zip(choices, plain, strict=True):
            if given != read:
                yield Fault(
                    line, "choices", f"{_shown(given)} has white space around it or marks that are not seen: read without"
                )
        texts = [choice for choice in plain if isinstance(choice, str)]
        bare = [_fold(choice).rstrip(_ENDS) for choice in texts]
        for place, choice in enumerate(bare):
            if choice in bare[:place] and _fold(texts[place]) not in map(_fold, texts[:place]):
                yield Fault(line, "choices", f"{_shown(texts[place])} differs from another choice by what it ends with alone")
    answer = record.get("answer")
    if isinstance(answer, str) and (read := normalise(answer).strip()) != answer:
        record["answer"] = read
        yield Fault(line, "answer", f"{_shown(answer)} has white space around it or unseen marks: read without")


def _contradictions(line: int, record: dict[str, Any]) -> Iterator[Fault]:
    """Faults between the fields of one record whose fields are each well formed."""
    answer, choices, index = record.get("answer"), record.get("choices"), record.get("answer_index")
    if (choices is None) != (index is None):
        yield Fault(line, "answer_index", f"{_shown(index)} with choices {_shown(choices)}: give both or neither")
    if choices is not None:
        plain = [_fold(choice) for choice in choices]
        for place, choice in enumerate(plain):
            if choice in plain[:place]:
                yield Fault(line, "choices", f"{_shown(choices[place])} occurs twice")
        if index is not None and not 0 <= index < len(choices):
            yield Fault(line, "answer_index", f"{index} is outside the {len(choices)} choices (0 to {len(choices) - 1})")
        elif index is not None and answer is not None and _fold(answer) in plain and _fold(answer) != plain[index]:
            yield Fault(line, "answer", f"{_shown(answer)} is choice {plain.index(_fold(answer))}, answer_index is {index}")
    for key in ("gold_documents", "evidence"):
        values = record.get(key, [])
        if len(set(values)) < len(values):
            yield Fault(line, key, f"{_shown(values)}: one occurs twice")
    if record.get("answerable") is False:
        for key in ("answer", "choices", "answer_index", "gold_documents", "evidence"):
            if record.get(key) not in (None, []):
                yield Fault(line, key, f"{_shown(record[key])}, though answerable is false")
    if record.get("answerable") is True and answer is None and choices is None and not record.get("gold_documents"):
        yield Fault(line, "answer", "answerable is true, but there is no answer, no choices and no gold document")
    if record.get("evidence") and not record.get("gold_documents"):
        yield Fault(line, "evidence", "there is no gold document that it could stand in")


def _shown(value: Any) -> str:
    """A value as JSON on one line, cut short; what a terminal cannot show is escaped."""
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return f"a {type(value).__name__} nested deep"
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in shown)
    return shown if len(shown) <= 80 else shown[:77] + "..."


# --- the set ----------------------------------------------------------------------------------------------------------


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _split_faults(numbered: Sequence[tuple[int, Question]]) -> list[Fault]:
    """A fault for each question on a document that another split has a question on (its first line decides)."""
    split_of: dict[str, tuple[str, int]] = {}
    faults = []
    for line, question in numbered:
        for document in question.gold_documents:
            split, first = split_of.setdefault(document, (question.split, line))
            if split != question.split:
                faults.append(Fault(line, "split", f"{question.split!r}, but {document} is in {split!r} since line {first}"))
    return faults


def _balance(questions: Sequence[Question]) -> tuple[dict[str, Any], list[Fault]]:
    """Where the right choice stands and how long it is, against chance: what a guesser could learn without the question.

    `right_is_longest` counts, among the questions one of whose choices has more characters than every other, those where it
    is the right one; `chance` is the share expected of an answer placed at random. Too seldom is as telling as too often,
    so each figure and each position gets a two-sided binomial test at level `ALPHA`.
    """
    from scipy.stats import binomtest

    chosen = [(q.choices, q.answer_index) for q in questions if q.choices is not None and q.answer_index is not None]
    faults = []
    positions: dict[str, int] = {}
    for place in range(max((len(choices) for choices, _ in chosen), default=0)):
        among = [(choices, index) for choices, index in chosen if place < len(choices)]
        count = sum(index == place for _, index in among)
        chance = sum(1 / len(choices) for choices, _ in among) / len(among)
        positions[str(place)] = count
        if binomtest(count, len(among), chance).pvalue < ALPHA:
            message = f"the right choice is number {place} in {count} of {len(among)} questions; chance is {chance:.2f}"
            faults.append(Fault(None, "answer_index", message))
    balance: dict[str, Any] = {"answer_positions": positions}
    for name, extreme in (("longest", max), ("shortest", min)):
        count, chances = 0, []
        for choices, index in chosen:
            lengths = [len(choice) for choice in choices]
            if lengths.count(extreme(lengths)) == 1:
                chances.append(1 / len(choices))
                count += lengths[index] == extreme(lengths)
        chance = sum(chances) / len(chances) if chances else 0.0
        balance[f"right_is_{name}"] = {"count": count, "of": len(chances), "chance": round(chance, 4)}
        if chances and binomtest(count, len(chances), chance).pvalue < ALPHA:
            message = f"the right choice is the {name} in {count} of {len(chances)} questions; chance is {chance:.2f}"
            faults.append(Fault(None, "choices", message))
    odd = [_odd_end(choices) for choices, _ in chosen]
    telling = [(place, index, len(choices)) for place, (choices, index) in zip(odd, chosen, strict=True) if place is not None]
    right = sum(place == index for place, index, _ in telling)
    chance = sum(1 / count for *_, count in telling) / len(telling) if telling else 0.0
    balance["right_ends_unlike_the_others"] = {"count": right, "of": len(telling), "chance": round(chance, 4)}
    if telling and binomtest(right, len(telling), chance).pvalue < ALPHA:
        message = f"the one choice that ends unlike the others is right in {right} of {len(telling)}; chance is {chance:.2f}"
        faults.append(Fault(None, "choices", message))
    return balance, faults


def _odd_end(choices: Sequence[str]) -> int | None:
    """The one choice that ends with a mark (or without one) while all others do not; None if no choice is so."""
    ends = [choice[-1] in _ENDS for choice in choices]
    for kind in (True, False):
        if ends.count(kind) == 1 and len(ends) > 2:
            return ends.index(kind)
    return None


# --- the documents ----------------------------------------------------------------------------------------------------

_MARKS = re.compile(r"\]\([^)\s]*(?:\s\"[^\"]*\")?\)|[*_`|\[\]\\]|^[ \t>]*>|<br */?>", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def _fold(text: str) -> str:
    """Compatibility characters and white space made one, case folded."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _plain(text: str) -> str:
    """`_fold` of the text with Markdown's marks (emphasis, code, tables, quotes, links and their targets) taken off."""
    return _fold(_MARKS.sub(lambda mark: " " if mark[0] == "|" or mark[0].startswith("<") else "", text))


def _stands_in(evidence: str, text: str) -> bool:
    """Whether a text holds the evidence, with no part of a word or number cut off at its ends."""
    return bool(re.search(rf"(?<!\w){re.escape(evidence)}(?!\w)", text)) if evidence[:1].isalnum() else evidence in text


def _numbers(text: str) -> set[str]:
    """The numbers of a text, thousands unseparated: "1,000 nodes of v1.27" -> {"1000", "1.27"}."""
    return {re.sub(r",(?=\d{3}(?!\d))", "", number) for number in _NUMBER.findall(text)}


def _check_against(numbered: Sequence[tuple[int, Question]], documents: Iterable[Document]) -> tuple[dict[str, Any], list[Fault]]:
    faults: list[Fault] = []
    wanted = {document for _, question in numbered for document in question.gold_documents}
    worded = [(line, plain, set(plain.split())) for line, plain in ((n, _plain(q.question)) for n, q in numbered)]
    gold: dict[str, Document] = {}
    copied: dict[int, list[str]] = {}
    read = 0
    for document in documents:
        read += 1
        if document.id in wanted:
            gold[document.id] = document
        plain = _plain(document.text)
        held = set(plain.split())
        for line, question_text, question_words in worded:
            # The words first: comparing sets costs far less than searching the text.
            if question_words <= held and question_text in plain:
                copied.setdefault(line, []).append(document.id)

    for line, names in copied.items():
        others = f" and {len(names) - 1} other documents" if len(names) > 1 else ""
        faults.append(Fault(line, "question", f"stands word for word in {names[0]}{others}"))
    blocks: dict[str, list[str]] = {
        name: [_plain(block) for block in re.split(r"\n\s*\n", document.text)] for name, document in gold.items()
    }
    overlaps: list[float] = []
    for line, question in numbered:
        for name in question.gold_documents:
            if name not in gold:
                faults.append(Fault(line, "gold_documents", f"{name!r} is not in the corpus"))
        there = [name for name in question.gold_documents if name in gold]
        if not there:
            continue
        texts = [_plain(gold[name].text) for name in there]
        for evidence in question.evidence:
            if not any(_stands_in(_plain(evidence), text) for text in texts):
                faults.append(Fault(line, "evidence", f"{_shown(evidence)} is not in {', '.join(there)}"))
        if len(there) == len(question.gold_documents):
            numbers = set().union(*(_numbers(text) for text in texts))
            for number in sorted(_numbers(question.answer or "") - numbers):
                faults.append(Fault(line, "answer", f"the number {number} is not in {', '.join(there)}"))
        passages = [block for name in there for block in blocks[name] if any(_plain(text) in block for text in question.evidence)]
        if passages:
            overlaps.append(word_overlap(question.question, " ".join(passages)))
    return {"documents": read, "word_overlap_with_passage": _quartiles(overlaps)}, faults


def word_overlap(question: str, passage: str) -> float:
    """Share of the question's distinct content words (`language.content_words`; stemmed) that the passage has, 0 to 1."""
    english = language()
    stem = stemmer(english)
    asked = {stem(word) for word in words(question) if word not in english.stop_words | english.asking_words}
    return len(asked & {stem(word) for word in words(passage)}) / len(asked) if asked else 0.0


def _quartiles(values: list[float]) -> dict[str, float | int]:
    if not values:
        return {"questions": 0}
    import numpy as np

    low, median, high = np.percentile(values, [25, 50, 75])
    figures = {"mean": np.mean(values), "q1": low, "median": median, "q3": high}
    return {"questions": len(values), **{key: round(float(value), 3) for key, value in figures.items()}}
