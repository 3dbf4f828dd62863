"""Checkable spans: the kinds of words whose truth can be looked up (a quantity, a port, a flag, ...), found by pattern.

A span's `form` says what may replace it: choices of one question are all of one form, so that none can be told from the
others by its looks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a statement. `size` orders spans of a form that have an order (numbers, versions, dates)."""

    rule: str
    form: str
    text: str
    start: int
    end: int
    size: float | None = None


# Units that have a plural, and those that are written one way.
_COUNTED = (
    "millisecond second minute hour day week month year byte core vCPU CPU node pod cluster replica character request connection "
    "instance resource tag rule subscription machine server key secret certificate attempt disk volume namespace zone image "
    "container file user member group assignment deployment template parameter token event webhook operation transaction call "
    "database partition pool version release"
).replace(" ", "|")
_FIXED = "ms|[KMGT]i?B|[KMGT]bps|addresses|entries|retries|policies"
_MONTHS = ["January", "February", "March", "April", "May", "June", "July"]
_MONTHS += ["August", "September", "October", "November", "December"]
_MONTH = "|".join(_MONTHS)
_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?"
_START = r"(?<![\w.,$#/:–-])"

_QUANTITY = re.compile(
    rf"{_START}(?P<number>{_NUMBER})(?:%|(?P<gap>[ -]?)(?:(?P<counted>{_COUNTED})(?P<plural>s?)|(?P<fixed>{_FIXED}))(?![\w/-]))"
)
_DATE = re.compile(
    rf"{_START}(?:(?P<month>{_MONTH}) (?:(?P<day>\d{{1,2}}), )?(?P<year>20\d\d)|(?P<iso>20\d\d-[01]\d-[0-3]\d))(?![\w-]|\.\d)"
)
_SHORT_MONTH = re.compile(rf"({'|'.join(name[:3] for name in _MONTHS if name != 'May')}) (20\d\d)")
_PORT = re.compile(r"\b(?:[Pp]orts?|TCP|UDP|(?:TCP|UDP) port) `?(?P<span>\d{2,5})(?![\w.,:/-]\w|\d|%)")
_VERSION = re.compile(r"\b(?:[Vv]ersions? |Kubernetes |CLI |PowerShell )`?(?P<span>v?\d+(?:\.\d+){1,3})(?![\w-]|\.\d|\.x)")
_FLAG = re.compile(r"(?<![\w-])(?P<span>--[a-z][a-z0-9]+(?:-[a-z0-9]+)*)(?![\w-])")
_SKU = re.compile(r"(?<![\w-])(?P<span>Standard_[A-Z]+\d+[a-z]*(?:_[A-Z]\w+)?(?:_v\d)?)(?!\w)")
_ROLE = re.compile(
    r"\b(?:the|a|an|The) `?(?P<span>(?:[A-Z][\w-]+ )(?:(?:[A-Z][\w-]+|for|and|of|with) ){0,6})`?role\b(?! (?:assignment|def))"
)
_SERVICE = re.compile(r"(?<![\w-])(?P<span>(?P<maker>Azure|Microsoft)(?: (?:[A-Z][A-Za-z]+|for(?= [A-Z])))+)(?![\w-]| \(| [A-Z])")
_CODE = re.compile(r"`(?P<span>[^`\s]+)`")
_COMMAND = re.compile(r"`(?P<span>(?:az|kubectl|azd|helm|azcmagent|kubelogin)(?: [a-z][a-z-]+){1,4})`")
_DEFAULT = re.compile(
    rf"\b[Dd]efault(?:s|ed)?(?: (?:value|setting|limit|number|size|is|of|to|as|for|set|in|the|`[^`\s]+`)){{0,6}}"
    rf" (?:is|to|of) `?(?P<span>{_NUMBER})(?:`|(?=[\s,;)]|\.(?!\d)))(?! (?:{_COUNTED}|{_FIXED})s?\b)"
)

