"""The dialect of MkDocs and Material: each construct by its text, and none of its marks left."""

from __future__ import annotations

from textwrap import dedent

import pytest

from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import Content

CODE = "import a\n\n# --8<-- [start:use]\nuse(a)\nuse(b)\n# --8<-- [end:use]\nend()\n"


def cleaned(raw: str, files: dict[str, str] | None = None, path: str = "docs/en/docs/tutorial/a.md") -> Content:
    return DIALECTS["mkdocs"].clean(dedent(raw).lstrip("\n"), path, (files or {}).get)


def text(raw: str, files: dict[str, str] | None = None) -> str:
    return cleaned(raw, files).text


def test_indented_admonitions() -> None:
    raw = """
        !!! note "Mind the *gap*"
            Between **train** and platform.

            ```sh
            ls
            ```

        ??? warning
            Folded.

        - Item

            !!! tip inline end
                Inside.

        After.
        """
    assert text(raw) == (
        "Mind the gap: Between train and platform.\n\n```sh\nls\n```\n\nWarning: Folded.\n\n- Item\n\n  Tip: Inside.\n\nAfter.\n"
    )


def test_indented_tabs() -> None:
    raw = """
        ## Install

        === "pip"

            ```sh
            pip install x
            ```

        === "From *source*"

            1. Clone

        For both.
        """
    assert text(raw) == "## Install\n\npip:\n\n```sh\npip install x\n```\n\nFrom source:\n\n1. Clone\n\nFor both.\n"


def test_blocks_between_slashes() -> None:
    raw = """
        # Page { #page }

        /// note | Technical Details
            open: True

        Some **text**.

        ///

        //// tab | Python 3.10+

        /// tip

        Inner.

        ///

        ////

        //// tab | Older

        Other.

        ////

        /// details | Preview

        Folded.

        ///

        ## Next { #next }

        End.
        """
    document = cleaned(raw)
    assert document.title == "Page"
    assert document.text == (
        "# Page\n\nTechnical Details: Some text.\n\nPython 3.10+:\n\nTip: Inner.\n\nOlder:\n\nOther.\n\nPreview\n\nFolded.\n\n"
        "## Next\n\nEnd.\n"
    )


def test_samples_with_the_lines_that_they_select() -> None:
    files = {"docs_src/a/t.py": "".join(f"line {number}\n" for number in range(1, 9))}
    assert text("{* ../../docs_src/a/t.py hl[2,6] *}\n", files).count("line") == 8
    assert text("{* ../../docs_src/a/t.py ln[2:3,5] hl[2] *}\n", files) == "```py\nline 2\nline 3\nline 5\n```\n"
    assert cleaned("{* ../../docs_src/gone.py *}\n", files).notes["unresolved code samples"] == 1


def test_snippets_also_in_code() -> None:
    files = {"snippets/part.md": "Part *one*.\n", "snippets/x.py": CODE}
    raw = """
        --8<-- "snippets/part.md"

        ```python title="x.py"
        --8<-- "snippets/x.py:use"
        ```

        {!snippets/part.md!}

        --8<-- "gone.md"
        """
    document = cleaned(raw, files)
    assert document.text == "Part one.\n\n`x.py`:\n\n```python\nuse(a)\nuse(b)\n```\n\nPart one.\n"
    assert document.notes["unresolved includes"] == 1
    assert text('```\n--8<-- "snippets/x.py:1:1"\n```\n', files) == "```\nimport a\n```\n"


def test_attribute_lists_keys_icons_and_templates() -> None:
    raw = """
        [TOC]

        Press ++ctrl+alt+del++ :material-check:{ .ok } and ==this==. [Go](x.md){ .md-button target=_blank }

        ![x](y.png){ width="300" }

        A paragraph.
        { .annotate #here }

        {% for user in users %}
        @{{ user.name }}
        {% endfor %}

        A set {1, 2} and `{{ id }}`.
        """
    assert text(raw) == "Press Ctrl+Alt+Del and this. Go\n\nA paragraph.\n\nA set {1, 2} and `{{ id }}`.\n"


