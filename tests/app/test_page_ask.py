"""Asking: the first start, answers with passages, settings, feedback, and everything that can be missing or fail."""

from __future__ import annotations

import html
import importlib
import re
import shutil
import sqlite3
import time

import pytest
import tiny

from rag_vs_ft import conversations, settings
from rag_vs_ft.cli.app import find_main
from rag_vs_ft.corpus import store
from rag_vs_ft.feedback import database_path, read_feedback
from rag_vs_ft.index import build
from rag_vs_ft.records import Answer


def texts(at) -> str:
    """All that is shown of questions, answers and passages, as a reader sees it."""
    bodies = [element.proto.body for element in at.get("html") if not element.proto.body.startswith("<script>")]
    drawn = [html.unescape(re.sub(r"<[^>]*>", "", body)) for body in bodies]
    return "\n".join([*(element.value for element in at.text), *drawn, *(element.value for element in at.code)])


def prompts(at) -> list[str]:
    """The prompts that are shown; other code on the page is the address of an answer."""
    return [element.value for element in at.code if "?c=" not in element.value]


def ask(at, question: str, max_new_tokens: int = 16):
    if [one for one in at.slider if one.key == "max_new_tokens"]:
        at.slider(key="max_new_tokens").set_value(max_new_tokens)
    at.chat_input[0].set_value(question).run()
    assert not at.exception, at.exception
    return at


def test_first_start_builds_the_sample(place, open_page, ended_job) -> None:
    at = open_page()
    assert "Nothing has been indexed yet" in at.title[0].value
    said = " ".join(element.value for element in at.markdown)
    assert "nothing is downloaded" in said
    at.button[0].click().run()
    ended_job("sample")
    at.run()
    articles = store.open_corpus("sample", place).manifest.counts.documents
    assert f"in {articles} articles" in said
    assert any(f"{articles} documents" in caption.value for caption in at.caption) and at.chat_input
    assert [button.label for button in at.main.button] == list(settings.SAMPLE_QUESTIONS)


def test_answer_has_passages_scores_and_figures(built, open_page) -> None:
    at = ask(open_page(), "How long is a deleted key vault kept?")
    assert "A deleted key vault is kept for 90 days." in texts(at)
    labels = [expander.label for expander in at.main.expander if expander.label != "Note"]
    assert len(labels) == 3 and labels[0].startswith("[1]") and any("Vault" in label for label in labels)
    captions = " ".join(caption.value for caption in at.caption)
    assert r"tokens\/s" in captions and r"docs\, generation 1" in captions
    assert r"vault\/keys\.md" in captions and "found by its words" in captions and "words of the question in it" in captions


def test_settings_come_from_the_url(built, open_page) -> None:
    at = open_page(k="5", retriever="bm25", temperature="0.5", cite="True")
    assert at.slider(key="k").value == 5 and at.selectbox(key="retriever").value == "bm25"
    assert at.selectbox(key="index").value == "docs" and at.slider(key="temperature").value == 0.5
    assert at.toggle(key="cite").value and not at.toggle(key="rewrite").value


@pytest.mark.parametrize("named", [{"index": "gone"}, {"model": "nope"}, {"retriever": "magic"}, {"service": "none"}])
def test_what_the_address_names_and_is_not_there_is_said_and_nothing_answers_instead(built, open_page, named) -> None:
    at = open_page(**named)
    (name,) = named.values()
    assert name in at.error[0].value and "not there" in at.error[0].value and not at.chat_input
    at.button[0].click().run()
    assert not at.error and at.chat_input


