"""Git repositories -> folders: shallow, sparse clones kept in the cache, moved to the newest commit each time they are read."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from rag_vs_ft import files, settings
from rag_vs_ft.corpus.readers import BY_ENDING
from rag_vs_ft.errors import UserError
from rag_vs_ft.progress import Progress, silent

_SCHEMES = ("https://", "http://", "ssh://", "git://", "file://")
_SCP_LIKE = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:[^\s]+")
_CODE = ("py", "js", "ts", "jsx", "tsx", "java", "go", "rs", "cs", "sh", "ps1", "sql", "json", "toml", "xml", "tf", "bicep")
"""Endings of files that pages show pieces of; a site's configuration has some of them too."""
_TIMEOUT = 3600


def is_url(source: str) -> bool:
    """Whether SOURCE names a git repository: a URL, user@host:path, or an existing path that ends in .git."""
    if source.startswith(_SCHEMES) or _SCP_LIKE.fullmatch(source):
        return True
    return source.endswith(".git") and Path(source).expanduser().is_dir()


def normalise(url: str) -> str:
    """A local path as a file:// URL (git makes shallow clones of nothing else); other URLs as they are."""
    if url.startswith(_SCHEMES) or _SCP_LIKE.fullmatch(url):
        return url
    return Path(url).expanduser().resolve().as_uri()


def clone(
    url: str,
    *,
    branch: str | None = None,
    folders: Sequence[str] = (),
    progress: Progress = silent,
) -> tuple[Path, str]:
    """Folder and commit of the newest state of `branch` (default: the repository's own): documents, and code that
    they may include.

    The clone lives in the cache and is fetched again when it is there. Raises UserError when git is missing, the
    repository cannot be reached or the branch is not there, and Busy while another process fetches the same one.
    """
    url = normalise(url)
    key = files.sha256_text("\0".join([url, branch or "", *folders]))[:12]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", url.rstrip("/").removesuffix(".git").rpartition("/")[2])[-60:]
    folder = settings.cache_folder() / "git" / f"{name}-{key}"
    with files.lock(folder.with_name(f"{folder.name}.lock"), f"another process is reading {url}"):
        if not (folder / ".git").is_dir():
            progress(f"clone {url}")
            _first_time(url, folder)
        else:
            progress(f"fetch {url}")
        _git(folder, "sparse-checkout", "set", "--no-cone", *_patterns(folders), url=url)
        # A name such as "HEAD" or a branch; never an option, because "--" comes before it.
        _git(folder, "fetch", "--quiet", "--depth", "1", "--no-tags", "--", "origin", branch or "HEAD", url=url)
        _git(folder, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", url=url)
        commit = _git(folder, "rev-parse", "HEAD", url=url).strip()
    progress(f"read {url} at {commit[:12]}")
    return folder, commit


def listed(folder: Path) -> Iterator[tuple[str, Literal["file", "link", "submodule", "absent"]]]:
    """Path and kind of everything in the commit that a clone stands at; "absent" was not fetched."""
    listing = _git(folder, "ls-files", "-z", "-t", "--stage", url=str(folder))
    for entry in filter(None, listing.split("\0")):
        facts, _, path = entry.partition("\t")
        tag, mode, *_ = facts.split()
        if mode == "120000":
            yield path, "link"
        elif mode == "160000":
            yield path, "submodule"
        else:
            yield path, "absent" if tag == "S" else "file"


def _patterns(folders: Sequence[str]) -> list[str]:
    """What is checked out of these folders, or of the whole repository."""
    endings = sorted({*BY_ENDING, *(f".{ending}" for ending in _CODE)})
    below = [f"/{part.strip('/')}/**/" for part in folders] or [""]
    return [f"{prefix}*{ending}" for prefix in below for ending in endings] + ["/LICENSE*"]


def _first_time(url: str, folder: Path) -> None:
    """An empty, sparse, partial repository that knows its origin, moved into place when it is set up."""
    files.discard(folder)
    with files.publishing(folder) as making:
        _git(None, "init", "--quiet", "--template=", "--", str(making), url=url)
        _git(making, "remote", "add", "--", "origin", url, url=url)
        for key, value in (
            ("remote.origin.promisor", "true"),
            ("remote.origin.partialclonefilter", "blob:none"),
            ("core.symlinks", "false"),
            ("core.autocrlf", "false"),
        ):
            _git(making, "config", key, value, url=url)


def _environment() -> dict[str, str]:
    """The user's environment without what points git at another repository, never asking for anything."""
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
    kept = {key: value for key, value in os.environ.items() if key not in elsewhere}
    kept.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    return kept | {
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS": "",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
        "LC_ALL": "C",
    }


def _shown(said: str) -> str:
    return said.strip().encode("utf-8", "replace").decode()


def _git(folder: Path | None, *arguments: str, url: str) -> str:
    """Standard output of one git command; UserError with git's own last line when it fails."""
    command = ["git", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60", "-c", "core.hooksPath=/dev/null"]
    command += ["-C", str(folder)] if folder else []
    try:
        done = subprocess.run(
            [*command, *arguments],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise UserError("git is not installed", "install git, or download the documents and add the folder") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"git took more than {_TIMEOUT // 60} minutes for {url}", "try again, or add a folder") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "no message")
        raise UserError(
            f"git {arguments[0]} failed for {url}: {_shown(said)}",
            "check the URL, the branch, your network and access rights; or add a folder that you downloaded",
        )
    return done.stdout
