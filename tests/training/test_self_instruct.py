from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.generation import Completion
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.overlap import HeldOut, Novelty
from rag_vs_ft.records import Document
from rag_vs_ft.training.instructions import Record
from rag_vs_ft.training.self_instruct import ROUND, _answer_fault, _question_fault, _question_prompt, self_instruct

NOBODY = HeldOut([])
QUESTIONS = ("How long do vaults keep secrets?", "Which subnet reserves five addresses?")
NEVER = "What is all the rest?"  # top-p 0.5 leaves two of three questions that are equally likely
ANSWER = "Vaults retain deleted data ninety days."
END = "<|endoftext|>"


def _model(window: int = 1_000) -> LanguageModel:
    """A GPT-2 whose next token depends on the last one only: after "Question:" one of three, after "Answer:" ANSWER."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    chains = [["Question:", *(f" {word}" for word in question.split()), "\n"] for question in (*QUESTIONS, NEVER)]
    chains.append(["Answer:", *(f" {word}" for word in ANSWER.split()), END])
    follows = [pair for chain in chains for pair in pairwise(chain)]
    vocabulary = {token: place for place, token in enumerate(dict.fromkeys(token for chain in chains for token in chain))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| ?[^ \n]+"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    end, size = vocabulary[END], len(vocabulary)
    config = GPT2Config(
        vocab_size=size, n_positions=window, n_embd=size, n_layer=1, n_head=1, tie_word_embeddings=False, bos_token_id=end,
        eos_token_id=end,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.transformer.ln_f.weight.fill_(1.0)
        model.transformer.wte.weight.copy_(torch.eye(size))
        for token, following in follows:
            model.lm_head.weight[vocabulary[following], vocabulary[token]] = 5.0
    return LanguageModel("bigram", model, fast, window, "cpu", "float32", 1, "1" * 64, None, False, (end,))


def _documents(count: int) -> list[Document]:
    prose = (
        "Vaults keep secrets after somebody deleted them, and retain all data for ninety days. A subnet reserves five addresses. "
        "How much longer may be said in another place by {} and by {} again, for it is long."
    )
    names = [f"{first}{second}" for first in "abcdef" for second in "abcdef"]
    return [
        Document(id=f"{name}.md", title=f"Page {name}", text=f"# Page {name}\n\n{prose.format(name, name)}\n")
        for name in names[:count]
    ]


def _run(journal: Path, tries: int, **options: Any) -> Any:
    return self_instruct(_model(), _documents(36), options.pop("held_out", NOBODY), journal, tries=tries, seed=5, **options)


def test_every_try_is_kept_or_dropped_by_a_named_rule(tmp_path):
    said: list[tuple] = []
    built = _run(tmp_path / "j.jsonl", 4 * ROUND, progress=lambda *step: said.append(step))
    assert built.funnel["candidates"] == 4 * ROUND
    assert sum(built.funnel.values()) == 8 * ROUND
    asked = [record.instruction for record in built.records]
    assert sorted(asked) == sorted(QUESTIONS)  # each new question once, however often it was written
    assert all(record.output == ANSWER and record.source == "self-instruct:bigram" for record in built.records)
    assert all(record.documents[0].endswith(".md") and record.input == "" for record in built.records)
    assert set(built.funnel) == {
        "candidates",
        "dropped: question: like one already there (ROUGE-L 0.7 or more)",
        "kept",
    }
    assert said[-1] == ("passages asked about", 4 * ROUND, 4 * ROUND, "2 records kept")


@pytest.mark.parametrize("damage", ["none", "torn line", "half a round"])
def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path, damage):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    expected = _run(whole, 3 * ROUND)
    _run(parts, 2 * ROUND)
    lines = parts.read_bytes().splitlines(keepends=True)
    if damage == "torn line":
        parts.write_bytes(b"".join(lines) + whole.read_bytes().splitlines()[len(lines)][:20])
    elif damage == "half a round":
        parts.write_bytes(b"".join(lines[:-3]))
    assert _run(parts, 3 * ROUND) == expected
    assert parts.read_bytes() == whole.read_bytes()


def test_the_last_round_may_be_short(tmp_path):
    journal = tmp_path / "j.jsonl"
    built = self_instruct(_model(), _documents(ROUND + 3), NOBODY, journal, tries=100, seed=5)
    assert built.funnel["candidates"] == ROUND + 3
    assert self_instruct(_model(), _documents(ROUND + 3), NOBODY, journal, tries=100, seed=5) == built


def test_known_records_and_evaluation_questions_are_not_written_again(tmp_path):
    known = [Record(QUESTIONS[0], "", "x")]
    built = _run(tmp_path / "known.jsonl", 4 * ROUND, known=known)
    assert [record.instruction for record in built.records] == [QUESTIONS[1]]
    held_out = HeldOut([("q", QUESTIONS[1], None)])
    built = _run(tmp_path / "held.jsonl", 4 * ROUND, held_out=held_out)
    assert [record.instruction for record in built.records] == [QUESTIONS[0]]
    assert built.funnel["dropped: leak: the instruction holds an evaluation question"] > 0
    # A journal from before the evaluation file was there gives nothing away either.
    _run(tmp_path / "old.jsonl", 4 * ROUND)
    assert _run(tmp_path / "old.jsonl", 4 * ROUND, held_out=held_out).records == built.records


def test_a_journal_of_another_run_or_a_damaged_one_is_refused(tmp_path):
    journal = tmp_path / "j.jsonl"
    _run(journal, ROUND)
    with pytest.raises(UserError, match=r"j\.jsonl belongs to another run: passages, seed differ"):
        self_instruct(_model(), _documents(36), NOBODY, journal, tries=ROUND, seed=6)
    with pytest.raises(UserError, match="belongs to another run: passages differ"):
        self_instruct(_model(), _documents(35), NOBODY, journal, tries=ROUND, seed=5)
    lines = journal.read_text(encoding="utf-8").splitlines()
    for bad in ("{", json.dumps({"question": "x"}), "[]"):
        journal.write_text("\n".join([lines[0], bad, *lines[2:]]) + "\n", encoding="utf-8")
        with pytest.raises(UserError, match="is damaged"):
            _run(journal, ROUND)
    journal.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="another run"):
        _run(journal, ROUND)


def test_what_cannot_be_asked_about(tmp_path):
    with pytest.raises(UserError, match="no section has 30 to 160 words"):
        self_instruct(_model(), [Document("a.md", "A", "# A\n\nShort.\n")], NOBODY, tmp_path / "j", tries=8, seed=0)
    with pytest.raises(UserError, match="tries is 0"):
        _run(tmp_path / "j", 0)
    with pytest.raises(UserError, match="does not fit into the 80 tokens that bigram reads"):
        self_instruct(_model(80), _documents(8), NOBODY, tmp_path / "j", tries=8, seed=0)


def test_examples_are_of_ours_and_of_what_was_kept_and_as_many_as_fit():
    import random

    kept = [("Kept page\nA passage that was kept.", "What was kept?")]
    text = _question_prompt(_model(), "New page\nA new passage.", kept, random.Random(0)).text
    assert text.endswith("\n\nTopic: New page\nPassage: A new passage.\nQuestion:")
    assert text.count("Question:") == 4
    assert "Passage: A passage that was kept.\nQuestion: What was kept?\n" in text
    assert _question_prompt(_model(150), "New page\nA new passage.", [], random.Random(0)).text.count("Question:") in (2, 3)


PASSAGE = "Soft delete\nA vault keeps deleted secrets for 90 days unless Azure Policy sets 30. Owners recover them by name."


@pytest.mark.parametrize(
    ("question", "finish", "fault"),
    [
        ("How many days does a vault keep deleted secrets?", "stop", ""),
        ("How can I recover secrets as an owner?", "stop", ""),
        ("How many days does a vault keep deleted secrets?", "length", "question: did not end, or began to repeat itself"),
        ("", "end", "question: not 4 to 40 words"),
        ("Who recovers secrets?", "stop", "question: not 4 to 40 words"),
        ("how many days does a vault keep secrets?", "stop", "question: not in the form of one"),
        ("How many days does a vault keep", "stop", "question: not in the form of one"),
        ("Question: How many days does a vault keep secrets?", "stop", "question: not in the form of one"),
        ("How many days does this passage keep secrets?", "stop", "question: speaks of the passage"),
        ("What do the deleted secrets above need?", "stop", "question: speaks of the passage"),
        ("Which port does the web server listen on?", "stop", "question: under 60% of its words are from the passage"),
        ("Do deleted secrets of a vault stay for 45 days?", "stop", "question: a name or number that the passage does not have"),
        ("How does Terraform recover deleted secrets?", "stop", "question: a name or number that the passage does not have"),
        ("For how many days is a deleted backup kept?", "stop", "question: like one already there (ROUGE-L 0.7 or more)"),
    ],
)
def test_filters_of_questions(question, finish, fault):
    novelty = Novelty(["For how many days is a deleted backup kept here?"])
    passage = f"{PASSAGE} A backup is kept." if "backup" in question else PASSAGE
    assert _question_fault(question, Completion(question, finish, 9, 0.1), passage, novelty, NOBODY) == fault


@pytest.mark.parametrize(
    ("answer", "finish", "fault"),
    [
        ("It keeps them for 90 days.", "end", ""),
        ("It keeps them for 90 days unless Azure Policy sets 30.", "end", ""),
        ("It keeps them for 90 days.", "loop", "answer: did not end, or began to repeat itself"),
        ("90 days.", "end", "answer: not 3 to 80 words"),
        ("It keeps them for 90 days and", "end", "answer: not in the form of one"),
        ("It keeps them for 90 days: ``` x ```.", "end", "answer: not in the form of one"),
        ("According to the passage, for 90 days.", "end", "answer: speaks of the passage"),
        ("For how many days does a vault keep deleted secrets.", "end", "answer: says the question again"),
        ("It keeps them for 120 days.", "end", "answer: a name or number that the passage does not have"),
        ("It keeps them by Terraform for days.", "end", "answer: a name or number that the passage does not have"),
        (
            "It stores everything within another geographical region.",
            "end",
            "answer: under 80% of its words are from the passage, or nothing new",
        ),
        ("A deleted vault is deleted.", "end", "answer: under 80% of its words are from the passage, or nothing new"),
    ],
)
def test_filters_of_answers(answer, finish, fault):
    question = "For how many days does a vault keep deleted secrets?"
    assert _answer_fault(answer, Completion(answer, finish, 9, 0.1), question, PASSAGE, NOBODY) == fault
