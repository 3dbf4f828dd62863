from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from rag_vs_ft import catalogue, settings
from rag_vs_ft import files as kept
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index import build, chunking, dense, documents, generations
from rag_vs_ft.index.build import Recipe
from rag_vs_ft.index.ranking import Ranking
from rag_vs_ft.index.search import Filters, Index, Leg, checked_query, fuse, passage_leg, top_rows

ARTICLES = {
    "aks/pools.md": (
        "---\ntitle: Node pools\nms.service: azure-kubernetes-service\nms.date: 01/02/2026\n---\n# Node pools\n\n"
        "A cluster has node pools.\n\n## Create\n\nRun `az aks nodepool add --resource-group prod` to create one.\n"
    ),
    "aks/upgrade.md": (
        "---\ntitle: Upgrade\nms.service: azure-kubernetes-service\nms.date: 05/06/2026\n---\n# Upgrade\n\n"
        "The surge default is 1 node.\n\n## Limit\n\nThe limit is 5 days.\n"
    ),
    "vault/keys.md": (
        "---\ntitle: Vault\nms.service: key-vault\nms.date: 03/04/2025\n---\n# Vault\n\nA deleted key vault is kept 90 days.\n\n"
        "## Port\n\nThe port is 443.\n"
    ),
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    write(root, ARTICLES)
    return root


def write(root, articles) -> None:
    for name, text in articles.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def recipe(tiny_embedder) -> Recipe:
    return Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32)


@pytest.fixture
def index(home, folder, recipe) -> Index:
    store.add("docs", str(folder), home=home)
    build.build("docs", "docs", recipe, home)
    return Index.open("docs", home)


def rows(index: Index) -> list[tuple]:
    return [tuple(index.table.column(name)) for name in ("id", "document_id", "text", "start", "end", "key")]


def files(index: Index) -> dict[str, str]:
    return {name: record.sha256 for name, record in index.manifest.files.items()}


def test_documents_go_in_and_hits_come_out(index) -> None:
    hits = index.search("az aks nodepool add --resource-group", 3)
    assert hits[0].chunk.document_id == "aks/pools.md" and hits[0].chunk.heading == "Create"
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert hits[0].bm25_rank == 1 and hits[0].dense_rank is not None
    assert index.search("deleted key vault kept", 1, retriever="bm25")[0].chunk.document_id == "vault/keys.md"
    assert len(index.search("anything", 1000, retriever="dense")) == len(index)
    assert index.search("zebra", 5, retriever="bm25") == []
    record = hits[0].to_json()
    assert {"rank", "chunk_id", "document_id", "title", "heading", "text", "score", "url"} <= record.keys()


def test_hybrid_is_the_mean_of_scaled_scores_by_hand(index) -> None:
    query = "vault port limit"
    words, cosines = index.bm25.scores(query), np.float32(index.dense.vectors) @ index.embedder.encode_query(query)
    legs = index.documents_legs.dense(index.embedder.encode_query(query), None)
    for hit in index.search(query, 10):
        row = index.table.row(hit.chunk.id)
        # The index is smaller than a leg is long: every passage has its own score in each.
        parts = [words[row] / words.max(), max(cosines[row], 0) / cosines.max()]
        parts.append(max(legs.scores[legs.number[row]], 0) / legs.scores.max())
        assert hit.score == pytest.approx(np.average(parts, weights=[0.6, 0.4, 0.35]), abs=1e-3)
        assert hit.score == pytest.approx(float(index.explain(query, hit)["score"].split("= ")[1]), abs=1e-6)


def test_reciprocal_rank_fusion_by_hand(index) -> None:
    for hit in index.search("vault port limit", 10, fusion="rrf"):
        ranks = [(hit.bm25_rank, 1), (hit.dense_rank, 1), (hit.document_bm25_rank, 1), (hit.document_dense_rank, 0.25)]
        expected = sum(weight / (60 + rank) for rank, weight in ranks if rank is not None)
        assert hit.score == pytest.approx(expected)


