"""Counts reads by a string key, where the type checker cannot see a misspelt name: `record["key"]` and `record.get("key")`.

python tests/string_keys.py rag_vs_ft/evaluation/report.py app/views/evaluate.py
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def string_keys(path: Path) -> int:
    """How many reads by a constant string key a file has."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return sum(_reads(node) for node in ast.walk(tree))


def _reads(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.ctx, ast.Load) and _text(node.slice)
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
    return called and bool(node.args) and _text(node.args[0])


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


if __name__ == "__main__":
    counts = {str(path): string_keys(Path(path)) for path in sys.argv[1:]}
    for path, count in counts.items():
        print(f"{count:5}  {path}")
    print(f"{sum(counts.values()):5}  in all")
