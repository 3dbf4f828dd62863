"""The dialect of Microsoft Learn: each construct, and what must survive it."""

from __future__ import annotations

from textwrap import dedent

import pytest
from markdown_it import MarkdownIt

from rag_vs_ft.corpus.markdown.builder import MAX_INCLUDE_DEPTH, MAX_INCLUDED_CHARACTERS
from rag_vs_ft.corpus.markdown.learn import LEARN, faq_to_markdown
from rag_vs_ft.corpus.readers import Content, Read


def clean(raw: str, *, path: str = "", read: Read = lambda _: None) -> Content:
    return LEARN.clean(raw, path, read)


def cleaned(raw: str, files: dict[str, str] | None = None, path: str = "docs/a.md") -> Content:
    return clean(dedent(raw).lstrip("\n"), path=path, read=(files or {}).get)


def text(raw: str, files: dict[str, str] | None = None) -> str:
    return cleaned(raw, files).text


def test_metadata_and_title() -> None:
    document = cleaned(
        """
        ---
        title: Upgrade a cluster | Microsoft Learn
        description: How to upgrade.
        ms.service: azure-kubernetes-service
        ms.date: 03/09/2026
        ---
        # Upgrade *your* `aks` cluster

        Text.
        """
    )
    assert document.title == "Upgrade your aks cluster"
    assert (document.description, document.service, document.date) == (
        "How to upgrade.",
        "azure-kubernetes-service",
        "2026-03-09",
    )
    assert document.text == "# Upgrade your `aks` cluster\n\nText.\n"
    assert clean("---\ntitle: Only here | Microsoft Docs\n---\nText.").title == "Only here"


def test_links_references_images_and_emphasis() -> None:
    raw = """
        Use **[Azure Monitor](/azure "hover")** and [the guide][guide], [`az aks`][cli], [gone][nowhere] or <https://x.example>.

        Select ![Settings icon](a.png) then *Save* ![Screenshot of the page](b.png).

        ![A diagram alone](c.png)

        [![Deploy button](d.svg)](https://deploy.example)

        [guide]: /guide
        [cli]: /cli
        """
    document = cleaned(raw)
    assert document.text == (
        "Use Azure Monitor and the guide, `az aks`, [gone][nowhere] or https://x.example.\n\nSelect Settings icon then Save .\n"
    )
    assert document.notes["images dropped"] == 4


def test_brackets_that_are_no_references_stay() -> None:
    assert text(r"Fixed \[#9165\]\[#8978\] and `a[0][1]`, args[0][b], [Preview]: new.") == (
        "Fixed [#9165][#8978] and `a[0][1]`, args[0][b], [Preview]: new.\n"
    )


def test_placeholders_stay_and_html_goes() -> None:
    raw = """
        Replace <resource-group> and `<name>` in <your cluster>.<br/>Press <kbd>Ctrl</kbd>, 10<sup>6</sup>
        <a id="x"></a>times. <!-- hidden -->

        <!-- a
        comment -->

        <details>
        <summary>More</summary>

        Inside &lt;tag&gt; &amp; out.

        </details>

        <script>alert(1)</script>
        """
    assert text(raw) == (
        "Replace <resource-group> and `<name>` in <your cluster>.\nPress Ctrl, 10^6\ntimes.\n\nMore\n\nInside <tag> & out.\n"
    )


def test_tables_keep_cells_and_pipes() -> None:
    raw = """
        | Name | Values<br>allowed |
        |:--|--:|
        | `a\\|b` | Minimum: 1<br/>Maximum: 24 |
        | [Link](/x) | <ul><li>one</li><li>two</li></ul> |
        """
    assert text(raw) == (
        "| Name | Values allowed |\n| --- | --- |\n| `a\\|b` | Minimum: 1; Maximum: 24 |\n| Link | - one - two |\n"
    )
    again = MarkdownIt("commonmark").enable("table").parse(text(raw))
    assert [token.content for token in again if token.type == "inline"][2] == "`a|b`"


