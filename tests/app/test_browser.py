"""The app as a visitor's browser meets it: a whole visit, and text that tries to load or run something.

Homes that a test builds have fp32 vectors; the sample that a visitor builds gets what the machine is best at: int8 with AVX2.

Needs Playwright (its Python package only) and a Chromium of the system; skipped where either is missing. The accessibility test
needs axe-core too, in a node_modules of this checkout or of $NODE_PATH (`npm install axe-core`).
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pdfplumber
import pytest
from serving import serving
from test_pages_experiments import credit

from rag_vs_ft import conversations, jobs, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.feedback import preferences, read_feedback
from rag_vs_ft.index import build
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.generations import current

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PATIENCE = int(os.environ.get("BROWSER_PATIENCE", "120"))
"""Seconds that a browser waits for what a test looks for; where it is known not to come, less is enough (tests/guards.py)."""

# What axe-core does not look at: Streamlit draws it so, whatever a page says.
NOT_OURS = {
    "[data-testid=stSidebarNav]": "its list has headings between the items",
    "g.mark-symbol": "the points of a Vega chart carry a role and no text; the axes and the figures beside them say the same",
    "[data-testid=stSliderThumbValue]": "drawn in the primary colour, on which primary buttons are written in white: in dark no "
    "colour has the contrast for both",
    "button[data-selected=true]": "the chosen view of a segmented control, likewise",
}


@pytest.fixture
def visit():
    """Opens pages in a browser that writes down where its requests go, and what its pages tried to run."""
    if BROWSER is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(1000 * PATIENCE)
        requests: list[str] = []
        faults: list[str] = []
        context.on("request", lambda request: requests.append(request.url))
        context.on("page", lambda opened: opened.on("websocket", lambda socket: requests.append(socket.url)))
        context.on("weberror", lambda error: faults.append(str(error.error)))
        context.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page = context.new_page()
        page.requests, page.faults = requests, faults
        yield page
        browser.close()


def own_address_only(page, port: int) -> bool:
    own = tuple(f"{scheme}://localhost:{port}/" for scheme in ("http", "ws"))
    foreign = [url for url in page.requests if not url.startswith((*own, "data:", "blob:"))]
    assert not foreign and not page.faults, (foreign, page.faults)
    return any(url.startswith(own[1]) for url in page.requests)


def ask(page, question: str, answers: int) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    box.press("Enter")
    if answers > 5:  # the page shows the newest five
        page.get_by_text(f"to {answers} of {answers}").wait_for()
    page.get_by_test_id("stFeedback").nth(min(answers, 5) - 1).wait_for()


def wait_until(found, seconds: float = 20):
    """What `found` gives once it is something."""
    deadline = time.monotonic() + seconds
    while not (what := found()):
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.1)
    return what


def at_rest(page) -> None:
    """Wait until the page's script has ended."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def overflows(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


