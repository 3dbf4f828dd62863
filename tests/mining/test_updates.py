import pytest

from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.questions import check_questions
from rag_vs_ft.mining import mine_updates
from rag_vs_ft.mining.statements import Statement
from rag_vs_ft.mining.updates import _change, larger_number
from rag_vs_ft.records import Question, write_jsonl

BULK = "\n\n".join(f"Sentence number {number} of the page says the same in both versions." for number in range(8))


def corpus_of(name, texts, tmp_path, home):
    file = tmp_path / f"{name}.jsonl"
    write_jsonl(file, ({"id": key, "text": f"# {title}\n\n{text}\n"} for key, (title, text) in texts.items()))
    store.add(name, f"jsonl:{file}", home=home)
    return store.open_corpus(name, home)


@pytest.fixture
def versions(tmp_path, home):
    def add(old, new):
        return corpus_of("old", old, tmp_path, home), corpus_of("new", new, tmp_path, home)

    return add


def sentence(text):
    return Statement("a.md", "Limits", text)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Deleted vaults stay for 90 days.", "Deleted vaults stay for 30 days.", ("90 days", "30 days")),
        ("Support ends on June 30, 2026 for all.", "Support ends on June 15, 2026 for all.", ("June 30, 2026", "June 15, 2026")),
        ("Support ends in January 2026 for all.", "Support ends in May 2027 for all.", ("January 2026", "May 2027")),
        ("You need version 2.61.0 of the CLI.", "You need version 2.75.0 of the CLI.", ("2.61.0", "2.75.0")),
        ("A pool has at least one node.", "A pool has at least two nodes.", ("one node", "two nodes")),
        ("Up to 100 AKS clusters can join it.", "Up to 1,000 Kubernetes clusters can join it.", ("100", "1,000")),
        ("Files may not exceed 4MB in size.", "Files can't exceed 5 MB in size.", ("4", "5")),
        (
            "Set `--undrainable-nodes` in the call.",
            "Set `--blocked-nodes` in the call.",
            ("--undrainable-nodes", "--blocked-nodes"),
        ),
        ("Use the `SecretClient` class there.", "Use the `KeyClient` class there.", ("SecretClient", "KeyClient")),
    ],
)
def test_a_fact_that_changed(old, new, expected):
    change = _change(sentence(old), sentence(new))
    assert (change.before, change.after) == expected
    assert new == change.gap.replace("____", change.after)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("Deleted vaults stay for 5 days.", "Deleted vaults stay for five days.", "no meaning"),
        ("It holds 5000 of the nodes.", "It holds 5,000 of the nodes.", "no meaning"),
        ("A vault is not shared (yet).", "A `vault` isn't shared yet!", "no meaning"),
        ("It may keep 4GB of them.", "It might keep 4 GB of them.", "no meaning"),
        ("The vault keeps keys there.", "The safe keeps keys there.", "reworded"),
        ("It keeps 5 keys for 90 days.", "It keeps 7 keys for 30 days.", "more or less"),
        ("It keeps keys for 90 days.", "It keeps keys.", "more or less"),
        ("It uses the `ExtenstionTypes` flag there.", "It uses the `ExtensionTypes` flag there.", "reworded"),
        ("Use `Ubuntu2404` with all pools.", "Use Ubuntu 24.04 with all pools.", "reworded"),
        ("Get https://a.io/1 with the tool.", "Get https://a.io/2 with the tool.", "reworded"),
        ("There are two kinds: a and b here.", "There are three kinds: a, b, and c.", "counts"),
        ("There are two kinds of them: a and b.", "There are three kinds of them: a and b.", "counts"),
        ("The following example keeps 5 keys.", "The following example keeps 7 keys.", "points elsewhere"),
    ],
)
def test_what_is_no_fact_that_changed(old, new, rule):
    assert rule in _change(sentence(old), sentence(new))


@pytest.mark.parametrize(("old", "new"), [("Preview", "GA"), ("Yes", "No"), ("75% of memory", "12 GB"), ("1.0.0b1", "1.1.0")])
def test_cells_whose_fact_changed(old, new):
    change = _change(*(Statement("a.md", "", text, "Vaults", "Feature", "Status") for text in (old, new)))
    assert (change.before, change.after, change.gap) == (old, new, "____")


@pytest.mark.parametrize(
    ("old", "new"), [("Optional", "No"), ("GA", "Generally available"), ("Private", "Private."), ("4GB", "4 GB")]
)
def test_cells_that_say_the_same(old, new):
    assert isinstance(_change(*(Statement("a.md", "", text, "Vaults", "Feature", "Status") for text in (old, new))), str)


TABLE = "| Item | Limit |\n|---|---|\n| Keys | {} |\n| Secrets | {} |"


