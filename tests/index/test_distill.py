from __future__ import annotations

import json

import embedders
import numpy as np
import pytest

from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import distill as distilling
from rag_vs_ft.index.distill import distill
from rag_vs_ft.index.embedding import Embedder

TEXT = "# Surge\n\n" + "The kubelet drains the node pool, then the kubelet restarts. " * 4


@pytest.fixture
def corpus(home, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.md").write_text(TEXT, encoding="utf-8")
    store.add("docs", str(source), home=home)
    return store.open_corpus("docs", home)


def test_a_text_is_the_weighted_mean_of_what_the_model_says_of_its_words(corpus, tiny_embedder, tmp_path) -> None:
    made = distill(tmp_path / "fast", corpus, tiny_embedder, dimension=32)
    from sentence_transformers import SentenceTransformer

    teacher = SentenceTransformer(tiny_embedder, device="cpu")
    student = Embedder(str(made.folder))
    assert (student.id.engine, student.dimension, made.words) == ("static", 32, 4)  # kubelet, drains, then, restarts
    tokenizer = student.tokenizer
    assert tokenizer.encode("kubelet pool").tokens == ["kubelet", "pool"]
    table = student._session.table
    # With every component kept, distances between tokens are those of the model, apart from the weights.
    (document,) = corpus.documents()
    used = tokenizer.encode(f"{document.title}\n{document.text}").ids
    shares = {word: used.count(tokenizer.token_to_id(word)) / len(used) for word in ("kubelet", "vault")}
    assert shares["kubelet"] > 0 and shares["vault"] == 0
    weights = {word: distilling.SIF / (distilling.SIF + share) for word, share in shares.items()}
    rows = [table[tokenizer.token_to_id(word)] / weights[word] for word in weights]
    theirs = teacher.encode(list(weights))
    assert np.linalg.norm(rows[0] - rows[1]) == pytest.approx(np.linalg.norm(theirs[0] - theirs[1]), rel=1e-3)
    expected = table[[tokenizer.token_to_id(word) for word in ("kubelet", "pool")]].mean(axis=0)
    np.testing.assert_allclose(student.encode(["kubelet pool"])[0], expected / np.linalg.norm(expected), atol=1e-6)
    np.testing.assert_array_equal(table[tokenizer.token_to_id("[UNK]")], 0)


def test_sentence_transformers_reads_it_and_says_the_same(corpus, tiny_embedder, tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    made = distill(tmp_path / "fast", corpus, tiny_embedder, dimension=8)
    texts = ["the kubelet drains", "key vault, port 443", "pool"]
    theirs = SentenceTransformer(str(made.folder), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(Embedder(str(made.folder)).encode(texts), theirs, atol=1e-6)


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta", "modernbert"])
def test_other_tokenizers_keep_their_own_tokens(corpus, tmp_path, architecture) -> None:
    teacher = embedders.save(tmp_path, architecture)
    made = distill(tmp_path / "fast", corpus, teacher, dimension=8)
    assert np.isfinite(Embedder(str(made.folder)).encode(["drain the node"])).all()


def test_what_cannot_be_distilled_is_refused_and_leaves_nothing(corpus, tiny_embedder, tmp_path) -> None:
    target = tmp_path / "fast"
    with pytest.raises(UserError, match="static"):
        distill(target, corpus, embedders.save_static(tmp_path))
    with pytest.raises(UserError, match="dimension 33"):
        distill(target, corpus, tiny_embedder, dimension=33)
    assert not target.exists()
    target.mkdir()
    (target / "mine").write_text("kept", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        distill(target, corpus, tiny_embedder)
    assert [path.name for path in target.iterdir()] == ["mine"]
    with pytest.raises(UserError, match="mine"):
        distill(target / "mine" / "below", corpus, tiny_embedder, dimension=8)


def test_the_command_line_says_what_was_made(corpus, home, tiny_embedder, tmp_path) -> None:
    from typer.testing import CliRunner

    from rag_vs_ft.cli import app

    arguments = ["--corpus", "docs", "--embedder", tiny_embedder, "--dimension", "8", "--home", str(home.root), "--json"]
    done = CliRunner().invoke(app, ["models", "distill", str(tmp_path / "fast"), *arguments])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["dimension"] == 8 and said["words"] == 4 and said["folder"] == str(tmp_path / "fast")