@pytest.mark.slow
def test_hostile_text_loads_and_runs_nothing(hostile_index, place, parrot, hostile, tiny_cache, visit) -> None:
    with serving(place, tiny_cache) as port:
        url = f"http://localhost:{port}"
        visit.goto(f"{url}/?model={parrot}&show_prompt=true&max_new_tokens=16")
        ask(visit, f"Which port {hostile}?", 1)
        closed = visit.locator("[data-testid=stExpander] details:not([open]) > summary").filter(has_text="Odd")
        while closed.count():
            closed.first.click()
            visit.wait_for_timeout(300)
        shown = hostile.replace("![i](http://evil.example/i.png)", "i")  # of an image, the words that stand for it
        passage = f"The secret port {shown} is 7."
        visit.locator(".readable").get_by_text(passage, exact=True).wait_for()
        assert visit.get_by_test_id("stText").all_inner_texts() == [f"Which port {hostile}?"], "every character as it is"
        assert [text.strip() for text in visit.locator(".readable").all_inner_texts()] == [shown, passage]
        assert not visit.locator(".readable img, .readable script, .readable a").count()
        label = visit.get_by_test_id("stExpander").filter(has_text="Odd").first.locator("summary")
        assert f"Odd {hostile}" in label.inner_text().replace("\u2060", "")
        assert not label.locator("a").count(), "an address in a title is no link"
        with visit.expect_popup() as opened:
            visit.get_by_text("Show in the document").click()
        opened.value.get_by_text("this passage").wait_for()
        opened.value.locator(".readable").get_by_text(passage, exact=True).wait_for()
        visit.goto(f"{url}/index?view=Search&search=secret+port")
        visit.locator("mark").first.wait_for()
        visit.goto(f"{url}/compare?q={urllib.request.quote(hostile)}&arms={parrot}&max_new_tokens=16")
        visit.get_by_role("button", name="Compare", exact=True).click()
        visit.locator(".readable").filter(has_text="evil.example").first.wait_for()
        visit.get_by_text("bits/byte").or_(visit.get_by_text("tokens")).first.wait_for()
        visit.goto(f"{url}/tokens")
        visit.get_by_label("Text", exact=True).fill(hostile)
        visit.get_by_label("Text", exact=True).press("Control+Enter")
        visit.get_by_text("evil").first.wait_for()
        both = f"{parrot}&rated={parrot}+%2B+passages"
        visit.goto(f"{url}/rate?index={hostile_index}&rated={both}")
        visit.get_by_label("Or a question of your own").fill(hostile)
        visit.get_by_label("Or a question of your own").press("Enter")
        visit.get_by_role("button", name="Next question").click()
        visit.get_by_text("Answer 2").wait_for()
        assert visit.get_by_test_id("stText").all_inner_texts() == [hostile]
        assert [text.strip() for text in visit.locator(".readable").all_inner_texts()] == [shown] * 2, "both answers"
        time.sleep(1)  # time for a request that should not be made
        assert own_address_only(visit, port)
        # What is asserted can fail.
        visit.evaluate("new Image().src = 'http://evil.example/i.png'")
        time.sleep(0.5)
        with pytest.raises(AssertionError, match=r"evil\.example"):
            own_address_only(visit, port)


@pytest.mark.slow
def test_an_answer_can_be_stopped_and_the_next_question_is_answered(built, endless, tiny_cache, visit) -> None:
    with serving(built, tiny_cache) as port:
        visit.goto(f"http://localhost:{port}/tokens")  # a link into the app is the first that a new server is asked for
        visit.get_by_text("Look inside").wait_for()
        visit.goto(f"http://localhost:{port}/?max_new_tokens=512&passages=false&show_prompt=true&model={endless}")
        box = visit.get_by_test_id("stChatInputTextArea")
        box.fill("Tell me everything")
        box.press("Enter")
        visit.locator(".readable").first.wait_for()
        assert visit.get_by_role("button", name="Stop").count() == 1, "Streamlit's own ends the page and not the answer"
        visit.locator(".stMain").get_by_role("button", name="Stop").click()
        visit.get_by_text("Stopped.").wait_for()
        for name in ("New", "Export", "Ask again"):
            visit.get_by_role("button", name=name).wait_for()
        stopped = visit.locator(".readable").first.inner_text()
        visit.reload()
        visit.get_by_text("Stopped.").wait_for()
        assert visit.locator(".readable").first.inner_text() == stopped, "a reload leads back"
        box.fill("Which port?")
        box.press("Enter")
        visit.locator(".readable").nth(1).wait_for()
        written = len(visit.locator(".readable").nth(1).inner_text())
        visit.get_by_text("Answer from passages").click()  # a setting that is changed meanwhile is for the next question
        longer = "than => document.querySelectorAll('.readable')[1]?.innerText.length > than"
        visit.wait_for_function(longer, arg=written)
        # Another page, a choice there, and one press of Back: the answer goes on meanwhile, and the settings are as they were.
        visit.get_by_test_id("stSidebarNav").get_by_text("Tokens").click()
        visit.get_by_label("Text", exact=True).wait_for()
        visit.get_by_text("Ask the model", exact=True).click()
        visit.wait_for_url("**/tokens?*next=true*")
        visit.go_back()
        visit.get_by_test_id("stFeedback").wait_for()
        assert "show_prompt=true" in visit.url
        visit.get_by_text("Prompt:").first.wait_for()
        texts = visit.locator(".readable").all_inner_texts()
        assert len(texts) == 2 and len(texts[0]) < len(texts[1])


