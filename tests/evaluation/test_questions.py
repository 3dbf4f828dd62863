import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from examples import at_least
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_vs_ft.corpus.text import normalise
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation import questions
from rag_vs_ft.evaluation.questions import check_questions, load_questions, word_overlap
from rag_vs_ft.overlap import HeldOut
from rag_vs_ft.records import Document, Question, write_jsonl

POOLS = Document(
    "aks/pools.md",
    "Node pools",
    '# Node pools\n\nA cluster holds up to **1,000** nodes in `5000`-node tiers; see [limits](limits.md "All limits").\n\n'
    "> [!NOTE]\n> A system pool keeps\n> at least one node.\n\n| Setting | Default |\n|---|---|\n| `--max-surge` | 10% |\n",
)
VAULTS = Document("kv/vaults.md", "Vaults", "# Vaults\n\nDeleted vaults stay recoverable for 90 days. Since v1.27 no sooner.\n")


def question(number=0, **changes):
    record = {
        "id": f"q-{number}",
        "question": f"How long does our removed secret store number {number} remain restorable?",
        "answer": "90 days",
        "choices": ["7 days", "30 days", "60 days", "90 days"],
        "answer_index": 3,
        "gold_documents": ["kv/vaults.md"],
        "answerable": True,
        "source": "mine",
        "tags": ["fact"],
        "evidence": ["stay recoverable for 90 days"],
        "split": "dev",
    }
    return {key: value for key, value in (record | changes).items() if value is not ...}


@pytest.fixture
def write(tmp_path):
    def write(*records):
        path = tmp_path / "questions.jsonl"
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
        return path

    return write


def found(report):
    return [(fault.line, fault.field) for fault in report.faults]


def test_a_question_comes_back_as_it_was_written(write):
    (loaded,) = load_questions(write(question()))
    assert loaded == Question(
        id="q-0",
        question=question()["question"],
        answer="90 days",
        choices=("7 days", "30 days", "60 days", "90 days"),
        answer_index=3,
        gold_documents=("kv/vaults.md",),
        answerable=True,
        source="mine",
        tags=("fact",),
        evidence=("stay recoverable for 90 days",),
        split="dev",
    )


def test_only_id_and_question_are_required(write):
    assert load_questions(write({"id": "a", "question": "Why?"})) == [Question("a", "Why?")]


texts = st.text(min_size=1).filter(lambda text: normalise(text).strip())


@given(
    st.lists(
        st.builds(Question, id=texts, question=texts, answer=st.none() | texts, source=st.text(), tags=st.tuples(texts)),
        min_size=1,
        unique_by=lambda q: q.id,
    )
)
@settings(max_examples=at_least(60), deadline=None)
def test_what_is_written_is_read_back_whatever_its_characters(tmp_path_factory, questions):
    path = tmp_path_factory.mktemp("any") / "q.jsonl"
    write_jsonl(path, (q.to_json() for q in questions))
    # Choices and answers are scored, so they come back in their normal form.
    assert load_questions(path) == [replace(q, answer=q.answer and normalise(q.answer).strip()) for q in questions]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ...}, "id"),
        ({"id": 7}, "id"),
        ({"question": "  "}, "question"),
        ({"question": None}, "question"),
        ({"answer": 90}, "answer"),
        ({"answer": ""}, "answer"),
        ({"choices": "90 days"}, "choices"),
        ({"choices": ["90 days"]}, "choices"),
        ({"choices": ["90 days", 7]}, "choices"),
        ({"choices": ["7 days", "7  Days", "60 days", "90 days"]}, "choices"),
        ({"choices": None}, "answer_index"),
        ({"answer_index": None}, "answer_index"),
        ({"answer_index": 4}, "answer_index"),
        ({"answer_index": -1}, "answer_index"),
        ({"answer_index": True}, "answer_index"),
        ({"answer_index": 1.0}, "answer_index"),
        ({"answer_index": 0}, "answer"),  # the answer is word for word another choice
        ({"gold_documents": "kv/vaults.md"}, "gold_documents"),
        ({"gold_documents": None}, "gold_documents"),
        ({"gold_documents": ["kv/vaults.md", "kv/vaults.md"]}, "gold_documents"),
        ({"answerable": "yes"}, "answerable"),
        ({"answerable": 1}, "answerable"),
        ({"source": None}, "source"),
        ({"tags": "fact"}, "tags"),
        ({"evidence": [""]}, "evidence"),
        ({"gold_documents": []}, "evidence"),
        ({"split": "train"}, "split"),
        ({"split": []}, "split"),
        ({"anser": "90 days"}, "anser"),
        ({"answerable": True, "answer": None, "choices": None, "answer_index": None, "gold_documents": []}, "answer"),
    ],
)
def test_each_fault_of_a_line_is_named_with_line_and_field(write, changes, field):
    path = write(question(1), "", question(2, **changes))
    assert (3, field) in found(check_questions(path))
    with pytest.raises(UserError, match=f"line 3: {field}: "):
        load_questions(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(sorted(question())), json_values)
