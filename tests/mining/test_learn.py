"""FAQ files and knowledge checks, as Microsoft Learn writes them."""

import pytest

from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.mining import mine_faq, mine_quiz
from rag_vs_ft.records import write_jsonl

FAQ = """### YamlMime:FAQ
metadata:
  title: Vault questions
title: Vault questions
sections:
  - name: General
    questions:
      - question: |
          How long do *deleted* vaults stay?
        answer: |
          90 days, see [soft delete](./soft-delete.md#retention) and
          [pools](/azure/aks/node-pools?tabs=cli#size), [pools again](../aks/node-pools.md).
          Elsewhere: [docs](https://kubernetes.io/docs), [gone](gone.md), [same page](#top).
      - question: What does it cost?
        answer: |
          - Nothing, see [prices](~/articles/kv/soft-delete.md)
          - or <a href="https://learn.microsoft.com/en-us/azure/aks/node-pools">pools</a>.
      - question: What does it cost?
        answer: Asked twice.
      - question: Who knows?
        answer: ""
"""


@pytest.fixture
def source(tmp_path):
    articles = tmp_path / "azure-aks-docs" / "articles"
    for name, text in {
        "kv/soft-delete.md": "# Soft delete\n\nDeleted vaults stay for 90 days.\n",
        "aks/node-pools.md": "# Node pools\n\nA pool holds nodes.\n",
        "kv/faq.yml": FAQ,
        "kv/index.yml": "### YamlMime:Landing\ntitle: Vaults\n",
    }.items():
        path = articles / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_faq_entries_become_questions_and_their_links_gold(source, home, tmp_path):
    store.add("docs", str(source), home=home)
    mined = mine_faq("docs", home)
    how_long, cost = mined.questions
    kv, aks = "azure-aks-docs/articles/kv/soft-delete.md", "azure-aks-docs/articles/aks/node-pools.md"
    assert how_long.question == "How long do deleted vaults stay?"
    assert how_long.answer.startswith("90 days, see soft delete and\npools, pools again.")
    assert how_long.gold_documents == (kv, aks)
    assert cost.gold_documents == (kv, aks)
    assert how_long.source == "faq:azure-aks-docs/articles/kv/faq.yml" and how_long.tags == ("faq",)
    assert mined.funnel["candidates"] == 4 == mined.funnel["kept"] + 2
    assert mined.funnel["dropped: repeated in the same file"] == mined.funnel["dropped: no question or no answer"] == 1
    assert mined.funnel["links to other sites: leading nowhere in the corpus"] == 1
    assert mined.funnel["links relative: leading nowhere in the corpus"] == 1
    assert mined == mine_faq("docs", home)
    file = tmp_path / "faq.jsonl"
    write_jsonl(file, (question.to_json() for question in mined.questions))
    assert load_questions(file) == list(mined.questions)


def test_an_address_with_a_view_leads_to_the_document_of_that_view(home, tmp_path):
    folder = tmp_path / "azure-docs-cli" / "docs-ref-conceptual"
    for version in ("Latest-version", "LTS-version"):
        (folder / version).mkdir(parents=True)
        (folder / version / "install.md").write_text(f"# Install\n\n{version}.\n")
    link = "/cli/azure/install"
    (folder / "faq.yml").write_text(
        "### YamlMime:FAQ\nsections:\n- questions:\n"
        f"  - question: Newest?\n    answer: '[it]({link})'\n"
        f"  - question: Stable?\n    answer: '[it]({link}?view=azure-cli-lts)'\n"
    )
    store.add("cli", str(tmp_path), home=home)
    golds = [question.gold_documents[0].split("/")[2] for question in mine_faq("cli", home).questions]
    assert golds == ["Latest-version", "LTS-version"]


def test_faq_needs_a_corpus_without_its_faq_files(source, home):
    store.add("docs", str(source), home=home, include_faq=True)
    with pytest.raises(UserError, match="not held out"):
        mine_faq("docs", home)


@pytest.mark.parametrize("text", [None, "### YamlMime:FAQ\ntitle: [broken\n", "### YamlMime:FAQ\n- a list\n"])
def test_no_faq_that_can_be_read(source, home, text):
    faq = source / "azure-aks-docs" / "articles" / "kv" / "faq.yml"
    faq.unlink() if text is None else faq.write_text(text)
    store.add("docs", str(source), home=home)
    with pytest.raises(UserError, match=r"no FAQ files|1 FAQ files, none of which could be read"):
        mine_faq("docs", home)


