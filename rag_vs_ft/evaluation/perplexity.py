"""How well a language model predicts documents: bits per byte, and perplexity per token and per word.

Bits per byte divide by what every model is given alike, the bytes of the text, so models with different tokenizers can be
compared (the reason why nanochat reports them); perplexities per token cannot. A long document is read in overlapping windows
(the strided evaluation of the Hugging Face documentation; the rolling windows of lm-evaluation-harness), and every token is
scored exactly once.

Convention: before each window stands the token that begins a text, which is the tokenizer's beginning-of-sequence token where
it puts one before every text, else its end-of-text token. That token is never scored, nor is an end of text after the document:
the scored tokens are those of the text, and their bytes are its bytes, which is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_vs_ft.corpus.splits import NEAR_DUPLICATE, shingle_hashes
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Document
from rag_vs_ft.settings import MAX_HITS
from rag_vs_ft.training.tokenizers import encode_batch, end_of_text, start_tokens

if TYPE_CHECKING:
    from rag_vs_ft.index.search import Index

WINDOW = 1_024
"""Tokens read at once unless asked otherwise, by models that can: GPT-2's window, which the published figures are for."""
STRIDES = (4, 16, 64)
QUERY_TOKENS = 32
"""Tokens before a stride that are the query; best for BM25 (Ram et al., 2023, section 5)."""
PASSAGE_TOKENS = 256
_ROWS_AT_ONCE = 128
"""Positions whose logits are turned into double precision at once."""

FindPassage = Callable[[str, str], str]
"""(query text, id of the document that must not be found) -> text of a passage; empty for none."""


@dataclass(frozen=True, slots=True)
class DocumentScore:
    """One document: its negative log-likelihood in nats, and how many tokens, bytes (UTF-8) and words (by white space) it has."""

    id: str
    nats: float
    tokens: int
    bytes: int
    words: int


@dataclass(frozen=True, slots=True)
class TextScore:
    """The scores of documents, and how they were read: `window` and `stride` in tokens. Sums are over all documents."""

    documents: tuple[DocumentScore, ...]
    window: int
    stride: int

    @property
    def nats(self) -> float:
        """Negative log-likelihood of all texts, in nats."""
        return math.fsum(document.nats for document in self.documents)

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model needs for a byte of text; 8 is a uniform guess."""
        return self.nats / math.log(2) / sum(document.bytes for document in self.documents)

    @property
    def token_perplexity(self) -> float:
        """exp(nats per token); comparable only between models with the same tokenizer."""
        return _exp(self.nats / sum(document.tokens for document in self.documents))

    @property
    def word_perplexity(self) -> float:
        """exp(nats per word), words being what white space separates; infinite where a float has no room for it."""
        return _exp(self.nats / max(1, sum(document.words for document in self.documents)))

    def to_json(self) -> dict[str, Any]:
        """The figures without the single documents."""
        totals = {key: sum(getattr(document, key) for document in self.documents) for key in ("tokens", "bytes", "words")}
        return {
            "documents": len(self.documents),
            **totals,
            "bits_per_byte": self.bits_per_byte,
            "token_perplexity": self.token_perplexity,
            "word_perplexity": self.word_perplexity,
            "window": self.window,
            "stride": self.stride,
        }


@dataclass(frozen=True, slots=True)
class RetrievalScore:
    """The same tokens without and with a retrieved passage before each stride.

    `strides` counts the strides of all documents, `without_passage` those that had none (the first of a document, which has no
    words to search with, and those for which nothing was found). Token counts are as in `score_with_retrieval`.
    """

    none: TextScore
    retrieved: TextScore
    query_tokens: int
    passage_tokens: int
    strides: int
    without_passage: int

    def to_json(self) -> dict[str, Any]:
        """Both arms and their difference (negative: retrieval helps)."""
        return {
            "stride": self.none.stride,
            "none": self.none.to_json(),
            "retrieved": self.retrieved.to_json(),
            "bits_per_byte_difference": self.retrieved.bits_per_byte - self.none.bits_per_byte,
            "query_tokens": self.query_tokens,
            "passage_tokens": self.passage_tokens,
            "strides": self.strides,
            "without_passage": self.without_passage,
        }


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def windows(tokens: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, first, end): the model reads tokens begin to end, and first to end (exclusive) are scored.

    `first` and `end` are multiples of `stride`, but for the last end. The first window scores every whole stride that it reads,
    each later one `stride` more tokens, with at least `window - stride` tokens before them. Since a start token precedes
    each window, `end - begin` tokens go in to score as many.
    """
    end = 0
    while end < tokens:
        first, end = end, min(tokens, end + (stride if end else window - window % stride))
        yield max(0, end - window), first, end


