"""Multiple choice here and in lm-evaluation-harness: the same model, items and accuracies, and how long each takes.

    python benchmarks/lm_harness.py [--model NAME] [--questions 120] [--words 0] [--batch 1 8]

Needs the package lm_eval (pip install lm-eval), best in an environment of its own. The items are dev questions of the sample,
with `--words` words of the gold document in the prompt (0: none). lm-evaluation-harness gets them as a task of its own kind
(output_type multiple_choice; acc is the sum, acc_bytes the sum per byte) with the same weights in memory. Its time is that of
its `evaluate`, without bootstrap; ours is of splitting and scoring the same prompts, one question after another. Fails when an
accuracy differs or a log-likelihood differs by more than 1e-3: lm-evaluation-harness takes the log-softmax in float32.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["HF_DATASETS_OFFLINE"] = "1"

from likelihood import sample_corpus
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations
from rag_vs_ft.models.loading import load
from rag_vs_ft.models.prompting import build_prompt
from rag_vs_ft.records import Chunk, Hit, Question

Scores = list[list[float]]
TOLERANCE = 1e-3


def accuracies(questions: Sequence[Question], scores: Scores) -> tuple[float, float]:
    """Share right by the sum and by the sum per byte of the choice."""
    right = [0, 0]
    for question, sums in zip(questions, scores, strict=True):
        lengths = [len(choice.encode()) for choice in question.choices or ()]
        for way, values in enumerate((sums, [value / length for value, length in zip(sums, lengths, strict=True)])):
            right[way] += values.index(max(values)) == question.answer_index
    return right[0] / len(questions), right[1] / len(questions)


def ours(lm: Any, questions: Sequence[Question], prompts: Sequence[str]) -> tuple[Scores, float]:
    """Log-likelihoods by this library, and the seconds they took."""
    start = time.perf_counter()
    scores = []
    for question, prompt in zip(questions, prompts, strict=True):
        prefix, ids = split_continuations(lm, prompt, [" " + choice for choice in question.choices or ()])
        scores.append([score.logprob for score in continuation_logprobs(lm, prefix, ids)])
    return scores, time.perf_counter() - start


def theirs(
    lm: Any, questions: Sequence[Question], prompts: Sequence[str], batch_size: int
) -> tuple[Scores, tuple[float, float], float]:
    """Log-likelihoods by lm-evaluation-harness, its acc and acc_bytes, and the seconds it took."""
    evaluator: Any = importlib.import_module("lm_eval.evaluator")
    tasks: Any = importlib.import_module("lm_eval.api.task")
    huggingface: Any = importlib.import_module("lm_eval.models.huggingface")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "items.jsonl"
        items = [
            {"prompt": prompt, "choices": question.choices, "label": question.answer_index}
            for question, prompt in zip(questions, prompts, strict=True)
        ]
        file.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        task = tasks.ConfigurableTask(
            config={
                "task": "items",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": folder},
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": "{{prompt}}",
                "doc_to_choice": "choices",
                "doc_to_target": "label",
                "target_delimiter": " ",
                "metric_list": [
                    {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_bytes")
                ],
            }
        )
    peer = huggingface.HFLM(
        pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=batch_size, device=lm.device, max_length=lm.window
    )
    start = time.perf_counter()
    found = evaluator.evaluate(lm=peer, task_dict={"items": task}, bootstrap_iters=0, log_samples=True)
    seconds = time.perf_counter() - start
    samples = sorted(found["samples"]["items"], key=lambda sample: sample["doc_id"])
    scores = [[float(score) for score, _ in sample["filtered_resps"]] for sample in samples]
    result = found["results"]["items"]
    return scores, (result["acc,none"], result["acc_bytes,none"]), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=settings.LANGUAGE_MODEL)
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--words", type=int, default=0, help="words of the gold document in the prompt; 0: no passage")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes of lm-evaluation-harness")
    given = parser.parse_args()
    if importlib.util.find_spec("lm_eval") is None:
        print("lm_eval is not installed: pip install lm-eval", file=sys.stderr)
        return 2
    logging.disable(logging.WARNING)

    lm = load(given.model, settings.home(), dtype="float32")
    texts, questions = sample_corpus()
    questions = questions[: given.questions]
    prompts = []
    for question in questions:
        text = " ".join(texts[question.gold_documents[0]].split()[: given.words]) if given.words else ""
        hit = Hit(1, Chunk("c", "d", "Passage", "", text, 0, len(text), 0), 1.0)
        prompts.append(build_prompt(lm, question.question, [hit] if text else None, template="plain").text)
    tokens = sorted(len(lm.tokenizer(prompt).input_ids) for prompt in prompts)

    print(f"{lm.name}, {lm.dtype} on {lm.device}, {describe()}, lm_eval {importlib.metadata.version('lm_eval')}")
    print(f"{len(questions)} questions, prompts of {tokens[len(tokens) // 2]} tokens (median)")
    ours(lm, questions[:2], prompts[:2])  # warms up
    scores, seconds = ours(lm, questions, prompts)
    mine = accuracies(questions, scores)
    print(f"{'this library':18} {mine[0]:.4f} by sum, {mine[1]:.4f} per byte, {len(questions) / seconds:6.2f} questions/s")
    failed = False
    for batch_size in given.batch:
        other, peer, taken = theirs(lm, questions, prompts, batch_size)
        pairs = [pair for one, two in zip(scores, other, strict=True) for pair in zip(one, two, strict=True)]
        worst = max(abs(a - b) for a, b in pairs)
        print(
            f"lm_eval, batch {batch_size:<3} {peer[0]:.4f} by sum, {peer[1]:.4f} per byte, {len(questions) / taken:6.2f} "
            f"questions/s; this library is {taken / seconds:.2f}x as fast, log-likelihoods differ by {worst:.1e} at most"
        )
        failed |= peer != mine or worst > TOLERANCE
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