@pytest.mark.slow
def test_what_was_there_is_there_again_after_a_reload_by_its_link_and_when_the_server_is_back(built, tiny_cache, visit) -> None:
    pressed = "[data-testid=stFeedback] button[aria-pressed=true], [data-testid=stFeedback] button[aria-checked=true]"
    with serving(built, tiny_cache) as port:
        visit.goto(f"http://localhost:{port}/?max_new_tokens=16")
        ask(visit, "What is the port of the vault?", 1)
        visit.get_by_test_id("stFeedback").locator("button").first.click()
        visit.get_by_text("Kept.").wait_for()
        visit.get_by_text("Note", exact=True).click()
        note = visit.get_by_label("What is right or wrong with it?")
        note.fill("it is 443")
        note.press("Escape")
        (row,) = wait_until(lambda: [row for row in read_feedback(built) if row["note"]])
        assert (row["thumb"], row["note"]) == (1, "it is 443")
        visit.reload()
        visit.get_by_text("Note", exact=True).click()
        note.wait_for()
        assert note.input_value() == "it is 443"
        visit.locator(pressed).wait_for()
        visit.emulate_media(media="print")
        for around in ("stSidebar", "stChatInput"):
            visit.get_by_test_id(around).wait_for(state="hidden", timeout=20_000)
        with pdfplumber.open(io.BytesIO(visit.pdf())) as printed:
            assert all(len(page.extract_text()) > 100 for page in printed.pages), "no page that is nearly empty"
        visit.emulate_media(media="print", color_scheme="dark")
        visit.reload()
        note.wait_for(state="attached")
        with pdfplumber.open(io.BytesIO(visit.pdf(print_background=True))) as printed:
            letters = [letter for page in printed.pages for letter in page.chars]
            assert letters and all(max(letter["non_stroking_color"]) < 0.5 for letter in letters), "white on white paper"
            shapes = [shape for page in printed.pages for shape in page.rects if shape["fill"] and shape["width"] > 300]
            assert all(min(shape["non_stroking_color"]) > 0.5 for shape in shapes), "dark paper"
        visit.emulate_media(media="screen", color_scheme="light")
        ask(visit, "How many nodes?", 2)
        visit.get_by_role("button", name="Link").first.click()
        link = visit.get_by_test_id("stCode").filter(has_text="answer=").inner_text().strip()
        assert link.startswith(f"http://localhost:{port}/?c=")
        other = visit.context.new_page()
        other.goto(link)
        other.get_by_test_id("stFeedback").wait_for()
        assert "What is the port of the vault?" in other.get_by_test_id("stChatMessage").first.inner_text()
        wait_until(lambda: other.get_by_test_id("stChatMessage").count() == 2)
        assert not other.get_by_test_id("stChatInputTextArea").count()
        other.close()
    visit.get_by_text("does not answer").first.wait_for()
    with serving(built, tiny_cache, port=port):
        visit.get_by_text("does not answer").first.wait_for(state="hidden")
        ask(visit, "And the surge?", 3)
        assert len(conversations.summaries(built)) == 1


@pytest.mark.slow
def test_a_comparison_can_be_stopped_and_begun_again(built, endless, tiny_cache, visit) -> None:
    with serving(built, tiny_cache) as port:
        visit.goto(f"http://localhost:{port}/compare?arms={endless}&q=Tell+me+everything&max_new_tokens=512")
        begin = visit.get_by_role("button", name="Compare", exact=True)
        begin.click()
        visit.locator(".readable").first.wait_for()
        visit.get_by_role("button", name="Stop").click()
        visit.get_by_text("Stopped.").wait_for()
        written = visit.locator(".readable").first.inner_text()
        begin.click()
        visit.get_by_text(" s · ").wait_for()
        whole = visit.locator(".readable").first.inner_text()
        assert whole.startswith(written[:20]) and len(whole) > len(written)


