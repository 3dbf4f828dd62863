"""Asking: the first start, answers with passages, settings, feedback, and everything that can be missing or fail."""

from __future__ import annotations

import importlib
import shutil
import sqlite3

import pytest

from rag_vs_ft import settings
from rag_vs_ft.demo import QUESTIONS
from rag_vs_ft.feedback import database_path, read_feedback
from rag_vs_ft.index import build
from rag_vs_ft.records import Chunk, Hit


def texts(at) -> str:
    return "\n".join(element.value for element in at.text)


def ask(at, question: str, max_new_tokens: int = 16):
    at.slider(key="max_new_tokens").set_value(max_new_tokens)
    at.chat_input[0].set_value(question).run()
    assert not at.exception, at.exception
    return at


def test_first_start_builds_the_sample(place, open_page, ended_job) -> None:
    at = open_page()
    assert "Nothing has been indexed yet" in at.title[0].value
    assert "nothing is downloaded" in " ".join(element.value for element in at.markdown)
    at.button[0].click().run()
    ended_job("sample")
    at.run()
    assert "74 documents" in at.caption[0].value and at.chat_input
    assert at.button[0].label == QUESTIONS[0]


def test_answer_has_passages_scores_and_figures(built, open_page) -> None:
    at = ask(open_page(), "How long is a deleted key vault kept?")
    assert "A deleted key vault is kept for 90 days." in texts(at)
    labels = [expander.label for expander in at.expander]
    assert len(labels) == 3 and labels[0].startswith("[1]") and any("Vault" in label for label in labels)
    captions = " ".join(caption.value for caption in at.caption)
    assert r"tokens\/s" in captions and r"docs gen\-000001" in captions
    assert r"vault\/keys\.md" in captions and r"words \(BM25\)\: 1st" in captions and "matched word stems" in captions


def test_settings_come_from_the_url_and_bad_ones_are_ignored(built, open_page) -> None:
    at = open_page(k="5", retriever="bm25", index="gone", temperature="hot")
    assert at.slider(key="k").value == 5 and at.selectbox(key="retriever").value == "bm25"
    assert at.selectbox(key="index").value == "docs" and at.slider(key="temperature").value == 0.0


def test_bare_model_and_prompt(built, open_page) -> None:
    at = open_page()
    at.toggle(key="passages").set_value(False)
    at.toggle(key="show_prompt").set_value(True)
    ask(at, "How many nodes?")
    (prompt,) = at.code
    assert "How many nodes?" in prompt.value and "1000 nodes" not in prompt.value
    assert "of 2,048 tokens" in at.expander[0].label
    at.toggle(key="passages").set_value(True)
    ask(at, "How many nodes has a pool?")
    assert "1000 nodes" in at.code[1].value and len(at.chat_message) == 4


def test_nothing_relevant_is_said_and_the_model_not_asked(built, open_page, monkeypatch) -> None:
    monkeypatch.setattr(settings, "RELEVANT_COSINE", 2.0)
    at = ask(open_page(show_prompt="true"), "What is the meaning of life?")
    assert "Nothing relevant was found in the documents." in texts(at)
    captions = " ".join(caption.value for caption in at.caption)
    assert "none of them close enough" in captions and "there is no prompt" in captions


def test_empty_question_is_not_asked(built, open_page) -> None:
    assert not ask(open_page(), "   ").chat_message


def test_unprintable_question_is_an_error_with_a_next_step(built, open_page) -> None:
    at = ask(open_page(), "\u200b")
    assert "the question is empty" in at.error[0].value


def test_update_by_another_process_is_picked_up(built, documents, open_page) -> None:
    from rag_vs_ft.corpus import store

    at = ask(open_page(), "What is the port of the vault?")
    (documents / "vault/keys.md").write_text("# Vault\n\nThe port of the vault is 8443 now.\n", encoding="utf-8")
    store.update("docs", home=built)
    build.update("docs", built)
    ask(at, "What is the port of the vault?")
    assert "8443" in texts(at) and any(r"gen\-000002" in caption.value for caption in at.caption)


def test_feedback_is_stored_and_replaced(built, open_page) -> None:
    at = ask(open_page(), "What is the port?")
    at.get("feedback")[0].set_value(0).run()
    at.text_area[0].set_value("wrong port").run()
    (row,) = read_feedback(built)
    assert (row["thumb"], row["note"], row["question"]) == (0, "wrong port", "What is the port?")
    assert row["generation"] == "gen-000001" and len(row["chunk_ids"]) == 3 and row["model"] == settings.LANGUAGE_MODEL
    assert row["settings"]["retriever"] == "hybrid"


