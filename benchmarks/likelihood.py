"""Scoring choices with the prompt computed once, against one full pass for each choice, and against those passes as one batch.

All three score the same questions of the sample (dev) with passages of their gold documents, in one process, one after another on
each question, so that a busy machine slows all alike. Fails when log-likelihoods differ by more than 1e-4 (float32).

    python benchmarks/likelihood.py [--model NAME] [--questions 12] [--words 0 100 300]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from machine import describe

from rag_vs_ft import settings

settings.quiet_dependencies()

from rag_vs_ft.corpus import store  # noqa: E402
from rag_vs_ft.evaluation.questions import load_questions, sample_questions_path  # noqa: E402
from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations  # noqa: E402
from rag_vs_ft.models.loading import load  # noqa: E402
from rag_vs_ft.models.prompting import build_prompt  # noqa: E402
from rag_vs_ft.records import Chunk, Hit, Question  # noqa: E402

TOLERANCE = 1e-4
Ids = Sequence[int]


def full_passes(lm: Any, prefix: Ids, choices: Sequence[Ids]) -> list[float]:
    """One pass over prompt and choice for each choice."""
    return [batched_passes(lm, prefix, [choice])[0] for choice in choices]


def batched_passes(lm: Any, prefix: Ids, choices: Sequence[Ids]) -> list[float]:
    """All choices in one batch, each with the whole prompt before it."""
    import torch

    width = max(len(choice) for choice in choices)
    rows = [[*prefix, *choice, *[0] * (width - len(choice))] for choice in choices]
    with torch.inference_mode():
        logits = lm.model(torch.tensor(rows, device=lm.device), logits_to_keep=width + 1).logits
        sums = []
        for row, choice in zip(logits, choices, strict=True):
            logprobs = row[: len(choice)].double().log_softmax(-1)
            sums.append(float(logprobs.gather(-1, torch.tensor(choice, device=lm.device)[:, None]).sum()))
    return sums


def shared_prefix(lm: Any, prefix: Ids, choices: Sequence[Ids]) -> list[float]:
    """This library's way."""
    return [score.logprob for score in continuation_logprobs(lm, prefix, choices)]


def sample_corpus() -> tuple[dict[str, str], list[Question]]:
    """Texts of the sample's documents, and its dev questions with choices."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as temporary:
        home = settings.home(Path(temporary))
        store.add("sample", "sample", home=home)
        texts = {document.id: document.text for document in store.open_corpus("sample", home).documents()}
    return texts, [question for question in load_questions(sample_questions_path()) if question.choices]


def measure(lm: Any, texts: dict[str, str], questions: Sequence[Question], words: int) -> float:
    """Time all ways on the questions with so many words of the gold document; the largest difference in log-likelihood."""
    ways: dict[str, Callable[[Any, Ids, Sequence[Ids]], list[float]]] = {
        "one full pass per choice": full_passes,
        "choices as one batch": batched_passes,
        "prompt computed once": shared_prefix,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    prompts, choices, worst = [], [], 0.0
    for number, question in enumerate(questions):
        text = " ".join(texts[question.gold_documents[0]].split()[:words])
        hit = Hit(1, Chunk("c", question.gold_documents[0], "Passage", "", text, 0, len(text), 0), 1.0)
        prompt = build_prompt(lm, question.question, [hit] if words else None)
        space = "" if prompt.text[-1:].isspace() else " "
        prefix, ids = split_continuations(lm, prompt, [space + choice for choice in question.choices or ()])
        found = {}
        # The ways take turns at being first.
        for name, way in sorted(ways.items(), key=lambda item: (list(ways).index(item[0]) + number) % len(ways)):
            start = time.perf_counter()
            found[name] = way(lm, prefix, ids)
            if number:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
        for scores in found.values():
            worst = max(worst, *(abs(a - b) for a, b in zip(scores, found["one full pass per choice"], strict=True)))
        prompts.append(len(prefix))
        choices.append(sum(map(len, ids)) / len(ids))
    print(
        f"{len(prompts) - 1} questions of 4 choices; prompts of {statistics.median(prompts):.0f} tokens, choices of "
        f"{statistics.mean(choices):.1f} (median, mean)"
    )
    base = statistics.median(seconds["one full pass per choice"])
    for name, times in seconds.items():
        print(f"{name:26} {1 / statistics.median(times):6.2f} questions/s   {base / statistics.median(times):5.2f}x")
    print(f"largest difference in log-likelihood: {worst:.1e}", flush=True)
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=settings.LANGUAGE_MODEL)
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--words", type=int, nargs="+", default=[0, 100, 300], help="of the gold document in the prompt; 0: none")
    given = parser.parse_args()
    lm = load(given.model, settings.home(), dtype="float32")
    texts, questions = sample_corpus()
    print(f"{lm.name}, {lm.dtype} on {lm.device}, {describe()}")
    worst = max(measure(lm, texts, questions[: given.questions + 1], words) for words in given.words)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
