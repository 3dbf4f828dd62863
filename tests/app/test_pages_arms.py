"""Compare and Rate: several arms on one question."""

from __future__ import annotations

import importlib
import json
import shutil
from types import SimpleNamespace

import pytest
import tiny
from stub_server import says, serving

from rag_vs_ft import catalogue, settings
from rag_vs_ft.feedback import database_path, preferences, rated_questions, store_rating
from rag_vs_ft.records import Answer

MODEL = settings.LANGUAGE_MODEL


def button(at, label: str):
    return next(one for one in at.button if one.label.startswith(label))


def references(at) -> list[float]:
    """Bits per byte of the reference answer, of each arm that was asked."""
    shown = [one.value for one in at.markdown if one.value.startswith("Reference answer")]
    return [float(value.split("**")[1]) for value in shown]


@pytest.fixture
def trained(built):
    """A run of ours beside the default model."""
    tiny.save_gpt2(built.runs / "small" / "last", window=512)
    (built.runs / "small" / "run.json").write_text("{}", encoding="utf-8")


def test_four_arms_side_by_side_with_the_reference(built, trained, open_page) -> None:
    at = open_page("compare", q="What is the port of the vault?", reference="It is 443.", max_new_tokens="16")
    at.multiselect(key="arms").set_value([MODEL, f"{MODEL} + passages", "small", "small + passages"])
    button(at, "Compare").click().run()
    assert not at.exception and not at.error
    assert len(references(at)) == 4 and all(value > 0 for value in references(at))
    shown = [column for column in at.columns if column.markdown]
    assert len(shown) == 4 and not shown[0].expander and shown[1].expander
    assert sum(r" s · " in caption.value for caption in at.caption) == 4
    at.run()
    assert len(references(at)) == 4, "answers stay until something else is asked"
    at.text_input(key="q").set_value("Something else?").run()
    assert not references(at)


def test_pretrained_retrieval_and_trained_models_are_compared_unless_told_otherwise(built, trained, open_page) -> None:
    assert open_page("compare").multiselect(key="arms").value == [MODEL, f"{MODEL} + passages", "small"]


def test_a_stopped_comparison_keeps_what_there_is_and_who_has_the_address_finds_it(built, endless, open_page) -> None:
    comparing = importlib.import_module("comparing")
    comparing.begin(
        comparing.QuestionToArms(("endless", MODEL), "Tell me everything", "", "docs", settings.ASK_K, settings.MAX_NEW_TOKENS)
    )
    (compared,) = comparing.comparisons().values()
    while not compared.texts:
        compared.work.wait(0.02)
    compared.work.cancel()
    compared.work.wait(20)
    at = open_page("compare", q="Tell me everything", arms=["endless", MODEL])
    captions = [caption.value for caption in at.caption]
    assert not at.error and "Stopped." in captions and "Stopped before it was asked." in captions
    button(at, "Compare").click()
    at.slider(key="max_new_tokens").set_value(16).run()
    assert "Stopped." not in [caption.value for caption in at.caption]


def test_one_arm_fails_and_the_others_answer(built, trained, open_page) -> None:
    (built.runs / "small" / "last" / "model.safetensors").write_bytes(b"no weights")
    at = open_page("compare", q="What is the port?", max_new_tokens="16")
    at.multiselect(key="arms").set_value([MODEL, "small"])
    button(at, "Compare").click().run()
    assert not at.exception and len(at.error) == 1 and "is damaged" in at.error[0].value
    assert sum(r" s · " in caption.value for caption in at.caption) == 1


def test_an_empty_answer_says_once_why(built, open_page) -> None:
    comparing, arms = importlib.import_module("comparing"), importlib.import_module("arms")
    asked = comparing.QuestionToArms((MODEL,), "Why?", "", "docs", settings.ASK_K, settings.MAX_NEW_TOKENS)
    answer = Answer("", (), (), 9, 9, 1.0, MODEL, notices=("it repeated itself", "it is empty"), finish="loop")
    ended = SimpleNamespace(running=False)
    results = {MODEL: arms.ArmAnswer(answer, None)}
    comparing.comparisons()[asked] = SimpleNamespace(asked=asked, results=results, texts={}, work=ended)
    at = open_page("compare", q="Why?", arms=[MODEL])
    captions = [caption.value for caption in at.caption]
    assert "it repeated itself" in captions and "it is empty" not in captions


def test_reference_that_does_not_fit_is_told(built, open_page) -> None:
    at = open_page("compare", q="Port?", reference="pump " * 190, max_new_tokens="16")
    at.multiselect(key="arms").set_value([MODEL])
    button(at, "Compare").click().run()
    assert not at.exception and len(at.error) + len(references(at)) == 1


def test_servers_are_compared_and_rated_too(built, open_page) -> None:
    with serving(says("It is kept for 90 days.")) as stub:
        server = f"{stub.url}#tiny"
        arms = [f"{server} + passages", MODEL]
        at = open_page("compare", q="How long?", max_new_tokens="16", **{"other-model": server, "arms": arms})
        button(at, "Compare").click().run()
        assert not at.error and "It is kept for 90 days." in "".join(drawn.proto.body for drawn in at.get("html"))
        at = open_page("rate", **{"other-model": server, "rated": [server, f"{server} + passages"]})
        button(at, "Next question").click().run()
        assert not at.error and at.session_state["round"].answers == ("It is kept for 90 days.",) * 2
    at.text_input(key="other-model").set_value("nonsense").run()
    assert "nonsense is neither" in at.warning[0].value


