"""The dialects of Markdown: how each is recognised in a folder, and what cleans it.

A dialect is one entry of `DIALECTS`. Each folder directly below the root of a source has one dialect, recognised by the marks in
its own Markdown files; configuration files of a site generator count for everything below the folder that they lie in. Without
evidence a folder is plain GitHub Markdown, which drops nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rag_vs_ft.corpus.markdown.dialect import Dialect
from rag_vs_ft.corpus.markdown.docusaurus import DOCUSAURUS
from rag_vs_ft.corpus.markdown.hugo import HUGO
from rag_vs_ft.corpus.markdown.learn import LEARN
from rag_vs_ft.corpus.markdown.mkdocs import MKDOCS
from rag_vs_ft.corpus.markdown.myst import MYST
from rag_vs_ft.corpus.readers import Read

DEFAULT = Dialect.name
EXAMINED_FILES = 300
"""Markdown files of a folder that are looked at, evenly spread over it."""
EXAMINED_BYTES = 64_000
MIN_SHARE = 0.02
"""Share of the files looked at that must bear a dialect's marks, if no configuration file names it."""


DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (LEARN, HUGO, MKDOCS, DOCUSAURUS, MYST, Dialect())}


@dataclass(frozen=True, slots=True)
class Recognised:
    """What the Markdown of one folder is taken for, and why.

    `folder` is a folder directly below the root, or "" for the files beside them. `files` counts the Markdown files that were
    looked at and `evidence`, for each dialect, those that bear its marks. `configuration` holds the paths of configuration
    files that were found, by dialect. `chosen` is True where the user named the dialect.
    """

    folder: str
    dialect: str
    files: int
    evidence: Mapping[str, int]
    configuration: Mapping[str, str]
    chosen: bool = False

    def reason(self) -> str:
        """The evidence as words: "marks in 212 of 300 files; docfx.json"."""
        if self.chosen:
            return "as told"
        said = [f"marks in {self.evidence[self.dialect]} of {self.files} files"] if self.evidence.get(self.dialect) else []
        said += [self.configuration[self.dialect]] if self.dialect in self.configuration else []
        others = ", ".join(f"{name} in {count}" for name, count in self.evidence.items() if name != self.dialect)
        return "; ".join(said or ["no marks of its own"]) + (f" (also {others})" if said and others else "")


def folder_of(path: str) -> str:
    """The folder directly below the root that a path lies in; "" for a file at the root."""
    return path.partition("/")[0] if "/" in path else ""


def recognise(paths: Iterable[str], pages: Iterable[str], read: Read, chosen: str | None = None) -> dict[str, Recognised]:
    """The dialect of each folder that holds Markdown, given all paths of a source and those of its pages."""
    by_folder: dict[str, list[str]] = {}
    for path in sorted(pages):
        by_folder.setdefault(folder_of(path), []).append(path)
    generators = {name: dialect.name for dialect in DIALECTS.values() for name in dialect.configuration}
    found = [(path, generators[path.rpartition("/")[2]]) for path in paths if path.rpartition("/")[2] in generators]
    recognised = {
        folder: _of_folder(folder, members, [entry for entry in found if folder_of(entry[0]) in ("", folder)], read, chosen)
        for folder, members in by_folder.items()
    }
    marked: Counter[str] = sum((Counter(entry.evidence) for entry in recognised.values()), Counter())
    if marked:
        main = DIALECTS[marked.most_common(1)[0][0]]
        for folder, entry in recognised.items():
            # A folder that holds only parts that other folders include has their dialect.
            if not (chosen or entry.evidence or entry.configuration) and all(map(main.passed_over, by_folder[folder])):
                recognised[folder] = replace(entry, dialect=main.name)
    return recognised


def _of_folder(folder: str, members: list[str], found: list[tuple[str, str]], read: Read, chosen: str | None) -> Recognised:
    configuration: dict[str, str] = {}
    for path, name in sorted(found, reverse=True):
        configuration[name] = path
    if chosen:
        return Recognised(folder, chosen, 0, {}, configuration, chosen=True)
    examined = members[:: -(-len(members) // EXAMINED_FILES)]
    marked: Counter[str] = Counter()
    for path in examined:
        text = (read(path) or "")[:EXAMINED_BYTES]
        marked.update(name for name, dialect in DIALECTS.items() if dialect.marks and dialect.marks.search(text))
    least = max(1, MIN_SHARE * len(examined))
    enough = {name: count for name, count in marked.items() if count >= least or name in configuration}
    candidates = sorted(configuration.keys() | enough.keys())
    best = max(candidates, key=lambda name: (enough.get(name, 0), name in configuration), default=DEFAULT)
    return Recognised(folder, best, len(examined), dict(sorted(marked.items())), configuration)
