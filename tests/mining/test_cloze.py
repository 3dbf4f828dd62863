import json
import random
from collections import Counter

import pytest

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.questions import check_questions
from rag_vs_ft.mining import choices, mine_cloze
from rag_vs_ft.mining.spans import stated_in
from rag_vs_ft.overlap import HeldOut
from rag_vs_ft.records import write_jsonl


def corpus_of(texts, tmp_path, home, name="docs"):
    file = tmp_path / f"{name}.jsonl"
    write_jsonl(file, ({"id": key, "text": text} for key, text in texts.items()))
    store.add(name, f"jsonl:{file}", home=home)
    return store.open_corpus(name, home)


@pytest.fixture(scope="module")
def sample_home(tmp_path_factory):
    home = settings.home(tmp_path_factory.mktemp("sample"))
    store.add("sample", "sample", home=home)
    return home


@pytest.fixture(scope="module")
def sample(sample_home):
    return store.open_corpus("sample", sample_home)


@pytest.fixture(scope="module")
def mined(sample):
    return mine_cloze(sample, seed=7)


def test_every_question_is_true_to_its_document(sample, mined):
    texts = {document.id: f"{document.title} {' '.join(document.text.split())}" for document in sample.documents()}
    assert len(mined.questions) > 200
    assert len({question.id for question in mined.questions}) == len(mined.questions)
    for question in mined.questions:
        (evidence,), right = question.evidence, question.choices[question.answer_index]
        assert len(set(question.choices)) == 4 and right == question.answer
        assert "____" in question.question or "where" in question.question
        assert question.tags[0] == "cloze" and question.tags[1].startswith("rule:")
        for name in question.gold_documents:
            assert evidence in texts[name] and right in evidence
            assert not [other for other in question.choices if other != right and stated_in(texts[name], other)]
        assert question.source == f"cloze:{question.gold_documents[0]}"


def test_the_set_passes_the_check_of_question_files(sample, mined, tmp_path):
    file = tmp_path / "cloze.jsonl"
    write_jsonl(file, (question.to_json() for question in mined.questions))
    report = check_questions(file, sample.documents())
    assert report.ok, report.faults


def test_no_look_tells_the_right_choice(mined):
    looks = ("longest", "shortest", "most frequent", "least frequent", "in most documents", "most words of the question")
    assert all(abs(mined.balance[look] - mined.balance["chance"]) < 0.03 for look in looks), mined.balance


def test_a_funnel_accounts_for_every_candidate(mined):
    counts = dict(mined.funnel)
    dropped = sum(count for reason, count in counts.items() if reason.startswith("dropped: "))
    assert counts["candidates"] == counts["kept"] + dropped and counts["kept"] == len(mined.questions)
    assert next(iter(counts)) == "candidates" and list(counts)[-1] == "kept"


def test_the_same_seed_gives_the_same_questions(sample, mined):
    assert mine_cloze(sample, seed=7) == mined
    assert mine_cloze(sample, seed=8).questions != mined.questions


def test_a_limit_takes_from_everywhere(sample, mined):
    few = mine_cloze(sample, seed=7, limit=40)
    assert few.questions == mined.questions[:40]
    assert few.funnel["dropped: beyond the limit"] > 0
    assert len({question.gold_documents for question in few.questions}) > 20


def test_only_training_documents_are_asked_about(sample, mined):
    wanted = {question.gold_documents[0] for question in mined.questions[:30]}
    asked = {name for question in mine_cloze(sample, seed=7, only=wanted).questions for name in question.gold_documents}
    assert asked and asked <= wanted


def test_the_verb_asks_about_what_training_reads_by_default(sample, sample_home, tmp_path):
    from rag_vs_ft.cli.questions import mine_cloze as verb
    from rag_vs_ft.corpus.splits import default_split, split_documents
    from rag_vs_ft.evaluation.questions import load_questions
    from rag_vs_ft.training.presets import load_preset

    preset = load_preset("nano", "scratch", {})
    held = split_documents(sample.documents(), fraction=preset.validation_fraction, seed=preset.seed).validation
    assert held == default_split(sample.documents()).validation and len(held) > 1
    verb("sample", tmp_path / "cloze.jsonl", seed=7, home=sample_home.root)
    asked = {name for question in load_questions(tmp_path / "cloze.jsonl") for name in question.gold_documents}
    assert len(asked) > 40 and not asked & set(held)


