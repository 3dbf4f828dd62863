"""Whether every regular expression of the package takes time in proportion to its input.

    python tests/regexes.py            # all of them, up to 10 MB
    python tests/regexes.py --up-to 100000 --only 'html'

Each pattern of the source, those that are put together as the program runs among them, is tried with the methods it is used
with, on strings made to be slow: what its parts match, repeated, with an end that does not match. 10 KB, 100 KB, 1 MB and 10 MB
are tried one after another; a pattern is quadratic when 10 KB take over 40 ms, or when ten times the text takes more than thirty
times the processor time. Every pattern runs in a process of its own with a limit on its time. Prints a line for each that is not
linear, and the counts; exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import functools
import importlib
import itertools
import json
import operator
import re
import sys
import tomllib
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from re import _constants as sre
from re import _parser as parser
from typing import Any

from processor_time import in_a_child, seconds

ROOT = Path(__file__).parent.parent
METHODS = ("search", "match", "fullmatch", "finditer", "findall", "sub", "subn", "split")
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LIMIT = 5.0
"""Processor seconds for one string."""
FIRST = 0.04
"""Seconds over which 10 KB are too slow already: what is linear takes a hundredth of that."""
STEEPEST = 30.0
NOTICED = 0.15
"""Seconds below which a time says nothing about growth."""
GENERAL = (" ", "\n", "a", "0", "a ", "a\n", " \n", "-", "_a", ". ", "A.", "1.", "é")


@dataclass
class Found:
    """A pattern, where it stands, and the methods that it is used with."""

    pattern: str
    flags: int
    places: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)


# --- the patterns of the package --------------------------------------------------------------------------------------


VALUES: dict[str, Callable[[Any], Sequence[Any]]] = {
    "match": lambda module: [["", ":::"]],
    "name": lambda module: ["a", "a_b"],
    "evidence": lambda module: ["a", "a b a", "--", "1"],
    "letters": lambda module: ["ABCD"],
    "letter": lambda module: [r"\w", rf"\w{module.MARKS}"],
    "pattern": lambda module: [pattern for pattern, _ in module._PROMPTS],
    "lines": lambda module: [
        entry.get("refusals", "").replace("{given}", entry.get("given", "")).split("\n")
        for entry in tomllib.loads((ROOT / "rag_vs_ft" / "languages.toml").read_text(encoding="utf-8")).values()
        if entry.get("refusals")
    ],
    "number": lambda module: [["1"], ["1.1"]],
    "ways": lambda module: [["5", "five"], ["a"]],
    "joint": lambda module: ["[ -]?day", r"(?![.,]?\d)"],
    "initials": lambda module: ["AB", "AAA"],
    "before": lambda module: ["a", "a a", "1"],
    "after": lambda module: [r"\w"],
    "mark": lambda module: ["*", "``"],
    "most": lambda module: [500],
    "end": lambda module: [r"\*"],
    "found": lambda module: [types.SimpleNamespace(start=1, parts=[])],
    "small": lambda module: ["a"],
}
"""What the local names in a pattern that is put together may stand for, given its module. A match is a list of its groups."""


def put_together(node: ast.expr, module: Any) -> list[str]:
    """The patterns that an expression makes with `VALUES`. Raises KeyError for a name that has none there."""
    free = sorted(
        {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and part.id not in vars(module) | vars(builtins)}
    )
    code = compile(ast.Expression(ast.fix_missing_locations(node)), "<pattern>", "eval")
    choices = [VALUES[name](module) for name in free]
    made = [eval(code, vars(module) | dict(zip(free, chosen, strict=True))) for chosen in itertools.product(*choices)]  # noqa: S307
    return [one.decode("latin-1") if isinstance(one, bytes) else str(one) for one in made]


def sources() -> list[Path]:
    return [path for folder in ("rag_vs_ft", "app") for path in sorted((ROOT / folder).rglob("*.py"))]


def compiled(path: Path) -> Iterator[re.Pattern[str]]:
    """The patterns among the values of a module, in tables and objects too."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    seen: set[int] = set()

    def inside(value: Any, depth: int) -> Iterator[re.Pattern[str]]:
        if id(value) in seen or depth > 6:
            return
        seen.add(id(value))
        if isinstance(value, re.Pattern):
            yield value
        elif isinstance(value, dict):
            for part in [*value.keys(), *value.values()]:
                yield from inside(part, depth + 1)
        elif isinstance(value, list | tuple | set | frozenset):
            for part in value:
                yield from inside(part, depth + 1)
        elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
            for name in value.__dataclass_fields__:
                yield from inside(getattr(value, name, None), depth + 1)

    for value in vars(module).values():
        yield from inside(value, 0)