def test_html_tables_become_tables() -> None:
    raw = "<table><tr><th>A</th><th>B</th></tr><tr><td>1 &lt; 2</td><td><b>x</b><br>y</td></tr></table>\n"
    assert text(raw) == "| A | B |\n| --- | --- |\n| 1 < 2 | x y |\n"


@pytest.mark.parametrize("kind", ["NOTE", "Tip", "IMPORTANT", "WARNING", "caution"])
def test_alerts(kind: str) -> None:
    assert text(f"> [!{kind}]\n> Keep it.\n>\n> - one\n") == f"{kind.capitalize()}: Keep it.\n\n- one\n"


def test_alert_without_text_of_its_own_and_plain_quote() -> None:
    assert text("> [!NOTE]\n>\n> ```bash\n> az login\n> ```\n") == "Note:\n\n```bash\naz login\n```\n"
    assert text("> Said *so*.\n") == "> Said so.\n"


def test_divs() -> None:
    raw = """
        > [!div class="checklist"]
        > * First

        > [!div class="nextstepaction"]
        > [Go on](next.md)
        """
    document = cleaned(raw)
    assert document.text == "- First\n"
    assert document.notes["navigation dropped"] == 1


TABS = """
# Page

## Deploy

Do one:

# [Azure CLI](#tab/cli)

```bash
az deploy
```

## Check

Look.

# [**Portal**](#tab/portal)

Click.

---
"""


def test_tabs_are_sections_below_their_own() -> None:
    document = cleaned(TABS + "\n## Next\n\nMore.\n")
    assert [(heading.level, heading.text) for heading in document.headings] == [
        (1, "Page"),
        (2, "Deploy"),
        (3, "Azure CLI"),
        (4, "Check"),
        (3, "Portal"),
        (2, "Next"),
    ]
    assert document.notes["tabs"] == 2
    assert "---" not in document.text


def test_text_after_tabs_does_not_stand_under_the_last_tab() -> None:
    document = cleaned(TABS.replace("## Check\n\nLook.\n", "") + "\nFor both.\n")
    assert [heading.text for heading in document.headings] == ["Page", "Deploy"]
    assert "Azure CLI:\n\n```bash" in document.text
    assert document.text.endswith("Portal:\n\nClick.\n\nFor both.\n")


def test_tabs_inside_a_list_are_lines() -> None:
    raw = "1. Step\n\n   ### [Bash](#tab/bash)\n\n   ```bash\n   ls\n   ```\n\n   ---\n\n1. Next\n"
    assert text(raw) == "1. Step\n\n   Bash:\n\n   ```bash\n   ls\n   ```\n\n2. Next\n"


def test_zone_pivots_say_which() -> None:
    raw = """
        :::zone pivot="azure-cli"

        ## Create a vault

        ### Details

        A

        ## With the Azure CLI

        ::: zone-end

        :::zone target="docs" pivot="portal"
        B
        :::zone-end

        :::zone target="chromeless"
        C
        :::zone-end

        ::: moniker range=">=1"
        D
        ::: moniker-end
        """
    assert text(raw) == ("## Create a vault (azure-cli)\n\n### Details\n\nA\n\n## With the Azure CLI\n\nFor portal:\n\nB\n\nD\n")


def test_image_row_and_video_directives() -> None:
    raw = """
        :::row:::
        :::column span="2":::
        Left
        :::column-end:::
        :::row-end:::

        Select :::image type="icon" source="i.png" alt-text="Gear"::: and go.
        :::image type="content" source="x.png" alt-text="Screenshot of it.":::

        :::image type="content" source="y.png"
           alt-text="Over two lines." lightbox="y.png":::

        :::image type="complex" source="z.png" alt-text="Short":::
        The long description.
        :::image-end:::

        > [!VIDEO https://video.example/1]
        """
    document = cleaned(raw)
    assert document.text == "Left\n\nSelect Gear and go.\n\nThe long description.\n"
    assert document.notes["images dropped"] == 4
    assert document.notes["videos dropped"] == 1


