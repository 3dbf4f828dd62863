"""The import graph: no circle, and packages in layers. Imports inside functions count, those for type checking alone do not."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "rag_vs_ft"
LAYERS = (
    ("errors", "progress", "groups"),
    ("files",),
    ("settings", "sentencepieces"),
    ("__init__",),
    (
        *("records", "catalogue", "conversions", "funnel", "environment", "gguf", "pickles", "pickles_child", "database"),
        "remote",
    ),
    ("pulling", "language", "engines"),
    ("overlap",),
    ("corpus",),
    ("index", "models"),
    ("ask", "training", "feedback", "mining", "conversations"),
    ("evaluation",),
    ("demo", "choose"),
    ("work",),
    ("jobs", "serving", "shelf"),
    ("schedules",),
    ("api", "assistant_tools", "doctor"),
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


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


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

    visit(tree_of(path))
    return found & known


@cache
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


def classes(tree: ast.Module) -> list[str]:
    """Public classes and type aliases of a module."""
    aliases = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
    names = [alias.id for alias in aliases if isinstance(alias, ast.Name) and not alias.id.isupper()]
    names += [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    return [name for name in names if name[0].isupper()]


def test_a_class_name_means_one_thing() -> None:
    found: dict[str, list[str]] = {}
    for folder in (PACKAGE, PACKAGE.parent / "app"):
        for path in sorted(folder.rglob("*.py")):
            for name in classes(tree_of(path)):
                found.setdefault(name, []).append(path.relative_to(PACKAGE.parent).as_posix())
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


# --- what writes to the disk ------------------------------------------------------------------------------------------

STEPS = {"rename", "unlink", "rmdir", "write_text", "write_bytes", "truncate", "touch", "symlink_to", "hardlink_to", "fsync"}
WRITING_LIBRARIES = {
    *("save_file", "save_pretrained", "save_to_json", "savefig", "save", "save_model", "save_model_to_file", "quantize_dynamic"),
    *("write_index", "write_table", "new_file", "ParquetWriter", "export", "hf_hub_download", "connect"),
}
OUTSIDE = {
    "corpus/store.py: ParquetWriter": "a temporary table, which files.publish moves into place",
    "corpus/store.py: write_table": "the same",
    "corpus/reading.py: write_table": "inside files.replacing",
    "database.py: connect": "SQLite has a journal and locks of its own",
    "environment.py: write_text": "a switch of the kernel's under /proc",
    "gguf.py: save_pretrained": "into the folder that a pull publishes",
    "index/distill.py: save": "makes bytes of weights, which files.write_bytes writes",
    "index/dense.py: write_index": "into the folder of a new generation",
    "index/export.py: export": "into a scratch folder, from which files.publish takes the result",
    "index/export.py: quantize_dynamic": "the same",
    "index/export.py: save_model_to_file": "the same",
    "index/lexical.py: save": "into the folder of a new generation",
    "index/table.py: new_file": "into the folder of a new generation",
    "index/table.py: write_table": "the same",
    "jobs.py: open": "what a job prints; its process writes it",
    "models/fast.py: save_model": "into a scratch folder, from which files.publish takes the result",
    "models/fast.py: touch": "the time of last use, by which old conversions are dropped",
    "pickles_child.py: save_file": "into the folder that a pull publishes; the process imports nothing of the package",
    "pickles_child.py: write_text": "the same",
    "pulling.py: hf_hub_download": "into the folder that a pull publishes",
    "training/engine.py: save_file": "into the folder of a new checkpoint",
    "training/engine.py: save_pretrained": "the same",
    "training/engine.py: save_to_json": "the same",
    "training/plots.py: savefig": "inside files.replacing, and into memory",
    "evaluation/plots.py: savefig": "into memory",
    "training/prepare.py: save_pretrained": "inside files.publishing",
}
"""Every write that is not a call of files.py, and why it may be none."""


def writes(tree: ast.Module) -> set[str]:
    """Names of the calls and modules that write, flush, rename, remove, lock or hash without files.py."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            found |= {"shutil", "hashlib", "filelock", "fcntl", "msvcrt"} & set(names)
        elif isinstance(node, ast.Attribute) and node.attr == "O_CREAT":
            found.add("O_CREAT")
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if owner in ("files", "conversations", "readings"):
                continue
            modes = [arg.value for arg in [*node.args, *(key.value for key in node.keywords)] if isinstance(arg, ast.Constant)]
            opens = name == "open" and any(isinstance(mode, str) and set(mode) & set("wax+") and len(mode) < 4 for mode in modes)
            moves = owner and name == "replace" and len(node.args) == 1 and not node.keywords  # of a path; a string's has two
            if name in STEPS | WRITING_LIBRARIES or opens or moves or (owner == "os" and name in ("remove", "replace")):
                found.add(name)
    return found


def test_the_search_finds_writes() -> None:
    code = """
import shutil
path.open("w"); open(path, mode="ab"); path.replace(other); text.replace("a", "b"); os.replace(a, b); files.rename(a, b)
path.open("rb"); path.write_text("x"); np.save(path, array)
"""
    assert writes(ast.parse(code)) == {"shutil", "open", "replace", "write_text", "save"}
    assert writes(ast.parse('text.replace("a", "b"); replace(record, a=1); path.open("rb"); files.write_text(path, "")')) == set()


def test_only_files_py_writes() -> None:
    app = PACKAGE.parent / "app"
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py") if path.name != "files.py"}
    paths |= {path.relative_to(app.parent).as_posix(): path for path in app.rglob("*.py")}
    assert {f"{name}: {call}" for name, path in paths.items() for call in writes(tree_of(path))} == set(OUTSIDE)