def test_nothing_to_compare_without_a_question(built, open_page) -> None:
    assert button(open_page("compare"), "Compare").disabled


def test_rating_is_blind_until_the_verdict_and_counted_after(built, open_page) -> None:
    at = open_page("rate")
    at.text_input[0].set_value("What is the port of the vault?")
    button(at, "Next question").click().run()
    assert not at.exception and not at.error
    captions = [caption.value for caption in at.caption]
    assert "Answer 1" in captions and "Answer 2" in captions and not any("smollm2" in caption for caption in captions)
    assert any(text.value == "What is the port of the vault?" for text in at.text)
    button(at, "First is").click().run()
    captions = [caption.value for caption in at.caption if caption.value.startswith("Answer")]
    assert all("smollm2" in caption for caption in captions) and captions[0] != captions[1]
    (pair,) = preferences(built)
    winner = MODEL + (" + passages" if "passages" in captions[0] else "")
    assert (pair.wins if pair.arm == winner else pair.losses) == 1
    assert list(at.dataframe[0].value["95% interval"]) != [""]


def test_a_raters_name_that_is_too_long_is_cut_and_said(built, open_page) -> None:
    at = open_page("rate")
    at.text_input(key="rater").set_value("  Ann " + "x" * 40)
    at.text_input(key="own").set_value("What is the port?")
    button(at, "Next question").click().run()
    assert "46 characters" in at.warning[0].value and "the first 40" in at.warning[0].value
    button(at, "First is").click().run()
    arms = at.session_state["round"].arms
    assert rated_questions(built, arms, "Ann " + "x" * 34) == {"What is the port?"}, "the name that was said to be used"
    at.text_input(key="rater").set_value("Ann").run()
    assert not at.warning


def test_questions_of_the_sample_are_dev_questions(built, open_page) -> None:
    from rag_vs_ft.evaluation.questions import load_questions, sample_questions_path

    at = open_page("rate")
    button(at, "Next question").click().run()
    dev = {question.question for question in load_questions(sample_questions_path(), split="dev")}
    assert any(text.value in dev for text in at.text)


def test_the_next_round_is_prepared_while_one_is_read(built, open_page) -> None:
    at = open_page("rate")
    at.text_input(key="own").set_value("What is the port?")
    button(at, "Next question").click().run()
    assert at.session_state["round"].question == "What is the port?" and at.text_input(key="own").value == ""
    _, job = at.session_state["next round"]
    job.wait(60)
    assert job.error is None
    button(at, "Equally").click().run()
    assert at.session_state["next round"][1] is job, "a verdict does not begin it again"
    button(at, "Next question").click().run()
    assert at.session_state["round"].question == job.result.question and any(
        job.result.question == text.value for text in at.text
    )


def test_questions_that_were_rated_for_a_pair_come_last(built, open_page) -> None:
    folder = built.root / "eval" / "questions"
    folder.mkdir(parents=True)
    record = {"answer": "443", "gold_documents": ["vault/keys.md"], "answerable": True, "source": "test", "tags": []}
    lines = [json.dumps({"id": str(number), "question": f"Which port ({number})?", **record}) for number in range(3)]
    (folder / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    arms = (MODEL, f"{MODEL} + passages")
    for number in (0, 2):
        store_rating(built, f"Which port ({number})?", arms, ("x", "y"), "tie")
    at = open_page("rate", questions="mine")
    button(at, "Next question").click().run()
    assert at.session_state["round"].question == "Which port (1)?"


def test_rating_that_cannot_be_kept_stays_open(built, open_page) -> None:
    at = open_page("rate")
    button(at, "Next question").click().run()
    database_path(built).write_bytes(b"not a database " * 100)
    button(at, "Equally").click().run()
    assert "not a database" in at.error[0].value
    assert any(one.label.startswith("Equally") for one in at.button)


def test_arm_that_cannot_be_loaded_is_told(built, trained, open_page) -> None:
    (built.runs / "small" / "last" / "model.safetensors").write_bytes(b"no weights")
    at = open_page("rate")
    at.multiselect(key="rated").set_value([MODEL, "small"])
    button(at, "Next question").click().run()
    assert not at.exception and "is damaged" in at.error[0].value


def test_an_arm_that_the_address_names_twice_is_said(built, open_page) -> None:
    twice = [settings.LANGUAGE_MODEL] * 2
    at = open_page("compare", arms=twice)
    assert "must be 4 different ones at most" in at.error[0].value
    at.button(key="instead-arms").click().run()
    assert not at.error and at.multiselect(key="arms").value


def test_models_that_come_and_go_are_listed_so_at_once(built, tmp_path, tiny_cache) -> None:
    model_names = importlib.import_module("resources").model_names
    before = model_names()
    (built.runs / "new" / "last").mkdir(parents=True)
    (built.runs / "new" / "run.json").write_text("{}", encoding="utf-8")
    assert model_names() == [*before, "new"]
    file, place = tmp_path / "x.gguf", tiny_cache / "gguf" / "x"
    file.write_bytes(b"")
    place.mkdir(parents=True)
    try:
        (place / catalogue.MANIFEST).write_text(json.dumps({"format": 1, "name": str(file), "files": {}}), encoding="utf-8")
        assert str(file) in model_names()
        file.unlink()
        assert str(file) not in model_names()
    finally:
        shutil.rmtree(place.parent)
    shutil.rmtree(built.runs / "new")
    assert model_names() == before