def test_navigation_sections_go_and_prose_stays() -> None:
    raw = """
        # T

        ## Next steps

        To learn more, see:

        - [One](1.md)
        - [Two](2.md).

        ## Learn more

        - [Three](3.md): sets the limit to 250 pods.

        ## Related content

        > [!div class="nextstepaction"]
        > [Four](4.md)
        """
    document = cleaned(raw)
    assert document.text == "# T\n\n## Learn more\n\n- Three: sets the limit to 250 pods.\n"
    assert document.notes["navigation dropped"] == 3


@pytest.mark.parametrize(
    ("section", "kept"),
    [
        ("In this article, you created a pool. To go on, see [pools](p.md).", False),
        ("- Read about [pools](p.md), which hold nodes.\n- Ask a question.", False),
        ("Then run this:\n\n```bash\naz aks stop\n```", True),
        ("| a | b |\n|---|---|\n| 1 | 2 |", True),
        ("A fact. " * 100, True),
    ],
)
def test_a_section_of_pointers_goes_unless_it_says_something_of_its_own(section: str, kept: bool) -> None:
    document = cleaned(f"# T\n\nText.\n\n## Next steps\n\n{section}\n")
    assert ("## Next steps" in document.text) == kept
    assert document.notes["navigation dropped"] == (not kept)


def test_code_is_not_touched() -> None:
    raw = """
        ````md
        ```bash
        # not a heading
        ```
        :::image source="x":::
        > [!NOTE]
        [!INCLUDE [a](inc.md)] <br> **x** [l](u) <!-- c -->
        ````

        1. In a list:

           ```yaml
           key:   [a, b]   # two  spaces

             deeper: "\\t"
           ```
        """
    assert text(raw, {"docs/inc.md": "INCLUDED"}) == dedent(raw).lstrip("\n")


def test_indented_code_becomes_a_fence() -> None:
    assert text("Text\n\n    a ``` b\n      **c**\n") == "Text\n\n````\na ``` b\n  **c**\n````\n"


def test_an_open_fence_is_closed() -> None:
    assert text("```\n# a\n") == "```\n# a\n```\n"


def test_lists_keep_nesting_and_count() -> None:
    raw = "1. a\n1. b\n   - c\n   - d\n\n     e\n1. f\n\n* g\n* h\n"
    assert text(raw) == "1. a\n2. b\n   - c\n\n   - d\n\n     e\n3. f\n\n- g\n- h\n"


def test_text_that_looks_like_markup_stays_text() -> None:
    raw = "\\# no heading\n\n[1. no list](x)\n\n\\- no item\n\nC\\# and a \\* b\n"
    document = cleaned(raw)
    assert document.headings == ()
    assert document.text == "\\# no heading\n\n1\\. no list\n\n\\- no item\n\nC# and a * b\n"


# --- includes --------------------------------------------------------------------------------------------------------


def test_includes_of_blocks_and_in_lines() -> None:
    files = {
        "docs/includes/note.md": "---\nms.topic: include\n---\n> [!NOTE]\n> Mind [it](x).\n\n```sh\nls\n```\n",
        "docs/includes/name.md": "Azure Thing",
        "shared/x.md": "From above.",
    }
    raw = """
        - Before

          [!INCLUDE [n](includes/note.md)]
        - Use [!INCLUDE[name](./includes/name.md)] now.

        [!include [x](../shared/x.md)]
        """
    document = cleaned(raw, files)
    assert document.text == ("- Before\n\n  Note: Mind it.\n\n  ```sh\n  ls\n  ```\n\n- Use Azure Thing now.\n\nFrom above.\n")
    assert document.notes["includes resolved"] == 3


def test_references_of_an_include_are_its_own() -> None:
    files = {"docs/i.md": "See [text][ref].\n\n[ref]: /there\n"}
    assert text("[!INCLUDE [i](i.md)]\n", files) == "See text.\n"


