"""SOURCE strings -> raw files: the packaged sample, a folder, git repositories, a book, a JSON Lines file.

Every file that is met is either listed or counted with the reason it was skipped; links are never followed. A new kind of
source is a function and a line in `OPENERS`.
"""

from __future__ import annotations

import codecs
import os
import posixpath
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rag_vs_ft import settings
from rag_vs_ft.corpus import azure, book, dialects, git
from rag_vs_ft.corpus.access import SUFFIX, Access, access, parsed, without_document
from rag_vs_ft.corpus.readers import BY_ENDING, HELP, Format, LeftOut
from rag_vs_ft.corpus.text import NotText, decode, normalise, visible
from rag_vs_ft.errors import UserError
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import read_jsonl
from rag_vs_ft.settings import Home, home, user_path

MAX_EXAMPLES = 20
MAX_PART_BYTES = 8_000_000
"""What is read of a file that another one includes."""

SAMPLE = Path(__file__).parent.parent / "sample"

_LICENCES = ("LICENSE", "LICENSE-CODE", "LICENCE", "COPYING")
_REPOSITORY_FILES = ("readme", "contributing", "thirdpartynotices", "security", "code_of_conduct", "support", "changelog")

OWN_FILES = "written by rag-vs-ft (its home lies in this folder)"


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file of a source, not read yet: its POSIX path below the root and the kind of reader that it is for.

    `read` gives its bytes and raises LeftOut when it cannot. `stamp` is its size and time of change (ns), None where the source
    is not made of files. `dialect` is that of its folder's Markdown. `known` holds fields of the document that the source itself
    states: title, url, service, date, commit.
    """

    path: str
    kind: str
    read: Callable[[], bytes]
    stamp: tuple[int, int] | None = None
    dialect: str = dialects.DEFAULT
    known: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The document's id: the path, with characters that steer a terminal escaped."""
        return visible(self.path)


class Tally:
    """How often each thing happened, with up to MAX_EXAMPLES examples of each."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, what: str, example: str, count: int = 1) -> None:
        """Count `what`; the example is kept while there are few, with control characters escaped."""
        self.counts[what] = self.counts.get(what, 0) + count
        kept = self.examples.setdefault(what, [])
        if len(kept) < MAX_EXAMPLES:
            kept.append(visible(example.encode("utf-8", "backslashreplace").decode("utf-8")))


@dataclass(frozen=True, slots=True)
class Reading:
    """A source that is open. `files` are in order of id; `skipped` counts the others, by reason.

    `source` is what reads the same again from any working folder; `commits` maps a repository's folder ("" for a single
    one) to its commit; `dialects` says what the Markdown of each folder is taken for; `notes` counts what a reader should know
    of documents that were taken; `access` says whom they are for. `bytes_of(path)` gives the bytes of any regular file below the
    root, or None: nothing else can be reached.
    """

    source: str
    kind: str
    files: Sequence[RawFile]
    bytes_of: Callable[[str], bytes | None]
    skipped: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    commits: Mapping[str, str] = field(default_factory=dict)
    dialects: Mapping[str, dialects.Recognised] = field(default_factory=dict)
    access: Access = field(default_factory=Access)

    def text_of(self, path: str) -> str | None:
        """The text of a file below the root; None for one that is not there or not text."""
        return _text(self.bytes_of(path))


@dataclass(frozen=True, slots=True)
class Options:
    """What a source is opened with: the home, whose files are never a source; the dialect of all its Markdown (None: found per
    folder); the groups of whatever names none itself; and where progress is reported."""

    home: Home = field(default_factory=home)
    dialect: str | None = None
    groups: tuple[str, ...] = ()
    progress: Progress = silent


Opener = Callable[[str, Options], Reading]
"""Opens a SOURCE. Raises UserError when it cannot be read."""


def read_source(source: str, options: Options | None = None) -> Reading:
    """Open SOURCE: one of `OPENERS`, a git URL, a folder or a document.

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

    files: dict[str, Path] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: _Walk) -> None:
        self.files.update(other.files)
        self.skipped.extend(other.skipped)