@settings(max_examples=at_least(200), deadline=None)
def test_a_field_of_any_shape_is_read_or_named(tmp_path_factory, field, value):
    path = tmp_path_factory.getbasetemp() / "shapes.jsonl"
    path.write_text(json.dumps(question(**{field: value})) + "\n", encoding="utf-8")
    report = check_questions(path, [POOLS, VAULTS])
    json.dumps(report.to_json()).encode()
    "".join(map(str, report.faults)).encode()
    try:
        assert len(load_questions(path, opened_by="a test")) == 1
    except UserError as error:
        str(error).encode()


SHAPES = ["null", "[]", "7", '"x"', "{", "[" * 100_000, '{"id":' * 100_000, "9" * 5000, '{"id": 1e999}', "\x00"]


@pytest.mark.parametrize("line", SHAPES)
def test_a_line_of_any_shape_is_named(write, line):
    path = write(question(), line)
    assert {fault.line for fault in check_questions(path).faults} == {2}
    with pytest.raises(UserError, match="line 2"):
        load_questions(path)
    with pytest.raises(UserError, match=":2:"):
        HeldOut.read([path])


@pytest.mark.parametrize("field", ["id", "question", "answer", "source"])
def test_a_lone_surrogate_is_named(write, field):
    text = json.dumps(question(**{field: "90 days \ud800"}))
    if field == "answer":  # what is scored is put into its normal form, which has none
        assert found(check_questions(write(text))) == [(1, "answer")]
        assert load_questions(write(text))[0].answer == "90 days"
    else:
        with pytest.raises(UserError, match=rf"line 1: {field}: .*\\ud800"):
            load_questions(write(text))


UNSEEN = [" 90 days", "90 days ", "90 days\n", "\u00a090 days", "90\u200b days", "90\u00a0days", "\ufeff90 days"]


@pytest.mark.parametrize("choice", UNSEEN)
def test_a_choice_is_read_without_what_is_not_seen_and_the_check_says_so(write, choice):
    path = write(question(choices=["7 days", "30 days", "60 days", choice], answer=choice))
    assert load_questions(path)[0].choices == ("7 days", "30 days", "60 days", "90 days")
    assert load_questions(path)[0].answer == "90 days"
    assert found(check_questions(path)) == [(1, "choices"), (1, "answer")]


def test_choices_that_differ_by_their_end_alone_are_told(write):
    path = write(question(choices=["90 days.", "30 days", "60 days", "90 days"]))
    assert found(check_questions(path)) == [(1, "choices")]
    assert load_questions(path)
    with pytest.raises(UserError, match="occurs twice"):  # the same text twice is no question
        load_questions(write(question(choices=["90 days ", "30 days", "60 days", "90 days"])))
    with pytest.raises(UserError, match="two or more texts"):  # nor is a choice of which nothing is left
        load_questions(write(question(choices=["\u200b", "30 days", "60 days", "90 days"])))


def test_an_end_that_gives_the_right_choice_away_is_told(write):
    def asked(number, right):
        marks = ["." if (place == right) == (number % 2 == 0) else "" for place in range(4)]
        choices = [f"{days} days{mark}" for days, mark in zip((7, 30, 60, 90), marks, strict=True)]
        return question(number, choices=choices, answer=None, answer_index=right, evidence=[], split="")

    report = check_questions(write(*(asked(number, number % 4) for number in range(12))))
    assert [fault.field for fault in report.faults if "ends unlike" in fault.message] == ["choices"]
    assert report.summary["right_ends_unlike_the_others"] == {"count": 12, "of": 12, "chance": 0.25}


def test_an_unanswerable_question_has_no_answer_choices_gold_or_evidence(write):
    empty = {"answer": None, "choices": None, "answer_index": None, "gold_documents": [], "evidence": []}
    assert check_questions(write(question(answerable=False, **empty))).ok
    report = check_questions(write(question(answerable=False)))
    assert [field for _, field in found(report)] == ["answer", "choices", "answer_index", "gold_documents", "evidence"]


