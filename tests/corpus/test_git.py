from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from rag_vs_ft.corpus import azure, git, sources, store
from rag_vs_ft.errors import Busy, UserError
from rag_vs_ft.settings import Home


class Repository:
    """A real repository that the test commits to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.run("init", "--quiet", "--initial-branch=main")

    def run(self, *arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, files: dict[str, str | None]) -> str:
        for path, content in files.items():
            target = self.folder / path
            if content is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(content)
        self.run("add", "--all")
        self.run("commit", "--quiet", "--message", "change")
        return self.run("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "up stream" / "work")


@pytest.mark.parametrize(
    "source", ["https://x.example/a", "ssh://git@x.example/a", "git@x.example:a/b.git", "file:///tmp/a", "http://x.example/a.git"]
)
def test_urls(source: str) -> None:
    assert git.is_url(source)


@pytest.mark.parametrize(
    "source", ["docs", "ext::sh -c id", "-oProxyCommand=id", "missing.git", "--upload-pack=id", "C:\\docs", ""]
)
def test_no_urls(source: str) -> None:
    assert not git.is_url(source)


def test_add_and_update(repository: Repository, home: Home, own_cache: Path) -> None:
    first = repository.commit(
        {
            "a.md": "# A\n\n[!INCLUDE [i](includes/i.md)]\n",
            "b.md": "---\nms.topic: how-to\n---\n# B\n",
            "sub/c.md": "# C\n\nText that moves.\n",
            "gone.md": "# Gone\n",
            "includes/i.md": "Included.\n",
            "code.py": "print()\n",
            "picture.png": "not really\n",
            "faq.yml": "### YamlMime:FAQ\ntitle: Q\n",
        }
    )
    url = repository.folder.as_uri()
    added = store.add("docs", url, home=home)
    assert added.manifest.commits == {"": first}
    assert added.manifest.source_kind == "git"
    corpus = store.open_corpus("docs", home)
    assert [document.id for document in corpus.documents()] == ["a.md", "b.md", "gone.md", "sub/c.md"]
    assert corpus.get("a.md").text == "# A\n\nIncluded.\n"
    assert corpus.get("a.md").commit == first
    (clone,) = (path for path in (own_cache / "git").iterdir() if path.is_dir())
    assert not (clone / "picture.png").exists()
    assert added.manifest.skipped["no reader for .png files"] == added.manifest.skipped["no reader for .py files"] == 1
    assert (clone / ".git" / "shallow").is_file()

    same = store.update("docs", home=home)
    assert same.changes == store.Changes(added=0, changed=0, removed=0, unchanged=4, relabelled=0)
    assert not same.written

    second = repository.commit(
        {
            "a.md": "# A\n\nChanged.\n",
            "gone.md": None,
            "new.md": "# New\n",
            "sub/c.md": None,
            "moved/c.md": "# C\n\nText that moves.\n",
        }
    )
    updated = store.update("docs", home=home)
    assert updated.changes == store.Changes(added=2, changed=1, removed=2, unchanged=1, relabelled=0)
    assert updated.manifest.commits == {"": second}
    ids = [document.id for document in store.open_corpus("docs", home).documents()]
    assert ids == ["a.md", "b.md", "moved/c.md", "new.md"]


def test_a_commit_that_touches_no_document_is_pinned_all_the_same(repository: Repository, home: Home) -> None:
    repository.commit({"a.md": "# A\n"})
    store.add("docs", repository.folder.as_uri(), home=home)
    second = repository.commit({"code.py": "x\n"})
    updated = store.update("docs", home=home)
    assert updated.written and updated.changes == store.Changes(0, 0, 0, 1, 0)
    assert store.open_corpus("docs", home).get("a.md").commit == second


def test_bare_repository_by_path_branch_and_history_rewritten(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a.md": "# A\n"})
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(repository.folder), str(bare)], check=True, capture_output=True)
    assert git.is_url(str(bare))
    folder, commit = git.clone(str(bare))
    assert (folder / "a.md").read_text() == "# A\n"

    repository.run("checkout", "--quiet", "-b", "other")
    other = repository.commit({"b.md": "# B\n"})
    folder, commit = git.clone(repository.folder.as_uri(), branch="other")
    assert commit == other and (folder / "b.md").is_file()
    repository.run("reset", "--quiet", "--hard", "main")
    rewritten = repository.commit({"c.md": "# C\n"})
    folder, commit = git.clone(repository.folder.as_uri(), branch="other")
    assert commit == rewritten
    assert not (folder / "b.md").exists() and (folder / "c.md").is_file()


def test_a_link_in_a_repository_leads_nowhere(repository: Repository, home: Home) -> None:
    (repository.folder / "link.md").symlink_to("/etc/passwd")
    repository.commit({"a.md": "# A\n\n[!INCLUDE [x](link.md)]\n"})
    store.add("docs", repository.folder.as_uri(), home=home)
    text = "".join(document.text for document in store.open_corpus("docs", home).documents())
    assert "root:" not in text


def test_what_only_stands_for_a_file_is_counted(repository: Repository, tmp_path: Path, home: Home) -> None:
    other = Repository(tmp_path / "other")
    other.commit({"x.md": "# X\n"})
    repository.run("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", other.folder.as_uri(), "sub")
    (repository.folder / "link.md").symlink_to("a.md")
    repository.commit(
        {
            "a.md": "# A\n",
            "big.md": "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n",
            "annexed.md": "/annex/objects/SHA256E-s1--abc.md\n",
            "written.md": "a.md",
        }
    )
    manifest = store.add("docs", repository.folder.as_uri(), home=home).manifest
    assert [document.id for document in store.open_corpus("docs", home).documents()] == ["a.md"]
    assert dict(manifest.skipped) == {
        "Git LFS pointer (fetch the files first: git lfs pull)": 1,
        "git-annex pointer (fetch the files first: git annex get)": 1,
        "hidden": 2,
        "link or special file": 2,
        "submodule (add it by its own address)": 1,
    }


def test_the_preset_puts_each_repository_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    one, two = Repository(tmp_path / "one"), Repository(tmp_path / "two")
    commits = {
        "azure-one": one.commit({"articles/x/a.md": "# A\n", "README.md": "r\n", "LICENSE": "l\n", "other/b.md": "# B\n"}),
        "azure-two": two.commit({"docs/c.md": "# C\n", "docs/sub/d.md": "# D\n"}),
    }
    entries = [
        f'[[repository]]\nname = "{name}"\ngit = "{repository.folder.as_uri()}"\nbranch = "main"\nfolders = ["{folder}"]\n'
        f'[repository.pages]\n"{folder}/" = "https://learn.example/{{}}"\n'
        '[repository.services]\n"articles/x/" = "ex"\n'
        for name, repository, folder in (("azure-one", one, "articles"), ("azure-two", two, "docs"))
    ]
    presets = tmp_path / "azure_docs.toml"
    presets.write_text("\n".join(entries))
    monkeypatch.setattr(azure, "REPOSITORIES", presets)
    info = store.add("azure", "azure-docs", home=home)
    corpus = store.open_corpus("azure", home)
    assert {document.id: document.url for document in corpus.documents()} == {
        "azure-one/articles/x/a.md": "https://learn.example/x/a",
        "azure-two/docs/c.md": "https://learn.example/c",
        "azure-two/docs/sub/d.md": "https://learn.example/sub/d",
    }
    assert corpus.get("azure-one/articles/x/a.md").service == "ex"
    assert info.manifest.commits == commits
    assert corpus.get("azure-two/docs/c.md").commit == commits["azure-two"]


def test_the_packaged_list_is_sound() -> None:
    names = [repository["name"] for repository in azure.repositories(azure.REPOSITORIES)]
    assert len(names) == len(set(names)) >= 4


@pytest.mark.parametrize("text", ["[[repository]]\nname = 'x'\n", "not toml", "x = 1\n"])
def test_a_broken_list_is_named(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = tmp_path / "azure_docs.toml"
    presets.write_text(text)
    monkeypatch.setattr(azure, "REPOSITORIES", presets)
    with pytest.raises(UserError, match=r"azure_docs\.toml"):
        sources.read_source("azure-docs")


@pytest.mark.parametrize("url", ["file:///no/such/repository.git", "http://127.0.0.1:1/x.git"])
def test_what_cannot_be_reached_is_said(url: str, home: Home) -> None:
    with pytest.raises(UserError, match="failed for") as caught:
        store.add("docs", url, home=home)
    assert "network" in caught.value.hint
    assert store.list_corpora(home) == []


def test_missing_branch_and_empty_repository(repository: Repository) -> None:
    with pytest.raises(UserError, match="failed for"):
        git.clone(repository.folder.as_uri())
    repository.commit({"a.md": "# A\n"})
    with pytest.raises(UserError, match="nope"):
        git.clone(repository.folder.as_uri(), branch="nope")
    with pytest.raises(UserError, match="failed for"):
        git.clone(repository.folder.as_uri(), branch="--upload-pack=touch evil")


def test_no_git(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repository.commit({"a.md": "# A\n"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git is not installed"):
        git.clone(repository.folder.as_uri())


def test_the_users_own_git_variables_do_not_lead_astray(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository.commit({"a.md": "# A\n"})
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_WORK_TREE", "/nowhere")
    assert git.clone(repository.folder.as_uri())[1] == commit


def test_two_at_once(repository: Repository, own_cache: Path) -> None:
    repository.commit({"a.md": "# A\n"})
    folder, _ = git.clone(repository.folder.as_uri())
    with FileLock(f"{folder}.lock"), pytest.raises(Busy):
        git.clone(repository.folder.as_uri())
