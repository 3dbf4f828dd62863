"""Alpaca records written by a model: Self-Instruct (Wang et al., 2022, https://arxiv.org/abs/2212.10560) on passages.

From a few of our own tasks the model writes a question, and then the answer to it; what passes the filters is shown to it as an
example of the next ones. One thing differs from the paper: every question is asked of a passage, and the answer must come from
it, because a small model left to itself writes what is not so. Where the paper compares instructions by ROUGE-L, so do we.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.errors import UserError
from rag_vs_ft.funnel import Funnel
from rag_vs_ft.language import words
from rag_vs_ft.models.generation import Completion, Sampling, generate_batch
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.prompting import Prompt, build_prompt, continue_text
from rag_vs_ft.overlap import SIMILAR, HeldOut, Novelty, rouge_l
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Chunk, Document, Hit
from rag_vs_ft.training.headings import sections
from rag_vs_ft.training.instructions import Built, Record, is_dropped, leak

ROUND = 8
"""Passages asked about at once; what a round kept is shown as examples from the next one on."""
PASSAGE_WORDS = (30, 160)
QUESTION_WORDS = (4, 40)
OUTPUT_WORDS = (3, 80)
QUESTION_TOKENS = 48
OUTPUT_TOKENS = 120
EXAMPLES = 3
GROUNDED_QUESTION, GROUNDED_ANSWER = 0.6, 0.8
"""Share of the longer words that the passage must have (for a question), or passage or question (for an answer)."""
_STEM = 5
"""Letters by which two words are taken to be forms of the same one."""
TEMPERATURE, TOP_P = 0.7, 0.5
"""Of questions, as in the paper; answers are greedy."""
_FORMAT = 1
_TASK = "Below are passages of a manual. After each one stands a question that its readers ask and that the passage answers."

_SEEDS = (
    (
        "Nightly backups\n"
        "Backups run every night at two o'clock. Each one is kept for 30 days and then removed. To keep one longer, "
        "export it.",
        "For how many days is a nightly backup kept?",
    ),
    (
        "Badges\n"
        "A badge opens the doors of its own floor only. Visitors get a badge at the front desk, which stops working at "
        "six in the evening.",
        "Why can a visitor's badge no longer open a door at night?",
    ),
    (
        "Pump\n"
        "The pump has two speeds. On the low one it moves 40 litres a minute and can run all day. On the high one it "
        "moves 90 litres, but has to rest after one hour.",
        "What is the difference between the two speeds of the pump?",
    ),
    (
        "Replace the filter\n"
        "To replace the filter, close the valve, unscrew the lid, and take the old filter out. Rinse the case before the "
        "new one goes in.",
        "How do I replace the filter?",
    ),
    (
        "Shipping costs\n"
        "Orders under 20 euros cost 4 euros to ship. Orders above that ship free. Bulky goods are an exception and always "
        "cost 15 euros.",
        "Which orders are never shipped for free?",
    ),
    (
        "Reading room\n"
        "The reading room seats 60 people. Groups of more than eight have to book a table two days ahead. There is no "
        "booking on Sundays.",
        "What must a group of ten people do before it comes to the reading room?",
    ),
    (
        "Lamp signals\n"
        "If the lamp blinks red, the battery is under ten percent. If it stays red, the charger has a fault and has to be "
        "sent in.",
        "The lamp stays red instead of blinking. What does it mean?",
    ),
    (
        "Vote on the budget\n"
        "Members vote once a year on the budget. A proposal passes with two thirds of the votes, and at least half of the "
        "members must have voted.",
        "Can a budget pass when only a third of the members vote?",
    ),
)
"""Passage (its title on the first line) and a question that it answers; the forms of question are different on purpose."""
_SPEAKS_OF_TEXT = re.compile(
    r"\b(?:passages?|(?:the|this) (?:text|manual|document|article|author|excerpt|statement|section)|following|above|below|"
    r"according to|mentioned|described|as an ai|image|picture|figure|diagram|screenshot|video)\b",
    re.I,
)
_NOT_NEW = f"question: like one already there (ROUGE-L {SIMILAR} or more)"
_MARKS = re.compile(r"https?:|###|```|\b(?:Question|Answer|Passage|Topic)s?:|[{}<>|]")
_COMMON = frozenset(
    re.findall(r"\w+", "what when where which while whom whose does have must that there this will with would your from into")
)
_NAME = re.compile(r"(?<!\w)\w*\d[\w.,]*\b|\b[A-Za-z]+[A-Z]\w*|(?<![.!?]\s)(?<!^)\b(?!I\b)[A-Z]\w*")


@dataclass(frozen=True, slots=True)
class _Try:
    """One passage asked about: what the model wrote, and the rule that it broke ("" for none)."""

    document: str
    question: str
    answer: str
    fault: str


def self_instruct(
    lm: LanguageModel,
    documents: Iterable[Document],
    held_out: HeldOut,
    journal: Path,
    *,
    tries: int,
    known: Sequence[Record] = (),
    seed: int,
    progress: Progress = silent,
) -> Built:
    """Have `lm` write a question and an answer for `tries` passages, drawn by `seed` from the documents' sections.

    The number is rounded up to whole rounds of `ROUND` passages.

    A question is dropped when it is like a seed task, a record of `known` or one kept before (ROUGE-L of 0.7 or more), like an
    evaluation question, or not in the form of one; an answer, when it does not end, does not come from the passage, or has a
    number that the passage has not. Every round is written to `journal` (JSON Lines) when it is done: started
    again with the same model, documents and seed, the run goes on after the last whole round, and ends with the same records.

    Raises UserError when no section is fit to be asked about, when the model's window is too small, or when the journal belongs
    to another run or is damaged.
    """
    if tries < 1:
        raise UserError(f"tries is {tries}", "1 or more: how many passages the model is asked about")
    passages = _passages(documents, seed)
    if not passages:
        raise UserError(
            f"no section has {PASSAGE_WORDS[0]} to {PASSAGE_WORDS[1]} words of prose to ask about",
            "add documents with longer sections",
        )
    header = {
        "format": _FORMAT,
        "model": lm.weights_sha256,
        "passages": files.sha256_text("\0".join(text for _, text in passages)),
        "known": files.sha256_text("\0".join(record.instruction for record in known)),
        "seed": seed,
    }
    done = _read(journal, header, len(passages))
    novelty = Novelty([*(question for _, question in _SEEDS), *(record.instruction for record in known)])
    for one in done:
        if not one.fault:
            novelty.add(one.question)
    while len(done) < min(tries, len(passages)):
        batch = passages[len(done) : len(done) + ROUND]
        kept = [(text, one.question) for (_, text), one in zip(passages, done, strict=False) if not one.fault]
        found = _round(lm, batch, kept, novelty, held_out, seed=seed + len(done))
        _append(journal, found)
        done += found
        count = sum(not one.fault for one in done)
        progress("passages asked about", len(done), min(tries, len(passages)), f"{count} records kept")
    funnel = Funnel()
    funnel.candidates = len(done)
    records = []
    for one in done:
        record = Record(one.question, "", one.answer, f"self-instruct:{lm.name}", (one.document,))
        # Once more for what is kept: the journal may be older than the evaluation files.
        if not is_dropped(one.fault or leak(record, held_out), funnel):
            records.append(record)
    return Built(tuple(records), funnel.counts(len(records)))


def _passages(documents: Iterable[Document], seed: int) -> list[tuple[str, str]]:
    """(document id, passage) of every section with prose of the right length, each text once, in the order that `seed` gives."""
    low, high = PASSAGE_WORDS
    found: dict[str, str] = {}
    for document in documents:
        for section in sections(document):
            text = ""
            for sentence in section.sentences:
                if len(f"{text} {sentence}".split()) > high:
                    break
                text = f"{text} {sentence}".strip()
            if len(text.split()) >= low:
                title = f"{document.title} > {section.heading}" if section.heading else document.title
                found.setdefault(f"{title}\n{text}", document.id)
    return sorted(((key, text) for text, key in found.items()), key=lambda pair: files.sha256_text(f"{seed} {pair[1]}"))


def _round(
    lm: LanguageModel,
    batch: Sequence[tuple[str, str]],
    kept: Sequence[tuple[str, str]],
    novelty: Novelty,
    held_out: HeldOut,
    *,
    seed: int,
) -> list[_Try]:
    """Questions for a batch of passages, then the answers to those that pass; the questions kept are added to `novelty`."""
    written = generate_batch(
        lm,
        [_question_prompt(lm, text, kept, random.Random(f"{seed} {text}")) for _, text in batch],
        max_new_tokens=QUESTION_TOKENS,
        sampling=Sampling(temperature=TEMPERATURE, top_p=TOP_P, seed=seed),
        stop=("\n",),
        batch_size=ROUND,
    )
    questions = [" ".join(completion.text.split()) for completion in written]
    faults = [
        _question_fault(question, completion, text, novelty, held_out)
        for (_, text), question, completion in zip(batch, questions, written, strict=True)
    ]
    answers = [""] * len(batch)
    asked = [at for at, fault in enumerate(faults) if not fault]
    prompts = [build_prompt(lm, questions[at], [_hit(*batch[at])], max_new_tokens=OUTPUT_TOKENS) for at in asked]
    for at, completion in zip(asked, generate_batch(lm, prompts, max_new_tokens=OUTPUT_TOKENS), strict=True):
        answers[at] = " ".join(completion.text.split())
        faults[at] = _answer_fault(answers[at], completion, questions[at], batch[at][1], held_out)
        if not faults[at] and novelty.has_like(questions[at]):  # like another question of this round
            faults[at] = _NOT_NEW
        if not faults[at]:
            novelty.add(questions[at])
    return [
        _Try(key, question, answer, fault)
        for (key, _), question, answer, fault in zip(batch, questions, answers, faults, strict=True)
    ]


def _question_prompt(lm: LanguageModel, passage: str, kept: Sequence[tuple[str, str]], rng: random.Random) -> Prompt:
    """Examples and the passage, up to where the question begins; with as many examples as the window has room for."""
    examples = rng.sample(_SEEDS, EXAMPLES)
    if kept:
        examples[rng.randrange(EXAMPLES)] = rng.choice(kept)
    for count in range(EXAMPLES, -1, -1):
        shown = "".join(f"{_shown(text)} {question}\n\n" for text, question in examples[:count])
        prompt = continue_text(lm, f"{_TASK}\n\n{shown}{_shown(passage)}")
        if len(prompt.token_ids) + QUESTION_TOKENS <= lm.window:
            return prompt
    raise UserError(
        f"a passage of {len(passage.split())} words does not fit into the {lm.window} tokens that {lm.name} reads at once",
        "use a model with a larger window",
    )


def _shown(passage: str) -> str:
    title, _, text = passage.partition("\n")
    return f"Topic: {title}\nPassage: {text}\nQuestion:"


def _hit(document: str, passage: str) -> Hit:
    title, _, text = passage.partition("\n")
    return Hit(1, Chunk("", document, title, "", text, 0, len(text), 0), 0.0)


def _question_fault(question: str, written: Completion, passage: str, novelty: Novelty, held_out: HeldOut) -> str:
    low, high = QUESTION_WORDS
    if written.finish not in ("end", "stop"):
        return "question: did not end, or began to repeat itself"
    if not low <= len(question.split()) <= high:
        return f"question: not {low} to {high} words"
    if question[-1] not in "?." or not question[0].isupper() or _MARKS.search(question):
        return "question: not in the form of one"
    if _SPEAKS_OF_TEXT.search(question):
        return "question: speaks of the passage"
    if not _rests_on(question, passage, GROUNDED_QUESTION):
        return f"question: under {GROUNDED_QUESTION:.0%} of its words are from the passage"
    if _names(question) - _names(passage):
        return "question: a name or number that the passage does not have"
    if novelty.has_like(question):
        return _NOT_NEW
    return leak(Record(question, "", ""), held_out) or ""


def _answer_fault(answer: str, written: Completion, question: str, passage: str, held_out: HeldOut) -> str:
    low, high = OUTPUT_WORDS
    if written.finish not in ("end", "stop"):
        return "answer: did not end, or began to repeat itself"
    if not low <= len(answer.split()) <= high:
        return f"answer: not {low} to {high} words"
    if answer[-1] not in ".!`)" or _MARKS.search(answer):
        return "answer: not in the form of one"
    if _SPEAKS_OF_TEXT.search(answer):
        return "answer: speaks of the passage"
    if rouge_l(answer, question) >= SIMILAR:
        return "answer: says the question again"
    if _names(answer) - _names(passage):
        return "answer: a name or number that the passage does not have"
    if not _rests_on(answer, f"{passage} {question}", GROUNDED_ANSWER) or not (_long(answer) - _long(question)) & _long(passage):
        return f"answer: under {GROUNDED_ANSWER:.0%} of its words are from the passage, or nothing new"
    return leak(Record(question, "", answer), held_out) or ""


def _rests_on(text: str, passage: str, share: float) -> bool:
    said = _long(text)
    return bool(said) and len(said & _long(passage)) >= share * len(said)


def _names(text: str) -> set[str]:
    """Words that must be right to the letter: with a digit, or a capital letter elsewhere than where a sentence begins."""
    return {word.lower() for word in _NAME.findall(text)}


def _long(text: str) -> set[str]:
    """The beginnings of the words that carry meaning: of more than three letters, or with a digit."""
    return {word[:_STEM] for word in words(text) if (len(word) > 3 and word not in _COMMON) or any(map(str.isdigit, word))}


# --- the journal ------------------------------------------------------------------------------------------------------


def _read(journal: Path, header: dict[str, Any], passages: int) -> list[_Try]:
    """The whole rounds of a journal, which is cut back to them; a new journal gets its header."""
    if not journal.exists():
        journal.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(journal, json.dumps(header) + "\n")
        return []
    lines = journal.read_bytes().split(b"\n")
    hint = "name another journal, or remove this one to start anew"
    try:
        rows = [json.loads(line) for line in lines[:-1]]  # text after the last line end was cut off
        if not rows or rows[0] != header:
            differing = [key for key in header if not rows or rows[0].get(key) != header[key]]
            raise UserError(f"{journal} belongs to another run: {', '.join(differing)} differ", hint)
        found = [_Try(**row) for row in rows[1:]]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{journal} is damaged: {error}", hint) from error
    whole = len(found) if len(found) == passages else len(found) - len(found) % ROUND
    files.write_text(journal, b"".join(line + b"\n" for line in lines[: whole + 1]).decode())
    return found[:whole]


def _append(journal: Path, found: Sequence[_Try]) -> None:
    try:
        files.append_text(journal, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found))
    except OSError as error:
        raise UserError(
            f"cannot write {journal}: {error.strerror}", "free some space and start again: it goes on from here"
        ) from error
