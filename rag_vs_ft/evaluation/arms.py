"""One arm and one question: which passages the model is shown, and what it makes of them.

Contexts differ in the passages alone; template, window and decoding are the arm's own and the same for all its questions.
"""

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import Protocol

from rag_vs_ft import __version__, files, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.contexts import CONTEXTS, PassageSource, holds_answer
from rag_vs_ft.evaluation.experiments import Arm
from rag_vs_ft.evaluation.heuristics import VERSION as HEURISTICS_VERSION
from rag_vs_ft.evaluation.heuristics import Given, Heuristic
from rag_vs_ft.evaluation.metrics import groundedness
from rag_vs_ft.evaluation.predictions import Outcome, Passage, Prediction
from rag_vs_ft.evaluation.questions import gold_answer
from rag_vs_ft.evaluation.refusals import is_refusal
from rag_vs_ft.index.search import Index
from rag_vs_ft.models.chat import opens_thinking, without_thinking
from rag_vs_ft.models.citing import citations
from rag_vs_ft.models.extractive import extract
from rag_vs_ft.models.generation import generate_batch
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.likelihood import Score, continuation_logprobs, split_continuations
from rag_vs_ft.models.prompting import Prompt, build_prompt, encode
from rag_vs_ft.records import Hit, Question

SCORER_VERSION = 1
"""Raised when the same prompt would get other scores or another answer; cached results of other versions are not used."""
NO_QUESTION = "Answer:"
"""Stands in the place of the question in the prompt that PMI compares with; it has no passages."""
BATCH = 8


# --- passages ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Passages:
    """What an arm shows with a question (None: nothing), how long finding it took, and the best cosine of a search, if any.

    `key` is a hash of all that can change them and their time, "" where nothing was searched.
    """

    hits: tuple[Hit, ...] | None
    seconds: float
    best_cosine: float | None
    key: str = ""


def find_passages(arm: Arm, question: Question, index: Index | None, seed: int) -> Passages:
    """The passages of an arm whose `k` and `retriever` are settled; `index` may be None where the context shows none."""
    start = time.perf_counter()
    context = CONTEXTS[arm.context]
    if context.passages is None or index is None:
        return Passages(None, 0.0, None)
    draw = random.Random(zlib.crc32(f"{seed} {question.id}".encode()))
    hits = context.passages(PassageSource(question, index, arm.k or 1, arm.retriever or settings.RETRIEVER, draw))
    cosines = [hit.dense_score for hit in hits if hit.dense_score is not None]
    best = max(cosines) if context.is_search and cosines else None
    ranked = hits if context.is_search else [replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]
    seconds = time.perf_counter() - start
    key = json.dumps(
        [repr(index.manifest.inputs), arm.context, arm.k, arm.retriever, settings.FUSION, seed, question.id, question.question]
    )
    return Passages(tuple(ranked), seconds, best, files.sha256_text(key))


# --- the model --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """A question made ready to be asked: its prompt, and for a model the texts to score as token ids after that prompt and after
    the prior's. `key` is a hash of all that can change the outcome; `max_new_tokens` is 0 where no free answer is wanted. A model
    behind a server scores texts or, `by_letter`, names its choice."""

    question: Question
    passages: Passages
    prompt: Prompt
    key: str
    max_new_tokens: int = 0
    prefix: tuple[int, ...] = ()
    texts: tuple[tuple[int, ...], ...] = ()
    prior_prefix: tuple[int, ...] = ()
    prior_texts: tuple[tuple[int, ...], ...] = ()
    by_letter: bool = False


class Reader(Protocol):
    """What answers the questions of an arm: a language model, or a rule (`heuristics`)."""

    def prepare(self, question: Question, passages: Passages, *, answer: bool) -> Task:
        """The question made ready; `answer` asks for a free answer too. Raises UserError when it does not fit."""

    def answer(self, tasks: Sequence[Task]) -> list[tuple[Task, Outcome | UserError]]:
        """What comes of some tasks, in their order: each as it was asked in the end, and its outcome, or why there is none."""


Priors = dict[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]], tuple[list[Score], float]]
"""What a model made of choices after the prompt without question and passages, and the seconds it took: the same for all arms of
the model, and so computed once."""


@dataclass(frozen=True, slots=True)
class ModelReader:
    """An arm's language model. `room` tokens of the window are kept free in every prompt; `priors` belong to the model."""

    lm: LanguageModel
    arm: Arm
    room: int
    max_new_tokens: int
    priors: Priors

    def prepare(self, question: Question, passages: Passages, *, answer: bool) -> Task:
        """See `arms.prepare`."""
        wanted = self.max_new_tokens if answer else 0
        return prepare(self.lm, self.arm, question, passages, room=self.room, max_new_tokens=wanted)

    def answer(self, tasks: Sequence[Task]) -> list[tuple[Task, Outcome | UserError]]:
        """See `run_batch`."""
        return list(zip(tasks, run_batch(self.lm, tasks, self.priors), strict=True))


