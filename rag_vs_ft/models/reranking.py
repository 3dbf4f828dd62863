"""Passages put in order again by a model that reads the question and the passage together.

Two kinds, both slow beside the search (it reads one passage after the other), so both see its first hits only:

- a cross-encoder: any sentence-transformers CrossEncoder with one output, by hub id or folder;
- `lm`: a language model's own likelihood of the question given the passage (query likelihood: Sachan et al., "Improving Passage
  Retrieval with Zero-Shot Question Generation", 2022). It needs no weights beyond the model that answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rag_vs_ft import catalogue, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import loading
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations
from rag_vs_ft.models.prompting import continue_text
from rag_vs_ft.records import Chunk, Reranker
from rag_vs_ft.settings import Home

_ASKS_FOR_QUESTION = "Please write a question based on this passage.\nQuestion:"
_BATCH = 16


def load(name: str, home: Home, lm: LanguageModel | None = None) -> Reranker:
    """The reranker that `name` means: "lm" (the model `lm` if given, else the default one), "lm:MODEL", or a cross-encoder.

    MODEL is any name that `loading.load` takes. Raises UserError when the model is not there or is of another kind.
    """
    kind, _, model = name.partition(":")
    if kind == "lm":
        return by_likelihood(lm if lm and not model else loading.load(model or settings.LANGUAGE_MODEL, home))
    return by_cross_encoder(name)


def by_likelihood(lm: LanguageModel) -> Reranker:
    """Scores are the mean log-probability of the question's tokens after the passage: 0 at most."""

    def score(question: str, chunks: Sequence[Chunk]) -> list[float]:
        return [_likelihood(lm, question, chunk) for chunk in chunks]

    return _remembering(score)


def _likelihood(lm: LanguageModel, question: str, chunk: Chunk) -> float:
    prompt = continue_text(lm, f"Passage: {_shown(chunk)}\n{_ASKS_FOR_QUESTION}")
    prefix, (ids,) = split_continuations(lm, prompt, [f" {question}"])
    room = lm.window - len(ids)
    if len(prefix) > room:  # a small window: the start of the passage goes, and what asks for the question stays
        prefix = prefix[len(prefix) - room :] if room > 0 else ()
    (found,) = continuation_logprobs(lm, prefix, [ids])
    return found.logprob / found.tokens


def by_cross_encoder(name: str) -> Reranker:
    """Scores are the model's own, of question and passage with its title and headings; what does not fit its window is cut."""
    folder = _cross_encoder_folder(name)
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(settings.threads())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with settings.MODEL_LOADING:
        try:
            model = CrossEncoder(str(folder), device=device, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise UserError(f"cannot load the cross-encoder {name}: {error}", "fetch or save it again") from error

    def score(question: str, chunks: Sequence[Chunk]) -> list[float]:
        pairs = [(question, _shown(chunk)) for chunk in chunks]
        return [float(value) for value in model.predict(pairs, batch_size=_BATCH, show_progress_bar=False)]

    return _remembering(score)


def _shown(chunk: Chunk) -> str:
    return f"{chunk.breadcrumb}\n{chunk.text}"


def _remembering(score: Reranker) -> Reranker:
    """With the scores of the last question kept: an evaluation that asks again, deeper, pays for the new passages only."""
    last: dict[str, dict[str, float]] = {}

    def remembered(question: str, chunks: Sequence[Chunk]) -> list[float]:
        known = last.get(question, {})
        new = [chunk for chunk in chunks if chunk.id not in known]
        known = known | dict(zip((chunk.id for chunk in new), score(question, new) if new else (), strict=True))
        last.clear()
        last[question] = known
        return [known[chunk.id] for chunk in chunks]

    return remembered


def _cross_encoder_folder(name: str) -> Path:
    """The folder of a cross-encoder, or UserError saying what to do instead."""
    try:
        folder = catalogue.locate(name)
    except UserError as error:
        fetch = f"rag-vs-ft models pull {name} (needs the hub)" if "/" in name else "name a hub id that was pulled"
        raise UserError(
            f"no cross-encoder to rerank with: {error.message}",
            f"{fetch}, or a folder; --rerank lm needs no weights of its own",
        ) from error
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name} is no cross-encoder: {folder / 'config.json'}: {error}", "fetch or save it again") from error
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        language = any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds)
        raise UserError(
            f"{name} is no cross-encoder: its config.json says {', '.join(kinds) or 'nothing of a model'}",
            f"use --rerank lm:{name}"
            if language
            else "name a model that scores pairs, such as cross-encoder/ms-marco-MiniLM-L6-v2",
        )
    labels = _labels(config)
    if labels != 1:
        raise UserError(f"{name} gives {labels} scores for a pair", "a reranker gives one; take another cross-encoder")
    if not (folder / "model.safetensors").is_file():
        raise UserError(f"{folder} has no model.safetensors", "pickled weights can run code and are not read: convert them")
    return folder


def _labels(config: dict[str, Any]) -> int:
    named = config.get("id2label")
    return len(named) if isinstance(named, dict) else int(config.get("num_labels") or 2)
