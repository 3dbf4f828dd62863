"""SOURCE strings -> raw files: the packaged sample, a folder, git repositories, a book, a JSON Lines file.

Every file that is met is either yielded or counted with the reason it was skipped; links are never followed. A new kind of
source is a function and a line in `OPENERS`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rag_vs_ft.corpus import azure, book, dialects, git
from rag_vs_ft.corpus.readers import BY_ENDING
from rag_vs_ft.corpus.text import NotText, decode, normalise
from rag_vs_ft.errors import UserError
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import read_jsonl
from rag_vs_ft.settings import user_path

MAX_FILE_BYTES = 8_000_000
"""Files above this size are skipped and counted; the largest file of the Azure documents has 0.7 MB."""
MAX_EXAMPLES = 20

SAMPLE = Path(__file__).parent.parent / "sample"

_LICENCES = ("LICENSE", "LICENSE-CODE", "LICENCE", "COPYING")
_REPOSITORY_FILES = ("readme", "contributing", "thirdpartynotices", "security", "code_of_conduct", "support", "changelog")


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file of a source: POSIX path below its root, its bytes, and the kind of reader that it is for.

    `dialect` is that of a Markdown file's folder. `known` holds fields of the document that the source itself states: title,
    url, service, date, commit.
    """

    path: str
    data: bytes
    kind: str
    dialect: str = dialects.DEFAULT
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
    one) to its commit; `dialects` says what the Markdown of each folder is taken for; `notes` counts what a reader should know
    of documents that were taken. `read(path)` gives the text of any regular file below the root, or None: nothing else can be
    reached.
    """

    source: str
    kind: str
    files: Iterator[RawFile]
    read: Callable[[str], str | None]
    skipped: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    commits: Mapping[str, str] = field(default_factory=dict)
    dialects: Mapping[str, dialects.Recognised] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose for a source: the dialect of its Markdown (None: found per folder), and where progress is told."""

    dialect: str | None = None
    progress: Progress = silent


Opener = Callable[[str, Options], Reading]
"""Opens a SOURCE. Raises UserError when it cannot be read."""


def read_source(source: str, options: Options | None = None) -> Reading:
    """Open SOURCE: one of `OPENERS`, a git URL or a folder.

    Raises UserError when it does not exist, cannot be reached, or is none of these, and for a dialect that is not known.
    """
    options = options or Options()
    if options.dialect is not None and options.dialect not in dialects.DIALECTS:
        raise UserError(f"there is no dialect {options.dialect!r}", f"use one of: {', '.join(sorted(dialects.DIALECTS))}")
    prefix, colon, _ = source.partition(":")
    opener = OPENERS.get(source) or OPENERS.get(prefix + colon) or (_git if git.is_url(source) else _folder)
    return opener(source, options)


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


def _reading(source: str, kind: str, walk: _Walk, options: Options, commits: Mapping[str, str] | None = None) -> Reading:
    """Reading of files on disk; `commits` maps path prefixes without their slash to commits."""
    commits = commits or {}
    skipped = Tally()
    for reason, path in sorted(walk.skipped):
        skipped.add(reason, path)

    def read(path: str) -> str | None:
        try:
            return normalise(decode(_read_regular(walk.files[path]))[0])
        except (KeyError, OSError, NotText):
            return None

    repositories = _repository_roots(walk)
    kinds: dict[str, str] = {}
    for path in sorted(walk.files):
        found = BY_ENDING.get(Path(path).suffix.lower())
        reason = _skip_by_name(path, repositories)
        if found is None or reason:
            skipped.add(reason or "not Markdown", path)
        else:
            kinds[path] = found.kind
    # YAML tells of a dialect only where it is one of Learn's own page types.
    pages = [path for path, kind in kinds.items() if kind == "markdown" or (kind == "faq" and _is_learn_page(read(path)))]
    recognised = dialects.recognise(walk.files, pages, read, options.dialect)

    def files() -> Iterator[RawFile]:
        for path, kind in kinds.items():
            known = recognised.get(dialects.folder_of(path))
            dialect = dialects.DIALECTS[known.dialect if known else dialects.DEFAULT]
            if kind in ("markdown", "faq") and (reason := dialect.passed_over(path)):
                skipped.add(reason, path)
                continue
            try:
                data = _read_regular(walk.files[path])
            except OSError:
                skipped.add("unreadable", path)
                continue
            if len(data) > MAX_FILE_BYTES:
                skipped.add(f"larger than {MAX_FILE_BYTES // 1_000_000} MB", path)
                continue
            commit = commits.get("") or commits.get(path.split("/", 1)[0], "")
            yield RawFile(path, data, kind, dialect.name, {"commit": commit, **dialect.facts(path)})

    return Reading(source, kind, files(), read, skipped, commits=commits, dialects=recognised)


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


