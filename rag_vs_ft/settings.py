"""Where things are kept and what the defaults are: the one place to look for both."""

from __future__ import annotations

import errno
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rag_vs_ft import groups
from rag_vs_ft.errors import UserError

EMBEDDER = "all-minilm-l6-v2"
LANGUAGE_MODEL = "smollm2-135m-instruct"
RETRIEVER = "hybrid"
K = 5
"""Passages that `search` shows."""
ASK_K = 3
"""Passages that a prompt gets: a model of 135 million parameters reads three better than five."""
FUSION = "sum"
"""How a hybrid search joins its legs: see `index.search.fuse`."""
RRF_K = 60
"""Constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""
RERANK_DEPTH = 20
"""Hits that a reranker reads: it takes a passage at a time, and few answers stand further down."""
RELEVANT_COSINE = 0.24
"""Best cosine of a hit under which `ask` says that nothing relevant was found; chosen on dev questions (docs/notebook.md)."""
MAX_HITS = 1000
"""Hits that a search gives at most."""
MAX_QUESTION_CHARACTERS = 2_000
MAX_NEW_TOKENS = 160
SAMPLE = "sample"
"""The packaged documents: their source, and the name that the demo gives their corpus and index."""
SAMPLE_QUESTIONS = (
    "How many days does a vault keep deleted items by default?",
    "What is the largest number of nodes in a node pool?",
    "How do I list the locks of a resource group?",
)
MAX_THREADS = 1024
SEED = 1234
VALIDATION_FRACTION = 0.05
"""Share of the text that training holds out. With SEED it decides which documents: see `corpus.splits.default_split`."""


MODEL_LOADING = threading.RLock()
"""Held while a model is loaded. transformers replaces functions of torch and of its own while it loads and puts them back after:
two threads that load at once can leave the replacements in place, and every model made later is then wrong."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that everything built is kept in: corpora, indexes, runs and evaluation results."""

    root: Path

    @property
    def corpora(self) -> Path:
        """Documents."""
        return self.root / "corpora"

    @property
    def indexes(self) -> Path:
        """What is searched."""
        return self.root / "indexes"

    @property
    def runs(self) -> Path:
        """Trained models."""
        return self.root / "runs"

    @property
    def results(self) -> Path:
        """Evaluations."""
        return self.root / "eval" / "results"


def user_path(text: Path | str) -> Path:
    """A path that a user wrote, with `~` filled in. Raises UserError for what cannot be a path on any system."""
    try:
        path = Path(text).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()  # a NUL and a name that is too long are refused only when the system is asked
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{str(text)!r} is not a usable path: {error}", "write the folder out, without ~ or NUL") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            shown = f"{str(text)[:40]}..."
            raise UserError(f"{shown!r} is not a usable path: it has {len(str(text))} characters", "use a shorter one") from error
    return path


def home(root: Path | str | None = None) -> Home:
    """The home folder: `root` if given, else $RAG_VS_FT_HOME, else the working folder."""
    return Home(user_path(root or os.environ.get("RAG_VS_FT_HOME") or ".").resolve())


def cache_folder() -> Path:
    """Where model weights and git clones are kept: $RAG_VS_FT_CACHE, else the user's cache folder."""
    if given := os.environ.get("RAG_VS_FT_CACHE"):
        return user_path(given).resolve()
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rag-vs-ft"


def threads() -> int:
    """CPU threads that numeric libraries may use: $RAG_VS_FT_THREADS, else the cores this process may run on."""
    given = os.environ.get("RAG_VS_FT_THREADS", "")
    if given:
        if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= MAX_THREADS):
            raise UserError(
                f"RAG_VS_FT_THREADS={given[:40]!r} is not a number from 1 to {MAX_THREADS}",
                "unset it, or set it to a number of cores",
            )
        return int(given)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity call
        return os.cpu_count() or 1


ENGINES = ("auto", "transformers", "openvino")


