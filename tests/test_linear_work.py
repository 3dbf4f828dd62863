"""Long texts of one piece repeated, each of which a regular expression or a loop once took time for that grew with its square."""

from __future__ import annotations

import subprocess
import sys

import pytest

SETUP = """
from collections import Counter
from rag_vs_ft.corpus.front_matter import split_front_matter
from rag_vs_ft.corpus.readers import BY_KIND, FileContext
from rag_vs_ft.corpus.asciidoc.lines import _TAG
from rag_vs_ft.corpus.pdf.blocks import _LEADERS
from rag_vs_ft.corpus.readers.rst import _MARKUP, _menu
from rag_vs_ft.corpus.text import escape_block_start
from rag_vs_ft.evaluation.refusals import is_refusal
from rag_vs_ft.language import detect, language, split_sentences
from rag_vs_ft.training.self_instruct import _NAME
N = 200_000

def asciidoc(piece):
    BY_KIND["asciidoc"].read((piece * (N // len(piece))).encode(), FileContext("a.adoc", lambda _: None))
"""
CASES = {
    "a value without spaces": 'split_front_matter("---\\na: " + "x" * 60_000 + "\\n---\\n", Counter())',
    "words without spaces": 'for _ in range(50): detect("東" * N)',
    "a line of dashes": 'escape_block_start("-" * N + "x")',
    "spaces in a definition": 'escape_block_start("[a]:" + " " * N + "x y")',
    "code that is not closed": 'split_sentences("`a. B " * (N // 6), language())',
    "a word without digits": '_NAME.findall("a" * N)',
    "links": 'asciidoc("link:a[")',
    "attributes": 'asciidoc("{a}-[")',
    "references": 'asciidoc("<<a,   ")',
    "anchors": 'asciidoc("[[a")',
    "a heading": 'asciidoc("== a" + " " * (N - 5) + "x")',
    "a delimiter": 'asciidoc("+" * (N - 1) + "!"), asciidoc("```" + "a" * (N - 4) + "!")',
    "macros": 'asciidoc("toc::a[" * (N // 7))',
    "markup of a title": '_MARKUP.sub("", ":a:`" + " " * N + ":" * N), _menu(" " * N)',
    "leaders, tags, an answer in a loop": '_LEADERS.search(". " * N), _TAG.search("end::" * N), is_refusal("the " * 50_000)',
    "marks": 'asciidoc("*a `b ")',
    "footnotes": 'asciidoc("footnote:[")',
    "callouts": 'asciidoc("----\\n" + " " * 1_000 + "x\\n----\\n\\n")',
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_long_text_ends(case: str) -> None:
    """In a process that the system ends after a minute of computing."""
    resource = pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", SETUP + CASES[case]],
        text=True,
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (60, 60)),
    )
    assert done.returncode == 0, done.stderr[-500:]
