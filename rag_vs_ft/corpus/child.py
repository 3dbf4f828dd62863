"""Readers in processes of their own, with limits on time and memory: a file that breaks its reader costs that file alone.

The parent sends a file's bytes and gets its content, or the reason why there is none. While a reader works it may ask for other
files of the source, which the parent gives it; it opens nothing itself. Messages are JSON with bytes behind it, so nothing that a
broken reader says is executed.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from typing import IO, Any

from rag_vs_ft.corpus.readers import BY_KIND, Content, Damaged, FileContext, LeftOut
from rag_vs_ft.language import detect
from rag_vs_ft.records import Heading, Place

MEMORY_BYTES = 3 << 30
"""Address space of a child, where the system can limit it."""
SECONDS_PER_MEGABYTE = 10
"""Processor time that a file may take besides its format's. A file that only waits is ended after `PATIENCE` times that."""
PATIENCE = 6

_LENGTHS = struct.Struct("<IQ")
_CODE = "from rag_vs_ft.corpus.child import main; main()"


def _send(stream: IO[bytes], message: dict[str, Any], body: bytes = b"") -> None:
    head = json.dumps(message).encode()
    stream.write(_LENGTHS.pack(len(head), len(body)))
    stream.write(head)
    stream.write(body)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        raise EOFError
    head, body = _LENGTHS.unpack(lengths)
    return json.loads(stream.read(head)), stream.read(body)


# --- the parent ------------------------------------------------------------------------------------------------------


def read(kind: str, data: bytes, context: FileContext) -> Content:
    """What the reader of `kind` makes of a file's bytes. Raises LeftOut. Safe to call from several threads at once."""
    try:
        child = _idle.get_nowait()
    except queue.Empty:
        child = _Child()
    try:
        return child.read(kind, data, context)
    finally:
        if child.alive():
            _idle.put(child)


_idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()


@atexit.register
def _end_all() -> None:
    while not _idle.empty():
        _idle.get_nowait().end()


class _Child:
    """A process that reads one file after another."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # an interrupt of the terminal is for the parent
        )
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        with suppress(OSError):  # what was not sent yet has nowhere to go
            self._to.close()  # a child that waits ends by that
        try:
            self._process.wait(1)  # one that ended by itself says why
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(OSError):
            self._from.close()

    def read(self, kind: str, data: bytes, context: FileContext) -> Content:
        seconds = BY_KIND[kind].seconds + SECONDS_PER_MEGABYTE * len(data) // 1_000_000
        waited_out = threading.Event()

        def give_up() -> None:
            waited_out.set()
            self._process.kill()

        timer = threading.Timer(PATIENCE * seconds, give_up)
        timer.daemon = True
        timer.start()
        request = {
            "kind": kind,
            "path": context.path,
            "dialect": context.dialect,
            "include_faq": context.include_faq,
            "seconds": seconds,
        }
        try:
            _send(self._to, request, data)
            while True:
                message, body = _receive(self._from)
                if "read" not in message:
                    return _content(message, body)
                text = context.read(str(message["read"]))
                _send(self._to, {"found": text is not None}, (text or "").encode("utf-8", "surrogatepass"))
        except (EOFError, OSError, ValueError) as error:
            self.end()
            raise LeftOut(_why(self._process.returncode, waited_out.is_set(), seconds)) from error
        finally:
            timer.cancel()


def _content(message: dict[str, Any], body: bytes) -> Content:
    if "left_out" in message:
        raise LeftOut(str(message["left_out"]), str(message["detail"]))
    return Content(
        text=body.decode("utf-8"),
        title=str(message["title"]),
        headings=tuple(Heading(int(level), str(text), int(offset)) for level, text, offset in message["headings"]),
        places=tuple(Place(int(offset), str(name)) for offset, name in message["places"]),
        description=str(message["description"]),
        service=str(message["service"]),
        date=str(message["date"]),
        language=str(message["language"]),
        notes=Counter({str(what): int(count) for what, count in message["notes"].items()}),
    )


def _why(code: int, waited_out: bool, seconds: int) -> str:
    """What a user is told of a child that ended before it had answered."""
    if waited_out or (hasattr(signal, "SIGXCPU") and code == -signal.SIGXCPU):
        return f"takes its reader more than {seconds} s (split the file, or save it again)"
    if code == -9:
        return "needs more memory than there is (split the file)"
    return "its reader crashed (save the file again, or as PDF or text)"


# --- the child -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Read files until the parent closes the pipe."""
    sent, received = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    # Nothing that a library prints may come between the messages.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    _limit_memory()
    sys.setrecursionlimit(2_000)
    while True:
        try:
            request, data = _receive(received)
        except EOFError:
            return
        _limit_time(request["seconds"])
        answer, body = _answer(request, data, sent, received)
        _send(sent, answer, body)


def _answer(request: dict[str, Any], data: bytes, sent: IO[bytes], received: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    def read(path: str) -> str | None:
        _send(sent, {"read": path})
        answer, body = _receive(received)
        return body.decode("utf-8", "surrogatepass") if answer["found"] else None

    kind = request["kind"]
    context = FileContext(request["path"], read, request["dialect"], request["include_faq"])
    try:
        content = BY_KIND[kind].read(data, context)
    except LeftOut as reason:
        return {"left_out": reason.reason, "detail": reason.detail}, b""
    except MemoryError:
        return {"left_out": f"needs more than {MEMORY_BYTES >> 30} GB of memory (split the file)", "detail": ""}, b""
    except ImportError as error:
        return {"left_out": "needs more packages (pip install 'rag-vs-ft[formats]')", "detail": str(error)}, b""
    except Exception as error:  # whatever a library raises at a damaged file
        detail = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return {"left_out": Damaged(BY_KIND[kind].title).reason, "detail": detail}, b""
    answer = {
        "title": content.title,
        "headings": [(heading.level, heading.text, heading.offset) for heading in content.headings],
        "places": [(place.offset, place.name) for place in content.places],
        "description": content.description,
        "service": content.service,
        "date": content.date,
        "language": detect(content.text),  # here, since this process has a core of its own
        "notes": dict(content.notes),
    }
    return answer, content.text.encode("utf-8")


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for which, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(which)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(which, (limit, hard))
        except (ValueError, OSError):  # macOS refuses a limit on address space
            continue


def _limit_time(seconds: int) -> None:
    """The kernel ends this process when it has worked `seconds` more."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))