def test_documents_are_ranked_by_all_their_words_and_their_mean_vector(index) -> None:
    legs, number = index.documents_legs, index.documents_legs.number
    ids = index.table.column("document_id")
    assert [sorted(ARTICLES)[n] for n in number] == ids
    vectors, query = np.float32(index.dense.vectors), index.embedder.encode_query("port")
    means = np.stack([vectors[number == n].mean(axis=0) for n in range(3)])
    cosines = (means / np.linalg.norm(means, axis=1, keepdims=True)) @ query
    found = legs.dense(query, None).of(np.arange(len(ids), dtype=np.uint64))
    assert found.ranks.tolist() == [int((cosines > cosines[n]).sum()) + 1 for n in number]
    # "kept" and "port" stand in two passages of one document, and nowhere else.
    words = legs.bm25("kept port", None)
    every = np.arange(3)
    assert words.ranks(every).tolist() == [0, 0, 1] and (
        words.of(np.arange(len(ids), dtype=np.uint64)).rows.tolist() == np.flatnonzero(number == 2).tolist()
    )
    upgrade = np.flatnonzero(number == 1)
    assert legs.bm25("default limit", upgrade).ranks(every).tolist() == [0, 1, 0]
    assert legs.dense(query, upgrade).ranks(every).tolist() == [0, 1, 0]


def worked_out(part: str) -> float:
    """The value of "1/(60+3)" or "0.4444*0.5000"."""
    if "*" in part:
        weight, score = part.split("*")
        return float(weight) * float(score)
    weight, k, rank = re.fullmatch(r"([\d.]+)/\((\d+)\+(\d+)\)", part).groups()
    return float(weight) / (int(k) + int(rank))


def test_every_score_is_explained_by_its_arithmetic(index) -> None:
    filters = Filters(path="aks/")
    for retriever, fusion, given in (("hybrid", "sum", filters), ("hybrid", "sum", None), ("hybrid", "rrf", filters)):
        hits = index.search("cluster limit surge", 10, retriever=retriever, fusion=fusion, filters=given)
        for hit in hits:
            said = index.explain("cluster limit surge", hit, retriever=retriever, fusion=fusion, filters=given)["score"]
            sum_of_parts, _, total = said.removeprefix(f"{fusion}: ").partition(" = ")
            assert sum(map(worked_out, sum_of_parts.split(" + "))) == pytest.approx(hit.score, abs=1e-3)
            assert float(total) == pytest.approx(hit.score, abs=1e-6)
    (hit,) = index.search("deleted vault", 1, retriever="bm25")
    explained = index.explain("deleted vault", hit, retriever="bm25")
    assert explained["score"] == f"BM25 = {hit.score:.6f}" and explained["matched_terms"] == ["delet", "vault"]
    (hit,) = index.search("deleted vault", 1, retriever="dense")
    assert index.explain("deleted vault", hit, retriever="dense")["score"] == f"cosine = {hit.dense_score:.6f}"


def test_reranking_orders_the_first_hits_and_leaves_the_rest(index) -> None:
    found = index.search("vault port limit", 10)
    asked: list[tuple[str, list[str]]] = []

    def backwards(query, chunks):
        asked.append((query, [chunk.id for chunk in chunks]))
        return range(len(chunks))

    hits = index.search(" vault  port limit ", 10, rerank=backwards, rerank_depth=3)
    assert asked == [("vault port limit", [hit.chunk.id for hit in found[:3]])]
    assert [hit.chunk.id for hit in hits] == [hit.chunk.id for hit in (*found[2::-1], *found[3:])]
    assert [hit.rank for hit in hits] == [hit.rank for hit in found]
    assert [(hit.found_rank, hit.rerank_score) for hit in hits[:4]] == [(3, 2.0), (2, 1.0), (1, 0.0), (None, None)]
    assert [hit.score for hit in hits[:3]] == [hit.score for hit in found[2::-1]]
    assert hits[0].to_json()["rerank"] == {"score": 2.0, "rank_before": 3} and "rerank" not in hits[3].to_json()
    # More are reranked than shown, and equal scores leave the order as it was.
    assert [hit.found_rank for hit in index.search("vault port limit", 1, rerank=backwards, rerank_depth=4)] == [4]
    even = index.search("vault port limit", 10, rerank=lambda query, chunks: [1.0] * len(chunks))
    assert [hit.chunk.id for hit in even] == [hit.chunk.id for hit in found]
    assert index.search("zebra", 5, retriever="bm25", rerank=backwards) == []
    for depth in (0, 1001):
        with pytest.raises(UserError, match=f"depth of {depth}"):
            index.search("vault", rerank=backwards, rerank_depth=depth)


