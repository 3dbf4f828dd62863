"""SOURCE strings -> raw files: the packaged sample, a folder, git repositories, a book, a JSON Lines file.

Every file that is met is either yielded or counted with the reason it was skipped; links are never followed.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rag_vs_ft.corpus import book, git
from rag_vs_ft.errors import UserError
from rag_vs_ft.records import read_jsonl

MAX_FILE_BYTES = 8_000_000
"""Files above this size are skipped and counted; the largest file of the Azure documents has 0.7 MB."""
MAX_EXAMPLES = 20

SAMPLE = Path(__file__).parent.parent / "sample"
PRESETS = Path(__file__).with_name("azure_docs.toml")

Progress = Callable[[str], None]
Kind = Literal["markdown", "faq", "text"]

_MARKDOWN = (".md", ".markdown")
_YAML = (".yml", ".yaml")
_LICENCES = ("LICENSE", "LICENSE-CODE", "LICENCE", "COPYING")
_REPOSITORY_FILES = ("readme", "contributing", "thirdpartynotices", "security", "code_of_conduct", "support", "changelog")


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file of a source: POSIX path below its root, and its bytes.

    `kind` is "markdown" (Learn dialect), "faq" (FAQ YAML) or "text" (taken as it stands). `known` holds fields of the
    document that the source itself states: title, url, service, date, commit.
    """

    path: str
    data: bytes
    kind: Kind = "markdown"
    known: Mapping[str, str] = field(default_factory=dict)


class Tally:
    """How often each thing happened, with up to MAX_EXAMPLES examples of each."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, what: str, example: str, count: int = 1) -> None:
        """Count `what`; the example is kept while there are few, with unprintable characters escaped."""
        self.counts[what] = self.counts.get(what, 0) + count
        kept = self.examples.setdefault(what, [])
        if len(kept) < MAX_EXAMPLES:
            kept.append(example.encode("utf-8", "backslashreplace").decode("utf-8"))


@dataclass(frozen=True, slots=True)
class Reading:
    """A source being read. `files` is consumed once, in order of path; `skipped` is complete when it is at its end.

    `source` is what reads the same again from any working folder; `commits` maps a repository's folder ("" for a single
    one) to its commit; `notes` counts what a reader should know of documents that were taken. `read(path)` gives the bytes
    of any regular file below the root, or None: nothing else can be reached.
    """

    source: str
    kind: str
    files: Iterator[RawFile]
    read: Callable[[str], bytes | None]
    skipped: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    commits: Mapping[str, str] = field(default_factory=dict)


def read_source(source: str, *, progress: Progress | None = None) -> Reading:
    """Open SOURCE: `sample`, `sample:update`, `azure-docs`, `book:FILE`, `jsonl:FILE`, a git URL or a folder.

    Raises UserError when it does not exist, cannot be reached, or is none of these.
    """
    if source in ("sample", "sample:update"):
        return _sample(source)
    if source == "azure-docs":
        return _preset(progress)
    if source.startswith("book:"):
        return _book(source)
    if source.startswith("jsonl:"):
        return _jsonl(source)
    if git.is_url(source):
        clone, commit = git.clone(source, progress=progress)
        url = git.normalise(source)
        return _reading(url, "git", _walk(clone), {"": commit})
    folder = Path(source).expanduser()
    if not source or not folder.is_dir():
        problem = "is a file, not a folder" if source and folder.is_file() else "is not a folder or a git URL"
        raise UserError(
            f"source {source!r} {problem}",
            "give a folder, a git URL, sample, azure-docs, book:FILE or jsonl:FILE",
        )
    return _reading(str(folder.resolve()), "folder", _walk(folder.resolve()), {})


def page_facts(path: str) -> dict[str, str]:
    """`url` and `service` of a page of the preset's repositories by its path; empty for any other path."""
    for repository in _repositories(PRESETS):
        _, found, inside = f"/{path}".partition(f"/{repository['name']}/")
        if found:
            facts = {"url": "", "service": ""}
            for prefix, address in repository["pages"].items():
                if inside.startswith(prefix):
                    page = inside[len(prefix) :].rsplit(".", 1)[0]
                    facts["url"] = address.replace("{}", page.removesuffix("/index"))
            for prefix, service in repository["services"].items():
                if inside.startswith(prefix):
                    facts["service"] = service
            return facts
    return {}