@pytest.mark.parametrize(
    ("page", "named", "why"),
    [
        ("", {"mode": "foo"}, "must be Answer or Search only"),
        ("", {"passages": "maybe"}, "must be true or false"),
        ("", {"cite": "1"}, "must be true or false"),
        ("", {"rewrite": "yes"}, "must be true or false"),
        ("", {"show_prompt": ""}, "without a value: must be true or false"),
        ("", {"k": "99"}, "must be a whole number from 1 to 10"),
        ("", {"k": "2.5"}, "must be a whole number from 1 to 10"),
        ("", {"temperature": "nan"}, "must be from 0.0 to 1.5"),
        ("", {"max_new_tokens": "many"}, "must be a whole number from 16 to 512"),
        ("", {"since": "yesterday"}, "no date, which is written as YYYY-MM-DD"),
        ("compare", {"k": "0"}, "must be a whole number from 1 to 10"),
        ("compare", {"max_new_tokens": "-1"}, "must be a whole number from 16 to 512"),
        ("compare", {"arms": "nobody"}, "not there (any more)"),
        ("rate", {"rated": "nobody"}, "not there (any more)"),
        ("index", {"view": "Attic"}, "must be Documents or Search or Generations or"),
        ("index", {"index": "gone"}, "not there (any more)"),
        ("tokens", {"next": "1"}, "must be true or false"),
    ],
)
def test_a_value_of_the_address_that_cannot_be_is_said_and_can_be_left(built, open_page, page, named, why) -> None:
    at = open_page(page, **named)
    ((key, value),) = named.items()
    said = at.error[0].value.replace("\\", "")
    assert value in said and why in said
    at.button(key=f"instead-{key}").click().run()
    assert not at.error and not at.exception


@pytest.mark.parametrize(
    ("page", "key", "given", "again"),
    [
        ("", "index", ["docs", "docs"], True),
        ("", "mode", ["Answer", "Search only"], True),
        ("", "retriever", ["bm25", "dense"], True),
        ("", "k", ["3", "5"], True),
        ("", "cite", ["true", "false"], True),
        ("", "path", ["aks/", "vault/"], True),
        ("", "since", ["2026-01-01", "2026-02-01"], True),
        ("", "c", ["c1", "c2"], False),
        ("", "answer", ["a1", "a2"], False),
        ("compare", "q", ["Port?", "Surge?"], True),
        ("rate", "questions", ["sample", "sample"], True),
        ("index", "document", ["vault/keys.md", "aks/pools.md"], False),
        ("index", "chunk", ["c1", "c2"], False),
        ("tokens", "tokenizer1", [settings.LANGUAGE_MODEL] * 2, True),
    ],
)
def test_of_two_values_in_the_address_none_is_taken(built, open_page, page, key, given, again) -> None:
    at = open_page(page, **{key: given})
    said = at.error[0].value.replace("\\", "")
    assert f"{', '.join(given)}: must be one value" in said and len(at.title) == 1
    offered = [one for one in at.button if one.key == f"instead-{key}"]
    assert bool(offered) is again
    if again:
        offered[0].click().run()
        assert not at.error and not at.exception


def test_an_answer_that_the_address_names_without_its_conversation_is_said(built, open_page) -> None:
    at = open_page(answer="nope")
    assert "not there any more" in at.warning[0].value and at.chat_input


def test_every_widget_of_the_address_is_made_where_its_value_is_looked_at() -> None:
    app = find_main().parent
    assert [path.name for path in app.rglob("*.py") if "query-params" in path.read_text("utf-8")] == ["addressed.py"]


def test_an_index_that_was_removed_under_a_conversation_is_said(built, documents, open_page) -> None:
    store.add("other", str(documents), home=built)
    build.build("other", "other", build.Recipe(precision="fp32"), built)
    at = ask(open_page(index="other"), "What is the port?")
    shutil.rmtree(built.indexes / "other")
    ask(at, "And which surge?")
    assert "other" in at.error[0].value and not at.chat_input and len(at.chat_message) == 2, "the first answer can be read"
    assert at.text[0].value == "And which surge?", "what was typed is not lost"
    again = open_page(c=conversation_of(built).id)
    assert "other" in again.error[0].value and not again.chat_input, "the conversation is of that index"


def test_a_mistyped_date_leaves_the_conversation_on_the_page(built, open_page) -> None:
    at = ask(open_page(), "What is the port?")
    at.text_input(key="since").set_value("last week").run()
    assert "no date" in at.error[0].value and len(at.chat_message) == 2 and not at.chat_input
    at.button(key="instead-since").click().run()
    assert not at.error and len(at.chat_message) == 2 and at.chat_input