def _walk(root: Path, own: Home, prefix: str = "") -> _Walk:
    """List regular files with scandir; links, pipes, devices, hidden entries and unusable names are listed as skipped."""
    found = _Walk()
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
        if folder != root and _is_own(folder, {entry.name for entry in entries}, own):
            found.skipped.append((OWN_FILES, below))
            continue
        for entry in entries:
            path = below + entry.name
            if not _is_utf8(entry.name):
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


_OWN_MARKS = {
    "corpora": {"manifest.json"},
    "indexes": {"CURRENT"},
    "runs": {"run.json"},
    "results": {"manifest.json", "summary.json", "predictions.jsonl"},
}
"""The folder that a home keeps something in -> the files of which each folder in it has one."""


def _is_own(folder: Path, names: set[str], own: Home) -> bool:
    """Whether the product wrote this folder: it is part of the home or cache, or has the marks of another home's."""
    if folder in (own.results, settings.cache_folder()):
        return True
    if folder.parent in (own.corpora, own.indexes, own.runs) and folder.name.endswith(".tmp"):
        return True
    kept_in = folder.parent.name
    return bool(_OWN_MARKS.get(kept_in, set()) & names) and (kept_in != "results" or folder.parent.parent.name == "eval")


def _git_walk(clone: Path, prefix: str = "") -> _Walk:
    """The files of a clone as its commit lists them: links, submodules and what was not fetched are listed as skipped."""
    found = _Walk(skipped=[("hidden", f"{prefix}.git")])
    reasons = {"link": "link or special file", "submodule": "submodule (add it by its own address)"}
    for path, kind in git.listed(clone):
        if not _is_utf8(path):
            found.skipped.append(("file name is not UTF-8", prefix + path))
        elif any(part.startswith(".") for part in path.split("/")):
            found.skipped.append(("hidden", prefix + path))
        elif kind == "file":
            found.files[prefix + path] = clone / path
        elif kind == "absent" and Path(path).suffix.lower() in BY_ENDING:
            found.skipped.append(("outside the folders that are read", prefix + path))
        else:
            found.skipped.append((reasons.get(kind) or _no_reader(path), prefix + path))
    return found


def _reading(source: str, kind: str, walk: _Walk, options: Options, commits: Mapping[str, str] | None = None) -> Reading:
    """Reading of files on disk; `commits` maps path prefixes without their slash to commits."""
    commits = commits or {}
    skipped = Tally()
    for reason, path in sorted(walk.skipped):
        skipped.add(reason, path)

    def bytes_of(path: str) -> bytes | None:
        try:
            return _read_regular(walk.files[path], MAX_PART_BYTES)
        except (KeyError, OSError):
            return None

    stated = access(walk.files, walk.skipped, bytes_of, options.groups)
    notes = Tally()
    for path in without_document(stated, walk.files):
        notes.add("names groups for a file or folder that is not there", path)
    repositories = _repository_roots(walk)
    formats: dict[str, Format] = {}
    ids: set[str] = set()
    for path in sorted(walk.files, key=visible):
        if path.endswith(SUFFIX):
            continue
        found = BY_ENDING.get(Path(path).suffix.lower())
        reason = _skip_by_name(path, repositories)
        if visible(path) in ids:
            reason = "named like another file once control characters are escaped"
        if found is None or reason:
            skipped.add(reason or _no_reader(path), path)
        else:
            formats[path] = found
            ids.add(visible(path))
    # YAML tells of a dialect only where it is one of Learn's own page types.
    pages = [
        path
        for path, entry in formats.items()
        if entry.kind == "markdown" or (entry.kind == "faq" and _is_learn_page(bytes_of(path)))
    ]
    recognised = dialects.recognise(walk.files, pages, lambda path: _text(bytes_of(path)), options.dialect)
    files: list[RawFile] = []
    for path, entry in formats.items():
        known = recognised.get(dialects.folder_of(path))
        dialect = dialects.DIALECTS[known.dialect if known else dialects.DEFAULT]
        if entry.kind in ("markdown", "faq") and (reason := dialect.passed_over(path)):
            skipped.add(reason, path)
            continue
        commit = commits.get("") or commits.get(path.split("/", 1)[0], "")
        load = partial(_load, path, walk, entry)
        stamp = _stamp(walk.files[path])
        files.append(RawFile(path, entry.kind, load, stamp, dialect.name, {"commit": commit, **dialect.facts(path)}))
    return Reading(source, kind, files, bytes_of, skipped, notes, commits, recognised, stated)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat(follow_symlinks=False)
    except OSError:  # it went away; reading it says so
        return (0, 0)
    return found.st_size, found.st_mtime_ns