# --- files on disk ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Walk:
    """The regular files below a root by POSIX path, and what was passed over."""

    files: dict[str, Path]
    skipped: list[tuple[str, str]]


def _walk(root: Path, prefix: str = "") -> _Walk:
    """List regular files with scandir; links, pipes, devices, hidden entries and unusable names are listed as skipped."""
    found = _Walk({}, [])
    pending = [(root, prefix)]
    while pending:
        folder, below = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            if folder == root:
                raise UserError(f"cannot read folder {root}: {error.strerror}", "check its permissions") from error
            found.skipped.append(("unreadable", below))
            continue
        for entry in entries:
            path = below + entry.name
            if any("\ud800" <= letter <= "\udfff" for letter in entry.name):
                found.skipped.append(("file name is not UTF-8", path))
            elif entry.name.startswith("."):
                found.skipped.append(("hidden", path))
            elif entry.is_dir(follow_symlinks=False):
                pending.append((Path(entry.path), path + "/"))
            elif entry.is_file(follow_symlinks=False):
                found.files[path] = Path(entry.path)
            else:
                found.skipped.append(("link or special file", path))
    return found


def _reading(source: str, kind: str, walk: _Walk, commits: Mapping[str, str]) -> Reading:
    """Reading of files on disk; `commits` maps path prefixes without their slash to commits."""
    skipped = Tally()
    for reason, path in sorted(walk.skipped):
        skipped.add(reason, path)

    def read(path: str) -> bytes | None:
        try:
            return _read_regular(walk.files[path])
        except (KeyError, OSError):
            return None

    def files() -> Iterator[RawFile]:
        repositories = _repository_roots(walk)
        for path in sorted(walk.files):
            reason = _skip_by_name(path, repositories)
            if reason is None:
                try:
                    data = _read_regular(walk.files[path])
                    reason, kind_of = _skip_by_content(path, data)
                except OSError:
                    reason = "unreadable"
            if reason is not None:
                skipped.add(reason, path)
                continue
            commit = commits.get("") or commits.get(path.split("/", 1)[0], "")
            yield RawFile(path, data, kind_of, {"commit": commit, **page_facts(path)})

    return Reading(source, kind, files(), read, skipped, commits=commits)