def test_a_broken_faq_beside_a_good_one_is_counted(source, home):
    (source / "azure-aks-docs" / "articles" / "kv" / "other.yml").write_text("### YamlMime:FAQ\ntitle: [broken\n")
    store.add("docs", str(source), home=home)
    mined = mine_faq("docs", home)
    assert len(mined.questions) == 2 and mined.funnel["FAQ files that could not be read"] == 1


def laughs() -> str:
    """Nine aliases of nine aliases of ...: a small file of many values."""
    lines = ["### YamlMime:FAQ", 'a: &a ["lol"]']
    for inner, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{inner}'] * 9)}]")
    return "\n".join([*lines, "sections: *i"])


HOSTILE = [
    laughs(),
    "### YamlMime:FAQ\nsections: " + "[" * 20_000,
    "### YamlMime:FAQ\nsections: !!python/name:os.system",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_yaml_that_grows_or_recurses_is_counted_and_never_read(source, home, tmp_path, hostile):
    (source / "azure-aks-docs" / "articles" / "kv" / "other.yml").write_text(hostile)
    store.add("docs", str(source), home=home)
    assert mine_faq("docs", home).funnel["FAQ files that could not be read"] == 1
    (tmp_path / "quiz").mkdir()
    (tmp_path / "quiz" / "bad.yml").write_text(hostile.replace("sections", "quiz"))
    (tmp_path / "quiz" / "good.yml").write_text(QUIZ)
    assert mine_quiz(tmp_path / "quiz").funnel["YAML files with a quiz"] == 1


QUIZ = """### YamlMime:ModuleUnit
uid: learn.vaults.knowledge-check
title: Knowledge check
durationInMinutes: 3
content: |
quiz:
  title: Check your knowledge
  questions:
  - content: "How long does a `deleted` vault stay?"
    choices:
    - content: "7 days"
      isCorrect: false
      explanation: "Incorrect. That is the shortest period that can be set."
    - content: "**90 days**"
      isCorrect: true
      explanation: "Correct."
    - content: "For ever"
      isCorrect: false
  - content: "Which are services?"
    choices:
    - {content: Azure Key Vault, isCorrect: true}
    - {content: Azure Monitor, isCorrect: true}
  - content: "Nothing to choose"
    choices: []
"""


def test_knowledge_checks_become_multiple_choice(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "5-knowledge-check.yml").write_text(QUIZ)
    (tmp_path / "copy.yaml").write_text(QUIZ)
    (tmp_path / "index.yml").write_text("### YamlMime:Module\ntitle: Vaults\n")
    (tmp_path / "broken.yml").write_text("quiz: [")
    mined = mine_quiz(tmp_path)
    (question,) = mined.questions
    assert question.question == "How long does a `deleted` vault stay?"
    assert question.choices == ("7 days", "90 days", "For ever") and question.answer_index == 1 and question.answer == "90 days"
    assert question.source == "quiz:a/5-knowledge-check.yml"
    assert "Incorrect" not in str(question.to_json())
    assert dict(mined.funnel) == {
        "YAML files": 4,
        "YAML files with a quiz": 2,
        "candidates": 6,
        "dropped: fewer than two different choices": 2,
        "dropped: no right choice, or more than one": 2,
        "dropped: repeated in another file": 1,
        "kept": 1,
    }
    assert mined.balance["choice 2"] == 1.0 and mined.balance["chance"] == 0.3333
    assert mine_quiz(tmp_path / "copy.yaml").questions[0].id == question.id


@pytest.mark.parametrize(
    "text", ["### YamlMime:FAQ\nsections: []\n", "quiz: {questions: 3}", "a: [", "quiz:\n  questions:\n  - 7\n"]
)
def test_a_file_that_is_no_knowledge_check(tmp_path, text):
    file = tmp_path / "file.yml"
    file.write_text(text)
    with pytest.raises(UserError, match="no quiz") as raised:
        mine_quiz(file)
    assert "isCorrect" in raised.value.hint


def test_no_such_path(tmp_path):
    with pytest.raises(UserError, match="not a file or a folder"):
        mine_quiz(tmp_path / "nowhere")
    with pytest.raises(UserError, match="0 YAML files"):
        mine_quiz(tmp_path)
