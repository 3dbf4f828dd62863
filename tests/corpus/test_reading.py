"""Files are read in child processes with limits, and only those that changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rag_vs_ft.corpus import child, reading, store
from rag_vs_ft.corpus.readers import BY_KIND, FileContext, LeftOut
from rag_vs_ft.settings import Home

Write = Callable[..., Path]
CONTEXT = FileContext("a.md", lambda _: None)


@pytest.fixture
def read_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files that are given to a reader."""
    paths: list[str] = []
    read = child.read

    def counted(kind: str, data: bytes, context: FileContext) -> object:
        paths.append(context.path)
        return read(kind, data, context)

    monkeypatch.setattr(child, "read", counted)
    return paths


def settled(root: Path) -> None:
    """Give all files a time at which nothing is changing any more."""
    for path in root.rglob("*"):
        os.utime(path, (time.time() - 100, time.time() - 100))


def test_only_what_changed_is_read_again(write_files: Write, home: Home, read_paths: list[str]) -> None:
    root = write_files({f"{number}.md": f"# {number}\n" for number in range(5)} | {"bad.pdf": "no PDF"})
    settled(root)
    store.add("docs", str(root), home=home)
    assert sorted(read_paths) == ["0.md", "1.md", "2.md", "3.md", "4.md", "bad.pdf"]
    read_paths.clear()
    assert not store.update("docs", home=home).written
    assert read_paths == []
    (root / "1.md").write_text("# one\n")
    (root / "2.md").touch()  # another time, the same bytes
    changes = store.update("docs", home=home).changes
    assert (read_paths, changes) == (["1.md"], store.Changes(added=0, changed=1, removed=0, unchanged=4, relabelled=0))
    read_paths.clear()
    (root / "3.md").unlink()
    assert store.update("docs", home=home).changes == store.Changes(0, 0, 1, 4, 0)
    assert read_paths == []


def test_a_change_within_the_clocks_grain_is_seen(write_files: Write, home: Home) -> None:
    root = write_files({"a.md": "# old\n"})
    store.add("docs", str(root), home=home)
    before = (root / "a.md").stat()
    (root / "a.md").write_text("# new\n")
    os.utime(root / "a.md", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.update("docs", home=home).changes == store.Changes(0, 1, 0, 0, 0)


def test_a_page_is_read_again_when_what_it_includes_changes(write_files: Write, home: Home, read_paths: list[str]) -> None:
    root = write_files(
        {"a.md": "---\nms.topic: x\n---\n# A\n\n[!INCLUDE [p](includes/p.md)]\n", "b.md": "# B\n", "includes/p.md": "Old.\n"}
    )
    settled(root)
    store.add("docs", str(root), home=home)
    read_paths.clear()
    (root / "includes" / "p.md").write_text("New.\n")
    assert store.update("docs", home=home).changes == store.Changes(0, 1, 0, 1, 0)
    assert read_paths == ["a.md"]
    assert "New." in store.open_corpus("docs", home).get("a.md").text
    (root / "includes" / "p.md").unlink()
    store.update("docs", home=home)
    assert store.open_corpus("docs", home).get("a.md").text == "# A\n"


def test_another_dialect_reads_all_again(write_files: Write, home: Home, read_paths: list[str]) -> None:
    root = write_files({"a.md": "# A\n\n## See also\n\n- [x](x.md)\n"})
    settled(root)
    store.add("docs", str(root), home=home)
    read_paths.clear()
    info = store.update("docs", dialect="learn", home=home)
    assert read_paths == ["a.md"] and info.manifest.dialect == "learn"
    assert store.open_corpus("docs", home).get("a.md").text == "# A\n"
    assert store.update("docs", home=home).manifest.dialect == "learn"  # the choice stays


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_damaged_cache_costs_time_and_nothing_else(damage: bytes | None, write_files: Write, home: Home) -> None:
    store.add("docs", str(write_files({"a.md": "# A\n", "b.md": "# B\n"})), home=home)
    cache = home.corpora / "docs" / reading.FILES
    data = cache.read_bytes()
    cache.write_bytes(data[:100] + b"\0" * 20 + data[120:] if damage is None else damage)
    assert store.update("docs", home=home).changes == store.Changes(0, 0, 0, 2, 0)


def test_one_file_with_many_parts_is_as_if_read_alone(write_files: Write, home: Home) -> None:
    """Several readers at once give the documents in order, with the same text."""
    files = {f"{number:03d}.md": f"# Page {number}\n\n" + "word " * number + "\n" for number in range(60)}
    store.add("docs", str(write_files(files)), home=home)
    for document in store.open_corpus("docs", home).documents():
        content = BY_KIND["markdown"].read(files[document.id].encode(), CONTEXT)
        assert (document.text, document.title) == (content.text, content.title)


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("while True: pass", "more than 1 s"),
        ("import time; time.sleep(1000)", "more than 1 s"),
        ("bytearray(1 << 40)", "memory"),
        ("bytearray(child.MEMORY_BYTES)", "needs more than 3 GB of memory"),  # which a machine of today has
        ("import os; os.kill(os.getpid(), 11)", "crashed"),
        ("import os; os._exit(0)", "crashed"),
        ("raise ValueError('bad bytes')", "damaged: cannot be read as text"),
        ("import no_such_package", "pip install"),
        ("print('a message between the messages'); raise KeyError", "damaged"),
    ],
)
def test_what_goes_wrong_in_a_reader_costs_its_file(source: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
from rag_vs_ft.corpus import child
from rag_vs_ft.corpus.readers import text
good = text.read
def read(data, context):
    if data == b"bad":
        {source}
    return good(data, context)
text.read = read
child.main()
"""
    monkeypatch.setattr(child, "_CODE", code)
    monkeypatch.setattr(child, "PATIENCE", 3)
    monkeypatch.setattr(child, "SECONDS_PER_MEGABYTE", 0)
    monkeypatch.setitem(child.BY_KIND, "text", replace(BY_KIND["text"], seconds=1))
    process = child._Child()
    try:
        with pytest.raises(LeftOut, match=reason):
            process.read("text", b"bad", CONTEXT)
        if not process.alive():
            process = child._Child()
        assert process.read("text", b"good", CONTEXT).text == "good\n"
    finally:
        process.end()


def test_a_reader_reaches_files_of_the_source_alone() -> None:
    asked: list[str] = []

    def others(path: str) -> str | None:
        asked.append(path)
        return "Included \ud800 text.\n" if path == "p.md" else None

    content = child.read("asciidoc", b"include::p.md[]\n\ninclude::../../etc/passwd[]\n", FileContext("a.adoc", others))
    assert content.text == "Included  text.\n" and content.notes["unresolved includes"] == 1
    assert "p.md" in asked and not any("passwd" in path for path in asked)
