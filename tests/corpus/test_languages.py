"""The language of documents: recognised, chosen, kept through an update, and what an index makes of it."""

import json

import pytest

from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError

ENGLISH = "# Vaults\n\nThe vault keeps its keys for 90 days, and you can restore them with a command.\n"
GERMAN = "# Tresore\n\nDer Tresor behält die Schlüssel 90 Tage, und Sie können sie mit einem Befehl wiederherstellen.\n"
JAPANESE = "# 金庫\n\nキーは90日間保持され、コマンドで復元できます。\n"


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "docs"
    source.mkdir()
    for name, text in {"a.md": ENGLISH, "b.md": GERMAN, "c.md": JAPANESE, "d.md": "# 7\n\n42\n"}.items():
        (source / name).write_text(text, encoding="utf-8")
    return source


def languages(home):
    return {document.id: document.language for document in store.open_corpus("docs", home).documents()}


def test_each_document_has_its_language(folder, home):
    info = store.add("docs", str(folder), home=home)
    assert languages(home) == {"a.md": "en", "b.md": "de", "c.md": "ja", "d.md": ""}
    assert info.manifest.languages == {"": 1, "de": 1, "en": 1, "ja": 1} and info.manifest.language is None
    assert json.loads(json.dumps(info.to_json()))["languages"]["de"] == 1


def test_a_language_that_is_chosen_goes_for_all_until_another_is(folder, home):
    store.add("docs", str(folder), language="de", home=home)
    assert set(languages(home).values()) == {"de"}
    (folder / "e.md").write_text(ENGLISH + "\nMore of it.\n", encoding="utf-8")
    assert store.update("docs", home=home).manifest.language == "de"
    assert languages(home)["e.md"] == "de"
    chosen = store.update("docs", language="ja", home=home)
    assert chosen.written and chosen.changes.relabelled == 5 and set(languages(home).values()) == {"ja"}
    assert store.update("docs", language="auto", home=home).manifest.language is None
    assert languages(home) == {"a.md": "en", "b.md": "de", "c.md": "ja", "d.md": "", "e.md": "en"}
    assert not store.update("docs", home=home).written


def test_a_language_that_is_not_known_is_refused_before_anything_is_written(folder, home):
    with pytest.raises(UserError, match="no language 'klingon'"):
        store.add("docs", str(folder), language="klingon", home=home)
    assert not store.has_corpus("docs", home)
    store.add("docs", str(folder), home=home)
    with pytest.raises(UserError, match="no language 'xx'"):
        store.update("docs", language="xx", home=home)
