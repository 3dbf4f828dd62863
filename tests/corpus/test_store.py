from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from filelock import FileLock

import rag_vs_ft
from rag_vs_ft import files
from rag_vs_ft.corpus import manifest as manifests
from rag_vs_ft.corpus import store
from rag_vs_ft.corpus.manifest import CorpusCounts
from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.files import sha256_text
from rag_vs_ft.settings import Home

Write = Callable[..., Path]


def texts(name: str, home: Home) -> dict[str, str]:
    return {document.id: document.text for document in store.open_corpus(name, home).documents()}


def test_add_and_read(write_files: Write, home: Home) -> None:
    root = write_files(
        {
            "b/two.md": "---\ntitle: Two\nms.service: aks\nms.date: 01/02/2026\ndescription: D\n---\nBody é.\n\n## Part\n",
            "a.md": "# One\n\nText.\n",
        }
    )
    said: list[tuple[object, ...]] = []
    info = store.add("docs", str(root), home=home, progress=lambda *step: said.append(step))
    corpus = store.open_corpus("docs", home)
    assert len(corpus) == 2 and said
    one, two = corpus.documents()
    assert (one.id, one.title, one.text, one.url) == ("a.md", "One", "# One\n\nText.\n", "")
    assert (two.id, two.title, two.service, two.date, two.description) == ("b/two.md", "Two", "aks", "2026-01-02", "D")
    assert [(heading.level, heading.text, heading.offset) for heading in two.headings] == [(2, "Part", 9)]
    assert corpus.get("b/two.md") == two
    assert "a.md" in corpus and "c.md" not in corpus
    with pytest.raises(UserError, match=r"c\.md"):
        corpus.get("c.md")
    lines = f"a.md\0{sha256_text(one.text)}\nb/two.md\0{sha256_text(two.text)}\n"
    assert corpus.sha256 == hashlib.sha256(lines.encode()).hexdigest() == info.manifest.sha256
    assert info.manifest.counts == CorpusCounts(
        documents=2,
        source_bytes=sum(path.stat().st_size for path in root.rglob("*.md")),
        bytes=len((one.text + two.text).encode()),
        characters=len(one.text + two.text),
        words=7,
        tokens=None,  # no tokenizer has been pulled into this test's cache
    )
    assert info.manifest.source == str(root) and info.manifest.code_version == rag_vs_ft.__version__
    assert [found.name for found in store.list_corpora(home)] == ["docs"]
    json.dumps(info.to_json())


def test_ids_are_in_order_of_code_points_and_case_counts(write_files: Write, home: Home) -> None:
    names = ["B.md", "a-b/x.md", "a/x.md", "a.md", "b.md", "é.md", "😀.md"]
    store.add("docs", str(write_files(dict.fromkeys(names, "same"))), home=home)
    assert list(texts("docs", home)) == sorted(names)


def test_what_is_skipped_and_mended_is_counted(write_files: Write, home: Home) -> None:
    root = write_files(
        {
            "good.md": "# Good\n",
            "empty.docx": b"",
            "empty.md": "",
            "empty.pdf": b"",
            "head.md": "---\ntitle: only a head\n---\n",
            "image.md": "![alone](x.png)\n",
            "binary.md": b"\x00\x01\x02",
            "latin.md": b"# Caf\xe9\n",
            "utf16.md": "# Größe\n".encode("utf-16"),
            "mark.md": b"\xef\xbb\xbf# Mark\r\n\r\nText\r\n",
            "broken.md": "---\ntitle: a: b\n---\nKept.\n",
            "include.md": "A\n\n[!INCLUDE [x](gone.md)]\n",
            "faq.yml": "### YamlMime:FAQ\ntitle: Q\nsections:\n- questions:\n  - question: Why?\n    answer: Because.\n",
        }
    )
    manifest = store.add("docs", str(root), home=home).manifest
    found = texts("docs", home)
    assert found == {
        "broken.md": "Kept.\n",
        "good.md": "# Good\n",
        "include.md": "A\n",
        "latin.md": "# Café\n",
        "mark.md": "# Mark\n\nText\n",
        "utf16.md": "# Größe\n",
    }
    assert manifest.skipped == {
        "FAQ YAML (questions are mined from it; --include-faq takes it in)": 1,
        "binary": 1,
        "empty": 5,
    }
    assert manifest.skipped_examples["empty"] == ("empty.docx", "empty.md", "empty.pdf", "head.md", "image.md")
    assert manifest.notes["read as cp1252"] == 1
    assert manifest.notes["broken front matter"] == 1
    assert manifest.note_examples["unresolved includes"] == ("include.md",)
    assert len(found) + sum(manifest.skipped.values()) == 13


