"""The attributes of a page: names in braces, with the values that the page, its site and the processor give them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

MAX_VALUE = 1_000
MAX_NESTED = 3
"""Attributes of the site in the values of others."""

ENTRY = re.compile(r":(!?[\w][\w-]*!?):(?:[ \t]+(.*))?$")
UNKNOWN = re.compile(r"\{[A-Za-z0-9_][\w-]{0,100}\}")
_REFERENCE = re.compile(r"(\\)?\{(?:([A-Za-z0-9_][\w-]{0,100})|(set|counter2?):([^{}\n]{1,200}))\}")
_ESCAPED = re.compile(r"\\(\{[\w-]+\})")
_PASS = re.compile(r"pass:[a-z,]*\[(.*)\]$")

_BUILT_IN = {
    "amp": "&", "apos": "'", "asciidoctor": "", "asterisk": "*", "backend": "html5", "backend-html5": "", "backslash": "\\",
    "backtick": "`", "basebackend": "html", "basebackend-html": "", "blank": "", "brvbar": "¦", "caret": "^", "cpp": "C++",
    "deg": "°", "doctype": "article", "empty": "", "endsb": "]", "filetype": "html", "filetype-html": "", "gt": ">",
    "ldquo": "“", "lsquo": "‘", "lt": "<", "nbsp": " ", "plus": "+", "pp": "++", "quot": '"', "rdquo": "”", "rsquo": "’",
    "sp": " ", "startsb": "[", "tilde": "~", "two-colons": "::", "two-semicolons": ";;", "vbar": "|", "wj": "", "zwsp": "",
}  # fmt: skip
_CHARACTERS = frozenset(_BUILT_IN) - {"backend", "basebackend", "doctype", "filetype"}


class Attributes:
    """Names and values, which change from line to line; names that nothing defines stay as they are written."""

    def __init__(self, site: Mapping[str, str]) -> None:
        self.values = {**_BUILT_IN, **site}
        for _ in range(MAX_NESTED):
            self.values |= {name: self.resolved(self.values[name])[:MAX_VALUE] for name in site}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self.values

    def get(self, name: str, default: str = "") -> str:
        """The value of an attribute."""
        return self.values.get(name.lower(), default)

    def set(self, name: str, value: str | None) -> None:
        """Give an attribute a value; None takes it away. `!name` and `name!` do so too."""
        plain = name.strip("!").lower()
        if value is None or "!" in name:
            self.values.pop(plain, None)
        elif plain not in _CHARACTERS:
            passed = _PASS.match(value)
            resolved = self.resolved(passed[1] if passed else value)[:MAX_VALUE]
            if plain == "leveloffset" and resolved[:1] in ("+", "-"):
                resolved = str(_number(self.get(plain)) + _number(resolved))
            self.values[plain] = resolved

    def number(self, name: str) -> int:
        """The value of an attribute as a whole number; 0 for any other."""
        return _number(self.get(name))

    def resolved(self, text: str, escaped: Callable[[str], str] = str) -> str:
        """The text with values in the place of names; `escaped` makes something of those that a backslash keeps."""

        def value(found: re.Match[str]) -> str:
            backslash, name, what, argument = found.groups()
            if backslash:
                return found[0]
            if what == "set":
                key, _, given = argument.partition(":")
                self.set(key, given)
                return ""
            if what:
                return self._count(argument, shown=what == "counter")
            if name.lower() in self.values:
                return self.values[name.lower()]
            return found[0]

        if "{" not in text:
            return text
        text = _REFERENCE.sub(value, text)
        return _ESCAPED.sub(lambda found: escaped(found[1]), text)

    def _count(self, argument: str, shown: bool) -> str:
        name, _, first = argument.partition(":")
        before = self.values.get(name.lower(), "")
        if not before:
            after = first or "1"
        elif before.isdecimal():
            after = str(int(before[:9]) + 1)
        else:
            after = before[:-1] + chr(ord(before[-1]) + 1)
        self.values[name.lower()] = after
        return after if shown else ""


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[+-]?\d{1,3}", text) else 0
