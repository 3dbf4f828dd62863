"""Whether what reads text takes time in proportion to it: `python tests/growth.py [NAME ...]`.

Every reader of a text format, dialect of Markdown, and the parts of the way from a document to an answer are given texts of one
piece repeated: 10 KB, 100 KB and 1 MB, in a process of their own. Ten times the text may take thirty times the processor time;
what takes more is printed, and the exit code is then 1. A text that is left out with a reason is read in time, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from processor_time import in_a_child, seconds

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
SIZES = (10_000, 100_000, 1_000_000)
LIMIT = 60.0
STEEPEST = 30.0
NOTICED = 0.1
"""Seconds below which a time says nothing about growth."""
PIECES = {
    "words": "The limit of a pool is 5 days. ",
    "one letter": "a",
    "spaces": " ",
    "lines": "\n",
    "code begun": "`a. B ",
    "names": "a.b-c/d_",
    "numbers": "1,000.5 ",
    "brackets": "[",
    "citations": "[1, 2] ",
    "headings": "## A\n\nb\n\n",
    "items": "- a\n",
    "deeper items": "  - a\n",
    "rows": "| a | b |\n",
    "fences": "```\n",
    "quotes": "> ",
    "tags": "<div><p>",
    "comments": "<!--",
    "attributes": "<a b='",
    "emphasis": "*a_ **",
    "links": "[a](b",
    "rules": "---\n",
    "fields": "a: b\n",
    "stars": "****",
    "equals": "====\n",
    "backslashes": "\\",
    "braces": "{{",
    "colons": ":::a\n",
    "dots": ".. a::\n",
    "cells": '"a,',
    "letters of Chinese": "東京都",
    "abbreviations": "e.g. A. B. ",
    "question marks": "? ",
}


def subjects() -> dict[str, Callable[[str], Any]]:
    """What is tried, by name."""
    import tiny

    from rag_vs_ft import overlap, settings
    from rag_vs_ft.corpus.dialects import DIALECTS
    from rag_vs_ft.corpus.front_matter import split_front_matter
    from rag_vs_ft.corpus.readers import BY_KIND, FileContext, LeftOut
    from rag_vs_ft.corpus.text import headings_of, normalise
    from rag_vs_ft.evaluation import metrics
    from rag_vs_ft.index.chunking import Chunker, chunk_document
    from rag_vs_ft.index.lexical import Analyzer
    from rag_vs_ft.index.search import checked_query
    from rag_vs_ft.language import detect, language, split_sentences
    from rag_vs_ft.models import citing, extractive, follow_ups
    from rag_vs_ft.models.loading import load
    from rag_vs_ft.models.prompting import build_prompt
    from rag_vs_ft.records import Document

    def reader(kind: str) -> Callable[[str], Any]:
        def read(text: str) -> None:
            try:
                BY_KIND[kind].read(text.encode(), FileContext(f"a{BY_KIND[kind].endings[0]}", lambda _: None))
            except LeftOut:
                return

        return read

    def dialect(name: str) -> Callable[[str], Any]:
        def read(text: str) -> None:
            try:
                DIALECTS[name].clean(text, "docs/a.md", lambda _: None)
            except LeftOut:
                return

        return read

    def words(text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]

    def chunk(text: str) -> None:
        text = normalise(text)
        chunk_document(Document("a.md", "A", text, headings_of(text)), Chunker(), words)

    lm = load(str(tiny.save_llama(Path(tempfile.mkdtemp()), window=2048)), settings.home(), device="cpu", threads=1)
    from collections import Counter

    found: dict[str, Callable[[str], Any]] = {
        **{f"reader {kind}": reader(kind) for kind in ("text", "html", "csv", "ipynb", "rst", "asciidoc", "faq")},
        **{f"dialect {name}": dialect(name) for name in DIALECTS},
        "front matter": lambda text: [
            split_front_matter(mark + text, Counter()) for mark in ("---\n", "+++\n", '{ "', "---\ntitle: a\n---\n")
        ],
        "normalise": normalise,
        "headings": headings_of,
        "chunker": chunk,
        **{f"analyzer {code}": (lambda text, code=code: Analyzer().terms(text, code)) for code in ("en", "de", "zh", "th")},
        "query": checked_query,
        "language": detect,
        "sentences": lambda text: split_sentences(text, language()),
        "packer": lambda text: build_prompt(lm, "Why?", tiny.make_hits(text, text), max_new_tokens=8),
        "citing": lambda text: [citing.citations(text, tiny.make_hits(text), text), citing.faults(text, tiny.make_hits(text))],
        "extract": lambda text: extractive.extract("What is the limit?", tiny.make_hits(text)),
        "follow-ups": lambda text: follow_ups.joined([text], text),
        "metrics": lambda text: [
            metrics.holds(text, text[:50]),
            metrics.exact_match(text, text),
            metrics.token_f1(text, text),
        ],
        "held out": lambda text: list(overlap._runs(text.split(), overlap.RUN_WORDS)),
    }
    return found


def growth(subject: Callable[[str], Any], piece: str, up_to: int) -> list[float]:
    """Seconds at each size, until one is over the limit."""
    times: list[float] = []
    subject(piece)  # what is imported or compiled at the first use
    for size in (size for size in SIZES if size <= up_to):
        times.append(seconds(partial(subject, piece * (size // len(piece))), LIMIT))
        if times[-1] == float("inf"):
            break
    return times


def is_steep(times: list[float]) -> bool:
    return any(
        later == float("inf") or (later > NOTICED and later > STEEPEST * max(earlier, NOTICED / STEEPEST))
        for earlier, later in itertools.pairwise(times)
    ) or times[0] == float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="What is tried; everything when none is named.")
    parser.add_argument("--up-to", type=int, default=SIZES[-1], help="Characters of the longest text.")
    given = parser.parse_args()
    found = subjects()
    steep = 0
    for name, subject in found.items():
        if given.names and not any(name.startswith(wanted) for wanted in given.names):
            continue
        slowest = (0.0, "")
        bad = []
        for what, piece in PIECES.items():
            times = in_a_child(partial(growth, subject, piece, given.up_to))
            if not isinstance(times, str) and is_steep(times):  # another process may have had the processor's cache
                times = in_a_child(partial(growth, subject, piece, given.up_to))
            if isinstance(times, str) or is_steep(times):
                bad.append({what: times if isinstance(times, str) else [round(one, 3) for one in times]})
            else:
                slowest = max(slowest, (times[-1], what))
        steep += len(bad)
        print(json.dumps({"what": name, "slowest": [round(slowest[0], 2), slowest[1]], "not linear": bad}), flush=True)
    raise SystemExit(1 if steep else 0)


if __name__ == "__main__":
    main()
