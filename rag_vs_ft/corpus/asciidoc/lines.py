"""The lines of a page, with included files in their places and without what its conditions leave out."""

from __future__ import annotations

import re
import textwrap
from collections import Counter

from rag_vs_ft.corpus.asciidoc.attributes import ENTRY, Attributes
from rag_vs_ft.corpus.asciidoc.site import Site

MAX_INCLUDES = 8
"""Files in files."""
MAX_INCLUDED = 1_000_000
"""Characters that all includes of a page may have."""

_INCLUDE = re.compile(r"include::([^\[\]]*[^\[\]\s])\[(.*)\]$")
_CONDITION = re.compile(r"(ifdef|ifndef|ifeval|endif)::([^\[\s]*)\[(.*)\]$")
_ESCAPED = re.compile(r"\\(?=(?:include|ifdef|ifndef|ifeval|endif)::[^\[]*\[.*\]$)")
_COMPARISON = re.compile(r"\s(==|!=|<=|>=|<|>)\s")
VERBATIM = re.compile(r"(-{4,}+|\.{4,}|\+{4,}+|/{4,}|`{3,})[\w,+-]*$")
"""The first line of a block in which no attribute is set; its last line is what stands in the group."""
_TAG = re.compile(r"(?:^|(?<=\s)|(?<=\W))(tag|end)::(\S{1,200}?)\[\](?=$|\s|-->|\*/)")


class Lines:
    """One page's lines; `attributes` are those that hold before its first line."""

    def __init__(self, site: Site, attributes: Attributes, notes: Counter[str]) -> None:
        self._site = site
        self._attributes = attributes
        self._notes = notes
        self._included = 0
        self._verbatim = ""

    def of(self, text: str) -> list[str]:
        """The lines of the page with this text."""
        return self._lines(text.split("\n"), self._site.path, 0)

    def _lines(self, lines: list[str], path: str, depth: int) -> list[str]:
        found: list[str] = []
        conditions: list[tuple[str, bool]] = []
        for line in map(str.rstrip, lines):
            directive = line if "::" in line and self._verbatim[:1] != "/" else ""
            if directive and (condition := _CONDITION.match(directive)):
                self._condition(condition, conditions, found)
            elif not all(holds for _, holds in conditions):
                continue
            elif directive and (include := _INCLUDE.match(directive)):
                found += self._include(include[1], include[2], path, depth)
            else:
                self._note_state(line, found)
                found.append(_ESCAPED.sub("", line, count=1) if directive else line)
        return found

    def _note_state(self, line: str, before: list[str]) -> None:
        """Attributes and verbatim blocks, as far as conditions and includes depend on them."""
        if self._verbatim:
            self._verbatim = "" if line == self._verbatim else self._verbatim
        elif mark := VERBATIM.match(line):
            self._verbatim = mark[1]
        elif entry := ENTRY.match(line):
            self._attributes.set(entry[1], (entry[2] or "").removesuffix(" \\"))

    def _condition(self, condition: re.Match[str], conditions: list[tuple[str, bool]], found: list[str]) -> None:
        kind, name, text = condition.groups()
        if kind == "endif":
            if conditions and (not name or name == conditions[-1][0]):
                conditions.pop()
            return
        if kind == "ifeval":
            conditions.append(("", self._compares(text)))
            return
        together = all if "+" in name else any
        known = together(part in self._attributes for part in re.split(r"[,+]", name))
        holds = known == (kind == "ifdef")
        if not text:
            conditions.append((name, holds))
        elif holds and all(others for _, others in conditions):
            self._note_state(text, found)
            found.append(text)

    def _compares(self, text: str) -> bool:
        before, sign, after = [*_COMPARISON.split(text, maxsplit=1), "", ""][:3]
        if not before.strip() or not after.strip():
            return False
        left, right = self._value(before.strip()), self._value(after.strip())
        if isinstance(left, float) != isinstance(right, float):
            return sign == "!="
        less = left < right  # type: ignore[operator]
        return {"==": left == right, "!=": left != right, "<": less, "<=": less or left == right}.get(
            sign, not less if sign == ">=" else not less and left != right
        )

    def _value(self, text: str) -> float | str:
        quoted = re.fullmatch(r"([\"'])(.*)\1", text)
        resolved = self._attributes.resolved(quoted[2] if quoted else text)
        if quoted is None and re.fullmatch(r"-?\d{1,15}(?:\.\d{1,15})?", resolved):
            return float(resolved)
        return resolved

    def _include(self, target: str, options: str, path: str, depth: int) -> list[str]:
        target = self._attributes.resolved(target)
        options = self._attributes.resolved(options)
        names = [] if "://" in target else self._site.candidates(target, path)
        found = next(((name, text) for name in names if (text := self._site.read(name)) is not None), None)
        if found is None or depth >= MAX_INCLUDES or self._included + len(found[1]) > MAX_INCLUDED:
            self._notes["unresolved includes"] += "opts=optional" not in options and "%optional" not in options
            return []
        name, text = found
        self._included += len(text)
        self._notes["includes resolved"] += 1
        lines = self._lines(picked(text.removesuffix("\n").split("\n"), options), name, depth + 1)
        if indent := re.search(r"\bindent=\"?(\d{1,2})", options):
            lines = textwrap.indent(textwrap.dedent("\n".join(lines)), " " * int(indent[1])).split("\n")
        offset = re.search(r"\bleveloffset=\"?([+-]?\d)", options)
        if offset is None or self._verbatim:
            return lines
        before = self._attributes.number("leveloffset")
        now = before + int(offset[1]) if offset[1][0] in "+-" else int(offset[1])
        return [f":leveloffset: {now}", "", *lines, "", f":leveloffset: {before}", ""]


