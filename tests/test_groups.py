"""A passage for named groups reaches nobody else, whichever way it is asked for."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from examples import at_least
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rag_vs_ft import groups, settings
from rag_vs_ft.cli import app
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation import contexts
from rag_vs_ft.index import build
from rag_vs_ft.index.build import Recipe
from rag_vs_ft.index.search import FUSIONS, RETRIEVERS, Filters, Index

NAMES = ("finance", "hr", "staff")
ALL = [frozenset(some) for size in range(4) for some in combinations(NAMES, size)]


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(root)


def read(root: Path, files: dict[str, str], home: settings.Home, **chosen: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The groups of each document of a corpus of these files."""
    store.add("c", write(root, files), home=home, **chosen)
    return {document.id: document.groups for document in store.open_corpus("c", home).all_documents()}


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ("hr", ("hr",)),
        (" staff , hr\nhr ", ("hr", "staff")),
        (["Human Resources", "hr"], ("Human Resources", "hr")),
        ("a\u0308b", ("äb",)),
    ],
)
def test_groups_are_a_list_of_names(stated, named):
    assert groups.parse(stated) == named


@pytest.mark.parametrize(
    "stated", ["", " , ", [], None, 3, True, {"hr": 1}, [1], [["hr"]], ["h\x1br"], "x" * 101, [f"g{n}" for n in range(101)]]
)
def test_what_is_no_list_of_names_is_never_everyone(stated):
    with pytest.raises(ValueError):
        groups.parse(stated)


def test_the_nearest_statement_counts(tmp_path, home):
    found = read(
        tmp_path / "docs",
        {
            "open.md": "# Open\n\nText.\n",
            "pay/table.md": "# Pay\n\nText.\n",
            "pay/deep/rules.md": "# Rules\n\nText.\n",
            "pay/own.md": "---\ngroups: [staff]\n---\n# Own\n\nText.\n",
            "pay/file.txt": "Text of a file.\n",
            "pay.groups": "finance\nhr\n",
            "pay/deep.groups": "hr\n",
            "pay/file.txt.groups": "finance",
        },
        home,
    )
    assert found == {
        "open.md": (),
        "pay/table.md": ("finance", "hr"),
        "pay/deep/rules.md": ("hr",),
        "pay/own.md": ("staff",),
        "pay/file.txt": ("finance",),
    }
    manifest = store.open_corpus("c", home).manifest
    assert manifest.restricted == {"finance": 2, "hr": 2, "staff": 1}
    assert not manifest.skipped


def test_what_the_user_chose_is_for_documents_that_name_none(tmp_path, home):
    files = {"a.md": "# A\n\nText.\n", "b.md": "---\ngroups: hr\n---\n# B\n\nText.\n"}
    assert read(tmp_path / "docs", files, home, groups=("staff",)) == {"a.md": ("staff",), "b.md": ("hr",)}
    again = store.update("c", home=home)
    assert not again.written
    changed = store.update("c", groups=(), home=home)
    assert changed.changes.relabelled == 1
    assert [document.groups for document in store.open_corpus("c", home).all_documents()] == [(), ("hr",)]


@pytest.mark.parametrize(
    "head",
    [
        "---\ngroups:\n---\n",
        "---\ngroups: []\n---\n",
        "---\ngroups: {hr: yes}\n---\n",
        "---\nGroups: 7\n---\n",
        "---\ntitle: [\ngroups:\n  - hr\n---\n",
        "---\ntitle: 'x\ngroups:\n  - hr\n---\n",
        "---\ntitle: x\ngroups:\n  - hr\n",
        "+++\ntitle = \ngroups = ['hr']\n+++\n",
        '{\n "title": "x",\n "groups": ["hr"\n}\n',
    ],
)
def test_groups_that_cannot_be_read_leave_the_document_out(tmp_path, home, head):
    found = read(tmp_path / "docs", {"a.md": head + "# A\n\nSecret.\n", "b.md": "# B\n\nText.\n"}, home)
    assert found == {"b.md": ()}
    assert any(reason.startswith("its groups cannot be read") for reason in store.open_corpus("c", home).manifest.skipped)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_groups_are_read_in_any_encoding(tmp_path, home, encoding):
    root = tmp_path / "docs"
    write(root, {"b.md": "# B\n\nText.\n"})
    (root / "a.md").write_text("---\ngroups: hr\n---\n# A\n\nSecret.\n", encoding=encoding)
    assert read(root, {}, home) == {"a.md": ("hr",), "b.md": ()}