def check_engine(name: str) -> str:
    """Return `name` if it is an engine that writes answers, else raise UserError."""
    if name not in ENGINES:
        raise UserError(f"there is no engine {name!r}", f"use one of: {', '.join(ENGINES)}")
    return name


def engine() -> str:
    """What writes the answers of `ask`, the demo and the app: $RAG_VS_FT_ENGINE, else "auto"."""
    return check_engine(os.environ.get("RAG_VS_FT_ENGINE") or "auto")


def reader() -> frozenset[str]:
    """The groups that this process reads documents as: $RAG_VS_FT_AS, names with commas between them; else none.

    It is a variable of the environment, which `--as` sets, so that work in other processes reads as the one that started it.
    """
    given = os.environ.get("RAG_VS_FT_AS", "")
    try:
        return frozenset(groups.parse(given) if given else ())
    except ValueError as error:
        raise UserError(f"RAG_VS_FT_AS={given[:40]!r}: {error}", "set it to names of groups, with commas between them") from error


def remote_allowed() -> bool:
    """Whether a model or an index may be on a server of another machine: $RAG_VS_FT_ALLOW_REMOTE is 1.

    It is a variable of the environment, which `--allow-remote` sets, so that work in other processes may do what the one that
    started it may.
    """
    return _is_on("RAG_VS_FT_ALLOW_REMOTE")


def or_local() -> bool:
    """Whether the index of the same name on this machine answers where a published one cannot: $RAG_VS_FT_OR_LOCAL is 1, which
    `--or-local` sets."""
    return _is_on("RAG_VS_FT_OR_LOCAL")


def _is_on(variable: str) -> bool:
    given = os.environ.get(variable, "")
    if given not in ("", "0", "1"):
        raise UserError(f"{variable}={given[:40]!r} is neither 0 nor 1", "unset it, or set it to 1 to allow it")
    return given == "1"


def published() -> tuple[str, ...]:
    """The indexes on servers that the service and the app offer beside those of the home: $RAG_VS_FT_PUBLISHED, addresses
    (qdrant:URL/NAME) with spaces between them, which their `--index` sets."""
    return tuple(dict.fromkeys(os.environ.get("RAG_VS_FT_PUBLISHED", "").split()))


def server_seconds() -> float:
    """Seconds that a model's server may be silent: $RAG_VS_FT_SERVER_SECONDS, else two minutes."""
    return _seconds("RAG_VS_FT_SERVER_SECONDS", "120")


def qdrant_seconds() -> float:
    """Seconds that a Qdrant server may be silent: $RAG_VS_FT_QDRANT_SECONDS, else ten."""
    return _seconds("RAG_VS_FT_QDRANT_SECONDS", "10")


def _seconds(variable: str, default: str) -> float:
    given = os.environ.get(variable, default)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3_600:
        raise UserError(f"{variable}={given[:40]!r} is not a number from 0.1 to 3600", "unset it, or set seconds")
    return seconds


def check_name(kind: str, name: str) -> str:
    """Return `name` if it can be a folder name (letters, digits, '.', '_', '-', not starting with '.'), else raise UserError."""
    allowed = all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
    # What Windows keeps for devices, with any ending; and it drops a dot at the end.
    reserved = re.fullmatch(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", name, re.IGNORECASE) or name.endswith(".")
    if not name or not allowed or name.startswith(".") or len(name) > 100 or reserved:
        raise UserError(
            f"{kind} name {name!r} is not usable",
            "use letters, digits, '.', '_' and '-', up to 100 of them, and no device of Windows",
        )
    return name


def quiet_dependencies() -> None:
    """Turn off telemetry, update checks and chatter of the libraries that read these variables at import."""
    for key, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "ANONYMIZED_TELEMETRY": "false",
        "ORT_DISABLE_TELEMETRY": "1",  # its function to switch it off comes too late: the import writes an id and asks for a name
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_MININTERVAL": "0.5",
    }.items():
        os.environ.setdefault(key, value)
