from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rag_vs_ft.corpus import sources
from rag_vs_ft.corpus.azure import page_facts
from rag_vs_ft.corpus.readers import LeftOut
from rag_vs_ft.corpus.sources import Options, Reading, read_source
from rag_vs_ft.errors import UserError
from rag_vs_ft.settings import Home

Write = Callable[..., Path]


def paths(reading: Reading) -> list[str]:
    """Paths of the files that can be read; why the others cannot is counted."""
    found = []
    for file in reading.files:
        try:
            file.read()
        except LeftOut as error:
            reading.skipped.add(error.reason, file.path)
        else:
            found.append(file.path)
    return found


def test_a_folder_in_order_of_path(write_files: Write) -> None:
    root = write_files({"b.md": "B", "a/z.md": "Z", "a-b/x.markdown": "X", "A.MD": "upper", "a.md": "lower"})
    reading = read_source(str(root))
    assert paths(reading) == ["A.MD", "a-b/x.markdown", "a.md", "a/z.md", "b.md"]
    assert (reading.kind, reading.source) == ("folder", str(root))
    assert reading.skipped.counts == {}


def test_every_file_that_is_left_out_has_a_reason(write_files: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.BY_ENDING, ".md", replace(sources.BY_ENDING[".md"], max_bytes=1_000))
    root = write_files(
        {
            "repo/LICENSE": "MIT",
            "repo/README.md": "about",
            "repo/ThirdPartyNotices.md": "notices",
            "repo/SECURITY.md": "report",
            "repo/docs/security-overview.md": "a document",
            "repo/docs/README.md": "a document too",
            "repo/docs/license-terms.md": "a document as well",
            "repo/docs/includes/part.md": "included",
            "repo/docs/TOC.yml": "- name: x",
            "repo/docs/toc.md": "# x",
            "repo/docs/index.yml": "### YamlMime:Landing\ntitle: x",
            "repo/docfx.json": "{}",
            "repo/docs/faq.yml": "\ufeff### YamlMime: FAQ  \ntitle: x",
            "repo/docs/image.png": b"\x89PNG",
            "repo/docs/big.md": "x" * 1_001,
            "repo/docs/fits.md": "x" * 1_000,
            "repo/.git/config": "[core]",
            "repo/.hidden.md": "hidden",
        }
    )
    reading = read_source(str(root))
    readable = set(paths(reading))
    found = [(file.path.removeprefix("repo/docs/"), file.kind) for file in reading.files if file.path in readable]
    assert found == [
        ("README.md", "markdown"),
        ("faq.yml", "faq"),
        ("fits.md", "markdown"),
        ("index.yml", "faq"),
        ("license-terms.md", "markdown"),
        ("security-overview.md", "markdown"),
    ]
    assert reading.skipped.counts == {
        "hidden": 2,
        "repository file (licence, readme and the like)": 4,
        "include (read where it is included)": 1,
        "table of contents": 2,
        "no reader for .json files": 1,
        "no reader for .png files": 1,
        "larger than 0.001 MB (split it)": 1,
    }
    assert reading.skipped.examples["larger than 0.001 MB (split it)"] == ["repo/docs/big.md"]


def test_a_readme_in_a_folder_that_is_no_repository_is_a_document(write_files: Write) -> None:
    assert paths(read_source(str(write_files({"README.md": "mine"})))) == ["README.md"]


