"""The dialect of Docusaurus: components by their text, and nothing of their code left."""

from __future__ import annotations

from textwrap import dedent

import pytest

from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import Content


def cleaned(raw: str, files: dict[str, str] | None = None, path: str = "docs/usage/a.mdx") -> Content:
    return DIALECTS["docusaurus"].clean(dedent(raw).lstrip("\n"), path, (files or {}).get)


def text(raw: str, files: dict[str, str] | None = None) -> str:
    return cleaned(raw, files).text


def test_admonitions() -> None:
    raw = """
        :::note

        Plain.

        :::

        ::::tip[What *you* learn]
        - One

        :::warning Mind it {#id}
        Inner.
        :::
        ::::

        After.
        """
    assert text(raw) == "Note: Plain.\n\nWhat you learn:\n\n- One\n\nMind it: Inner.\n\nAfter.\n"


def test_modules_go_and_code_that_looks_like_them_stays() -> None:
    raw = """
        import Tabs from '@theme/Tabs'
        import { a,
          b } from "./x"

        export const Rows = () => {
          const x = 1

          return x
        }

        # Page {#page}

        ```js
        import x from 'y'
        export default x
        ```

        import taxes are paid on export.
        """
    document = cleaned(raw)
    assert document.text == "# Page\n\n```js\nimport x from 'y'\nexport default x\n```\n\nimport taxes are paid on export.\n"
    assert (document.title, document.notes["imports and exports dropped"]) == ("Page", 2)


def test_tabs() -> None:
    raw = """
        ## Install

        <Tabs groupId="os">
          <TabItem value="npm" label="With npm" default>

          ```sh
          npm i
          ```

          </TabItem>
          <TabItem value="yarn">Use **yarn**.</TabItem>
        </Tabs>

        For both.
        """
    assert text(raw) == "## Install\n\nWith npm:\n\n```sh\nnpm i\n```\n\nyarn:\n\nUse yarn.\n\nFor both.\n"


def test_components_by_their_titles_and_content() -> None:
    raw = """
        <DetailedExplanation title="Why reducers">

        Because *so*.

        </DetailedExplanation>

        <Video
          id="x"
          title={`A talk`}
          params={{ autoplay: 1 }}
        />

        <div className="card" style={{ color: 'red' }}>
        **Bold** <Icon name="star" /> here{' '}and {"there"}. {/* hidden */}
        </div>

        {/* a
        comment */}

        Use `<Provider>` with {braces}.
        """
    assert text(raw) == ("Why reducers\n\nBecause so.\n\nA talk\n\nBold here and there.\n\nUse `<Provider>` with {braces}.\n")


def test_partials_are_included() -> None:
    files = {"docs/parts/_Warn.mdx": ":::caution\nOld *way*.\n:::\n", "site/docs/_b.md": "From the site.\n"}
    raw = "import Warn from '../parts/_Warn.mdx'\nimport B from '@site/docs/_b.md'\n\n<Warn />\n\n<B/>\n"
    assert text(raw, files) == "Caution: Old way.\n"
    assert DIALECTS["docusaurus"].clean(raw, "site/docs/x.mdx", files.get).text == "From the site.\n"
    assert DIALECTS["docusaurus"].passed_over("docs/parts/_Warn.mdx") and not DIALECTS["docusaurus"].passed_over("docs/a.mdx")


def test_code_with_titles_and_highlights() -> None:
    raw = '```js {1,3} title="src/a.js" showLineNumbers\n// highlight-next-line\nrun()\n```\n'
    assert text(raw) == "`src/a.js`:\n\n```js\nrun()\n```\n"


@pytest.mark.parametrize(
    "opening", [":::note", "<Tabs>", "<TabItem value='x'>", "{/*", "export const x = {", "<Video", "<div style={{"]
)
def test_what_is_never_closed_drops_nothing(opening: str) -> None:
    found = text(f"Before\n\n{opening}\n\n# Rest\n\nmore\n")
    assert "Before" in found and "# Rest" in found and "more" in found
