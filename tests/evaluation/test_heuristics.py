import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_vs_ft.evaluation.arms import HeuristicReader, Passages, predict
from rag_vs_ft.evaluation.contexts import CONTEXTS
from rag_vs_ft.evaluation.experiments import Arm
from rag_vs_ft.evaluation.heuristics import HEURISTICS, Given, is_way, places_of
from rag_vs_ft.evaluation.measures import choice_credit, chosen, confidence
from rag_vs_ft.language import language
from rag_vs_ft.models.extractive import extract, passage_sentences
from rag_vs_ft.records import Chunk, Hit, Question


def hit(text, rank=1, breadcrumb=""):
    return Hit(rank, Chunk(f"c{rank}", f"d{rank}.md", "", breadcrumb, text, 0, len(text), 1), 1.0)


def values(name, choices, *texts, question="Which?", places=()):
    hits = tuple(hit(text, rank) for rank, text in enumerate(texts, start=1))
    return list(HEURISTICS[name].choose(Given(question, tuple(choices), hits, tuple(places))))


@pytest.mark.parametrize(
    ("choices", "texts", "expected"),
    [
        (["30 days", "90 days"], ["Kept for 90 days."], [0.0, 1.0]),
        (["30 days", "90 days"], ["Kept for 90 days.", "Or 30 days."], [0.5, 1.0]),
        (["5 GB", "15 GB"], ["Up to 15 GB."], [0.0, 1.0]),
        (["no", "node"], ["A node pool."], [0.0, 1.0]),
        (["--max-surge", "--max"], ["Use --MAX-SURGE."], [1.0, 1.0]),
        (["a", "b"], [], [0.0, 0.0]),
        (["...", "yes"], ["... yes"], [0.0, 1.0]),
    ],
)
def test_string_match_takes_the_choice_of_the_highest_passage(choices, texts, expected):
    assert values("string-match", choices, *texts) == expected


def test_word_overlap_is_the_share_of_a_choices_content_words_in_all_passages():
    found = values("word-overlap", ["soft delete", "purge the vault", "The"], "Soft delete keeps it.", "A vault.")
    assert found == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (["5 GB", "15 GB", "none"], [0.0, 1.0, 0.0]),
        (["1,000", "999.5"], [1.0, 0.0]),
        (["yes", "no"], [0.0, 0.0]),
        (["7", "7 days"], [0.0, 0.0]),
        (["three", "2"], [1.0, 0.0]),
        (["v1.9", "v1.10"], [0.0, 1.0]),
        (["9" * 9_000, "1"], [1.0, 0.0]),
    ],
)
def test_larger_number_compares_as_the_reports_guesser_does(choices, expected):
    assert values("larger-number", choices) == expected


def test_longest_choice_and_majority():
    assert values("longest-choice", ["a", "bbb", "cc"]) == [1.0, 3.0, 2.0]
    dev = [Question(str(place), "?", choices=("a", "b"), answer_index=place) for place in (1, 1, 0)]
    assert places_of(dev) == (1, 2) and places_of([]) == ()
    assert values("majority", ["a", "b", "c"], places=(1, 2)) == [1.0, 2.0, 0.0]
    assert values("majority", ["a", "b"]) == [0.0, 0.0]


def test_extractive_takes_the_sentences_that_answer():
    hits = [
        hit("Vaults hold secrets. A vault keeps deleted items for 90 days by default.\nPrices vary."),
        hit("A vault keeps deleted items for 90 days by default. Node pools have 1,000 nodes.", 2),
    ]
    found = extract("How many days does a vault keep deleted items?", hits, sentences=1)
    assert found.answer == "A vault keeps deleted items for 90 days by default." and found.citations == (1,)
    assert extract("How many days does a vault keep deleted items?", hits).answer.count("90 days") == 1
    assert extract("Zebra?", hits).answer == "" and extract("Zebra?", hits).citations == ()
    assert extract("?", []).answer == ""


def test_words_of_the_headings_lead_to_a_sentence():
    hits = [hit("The limit is 5.", 1, "Storage > Quota"), hit("The limit is 7.", 2, "Compute > Quota")]
    assert extract("What is the compute limit?", hits, sentences=1).citations == (2,)


