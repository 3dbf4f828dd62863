"""Which groups a file of a source is for: by its front matter, by a file beside it, or by what the user chose for all.

`report.pdf.groups` beside `report.pdf`, or `finance.groups` beside the folder `finance`, holds names of groups, one a line. The
nearest statement counts: a document's own `groups:`, then the file beside it, then that of the nearest folder, then `--groups`. A
statement that cannot be read leaves its documents out: what was meant for a few is never given to everyone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from rag_vs_ft import groups
from rag_vs_ft.corpus.front_matter import MAX_FRONT_MATTER, split_front_matter
from rag_vs_ft.corpus.readers import LeftOut
from rag_vs_ft.corpus.text import NotText, decode, normalise, visible

SUFFIX = ".groups"
WITH_FRONT_MATTER = ("markdown",)
_STATED = re.compile(r"(?:---|\+\+\+|\{)[^\n]*\n(?:(?!---|\+\+\+|\}).*\n){0,500}?[ \t]*[\"']?groups[\"']?[ \t]*[:=]", re.I)
"""A head that names groups, whole or not."""
_UNREADABLE = "its groups cannot be read (see the guide: Who may read what)"


@dataclass(frozen=True, slots=True)
class Access:
    """What is stated of groups outside the documents: by files beside them, by their line in a JSON Lines file, and for all.

    `beside` maps a path (of a file or folder, below the root) to the groups it is for, or to the reason why they cannot be read.
    """

    beside: Mapping[str, tuple[str, ...] | str] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()

    def of(self, path: str) -> tuple[str, ...]:
        """The groups that the file at `path` is for, whatever it says itself. Raises LeftOut when they cannot be read."""
        for place in (path, *map(str, PurePosixPath(path).parents)):
            if (found := self.beside.get(place)) is not None:
                return _readable(found)
        return self.chosen

    def of_document(self, path: str, kind: str, data: bytes) -> tuple[str, ...]:
        """The groups that a document is for. Raises LeftOut when they cannot be read."""
        own = _own(data) if kind in WITH_FRONT_MATTER else None
        return self.of(path) if own is None else _readable(own)


def _readable(found: tuple[str, ...] | str) -> tuple[str, ...]:
    if isinstance(found, str):
        raise LeftOut(_UNREADABLE, found)
    return found


def _own(data: bytes) -> tuple[str, ...] | str | None:
    """The groups that a front matter names, the reason why they cannot be read, or None when it names none."""
    head = data[: 4 * MAX_FRONT_MATTER]
    if b"groups" not in head.replace(b"\0", b"").lower():  # UTF-16 has a NUL in each letter
        return None
    notes: Counter[str] = Counter()
    try:
        text = normalise(decode(data)[0])
    except NotText:
        return None  # its reader says so
    fields, _ = split_front_matter(text, notes)
    for name, stated in fields.items():
        if str(name).casefold() == "groups" and not notes:
            return parsed(stated)
    if (notes or not fields) and _STATED.match(text):
        return "broken front matter"
    return None


def parsed(stated: object) -> tuple[str, ...] | str:
    """The groups that are stated, or the reason why they cannot be read."""
    try:
        return groups.parse(stated)
    except ValueError as error:
        return str(error)


def access(
    paths: Mapping[str, object],
    passed_over: Iterable[tuple[str, str]],
    bytes_of: Callable[[str], bytes | None],
    chosen: tuple[str, ...],
) -> Access:
    """What the files of a source state of groups.

    `paths` are all its files; `passed_over` has the others, each with the reason why it is not read.
    """
    beside: dict[str, tuple[str, ...] | str] = {
        path.removesuffix(SUFFIX): reason for reason, path in passed_over if path.endswith(SUFFIX)
    }
    for path in paths:
        if path.endswith(SUFFIX) and PurePosixPath(path).name != SUFFIX:
            data = bytes_of(path)
            try:
                beside[path.removesuffix(SUFFIX)] = "unreadable" if data is None else parsed(normalise(decode(data)[0]))
            except NotText:
                beside[path.removesuffix(SUFFIX)] = "not text"
    return Access(beside, chosen)


def without_document(found: Access, paths: Mapping[str, object]) -> list[str]:
    """The statements without a file or folder beside them: most likely a misspelt name."""
    places = {str(place) for path in paths for place in (path, *PurePosixPath(path).parents)}
    return sorted(visible(path + SUFFIX) for path in found.beside if path not in places)
