"""Index and Tokens: what is shown of documents, generations and tokens, and what can go wrong with them."""

from __future__ import annotations

import importlib
import json
import time

import psutil
import pytest
import tiny
from made_files import pdf

from rag_vs_ft import jobs, schedules
from rag_vs_ft.corpus import store
from rag_vs_ft.index import build, generations


def button(at, label: str):
    return next(one for one in at.button if one.label == label)


def texts(at) -> str:
    return "\n".join(element.value for element in at.text)


def drawn(part) -> str:
    """The HTML of a part of a page."""
    return "".join(element.proto.body for element in part.get("html"))


def test_first_start_is_offered_on_every_page_that_needs_an_index(place, open_page) -> None:
    for page in ("index", "compare", "rate"):
        at = open_page(page)
        assert "Nothing has been indexed yet" in at.title[0].value and at.button[0].label == "Build the sample", page


def test_documents_are_listed_found_and_opened_at_the_linked_passage(built, open_page) -> None:
    index = importlib.import_module("resources").open_index("docs")
    linked = next(chunk for chunk, _ in index.table.rows_of(["vault/keys.md"]) if "443" in chunk.text)
    at = open_page("index", document="vault/keys.md", chunk=linked.id)
    table = at.dataframe[0].value
    assert list(table["document"]) == ["aks/pools.md", "hostile.md", "vault/keys.md"]
    assert table["passages"].sum() == len(index) and table["tokens"].sum() == index.manifest.counts.tokens
    (marked,) = [one for one in at.expander if "this passage" in one.label]
    assert marked.proto.expanded and "443" in drawn(marked)
    at.text_input(key="find").set_value("POOLS").run()
    assert list(at.dataframe[0].value["document"]) == ["aks/pools.md"]


def test_a_citation_of_a_pdf_opens_the_text_of_its_page(place, tmp_path, open_page) -> None:
    def page(text: str):
        return lambda sheet: sheet.line(text, 72, 100)

    folder = tmp_path / "papers"
    folder.mkdir()
    told = ("The vault listens on port 443.", "Soft delete keeps keys for ninety days.", "Backups are made at night.")
    (folder / "vault.pdf").write_bytes(pdf(*map(page, told)))
    store.add("docs", str(folder), home=place)
    build.build("docs", "docs", build.Recipe(precision="fp32"), place)
    (chunk,) = importlib.import_module("resources").open_index("docs").chunks_of(["vault.pdf"])
    assert chunk.place == "p. 1 to p. 3"
    at = open_page("index", document="vault.pdf", chunk=chunk.id)
    pages = {one.label.partition(" :")[0].replace("\\", ""): drawn(one) for one in at.expander if one.label.startswith("p")}
    assert list(pages) == ["p. 1", "p. 2", "p. 3"]
    assert all(text in html and html.count("<mark>") for text, html in zip(told, pages.values(), strict=True))
    (folder / "vault.pdf").write_bytes(pdf(*map(page, told[:2])))
    store.update("docs", home=place)
    at = open_page("index", document="vault.pdf", chunk=chunk.id)
    assert "is not at hand: the documents were updated" in "".join(one.value.replace("\\", "") for one in at.caption)


def test_linked_document_that_is_gone_is_told(built, open_page) -> None:
    at = open_page("index", document="<b>gone</b>.md")
    assert "There is no passage" in at.warning[0].value and "<b>" not in at.warning[0].value


def test_linked_passage_that_is_gone_is_told_beside_those_of_its_document(built, open_page) -> None:
    at = open_page("index", document="vault/keys.md", chunk="nothing")
    assert "not in this generation any more" in at.warning[0].value and at.expander


def test_search_shows_hits_with_their_legs(built, open_page) -> None:
    at = open_page("index", view="Search", search="port 443")
    assert len(at.expander) > 3
    at.selectbox(key="retriever").set_value("bm25").run()
    assert "443" in drawn(at.expander[0]) and "<mark>port</mark>" in drawn(at)
    assert any(r"by its meaning\: not found" in caption.value for caption in at.caption)
    at.text_input(key="search").set_value("zebra").run()
    assert any("Nothing matches" in caption.value for caption in at.caption)
    at.text_input(key="search").set_value("port 443").run()
    button(at, "Show in the document").click().run()
    (marked,) = [one for one in at.expander if "this passage" in one.label]
    assert "443" in drawn(marked)


