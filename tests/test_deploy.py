"""The files in deploy/: their commands are ones that the command line understands, and nothing runs as root."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from rag_vs_ft import __version__
from rag_vs_ft.cli import app

DEPLOY = Path(__file__).parents[1] / "deploy"
KUBERNETES = [
    one for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
PODS = [one["spec"]["template"]["spec"] for one in KUBERNETES if one["kind"] in ("Deployment", "StatefulSet")]


def commands() -> list[list[str]]:
    """The words after `rag-vs-ft` of every command in these files."""
    found = [
        service["command"] for service in COMPOSE["services"].values() if "entrypoint" not in service and "command" in service
    ]
    found += [
        container["args"] for pod in PODS for container in pod["containers"] if "args" in container and "command" not in container
    ]
    containerfile = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    found += [re.findall(r'"([^"]*)"', words) for words in re.findall(r"^CMD (\[.*\])$", containerfile, re.MULTILINE)]
    for path in DEPLOY.rglob("*.yaml"):
        # A line that ends in a backslash goes on in the next comment.
        text = re.sub(r"\\\n#\s*", "", path.read_text(encoding="utf-8"))
        for line in re.findall(r"^#\s+(.*(?:rag-vs-ft|rag_vs_ft|run --rm work) .*)$", text, re.MULTILINE):
            found.append(shlex.split(re.split(r"(?:^|\s)(?:rag-vs-ft|-m rag_vs_ft|run --rm work) ", line)[1]))
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAG_VS_FT_PUBLISHED", "RAG_VS_FT_ALLOW_REMOTE", "RAG_VS_FT_OR_LOCAL"):
        monkeypatch.setenv(name, "")  # options set them, for this test alone
    command = typer.main.get_command(app)
    words = list(words)
    if words == ["--help"]:
        return
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    assert command.make_context(str(command.name), words).params


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) > 12


def test_nothing_runs_as_root_or_gains_privileges() -> None:
    assert len(PODS) == 4
    for pod in PODS:
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for service in COMPOSE["services"].values():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    stages = re.split(r"^FROM ", (DEPLOY / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for stage in stages:
        if re.search(r" AS (serve|train)$", stage.splitlines()[0]):
            assert "USER 10001:10001" in stage and stage.index("USER") < stage.index("ENTRYPOINT")


def test_every_image_has_a_version() -> None:
    images = [service["image"] for service in COMPOSE["services"].values()]
    images += [container["image"] for pod in PODS for container in pod["containers"]]
    for image in images:
        assert re.search(r":v?\d", image), image
        if image.startswith("rag-vs-ft"):
            assert image.endswith(f":{__version__}")


@pytest.mark.parametrize("path", sorted((DEPLOY / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_processes_are_spread_evenly(path: Path) -> None:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert found["num_processes"] % found["num_machines"] == 0
    assert found["distributed_type"] in (("NO",) if found["num_processes"] == 1 else ("MULTI_GPU", "FSDP"))