def test_bare_model_and_prompt(built, open_page) -> None:
    at = open_page()
    at.toggle(key="passages").set_value(False)
    at.toggle(key="show_prompt").set_value(True)
    ask(at, "How many nodes?")
    (prompt,) = prompts(at)
    assert "How many nodes?" in prompt and "1000 nodes" not in prompt
    assert any("of 2,048 tokens" in expander.label for expander in at.expander)
    at.toggle(key="passages").set_value(True)
    ask(at, "How many nodes has a pool?")
    assert "1000 nodes" in prompts(at)[1] and len(at.chat_message) == 4


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
    at = ask(open_page(), "What is the port of the vault?")
    (documents / "vault/keys.md").write_text("# Vault\n\nThe port of the vault is 8443 now.\n", encoding="utf-8")
    store.update("docs", home=built)
    build.update("docs", built)
    ask(at, "What is the port of the vault?")
    assert "8443" in texts(at) and any("generation 2" in caption.value for caption in at.caption)


def test_feedback_is_stored_and_replaced(built, open_page) -> None:
    at = ask(open_page(), "What is the port?")
    at.get("feedback")[0].set_value(0).run()
    at.text_area[0].set_value("wrong port").run()
    (row,) = read_feedback(built)
    assert (row["thumb"], row["note"], row["question"]) == (0, "wrong port", "What is the port?")
    assert row["generation"] == "gen-000001" and len(row["chunk_ids"]) == 3 and row["model"] == settings.LANGUAGE_MODEL
    assert row["settings"]["retriever"] == "hybrid"


def test_a_note_that_is_too_long_is_cut_and_said(built, open_page) -> None:
    at = ask(open_page(), "What is the port?")
    at.text_area[0].set_value("é" * 2_001).run()
    (row,) = read_feedback(built)
    assert row["note"] == "é" * 2_000
    assert any("2\\,001 characters" in one.value and "the first 2\\,000" in one.value for one in at.warning)
    at.text_area[0].set_value("é" * 2_000).run()
    assert not at.warning


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


def test_no_language_model_on_the_machine(built, tiny_cache, tmp_path, monkeypatch, open_page) -> None:
    shutil.copytree(tiny_cache / "models" / settings.EMBEDDER, tmp_path / "some" / "models" / settings.EMBEDDER)
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "some"))
    at = open_page()
    assert "no language model" in at.info[0].value and button(at, f"Download {settings.LANGUAGE_MODEL}")
    ask(at, "What is the port of the vault?")
    assert "443" in texts(at) and not at.error, "what can be done without a model is done"


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
    log_id = re.search(r"under ([0-9a-f]{8})", error.value).group(1)
    assert log_id in caplog.text and "secret detail" in caplog.text
    at.run()
    assert log_id in at.error[0].value and caplog.text.count(log_id) == 1, "drawn again, logged once"
    assert at.expander, "the passages that were found are still shown"


def test_hostile_text_is_shown_and_does_nothing(hostile_index, parrot, open_page, hostile) -> None:
    at = ask(open_page(model=parrot, show_prompt="true"), f"Which port {hostile}?")
    assert at.text[0].value == f"Which port {hostile}?"
    answer, passage = (drawn.proto.body for drawn in at.get("html") if drawn.proto.body.startswith("<div"))
    for body in (answer, passage):
        # No tag but those of Markdown: the image is its alternative text, the script is text, the address is none.
        assert set(re.findall(r"<(\w+)", body)) <= {"div", "p", "mark"} and "&lt;script&gt;" in body
        assert "[l](javascript:alert(1)) :red[x] $x$" in body and "<img" not in body and "i.png" not in body
    assert passage.count("The secret port") == 1
    (link,) = at.get("link_button")
    assert hostile in prompts(at)[0] and link.proto.url.startswith("index?document=odd+%3Cscript"), "no javascript: link"
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