def test_update_goes_on_in_the_background_and_is_told(built, documents, open_page, ended_job) -> None:
    at = open_page("index", view="Generations")
    assert list(at.dataframe[0].value["answers"]) == ["now"]
    (documents / "new.md").write_text("# New\n\nA new article.\n", encoding="utf-8")
    (documents / "hostile.md").unlink()
    button(at, "Update").click().run()
    ended_job("update")
    at.run()
    assert "The index was updated" in at.success[0].value
    assert list(at.dataframe[0].value["answers"]) == ["", "now"]
    changes = at.dataframe[1].value
    assert sorted(zip(changes["change"], changes["document"], strict=True)) == [("added", "new.md"), ("removed", "hostile.md")]
    assert list(changes["passages added"]) == [1, 0] and list(changes["passages removed"])[1] > 0
    assert not open_page("index", view="Generations").success, "it is told to who saw it run"
    button(at, "Roll back").click().run()
    assert list(at.dataframe[0].value["answers"]) == ["now", ""]
    assert not at.success and "earlier generation answers" in at.info[0].value, "what was undone is not told any more"
    assert button(at, "Roll back").disabled


@pytest.mark.slow
def test_the_sample_can_be_updated_to_what_comes_with_it(place, open_page, ended_job) -> None:
    store.add("sample", "sample", home=place)
    build.build("sample", "sample", build.Recipe(precision="fp32"), place)
    at = open_page("index", view="Generations")
    button(at, "Try an update").click().run()
    ended_job("update")
    at.run()
    changes = at.dataframe[1].value
    assert (
        list(changes["change"]).count("changed") == 12 and list(changes["document"])[-1] == "aks/ingress-application-routing.md"
    )
    assert all(button.label != "Try an update" for button in at.button)


def test_verify_names_the_damaged_file(built, open_page, ended_job) -> None:
    at = open_page("index", view="Generations")
    button(at, "Verify").click().run()
    ended_job("verify")
    at.run()
    assert at.success[0].value == r"Every file of docs is as it was built\."
    path = built.indexes / "docs" / "gen-000001" / "faiss.index"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    button(at, "Verify").click().run()
    ended_job("verify", "failed")
    at.run()
    assert r"faiss\.index" in at.error[0].value and not at.success


def test_updates_are_scheduled_and_what_was_left_out_is_shown(built, documents, open_page) -> None:
    at = open_page("index", view="Generations")
    captions = " ".join(caption.value for caption in at.caption).replace("\\", "")
    assert "The documents were read" in captions and "generation 1 was built" in captions and "Next" not in captions
    at.selectbox(key="every-docs").set_value("every day").run()
    assert schedules.read(built)["docs"].hours == 24 and any(caption.value.startswith("Next") for caption in at.caption)
    assert "corpus update docs" in at.code[0].value
    assert any("docs is updated every day" in caption.value for caption in open_page("work").caption)
    at.selectbox(key="every-docs").set_value("never").run()
    assert schedules.read(built) == {} and not any(caption.value.startswith("Next") for caption in at.caption)
    assert not [one for one in open_page("index").expander if one.label.startswith("Left out")]
    (documents / "empty.md").write_text("", encoding="utf-8")
    store.update("docs", home=built)
    (left_out,) = [one for one in open_page("index").expander if one.label.startswith("Left out")]
    assert left_out.label == "Left out: 1" and "empty.md" in left_out.text[0].value


def test_update_while_another_process_builds_is_told(built, documents, open_page, ended_job) -> None:
    at = open_page("index", view="Generations")
    (documents / "new.md").write_text("# New\n\nA new article.\n", encoding="utf-8")
    with generations.building(built.indexes / "docs"):
        button(at, "Update").click().run()
        ended_job("update", "failed")
        at.run()
    assert "another process is building" in at.error[0].value


@pytest.mark.parametrize(
    ("told", "share", "line"),
    [
        (
            {"stage": "chunk", "done": 37, "total": 74, "left": 300.0},
            50,
            "Cutting the documents into passages, 37 of 74, about 5 min left",
        ),
        ({"stage": "pull", "done": 45_000_000, "total": 90_000_000}, 50, "Downloading, 45 of 90 MB"),
        ({"stage": "read"}, 0, "Reading the documents"),
    ],
)
def test_progress_has_its_unit_a_total_and_the_time_left(place, open_page, told, share, line) -> None:
    own = psutil.Process()
    job = {"id": "one", "work": "update", "title": "Updating", "arguments": {}, "started": time.time(), "pid": own.pid}
    path = jobs.folder(place) / "one.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(f"{json.dumps({**job, 'created': own.create_time()})}\n{json.dumps(told)}\n", encoding="utf-8")
    (bar,) = open_page("work").get("progress")
    assert (bar.proto.value, bar.proto.text.replace("\\", "")) == (share, line)


