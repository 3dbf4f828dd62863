"""AsciiDoc. There is no library for it with a permissive licence, so its blocks are read here, line by line."""

from __future__ import annotations

import posixpath
import re
import textwrap
from collections import Counter

from rag_vs_ft.corpus.markdown.blocks import Block, code_block, code_span, table
from rag_vs_ft.corpus.readers import Content, FileContext
from rag_vs_ft.corpus.readers.assemble import assemble, heading, paragraph
from rag_vs_ft.corpus.readers.text import text_of

MAX_INCLUDES = 5
MAX_INCLUDED = 1_000_000
MAX_DEPTH = 8

_ATTRIBUTE = re.compile(r":(!?[\w-]+)(!?):\s*(.*)$")
_HEADING = re.compile(r"(={1,6}|#{1,6})\s+(\S.*)$")
_DELIMITER = re.compile(r"(-{4,}|={4,}|\.{4,}|\*{4,}|_{4,}|\+{4,}|/{4,}|`{3,}.*|--|\|={3,}|[,:!]={3,})\s*$")
_BLOCK_ATTRIBUTES = re.compile(r"\[(?!\[)([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]$")
_ADMONITION = re.compile(r"(NOTE|TIP|IMPORTANT|WARNING|CAUTION):\s+(.*)$")
_ITEM = re.compile(r"\s*(\*{1,6}|-|\.{1,6}|\d+\.|[a-z]\.)\s+(\S.*)$")
_TERM = re.compile(r"(\S.*?)(:{2,4}|;;)(?:\s+(.*))?$")
_CALLOUTS = 200
"""Characters at the end of a line of code in which its callouts stand."""
_MARK = re.compile(r"\s*(?:(?://|#|--|;;)\s*)?<(?:\d+|\.)>(?=\s*(?:<\d+>\s*)*$)")
_CALLOUT = re.compile(r"<(\d+|\.)>\s+(.*)$")
_INCLUDE = re.compile(r"include::([^\[\]]+)\[([^\]]*)\]\s*$")
_CONDITION = re.compile(r"(ifdef|ifndef|ifeval|endif)::([^\[]*)\[(.*)\]\s*$")
_INSIDE = r"(?:[^\]\\]|\\.){0,2000}"
"""What stands between brackets. What is never closed would be searched for its end from each place where it begins."""
_REFERENCE = re.compile(r"\{([\w-]+)\}")
_MACROS = (
    (
        re.compile(rf"(?<![\w`])(?:link|xref|mailto):([^\s\[\]]{{1,2000}})\[({_INSIDE})\]"),
        lambda found: _link_text(found[2]) or _page(found[1]),
    ),
    # An address may begin with an attribute of the site, such as `{url-project}/issues[...]`.
    (
        re.compile(rf"((?:(?:https?|ftp|irc)://|\{{[\w-]{{1,100}}\}})[^\s\[\]<>]{{0,2000}})\[({_INSIDE})\]"),
        lambda found: _link_text(found[2]) or found[1],
    ),
    (re.compile(r"<<([^,<>]+),\s*+([^<>]+)>>"), r"\2"),
    (re.compile(r"<<([^<>]+)>>"), r"\1"),
    (re.compile(r"\b(?:kbd|btn):\[([^\]]{0,200})\]"), r"\1"),
    (re.compile(r"\bmenu:([^\[]{0,200})\[([^\]]{0,200})\]"), r"\1 > \2"),
    (re.compile(rf"\bfootnote(?:ref)?:[^\[\s]{{0,200}}\[({_INSIDE})\]"), r" (\1)"),
    (re.compile(r"\b(?:pass|stem|latexmath|asciimath):[a-z,]{0,200}\[([^\]]{0,2000})\]"), r"\1"),
    (re.compile(r"\b(?:image|icon):[^\s\[\]:]{1,2000}\[([^\],]{0,1000})(?:,[^\]]{0,1000})?\]"), r"\1"),
    (re.compile(r"\(\(\(?[^()]*\)\)\)?"), lambda found: "" if found[0].startswith("(((") else found[0].strip("()")),
    (re.compile(r"\[\[[^\]]{0,500}\]\]|\banchor:[^\[]{0,500}\[[^\]]{0,500}\]"), ""),
    (re.compile(r"\[[.#%][^\]]{0,500}\](?=[#*_`])"), ""),
)
_CODE = re.compile(r"(?<![\w`])(``?)\+?(?!\s)(.{1,1000}?)(?<!\s)\+?\1(?![\w`])")
_MARKS = re.compile(r"(?<![\w*_#])([*_#])(?![\s*_#])(.{1,500}?)(?<!\s)\1(?![\w*_#])|(\*\*|__|##)(.{1,500}?)\3")


