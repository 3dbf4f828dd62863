"""Which weights a model has: one SHA-256 over its files and its adapters'."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rag_vs_ft import catalogue, files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.models.folders import read_json

_NOTES = ".fingerprints.json"
_TRAINING_ONLY = ("optimizer.", "scheduler.", "trainer_state.")


def fingerprint(weights: Sequence[Path], adapters: Sequence[Path]) -> str:
    """One hash of weight files and adapter folders; that of a file that was pulled is known, others are computed once."""
    hashes: dict[str, str] = {}
    for path in (*weights, *(place / "adapter_model.safetensors" for place in adapters)):
        pulled = catalogue.manifest(path.parent)
        facts = pulled.files.get(path.name) if pulled else None
        key = path.name if path.name not in hashes else f"{path.name} {len(hashes)}"
        hashes[key] = facts["sha256"] if facts else _remembered(path)
    return catalogue.fingerprint(hashes)


def check(place: Path) -> None:
    """Compare a checkpoint of a run with the manifest that was written with it. Other folders have none, and pass.

    What only training reads (the optimizer's state) is left out: resuming checks it. Raises CheckFailed for a file that is
    missing or has changed: a flipped bit in a weight would change answers without a word.
    """
    path = place / "manifest.json"
    hint = "load the run's other checkpoint (NAME/last or NAME/best), or train it again"
    try:
        found = files.read_json(path, hint)
        if "step" not in found:
            return
        read = {name: facts for name, facts in found["files"].items() if not name.startswith(_TRAINING_ONLY)}
        problem = files.damage(place, read)
    except FileNotFoundError:
        return
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckFailed(f"{path} is damaged: {type(error).__name__} {error}", hint) from error
    if problem:
        raise CheckFailed(f"the checkpoint {place} is damaged: {problem}", hint)


def _remembered(path: Path) -> str:
    """The hash of a file, kept beside it for as long as its size and time of change stay."""
    status = path.stat()
    state = [status.st_size, status.st_mtime_ns]
    notes = path.parent / _NOTES
    try:
        known = read_json(notes)
    except UserError:  # none yet, or damaged: computed anew
        known = {}
    if isinstance(entry := known.get(path.name), dict) and entry.get("state") == state:
        return str(entry.get("sha256"))
    known[path.name] = {"state": state, "sha256": files.sha256_file(path)}
    with suppress(OSError):  # a read-only folder: computed anew each time
        files.write_record(notes, known)
    return str(known[path.name]["sha256"])
