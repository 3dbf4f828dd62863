"""Commands and options that messages name exist: a hint that cannot be followed is a second error."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from rag_vs_ft.cli import app

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "rag_vs_ft").rglob("*.py"), *(ROOT / "app").rglob("*.py")])
ERRORS = {"UserError", "CheckFailed", "Busy"}
ALWAYS = {"--help", "--version"}
OTHERS = {"--max-surge"}
"""Options of other programs that messages quote."""


def commands() -> dict[tuple[str, ...], set[str]]:
    """The options of each command by its words."""
    found = {}

    def walk(command, words):
        found[words] = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | ALWAYS
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))

    walk(get_command(app), ())
    return found


COMMANDS = commands()
OPTIONS = set().union(*COMMANDS.values())


def texts(node: ast.AST) -> Iterator[str]:
    """String constants below a node; what an f-string fills in is X."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def named(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The command lines of this program in a text: the command's words, and the rest up to its end."""
    plain = re.sub(r'"[^"\n]*"', '"X"', text)  # an argument may quote a command of another program
    for found in re.finditer(r"rag-vs-ft (?!again|is)((?:[a-z][a-z-]* ?)+)([^\n;`()]*)", plain):
        words = tuple(found[1].split())
        while words and words not in COMMANDS:
            words = words[:-1]
        yield words, found[0]


def faults(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for text in texts(tree):
        for words, line in named(text):
            if not words:
                found.append(f"no such command: {line}")
            found += [
                f"no such option: {line}"
                for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", line)
                if option not in COMMANDS[words]
            ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
            said = " ".join(text for part in (*node.args, *(word.value for word in node.keywords)) for text in texts(part))
            found += [
                f"no such option: {said}" for option in re.findall(r"--[a-z][a-z-]*", said) if option not in OPTIONS | OTHERS
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_messages_name_exists(path):
    assert faults(path) == []


def test_a_command_or_option_that_does_not_exist_is_seen(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(
        'raise UserError("no", f"rag-vs-ft indx build {name}")\n'
        'print("rag-vs-ft index build docs --corpse docs")\n'
        'raise CheckFailed("no", "use --dtype float32")\n'
        'print("rag-vs-ft index build docs --corpus docs")\n'
    )
    assert len(faults(path)) == 3