def test_feedback_that_cannot_be_stored_does_not_take_the_answer_away(built, open_page) -> None:
    at = ask(open_page(), "What is the port?")
    database_path(built).write_bytes(b"this is no database " * 100)
    at.get("feedback")[0].set_value(1).run()
    assert not at.exception
    assert "not a database" in at.error[0].value and at.expander
    database_path(built).unlink()
    with sqlite3.connect(database_path(built)) as holder:
        holder.execute("CREATE TABLE other (id)")
        holder.execute("BEGIN EXCLUSIVE")
        at.get("feedback")[0].set_value(0).run()
        assert "locked" in at.error[0].value and at.expander


def test_feedback_in_a_home_that_cannot_be_written_is_told(built, open_page) -> None:
    at = ask(open_page(), "What is the port?")
    database_path(built).mkdir()  # root may write everywhere, but not over a folder
    at.get("feedback")[0].set_value(1).run()
    assert not at.exception and at.expander
    assert "unable to open" in at.error[0].value and "can be written" in at.error[0].value


def test_damaged_model_is_told_with_the_next_step(built, tiny_cache, tmp_path, monkeypatch, open_page) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(tiny_cache, cache)
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(cache))
    weights = cache / "models" / settings.LANGUAGE_MODEL / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    at = ask(open_page(), "What is the port?")
    assert "is damaged" in at.error[0].value and "again" in at.error[0].value
    shutil.copyfile(tiny_cache / "models" / settings.LANGUAGE_MODEL / "model.safetensors", weights)
    ask(at, "And now?")
    assert len(at.chat_message) == 4 and len(at.error) == 1


def test_no_model_on_the_machine(built, tmp_path, monkeypatch, open_page) -> None:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "empty"))
    at = open_page()
    assert "no language model" in at.warning[0].value and "rag-vs-ft models pull" in at.code[0].value


def test_damaged_index_is_told_and_the_page_stays(built, open_page) -> None:
    (built.indexes / "docs" / "gen-000001" / "chunks.arrow").unlink()
    at = open_page()
    assert r"no generation of index" in at.error[0].value
    ask(at, "What is the port?")
    assert len(at.chat_message) == 2 and at.error


def test_failure_that_nobody_expected_shows_a_log_id(built, monkeypatch, caplog, open_page) -> None:
    at = open_page()
    import rag_vs_ft.ask

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(rag_vs_ft.ask, "answer_question", broken)
    ask(at, "What is the port?")
    (error,) = at.error
    assert "secret detail" not in error.value and "RuntimeError" in error.value
    log_id = error.value.split("**")[1]
    assert log_id in caplog.text and "secret detail" in caplog.text
    at.run()
    assert log_id in at.error[0].value and caplog.text.count(log_id) == 1, "drawn again, logged once"
    assert at.expander, "the passages that were found are still shown"


def test_hostile_text_is_shown_as_it_is(hostile_index, parrot, open_page, hostile) -> None:
    at = ask(open_page(model=parrot, show_prompt="true"), f"Which port {hostile}?")
    question, answer, passage = (element.value for element in at.text)
    assert (question, answer, passage) == (f"Which port {hostile}?", hostile, f"The secret port {hostile} is 7.")
    (link,) = at.get("link_button")
    assert hostile in at.code[0].value and link.proto.url.startswith("index?document=odd+%3Cscript"), "no javascript: link"
    for element in (*at.markdown, *at.caption, *at.error, *at.expander):
        shown = getattr(element, "label", None) or element.value
        assert "![i](" not in shown and "<script>" not in shown


def test_two_visitors_share_one_model_and_one_reader(built, open_page) -> None:
    first, second = open_page(), open_page()
    ask(first, "How many nodes?")
    ask(second, "What is the port?")
    resources = importlib.import_module("resources")
    assert resources.load_model(settings.LANGUAGE_MODEL) is resources.load_model(settings.LANGUAGE_MODEL)
    assert resources.open_index("docs") is resources.open_index("docs")
    assert len(first.chat_message) == 2 == len(second.chat_message)


def test_new_conversation(built, open_page) -> None:
    at = ask(open_page(), "How many nodes?")
    next(button for button in at.button if button.label == "New").click().run()
    assert not at.chat_message


@pytest.mark.parametrize("text", ["plain", "~~~\n# out", "~~~~~", "![i](http://evil.example/i.png)"])
def test_export_keeps_every_text_inside_a_fence(place, text) -> None:
    from markdown_it import MarkdownIt

    conversation = importlib.import_module("conversation")
    chunk = Chunk("c", "d.md", text, "", text, 0, 1, 1)
    turn = conversation.Turn(text, {"k": 3}, pieces=[text], hits=[Hit(1, chunk, 1.0)])
    tokens = MarkdownIt().parse(conversation.as_markdown([turn]))
    fences = [token.content for token in tokens if token.type == "fence"]
    assert len(fences) == 3 and all(text in fence for fence in fences)
    outside = [token.content for token in tokens if token.type == "inline"]
    assert not any("evil" in line or "out" in line for line in outside)
