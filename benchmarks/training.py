"""Tokens per second of a training step: ours (the Trainer with its checks) against a plain PyTorch loop over the same module.

Both do the same steps in the same process: same rows, fused AdamW with decay, clipping, accumulation, bfloat16 and
torch.compile where the device gains by them. Rounds alternate, so that a busy machine slows both. Prints one JSON object;
exit code 1 when ours is slower than 0.95 of the plain loop, or, with --at-least, than that many tokens per second.

    python benchmarks/training.py                                         # nano, on whatever is there
    python benchmarks/training.py --preset gpt2-124m --at-least 350000    # one H100
    python benchmarks/training.py --precision                             # float32 against bfloat16, nano and LoRA
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe
from transformers import TrainerCallback, TrainingArguments

from rag_vs_ft import settings
from rag_vs_ft.environment import peak_memory
from rag_vs_ft.models.devices import choose_device
from rag_vs_ft.models.loading import load
from rag_vs_ft.progress import silent
from rag_vs_ft.training import engine
from rag_vs_ft.training.data import Order, Row, Windows, collate
from rag_vs_ft.training.prepare import scratch_model, uses_bfloat16, with_adapter
from rag_vs_ft.training.presets import Preset, load_preset
from rag_vs_ft.training.tokens import Side
from rag_vs_ft.training.train import training_arguments

WARM_STEPS = 3


def plain_loop(preset: Preset, order: Order, device: str, compiled: bool) -> Callable[[int], float]:
    """A function that does steps and returns the seconds that those after the warm ones took."""
    model = scratch_model(preset, 0).to(device)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": preset.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=preset.learning_rate, betas=(0.9, preset.beta2), fused=True)
    forward = torch.compile(model) if compiled else model
    model.train()

    def run(steps: int) -> float:
        began = 0.0
        for step in range(steps):
            if step == WARM_STEPS:
                began = now(device)
            rows = order.step(step)
            for start in range(0, len(rows), preset.batch_size):
                batch = collate(rows[start : start + preset.batch_size])
                ids, targets = batch["input_ids"].to(device), batch["labels"].to(device)
                with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=uses_bfloat16(preset, device)):
                    logits = forward(input_ids=ids).logits
                share = preset.batch_size / len(rows)
                loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten()) * share
                loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), preset.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return now(device) - began

    return run


class Clock(TrainerCallback):
    """When the warm steps were over, and when the last step was."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in (WARM_STEPS, state.max_steps):
            self.times.append(now(self.device))
        # No evaluation and no checkpoint: the plain loop has none.
        control.should_evaluate = control.should_save = False


def our_steps(preset: Preset, order: Order, device: str) -> Callable[[int], float]:
    """The same for ours; the model is compiled anew for each Trainer, in the warm steps."""
    model = scratch_model(preset, 0)

    def run(steps: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            short = Order(order.rows, steps=steps, rows_per_step=order.rows_per_step, seed=order.seed)
            arguments: TrainingArguments = training_arguments(preset, Path(folder), steps, device, world=1, track=None)
            trainer = engine.RunTrainer(
                model,
                arguments,
                preset=preset,
                order=short,
                validation=order.rows,
                tokenizer=None,
                folder=Path(folder),
                progress=silent,
                flops_per_token=0.0,
            )
            clock = Clock(device)
            trainer.add_callback(clock)
            trainer.train()
            return clock.times[1] - clock.times[0]

    return run


def compare_precision(device: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds of one forward and backward pass in float32 and under bfloat16 autocast, taken in turns."""
    results = []
    for arm, name in (("scratch", "nano"), ("lora", "smollm2-135m-instruct")):
        preset = load_preset(name, arm, {})  # type: ignore[arg-type]
        if arm == "scratch":
            model, size = scratch_model(preset, 0), preset.vocab_size
        else:
            base = load(preset.base, settings.home(), device=device, dtype="float32")
            model, size = with_adapter(base.model, preset), len(base.tokenizer)
        ids = np.random.default_rng(0).integers(0, size, (preset.batch_size, preset.window + 1))
        batch = [Row(row[:-1], row[1:], ()) for row in ids]
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(rounds):
            for bf16 in (False, True) if turn % 2 else (True, False):
                seconds[bf16].append(engine.probe(model, batch, bf16=bf16, device=device))
        tokens = preset.batch_size * preset.window
        ratios = [full / half for full, half in zip(seconds[False], seconds[True], strict=True)]
        results.append(
            {
                "machine": describe(),
                "preset": name,
                "arm": arm,
                "threads": settings.threads(),
                "float32_tokens_per_second": round(tokens / statistics.median(seconds[False])),
                "bfloat16_tokens_per_second": round(tokens / statistics.median(seconds[True])),
                "ratio": round(statistics.median(ratios), 3),
                "ratios": [round(ratio, 3) for ratio in ratios],
            }
        )
    return results


def now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="nano", help="a preset with the arm scratch")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--at-least", type=float, default=0.0, help="tokens per second that ours has to reach")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the preset")
    parser.add_argument("--precision", action="store_true", help="compare float32 with bfloat16 instead")
    options = parser.parse_args()
    if options.precision:
        chosen = choose_device()
        torch.set_num_threads(chosen.threads)
        print(json.dumps(compare_precision(chosen.device, options.rounds), indent=1))
        return 0
    overrides = dict(pair.split("=", 1) for pair in options.set)
    preset = load_preset(options.preset, "scratch", {"eval_every": "1000000", "log_every": "10", **overrides})
    chosen = choose_device(preset.device)
    torch.set_num_threads(chosen.threads)
    torch.set_float32_matmul_precision("high")
    device = chosen.device
    steps = options.steps + WARM_STEPS
    tokens = np.random.default_rng(0).integers(0, preset.vocab_size, preset.window * preset.rows_per_step * steps + 1)
    side = Side(tokens.astype(np.uint16), len(tokens), ("random",), np.array([0]))
    order = Order(Windows(side, preset.window), steps=steps, rows_per_step=preset.rows_per_step, seed=0)
    compiled = training_arguments(preset, Path(), 1, device, world=1, track=None).torch_compile
    runners = {"ours": our_steps(preset, order, device), "plain": plain_loop(preset, order, device, compiled)}
    speeds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(options.rounds):
        for name in sorted(runners, reverse=bool(turn % 2)):
            speeds[name].append(options.steps * preset.rows_per_step * preset.window / runners[name](steps))
    ratio = statistics.median(ours / plain for ours, plain in zip(speeds["ours"], speeds["plain"], strict=True))
    ours = statistics.median(speeds["ours"])
    flops = engine.flops_per_token(scratch_model(preset, 0), preset.window) * ours
    result = {
        "machine": describe(),
        "preset": options.preset,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "dtype": "bfloat16" if uses_bfloat16(preset, device) else "float32",
        "compile": compiled,
        "threads": settings.threads(),
        "ours_tokens_per_second": round(ours),
        "plain_tokens_per_second": round(statistics.median(speeds["plain"])),
        "ratio": round(ratio, 3),
        "ratios": [round(ours / plain, 3) for ours, plain in zip(speeds["ours"], speeds["plain"], strict=True)],
        "tflops": round(flops / 1e12, 3),
        "mfu": engine.model_flops_utilisation(flops, 1),
        "peak_memory_gb": round((peak_memory(device) or 0) / 1e9, 2),
    }
    print(json.dumps(result, indent=1))
    return 0 if ratio >= 0.95 and ours >= options.at_least else 1


if __name__ == "__main__":
    raise SystemExit(main())
