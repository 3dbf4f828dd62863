import json
from dataclasses import replace

import pytest
import torch

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.arms import begin_alike, find_passages, predict, prepare, room_for, run_batch
from rag_vs_ft.evaluation.contexts import ALTERED, CONTEXTS, Context, contradicting, evidence_share, holds_answer
from rag_vs_ft.evaluation.experiments import Arm
from rag_vs_ft.evaluation.metrics import holds
from rag_vs_ft.evaluation.predictions import Prediction
from rag_vs_ft.evaluation.questions import gold_answer, load_questions
from rag_vs_ft.index.search import Index
from rag_vs_ft.models.loading import load
from rag_vs_ft.models.prompting import build_prompt, encode
from rag_vs_ft.records import Chunk, Hit, Question


@pytest.fixture(scope="module")
def index(world, tiny_embedder):
    return Index.open("handbook", settings.home(world / "home"))


@pytest.fixture(scope="module")
def lm(world):
    return load(str(world / "model"), settings.home(), device="cpu")


@pytest.fixture(scope="module")
def questions(world):
    return load_questions(world / "questions.jsonl", split="dev")


def arm(context, **settings):
    return Arm(name="arm", model="m", context=context, **settings)


def passages(context, question, index, k=2, seed=1, retriever="bm25"):
    return find_passages(arm(context, k=k, retriever=retriever), question, index, seed)


def chunk(text, document="d.md"):
    return Chunk("c", document, "t", "", text, 0, 1, 1)


# --- passages ---------------------------------------------------------------------------------------------------------


def test_no_context_is_none_and_not_an_empty_list(questions, index):
    assert find_passages(arm("none"), questions[0], index, 1).hits is None


def test_settings_that_a_context_does_not_use_do_not_change_its_passages(questions, index):
    for context in CONTEXTS.values():

        def shown(context=context, **settings):
            found = passages(context.name, questions[0], index, **settings).hits or ()
            return [hit.chunk.id for hit in found]

        assert (shown(k=3) != shown(k=1)) is (context.uses_k and context.shows_passages)
        if not context.uses_retriever:
            assert shown(k=3, retriever="dense") == shown(k=3, retriever="bm25")


def test_a_new_context_is_one_entry(questions, index, monkeypatch):
    first = Context("first", True, False, True, lambda source: source.search(9)[: source.k], shows="the first hit")
    monkeypatch.setitem(CONTEXTS, "first", first)
    found = passages("first", questions[0], index, k=1)
    assert [hit.rank for hit in found.hits] == [1] and found.best_cosine is None


def test_retrieved_is_what_the_index_finds(questions, index):
    found = passages("retrieved", questions[0], index, k=3, retriever="hybrid")
    expected = index.search(questions[0].question, 3, retriever="hybrid")
    assert [hit.chunk.id for hit in found.hits] == [hit.chunk.id for hit in expected]
    assert found.best_cosine == max(hit.dense_score for hit in expected if hit.dense_score is not None)
    assert found.seconds > 0


def test_oracle_shows_the_gold_chunk_that_holds_the_evidence(questions, index):
    for question in questions[:6]:
        (hit,) = passages("oracle", question, index).hits
        assert hit.rank == 1 and hit.chunk.document_id == question.gold_documents[0]
        assert question.evidence[0] in " ".join(hit.chunk.text.split())


def test_oracle_without_evidence_takes_the_best_chunk_of_each_gold_document(questions, index):
    question = replace(questions[0], evidence=(), gold_documents=("alpha.md", "beta.md"))
    found = passages("oracle", question, index).hits
    assert [hit.chunk.document_id for hit in found] == ["alpha.md", "beta.md"]


def test_oracle_of_a_question_without_gold_shows_no_passages(index):
    assert passages("oracle", Question("q", "What?"), index).hits == ()