def test_a_search_needs_no_model_and_shows_what_matches(built, open_page) -> None:
    at = ask(open_page(mode="Search only"), "What is the port of the vault?")
    found = [drawn.proto.body for drawn in at.get("html") if "<mark>" in drawn.proto.body]
    assert found and any("443" in body and "<mark>port</mark>" in body for body in found)
    assert not prompts(at) and any("passages in" in caption.value for caption in at.caption)
    at.text_input(key="path").set_value("aks/").run()
    ask(at, "What is the port of the vault, again?")
    (turn,) = [turn for turn in conversation_of(built).turns if turn.chosen["path"]]
    assert turn.state == "found" and {hit.chunk.document_id for hit in turn.hits} == {"aks/pools.md"}


def conversation_of(home):
    (summary,) = conversations.summaries(home)
    return conversations.load(home, summary.id)


def test_a_conversation_is_there_again_after_a_reload_and_for_who_has_its_address(built, open_page) -> None:
    at = ask(open_page(), "How many nodes?")
    ask(at, "What is the port?")
    kept = conversation_of(built)
    assert [turn.question for turn in kept.turns] == ["How many nodes?", "What is the port?"]
    assert all(turn.state == "answered" and turn.hits and turn.answer for turn in kept.turns)
    assert kept.id in at.query_params["c"]
    again = open_page(c=kept.id)
    assert len(again.chat_message) == 4 and texts(again) == texts(at)
    linked = open_page(c=kept.id, answer=kept.turns[1].id)
    assert len(linked.chat_message) == 2 and linked.text[0].value == "What is the port?"
    button(linked, "Show the whole conversation").click().run()
    assert len(linked.chat_message) == 4


def test_a_long_conversation_is_shown_in_parts(built, open_page) -> None:
    for number in range(25):
        turn = conversations.Turn(
            f"Question {number}?", {"mode": "search", "passages": True, "index": "docs", "show_prompt": False}
        )
        turn.state, turn.time = "found", f"2026-01-01T00:00:{number:02}.000+00:00"
        conversations.save(built, "c1", turn)
    at = open_page(c="c1", mode="Search only")
    assert [text.value for text in at.text] == [f"Question {number}?" for number in range(20, 25)]
    assert "Questions 21 to 25 of 25" in [caption.value for caption in at.caption] and button(at, "Later").disabled
    for _ in range(4):
        button(at, "Earlier").click().run()
    assert at.text[0].value == "Question 0?" and len(at.chat_message) == 10 and button(at, "Earlier").disabled
    ask(at, "Which port?")
    assert "Questions 22 to 26 of 26" in [caption.value for caption in at.caption]
    assert conversations.load(built, "c1").turns[-1].earlier[-1] == "Question 24?"


def button(at, label: str):
    return next(one for one in at.button if one.label == label)


def test_conversations_are_named_found_opened_and_deleted(built, open_page) -> None:
    at = ask(open_page(), "How many nodes?")
    first = conversation_of(built).id
    at.text_input(key=f"name-{first}").set_value("Pools").run()
    assert at.title[0].value == "Pools"
    button(at, "New").click().run()
    assert at.title[0].value == "Ask the documents" and not at.chat_message
    ask(at, "What is the port of the vault?")
    at.text_input(key="find-conversation").set_value("nodes").run()
    names = [one.label for one in at.button if one.key and one.key.startswith("open-")]
    assert names == ["Pools (1)"]
    at.button(key=f"open-{first}").click().run()
    assert at.title[0].value == "Pools" and at.text[0].value == "How many nodes?"
    button(at, "Delete this conversation").click().run()
    button(at, "Delete it now").click().run()
    assert not at.chat_message and [one.name for one in conversations.summaries(built)] == ["What is the port of the vault?"]
    gone = open_page(c=first)
    assert "not there" in gone.error[0].value and gone.chat_input


def test_an_answer_that_a_stopped_server_did_not_finish_says_so(built, open_page) -> None:
    turn = conversations.Turn("How many?", {"mode": "answer", "passages": True, "index": "docs", "show_prompt": False})
    turn.text = "It has"
    conversations.save(built, "c1", turn)
    at = open_page(c="c1")
    assert any("server was stopped" in caption.value for caption in at.caption) and "It has …" in texts(at)
    button(at, "Ask again").click().run()
    assert [turn.state for turn in conversation_of(built).turns] == ["answering", "answered"]


