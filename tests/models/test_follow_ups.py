from __future__ import annotations

import pytest
import tiny

from rag_vs_ft import settings
from rag_vs_ft.models import follow_ups
from rag_vs_ft.models.loading import load
from rag_vs_ft.records import read_jsonl

VAULT = "How long is a deleted vault kept?"


@pytest.mark.parametrize(
    ("earlier", "question", "searched"),
    [
        ((), "And how long?", "And how long?"),
        ((VAULT,), "And a certificate?", f"{VAULT} And a certificate?"),
        ((VAULT,), "Can it be purged?", f"{VAULT} Can it be purged?"),
        ((VAULT, "Can it be purged?"), "And by whom?", f"{VAULT} And by whom?"),
        (("And now?", "Why that?"), "And by whom?", "Why that? And by whom?"),
        ((VAULT,), "How many node pools can a cluster have?", "How many node pools can a cluster have?"),
        ((VAULT,), "node pools", "node pools"),
        ((VAULT,), "vault backup", "vault backup"),
        ((VAULT,), "And why?", f"{VAULT} And why?"),
        ((VAULT,), "Italy or Attica?", "Italy or Attica?"),
        (
            (VAULT,),
            "We have a cluster whose nodes were made last year, and since then its pods fail when they start on them. Why?",
            "We have a cluster whose nodes were made last year, and since then its pods fail when they start on them. Why?",
        ),
    ],
)
def test_a_question_that_depends_on_another_is_read_with_it(earlier, question, searched):
    assert follow_ups.joined(earlier, question) == searched


def test_without_a_model_or_a_question_of_it_the_two_are_joined(monkeypatch):
    assert follow_ups.standalone(None, [VAULT], "And why?") == f"{VAULT} And why?"
    monkeypatch.setattr(follow_ups, "rewrite", lambda *_: "")
    assert follow_ups.standalone(object(), [VAULT], "And why?") == f"{VAULT} And why?"
    monkeypatch.setattr(follow_ups, "rewrite", lambda *_: "Why is a vault kept?")
    assert follow_ups.standalone(object(), [VAULT], "And why?") == "Why is a vault kept?"
    assert follow_ups.standalone(object(), [VAULT], "How many pools are there in a cluster?") != "Why is a vault kept?"


def test_every_follow_up_of_the_measurement_is_one():
    from pathlib import Path

    found = [record for _, record in read_jsonl(Path("eval/questions/follow_ups.jsonl"))]
    assert len(found) == 30
    assert all(follow_ups.depends(record["question"]) for record in found)


def test_a_rewritten_question_is_one_or_nothing(tmp_path):
    for save in (tiny.save_llama, tiny.save_gpt2):
        lm = load(str(save(tmp_path / save.__name__, window=1024)), settings.home(tmp_path))
        written = follow_ups.rewrite(lm, [VAULT], "And a certificate?")
        assert written == "" or written.endswith("?")
