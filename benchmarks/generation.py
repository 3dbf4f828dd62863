"""Answers on a CPU: transformers in float32 against the OpenVINO engine, in one run on the same prompts.

    python benchmarks/generation.py [--model NAME] [--home HOME --index NAME] [--prompts 20] [--speed-prompts 5]

Prompts are dev questions of the sample with the passages that an index (default: the packaged sample, indexed on the spot) finds
for them: as many passages as come nearest to 350 and to 900 tokens. Prints the seconds to the first token (cold; the same prompt
again; another question with the same passages), tokens per second after it, and for each prompt whether both engines write the
same greedy answer, else where they part and how far apart torch finds the two tokens. `--gguf FILE`, the model's weights for
llama.cpp, has llama-cpp-python read and continue the same tokens; it has no wheel, so pip has to compile it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from machine import describe

from rag_vs_ft import settings

settings.quiet_dependencies()

from rag_vs_ft.ask import distinct  # noqa: E402
from rag_vs_ft.corpus import store  # noqa: E402
from rag_vs_ft.evaluation.questions import load_questions, sample_questions_path  # noqa: E402
from rag_vs_ft.index import build  # noqa: E402
from rag_vs_ft.index.search import Index  # noqa: E402
from rag_vs_ft.models import generation  # noqa: E402
from rag_vs_ft.models.fast import OpenVino  # noqa: E402
from rag_vs_ft.models.language_model import LanguageModel  # noqa: E402
from rag_vs_ft.models.loading import load  # noqa: E402
from rag_vs_ft.models.prompting import Prompt, build_prompt  # noqa: E402
from rag_vs_ft.records import Hit  # noqa: E402

LENGTHS = (350, 900)
TOKENS = 64


class Clock:
    """In the place of a writer: takes `TOKENS` tokens whatever they are, and notes when."""

    def __init__(self) -> None:
        self.start, self.times, self.finish = time.perf_counter(), list[float](), ""

    def push(self, token: int) -> None:
        self.times.append(time.perf_counter() - self.start)
        self.finish = "length" if len(self.times) == TOKENS else ""


def timed(lm: LanguageModel, prompt: Prompt) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second after it."""
    clock: Any = Clock()
    for _ in generation._decode_one(lm, prompt.token_ids, clock, generation.Sampling()):
        pass
    return clock.times[0], (TOKENS - 1) / (clock.times[-1] - clock.times[0])


def timed_llama(llama: Any, prompt: Prompt) -> tuple[float, float]:
    """The same of llama-cpp-python, greedy."""
    llama.reset()
    start = time.perf_counter()
    token, times = list(prompt.token_ids), []
    for _ in range(TOKENS):
        llama.eval(token)
        token = [llama.sample(temp=0.0)]
        times.append(time.perf_counter() - start)
    return times[0], (TOKENS - 1) / (times[-1] - times[0])


def forget(lm: LanguageModel) -> None:
    """Make the next prompt a cold one."""
    if isinstance(lm.engine, OpenVino):
        lm.engine._contexts.clear()


def near(lm: LanguageModel, question: str, hits: Sequence[Hit], length: int) -> Prompt:
    """The prompt whose number of passages brings it nearest to `length` tokens."""
    made = [build_prompt(lm, question, hits[:count]) for count in range(1, len(hits) + 1)]
    return min(made, key=lambda prompt: abs(len(prompt.token_ids) - length))


def greedy(lm: LanguageModel, prompt: Prompt) -> list[int]:
    stream = generation.generate(lm, prompt)
    list(stream)
    return stream._writer.ids