def test_faq_files_become_documents_when_asked(write_files: Write, home: Home) -> None:
    root = write_files(
        {"faq.yml": "### YamlMime:FAQ\ntitle: Q\nsections:\n- questions:\n  - question: Why?\n    answer: Because.\n"}
    )
    with pytest.raises(UserError, match="no documents") as caught:
        store.add("docs", str(root), home=home)
    assert "FAQ YAML" in caught.value.hint
    store.add("docs", str(root), include_faq=True, home=home)
    assert texts("docs", home) == {"faq.yml": "# Q\n\n## Why?\n\nBecause.\n"}
    assert store.update("docs", home=home).written is False  # the choice is kept


@pytest.mark.parametrize("files", [{}, {"a.bin": "text"}, {"empty.md": ""}])
def test_a_source_without_documents_leaves_nothing(files: dict[str, str | bytes], write_files: Write, home: Home) -> None:
    with pytest.raises(UserError, match="no documents in"):
        store.add("docs", str(write_files(files)), home=home)
    assert not (home.corpora / "docs").exists()
    assert store.list_corpora(home) == []


def test_names(write_files: Write, home: Home) -> None:
    root = str(write_files({"a.md": "x"}))
    for name in ("", "../up", "a/b", ".hidden"):
        with pytest.raises(UserError, match="name"):
            store.add(name, root, home=home)
    store.add("docs", root, home=home)
    with pytest.raises(UserError, match="exists") as caught:
        store.add("docs", root, home=home)
    assert "corpus update docs" in caught.value.hint
    with pytest.raises(UserError, match="no corpus 'other'") as caught:
        store.open_corpus("other", home)
    assert "docs" in caught.value.hint


def test_update_says_what_changed(write_files: Write, home: Home) -> None:
    root = write_files({"same.md": "same", "text.md": "old", "label.md": "---\nms.date: 01/01/2026\n---\nx", "gone.md": "gone"})
    store.add("docs", str(root), home=home)
    folder = home.corpora / "docs"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    unchanged = store.update("docs", home=home)
    assert (unchanged.changes, unchanged.written) == (store.Changes(0, 0, 0, 4, 0), False)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    (root / "gone.md").unlink()
    write_files({"text.md": "new", "label.md": "---\nms.date: 02/01/2026\n---\nx", "added.md": "added"})
    updated = store.update("docs", home=home)
    assert updated.changes == store.Changes(added=1, changed=1, removed=1, unchanged=1, relabelled=1)
    assert texts("docs", home) == {"added.md": "added\n", "label.md": "x\n", "same.md": "same\n", "text.md": "new\n"}
    assert store.open_corpus("docs", home).get("label.md").date == "2026-02-01"
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".parquet", ".parquet"]  # the old table is gone


def test_update_from_another_source(write_files: Write, home: Home) -> None:
    store.add("docs", str(write_files({"a.md": "1", "b.md": "2"}, "old")), home=home)
    new = write_files({"a.md": "1", "c.md": "3"}, "new")
    assert store.update("docs", str(new), home=home).changes == store.Changes(1, 0, 1, 1, 0)
    assert store.update("docs", home=home).manifest.source == str(new)


def test_a_failed_update_keeps_the_old_corpus(write_files: Write, home: Home) -> None:
    root = write_files({"a.md": "1"})
    store.add("docs", str(root), home=home)
    (root / "a.md").unlink()
    with pytest.raises(UserError, match="no documents"):
        store.update("docs", home=home)
    assert texts("docs", home) == {"a.md": "1\n"}
    assert len(list((home.corpora / "docs").iterdir())) == 3


def test_the_sample_can_be_added_and_updated(home: Home) -> None:
    store.add("sample", "sample", home=home)
    changes = store.update("sample", "sample:update", home=home).changes
    assert changes is not None and changes.changed and changes.removed and changes.unchanged
    assert all(document.title and document.headings for document in store.open_corpus("sample", home).documents())


def test_jsonl_and_book(tmp_path: Path, home: Home) -> None:
    rows = tmp_path / "d.jsonl"
    rows.write_text(
        json.dumps({"id": "x/1", "text": "# T\u202e\r\n\r\nB <b>", "url": "https://x.example", "date": "2026-01-01"}) + "\n"
    )
    store.add("rows", f"jsonl:{rows}", home=home)
    (document,) = store.open_corpus("rows", home).documents()
    assert (document.id, document.title, document.text) == ("x/1", "T", "# T\n\nB <b>\n")
    assert (document.url, document.date) == ("https://x.example", "2026-01-01")
    story = tmp_path / "s.txt"
    story.write_text("Words without chapters.\n")
    manifest = store.add("story", f"book:{story}", home=home).manifest
    assert any("no chapters" in note for note in manifest.notes)


