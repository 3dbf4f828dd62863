from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap

import pytest
from manifests import a_manifest

from rag_vs_ft import files
from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.index import generations


def publish(folder, text):
    def write(target):
        (target / "inner").mkdir()
        (target / "data.txt").write_text(text, encoding="utf-8")
        (target / "inner" / "more.txt").write_text(text * 2, encoding="utf-8")
        return a_manifest(text)

    with generations.building(folder):
        return generations.publish(folder, write)


def content(folder) -> str:
    return (generations.current(folder).folder / "data.txt").read_text(encoding="utf-8")


def test_the_last_published_answers_and_the_one_before_is_kept(tmp_path) -> None:
    folder = tmp_path / "index"
    for text in ("one", "two", "three"):
        publish(folder, text)
    assert content(folder) == "three"
    assert [generation.name for generation in generations.all_generations(folder)] == ["gen-000002", "gen-000003"]
    with generations.building(folder):
        assert generations.rollback(folder).manifest.code_version == "two"
    assert content(folder) == "two"
    with generations.building(folder), pytest.raises(UserError, match="no whole generation before"):
        generations.rollback(folder)
    publish(folder, "four")
    assert content(folder) == "four"


def test_a_build_that_raises_changes_nothing(tmp_path) -> None:
    folder = tmp_path / "index"
    publish(folder, "one")

    def write(target):
        (target / "data.txt").write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with generations.building(folder), pytest.raises(OSError):
        generations.publish(folder, write)
    assert content(folder) == "one"
    assert not list(folder.glob("*.tmp"))


CRASH = textwrap.dedent(
    """
    import os, pathlib, shutil, sys
    from manifests import a_manifest
    from rag_vs_ft.index import generations
    folder, stop = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    steps = 0

    def counted(function):
        def step(*args, **kwargs):
            global steps
            steps += 1
            if steps == stop:
                os._exit(9)
            return function(*args, **kwargs)
        return step

    os.fsync = counted(os.fsync)
    pathlib.Path.replace = counted(pathlib.Path.replace)
    pathlib.Path.mkdir = counted(pathlib.Path.mkdir)
    shutil.rmtree = counted(shutil.rmtree)
    def write(target):
        (target / "data.txt").write_text("new", encoding="utf-8")
        (target / "more.txt").write_text("newnew", encoding="utf-8")
        return a_manifest("new")
    with generations.building(folder):
        generations.publish(folder, write)
    """
)


def test_killed_at_every_step_the_old_or_the_new_generation_answers_whole(tmp_path) -> None:
    folder = tmp_path / "index"
    publish(folder, "older")
    publish(folder, "old")
    seen = set()
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for stop in range(1, 60):
        done = subprocess.run([sys.executable, "-c", CRASH, str(folder), str(stop)], check=False, env=env)
        generation = generations.current(folder)
        assert generations.verify(generation) == []
        seen.add(generation.manifest.code_version)
        assert generation.manifest.code_version in ("old", "new")
        if done.returncode == 0:
            break
        assert done.returncode == 9
    else:
        pytest.fail("the build never completed")
    assert stop > 5 and seen == {"old", "new"}
    publish(folder, "next")
    assert content(folder) == "next" and not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "extra"])
@pytest.mark.parametrize("name", ["data.txt", "inner/more.txt"])
def test_verify_names_the_damaged_file(tmp_path, damage, name) -> None:
    folder = tmp_path / "index"
    generation = publish(folder, "content")
    path = generation.folder / name
    if damage == "flip":
        path.write_bytes(b"X" + path.read_bytes()[1:])
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "remove":
        path.unlink()
    else:
        path = path.with_name("extra.bin")
        path.write_bytes(b"?")
    faults = generations.verify(generation)
    assert len(faults) == 1 and str(path) in faults[0]