def test_a_tilde_is_a_folder_above() -> None:
    files = {"repo/includes/a.md": "root include", "repo/articles/~/b.md": "literal folder"}
    document = clean("[!INCLUDE [a](~/includes/a.md)]\n\n[!INCLUDE [b](~/b.md)]\n", path="repo/articles/x.md", read=files.get)
    assert document.text == "root include\n\nliteral folder\n"


@pytest.mark.parametrize(
    "target",
    [
        "../../../../etc/passwd",
        "/etc/passwd",
        "missing.md",
        "~/elsewhere/x.md",
        "..\\..\\..\\etc\\passwd",
        "https://x.example/a.md",
    ],
)
def test_includes_outside_or_missing_are_dropped_and_counted(target: str) -> None:
    asked: list[str] = []

    def read(path: str) -> None:
        asked.append(path)

    document = clean(f"Before\n\n[!INCLUDE [x]({target})]\n\nAfter\n", path="docs/a.md", read=read)
    assert document.text == "Before\n\nAfter\n"
    assert document.notes["unresolved includes"] == 1
    assert all(not path.startswith(("/", "..")) for path in asked)


def test_include_cycles_depth_and_fan_out() -> None:
    loop = {"docs/b.md": "B\n\n[!INCLUDE [a](a.md)]\n", "docs/a.md": "A\n\n[!INCLUDE [b](b.md)]\n"}
    document = cleaned(loop["docs/a.md"], loop)
    assert document.text == "A\n\nB\n"
    assert document.notes["include cycles"] == 1

    chain = {f"docs/{n}.md": f"level {n}\n\n[!INCLUDE [x]({n + 1}.md)]\n" for n in range(50)}
    document = cleaned("[!INCLUDE [x](0.md)]\n", chain)
    assert document.text.count("level") == MAX_INCLUDE_DEPTH
    assert document.notes["includes too deep"] == 1

    wide = {f"docs/{n}.md": "word " * 200 + f"\n\n[!INCLUDE [x]({n + 1}.md)]\n" * 20 for n in range(5)}
    document = cleaned("[!INCLUDE [x](0.md)]\n\n" * 20, wide)
    assert len(document.text) <= MAX_INCLUDED_CHARACTERS
    assert document.notes["includes beyond the size limit"] > 0


def test_code_samples() -> None:
    files = {"docs/s.sh": "#!/bin/sh\n# <Create>\naz create\naz wait\n# </Create>\naz end\n"}
    assert text(':::code language="azurecli" source="s.sh" id="create":::\n', files) == "```azurecli\naz create\naz wait\n```\n"
    assert text(':::code language="sh" source="s.sh" range="1,3-4":::\n', files) == "```sh\n#!/bin/sh\naz create\naz wait\n```\n"
    assert text("[!code-sh[main](s.sh)]\n", files).startswith("```sh\n#!/bin/sh\n")
    document = cleaned(':::code language="sh" source="~/other/x.sh":::\n', files)
    assert (document.text, document.notes["unresolved code samples"]) == ("", 1)


# --- FAQ -------------------------------------------------------------------------------------------------------------


def test_faq() -> None:
    raw = """\
### YamlMime:FAQ
metadata:
  title: FAQ about it
  ms.date: 01/02/2026
title: Frequently asked
summary: Some [answers](x).
sections:
  - name: Basics
    questions:
      - question: |
          What is it?
        answer: |
          > [!NOTE]
          > A thing.
      - question: No answer?
  - ignored
"""
    document = clean(faq_to_markdown(raw))
    assert document.text == "# Frequently asked\n\nSome answers.\n\n## What is it?\n\nNote: A thing.\n\n## No answer?\n"
    assert document.date == "2026-01-02"
    for broken in ("a: [", "- x", "sections: 3\ntitle: [x]", "sections: [{questions: {a: b}}]", ""):
        clean(faq_to_markdown(broken))
