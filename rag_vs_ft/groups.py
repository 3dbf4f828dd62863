"""Who may read a document: it names groups, and who searches belongs to groups. A document that names none is for everyone.

A name is compared letter by letter, so that a misspelt one lets nobody in.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MAX_GROUPS = 100
MAX_LENGTH = 100


def parse(stated: object) -> tuple[str, ...]:
    """The groups that a front matter, a file or an option states: a list of names, or names with commas or lines between them.

    Returns them sorted, each once. Raises ValueError with a reason for anything else, an empty list too: whoever reads it must
    take that for "nobody" and never for "everyone".
    """
    names: Iterable[object] = stated.replace("\n", ",").split(",") if isinstance(stated, str) else stated  # type: ignore[assignment]
    if not isinstance(names, list | tuple):
        raise ValueError("groups are a list of names")
    found = {_name(name) for name in names if not isinstance(name, str) or name.strip()}
    if not 1 <= len(found) <= MAX_GROUPS:
        raise ValueError("no group is named" if not found else f"over {MAX_GROUPS} groups")
    return tuple(sorted(found))


def _name(stated: object) -> str:
    name = unicodedata.normalize("NFC", stated.strip()) if isinstance(stated, str) else ""
    if not name or len(name) > MAX_LENGTH or "," in name or not name.isprintable():
        raise ValueError(f"{str(stated)[:40]!r} is not the name of a group (text of up to {MAX_LENGTH} characters, no comma)")
    return name


def may_read(groups: Iterable[str], reader: frozenset[str]) -> bool:
    """Whether someone of the groups `reader` may read what names these `groups`."""
    named = tuple(groups)
    return not named or not reader.isdisjoint(named)