def test_fusions_and_ties() -> None:
    def fused(*legs: Leg, fusion: str = "sum") -> list[tuple[int, float]]:
        return fuse(legs, fusion).pairs()

    def leg(weight: float, *found: tuple[int, int, float]) -> Leg:
        return Leg(weight, Ranking.of(found))

    def cut_leg(depth: int, *found: tuple[int, float]) -> Leg:
        return passage_leg(1, Ranking.of([(row, rank, score) for rank, (row, score) in enumerate(found, start=1)]), depth)

    one, other = leg(1, (7, 1, 2.0), (3, 2, 1.0)), leg(1, (3, 1, 9.0), (7, 2, 8.0))
    assert fused(one, other, fusion="rrf") == [(3, 1 / 61 + 1 / 62), (7, 1 / 61 + 1 / 62)]
    assert fused(one, Leg(0.25, other.found), fusion="rrf") == [(7, 1 / 61 + 0.25 / 62), (3, 1 / 62 + 0.25 / 61)]
    one, other = leg(1, (1, 1, 4.0), (2, 2, 3.0), (3, 3, 2.0)), leg(1, (3, 1, 0.5))
    assert fused(one, other) == [(3, 0.75), (1, 0.5), (2, 0.375)]
    assert fused(one, Leg(3, other.found)) == [(3, 0.875), (1, 0.25), (2, 0.1875)]
    assert fused(one, leg(1)) == [(1, 1.0), (2, 0.75), (3, 0.5)]
    assert fused(leg(1), leg(1)) == []
    assert fused(leg(1, (2**64 - 1, 1, 4.0)), leg(1, (3, 1, 8.0)), leg(1)) == [(3, 0.5), (2**64 - 1, 0.5)]
    # A row that a cut leg did not find may have the least of its scores, and no more; below 0 is no worse than 0.
    assert fused(leg(1, (4, 1, 1.0)), cut_leg(2, (5, 0.8), (6, 0.4))) == [(4, 0.75), (5, 0.5), (6, 0.25)]
    assert cut_leg(2, (5, 0.8)).least == 0 and cut_leg(2).least == 0
    assert fused(cut_leg(2, (5, 0.5), (6, -0.5))) == [(5, 1.0), (6, 0.0)]
    assert fused(cut_leg(2, (5, -0.1), (6, -0.5))) == [(5, 0.0), (6, 0.0)]
    scores = np.array([1, 3, 2, 3, 2, 0, 2], dtype=np.float32)
    assert top_rows(scores, 4).pairs() == [(1, 3.0), (3, 3.0), (2, 2.0), (4, 2.0)]
    assert top_rows(scores, 10).rows.tolist() == [1, 3, 2, 4, 6, 0]
    found = Ranking.in_order(np.array([2**64 - 1, 9, 3], dtype=np.uint64), np.array([3.0, 2.0, 1.0]))
    assert found.places(np.array([3, 4, 2**64 - 1], dtype=np.uint64)) == {2**64 - 1: (1, 3.0), 3: (3, 1.0)}


@pytest.mark.parametrize("values", [2, 20, 10_000])
@pytest.mark.parametrize("held", [0.0, 0.01, 0.5, 1.0])
def test_the_best_of_many_rows_are_those_of_sorting_them_all(values, held) -> None:
    draw = np.random.default_rng(0)
    for count in (300, 5_000):
        scores = draw.integers(1, values, count).astype(np.float32) * (draw.random(count) < held)
        expected = np.lexsort((np.arange(count), -scores))[:10]
        assert top_rows(scores, 10).pairs() == [(row, scores[row]) for row in expected.tolist() if scores[row] > 0]


