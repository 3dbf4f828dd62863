"""Work grows with the text and no faster: calls are counted, not seconds, at one length and at twice that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import LeftOut


def repeated(piece: str) -> Callable[[int], str]:
    return lambda length: piece * (length // len(piece))


CASES: dict[str, Callable[[int], str]] = {
    "backticks": repeated("`"),
    "runs of backticks": lambda length: " ".join("`" * run for run in range(1, int((2 * length) ** 0.5))),
    "emphasis": repeated("**_"),
    "emphasis that does not pair": repeated("*a_ "),
    "partial references": repeated("[a][b"),
    "references": repeated("[a][b]"),
    "brackets": repeated("["),
    "links": repeated("[a](b"),
    "pictures": repeated("![a]("),
    "headings": lambda length: "".join(f"{'#' * (number % 6 + 1)} h\n\nx\n\n" for number in range(length // 9)),
    "ragged tables": repeated("<table><tr><td>\n\n"),
    "ragged lists": repeated("</p><li><td><table>\n\n"),
    "tags that are not closed": repeated('<a b="'),
    "comments": repeated("<!--\n\n"),
    "scripts": repeated("<script>\n\n"),
    "fences in fences": lambda length: "".join("`" * (3 + number % 50) + "\n" for number in range(length // 28)),
    "fences in quotes": repeated("> ```\n"),
    "large numbers": lambda length: "".join(f"{number * 7919 % 999999999}. a\n" for number in range(length // 12)),
    "nested lists": lambda length: "".join("  " * depth + "- a\n" for depth in range(int(length**0.5))),
    "quotes": repeated(">"),
    "lines under quotes": lambda length: "> " * 20 + "a\n" * (length // 2),
    "tables": lambda length: "|a|b|\n|-|-|\n" + "|c|d|\n" * (length // 6),
    "definitions": repeated("[a\n"),
    "footnotes": repeated("[^a"),
    "dollars": repeated("$a "),
    "formulas": repeated("$$\na\n"),
    "directives": repeated(':::zone pivot="a"\n'),
    "pictures in directives": repeated(":::image "),
    "includes": repeated("[!INCLUDE [a](b"),
    "shortcodes": repeated("{{< a `"),
    "shortcodes in a line": repeated('{{< param "x" >}} '),
    "escaped shortcodes": repeated("{{</* "),
    "slashes": repeated("/// note\n\n"),
    "admonitions": lambda length: "".join("    " * (depth % 20) + "!!! note\n" for depth in range(length // 50)),
    "components": repeated("<A b={{\n"),
    "expressions": repeated("{/* "),
    "modules": repeated("import {\n\n"),
    "colon fences": repeated(":::{note}\n"),
    "roles": repeated("{a}`b "),
    "spaces in a directive": lambda length: ":::zone" + " " * length + "a",
    "names in a directive": lambda length: ":::image " + "a" * length,
    "spaces in a shortcode": lambda length: "{{<" + " " * length,
    "spaces in an admonition": lambda length: "!!! a" + " " * length + "!",
    "spaces in slashes": lambda length: "/// a |" + " " * length + "b" + " " * length,
    "names in a component": lambda length: "<A " + "a" * length,
    "letters of an alert": lambda length: "> [!" + "a" * length,
    "spaces before attributes": lambda length: "## A" + " " * length + "{",
    "spaces in a role": lambda length: "{doc}`a" + " " * length + "b`",
}
DIALECT_OF = {
    **dict.fromkeys(("directives", "pictures in directives", "includes"), "learn"),
    **dict.fromkeys(("spaces in a directive", "names in a directive"), "learn"),
    **dict.fromkeys(("shortcodes", "shortcodes in a line", "escaped shortcodes", "spaces in a shortcode"), "hugo"),
    **dict.fromkeys(("slashes", "admonitions", "spaces in an admonition", "spaces in slashes"), "mkdocs"),
    **dict.fromkeys(("components", "expressions", "modules", "names in a component"), "docusaurus"),
    **dict.fromkeys(("colon fences", "roles", "spaces in a role"), "myst"),
}
"""The dialect that a case is of; the others are read as GitHub Markdown."""


def calls(dialect: str, text: str) -> int:
    """Function calls that cleaning makes."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    DIALECTS[dialect].parser()
    sys.setprofile(profile)
    try:
        DIALECTS[dialect].clean(text, "docs/a.md", lambda _: None)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("case", CASES)
def test_twice_the_text_is_twice_the_work(case: str) -> None:
    dialect = DIALECT_OF.get(case, "github")
    once, twice = calls(dialect, CASES[case](2_000)), calls(dialect, CASES[case](4_000))
    assert twice < 2.3 * once + 5_000


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_long_text_ends(case: str) -> None:
    """In a process that the system ends after a minute of computing: regular expressions make no calls to be counted."""
    resource = pytest.importorskip("resource")
    code = (
        "import sys; from rag_vs_ft.corpus.dialects import DIALECTS; from rag_vs_ft.corpus.readers import LeftOut\n"
        "text = sys.stdin.read()\n"
        "try: DIALECTS[sys.argv[1]].clean(text, 'docs/a.md', lambda _: None)\n"
        "except LeftOut as reason: print(reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, DIALECT_OF.get(case, "github")],
        input=CASES[case](300_000),
        text=True,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (60, 60)),
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_a_file_that_wants_too_much_is_left_out_with_its_reason() -> None:
    with pytest.raises(LeftOut, match="takes too long to read"):
        DIALECTS["github"].clean("> " * 60 + "a\n" * 20_000, "a.md", lambda _: None)
