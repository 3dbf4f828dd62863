"""The text of a paragraph, a heading or a cell: without marks and macros, with values for attributes; code keeps its backticks.

The steps and their order are Asciidoctor's: https://docs.asciidoctor.org/asciidoc/latest/subs/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html import unescape

from rag_vs_ft.corpus.asciidoc.attributes import UNKNOWN, Attributes
from rag_vs_ft.corpus.markdown.blocks import code_span
from rag_vs_ft.corpus.markdown.html import alternative

MAX_TEXT = 200_000
NORMAL = frozenset(("quotes", "attributes", "replacements", "macros", "post_replacements"))

_KEPT = re.compile("\x02(\\d+)\x03")
_CODE_TEXT = re.compile("\x04([^\x04\x05]*)\x05")
_INSIDE = r"(?:[^\]\\]|\\.){0,2000}"
"""What stands between brackets. What is never closed would be searched for its end from each place where it begins."""
_ROLE = r"(?:\[[^\[\]\n]{1,200}\])?"

_PASS = re.compile(
    rf"(\\{{0,2}})(?:{_ROLE}(?:(\+\+\+?|\$\$)(?!\+)(.{{1,2000}}?)\2|pass:([a-z,-]{{0,50}})\[((?:[^\]\\]|\\.){{0,2000}})\])"
    rf"|(stem|latexmath|asciimath):[a-z,]{{0,50}}\[((?:[^\]\\]|\\.){{1,2000}})\])",
    re.S,
)
_PLUS = re.compile(rf"(?<![\w;:+]){_ROLE}(\\?)\+(?!\s)([^\x02]{{1,1000}}?)(?<!\s)\+(?![\w+])", re.S)


def _constrained(mark: str, before: str, after: str = r"\w", most: int = 500) -> re.Pattern[str]:
    end = re.escape(mark[::-1])
    return re.compile(rf"(?<![{before}])(\\?){_ROLE}{re.escape(mark)}(?!\s)(.{{1,{most}}}?)(?<!\s){end}(?![{after}])", re.S)


def _unconstrained(mark: str, most: int = 500) -> re.Pattern[str]:
    return re.compile(rf"(\\{{0,2}}){_ROLE}{re.escape(mark)}(.{{1,{most}}}?){re.escape(mark)}", re.S)


_QUOTES = (
    (_unconstrained("**"), "", ""),
    (_constrained("*", r"\w;:}"), "", ""),
    (_constrained('"`', r"\w;:}"), "“", "”"),
    (_constrained("'`", r"\w;:`}"), "‘", "’"),
    (_unconstrained("``", 1_000), "\x04", "\x05"),
    (_constrained("`", r"\w;:\"'`}", r"\w\"'`", 1_000), "\x04", "\x05"),
    (_unconstrained("__"), "", ""),
    (_constrained("_", r"\w;:}"), "", ""),
    (_unconstrained("##"), "", ""),
    (_constrained("#", r"\w&;:}"), "", ""),
    (re.compile(rf"(\\?){_ROLE}\^([^\s^]{{1,200}})\^"), "^", ""),
    (re.compile(rf"(\\?){_ROLE}~([^\s~]{{1,200}})~"), "", ""),
)
_ESCAPED = re.compile(r"\\(?=\.\.\.|->|=>|<-|<=)")
_REPLACEMENTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(\\?)\(C\)"), "©"),
    (re.compile(r"(\\?)\(R\)"), "®"),
    (re.compile(r"(\\?)\(TM\)"), "™"),
    (re.compile(r"(?<=\w)(\\?)--(?=\w)|(?:(?<=[ \n])|^)(\\?)--(?=[ \n]|$)"), "—"),
    (_ESCAPED, ""),
    (re.compile(r"(?<=\w)(\\)'(?=\w)"), ""),
    (re.compile(r"`'"), "’"),
)
_REFERENCE = re.compile(r"(\\?)(&(?:[a-zA-Z]{2,31}|#\d{2,6}|#x[\da-fA-F]{2,5});)")

_SCHEME = r"(?:https?|ftp|irc|file)://"
_LINK = re.compile(rf"(\\?)(?<!\w)(?:link|mailto):([^\s\[\]\x04]{{0,2000}})\[({_INSIDE})\]")
# An address may begin with an attribute of the site that has no value here, such as `{url-project}/issues[...]`.
_ADDRESS = re.compile(
    rf"(\\?)((?<!\w){_SCHEME}[^\s\[\]<>\x04]{{1,2000}}|\{{[\w-]{{1,100}}\}}[^\s\[\]<>\x04]{{0,2000}})\[({_INSIDE})\]"
)
_BARE = re.compile(rf"<({_SCHEME}[^\s<>]{{1,2000}})>|\\(?={_SCHEME})")
_XREF = re.compile(
    r"(\\?)(?:<<([\w\"#/.:,{\x04][^<>,]{0,500})(?:,[ \n]?([^<>]{0,1000}))?>>"
    rf"|(?<!\w)xref:([^\s\[\]]{{1,2000}})\[({_INSIDE})\])"
)
_KEYS = re.compile(r"(\\?)(?<!\w)(kbd|btn):\[((?:[^\]\\]|\\.){0,200})\]")
_MENU = re.compile(r"(\\?)(?<!\w)menu:([^\[\n]{1,200})\[((?:[^\]\\]|\\.){0,200})\]")
_FOOTNOTE = re.compile(rf"(\\?)(?<!\w)footnote(ref)?:([\w-]{{0,200}})\[({_INSIDE})\]")
_IMAGE = re.compile(r"(\\?)(?<!\w)(image|icon):(?!:)([^\s\[\]]{1,2000})\[((?:[^\]\\]|\\.){0,1000})\]")
_INDEX = re.compile(r"(\\?)(?:\(\(\([^()]{1,500}\)\)\)|\(\(([^()]{1,500})\)\)|(?<!\w)indexterm(2)?:\[((?:[^\]\\]|\\.){0,500})\])")
_ANCHOR = re.compile(
    r"(\\?)(?:\[\[\[([^\[\]]{1,500})\]\]\]|\[\[[\w:][^\[\]]{0,500}\]\]|(?<!\w)anchor:[\w:.-]{1,500}\[[^\]]{0,500}\])"
)


class Inline:
    """Text -> clean text. `title_of` gives the title of what a cross reference leads to, "" where it is not known."""

    def __init__(self, attributes: Attributes, notes: Counter[str], title_of: Callable[[str], str]) -> None:
        self._attributes = attributes
        self._notes = notes
        self._title_of = title_of
        self._kept: list[str] = []
        self._footnotes: dict[str, str] = {}
        self._depth = 0

    def text(self, source: str, steps: frozenset[str] = NORMAL) -> str:
        """The clean text; its lines stay."""
        self._depth += 1
        kept = self._kept
        if self._depth == 1:
            self._kept = []
        text = source[:MAX_TEXT].translate({2: None, 3: None, 4: None, 5: None}) if self._depth == 1 else source
        if "macros" in steps:
            text = self._passed(text)
        if "quotes" in steps:
            text = self._quoted(text)
        if "attributes" in steps:
            text = self._attributes.resolved(text, self._keep)
        if "replacements" in steps:
            text = _outside_code(text, _replaced)
        if "macros" in steps:
            text = self._without_macros(text)
        if "post_replacements" in steps:
            text = re.sub(r" \+$", "", text, flags=re.M)
        self._depth -= 1
        if self._depth:
            return text
        if steps >= {"attributes", "macros"} and "{" in text:
            self._notes["attributes without a value left as {name}"] += len(UNKNOWN.findall(text))
        text = self._restored(text)
        self._kept = kept
        return text.strip() if steps == NORMAL else text

    def _keep(self, text: str) -> str:
        """A mark in the place of a text that no step changes."""
        self._kept.append(text)
        return f"\x02{len(self._kept) - 1}\x03"

    def _restored(self, text: str) -> str:
        text = _CODE_TEXT.sub(lambda found: self._code(found[1]), text).replace("\x04", "").replace("\x05", "")
        return self._back(text)

    def _back(self, text: str) -> str:
        for _ in range(5):
            if "\x02" not in text:
                break
            text = _KEPT.sub(lambda found: self._kept[int(found[1])], text)
        return text

    def _code(self, text: str) -> str:
        text = " ".join(self._back(text).split())
        return self._keep(code_span(text.replace("`", "") if _CODE_TEXT.search(text) else text)) if text else ""

    # --- the steps ---

    def _passed(self, text: str) -> str:
        def passed(found: re.Match[str]) -> str:
            escapes, mark, inside, steps, argument, _, formula = found.groups()
            if escapes:
                return found[0][1:]
            if formula is not None:
                return self._keep(formula.replace("\\]", "]"))
            if mark is not None:
                return self._keep(inside if mark != "+++" else _without_tags(inside))
            plain = (argument or "").replace("\\]", "]")
            wanted = {"c": "", "q": "quotes", "a": "attributes", "r": "replacements", "m": "macros", "n": "quotes"}
            chosen = frozenset(wanted.get(step, step) for step in (steps or "").split(",") if step) - {""}
            if not steps:
                plain = _without_tags(plain)
            if "n" in (steps or ""):
                chosen = NORMAL
            return self._keep(self.text(plain, chosen)) if chosen and self._depth < 3 else self._keep(plain)

        def plus(found: re.Match[str]) -> str:
            return found[0].replace("\\+", "+", 1) if found[1] else self._keep(found[2])

        if "+" in text or "$$" in text or ":" in text:
            text = _PASS.sub(passed, text)
            text = _PLUS.sub(plus, text)
        return text

    def _quoted(self, text: str) -> str:
        for pattern, before, after in _QUOTES:

            def unquoted(found: re.Match[str], before: str = before, after: str = after) -> str:
                return found[0][1:] if found[1] else f"{before}{found[2]}{after}"

            text = pattern.sub(unquoted, text)
        return text

    def _without_macros(self, text: str) -> str:
        def escaped(make: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
            return lambda found: self._keep(found[0][1:]) if found[1] else make(found)

        if "[" in text:
            text = _KEYS.sub(escaped(lambda found: _keys(found[3]) if found[2] == "kbd" else found[3].replace("\\]", "]")), text)
            text = _MENU.sub(escaped(_menu), text)
            text = _IMAGE.sub(escaped(self._image), text)
        if "((" in text or "indexterm" in text:
            text = _INDEX.sub(escaped(lambda found: found[2] or (found[4] if found[3] else "") or ""), text)
        text = _ANCHOR.sub(escaped(lambda found: self._keep(f"[{found[2].partition(',')[0]}]") if found[2] else ""), text)
        text = _LINK.sub(escaped(lambda found: link_text(found[3]) or found[2]), text)
        text = _ADDRESS.sub(escaped(lambda found: link_text(found[3]) or found[2]), text)
        text = _BARE.sub(lambda found: found[1] or "", text)
        text = _XREF.sub(escaped(self._reference), text)
        return _FOOTNOTE.sub(escaped(self._footnote), text)

    def _reference(self, found: re.Match[str]) -> str:
        target = found[2] or found[4] or ""
        said = link_text(found[3] or found[5] or "")
        return said or self._title_of(self._back(target).strip('"\x04\x05')) or page_name(target)

    def _footnote(self, found: re.Match[str]) -> str:
        name, text = found[3], found[4].replace("\\]", "]")
        if found[2]:
            name, _, text = (part.strip() for part in text.partition(","))
        if name and text:
            self._footnotes[name] = text
        text = text or self._footnotes.get(name, "")
        return f" ({text})" if text else ""

    def _image(self, found: re.Match[str]) -> str:
        alt = found[4].partition(",")[0].strip('"')
        if found[2] == "icon":
            return self._keep(f"[{found[3]}]")
        return "" if "=" in alt else alternative(alt, self._notes)


def _without_tags(text: str) -> str:
    """The text of raw HTML in a line."""
    return unescape(re.sub(r"<(?:/?[A-Za-z][^<>]{0,1000}|!--.{0,1000}?--)>", "", text, flags=re.S))


def _replaced(text: str) -> str:
    for pattern, sign in _REPLACEMENTS:

        def put(found: re.Match[str], sign: str = sign) -> str:
            return found[0].replace("\\", "", 1) if "\\" in found[0] else sign

        text = pattern.sub(put, text)
    return _referred(text)


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """A change of all but the code, in which signs stay as they are written."""
    parts = re.split("(\x04[^\x04\x05]*\x05)", text)
    return "".join(_referred(_ESCAPED.sub("", part)) if number % 2 else change(part) for number, part in enumerate(parts))


def _referred(text: str) -> str:
    """Text with characters in the place of their names and numbers."""
    return _REFERENCE.sub(lambda found: found[2] if found[1] else unescape(found[2]), text) if "&" in text else text


def link_text(text: str) -> str:
    """The text of a link, without the attributes behind it and the mark of a new window."""
    text = text.replace("\\]", "]").strip()
    quoted = re.match(r'"([^"]*)"\s*(?:,|$)', text)
    if quoted:
        text = quoted[1]
    elif re.search(r"(?:^|,)\s*[\w-]+\s*=", text):
        first = text.partition(",")[0].strip()
        text = "" if re.match(r"[\w-]+\s*=", first) else first
    return text.removesuffix("^").strip()


def page_name(target: str) -> str:
    """The name of a page that a link without a text leads to."""
    page, _, part = target.partition("#")
    names = [name for name in re.split(r"[/:$@]", re.sub(r"\.\w+$", "", page)) if name not in ("", "ROOT", ".", "..")]
    if len(names) > 1 and names[-1] == "index":
        names.pop()
    name = names[-1] if names else part
    return name.replace("-", " ").replace("_", " ").strip() if page.endswith(".adoc") or "/" in page or ":" in page else name


def _keys(text: str) -> str:
    keys = [key.strip() for key in re.split(r"(?<=.)[,+](?=.)", text.replace("\\]", "]"))]
    return "+".join(key for key in keys if key)


def _menu(found: re.Match[str]) -> str:
    parts = [found[2], *re.split(r"\s*(?:>|&gt;|,)\s*", found[3])]
    return " > ".join(part.strip() for part in parts if part.strip())