def _is_learn_page(text: str | None) -> bool:
    return text is not None and text.startswith("### YamlMime:")


def _skip_by_name(path: str, repositories: set[str]) -> str:
    name = Path(path)
    if path[: path.rfind("/") + 1] in repositories and (name.stem in _LICENCES or name.stem.lower() in _REPOSITORY_FILES):
        return "repository file (licence, readme and the like)"
    return ""


# --- the other kinds -------------------------------------------------------------------------------------------------


def _folder(source: str, options: Options) -> Reading:
    folder = user_path(source)
    if not source or not folder.is_dir():
        problem = "is a file, not a folder" if source and folder.is_file() else "is not a folder or a git URL"
        raise UserError(
            f"source {source!r} {problem}",
            "give a folder, a git URL, sample, azure-docs, book:FILE or jsonl:FILE",
        )
    return _reading(str(folder.resolve()), "folder", _walk(folder.resolve()), options)


def _git(source: str, options: Options) -> Reading:
    clone, commit = git.clone(source, progress=options.progress)
    return _reading(git.normalise(source), "git", _walk(clone), options, {"": commit})


def _sample(source: str, options: Options) -> Reading:
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
    return _reading(source, "sample", walk, options)


def _azure(source: str, options: Options) -> Reading:
    walk = _Walk({}, [])
    commits = {}
    for repository in azure.repositories(azure.REPOSITORIES):
        name = repository["name"]
        folder, commits[name] = git.clone(
            repository["git"], branch=repository["branch"], folders=repository["folders"], progress=options.progress
        )
        part = _walk(folder, name + "/")
        walk.files.update(part.files)
        walk.skipped.extend(part.skipped)
    return _reading(source, "git", walk, replace(options, dialect=options.dialect or "learn"), commits)


def _existing_file(source: str) -> Path:
    kind, _, name = source.partition(":")
    path = user_path(name)
    if not name or not path.is_file():
        raise UserError(f"source {source!r}: {name or 'no file name'} is not a file", f"give {kind}:FILE")
    return path.resolve()


def _book(source: str, options: Options) -> Reading:
    path = _existing_file(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check its permissions") from error
    parts, notices = book.split(data, path.name)
    files = (RawFile(part.id, part.text.encode(), "text", known={"title": part.title}) for part in parts)
    reading = Reading(f"book:{path}", "book", files, lambda _: None)
    for notice in notices:
        reading.notes.add(notice, path.name)
    return reading


def _jsonl(source: str, options: Options) -> Reading:
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
        found[record["id"]] = RawFile(record["id"], text, "text", known=known)
    return Reading(f"jsonl:{path}", "jsonl", iter([found[key] for key in sorted(found)]), lambda _: None)


OPENERS: dict[str, Opener] = {
    "sample": _sample,
    "sample:update": _sample,
    "azure-docs": _azure,
    "book:": _book,
    "jsonl:": _jsonl,
}
"""A whole SOURCE, or what it begins with up to its colon -> what opens it. Git URLs and folders are tried after these."""