def test_a_file_of_groups_that_is_a_link_or_not_text_leaves_its_documents_out(tmp_path, home):
    root = tmp_path / "docs"
    write(root, {"hr/a.md": "# A\n\nSecret.\n", "pay/a.md": "# A\n\nSecret.\n", "open.md": "# B\n\nText.\n", "gone.groups": "hr"})
    (tmp_path / "outside").write_text("hr")
    (root / "hr.groups").symlink_to(tmp_path / "outside")
    (root / "pay.groups").write_bytes(b"\0\1")
    assert read(root, {}, home) == {"open.md": ()}
    assert store.open_corpus("c", home).manifest.notes == {"names groups for a file or folder that is not there": 1}


def test_a_changed_file_of_groups_changes_the_documents(tmp_path, home):
    files = {"hr/a.md": "# A\n\nText.\n", "b.md": "# B\n\nText.\n"}
    assert read(tmp_path / "docs", files, home) == {"b.md": (), "hr/a.md": ()}
    write(tmp_path / "docs", {"hr.groups": "hr"})
    assert store.update("c", home=home).changes.relabelled == 1
    (tmp_path / "docs" / "hr.groups").write_text(",")
    assert store.update("c", home=home).changes.removed == 1


def test_a_document_does_not_include_what_its_readers_may_not_read(tmp_path, home):
    include = "Before.\n\n[!INCLUDE [pay](hr/pay.md)]\n\nAfter.\n"
    files = {
        "open.md": "# Open\n\n" + include,
        "both.md": "---\ngroups: hr, staff\n---\n# Both\n\n" + include,
        "hr.md": "---\ngroups: hr\n---\n# Hr\n\n" + include,
        "hr/pay.md": "The pay is 7,000.\n",
        "hr.groups": "hr",
    }
    store.add("c", write(tmp_path / "docs", files), dialect="learn", home=home)
    texts = {document.id: document.text for document in store.open_corpus("c", home).all_documents()}
    assert {key for key, text in texts.items() if "7,000" in text} == {"hr.md", "hr/pay.md"}
    assert store.open_corpus("c", home).manifest.notes["include of a file that is for other groups"] == 2
    (tmp_path / "docs" / "hr.groups").unlink()  # what is included changed for whom it is, and not its text
    store.update("c", home=home)
    texts = {document.id: document.text for document in store.open_corpus("c", home).all_documents()}
    assert {key for key, text in texts.items() if "7,000" in text} == {"both.md", "hr.md", "hr/pay.md", "open.md"}


def test_lines_of_a_file_name_their_groups(tmp_path, home):
    lines = [{"id": "a", "text": "One.", "groups": ["hr"]}, {"id": "b", "text": "Two."}]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    store.add("c", f"jsonl:{path}", home=home)
    assert [document.groups for document in store.open_corpus("c", home).all_documents()] == [("hr",), ()]
    path.write_text(json.dumps({"id": "a", "text": "One.", "groups": []}))
    with pytest.raises(UserError, match="no group is named"):
        store.add("d", f"jsonl:{path}", home=home)


