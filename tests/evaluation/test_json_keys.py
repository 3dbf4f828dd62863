"""The keys of every verb's `--json`: scripts read them, so they change on purpose or not at all."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rag_vs_ft import cli, feedback, files, jobs, pulling, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.index import build, generations
from rag_vs_ft.records import Answer
from rag_vs_ft.training.record import Plan, RunOutcome
from rag_vs_ft.training.train import RunResult

MAPS = frozenset(
    {
        *("arguments", "balance", "by_tag", "commits", "evidence", "failed", "files", "finish", "funnel", "intervals", "kinds"),
        *("languages", "matched", "note_examples", "notes", "restricted", "seconds", "settings", "skipped", "skipped_examples"),
        *("splits", "summary", "tags", "damaged", "finished"),
    }
)
"""Objects whose keys are data (reasons, kinds, tags, names of files): written as `*`."""

FAQ = """### YamlMime:FAQ
title: Questions about vaults
sections:
- name: Vaults
  questions:
  - question: How long is a deleted vault kept?
    answer: A deleted vault is kept for 90 days. See [vaults](page.md).
  - question: Which port does a vault listen on?
    answer: A vault listens on port 443.
"""
CORPUS = """
code_version commits(*) counts(bytes characters documents source_bytes tokens words) created dialect
dialects[chosen configuration(*) dialect evidence(*) files folder] format groups include_faq kinds(*) language languages(*) name
note_examples(*) notes(*) restricted(*) sha256 skipped(*) skipped_examples(*) source source_kind table table_bytes table_sha256
tokenizer written
"""
CHANGES = "changes(added changed relabelled removed unchanged)"
COUNTS = "counts(chunks chunks_added chunks_kept chunks_removed documents embedded reused tokens unique_texts)"
HITS = """
hits[bm25(rank score) chunk_id dense(rank score) document(bm25_rank dense_rank) document_id heading rank score text title url]
"""
JOB = "arguments(*) created detail done hint id left notes pid seconds stage started state title total work"
MODEL = """
files(*) hub kind licence name note parameters path problem revision source state weights_sha256 wheel window
"""
KEYS = {
    "corpus add": f"(changes {CORPUS})",
    "corpus update": f"({CHANGES} {CORPUS})",
    "corpus info": f"(changes {CORPUS})",
    "corpus list": f"(corpora[changes {CORPUS}])",
    "index verify": "(faults generation index ok)",
    "index info": f"""
        (generations index manifest(analyzer(names pairs stem stop_words version) bm25(b backend k1)
        chunker(around limit size version) code_version corpus(commits(*) created name sha256 source table) {COUNTS} created
        dense(kind) embedder(dimension engine layout max_tokens name precision sha256) files(*) format generation languages(*)
        seconds(*) seconds_in_all threads vectors(version)))
    """,
    "index list": "(indexes)",
    "index build": f"({COUNTS} generation index published seconds(*))",
    "index update": f"({COUNTS} generation index published seconds(*))",
    "index rollback": "(generation index)",
    "corpus verify": "(corpus faults ok)",
    "runs list": "(damaged(*) runs)",
    "results list": "(damaged(*) finished(*) stopped)",
    "models verify": "(faults model ok)",
    "doctor": "(found[faults kind name ok todo] ok)",
    "search": f"({HITS} index_generation notices)",
    "ask": f"""
        (answer citations completion_tokens dropped_hits engine finish {HITS} index_generation model notices prompt_tokens
        seconds)
    """,
    "eval-retrieval": """
        (chunks file filters fusion index index_generation intervals(*) latency_ms_p50 latency_ms_p99 left_out
        missing_gold_documents mrr_at_10 ndcg_at_10 questions recall_at_10 recall_at_5 rerank retriever
        rows[gold_documents milliseconds question_id ranking scores(mrr_at_10 ndcg_at_10 recall_at_10 recall_at_5)]
        split splits(*))
    """,
    "feedback list": """
        (agreements[kappa other rated rater share]
        feedback[answer answer_id chunk_ids generation index_name model note question settings(*) thumb time]
        preferences[arm both_bad interval losses other share ties wins])
    """,
    "feedback export": "(file rows)",
    "jobs list": f"(jobs[{JOB}])",
    "jobs cancel": f"({JOB})",
    "models list": f"(models[bytes {MODEL}])",
    "models info": f"(bytes device(device dtype reason threads) {MODEL})",
    "questions check": "(faults ok path questions summary(*))",
    "questions mine": "(balance(*) file funnel(*) questions)",
    "tokenize": "(tokenizer tokens[id text])",
}
SLOW_KEYS = {
    "eval": """
        (arms[abstention(refused_answerable_by_answer refused_answerable_by_search refused_unanswerable_by_answer
        refused_unanswerable_by_search risk_coverage_area) adapter answered arm bits_per_byte bits_per_byte_ci by_tag(*)
        calibration(bins[accuracy confidence questions] error) choice_accuracy choice_accuracy_by_score(per_byte pmi sum)
        choice_accuracy_ci choice_accuracy_clean citations(answers citing precision) context
        context_quality(answer_in_prompt dropped gold_in_prompt mrr ndcg recall)
        cost(index_bytes index_seconds model_bytes parameters peak_memory_bytes training_flops training_seconds training_tokens)
        em errors f1 f1_ci fact_recall fact_recall_ci finish(*) flops_per_question
        groundedness groundedness_ci k
        known(accuracy_on_known accuracy_on_unknown destroyed gained known unknown) letter_accuracy letter_accuracy_ci margin
        margin_ci model n peak_memory_bytes retriever rouge_l seconds_are_of seconds_per_question seconds_per_right_answer
        tokens_per_question] baseline break_even by_score[best choice_accuracy difference holm_p interval score]
        context_gains experiment failed(*) folder freshness openings(configurations times)
        pairs[a b better detectable difference holm_p interval mcnemar_p
        measure n p_value planned same worse] primary_score
        questions(chance clusters effective_clusters flagged longest_choice n tags(*) unanswerable with_choices)
        retrieval(bm25(chunks intervals(*) left_out mrr_at_10 ndcg_at_10 questions recall_at_10 recall_at_5 splits(*))) run
        skipped(*) verdict)
    """,
    "report": """
        (comparisons[after arms[after arm before better detectable difference holm_p interval lost p_value questions same worse]
        before only_in_one regressions score scored_otherwise])
    """,
    "perplexity": """
        (corpus model scores[bits_per_byte bytes documents stride token_perplexity tokens window word_perplexity words] side
        trained_on_validation weights_sha256)
    """,
}
"""Verb -> its keys; nested ones in parentheses, those of a list's objects in brackets."""