def test_questions_of_an_update(versions, tmp_path):
    old, new = versions(
        {
            "a.md": ("Vaults", f"{BULK}\n\nDeleted vaults stay for 90 days.\n\n{TABLE.format(100, 7)}"),
            "b.md": ("Copies", f"{BULK}\n\nDeleted vaults stay for 90 days."),
            "moved.md": (
                "Moved",
                "\n\n".join(f"Line {n} of a page that was moved." for n in range(9)) + "\n\nA backup takes 5 minutes.",
            ),
            "same.md": ("Same", "Nothing is new here."),
        },
        {
            "a.md": ("Vaults", f"{BULK}\n\nDeleted vaults stay for 30 days.\n\n{TABLE.format(200, 7)}"),
            "b.md": ("Copies", f"{BULK}\n\nDeleted vaults stay for 30 days."),
            "here.md": (
                "Moved",
                "\n\n".join(f"Line {n} of a page that was moved." for n in range(9)) + "\n\nA backup takes 8 minutes.",
            ),
            "same.md": ("Same", "Nothing is new here."),
        },
    )
    mined = mine_updates(old, new, seed=3)
    by_answer = {question.answer: question for question in mined.questions}
    assert set(by_answer) == {"30 days", "200", "8 minutes"}
    days = by_answer["30 days"]
    assert sorted(days.choices) == ["30 days", "90 days"] and days.choices[days.answer_index] == "30 days"
    assert days.gold_documents == ("a.md", "b.md") and days.evidence == ("Deleted vaults stay for 30 days.",)
    assert days.source == "updates:old->new#Deleted vaults stay for 90 days."
    assert days.question == 'According to the current version of "Vaults", what belongs in the gap? Deleted vaults stay for ____.'
    limit = by_answer["200"]
    assert limit.question == 'According to a table in the current version of "Vaults": what is "Limit" where "Item" is "Keys"?'
    assert limit.tags == ("updates", "rule:number", "table")
    assert mined.funnel["candidates"] == 4 and mined.funnel["dropped: repeated: the same change in another document"] == 1
    assert mined.balance["chance"] == 0.5 and mined.balance["share of the largest document"] == 0.6667
    assert mined.balance["larger number"] == 0.6667
    assert mine_updates(old, new, seed=3) == mined
    file = tmp_path / "updates.jsonl"
    write_jsonl(file, (question.to_json() for question in mined.questions))
    assert check_questions(file, new.documents()).ok


def test_directions_are_evened_out_on_demand(versions):
    grew = {f"g{number}.md": (f"Grown {number}", f"{BULK}\n\nPool {number} holds {{}} nodes.") for number in range(5)}
    shrank = {f"s{number}.md": (f"Shrunk {number}", f"{BULK}\n\nVault {number} keeps keys for {{}} days.") for number in range(2)}

    def pages(up, down):
        return {key: (title, text.format(up)) for key, (title, text) in grew.items()} | {
            key: (title, text.format(down)) for key, (title, text) in shrank.items()
        }

    old, new = versions(pages(10, 90), pages(20, 30))
    assert mine_updates(old, new, seed=1).balance["larger number"] == round(5 / 7, 4)
    mined = mine_updates(old, new, seed=1, balanced=True)
    assert [larger_number(question) for question in mined.questions].count(1.0) == 2 == len(mined.questions) / 2
    assert mined.balance["larger number"] == 0.5
    assert next(count for reason, count in mined.funnel.items() if "direction" in reason) == 3
    assert mined == mine_updates(old, new, seed=1, balanced=True)


def test_nothing_to_even_out(versions):
    old, new = versions(
        {"a.md": ("A", f"{BULK}\n\nA pool of it holds 10 nodes.")}, {"a.md": ("A", f"{BULK}\n\nA pool of it holds 20 nodes.")}
    )
    with pytest.raises(UserError, match="every changed number grew"):
        mine_updates(old, new, seed=1, balanced=True)


@pytest.mark.parametrize(
    ("choices", "right", "expected"),
    [
        (("1.9.0", "1.10.0"), 1, 1.0),
        (("1,000 nodes", "999 nodes"), 1, 0.0),
        (("one node", "two nodes"), 1, 1.0),
        (("Preview", "GA"), 1, None),
        (("5 GB", "5 MB"), 0, None),
    ],
)
def test_the_larger_number(choices, right, expected):
    assert larger_number(Question("q", "?", choices=choices, answer_index=right)) == expected


def test_a_fact_that_still_stands_elsewhere_is_not_asked(versions):
    old, new = versions(
        {"a.md": ("A", f"{BULK}\n\nDeleted vaults stay for 90 days."), "b.md": ("B", "Deleted vaults stay for 90 days.")},
        {"a.md": ("A", f"{BULK}\n\nDeleted vaults stay for 30 days."), "b.md": ("B", "Deleted vaults stay for 90 days.")},
    )
    with pytest.raises(UserError, match="no fact differs"):
        mine_updates(old, new, seed=1)


def test_rows_of_one_name_are_not_compared(versions):
    twice = "| Item | Limit |\n|---|---|\n| Keys | {} |\n| Keys | {} |"
    old, new = versions(
        {"a.md": ("A", f"{BULK}\n\n{twice.format(100, 7)}")}, {"a.md": ("A", f"{BULK}\n\n{twice.format(200, 7)}")}
    )
    with pytest.raises(UserError, match="no fact differs"):
        mine_updates(old, new, seed=1)


def test_the_same_corpus_twice(versions):
    old, new = versions({"a.md": ("A", BULK)}, {"a.md": ("A", BULK)})
    with pytest.raises(UserError, match="are the same"):
        mine_updates(old, new, seed=1)


def test_versions_of_different_corpora(versions):
    pages = {f"p{number}.md": (f"Page {number}", f"Text {number} of one corpus.") for number in range(20)}
    others = {f"q{number}.md": (f"Other {number}", f"Words {number} of another.") for number in range(20)}
    old, new = versions(pages, others)
    with pytest.raises(UserError, match="0 documents in common"):
        mine_updates(old, new, seed=1)


def test_the_packaged_update(home):
    store.add("sample", "sample", home=home)
    store.add("updated", "sample:update", home=home)
    mined = mine_updates(store.open_corpus("sample", home), store.open_corpus("updated", home), seed=1)
    assert len(mined.questions) > 25
    assert all(len(question.choices) == 2 for question in mined.questions)