WRAPPED = """\
A node can be shut down in a planned way or unexpectedly, because of reasons such
as a power outage. It is
drained before.

- An entry that goes on
  in a second line. And ends.
- Another
1. A third

# A heading
| Flag | What it does. Really |
```yaml
key: one. two
~~~
```
鍵は保持
されます。次の文です
"""


def test_sentences_of_a_passage_are_whole_however_its_lines_are_wrapped():
    assert passage_sentences(WRAPPED, language()) == [
        "A node can be shut down in a planned way or unexpectedly, because of reasons such as a power outage.",
        "It is drained before.",
        "- An entry that goes on in a second line.",
        "And ends.",
        "- Another",
        "1. A third",
        "# A heading",
        "| Flag | What it does. Really |",
        "key: one. two",
        "~~~",
        "鍵は保持されます。",
        "次の文です",
    ]


@given(st.text("ab. |`~#-1\n", max_size=80))
def test_no_word_of_a_passage_is_lost_but_the_marks_of_code(text):
    found = "".join("".join(passage_sentences(text, language())).split())
    assert [letter for letter in found if letter in "ab1"] == [letter for letter in text if letter in "ab1"]


def test_rows_and_entries_stay_lines_of_an_extract():
    text = "Drain the node first. A node is drained by hand.\n\n- Drain a node\n\n| drain | a node |"
    assert extract("How is a node drained?", [hit(text)], sentences=4).answer == (
        "Drain the node first. A node is drained by hand.\n- Drain a node\n| drain | a node |"
    )


def test_extractive_chooses_by_what_it_extracts():
    text = "A vault keeps deleted items for 90 days. Unrelated text names 30 days."
    assert values("extractive", ["30", "90"], text, question="How long are deleted items kept in a vault?")[1] == 1.0


QUESTION = Question("q", "How long?", choices=("30 days", "90 days", "90 hours"), answer_index=1, answer="90 days")


def predicted(name, question=QUESTION, text="Kept for 90 days.", answer=False):
    reader = HeuristicReader(HEURISTICS[name], ())
    task = reader.prepare(question, Passages((hit(text),), 0.25, None, "search"), answer=answer)
    ((_, outcome),) = reader.answer([task])
    return predict(Arm(name=name, model=name, context="retrieved"), "test", task, outcome)


def test_a_heuristic_chooses_the_same_by_every_score_and_is_sure_of_it():
    row = predicted("string-match")
    assert row.prompt == "" and row.prompt_tokens == 0 and row.passages[0].in_prompt and row.search_seconds == 0.25
    for score in ("sum", "per_byte", "pmi"):
        assert choice_credit(row, QUESTION, score) == 1.0 and chosen(row, QUESTION, score) == "90 days"
        assert confidence(row, QUESTION, score) == 1.0
    coin = predicted("string-match", text="Nothing.")
    assert choice_credit(coin, QUESTION, "pmi") == pytest.approx(1 / 3) == confidence(coin, QUESTION, "pmi")


def test_only_extractive_writes_and_only_where_it_is_asked_to():
    free = Question("q", "How long?", answer="90 days")
    assert predicted("string-match", free, answer=True).outcome.answer is None
    assert predicted("extractive", free).outcome.answer is None
    row = predicted("extractive", Question("q", "How long is it kept?", answer="90 days"), "It is kept 90 days.", answer=True)
    assert row.outcome.answer == "It is kept 90 days." and row.outcome.finish == "extracted" and row.citations == (1,)
    assert row.outcome.choice_values is None


def test_the_key_changes_with_all_that_is_read():
    keys = {
        predicted("string-match").key,
        predicted("word-overlap").key,
        predicted("string-match", text="Other.").key,
        predicted("string-match", Question("q", "How long?", choices=("1", "2"), answer_index=0)).key,
    }
    assert len(keys) == 4
    assert predicted("string-match", Question("z", "How long?", choices=QUESTION.choices, answer_index=0)).key in keys


def test_a_heuristic_needs_the_context_that_it_reads():
    for name, heuristic in HEURISTICS.items():
        faults = {context.name for context in CONTEXTS.values() if heuristic.fault(context)}
        assert faults == ({"none"} if heuristic.reads else set(CONTEXTS) - {"none"}), name
        assert not is_way(name, "retrieved")
    assert is_way("gpt2", "none") and not is_way("gpt2", "oracle")
