"""The command line as a user meets it: output, exit codes, and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from rag_vs_ft.cli import main

DOCUMENTS = {
    "aks/pools.md": "---\ntitle: Pools\nms.service: aks\nms.date: 01/02/2026\n---\n# Node pools\n\nA pool has 1 to 1000 nodes.\n",
    "vault/keys.md": "# Vault\n\nA deleted key vault is kept 90 days.\n\n## Port\n\nThe port is 443.\n",
    "faq.yml": "### YamlMime:FAQ\ntitle: FAQ\nsections:\n- name: A\n  questions:\n  - question: Q?\n    answer: A.\n",
    "LICENSE.md": "# Licence\n",
}


@pytest.fixture
def run(home, monkeypatch, capsys):
    """Run one command line; returns (exit code, standard output, standard error)."""
    monkeypatch.setenv("RAG_VS_FT_HOME", str(home.root))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)

    def go(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rag-vs-ft", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


@pytest.fixture
def folder(tmp_path):
    for name, text in DOCUMENTS.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "docs"


@pytest.fixture
def built(run, folder, tiny_embedder):
    assert run("corpus", "add", "docs", folder)[0] == 0
    assert run("index", "build", "docs", "--embedder", tiny_embedder, "--precision", "fp32", "--chunk-size", "32")[0] == 0
    return folder


def test_documents_to_hits(run, built) -> None:
    code, out, _ = run("corpus", "info", "docs")
    assert code == 0 and "2 documents" in out and "FAQ YAML" in out
    code, out, _ = run("search", "deleted key vault", "--index", "docs", "-k", "1", "--json")
    found = json.loads(out)
    assert code == 0 and found["index_generation"] == "gen-000001"
    (hit,) = found["hits"]
    assert {"rank", "chunk_id", "document_id", "title", "heading", "text", "score", "url"} <= hit.keys()
    assert hit["document_id"] == "vault/keys.md" and hit["text"] == "A deleted key vault is kept 90 days."
    code, out, _ = run("search", "port", "--index", "docs", "--explain", "--service", "aks")
    assert code == 0 and "vault/keys.md" not in out
    code, out, _ = run("search", "port 443", "--index", "docs", "--explain")
    assert "matched: port, 443, port 443" in out and "sum: 0.4444*1.0000" in out


def test_update_verify_rollback(run, built) -> None:
    code, out, _ = run("index", "update", "docs")
    assert code == 0 and "nothing has changed" in out
    (built / "vault/keys.md").write_text("# Vault\n\nA deleted key vault is kept 30 days.\n", encoding="utf-8")
    code, out, err = run("corpus", "update", "docs")
    assert code == 0 and "1 changed" in out and "index update" in err
    code, out, _ = run("index", "update", "docs", "--json")
    result = json.loads(out)
    assert result["published"] and result["counts"]["embedded"] == 1 and result["counts"]["chunks_removed"] == 2
    assert "30 days" in run("search", "deleted", "--index", "docs", "-k", "1")[1]
    assert run("index", "verify", "docs")[0] == 0
    code, out, _ = run("index", "rollback", "docs")
    assert code == 0 and "gen-000001" in out
    assert "90 days" in run("search", "deleted", "--index", "docs", "-k", "1")[1]
    code, out, _ = run("index", "list", "--json")
    assert json.loads(out) == {"indexes": ["docs"]}
    assert "gen-000002" in run("index", "info", "docs")[1]


def test_verify_exits_with_1_and_names_the_damage(run, built, home) -> None:
    path = home.indexes / "docs" / "gen-000001" / "faiss.index"
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    code, _, err = run("index", "verify", "docs")
    assert code == 1 and "faiss.index" in err and "index rollback docs" in err
    path.write_bytes(data[:-10])
    code, _, err = run("search", "vault", "--index", "docs")
    assert code == 1 and "no generation of index 'docs' is whole" in err and "index build docs" in err


def test_eval_retrieval_prints_the_contract(run, built, tmp_path) -> None:
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"id": "a", "question": "How long is a deleted vault kept?", "answer": "90 days", "gold_documents": ["vault/keys.md"]},
        {"id": "b", "question": "How many nodes?", "answer": "1000", "gold_documents": ["aks/pools.md"]},
        {"id": "c", "question": "Who?", "answer": None, "gold_documents": [], "answerable": False},
    ]
    defaults = {"choices": None, "answer_index": None, "answerable": True, "source": "test", "tags": []}
    questions.write_text("".join(json.dumps(defaults | row) + "\n" for row in rows), encoding="utf-8")
    code, out, _ = run("eval-retrieval", "--index", "docs", "--questions", questions, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["questions"] == 2 and result["left_out"] == 1
    assert {"ndcg_at_10", "recall_at_5", "recall_at_10", "mrr_at_10", "latency_ms_p50"} <= result.keys()
    assert result["recall_at_10"] == 1.0
    assert run("questions", "check", questions, "--corpus", "docs")[0] == 0
    questions.write_text(json.dumps(defaults | rows[0] | {"gold_documents": ["gone.md"]}) + "\n{", encoding="utf-8")
    code, _, err = run("questions", "check", questions, "--corpus", "docs")
    assert code in (1, 2) and f"{questions}" in err


def test_opening_test_questions_by_retrieval_alone_is_written_into_the_ledger(run, built, home, tmp_path) -> None:
    rows = [
        {"id": "a", "question": "How long is a deleted vault kept?", "gold_documents": ["vault/keys.md"], "split": "test"},
        {"id": "b", "question": "How many nodes?", "gold_documents": ["aks/pools.md"], "split": "dev"},
    ]
    defaults = {"answer": None, "choices": None, "answer_index": None, "answerable": True, "source": "test", "tags": []}
    questions, ledger = tmp_path / "questions.jsonl", home.results / "openings.jsonl"
    questions.write_text("".join(json.dumps(defaults | row) + "\n" for row in rows), encoding="utf-8")
    words = ["eval-retrieval", "--index", "docs", "--questions", questions, "--json"]
    assert "openings" not in json.loads(run(*words)[1]) and not ledger.exists()
    assert json.loads(run(*words, "--split", "test")[1])["openings"] == {"times": 1, "configurations": 1}
    assert json.loads(run(*words, "--split", "test")[1])["openings"] == {"times": 1, "configurations": 1}
    code, out, _ = run(*words, "--split", "test", "--retriever", "bm25")
    assert code == 0 and json.loads(out)["openings"] == {"times": 2, "configurations": 2}
    ledger.write_text("null\n")
    code, _, err = run(*words, "--split", "test")
    assert code == 1 and "openings.jsonl:1" in err
    ledger.unlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search", "", "--index", "docs"], "question is empty"),
        (["search", "x", "-k", "0", "--index", "docs"], "k=0"),
        (["search", "x", "--index", "none"], "there is no index 'none'"),
        (["search", "x", "--index", "docs", "--retriever", "sparse"], "'sparse'"),
        (["search", "x", "--index", "docs", "--since", "yesterday"], "is not a date"),
        (["ask", "x", "--index", "docs", "--context", "some"], "context 'some'"),
        (["ask", "x", "--index", "docs", "--model", "no-such-model"], "no-such-model"),
        (["ask", "  ", "--index", "docs"], "question is empty"),
        (["corpus", "add", "docs", "."], "exists"),
        (["corpus", "add", "new", "/no/such/folder"], "/no/such/folder"),
        (["corpus", "info", "none"], "no corpus 'none'"),
        (["index", "build", "none"], "no corpus 'none'"),
        (["index", "build", "docs", "--embedder", "none"], "none"),
        (["index", "build", "docs", "--chunk-size", "3"], "chunk size 3"),
        (["index", "update", "none"], "there is no index 'none'"),
        (["index", "rollback", "docs"], "no whole generation before"),
        (["models", "info", "none"], "none"),
        (["questions", "check", "/no/such/file"], "/no/such/file"),
        (["eval-retrieval", "--index", "docs", "--questions", "/no/such/file"], "/no/such/file"),
        (["eval", "/no/such/file"], "/no/such/file"),
        (["perplexity", "none", "--corpus", "docs", "--tokens", "0"], "--tokens is 0"),
        (["perplexity", "none", "--corpus", "docs", "--index", "docs", "--tokens", "-1"], "--tokens is -1"),
        (["report", "/no/such/folder"], "/no/such/folder"),
        (["train", "wish", "--preset", "nano", "--run", "x", "--corpus", "docs"], "'wish'"),
        (["train", "scratch", "--preset", "none", "--run", "x", "--corpus", "docs"], "none"),
        (["train", "scratch", "--preset", "nano", "--run", "x", "--corpus", "docs", "--set", "steps"], "'steps'"),
        (["train", "scratch", "--preset", "nano", "--run", "x", "--corpus", "none"], "no corpus 'none'"),
        (["sample", "no-such-model", "--prompt", "x"], "no-such-model"),
        (["tokenize", "x", "--tokenizer", "no-such-model"], "no-such-model"),
        (["instructions", "docs", "--out", "x.json", "--held-out", "/no/such/file"], "/no/such/file"),
        (["questions", "mine", "cloze", "none", "--out", "x.jsonl"], "no corpus 'none'"),
        (["questions", "mine", "updates", "docs", "docs", "--out", "x.jsonl"], "are the same"),
        (["questions", "mine", "quiz", "/no/such/folder", "--out", "x.jsonl"], "/no/such/folder"),
        (["ask", "x", "--index", "docs", "--4bit"], "4-bit"),
        (["ask", "x", "--index", "docs", "--engine", "llama.cpp"], "engine 'llama.cpp'"),
        (["nonsense"], "nonsense"),
        (["search"], "Missing argument"),
    ],
)
def test_bad_input_exits_with_2_says_what_and_shows_no_traceback(run, built, words, said) -> None:
    code, out, err = run(*words)
    assert code == 2, err
    assert said in err and "Traceback" not in err + out


def test_an_empty_folder_publishes_nothing(run, tmp_path, home) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = run("corpus", "add", "empty", tmp_path / "empty")
    assert code == 2 and "no documents" in err
    assert run("corpus", "list", "--json")[1].strip() == '{"corpora": []}'


def test_a_long_question_is_cut_with_a_notice(run, built) -> None:
    code, _, err = run("search", "vault " * 20_000, "--index", "docs")
    assert code == 0 and "2000 were used" in err


def test_every_verb_has_help_with_an_example(run) -> None:
    groups = {"": ["search", "ask", "demo", "eval-retrieval", "eval", "report", "train", "sample", "perplexity"]}
    groups[""] += ["tokenize", "instructions"]
    groups |= {"questions mine": ["faq", "quiz", "cloze", "updates"]}
    groups |= {"corpus": ["add", "update", "info", "list"], "models": ["list", "pull", "info"], "questions": ["check"]}
    groups |= {"index": ["build", "update", "verify", "rollback", "info", "list"]}
    for group, names in groups.items():
        for name in names:
            code, out, _ = run(*group.split(), name, "--help")
            assert code == 0 and "Example: rag-vs-ft" in " ".join(out.split()), (group, name)


def test_the_package_imports_in_half_a_second_without_heavy_libraries() -> None:
    code = (
        "import sys, time; start = time.process_time(); import rag_vs_ft, rag_vs_ft.cli; "
        "took = time.process_time() - start; "
        "heavy = {'torch', 'transformers', 'faiss', 'pyarrow', 'sentence_transformers', 'streamlit'} & set(sys.modules); "
        "print(took, sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(out.split()[0]) < 0.5 and out.split(maxsplit=1)[1].strip() == "[]"


def test_ask_extractive_answers_with_sentences_of_the_passages(run, built, home) -> None:
    code, out, err = run("ask", "How long is a deleted key vault kept?", "--index", "docs", "--model", "extractive", "--json")
    answer = json.loads(out)
    assert code == 0, err
    if answer["finish"] != "not relevant":  # the tiny embedder is random
        assert "A deleted key vault is kept 90 days." in answer["answer"] and answer["citations"]
    assert answer["model"] == "extractive" and answer["engine"] == "" and answer["completion_tokens"] == 0
    code, _, err = run("ask", "Why?", "--model", "extractive", "--context", "none")
    assert code == 2 and "taken from passages" in err
    (home.runs / "extractive").mkdir(parents=True)
    code, _, err = run("ask", "Why?", "--index", "docs", "--model", "extractive")
    assert code == 2 and "run:extractive" in err


def test_an_interrupt_exits_with_130_and_a_closed_pipe_says_nothing(run, built, monkeypatch, home) -> None:
    from rag_vs_ft.index.search import Index

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Index, "search", interrupt)
    code, _, err = run("search", "vault", "--index", "docs")
    assert code == 130 and "Traceback" not in err
    shell = f"{sys.executable} -m rag_vs_ft corpus info docs --home {home.root} | head -c 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_module_and_script_are_the_same(home) -> None:
    done = subprocess.run([sys.executable, "-m", "rag_vs_ft", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0.1.0"


def test_search_can_be_explained_filtered_and_reranked(run, built, tmp_path) -> None:
    from tiny import save_cross_encoder, save_gpt2

    words = ["search", "a pool of nodes kept", "--index", "docs"]
    _, out, _ = run(*words, "--explain", "--fusion", "rrf")
    assert "matched: pool, node" in out and "rrf: 1/(60+" in out and "bm25: rank 1" in out
    code, out, _ = run(*words, "--path", "vault/", "--json", "--explain")
    hits = json.loads(out)["hits"]
    assert code == 0 and {hit["document_id"] for hit in hits} == {"vault/keys.md"} and "sum: 0." in hits[0]["explain"]["score"]
    code, _, err = run(*words, "--service", "none")
    assert code == 0 and "try wider filters" in err
    cross = save_cross_encoder(tmp_path / "cross")
    for name in (cross, f"lm:{save_gpt2(tmp_path / 'lm')}"):
        code, out, err = run(*words, "--rerank", name, "--rerank-depth", "2", "--json")
        hits = json.loads(out)["hits"]
        assert code == 0 and sorted(hit["rerank"]["rank_before"] for hit in hits[:2]) == [1, 2], err
        assert hits[0]["rerank"]["score"] >= hits[1]["rerank"]["score"] and "rerank" not in hits[2]
    code, out, _ = run(*words, "--rerank", cross, "--explain")
    assert code == 0 and "reranked from" in out
    code, _, err = run(*words, "--rerank", "cross-encoder/not-here")
    assert code == 2 and "models pull cross-encoder/not-here" in err
    assert run(*words, "--rerank", cross, "--rerank-depth", "0")[0] == 2


def test_ask_and_eval_retrieval_take_filters_and_a_reranker(run, built, tmp_path) -> None:
    from tiny import save_llama

    words = ["ask", "How long is a deleted key vault kept?", "--index", "docs", "--model", save_llama(tmp_path / "model")]
    code, out, err = run(*words, "--max-new-tokens", "4", "--path", "aks/", "--rerank", "lm", "--json")
    hits = json.loads(out)["hits"]
    assert code == 0 and hits and {hit["document_id"] for hit in hits} == {"aks/pools.md"} and "rerank" in hits[0], err
    code, _, err = run(*words, "--since", "last week")
    assert code == 2 and "YYYY-MM-DD" in err
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"id": "a", "question": "How long is a deleted vault kept?", "gold_documents": ["vault/keys.md"]},
        {"id": "b", "question": "How many nodes?", "gold_documents": ["aks/pools.md"]},
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["eval-retrieval", "--index", "docs", "--questions", questions, "--json"]
    code, out, err = run(*words, "--service", "aks")
    result = json.loads(out)
    assert code == 0 and result["recall_at_10"] == 0.5 and result["missing_gold_documents"] == ["vault/keys.md"]
    assert "what the filters leave" in err and result["filters"]["service"] == "aks"
    code, out, _ = run(*words, "--rerank", f"lm:{tmp_path / 'model'}", "--rerank-depth", "2")
    assert code == 0 and json.loads(out)["rerank"] == {"name": f"lm:{tmp_path / 'model'}", "depth": 2}
    assert run(*words, "--split", "train")[0] == 2


def test_a_beir_set_is_added_indexed_and_scored_as_trec_eval_does(run, tmp_path, tiny_embedder) -> None:
    import pytrec_eval

    folder = tmp_path / "toy"
    (folder / "qrels").mkdir(parents=True)
    topics = ["node pool", "key vault", "disk image", "network policy", "storage zone", "backup region"]
    corpus = [
        {"_id": f"{number}", "title": f"{topic} {number % 7}", "text": f"The {topic} limit is {number}.", "metadata": {}}
        for number, topic in enumerate(topics * 5)
    ]
    asked = [*(f"{topic} limit" for topic in topics), "zebra"]
    queries = [{"_id": f"q{number}", "text": text, "metadata": {}} for number, text in enumerate(asked)]
    judged = {f"q{query}": {str(query + 6 * i): i % 3 for i in range(5)} for query in range(6)} | {"q6": {"0": 1, "gone": 2}}
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in corpus), encoding="utf-8")
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in queries), encoding="utf-8")
    qrels = [f"{query}\t{document}\t{grade}" for query, grades in judged.items() for document, grade in grades.items()]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *qrels]) + "\n", encoding="utf-8")

    assert run("corpus", "add", "toy", f"jsonl:{folder / 'corpus.jsonl'}")[0] == 0
    assert run("index", "build", "toy", "--embedder", tiny_embedder, "--precision", "fp32", "--chunk-size", "32")[0] == 0
    words = ["eval-retrieval", "--index", "toy", "--questions", folder, "--retriever", "bm25"]
    code, out, err = run(*words, "--split", "test", "--json")
    assert code == 0 and "gone" in err, err
    result = json.loads(out)
    run_of = {
        row["question_id"]: {d: -float(at) for at, d in enumerate(row["ranking"])} for row in result["rows"] if row["ranking"]
    }
    assert "q6" not in run_of  # no word of it is anywhere: trec_eval leaves it out, and it counts as zero here
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "recall.5,10", "recip_rank"}).evaluate(run_of)
    for ours, name in {"ndcg_at_10": "ndcg_cut_10", "recall_at_5": "recall_5", "mrr_at_10": "recip_rank"}.items():
        assert result[ours] == pytest.approx(sum(scores[name] for scores in theirs.values()) / len(judged), abs=1e-9)
    assert 0.5 < result["ndcg_at_10"] < 1
    code, _, err = run(*words, "--split", "dev")
    assert code == 2 and "splits" in err and "test" in err


def test_ask_answers_with_sources_and_shows_the_prompt(run, built, tmp_path) -> None:
    from tiny import save_llama

    model = save_llama(tmp_path / "model")
    words = ["ask", "How long is a deleted key vault kept?", "--index", "docs", "--model", model, "--max-new-tokens", "8"]
    code, out, err = run(*words, "--json", "--show-prompt")
    assert code == 0, err
    answer = json.loads(out)
    contract = ["answer", "citations", "hits", "prompt_tokens", "completion_tokens", "seconds", "model", "index_generation"]
    assert set(contract) <= answer.keys()
    assert answer["index_generation"] == "gen-000001" and 0 < answer["completion_tokens"] <= 8
    assert "A deleted key vault is kept 90 days." in answer["prompt"]
    code, out, err = run(*words)
    assert code == 0 and out.startswith(answer["answer"][:3]) and "Sources" in out and "vault/keys.md" in out
    code, out, _ = run(*words, "--context", "none", "--json")
    assert code == 0 and json.loads(out)["hits"] == [] and json.loads(out)["index_generation"] is None
    assert (
        run(*words, "--temperature", "0.8", "--seed", "3", "--json")[1].split('"seconds"')[0]
        == (run(*words, "--temperature", "0.8", "--seed", "3", "--json")[1].split('"seconds"')[0])
    )


def test_ask_names_the_engine_that_answered(run, built, tmp_path, monkeypatch) -> None:
    from importlib.util import find_spec

    from tiny import save_llama

    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    words = ["ask", "How long?", "--context", "none", "--model", save_llama(tmp_path / "model"), "--max-new-tokens", "8"]
    code, out, err = run(*words)
    assert code == 0 and "by transformers" in err and "OpenVINO" not in err
    monkeypatch.setenv("RAG_VS_FT_ENGINE", "openvino")
    code, by_environment, err = run(*words, "--json")
    if find_spec("openvino"):
        assert json.loads(by_environment)["engine"] == "openvino float32" and "instead of" not in err
    else:
        assert "note: transformers answers instead of OpenVINO: it is not installed" in err
    assert json.loads(by_environment)["answer"] == out.strip()
    code, out, _ = run(*words, "--engine", "transformers", "--json")
    assert code == 0 and json.loads(out)["engine"] == "transformers"


def test_ask_says_when_nothing_relevant_was_found(run, built, tmp_path, monkeypatch) -> None:
    from tiny import save_llama

    from rag_vs_ft import settings

    monkeypatch.setattr(settings, "RELEVANT_COSINE", 1.01)
    model = save_llama(tmp_path / "model")
    code, out, err = run("ask", "Who won the match?", "--index", "docs", "--model", model)
    assert code == 0 and "Nothing relevant was found" in out and "was not asked" in err


def test_questions_mined_from_faq_and_updates_can_be_checked(run, home, tmp_path) -> None:
    for name, source in (("old", "sample"), ("new", "sample:update")):
        assert run("corpus", "add", name, source)[0] == 0
    faq, updates, records = tmp_path / "faq.jsonl", tmp_path / "updates.jsonl", tmp_path / "records.json"
    code, out, _ = run("questions", "mine", "faq", "old", "--out", faq)
    assert code == 0 and "candidates" in out
    code, out, _ = run("questions", "mine", "updates", "old", "new", "--out", updates, "--json")
    assert code == 0 and json.loads(out)["questions"] >= 20
    assert all(json.loads(line)["answer"] for line in updates.read_text(encoding="utf-8").splitlines())
    code, out, _ = run("instructions", "old", "--out", records, "--held-out", updates, "--faq", faq)
    assert code == 0 and "leak" in out
    assert all(record["output"] for record in json.loads(records.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_a_model_trained_here_answers_writes_and_is_compared(run, home, tmp_path) -> None:
    """train, sample, ask, eval and report on the packaged sample, with as few steps and questions as there can be."""
    assert run("corpus", "add", "sample", "sample")[0] == 0
    changes = ("steps=4", "eval_every=2", "rows_per_step=2", "batch_size=2", "eval_rows=4")
    quick = [word for change in changes for word in ("--set", change)]
    code, out, err = run("train", "scratch", "--corpus", "sample", "--preset", "nano", "--run", "nano", *quick, "--json")
    assert code == 0, err
    assert json.loads(out)["steps"] == 4 and "parameters" in err
    code, out, _ = run("sample", "nano", "--prompt", "A node pool", "--max-new-tokens", "8")
    assert code == 0 and out.startswith("A node pool")
    assert out == run("sample", "nano", "--prompt", "A node pool", "--max-new-tokens", "8")[1]
    code, out, _ = run("tokenize", "az aks", "--tokenizer", "nano", "--json")
    assert code == 0 and "".join(token["text"] for token in json.loads(out)["tokens"]) == "az aks"
    assert run("index", "build", "sample")[0] == 0
    code, out, err = run("perplexity", "nano", "--corpus", "sample", "--documents", "2", "--json")
    assert code == 0 and "WARNING" not in err
    (plain,) = json.loads(out)["scores"]
    assert (plain["documents"], plain["window"], plain["stride"]) == (2, 256, 128) and 1 < plain["bits_per_byte"] < 9
    words = (
        "perplexity",
        "nano",
        "--corpus",
        "sample",
        "--documents",
        "1",
        "--index",
        "sample",
        "--tokens",
        "40",
        "--stride",
        "16",
    )
    (both,) = json.loads(run(*words, "--json")[1])["retrieval"]
    assert both["none"]["bytes"] == both["retrieved"]["bytes"] and both["none"]["tokens"] == 40
    assert (both["strides"], both["without_passage"]) == (3, 1)
    code, out, _ = run(*words)
    assert code == 0 and [line.split()[1] for line in out.splitlines()] == ["passage", "passage"]
    code, out, _ = run("ask", "How many nodes?", "--model", "nano", "--max-new-tokens", "4", "--json")
    assert code == 0 and json.loads(out)["model"] == "nano"
    experiment = tmp_path / "tiny.toml"
    experiment.write_text(
        'name = "tiny"\ncorpus = "sample"\nindex = "sample"\nquestions = ["sample"]\n'
        'baseline = "alone"\nvalidation_documents = 0\n'
        '[choose]\nk = [1]\nscore = ["pmi"]\nquestions = 4\n[answers]\nquestions = 2\nmax_new_tokens = 4\n'
        '[[arms]]\nname = "alone"\nmodel = "nano"\ncontext = "none"\n'
        '[[arms]]\nname = "retrieval"\nmodel = "nano"\ncontext = "retrieved"\nk = 1\n',
        encoding="utf-8",
    )
    code, out, err = run("eval", experiment, "--limit", "6", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert {arm["arm"] for arm in summary["arms"]} == {"alone", "retrieval"}
    folder = home.results / "tiny"
    for name in ("experiment.toml", "manifest.json", "predictions.jsonl", "summary.json", "report.md", "report.html"):
        assert (folder / name).is_file()
    assert run("report", folder)[0] == 0
    assert run("report", folder, folder, "--gate")[0] == 0
    code, _, err = run("eval", experiment, "--limit", "6")
    assert code == 2 and "--resume" in err