@dataclass(frozen=True, slots=True)
class HeuristicReader:
    """An arm without a language model. `places`: how often each place was right on dev questions."""

    heuristic: Heuristic
    places: tuple[int, ...]

    def prepare(self, question: Question, passages: Passages, *, answer: bool) -> Task:
        """The question made ready; there is no window, so every passage is read."""
        hits = passages.hits or ()
        read = [[hit.rank, hit.chunk.breadcrumb, hit.chunk.text] for hit in hits]
        wants = answer and self.heuristic.writes
        seen = [self.heuristic.name, question.question, question.choices, self.places, read, wants]
        key = files.sha256_text(json.dumps(["heuristic", HEURISTICS_VERSION, __version__, *seen]))
        return Task(question, passages, Prompt("", (), hits, (), (), (), ""), key, max_new_tokens=int(wants))

    def answer(self, tasks: Sequence[Task]) -> list[tuple[Task, Outcome | UserError]]:
        """What the rule makes of each."""
        return [(task, self._answer(task)) for task in tasks]

    def _answer(self, task: Task) -> Outcome:
        question, hits = task.question, task.prompt.hits
        start = time.perf_counter()
        values = self.heuristic.choose(Given(question.question, question.choices or (), hits, self.places))
        chosen = time.perf_counter()
        answer = extract(question.question, hits).answer if task.max_new_tokens else None
        return Outcome(
            choice_values=tuple(values) if question.choices else None,
            answer=answer,
            finish="" if answer is None else "extracted",
            score_seconds=chosen - start,
            answer_seconds=time.perf_counter() - chosen,
        )


def prepare(lm: LanguageModel, arm: Arm, question: Question, passages: Passages, *, room: int, max_new_tokens: int) -> Task:
    """Build the prompt and the token ids to score; `max_new_tokens` 0 asks for no free answer.

    `room` tokens of the window are kept free in every prompt of an experiment, so that each arm's passages are cut alike.
    Raises UserError when the question does not fit.
    """
    prompt = build_prompt(lm, question.question, passages.hits, template=arm.template, max_new_tokens=room)
    prior = build_prompt(lm, NO_QUESTION, None, template=arm.template, max_new_tokens=room, spoken=prompt.language)
    choices = question.choices or ()
    wanted = [*choices] + ([answer] if (answer := gold_answer(question)) else [])
    prefix, texts = _continuations(lm, prompt, wanted)
    prior_prefix, prior_texts = _continuations(lm, prior, choices)
    if begin_alike(choices):
        end = _end(lm, prompt)
        texts = (*(ids + end for ids in texts[: len(choices)]), *texts[len(choices) :])
        prior_texts = tuple(ids + end for ids in prior_texts)
    longest = max(map(len, texts), default=0)
    if len(prefix) + longest > lm.window:
        raise UserError(f"a choice or answer of {question.id!r} has {longest} tokens, and {room} are kept free for it")
    key = files.sha256_text(
        json.dumps(
            {
                "scorer": _scorer(),
                "model": [lm.weights_sha256, lm.dtype, lm.device.partition(":")[0], lm.eos_ids],
                "prompt": prompt.token_ids,
                "texts": [prefix, texts],
                "prior": [prior_prefix, prior_texts],
                "answer": [max_new_tokens, prompt.stop],
            }
        )
    )
    return Task(question, passages, prompt, key, max_new_tokens, prefix, texts, prior_prefix, prior_texts)


@cache
def _scorer() -> list[int | str]:
    """What computes the outcomes, by version."""
    return [SCORER_VERSION, __version__, *(version(name) for name in ("torch", "transformers", "tokenizers", "peft"))]


