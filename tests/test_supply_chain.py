"""What the product is made of: licences, pins, and the programs that it starts.

`python tests/test_supply_chain.py > docs/licences.md` lists the licences anew.
"""

from __future__ import annotations

import ast
import re
from importlib import metadata
from pathlib import Path

import pytest

from rag_vs_ft import catalogue

ROOT = Path(__file__).parents[1]
PINNED = dict(
    line.split("==")
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|PSF|Python Software|ISC|Zlib|CC0|BSL-1\.0|CNRI-Python|MPL|Mozilla Public License|dependency licenses"
)
"""MPL is not permissive for its own files, which nobody changes here."""
KNOWN = {
    "docutils": "Public domain and BSD; the GPL is that of a mode for Emacs, which no package installs",
}


def licence(name: str) -> str:
    """What a package's own metadata says."""
    said = metadata.metadata(name)
    classifiers = [line.split(" :: ")[-1] for line in said.get_all("Classifier") or [] if line.startswith("License")]
    classifiers = [line for line in classifiers if "approved" not in line]
    return said.get("License-Expression") or "; ".join(classifiers) or (said.get("License") or "").splitlines()[0]


def parts(text: str) -> list[str]:
    return [part.strip(" ()") for part in re.split(r";|,|\bAND\b|\bOR\b|\bWITH LLVM-exception\b", text) if part.strip(" ()")]


@pytest.mark.parametrize("name", PINNED)
def test_every_dependency_has_a_licence_that_lets_anyone_use_it(name: str) -> None:
    try:
        said = licence(name)
    except metadata.PackageNotFoundError:
        pytest.skip("it is not installed")
    assert name in KNOWN or (parts(said) and all(PERMISSIVE.search(part) for part in parts(said))), said


def test_the_licences_are_listed() -> None:
    listed = set(re.findall(r"^\| (\S+) \|", (ROOT / "docs" / "licences.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(PINNED) <= listed, "list them anew: python tests/test_supply_chain.py > docs/licences.md"


def test_every_pin_is_exact() -> None:
    assert PINNED and all(re.fullmatch(r"[\w.+!-]+", version) for version in PINNED.values())


def test_every_pin_has_the_hash_of_its_wheels() -> None:
    text = (ROOT / "requirements-hashed.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    hashed = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line and not line.startswith("#")}
    assert set(hashed) == {f"{name}=={version}" for name, version in PINNED.items()}, "make it anew: see tests/lock_hashes.py"
    assert all(found and all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", one) for one in found) for found in hashed.values())


def test_packaged_models_are_data_whose_hashes_are_known() -> None:
    data = (".json", ".txt", ".model", ".safetensors", ".gguf", ".bin", ".jinja")
    for entry in catalogue.CATALOGUE.values():
        pinned = entry.sha256 or (entry.revision and re.fullmatch("[0-9a-f]{40}", entry.revision))
        assert pinned or entry.wheel, f"{entry.name}: neither a commit nor a hash is known"
        for member in entry.wheel.members if entry.wheel else ():
            assert re.fullmatch("[0-9a-f]{64}", member.sha256) and member.bytes > 0
            assert member.file.endswith(data) and ".." not in member.path


def test_no_program_is_started_by_a_shell_and_no_code_is_made_of_text() -> None:
    for path in [*(ROOT / "rag_vs_ft").rglob("*.py"), *(ROOT / "app").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        risky = re.search(r"subprocess|shell|system|popen|eval\(|exec\(|pickle", text)
        for node in ast.walk(ast.parse(text)) if risky else ():
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                shell = [key for key in node.keywords if key.arg == "shell" and ast.unparse(key.value) != "False"]
                assert not shell and name not in ("os.system", "os.popen", "eval", "exec", "pickle.load", "pickle.loads"), path
                if name in ("subprocess.run", "subprocess.Popen") and node.args:
                    assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr), f"{path}: a command is a list"


def test_git_gets_no_option_from_a_url_and_no_protocol_but_the_usual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rag_vs_ft import settings
    from rag_vs_ft.corpus import git, store
    from rag_vs_ft.errors import UserError

    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    protocols = git._environment()["GIT_ALLOW_PROTOCOL"].split(":")
    assert not {"ext", "fd"} & set(protocols)
    for url in (f"ext::sh -c 'touch {tmp_path}/owned'", f"--upload-pack=touch {tmp_path}/owned", "git+ext::x", "-uowned"):
        with pytest.raises(UserError):
            store.add("docs", url, home=settings.home(tmp_path / "home"))
    assert not (tmp_path / "owned").exists()


if __name__ == "__main__":
    print("# Licences of the dependencies\n")
    print("What the packages of requirements.lock say of themselves, listed by `python tests/test_supply_chain.py`.\n")
    print("| package | version | licence |\n|---|---|---|")
    for name, version in sorted(PINNED.items(), key=lambda item: item[0].lower()):
        print(f"| {name} | {version} | {KNOWN.get(name) or licence(name)} |")