@pytest.mark.parametrize("values", [1, 5, 10_000])
def test_ranks_of_some_documents_are_those_of_sorting_them_all(values) -> None:
    draw = np.random.default_rng(0)
    scores, found = draw.integers(0, values, 200).astype(np.float32), draw.random(200) < 0.7
    places = np.flatnonzero(found)
    expected = np.zeros(200, dtype=np.int64)
    expected[places[np.lexsort((places, -scores[places]))]] = np.arange(1, len(places) + 1)
    leg = documents.DocumentLeg(draw.permutation(200), found, scores)
    some = draw.choice(200, 50)
    assert leg.ranks(some).tolist() == expected[some].tolist() and leg.ranks(np.arange(200)).tolist() == expected.tolist()
    of_rows = {row: (expected[leg.number[row]], scores[leg.number[row]]) for row in range(200) if found[leg.number[row]]}
    every = np.arange(200, dtype=np.uint64)
    assert leg.of(every).places(every) == of_rows


def test_filters_are_applied_before_ranking(index) -> None:
    for retriever in ("hybrid", "bm25", "dense"):
        hits = index.search("the port limit days", 10, retriever=retriever, filters=Filters(service="Key-Vault"))
        assert hits and {hit.chunk.document_id for hit in hits} == {"vault/keys.md"}
        hits = index.search("the port limit days", 10, retriever=retriever, filters=Filters(path="aks/", since="2026-03-01"))
        assert hits and {hit.chunk.document_id for hit in hits} == {"aks/upgrade.md"}
        assert index.search("the port", 10, retriever=retriever, filters=Filters(service="none")) == []
    # What is left is ranked as if there were nothing else: the best of them are found however far down they stand among all.
    last = index.search("node pool", len(index))[-1].chunk.document_id
    assert index.search("node pool", 1, filters=Filters(path=last))[0].chunk.document_id == last
    assert index.document_ids() == set(ARTICLES) and index.document_ids(Filters(path="aks/")) == {
        "aks/pools.md",
        "aks/upgrade.md",
    }


def test_a_build_does_not_depend_on_what_was_there_before(index, home, recipe, folder) -> None:
    store.add("docs2", str(folder), home=home)
    build.build("again", "docs2", recipe, home)
    assert files(Index.open("again", home)) == files(index)


def more_articles() -> dict[str, str]:
    """Articles with 300 chunks of different text, from which IVF-PQ can learn its codes."""
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    return {
        f"many/{first}.md": f"# {first}\n\n"
        + "\n\n".join(f"## {second}\n\nThe {first} {second} limit is {number} days." for number, second in enumerate(numbers * 3))
        for first in numbers
    }