# Examples of several that would do, former names, and names that are not services.
_INTERFACES = frozenset(
    {"Azure CLI", "Azure PowerShell", "Azure Cloud Shell", "Azure SDK", "Azure Resource Manager", "Azure RBAC", "Azure AD"}
    | {"Azure Active Directory", "Microsoft Learn", "Microsoft Docs", "Microsoft Support", "Microsoft Windows", "Microsoft Store"}
    | {"Microsoft Entra"}
)
# A role that grants everything would do wherever another one is asked for; the others are no roles.
_NO_ROLES = frozenset(
    {"Owner", "Contributor", "Reader", "RBAC", "IAM", "Azure", "Azure Arc", "Microsoft Entra", "Microsoft Entra ID"}
)
_NAMES = (
    (re.compile(r"[a-z][a-z0-9]*(?:[A-Z][a-z0-9]+)+"), "camelCase"),
    (re.compile(r"(?:[A-Z][a-z0-9]+){2,}"), "PascalCase"),
    (re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+"), "UPPER_CASE"),
    (re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+"), "snake_case"),
    (re.compile(r"[a-z][a-zA-Z0-9]*(?:\.[a-zA-Z][a-zA-Z0-9-]*){1,3}"), "dotted.name"),
    (re.compile(r"[a-z0-9.-]+\.[a-z]{2,}/[a-z][a-z0-9.-]+"), "label/name"),
    (re.compile(r"Microsoft\.[A-Z][A-Za-z]+"), "Microsoft.Provider"),
)
# Names that an author made up for an example, and files: nothing that a document teaches.
_MADE_UP = re.compile(
    r"(?i)my|contoso|fabrikam|example|sample|demo|test|foo|hello|\.(?:cn|us|ms|ai|dev|azure|windows|local|ya?ml|json|sh|ps1|md|txt|exe|msi|zip|tf|bicep|py|com|net|io|org)$"
)


def spans(text: str) -> list[Span]:
    """All checkable spans of a statement in order; where two overlap, the one of the earlier rule below."""
    found: list[Span] = []
    for rule in _RULES:
        for span in rule(text):
            if all(span.end <= other.start or span.start >= other.end for other in found):
                found.append(span)
    return sorted(found, key=lambda span: span.start)


def is_made_up(text: str) -> bool:
    """Whether a name looks like one that an author made up for an example, or like a file."""
    return bool(_MADE_UP.search(text))


def number(text: str) -> float:
    """The value of a number as it is written: "1,000" -> 1000.0."""
    return float(text.replace(",", ""))


def _dates(text: str) -> Iterator[Span]:
    for match in _DATE.finditer(text):
        if match["iso"]:
            year, month, day = map(int, match["iso"].split("-"))
            form = "iso"
        else:
            year, month, day = int(match["year"]), _MONTHS.index(match["month"]) + 1, int(match["day"] or 0)
            form = "day" if match["day"] else "month"
        yield Span("date", f"date:{form}", match[0], match.start(), match.end(), year * 372 + month * 31 + day)


def _quantities(text: str) -> Iterator[Span]:
    for match in _QUANTITY.finditer(text):
        value, unit = match["number"], match["counted"]
        if unit and match["gap"] != "-" and (value == "1") == bool(match["plural"]):
            continue  # "Gen 2 node": the number belongs to the word before
        form = f"quantity:{match['gap']}{unit or match['fixed'] or '%'}:{_number_form(value)}"
        yield Span("quantity", form, match[0], match.start(), match.end(), math.log1p(number(match["number"])))


def _defaults(text: str) -> Iterator[Span]:
    for match in _DEFAULT.finditer(text):
        value = match["span"]
        if re.match(r"0\d", value):
            continue  # octal: a mode, not a number
        yield Span("default", _number_form(value), value, *match.span("span"), math.log1p(number(value)))


def _ports(text: str) -> Iterator[Span]:
    for match in _PORT.finditer(text):
        yield Span("port", "port", match["span"], *match.span("span"), math.log1p(int(match["span"])))


def _versions(text: str) -> Iterator[Span]:
    for match in _VERSION.finditer(text):
        parts = [int(part) for part in match["span"].lstrip("v").split(".")]
        form = f"version:{'v' * match['span'].startswith('v')}{len(parts)}"
        yield Span("version", form, match["span"], *match.span("span"), parts[0] * 1000 + parts[1] + sum(parts[2:]) / 1e6)


def _pattern(name: str, pattern: re.Pattern[str]) -> Callable[[str], Iterator[Span]]:
    def find(text: str) -> Iterator[Span]:
        for match in pattern.finditer(text):
            span = match["span"].rstrip()
            if not _MADE_UP.search(span):
                yield Span(name, name, span, match.start("span"), match.start("span") + len(span))

    return find


def _services(text: str) -> Iterator[Span]:
    # "an Azure ..." and "a Microsoft ...": the article would give one away among the other.
    for match in _SERVICE.finditer(text):
        if match["span"] not in _INTERFACES:
            yield Span("service", f"service:{match['maker']}", match["span"], *match.span("span"))


def _roles(text: str) -> Iterator[Span]:
    for match in _ROLE.finditer(text):
        span = match["span"].rstrip()
        if span not in _NO_ROLES:
            yield Span("role", "role", span, match.start("span"), match.start("span") + len(span))


def _commands(text: str) -> Iterator[Span]:
    for match in _COMMAND.finditer(text):
        words = match["span"].split()
        if words[-1] != "command" and not _MADE_UP.search(match["span"]):
            yield Span("command", f"command:{words[0]}:{len(words)}", match["span"], *match.span("span"))


def _names(text: str) -> Iterator[Span]:
    for match in _CODE.finditer(text):
        form = next((form for pattern, form in _NAMES if pattern.fullmatch(match["span"])), None)
        if form and not _MADE_UP.search(match["span"]):
            yield Span("name", f"name:{form}", match["span"], *match.span("span"))


def _number_form(text: str) -> str:
    """How a number is written: its decimals, and whether thousands are separated."""
    style = "separated" if "," in text else "joined" if number(text) >= 1000 else "short"
    return f"number:{len(text.partition('.')[2])}:{style}"


def _cells(text: str) -> Iterator[Span]:
    """A text that is only a number, a version or a month: the cell of a table."""
    bare = text.strip("`")
    start = text.find(bare)
    if re.fullmatch(_NUMBER, bare) and not re.match(r"0\d", bare):
        yield Span("number", _number_form(bare), bare, start, start + len(bare), math.log1p(number(bare)))
    elif re.fullmatch(r"\d+(?:\.\d+){2}", bare):
        major, minor, patch = map(int, bare.split("."))
        yield Span("version", "version:3", bare, start, start + len(bare), major * 1000 + minor + patch / 1e6)
    elif match := _SHORT_MONTH.fullmatch(bare):
        month = [name[:3] for name in _MONTHS].index(match[1]) + 1
        yield Span("date", "date:short", bare, start, start + len(bare), int(match[2]) * 372 + month * 31)


_RULES: tuple[Callable[[str], Iterator[Span]], ...] = (
    _cells,
    _dates,
    _versions,
    _ports,
    _quantities,
    _defaults,
    _pattern("flag", _FLAG),
    _pattern("sku", _SKU),
    _commands,
    _names,
    _roles,
    _services,
)

NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_LEADING_NUMBER = re.compile(rf"({_NUMBER})([ -]?)(.*)", re.S)


def stated_in(text: str, span: str) -> bool:
    """Whether a document's text mentions a span in any of the ways it could be written ("5 minutes", "5-minute", "five minutes").

    Errs towards yes: a name counts as mentioned when its initials are ("AKS").
    """
    match = _LEADING_NUMBER.fullmatch(span)
    if match:
        value, unit = match.group(1, 3)
        stem = unit.rstrip("s")
        ways = [re.escape(value)]
        if value.isdigit() and int(value) < len(NUMBER_WORDS):
            ways.append(NUMBER_WORDS[int(value)])
        joint = rf"[ -]?{re.escape(stem)}" if stem else r"(?![.,]?\d)"
        return bool(re.search(rf"(?<![\w.,])(?:{'|'.join(ways)}){joint}", text, re.I))
    if span.casefold() in text.casefold():
        return True
    initials = "".join(word[0] for word in span.split() if word[0].isupper())
    return len(initials) > 2 and " " in span and bool(re.search(rf"\b{initials}\b", text))
