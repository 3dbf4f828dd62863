"""A home with a small index, a cache with tiny models under the names of the defaults, and pages that run without a browser."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
import tiny
from streamlit import config
from streamlit.testing.v1 import AppTest

from rag_vs_ft import catalogue, jobs, settings
from rag_vs_ft.cli.app import find_main
from rag_vs_ft.corpus import store
from rag_vs_ft.index import build
from rag_vs_ft.serving import OPTIONS

HOSTILE = '<script>fetch("http://evil.example/s")</script> ![i](http://evil.example/i.png) [l](javascript:alert(1)) :red[x] $x$'
OLD_RUN = Path(__file__).parents[1] / "evaluation" / "finished_run"
DOCUMENTS = {
    "aks/pools.md": "# Node pools\n\nA node pool of a cluster has one to 1000 nodes.\n\n## Surge\n\nThe surge is 10 nodes.\n",
    "vault/keys.md": "# Vault\n\nA deleted key vault is kept for 90 days.\n\n## Port\n\nThe port of the vault is 443.\n",
    "hostile.md": f"# Odd {HOSTILE}\n\nThe secret port {HOSTILE} is 7.\n",
}
# Pages run in the test's own process, with Streamlit's defaults: of the server's options, what a script needs.
config.set_option("runner.magicEnabled", OPTIONS["runner.magicEnabled"])
RECIPE = build.Recipe(precision="fp32", chunk_size=32)


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory, tiny_embedder) -> Path:
    """A model cache whose default models are tiny ones."""
    cache = tmp_path_factory.mktemp("cache")
    models = cache / "models"
    shutil.copytree(tiny_embedder, models / settings.EMBEDDER)
    widen(models / settings.EMBEDDER, 256)
    (models / settings.LANGUAGE_MODEL).mkdir()
    tiny.save_llama(models / settings.LANGUAGE_MODEL, window=2048)
    for name in (settings.EMBEDDER, settings.LANGUAGE_MODEL):
        (models / name / catalogue.MANIFEST).write_text(json.dumps({"format": 1, "name": name, "files": {}}), encoding="utf-8")
    return cache


def widen(folder: Path, window: int) -> None:
    """Let the embedder in `folder` read `window` tokens, as the sample's chunks need."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(folder, max_position_embeddings=window)).save_pretrained(folder)
    for name, key in (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), key: window}), encoding="utf-8")