def read(data: bytes, context: FileContext) -> Content:
    """The document with its includes; comments, conditions that do not hold and navigation are left out."""
    text, notes = text_of(data)
    reader = _Reader(context, notes)
    lines = reader.included(text.split("\n"), context.path, 0)
    blocks = reader.blocks(lines, 0)
    return assemble([("", blocks)], notes, reader.inline(reader.attributes.get("title", "")))


def _link_text(text: str) -> str:
    """The text of a link, without the attributes behind it and the mark of a new window."""
    return re.sub(r",\s*\w+=.*$", "", text).strip('"').rstrip("^")


def _page(target: str) -> str:
    """The name of a page that a link without text leads to."""
    name = re.sub(r"\.adoc$", "", target.partition("#")[0] or target.partition("#")[2])
    return re.split(r"[/:]", name)[-1].replace("-", " ").replace("_", " ").strip()


class _Reader:
    def __init__(self, context: FileContext, notes: Counter[str]) -> None:
        self.context = context
        self.notes = notes
        self.attributes = {
            "nbsp": " ",
            "empty": "",
            "sp": " ",
            "plus": "+",
            "asterisk": "*",
            "lt": "<",
            "gt": ">",
            "amp": "&",
            "vbar": "|",
        }
        self.size = 0

    # --- before parsing: includes, conditions, attributes ---

    def included(self, lines: list[str], path: str, depth: int) -> list[str]:
        """The lines with included files in their places, and without what its conditions leave out."""
        found: list[str] = []
        hidden: list[bool] = []
        for line in lines:
            if condition := _CONDITION.match(line):
                self._condition(condition, hidden, found)
                continue
            if any(hidden):
                continue
            if attribute := _ATTRIBUTE.match(line):
                self._set(attribute)
            if include := _INCLUDE.match(line):
                found += self._include(self.resolved(include[1]), include[2], path, depth)
            elif line.startswith("\\include::"):
                found.append(line[1:])
            else:
                found.append(line)
        return found

    def _condition(self, condition: re.Match[str], hidden: list[bool], found: list[str]) -> None:
        kind, name, text = condition.groups()
        if kind == "endif":
            if hidden:
                hidden.pop()
            return
        known = any(part in self.attributes for part in re.split(r"[,+]", name))
        holds = True if kind == "ifeval" else known == (kind == "ifdef")
        if text and kind != "ifeval":
            if holds and not any(hidden):
                found.append(text)
        else:
            hidden.append(not holds)

    def _set(self, attribute: re.Match[str]) -> None:
        name = attribute[1].strip("!")
        if "!" in attribute[1] + attribute[2]:
            self.attributes.pop(name, None)
        else:
            self.attributes[name] = attribute[3].strip()[:1_000]

    def resolved(self, text: str) -> str:
        """The text with attributes in the place of their names; unknown names stay."""
        for _ in range(3):
            text, count = _REFERENCE.subn(lambda found: self.attributes.get(found[1], found[0]), text)
            if not count or len(text) > 20_000:
                break
        return text

    def _include(self, target: str, options: str, path: str, depth: int) -> list[str]:
        module = re.match(r"(.*?/?)(?:pages|partials|examples)/", path)
        root = module[1] if module else ""
        target = target.rpartition(":")[2] if re.match(r"[\w@.-]+:", target) else target
        names = [posixpath.join(posixpath.dirname(path), target)]
        if family := re.match(r"(partial|example|page|attachment)\$(.*)", target):
            names = [f"{root}{family[1]}s/{family[2]}"]
        text = next((text for name in names if (text := self.context.read(posixpath.normpath(name))) is not None), None)
        if text is None or depth >= MAX_INCLUDES or self.size + len(text) > MAX_INCLUDED:
            self.notes["unresolved includes"] += 1
            return []
        self.size += len(text)
        self.notes["includes resolved"] += 1
        lines = _tagged(text.split("\n"), options)
        return self.included(lines, posixpath.normpath(names[0]), depth + 1)

    # --- blocks ---

    def blocks(self, lines: list[str], depth: int) -> list[Block]:
        """The blocks of some lines."""
        blocks: list[Block] = []
        place = 0
        style, title = "", ""
        while place < len(lines):
            line = lines[place].rstrip()
            stripped = line.strip()
            if (
                not stripped
                or (stripped.startswith("//") and not stripped.startswith("////"))
                or re.fullmatch(r"\[\[.*\]\]", stripped)
            ):
                place += 1
                continue
            if attribute := _ATTRIBUTE.match(line):
                self._set(attribute)
                place += 1
                continue
            if found := _BLOCK_ATTRIBUTES.match(stripped):
                style = found[1]
                place += 1
                continue
            if re.match(r"\.[^\s.]", line) and not _ITEM.match(line):
                title = self.inline(line[1:])
                place += 1
                continue
            if found := _HEADING.match(line):
                blocks.append(heading(self.inline(found[2]), len(found[1])))
                place += 1
                # The author's lines below a document's title are its header.
                if len(found[1]) == 1:
                    while (
                        place < len(lines)
                        and lines[place].strip()
                        and not _ATTRIBUTE.match(lines[place])
                        and depth == 0
                        and len(blocks) == 1
                        and re.match(r"[\w .<>@-]+$|v?\d", lines[place])
                    ):
                        place += 1
                style, title = "", ""
                continue
            if title and not found:
                blocks.append(paragraph(f"{title}:" if title[-1] not in ".:?!" else title))
                title = ""
            if delimiter := _DELIMITER.match(line):
                end = next(
                    (
                        later
                        for later in range(place + 1, len(lines))
                        if lines[later].rstrip() == delimiter[1].split(" ")[0].rstrip()
                        or (delimiter[1].startswith("```") and lines[later].rstrip() == "```")
                    ),
                    len(lines),
                )
                blocks += self._delimited(delimiter[1], lines[place + 1 : end], style, depth)
                place = end + 1
            elif re.match(r"(?:image|video|audio)::", stripped):
                self.notes["images dropped"] += 1
                place += 1
            elif re.match(r"(?:toc|nav|badge|icon)::|'{3,}$|<<<$", stripped):
                place += 1
            elif found := _ADMONITION.match(line):
                text, place = self._text(lines, place, found[2])
                blocks.append(paragraph(f"{found[1].capitalize()}: {text}"))
            elif _ITEM.match(line) or _CALLOUT.match(stripped) or (_TERM.match(stripped) and not stripped.startswith("|")):
                found_blocks, after = self._list(lines, place, depth)
                if after == place:
                    found_blocks, after = [paragraph(self.inline(line))], place + 1
                blocks += found_blocks
                place = after
            elif line[0] in " \t" or style.startswith(("source", "listing", "literal")):
                end = next((later for later in range(place, len(lines)) if not lines[later].strip()), len(lines))
                blocks.append(_code(lines[place:end], style))
                place = end
            else:
                text, place = self._text(lines, place, line)
                blocks.append(
                    paragraph(
                        f"{style.split(',')[0].capitalize()}: {text}"
                        if style in ("NOTE", "TIP", "IMPORTANT", "WARNING", "CAUTION")
                        else text
                    )
                )
            style = ""
        return blocks

    def _text(self, lines: list[str], place: int, first: str) -> tuple[str, int]:
        """A paragraph and the place of the line after it; `first` is its first line."""
        said = [first]
        place += 1
        while place < len(lines) and lines[place].strip() and not _ends_text(lines[place]):
            if not lines[place].startswith("//"):
                said.append(lines[place])
            place += 1
        joined = "\n".join(line[:-2] if line.endswith(" +") else line for line in said)
        return self.inline(joined), place

    def _delimited(self, mark: str, inside: list[str], style: str, depth: int) -> list[Block]:
        if mark.startswith("////") or depth > MAX_DEPTH:
            return []
        if mark.startswith(("|=", ",=", ":=", "!=")):
            return self._table(inside, mark[0], style)
        if mark.startswith(("----", "....", "```")) or (mark == "--" and style.startswith(("source", "listing"))):
            return [_code(inside, style or (f"source,{mark.strip('`')}" if mark.startswith("```") else ""))]
        if mark.startswith("++++"):
            return [_code(inside, style)] if style.startswith(("stem", "latexmath", "asciimath")) else []
        inner = self.blocks(inside, depth + 1)
        name = style.split(",")[0].strip().upper()
        if name in ("NOTE", "TIP", "IMPORTANT", "WARNING", "CAUTION") and inner:
            if inner[0].kind == "paragraph":
                inner[0].text = f"{name.capitalize()}: {inner[0].text}"
            else:
                inner.insert(0, paragraph(f"{name.capitalize()}:"))
        return [Block("quote", parts=[inner])] if mark.startswith("____") and inner else inner

    def _list(self, lines: list[str], place: int, depth: int) -> tuple[list[Block], int]:
        """A list of any kind with what is attached to its items, and the place after it."""
        roots: list[Block] = []
        stack: list[tuple[str, Block]] = []
        while place < len(lines):
            line = lines[place]
            stripped = line.strip()
            if not stripped:
                after = next((later for later in range(place, len(lines)) if lines[later].strip()), len(lines))
                if after < len(lines) and (
                    _ITEM.match(lines[after]) or _CALLOUT.match(lines[after]) or _TERM.match(lines[after].strip())
                ):
                    place = after
                    continue
                break
            if stripped == "+" and stack:
                attached, place = self._attached(lines, place + 1)
                stack[-1][1].parts[-1] += self.blocks(attached, depth + 1)
                continue
            item, callout, term = _ITEM.match(line), _CALLOUT.match(stripped), _TERM.match(stripped)
            if item:
                mark, first = re.sub(r"\d+", "1", item[1]), item[2]
            elif callout:
                mark, first = "<1>", callout[2]
            elif term:
                mark, first = term[2], f"{term[1]}:"
            else:
                break
            known = next((number for number, (other, _) in enumerate(stack) if other == mark), None)
            if known is not None:
                del stack[known + 1 :]
            elif len(stack) < MAX_DEPTH:
                ordered = mark[0] in ".1<" or mark[0].isalpha()
                block = Block("list", start=1 if ordered else None, tight=True)
                (stack[-1][1].parts[-1] if stack else roots).append(block)
                stack.append((mark, block))
            if term and not item and not callout:
                said = term[3] or ""
                place += 1
                while not said and place < len(lines) and not lines[place].strip():
                    place += 1
                if (
                    not said
                    and place < len(lines)
                    and not _ITEM.match(lines[place])
                    and not _ends_text(lines[place])
                    and not _TERM.match(lines[place].strip())
                ):
                    said, place = self._text(lines, place, lines[place].strip())
                elif said:
                    said, place = self._text(lines, place - 1, said)
                stack[-1][1].parts.append([paragraph(f"{self.inline(term[1])}: {said}".strip())])
            else:
                text, place = self._text(
                    lines, place, re.sub(r"^\[([ x*])\] ", lambda box: "[x] " if box[1] != " " else "[ ] ", first)
                )
                stack[-1][1].parts.append([paragraph(text)])
        return roots, place

    def _attached(self, lines: list[str], place: int) -> tuple[list[str], int]:
        """The block that a "+" attaches to an item, and the place after it."""
        start = place
        while place < len(lines) and (_BLOCK_ATTRIBUTES.match(lines[place].strip()) or re.match(r"\.[^\s.]", lines[place])):
            place += 1
        if place < len(lines) and (delimiter := _DELIMITER.match(lines[place])):
            mark = delimiter[1]
            place = next((later + 1 for later in range(place + 1, len(lines)) if lines[later].rstrip() == mark), len(lines))
        else:
            while place < len(lines) and lines[place].strip() and lines[place].strip() != "+" and not _ITEM.match(lines[place]):
                place += 1
        return lines[start : max(place, start + 1)], max(place, start + 1)

    def _table(self, inside: list[str], mark: str, style: str) -> list[Block]:
        if mark in ",:":
            rows = [[self.inline(cell.strip().strip('"')) for cell in line.split(mark)] for line in inside if line.strip()]
            return [table(rows)] if rows else []
        counted = re.search(r"cols\s*=\s*\"?([^\"\]]+)", style)
        width = 0
        if counted:
            times = re.fullmatch(r"\s*(\d+)\*?.*", counted[1].split(",")[0])
            many = re.match(r"\s*(\d+)\*", counted[1])
            width = int(many[1]) if many and "," not in counted[1] else counted[1].count(",") + counted[1].count(";") + 1
            if width == 1 and times and not many:
                width = 1
        cells: list[str] = []
        first = 0
        for line in inside:
            if not line.strip():
                continue
            pieces = (
                re.split(r"(?<!\\)(?:(?<!\d)(?:\d++(?:\.\d++)?|\.\d++)[+*])?[<^>]?(?:\.[<^>])?[adehlmsv]?(?<!\\)\|", line)
                if "|" in line
                else [line]
            )
            if cells and pieces[0].strip():
                cells[-1] += "\n" + pieces[0]
            cells += pieces[1:]
            if not first and cells:
                first = len(cells)
        width = min(max(1, width or first), 100)
        shown = [self.inline(cell.strip()).replace("\n", " ").replace("\\|", "|") for cell in cells]
        rows = [shown[start : start + width] for start in range(0, len(shown), width)]
        return [table(rows)] if any(any(row) for row in rows) else []

    # --- text ---

    def inline(self, text: str) -> str:
        """Text without marks and macros; code keeps its backticks."""
        codes: list[str] = []

        def keep(found: re.Match[str]) -> str:
            codes.append(code_span(self.resolved(found[2].replace("\n", " "))))
            return f"\x00{len(codes) - 1}\x00"

        text = _CODE.sub(keep, text[:200_000])
        text = self.resolved(text)
        for pattern, replacement in _MACROS:
            text = pattern.sub(replacement, text)
        for _ in range(2):
            text = _MARKS.sub(lambda found: found[2] or found[4], text)
        text = (
            re.sub(r"\+([^+\s][^+]*)\+", r"\1", text).replace('"`', "“").replace('`"', "”").replace("`'", "’").replace("'`", "‘")
        )
        return re.sub(r"\x00(\d+)\x00", lambda found: codes[int(found[1])], text).strip()


