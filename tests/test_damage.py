"""Damage to what is kept: every kind of file, changed in each way that a disk changes files, is named by `doctor`.

Nothing gives a traceback, and one damaged thing does not hide the others.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import test_gguf
import tiny

from rag_vs_ft import conversations, doctor, feedback, files, jobs, pulling, schedules, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.evaluation import checks
from rag_vs_ft.evaluation.harness import run_experiment
from rag_vs_ft.index import build, generations
from rag_vs_ft.training import runs

PLACES = 20
NOT_READ = (".lock", "lock", ".holder", ".png", ".html", ".md", ".log", ".stop", ".files.json")
"""Files that nothing reads again (drawings, reports, what a job printed, locks), and hashes that are computed anew."""
EXPERIMENT = """
name = "small"
corpus = "docs"
index = "docs"
questions = ["questions.jsonl"]
baseline = "longest"
[choose]
k = [1]
retriever = ["bm25"]
score = ["sum"]
[[arms]]
name = "longest"
model = "longest-choice"
context = "none"
[[arms]]
name = "match"
model = "string-match"
context = "retrieved"
"""
QUESTIONS = [
    {
        "id": f"{name}-{split}",
        "question": f"How many days is the {name} limit?",
        "answer": "5 days",
        "choices": ["5 days", "16 days", "7 days"],
        "answer_index": 0,
        "gold_documents": [f"{name}.md"],
        "answerable": True,
        "tags": [],
        "evidence": [f"The {name} limit is 5 days"],
        "split": split,
    }
    for name, split in (("node", "dev"), ("pool", "test"), ("vault", "test"))
]
PLACES_OF = {
    "corpora": ("home/corpora/docs",),
    "indexes": ("home/indexes/docs",),
    "results": ("home/eval/results/small",),
    "ledger": ("home/eval/results/openings.jsonl",),
    "conversations": ("home/conversations.sqlite",),
    "feedback": ("home/feedback.sqlite",),
    "jobs": ("home/jobs",),
    "schedules": ("home/schedules.json",),
    "models": ("cache/models/someone--model", "cache/gguf"),
    "conversions": ("cache/onnx", "cache/openvino"),
    "runs": ("home/runs/run",),
}
"""Where the files lie that each kind of `doctor.KINDS` looks at."""
WRITERS = {
    "choose.py": ("results",),
    "conversions.py": ("conversions",),
    "corpus/reading.py": ("corpora",),
    "corpus/store.py": ("corpora",),
    "evaluation/harness.py": ("results",),
    "evaluation/ledger.py": ("ledger",),
    "evaluation/manifest.py": ("results",),
    "evaluation/predictions.py": ("results",),
    "index/build.py": ("indexes",),
    "index/dense.py": ("indexes",),
    "index/documents.py": ("indexes",),
    "index/generations.py": ("indexes",),
    "index/lexical.py": ("indexes",),
    "index/postings.py": ("indexes",),
    "jobs.py": ("jobs",),
    "pulling.py": ("models",),
    "schedules.py": ("schedules",),
    "training/engine.py": ("runs",),
    "training/prepare.py": ("runs",),
    "training/record.py": ("runs",),
    "training/runs.py": ("runs",),
    "training/tokens.py": ("runs",),
    # Not of a kind, and why:
    "cli/questions.py": "mined questions in a file that the user names, to read and correct",
    "cli/feedback.py": "an export, which a user names and reads",
    "corpus/git.py": "a clone of what can be fetched again: git compares its objects with their names whenever it reads them",
    "evaluation/ratings.py": "a part of the report, for people",
    "evaluation/report.py": "the report, for people",
    "index/distill.py": "a model in a folder that the user names: an index refuses one that is not as it was",
    "models/fingerprints.py": "hashes that are computed again when their seal is broken",
    "records.py": "lines of JSON for other modules",
    "training/instructions.py": "a file that the user names, to read and correct before training",
    "training/plots.py": "drawings, for people",
    "training/self_instruct.py": "a journal that the user names; its last line is cut off by a killed process, and it is resumed",
    "add_documents.py": "documents as they were given: a source like any other folder",
}
"""Each module that writes with files.py, by its path in rag_vs_ft or app: the kinds of `doctor` that look at what it wrote."""


def fill(root: Path, embedder: str) -> None:
    """One of each kind, in `root/home` and `root/cache`; called a second time, everything has changed."""
    home, docs = settings.home(root / "home"), root / "docs"
    again = docs.exists()
    docs.mkdir(exist_ok=True)
    for name in ("node", "pool", "vault", *(["key"] if again else [])):
        text = f"# {name}\n\nThe {name} limit is 5 days.{' It was 4.' if again else ''}\n"
        (docs / f"{name}.md").write_text(text, encoding="utf-8")
    if again:
        store.update("docs", home=home)
        build.update("docs", home)
        shutil.rmtree(home.results / "small")
    else:
        store.add("docs", str(docs), home=home)
        build.build("docs", "docs", build.Recipe(embedder=embedder, precision="fp32", chunk_size=32), home)
    (root / "experiment.toml").write_text(EXPERIMENT + ("# again\n" if again else ""), encoding="utf-8")
    (root / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in QUESTIONS), encoding="utf-8")
    run_experiment(root / "experiment.toml", home=home)
    for number in range(3):
        conversations.save(home, "one", conversations.Turn(f"Question {number} of {again}?", {"k": 3}, text="An answer."))
        feedback.store_rating(home, f"Question {number}?", ("a", "b"), ("yes", "no"), "first")
    schedules.choose(home, "docs", 168 if again else 24)
    task = {"id": "a-job", "work": "demo", "title": "The demo", "arguments": {}, "started": 1.0, "pid": 1, "created": 1.0}
    files.write_text(jobs.folder(home) / "a-job.jsonl", json.dumps(files.sealed(task)) + "\n")
    jobs.Reporter(jobs.folder(home) / "a-job.jsonl").end("finished", ["done"])
    if not again:
        tiny.save_gpt2(root / "source")
        pulling.pull("someone/model", source=root / "source")
        model = test_gguf.tiny_model("qwen2", len(test_gguf.vocabulary()))
        pulling.from_gguf(test_gguf.write_gguf(root / "tiny.gguf", model, architecture="qwen2"))


@pytest.fixture(scope="session")
def two_states(tmp_path_factory: pytest.TempPathFactory, tiny_embedder: str) -> tuple[Path, Path]:
    """The same folder at two times: the newer one, and a copy of what it was before."""
    root = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_VS_FT_CACHE", str(root / "new" / "cache"))
        (root / "new").mkdir()
        fill(root / "new", tiny_embedder)
        shutil.copytree(root / "new", root / "old", symlinks=True)
        fill(root / "new", tiny_embedder)
    return root / "new", root / "old"


@pytest.fixture
def state(two_states: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(two_states[0] / "cache"))
    return two_states[0]


def read_again(root: Path, kind: str) -> list[Path]:
    """The files of a kind that the product reads again."""
    places = [root / place for place in PLACES_OF[kind]]
    inside = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*"))) if path.is_file()]
    return [path for path in inside if not path.name.endswith(NOT_READ) and not path.is_symlink()]


def named(root: Path, kind: str) -> bool:
    return any(finding.faults for finding in doctor.KINDS[kind](settings.home(root / "home")))


def meaning(path: Path) -> object:
    """What a file says; a byte that nothing reads (a gap in a page of SQLite, a space in JSON) changes nothing of it."""
    if path.suffix == ".sqlite":
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
                return [(table, database.execute(f"SELECT * FROM {table}").fetchall()) for table in tables]
        except (sqlite3.Error, UnicodeDecodeError):
            return "unreadable"
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            return pq.read_table(path).to_pylist()
        except (OSError, ValueError):
            return "unreadable"
    try:
        return [json.loads(line) for line in (path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()])]
    except ValueError:
        return path.read_text(errors="replace").split()


def damaged(path: Path, root: Path, kind: str, harm: Callable[[bytes], bytes | None]) -> str:
    """Harm a file and put it back; "" when that was named, or changed nothing that is read."""
    whole = path.read_bytes()
    before = meaning(path) if path.suffix in (".json", ".jsonl", ".sqlite", ".toml") or path.name == "files.parquet" else whole
    new = harm(whole)
    if new is None:
        path.unlink()
    else:
        path.write_bytes(new)
    try:
        if named(root, kind):
            return ""
        if new is not None and path.suffix in (".json", ".jsonl", ".sqlite", ".toml", ".parquet") and meaning(path) == before:
            return ""
        return path.relative_to(root).as_posix()
    finally:
        path.write_bytes(whole)


def flipped(place: int) -> Callable[[bytes], bytes]:
    def harm(whole: bytes) -> bytes:
        at = (2 * place + 1) * len(whole) // (2 * PLACES)
        return whole[:at] + bytes([whole[at] ^ (1 << place % 7)]) + whole[at + 1 :] if whole else b"x"

    return harm


EVERYTHING = [kind for kind in PLACES_OF if kind != "runs"]


def test_every_module_that_writes_is_known_to_a_verify() -> None:
    """A new kind of file is entered in WRITERS, and then in what `doctor` looks at or with the reason why it need not be."""
    writes = re.compile(r"\bfiles\.(?:write_\w+|append_\w+|replacing|writing|publishing|copy)\(|\bwrite_jsonl\(")
    root = Path(doctor.__file__).parent
    paths = [*root.rglob("*.py"), *(root.parent / "app").rglob("*.py")]
    found = {path.relative_to(root if root in path.parents else root.parent / "app").as_posix(): path for path in paths}
    writing = {name for name, path in found.items() if writes.search(path.read_text(encoding="utf-8"))}
    assert writing - {"files.py"} == set(WRITERS)
    kinds = {kind for known in WRITERS.values() if isinstance(known, tuple) for kind in known}
    # The databases are written by SQLite.
    assert kinds | {"conversations", "feedback"} == set(doctor.KINDS) == set(PLACES_OF)


def test_every_file_below_a_home_and_the_cache_is_looked_at(state: Path) -> None:
    """What `fill` made: a file that no kind looks at is one whose damage nobody names."""
    there = {path for place in ("home", "cache") for path in (state / place).rglob("*") if path.is_file()}
    looked_at = {path for kind in PLACES_OF for path in read_again(state, kind)}
    left = {path.relative_to(state).as_posix() for path in there - looked_at if not path.name.endswith(NOT_READ)}
    assert not left


@pytest.mark.parametrize("kind", EVERYTHING)
def test_damage_of_every_file_is_named(state: Path, kind: str) -> None:
    assert not named(state, kind)
    missed = []
    for path in read_again(state, kind):
        harms = {f"flip {place}": flipped(place) for place in (3, 11)}
        harms |= {
            "truncated": lambda whole: whole[: len(whole) // 2],
            "emptied": lambda whole: b"",
            "removed": lambda whole: None,
        }
        for how, harm in harms.items():
            if (kind, how) in MAY_GO or (kind, path.name, how) in MAY_GO:
                continue
            if where := damaged(path, state, kind, harm):
                missed.append(f"{how}: {where}")
    assert not missed
    assert not named(state, kind)


MAY_GO = {
    *((kind, "removed") for kind in ("conversations", "feedback", "jobs", "schedules")),  # nothing else knows that there was one
    ("jobs", "truncated"),  # a job that was cut off is shown as one that died
    *(("indexes", "REJECTED", how) for how in ("removed", "emptied", "truncated")),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERYTHING)
def test_a_flipped_byte_at_twenty_places_of_every_file_is_named(state: Path, kind: str) -> None:
    places = [(path, place) for path in read_again(state, kind) for place in range(PLACES)]
    missed = [f"{place}: {where}" for path, place in places if (where := damaged(path, state, kind, flipped(place)))]
    assert len(places) >= PLACES and not missed


@pytest.mark.parametrize("kind", ["corpora", "indexes", "results", "ledger"])
def test_an_older_version_of_a_file_is_named(two_states: tuple[Path, Path], state: Path, kind: str) -> None:
    missed, tried = [], 0
    for path in read_again(state, kind):
        old = two_states[1] / path.relative_to(state)
        if old.is_file() and old.read_bytes() != path.read_bytes():
            tried += 1
            if where := damaged(path, state, kind, lambda whole, old=old: old.read_bytes()):  # type: ignore[misc]
                missed.append(where)
    # The manifest of an index lies in a folder of its generation, so that no other one can take its place.
    assert tried and not missed


def test_one_damaged_thing_does_not_hide_the_others(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = settings.home(state / "home")
    for place, file in (("corpora", "manifest.json"), ("eval/results", "summary.json")):
        name = "docs" if place == "corpora" else "small"
        shutil.copytree(home.root / place / name, home.root / place / "bad")
        (home.root / place / "bad" / file).write_text('{"format": ')
    (home.runs / "bad").mkdir(parents=True)
    (home.runs / "bad" / "run.json").write_text("[]")
    try:
        assert [info.name for info in store.list_corpora(home)] == ["docs"] and list(store.damaged_corpora(home)) == ["bad"]
        listed = checks.list_results(home)
        assert list(listed.finished) == ["small"] and list(listed.damaged) == ["bad"]
        assert list(runs.list_runs(home).damaged) == ["bad"]
        found = {(finding.kind, finding.name): finding for finding in doctor.examine(home)}
        assert not found["corpus", "docs"].faults and found["corpus", "bad"].faults and found["corpus", "bad"].todo
        assert not found["results", "small"].faults and found["results", "bad"].todo
        assert found["run", "bad"].todo.startswith("remove ")
    finally:
        for place in ("corpora", "eval/results", "runs"):
            shutil.rmtree(home.root / place / "bad")


def test_the_scratch_of_an_earlier_version_is_not_called_damage(state: Path) -> None:
    scratch = state / "cache" / "onnx" / "tmpd09tot7n"
    scratch.mkdir()
    try:
        found = [finding for finding in doctor.examine(settings.home(state / "home")) if finding.kind == "conversion"]
        assert found and not any(finding.faults for finding in found)
    finally:
        scratch.rmdir()


def test_an_update_builds_again_what_is_damaged_in_place(state: Path, tmp_path: Path) -> None:
    shutil.copytree(state / "home", tmp_path / "home")
    home = settings.home(tmp_path / "home")
    folder = home.indexes / "docs"
    vectors = generations.current(folder).folder / "faiss.index"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert generations.verify_all(folder)
    assert build.update("docs", home).published
    assert generations.verify(generations.current(folder)) == []
    assert (generations.current(folder).folder / "faiss.index").read_bytes() == whole


def test_a_rollback_leads_never_forward_again(state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(state / "home", tmp_path / "home")
    folder = settings.home(tmp_path / "home").indexes / "docs"
    newest = generations.current(folder).name
    older = generations.rollback(folder).name
    assert older < newest
    (folder / "CURRENT").unlink()
    assert generations.current(folder).name == older and "CURRENT" in caplog.text
    (folder / "CURRENT").write_text(older + "\n")
    (folder / "REJECTED").unlink()
    assert any(newest in fault for fault in generations.verify_all(folder))


@pytest.mark.slow
def test_damage_of_every_file_of_a_run_is_named(tmp_path: Path, monkeypatch) -> None:
    import faults

    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))  # which faults sets, for good
    faults.prepare_train(tmp_path)
    faults.train(tmp_path)
    folder = tmp_path / "home" / "runs" / "run"
    assert runs.verify(folder) == []
    missed, tried = [], 0
    for path in read_again(tmp_path, "runs"):
        if path.parts[-2] in ("best", "last"):
            continue
        for place in range(0, PLACES, 5):
            tried += 1
            missed += [f"{place}: {where}"] if (where := damaged(path, tmp_path, "runs", flipped(place))) else []
        for harm in (lambda whole: whole[: len(whole) // 2], lambda whole: b""):
            missed += [where] if (where := damaged(path, tmp_path, "runs", harm)) else []
    assert tried > 40 and not missed
