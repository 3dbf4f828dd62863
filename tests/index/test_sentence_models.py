"""Every architecture, pooling and module that sentence-transformers knows, in each precision, against its own vectors."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import embedders
import numpy as np
import pytest
from embedders import TEXTS

from rag_vs_ft import pulling, settings
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index import export
from rag_vs_ft.index.chunking import Chunker, chunk_document, embedded_text
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.sentence_model import SentenceModel
from rag_vs_ft.records import Document


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def reference(model: str, texts: list[str], prompt: str = "", dimension: int | None = None) -> np.ndarray:
    """What sentence-transformers gives, each text alone."""
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu", local_files_only=True, truncate_dim=dimension)
    if loaded[0].tokenizer is not None and "Static" not in type(loaded[0]).__name__:
        # RoBERTa's positions begin behind the padding token's number, which sentence-transformers does not take into account.
        loaded.max_seq_length = SentenceModel.read(model, Path(model)).window
    return loaded.encode(texts, prompt=prompt, batch_size=1, normalize_embeddings=True)


@pytest.mark.parametrize("architecture", embedders.ARCHITECTURES)
def test_every_architecture_gives_what_sentence_transformers_gives(tmp_path, architecture) -> None:
    model = embedders.save(tmp_path, architecture)
    expected = reference(model, TEXTS)
    # Different texts have different vectors, so that agreeing means something.
    assert (expected[[0, 1, 2, 3, 5]] @ expected[[0, 1, 2, 3, 5]].T - np.eye(5)).max() < 0.999
    exact = Embedder(model, precision="fp32")
    assert (exact.precision, exact.id.engine) == ("fp32", "onnxruntime")
    np.testing.assert_allclose(exact.encode(TEXTS), expected, atol=1e-4)
    rounded = Embedder(model, precision="int8")
    assert rounded.precision == "int8"
    assert (rounded.encode(TEXTS) * expected).sum(axis=1).min() > 0.95
    assert exact.dimension == embedders.HIDDEN


@pytest.mark.parametrize("pooling", ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "mean")])
def test_every_pooling_gives_what_sentence_transformers_gives(tmp_path, pooling) -> None:
    model = embedders.save(tmp_path, "bert", pooling=pooling)
    exact = Embedder(model, precision="fp32")
    expected = reference(model, TEXTS)
    assert exact.dimension == expected.shape[1] == embedders.HIDDEN * (2 if isinstance(pooling, tuple) else 1)
    np.testing.assert_allclose(exact.encode(TEXTS), expected, atol=1e-4)


@pytest.mark.parametrize("width", [32, 96])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_dimension_is_that_of_the_last_module(tmp_path, width, precision) -> None:
    model = embedders.save(tmp_path, "distilbert", dense=width)
    embedder = Embedder(model, precision=precision)
    vectors = embedder.encode(TEXTS)
    assert embedder.dimension == embedder.id.dimension == vectors.shape[1] == width
    assert (vectors * reference(model, TEXTS)).sum(axis=1).min() > 0.95
    # All weights are part of the identity, not those of the network alone.
    hashes = {embedder.id.sha256}
    for number, weights in enumerate(sorted(Path(model).rglob("*.safetensors"))):
        other = tmp_path / str(number)
        shutil.copytree(model, other)
        changed = (other / weights.relative_to(model)).read_bytes()
        (other / weights.relative_to(model)).write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
        hashes.add(Embedder(str(other), precision=precision).model.weights_sha256)
    assert len(hashes) == 3


@pytest.mark.parametrize("save", [embedders.save_static, embedders.save_model2vec])
def test_a_static_model_needs_no_network(tmp_path, save) -> None:
    model = save(tmp_path)
    embedder = Embedder(model)
    assert (embedder.precision, embedder.id.engine, embedder.dimension) == ("fp32", "static", 24)
    np.testing.assert_allclose(embedder.encode(TEXTS), reference(model, TEXTS), atol=1e-5)
    assert embedder.around == 0 and embedder.id.max_tokens == 8_192


PROMPTS = [
    ({"query": "ask: ", "passage": "text: "}, "passage", "ask: ", "text: "),
    ({"query": "ask: ", "document": "text: "}, None, "ask: ", "text: "),
    ({"all": "represent: "}, "all", "represent: ", "represent: "),
    ({"query": "ask: ", "all": "represent: "}, "all", "ask: ", "represent: "),
    ({"query": "ask: "}, None, "ask: ", ""),
    ({}, None, "", ""),
]


def prompted(tiny_embedder: str, folder: Path, prompts: dict[str, str], default: str | None) -> str:
    """A model with these prompts, written as versions of sentence-transformers do that leave empty ones out."""
    shutil.copytree(tiny_embedder, folder)
    record = {"prompts": prompts, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(record), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(("prompts", "default", "query", "passage"), PROMPTS)
def test_prompts_are_read_from_the_model(tmp_path, tiny_embedder, prompts, default, query, passage) -> None:
    embedder = Embedder(prompted(tiny_embedder, tmp_path / "model", prompts, default), precision="fp32")
    assert (embedder.model.query_prompt, embedder.model.passage_prompt) == (query, passage)
    assert embedder.around == 2 + len(embedder.offsets(passage))


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("multilingual-e5-small", "query: ", "passage: "),
        ("intfloat--e5-base-v2", "query: ", "passage: "),
        ("multilingual-e5-large-instruct", "Instruct: Given a web search query", ""),
        ("bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("my-base-e5", "", ""),
    ],
)
def test_prompts_of_families_whose_files_state_none(tmp_path, tiny_embedder, name, query, passage) -> None:
    model = Embedder(prompted(tiny_embedder, tmp_path / name, {}, None), precision="fp32").model
    assert model.query_prompt.startswith(query) and bool(model.query_prompt) == bool(query)
    assert model.passage_prompt == passage
    stated = Embedder(prompted(tiny_embedder, tmp_path / "other" / name, {"query": "ask: "}, None), precision="fp32").model
    assert (stated.query_prompt, stated.passage_prompt) == ("ask: ", ""), "what the files state counts"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_queries_and_passages_get_their_prompts_in_every_precision(tmp_path, tiny_embedder, precision) -> None:
    model = prompted(tiny_embedder, tmp_path / "model", *PROMPTS[0][:2])
    embedder = Embedder(model, precision=precision)
    passage, query = embedder.encode(["restore a disk"])[0], embedder.encode_query("restore a disk")
    as_passage, as_query = (reference(model, ["restore a disk"], prompt)[0] for prompt in ("text: ", "ask: "))
    least = 0.9999 if precision == "fp32" else 0.98
    assert passage @ as_passage > least and query @ as_query > least
    assert passage @ as_passage > passage @ as_query and query @ as_query > query @ as_passage


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_vector_can_be_cut_to_its_first_numbers(tmp_path, precision) -> None:
    model = embedders.save(tmp_path)
    embedder = Embedder(model, precision=precision, dimension=16)
    vectors = embedder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 16) and embedder.id.dimension == 16
    assert (vectors * reference(model, TEXTS, dimension=16)).sum(axis=1).min() > 0.95
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    again = Embedder.of(embedder.id)
    np.testing.assert_array_equal(again.encode_query("a disk"), embedder.encode_query("a disk"))
    for wrong in (0, 49):
        with pytest.raises(UserError, match=f"dimension {wrong} is out of range"):
            Embedder(model, dimension=wrong)


def test_the_window_comes_from_the_model(tmp_path) -> None:
    assert Embedder(embedders.save(tmp_path / "own", window=50)).model.window == 50
    assert Embedder(embedders.save(tmp_path / "positions")).model.window == embedders.POSITIONS
    # RoBERTa's positions begin behind the padding token's number, which is 1.
    roberta = embedders.save(tmp_path / "roberta", "roberta")
    assert Embedder(roberta).model.window == embedders.POSITIONS - 2
    vector = Embedder(roberta, precision="fp32").encode(["a disk " * 200])
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_window_of_thousands_is_read_to_its_end_and_the_chunker_follows_it(tmp_path, precision) -> None:
    model = embedders.save(tmp_path, "modernbert")
    for name, key in (("config.json", "max_position_embeddings"), ("sentence_bert_config.json", "max_seq_length")):
        path = Path(model) / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: 8_192}))
    embedder = Embedder(model, precision=precision)
    assert embedder.model.window == 8_192
    chunker = Chunker.of(2_000, embedder.model.window, embedder.around)
    text = " ".join(f"The limit of node {number} is {number * 7} days." for number in range(200))
    (chunk, *_) = chunk_document(Document("one.md", "Limits", text), chunker, embedder.offsets)
    assert 1_000 < chunk.tokens <= 2_000 + 64
    whole = embedded_text(chunk, chunker, embedder.offsets)
    vectors = embedder.encode([whole, whole[:200]])
    expected = reference(model, [whole, whole[:200]])
    assert (vectors * expected).sum(axis=1).min() > (0.9999 if precision == "fp32" else 0.95)
    assert expected[0] @ expected[1] < 0.9999, "what stands beyond the first tokens counts"


def test_a_model_that_cannot_be_exported_falls_back_with_a_line(tmp_path, monkeypatch, caplog) -> None:
    model = embedders.save(tmp_path)

    def fails(*args: object) -> Path:
        raise RuntimeError("Unsupported operator Attention\nand a long trace")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(export, "_rounded", fails)
        embedder = Embedder(model, precision="int8")
        assert (embedder.id.precision, embedder.id.engine) == ("fp32", "onnxruntime")
    assert "has no int8 export: Unsupported operator Attention; fp32 is used" in caplog.text
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        shutil.rmtree(settings.cache_folder())
        patch.setattr(export, "_trace", fails)
        embedder = Embedder(model, precision="int8")
        assert (embedder.id.precision, embedder.id.engine) == ("fp32", "torch")
    assert "sentence-transformers is used, which is slower" in caplog.text
    np.testing.assert_allclose(embedder.encode(TEXTS), reference(model, TEXTS), atol=1e-6)


def test_an_export_that_gives_other_vectors_is_not_used(tmp_path, monkeypatch, caplog) -> None:
    model = embedders.save(tmp_path)
    monkeypatch.setitem(export.LEAST_COSINE, "int8", 1.1)
    with caplog.at_level(logging.WARNING):
        assert Embedder(model, precision="int8").precision == "fp32"
    assert "its vectors would be others (cosine " in caplog.text


def test_a_pooling_that_leaves_the_prompt_out_is_left_to_sentence_transformers(tmp_path) -> None:
    model = embedders.save(tmp_path, prompts={"query": "ask: ", "document": "text: "})
    path = Path(model) / "1_Pooling" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"include_prompt": False}))
    embedder = Embedder(model, precision="fp32")
    assert embedder.id.engine == "torch"
    np.testing.assert_allclose(embedder.encode(TEXTS), reference(model, TEXTS, "text: "), atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_cache_that_cannot_be_written_costs_time_and_no_answer(tmp_path, monkeypatch, caplog, precision) -> None:
    model = embedders.save(tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "onnx").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        embedder = Embedder(model, precision=precision)
        assert embedder.precision == precision
        assert (embedder.encode(TEXTS) * reference(model, TEXTS)).sum(axis=1).min() > 0.95
    assert str(tmp_path / "cache" / "onnx") in caplog.text and "converted again at each start" in caplog.text


DAMAGE = {
    "modules.json": [
        b"",
        b"{",
        b"null",
        b"{}",
        b"[]",
        b"[1]",
        b'[{"idx": 0}]',
        b'[{"path": "..", "type": "a.Transformer"}]',
        b"\xff",
    ],
    "1_Pooling/config.json": [
        b"",
        b"[",
        b"null",
        b"{}",
        b'{"embedding_dimension": "48"}',
        b'{"embedding_dimension": 0}',
        b"\xff",
    ],
    "config_sentence_transformers.json": [b"{", b'{"prompts": [1]}', b'{"prompts": {"query": 1}}', b"[" * 100_000],
    "tokenizer.json": [b"{", b"{}", b"null"],
    "config.json": [b"{"],
    "sentence_bert_config.json": [b"["],
}


@pytest.mark.parametrize(("file", "content"), [(file, content) for file, contents in DAMAGE.items() for content in contents])
def test_a_damaged_file_of_a_model_is_named(tmp_path_factory, tiny_embedder, file, content) -> None:
    model = tmp_path_factory.mktemp("damaged") / "model"
    shutil.copytree(tiny_embedder, model)
    (model / file).write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged|cannot read") as caught:
        _ = Embedder(str(model), precision="fp32").id
    assert str(model / file) in caught.value.message and "copy the model's files" in caught.value.hint


@pytest.mark.parametrize("file", ["modules.json", "1_Pooling/config.json", "tokenizer.json", "model.safetensors"])
def test_one_changed_byte_of_a_pulled_model_is_noticed(tiny_embedder, file) -> None:
    place = pulling.pull("owner/tiny", source=Path(tiny_embedder))
    path = place / file
    content = path.read_bytes()
    at = content.index(b"e")
    path.write_bytes(content[:at] + b"3" + content[at + 1 :])
    with pytest.raises(CheckFailed, match="has changed since it was pulled") as caught:
        Embedder("owner/tiny", precision="fp32").encode(["a disk"])
    assert str(path) in caught.value.message
    assert caught.value.hint == f"remove {place}, then: rag-vs-ft models pull owner/tiny"