@pytest.mark.slow
def test_asking_stopping_and_rating_need_no_mouse(built, endless, tiny_cache, visit) -> None:
    with serving(built, tiny_cache) as port:
        visit.goto(f"http://localhost:{port}/?max_new_tokens=512&passages=false&model={endless}")
        visit.get_by_test_id("stChatInputTextArea").wait_for()
        tab_to(visit, "textarea[data-testid=stChatInputTextArea]")
        visit.keyboard.type("Tell me everything")
        visit.keyboard.press("Enter")
        visit.locator(".readable").first.wait_for()
        tab_to(visit, ".stMain button:has-text('Stop')")
        visit.keyboard.press("Enter")
        visit.get_by_text("Stopped.").wait_for()

        visit.goto(f"http://localhost:{port}/rate?index=docs")
        visit.get_by_role("button", name="Next question").wait_for()
        own = visit.get_by_label("Or a question of your own")
        own.fill("1, 2, 3, none: which port?")  # keys that are typed into a field rate nothing
        own.press("Enter")
        tab_to(visit, "button:has-text('Next question')")
        visit.keyboard.press("Enter")
        visit.get_by_role("button", name="First is better").wait_for()
        visit.keyboard.press("2")
        visit.get_by_text("So far").wait_for()
        (pair,) = preferences(built)
        assert (pair.wins + pair.losses, pair.ties) == (1, 0)
        visit.keyboard.press("n")
        visit.get_by_role("button", name="First is better").wait_for()


def tab_to(page, selector: str, limit: int = 60) -> None:
    """Press Tab until what `selector` names has the focus."""
    wanted = page.locator(selector).first.element_handle()
    for _ in range(limit):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement === wanted", wanted):
            return
    raise AssertionError(f"{selector} cannot be reached with {limit} tabs")


def axe_source() -> str:
    """axe-core's script; the test is skipped where there is none."""
    checkout = Path(__file__).parents[2] / "node_modules"
    for folder in (*map(Path, filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep))), checkout):
        if (script := folder / "axe-core" / "axe.min.js").is_file():
            return script.read_text(encoding="utf-8")
    pytest.skip("no axe-core here: npm install --no-save axe-core")


