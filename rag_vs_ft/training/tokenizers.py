"""The tokenizer of a model that is trained from scratch: GPT-2's own, or a byte-level BPE trained on the corpus.

Byte-level BPE (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909; Radford et al., 2019) has no unknown token: any text can
be encoded and comes back byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.catalogue import PULLED, here, locate
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.naming import folder_of, meaning_of
from rag_vs_ft.settings import Home

END_OF_TEXT = "<|endoftext|>"
GPT2 = "gpt2"
"""As a preset's tokenizer: GPT-2's own."""
_GPT2_FILES = "gpt2-tokenizer"
CORPUS = "corpus"
"""As a preset's tokenizer: train one on the documents."""
_SMALLEST = 257
"""256 bytes and the end-of-text token."""


def load_tokenizer(name: str, home: Home) -> Any:
    """The tokenizer of `name`, which means what it means for a model: a run, a folder, or a model that was pulled.

    Raises UserError when the name means nothing or more than one thing, and when the tokenizer is not there or cannot be read.
    """
    from transformers import AutoTokenizer

    meaning = meaning_of(name, home)
    if meaning.kind == "pulled" and meaning.spelling in (f"{PULLED}{GPT2}", f"{PULLED}{_GPT2_FILES}"):
        return gpt2_tokenizer()
    root = folder_of(meaning) if meaning.kind == "file" else here(meaning)
    place = next((root / part for part in ("", "best", "last") if (root / part / "tokenizer.json").is_file()), root)
    try:
        return AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # parsers of several formats, each with its own exceptions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the tokenizer in {place} cannot be read: {reason}", "it needs a tokenizer.json") from error


def gpt2_tokenizer() -> Any:
    """GPT-2's tokenizer, which the catalogue keeps apart from GPT-2's weights."""
    from transformers import GPT2TokenizerFast

    # OpenAI's two files say nothing of special tokens; the class knows them.
    return GPT2TokenizerFast.from_pretrained(locate(_GPT2_FILES))


def train_tokenizer(texts: Iterable[str], vocab_size: int, window: int) -> Any:
    """A byte-level BPE of at most `vocab_size` tokens, end-of-text included, learned from `texts`; the same for the same texts.

    `window` is what the tokenizer states as the longest text of its model. Raises UserError when `vocab_size` has no room for
    the 256 bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size < _SMALLEST:
        raise UserError(f"vocab_size is {vocab_size}", f"the bytes alone and the end of text take {_SMALLEST}; 8192 is usual")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=window,
        clean_up_tokenization_spaces=False,
    )


def end_of_text(tokenizer: Any) -> int:
    """The token that stands between documents: "<|endoftext|>" where the vocabulary has it, else the end-of-sequence token."""
    found = tokenizer.get_vocab().get(END_OF_TEXT, tokenizer.eos_token_id)
    if found is None:
        raise UserError("this tokenizer has no end-of-text token", f"add {END_OF_TEXT} or set eos_token in its configuration")
    return int(found)


def start_tokens(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text: Llama's beginning-of-sequence token, nothing for GPT-2."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and list(tokenizer("a").input_ids)[:1] == [bos] else []


def encode_batch(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, nothing added; control tokens that are written in a text are the characters they are."""
    return list(tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)


def fingerprint(tokenizer: Any) -> str:
    """Hex SHA-256 of what decides about ids: vocabulary, merges, added tokens and the splitting of text before them."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: state.get(key) for key in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
    kept["end"] = [end_of_text(tokenizer), start_tokens(tokenizer)]
    return files.sha256_text(json.dumps(kept, sort_keys=True, ensure_ascii=False))


def tokenize(text: str, tokenizer: Any) -> list[tuple[str, int]]:
    """Each token of `text` as (the piece of text it encodes, its id).

    A token that holds only some bytes of a character is shown as the vocabulary spells it.
    """
    if not text:
        return []
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"character {error.start + 1} of the text is half of a character", "write the text as UTF-8") from error
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
    spans = [tuple(span) for span in encoded.offset_mapping]
    pieces: list[tuple[str, int]] = []
    for row, (token, (start, end)) in enumerate(zip(encoded.input_ids, spans, strict=True)):
        overlaps = (row > 0 and spans[row - 1][1] > start) or (row + 1 < len(spans) and spans[row + 1][0] < end)
        pieces.append((str(tokenizer.convert_ids_to_tokens(token)) if overlaps else text[start:end], int(token)))
    return pieces