def test_two_writers(write_files: Write, home: Home) -> None:
    root = str(write_files({"a.md": "x"}))
    store.add("docs", root, home=home)
    with FileLock(home.corpora / ".docs.lock"):
        with pytest.raises(Busy):
            store.update("docs", home=home)
        with pytest.raises(Busy):
            store.add("docs", root, home=home)
        assert texts("docs", home) == {"a.md": "x\n"}  # readers do not wait


def test_a_home_that_cannot_be_written(write_files: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file"):
        store.add("docs", str(write_files({"a.md": "x"})), home=Home(tmp_path / "file"))


def test_a_reader_that_was_overtaken(write_files: Write, home: Home) -> None:
    root = write_files({"a.md": "x"})
    store.add("docs", str(root), home=home)
    early, late = store.open_corpus("docs", home), store.open_corpus("docs", home)
    early.get("a.md")
    write_files({"a.md": "y"})
    store.update("docs", home=home)
    assert early.get("a.md").text == "x\n"
    with pytest.raises(Busy, match="updated"):
        late.get("a.md")


# --- damage ----------------------------------------------------------------------------------------------------------


def test_damage_is_named(write_files: Write, home: Home) -> None:
    root = str(write_files({"a.md": "x" * 5_000}))
    for name, damage in {
        "cut": lambda table, _: os.truncate(table, 100),
        "missing": lambda table, _: table.unlink(),
        "manifest": lambda _, manifest: manifest.write_text("{"),
        "elsewhere": lambda _, manifest: manifest.write_text('{"format": 1, "table": "../../etc/passwd"}'),
    }.items():
        table = home.corpora / name / store.add(name, root, home=home).manifest.table
        damage(table, home.corpora / name / "manifest.json")
        with pytest.raises(CheckFailed) as caught:
            store.open_corpus(name, home)
        assert name in caught.value.message and "remove" in caught.value.hint


def test_one_flipped_bit_is_noticed(write_files: Write, home: Home) -> None:
    info = store.add("docs", str(write_files({"a.md": "x" * 5_000})), home=home)
    table = home.corpora / "docs" / info.manifest.table
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    with pytest.raises(CheckFailed, match="damaged"):
        list(store.open_corpus("docs", home).documents())
    with pytest.raises(CheckFailed, match="damaged"):
        store.open_corpus("docs", home).get("a.md")


def test_another_format_is_refused(write_files: Write, home: Home) -> None:
    store.add("docs", str(write_files({"a.md": "x"})), home=home)
    path = home.corpora / "docs" / "manifest.json"
    files.write_record(path, files.read_json(path, "") | {"format": 99})
    with pytest.raises(UserError, match="99"):
        store.open_corpus("docs", home)


# --- a process that dies ---------------------------------------------------------------------------------------------

CRASHING = """
import os, sys
from pathlib import Path
from rag_vs_ft.corpus import store
from rag_vs_ft.settings import Home

left = int(sys.argv[3])

def dying(step):
    def run(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), 9)
        left -= 1
        return step(*arguments, **options)
    return run

# Every step that makes a file last, puts it in force or removes one, and the reports in between.
os.fsync = dying(os.fsync)
Path.replace = dying(Path.replace)
Path.unlink = dying(Path.unlink)
store.update("docs", home=Home(Path(sys.argv[1])), progress=dying(lambda *step: None))
"""


def test_a_killed_update_leaves_the_old_or_the_new(write_files: Write, home: Home) -> None:
    old = {"a.md": "old", "gone.md": "gone"}
    new = {"a.md": "new", "b.md": "added"}
    root = write_files(old)
    store.add("docs", str(root), home=home)
    (root / "gone.md").unlink()
    write_files(new)
    expected = [{key: text + "\n" for key, text in files.items()} for files in (old, new)]
    seen = []
    for step in range(30):
        command = [sys.executable, "-c", CRASHING, str(home.root), str(root), str(step)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(rag_vs_ft.__file__).parent.parent, check=False)
        assert done.returncode in (0, -9), done.stderr
        corpus = store.open_corpus("docs", home)
        found = texts("docs", home)
        assert found in expected
        lines = "".join(f"{key}\0{sha256_text(text)}\n" for key, text in found.items())
        assert corpus.sha256 == hashlib.sha256(lines.encode()).hexdigest()
        seen.append(expected.index(found))
        if done.returncode == 0:
            break
    assert done.returncode == 0, "the update never got to its end"
    assert seen == sorted(seen) and 0 in seen  # once new, always new
    assert len(seen) > 5
    left = sorted(path.suffix for path in (home.corpora / "docs").iterdir())
    assert left == [".json", ".parquet", ".parquet"] or seen[-2] == 1


# --- manifests and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        '"x"',
        "{}",
        '{"format": 1}',
        '{"format": 2}',
        "[" * 100_000,
        '{"format": 1, "table": ' + "[" * 200 + "]" * 200 + "}",
        "\x00",
    ],
)
def test_a_manifest_of_another_shape_is_named_and_hides_no_other(text: str, write_files: Write, home: Home) -> None:
    root = str(write_files({"a.md": "x"}))
    store.add("bad", root, home=home)
    store.add("good", root, home=home)
    (home.corpora / "bad" / "manifest.json").write_text(text)
    with pytest.raises(CheckFailed, match="bad"):
        store.open_corpus("bad", home)
    assert [info.name for info in store.list_corpora(home)] == ["good"]
    assert list(store.damaged_corpora(home)) == ["bad"]