def test_every_fault_of_a_file_is_named_at_once(write):
    path = write(
        question(1),
        "{not json}",
        question(1),
        '{"id": "a", "id": "b", "question": "Which?"}',
        "[1]",
        question(2, answer=5, tags=None),
        "[" * 100_000,
    )
    path.write_bytes(path.read_bytes() + b'{"id": "\xff"}\n')
    with pytest.raises(UserError) as caught:
        load_questions(path)
    message = caught.value.message
    assert "8 faults" in message and str(path) in message
    expected = [
        "line 2: line: not JSON",
        "line 3: id: 'q-1' is also the id of line 1",
        "line 4: line: not JSON: key 'id' occurs twice",
    ]
    expected += [
        "line 5: line: an object",
        "line 6: answer: 5",
        "line 6: tags: null",
        "line 7: line: ",
        "line 8: line: not UTF-8",
    ]
    for part in expected:
        assert part in message
    assert len(message) < 2_000


def test_a_byte_order_mark_and_windows_line_ends_are_no_faults(write):
    path = write()
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(question()).encode() + b"\r\n\r\n")
    assert len(load_questions(path)) == 1


def test_a_file_that_cannot_be_read_or_is_empty_is_the_users_error(tmp_path, write):
    for unreadable in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UserError, match=str(unreadable)):
            load_questions(unreadable)
        with pytest.raises(UserError, match=str(unreadable)):
            check_questions(unreadable)
    with pytest.raises(UserError, match="no questions"):
        load_questions(write())


def test_test_questions_are_given_only_to_code_that_names_itself(write):
    path = write(question(1), question(2, split="test", gold_documents=["other.md"]))
    assert [q.id for q in load_questions(path)] == ["q-1"]
    for split in ("test", None):
        with pytest.raises(UserError, match="held out"):
            load_questions(path, split=split)
        with pytest.raises(UserError, match="held out"):
            load_questions(path, split=split, opened_by="")
    assert [q.id for q in load_questions(path, split="test", opened_by="eval run-1")] == ["q-2"]
    assert [q.id for q in load_questions(path, split=None, opened_by="eval run-1")] == ["q-1", "q-2"]


def test_a_set_without_splits_is_loaded_whole(write):
    path = write(question(1, split=...), question(2, split=""))
    for split in ("dev", "test", None):
        assert len(load_questions(path, split=split)) == 2


def test_a_split_that_is_empty_or_only_partly_given_is_refused(write):
    with pytest.raises(UserError, match="no questions of split 'test'"):
        load_questions(write(question(1)), split="test", opened_by="eval")
    assert (2, "split") in found(check_questions(write(question(1), question(2, split=""))))


def test_a_documents_questions_stand_in_one_split(write):
    path = write(question(1), question(2), question(3, split="test", gold_documents=["a.md", "kv/vaults.md"]))
    (fault,) = check_questions(path).faults
    assert (fault.line, fault.field) == (3, "split")
    assert "kv/vaults.md" in fault.message and "line 1" in fault.message


def balanced(count, *, place, texts):
    """Questions with four choices; `place(i)` is the right one's position and `texts(i)` its text and the others'."""
    records = []
    for i in range(count):
        right, others = texts(i)
        choices = [*others]
        choices.insert(place(i), right)
        records.append(question(i, choices=choices, answer_index=place(i), answer=right))
    return records


def test_balance_faults_are_for_bias_not_for_noise(write):
    draw = random.Random(0)

    def words(i):
        lengths = draw.sample(range(3, 9), 4)
        return "r" * lengths[0], ["a" * lengths[1], "b" * lengths[2], "c" * lengths[3]]

    places = [draw.randrange(4) for _ in range(200)]
    fair = balanced(200, place=places.__getitem__, texts=words)
    assert check_questions(write(*fair)).ok
    always_second = balanced(40, place=lambda i: 1, texts=words)
    assert {(None, "answer_index")} == set(found(check_questions(write(*always_second))))
    longest = balanced(40, place=lambda i: i % 4, texts=lambda i: ("long answer", ["one", "two", "six"]))
    fault = check_questions(write(*longest)).faults[0]
    assert fault.field == "choices" and "longest in 40 of 40" in fault.message
    shortest = balanced(40, place=lambda i: i % 4, texts=lambda i: ("no", ["one", "two", "six"]))
    assert "shortest in 40 of 40" in check_questions(write(*shortest)).faults[0].message
    # A right choice that is never an extreme can be told from its middling length just as well.
    middling = balanced(40, place=lambda i: i % 4, texts=lambda i: ("four", ["sixsix", "fives", "one"]))
    assert [fault.message[:40] for fault in check_questions(write(*middling)).faults] == [
        "the right choice is the longest in 0 of ",
        "the right choice is the shortest in 0 of",
    ]
    # Three of four right at the same place is nothing in a set of four.
    assert check_questions(write(*balanced(4, place=lambda i: min(i, 1), texts=words))).ok


