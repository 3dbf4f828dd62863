from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.held_out import side_documents
from rag_vs_ft.evaluation.perplexity import near_duplicates, passage_from, score, score_with_retrieval, windows
from rag_vs_ft.index import build
from rag_vs_ft.index.search import Index
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.records import Document

END = "<|endoftext|>"


def _document(text: str, key: str = "a.md") -> Document:
    return Document(id=key, title="A", text=text)


def _tokenizer(kind: str, *, bos: bool = False) -> Any:
    """`bytes`: a token for each byte; `letters`, `pairs`: for each one or two of a to h; `lower`: bytes, but loses capitals."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefgh"
    if kind in ("bytes", "lower"):
        vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), END]
        tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(vocabulary)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        if kind == "lower":
            tokenizer.normalizer = normalizers.Lowercase()
    else:
        vocabulary = [*(letters if kind == "letters" else [a + b for a in letters for b in letters]), END]
        tokenizer = Tokenizer(models.WordLevel({token: place for place, token in enumerate(vocabulary)}, unk_token=END))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("." if kind == "letters" else ".."), "isolated")
        tokenizer.decoder = decoders.Fuse()
    options = {"bos_token": "<s>"} if bos else {}
    if bos:
        tokenizer.add_special_tokens(["<s>"])
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", len(vocabulary))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, model_max_length=512, **options)


def _model(tokenizer: Any, model: Any, window: int, name: str = "tiny") -> LanguageModel:
    return LanguageModel(
        name, model.eval(), tokenizer, window, "cpu", "float32", 1, "0" * 64, None, False, (tokenizer.eos_token_id,)
    )


def _uniform(kind: str, window: int = 16) -> LanguageModel:
    """Every token but the end of text equally likely, whatever came before."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = _tokenizer(kind)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=window, n_embd=8, n_layer=1, n_head=2, bos_token_id=end, eos_token_id=end
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        # The last layer norm gives (1, 0, 0, ...), so a token's logit is the first number of its embedding.
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(torch.eye(8)[0])
        model.transformer.wte.weight.zero_()
        model.transformer.wte.weight[end, 0] = -1e4
    return _model(tokenizer, model, window)


def _random(architecture: str, window: int = 24) -> LanguageModel:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if architecture == "gpt2":
        tokenizer = _tokenizer("bytes")
        end = tokenizer.eos_token_id
        config = GPT2Config(
            vocab_size=len(tokenizer), n_positions=window, n_embd=16, n_layer=2, n_head=2, bos_token_id=end, eos_token_id=end,
            initializer_range=0.4,
        )  # fmt: skip
        return _model(tokenizer, GPT2LMHeadModel(config), window)
    tokenizer = _tokenizer("bytes", bos=True)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 7, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=window, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, initializer_range=0.4,
    )  # fmt: skip
    return _model(tokenizer, LlamaForCausalLM(config), window)


def _nats(lm: LanguageModel, before: Sequence[int], scored: Sequence[int]) -> float:
    """By torch's cross entropy, one text at a time: no batch, no padding."""
    import torch

    with torch.inference_mode():
        logits = lm.model(torch.tensor([[*before, *scored][:-1]])).logits[0, len(before) - 1 :]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(scored), reduction="sum"))