def chain(run: Path, texts: list[str], follow: Callable[[Any, int], dict[int, int]], layers: int = 2) -> str:
    """A run whose next token depends on the last one alone.

    `texts` become tokens; `follow` gets the tokenizer and the last token of a prompt, and says which token follows which.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run / "last"
    tiny.save_llama(folder, window=2048, layers=layers)
    (run / "run.json").write_text("{}", encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(texts)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        seen = torch.nn.functional.normalize(torch.randn(len(tokenizer), model.config.hidden_size), dim=-1)
        model.model.embed_tokens.weight.copy_(seen)
        model.lm_head.weight.zero_()
        for before, after in follow(tokenizer, tokenizer("assistant\n").input_ids[-1]).items():
            model.lm_head.weight[after] = seen[before] * 10
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return run.name


@pytest.fixture
def save_chain():
    return chain


@pytest.fixture
def parrot(home, hostile) -> str:
    """A run that answers every question with hostile text."""

    def follow(tokenizer: Any, asked: int) -> dict[int, int]:
        said = tokenizer.convert_tokens_to_ids(hostile)
        return {asked: said, said: tokenizer.eos_token_id}

    return chain(home.runs / "parrot", [hostile], follow)


@pytest.fixture
def endless(home) -> str:
    """A run that writes all its tokens in turn and never ends; its many layers do nothing and leave time to stop it."""

    def follow(tokenizer: Any, asked: int) -> dict[int, int]:
        others = [token for token in range(len(tokenizer)) if token != asked and token not in tokenizer.all_special_ids]
        return dict(zip([asked, *others], [*others, asked], strict=True))

    return chain(home.runs / "endless", [], follow, layers=48)


@pytest.fixture
def place(home, tiny_cache, monkeypatch):
    """An empty home for the app."""
    monkeypatch.setenv("RAG_VS_FT_HOME", str(home.root))
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tiny_cache))
    # A random embedder puts every text at a like distance from every question.
    monkeypatch.setattr(settings, "RELEVANT_COSINE", -1.0)
    monkeypatch.syspath_prepend(str(find_main().parent))
    st.cache_resource.clear()
    yield home
    for job in jobs.list_jobs(home):  # of a test that failed before their end
        if job.running and job.pid != os.getpid():
            jobs.cancel(home, job.id)
            jobs.cancel(home, job.id)
    for thread in threading.enumerate():
        if thread.name == "Asking two arms":  # the next round, which no visitor waits for any more
            thread.join(60)
    st.cache_resource.clear()


@pytest.fixture
def hostile() -> str:
    return HOSTILE


@pytest.fixture
def documents(tmp_path) -> Path:
    for name, text in DOCUMENTS.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "docs"


@pytest.fixture
def built(place, documents):
    """A home with the index "docs"."""
    store.add("docs", str(documents), home=place)
    build.build("docs", "docs", RECIPE, place)
    return place


@pytest.fixture
def hostile_index(place, tmp_path, hostile) -> str:
    """An index whose one document has hostile text wherever a document has text; JSON Lines are not cleaned like Markdown."""
    record = {"id": f"odd {hostile}.md", "title": f"Odd {hostile}", "text": f"The secret port {hostile} is 7."}
    source = tmp_path / "hostile.jsonl"
    source.write_text(json.dumps({**record, "url": "javascript:alert(1)"}) + "\n", encoding="utf-8")
    store.add("hostile", f"jsonl:{source}", home=place)
    build.build("hostile", "hostile", build.Recipe(precision="fp32"), place)
    return "hostile"


@pytest.fixture
def old_run(place):
    """The results folder of a run made before figures were typed, with its questions, in the home of the app."""
    folder = place.results / "old"
    shutil.copytree(OLD_RUN, folder)
    chosen, records = ("delta-limit", "delta-timeout"), []
    for name in chosen:
        records.append(
            {"id": name, "question": f"What is {name}?", "answer": "26", "choices": ["12", "26", "19"], "answer_index": 1}
            | {"gold_documents": ["delta.md"], "answerable": True, "tags": ["limit"], "split": "test"}
        )
    (place.root / "q.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["questions"][0]["path"], manifest["question_ids"] = str(place.root / "q.jsonl"), list(chosen)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture
def comparison(built, old_run):
    """Begins a comparison on the corpus "docs"; given what retrieval has come to, finishes it. Gives its folder."""
    folder = old_run.rename(old_run.parent / "choose-docs")
    plan = {"corpus": "docs", "corpus_sha256": store.open_corpus("docs", built).sha256, "reader": "model", "models": {}}
    plan |= {"hours": 0.5, "questions": 20, "dev_questions": 6, "test_questions": 14, "asking_seconds": 60.0}
    plan |= {"training": [], "left_out": {}}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "questions.jsonl").write_text("", encoding="utf-8")

    def finish(retrieval: float = 0.0, low: float = 0.0, holm_p: float = 1.0) -> Path:
        if retrieval:
            summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
            arm = next(arm for arm in summary["arms"] if arm["arm"] == "retrieval")
            arm |= {"choice_accuracy": retrieval, "choice_accuracy_ci": [low, 0.95]}
            for pair in summary["pairs"]:
                if {pair["a"], pair["b"]} == {"alone", "retrieval"} and pair["measure"] == "choice_accuracy":
                    pair |= {"difference": retrieval - 1 / 7, "holm_p": holm_p}
            (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
            result = {"more_hours": ["twice the <b>questions</b>"], "seconds": 90}
            (folder / "chosen.json").write_text(json.dumps(result), encoding="utf-8")
        return folder

    return finish


@pytest.fixture
def ended_job(place):
    """Waits for the newest job that does some work, and fails unless it ended as expected."""

    def wait(work: str, state: str = "finished") -> jobs.Job:
        newest = jobs.latest(place, work)
        assert newest is not None, f"no job does {work}"
        job = jobs.wait(place, newest.id, 200)
        log = (jobs.folder(place) / f"{job.id}.log").read_text(encoding="utf-8")
        assert job.state == state, (job, log)
        return job

    return wait


@pytest.fixture
def open_page():
    """Opens a page and fails where it shows an exception."""

    def go(page: str = "", **query: str) -> AppTest:
        at = AppTest.from_file(str(find_main()), default_timeout=60)
        for key, value in query.items():
            at.query_params[key] = value
        at.run()
        if page:
            at.switch_page(f"views/{page}.py")
            for key, value in query.items():
                at.query_params[key] = value
            at.run()
        assert not at.exception, at.exception
        return at

    return go