def test_the_summary_counts_what_the_set_holds(write):
    four = [question(i, answer_index=i % 4, answer=question()["choices"][i % 4], split="") for i in range(4)]
    summary = check_questions(write(*four, {"id": "u", "question": "And?", "answerable": False, "tags": ["none"]})).summary
    assert summary["tags"] == {"fact": 4, "none": 1}
    assert summary["splits"] == {"none": 5}
    assert summary["answerable"] == {"false": 1, "true": 4}
    assert summary["answer_positions"] == {"0": 1, "1": 1, "2": 1, "3": 1}
    # "7 days" is the only shortest choice of each; none is the only longest.
    assert summary["right_is_shortest"] == {"count": 1, "of": 4, "chance": 0.25}
    assert summary["right_is_longest"]["of"] == 0
    assert "documents" not in summary


def test_a_sound_set_stands_the_check_against_its_documents(write):
    free = {"choices": None, "answer_index": None, "gold_documents": ["aks/pools.md"]}
    path = write(
        question(1),
        question(2, **free | {"answer": "1000 nodes", "evidence": ["up to 1,000 nodes"]}),
        question(3, **free | {"answer": "10%", "evidence": ["--max-surge 10%"]}),
        question(4, **free | {"answer": None, "evidence": ["A SYSTEM pool keeps at least one"]}),
        question(5, **free | {"answer": "in 5000-node tiers", "evidence": ["in `5000`-node tiers; see limits."]}),
        question(6, **free | {"answer": "90, 10", "gold_documents": ["kv/vaults.md", "aks/pools.md"]}),
    )
    report = check_questions(path, [POOLS, VAULTS])
    assert report.faults == ()
    assert report.summary["documents"] == 2
    assert report.summary["word_overlap_with_passage"]["questions"] == 6
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"gold_documents": ["kv/vault.md"]}, "gold_documents", "kv/vault.md"),
        ({"evidence": ["stay recoverable for 91 days"]}, "evidence", "91"),
        ({"answer": "90 days, at most 100"}, "answer", "100"),
        ({"answer": "since 1.2"}, "answer", "1.2"),  # 1.27 is another number
        ({"answer": "9"}, "answer", "9"),
        ({"question": "**Deleted vaults** stay\nrecoverable"}, "question", "kv/vaults.md"),
    ],
)
def test_what_is_not_true_to_the_documents_is_a_fault(write, changes, field, part):
    base = {"choices": None, "answer_index": None}
    report = check_questions(write(question(1), question(2, **base | changes)), iter([POOLS, VAULTS]))
    (fault,) = report.faults
    assert (fault.line, fault.field) == (2, field) and part in fault.message


def test_evidence_of_another_document_proves_nothing(write):
    report = check_questions(write(question(evidence=["A cluster holds up to"])), [POOLS, VAULTS])
    assert found(report) == [(1, "evidence")]


def test_word_overlap_is_the_share_of_content_words_found_whatever_their_form():
    passage = "Deleted vaults stay recoverable for 90 days."
    assert word_overlap("How long do deleted vaults stay?", passage) == pytest.approx(3 / 4)
    assert word_overlap("Deleting a vault", passage) == 1
    assert word_overlap("Is a removed secret store restorable?", passage) == 0
    assert word_overlap("What is it?", passage) == 0


def test_only_evaluation_code_opens_test_questions():
    root = Path(questions.__file__).parents[1]
    modules = [*root.rglob("*.py"), *(root.parent / "app").rglob("*.py")]
    naming = {path.relative_to(root.parent).as_posix() for path in modules if "opened_by" in path.read_text(encoding="utf-8")}
    may = {f"rag_vs_ft/{name}.py" for name in ("evaluation/questions", "evaluation/held_out", "cli/evaluation", "choose")}
    may.add("app/views/evaluate.py")  # shows the questions of a run that has been reported
    assert "rag_vs_ft/evaluation/questions.py" in naming and naming <= may
