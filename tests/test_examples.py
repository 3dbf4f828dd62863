"""What the help shows can be typed: every example is parsed by the verb that shows it, and inputs like it do no harm."""

import shlex
import sys

import click
import pytest
import typer.main

from rag_vs_ft import settings
from rag_vs_ft.cli import app, main
from rag_vs_ft.cli.common import open_index  # noqa: F401  # the verbs are all imported by then


def verbs() -> dict[str, click.Command]:
    """Every verb by its words."""
    found: dict[str, click.Command] = {}

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", None)
        if inner is None:
            found[" ".join(words)] = command
        for name, child in (inner or {}).items():
            walk(child, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


@pytest.mark.parametrize("verb", verbs())
def test_the_example_of_each_verb_is_understood(verb: str) -> None:
    command = verbs()[verb]
    examples = [line.partition("Example:")[2].strip() for line in (command.help or "").splitlines() if "Example:" in line]
    assert examples, f"{verb} has no example"
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "rag-vs-ft" and words[: len(verb.split())] == verb.split()
        context = command.make_context(verb, words[len(verb.split()) :])
        assert context.params


@pytest.fixture
def run(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAG_VS_FT_HOME", str(home.root))

    def go(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rag-vs-ft", *words])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


@pytest.fixture
def model(tmp_path) -> str:
    from tiny import save_llama

    return str(save_llama(tmp_path / "model"))


@pytest.mark.parametrize(
    "text", ["az aks create --max-surge 33%", "kubectl get pods -o wide", " --flag first", "-", "a\0b", "%s {x}"]
)
def test_any_text_can_be_tokenized(run, model, text: str) -> None:
    code, out, err = run("tokenize", text, "--tokenizer", model)
    assert code == 0 and "tokens" in err and out
    code, out, _ = run("tokenize", "--tokenizer", model, "--", "--max-surge 33%")
    assert code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "99999999999999999999999"], "seed is 99999999999999999999999"),
        (["--temperature", "1e-300"], "temperature is 1e-300"),
        (["--temperature", "nan"], "temperature is nan"),
        (["--temperature", "inf"], "temperature is inf"),
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--top-p", "0"], "top_p is 0.0"),
        (["--top-p", "nan"], "top_p is nan"),
        (["--top-p", "2"], "top_p is 2.0"),
        (["--max-new-tokens", "0"], "max"),
        (["--max-new-tokens", "-5"], "max"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["--device", "cuda:x"], "no device 'cuda:x'"),
        (["--device", "cpu:9"], "no device 'cpu:9'"),
        (["--model", "~nosuchuser/x"], "not a usable path"),
        (["--model", "m" * 300], "not a usable path"),
        (["--model", "run:nobody"], "no run 'nobody'"),
        (["--adapter", "~nosuchuser/x"], "not a usable path"),
        (["--template", "haiku"], "no prompt template 'haiku'"),
    ],
)
def test_an_option_of_ask_out_of_range(run, model, words: list[str], said: str) -> None:
    given = [] if "--model" in words else ["--model", model]
    code, _, err = run("ask", "Why?", "--context", "none", *given, *words)
    assert code == 2 and said in err and "Traceback" not in err, err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "99999999999999999999999"], "seed is"),
        (["--temperature", "1e-300"], "temperature is"),
        (["--top-k", "99999999999999999999999"], "top_k is"),
        (["--top-k", "-1"], "top_k is"),
        (["--max-new-tokens", "0"], "no room for an answer"),
    ],
)
def test_an_option_of_sample_out_of_range(run, model, words: list[str], said: str) -> None:
    code, _, err = run("sample", model, "--prompt", "Open", *words)
    assert code == 2 and said in err and "Traceback" not in err, err


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb", "\0", "\x1b[31m", ""])
def test_characters_that_are_no_text_do_no_harm(run, model, text: str) -> None:
    code, _, err = run("sample", model, "--prompt", text, "--max-new-tokens", "3")
    assert code == 0, err
    code, _, err = run("ask", text, "--context", "none", "--model", model, "--max-new-tokens", "3")
    assert code in (0, 2) and "Traceback" not in err, err
    code, _, err = run("tokenize", text, "--tokenizer", model)
    assert code in (0, 2) and "Traceback" not in err, err


def test_names_that_cannot_be_paths_are_refused_by_every_verb_that_takes_one(run) -> None:
    for name in ("~nosuchuser/x", "m" * 300):
        for words in (
            ["sample", name, "--prompt", "x"],
            ["tokenize", "x", "--tokenizer", name],
            ["models", "info", name],
            ["models", "pull", name],
            ["models", "pull", "gpt2", "--from", name],
            ["perplexity", name, "--corpus", "none"],
        ):
            code, _, err = run(*words)
            assert code == 2 and "Traceback" not in err and len(err) < 600, (words, err)
    assert settings.home().runs.exists() is False
