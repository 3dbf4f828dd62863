"""The dialect of MyST: directives by their content, roles by their text."""

from __future__ import annotations

from textwrap import dedent

import pytest

from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import Content


def cleaned(raw: str, files: dict[str, str] | None = None) -> Content:
    return DIALECTS["myst"].clean(dedent(raw).lstrip("\n"), "docs/a.md", (files or {}).get)


def text(raw: str, files: dict[str, str] | None = None) -> str:
    return cleaned(raw, files).text


def test_admonitions_of_both_spellings_and_nested() -> None:
    raw = """
        ```{note}
        :class: dropdown

        Some **text**.
        ```

        ::::{admonition} My title
        Outer.

        :::{tip} Short.
        :::
        ::::

        ```{versionadded} 2.1
        Faster.
        ```
        """
    assert text(raw) == "Note: Some text.\n\nMy title: Outer.\n\nTip: Short.\n\nAdded in version 2.1: Faster.\n"


def test_code_samples_includes_and_what_is_generated() -> None:
    files = {"docs/x.py": "one\ntwo\nthree\n", "docs/part.md": "Part.\n"}
    raw = """
        ```{code-block} python
        ---
        caption: A file
        ---
        x = 1
        ```

        ```{literalinclude} x.py
        :language: python
        :lines: 1,3
        ```

        ```{include} part.md
        ```

        ```{toctree}
        a
        b
        ```

        ```python
        plain = {}
        ```
        """
    assert text(raw, files) == (
        "A file\n\n```python\nx = 1\n```\n\n```python\none\nthree\n```\n\nPart.\n\n```python\nplain = {}\n```\n"
    )


def test_tabs() -> None:
    raw = """
        ::::{tab-set}
        :::{tab-item} Linux
        apt
        :::
        :::{tab-item} Mac
        brew
        :::
        ::::

        Both.
        """
    assert text(raw) == "Linux:\n\napt\n\nMac:\n\nbrew\n\nBoth.\n"


def test_roles_targets_comments_and_breaks() -> None:
    raw = """
        (my-target)=
        # Page

        % a comment

        See {ref}`the guide <target>`, {doc}`intro`, {py:class}`~pkg.mod.Name`, {math}`a*b*c` and {{ version }}.

        +++

        After {unknown}.
        """
    assert text(raw) == "# Page\n\nSee the guide, intro, `Name`, $a*b*c$ and <version>.\n\nAfter {unknown}.\n"


def test_figures_keep_their_words() -> None:
    document = cleaned("```{figure} x.png\n:alt: A\n\nThe *caption*.\n```\n")
    assert (document.text, document.notes["images dropped"]) == ("The caption.\n", 1)


@pytest.mark.parametrize("opening", [":::{note}", "```{note}", "::::{tab-set}", "{ref}`x", "(x)=", "% x"])
def test_what_is_never_closed_drops_nothing(opening: str) -> None:
    found = text(f"Before\n\n{opening}\n\n# Rest\n\nmore\n")
    assert "Before" in found and "Rest" in found and "more" in found


def test_directives_nested_without_end_stay() -> None:
    raw = "".join("`" * (200 - depth) + "{note}\n" for depth in range(150)) + "deep\n"
    assert "deep" in text(raw)