def test_marks_of_lists_are_not_shown_as_an_answer(built, place, open_page, save_chain) -> None:
    def follow(tokenizer, asked):
        said = tokenizer.convert_tokens_to_ids("[4] [5] [6]")
        return {asked: said, said: tokenizer.eos_token_id}

    save_chain(place.runs / "lister", ["[4] [5] [6]"], follow)
    at = ask(open_page(model="lister"), "How many nodes?")
    assert "instead of an answer" in at.warning[0].value and "[4] [5] [6]" in texts(at)


def test_a_model_that_writes_marks_of_lists_alone_is_not_waited_for(built, place, open_page, save_chain) -> None:
    marks = [f"[{number}] " for number in range(4, 45)]

    def follow(tokenizer, asked):
        said = [tokenizer.convert_tokens_to_ids(mark) for mark in marks]
        return dict(zip([asked, *said], [*said, tokenizer.eos_token_id], strict=True))

    save_chain(place.runs / "lister", marks, follow)
    ask(open_page(model="lister"), "How many nodes?", max_new_tokens=128)
    (turn,) = conversation_of(built).turns
    assert turn.state == "answered" and "[15]" in turn.answer.answer and "[44]" not in turn.answer.answer


def test_an_answer_that_was_cut_off_looks_so_and_its_code_ends(built, open_page) -> None:
    chosen = {"mode": "answer", "passages": False, "index": "docs", "show_prompt": False}
    for finish, text in (("length", "Do this:\n```bash\naz lock list --res"), ("loop", "Use `az lock"), ("stop", "It is 443.")):
        answer = Answer(text, (), (), 9, 9, 1.0, "m", finish=finish)
        conversations.save(built, "c1", conversations.Turn(f"{finish}?", chosen, state="answered", answer=answer))
    shown = texts(open_page(c="c1"))
    assert "az lock list --res\n" in f"{shown}\n" and shown.count("…") == 2 and "It is 443. …" not in shown


def test_a_model_is_loaded_before_the_first_question(built, open_page) -> None:
    open_page()
    resources = importlib.import_module("resources")
    deadline = time.monotonic() + 60
    while not resources.is_loaded(settings.LANGUAGE_MODEL):
        assert time.monotonic() < deadline, "nobody loads it"
        time.sleep(0.1)


def test_it_is_said_that_a_model_is_loaded_and_the_time_counts(built, open_page, monkeypatch) -> None:
    at = open_page()
    answering = importlib.import_module("answering")
    stages = []

    def slow(name, load=answering.load_model):
        stages.extend(one.stage for one in answering._running().values())
        time.sleep(3)
        return load(name)

    monkeypatch.setattr(answering, "is_loaded", lambda _: False)
    monkeypatch.setattr(answering, "load_model", slow)
    ask(at, "How many nodes?")
    assert stages == [f"Loading the model {settings.LANGUAGE_MODEL}, once"]
    (turn,) = conversation_of(built).turns
    assert turn.loading_seconds >= 3 and turn.seconds >= turn.loading_seconds + turn.answer.seconds
    said = f"{turn.seconds:.1f} s in all, {turn.loading_seconds:.1f} s of them to load the model"
    assert any(said in caption.value.replace("\\", "") for caption in at.caption)


def test_passages_are_ordered_again_by_a_reranker(built, open_page) -> None:
    at = ask(open_page(mode="Search only", rerank="lm"), "What is the port of the vault?")
    assert not at.error and sum("before reranking" in caption.value for caption in at.caption) == 3


