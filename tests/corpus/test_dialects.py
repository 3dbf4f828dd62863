"""Which dialect a folder's Markdown is taken for."""

from __future__ import annotations

import pytest

from rag_vs_ft.corpus.dialects import DIALECTS, recognise

LEARN = "---\nms.topic: how-to\n---\n# Page\n"
PLAIN = "# Page\n\n> [!NOTE]\n> Plain GitHub has alerts too.\n\n## See also\n\n- [x](x.md)\n"


def found(files: dict[str, str], chosen: str | None = None) -> dict[str, str]:
    markdown = [path for path in files if path.endswith(".md")]
    return {folder: entry.dialect for folder, entry in recognise(files, markdown, files.get, chosen).items()}


def test_each_folder_by_its_own_marks() -> None:
    files = {"azure/a.md": LEARN, "azure/b.md": PLAIN, "wiki/a.md": PLAIN, "notes.md": PLAIN}
    assert found(files) == {"": "github", "azure": "learn", "wiki": "github"}


OTHERS = {
    "hugo": "# Page\n\n{{< note >}}\nMind it.\n{{< /note >}}\n",
    "mkdocs": "# Page { #page }\n\n!!! note\n    Mind it.\n",
    "docusaurus": "# Page\n\n:::note\nMind it.\n:::\n",
    "myst": "(page)=\n# Page\n\n```{note}\nMind it.\n```\n",
}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_the_other_dialects_by_their_marks(name: str) -> None:
    assert found({"site/a.md": OTHERS[name], "wiki/b.md": PLAIN}) == {"site": name, "wiki": "github"}
    assert DIALECTS[name].clean(OTHERS[name], "a.md", lambda _: None).text == "# Page\n\nNote: Mind it.\n"
    assert "See also" in DIALECTS[name].clean(PLAIN, "a.md", lambda _: None).text


def test_one_page_in_a_hundred_does_not_decide() -> None:
    files = {f"wiki/{number}.md": PLAIN for number in range(99)} | {"wiki/quoted.md": LEARN}
    assert found(files) == {"wiki": "github"}
    assert found(files | {"wiki/docfx.json": "{}"}) == {"wiki": "learn"}


def test_a_configuration_file_counts_for_all_below_it() -> None:
    assert found({"docfx.json": "{}", "a/x.md": PLAIN, "b/x.md": PLAIN}) == {"a": "learn", "b": "learn"}


def test_a_folder_of_includes_belongs_to_the_folders_that_include_it() -> None:
    assert found({"articles/a.md": LEARN, "includes/part.md": "Part.\n"}) == {"articles": "learn", "includes": "learn"}
    assert found({"wiki/a.md": PLAIN, "includes/part.md": "Part.\n"}) == {"wiki": "github", "includes": "github"}


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_the_user_decides(name: str) -> None:
    entries = recognise(["a.md"], ["a.md"], {"a.md": LEARN}.get, name)
    assert entries[""].dialect == name and entries[""].reason() == "as told"


def test_the_evidence_is_told() -> None:
    entry = recognise(["docfx.json", "a.md", "b.md"], ["a.md", "b.md"], {"a.md": LEARN, "b.md": PLAIN}.get)[""]
    assert entry.reason() == "marks in 1 of 2 files; docfx.json"
    assert recognise(["b.md"], ["b.md"], {"b.md": PLAIN}.get)[""].reason() == "no marks of its own"


def test_only_learn_drops_its_navigation() -> None:
    assert "See also" in DIALECTS["github"].clean(PLAIN, "a.md", lambda _: None).text
    assert "See also" not in DIALECTS["learn"].clean(PLAIN, "a.md", lambda _: None).text