def test_distractors_join_the_oracle_and_are_not_gold(questions, index):
    for k in (1, 3):
        found = passages("oracle+distractors", questions[0], index, k=k).hits
        gold = [hit for hit in found if hit.chunk.document_id == "alpha.md"]
        assert len(found) == max(k, 2) and len(gold) == 1
        assert [hit.rank for hit in found] == list(range(1, len(found) + 1))


def test_the_oracle_does_not_always_stand_first_among_distractors(questions, index):
    places = {
        hit.rank
        for question in questions[:6]
        for hit in passages("oracle+distractors", question, index, k=3).hits
        if hit.chunk.document_id in question.gold_documents
    }
    assert len(places) > 1


def test_gold_removed_is_the_retrieved_list_without_gold(questions, index):
    question = questions[0]
    full = index.search(question.question, 10, retriever="bm25")
    expected = [hit.chunk.id for hit in full if hit.chunk.document_id != "alpha.md"][:2]
    assert [hit.chunk.id for hit in passages("gold-removed", question, index).hits] == expected


def test_a_conflict_is_the_oracles_passage_and_a_copy_with_a_wrong_choice(questions, index):
    places = set()
    for question in questions[:6]:
        right = passages("oracle", question, index).hits
        told = question.choices[question.answer_index]
        found = passages("conflicting", question, index).hits
        altered = [hit for hit in found if hit.chunk.id.endswith(ALTERED)]
        kept = [hit.chunk for hit in found if hit not in altered]
        assert {chunk.id for chunk in kept} == {hit.chunk.id for hit in right} and len(altered) == len(right)
        assert any(holds(hit.chunk.text, choice) for hit in altered for choice in question.choices if choice != told)
        assert not any(holds(hit.chunk.text, told) or holds_answer(question, hit.chunk) for hit in altered)
        assert passages("conflicting", question, index).hits == found, "the seed and the question decide"
        places.add(altered[0].rank)
    assert places == {1, 2}
    free = replace(questions[0], choices=None, answer_index=None)
    assert passages("conflicting", free, index).hits == passages("oracle", free, index).hits


@pytest.mark.parametrize(
    ("text", "right", "told"),
    [
        ("It is 5 GB, or 5.", "5", "It is 90 GB, or 90."),
        ("15 days, 1.5 or 5.5, 5,000", "5", None),
        ("Blob  storage; blob\nstorage", "blob storage", "90; 90"),
        ("A (b) c", "(b)", "A 90 c"),
        ("anything", " ", None),
    ],
)
def test_a_wrong_choice_takes_the_place_of_whole_words(text, right, told):
    hit = Hit(1, Chunk("a#1", "a", "", "", text, 0, len(text), 1), 1.0)
    assert [copy.chunk.text for copy in contradicting([hit], right, "90")] == ([told] if told else [])


def test_random_passages_are_not_gold_and_depend_on_seed_and_question_alone(questions, index):
    drawn = [[hit.chunk.id for hit in passages("random", question, index, k=3).hits] for question in questions[:6]]
    again = [[hit.chunk.id for hit in passages("random", question, index, k=3).hits] for question in reversed(questions[:6])]
    assert drawn == again[::-1]
    assert len({tuple(ids) for ids in drawn}) > 1
    assert drawn != [
        [hit.chunk.id for hit in passages("random", question, index, k=3, seed=2).hits] for question in questions[:6]
    ]
    for question, ids in zip(questions, drawn, strict=False):
        assert len(set(ids)) == 3 and not any(name.startswith(question.gold_documents[0]) for name in ids)


def test_evidence_in_other_marks_counts_as_whole_and_a_part_as_a_part():
    assert evidence_share("the limit is 30 days", "So, The *limit* is 30 days.") == 2.0
    assert 0 < evidence_share("soft delete keeps vaults ninety days", "vaults are kept") < 1


def test_an_answer_is_held_by_evidence_or_by_its_words_in_a_gold_document():
    question = Question("q", "?", answer="90 days", gold_documents=("d.md",), evidence=("kept for 90 days after deletion",))
    assert holds_answer(question, chunk("It is kept for 90 days after deletion."))
    assert not holds_answer(question, chunk("90 days"))
    bare = replace(question, evidence=())
    assert holds_answer(bare, chunk("within 90 days"))
    assert not holds_answer(bare, chunk("within 90 days", "other.md"))