def score(
    lm: LanguageModel,
    documents: Iterable[Document],
    *,
    stride: int | None = None,
    window: int | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
) -> TextScore:
    """Score whole documents with windows of `window` tokens (default: all that the model reads), half of it as `stride`.

    Documents without text are left out. `progress` is told how many tokens are scored. Raises UserError for a window or stride
    out of range, a tokenizer that does not give back a document's bytes, and a model whose log-probabilities are not finite.
    """
    size, step = _sizes(lm, window, stride)
    texts = list(_texts(lm, documents, None))
    pieces = [
        _Piece(number, (), ids[begin:first], ids[first:end])
        for number, (_, _, ids) in enumerate(texts)
        for begin, first, end in windows(len(ids), size, step)
    ]
    return _score(lm, texts, pieces, size, step, batch_size, progress, f"{lm.name}: tokens scored")


def score_with_retrieval(
    lm: LanguageModel,
    documents: Iterable[Document],
    retrieve: FindPassage,
    *,
    stride: int,
    window: int | None = None,
    query_tokens: int = QUERY_TOKENS,
    passage_tokens: int = PASSAGE_TOKENS,
    max_tokens: int | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
) -> RetrievalScore:
    """Perplexity with and without retrieved passages in context (Ram et al., 2023, https://arxiv.org/abs/2302.00083).

    Before every `stride` tokens of a document, its last `query_tokens` tokens are the query; the first `passage_tokens` tokens of
    the passage and a blank line are put before the text. Both arms read at most `window` tokens at once and score the same
    tokens; so where the window is full, the passage takes the place of the oldest of the text before, and the retrieved arm sees
    that much less of it. A document is scored up to its first `max_tokens` tokens. The passage never comes from the document
    itself: its id is given to `retrieve`. Raises UserError as `score` does.
    """
    size, _ = _sizes(lm, window, stride)
    if min(query_tokens, passage_tokens) < 1 or (max_tokens is not None and max_tokens < 1):
        raise UserError(
            f"query_tokens, passage_tokens, max_tokens are {query_tokens}, {passage_tokens}, {max_tokens}",
            "each must be 1 or more",
        )
    blank = encode_batch(lm.tokenizer, ["\n\n"])[0]
    if passage_tokens + len(blank) + query_tokens + stride > size:
        raise UserError(
            f"a window of {size} tokens has no room for a passage of {passage_tokens}, a query of {query_tokens} and a stride of "
            f"{stride}",
            "use a larger window, or shorter passages",
        )
    texts = list(_texts(lm, documents, max_tokens))
    pieces: list[_Piece] = []
    without = 0
    for number, (document, _, ids) in enumerate(texts):
        for first in range(0, len(ids), stride):
            end = min(len(ids), first + stride)
            query = _decode(lm, ids[max(0, first - query_tokens) : first]).strip("\ufffd")
            passage = retrieve(query, document.id) if query.strip() else ""
            before = [*encode_batch(lm.tokenizer, [passage])[0][:passage_tokens], *blank] if passage.strip() else []
            without += not before
            begin = max(0, end - size + len(before))
            pieces.append(_Piece(number, tuple(before), ids[begin:first], ids[first:end]))
    plain = [
        _Piece(number, (), ids[begin:first], ids[first:end])
        for number, (_, _, ids) in enumerate(texts)
        for begin, first, end in windows(len(ids), size, stride)
    ]
    return RetrievalScore(
        none=_score(lm, texts, plain, size, stride, batch_size, progress, f"stride {stride}, no passage: tokens scored"),
        retrieved=_score(lm, texts, pieces, size, stride, batch_size, progress, f"stride {stride}, a passage: tokens scored"),
        query_tokens=query_tokens,
        passage_tokens=passage_tokens,
        strides=len(pieces),
        without_passage=without,
    )


