"""One index, whatever holds it: FAISS and BM25 here, Qdrant's client in memory, its engine as a library, a server over HTTP."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import qdrant_stub
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient
from qdrant_edge_client import EdgeClient
from qdrant_stub import Stub
from typer.testing import CliRunner

from rag_vs_ft import groups, settings
from rag_vs_ft.cli import app
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation import contexts
from rag_vs_ft.index import build, generations, lexical, opening, qdrant
from rag_vs_ft.index.build import Recipe
from rag_vs_ft.index.publishing import publish
from rag_vs_ft.index.qdrant import NotPublished, QdrantIndex, QdrantServer, Unreachable
from rag_vs_ft.index.search import FUSIONS, RETRIEVERS, Filters, Index
from rag_vs_ft.records import Question
from rag_vs_ft.remote import ServerUrl
from rag_vs_ft.shelf import Shelf

WHERE = "http://127.0.0.1:6333"
WORDS = ("port", "vault", "key", "node", "surge", "deleted key vault", "--resource-group prod", "pool of the cluster", "443")


ASKED = (
    ((), None, "port"),
    (("hr", "staff"), None, "deleted key vault"),
    (("hr",), Filters(service="service-1"), "pool of the cluster"),
    ((), Filters(path="part-1/d1"), "surge"),
    (("staff",), Filters(since="2026-05-02"), "--resource-group prod"),
)


def text_of(number: int) -> str:
    """A document that no other is like."""
    draw = random.Random(number)
    words = [
        "port",
        "vault",
        "key",
        "node",
        "surge",
        "pool",
        "cluster",
        "limit",
        "backup",
        "--resource-group prod",
        "443",
        "zone",
    ]
    lines = [" ".join(draw.choices(words, k=draw.randint(6, 14))) + "." for _ in range(4)]
    named = [[], ["hr"], ["hr", "staff"], []][number % 4]
    head = f"---\nms.service: Service-{number % 3}\nms.date: 0{number % 9 + 1}/02/2026\n"
    head += f"groups: [{', '.join(named)}]\n---\n" if named else "---\n"
    return f"{head}# Page {number}\n\n{lines[0]}\n\n{lines[1]}\n\n## Part {number}\n\n{lines[2]}\n\n{lines[3]}\n"


def write(root: Path, numbers: range) -> str:
    for number in numbers:
        path = root / f"part-{number % 2}" / f"d{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(number), encoding="utf-8")
    return str(root)


def made(place: Path, embedder: str, numbers: range = range(16)) -> settings.Home:
    home = settings.home(place / "home")
    store.add("docs", write(place / "docs", numbers), home=home)
    build.build("docs", "docs", Recipe(embedder=embedder, precision="fp32", chunk_size=32), home)
    return home


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_embedder) -> settings.Home:
    return made(tmp_path_factory.mktemp("small"), tiny_embedder)


@contextmanager
def server_of(kind: str, folder: Path) -> Iterator[QdrantServer]:
    """A server of this kind, empty."""
    if kind == "memory":
        yield QdrantServer(ServerUrl(WHERE, False), client=QdrantClient(":memory:"))
    elif kind == "edge":
        yield QdrantServer(ServerUrl(WHERE, False), client=EdgeClient(folder))
    elif kind == "http":
        with qdrant_stub.serving() as stub:
            yield QdrantServer(ServerUrl(stub.url, False))
    else:
        url = os.environ.get("QDRANT_URL", "")
        if not url:
            pytest.skip("QDRANT_URL names no live server")
        server = QdrantServer(qdrant.qdrant_url(url), patience=6)
        aliases = [alias.alias_name for alias in server.call("get_aliases").aliases]
        assert "docs" not in aliases, "this server has an index of this name: use an empty one"
        try:
            yield server
        finally:
            from qdrant_client import models

            delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="docs"))
            server.call("update_collection_aliases", change_aliases_operations=[delete])
            for name in ("docs--a", "docs--b"):
                server.call("delete_collection", name)
                server.call("delete_collection", qdrant.documents_of(name))


@pytest.fixture(
    scope="module", params=["memory", "edge", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("http", "live"))]
)
def both(request, small, tmp_path_factory) -> Iterator[tuple[Index, QdrantIndex]]:
    """The index as it is here, and as it was published."""
    with server_of(request.param, tmp_path_factory.mktemp("edge")) as server:
        found = publish("docs", server.place.url, small, server=server)
        assert found.switched and found.passages.sent == len(Index.open("docs", small)) and found.documents.sent == 16
        yield Index.open("docs", small), QdrantIndex.at(f"qdrant:{server.place.url}/docs", server=server)


# --- one contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retriever", RETRIEVERS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_published_index_finds_what_the_local_one_finds(both, retriever, fusion):
    here, there = both
    for reader, filters, query in ASKED:
        asked = {"retriever": retriever, "fusion": fusion, "filters": filters}
        expected, found = (index.read_as(frozenset(reader)).search(query, 1000, **asked) for index in both)
        scores = {hit.chunk.id: hit.score for hit in expected}
        # Sparse scores are summed up in another order, so near ties may change places.
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=2e-4)
        assert {hit.chunk for hit in found} == {hit.chunk for hit in expected}
        if fusion == "rrf":
            assert {hit.chunk.id: hit.score for hit in found} == pytest.approx(scores, abs=2e-3)
    assert there.manifest == here.manifest


def test_bm25_scores_are_the_local_ones(both):
    here, there = both
    everyone = frozenset({"hr", "staff"})
    for query in WORDS[::3]:
        expected, found = (index.read_as(everyone).search(query, 1000, retriever="bm25") for index in (here, there))
        assert {hit.chunk.id: hit.score for hit in found} == pytest.approx(
            {hit.chunk.id: hit.score for hit in expected}, rel=1e-4
        )


def test_the_rest_of_an_index_is_there_too(both):
    here, there = both
    for reader in (frozenset({"hr"}), frozenset()):
        mine, theirs = here.read_as(reader), there.read_as(reader)
        assert theirs.hidden == mine.hidden
        assert theirs.services() == mine.services()
        for filters in (None, Filters(path="part-1/"), Filters(service="Service-2")):
            assert theirs.document_ids(filters) == mine.document_ids(filters)
        documents = ["part-0/d2.md", "part-1/d3.md"]
        assert sorted(theirs.chunks_of(documents), key=repr) == sorted(mine.chunks_of(documents), key=repr)
        hit = theirs.search("vault key", 3)[0]
        for fusion in FUSIONS:
            assert theirs.explain("vault key", hit, fusion=fusion, k=3)["matched_terms"]
    drawn = list(there.random_chunks(random.Random(1), 5))
    assert drawn == list(there.random_chunks(random.Random(1), 5))
    assert drawn and not any(chunk.groups for chunk in drawn)
    assert there.answers_now()
    assert there.search("zebra", 5, retriever="bm25") == [] == there.search("of the", 5, retriever="bm25")
    with pytest.raises(UserError, match="on a server"):
        there.rows()
    question = Question("q", "vault", gold_documents=("part-0/d0.md",))
    source = contexts.PassageSource(question, there, 3, "hybrid", random.Random(0))
    for name, context in contexts.CONTEXTS.items():
        if context.passages:
            assert all(not hit.chunk.groups for hit in context.passages(source)), name


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reader=st.sets(st.sampled_from(["hr", "staff", "guest", "HR"])).map(frozenset),
    query=st.sampled_from(WORDS),
    retriever=st.sampled_from(RETRIEVERS),
    k=st.sampled_from([1, 5, 1000]),
    filters=st.sampled_from([None, Filters(path="part-1"), Filters(service="service-2")]),
)
def test_no_search_shows_a_passage_to_someone_else(both, reader, query, retriever, k, filters):
    index = both[1].read_as(reader)
    hits = index.search(query, k, retriever=retriever, filters=filters)
    assert all(groups.may_read(hit.chunk.groups, reader) for hit in hits)
    ranks = [
        rank for hit in hits for rank in (hit.bm25_rank, hit.dense_rank, hit.document_bm25_rank, hit.document_dense_rank) if rank
    ]
    assert max(ranks, default=0) <= len(index) - index.hidden


def test_weights_times_idf_are_the_scores_of_bm25(small):
    index = Index.open("docs", small)
    bm25, total = index.bm25, len(index)
    assert bm25.mean_length
    rows = [
        lexical.weights(bm25.terms_of(lexical.searchable_text(chunk), chunk.language), bm25.mean_length, bm25.settings)
        for chunk in index.table.chunks()
    ]
    for query in WORDS:
        terms = bm25.terms(query)
        frequency = {term: sum(term in row for row in rows) for term in terms}
        idf = {term: np.log(1 + (total - count + 0.5) / (count + 0.5)) for term, count in frequency.items()}
        expected = [sum(row.get(term, 0.0) * idf[term] for term in terms) for row in rows]
        assert bm25.scores(query) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "edge", "live"])
def test_the_sample_is_searched_alike(kind, tmp_path, home, tiny_embedder):
    """300 questions: the ten nearest are the same up to ties, and recall of hybrid search differs by less than 0.01."""
    store.add("docs", "sample", home=home)
    build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=40), home)
    here = Index.open("docs", home)
    draw = random.Random(7)
    questions = [
        (chunk.document_id, " ".join(draw.sample(chunk.text.split(), 6)))
        for chunk in here.random_chunks(draw, len(here))
        if len(chunk.text.split()) >= 6
    ][:300]
    assert len(questions) == 300
    recall = {"here": 0.0, "there": 0.0}
    with server_of(kind, tmp_path) as server:
        publish("docs", server.place.url, home, server=server)
        there = QdrantIndex.at(f"qdrant:{server.place.url}/docs", server=server)
        for document, query in questions:
            expected, found = (index.search(query, 10, retriever="dense") for index in (here, there))
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-3)
            # Qdrant rounds the query to half precision as well, so scores this near to the tenth count as ties.
            certain = {hit.chunk.id for hit in expected if hit.score > expected[-1].score + 1e-3}
            assert certain <= {hit.chunk.id for hit in found}
            for where, index in (("here", here), ("there", there)):
                recall[where] += document in {hit.chunk.document_id for hit in index.search(query, 10)}
    assert abs(recall["here"] - recall["there"]) / 300 < 0.01 < recall["here"] / 300


# --- publishing -------------------------------------------------------------------------------------------------------


@pytest.fixture
def moving(tmp_path, tiny_embedder):
    """An index whose documents change, and a server."""
    home = made(tmp_path, tiny_embedder, range(8))
    with qdrant_stub.serving() as stub:
        yield home, tmp_path / "docs", stub


def change(home, docs: Path, number: int, text: str) -> None:
    path = docs / f"part-{number % 2}" / f"d{number}.md"
    if text:
        path.write_text(text, encoding="utf-8")
    else:
        path.unlink()
    store.update("docs", home=home)
    build.update("docs", home)


def test_an_update_sends_what_changed_and_moves_the_alias_when_it_is_whole(moving, monkeypatch):
    monkeypatch.setattr("rag_vs_ft.index.publishing.DRIFT", 1.0)  # one document is a tenth of the words here
    home, docs, stub = moving
    restricted = Index.open("docs", home).hidden
    first = publish("docs", stub.url, home)
    assert (first.generation, first.collection, first.previous, first.restricted) == ("gen-000001", "docs--a", "", restricted)
    again = publish("docs", stub.url, home)
    assert not again.switched and again.passages.sent == again.documents.sent == 0 and again.passages.kept == first.passages.sent

    change(home, docs, 1, text_of(101))
    second = publish("docs", stub.url, home)  # the second collection is filled for the first time
    assert (second.collection, second.previous, second.switched) == ("docs--b", "docs--a", True)
    change(home, docs, 2, "")
    change(home, docs, 3, text_of(103))
    before = stub.sent()
    third = publish("docs", stub.url, home)
    assert (third.collection, third.previous) == ("docs--a", "docs--b")
    changed = {"part-1/d1.md", "part-1/d3.md"}
    assert stub.sent() - before == third.passages.sent + third.documents.sent
    sent = [point for _, path, body in stub.requests for point in (body or {}).get("points", ()) if path.endswith("--a/points")]
    assert {point["payload"]["document_id"] for point in sent[first.passages.sent :] if isinstance(point, dict)} == changed
    assert third.documents == type(third.documents)(sent=2, kept=5, removed=1)

    here, there = Index.open("docs", home), opening.open_index(f"qdrant:{stub.url}/docs", home)
    # Near ties may change places: the server adds up cosines in another order.
    found = [sorted((hit.chunk for hit in index.search("vault key", 100)), key=lambda chunk: chunk.id) for index in (there, here)]
    assert found[0] == found[1]
    assert {there.generation.name, there.manifest.generation} == {"gen-000004"}

    with generations.building(home.indexes / "docs"):
        assert generations.rollback(home.indexes / "docs").name == "gen-000003"


def test_rolling_back_sends_nothing(moving):
    home, docs, stub = moving
    publish("docs", stub.url, home)
    change(home, docs, 1, text_of(101))
    publish("docs", stub.url, home)
    with generations.building(home.indexes / "docs"):
        generations.rollback(home.indexes / "docs")
    back = publish("docs", stub.url, home)
    assert (back.generation, back.collection, back.switched) == ("gen-000001", "docs--a", True)
    assert back.passages.sent == back.documents.sent == back.passages.removed == 0


def test_a_publication_that_was_stopped_goes_on(moving, monkeypatch):
    home, docs, stub = moving
    monkeypatch.setattr(qdrant, "sleep", lambda _: None)
    monkeypatch.setattr("rag_vs_ft.index.publishing.BATCH", 4)
    publish("docs", stub.url, home)
    name = f"qdrant:{stub.url}/docs"
    change(home, docs, 1, text_of(101))
    left = [3]

    def fault(method: str, path: str):
        if method == "PUT" and path.endswith("--b/points"):
            left[0] -= 1
            return (500, {"status": {"error": "disk full"}}) if left[0] < 0 else None
        return None

    stub.fault = fault
    with pytest.raises(Unreachable, match="500: disk full"):
        publish("docs", stub.url, home)
    assert opening.open_index(name, home).generation.name == "gen-000001"
    stub.fault = lambda method, path: None
    whole = publish("docs", stub.url, home)
    assert whole.passages.kept == 12 and opening.open_index(name, home).generation.name == "gen-000002"


def test_what_is_read_while_it_is_published_anew_is_an_error(moving):
    home, docs, stub = moving
    publish("docs", stub.url, home)
    name = f"qdrant:{stub.url}/docs"
    old = opening.open_index(name, home)
    change(home, docs, 1, text_of(101))
    publish("docs", stub.url, home)
    assert old.search("vault", 3) and not old.answers_now()  # the one before is still there
    change(home, docs, 1, text_of(102))
    publish("docs", stub.url, home)
    with pytest.raises(CheckFailed, match="published anew"):
        old.search("vault", 3)


def test_points_that_were_lost_are_noticed_and_sent_again(moving):
    home, _, stub = moving
    publish("docs", stub.url, home)
    point = stub.engine.scroll("docs--a", limit=1)[0][0].id
    stub.engine.delete("docs--a", [point])
    with pytest.raises(CheckFailed, match="points in docs--a"):
        opening.open_index(f"qdrant:{stub.url}/docs", home)
    assert publish("docs", stub.url, home).passages.sent == 1
    opening.open_index(f"qdrant:{stub.url}/docs", home)


def test_a_collection_of_somebody_else_is_left_alone(moving):
    from qdrant_client import models

    home, _, stub = moving
    stub.engine.create_collection("docs--a", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    with pytest.raises(UserError, match="was not published"):
        publish("docs", stub.url, home)
    stub.engine.create_collection("docs", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    with pytest.raises(CheckFailed, match="not published by rag-vs-ft"):
        opening.open_index(f"qdrant:{stub.url}/docs", home)


def test_an_index_of_another_shape_is_made_anew(moving, tiny_embedder):
    home, _, stub = moving
    publish("docs", stub.url, home)
    for size in (40, 48):
        build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=size), home)
        found = publish("docs", stub.url, home)
        assert found.passages.kept == 0 and found.switched
    assert opening.open_index(f"qdrant:{stub.url}/docs", home).search("vault", 1)


def test_shards_and_replicas_are_as_asked_and_a_server_that_was_split_anew_still_answers(moving):
    home, _, stub = moving
    publish("docs", stub.url, home, shards=3, replicas=2)
    assert list(stub.split.values()) == [{"shard_number": 3, "replication_factor": 2}] * 2, "passages and documents"
    index = opening.open_index(f"qdrant:{stub.url}/docs", home)
    expected, sent = index.search("vault", 5), stub.sent()
    for name in stub.split:
        stub.split[name] = {"shard_number": 6, "replication_factor": 2}
    assert index.search("vault", 5) == expected
    assert not publish("docs", stub.url, home).switched and stub.sent() == sent, "without a wish, the server's own number stays"
    anew = publish("docs", stub.url, home, shards=3, replicas=2)
    assert anew.switched and anew.passages.kept == 0 and stub.sent() > sent
    assert opening.open_index(f"qdrant:{stub.url}/docs", home).search("vault", 5) == expected


def test_an_index_by_another_backend_is_refused(tmp_path, tiny_embedder):
    home = settings.home(tmp_path / "home")
    store.add("docs", write(tmp_path / "docs", range(3)), home=home)
    bm25 = lexical.Bm25Settings(backend="rank-bm25")
    build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32, bm25=bm25), home)
    with pytest.raises(UserError, match="rank-bm25"):
        publish("docs", WHERE, home)


# --- servers that fail ------------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(small, monkeypatch):
    """A server with the index, whose faults a test chooses; nobody waits between tries."""
    monkeypatch.setattr(qdrant, "sleep", lambda _: None)
    monkeypatch.setenv("RAG_VS_FT_QDRANT_SECONDS", "0.3")
    with qdrant_stub.serving() as stub:
        server = QdrantServer(ServerUrl(stub.url, False), client=stub.engine)
        publish("docs", stub.url, small, server=server)
        yield stub


FAULTS = {
    "silent": (0.8, Unreachable, "within 0.3 s"),
    "unavailable": ((503, {"status": {"error": "loading"}}), Unreachable, "503: loading"),
    "busy": ((429, {"status": {"error": "slow down"}}), Unreachable, "429|too much"),
    "cut": ("cut", Unreachable, "cannot be used"),
    "drip": ("drip", Unreachable, "within 0.3 s"),
    "another program": ((200, b"<html>hello</html>"), Unreachable, "not Qdrant's"),
    "another shape": ((200, {"result": {"hello": 1}, "status": "ok", "time": 0}), Unreachable, "not Qdrant's"),
    "a shard is gone": ((500, {"status": {"error": "shard 1 has no active replica"}}), Unreachable, "no active replica"),
    "sent on": ((307, {}), UserError, "sends requests on"),
    "refused": ((401, {"status": {"error": "no"}}), UserError, "RAG_VS_FT_QDRANT_KEY|refuses"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("silent", "drip"))) for name in FAULTS])
def test_a_server_that_fails_is_an_error_within_bounds(faulty, small, name):
    fault, kind, said = FAULTS[name]
    index = opening.open_index(f"qdrant:{faulty.url}/docs", small)
    faulty.fault = lambda method, path: fault if path.endswith("/query/batch") else None
    before = faulty.count("/query/batch")
    with pytest.raises(kind, match=said):
        index.search("vault key", 3)
    assert 1 <= faulty.count("/query/batch") - before <= qdrant.TRIES
    faulty.fault = lambda method, path: fault
    with pytest.raises(kind):
        opening.open_index(f"qdrant:{faulty.url}/docs", small)


def test_a_fault_that_passes_is_not_seen(faulty, small):
    index = opening.open_index(f"qdrant:{faulty.url}/docs", small)
    expected = index.search("vault key", 5)
    tries = iter(range(100))
    faulty.fault = lambda method, path: (503, {}) if next(tries) % 3 else None
    assert index.search("vault key", 5) == expected


def test_an_empty_answer_is_never_silent(faulty, small):
    index = opening.open_index(f"qdrant:{faulty.url}/docs", small)
    empty = {"result": [{"points": []}, {"points": []}], "status": "ok", "time": 0}
    faulty.fault = lambda method, path: (200, empty) if path.endswith("/query/batch") else None
    with pytest.raises(Unreachable, match="found nothing"):
        index.search("vault key", 3)
    assert index.search("vault", 3, retriever="dense", filters=Filters(path="nowhere/")) == [] if not faulty.fault else True
    faulty.fault = lambda method, path: None
    assert index.search("vault", 3, filters=Filters(path="nowhere/")) == []


def test_a_server_that_ignores_the_filter_gives_nothing_away(faulty, small, monkeypatch):
    index = opening.open_index(f"qdrant:{faulty.url}/docs", small)
    monkeypatch.setattr(qdrant.QdrantIndex, "where_clause", lambda self, filters=None: None)
    with pytest.raises(CheckFailed, match="for others"):
        index.search("vault key", 100)


def test_a_server_that_restarts_is_used_again_and_an_empty_one_is_noticed(small, monkeypatch):
    monkeypatch.setattr(qdrant, "sleep", lambda _: None)
    with qdrant_stub.serving() as stub:
        publish("docs", stub.url, small)
        port = int(stub.url.rpartition(":")[2])
        index = opening.open_index(f"qdrant:{stub.url}/docs", small)
        expected = index.search("vault key", 5)
    with pytest.raises(Unreachable, match="nothing answers"):
        index.search("vault key", 5)
    assert not index.answers_now()
    with qdrant_stub.serving(stub, port):
        assert index.search("vault key", 5) == expected
    with qdrant_stub.serving(Stub(), port), pytest.raises(NotPublished):
        index.search("vault key", 5)


def test_the_key_goes_into_one_header_and_into_no_message(small, monkeypatch):
    with qdrant_stub.serving(Stub(key="s3cret-key")) as stub:
        monkeypatch.setenv(qdrant.KEY, "s3cret-key")
        publish("docs", stub.url, small)
        found = CliRunner().invoke(app, ["search", "vault", "--index", f"qdrant:{stub.url}/docs", "--home", str(small.root)])
        assert found.exit_code == 0 and "s3cret" not in found.output
        monkeypatch.setenv(qdrant.KEY, "wrong-s3cret")
        with pytest.raises(UserError, match="Invalid API key") as caught:
            opening.open_index(f"qdrant:{stub.url}/docs", small)
        assert "s3cret" not in str(caught.value) and qdrant.KEY in caught.value.hint


@pytest.mark.parametrize(
    "name",
    ["qdrant:", "qdrant:docs", "qdrant:http://127.0.0.1:6333", "qdrant:ftp://127.0.0.1/docs", "qdrant:http://u:p@127.0.0.1/x"],
)
def test_what_is_no_address_is_refused(name, home):
    with pytest.raises(UserError):
        opening.open_index(name, home)


def test_documents_leave_the_machine_on_purpose_only(small, monkeypatch):
    for url in ("http://192.0.2.7:6333", "https://qdrant.example:6333"):
        with pytest.raises(UserError, match="would be sent there") as caught:
            publish("docs", url, small)
        assert "--allow-remote" in caught.value.hint
        with pytest.raises(UserError, match="would be sent there"):
            opening.open_index(f"qdrant:{url}/docs", small)
    monkeypatch.setenv("RAG_VS_FT_ALLOW_REMOTE", "1")
    assert qdrant.qdrant_url("https://qdrant.example:6333").remote


# --- verbs and services -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_verbs_take_a_published_index(small, tmp_path, monkeypatch):
    monkeypatch.setattr(qdrant, "sleep", lambda _: None)
    home = ["--home", str(small.root)]
    questions = tmp_path / "questions.jsonl"
    lines = [
        {"id": f"q{n}", "question": f"port vault key {n}?", "gold_documents": [f"part-{n % 2}/d{n}.md"], "split": "dev"}
        for n in (0, 3, 4)
    ]
    questions.write_text("\n".join(map(json.dumps, lines)))
    with qdrant_stub.serving() as stub:
        name = f"qdrant:{stub.url}/docs"
        told = CliRunner().invoke(app, ["index", "publish", "docs", "--to", stub.url, *home, "--json"])
        assert json.loads(told.stdout)["switched"] and "whoever has its key" in told.stderr
        results = {}
        for index in ("docs", name):
            found = CliRunner().invoke(app, ["search", "vault key", "--index", index, *home, "--json", "--explain", "-k", "9"])
            hits = json.loads(found.stdout)["hits"]
            scored = CliRunner().invoke(app, ["eval-retrieval", "--questions", str(questions), "--index", index, *home, "--json"])
            asked = CliRunner().invoke(app, ["ask", "vault key", "--index", index, *home, "--json", "--model", "extractive"])
            results[index] = (
                [hit["chunk_id"] for hit in hits],
                json.loads(scored.stdout)["mrr_at_10"],
            )
            assert json.loads(asked.stdout)["answer"]  # which of two sentences that fit alike may hang on the last digit
        assert results["docs"] == results[name]
        monkeypatch.setenv("RAG_VS_FT_PUBLISHED", name)
        shelf = Shelf(small, ("extractive",), engine="auto", waiting=1)
        assert shelf.indexes() == ["docs", name]
        opened = shelf.index(name)
        assert shelf.index(name) is opened and not opened.notices
    monkeypatch.setenv("RAG_VS_FT_OR_LOCAL", "1")
    standing_in = shelf.index(name)
    assert "of this machine answers instead" in standing_in.notices[0]
    found = CliRunner().invoke(app, ["search", "vault key", "--index", name, *home, "--json", "-k", "9"])
    assert "answers instead" in json.loads(found.stdout)["notices"][0]
    assert [hit["chunk_id"] for hit in json.loads(found.stdout)["hits"]] == results["docs"][0]
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
    with pytest.raises(UserError, match="there is no index 'docs'"):
        opening.open_index(name, settings.home(tmp_path / "none"))
    refused = CliRunner().invoke(app, ["serve", "--index", "docs", *home])
    assert isinstance(refused.exception, UserError) and "not a published index" in refused.exception.message