def logprobs_after(lm: LanguageModel, ids: Sequence[int]) -> Any:
    """Torch's log-probabilities of the next token."""
    import torch

    with torch.inference_mode():
        return lm.model(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[0, -1].double().log_softmax(-1)


def compare_speed(engines: dict[str, LanguageModel], prompts: Sequence[tuple[Prompt, Prompt]], llama: Any) -> None:
    """Print medians for prompts of about one length; each comes with another question on the same passages."""
    print(
        f"\nprompts of {statistics.median(len(prompt.token_ids) for prompt, _ in prompts):.0f} tokens (median of {len(prompts)})"
    )
    rates = {}
    for name, lm in engines.items():
        forget(lm)
        timed(lm, prompts[0][0])
        cold, again, other, speed = [], [], [], []
        for prompt, another in prompts:
            forget(lm)
            first, rate = timed(lm, prompt)
            cold.append(first)
            speed.append(rate)
            if lm.engine:
                again.append(timed(lm, prompt)[0])
                other.append(timed(lm, another)[0])
        rates[name] = statistics.median(speed)
        line = f"{name:16} first token {statistics.median(cold):.3f} s, then {rates[name]:.1f} tokens/s"
        if again:
            line += f"; first token again {statistics.median(again):.3f} s, of another question {statistics.median(other):.3f} s"
        print(line, flush=True)
    slow, fast = rates.values()
    print(f"ratio {fast / slow:.2f}")
    if llama is not None:
        timed_llama(llama, prompts[0][0])
        times = [timed_llama(llama, prompt) for prompt, _ in prompts]
        first, rate = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{'llama.cpp':16} first token {first:.3f} s, then {rate:.1f} tokens/s", flush=True)


def compare_answers(slow: LanguageModel, fast: LanguageModel, prompts: Sequence[Prompt]) -> None:
    """Print how many greedy answers are the same, and where the others part."""
    print(f"\n{len(prompts)} greedy answers of up to {settings.MAX_NEW_TOKENS} tokens")
    same = repeated = 0
    for number, prompt in enumerate(prompts, start=1):
        ours, theirs = greedy(fast, prompt), greedy(slow, prompt)
        repeated += greedy(fast, prompt) == ours
        if ours == theirs:
            same += 1
            continue
        at = next(at for at in range(len(ours)) if ours[: at + 1] != theirs[: at + 1])
        scores = logprobs_after(slow, [*prompt.token_ids, *theirs[:at]])
        first, second = (repr(slow.tokenizer.decode([ids[at]])) for ids in (theirs, ours))
        gap = float(scores[theirs[at]] - scores[ours[at]])
        place = int((scores > scores[ours[at]]).sum()) + 1
        print(f"  {number}: part at token {at + 1}: {first} or {second}, {gap:.3f} nats apart under torch (its number {place})")
    print(f"{same} of {len(prompts)} the same; asked again from the kept context, {repeated} of {len(prompts)} as before")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=settings.LANGUAGE_MODEL)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--index")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--speed-prompts", type=int, default=5)
    parser.add_argument("--gguf", type=Path)
    given = parser.parse_args()

    questions = [question.question for question in load_questions(sample_questions_path())]
    questions = questions[:: max(1, len(questions) // given.prompts)][: given.prompts]
    with tempfile.TemporaryDirectory() as scratch:
        home = settings.home(given.home if given.index else scratch)
        if not given.index:
            store.add("sample", "sample", home=home)
            build.build("sample", "sample", build.Recipe(), home)
        index = Index.open(given.index or "sample", home)
        found = {question: distinct(index.search(question, 8)) for question in questions}
    start = time.perf_counter()
    slow = load(given.model, settings.home(), device="cpu", dtype="float32")
    print(f"{slow.name}, {slow.threads} threads, {describe()}\nloaded in {time.perf_counter() - start:.1f} s", end="")
    for state in ("converted and compiled", "compiled again"):
        start = time.perf_counter()
        fast = load(given.model, settings.home(), device="cpu", dtype="float32", engine="openvino")
        print(f"; with the engine {state} in {time.perf_counter() - start:.1f} s", end="")
    print()
    if fast.engine is None:
        raise SystemExit(f"nothing to compare: {fast.notices[0]}")
    fast = replace(slow, engine=fast.engine)  # one copy of torch's weights
    engines = {"transformers": slow, fast.engine.name: fast}  # type: ignore[union-attr]
    asked = list(pairwise(questions))[: given.speed_prompts]
    llama = None
    if given.gguf:
        from llama_cpp import Llama

        llama = Llama(str(given.gguf), n_ctx=2048, n_threads=slow.threads, n_threads_batch=slow.threads, verbose=False)
    for length in LENGTHS:
        pairs = []
        for question, another in asked:
            prompt = near(slow, question, found[question], length)
            pairs.append((prompt, build_prompt(slow, another, prompt.hits)))
        compare_speed(engines, pairs, llama)
    compare_answers(slow, fast, [near(slow, question, found[question], LENGTHS[at % 2]) for at, question in enumerate(questions)])


if __name__ == "__main__":
    main()