def picked(lines: list[str], options: str) -> list[str]:
    """The lines of an included file of the numbers or between the tags that the include asks for; without the marks of tags."""
    if ranges := re.search(r"\blines=(?:\"([^\"]*)\"|([^\s,\]]+))", options):
        return _numbered(lines, ranges[1] or ranges[2])
    wanted = re.search(r"\btags?=(?:\"([^\"]*)\"|([^,\]]+))", options)
    names = [name.strip() for name in re.split(r"[;,]", wanted[1] or wanted[2] or "")] if wanted else []
    return _tagged(lines, [name for name in names if name])


def _numbered(lines: list[str], ranges: str) -> list[str]:
    kept: list[str] = []
    for first, dots, last in re.findall(r"(\d{1,7})(?:(\.\.|-)(-?\d{0,7}))?", ranges):
        end = (len(lines) if last in ("", "-1", "-") else int(last)) if dots else int(first)
        kept += lines[max(0, int(first) - 1) : end]
    return kept


def _tagged(lines: list[str], names: list[str]) -> list[str]:
    """`*` is every tag, `**` every line, `!` leaves out; what stands in the innermost tag decides."""
    chosen = {name.lstrip("!"): not name.startswith("!") for name in names}
    everything = chosen.pop("**", None)
    any_tag = chosen.pop("*", None)
    if everything is None:
        # Only tags that are left out, or the wildcard left out, begin with every line.
        everything = not names or not (any_tag or any(chosen.values()))
    kept: list[str] = []
    open_tags: list[tuple[str, bool]] = []
    for line in lines:
        if "::" in line and (mark := _TAG.search(line)):
            kind, name = mark.groups()
            outer = open_tags[-1][1] if open_tags else everything
            if kind == "tag":
                open_tags.append((name, chosen.get(name, outer if any_tag is None or not names else any_tag)))
            else:
                place = next((place for place in range(len(open_tags) - 1, -1, -1) if open_tags[place][0] == name), None)
                if place is not None:
                    del open_tags[place]
        elif open_tags[-1][1] if open_tags else everything:
            kept.append(line)
    return kept
