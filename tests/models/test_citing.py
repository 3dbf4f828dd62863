from __future__ import annotations

from dataclasses import replace

import pytest
import tiny

from rag_vs_ft.models import citing

HITS = tiny.make_hits("The pump stops when the tank is full.", "Press the red key twice and wait 30 seconds.")
NO_PASSAGE = "the answer cites {}: the model was shown no such passage"
NOT_HELD = "the answer cites {} for words that are not there"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("The pump stops when the tank is full [1].", []),
        ("The pump stops when the tank is full. [1]", []),
        ("The pump stops when the tank is full. [1] Press the red key twice. [2]", []),
        ("The pump stops when the tank is full [2].", [NOT_HELD.format("[2]")]),
        ("The pump stops when the tank is full. [2] Press the red key twice [1].", [NOT_HELD.format("[1], [2]")]),
        ("The pump stops when the tank is full [1, 7].", [NO_PASSAGE.format("[7]")]),
        ("The tank holds nine hundred litres of paraffin [1].", [NOT_HELD.format("[1]")]),
        ("The pump stops when the tank is full.", []),
        ("[1]", []),
        ("", []),
        (" ".join(f"[{n}]" for n in range(3, 12)), [NO_PASSAGE.format("[3], [4], [5], [6], [7] and 4 more")]),
        ("Use a[0] and b[12].", [NO_PASSAGE.format("[0], [12]")]),
    ],
)
def test_the_numbers_of_an_answer_are_checked(answer, said):
    assert citing.faults(answer, HITS) == said


COMMANDS = tiny.make_hits(
    "```bash\naz lock create --name keep --lock-type CanNotDelete \\\n  --resource-group rg-orders-prod\n"
    "az lock list --resource-group rg-orders-prod --output table\n```\nUse kubectl.",
    "Run it so:\n\n$ kubectl get pods -n shop --watch\n\nThe option --force is not for this.",
)


@pytest.mark.parametrize(
    ("answer", "unknown"),
    [
        ("az lock list --resource-group rg-orders-prod --output table", []),
        ("Run `az lock list --resource-group mine` [1].", []),
        ("Run az lock create --resource-group mine --name a \\\n --lock-type ReadOnly. Then --force it.", []),
        (
            "az lock list --resource-group rg --output table --name keep --lock-type CanNotDelete --resource-group rg",
            ["az lock list --resource-group rg --output table --name keep --lock-type CanNotDelete --resource-group rg"],
        ),
        ("Use `az lock list --all`, or\n`az lock delete --name keep`.", ["az lock list --all", "az lock delete --name keep"]),
        ("kubectl get pods -n mine", []),
        ("kubectl get pods --all-namespaces", ["kubectl get pods --all-namespaces"]),
        ("helm install --wait", []),  # of a program that no passage uses
        ("The option --force stops it; az has none.", []),
        ("", []),
    ],
)
def test_a_command_that_no_passage_has_is_told(answer, unknown):
    assert citing.unknown_commands(answer, COMMANDS) == unknown
    told = [f"no passage has this command with these options: {command}" for command in unknown]
    assert [fault for fault in citing.faults(answer, COMMANDS) if "command" in fault] == told
    assert citing.unknown_commands(answer, HITS) == []


def test_the_numbers_are_asked_for_in_the_language_of_the_passages(tmp_path):
    from rag_vs_ft import settings
    from rag_vs_ft.models.loading import load
    from rag_vs_ft.models.prompting import build_prompt

    lm = load(str(tiny.save_llama(tmp_path / "llama", window=2048)), settings.home(tmp_path))
    german = [replace(hit, chunk=replace(hit.chunk, language="de")) for hit in HITS]
    assert "like [1]" in build_prompt(lm, "When?", HITS, cite=True).text
    assert "like [1]" not in build_prompt(lm, "When?", HITS).text
    assert "etwa [1]" in build_prompt(lm, "Wann?", german, cite=True).text