# --- passages ---------------------------------------------------------------------------------------------------------


def near_duplicates(documents: Iterable[Document], index: Index) -> dict[str, frozenset[str]]:
    """For each document, the ids of the indexed documents that are near duplicates of it (see `corpus.splits`), and its own."""
    import numpy as np

    texts: dict[str, list[str]] = {}
    columns = (index.table.column(name) for name in ("document_id", "start", "text"))
    for key, _, text in sorted(zip(*columns, strict=True)):
        texts.setdefault(key, []).append(text)
    sketches = {key: shingle_hashes("\n".join(parts)) for key, parts in texts.items()}
    found = {}
    for document in documents:
        own = shingle_hashes(document.text)
        common = {key: np.isin(other, own, assume_unique=True).sum() for key, other in sketches.items() if len(other)}
        near = (key for key, count in common.items() if count >= NEAR_DUPLICATE * max(1, min(len(own), len(sketches[key]))))
        found[document.id] = frozenset({document.id, *near})
    return found


def passage_from(index: Index, documents: Iterable[Document], retriever: str = "bm25") -> FindPassage:
    """The best passage of an index that comes neither from the scored document nor from a near duplicate of it.

    BM25 by default: what Ram et al. (2023) found best without training.
    """
    barred = near_duplicates(documents, index)

    def retrieve(query: str, key: str) -> str:
        for k in (10, 100, MAX_HITS):  # most often one of the first few will do
            hits = index.search(query, k, retriever=retriever)
            allowed = next((hit.chunk.text for hit in hits if hit.chunk.document_id not in barred[key]), "")
            if allowed or len(hits) < k:
                return allowed
        return ""

    return retrieve


# --- texts ------------------------------------------------------------------------------------------------------------

_Text = tuple[Document, str, list[int]]
"""A document, the part of its text that is scored, and that part's token ids."""


def _sizes(lm: LanguageModel, window: int | None, stride: int | None) -> tuple[int, int]:
    size = lm.window if window is None else window
    if not 2 <= size <= lm.window:
        raise UserError(f"the window is {size} tokens; {lm.name} reads {lm.window}", f"use 2 to {lm.window}")
    step = size // 2 if stride is None else stride
    if not 1 <= step <= size:
        raise UserError(f"the stride is {step} tokens", f"use 1 to {size}, the window")
    return size, step


def _texts(lm: LanguageModel, documents: Iterable[Document], max_tokens: int | None) -> Iterator[_Text]:
    """Encode documents, cut to `max_tokens` at the end of a character, and check that the ids spell the text byte for byte."""
    found = False
    for document in documents:
        text, ids = document.text, encode_batch(lm.tokenizer, [document.text])[0]
        if not ids:
            continue
        found = True
        spelt = _decode(lm, ids)
        if spelt != text:
            at = next((at for at, (a, b) in enumerate(zip(spelt, text, strict=False)) if a != b), min(len(spelt), len(text)))
            raise UserError(
                f"the tokenizer of {lm.name} does not give back the text of {document.id}: from character {at} on, "
                f"{text[at : at + 20]!r} becomes {spelt[at : at + 20]!r} ({len(spelt.encode())} bytes for {len(text.encode())})",
                "bits per byte need a tokenizer that loses nothing; leave this document out, or normalise it",
            )
        if max_tokens is not None and len(ids) > max_tokens:
            ids = ids[:max_tokens]
            while not text.startswith(spelt := _decode(lm, ids)):  # a cut inside a character
                ids = ids[:-1]
            text = spelt
            if not ids:
                raise UserError(f"the first character of {document.id} has over {max_tokens} tokens", "allow more tokens")
        yield document, text, ids
    if not found:
        raise UserError("there is no text to score", "name a corpus, or a split, with documents")


