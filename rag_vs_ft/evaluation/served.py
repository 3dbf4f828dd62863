"""An arm's questions put to a model behind a server, several at once.

Where the text that the model reads is ours (templates "plain", "few-shot", "alpaca") and the server tells how likely it finds a
text, choices are scored by log-likelihood, as those of a loaded model are. Elsewhere the model is shown the choices and names a
letter. That is another measure, with a column of its own (`measures.LETTER`).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rag_vs_ft import __version__, files
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.arms import NO_QUESTION, SCORER_VERSION, Passages, Task, begin_alike
from rag_vs_ft.evaluation.experiments import Arm
from rag_vs_ft.evaluation.predictions import Outcome
from rag_vs_ft.evaluation.questions import gold_answer
from rag_vs_ft.models.chat import without_thinking
from rag_vs_ft.models.generation import at_once, generate
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.prompting import Prompt, build_prompt
from rag_vs_ft.models.served import ContextTooLong, Server, score
from rag_vs_ft.records import Question

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER_TOKENS = 32
"""Room for a letter: some models say "The answer is B." """
NONE_NAMED = -1
"""Stands for the choice of a model that named none."""


@dataclass(frozen=True, slots=True)
class ServedReader:
    """An arm's model behind a server, which is asked `parallel` questions at once."""

    lm: LanguageModel
    server: Server
    arm: Arm
    max_new_tokens: int
    parallel: int
    _priors: dict[tuple[str, tuple[str, ...]], tuple[tuple[float, ...], float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, question: Question, passages: Passages, *, answer: bool) -> Task:
        """The question made ready. Whether it fits is known only when it is asked."""
        wanted = self.max_new_tokens if answer else 0
        prompt = self._prompt(question.question, passages)
        by_letter = self._by_letter(prompt)
        seen = [SCORER_VERSION, __version__, *self.server.identity, prompt.template, prompt.text, by_letter]
        seen += [question.choices, gold_answer(question), wanted, prompt.stop]
        key = files.sha256_text(json.dumps(["served", *seen]))
        return Task(question, passages, prompt, key, max_new_tokens=wanted, by_letter=by_letter)

    def answer(self, tasks: Sequence[Task]) -> list[tuple[Task, Outcome | UserError]]:
        """What comes of some tasks, with the prompts that were sent in the end. Raises UserError when the server fails."""
        return at_once(self.parallel, self._answer, tasks)

    def _answer(self, task: Task) -> tuple[Task, Outcome | UserError]:
        while True:
            try:
                return task, self._asked(task)
            except ContextTooLong as error:
                if not task.prompt.hits:
                    return task, error
                # The last passage is left out, as it is where the window is known.
                kept = task.prompt.hits[:-1]
                shorter = self._prompt(task.question.question, replace(task.passages, hits=kept))
                left_out = (*task.prompt.hits[-1:], *task.prompt.dropped)
                task = replace(task, prompt=replace(shorter, dropped=(*shorter.dropped, *left_out)))

    def _asked(self, task: Task) -> Outcome:
        question, prompt = task.question, task.prompt
        choices = question.choices or ()
        outcome = Outcome()
        start = time.perf_counter()
        if task.by_letter:
            outcome = replace(outcome, letter=self._letter(task) if choices else None)
            seconds = time.perf_counter() - start
        else:
            gold = gold_answer(question)
            values = self._scores(prompt.text, choices, [gold] if gold else [])
            seconds = time.perf_counter() - start
            prior, prior_seconds = self._prior(choices, prompt.language)
            seconds += prior_seconds
            outcome = replace(
                outcome,
                choice_logprobs=values[: len(choices)] if choices else None,
                prior_logprobs=prior if choices else None,
                answer_logprob=values[-1] if gold else None,
            )
        outcome = replace(outcome, score_seconds=seconds)
        if not task.max_new_tokens:
            return outcome
        stream = generate(self.lm, prompt, max_new_tokens=task.max_new_tokens)
        for _ in stream:
            pass
        done = stream.completion
        return replace(
            outcome,
            answer=without_thinking(done.text),
            finish=done.finish,
            prompt_tokens=done.prompt_tokens,
            completion_tokens=done.completion_tokens,
            answer_seconds=done.seconds,
        )

    def _prompt(self, question: str, passages: Passages, spoken: str = "") -> Prompt:
        wanted = max(self.max_new_tokens, _LETTER_TOKENS)
        return build_prompt(self.lm, question, passages.hits, template=self.arm.template, max_new_tokens=wanted, spoken=spoken)

    def _by_letter(self, prompt: Prompt) -> bool:
        return prompt.template == "chat" or not self.lm.abilities.scores

    def _scores(self, prompt: str, choices: Sequence[str], others: Sequence[str]) -> tuple[float, ...]:
        """Log-likelihoods of choices and other texts after a prompt. The end of the line counts with choices of which one is the
        beginning of another; a loaded model that has learned to end its turn is asked for that end."""
        space = "" if prompt[-1:].isspace() else " "
        end = "\n" if begin_alike(choices) else ""
        wanted = [*(f"{space}{choice}{end}" for choice in choices), *(f"{space}{text}" for text in others)]
        return tuple(found.logprob for found in score(self.server, prompt, wanted)) if wanted else ()

    def _prior(self, choices: tuple[str, ...], spoken: str) -> tuple[tuple[float, ...], float]:
        """The same after the prompt without question and passages, once for all arms of the model, and the seconds it took."""
        with self._lock:
            known = self._priors.get((spoken, choices))
        if known is None:
            start = time.perf_counter()
            prompt = self._prompt(NO_QUESTION, Passages(None, 0.0, None), spoken)
            known = self._scores(prompt.text, choices, ()), time.perf_counter() - start
            with self._lock:
                self._priors[spoken, choices] = known
        return known

    def _letter(self, task: Task) -> int:
        choices = task.question.choices or ()
        shown = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        asked = f"{task.question.question}\n\n{shown}\n\nAnswer with the letter of the right choice, and nothing else."
        hits = task.prompt.hits if task.passages.hits is not None else None
        prompt = self._prompt(asked, replace(task.passages, hits=hits))
        stream = generate(self.lm, prompt, max_new_tokens=_LETTER_TOKENS)
        for _ in stream:
            pass
        return letter_of(without_thinking(stream.completion.text), choices)


def letter_of(answer: str, choices: Sequence[str]) -> int:
    """Which choice an answer names: by the letter it begins with, by a choice's own text, or by the one letter in it;
    `NONE_NAMED` for none."""
    letters = LETTERS[: len(choices)]
    # An A before a word may be an article.
    if begins := re.match(rf"\W*(?!A [a-z])([{letters}])(?!\w)", answer):
        return letters.index(begins[1])
    said = answer.strip().rstrip(".").casefold()
    if said in (texts := [choice.strip().rstrip(".").casefold() for choice in choices]):
        return texts.index(said)
    named = set(re.findall(rf"(?<!\w)([{letters}])(?!\w)", answer))
    named -= {"A"} if len(named) > 1 else set()
    return letters.index(named.pop()) if len(named) == 1 else NONE_NAMED