def test_a_terminal_without_its_colours_and_reference_by_its_name() -> None:
    raw = (
        '<div class="termy">\n\n```console\n$ <font color="#4E9A06">run</font> <u>x</u>\n```\n\n</div>\n\n'
        "::: pkg.Class\n    options:\n        x: 1\n"
    )
    assert text(raw) == "```console\n$ run x\n```\n\n`pkg.Class`\n"
    assert text("```html\n<b>x</b>\n```\n") == "```html\n<b>x</b>\n```\n"


def test_abbreviations_and_markdown_in_html() -> None:
    assert text("HTML is old.\n\n*[HTML]: Hyper Text\n") == "HTML is old.\n\nHTML: Hyper Text\n"
    assert text("<div class='grid' markdown>\n**Bold** text.\n</div>\n") == "Bold text.\n"


@pytest.mark.parametrize("opening", ['!!! note "x"', '=== "x"', "/// note", "//// tab | x", "{* x", "--8<--", "::: a.b", "{% if"])
def test_what_is_never_closed_drops_nothing(opening: str) -> None:
    found = text(f"Before\n\n{opening}\n\n# Rest\n\nmore\n")
    assert "Before" in found and "# Rest" in found and "more" in found


def test_titles_are_markdown_and_tags_of_a_terminal_take_their_entities_with_them() -> None:
    raw = """
        /// note | Ask **Anna** for `a*b`

        She knows.

        ///

        === "On *Linux* &amp; Co"

            Run it.

        ```console
        $ <b>ls</b> &apos;a&apos;
        ```

        ```console
        $ echo &apos;
        ```
    """
    assert text(raw) == (
        "Ask Anna for `a*b`: She knows.\n\nOn Linux & Co:\n\nRun it.\n\n```console\n$ ls 'a'\n```\n\n"
        "```console\n$ echo &apos;\n```\n"
    )


def test_templates_in_html_are_left_out_and_those_in_code_stay() -> None:
    raw = """
        <div class="people">
        <a href={{ user.url }} title="{{ user.name }}">@{{ user.name }}</a> answers {% if user %}too{% endif %}
        </div>

        ```jinja
        <p>{{ id }}</p>
        ```

        Write `{{ id }}` there.
    """
    content = cleaned(raw)
    assert content.text == "@ answers too\n\n```jinja\n<p>{{ id }}</p>\n```\n\nWrite `{{ id }}` there.\n"
    assert content.notes["values of templates left out"] == 5


def test_loops_over_the_data_of_a_site_are_left_out_whole() -> None:
    raw = """
        Before.

        {% for user in people.all %}

        * {{ user.name }} with {% for star in user.stars %}★ {{ star }}{% endfor %}

        {% endfor %}

        {% for side in sides %}A side.{% endfor %} After.

        {% for never in closed %} and {{ stays }}.
    """
    content = cleaned(raw)
    assert content.text == "Before.\n\nA side. After.\n\nand .\n"
    assert content.notes["loops of templates left out"] == 1


def test_what_is_raw_in_a_template_stays() -> None:
    raw = """
        {% raw %}Write {{ id }} or `{{ name }}`.{% endraw %} Not {{ this }}.

        {% raw %}

        {% for item in items %}{{ item }}{% endfor %}

        {% endraw %}

        In code: `{% for a in b %}{{ a }}`

        ```jinja
        {% for a in b %}{{ a }}
        ```

        `{% endfor %}` ends it.
    """
    assert text(raw) == (
        "Write {{ id }} or `{{ name }}`. Not .\n\n{% for item in items %}{{ item }}{% endfor %}\n\n"
        "In code: `{% for a in b %}{{ a }}`\n\n```jinja\n{% for a in b %}{{ a }}\n```\n\n`{% endfor %}` ends it.\n"
    )
