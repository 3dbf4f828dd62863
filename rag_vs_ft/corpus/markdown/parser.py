"""The parser that all dialects share: CommonMark, tables, footnotes and mathematics, in time that grows with the text.

Where CommonMark lets a construct that is never closed swallow the rest of its document (comments, scripts, processing
instructions), only the line that opens it is taken; where it stops reading because of nesting, the rest stays as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from itertools import islice
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import normalizeReference
from markdown_it.rules_block import StateBlock, html_block, reference, table
from markdown_it.rules_inline import StateInline, emphasis, strikethrough
from mdit_py_plugins.footnote.index import footnote_def

MAX_NESTING = 64
"""Levels of quotes and lists (a list in an item is two) below which blocks are no longer looked for."""
MAX_BRACKETS = 20
"""Brackets in brackets in which a link is still looked for."""
MAX_DELIMITERS = 1_000
"""Emphasis marks of one paragraph: their pairing takes time that grows with the square of their number."""
STEPS_PER_CHARACTER = 6
FREE_STEPS = 200_000

TERMINATES = ["paragraph", "reference", "blockquote", "list"]
"""The rules that a block rule of a dialect may interrupt."""


class TooMuchWork(Exception):
    """The text makes the parser try far more than its length warrants."""


def new_parser() -> MarkdownIt:
    """A parser of the common constructs, to which a dialect adds its rules."""
    parser = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING + 36}).enable(["table", "strikethrough"])
    parser.block.ruler.before("table", "bounds", _bounds, {"alt": TERMINATES})
    parser.block.ruler.at("table", _whole_table, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.at("reference", _definition)
    parser.block.ruler.before("html_block", "unclosed_html", _unclosed_html, {"alt": ["paragraph", "reference", "blockquote"]})
    parser.block.ruler.at("html_block", _whole_html, {"alt": ["paragraph", "reference", "blockquote"]})
    parser.block.ruler.before("reference", "footnote_def", footnote_def, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.after("fence", "math_block", _math_block, {"alt": TERMINATES})
    parser.inline.ruler.at("emphasis", _between_ideographs(emphasis.tokenize))
    parser.inline.ruler.at("strikethrough", _between_ideographs(strikethrough.tokenize))
    parser.inline.ruler.before("text", "inline_bounds", _inline_bounds)
    parser.inline.ruler.after("backticks", "math", _math)
    parser.inline.ruler.before("link", "footnote_ref", _footnote_ref)
    parser.inline.ruler2.before("balance_pairs", "few_delimiters", _few_delimiters)
    return parser


# --- bounds ---


def _count(env: MutableMapping[str, Any]) -> None:
    """Count a step. `length` is how much has been parsed, of the document and what it includes."""
    env["steps"] += 1
    if env["steps"] > FREE_STEPS + STEPS_PER_CHARACTER * env["length"]:
        raise TooMuchWork


def _bounds(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Count a step; below the deepest level, what is left is one paragraph."""
    _count(state.env)
    if silent or state.level < MAX_NESTING:
        return False
    token = state.push("paragraph_open", "p", 1)
    token.map = [start, end]
    inline = state.push("inline", "", 0)
    inline.content = state.getLines(start, end, state.blkIndent, False).strip()
    inline.children = []
    state.push("paragraph_close", "p", -1)
    state.line = end
    return True


def _inline_bounds(state: StateInline, silent: bool) -> bool:
    """Count a step; the search for a link's end stops in too many brackets, where each would be searched from each."""
    _count(state.env)
    if not silent or state.level < MAX_BRACKETS:
        return False
    state.pos = state.posMax
    return True


def _few_delimiters(state: StateInline) -> None:
    if len(state.delimiters) > MAX_DELIMITERS:
        state.delimiters.clear()


# --- HTML that is never closed ---

_OPENS = (
    (re.compile(r"<(?:script|pre|style|textarea)(?=[\s>]|$)", re.I), re.compile(r"</(?:script|pre|style|textarea)>", re.I)),
    (re.compile(r"<!--"), re.compile(r"-->")),
    (re.compile(r"<\?"), re.compile(r"\?>")),
    (re.compile(r"<!\[CDATA\["), re.compile(r"\]\]>")),
    (re.compile(r"<![A-Za-z]"), re.compile(r">")),
)


