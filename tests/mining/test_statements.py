from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_vs_ft.language import language, split_sentences
from rag_vs_ft.mining.sound import cell_fault, sentence_fault, span_fault, update_fault
from rag_vs_ft.mining.spans import spans, stated_in
from rag_vs_ft.mining.statements import Statement, statements
from rag_vs_ft.records import Document

TEXT = """# Vaults

Deleted vaults stay for 90 days. Set `--retention. Days` first, e.g. Use 7.

> Note: A purge can't be undone.

## Limits

```bash
az keyvault purge  # Not a sentence. At all.
```

- One item
  with a second line. And more.

| Item | Standard | Premium |
|---|---|---|
| Keys | 5,000 | `10,000` |
| Secrets |  | 25 KB |
"""


def test_statements_are_sentences_and_cells_under_their_headings():
    found = list(statements(Document("kv/vaults.md", "Vaults", TEXT)))
    assert [(s.section, s.text) for s in found if not s.row] == [
        ("", "Deleted vaults stay for 90 days."),
        ("", "Set `--retention. Days` first, e.g. Use 7."),
        ("", "A purge can't be undone."),
        ("Limits", "One item with a second line."),
        ("Limits", "And more."),
    ]
    assert [(s.key, s.row, s.column, s.text) for s in found if s.row] == [
        ("Item", "Keys", "Standard", "5,000"),
        ("Item", "Keys", "Premium", "`10,000`"),
        ("Item", "Secrets", "Premium", "25 KB"),
    ]


@given(st.text(alphabet='ab AB.?!`"()1', max_size=80))
def test_splitting_loses_nothing_but_white_space(text):
    text = " ".join(text.split())
    assert " ".join(split_sentences(text, language())) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Deleted vaults stay for 90 days.", [("quantity", "90 days")]),
        ("An uptime of 99.95% is promised.", [("quantity", "99.95%")]),
        ("A Gen 2 node pool, a 30-minute timeout.", [("quantity", "30-minute")]),
        ("Between 5 MB/s and $10 GB.", []),
        ("It ends on November 30, 2027 and began in May 2024, says 2025-01-31.", ["November 30, 2027", "May 2024", "2025-01-31"]),
        ("Open TCP port 443 and port 8443.", [("port", "443"), ("port", "8443")]),
        ("Azure CLI version 2.61.0 or later, Kubernetes 1.30.", [("version", "2.61.0"), ("version", "1.30")]),
        ("Pass `--max-surge` with it.", [("flag", "--max-surge")]),
        ("The `maxSurge` of `myCluster` in `values.yaml`.", [("name", "maxSurge")]),
        ("Use Standard_D4s_v5 there.", [("sku", "Standard_D4s_v5")]),
        ("You need the Key Vault Secrets User role or the Owner role.", [("role", "Key Vault Secrets User")]),
        ("Keep keys in Azure Key Vault.", [("service", "Azure Key Vault")]),
        ("Azure Key Vault (AKV) and Azure CLI.", []),
        ("Run `az aks nodepool add` now.", [("command", "az aks nodepool add")]),
        ("The default value is 110.", [("default", "110")]),
        ("`10,000`", [("number", "10,000")]),
        ("0777", []),
        ("2.75.0", [("version", "2.75.0")]),
        ("Mar 2026", [("date", "Mar 2026")]),
    ],
)
def test_spans_by_hand(text, expected):
    found = spans(text)
    assert [text[span.start : span.end] for span in found] == [span.text for span in found]
    assert [(span.rule, span.text) for span in found] == [("date", e) if isinstance(e, str) else e for e in expected]


@given(st.text(alphabet="0123456789.,-%` GBdays-vTCPport", max_size=60))
def test_spans_never_overlap(text):
    found = spans(text)
    assert all(before.end <= after.start for before, after in pairwise(found))


def test_the_order_of_sizes_is_the_order_of_facts():
    texts = ["May 2024", "June 2024", "May 2025"]
    sizes = [spans(f"In {text} it ended.")[0].size for text in texts]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("They stay for 5 minutes.", "5 minutes"),
        ("A 5-minute pause.", "5 minutes"),
        ("It takes five minutes.", "5 minutes"),
        ("It takes 5 Minutes.", "5 minutes"),
        ("AKS runs it.", "Azure Kubernetes Service"),
        ("Open 443.", "443"),
    ],
)
def test_what_a_text_states_in_other_words(text, said):
    assert stated_in(text, said)


