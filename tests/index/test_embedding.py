from __future__ import annotations

import logging

import numpy as np
import pytest

from rag_vs_ft import conversions, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import embedding, processor
from rag_vs_ft.index.embedding import Embedder

TEXTS = ["upgrade the node pool", "key vault", "a b c " * 40, "", "upgrade the node pool", "kubectl get policy , restore 5 disk"]


@pytest.fixture(scope="module")
def reference(tiny_embedder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(tiny_embedder, device="cpu").encode(TEXTS, normalize_embeddings=True)


def test_fp32_gives_what_sentence_transformers_gives(tiny_embedder, reference) -> None:
    vectors = Embedder(tiny_embedder, precision="fp32").encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 32) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, reference, atol=1e-6)


def test_int8_stays_close_keeps_the_order_and_is_exported_once(tiny_embedder, reference, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path))
    seen: list[int] = []
    embedder = Embedder(tiny_embedder, precision="int8")
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    vectors = embedder.encode(TEXTS, seen.append)
    assert (root.level, root.handlers) == (level, handlers)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosine = (vectors * reference).sum(axis=1)
    assert cosine.min() > 0.98
    assert sum(seen) == len(TEXTS)
    assert np.array_equal(vectors[0], vectors[4])
    (exported,) = (tmp_path / "onnx").glob("*/model.onnx")
    stamp = exported.stat().st_mtime_ns
    again = Embedder(tiny_embedder, precision="int8", threads=2).encode(TEXTS[::-1])[::-1]
    assert exported.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(again, vectors)
    assert embedder.encode([]).shape == (0, 32)


def test_a_damaged_export_is_named_and_made_again(tiny_embedder, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path))
    whole = Embedder(tiny_embedder, precision="fp32").encode(TEXTS)
    (path,) = (tmp_path / "onnx").glob("*/model.onnx")
    data = path.read_bytes()
    assert [faults for _, faults in conversions.verify()] == [[]]
    for harm in (lambda: path.write_bytes(data[:-900] + bytes([data[-900] ^ 64]) + data[-899:]), path.unlink):
        harm()
        ((folder, faults),) = conversions.verify()
        assert folder == path.parent and "model.onnx" in faults[0]
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(Embedder(tiny_embedder, precision="fp32").encode(TEXTS), whole)
        assert "the model is converted again" in caplog.text and path.read_bytes() == data
    (path.parent / "manifest.json").write_text("[]")
    assert "not an object" in next(conversions.verify())[1][0]


def test_sums_and_normalisation_are_two_operators(tiny_embedder, tmp_path, monkeypatch) -> None:
    import onnx

    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path))
    Embedder(tiny_embedder, precision="fp32").encode(["pool"])
    (exported,) = (tmp_path / "onnx").glob("*/model.onnx")
    kinds = [node.op_type for node in onnx.load(exported).graph.node]
    assert "Attention" in kinds and "SkipLayerNormalization" not in kinds
    assert kinds.count("LayerNormalization") == 4, "two in each of two layers"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_text_has_one_vector_whatever_is_embedded_beside_it(tiny_embedder, tmp_path, monkeypatch, precision) -> None:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path))
    embedder = Embedder(tiny_embedder, precision=precision)
    together = embedder.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(embedder.encode([text])[0], vector)


def test_identity_names_weights_window_and_precision(tiny_embedder) -> None:
    identity = Embedder(tiny_embedder, precision="fp32").id
    assert (identity.dimension, identity.max_tokens, identity.precision) == (32, 64, "fp32")
    assert len(identity.sha256) == 64


def test_queries_are_remembered(tiny_embedder, monkeypatch) -> None:
    embedder = Embedder(tiny_embedder, precision="fp32")
    first = embedder.encode_query("node pool")
    monkeypatch.setattr(embedder, "encode", lambda texts: pytest.fail("embedded again"))
    assert embedder.encode_query("node pool") is first
    monkeypatch.setattr(embedding, "QUERY_CACHE", 2)
    monkeypatch.setattr(embedder, "encode", lambda texts: np.zeros((1, 32), dtype=np.float32))
    for query in ("a", "b", "c"):
        embedder.encode_query(query)
    assert list(embedder._queries) == ["b", "c"]


def test_what_is_no_embedding_model_is_refused_with_the_next_step(tmp_path) -> None:
    with pytest.raises(UserError, match="there is no model"):
        Embedder("all-mpnet-base-v2")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"modules\.json"):
        Embedder(str(tmp_path))
    with pytest.raises(UserError, match="precision 'int4'"):
        Embedder(str(tmp_path), precision="int4")


def test_auto_is_int8_only_where_the_processor_has_the_instructions(tiny_embedder, monkeypatch) -> None:
    for has, expected in ((True, "int8"), (False, "fp32")):
        monkeypatch.setattr(processor, "has_int8", lambda has=has: has)
        assert Embedder(tiny_embedder).precision == expected


def test_threads_come_from_one_place(monkeypatch) -> None:
    monkeypatch.setenv("RAG_VS_FT_THREADS", "3")
    assert settings.threads() == 3
    for bad in ("0", "many", "-1"):
        monkeypatch.setenv("RAG_VS_FT_THREADS", bad)
        with pytest.raises(UserError, match="RAG_VS_FT_THREADS"):
            settings.threads()