def _unclosed_html(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    if silent or state.is_code_block(start):
        return False
    position, line_end = state.bMarks[start] + state.tShift[start], state.eMarks[start]
    if not state.src.startswith("<", position):
        return False
    closing = next((closing for opening, closing in _OPENS if opening.match(state.src, position, line_end)), None)
    if closing is None or _found(state, closing, position, state.eMarks[end - 1]):
        return False
    token = state.push("html_block", "", 0)
    token.map = [start, start + 1]
    token.content = state.src[position:line_end]
    state.line = start + 1
    return True


def _whole_html(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """HTML to the next blank line, as in CommonMark, but past those inside `<pre>`, a script or a comment that it opens."""
    if not html_block(state, start, end, silent):
        return False
    if silent:
        return True
    token = state.tokens[-1]
    for opening, closing in _OPENS[:2]:
        last = max((match.start() for match in opening.finditer(token.content)), default=-1)
        position = state.bMarks[state.line] if state.line < end else -1
        if last < 0 or position < 0 or closing.search(token.content, last):
            continue
        if _found(state, closing, position, state.eMarks[end - 1]):
            following = state.line
            while not closing.search(state.src, state.bMarks[following], state.eMarks[following]):
                following += 1
            while following < end and not state.isEmpty(following):
                following += 1
            state.line = following
            token.map = [start, following]
            token.content = state.getLines(start, following, state.blkIndent, True)
    return True


def _found(state: StateBlock, pattern: re.Pattern[str], position: int, end: int) -> bool:
    """Whether the pattern stands in a range; what a search has found out is kept, so that all searches read the text once."""
    known: dict[tuple[str, int], int] = state.env.setdefault("found", {})
    key = (pattern.pattern, end)
    at = known.get(key, -1)
    if at < position:
        match = pattern.search(state.src, position, end)
        at = known[key] = match.start() if match else len(state.src) + 1
    return at <= end


# --- what GitHub's Markdown drops without a word ---

_CELL_END = re.compile(r"(?<!\\)\|")
_CALL = re.compile(r"^ {0,3}\[[^\[\]]{1,999}\]:|\[([^\[\]]{1,999})\]", re.M)
_ADDRESS = re.compile(r"[/.#:@?=<]")


def _whole_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A table with all cells of its rows, also those beyond its header's columns."""
    begin = len(state.tokens)
    if not table(state, start, end, silent):
        return False
    if silent:
        return True
    made, state.tokens[begin:] = state.tokens[begin:], []
    cells = 0
    for token in made:
        cells += token.type == "td_close"
        if token.type == "tr_open":
            cells, row = 0, token.map or [start, start]
        elif token.type == "tr_close" and cells:
            found = [cell.strip() for cell in _CELL_END.split(_line(state, row[0]).removeprefix("|"))]
            for text in found[cells : len(found) - (not found[-1])]:
                state.push("td_open", "td", 1)
                inline = state.push("inline", "", 0)
                inline.map, inline.content, inline.children = row, text.replace("\\|", "|"), []
                state.push("td_close", "td", -1)
        state.tokens.append(token)
    return True


def _definition(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """The definition of a link, `[label]: address`; what nothing calls is counted, and is text if it is a word and no address."""
    known = len(state.env.get("references", ()))
    line = _line(state, start)
    if line.startswith("[") and "]:" in line:
        label, _, rest = line[1:].partition("]:")
        # A label may hold brackets and run over lines; those are left to the parser.
        if "[" not in label and not _ADDRESS.search(rest) and normalizeReference(label) not in _called(state):
            return False
    if not reference(state, start, end, silent):
        return False
    if not silent:
        references = state.env.get("references", {})
        new = islice(reversed(references), len(references) - known)
        state.env["uncalled"] = state.env.get("uncalled", 0) + sum(label not in _called(state) for label in new)
    return True


def _called(state: StateBlock) -> set[str]:
    """The labels in brackets that a text may call; those of definitions are not among them."""
    if "called" not in state.env:
        state.env["called"] = {normalizeReference(label) for label in _CALL.findall(state.src)}
    found: set[str] = state.env["called"]
    return found


# --- emphasis in scripts without spaces ---

_IDEOGRAPH = re.compile(
    "[\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


def _between_ideographs(rule: Callable[[StateInline, bool], bool]) -> Callable[[StateInline, bool], bool]:
    """The rule for marks such as `**`, which in Chinese, Japanese and Korean open and close beside punctuation too.

    CommonMark wants a space or punctuation on the other side, which `**名前（name）**は` does not have.
    https://github.com/tats-u/markdown-cjk-friendly
    """

    def marks(state: StateInline, silent: bool) -> bool:
        start, known = state.pos, len(state.delimiters)
        if not rule(state, silent):
            return False
        before = state.src[start - 1] if start else " "
        after = state.src[state.pos] if state.pos < state.posMax else " "
        if state.src[start] != "_" and (_IDEOGRAPH.match(before) or _IDEOGRAPH.match(after)):
            for delimiter in state.delimiters[known:]:
                delimiter.open |= not after.isspace()
                delimiter.close |= not before.isspace()
        return True

    return marks


# --- mathematics ---

_MATH = re.compile(r"\$\$(?=[^\s$])[^$`]{1,1000}\$\$|\$(?=[^\s$])[^$`\n]{0,300}(?<=[^\s\\])\$(?!\d)")
_MATH_LINES = 100


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`$$` on a line of its own to the next such line; there is no blank line in a formula."""
    if state.is_code_block(start) or _line(state, start) != "$$":
        return False
    for last in range(start + 1, min(end, start + _MATH_LINES)):
        line = _line(state, last)
        if not line or state.sCount[last] < state.blkIndent:
            return False
        if line == "$$":
            if not silent:
                token = state.push("fence", "code", 0)
                token.info, token.markup, token.map = "math", "```", [start, last + 1]
                token.content = state.getLines(start + 1, last, state.sCount[start], True)
                state.line = last + 1
            return True
    return False


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].strip()


def _math(state: StateInline, silent: bool) -> bool:
    """`$...$` by Pandoc's rules: no space inside the marks, no digit after the closing one."""
    match = _MATH.match(state.src, state.pos) if state.src.startswith("$", state.pos) else None
    if match is None:
        return False
    if not silent:
        state.push("verbatim", "", 0).content = match.group()
    state.pos = match.end()
    return True


# --- footnotes ---

_FOOTNOTE = re.compile(r"\[\^([^\[\]\s]{1,100})\](?!:)")


def _footnote_ref(state: StateInline, silent: bool) -> bool:
    match = _FOOTNOTE.match(state.src, state.pos) if state.src.startswith("[^", state.pos) else None
    if match is None or f":{match[1]}" not in state.env.get("footnotes", {}).get("refs", {}):
        return False
    if not silent:
        state.push("footnote_ref", "", 0).content = match[1]
    state.pos = match.end()
    return True
