"""The public repositories of the `azure-docs` source: where they are cloned from, and where their pages are published."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError

REPOSITORIES = Path(__file__).with_name("azure_docs.toml")


@cache
def repositories(file: Path) -> list[dict[str, Any]]:
    """The entries of a list of repositories; the packaged one says at its top what they mean."""
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))["repository"]
        for entry in entries:
            missing = {"name", "git", "branch", "folders", "pages", "services"} - set(entry)
            if missing:
                raise UserError(f"{file}: a repository without {', '.join(sorted(missing))}", "see the top of the file")
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"cannot read {file}: {error}", "mend the file or install the package again") from error
    return entries


def page_facts(path: str) -> dict[str, str]:
    """`url` and `service` of a page by its path, when a folder in it is named like one of the repositories; else nothing."""
    for repository in repositories(REPOSITORIES):
        _, found, inside = f"/{path}".partition(f"/{repository['name']}/")
        if found:
            facts = {"url": "", "service": ""}
            for prefix, address in repository["pages"].items():
                if inside.startswith(prefix):
                    page = inside[len(prefix) :].rsplit(".", 1)[0]
                    facts["url"] = address.replace("{}", page.removesuffix("/index"))
            for prefix, service in repository["services"].items():
                if inside.startswith(prefix):
                    facts["service"] = service
            return facts
    return {}
