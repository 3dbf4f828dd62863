"""The dialect of Hugo: each shortcode by its text, and nothing of its braces left."""

from __future__ import annotations

from textwrap import dedent

import pytest

from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import Content


def cleaned(raw: str, files: dict[str, str] | None = None, path: str = "docs/concepts/a.md") -> Content:
    return DIALECTS["hugo"].clean(dedent(raw).lstrip("\n"), path, (files or {}).get)


def text(raw: str, files: dict[str, str] | None = None) -> str:
    return cleaned(raw, files).text


def test_terms_by_their_text_or_their_title() -> None:
    files = {"docs/reference/glossary/pod.md": "---\ntitle: Pod\n---\nThe smallest object.\n"}
    raw = (
        'A {{< glossary_tooltip text="group of pods" term_id="pod" >}}, a {{<glossary_tooltip term_id="pod">}}, '
        '{{% glossary_tooltip term_id="api-group" %}}.\n'
    )
    assert text(raw, files) == "A group of pods, a Pod, api group.\n"


def test_definitions_are_resolved() -> None:
    entry = '---\ntitle: Node\n---\nA node {{< glossary_tooltip text="runs" term_id="x" >}}.\n<!--more-->\nMore of it.\n'
    files = {"docs/reference/glossary/node.md": entry}
    assert (
        text('{{< glossary_definition term_id="node" length="short" prepend="In short," >}}\n', files)
        == "In short, a node runs.\n"
    )
    assert text('{{< glossary_definition term_id="node" length="all" >}}\n', files) == "A node runs.\n\nMore of it.\n"
    assert cleaned('{{< glossary_definition term_id="gone" >}}\n', files).notes["unresolved includes"] == 1


def test_notes_also_in_lists_and_on_one_line() -> None:
    raw = """
        {{< note >}}
        Keep it.
        {{< /note >}}

        1. Step

           {{% warning %}}
           ```sh
           rm -r x
           ```
           {{% /warning %}}
        2. Next {{< caution >}}Mind the gap.{{< /caution >}}

        {{< alert title="Removed" color="warning" >}}Gone.{{< /alert >}}
        """
    assert text(raw) == (
        "Note: Keep it.\n\n1. Step\n\n   Warning:\n\n   ```sh\n   rm -r x\n   ```\n\n2. Next\n\n   Caution: Mind the gap.\n\n"
        "Removed: Gone.\n"
    )


def test_tabs_with_markdown_and_with_code() -> None:
    raw = """
        ## Install

        {{< tabs name="os" >}}
        {{% tab name="Linux" %}}
        Run **it**.
        {{% /tab %}}
        {{< tab name="macOS" codelang="bash" >}}
        brew install `x`
        {{< /tab >}}
        {{< /tabs >}}

        For both.
        """
    assert text(raw) == "## Install\n\nLinux:\n\nRun it.\n\nmacOS:\n\n```bash\nbrew install `x`\n```\n\nFor both.\n"


def test_headings_that_the_site_names_and_ids() -> None:
    assert text('## {{% heading "whatsnext" %}}\n\n- [x](y)\n\n### Details {#details-id}\n\nz\n') == (
        "## What's next\n\n- x\n\n### Details\n\nz\n"
    )


def test_feature_states() -> None:
    stages = "  - stage: alpha\n    fromVersion: '1.20'\n  - stage: beta\n    defaultValue: true\n    fromVersion: '1.30'\n"
    gate = f"---\nstages:\n{stages}---\n"
    files = {"docs/reference/command-line-tools-reference/feature-gates/Fast.md": gate}
    raw = (
        '{{< feature-state for_k8s_version="v1.25" state="stable" >}}\nText.\n\n{{< feature-state feature_gate_name="Fast" >}}\n'
    )
    assert text(raw, files) == (
        "Feature state: Kubernetes v1.25 [stable]\n\nText.\n\nFeature state: Kubernetes v1.30 [beta (enabled by default)]\n"
    )


