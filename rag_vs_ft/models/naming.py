"""What a language model's name means, decided once: for loading, training, costs, the evaluation and the app.

    nano, nano/last         a run of the home, its best or its last checkpoint
    gpt2, owner/model       a model of the catalogue or of the hub that was pulled
    some/folder             a folder that holds a model
    some/model.gguf         a GGUF file, converted when it is first used
    http://127.0.0.1:8080/v1#NAME   a model behind a server (`models.served`), which has no weights here

A name that means two of these is an error that names both. `run:nano`, `pulled:gpt2` and `./nano` each mean one thing alone.
A folder with a LoRA adapter means the adapter on the base that its configuration names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rag_vs_ft import catalogue, pulling
from rag_vs_ft.catalogue import PULLED, Meaning
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import served
from rag_vs_ft.models.folders import is_adapter, read_json
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.settings import Home

RUN = "run:"
"""Before the name of a run: that, and neither a folder nor a pulled model of the same name."""
_MOST_ADAPTERS = 8


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What a name means: the folder of the base model, those of the adapters in the order they are put on it, and the
    name of the run that the name means (None: no run of this home)."""

    kind: Literal["pulled", "folder", "file", "run"]
    base: Path
    adapters: tuple[Path, ...]
    run: str | None


def resolve(name: str, home: Home, adapter: str | None = None, progress: Progress = silent) -> ModelRef:
    """What `name` means, with `adapter`, another name, on top. `progress` is called when a GGUF file has to be converted.

    Raises UserError when the name means nothing or more than one thing, when a pulled model is not on this machine or is
    damaged, and when adapters name no base.
    """
    meaning = meaning_of(name, home)
    place = folder_of(meaning, progress)
    adapters: list[Path] = []
    while is_adapter(place):
        if len(adapters) == _MOST_ADAPTERS:
            raise UserError(f"the adapters below {name} name each other as base", "mend base_model_name_or_path")
        adapters.insert(0, place)
        place = folder_of(meaning_of(_base_name(place), home), progress)
    if adapter is not None:
        top = folder_of(meaning_of(adapter, home), progress)
        if not is_adapter(top):
            raise UserError(f"{top} holds no LoRA adapter", "it needs adapter_config.json and adapter_model.safetensors")
        _require_base(top, name)
        adapters.append(top)
    return ModelRef(meaning.kind, place, tuple(adapters), _run(meaning, home))


def meaning_of(name: str, home: Home) -> Meaning:
    """The one thing that `name` means. Raises UserError when it is nothing that could be a model, or more than one thing, and
    for a model behind a server."""
    if served.is_address(name):
        raise UserError(f"{name} is behind a server: it has no weights here", "name a model of this machine for this")
    if name.startswith(RUN):
        found = _as_run(name.removeprefix(RUN), home)
        if found is None:
            raise UserError(
                f"there is no run {catalogue.shortened(name.removeprefix(RUN))!r} in {home.runs}",
                "see what is there: rag-vs-ft models list",
            )
        return found
    found = _as_run(name, home)
    return catalogue.single(name, [*([found] if found else []), *catalogue.meanings(name)])


def run_of(name: str, home: Home) -> str | None:
    """The run that `name` means; None when it means something else, or nothing that is there.

    Raises UserError when the name means more than one thing.
    """
    if served.is_address(name):
        return None
    try:
        found = [*catalogue.meanings(name)] if not name.startswith(RUN) else []
    except UserError:  # a folder or model that is gone: its run, if it had one, is gone with it
        return None
    if run := _as_run(name.removeprefix(RUN), home):
        found.insert(0, run)
    return _run(catalogue.single(name, found), home) if found else None


def run_name(run: str, home: Home) -> str:
    """How to write the run `run` so that nothing else is meant: the bare name where that is enough."""
    return run if not catalogue.meanings(run) else f"{RUN}{run}"


def available(home: Home) -> list[str]:
    """Names of the language models that can be loaded now: those pulled, GGUF files, then runs that have a checkpoint."""
    ready = [entry["name"] for entry in catalogue.list_models() if entry["kind"] == "language" and entry["state"] == "ready"]
    pulled = [name for name in ready if not name.lower().endswith(catalogue.GGUF)]
    runs = sorted(path.parent.name for path in home.runs.glob("*/run.json") if (path.parent / "last").exists())
    names = [name if _as_run(name, home) is None else f"{PULLED}{name}" for name in pulled]
    return [*names, *catalogue.converted_files(), *(run_name(run, home) for run in runs)]


def _as_run(name: str, home: Home) -> Meaning | None:
    """The run, or the folder inside one, that `name` means; None when no run has that name."""
    if not name or catalogue.is_path(name) or ".." in Path(name).parts or len(name) > 200 or not name.isprintable():
        return None
    place = home.runs / name
    return Meaning("run", place, f"the run {name} ({place})", f"{RUN}{name}") if place.is_dir() else None


def _run(meaning: Meaning, home: Home) -> str | None:
    """The name of the run that a meaning lies in, also where it was written as a folder."""
    if meaning.kind == "run":
        return Path(meaning.spelling.removeprefix(RUN)).parts[0]
    place, runs = meaning.place.resolve(), home.runs.resolve()
    if meaning.kind == "folder" and place != runs and place.is_relative_to(runs):
        return place.relative_to(runs).parts[0]
    return None


def folder_of(meaning: Meaning, progress: Progress = silent) -> Path:
    """The folder of weights and tokenizer of what a name means. Raises UserError when it is not there or cannot be made."""
    if meaning.kind == "file":
        return pulling.from_gguf(meaning.place, progress)
    return _checkpoint(catalogue.here(meaning))


def _checkpoint(place: Path) -> Path:
    """A run's best checkpoint, or else its last; any other folder as it is."""
    for checkpoint in ("best", "last"):
        if not (place / "config.json").exists() and not is_adapter(place) and (place / checkpoint).is_dir():
            return place / checkpoint
    return place


def _base_name(adapter: Path) -> str:
    """The base that an adapter's configuration names; one of the catalogue by its unambiguous name."""
    config = adapter / "adapter_config.json"
    base = read_json(config).get("base_model_name_or_path") or ""
    if not base or not isinstance(base, str):
        raise UserError(f"{config} names no base model", "set base_model_name_or_path")
    known = _catalogue_name(base)
    return f"{PULLED}{known}" if known != base else base


def _catalogue_name(base: str) -> str:
    """The catalogue's name of a hub id, so that a pulled model is found under either; anything else unchanged."""
    aliases = {entry.hub.lower(): entry.name for entry in catalogue.CATALOGUE.values() if entry.kind == "language"}
    return aliases.get(base.lower(), base)


def _require_base(adapter: Path, name: str) -> None:
    """Refuse an adapter whose configuration names another known model than the one it is put on."""
    recorded = _catalogue_name(str(read_json(adapter / "adapter_config.json").get("base_model_name_or_path") or ""))
    recorded, given = recorded.removeprefix(PULLED), _catalogue_name(name.removeprefix(PULLED))
    if recorded != given and recorded in catalogue.CATALOGUE and given in catalogue.CATALOGUE:
        raise UserError(f"the adapter {adapter} was trained on {recorded}, not on {given}", f"load it on {recorded}")