def test_every_field_of_a_manifest_is_checked(write_files: Write, home: Home) -> None:
    store.add("docs", str(write_files({"a.md": "x"})), home=home)
    path = home.corpora / "docs" / "manifest.json"
    whole = files.read_json(path, "")
    # Manifests of an earlier version lack what was added since.
    later = {
        field.name
        for field in fields(manifests.CorpusManifest)
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    for field in whole:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != field}))
        if field in later - {"format"}:
            assert len(store.open_corpus("docs", home)) == 1
        else:
            with pytest.raises(CheckFailed, match="manifest"):
                store.open_corpus("docs", home)
        path.write_text(json.dumps(whole | {field: 3.5}))
        with pytest.raises(CheckFailed, match="manifest"):
            store.open_corpus("docs", home)


def test_a_table_of_an_earlier_version_opens(write_files: Write, home: Home) -> None:
    import pyarrow.parquet as pq

    info = store.add("docs", str(write_files({"a.md": "# A\n"})), home=home)
    table = home.corpora / "docs" / info.manifest.table
    pq.write_table(pq.read_table(table).drop_columns(["kind", "places"]), table)
    path = home.corpora / "docs" / "manifest.json"
    changed = {"table_bytes": table.stat().st_size, "table_sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
    files.write_record(path, files.read_json(path, "") | changed)
    (document,) = store.open_corpus("docs", home).documents()
    assert (document.kind, document.places) == ("markdown", ())


def test_nothing_of_a_name_or_title_steers_a_terminal(write_files: Write, home: Home, tmp_path: Path) -> None:
    bad = "a\x1b[31m\nb\u202ec"
    root = write_files(
        {f"{bad}.md": f'---\ntitle: "{bad.encode("unicode_escape").decode()}\\0"\n---\nText.\n', "empty\x07.md": ""}
    )
    rows = tmp_path / "d.jsonl"
    rows.write_text(json.dumps({"id": bad + "\ud800", "text": "x", "title": bad, "date": "\x1b"}) + "\n")
    for name, source in (("folder", str(root)), ("rows", f"jsonl:{rows}")):
        info = store.add(name, source, home=home)
        (document,) = store.open_corpus(name, home).documents()
        shown = json.dumps([document.id, document.title, document.date, *info.manifest.skipped_examples.get("empty", ())])
        assert "\\u001b" not in shown.replace("\\\\u001b", "") and "\\n" not in shown.replace("\\\\u000a", "")
        assert all(letter.isprintable() for letter in json.loads(shown)[0] + json.loads(shown)[1])
    with pytest.raises(UserError, match="usable path"):
        store.add("nobody", "~nosuchuser/x", home=home)
    with pytest.raises(UserError, match="usable path"):
        store.add("no-path", "a\0b", home=home)


def test_a_line_nested_too_deep(home: Home, tmp_path: Path) -> None:
    rows = tmp_path / "d.jsonl"
    rows.write_text('{"id": "a", "text": "x", "more": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(UserError, match=r"d\.jsonl:1"):
        store.add("rows", f"jsonl:{rows}", home=home)


def test_the_folder_of_ones_documents_as_home(write_files: Write) -> None:
    root = write_files({"a.md": "# A\n", "eval/results/e/report.md": "the right answers", "eval/results/e/manifest.json": "{}"})
    own = Home(root)
    store.add("docs", str(root), home=own)
    assert store.update("docs", home=own).changes == store.Changes(0, 0, 0, 1, 0)
    assert texts("docs", own) == {"a.md": "# A\n"}
