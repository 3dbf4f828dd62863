"""What a page can do without a terminal, in a browser: documents, conversations, ratings and the password."""

from __future__ import annotations

import json
import subprocess

import pytest
from made_files import pdf
from serving import serving, status, websocket_status
from stub_server import says
from stub_server import serving as endpoint
from test_browser import ask, own_address_only, wait_until
from test_browser import visit as visit

from rag_vs_ft import conversations, jobs, schedules
from rag_vs_ft.corpus import store
from rag_vs_ft.feedback import agreements
from rag_vs_ft.index import build, opening
from rag_vs_ft.training import runs
from rag_vs_ft.training.record import read_record

PASSWORD = "correct horse"
GIT = ("git", "-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main")


def add(page, name: str) -> None:
    """Name the documents and index them."""
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Name", exact=True).press("Enter")
    page.get_by_role("button", name="Read and index them").click()


def search(page, question: str, answers: int) -> str:
    """Everything that the last search of a conversation shows."""
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    box.press("Enter")
    page.get_by_role("button", name="Ask again").nth(answers - 1).wait_for()
    return page.get_by_test_id("stChatMessage").last.inner_text()


@pytest.mark.slow
def test_documents_of_a_folder_a_repository_and_dropped_files_are_searched_side_by_side(
    place, documents, tmp_path, tiny_cache, visit
) -> None:
    (documents / "empty.md").write_text("", encoding="utf-8")
    repository = tmp_path / "pumps"
    (repository / "guide").mkdir(parents=True)
    (repository / "guide" / "oil.md").write_text("# Oil\n\nThe pump needs nine litres of oil.\n", encoding="utf-8")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "Oil"]):
        subprocess.run([*GIT, *words], cwd=repository, check=True)
    told = ("The valve opens at 4 bar.", "A closed valve is checked each week.")
    paper = pdf(*((lambda sheet, text=text: sheet.line(text, 72, 100)) for text in told))
    with serving(place, tiny_cache) as port:
        url = f"http://localhost:{port}"
        visit.goto(url)
        visit.get_by_label("Folder", exact=True).fill(str(documents))
        add(visit, "handbook")
        visit.get_by_test_id("stChatInputTextArea").wait_for()
        visit.goto(f"{url}/index")
        visit.get_by_text("Left out: 1").click()
        visit.get_by_text("empty.md").wait_for()

        visit.goto(f"{url}/index?view=Add+documents")
        visit.get_by_text("A git address").click()
        visit.get_by_label("Address", exact=True).fill(repository.as_uri())
        add(visit, "pumps")
        visit.get_by_text("1 document is indexed in 1 passage.").wait_for()
        visit.get_by_text("Dropped files").click()
        files = [{"name": "valve.pdf", "mimeType": "application/pdf", "buffer": paper}]
        visit.locator("input[type=file]").set_input_files([*files, {"name": "x.bin", "mimeType": "", "buffer": b"\x00\x01"}])
        visit.get_by_text("valve.pdf").first.wait_for()
        add(visit, "papers")
        wait_until(lambda: "papers" in opening.all_indexes(place), 60)

        # Search only, with filters; both ways of finding are explained.
        visit.goto(f"{url}/?mode=Search+only&index=handbook")
        shown = search(visit, "What is the port of the vault?", 1)
        assert "vault/keys.md" in shown and "443" in shown and "found by its words: 1st" in shown and "by its meaning:" in shown
        visit.get_by_test_id("stSidebar").get_by_text("Search", exact=True).last.click()
        visit.get_by_label("Documents below").fill("aks/")
        visit.get_by_label("Documents below").press("Enter")
        visit.wait_for_url("**path=aks*")
        shown = search(visit, "And the port of a node pool?", 2)
        assert "aks/pools.md" in shown and "vault/keys.md" not in shown
        visit.goto(f"{url}/?mode=Search+only&index=pumps&c=")
        assert "nine litres" in search(visit, "How much oil?", 1)
        visit.goto(f"{url}/?mode=Search+only&index=papers&c=")
        assert "valve.pdf" in search(visit, "When does the valve open?", 1)
        with visit.expect_popup() as opened:
            visit.get_by_text("Show in the document").first.click()
        for page in ("p. 1", "p. 2"):
            opened.value.get_by_text(page, exact=False).first.wait_for()
        wait_until(lambda: opened.value.locator("mark").count() == 2)
        opened.value.close()

        visit.goto(f"{url}/index?index=handbook&view=Generations")
        visit.get_by_label("Update by itself").click()
        visit.get_by_role("option", name="every day").click()
        visit.get_by_text("or when the app is started after that").wait_for()
        assert schedules.read(place)["handbook"].hours == 24
        visit.goto(f"{url}/work")
        visit.get_by_text("handbook is updated every day").wait_for()
        assert own_address_only(visit, port)


