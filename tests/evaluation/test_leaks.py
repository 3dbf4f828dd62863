from rag_vs_ft.evaluation.leaks import find_leaks
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
