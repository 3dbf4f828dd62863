"""The Hugging Face Trainer with what a run adds: everything random is a function of (seed, step), checkpoints are
whole or not there, losses are counted by token, and a loss that is not finite stops the run.

Imports torch and transformers; only `train` imports it, when a run starts.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from rag_vs_ft import files
from rag_vs_ft.environment import peak_memory
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.progress import Progress
from rag_vs_ft.training import runs
from rag_vs_ft.training.data import IGNORE, Order, Row, Rows, collate
from rag_vs_ft.training.presets import Preset

OPTIMIZER = "optimizer.safetensors"
SCHEDULER = "scheduler.json"
SAMPLE_PROMPT, SAMPLE_TOKENS = 12, 48


class RunTrainer(Trainer):
    """A Trainer for one run folder. `model` is a causal language model, or one with a LoRA adapter (PeftModel)."""

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        preset: Preset,
        order: Order,
        validation: Rows,
        tokenizer: Any,
        folder: Path,
        progress: Progress,
        flops_per_token: float,
        seconds_before: float = 0.0,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=collate,
            train_dataset=order,
            eval_dataset=validation,
            # The model's own loss would widen bfloat16 logits a second time; compiled, that costs nothing.
            compute_loss_func=None if args.torch_compile else token_mean,
            callbacks=[_Telemetry(self, folder, preset, progress, flops_per_token)],
        )
        self.remove_callback(PrinterCallback)
        # The Trainer turns the cache off; training does not use it, and what is saved is for generation.
        self.model.config.use_cache = True
        self.preset = preset
        self.order = order
        self.tokenizer = tokenizer
        self.folder = folder
        self.paused = 0.0
        self.began = time.perf_counter() - seconds_before
        self._gradients: list[tuple[int, Any]] = []
        self._micro_step = (-1, 0)

    # --- one step ----------------------------------------------------------------------------------------------------

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """One micro-batch, forward and backward, with dropout drawn from (seed, step, micro-batch, process)."""
        step, count = self._micro_step
        self._micro_step = (self.state.global_step, count + 1 if step == self.state.global_step else 0)
        torch.manual_seed(mix(self.preset.seed, *self._micro_step, self.args.process_index))
        return super().training_step(model, inputs, num_items_in_batch)

    def _maybe_log_save_evaluate(self, tr_loss: Any, grad_norm: Any, *args: Any, **kwargs: Any) -> None:
        # The gradient's norm is the same on all processes and is not finite when any loss or weight was not. It stays on the
        # device until something is to be written, so that the GPU need not wait for it at each step.
        if self._micro_step[0] == self.state.global_step - 1 and grad_norm is not None:
            self._gradients.append((self.state.global_step, grad_norm))
        if self.control.should_log or self.control.should_evaluate or self.control.should_save:
            for step, norm in self._gradients:
                if not math.isfinite(float(norm)):
                    raise self._not_finite(step)
            self._gradients.clear()
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)

    def _not_finite(self, step: int) -> CheckFailed:
        names = list(dict.fromkeys(source for row in self.order.step(step - 1) for source in row.sources))
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        last = (self.folder / "last").resolve().name if (self.folder / "last").exists() else "none yet"
        return CheckFailed(
            f"the loss or its gradient is not finite at step {step}; the batch held: {shown}",
            f"lower learning_rate (it is {self.preset.learning_rate:g}) or look at these documents; last good checkpoint: {last}",
        )

    # --- validation --------------------------------------------------------------------------------------------------

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Mean loss (nats per token) and bits per byte of the validation rows, each token counted once, over all processes."""
        began = time.perf_counter()
        nats, tokens = self.score(self.eval_dataset)
        metrics = {
            "eval_loss": nats / max(tokens, 1),
            "eval_bits_per_byte": nats / math.log(2) / max(self.eval_dataset.text_bytes, 1),
        }
        if not math.isfinite(metrics["eval_loss"]):
            raise self._not_finite(self.state.global_step)
        self.log(metrics)
        if self.args.world_size == 1:
            self._write_sample()
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.paused += time.perf_counter() - began
        return metrics

    def score(self, rows: Rows) -> tuple[float, int]:
        """The summed loss in nats of all targets of `rows`, and their number."""
        size = self.preset.batch_size
        batches = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
        ours = batches[self.args.process_index :: self.args.world_size]
        most = -(-len(batches) // self.args.world_size)
        nothing = _without_targets(rows[0])
        total, count = 0.0, 0
        model = self.model_wrapped
        model.eval()
        with torch.no_grad():
            for number in range(most):  # as many for each process: sharded models take part in each other's forward pass
                batch = [rows[row] for row in ours[number]] if number < len(ours) else []
                batch += [nothing] * (size - len(batch))  # one shape, so that nothing is compiled twice
                tensors = self._prepare_inputs(collate(batch))
                logits = model(input_ids=tensors["input_ids"]).logits.float()
                targets = tensors["labels"]
                loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
                total += float(loss)
                count += int((targets != IGNORE).sum())
        model.train()
        parts = gather_object([(total, count)]) if self.args.world_size > 1 else [(total, count)]
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    def _write_sample(self) -> None:
        """Let the model go on from the beginning of a held-out row, or answer its instruction, and keep what it writes."""
        row, window = self.eval_dataset[0], self.preset.window
        given = int((np.asarray(row.targets) == IGNORE).argmin()) + 1  # an instruction is not learned; targets are one ahead
        prompt = row.inputs[: given if given > 1 else min(SAMPLE_PROMPT, window // 2)]
        room = min(SAMPLE_TOKENS, window - len(prompt))
        if room < 1:
            return
        ids = torch.from_numpy(np.asarray(prompt))[None].to(self.args.device)
        torch.manual_seed(mix(self.preset.seed, self.state.global_step))  # each training step seeds itself again
        self.model.eval()
        with torch.no_grad(), torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            written = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=room,
                do_sample=True,
                temperature=0.8,
                top_p=0.95,
                top_k=0,
                pad_token_id=self.tokenizer.eos_token_id,
            )[0]
        self.model.train()
        parts = {"prompt": written[: len(prompt)], "text": written[len(prompt) :]}
        said = {name: self.tokenizer.decode(tokens, skip_special_tokens=True) for name, tokens in parts.items()}
        runs.append_metrics(self.folder, {"step": self.state.global_step, **said}, runs.SAMPLES)

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write weights, tokenizer and optimizer state; point `last`, and `best` if it is, at them."""
        began = time.perf_counter()
        weights = self._weights()
        states = self._optimizer_states()
        if self.args.should_save:
            if isinstance(self.model, PeftModel):
                assert_mergeable(self.model, self.order.step(0)[0])

            def write(place: Path) -> None:
                save_weights(self.model, weights, place)
                self.tokenizer.save_pretrained(place)
                save_file(states, place / OPTIMIZER)
                schedule = {key: value for key, value in self.lr_scheduler.state_dict().items() if key != "lr_lambdas"}
                files.write_json(place / SCHEDULER, schedule, indent=None)
                self.state.save_to_json(str(place / runs.TRAINER_STATE))

            place = runs.save_checkpoint(self.folder, self.state.global_step, write)
            runs.point(self.folder, "last", place)
            if self.state.best_global_step == self.state.global_step:
                runs.point(self.folder, "best", place)
            runs.prune(self.folder, self.preset.keep_checkpoints)
        self.accelerator.wait_for_everyone()
        self.paused += time.perf_counter() - began

    def _weights(self) -> dict[str, Any]:
        if isinstance(self.model, PeftModel):
            return get_peft_model_state_dict(self.model, save_embedding_layers=False)
        # Tied weights stand under each of their names; the first is kept.
        tensors = {id(tensor): (name, tensor) for name, tensor in reversed(self.model.state_dict(keep_vars=True).items())}
        return {name: _whole(tensor) for name, tensor in reversed(tensors.values())}

    def _optimizer_states(self) -> dict[str, Any]:
        """ "exp_avg/<parameter>" and so on -> tensor; the parts of sharded ones are gathered by all processes."""
        optimizer = _bare(self.optimizer)
        return {
            f"{key}/{name}": _whole(value).contiguous()
            for name, parameter in self.model.named_parameters()
            for key, value in sorted(optimizer.state.get(parameter, {}).items())
        }

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Copy the weights of a checkpoint into the model, bit for bit."""
        place = Path(resume_from_checkpoint)
        if isinstance(self.model, PeftModel):
            found = set_peft_model_state_dict(self.model, load_file(place / "adapter_model.safetensors"))
            lost = [key for key in found.missing_keys if "lora_" in key] + list(found.unexpected_keys)
        else:
            stored = load_file(place / "model.safetensors")
            parameters = dict(self.model.named_parameters())
            lost = [name for name, own in parameters.items() if name not in stored or stored[name].shape != own.shape]
            with torch.no_grad():
                for name, parameter in parameters.items():  # in one order: sharding takes part of all processes
                    if name not in lost:
                        parameter.copy_(_like(stored[name], parameter))
        if lost:
            raise CheckFailed(f"{place} does not hold this model: {lost[0]} is missing or of another shape", "start a new run")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        place = Path(checkpoint)
        optimizer = _bare(self.optimizer)
        parameters = dict(self.model.named_parameters())
        for key, value in load_file(place / OPTIMIZER).items():
            kind, _, name = key.partition("/")
            parameter = parameters[name]
            # The step count has no dimensions: it stays whole, where the optimizer keeps it.
            optimizer.state[parameter][kind] = _like(value, parameter) if value.ndim else value.to(parameter.device)
        schedule = json.loads((place / SCHEDULER).read_text(encoding="utf-8"))
        self.lr_scheduler.load_state_dict(self.lr_scheduler.state_dict() | schedule)
        for group, rate in zip(optimizer.param_groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: `training_step` seeds each step."""

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Nothing: float16, which needs a scaler, is not used."""


class _Telemetry(TrainerCallback):
    """Writes metrics.jsonl, tells the progress, ends a run that has stopped gaining, and evaluates the last step."""

    def __init__(self, trainer: RunTrainer, folder: Path, preset: Preset, progress: Progress, flops_per_token: float) -> None:
        self.trainer = trainer
        self.folder = folder
        self.preset = preset
        self.progress = progress
        self.flops_per_token = flops_per_token
        self.since = (0, 0.0, 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == state.max_steps:
            control.should_evaluate = control.should_save = control.should_log = True
        elif args.world_size == 1 and runs.asked_to_stop(self.folder):
            # Not evaluated: resumed, the run must count its evaluations as if it had not been stopped.
            control.should_save = control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        losses = [row["eval_loss"] for row in state.log_history if "eval_loss" in row]
        if self.preset.patience and evaluations_without_gain(losses, self.preset.min_gain) >= self.preset.patience:
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        row: dict[str, Any] = {"step": state.global_step}
        if "eval_loss" in logs:
            row |= {"validation_loss": logs["eval_loss"], "bits_per_byte": logs["eval_bits_per_byte"]}
            said = f"validation loss {logs['eval_loss']:.4f}, {logs['eval_bits_per_byte']:.4f} bits per byte"
        elif "loss" in logs:
            speed = self._tokens_per_second(state)
            row |= {key: logs[key] for key in ("loss", "grad_norm", "learning_rate")}
            row |= {"tokens_per_second": round(speed, 1), "memory_bytes": peak_memory(args.device.type) or 0}
            if utilisation := model_flops_utilisation(speed * self.flops_per_token, args.world_size):
                row["mfu"] = round(utilisation, 4)
            said = f"loss {logs['loss']:.4f}, {speed:,.0f} tokens/s"
        else:
            return
        row["seconds"] = round(time.perf_counter() - self.trainer.began, 1)
        runs.append_metrics(self.folder, row)
        self.progress("step", state.global_step, state.max_steps, said)

    def _tokens_per_second(self, state: Any) -> float:
        step, clock, paused = self.since
        seconds = time.perf_counter() - clock - (self.trainer.paused - paused)
        rows = [row for number in range(step, state.global_step) for row in self.trainer.order.step(number)]
        self._mark(state)
        return sum(len(row.inputs) for row in rows) / max(seconds, 1e-9)

    def _mark(self, state: Any) -> None:
        self.since = (state.global_step, time.perf_counter(), self.trainer.paused)


def evaluations_without_gain(losses: Sequence[float], min_gain: float) -> int:
    """How many evaluations have passed since the loss last fell by more than `min_gain` below the lowest before it."""
    lowest, since = math.inf, 0
    for loss in losses:
        lowest, since = (loss, 0) if loss < lowest - min_gain else (lowest, since + 1)
    return since


def token_mean(outputs: Any, targets: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """The summed loss of a micro-batch over the number of targets of the whole step."""
    summed = F.cross_entropy(outputs.logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    return summed / num_items_in_batch


def mix(*numbers: int) -> int:
    """A 63-bit seed from several numbers, such that near ones give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def save_weights(model: Any, weights: dict[str, Any], place: Path) -> None:
    """Write one safetensors file in Hugging Face layout, or in peft's for an adapter."""
    if isinstance(model, PeftModel):
        model.save_pretrained(place, save_embedding_layers=False)
        files.remove(place / "README.md")  # peft's empty model card
        return
    model.save_pretrained(place, state_dict=weights, max_shard_size="1000GB")


def assert_mergeable(model: Any, row: Row) -> None:
    """Raise CheckFailed unless the adapter merged into the weights gives the logits that adapter and weights give.

    The tolerance allows for the rounding of the sum of weight and adapter to the weights' type. The weights are put back from
    a copy: subtracting the adapter again would leave them changed by rounding.
    """
    device = model.get_input_embeddings().weight.device
    ids = torch.from_numpy(np.asarray(row.inputs[:64]))[None].to(device)
    # The model inside: accelerate has put bfloat16 around the outer one's forward, and its rounding would be what is compared.
    inside = model.get_base_model()
    layers = [module for module in model.modules() if hasattr(module, "merge") and hasattr(module, "base_layer")]
    kept = [layer.base_layer.weight.detach().clone() for layer in layers]
    training = model.training
    model.eval()
    with torch.no_grad():
        apart = inside(input_ids=ids).logits.float()
        for layer in layers:
            layer.merge()
        merged = inside(input_ids=ids).logits.float()
        for layer, weight in zip(layers, kept, strict=True):
            layer.unmerge()
            layer.base_layer.weight.copy_(weight)
    model.train(training)
    difference = float((apart - merged).abs().max() / apart.abs().max())
    if not layers or not difference <= (1e-4 if kept[0].dtype == torch.float32 else 0.1):
        raise CheckFailed(
            f"the merged adapter does not give the adapter's logits (relative difference {difference:.3g})",
            "this is a fault of the adapter's layers; train all weights instead (finetune)",
        )


PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bfloat16 operations per second from the makers' data sheets, by a part of the device's name; the first match counts."""


def model_flops_utilisation(flops_per_second: float, devices: int) -> float | None:
    """Share of the devices' peak that the model's own operations take (PaLM, Chowdhery et al., 2022); None: peak not known."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    peak = next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)
    return None if peak is None else flops_per_second / devices / peak


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch could not get memory, on a GPU or for the CPU's tensors."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def probe(model: Any, batch: list[Row], *, bf16: bool, device: str, repeats: int = 3) -> float:
    """Seconds of one forward and backward pass of `batch`, the median of `repeats` after one that is not counted."""
    tensors = {key: value.to(device) for key, value in collate(batch).items()}
    model.to(device).train()
    seconds = []
    for _ in range(repeats + 1):
        _wait(device)
        began = time.perf_counter()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            loss = model(**tensors).loss
        loss.backward()
        _wait(device)
        seconds.append(time.perf_counter() - began)
        model.zero_grad(set_to_none=True)
    return float(np.median(seconds[1:]))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def flops_per_token(model: Any, window: int) -> float:
    """Operations of forward and backward for one token: 6 for each weight in a matrix product, 12 x layers x width x window for
    attention (Kaplan et al., 2020; PaLM, appendix B). Frozen weights need no gradient of their own: 4 instead of 6."""
    config = model.config
    head = model.get_output_embeddings()
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and (id(p) not in embeddings or p is head.weight)]
    products = sum((6 if p.requires_grad else 4) * p.numel() for p in matrices)
    return products + 12.0 * config.num_hidden_layers * config.hidden_size * window


def guard(action: Callable[[], Any], preset: Preset, world: int) -> Any:
    """Run `action`; out of memory becomes a UserError that names the settings to change and the values to try."""
    try:
        return action()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        smaller = next((size for size in range(preset.batch_size // 2, 0, -1) if preset.rows_per_step % (size * world) == 0), 0)
        if smaller:
            parts = preset.rows_per_step // (smaller * world)
            step = f"--set batch_size={smaller}: the same training, with {parts} accumulated parts a step"
        elif not preset.gradient_checkpointing:
            step = "--set gradient_checkpointing=true"
        else:
            step = f"--set window={preset.window // 2}, or a smaller model, or LoRA"
        raise UserError(
            f"out of memory with batch_size={preset.batch_size} rows of {preset.window} tokens", f"try {step}"
        ) from error


def _bare(optimizer: Any) -> Any:
    """The optimizer itself, without accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _whole(tensor: Any) -> Any:
    """The whole tensor on the CPU, gathered from all processes if it is sharded."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()


def _like(tensor: Any, parameter: Any) -> Any:
    """`tensor` on the device of `parameter`, sharded as that is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def _without_targets(row: Row) -> Row:
    return Row(row.inputs, np.full_like(row.targets, IGNORE), ())
