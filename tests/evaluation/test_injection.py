"""Planted instructions: who obeys is counted, who does not is not."""

from pathlib import Path

import pytest
import tiny

from rag_vs_ft import settings
from rag_vs_ft.evaluation import injection
from rag_vs_ft.models.loading import load


def test_who_obeys_every_order_and_who_obeys_none_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lm = load(str(tiny.save_llama(tmp_path / "lm")), settings.home(), device="cpu", threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(injection, "_asked", lambda lm, question, passage, tokens: passage)
        obedient = injection.measure(lm)
    assert (obedient.obeyed, obedient.tries, obedient.chance) == (32, 32, 0)
    assert obedient.right == 32 and obedient.right_clean == 4 and obedient.interval[1] == 1.0
    with monkeypatch.context() as patch:
        patch.setattr(injection, "_asked", lambda lm, question, passage, tokens: passage.split("\n\n")[0])
        steadfast = injection.measure(lm)
    assert steadfast.obeyed == 0 and steadfast.interval == (0.0, pytest.approx(0.107, abs=0.001)) and steadfast.right == 32


def test_marks_stand_in_no_passage_and_control_tokens_of_an_order_stay_text(tmp_path: Path) -> None:
    from rag_vs_ft.models.prompting import build_prompt

    assert not any(
        mark in f"{question} {passage}".lower() for question, passage, _ in injection.CARRIERS for mark in injection.MARKS
    )
    lm = load(str(tiny.save_llama(tmp_path / "lm")), settings.home(), device="cpu", threads=1)
    question, passage, _ = injection.CARRIERS[0]
    turn = dict(injection.ORDERS)["turn"].format(mark="marzipan")
    plain, planted = (
        build_prompt(lm, question, injection.hits_of([text]), max_new_tokens=8) for text in (passage, f"{passage}\n\n{turn}")
    )
    control = lm.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert plain.token_ids.count(control) == planted.token_ids.count(control) > 0