def test_training_records_that_hold_a_mined_question_are_recognised(mined):
    held_out = HeldOut((question.id, question.question, question.answer) for question in mined.questions)
    longest = max(mined.questions, key=lambda question: len(question.question) if "sentence" in question.tags else 0)
    assert held_out.copied(f"Answer this: {longest.question}") and longest.id in held_out.ids
    assert not held_out.copied("Which port does the metrics server of an ordinary cluster listen on by default?")


SENTENCE = "A deleted vault of the standard tier has a retention of {} days."


def test_repeated_text_is_asked_once_and_contradictions_not_at_all(tmp_path, home):
    others = {
        f"o{number}.md": f"# Other {number}\n\nA backup of kind K{number} of a vault has a life of {number + 85} days."
        for number in range(12)
    }
    repeated = {f"{name}.md": f"# Page {name}\n\n{SENTENCE.format(90)}" for name in "ab"}
    mined = mine_cloze(corpus_of(others | repeated, tmp_path, home), seed=1)
    (question,) = [question for question in mined.questions if len(question.gold_documents) > 1]
    assert question.gold_documents == ("a.md", "b.md") and question.answer == "90 days"
    assert mined.funnel["dropped: repeated: the same words elsewhere"] == 1
    differing = others | repeated | {"c.md": f"# Page c\n\n{SENTENCE.format(14)}"}
    mined = mine_cloze(corpus_of(differing, tmp_path, home, "differing"), seed=1)
    assert not [question for question in mined.questions if "standard tier" in question.question]
    assert mined.funnel["dropped: repeated: the same words with another answer elsewhere"] == 3


def test_rows_of_one_name_are_not_asked(tmp_path, home):
    table = "| OS | Supported until |\n|---|---|\n" + "".join(f"| {os} | June {year} |\n" for os, year in SUPPORT)
    texts = {
        "a.md": f"# Systems\n\n{table}",
        "b.md": "# Dates\n\n" + "".join(f"It was in June {year}. " for year in range(2001, 2030)),
    }
    mined = mine_cloze(corpus_of(texts, tmp_path, home), seed=1)
    assert [question.answer for question in mined.questions] == ["June 2027"]
    assert mined.questions[0].question == 'According to a table in "Systems": what is "Supported until" where "OS" is "Ubuntu"?'
    assert mined.funnel["dropped: cell: another row of this name"] == 2


SUPPORT = [("Debian", 2025), ("Debian", 2026), ("Ubuntu", 2027)]


def test_nothing_to_ask(tmp_path, home):
    with pytest.raises(UserError, match="no sentence that can be asked about"):
        mine_cloze(corpus_of({"a.md": "# Nothing\n\nWords only."}, tmp_path, home), seed=1)


def test_mentions_are_counted_in_whole_words(tmp_path, home):
    corpus = corpus_of({"a.md": "Port 443, `443`; 4430. Azure Key Vault.", "b.md": "443\n\nAzure\nKey Vault"}, tmp_path, home)
    counts = choices.count_mentions(corpus, ["443", "Azure Key Vault", "none"])
    assert counts.mentions == Counter({"443": 3, "Azure Key Vault": 2})
    assert counts.documents == Counter({"443": 2, "Azure Key Vault": 2})


def test_balance_evens_out_what_a_skewed_pool_would_tell():
    balance, rng = choices.Balance(), random.Random(3)
    longest = kept = 0
    for number in range(300):
        right = "x" * (6 + number % 3)
        others = ["y" * length + str(place) for place, length in enumerate((1, 2, 3, 4, 5, 7, 9, 11))]
        marks = {text: (len(text), 0, 0, 0.0, 0) for text in (right, *others)}
        if chosen := balance.choose(right, others, marks, rng):
            kept += 1
            longest += len(right) > max(map(len, chosen))
    assert kept > 200 and abs(longest / kept - 0.25) < 0.03


def test_records_are_json(mined):
    assert json.loads(json.dumps(mined.to_json()))["questions"] == len(mined.questions)