def test_links_pipes_and_strange_names(write_files: Write, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    root = write_files({"real.md": "x", "sub/b.md": "y", 'new\nline "q" 😀.md': "z", "n" * 252 + ".md": "long"})
    (root / "loop").symlink_to("..")
    (root / "away").symlink_to(outside)
    (root / "link.md").symlink_to(outside / "secret.md")
    (root / "dangling.md").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe.md")
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xff.md")).write_text("x")
    reading = read_source(str(root))
    assert paths(reading) == ['new\nline "q" 😀.md', "n" * 252 + ".md", "real.md", "sub/b.md"]
    assert reading.skipped.counts == {"link or special file": 5, "file name is not UTF-8": 1}
    json.dumps(reading.skipped.examples).encode("utf-8")
    assert reading.bytes_of("link.md") is None
    assert reading.bytes_of("away/secret.md") is None
    assert reading.bytes_of("../outside/secret.md") is None
    assert reading.bytes_of("real.md") == b"x"


def test_files_that_vanish_or_cannot_be_read(write_files: Write) -> None:
    root = write_files({"a.md": "a", "b.md": "b", "c.md": "c"})
    reading = read_source(str(root))
    (root / "a.md").unlink()
    (root / "b.md").unlink()
    (root / "b.md").symlink_to("/etc/passwd")  # became a link after the listing
    assert paths(reading) == ["c.md"]
    assert reading.skipped.counts == {"unreadable": 2}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_permissions(write_files: Write) -> None:
    root = write_files({"a.md": "a", "b.md": "b", "locked/c.md": "c"})
    (root / "a.md").chmod(0)
    (root / "locked").chmod(0)
    reading = read_source(str(root))
    try:
        assert paths(reading) == ["b.md"]
        assert reading.skipped.counts == {"unreadable": 2}
    finally:
        (root / "locked").chmod(0o700)


@pytest.mark.parametrize(
    "source", ["", "no/such/folder", "--upload-pack=evil", "ext::sh -c evil", "book:", "book:nope", "jsonl:nope"]
)
def test_sources_that_are_none(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        read_source(source)
    assert caught.value.hint


def test_a_document_is_a_source(write_files: Write) -> None:
    root = write_files({"a.md": "x", "b.md": "y", "c.bin": "z"})
    reading = read_source(str(root / "a.md"))
    assert (paths(reading), reading.kind) == (["a.md"], "file")
    with pytest.raises(UserError, match="a file without a reader"):
        read_source(str(root / "c.bin"))


@pytest.mark.parametrize("home_inside", [True, False], ids=["this home", "another home"])
def test_what_the_product_writes_is_no_source(home_inside: bool, write_files: Write, tmp_path: Path) -> None:
    written = {
        "corpora/docs/manifest.json": "{}",
        "corpora/docs/notes.md": "x",
        "indexes/docs/CURRENT": "1",
        "indexes/docs/1/readme.md": "x",
        "runs/r/run.json": "{}",
        "runs/r/card.md": "x",
        "eval/results/e/manifest.json": "{}",
        "eval/results/e/report.md": "questions and right answers",
        "eval/results/e/report.html": "the same",
    }
    mine = {"a.md": "mine", "runs/overview.md": "mine", "eval/plan.md": "mine", "corpora/latin/list.md": "mine"}
    root = write_files(written | mine)
    reading = read_source(str(root), Options(Home(root if home_inside else tmp_path / "elsewhere")))
    assert paths(reading) == sorted(mine)
    assert reading.skipped.counts[sources.OWN_FILES] == 4


# --- the sample ------------------------------------------------------------------------------------------------------


def test_sample_and_its_update() -> None:
    before = {file.path: file.read() for file in read_source("sample").files}
    after = {file.path: file.read() for file in read_source("sample:update").files}
    update = sources.SAMPLE / "update"
    removed = set((update / "removed.txt").read_text(encoding="utf-8").split())
    replaced = {str(path.relative_to(update)) for path in update.rglob("*.md")}
    assert len(before) > 10
    assert removed and removed <= before.keys()
    assert after.keys() == (before.keys() | replaced) - removed
    assert {path for path in before.keys() & after.keys() if before[path] != after[path]} <= replaced


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("azure-aks-docs/articles/aks/x.md", "https://learn.microsoft.com/en-us/azure/aks/x"),
        ("copy/2026/azure-aks-docs/articles/aks/a/b.md", "https://learn.microsoft.com/en-us/azure/aks/a/b"),
        ("azure-security-docs/articles/key-vault/index.md", "https://learn.microsoft.com/en-us/azure/key-vault"),
        ("azure-docs-cli/docs-ref-conceptual/Latest-version/x.md", "https://learn.microsoft.com/en-us/cli/azure/x"),
        (
            "azure-docs-cli/docs-ref-conceptual/LTS-version/x.md",
            "https://learn.microsoft.com/en-us/cli/azure/x?view=azure-cli-lts",
        ),
        ("azure-docs-cli/other/x.md", ""),
        ("my-azure-aks-docs/articles/aks/x.md", ""),
        ("my-azure-aks-docs/azure-aks-docs/articles/aks/x.md", "https://learn.microsoft.com/en-us/azure/aks/x"),
        ("notes/x.md", ""),
    ],
)
def test_page_url(path: str, url: str) -> None:
    assert page_facts(path).get("url", "") == url


def test_a_service_that_a_page_does_not_state() -> None:
    assert page_facts("azure-aks-docs/articles/aks/x.md")["service"] == "azure-kubernetes-service"
    assert page_facts("azure-security-docs/articles/attestation/x.md")["service"] == ""
    assert page_facts("notes/x.md") == {}


# --- JSON Lines and books --------------------------------------------------------------------------------------------


def test_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    rows = [
        {"id": "b", "text": "B\ud800\0 [x](y)", "title": "T", "url": "u", "service": "s", "date": "2026-01-01"},
        {"id": "a", "text": "A"},
    ]
    file.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    found = list(read_source(f"jsonl:{file}").files)
    assert [file.path for file in found] == ["a", "b"]
    assert found[1].known == {"title": "T", "url": "u", "service": "s", "date": "2026-01-01"}
    assert found[1].kind == "text"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a"}', "'text' is missing"),
        ('{"id": " ", "text": "x"}', "'id' is missing"),
        ('{"id": 3, "text": "x"}', "'id' is missing"),
        ('{"id": "a", "text": "x", "url": 3}', "'url' is not a string"),
        ('{"id": "z", "text": "x"}', "twice"),
        ("[1]", "expected an object"),
        ("{", "not JSON"),
    ],
)
def test_jsonl_that_is_wrong(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text('{"id": "z", "text": "x"}\n' + line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        list(read_source(f"jsonl:{file}").files)
    assert "d.jsonl:2" in caught.value.message


def test_book(tmp_path: Path) -> None:
    file = tmp_path / "b.txt"
    file.write_text("CHAPTER I\n\nOnce.\n\nCHAPTER II\n\nAgain.\n")
    reading = read_source(f"book:{file}")
    assert [(part.path, part.known["title"]) for part in reading.files] == [
        ("chapter-01", "CHAPTER I"),
        ("chapter-02", "CHAPTER II"),
    ]
