"""Take the pictures of the app in this folder: python docs/screenshots.py

With --out FOLDER [--scheme dark] [--width 390] every page is photographed. Needs the default models, Playwright and
a Chromium. A home of its own is made with the sample, two questions are asked and two arms compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHOWN = {"ask": "app-ask", "compare": "app-compare", "tokens": "app-tokens"}
"""Pictures that the documents show, and their files."""
QUESTION = "How many days does a vault keep deleted items by default?"
PAGES = {
    "index": "index",
    "search": "index?view=Search&search=deleted+vault",
    "generations": "index?view=Generations",
    "add": "index?view=Add+documents",
    "tokens": "tokens",
    "evaluate": "evaluate",
    "choose": "choose",
    "training": "training",
    "work": "work",
    "feedback": "feedback",
}


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """The app of a home; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "rag_vs_ft", "app", "--port", str(port), "--home", str(home)])
    address = f"http://localhost:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def settled(page: Any) -> None:
    """Wait until the page's script has ended and what it draws has come to rest."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.wait_for_timeout(800)


def keep(folder: Path) -> None:
    """Put the pictures that the documents show beside this file, with 128 colours: a third of the size."""
    from PIL import Image

    for name, file in SHOWN.items():
        with Image.open(folder / f"{name}.png") as picture:
            picture.convert("RGB").quantize(128).save(Path(__file__).parent / f"{file}.png", optimize=True)


def take(page: Any, address: str, out: Path, home: Path) -> None:
    """Walk the pages and photograph each."""

    def shot(name: str) -> None:
        settled(page)
        page.screenshot(path=out / f"{name}.png")

    if not (home / "indexes").is_dir():
        page.goto(address)
        page.get_by_role("button", name="Build the sample").wait_for()
        shot("first")
        page.get_by_role("button", name="Build the sample").click()
        page.get_by_role("button", name="Cancel").wait_for()
        page.wait_for_timeout(6_000)
        page.screenshot(path=out / "building.png")
    page.goto(address)
    box = page.get_by_test_id("stChatInputTextArea")
    box.wait_for()
    shot("empty")
    box.fill(QUESTION)
    box.press("Enter")
    page.wait_for_timeout(1_500)
    page.screenshot(path=out / "answering.png")
    page.get_by_test_id("stFeedback").wait_for()
    page.wait_for_timeout(3_000)  # the page brings the question into view meanwhile
    page.evaluate("document.querySelector('.stMain').scrollTo(0, 0)")
    shot("ask")
    page.goto(f"{address}/?mode=Search+only&c=")
    box.fill("create a lock on a resource group")
    box.press("Enter")
    page.locator("mark").first.wait_for()
    shot("search-only")
    page.goto(f"{address}/compare?q={urllib.request.quote(QUESTION)}&reference=90+days&max_new_tokens=64")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("bits/byte").nth(1).wait_for()
    shot("compare")
    page.goto(f"{address}/rate")
    page.get_by_role("button", name="Next question").click()
    page.get_by_text("Answer 2").wait_for()
    shot("rate")
    for name, path in PAGES.items():
        page.goto(f"{address}/{path}")
        page.locator("h1").first.wait_for()
        shot(name)


def main() -> None:
    """Read the options, start the app and the browser, and take the pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, help="a folder for the pictures of all pages; none: those of the documents")
    options.add_argument("--home", type=Path, help="a home that has the sample already; none: a new one")
    options.add_argument("--scheme", choices=("light", "dark"), default="light")
    options.add_argument("--width", type=int, default=1280)
    given = options.parse_args()
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        home, out = given.home or Path(scratch) / "home", given.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        height = 900 if given.width > 600 else 844
        page = browser.new_context(viewport={"width": given.width, "height": height}, color_scheme=given.scheme).new_page()
        page.set_default_timeout(180_000)
        with serving(home) as address:
            take(page, address, out, home)
        browser.close()
        if given.out is None:
            keep(out)


if __name__ == "__main__":
    main()
