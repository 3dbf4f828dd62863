import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_vs_ft.evaluation.leaks import EDIT_EVERY, find_leaks
from rag_vs_ft.records import Document, Question

TEXT = "Soft delete keeps a removed vault for ninety days, after which it is gone for good and its name is free again. "
PAGES = [
    Document(
        "a.md", "A", TEXT + "Purge protection forbids to remove it before that time is over, even for its owner and the service."
    ),
    Document(
        "b.md", "B", TEXT + "Purge protection forbids to remove it before that time is over, even for its owner and nobody else."
    ),
    Document(
        "c.md", "C", "Node pools have a limit of one thousand nodes, which a request to support can raise up to five thousand."
    ),
]


def question(name, text, **fields):
    return Question(name, text, **{"answer": "ninety days", "gold_documents": ("a.md",), **fields})


def test_a_question_worded_as_a_document_is_flagged_and_another_is_not():
    questions = [
        question("copied", "Is it true that soft delete keeps a removed vault for ninety days, or less?"),
        question("own", "How long can I get my vault back after throwing it away by mistake last week?"),
        question("short", "gone for good"),
        question("short-own", "good for gone"),
    ]
    found = find_leaks(questions, PAGES, {})
    assert set(found.report.flagged) == {"copied", "short"}
    assert found.report.flagged["copied"] == ("the question stands in a.md", "the question stands in b.md")


def test_training_text_is_searched_for_questions_and_long_answers():
    asked = "How long can I get my vault back after throwing it away by mistake?"
    long_answer = "for ninety days unless somebody purged it by hand before that"
    questions = [question("asked", asked), question("answered", "Till when?", answer=long_answer), question("clean", "Why?")]
    texts = {"alpaca.json": f'[{{"instruction": "{asked}", "output": "x"}}]', "faq.json": f"It stays {long_answer}."}
    found = find_leaks(questions, PAGES, texts)
    assert found.report.flagged == {
        "asked": ("the question stands in training text alpaca.json",),
        "answered": ("the answer stands in training text faq.json",),
    }


def test_near_duplicates_of_gold_documents_share_a_cluster_and_are_named():
    found = find_leaks([question("q", "Till when?"), question("r", "How many?", gold_documents=("c.md",), answer="5")], PAGES, {})
    assert found.report.duplicated_gold_documents == {"a.md": ("b.md",)}
    assert found.clusters == {"a.md": "a.md", "c.md": "c.md"}
    b = find_leaks([question("q", "Till when?", gold_documents=("b.md",))], PAGES, {})
    assert b.clusters == {"b.md": "a.md"}


def test_answers_in_the_gold_document_are_counted_as_intended():
    questions = [
        question("in", "Till when?"),
        question("not", "Till when?", answer="two weeks"),
        question("none", "?", answer=None),
    ]
    found = find_leaks(questions, PAGES, {})
    assert (found.report.answers, found.report.answers_in_documents) == (2, 1)
    assert not found.report.flagged


def test_nothing_to_check_is_no_fault():
    found = find_leaks([], [], {})
    assert found.report.flagged == {} and found.clusters == {}


# --- nearly word for word -----------------------------------------------------------------------------------------------

ASKED = (
    "How many days does a key vault keep the secrets that somebody has removed by mistake before they are gone for good and "
    "cannot be recovered by anyone any more?"
)


def with_change(text, every, change):
    """The text with a word changed, left out or added in the middle of each run of so many words."""
    words = text.split()
    for at in range(len(words) - len(words) % every - every // 2 - 1, -1, -every):
        words[at : at + 1] = {"changed": ["xylophone"], "left out": [], "added": [words[at], "xylophone"]}[change]
    return " ".join(words)


@pytest.mark.parametrize("change", ["changed", "left out", "added"])
def test_one_word_in_sixteen_changed_is_still_the_question(change):
    text = "Some text before. " + with_change(ASKED, 16, change) + " And a long answer after it, that says ninety days."
    found = find_leaks([question("q", ASKED)], [], {"faq.txt": text})
    assert found.report.flagged == {"q": ("the question stands in training text faq.txt",)}


@pytest.mark.parametrize("length", range(8, 17))
def test_one_word_changed_in_the_middle_of_a_question_is_found_whatever_its_length(length):
    asked = " ".join(ASKED.split()[:length])
    for at in range(length):
        words = asked.split()
        words[at] = "xylophone"
        assert find_leaks([question("q", asked)], [], {"faq.txt": f"Q: {' '.join(words)} A: x"}).report.flagged, at


def test_every_fourth_word_changed_is_another_question():
    assert not find_leaks([question("q", ASKED)], [], {"faq.txt": with_change(ASKED, 4, "changed")}).report.flagged


def test_the_words_of_a_question_in_another_order_are_not_the_question():
    words = ASKED.split()
    shuffled = " ".join(words[start] for offset in range(5) for start in range(offset, len(words), 5))
    assert not find_leaks([question("q", ASKED)], [], {"faq.txt": shuffled * 3}).report.flagged


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=8, max_size=20), st.data())
def test_a_question_is_found_wherever_it_stands_with_as_many_edits_as_are_allowed(words, data):
    edited = list(words)
    for _ in range(-(-len(words) // EDIT_EVERY)):
        at = data.draw(st.integers(0, len(edited) - 1))
        edited[at : at + 1] = data.draw(st.sampled_from([[], ["z"], [edited[at], "z"]]))
    before, after = (
        data.draw(st.lists(st.sampled_from("abz"), max_size=9)),
        data.draw(st.lists(st.sampled_from("abz"), max_size=9)),
    )
    text = " ".join([*before, *edited, *after])
    assert find_leaks([question("q", " ".join(words))], [], {"t": text}).report.flagged


def test_a_training_corpus_is_searched_for_questions_and_not_for_answers():
    questions = [question("asked", ASKED), question("own", "Till when is it kept?", answer=PAGES[2].text)]
    pages = [Document("faq.md", "FAQ", f"## {ASKED}\n\nNinety days."), PAGES[2]]
    found = find_leaks(questions, PAGES, {}, {"faq": pages})
    assert found.report.flagged == {"asked": ("the question stands in faq.md of the training corpus faq",)}
