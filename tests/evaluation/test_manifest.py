import json
import shutil
from pathlib import Path

import pytest

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed
from rag_vs_ft.evaluation.manifest import MANIFEST, FinishedManifest, RunManifest, read_manifest, write_manifest

FINISHED = Path(__file__).parent / "finished_run"


def test_a_manifest_of_an_earlier_version_is_read_and_written_as_it_was(tmp_path):
    manifest = read_manifest(FINISHED)
    assert isinstance(manifest, FinishedManifest)
    assert manifest.frozen.dev[1].scores == {"pmi": 0.5, "sum": 0.5} and manifest.predictions.computed == 50
    write_manifest(tmp_path, manifest)
    record = json.loads((FINISHED / MANIFEST).read_text())
    del record["detectable_difference"]
    record["index"] |= {"embedder": "", "precision": ""}
    record["training_corpora"] = []
    record["files"] = {}
    assert files.read_json(tmp_path / MANIFEST, "") == record
    assert read_manifest(tmp_path) == manifest


def test_a_run_that_was_stopped_has_a_manifest_without_an_outcome(tmp_path):
    write_manifest(tmp_path, RunManifest(**read_manifest(FINISHED).begun()))
    begun = read_manifest(tmp_path)
    assert type(begun) is RunManifest and begun.identity == read_manifest(FINISHED).identity
    assert "models" not in json.loads((tmp_path / MANIFEST).read_text())


def without(key):
    return lambda record: {name: value for name, value in record.items() if name != key}


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda record: None, "null"),
        (lambda record: [], "list"),
        (lambda record: {}, "format None"),
        (lambda record: {**record, "format": 2}, "format 2"),
        (without("frozen"), "frozen"),
        (without("questions"), "questions"),
        (without("experiment_sha256"), "experiment_sha256"),
        (without("models"), "models"),
        (lambda record: {**record, "frozen": 3}, "frozen"),
        (lambda record: {**record, "frozen": {**record["frozen"], "dev": [3]}}, "frozen.dev"),
        (lambda record: {**record, "frozen": {**record["frozen"], "k": "one"}}, "frozen.k"),
        (lambda record: {**record, "questions": [{"path": "q.jsonl"}]}, "questions.0.sha256"),
        (lambda record: {**record, "leaks": {**record["leaks"], "flagged": {"q": 3}}}, "leaks.flagged.q"),
        (lambda record: {**record, "models": {"m": None}}, "models.m"),
    ],
)
def test_a_manifest_of_another_shape_is_named_with_its_field(tmp_path, damage, named):
    (tmp_path / MANIFEST).write_text(json.dumps(damage(json.loads((FINISHED / MANIFEST).read_text()))))
    with pytest.raises(CheckFailed) as error:
        read_manifest(tmp_path)
    assert str(tmp_path / MANIFEST) in error.value.message and named in error.value.message


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"a":' * 100_000])
def test_a_manifest_that_is_not_json_is_named(tmp_path, data):
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(CheckFailed, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_half_a_manifest_is_named(tmp_path):
    shutil.copy(FINISHED / MANIFEST, tmp_path)
    whole = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckFailed, match=r"manifest\.json"):
        read_manifest(tmp_path)