# --- the model --------------------------------------------------------------------------------------------------------


def task_of(lm, question, hits, max_new_tokens=0, room=40):
    return prepare(lm, arm("retrieved", k=2), question, hits, room=room, max_new_tokens=max_new_tokens)


def full_pass(lm, prompt_text, continuation):
    """log P(continuation | prompt) by one pass over both, nothing shared."""
    prompt, whole = encode(lm, prompt_text), encode(lm, prompt_text + continuation)
    assert whole[: len(prompt)] == prompt
    with torch.inference_mode():
        logprobs = lm.model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(float(logprobs[at - 1, whole[at]]) for at in range(len(prompt), len(whole)))


def test_scores_are_those_of_one_full_pass_per_choice(lm, questions, index):
    for question in questions[:3]:
        hits = passages("retrieved", question, index)
        (outcome,) = run_batch(lm, [task_of(lm, question, hits)], {})
        prompt = build_prompt(lm, question.question, hits.hits, max_new_tokens=40).text
        for choice, score in zip(question.choices, outcome.choice_logprobs, strict=True):
            assert score == pytest.approx(full_pass(lm, prompt, " " + choice), abs=1e-4)
        prior = build_prompt(lm, "Answer:", None, max_new_tokens=40).text
        for choice, score in zip(question.choices, outcome.prior_logprobs, strict=True):
            assert score == pytest.approx(full_pass(lm, prior, " " + choice), abs=1e-4)
        assert outcome.answer_logprob == pytest.approx(full_pass(lm, prompt, " " + question.answer), abs=1e-4)


def test_outcomes_do_not_depend_on_what_shares_the_batch(lm, questions, index):
    tasks = [task_of(lm, question, passages("retrieved", question, index), max_new_tokens=8) for question in questions]
    together = run_batch(lm, tasks, {})
    for task, outcome in zip(tasks, together, strict=True):
        (alone,) = run_batch(lm, [task], {})
        assert alone.answer == outcome.answer and alone.completion_tokens == outcome.completion_tokens
        if outcome.choice_logprobs:
            assert alone.choice_logprobs == pytest.approx(outcome.choice_logprobs, abs=1e-5)


def test_a_question_without_choices_and_answer_is_asked_and_not_scored(lm, questions):
    question = next(question for question in questions if question.answerable is False)
    task = task_of(lm, question, find_passages(arm("none"), question, None, 1), max_new_tokens=4)
    (outcome,) = run_batch(lm, [task], {})
    assert outcome.choice_logprobs is None and outcome.answer_logprob is None and outcome.answer is not None
    assert gold_answer(question) is None


def test_the_key_changes_with_all_that_can_change_the_outcome(lm, questions, index):
    question = questions[0]
    hits = passages("retrieved", question, index)
    base = task_of(lm, question, hits).key
    assert task_of(lm, question, hits).key == base
    assert task_of(replace(lm, weights_sha256="0" * 64), question, hits).key != base
    assert task_of(replace(lm, dtype="bfloat16"), question, hits).key != base
    assert task_of(lm, question, passages("retrieved", question, index, k=1)).key != base
    assert task_of(lm, replace(question, choices=tuple(reversed(question.choices))), hits).key != base
    assert task_of(lm, replace(question, answer="other"), hits).key != base
    assert task_of(lm, question, hits, max_new_tokens=5).key != base
    # What does not reach the model does not count: the right index, the tags, the id.
    assert task_of(lm, replace(question, id="other", answer_index=1, tags=()), hits).key == base


def test_a_question_that_does_not_fit_is_refused_by_name_and_not_cut(lm, questions, index):
    with pytest.raises(UserError, match="does not fit"):
        task_of(lm, replace(questions[0], question="long " * 400), passages("retrieved", questions[0], index))


