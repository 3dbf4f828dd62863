"""The import graph: no circle, and packages in layers. Imports inside functions count, those for type checking alone do not."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "rag_vs_ft"
LAYERS = (
    ("errors", "progress", "groups"),
    ("files",),
    ("settings", "sentencepieces"),
    ("__init__",),
    ("records", "catalogue", "funnel", "environment", "gguf", "pickles", "pickles_child", "database"),
    ("pulling", "language"),
    ("overlap",),
    ("corpus",),
    ("index", "models"),
    ("ask", "training", "feedback", "mining", "conversations"),
    ("evaluation",),
    ("demo",),
    ("work",),
    ("jobs", "serving"),
    ("cli",),
    ("__main__",),
)
"""Each may import from those before it, and never from beside itself or after."""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """The modules of the package that a file imports."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                found.add(whole if whole in known else str(node.module))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found & known


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(path, set(known)) - {name} for name, path in known.items()}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Some circle, or nothing."""
    done: set[str] = set()

    def search(name: str, above: list[str]) -> list[str]:
        if name in above:
            return [*above[above.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges[name]):
            if found := search(other, [*above, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := search(name, []))), [])


def test_the_search_finds_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_through_others() -> None:
    assert not circle(graph())


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_packages_import_from_the_layers_below() -> None:
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    edges = graph()
    assert {part(module) for module in edges} <= set(height), "a new module needs a place in LAYERS"
    wrong = [
        f"{module} imports {other}"
        for module, others in edges.items()
        for other in sorted(others)
        if part(module) != part(other) and height[part(other)] >= height[part(module)]
    ]
    assert not wrong