def _read_regular(path: Path) -> bytes:
    """Bytes of a regular file, at most one more than MAX_FILE_BYTES; OSError for anything that has become something else."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        return file.read(MAX_FILE_BYTES + 1)


def _repository_roots(walk: _Walk) -> set[str]:
    """Prefixes ("" or "folder/") of folders that hold a .git or a licence: there, README and its like are not documents."""
    marks = [path for path in walk.files if Path(path).stem in _LICENCES]
    marks += [path for reason, path in walk.skipped if reason == "hidden" and Path(path).name == ".git"]
    return {path[: path.rfind("/") + 1] for path in marks}


def _skip_by_name(path: str, repositories: set[str]) -> str | None:
    name = Path(path)
    if path[: path.rfind("/") + 1] in repositories and (name.stem in _LICENCES or name.stem.lower() in _REPOSITORY_FILES):
        return "repository file (licence, readme and the like)"
    if name.suffix.lower() not in _MARKDOWN + _YAML:
        return "not Markdown"
    if any(folder.lower() == "includes" for folder in name.parts[:-1]):
        return "include (read where it is included)"
    if name.stem.lower() == "toc":
        return "table of contents"
    return None


def _skip_by_content(path: str, data: bytes) -> tuple[str | None, Kind]:
    if len(data) > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES // 1_000_000} MB", "markdown"
    if path.lower().endswith(_MARKDOWN):
        return None, "markdown"
    first_line = data[:200].decode("utf-8-sig", errors="replace").split("\n", 1)[0].replace(" ", "")
    if first_line.strip() == "###YamlMime:FAQ":
        return None, "faq"
    return "YAML other than FAQ", "markdown"


# --- the other kinds -------------------------------------------------------------------------------------------------


def _sample(source: str) -> Reading:
    """The packaged sample; its update lays `update/` over `docs/` and leaves out what `update/removed.txt` lists."""
    if not (SAMPLE / "docs").is_dir():
        raise UserError(f"the packaged sample is missing ({SAMPLE})", "install the package again")
    walk = _walk(SAMPLE / "docs")
    if source == "sample:update":
        update = _walk(SAMPLE / "update")
        removed = update.files.pop("removed.txt", None)
        gone = set(removed.read_text(encoding="utf-8").split("\n")) if removed else set()
        kept = {path: file for path, file in walk.files.items() if path not in gone}
        walk = _Walk(kept | update.files, walk.skipped + update.skipped)
    return _reading(source, "sample", walk, {})


@cache
def _repositories(file: Path) -> list[dict[str, Any]]:
    """The entries of a list of repositories such as azure_docs.toml."""
    try:
        repositories = tomllib.loads(file.read_text(encoding="utf-8"))["repository"]
        for repository in repositories:
            missing = {"name", "git", "branch", "folders", "pages", "services"} - set(repository)
            if missing:
                raise UserError(f"{file}: a repository without {', '.join(sorted(missing))}", "see the top of the file")
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {file}: {error}", "mend the file or install the package again") from error
    return repositories


def _preset(progress: Progress | None) -> Reading:
    walk = _Walk({}, [])
    commits = {}
    for repository in _repositories(PRESETS):
        name = repository["name"]
        folder, commits[name] = git.clone(
            repository["git"], branch=repository["branch"], folders=repository["folders"], progress=progress
        )
        part = _walk(folder, name + "/")
        walk.files.update(part.files)
        walk.skipped.extend(part.skipped)
    return _reading("azure-docs", "git", walk, commits)


def _existing_file(source: str) -> Path:
    kind, _, name = source.partition(":")
    path = Path(name).expanduser()
    if not name or not path.is_file():
        raise UserError(f"source {source!r}: {name or 'no file name'} is not a file", f"give {kind}:FILE")
    return path.resolve()


def _book(source: str) -> Reading:
    path = _existing_file(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check its permissions") from error
    parts, notices = book.split(data, path.name)
    files = (RawFile(part.id, part.text.encode(), "text", {"title": part.title}) for part in parts)
    reading = Reading(f"book:{path}", "book", files, lambda _: None)
    for notice in notices:
        reading.notes.add(notice, path.name)
    return reading


def _jsonl(source: str) -> Reading:
    """One document a line: `id` (or BEIR's `_id`) and `text`, and optionally title, url, service, date; texts are taken as they
    stand."""
    path = _existing_file(source)
    found: dict[str, RawFile] = {}
    for number, record in read_jsonl(path):
        record.setdefault("id", record.get("_id"))
        for name in ("id", "text"):
            if not isinstance(record.get(name), str) or (name == "id" and not record["id"].strip()):
                raise UserError(f"{path}:{number}: {name!r} is missing or not a string", "each line needs id (or _id) and text")
        known = {name: record.get(name) or "" for name in ("title", "url", "service", "date")}
        for name, value in known.items():
            if not isinstance(value, str):
                raise UserError(f"{path}:{number}: {name!r} is not a string", "make it a string or leave it out")
        if record["id"] in found:
            raise UserError(f"{path}:{number}: id {record['id']!r} is there twice", "give each document its own id")
        # A lone surrogate is legal in JSON and is not text; it goes as it does from files.
        text = record["text"].encode("utf-8", "replace")
        found[record["id"]] = RawFile(record["id"], text, "text", known)
    return Reading(f"jsonl:{path}", "jsonl", iter([found[key] for key in sorted(found)]), lambda _: None)
