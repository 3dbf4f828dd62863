"""What a run needs before its first step: tokenizer, model, rows in order, and a plan that says what it will take."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_vs_ft import files, settings
from rag_vs_ft.corpus.splits import split_documents
from rag_vs_ft.corpus.store import Corpus, open_corpus
from rag_vs_ft.environment import memory_limit
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.devices import has_bfloat16
from rag_vs_ft.models.loading import load
from rag_vs_ft.progress import Progress
from rag_vs_ft.training.data import Order, Rows, Sample, Windows, count_targets, load_instructions
from rag_vs_ft.training.presets import Preset, TrainingArm
from rag_vs_ft.training.record import Plan, duration
from rag_vs_ft.training.tokenizers import CORPUS, GPT2, end_of_text, fingerprint, gpt2_tokenizer, load_tokenizer, train_tokenizer
from rag_vs_ft.training.tokens import open_tokens, write_tokens

FADING_EPOCHS, HOPELESS_EPOCHS = 4, 16
"""Repeating the data costs next to nothing up to 4 passes and returns fade until about 16 (Muennighoff et al., 2023,
https://arxiv.org/abs/2305.16264)."""
TOKENS_PER_PARAMETER = 20
"""What a model trained from scratch should see for its size (Hoffmann et al., 2022, https://arxiv.org/abs/2203.15556)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a Trainer needs, put together."""

    model: Any
    tokenizer: Any
    order: Order
    validation: Rows
    plan: Plan
    flops_per_token: float


def tokenizer_and_model(
    arm: TrainingArm, preset: Preset, folder: Path, corpus_name: str | None, where: settings.Home, device: str
) -> tuple[Any, Any]:
    """The tokenizer and the model in its starting state, with the parameters to train marked."""
    if arm == "scratch":
        assert corpus_name is not None
        tokenizer = _scratch_tokenizer(preset, folder, open_corpus(corpus_name, where), where)
        if len(tokenizer) > preset.vocab_size:
            raise UserError(
                f"the tokenizer has {len(tokenizer)} tokens, the model only vocab_size={preset.vocab_size}",
                f"use --set vocab_size={-(-len(tokenizer) // 128) * 128}",
            )
        rows = embedding_rows(preset, len(tokenizer))
        _require_memory(preset, scratch_parameters(preset, rows), rows, preset.layers * preset.width, device)
        return tokenizer, scratch_model(preset, end_of_text(tokenizer), rows)
    import torch

    lora, threads = preset.lora_rank > 0, torch.get_num_threads()
    if lora and device.startswith("cuda"):  # the frozen base as it will be loaded with the adapter, large ones in 16 bits
        base = load(preset.base, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}", threads=threads, home=where)
    else:  # weights that are trained are kept in 32 bits, or small updates would be lost
        base = load(preset.base, device="cpu", dtype="float32", threads=threads, home=where)
    if preset.window > base.window:
        raise UserError(
            f"window={preset.window} is longer than the {base.window} tokens that {preset.base} reads at once",
            f"use --set window={base.window} or less",
        )
    model = base.model
    config = model.config
    trained = 0 if lora else sum(parameter.numel() for parameter in model.parameters())
    _require_memory(preset, trained, config.vocab_size, config.num_hidden_layers * config.hidden_size, device)
    if lora:
        model = with_adapter(model, preset)
    else:
        model.requires_grad_(True)
    return base.tokenizer, model


def uses_bfloat16(preset: Preset, device: str) -> bool:
    """Whether to compute in bfloat16: as the preset says, else where the device gains by it. Weights stay in 32 bits."""
    return has_bfloat16(device) if preset.bf16 is None else preset.bf16


def _scratch_tokenizer(preset: Preset, folder: Path, corpus: Corpus, where: settings.Home) -> Any:
    if preset.tokenizer == GPT2:
        return gpt2_tokenizer()
    if preset.tokenizer != CORPUS:
        return load_tokenizer(preset.tokenizer, where)
    kept = folder / "tokenizer"
    if (kept / "tokenizer.json").is_file():
        return load_tokenizer(str(kept), where)
    held = set(split_documents(corpus.documents(), fraction=preset.validation_fraction, seed=preset.seed).validation)
    texts = (document.text for document in corpus.documents() if document.id not in held)
    tokenizer = train_tokenizer(texts, preset.vocab_size, preset.window)
    files.discard(kept)  # what is left of one that lost its tokenizer.json
    with files.publishing(kept) as temporary:
        tokenizer.save_pretrained(temporary)
        files.write_record(temporary / "manifest.json", {"files": files.listed(temporary)})
    # Read back: what `from_pretrained` notes in a tokenizer's configuration is then in every checkpoint, resumed or not.
    return load_tokenizer(str(kept), where)


def embedding_rows(preset: Preset, tokens: int) -> int:
    """Rows of a scratch model's embedding. A tokenizer trained on a small corpus stays below `vocab_size`: then the model has as
    many rows as tokens, rounded up to a multiple of 64, since rows that no text uses would only be trained to be unlikely."""
    return min(preset.vocab_size, -(-tokens // 64) * 64) if preset.tokenizer == CORPUS else preset.vocab_size


def scratch_parameters(preset: Preset, rows: int) -> int:
    """Parameters of a GPT-2 of the preset's size with `rows` tokens, the embedding being shared with the output."""
    width = preset.width
    return (rows + preset.window) * width + preset.layers * (12 * width * width + 13 * width) + 2 * width


def _require_memory(preset: Preset, trained: int, rows: int, layer_width: int, device: str) -> None:
    """Raise UserError when training certainly does not fit, before anything is allocated.

    A lower bound: weights, gradients and Adam's two moments of the `trained` parameters in 32 bits; the logits of one batch and
    their gradient (`rows` numbers a token); of each layer what backward needs (eight vectors of its width a token, or one with
    gradient checkpointing); and the rows of a step.
    """
    import torch

    tokens = preset.batch_size * preset.window
    kept = 1 if preset.gradient_checkpointing else 8
    needed = 16 * trained + 8 * tokens * rows + 4 * kept * tokens * layer_width + 16 * preset.rows_per_step * preset.window
    limit = torch.cuda.mem_get_info(device)[1] if device.startswith("cuda") else memory_limit()
    if limit is not None and needed > limit:
        raise UserError(
            f"this needs at least {needed / 1e9:,.0f} GB of memory, and {device} has {limit / 1e9:,.0f} GB: {trained:,} trained "
            f"parameters, batches of {preset.batch_size} rows of {preset.window:,} tokens",
            "use --set with a smaller width, layers, vocab_size, window or batch_size",
        )


def scratch_model(preset: Preset, end: int, rows: int | None = None) -> Any:
    """A GPT-2 of the preset's size with fresh weights, the same for the same seed (Radford et al., 2019).

    `end` is the token that ends a text; `rows` are those of the embedding (None: the preset's `vocab_size`).
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=rows or preset.vocab_size,
        n_positions=preset.window,
        n_layer=preset.layers,
        n_head=preset.heads,
        n_embd=preset.width,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own function in one kernel instead of eight
        resid_pdrop=preset.dropout,
        embd_pdrop=preset.dropout,
        attn_pdrop=0.0,  # dropout on attention weights rules out the fast attention kernels
        bos_token_id=end,  # the defaults, 50256, lie outside a smaller vocabulary
        eos_token_id=end,
    )
    torch.manual_seed(preset.seed)
    return GPT2LMHeadModel(config)


def with_adapter(model: Any, preset: Preset) -> Any:
    """`model` frozen, with a LoRA adapter on every linear layer but one that shares the embedding's weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    shared = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and id(module.weight) not in shared
    }
    torch.manual_seed(preset.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=preset.lora_rank,
        lora_alpha=preset.lora_alpha,
        lora_dropout=preset.lora_dropout,
        target_modules=sorted({name.rpartition(".")[2] for name in layers}),
        # GPT-2's Conv1D keeps its weights transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in layers.values()),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about names inside transformers that peft still uses
        adapted = get_peft_model(model, config)
    # peft writes the folder the weights were read from; the name is what finds them on another machine.
    adapted.peft_config["default"].base_model_name_or_path = preset.base
    return adapted


def make_rows(
    preset: Preset,
    folder: Path,
    tokenizer: Any,
    corpus_name: str | None,
    where: settings.Home,
    data: Path | None,
    *,
    write: bool,
    tell: Progress,
) -> tuple[tuple[Rows, Rows], list[str]]:
    """Training and validation rows, and what a reader should know of them."""
    if data is not None:
        found = load_instructions(data, tokenizer, preset.window, fraction=preset.validation_fraction, seed=preset.seed)
        notes = [f"{found.total} records, {len(found.validation)} of them held out"]
        for count, what in (
            (found.dropped, "left out: nothing to learn"),
            (found.contexts_cut, "lost the end of their input to fit the window"),
            (found.responses_cut, "lost the end of their output to fit the window, and do not teach to stop"),
        ):
            if count:
                notes.append(f"{count} records {what}")
        return (found.train, found.validation), notes
    assert corpus_name is not None
    corpus = open_corpus(corpus_name, where)
    place = folder / "tokens"
    if write and not (place / "header.json").is_file():
        tell("encode", detail=f"encoding {len(corpus):,} documents")
        split = split_documents(corpus.documents(), fraction=preset.validation_fraction, seed=preset.seed)
        write_tokens(place, corpus.documents(), tokenizer, split, corpus.sha256)
    tokens = open_tokens(place, fingerprint(tokenizer))
    split_facts = tokens.header["split"]
    notes = [
        f"{len(tokens.validation.document_ids)} of {len(corpus)} documents held out, near duplicates on one side "
        f"({split_facts['clusters']} groups); {split_facts['shared']:.1%} of their text also stands in training documents"
    ]
    return (Windows(tokens.train, preset.window), Windows(tokens.validation, preset.window)), notes


def put_together(
    arm: TrainingArm,
    preset: Preset,
    tokenizer: Any,
    model: Any,
    rows: tuple[Rows, Rows],
    notes: list[str],
    device: str,
    *,
    probe: bool,
) -> Prepared:
    """The run's rows in order and its plan; `probe` times a few passes for it. Raises UserError when memory does not suffice."""
    import torch

    from rag_vs_ft.training import engine

    training, validation = rows
    steps = preset.steps or max(1, math.ceil(preset.epochs * len(training) / preset.rows_per_step))
    order = Order(training, steps=steps, rows_per_step=preset.rows_per_step, seed=preset.seed)
    first = order.step(0)
    train_tokens, validation_tokens = (count_targets(side) for side in rows)
    if 0 < preset.eval_rows < len(validation):
        notes = [*notes, f"each evaluation scores {preset.eval_rows} of the {len(validation)} rows held out, the same ones"]
        validation = Sample(validation, preset.eval_rows)
    lengths = (
        [preset.window] if isinstance(training, Windows) else [len(training[number].inputs) for number in range(len(training))]
    )
    per_step = round(sum(lengths) / len(lengths) * preset.rows_per_step)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    flops_per_token = engine.flops_per_token(model, preset.window)
    seconds = None
    if probe:
        batch = first[: preset.batch_size]
        once = engine.guard(lambda: engine.probe(model, batch, bf16=uses_bfloat16(preset, device), device=device), preset, 1)
        passes = steps * preset.rows_per_step / preset.batch_size
        checks = math.ceil(steps / preset.eval_every) * len(validation) / preset.batch_size
        seconds = once * (passes + checks / 3)  # a forward pass is about a third of forward and backward
    epochs = steps * preset.rows_per_step / len(training)
    facts = Plan(
        arm=arm,
        device=f"{device}, {'bfloat16' if uses_bfloat16(preset, device) else 'float32'}, {torch.get_num_threads()} CPU threads",
        parameters=parameters,
        trainable_parameters=trained,
        rows=len(training),
        train_tokens=train_tokens,
        validation_tokens=validation_tokens,
        tokens_per_step=per_step,
        steps=steps,
        epochs=epochs,
        flops=flops_per_token * per_step * steps,
        seconds=seconds,
        notes=tuple(notes),
        warnings=tuple(_warnings(arm, parameters, train_tokens, per_step * steps, epochs, seconds)),
    )
    return Prepared(model, tokenizer, order, validation, facts, flops_per_token)


def _warnings(arm: TrainingArm, parameters: int, train_tokens: int, seen: int, epochs: float, seconds: float | None) -> list[str]:
    found = []
    if arm == "scratch" and seen < parameters * TOKENS_PER_PARAMETER / 10:
        found.append(
            f"{seen / parameters:.2f} tokens seen per parameter; a model from scratch wants about {TOKENS_PER_PARAMETER}: expect "
            "the manner of the text, not its facts; a smaller model or more text would serve better"
        )
    if epochs > HOPELESS_EPOCHS:
        found.append(f"{epochs:.1f} epochs: after about {HOPELESS_EPOCHS} more passes over the same text teach nothing")
    elif round(epochs, 1) > FADING_EPOCHS:
        found.append(f"{epochs:.1f} epochs: beyond {FADING_EPOCHS} each pass over the same text teaches less")
    if train_tokens < 10_000:
        found.append(f"{train_tokens:,} tokens are very few: the model will learn them by heart")
    if seconds is not None and seconds > 86_400:
        found.append(f"this would take {duration(seconds)} on this machine; use --set steps=N, LoRA, a smaller preset or a GPU")
    return found