def _ends_text(line: str) -> bool:
    stripped = line.strip()
    return bool(
        stripped == "+"
        or _DELIMITER.match(line)
        or _ITEM.match(line)
        or _CALLOUT.match(stripped)
        or _BLOCK_ATTRIBUTES.match(stripped)
        or (_TERM.fullmatch(stripped) and stripped.endswith("::"))
    )


def _code(lines: list[str], style: str) -> Block:
    names = [part.strip().strip('"') for part in style.split(",")]
    language = names[1] if len(names) > 1 and re.fullmatch(r"[\w+#-]+", names[1]) and names[0].startswith("source") else ""
    lines = textwrap.dedent("\n".join(lines)).split("\n")
    return code_block("\n".join(line[:-_CALLOUTS] + _MARK.sub("", line[-_CALLOUTS:]) for line in lines), language)


def _tagged(lines: list[str], options: str) -> list[str]:
    """The lines of an included file between its tags or of its numbers, as the options of the include ask; without tag marks."""
    mark = re.compile(r"(?:tag|end)::([\w-]+)\[\]")
    if wanted := re.search(r"tags?=\"?([\w;,*-]+)", options):
        names = set(re.split(r"[;,]", wanted[1]))
        kept: list[str] = []
        inside: list[str] = []
        for line in lines:
            if found := mark.search(line):
                if "end::" in line:
                    inside = [name for name in inside if name != found[1]]
                else:
                    inside.append(found[1])
            elif names & set(inside) or ("*" in "".join(names) and inside):
                kept.append(line)
        return kept
    if ranges := re.search(r"lines=\"?([\d.;,-]+)", options):
        found_ranges = re.findall(r"(\d+)(?:\.\.(-?\d+))?", ranges[1])
        return [
            line for first, last in found_ranges for line in lines[int(first) - 1 : int(last or first) if last != "-1" else None]
        ]
    return [line for line in lines if not mark.search(line)]