@pytest.mark.parametrize("kind", dense.KINDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_update_embeds_only_new_texts_and_equals_a_build_from_nothing(
    home, folder, tiny_embedder, monkeypatch, kind, precision, tmp_path
) -> None:
    monkeypatch.setattr(dense, "kind_for", lambda rows: kind)
    monkeypatch.setattr("rag_vs_ft.index.table._BATCH", 16)  # many batches, as in a large index
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    recipe = Recipe(embedder=tiny_embedder, precision=precision, chunk_size=32)
    write(folder, more_articles())
    store.add("docs", str(folder), home=home)
    first = build.build("docs", "docs", recipe, home).generation.manifest
    index = Index.open("docs", home)
    assert index.search("deleted vault", 1, retriever="bm25")
    write(
        folder, {"aks/upgrade.md": ARTICLES["aks/upgrade.md"].replace("5 days", "7 days"), "new/disk.md": "# Disk\n\nA disk.\n"}
    )
    (folder / "vault/keys.md").unlink()
    store.update("docs", home=home)
    embedded: list[str] = []
    encode = build.Embedder.encode
    monkeypatch.setattr(
        build.Embedder, "encode", lambda self, texts, tell=None: embedded.extend(texts) or encode(self, texts, tell)
    )
    result = build.update("docs", home)
    assert result.published and result.generation.name == "gen-000002"
    assert len(embedded) == result.counts.embedded == 2
    assert result.counts.chunks_added == 2 and result.counts.chunks_removed == 3
    assert result.counts.reused == result.counts.unique_texts - 2
    assert any("7 days" in text for text in embedded) and any("A disk." in text for text in embedded)
    spent = [sum(manifest.seconds.values()) for manifest in (first, result.generation.manifest)]
    assert first.cost_seconds == pytest.approx(spent[0], abs=0.01)
    assert result.generation.manifest.cost_seconds == pytest.approx(sum(spent), abs=0.01), "the build is paid for too"
    build.build("scratch", "docs", recipe, home)
    fresh, updated = Index.open("scratch", home), Index.open("docs", home)
    assert fresh.manifest.dense.kind == kind
    assert rows(fresh) == rows(updated) and files(fresh) == files(updated)
    for query in ("surge limit", "disk", "az aks", "7 days", "cluster node"):
        assert [(hit.chunk.id, hit.score) for hit in fresh.search(query, 10)] == [
            (hit.chunk.id, hit.score) for hit in updated.search(query, 10)
        ]
    # The reader that was open before still answers from its own generation.
    assert index.search("deleted vault", 1, retriever="bm25")[0].chunk.document_id == "vault/keys.md"


def test_growing_into_another_kind_takes_the_vectors_over(index, home, folder, recipe, monkeypatch) -> None:
    write(folder, more_articles())
    for kind in ("ivfpq", "hnsw", "flat"):
        monkeypatch.setattr(dense, "kind_for", lambda rows, kind=kind: kind)
        write(folder, {"new.md": f"# New\n\nA new disk of {kind}.\n"})
        store.update("docs", home=home)
        result = build.update("docs", home)
        assert result.generation.manifest.dense.kind == kind
        assert result.counts.embedded == (301 if kind == "ivfpq" else 1)
        build.build(kind, "docs", recipe, home)
        assert files(Index.open(kind, home)) == files(Index.open("docs", home))


def test_nothing_changed_publishes_nothing(index, home) -> None:
    result = build.update("docs", home)
    assert not result.published and result.counts.embedded == 0
    assert generations.list_indexes(home) == ["docs"]
    assert len(generations.all_generations(home.indexes / "docs")) == 1


def test_nothing_is_taken_over_from_a_damaged_generation_and_it_is_said(index, home, folder, caplog) -> None:
    path = index.generation.folder / "faiss.index"
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    write(folder, {"new.md": "# New\n\nA new page.\n"})
    store.update("docs", home=home)
    result = build.update("docs", home)
    assert result.counts.embedded == result.counts.unique_texts
    assert "faiss.index" in caplog.text and "nothing is taken over" in caplog.text


def test_a_file_damaged_within_is_named_by_the_search_that_reads_it(index, home) -> None:
    """Sizes are checked at every opening, contents are not."""
    folder, searched = index.generation.folder, set()
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"):
        written = path.read_bytes()
        path.write_bytes(b"X" * len(written))
        try:
            Index.open("docs", home).search("delete a vault", 3)
        except CheckFailed as error:
            assert str(path.relative_to(folder).parts[0]) in str(error) and "is damaged" in str(error)
            searched.add(path.relative_to(folder).parts[0])
        path.write_bytes(written)
    assert searched == {"bm25", "chunks.arrow", "documents", "faiss.index"}
    assert Index.open("docs", home).search("delete a vault", 3)


def test_a_changed_date_alone_is_a_change_that_embeds_nothing(index, home, folder) -> None:
    write(folder, {"vault/keys.md": ARTICLES["vault/keys.md"].replace("03/04/2025", "03/04/2026")})
    store.update("docs", home=home)
    result = build.update("docs", home)
    assert result.published and result.counts.embedded == 0 and result.counts.chunks_kept == result.counts.chunks
    assert Index.open("docs", home).search("vault", 1, retriever="bm25")[0].chunk.date == "2026-03-04"


def test_each_document_is_read_in_its_language_and_a_change_of_it_embeds_nothing(index, home, folder, monkeypatch) -> None:
    write(
        folder,
        {"de.md": "# Häuser\n\nDie Häuser sind alt, und das ist nicht gut für sie.\n", "ja.md": "# 金庫\n\n鍵は保持されます。\n"},
    )
    store.update("docs", home=home)
    updated = build.update("docs", home)
    assert updated.notices == () and "notices" not in updated.to_json()  # nobody says what this model was trained on
    name = updated.generation.manifest.inputs.embedder.name
    monkeypatch.setitem(catalogue.CATALOGUE, name, replace(catalogue.CATALOGUE["all-minilm-l6-v2"], name=name))
    assert f"chunks are in German, Japanese, and {name} was trained on English" in updated.to_json()["notices"][0]
    mixed = Index.open("docs", home)
    assert set(mixed.manifest.languages) == {"de", "en", "ja"} == set(mixed.bm25.languages)
    for query, document in (("Haus", "de.md"), ("鍵", "ja.md"), ("surge", "aks/upgrade.md")):
        for retriever in ("bm25", "hybrid"):
            hit = mixed.search(query, 1, retriever=retriever)[0]
            assert retriever == "hybrid" or hit.chunk.document_id == document
        assert mixed.explain(query, mixed.search(query, 1, retriever="bm25")[0], retriever="bm25")["matched_terms"]
    store.update("docs", language="en", home=home)
    english = build.update("docs", home)
    assert english.published and english.counts.embedded == 0 and english.notices == ()
    assert Index.open("docs", home).manifest.languages == {"en": english.counts.chunks}


KILLED = textwrap.dedent(
    """
    import os, sys
    from rag_vs_ft import settings
    from rag_vs_ft.index import build
    build.SHARD = 1
    encode = build.Embedder.encode
    done = 0
    def counted(self, texts, tell=None):
        global done
        if done == int(sys.argv[3]):
            os._exit(9)
        done += len(texts)
        if texts:  # none loads the model alone
            print("embedded", len(texts), flush=True)
        return encode(self, texts, tell)
    build.Embedder.encode = counted
    recipe = build.Recipe(embedder=sys.argv[2], precision="fp32", chunk_size=32)
    build.build("docs", "docs", recipe, settings.home(sys.argv[1]))
    """
)


def test_a_killed_build_resumes_without_embedding_twice(home, folder, tiny_embedder) -> None:
    store.add("docs", str(folder), home=home)
    command = [sys.executable, "-c", KILLED, str(home.root), tiny_embedder]
    killed = subprocess.run([*command, "3"], capture_output=True, text=True, check=False)
    assert killed.returncode == 9 and killed.stdout.count("embedded") == 3
    assert generations.list_indexes(home) == []
    resumed = subprocess.run([*command, "-1"], capture_output=True, text=True, check=True)
    index = Index.open("docs", home)
    assert resumed.stdout.count("embedded") == index.manifest.counts.unique_texts - 3
    assert not (home.indexes / "docs" / "work").exists()


def test_identical_texts_are_embedded_once(home, tmp_path, recipe, monkeypatch) -> None:
    embedded: list[str] = []
    encode = build.Embedder.encode

    def counting(self, texts, tell=None):
        embedded.extend(texts)
        return encode(self, texts, tell)

    monkeypatch.setattr(build.Embedder, "encode", counting)
    same = "---\ntitle: Same\n---\n\nThe very same text.\n"
    write(tmp_path / "docs", {"a.md": same, "b.md": same})
    store.add("docs", str(tmp_path / "docs"), home=home)
    result = build.build("docs", "docs", recipe, home)
    assert result.counts.chunks == 2 and result.counts.embedded == len(embedded) == 1
    hits = Index.open("docs", home).search("very same text", 2)
    assert [hit.chunk.document_id for hit in hits] == ["a.md", "b.md"] and hits[0].chunk.id != hits[1].chunk.id


def test_another_embedder_is_refused_with_the_command_that_mends_it(index, home, tiny_embedder, tmp_path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(tiny_embedder, other)
    weights = load_file(other / "model.safetensors")
    name = sorted(weights)[0]
    save_file(weights | {name: weights[name] + 1}, other / "model.safetensors")
    from rag_vs_ft.index.embedding import Embedder

    with pytest.raises(CheckFailed, match="another embedding model") as caught:
        Index.open("docs", home, embedder=Embedder(str(other), precision="fp32")).search("vault")
    assert "index build docs --corpus docs" in caught.value.hint
    # Words still find.
    assert Index.open("docs", home, embedder=Embedder(str(other), precision="fp32")).search("vault", retriever="bm25")


def rewrite(index: Index, change) -> None:
    """Change the manifest of an index on the disk, as another version would have written it."""
    path = index.generation.folder / "manifest.json"
    manifest = kept.unsealed(json.loads(path.read_text(encoding="utf-8")))
    change(manifest)
    path.write_text(json.dumps(kept.sealed(manifest)), encoding="utf-8")


def test_another_analyzer_is_refused(index, home) -> None:
    rewrite(index, lambda manifest: manifest["analyzer"].update(version=99))
    with pytest.raises(CheckFailed, match="analyzer version 99") as caught:
        Index.open("docs", home)
    assert caught.value.hint == f"rag-vs-ft index build docs --corpus docs --chunk-size 32 --embedder {index.embedder.name}"


def test_an_index_of_another_chunker_answers_and_its_update_embeds_only_texts_that_differ(index, home) -> None:
    rewrite(index, lambda manifest: manifest["chunker"].update(version=2))
    assert Index.open("docs", home).search("port", 3)
    result = build.update("docs", home)
    assert result.published and result.counts.embedded == 0 and result.counts.chunks_kept == result.counts.chunks
    assert result.generation.manifest.inputs.chunker.version == chunking.VERSION


def test_a_manifest_of_an_earlier_version_opens(index, home) -> None:
    def earlier(manifest):
        for key in ("engine", "layout"):
            del manifest["embedder"][key]
        del manifest["chunker"]["around"]
        del manifest["languages"]

    rewrite(index, earlier)
    opened = Index.open("docs", home)
    # Without a word on it, fp32 was computed by torch.
    assert opened.manifest.inputs.embedder.engine == "torch" == opened.embedder.id.engine
    assert opened.search("port", 1)[0].chunk.document_id == "vault/keys.md"


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_k_out_of_range(index, k) -> None:
    with pytest.raises(UserError, match=f"k={k}"):
        index.search("vault", k)


@pytest.mark.parametrize("query", ["", "   ", "\0\x07", "\n\n", "\ud800"])
def test_an_empty_question_is_refused(index, query) -> None:
    with pytest.raises(UserError, match="question is empty"):
        index.search(query)


@pytest.mark.parametrize("query", ["x" * 100_000, "\U0001f600", '"foo', ":", "((", "a", "the of", "\u202eabc"])
def test_odd_questions_are_answered_or_find_nothing(index, query) -> None:
    for retriever in ("hybrid", "bm25", "dense"):
        assert len(index.search(query, 3, retriever=retriever)) <= 3


def test_a_question_that_is_too_long_is_cut_and_that_is_said() -> None:
    query, notices = checked_query("word " * 100_000)
    assert len(query) == settings.MAX_QUESTION_CHARACTERS
    assert notices == (f"the question has 499999 characters; the first {len(query)} were used",)


def test_unknown_retrievers_and_fusions_are_named(index) -> None:
    with pytest.raises(UserError, match="'sparse'"):
        index.search("vault", retriever="sparse")
    with pytest.raises(UserError, match="'max'"):
        index.search("vault", fusion="max")


def test_rank_bm25_can_be_the_backend(home, folder, recipe) -> None:
    from rag_vs_ft.index.lexical import Bm25Settings

    store.add("docs", str(folder), home=home)
    build.build("docs", "docs", replace(recipe, bm25=Bm25Settings(backend="rank-bm25")), home)
    assert Index.open("docs", home).search("deleted vault", 1)[0].chunk.document_id == "vault/keys.md"


def test_every_answer_during_updates_comes_from_one_generation(index, home, folder) -> None:
    """Readers search while new generations are published and old ones swept away."""
    import threading

    failures: list[BaseException] = []
    seen: set[str] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                reader = Index.open("docs", home)
                texts = {hit.chunk.text for hit in reader.search("version limit days", 10)}
                marks = {text for text in texts if text.startswith("Version")}
                assert len(marks) <= 1
                seen.add(reader.generation.name)
            except BaseException as error:
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for version in range(6):
        write(folder, {"version.md": f"# V\n\nVersion {version} limit.\n"})
        store.update("docs", home=home)
        build.update("docs", home)
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert len(seen) > 1