def test_a_damaged_generation_is_passed_over_with_a_warning(tmp_path, caplog) -> None:
    folder = tmp_path / "index"
    publish(folder, "one")
    newest = publish(folder, "two")
    (newest.folder / "data.txt").write_text("", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert content(folder) == "one"
    assert "data.txt" in caplog.text and "gen-000001" in caplog.text
    (folder / "gen-000001" / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckFailed, match="no generation of index 'index' is whole"):
        generations.current(folder)


def names(folder) -> list[str]:
    return [generation.name for generation in generations.all_generations(folder)]


def roll_back(folder) -> str:
    with generations.building(folder):
        return generations.rollback(folder).manifest.code_version


def test_a_rollback_never_leads_to_a_generation_that_was_rolled_back_from(tmp_path) -> None:
    folder = tmp_path / "index"
    publish(folder, "one")
    publish(folder, "two")
    assert roll_back(folder) == "one"
    publish(folder, "three")
    assert names(folder) == ["gen-000001", "gen-000003"] and content(folder) == "three"
    assert roll_back(folder) == "one" == content(folder)
    with pytest.raises(UserError, match="no whole generation before gen-000001") as caught:
        roll_back(folder)
    assert "index build index" in caught.value.hint
    # Numbers are not used again: what is rejected stays rejected.
    assert publish(folder, "four").name == "gen-000004"
    assert names(folder) == ["gen-000001", "gen-000004"] and content(folder) == "four"


def test_without_a_pointer_the_newest_generation_that_was_not_rejected_answers_and_can_be_rolled_back_from(
    tmp_path, caplog
) -> None:
    folder = tmp_path / "index"
    publish(folder, "one")
    publish(folder, "two")
    (folder / "CURRENT").unlink()
    with caplog.at_level(logging.WARNING):
        assert content(folder) == "two"
    assert "answering from gen-000002" in caplog.text
    assert roll_back(folder) == "one"
    (folder / "CURRENT").unlink()
    assert content(folder) == "one"
    with pytest.raises(UserError, match="no whole generation before gen-000001"):
        roll_back(folder)
    # A rejected generation does not even answer when no other one is whole.
    (folder / "gen-000001" / "data.txt").write_text("", encoding="utf-8")
    with pytest.raises(CheckFailed, match="gen-000002 was rolled back from"):
        generations.current(folder)


def test_a_damaged_generation_can_be_rolled_back_from(tmp_path) -> None:
    folder = tmp_path / "index"
    publish(folder, "one")
    newest = publish(folder, "two")
    (newest.folder / "data.txt").write_text("", encoding="utf-8")
    assert roll_back(folder) == "one"
    (folder / "CURRENT").write_text("gen-000002\n", encoding="utf-8")
    assert content(folder) == "one"


def without(key):
    return lambda manifest: {name: value for name, value in manifest.items() if name != key}


SHAPES = {
    "null": lambda manifest: None,
    "list": lambda manifest: [manifest],
    "text": lambda manifest: "manifest",
    "empty": lambda manifest: {},
    "another format": lambda manifest: manifest | {"format": 9},
    **{f"no {key}": without(key) for key in ("corpus", "chunker", "analyzer", "bm25", "embedder", "vectors", "dense", "counts")},
    **{f"no {key}": without(key) for key in ("seconds", "threads", "created", "files", "code_version")},
    "misspelt": lambda manifest: without("counts")(manifest) | {"count": manifest["counts"]},
    "counts a list": lambda manifest: manifest | {"counts": [1, 2]},
    "a count a text": lambda manifest: manifest | {"counts": manifest["counts"] | {"chunks": "1"}},
    "a size a text": lambda manifest: manifest | {"files": {"data.txt": {"bytes": "3", "sha256": ""}}},
    "a file null": lambda manifest: manifest | {"files": {"data.txt": None}},
    "a file outside": lambda manifest: manifest | {"files": {"../CURRENT": {"bytes": 11, "sha256": ""}}},
    "a file elsewhere": lambda manifest: manifest | {"files": {"/etc/hostname": {"bytes": 11, "sha256": ""}}},
    "no date": lambda manifest: manifest | {"created": "yesterday"},
    "another generation": lambda manifest: manifest | {"generation": "gen-000009"},
    "an impossible chunk size": lambda manifest: manifest | {"chunker": {"version": 3, "size": 9999, "limit": 256}},
    "an unknown backend": lambda manifest: manifest | {"bm25": {"k1": 1.5, "b": 0.75, "backend": "lucene"}},
    "nan": lambda manifest: manifest | {"bm25": {"k1": float("nan"), "b": 0.75, "backend": "bm25s"}},
    "deep": lambda manifest: manifest | {"files": json.loads("[" * 500 + "]" * 500)},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_manifest_of_another_shape_is_named_and_the_generation_before_answers(tmp_path, shape, caplog) -> None:
    folder = tmp_path / "index"
    publish(folder, "one")
    path = publish(folder, "two").folder / "manifest.json"
    changed = SHAPES[shape](files.read_json(path, ""))  # without the seal, which would name any change
    path.write_text(json.dumps(files.sealed(changed) if isinstance(changed, dict) else changed), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert content(folder) == "one"
    assert str(path) in caplog.text
    assert [str(path) in fault for fault in generations.unreadable(folder)] == [True]
    with pytest.raises(CheckFailed, match=r"manifest\.json") as caught:
        generations._read(path.parent)
    assert "rag-vs-ft index rollback index" in caught.value.hint


@pytest.mark.parametrize("cut", [0, 1, 100, -2])
def test_half_a_manifest_is_named(tmp_path, cut) -> None:
    path = publish(tmp_path / "index", "one").folder / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8")[:cut], encoding="utf-8")
    with pytest.raises(CheckFailed, match=r"no generation.*manifest\.json"):
        generations.current(tmp_path / "index")


def test_a_manifest_is_read_as_it_was_written(tmp_path) -> None:
    generation = publish(tmp_path / "index", "one")
    assert generations.current(tmp_path / "index").manifest == generation.manifest


@pytest.mark.parametrize("pointer", ["", "garbage\n", "gen-000099\n", None])
def test_a_bad_pointer_falls_back_to_the_newest(tmp_path, pointer, caplog) -> None:
    folder = tmp_path / "index"
    publish(folder, "one")
    publish(folder, "two")
    if pointer is None:
        (folder / "CURRENT").unlink()
    else:
        (folder / "CURRENT").write_text(pointer, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert content(folder) == "two"
    assert "CURRENT" in caplog.text


HOLD = """
import pathlib, sys, time
from rag_vs_ft.index import generations
with generations.building(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_build_is_busy_and_a_killed_one_frees_the_lock(tmp_path) -> None:
    folder = tmp_path / "index"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(Busy), generations.building(folder):
            pass
        process.kill()
    with generations.building(folder):
        pass


def test_missing_indexes_and_bad_names_say_what_to_do(home) -> None:
    with pytest.raises(UserError, match="there is no index 'docs'") as caught:
        generations.index_folder("docs", home)
    assert "index build docs" in caught.value.hint
    for name in ("../up", "", ".hidden", "a/b", "x" * 200):
        with pytest.raises(UserError):
            generations.index_folder(name, home)
    assert generations.list_indexes(home) == []