def violations(page, axe: str) -> list[str]:
    """Serious and critical violations of the page at rest, without what is not ours."""
    at_rest(page)
    page.get_by_test_id("stStatusWidget").wait_for(state="hidden")
    page.evaluate(axe)
    context = {"exclude": [[selector] for selector in NOT_OURS]}
    found = page.evaluate("context => axe.run(context, {resultTypes: ['violations']})", context)
    return [
        f"{rule['id']}: {node['html'][:200]} ({' '.join(map(str, node['target']))[:100]})"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_serious_fault_of_accessibility(built, comparison, parrot, tiny_cache, visit, scheme) -> None:
    axe = axe_source()
    comparison(retrieval=0.8, low=0.6, holm_p=0.01)
    visit.emulate_media(color_scheme=scheme)
    with serving(built, tiny_cache) as port:
        url = f"http://localhost:{port}"
        faults: dict[str, list[str]] = {}
        visit.goto(f"{url}/?max_new_tokens=16&show_prompt=true")
        ask(visit, "What is the port of the vault?", 1)
        faults["ask"] = violations(visit, axe)
        visit.goto(f"{url}/compare?q=Port%3F&max_new_tokens=16&reference=443")
        visit.get_by_role("button", name="Compare", exact=True).click()
        visit.get_by_text("bits/byte").nth(1).wait_for()
        faults["compare"] = violations(visit, axe)
        visit.goto(f"{url}/rate")
        visit.get_by_role("button", name="Next question").click()
        visit.get_by_text("Answer 2").wait_for()
        visit.get_by_role("button", name="First is better").click()
        visit.get_by_text("So far").wait_for()
        faults["rate"] = violations(visit, axe)
        for path in (
            "index",
            "index?view=Search&search=port",
            "index?view=Generations",
            "index?view=Add+documents",
            "tokens?next=true",
            "evaluate",
            "choose",
            "training",
            "work",
            "feedback",
        ):
            visit.goto(f"{url}/{path}")
            visit.locator("h1").first.wait_for()
            faults[path] = violations(visit, axe)
            if path == "choose":
                visit.get_by_text("Retrieval answers best").wait_for()
                visit.set_viewport_size({"width": 390, "height": 800})
                assert not overflows(visit)
                visit.set_viewport_size({"width": 1280, "height": 900})
        assert not any(faults.values()), faults
        visit.evaluate("document.querySelector('[data-testid=stMain]').innerHTML += '<img src=data:,>'")
        assert violations(visit, axe), "what is asserted can fail"


@pytest.mark.slow
def test_a_whole_visit(place, tiny_cache, visit) -> None:
    with serving(place, tiny_cache) as port:
        url = f"http://localhost:{port}"
        visit.goto(f"{url}/?max_new_tokens=16")
        visit.get_by_role("button", name="Build the sample").click()
        visit.get_by_test_id("stChatInputTextArea").wait_for(timeout=240_000)
        ask(visit, "How long is a deleted key vault kept?", 1)
        # The question and the beginning of its answer are in view, not the end of the last passage.
        asked_at = "() => document.querySelector('[class*=st-key-turn-]').getBoundingClientRect().top"
        visit.wait_for_function(f"() => {{ const top = ({asked_at})(); return top >= 0 && top < 300 }}")
        card = visit.locator(".stMain").get_by_test_id("stExpander").first
        if not card.locator("details[open]").count():
            card.locator("summary").click()
        text = card.locator(".readable").inner_text()
        link = card.get_by_role("link", name="Show in the document")
        assert "document=" in (link.get_attribute("href") or "")
        with visit.expect_popup() as opened:
            visit.evaluate("address => window.open(address)", link.get_attribute("href"))
        shown = "text => [...document.querySelectorAll('.readable')].some(part => part.innerText === text)"
        opened.value.wait_for_function(shown, arg=text)
        wait_until(lambda: opened.value.get_by_text("this passage").count() == 1)
        seen = "() => { const {top} = document.getElementById('linked').getBoundingClientRect(); return top >= 0 && top < 450 }"
        opened.value.wait_for_function(seen)
        opened.value.close()

        visit.get_by_test_id("stSidebarNav").get_by_text("Compare").click()
        visit.get_by_label("Question").fill("How many nodes?")
        visit.get_by_label("Question").press("Enter")
        visit.get_by_role("button", name="Compare", exact=True).click()
        visit.locator(".stMain").get_by_text(" s · ").nth(1).wait_for()  # the figures of both arms

        # Two visitors at once.
        other = visit.context.new_page()
        for page in (visit, other):
            page.goto(f"{url}/?max_new_tokens=64")
            page.get_by_test_id("stChatInputTextArea").fill("What is a node pool?")
        for page in (visit, other):
            page.get_by_test_id("stChatInputTextArea").press("Enter")
        for page in (visit, other):
            page.get_by_test_id("stFeedback").wait_for()
        other.close()

        # Another process publishes a generation while questions are asked: each is answered, the last by the new one.
        command = ["index", "build", "sample", "--corpus", "sample", "--chunk-size", "100", "--home", str(place.root)]
        environment = {**os.environ, "RAG_VS_FT_CACHE": str(tiny_cache)}
        building = subprocess.Popen([sys.executable, "-m", "rag_vs_ft", *command], env=environment)
        asked = 1
        while building.poll() is None:
            asked += 1
            ask(visit, f"Question {asked}: what is a node pool?", asked)
        assert building.returncode == 0
        ask(visit, "And what is a vault?", asked + 1)
        assert visit.get_by_text("sample, generation 2").count() >= 1
        assert visit.get_by_test_id("stAlert").all_inner_texts() == []

        for width, path in ((390, ""), (390, "index"), (390, "tokens"), (390, "compare"), (1280, "rate")):
            visit.set_viewport_size({"width": width, "height": 800})
            visit.goto(f"{url}/{path}")
            visit.locator("h1").first.wait_for()
            at_rest(visit)
            assert not overflows(visit), path
        assert own_address_only(visit, port)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_on_one_core_while_the_other_is_busy_work_ends_though_two_pages_watch(place, tiny_cache, visit) -> None:
    """First start included. Work in a thread of the server starved here: watched, it had not ended after twenty minutes."""
    cores = sorted(os.sched_getaffinity(0))
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(burner.pid, {cores[-1]})
        os.sched_setaffinity(0, {cores[0]})  # the server and its work inherit it
        with serving(place, tiny_cache) as port:
            os.sched_setaffinity(0, cores)
            visit.goto(f"http://localhost:{port}")
            visit.get_by_role("button", name="Build the sample").click()
            visit.get_by_role("button", name="Cancel").wait_for()
            other = visit.context.new_page()
            other.goto(f"http://localhost:{port}/work")
            other.get_by_text("Building the sample").first.wait_for()
            visit.get_by_test_id("stChatInputTextArea").wait_for(timeout=240_000)
            ask(visit, "How long is a deleted vault kept?", 1)
            other.get_by_text("Building the sample finished").wait_for()
            build.build("exact", "sample", build.Recipe(precision="fp32"), place)
            visit.goto(f"http://localhost:{port}/?index=exact&max_new_tokens=16&c=")
            ask(visit, "And a deleted secret?", 1)
            by_index = {name: current(place.indexes / name).manifest.inputs.embedder.precision for name in ("sample", "exact")}
            assert by_index == {"sample": Embedder(settings.EMBEDDER).precision, "exact": "fp32"}
    finally:
        os.sched_setaffinity(0, cores)
        burner.kill()
        burner.wait()


def paste(page, field, text: str) -> None:
    """Put a text into a field as the clipboard does: at once, whatever its length."""
    field.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


@pytest.mark.slow
def test_too_much_text_is_cut_and_said_and_an_index_that_is_gone_answers_nothing(built, documents, tiny_cache, visit) -> None:
    store.add("other", str(documents), home=built)
    build.build("other", "other", build.Recipe(precision="fp32", chunk_size=32), built)
    with serving(built, tiny_cache) as port:
        url = f"http://localhost:{port}"
        visit.goto(f"{url}/tokens")
        text = visit.get_by_label("Text", exact=True)
        paste(visit, text, "word " * 10_000)
        visit.locator("h1").click()
        visit.get_by_text("The text has 50,000 characters; the first 20,000 are used.").wait_for()
        paste(visit, text, "🎉 漢字")
        text.press("Control+Enter")
        visit.get_by_text("◌ is a part of a character").first.wait_for()
        assert visit.locator("h1").count() == 1 and visit.title() == "Tokens - rag-vs-ft"

        visit.goto(f"{url}/?index=other&max_new_tokens=16")
        box = visit.get_by_test_id("stChatInputTextArea")
        box.wait_for()
        paste(visit, box, "word " * 803 + "vault")
        box.press("Enter")
        visit.get_by_test_id("stFeedback").wait_for()
        visit.get_by_text("the question has 4020 characters; the first 2000 were used").wait_for()

        shutil.rmtree(built.indexes / "other")
        gone = visit.get_by_text("Index other: not there (any more).")
        box.fill("Which port?")
        box.press("Enter")
        gone.wait_for()
        assert visit.get_by_text("Which port?").is_visible() and not box.count(), "what was typed is not lost"
        visit.reload()  # the address does not name the index now, but the conversation is of it
        gone.wait_for()
        assert not box.count()
        visit.get_by_role("button", name="Use docs").click()
        ask(visit, "Which port?", 2)
        assert visit.get_by_text("docs, generation 1").count() == 1

        visit.goto(f"{url}/?index=gone&model=nope")
        visit.get_by_text("Model nope: not there (any more).").wait_for()
        visit.get_by_role("button", name=f"Use {settings.LANGUAGE_MODEL}").click()
        visit.get_by_text("Index gone: not there (any more).").wait_for()
        assert not box.count()
        visit.goto(f"{url}/?k=99&mode=foo&c=")
        visit.get_by_text("Mode foo: must be Answer or Search only.").wait_for()
        visit.get_by_role("button", name="Use Answer").click()
        visit.get_by_text("Passages 99: must be a whole number from 1 to 10.").wait_for()
        assert not box.count()
        visit.get_by_role("button", name=f"Use {settings.ASK_K}").click()
        box.wait_for()


@pytest.mark.slow
def test_what_a_page_says_of_work_is_true_when_the_work_is_undone_or_cancelled(built, documents, tiny_cache, visit) -> None:
    frames: list[int] = []
    visit.on("websocket", lambda socket: socket.on("framereceived", lambda _: frames.append(1)))
    (documents / "new.md").write_text("# New\n\nThe port of the new one is 8443.\n", encoding="utf-8")
    sizes = {"steps": "100000", "eval_every": "50000", "layers": "1", "heads": "2", "width": "16", "window": "16"}
    sizes |= {"vocab_size": "300", "rows_per_step": "2", "batch_size": "2", "validation_fraction": "0.3"}
    training = {"arm": "scratch", "corpus": "docs", "preset": "nano", "run": "first", "overrides": sizes}
    with serving(built, tiny_cache) as port:
        url = f"http://localhost:{port}"
        visit.goto(f"{url}/index?view=Generations")
        visit.get_by_role("button", name="Update").click()
        told = visit.get_by_text("The index was updated")
        told.wait_for()
        other = visit.context.new_page()
        other.goto(f"{url}/index?view=Generations")
        back = other.get_by_role("button", name="Roll back")
        back.wait_for()
        visit.get_by_role("button", name="Roll back").click()
        visit.get_by_text("An earlier generation answers.").wait_for()
        assert not told.is_visible() and visit.get_by_role("button", name="Roll back").is_disabled()
        assert current(built.indexes / "docs").name == "gen-000001"
        assert back.is_enabled(), "this visitor's page does not know of it"
        back.click()
        other.get_by_text("An earlier generation answers.").wait_for()
        assert back.is_disabled() and not other.get_by_test_id("stAlertContentError").count()

        jobs.start(built, "train", "Training first", training)
        other.goto(f"{url}/training")
        other.get_by_text("Training, steps").wait_for()
        visit.goto(f"{url}/?max_new_tokens=16")
        ask(visit, "What is the port of the vault?", 1)  # while the other page watches
        other.close()
        visit.goto(f"{url}/training")
        visit.get_by_role("button", name="Stop and keep").wait_for()
        visit.get_by_role("button", name="Cancel").click()
        visit.get_by_text("Training first was stopped.").wait_for()
        visit.get_by_text("No checkpoint was written yet").wait_for()
        visit.get_by_test_id("stMetric").filter(has_text="stopped").wait_for()
        at_rest(visit)
        visit.wait_for_timeout(1000)
        frames.clear()
        visit.wait_for_timeout(6000)  # longer than a page waits between two looks at a run
        assert not frames, "nothing is asked for when nothing goes on"
        visit.goto(f"{url}/work")
        visit.get_by_text("Training first was stopped").wait_for()
        visit.goto(f"{url}/training")
        visit.get_by_role("button", name="Resume").wait_for()
        assert not visit.get_by_text("Training first was stopped.").count(), "it was read"


PAGES = {
    "": "Ask the documents",
    "compare": "Compare",
    "rate": "Rate",
    "feedback": "Feedback",
    "index": "docs",
    "index?view=Search&search=port": "docs",
    "index?view=Generations": "docs",
    "index?view=Add+documents": "docs",
    "tokens?next=true": "Tokens",
    "evaluate": "Evaluate",
    "choose": "Choose",
    "training": "Training",
    "work": "Work",
}


@pytest.mark.slow
def test_every_page_fits_a_phone_twice_the_size_and_paper(built, comparison, tiny_cache, visit) -> None:
    comparison(retrieval=0.8, low=0.6, holm_p=0.01)
    visit.emulate_media(color_scheme="dark")
    with serving(built, tiny_cache) as port:
        for path, heading in PAGES.items():
            visit.set_viewport_size({"width": 390, "height": 800})
            visit.goto(f"http://localhost:{port}/{path}")
            visit.get_by_role("heading", level=1, name=heading, exact=True).wait_for()
            at_rest(visit)
            assert visit.title().endswith(" - rag-vs-ft") and visit.locator("h1").count() == 1, path
            assert not overflows(visit), path
            visit.set_viewport_size({"width": 640, "height": 450})  # 1280 by 900 at twice the size
            assert not overflows(visit), path
            visit.set_viewport_size({"width": 1280, "height": 900})
            visit.emulate_media(media="print", color_scheme="dark")
            for around in ("stSidebar", "stHeader"):
                visit.get_by_test_id(around).wait_for(state="hidden", timeout=20_000)
            with pdfplumber.open(io.BytesIO(visit.pdf())) as printed:
                texts = [page.extract_text() for page in printed.pages]
            assert heading in texts[0] and all(len(text) > 40 for text in texts), (path, texts)
            assert "Look inside" not in "".join(texts), "the list of pages is not part of a page"
            visit.emulate_media(media="screen", color_scheme="dark")


@pytest.mark.slow
def test_answers_and_results_are_read_as_what_they_are(built, old_run, save_chain, tiny_cache, visit) -> None:
    """A list of marks is no answer, an echoed [1] moves no citation, questions are read in turn, and what was rated is listed."""
    credit(old_run, alone="11", retrieval="01", oracle="00")
    kept = "[1] A deleted key vault is kept for 90 days"
    for name, said in (("lister", "[4] [5] [6]"), ("echoes", kept)):

        def follow(tokenizer, asked, said=said):
            token = tokenizer.convert_tokens_to_ids(said)
            return {asked: token, token: tokenizer.eos_token_id}

        save_chain(built.runs / name, [said], follow)
    with serving(built, tiny_cache) as port:
        url = f"http://localhost:{port}"
        visit.goto(f"{url}/?model=lister&index=docs")
        ask(visit, "How many nodes has a pool?", 1)
        visit.get_by_text("instead of an answer").wait_for()
        visit.goto(f"{url}/?model=echoes&index=docs&c=")
        ask(visit, "Which surge has a pool?", 1)
        right = visit.get_by_test_id("stExpander").filter(has_text="cited")
        assert right.count() == 1 and "Vault" in right.locator("summary").inner_text()
        right.locator("mark").get_by_text("kept for 90 days").first.wait_for()
        visit.get_by_test_id("stFeedback").locator("button").first.click()
        wait_until(lambda: read_feedback(built))
        visit.goto(f"{url}/feedback")
        visit.get_by_test_id("stDataFrame").wait_for()
        with visit.expect_download() as saved:
            visit.get_by_role("button", name="Export all").click()
        assert "Which surge has a pool?" in Path(saved.value.path()).read_text(encoding="utf-8")
        visit.goto(f"{url}/evaluate?run=old")
        visit.get_by_text("answers best").first.wait_for()
        visit.get_by_text("A guess is right in 33").first.wait_for()
        at_rest(visit)
        toolbar = visit.get_by_test_id("stElementToolbar").first
        toolbar.wait_for(state="attached")
        visit.set_viewport_size({"width": 390, "height": 800})
        toolbar.wait_for(state="hidden")
        picture = visit.get_by_test_id("stImage").locator("img").first
        assert picture.bounding_box()["width"] >= 600, "its labels can be read: it is scrolled"
        visit.set_viewport_size({"width": 1280, "height": 900})
        visit.get_by_test_id("stButtonGroup").get_by_text("Questions", exact=True).click()
        visit.get_by_role("button", name="Next").wait_for()
        assert visit.get_by_role("button", name="Previous").is_disabled()
        visit.get_by_text("2 of 2 questions").wait_for()
        visit.get_by_role("button", name="Next").click()
        visit.get_by_text("Question 2 of 2").first.wait_for()
        visit.get_by_test_id("stButtonGroup").get_by_text("Report", exact=True).click()
        visit.get_by_text("Every pair, on the same questions").wait_for()
        assert own_address_only(visit, port)
