"""What a page knows of its site: the attributes that its configuration sets, and where other pages, partials and examples lie.

A page of Antora lies in `modules/MODULE/pages/` of a component. Its `antora.yml` sets attributes, as does the site's playbook.
https://docs.antora.org/antora/latest/
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from functools import cached_property

from rag_vs_ft.corpus.front_matter import BrokenYaml, load_yaml
from rag_vs_ft.corpus.markdown.dialect import folders_above
from rag_vs_ft.corpus.readers import Read
from rag_vs_ft.corpus.text import one_line

PLAYBOOKS = ("antora-playbook.yml", "playbook.yml", "site.yml")
MAX_PAGES = 200
"""Other pages that are opened for the titles of links."""

_FAMILY = re.compile(r"((?:.*?/)?)(pages|partials|examples|attachments|images)/(?:.*/)?[^/]*$")
_MODULE = re.compile(r"((?:.*?/)?)modules/([^/]+)/$")
_RESOURCE = re.compile(r"(?:[\w.-]*@)?(?:([\w.-]+):)?(?:([\w.-]*):)?(?:(partial|example|page|attachment|image)\$)?([^:$]+)")


class Site:
    """The place of one page; `read` gives the text of another file below the root of the source, or None."""

    def __init__(self, path: str, read: Read) -> None:
        self.path = path
        self._read = read
        self._pages = 0
        family = _FAMILY.fullmatch(path)
        self._module = family[1] if family else None
        module = _MODULE.fullmatch(self._module) if self._module is not None else None
        self._component = module[1] if module else None

    def read(self, path: str) -> str | None:
        """The text of a file; None for one that is not there or outside the source."""
        name = posixpath.normpath(path)
        return None if name.startswith(("../", "/")) else self._read(name)

    def no_page(self) -> str:
        """The reason for which the file is no page of its site, or ""."""
        name = posixpath.basename(self.path)
        below = self.path.removeprefix(self._module or "")
        if name.startswith("_") or (self._component is not None and below.startswith(("partials/", "examples/"))):
            return "include (read where it is included)"
        return "navigation (Antora)" if re.search(r"(?:^|/)modules/[^/]+/nav[^/]*$", self.path) else ""

    def candidates(self, target: str, path: str, family: str = "") -> list[str]:
        """Where the file may lie that the file at `path` calls `target`, best first."""
        found = _RESOURCE.fullmatch(target)
        if found is None:
            return [posixpath.join(posixpath.dirname(path), target)]
        first, second, named, rest = found.groups()
        module = second if second is not None else first
        folder = self._module
        if module is not None and self._component is not None:
            folder = f"{self._component}modules/{module or 'ROOT'}/"
        if second is not None and first != self._own("name"):
            return []
        beside = posixpath.join(posixpath.dirname(path), rest)
        kind = named or family
        if folder is None or not kind:
            return [beside]
        known = f"{folder}{kind}s/{rest}"
        return [known] if named or module is not None else [known, beside]

    def page(self, target: str) -> str | None:
        """The text of the page that a cross reference leads to."""
        if self._pages >= MAX_PAGES:
            return None
        self._pages += 1
        name = target if re.search(r"\.\w+$", target) else f"{target}.adoc"
        found = (self.read(place) for place in self.candidates(name, self.path, "page"))
        return next((text for text in found if text is not None), None)

    def attributes(self) -> dict[str, str]:
        """The attributes that the site sets, without marks of precedence."""
        values: dict[str, object] = {}
        if self._component is not None:
            values |= {"env": "site", "env-site": "", "site-gen": "antora", "site-gen-antora": ""}
            values |= {"idprefix": "", "idseparator": "-", "page-module": (self._module or "").rstrip("/").rpartition("/")[2]}
        playbook = self._configuration(*PLAYBOOKS)
        site = playbook.get("site")
        if isinstance(site, Mapping):
            values |= {f"site-{name}": site[name] for name in ("title", "url") if name in site}
        values |= _attributes(playbook)
        for name in ("name", "title", "version"):
            if self._own(name):
                values[f"page-component-{name}"] = self._own(name)
        values["page-component-display-version"] = self._own("display_version") or self._own("version")
        values |= _attributes(self._antora)
        return {
            str(name).lower(): "" if value is True else one_line(str(value).removesuffix("@"))[:1_000]
            for name, value in values.items()
            if value not in (None, False, "~") and not (name == "page-component-display-version" and not value)
        }

    def _own(self, name: str) -> str:
        value = self._antora.get(name)
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""

    @cached_property
    def _antora(self) -> Mapping[str, object]:
        return self._configuration("antora.yml")

    def _configuration(self, *names: str) -> Mapping[str, object]:
        """The nearest file of these names above the page; empty when there is none or it cannot be read."""
        for folder in folders_above(self.path):
            for name in names:
                text = self._read(posixpath.join(folder, name))
                if text is None:
                    continue
                try:
                    found = load_yaml(text)
                except BrokenYaml:
                    continue
                if isinstance(found, Mapping) and (name != "site.yml" or "asciidoc" in found or "content" in found):
                    return found
        return {}


def _attributes(configuration: Mapping[str, object]) -> dict[str, object]:
    asciidoc = configuration.get("asciidoc")
    found = asciidoc.get("attributes") if isinstance(asciidoc, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}