def test_an_answer_says_whether_the_passages_hold_it(built, place, open_page, save_chain) -> None:
    kept = "A deleted key vault is kept for 90 days"
    for name, said in (("knows", kept), ("invents", "Purple elephants dance quietly"), ("echoes", f"[1] {kept}")):

        def follow(tokenizer, asked, said=said):
            token = tokenizer.convert_tokens_to_ids(said)
            return {asked: token, token: tokenizer.eos_token_id}

        save_chain(place.runs / name, [said], follow)
    at = ask(open_page(model="knows"), "How long are deleted things kept?")
    assert any("rests on" in one.value for one in at.markdown)
    marked = [drawn.proto.body for drawn in at.get("html") if "<mark>" in drawn.proto.body]
    assert len(marked) == 1 and "<mark>A deleted key vault is kept for 90 days.</mark>" in marked[0]
    opened = [one for one in at.expander if one.proto.expanded]
    assert len(opened) == 1 and "cited" in opened[0].label
    at = ask(open_page(model="invents"), "How long are deleted things kept?")
    assert any("no passage supports" in one.value for one in at.markdown)
    at = ask(open_page(model="echoes"), "Which surge has a pool?")
    (cited,) = [one.label for one in at.expander if "cited" in one.label]
    assert "Vault" in cited and not cited.startswith("[1]"), "the number that a model repeats from its prompt"


@pytest.mark.parametrize(("options", "held"), [("--name keep", True), ("--name keep --force", False)])
def test_a_command_that_no_passage_has_does_not_pass_for_one_that_is_held(built, open_page, options, held) -> None:
    hits = tiny.make_hits("```bash\naz lock delete --name keep --resource-group rg\n```")
    answer = Answer(f"az lock delete {options}", (1,), tuple(hits), 9, 9, 1.0, "m")
    chosen = {"mode": "answer", "passages": True, "index": "docs", "show_prompt": False}
    turn = conversations.Turn("How?", chosen, state="answered", answer=answer, hits=hits)
    conversations.save(built, "c1", turn)
    at = open_page(c="c1")
    badges = [one.value for one in at.markdown if "-badge" in one.value and "[1]" in one.value.replace("\\", "")]
    assert len(badges) == 1 and ("rests on" in badges[0]) is held and ("no passage has this command" in badges[0]) is not held


def test_too_long_a_question_is_cut_and_said(built, open_page) -> None:
    at = ask(open_page(), "port " * 1_000)
    assert any("the first 2" in caption.value and "characters" in caption.value for caption in at.caption)
    assert not at.error


def test_stopping_keeps_what_was_written_and_a_page_change_does_not_stop(built, endless, open_page) -> None:
    answering = importlib.import_module("answering")
    chosen = {"mode": "answer", "passages": False, "model": endless, "index": "docs", "rerank": "", "temperature": 0.0}
    chosen |= {"k": 1, "retriever": "hybrid", "service": "", "path": "", "since": "", "max_new_tokens": 400, "show_prompt": False}
    running = answering.begin(built, "c1", conversations.Turn("Tell me everything", chosen))
    while not running.turn.text:
        running.wait(0.02)
    answering.stop(running.turn.id)
    running.wait(20)
    (turn,) = conversations.load(built, "c1").turns
    assert turn.state == "stopped" and turn.text and turn.answer is None
    at = open_page(c="c1")
    assert any(caption.value == "Stopped." for caption in at.caption)
    assert button(at, "New") and button(at, "Ask again") and not [one for one in at.button if one.label == "Stop"]
    answering.begin(built, "c1", conversations.Turn("And then?", chosen | {"max_new_tokens": 200}))
    at = open_page(c="c1")
    assert conversations.load(built, "c1").turns[-1].state == "answered", "a page that is drawn meanwhile waits for it"


def test_feedback_is_listed_and_exported_in_the_page(built, open_page) -> None:
    assert any("No feedback yet" in info.value for info in open_page("feedback").info)
    at = ask(open_page(), "What is the port?")
    at.get("feedback")[0].set_value(1).run()
    at = open_page("feedback")
    assert list(at.dataframe[0].value["question"]) == ["What is the port?"]


def test_a_server_can_be_the_model(built, open_page) -> None:
    from stub_server import says, serving

    with serving(says("A deleted key vault is kept for 90 days.")) as stub:
        at = open_page(model=f"{stub.url}#tiny")
        assert at.sidebar.selectbox(key="model").value == f"{stub.url}#tiny"
        ask(at, "How long is a deleted key vault kept?")
        assert "A deleted key vault is kept for 90 days." in texts(at)
        assert "11 + 3 tokens" in " ".join(caption.value for caption in at.caption).replace("\\", "")
    ask(at, "And a deleted key?")
    assert "nothing answers there" in at.error[0].value, at.error[0].value