def _decode(lm: LanguageModel, ids: Sequence[int]) -> str:
    return str(lm.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


# --- the model --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """What goes through the model at once for text `number`: a passage or nothing, text that is only read, and what is scored."""

    number: int
    passage: tuple[int, ...]
    context: Sequence[int]
    scored: Sequence[int]

    def __len__(self) -> int:
        return len(self.passage) + len(self.context) + len(self.scored)


def _score(
    lm: LanguageModel,
    texts: Sequence[_Text],
    pieces: Sequence[_Piece],
    window: int,
    stride: int,
    batch_size: int,
    progress: Progress,
    stage: str,
) -> TextScore:
    """Run all pieces in batches of like length and add up by document."""
    import torch

    start = (start_tokens(lm.tokenizer) or [end_of_text(lm.tokenizer)])[-1]
    nats: list[list[float]] = [[] for _ in texts]
    tokens, total = [0] * len(texts), sum(len(ids) for _, _, ids in texts)
    order = sorted(range(len(pieces)), key=lambda at: (len(pieces[at]), len(pieces[at].scored)))
    try:
        for at in range(0, len(order), batch_size):
            batch = [pieces[index] for index in order[at : at + batch_size]]
            for piece, value in zip(batch, _batch_nats(lm, batch, start), strict=True):
                if not math.isfinite(value):
                    raise UserError(
                        f"{lm.name} gives no number for {texts[piece.number][0].id}",
                        "its weights are damaged, or overflow in half precision: check where the model comes from",
                    )
                nats[piece.number].append(value)
                tokens[piece.number] += len(piece.scored)
            progress(stage, sum(tokens), total)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{batch_size} windows of {window} tokens do not fit into the memory of {lm.device}",
            "use a smaller --window",
        ) from error
    assert tokens == [len(ids) for _, _, ids in texts], "a token was scored twice, or not at all"
    return TextScore(
        documents=tuple(
            DocumentScore(document.id, math.fsum(values), len(ids), len(text.encode()), len(text.split()))
            for (document, text, ids), values in zip(texts, nats, strict=True)
        ),
        window=window,
        stride=stride,
    )


def _batch_nats(lm: LanguageModel, batch: Sequence[_Piece], start: int) -> list[float]:
    """Negative log-likelihood in nats of the scored tokens of each piece.

    The inputs have the shape [pieces, longest], filled up on the right, where causal attention does not look back from, so no
    mask is needed; logits are computed for the positions from the first scored one on.
    """
    import torch

    longest = max(len(piece) for piece in batch)
    rows = [[start, *piece.passage, *piece.context, *piece.scored[:-1]] for piece in batch]
    inputs = torch.tensor([row + [start] * (longest - len(row)) for row in rows], device=lm.device)
    skipped = min(len(piece) - len(piece.scored) for piece in batch)
    double = torch.float32 if inputs.device.type == "mps" else torch.float64
    sums = []
    with torch.inference_mode():
        logits = lm.model(inputs, logits_to_keep=longest - skipped, use_cache=False).logits
        for piece, row in zip(batch, logits, strict=True):
            first = len(piece) - len(piece.scored) - skipped
            total = 0.0
            for at in range(0, len(piece.scored), _ROWS_AT_ONCE):
                targets = torch.tensor(piece.scored[at : at + _ROWS_AT_ONCE], device=lm.device)[:, None]
                some = row[first + at : first + at + len(targets)].to(double)
                total += float((some.logsumexp(-1) - some.gather(-1, targets)[:, 0]).sum())
            sums.append(total)
    return sums
