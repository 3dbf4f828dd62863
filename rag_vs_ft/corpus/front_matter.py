"""The front matter of a Markdown file: YAML, TOML or JSON; a head that is broken never loses the document."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import yaml

from rag_vs_ft.corpus.text import normalise, one_line

MAX_FRONT_MATTER = 64_000
MAX_YAML_DEPTH = 50

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_YAML = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.S | re.M)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*$\n?", re.S | re.M)
_FIELD = re.compile(r"^([A-Za-z][\w.-]*)[ \t]*[:=][ \t]+(.*)$", re.M)
_KNOWN_FIELDS = frozenset(
    re.findall(
        r"\S+",
        """title date author authors description weight layout tags categories draft slug id url aliases keywords content_type
        groups sidebar_label sidebar_position summary type permalink lastmod nav_order parent toc hide template robots manager""",
    )
)

_LABELS = frozenset(
    ("note", "tip", "hint", "warning", "caution", "danger", "important", "attention", "info", "example", "remember")
)
"""Words before a colon that begin a remark to the reader, not a field."""
_PROSE = re.compile(r"[.!?]\s*$|(?<!\S)(?:\S+\s+){5}\S")
"""A value that ends like a sentence or is as long as one."""


class BrokenYaml(ValueError):
    """The text is not YAML, or not of a kind that is safe to read."""


def load_yaml(source: str) -> object:
    """Plain values of a YAML text. Raises BrokenYaml for anything else: errors, foreign tags, aliases, deep nesting.

    Aliases make a small file as large as one likes, and nesting ends the process in the C parser, so both are looked for
    in the stream of events before a value is made.
    """
    try:
        depth = 0
        for event in yaml.parse(source, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_YAML_DEPTH or isinstance(event, yaml.AliasEvent):
                raise BrokenYaml("aliases or deep nesting")
        return yaml.load(source, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML's constructors raise plain Python errors for values that do not fit their tags.
        raise BrokenYaml(str(error)) from error


def split_front_matter(raw: str, notes: Counter[str]) -> tuple[dict[str, Any], str]:
    """Fields and body of a file with YAML (`---`), TOML (`+++`) or JSON (`{`) at its head.

    A head that is not closed is body, and so is text between two rules: a head is a mapping that has a known field, or plain
    names with values that are not sentences. Of a head that is broken, the plain `field: value` lines are taken.
    """
    for marks, read in ((_YAML, load_yaml), (_TOML, _load_toml)):
        if match := marks.match(raw):
            return _fields(match.group(1), raw, match.end(), read, notes)
    return _json_fields(raw)


def _fields(source: str, raw: str, end: int, read: Callable[[str], object], notes: Counter[str]) -> tuple[dict[str, Any], str]:
    body = raw[end:]
    if not source.strip():
        return {}, body
    try:
        if len(source) > MAX_FRONT_MATTER:
            raise BrokenYaml("too long")
        metadata = read(source)
        if metadata is None:  # comments alone
            return {}, body
    except BrokenYaml:
        metadata = {key: value.strip().strip("\"'") for key, value in _FIELD.findall(source[:MAX_FRONT_MATTER])}
        if not (_FIELD.match(source) or source.startswith("#")) or not _is_head(metadata, source):
            return {}, raw
        notes["broken front matter"] += 1
        return metadata, body
    return (metadata, body) if isinstance(metadata, dict) and _is_head(metadata, source) else ({}, raw)


def _is_head(metadata: dict[Any, Any], source: str) -> bool:
    """Whether a mapping is a head, and not a sentence such as "Warning: do not open." between two rules."""
    names = [str(name) for name in metadata]
    if any(name.lower() in _KNOWN_FIELDS or "." in name for name in names):
        return True
    if source.startswith("\n") or not all(re.fullmatch(r"[a-z][\w.-]*", name) for name in names):
        return False
    return not any(name in _LABELS or (isinstance(value, str) and _PROSE.search(value)) for name, value in metadata.items())


def _load_toml(source: str) -> object:
    try:
        return tomllib.loads(source)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise BrokenYaml(str(error)) from error


def _json_fields(raw: str) -> tuple[dict[str, Any], str]:
    """A JSON object that begins the file, alone on its lines, if it names a known field."""
    if not re.match(r"\{\s*\"", raw[:200]):
        return {}, raw
    try:
        metadata, end = json.JSONDecoder().raw_decode(raw[:MAX_FRONT_MATTER])
    except (ValueError, RecursionError):
        return {}, raw
    if not metadata.keys() & _KNOWN_FIELDS or not raw[end:].startswith("\n"):
        return {}, raw
    return metadata, raw[end + 1 :]


def scalar(metadata: dict[str, Any], *names: str) -> str:
    """The first of these fields that holds text (or a list of texts), on one line."""
    for name in names:
        value = metadata.get(name)
        if isinstance(value, list):
            value = ", ".join(item for item in value if isinstance(item, str))
        if isinstance(value, str | int | float) and (text := one_line(normalise(str(value)))):
            return text
    return ""


def iso_date(metadata: dict[str, Any]) -> str:
    """`ms.date` or `date` as ISO 8601; "" when there is none that can be read."""
    value = metadata.get("ms.date") or metadata.get("date")
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    text = str(value).strip()
    if re.match(r"\d{4}-\d\d-\d\dT", text):
        text = text[:10]
    for form in ("%m/%d/%Y", "%Y-%m-%d", "%m/%d/%y", "%m-%d-%Y"):
        try:
            return datetime.strptime(text, form).date().isoformat()
        except ValueError:
            continue
    return ""