def collect() -> tuple[list[Found], list[str]]:
    """All patterns, and the places where one is put together as the program runs."""
    found: dict[tuple[str, int], Found] = {}
    used: dict[str, set[str]] = defaultdict(set)
    together: list[str] = []

    def note(pattern: str, flags: int, place: str, methods: set[str]) -> None:
        key = (pattern, flags & ~re.UNICODE)
        entry = found.setdefault(key, Found(pattern, flags & ~re.UNICODE))
        entry.places.add(place)
        entry.methods |= methods

    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sources()}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                name = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
                used[name].add(node.attr)
    for path, tree in trees.items():
        where = path.relative_to(ROOT).as_posix()
        names = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        at_top = {
            id(part) for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef) for part in ast.walk(node)
        }
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.func.attr in (*METHODS, "compile")
                and node.args
            ):
                continue
            first = node.args[0]
            if isinstance(first, ast.Name) and isinstance(names.get(first.id), ast.Constant):
                first = names[first.id]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                method = node.func.attr
                if method == "compile":
                    continue_with = {name for name, value in names.items() if value is node}
                    methods = set().union(*(used[name] for name in continue_with)) if continue_with else set()
                else:
                    methods = {method}
                note(first.value, flags_of(node), f"{where}:{node.lineno}", methods)
            elif id(node) not in at_top:
                together.append(f"{where}:{node.lineno}")
                for pattern in put_together(first, importlib.import_module(module_name(path))):
                    note(pattern, flags_of(node), together[-1], {node.func.attr} - {"compile"})
        for pattern in compiled(path) if path.parts[len(ROOT.parts)] == "rag_vs_ft" else ():  # pages run when they are imported
            if isinstance(pattern.pattern, str):
                known = {name for name, value in vars(sys.modules[module_name(path)]).items() if value is pattern}
                methods = set().union(*(used[name] for name in known)) if known else set()
                note(pattern.pattern, pattern.flags, where, methods)
    return sorted(found.values(), key=lambda entry: sorted(entry.places)), together


def flags_of(call: ast.Call) -> int:
    flags = [getattr(re, part.attr, None) for part in ast.walk(call) if isinstance(part, ast.Attribute)]
    return int(functools.reduce(operator.or_, (flag for flag in flags if isinstance(flag, re.RegexFlag)), re.NOFLAG))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# --- strings that are slow --------------------------------------------------------------------------------------------


def letter_of(items: list[Any]) -> list[str]:
    """Characters of a set: of each of its entries one, or some that a negated set allows."""
    chosen, negated = [], False
    for kind, value in items:
        if kind is sre.NEGATE:
            negated = True
        elif kind is sre.LITERAL:
            chosen.append(chr(value))
        elif kind is sre.RANGE:
            chosen.append(chr(value[0]))
        elif kind is sre.CATEGORY:
            chosen.append(category(value))
    if not negated:
        return chosen or ["a"]
    test = re.compile(f"[{''.join(re.escape(letter) for letter in chosen)}]") if chosen else None
    return [letter for letter in ("a", " ", "<", "[", "\n", "0", "-", "\\", '"') if not (test and test.match(letter))][:4] or [
        "a"
    ]


def category(value: Any) -> str:
    name = str(value)
    negative = "NOT" in name
    if "DIGIT" in name:
        return "a" if negative else "0"
    if "SPACE" in name:
        return "a" if negative else " "
    return " " if negative else "a"


def shortest(parts: Any, pick: int = 0) -> str:
    """A short text that parts of a pattern match, as far as that can be said; `pick` varies the choices."""
    text = ""
    groups: dict[int, str] = {}
    for kind, value in parts:
        if kind is sre.LITERAL:
            text += chr(value)
        elif kind is sre.NOT_LITERAL:
            text += "a" if value != ord("a") else "b"
        elif kind is sre.ANY:
            text += "a "[pick % 2]
        elif kind is sre.IN:
            letters = letter_of(value)
            text += letters[pick % len(letters)]
        elif kind is sre.BRANCH:
            branches = value[1]
            text += shortest(branches[pick % len(branches)], pick)
        elif kind is sre.SUBPATTERN:
            inner = shortest(value[-1], pick)
            groups[value[0] or 0] = inner
            text += inner
        elif kind is sre.ATOMIC_GROUP:
            text += shortest(value, pick)
        elif kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            least, most, inner = value
            text += shortest(inner, pick) * min(max(least, 1 if pick % 2 and most else least), 20)
        elif kind is sre.GROUPREF:
            text += groups.get(value, "")
    return text


def repeats(parts: Any) -> Iterator[Any]:
    """The bodies of all repetitions inside a pattern."""
    for kind, value in parts:
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            if value[1] > 20:
                yield value[2]
            yield from repeats(value[2])
        elif kind is sre.BRANCH:
            for branch in value[1]:
                yield from repeats(branch)
        elif kind is sre.SUBPATTERN:
            yield from repeats(value[-1])
        elif kind is sre.ATOMIC_GROUP:
            yield from repeats(value)
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            yield from repeats(value[1])