def test_cancelled_build_leaves_the_old_generation(built, documents, open_page, ended_job) -> None:
    at = open_page("index", view="Generations")
    for number in range(300):  # enough work that it is not over before it is cancelled
        (documents / f"new{number}.md").write_text(f"# New {number}\n\n{'A new article. ' * 50}\n", encoding="utf-8")
    button(at, "Update").click().run()
    button(at, "Cancel").click().run()
    ended_job("update", "cancelled")
    at.run()
    assert "was stopped" in at.info[0].value
    for page in ("work", "index"):
        at.switch_page(f"views/{page}.py")
        at.query_params["view"] = "Generations"
        at.run()
    assert button(at, "Update") and not at.info, "it was read"
    assert generations.current(built.indexes / "docs").name == "gen-000001"
    store.update("docs", home=built)
    assert build.update("docs", built).published, "the lock is free and nothing is in the way"


@pytest.fixture
def gpt2(place, monkeypatch):
    tiny.save_gpt2(place.runs / "small" / "last")
    (place.runs / "small" / "run.json").write_text("{}", encoding="utf-8")


def test_tokens_side_by_side(place, gpt2, open_page, hostile) -> None:
    at = open_page("tokens")
    counts = [metric.value for metric in at.metric if metric.label == "Tokens"]
    assert len(counts) == 2 and all(int(count.replace(",", "")) > 10 for count in counts)
    at.text_area(key="text").set_value(f"{hostile} naïve 🙂").run()
    assert not at.exception
    drawn = "".join(element.proto.body for element in at.get("html"))
    assert "<script" not in drawn and "<img" not in drawn and "&lt;" in drawn
    assert "◌" in drawn and any("◌ is a part of a character" in caption.value for caption in at.caption)


def test_next_tokens(place, gpt2, open_page) -> None:
    at = open_page("tokens", next="true", model="small")
    table = at.dataframe[0].value
    assert len(table) == 12 and table["probability"].is_monotonic_decreasing
    at.text_area(key="text").set_value("pump " * 2000).run()
    assert "do not fit" in at.error[0].value and any(metric.label == "Tokens" for metric in at.metric)


def test_empty_text(place, open_page) -> None:
    at = open_page("tokens")
    at.text_area(key="text").set_value("").run()
    assert not at.exception and not at.error
    assert [metric.value for metric in at.metric if metric.label == "Tokens"] == ["0", "0"]


def test_no_tokenizer(place, tmp_path, monkeypatch, open_page) -> None:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "empty"))
    at = open_page("tokens")
    assert "no tokenizer" in at.info[0].value and button(at, "Download gpt2-tokenizer")


def test_documents_of_ones_own_are_added_from_the_page(built, documents, open_page, ended_job) -> None:
    (documents / "nothing.md").write_text("", encoding="utf-8")
    (documents / "torn.pdf").write_bytes(b"%PDF-1.7 no pages")
    at = open_page("index", view="Add documents")
    at.text_input(key="corpus-name").set_value("docs")
    at.text_input(key="source").set_value(str(documents)).run()
    button(at, "Read and index them").click().run()
    assert "called 'docs' already" in at.error[0].value.replace("\\", "")
    at.text_input(key="corpus-name").set_value("mine").run()
    button(at, "Read and index them").click().run()
    made, *left_out = ended_job("index").notes
    assert made.startswith("3 documents are indexed")
    assert [note for note in left_out if "empty (nothing.md)" in note] and len(left_out) == 2
    assert [note for note in left_out if "torn.pdf: PDFSyntaxError: No /Root" in note], left_out
    at.run()
    assert "3 documents are indexed" in at.success[0].value and "mine" in at.selectbox(key="index").options
    links = {link.proto.label: link.proto.query_string for link in at.get("page_link")}
    assert links["Ask mine"] == links["Look at mine"] == "index=mine"


def test_a_folder_that_is_not_there_is_told(built, tmp_path, open_page, ended_job) -> None:
    at = open_page("index", view="Add documents")
    at.text_input(key="source").set_value(str(tmp_path / "gone"))
    at.text_input(key="corpus-name").set_value("mine").run()
    button(at, "Read and index them").click().run()
    ended_job("index", "failed")
    at.run()
    assert "gone" in at.error[0].value and "mine" not in at.selectbox(key="index").options


def test_dropped_files_are_kept_under_names_of_their_own(place, tmp_path) -> None:
    class Dropped:
        def __init__(self, name: str) -> None:
            self.name = name

        def getvalue(self) -> bytes:
            return b"# Pump"

    keep_files = importlib.import_module("add_documents").keep_files
    folder = keep_files(place, "mine", [Dropped("../../etc/a.md"), Dropped("C:\\b.md"), Dropped(".hidden"), Dropped("...")])
    kept = sorted(path.name for path in (place.root / "dropped" / "mine").iterdir())
    assert folder == str(place.root / "dropped" / "mine") and kept == ["a.md", "b.md", "hidden", "unnamed"]