@pytest.mark.slow
def test_a_password_opens_pages_conversations_and_downloads_and_nothing_is_there_without(built, tiny_cache, visit) -> None:
    with serving(built, tiny_cache, "--address", "0.0.0.0", RAG_VS_FT_PASSWORD=PASSWORD) as port:
        url = f"http://localhost:{port}"
        assert status(port, "/")[:2] == (401, b"A password is needed.\n")
        page = visit.context.browser.new_context(http_credentials={"username": "me", "password": PASSWORD}).new_page()
        page.goto(f"{url}/?max_new_tokens=16")
        ask(page, "What is the port of the vault?", 1)
        with page.expect_download() as waited:
            page.get_by_role("button", name="Export").click()
        download = waited.value
        assert "What is the port of the vault?" in download.path().read_text(encoding="utf-8")
        path = "/" + download.url.partition(f":{port}/")[2]
        assert path.startswith("/media/") and status(port, path)[0] == 401, "who does not know the password gets no export"
        assert websocket_status(port) == 403

        # Named, found by words, opened, deleted.
        page.get_by_text("Conversations", exact=True).click()
        page.get_by_label("Name", exact=True).fill("Ports")
        page.get_by_label("Name", exact=True).press("Enter")
        page.get_by_role("heading", name="Ports").wait_for()
        page.get_by_role("button", name="New").click()
        page.get_by_role("heading", name="Ask the documents").wait_for()
        ask(page, "How many nodes?", 1)
        page.get_by_label("Find", exact=True).fill("vault")
        page.get_by_label("Find", exact=True).press("Enter")
        page.get_by_role("button", name="Ports (1)").click()
        page.get_by_role("heading", name="Ports").wait_for()
        page.go_back()
        page.get_by_role("heading", name="How many nodes?").wait_for()
        page.go_forward()
        page.get_by_role("heading", name="Ports").wait_for()
        page.get_by_role("button", name="Delete this conversation").click()
        page.get_by_role("button", name="Delete it now").click()
        page.get_by_role("heading", name="Ask the documents").wait_for()
        assert [one.name for one in conversations.summaries(built)] == ["How many nodes?"]
        page.context.close()


@pytest.mark.slow
def test_answers_of_a_server_are_compared_and_two_raters_agree(built, tiny_cache, visit) -> None:
    with endpoint(says("It is kept for 90 days.")) as stub, serving(built, tiny_cache) as port:
        server = f"{stub.url}#tiny".replace("#", "%23")
        arms = f"{server}&ARMS={server}+%2B+passages"
        url = f"http://localhost:{port}"
        visit.goto(f"{url}/compare?q=How+long%3F&max_new_tokens=16&other-model={server}&arms={arms.replace('ARMS', 'arms')}")
        visit.get_by_role("button", name="Compare", exact=True).click()
        visit.locator(".readable").filter(has_text="It is kept for 90 days.").nth(1).wait_for()
        visit.goto(f"{url}/rate?index=docs&other-model={server}&rated={arms.replace('ARMS', 'rated')}")
        for name in ("Ann", "Ben"):
            visit.get_by_label("Your name").fill(name)
            visit.get_by_label("Your name").press("Enter")
            visit.get_by_label("Or a question of your own").fill("How long is it kept?")
            visit.get_by_label("Or a question of your own").press("Enter")
            visit.get_by_role("button", name="Next question").click()
            visit.get_by_role("button", name="Equally good").click()
            visit.get_by_text("Answer 1:").wait_for()
        visit.get_by_text("Agreement between raters").wait_for()
        (agreed,) = agreements(built)
        assert (agreed.rated, agreed.share) == (1, 1.0) and {agreed.rater, agreed.other} == {"Ann", "Ben"}


@pytest.mark.slow
def test_training_is_stopped_kept_and_resumed_from_the_page_and_does_not_need_its_tab(built, tiny_cache, visit) -> None:
    sizes = {"steps": "100000", "eval_every": "50000", "layers": "1", "heads": "2", "width": "16"}
    sizes |= {"window": "16", "vocab_size": "300", "rows_per_step": "2", "batch_size": "2", "validation_fraction": "0.3"}
    sizes |= {"log_every": "1"}
    training = {"arm": "scratch", "corpus": "docs", "preset": "nano", "run": "first", "overrides": sizes}
    folder = built.runs / "first"
    url_of = "http://localhost:{}/training".format
    job = jobs.start(built, "train", "Training first", training)
    try:
        with serving(built, tiny_cache) as port:
            visit.goto(url_of(port))
            visit.get_by_role("button", name="Stop and keep").wait_for()
            visit.get_by_text("Loss (nats per token)").wait_for()
            visit.get_by_role("button", name="Stop and keep").click()
            visit.get_by_text("Its last checkpoint is step").wait_for()
            visit.get_by_test_id("stMetric").filter(has_text="stopped").wait_for()
            kept = runs.read_step((folder / "last").resolve())
            assert (
                kept > 0
                and read_record(folder).state != "finished"
                and "--home" in visit.get_by_test_id("stCode").last.inner_text()
            )
            visit.get_by_text("What it writes").wait_for()  # what was kept can be asked
            visit.get_by_role("button", name="Resume").click()
            visit.get_by_role("button", name="Stop and keep").wait_for()
            other = visit.context.new_page()
            visit.close()
            wait_until(lambda: any(row["step"] > kept + 5 for row in runs.read_metrics(folder)), 60)
            other.goto(url_of(port))
            other.get_by_role("button", name="Stop and keep").click()
            other.get_by_test_id("stMetric").filter(has_text="stopped").wait_for()
            assert runs.read_step((folder / "last").resolve()) > kept
            other.goto(f"http://localhost:{port}/work")
            other.get_by_text("Training first").first.wait_for()
    finally:
        for one in jobs.list_jobs(built):
            if one.running:
                jobs.cancel(built, one.id)
                jobs.wait(built, one.id, 60)
        assert not jobs.find(built, job.id).running