def test_versions_from_the_site_or_as_placeholders() -> None:
    raw = (
        'v{{< skew currentVersion >}}, {{< skew currentVersionAddMinor -1 >}}, {{< param "version" >}}\n\n'
        "```sh\nget {{< skew nextMinorVersion >}}\n```\n"
    )
    assert text(raw, {"hugo.toml": '[params]\nversion = "v1.32"\n'}) == "v1.32, 1.31, v1.32\n\n```sh\nget 1.33\n```\n"
    document = cleaned(raw)
    assert document.text == "v<current version>, <current version -1>, <version>\n\n```sh\nget <next minor version>\n```\n"
    assert document.notes["parameters of the site that are not known"] == 4


def test_samples_and_includes() -> None:
    files = {
        "content/en/examples/app/pod.yaml": "kind: Pod\n",
        "content/en/includes/before.md": "Have a cluster. {{< version-check >}}\n",
    }
    raw = (
        '{{< include "before.md" >}}\n\n{{% code_sample file="app/pod.yaml" language="yaml" %}}\n\n'
        '{{< codenew file="gone.yaml" >}}\n'
    )
    document = DIALECTS["hugo"].clean(raw, "content/en/docs/tasks/a.md", files.get)
    assert document.text == ("Have a cluster.\n\nTo check the version, enter `kubectl version`.\n\n```yaml\nkind: Pod\n```\n")
    assert document.notes["unresolved code samples"] == 1


def test_code_pictures_tables_and_links() -> None:
    raw = """
        {{< highlight yaml "linenos=false,hl_lines=7-18" >}}
        a: [b]
        {{< /highlight >}}

        {{< table caption="Modes" >}}
        Mode | Use
        :----|:---
        A | b
        {{< /table >}}

        {{< figure src="/x.png" alt="A diagram" caption="How it flows." >}}

        See [lists]({{< ref "/docs/a b#c" >}}) and {{< link text="services" url="/x" >}}.
        """
    assert text(raw) == (
        "```yaml\na: [b]\n```\n\nModes\n\n| Mode | Use |\n| --- | --- |\n| A | b |\n\nHow it flows.\n\nSee lists and services.\n"
    )


def test_a_shortcode_that_is_shown_stays() -> None:
    assert text("Write `{{</* note */>}}` here.\n") == "Write `{{< note >}}` here.\n"


def test_comments_go_and_unclosed_ones_stay() -> None:
    document = cleaned("A\n\n{{< comment >}}\nhidden\n{{< /comment >}}\n\nB\n")
    assert (document.text, document.notes["comments dropped"]) == ("A\n\nB\n", 1)
    for name in ("comment", "note", 'tabs name="x"', 'tab name="y"', "highlight sh", "mermaid", "unknown"):
        found = text(f"A\n\n{{{{< {name} >}}}}\n\n# Rest\n\nmore\n")
        assert "Rest" in found and "more" in found and "{{" not in found


def test_templates_of_other_programs_stay() -> None:
    raw = "```sh\nkubectl get -o go-template='{{ .status }}{{range .items}}'\n```\n"
    assert text(raw) == raw


@pytest.mark.parametrize("raw", ["{{< note", "{{<", '{{< a b="c >}}', "{{</ >}}", "{{% %}}", "{{< note >}}" * 50])
def test_broken_shortcodes_are_text(raw: str) -> None:
    cleaned(raw + "\n\nAfter.\n").text.index("After.")


def test_a_tab_that_is_another_file() -> None:
    files = {"docs/concepts/generated/a.md": "---\ntitle: x\n---\nRuns one phase.\n"}
    tabs = "".join(
        f'{{{{< tab name="{name}" include="{file}" />}}}}\n' for name, file in (("phase", "generated/a.md"), ("gone", "b.md"))
    )
    found = cleaned(f'## Phases\n\n{{{{< tabs name="t" >}}}}\n{tabs}{{{{< /tabs >}}}}\n', files)
    assert found.text == "## Phases\n\n### phase\n\nRuns one phase.\n"
    assert found.notes["includes resolved"] == found.notes["unresolved includes"] == 1
