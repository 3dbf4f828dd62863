"""The app as a visitor waits for it, timed in a browser: the page, the first passage, two visitors at once, 200 answers, at rest.

    python benchmarks/app.py --home HOME [--index sample] [--questions FILE] [--asked 10] [--rest 60] [--server NAME=VALUE ...]

Page: from the moment that a new server says it is up until one can type; the first visit and the second. Passage: from the
Enter key until the text of the first passage can be read, once a first question has been answered. Each question is asked once.
200 answers: a conversation of as many, opened, turned back by a page, and a question asked below them. At rest: the share of one
core that the server takes for a minute with two pages open. Search only: the passages again, without a model. --server sets
variables of the server alone, such as ISA_MASK=avx2 LD_PRELOAD=./isa_mask.so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import describe
from playwright.sync_api import sync_playwright

from rag_vs_ft import conversations, settings
from rag_vs_ft.evaluation.questions import load_questions, sample_questions_path

# Times in the page: of the last Enter, and when the text of one more passage can be read.
WATCH = """passages => {
  const shown = () => [...document.querySelectorAll(passages)].filter(text => text.checkVisibility() && text.innerText);
  const read = () => ({count: shown().length, last: shown().at(-1)?.innerText});  // an old one may leave as a new one comes
  window.marks = {};
  document.addEventListener('keydown', event => {
    if (event.key === 'Enter') window.marks = {enter: performance.now(), read: read()};
  }, true);
  new MutationObserver(() => {
    const marks = window.marks;
    if (!marks.enter || marks.passage) return;
    const {count, last} = read();
    if (count > marks.read.count || (count && last !== marks.read.last)) marks.passage = performance.now();
  }).observe(document.body, {childList: true, subtree: true, attributes: true});
}"""
PASSAGE, FOUND = ".stMain [data-testid=stExpander] .readable", ".stMain .readable"
"""Of an answer, whose own text is readable too, and of a search."""
SHOWN = 5
"""Answers that a page shows of a long conversation."""


@contextmanager
def serving(home: Path, environment: dict[str, str]) -> Iterator[tuple[str, float, psutil.Process]]:
    """The app in a process of its own; its address, the time until it is up, in seconds, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    command = [sys.executable, "-m", "rag_vs_ft", "app", "--port", str(port), "--home", str(home)]
    server = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit("the app does not start") from None
                time.sleep(0.02)
        yield f"http://localhost:{port}", time.perf_counter() - started, psutil.Process(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def open_page(browser: Any, url: str, passages: str = PASSAGE) -> tuple[Any, float]:
    """A new visitor's page, which watches for `passages`, and how long it took until one can type."""
    page = browser.new_context().new_page()
    started = time.perf_counter()
    page.goto(url)
    page.get_by_test_id("stChatInputTextArea").wait_for()
    seconds = time.perf_counter() - started
    page.evaluate(WATCH, passages)
    return page, seconds


def send(page: Any, question: str) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    box.press("Enter")


def long_conversation(home: settings.Home, answers: int = 200) -> str:
    """A conversation that has the newest answer again and again; gives its id."""
    turns = conversations.load(home, conversations.summaries(home)[0].id).turns
    turn, id = next(turn for turn in reversed(turns) if turn.state == "answered"), conversations.new_id()
    for number in range(answers):
        time_asked = f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000+00:00"
        conversations.save(home, id, replace(turn, id=f"{id}-{number}", time=time_asked))
    return id


def at_rest(server: psutil.Process, seconds: float) -> float:
    """The share of one core that a server takes while nobody does anything."""
    time.sleep(5)
    before = server.cpu_times()
    time.sleep(seconds)
    after = server.cpu_times()
    return (after.user - before.user + after.system - before.system) / seconds


def answered(page: Any, count: int) -> None:
    if count > SHOWN:
        page.get_by_text(f"to {count} of {count}").wait_for(timeout=120_000)
        count = SHOWN
    page.get_by_test_id("stFeedback").nth(count - 1).wait_for(timeout=120_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--index", default="sample")
    parser.add_argument("--questions", type=Path, default=sample_questions_path())
    parser.add_argument("--asked", type=int, default=10)
    parser.add_argument("--rest", type=float, default=60)
    parser.add_argument("--server", nargs="*", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    questions = [question.question for question in load_questions(arguments.questions)][: arguments.asked + 3]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    query = f"?index={arguments.index}&max_new_tokens=64"
    home = settings.home(arguments.home)
    environment = dict(pair.split("=", 1) for pair in arguments.server)
    with serving(home.root, environment) as (url, up, server), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        browser.new_context().new_page().goto("about:blank")
        page, first = open_page(browser, f"{url}/{query}")
        other, second = open_page(browser, f"{url}/{query}")
        print(describe())
        print(f"server up after {up:.2f} s; page ready {first:.2f} s later, for the second visitor {second:.2f} s")
        send(page, questions[0])
        answered(page, 1)
        waits = []
        for number, question in enumerate(questions[1:-2], start=2):
            send(page, question)
            answered(page, number)
            marks = page.evaluate("window.marks")
            waits.append(marks["passage"] - marks["enter"])
        shown = ", ".join(f"{wait:.0f}" for wait in waits)
        print(f"first passage: median {np.median(waits):.0f} ms, longest {max(waits):.0f} ms ({shown})")
        both = (page, len(waits) + 2, questions[-2]), (other, 1, questions[-1])
        for visitor, _, question in both:
            visitor.get_by_test_id("stChatInputTextArea").fill(question)
        started = time.perf_counter()
        for visitor, _, _ in both:
            visitor.get_by_test_id("stChatInputTextArea").press("Enter")
        ends = []
        for visitor, count, _ in both:
            answered(visitor, count)
            ends.append(time.perf_counter() - started)
        passages = [visitor.evaluate("window.marks.passage - window.marks.enter") for visitor, _, _ in both]
        print(
            f"two at once: passages after {passages[0]:.0f} and {passages[1]:.0f} ms, "
            f"answers after {ends[0]:.1f} and {ends[1]:.1f} s"
        )
        print(f"at rest with two pages open: {at_rest(server, arguments.rest):.1%} of a core")
        id = long_conversation(home)
        long, ready = open_page(browser, f"{url}/{query}&c={id}")
        long.get_by_text(f"Questions {201 - SHOWN} to 200 of 200").wait_for()
        started = time.perf_counter()
        long.get_by_role("button", name="Earlier").click()
        long.get_by_text(f"Questions {201 - 2 * SHOWN} to {200 - SHOWN} of 200").wait_for()
        turned = time.perf_counter() - started
        send(long, questions[1])
        long.get_by_text(f"Questions {202 - SHOWN} to 201 of 201").wait_for(timeout=120_000)
        marks = long.evaluate("window.marks")
        passage = marks["passage"] - marks["enter"]
        print(
            f"200 answers: ready {ready:.2f} s, earlier ones {turned:.2f} s after a click, then a passage after {passage:.0f} ms"
        )
        conversations.delete(home, id)
        search, _ = open_page(browser, f"{url}/?index={arguments.index}&mode=Search+only", FOUND)
        waits = []
        for number, question in enumerate(questions[1:-2], start=1):
            send(search, question)
            search.get_by_role("button", name="Ask again").nth(min(number, SHOWN) - 1).wait_for()
            search.wait_for_function("window.marks.passage")
            marks = search.evaluate("window.marks")
            waits.append(marks["passage"] - marks["enter"])
        print(f"search only: median {np.median(waits):.0f} ms, longest {max(waits):.0f} ms")
        browser.close()


if __name__ == "__main__":
    main()