@pytest.fixture(scope="module")
def secret(tmp_path_factory, tiny_embedder) -> settings.Home:
    """An index with two documents for each set of groups, the same words in all."""
    place = tmp_path_factory.mktemp("secret")
    home = settings.home(place / "home")
    files = {}
    for number, named in enumerate(ALL):
        head = f"---\nms.service: service-{number}\ngroups: [{', '.join(sorted(named))}]\n---\n" if named else ""
        for part in "ab":
            text = "The port limit of the cluster is 443 days.\n\n"
            files[f"d{number}{part}.md"] = f"{head}# Ports\n\n{text}## Upgrade\n\nThe vault key of node {number} {part}.\n"
    store.add("c", write(place / "docs", files), home=home)
    build.build("c", "c", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    return home


READERS = st.sets(st.sampled_from([*NAMES, "guest", "Finance"])).map(frozenset)
WORDS = st.lists(st.sampled_from(["port", "vault", "key", "node", "limit", "finance", "hr", "443"]), min_size=1, max_size=4)


@hypothesis_settings(max_examples=at_least(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reader=READERS,
    words=WORDS,
    retriever=st.sampled_from(RETRIEVERS),
    fusion=st.sampled_from(FUSIONS),
    k=st.sampled_from([1, 5, 1000]),
    filters=st.sampled_from([None, Filters(path="d"), Filters(path="d7"), Filters(service="service-3")]),
)
def test_no_search_shows_a_passage_to_someone_else(secret, reader, words, retriever, fusion, k, filters):
    index = Index.open("c", secret).read_as(reader)
    query = " ".join(words)
    hits = index.search(query, k, retriever=retriever, fusion=fusion, filters=filters)
    assert all(groups.may_read(hit.chunk.groups, reader) for hit in hits)
    allowed = {f"d{number}{part}.md" for number, named in enumerate(ALL) if groups.may_read(named, reader) for part in "ab"}
    assert index.document_ids() == allowed
    assert index.document_ids(filters) <= allowed
    assert {chunk.document_id for chunk in index.chunks_of([f"d{n}{part}.md" for n in range(8) for part in "ab"])} == allowed
    if retriever == "dense" and k == 1000 and filters is None:
        assert {hit.chunk.document_id for hit in hits} == allowed
        assert len(hits) + index.hidden == len(index)
    ranks = [
        rank for hit in hits for rank in (hit.bm25_rank, hit.dense_rank, hit.document_bm25_rank, hit.document_dense_rank) if rank
    ]
    assert max(ranks, default=0) <= len(index) - index.hidden


def test_reading_as_another_does_not_change_the_first(secret):
    everyone = Index.open("c", secret)
    first = [hit.chunk.id for hit in everyone.search("vault key", 100)]
    finance = everyone.read_as(frozenset({"finance"}))
    assert len(finance.search("vault key", 100)) > len(first)
    assert [hit.chunk.id for hit in everyone.search("vault key", 100)] == first
    assert everyone.services() == []
    assert "service-1" in finance.services()


def test_training_questions_and_contexts_see_what_the_process_may_read(secret, monkeypatch):
    assert len(list(store.open_corpus("c", secret).documents())) == 2
    with pytest.raises(UserError, match="no document"):
        store.open_corpus("c", secret).get("d1a.md")
    monkeypatch.setenv("RAG_VS_FT_AS", "finance,hr,staff")
    assert len(list(store.open_corpus("c", secret).documents())) == 16
    assert store.open_corpus("c", secret).get("d1a.md").groups == ("finance",)
    assert Index.open("c", secret).hidden == 0


def test_random_passages_are_those_that_may_be_read(secret):
    import random

    from rag_vs_ft.records import Question

    index = Index.open("c", secret)
    question = Question("q", "vault", gold_documents=("d1a.md",))
    source = contexts.PassageSource(question, index, 5, "hybrid", random.Random(0))
    for name, context in contexts.CONTEXTS.items():
        if context.passages:
            assert all(not hit.chunk.groups for hit in context.passages(source)), name


def test_the_command_line_says_what_it_left_out(secret, monkeypatch):
    monkeypatch.setenv("RAG_VS_FT_AS", "")
    call = ["search", "vault key", "--index", "c", "--home", str(secret.root), "-k", "100", "--json"]
    bare = CliRunner().invoke(app, call)
    assert "passages for named groups are left out" in bare.stderr
    as_finance = CliRunner().invoke(app, [*call, "--as", "finance"])
    assert len(json.loads(as_finance.stdout)["hits"]) > len(json.loads(bare.stdout)["hits"])
    monkeypatch.setenv("RAG_VS_FT_AS", "")
    refused = CliRunner().invoke(app, [*call, "--as", "a,b"])
    assert isinstance(refused.exception, UserError)
    assert "a,b" in refused.exception.message


def test_an_index_without_groups_is_searched_as_before(home, tmp_path, tiny_embedder):
    store.add("c", write(tmp_path / "docs", {"a.md": "# Vault\n\nThe vault key.\n"}), home=home)
    build.build("c", "c", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    index = Index.open("c", home)
    assert index.rows() is None
    assert index.hidden == 0