def _ids(lm: LanguageModel, text: str) -> list[int]:
    return list(lm.tokenizer(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize(
    ("tokens", "window", "stride", "expected"),
    [
        (10, 4, 2, [(0, 0, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)]),
        (7, 4, 3, [(0, 0, 3), (2, 3, 6), (3, 6, 7)]),
        (3, 8, 4, [(0, 0, 3)]),
        (8, 4, 4, [(0, 0, 4), (4, 4, 8)]),
        (0, 4, 2, []),
    ],
)
def test_windows_by_hand(tokens, window, stride, expected):
    assert list(windows(tokens, window, stride)) == expected


@given(st.integers(0, 200), st.integers(2, 40), st.integers(1, 40))
def test_windows_score_every_token_once_with_enough_before_it(tokens, window, stride):
    stride = min(stride, window)
    scored = []
    for begin, first, end in windows(tokens, window, stride):
        assert 0 <= begin <= first < end <= tokens and end - begin <= window
        assert begin == 0 or first - begin >= window - stride
        scored += range(first, end)
    assert scored == list(range(tokens))


@pytest.mark.parametrize("stride", [1, 5, 16])
def test_a_uniform_model_needs_eight_bits_for_a_byte(stride):
    documents = [_document("Grüße aus dem Süden, 你好! 🙂 and more words\n"), _document("x", "b.md")]
    told = []
    result = score(_uniform("bytes"), documents, stride=stride, progress=lambda *state: told.append(state[1:]))
    tokens = sum(one.tokens for one in result.documents)
    assert told == sorted(told) and told[-1] == (tokens, tokens)
    assert result.bits_per_byte == pytest.approx(8, rel=1e-9)
    assert result.token_perplexity == pytest.approx(256, rel=1e-9)
    assert [one.bytes for one in result.documents] == [len(one.text.encode()) for one in documents]
    assert [one.tokens for one in result.documents] == [len(one.text.encode()) for one in documents]
    words = 9 + 1
    assert result.word_perplexity == pytest.approx(math.exp(sum(len(d.text.encode()) for d in documents) * math.log(256) / words))


def test_two_tokenizers_give_the_same_bits_per_byte_and_other_token_perplexities():
    text = "abcdefghhgfedcbaabad" * 3
    letters, pairs = (score(_uniform(kind), [_document(text)]) for kind in ("letters", "pairs"))
    assert letters.bits_per_byte == pytest.approx(3, rel=1e-9)
    assert pairs.bits_per_byte == pytest.approx(3, rel=1e-9)
    assert letters.word_perplexity == pytest.approx(pairs.word_perplexity)
    assert letters.token_perplexity == pytest.approx(8)
    assert pairs.token_perplexity == pytest.approx(64)
    assert (letters.documents[0].tokens, pairs.documents[0].tokens) == (60, 30)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_scores_are_those_of_the_cross_entropy_window_by_window(architecture):
    lm = _random(architecture)
    texts = ["Short.", "One two three four five six seven eight nine ten eleven.", "A text of about thirty bytes..."]
    result = score(lm, [_document(text, f"{n}.md") for n, text in enumerate(texts)], stride=7, batch_size=3)
    start = lm.tokenizer.bos_token_id if architecture == "llama" else lm.tokenizer.eos_token_id
    for one, text in zip(result.documents, texts, strict=True):
        ids = _ids(lm, text)
        expected = sum(_nats(lm, [start, *ids[begin:first]], ids[first:end]) for begin, first, end in windows(len(ids), 24, 7))
        assert one.nats == pytest.approx(expected, rel=1e-5)
    alone = score(lm, [_document(texts[1], "1.md")], stride=7, batch_size=1)
    assert alone.documents[0].nats == pytest.approx(result.documents[1].nats, rel=1e-6)


def test_control_tokens_in_a_document_are_its_characters():
    result = score(_uniform("bytes"), [_document(f"a{END}b")])
    assert result.documents[0].tokens == result.documents[0].bytes == len(END) + 2
    assert result.bits_per_byte == pytest.approx(8)


def test_a_tokenizer_that_loses_bytes_is_refused():
    with pytest.raises(UserError, match=r"does not give back the text of a\.md: from character 4 on, 'Big' becomes 'big'"):
        score(_uniform("lower"), [_document("the Big")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 17}, "window is 17"),
        ({"window": 1}, "window is 1"),
        ({"stride": 0}, "stride is 0"),
        ({"window": 8, "stride": 9}, "stride is 9"),
    ],
)
def test_window_and_stride_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        score(_uniform("bytes"), [_document("text")], **options)


def test_no_text_and_no_number():
    import torch

    lm = _uniform("bytes")
    with pytest.raises(UserError, match="no text to score"):
        score(lm, [_document("")])
    with torch.no_grad():
        lm.model.transformer.wte.weight[0] = float("nan")
    with pytest.raises(UserError, match=r"gives no number for a\.md"):
        score(lm, [_document("text")])


# --- with retrieval ---------------------------------------------------------------------------------------------------

TEXT = "The surge setting of a pool is ten percent. It can be raised."


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("stride", [4, 16])
def test_without_a_passage_both_arms_are_one(architecture, stride):
    result = score_with_retrieval(
        _random(architecture, 40), [_document(TEXT)], lambda query, key: "", stride=stride, query_tokens=8, passage_tokens=8
    )
    assert result.retrieved.nats == pytest.approx(result.none.nats, rel=1e-6)
    assert result.strides == result.without_passage == math.ceil(len(TEXT) / stride)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_passage_stands_before_the_stride_and_takes_the_oldest_text_away(architecture):
    lm = _random(architecture, 32)
    asked = []

    def retrieve(query: str, key: str) -> str:
        asked.append((query, key))
        return "passage of pools"

    result = score_with_retrieval(lm, [_document(TEXT)], retrieve, stride=8, query_tokens=6, passage_tokens=7, batch_size=2)
    ids = _ids(lm, TEXT)
    start = lm.tokenizer.bos_token_id if architecture == "llama" else lm.tokenizer.eos_token_id
    passage = _ids(lm, "passage" + "\n\n")
    expected = _nats(lm, [start], ids[:8])
    for first in range(8, len(ids), 8):
        end = min(first + 8, len(ids))
        # 32 tokens go in: start, 9 of passage and blank line, 22 of text, the last of which is the one before the last scored.
        begin = max(0, end - 1 - 22)
        expected += _nats(lm, [start, *passage, *ids[begin:first]], ids[first:end])
    assert result.retrieved.nats == pytest.approx(expected, rel=1e-5)
    assert asked == [(TEXT[max(0, first - 6) : first], "a.md") for first in range(8, len(TEXT), 8)]
    assert (result.strides, result.without_passage) == (8, 1)
    none, retrieved = result.none.documents[0], result.retrieved.documents[0]
    assert replace(none, nats=0.0) == replace(retrieved, nats=0.0)
    assert none.nats != pytest.approx(retrieved.nats)
    assert result.to_json()["stride"] == 8