@pytest.mark.slow
def test_a_comparison_is_begun_cancelled_and_gone_on_with_and_a_finished_one_is_a_decision(
    built, comparison, tiny_cache, visit
) -> None:
    comparison()
    try:
        with serving(built, tiny_cache) as port:
            url = f"http://localhost:{port}/choose"
            visit.goto(url)
            visit.get_by_text("is not finished.").wait_for()
            visit.get_by_text("Compare again").click()
            visit.get_by_label("Hours", exact=True).fill("0.1")
            visit.get_by_label("Hours", exact=True).press("Enter")
            visit.get_by_role("button", name="Start", exact=True).click()
            visit.get_by_text("Comparing the ways for docs").first.wait_for()
            visit.goto(f"http://localhost:{port}/work")
            visit.get_by_text("Comparing the ways for docs").first.wait_for()
            wait_until(lambda: not jobs.latest(built, "choose").running, 100)
            assert jobs.latest(built, "choose").state == "failed", "three short documents have no questions"
            visit.goto(url)
            visit.get_by_role("button", name="Go on").wait_for()
            comparison(retrieval=0.8, low=0.6, holm_p=0.01)
            visit.goto(url)
            visit.get_by_role("heading", name="Retrieval answers best").wait_for()
            visit.get_by_text("is larger than chance explains").wait_for()
            visit.locator("[data-testid=stVegaLiteChart] svg, [data-testid=stVegaLiteChart] canvas").first.wait_for()
            visit.get_by_text("What more time would buy").wait_for()
            visit.get_by_text("Ask in this way").click()
            visit.get_by_role("heading", name="Ask the documents").wait_for()
    finally:
        for one in jobs.list_jobs(built):
            if one.running:
                jobs.cancel(built, one.id)
                jobs.wait(built, one.id, 60)


@pytest.mark.slow
def test_a_search_is_narrowed_to_a_service_and_to_newer_documents(place, tmp_path, tiny_cache, visit) -> None:
    about = (("aks", "2026-01-05"), ("aks", "2026-08-01"), ("storage", "2026-08-01"))
    records = [
        {
            "id": f"{service}/{date}.md",
            "title": service,
            "text": f"The port of {service} is 443.",
            "service": service,
            "date": date,
        }
        for service, date in about
    ]
    (tmp_path / "ports.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    store.add("ports", f"jsonl:{tmp_path / 'ports.jsonl'}", home=place)
    build.build("ports", "ports", build.Recipe(precision="fp32"), place)
    with serving(place, tiny_cache) as port:
        visit.goto(f"http://localhost:{port}/?mode=Search+only&index=ports")
        found = search(visit, "Which port?", 1)
        assert all(f"{service}/{date}.md" in found for service, date in about)
        visit.get_by_test_id("stSidebar").get_by_text("Search", exact=True).last.click()
        services = visit.get_by_label("Service")
        aks = visit.get_by_role("option", name="aks")
        for _ in range(10):  # Streamlit's first list in a part that was just opened is only focused
            services.click()
            if any(aks.is_visible() or visit.wait_for_timeout(100) for _ in range(30)):
                break
        aks.click()
        visit.wait_for_url("**service=aks*")
        found = search(visit, "Which port of it?", 2)
        assert "aks/2026-01-05.md" in found and "aks/2026-08-01.md" in found and "storage/" not in found
        visit.get_by_label("Documents since").fill("2026-06-01")
        visit.get_by_label("Documents since").press("Enter")
        visit.wait_for_url("**since=2026-06-01*")
        found = search(visit, "And which newer one?", 3)
        assert "aks/2026-08-01.md" in found and "2026-01-05" not in found and "storage/" not in found
        visit.get_by_label("Documents since").fill("last week")
        visit.get_by_label("Documents since").press("Enter")
        visit.get_by_text("Documents since last week: no date, which is written as YYYY-MM-DD.").wait_for()
        assert not visit.get_by_test_id("stChatInputTextArea").count()
        visit.get_by_role("button", name="Use all").click()
        visit.get_by_test_id("stChatInputTextArea").wait_for()
