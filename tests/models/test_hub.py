"""Models from a hub: one on this machine that speaks its protocol."""

from pathlib import Path

import pytest
from tiny import COMMIT, Hub, save_adapter

from rag_vs_ft import catalogue, pulling, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.generation import answer_question
from rag_vs_ft.models.loading import load


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_model_from_the_hub_answers_as_the_one_in_the_folder(
    kind: str, cache: Path, hub: Hub, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_folder")
    hub.repositories[f"someone/tiny-{kind}"] = folder
    place = pulling.pull(f"someone/tiny-{kind}")
    record = catalogue.manifest(place)
    assert record is not None and record.revision == COMMIT
    assert not (place / ".cache").exists()
    pulled = load(f"someone/tiny-{kind}", settings.home(), device="cpu", threads=1)
    own = load(str(folder), settings.home(), device="cpu", threads=1)
    assert pulled.weights_sha256 == own.weights_sha256
    asked = [answer_question(lm, "When does the pump stop?", None, max_new_tokens=12).answer for lm in (pulled, own)]
    assert asked[0] == asked[1] != ""


def test_an_adapter_from_the_hub_loads_the_base_it_names(cache: Path, hub: Hub, gpt2_folder: Path, tmp_path: Path) -> None:
    hub.repositories["someone/base"] = gpt2_folder
    hub.repositories["someone/adapter"] = save_adapter(tmp_path / "adapter", gpt2_folder, "someone/base")
    pulling.pull("someone/adapter")
    with pytest.raises(UserError, match="someone/base is not on this machine") as missing:
        load("someone/adapter", settings.home(), device="cpu", threads=1)
    assert "models pull someone/base" in missing.value.hint
    pulling.pull("someone/base")
    adapted = load("someone/adapter", settings.home(), device="cpu", threads=1)
    assert (
        adapted.adapter
        and adapted.weights_sha256 != load("someone/base", settings.home(), device="cpu", threads=1).weights_sha256
    )


def test_only_the_files_of_the_model_are_fetched(cache: Path, hub: Hub, gpt2_folder: Path, tmp_path: Path) -> None:
    import shutil

    repository = tmp_path / "repository"
    shutil.copytree(gpt2_folder, repository)
    for extra in ("modeling_evil.py", "pytorch_model.bin", "README.md", "onnx/model.onnx"):
        (repository / extra).parent.mkdir(exist_ok=True)
        (repository / extra).write_bytes(b"x")
    hub.repositories["someone/full"] = repository
    place = pulling.pull("someone/full")
    assert {path.suffix for path in place.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    assert not [path for path in hub.requests if path.endswith((".py", ".bin", ".onnx"))]


def test_weights_that_cannot_be_converted_are_refused(cache: Path, hub: Hub, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for file in ("config.json", "tokenizer.json", "model.ckpt"):
        (repository / file).write_text("{}")
    hub.repositories["someone/pickled"] = repository
    with pytest.raises(UserError, match=r"no safetensors weights \(only model.ckpt\)"):
        pulling.pull("someone/pickled")
    assert [path.name for path in (cache / "models").iterdir()] == [".lock"]


def test_a_file_with_another_hash_than_the_known_one_is_refused(
    cache: Path, hub: Hub, gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["openai-community/gpt2"] = gpt2_folder
    entry = catalogue.CATALOGUE["gpt2"]
    from dataclasses import replace

    monkeypatch.setitem(catalogue.CATALOGUE, "gpt2", replace(entry, revision=COMMIT))
    with pytest.raises(UserError, match=r"model.safetensors is not the file it should be"):
        pulling.pull("gpt2")
    assert not entry.folder.exists()


def test_a_model_the_hub_does_not_have(cache: Path, hub: Hub) -> None:
    with pytest.raises(UserError, match="has no someone/absent") as error:
        pulling.pull("someone/absent")
    assert "--from FOLDER" in error.value.hint


def test_a_download_that_breaks_off_leaves_nothing_behind(cache: Path, hub: Hub, gpt2_folder: Path) -> None:
    hub.repositories["someone/model"] = gpt2_folder
    hub.cut_off = "model.safetensors"
    with pytest.raises(UserError, match="cannot get the model someone/model"):
        pulling.pull("someone/model")
    assert [path.name for path in (cache / "models").iterdir()] == [".lock"]
    hub.cut_off = ""
    assert pulling.pull("someone/model") == catalogue.locate("someone/model")


def test_a_hub_that_does_not_answer_is_given_up_soon(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(UserError, match="does not answer") as error:
        pulling.pull("gpt2")
    assert time.monotonic() - start < 10
    assert "config.json" in error.value.hint and "models pull gpt2 --from FOLDER" in error.value.hint