@pytest.mark.parametrize(("text", "said"), [("It takes 15 minutes.", "5 minutes"), ("Port 4430.", "443"), ("v1.443", "443")])
def test_what_a_text_does_not_state(text, said):
    assert not stated_in(text, said)


@pytest.mark.parametrize(
    "text",
    [
        "Deleted key vaults can be recovered for a period of 90 days.",
        "When soft delete is on, a deleted vault can be recovered for 90 days.",
        "You can store up to 25 KB in one secret of a vault.",
    ],
)
def test_sentences_that_stand_alone(text):
    assert sentence_fault(text) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("This vault keeps its keys for 90 days after that.", "points elsewhere"),
        ("For more information on the 90 days that vaults keep keys, see Limits.", "points elsewhere"),
        ("It keeps the keys of a vault for 90 days.", "leans"),
        ("However, a vault keeps its keys for 90 days.", "leans"),
        ("To keep keys, set a retention of 90 days in the portal.", "leans"),
        ("Create a vault that keeps its keys for 90 days.", "instruction"),
        ("Manually create a vault that keeps its keys for 90 days.", "instruction"),
        ("Keeps the keys of a vault for at least 90 days.", "no subject"),
        ("A long retention of the keys of vaults: 90 days.", "no verb"),
        ("The default value is 90 days in all regions.", "says not"),
        ("In all regions, the default value is 90 days.", "says not"),
        ("A vault keeps its keys for 90 days:", "not whole"),
        ("Vaults have 90 days.", "words"),
        ("A vault named <name> keeps its keys for 90 days.", "code"),
    ],
)
def test_sentences_that_do_not(text, rule):
    assert rule in (sentence_fault(text) or "sound")


def gap(text, title="A title", **cell):
    statement = Statement("a.md", "", text, **cell)
    return span_fault(statement, spans(text)[0], title)


def test_gaps():
    assert gap("A vault keeps deleted keys for 90 days.") is None
    assert "beside" in (gap("A vault keeps deleted keys for 90 days.", "Keep keys for 90 days") or "")
    assert "beside" in (gap("A vault keeps keys for 90 days, then 90 more.") or "")
    assert "beside" in (gap("The node count is what `--node-count` sets.") or "")
    assert "list" in (gap("Services such as Azure Key Vault keep secrets.") or "")
    assert "list" in (gap("A vault keeps keys for 7 days or 90 days.") or "")
    assert "longer" in (gap("Azure Key Vault secrets are kept there.") or "")
    assert gap("They keep their secrets in Azure Key Vault.") is None


def test_cells():
    def cell(text="90 days", row="Vault", key="Item", column="Limit", section=""):
        return cell_fault(Statement("a.md", section, text, row, key, column))

    assert cell() is None
    assert "long" in (cell(" ".join(["word"] * 30)) or "")
    assert "row" in (cell(row="4.2") or "")
    assert "column" in (cell(column="1") or "")
    assert "example" in (cell(column="Example") or "") and "example" in (cell(section="Example values") or "")
    assert "code" in (cell("{90}") or "")


def test_updates_may_instruct_but_not_point():
    assert update_fault("Install version 2.61.0 of the CLI.") is None
    assert update_fault("This article requires version 2.61.0 of the CLI.") is None
    assert update_fault("The following command needs version 2.61.0.")
    assert update_fault("They last for 90 days now.")
    assert update_fault("Too short.")


def test_sentences_end_as_their_language_has_it():
    japanese = Document("a.md", "金庫", "# 金庫\n\n鍵は90日間保持されます。復元できます。\n", language="ja")
    assert [statement.text for statement in statements(japanese)] == ["鍵は90日間保持されます。", "復元できます。"]
    german = Document("a.md", "Tresor", "# Tresor\n\nAm 3. Mai, z.B. Montag. Dann nicht.\n", language="de")
    assert [statement.text for statement in statements(german)] == ["Am 3. Mai, z.B. Montag.", "Dann nicht."]