def test_passages_that_did_not_fit_are_recorded_as_left_out(lm, questions, index):
    hits = find_passages(arm("retrieved", k=8, retriever="bm25"), questions[0], index, 1)
    task = task_of(lm, questions[0], hits)
    (outcome,) = run_batch(lm, [task], {})
    row = predict(arm("retrieved", k=8), "test", task, outcome)
    shown = [passage.in_prompt for passage in row.passages]
    assert len(shown) == len(hits.hits) and not all(shown) and shown == sorted(shown, reverse=True)
    assert row.prompt_tokens <= lm.window - 40


def test_room_is_kept_for_the_longest_choice_and_for_the_answer(lm, questions):
    longest = max(len(encode(lm, text)) for question in questions for text in (*(question.choices or ()), question.answer or ""))
    assert room_for(lm, questions, 0) == longest + 8
    assert room_for(lm, questions, 100) == 100


def test_a_prediction_survives_the_file(lm, questions, index):
    hits = passages("retrieved", questions[0], index)
    task = task_of(lm, questions[0], hits, max_new_tokens=4)
    (outcome,) = run_batch(lm, [task], {})
    row = predict(arm("retrieved", k=2), "dev", task, outcome)
    read = Prediction.of_json({**json.loads(json.dumps(row.to_json())), "scores": {"choice_accuracy": 1.0}})
    assert read == row


# --- choices that begin alike ---------------------------------------------------------------------------------------------


def test_choices_that_begin_alike_are_scored_with_the_end_of_the_answer(lm, questions, index):
    question = replace(questions[0], choices=("5", "50", "7"), answer="5 units")
    hits = passages("retrieved", question, index)
    (outcome,) = run_batch(lm, [task_of(lm, question, hits)], {})
    prompt = build_prompt(lm, question.question, hits.hits, max_new_tokens=40).text
    for choice, score in zip(question.choices, outcome.choice_logprobs, strict=True):
        assert score == pytest.approx(full_pass(lm, prompt, f" {choice}\n"), abs=1e-4)
    prior = build_prompt(lm, "Answer:", None, max_new_tokens=40).text
    for choice, score in zip(question.choices, outcome.prior_logprobs, strict=True):
        assert score == pytest.approx(full_pass(lm, prior, f" {choice}\n"), abs=1e-4)
    assert outcome.answer_logprob == pytest.approx(full_pass(lm, prompt, " 5 units"), abs=1e-4)  # bits per byte have no end


def test_the_end_is_that_of_the_turn_where_the_template_has_turns(lm, questions):
    question = replace(questions[0], choices=("5", "50"))
    asked = arm("none", template="alpaca")
    task = prepare(lm, asked, question, find_passages(asked, question, None, 1), room=40, max_new_tokens=0)
    assert [ids[-1] for ids in task.texts[:2]] == [lm.tokenizer.eos_token_id] * 2 == [ids[-1] for ids in task.prior_texts]
    other = prepare(lm, asked, replace(question, choices=("5", "60")), task.passages, room=40, max_new_tokens=0)
    assert all(lm.tokenizer.eos_token_id not in ids for ids in other.texts)


@pytest.mark.parametrize(
    ("choices", "alike"),
    [(("5", "50"), True), (("az aks create", "az aks"), True), (("5", "15"), False), (("same", "same"), False), ((), False)],
)
def test_choices_begin_alike_when_one_is_the_beginning_of_another(choices, alike):
    assert begin_alike(choices) is alike


def test_a_model_that_gives_no_number_is_named_and_nothing_of_it_is_kept(world, questions):
    broken = load(str(world / "model"), settings.home(), device="cpu")
    with torch.no_grad():
        next(broken.model.parameters()).fill_(float("nan"))
    task = task_of(broken, questions[0], find_passages(arm("none"), questions[0], None, 1))
    with pytest.raises(UserError, match=f"gives no number for {questions[0].id!r}"):
        run_batch(broken, [task], {})