def keys_of(text: str) -> dict[str, Any]:
    """A text of keys as a tree, so that their order and the lines of this file say nothing."""
    words = re.findall(r"[\w*-]+|[()\[\]]", text)

    def read(at: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while at < len(words) and words[at] not in ")]":
            if words[at] in "([":
                inner, end = read(at + 1)
                found[f"{last} {words[at]}" if (last := next(reversed(found), "")) else words[at]] = inner
                at = end + 1
            else:
                found[words[at]] = {}
                at += 1
        return found, at

    return read(0)[0]


def shape(value: Any, key: str = "") -> str:
    """The keys of a JSON value in the form of `KEYS`: of a list's objects those that any has."""
    if isinstance(value, dict) and (key in MAPS or not value):
        return "(*)"
    if isinstance(value, dict):
        return "(" + " ".join(name + shape(part, name) for name, part in sorted(value.items())) + ")"
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return "[" + shape({name: part for row in value for name, part in row.items()})[1:-1] + "]"
    return ""


def test_the_shape_names_nested_keys() -> None:
    value = {"b": 1, "a": {"c": [{"d": 1}, {"e": None}]}, "skipped": {"no text": 2}}
    assert shape(value) == "(a(c[d e]) b skipped(*))"
    assert keys_of(shape(value)) == keys_of("(b skipped(*) a(c[e d]))")
    for other in ("(b skipped(*) a(c[e]))", "(b skipped(*) a(c(e d)))", "(b skipped(*) a(c[e d f]))", "(b skipped a(c[e d]))"):
        assert keys_of(shape(value)) != keys_of(other)


@pytest.fixture(scope="module")
def place(world: Path, tmp_path_factory: pytest.TempPathFactory) -> settings.Home:
    """A home with the world's index, an answer with a thumb, a rating, and a job that ended."""
    home = settings.home(tmp_path_factory.mktemp("json"))
    for part in ("corpora", "indexes"):
        (home.root / part).mkdir(parents=True)
        (home.root / part / "handbook").symlink_to(world / "home" / part / "handbook", target_is_directory=True)
    answer = Answer("13 units", (1,), (), 1, 1, 0.1, "model")
    feedback.store_feedback(home, "a", "Which limit?", answer, thumb=1)
    feedback.store_rating(home, "Which limit?", ("a", "b"), ("13", "14"), "first")
    feedback.store_rating(home, "Which limit?", ("a", "b"), ("13", "14"), "tie", "Ann")
    task = {"id": "20260101-1", "work": "index", "title": "Indexing", "arguments": {}, "started": 0.0, "pid": 1, "created": 0.0}
    end = {"state": "finished", "notes": [], "hint": "", "seconds": 1.0, "stage": "embed", "detail": ""}
    files.write_text(jobs.folder(home) / "20260101-1.jsonl", json.dumps(task) + "\n" + json.dumps(end) + "\n")
    return home


@pytest.fixture
def keys(place: settings.Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The keys of what a command prints with --json."""
    monkeypatch.setenv("RAG_VS_FT_HOME", str(place.root))
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(place.root / "cache"))  # what is in the user's own is not this test's

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["rag-vs-ft", *map(str, words), "--json"])
        try:
            cli.main()
        except SystemExit as stop:
            assert not stop.code, capsys.readouterr().err
        return shape(json.loads(capsys.readouterr().out))

    return run


def test_every_verb_prints_the_keys_that_it_always_did(
    world: Path, place: settings.Home, keys: Callable[..., str], tmp_path: Path
) -> None:
    model, questions, docs = world / "model", world / "questions.jsonl", tmp_path / "docs"
    files.write_text(docs / "faq.yml", FAQ)
    files.write_text(docs / "page.md", "# Vaults\n\nA deleted vault is kept for 90 days.\n")
    files.write_text(docs / "other.txt", "The port is 443.\n")
    pulling.pull("someone/model", source=model)
    embedder = generations.current(place.indexes / "handbook").manifest.inputs.embedder.name

    def second_generation() -> str:
        files.write_text(docs / "new.md", "# News\n\nThe port is 444.\n")
        store.update("docs", home=place)
        build.update("docs", place)
        return "docs"

    found = {
        "corpus add": keys("corpus", "add", "docs", docs),
        "corpus update": keys("corpus", "update", "docs"),
        "corpus info": keys("corpus", "info", "docs"),
        "corpus list": keys("corpus", "list"),
        "index verify": keys("index", "verify", "handbook"),
        "index info": keys("index", "info", "handbook"),
        "index list": keys("index", "list"),
        "index build": keys("index", "build", "docs", "--embedder", embedder, "--precision", "fp32", "--chunk-size", "32"),
        "index update": keys("index", "update", "handbook"),
        "index rollback": keys("index", "rollback", second_generation()),
        "corpus verify": keys("corpus", "verify", "docs"),
        "runs list": keys("runs", "list"),
        "results list": keys("results", "list"),
        "models verify": keys("models", "verify", "someone/model"),
        "doctor": keys("doctor"),
        "search": keys("search", "limit of alpha", "--index", "handbook"),
        "ask": keys("ask", "limit of alpha", "--index", "handbook", "--model", model, "--max-new-tokens", "3"),
        "eval-retrieval": keys("eval-retrieval", "--index", "handbook", "--questions", questions),
        "feedback list": keys("feedback", "list"),
        "feedback export": keys("feedback", "export", tmp_path / "feedback.jsonl"),
        "jobs list": keys("jobs", "list"),
        "jobs cancel": keys("jobs", "cancel", "20260101-1"),
        "models list": keys("models", "list"),
        "models info": keys("models", "info", "smollm2-135m-instruct"),
        "questions check": keys("questions", "check", questions),
        "questions mine": keys("questions", "mine", "faq", "docs", "--out", tmp_path / "faq.jsonl"),
        "tokenize": keys("tokenize", "a text", "--tokenizer", model),
    }
    assert {verb: keys_of(text) for verb, text in found.items()} == {verb: keys_of(text) for verb, text in KEYS.items()}


@pytest.mark.slow
def test_scores_have_the_keys_that_they_always_had(world: Path, place: settings.Home, keys: Callable[..., str]) -> None:
    found = {
        "eval": keys("eval", world / "experiment.toml", "--limit", "2", "--run", "one"),
        "report": keys("report", place.results / "one", place.results / "one"),
        "perplexity": keys("perplexity", world / "model", "--corpus", "handbook", "--documents", "1"),
    }
    assert {verb: keys_of(text) for verb, text in found.items()} == {verb: keys_of(text) for verb, text in SLOW_KEYS.items()}


def test_a_training_prints_the_keys_that_it_always_did(tmp_path: Path) -> None:
    names = {kind: [field.name for field in fields(kind)] for kind in (RunOutcome, Plan)}
    outcome, plan = (kind(**dict.fromkeys(names[kind], 0)) for kind in (RunOutcome, Plan))
    assert keys_of(shape(RunResult("nano", tmp_path, outcome, plan).to_json())) == keys_of("""
        (best_bits_per_byte best_loss best_step folder last_bits_per_byte last_loss loads name plan(arm device epochs flops notes
        parameters rows seconds steps tokens_per_step train_tokens trainable_parameters validation_tokens warnings) seconds steps
        stopped_early tokens_per_second why)
    """)