def _load(path: str, walk: _Walk, entry: Format) -> bytes:
    """The bytes of a file that is to become a document. Raises LeftOut for one that only stands for its content."""
    if _stamp(walk.files[path])[0] > entry.max_bytes:
        raise LeftOut(f"larger than {entry.max_bytes / 1e6:g} MB (split it)")
    try:
        data = _read_regular(walk.files[path], entry.max_bytes)
    except OSError as error:
        raise LeftOut("unreadable", error.strerror or str(error)) from error
    if len(data) > entry.max_bytes:
        raise LeftOut(f"larger than {entry.max_bytes / 1e6:g} MB (split it)")
    if len(data) < 1_024:
        if data.startswith((b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")):
            raise LeftOut("Git LFS pointer (fetch the files first: git lfs pull)")
        if b"/annex/objects/" in data and b"\n" not in data.strip():
            raise LeftOut("git-annex pointer (fetch the files first: git annex get)")
        # Where links cannot be made, git writes the path that one leads to into a file.
        target = _text(data) or "\n"
        if "\n" not in target and posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) in walk.files:
            raise LeftOut("link or special file")
    return data


def _text(data: bytes | None) -> str | None:
    try:
        return None if data is None else normalise(decode(data)[0])
    except NotText:
        return None


def _is_learn_page(data: bytes | None) -> bool:
    return data is not None and data.removeprefix(codecs.BOM_UTF8).startswith(b"### YamlMime:")


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _no_reader(path: str) -> str:
    """The reason for which a file of an unknown kind is left out, by its ending."""
    ending = Path(path).suffix.lower()
    usual = re.fullmatch(r"\.[a-z0-9]{1,8}", ending)
    what = f"{ending} files" if usual else "files with an unusual ending" if ending else "files without an ending"
    return f"no reader for {what}" + (f" ({HELP[ending]})" if ending in HELP else "")


def _read_regular(path: Path, most: int) -> bytes:
    """Bytes of a regular file, at most one more than `most`; OSError for anything that has become something else."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        return file.read(most + 1)


def _repository_roots(walk: _Walk) -> set[str]:
    """Prefixes ("" or "folder/") of folders that hold a .git or a licence: there, README and its like are not documents."""
    marks = [path for path in walk.files if Path(path).stem in _LICENCES]
    marks += [path for reason, path in walk.skipped if reason == "hidden" and Path(path).name == ".git"]
    return {path[: path.rfind("/") + 1] for path in marks}


def _skip_by_name(path: str, repositories: set[str]) -> str:
    name = Path(path)
    if path[: path.rfind("/") + 1] in repositories and (name.stem in _LICENCES or name.stem.lower() in _REPOSITORY_FILES):
        return "repository file (licence, readme and the like)"
    return ""


# --- the other kinds -------------------------------------------------------------------------------------------------


def _folder(source: str, options: Options) -> Reading:
    folder = user_path(source)
    if source and folder.is_file() and folder.suffix.lower() in BY_ENDING:
        return _reading(str(folder.resolve()), "file", _Walk({folder.name: folder.resolve()}), options)
    if not source or not folder.is_dir():
        problem = "is a file without a reader" if source and folder.is_file() else "is not a folder, a file or a git URL"
        raise UserError(
            f"source {source!r} {problem}",
            "give a folder, a document, a git URL, sample, azure-docs, book:FILE or jsonl:FILE",
        )
    return _reading(str(folder.resolve()), "folder", _walk(folder.resolve(), options.home), options)


def _git(source: str, options: Options) -> Reading:
    clone, commit = git.clone(source, progress=options.progress)
    return _reading(git.normalise(source), "git", _git_walk(clone), options, {"": commit})


def _sample(source: str, options: Options) -> Reading:
    """The packaged sample; its update lays `update/` over `docs/` and leaves out what `update/removed.txt` lists."""
    if not (SAMPLE / "docs").is_dir():
        raise UserError(f"the packaged sample is missing ({SAMPLE})", "install the package again")
    walk = _walk(SAMPLE / "docs", options.home)
    if source == "sample:update":
        update = _walk(SAMPLE / "update", options.home)
        removed = update.files.pop("removed.txt", None)
        gone = set(removed.read_text(encoding="utf-8").split("\n")) if removed else set()
        kept = {path: file for path, file in walk.files.items() if path not in gone}
        walk = _Walk(kept | update.files, walk.skipped + update.skipped)
    return _reading(source, "sample", walk, options)


def _azure(source: str, options: Options) -> Reading:
    walk = _Walk()
    commits = {}
    for repository in azure.repositories(azure.REPOSITORIES):
        name = repository["name"]
        folder, commits[name] = git.clone(
            repository["git"], branch=repository["branch"], folders=repository["folders"], progress=options.progress
        )
        walk.add(_git_walk(folder, name + "/"))
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
    files = [RawFile(part.id, "text", part.text.encode, known={"title": part.title}) for part in parts]
    reading = Reading(f"book:{path}", "book", files, lambda _: None, access=Access(chosen=options.groups))
    for notice in notices:
        reading.notes.add(notice, path.name)
    return reading


def _jsonl(source: str, options: Options) -> Reading:
    """One document a line: `id` (or BEIR's `_id`) and `text`, and perhaps title, url, service, date, groups.

    Texts are taken as they stand.
    """
    path = _existing_file(source)
    found: dict[str, RawFile] = {}
    stated: dict[str, tuple[str, ...] | str] = {}
    for number, record in read_jsonl(path):
        record.setdefault("id", record.get("_id"))
        for name in ("id", "text"):
            if not isinstance(record.get(name), str) or (name == "id" and not record["id"].strip()):
                raise UserError(f"{path}:{number}: {name!r} is missing or not a string", "each line needs id (or _id) and text")
        known = {name: record.get(name) or "" for name in ("title", "url", "service", "date")}
        for name, value in known.items():
            if not isinstance(value, str):
                raise UserError(f"{path}:{number}: {name!r} is not a string", "make it a string or leave it out")
        name = visible(record["id"])
        if name in found:
            raise UserError(f"{path}:{number}: id {record['id']!r} is there twice", "give each document its own id")
        if record.get("groups") is not None:
            stated[name] = groups = parsed(record["groups"])
            if isinstance(groups, str):
                raise UserError(f"{path}:{number}: 'groups': {groups}", "make it a list of names or leave it out")
        # A lone surrogate is legal in JSON and is not text; it goes as it does from files.
        text = record["text"].encode("utf-8", "replace")
        found[name] = RawFile(name, "text", partial(bytes, text), known=known)
    listed = [found[key] for key in sorted(found)]
    return Reading(f"jsonl:{path}", "jsonl", listed, lambda _: None, access=Access(stated, options.groups))


OPENERS: dict[str, Opener] = {
    "sample": _sample,
    "sample:update": _sample,
    "azure-docs": _azure,
    "book:": _book,
    "jsonl:": _jsonl,
}
"""A whole SOURCE, or what it begins with up to its colon -> what opens it. Git URLs and folders are tried after these."""
