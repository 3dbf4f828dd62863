"""Tokenizers and the token file: nothing lost, nothing invented, nothing mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from examples import at_least
from hypothesis import example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from rag_vs_ft import catalogue, settings
from rag_vs_ft.corpus.splits import Split
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.records import Document
from rag_vs_ft.training import tokenizers
from rag_vs_ft.training.tokens import open_tokens, write_tokens

TEXTS = [
    "The vault rotates the key after 30 days.",
    "Ein Schlüssel, 鍵, 🔑.",
    "<|endoftext|> is text here.\n\n\tkubectl get pods",
]
DOCUMENTS = [Document(id=f"{number}.md", title="", text=text) for number, text in enumerate(TEXTS)]
SPLIT = Split(train=("0.md", "2.md"), validation=("1.md",), clusters=3, largest_cluster=1, shared=0.0)
TOKENIZER = tokenizers.train_tokenizer(TEXTS * 3, 300, 64)


def gpt2() -> object:
    try:
        return tokenizers.load_tokenizer("gpt2", settings.home())
    except UserError:
        pytest.skip("GPT-2's tokenizer has not been pulled here")


def test_gpt2_tokenizer_gives_the_published_ids() -> None:
    tokenizer = gpt2()
    assert len(tokenizer) == 50_257 and tokenizers.end_of_text(tokenizer) == 50_256  # type: ignore[arg-type]
    assert tokenizers.encode_batch(tokenizer, ["Hello world"]) == [[15496, 995]]
    assert 50_256 not in tokenizers.encode_batch(tokenizer, ["a<|endoftext|>b"])[0]
    assert tokenizers.tokenize("Hello world", tokenizer) == [("Hello", 15496), (" world", 995)]


def test_trained_tokenizer_is_the_same_each_time_and_after_saving(tmp_path: Path) -> None:
    again = tokenizers.train_tokenizer(TEXTS * 3, 300, 64)
    assert tokenizers.fingerprint(again) == tokenizers.fingerprint(TOKENIZER)
    again.save_pretrained(tmp_path / "saved")
    loaded = tokenizers.load_tokenizer(str(tmp_path / "saved"), settings.home())
    assert tokenizers.fingerprint(loaded) == tokenizers.fingerprint(TOKENIZER)
    assert loaded.bos_token_id == loaded.eos_token_id == tokenizers.end_of_text(loaded) == 0
    other = tokenizers.train_tokenizer(TEXTS * 3, 290, 64)
    assert tokenizers.fingerprint(other) != tokenizers.fingerprint(TOKENIZER)


@effort(max_examples=at_least(60), deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
@example("The mark <|endoftext|> ends a document.")
def test_any_text_comes_back(text: str) -> None:
    (ids,) = tokenizers.encode_batch(TOKENIZER, [text])
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text
    assert 0 not in ids  # the control token is never made from text
    pieces = tokenizers.tokenize(text, TOKENIZER)
    assert [token for _, token in pieces] == ids
    if text.isascii():
        assert "".join(piece for piece, _ in pieces) == text


def test_pieces_of_a_character_are_shown_as_such() -> None:
    pieces = tokenizers.tokenize("a\u20ac", TOKENIZER)
    assert len(pieces) == 4 and pieces[0] == ("a", TOKENIZER("a").input_ids[0])
    assert all("�" not in piece for piece, _ in pieces)


def test_vocabulary_too_small_and_unknown_names() -> None:
    with pytest.raises(UserError, match="vocab_size is 100"):
        tokenizers.train_tokenizer(TEXTS, 100, 64)
    with pytest.raises(UserError, match="no model 'gpt9'"):
        tokenizers.load_tokenizer("gpt9", settings.home())


def test_token_file_holds_every_document_once(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    write_tokens(folder, DOCUMENTS, TOKENIZER, SPLIT, "c" * 64)
    tokens = open_tokens(folder, tokenizers.fingerprint(TOKENIZER))
    first, third = tokenizers.encode_batch(TOKENIZER, [TEXTS[0], TEXTS[2]])
    assert tokens.train.tokens.tolist() == [0, *first, 0, *third, 0]
    assert tokens.train.offsets.tolist() == [1, len(first) + 2]
    assert tokens.train.tokens.dtype == np.dtype("<u2")
    assert tokens.train.text_bytes == len(TEXTS[0].encode()) + len(TEXTS[2].encode())
    assert tokens.validation.document_ids == ("1.md",) and tokens.validation.text_bytes == len(TEXTS[1].encode())
    assert tokens.train.documents_in(0, 3) == ["0.md"]
    assert tokens.train.documents_in(1, len(first) + 4) == ["0.md", "2.md"]
    assert tokens.train.documents_in(len(first) + 2, len(first) + 3) == ["2.md"]
    assert tokens.header["corpus_sha256"] == "c" * 64 and tokens.header["vocab_size"] == len(TOKENIZER)
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_other_tokenizer_is_refused(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens", DOCUMENTS, TOKENIZER, SPLIT, "")
    other = tokenizers.train_tokenizer(TEXTS * 3, 290, 64)
    with pytest.raises(UserError, match="written with another tokenizer"):
        open_tokens(tmp_path / "tokens", tokenizers.fingerprint(other))


@pytest.mark.parametrize("damage", ["cut", "gone", "header", "format"])
def test_damaged_token_file_is_refused(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "tokens"
    write_tokens(folder, DOCUMENTS, TOKENIZER, SPLIT, "")
    path, header = folder / "train.bin", folder / "header.json"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "gone":
        path.unlink()
    elif damage == "header":
        header.write_text("{", encoding="utf-8")
    else:
        header.write_text(json.dumps(json.loads(header.read_text(encoding="utf-8")) | {"format": 99}), encoding="utf-8")
    with pytest.raises(CheckFailed):
        open_tokens(folder, tokenizers.fingerprint(TOKENIZER))


def test_llama_style_tokenizer_begins_documents(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizers.train_tokenizer(TEXTS * 3, 300, 64)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    assert tokenizers.start_tokens(tokenizer) == [bos] and tokenizers.start_tokens(TOKENIZER) == []
    write_tokens(tmp_path / "tokens", DOCUMENTS, tokenizer, SPLIT, "")
    ids = open_tokens(tmp_path / "tokens", tokenizers.fingerprint(tokenizer)).train.tokens.tolist()
    assert ids[:2] == [0, bos] and ids.count(bos) == 2 and ids.count(0) == 3


def test_run_tokenizer_is_found_before_the_catalogues(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path / "runs/mine/best")
    loaded = tokenizers.load_tokenizer("mine", settings.home(tmp_path))
    assert tokenizers.fingerprint(loaded) == tokenizers.fingerprint(TOKENIZER)
    assert "mine" not in catalogue.CATALOGUE
