"""What reaches the terminal cannot steer it, and errors of the system are sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rag_vs_ft.cli.common import printable

CODE = """
import rag_vs_ft.cli as cli
@cli.app.command("try")
def attempt() -> None:
    {body}
cli.main()
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    code = CODE.format(body=body)
    return subprocess.run([sys.executable, "-c", code, "try"], capture_output=True, text=True, encoding="utf-8", check=False)


def test_escapes_are_shown_not_obeyed() -> None:
    assert printable("\x1b[31mred\x07\x9b \u202egnp.exe\tand\n") == "\\u001b[31mred\\u0007\\u009b \\u202egnp.exe\tand\n"


def test_standard_output_shows_escapes_and_json_keeps_its_meaning() -> None:
    done = run("import json; print('title \\x1b]0;owned\\x07'); print(json.dumps({'t': '\\u202e\\x9b'}, ensure_ascii=False))")
    plain, record = done.stdout.splitlines()
    assert plain == "title \\u001b]0;owned\\u0007"
    assert json.loads(record) == {"t": "\u202e\x9b"} and "\u202e" not in record


def test_a_lone_surrogate_can_be_printed() -> None:
    assert run("print('a\\udc80b')").stdout == "a\\udc80b\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("open('/')", "error: /: Is a directory"),
        ("import errno; raise OSError(errno.ENOSPC, 'No space left on device', 'a/run.json')", "make room on that disk"),
        ("import errno; raise OSError(errno.EROFS, 'Read-only file system', 'x')", "--home FOLDER"),
        ("raise MemoryError", "not enough memory"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(body: str, said: str, tmp_path: Path) -> None:
    done = run(body)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