def _continuations(
    lm: LanguageModel, prompt: Prompt, texts: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    if not texts:
        return prompt.token_ids, ()
    space = "" if prompt.text[-1:].isspace() else " "
    prefix, ids = split_continuations(lm, prompt, [space + text for text in texts])
    return prefix, tuple(ids)


def begin_alike(choices: Sequence[str]) -> bool:
    """Whether one choice is the beginning of another, as "5" is of "50": it is at least as likely whatever the model knows,
    unless the end of the answer counts too."""
    return any(a != b and b.startswith(a) for a in choices for b in choices)


def _end(lm: LanguageModel, prompt: Prompt) -> tuple[int, ...]:
    """What ends an answer to this prompt: the end of the turn where the model has learned one, else the end of the line."""
    ends = lm.eos_ids
    if prompt.template in ("chat", "alpaca") and ends:
        own = lm.tokenizer.eos_token_id
        return (own if own in ends else min(ends),)
    return tuple(encode(lm, "\n"))


def room_for(lm: LanguageModel, questions: Sequence[Question], max_new_tokens: int) -> int:
    """Tokens to keep free after every prompt: for the longest choice or answer, and for a free answer."""
    texts = [text for question in questions for text in (*(question.choices or ()), gold_answer(question) or "")]
    longest = max((len(ids) for ids in lm.tokenizer(texts, add_special_tokens=False).input_ids), default=0) if texts else 0
    # A few more: tokens at the border between prompt and choice count with the choice.
    return max(longest + 8, max_new_tokens)


def run_batch(lm: LanguageModel, tasks: Sequence[Task], priors: Priors) -> list[Outcome]:
    """Score and answer some tasks; outcomes in their order. `priors` is filled and read: it belongs to this model alone."""
    scored = []
    for task in tasks:
        scores, seconds = _timed(lm, task.prefix, task.texts)
        key = task.prior_prefix, task.prior_texts
        if key not in priors:
            priors[key] = _timed(lm, *key)
        # Each arm pays for what it would have had to compute alone.
        prior, prior_seconds = priors[key]
        scored.append((scores, prior, seconds + prior_seconds))
    asked = [row for row, task in enumerate(tasks) if task.max_new_tokens]
    answers = {}
    if asked:
        limit = tasks[asked[0]].max_new_tokens
        prompts = [tasks[row].prompt for row in asked]
        answers = dict(zip(asked, generate_batch(lm, prompts, max_new_tokens=limit, batch_size=BATCH), strict=True))
    outcomes = []
    for row, (task, (scores, prior, seconds)) in enumerate(zip(tasks, scored, strict=True)):
        choices = len(task.question.choices or ())
        answer = answers.get(row)
        outcomes.append(
            Outcome(
                choice_logprobs=_logprobs(scores[:choices]) if choices else None,
                prior_logprobs=_logprobs(prior) if choices else None,
                answer_logprob=scores[-1].logprob if len(scores) > choices else None,
                answer=without_thinking(answer.text, opened=opens_thinking(task.prompt.text)) if answer else None,
                finish=answer.finish if answer else "",
                completion_tokens=answer.completion_tokens if answer else 0,
                score_seconds=seconds,
                answer_seconds=answer.seconds if answer else 0.0,
            )
        )
    if broken := [task.question.id for task, outcome in zip(tasks, outcomes, strict=True) if not outcome.is_finite()]:
        raise UserError(
            f"{lm.name} gives no number for {broken[0]!r}", "its weights are damaged, or overflow: set dtype to float32"
        )
    return outcomes


def _timed(lm: LanguageModel, prefix: tuple[int, ...], texts: tuple[tuple[int, ...], ...]) -> tuple[list[Score], float]:
    start = time.perf_counter()
    scores = continuation_logprobs(lm, prefix, texts, batch_size=BATCH) if texts else []
    return scores, time.perf_counter() - start


def _logprobs(scores: Sequence[Score]) -> tuple[float, ...]:
    return tuple(score.logprob for score in scores)


def predict(arm: Arm, split: str, task: Task, outcome: Outcome) -> Prediction:
    """The line of predictions.jsonl for a task and what came of it."""
    answer, asked, hits = outcome.answer, task.question.question, task.prompt.hits
    read = [f"{hit.chunk.breadcrumb}\n{hit.chunk.text}" for hit in hits]
    return Prediction(
        arm=arm.name,
        split=split,
        question_id=task.question.id,
        key=task.key,
        prompt=task.prompt.text,
        prompt_tokens=len(task.prompt.token_ids) if outcome.prompt_tokens is None else outcome.prompt_tokens,
        passages=_record(task.question, task.passages, task.prompt),
        citations=citations(answer, hits, asked) if answer else (),
        best_cosine=task.passages.best_cosine,
        search_seconds=task.passages.seconds,
        outcome=outcome,
        search_key=task.passages.key,
        groundedness=groundedness(answer, read, asked) if answer and not is_refusal(answer) else None,
    )


def predict_error(
    arm: Arm, split: str, question: Question, passages: Passages, error: str, outcome: Outcome | None = None
) -> Prediction:
    """The line for a question that could not be put to the model."""
    return Prediction(
        arm=arm.name,
        split=split,
        question_id=question.id,
        key=files.sha256_text(json.dumps([SCORER_VERSION, arm.name, question.id, error])),
        prompt="",
        prompt_tokens=0,
        passages=(),
        citations=(),
        best_cosine=passages.best_cosine,
        search_seconds=passages.seconds,
        outcome=outcome or Outcome(),
        error=error,
        search_key=passages.key,
    )


def _record(question: Question, passages: Passages, prompt: Prompt) -> tuple[Passage, ...]:
    shown = {hit.rank: hit for hit in prompt.hits}  # a passage may be shorter there than it was found
    return tuple(
        Passage(
            rank=hit.rank,
            chunk_id=hit.chunk.id,
            document_id=hit.chunk.document_id,
            score=round(hit.score, 6),
            in_prompt=hit.rank in shown,
            holds_answer=holds_answer(question, shown.get(hit.rank, hit).chunk),
        )
        for hit in passages.hits or ()
    )