def test_a_document_is_cut_at_the_end_of_a_character():
    text = "ab" + "é" * 10
    result = score_with_retrieval(
        _uniform("bytes"), [_document(text)], lambda *_: "xy", stride=2, query_tokens=2, passage_tokens=4, max_tokens=5
    )
    for arm in (result.none, result.retrieved):
        assert (arm.documents[0].tokens, arm.documents[0].bytes) == (4, 4)
        assert arm.bits_per_byte == pytest.approx(8)


def test_a_window_without_room_is_refused():
    with pytest.raises(UserError, match="no room for a passage of 8"):
        score_with_retrieval(_uniform("bytes"), [_document(TEXT)], lambda *_: "", stride=4, query_tokens=4, passage_tokens=8)
    with pytest.raises(UserError, match="each must be 1 or more"):
        score_with_retrieval(_uniform("bytes"), [_document(TEXT)], lambda *_: "", stride=4, query_tokens=0)


# --- whose passages ---------------------------------------------------------------------------------------------------

POOLS = "The surge setting of a node pool says how many nodes are added at once while the pool is upgraded to a new version. "
OLD_POOLS = "In older clusters the default surge of a pool was one node; since then it is ten percent of the nodes of the pool. "
VAULT = "A deleted key vault is kept for ninety days, and its name cannot be given to another vault in that time, surge or not. "


@pytest.fixture
def pools(home, tmp_path, tiny_embedder):
    """The corpus and index "docs": a page, a copy of it with a longer end, a page that shares its words but not its text."""
    folder = tmp_path / "docs"
    folder.mkdir()
    texts = {"pools.md": POOLS + OLD_POOLS, "pools-v2.md": POOLS + OLD_POOLS + "Ask us for more.", "vault.md": VAULT}
    for name, text in texts.items():
        (folder / name).write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
    store.add("docs", str(folder), home=home)
    build.build("docs", "docs", build.Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    return store.open_corpus("docs", home), Index.open("docs", home)


def test_no_passage_comes_from_the_document_or_a_near_duplicate(pools):
    corpus, index = pools
    documents = list(corpus.documents())
    barred = near_duplicates(documents, index)
    assert barred == {
        "pools.md": {"pools.md", "pools-v2.md"},
        "pools-v2.md": {"pools.md", "pools-v2.md"},
        "vault.md": {"vault.md"},
    }
    assert index.search("surge of a pool", 1, retriever="bm25")[0].chunk.document_id.startswith("pools")
    retrieve = passage_from(index, documents)
    assert retrieve("surge of a pool", "pools.md") in VAULT
    assert retrieve("how many nodes are added at once", "vault.md") in POOLS
    assert retrieve("zebra", "vault.md") == ""
    # The same page in another version of the corpus: other id, same text.
    renamed = replace(documents[0], id="elsewhere.md")
    assert near_duplicates([renamed], index)["elsewhere.md"] == {"elsewhere.md", "pools.md", "pools-v2.md"}


def test_sides_are_those_of_training_and_spread(home, tmp_path):
    for number in range(60):
        text = f"Page {number} " + " ".join(f"w{number}x{word}" for word in range(60))
        (tmp_path / f"page-{number:02}.md").write_text(text, encoding="utf-8")
    store.add("pages", str(tmp_path), home=home)
    corpus = store.open_corpus("pages", home)
    held, trained = ({document.id for document in side_documents(corpus, side, 0)} for side in ("validation", "train"))
    assert len(held | trained) == 60 and not held & trained and 1 <= len(held) <= 6
    some = [document.id for document in side_documents(corpus, "train", 4)]
    assert len(set(some)) == 4 and some == sorted(some) and some[-1] > "page-40"
    with pytest.raises(UserError, match="no side 'dev'"):
        side_documents(corpus, "dev", 0)
    with pytest.raises(UserError, match="-1 is not a number"):
        side_documents(corpus, "train", -1)
