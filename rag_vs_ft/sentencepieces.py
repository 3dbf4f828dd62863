"""A SentencePiece vocabulary that splits text as SentencePiece does."""

from __future__ import annotations

import json
from typing import Any


def as_sentencepiece(tokenizer: Any) -> Any:
    """A tokenizer that transformers made of a SentencePiece model, with a space put before every text.

    SentencePiece does so whatever the text begins with; transformers leaves it out where there is a space already (39 of 508
    texts then had other ids than the sentencepiece library gives). Its own class would undo this when the tokenizer is saved and
    read again, so another takes its place. Tokenizers of other kinds are given back as they are.
    """
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    splits = state.get("pre_tokenizer") or {}
    if state["model"]["type"] != "BPE" or splits.get("type") != "Metaspace" or splits.get("prepend_scheme") != "first":
        return tokenizer
    mark = splits["replacement"]
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
    backend.pre_tokenizer = None
    special = {key: value for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        chat_template=tokenizer.chat_template,
        **special,
    )