def flattened(parts: Any) -> list[Any]:
    """The elements of a pattern in a row, groups and the bodies of repetitions opened."""
    row = []
    for kind, value in parts:
        if kind is sre.SUBPATTERN:
            row += flattened(value[-1])
        elif kind is sre.ATOMIC_GROUP:
            row += flattened(value)
        else:
            row.append((kind, value))
    return row


def slow_strings(pattern: str, flags: int) -> list[tuple[str, str, str]]:
    """(beginning, what is repeated, end) of each string to try."""
    parts = list(parser.parse(pattern, flags))
    row = flattened(parts)
    starts, pumps = {""}, set(GENERAL)
    for pick in range(4):
        for count in range(1, len(row) + 1):
            beginning = shortest(row[:count], pick)
            if beginning:
                pumps.add(beginning[:200])
                starts.add(beginning[:200])
        for body in repeats(parts):
            if text := shortest(body, pick):
                pumps.add(text[:200])
    single = sorted(pumps, key=lambda text: (len(text), text))[:40]
    wanted = [("", pump, end) for pump in single for end in ("", "\0")]
    for start in sorted(starts, key=len)[:8]:
        for body in list(repeats(parts))[:6]:
            for pick in range(3):
                if pump := shortest(body, pick):
                    wanted.append((start, pump[:200], "\0"))
    return list(dict.fromkeys(wanted))


# --- trying -----------------------------------------------------------------------------------------------------------


def apply(pattern: re.Pattern[str], method: str, text: str) -> None:
    """Use a pattern as the package does."""
    if method == "sub":
        pattern.sub("", text)
    elif method == "finditer":
        for _ in pattern.finditer(text):
            pass
    else:
        getattr(pattern, method)(text)


def growth(found: Found, up_to: int) -> dict[str, Any]:
    """How a pattern's time grows on its slowest string."""
    pattern = re.compile(found.pattern, found.flags)
    methods = {
        "finditer" if name in ("search", "findall", "subn", "sub", "split") else name for name in found.methods or ("finditer",)
    }
    candidates = [(method, *parts) for method in sorted(methods) for parts in slow_strings(found.pattern, found.flags)]
    tried = len(candidates)
    before = dict.fromkeys(candidates, 0.0)
    reached, slowest = 0, 0.0
    for size in (size for size in SIZES if size <= up_to):
        times = {}
        for candidate in candidates:
            method, start, pump, end = candidate
            text = start + pump * max(1, (size - len(start) - len(end)) // len(pump)) + end
            took = times[candidate] = seconds(partial(apply, pattern, method, text), LIMIT)
            if size == SIZES[0] and took > FIRST:
                return {"tried": tried, "size": size, "seconds": took, "before": 0.0, "string": candidate}
            if took > NOTICED and before[candidate] and took > STEEPEST * max(before[candidate], NOTICED / STEEPEST):
                return {"tried": tried, "size": size, "seconds": took, "before": before[candidate], "string": candidate}
            if took == float("inf"):
                return {"tried": tried, "size": size, "seconds": took, "before": before[candidate], "string": candidate}
        before, reached, slowest = times, size, max(times.values())
        # The slowest few go on: ten times the text each time.
        candidates = sorted(times, key=times.__getitem__)[-(len(times) if size < 100_000 else 6 if size < 1_000_000 else 2) :]
    return {"tried": tried, "size": reached, "seconds": slowest}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--up-to", type=int, default=SIZES[-1], help="The longest text, in characters.")
    given.add_argument("--only", default="", help="Patterns of files whose path holds this.")
    chosen = given.parse_args()
    sys.path.insert(0, str(ROOT))
    found, together = collect()
    found = [entry for entry in found if any(chosen.only in place for place in entry.places)]
    linear, tried, steep, slowest = 0, 0, [], 0.0
    for entry in found:
        answer = in_a_child(partial(growth, entry, chosen.up_to))
        said = {"error": answer} if isinstance(answer, str) else answer
        tried += said.get("tried", 0)
        if "string" in said or "error" in said:
            steep.append(entry)
            print(json.dumps({"at": sorted(entry.places), "pattern": entry.pattern, **said}), flush=True)
        else:
            linear += 1
            slowest = max(slowest, said["seconds"])
    print(
        json.dumps(
            {
                "patterns": len(found),
                "strings": tried,
                "linear": linear,
                "not linear": len(steep),
                "slowest seconds at the end": round(slowest, 2),
                "put together as the program runs": together,
            }
        )
    )
    raise SystemExit(1 if steep else 0)


if __name__ == "__main__":
    main()
