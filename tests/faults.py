"""Each verb that writes, killed or refused by the disk at each of its steps, and what is left then.

`python tests/faults.py` tries every step of every verb and prints the counts; `--sample 6` six steps of each, which is what
pytest runs. Every try runs in a forked child: the parent imports what is slow once and never starts a thread.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("RAG_VS_FT_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

KINDS = ("kill", "full", "fault")
"""The process dies; the disk is full from that step on; the disk reports a fault once."""
PAGES = {f"{name}.md": f"# {name}\n\nThe {name} limit is 5 days.\n" for name in ("node", "pool", "vault", "disk")}
# What differs between two runs that did the same: times, what was taken over, hashes of files that hold such.
VOLATILE = re.compile(
    r"second|created|started|finished|time$|latency|memory|tokens_per|^mfu$|sha256|^bytes$|^counts$|^predictions$|cost|generation"
    r"|log_history|total_flos|^pid$|^files$|break_even|^plan$|commit|_ms$"
)


@dataclass(frozen=True)
class Verb:
    """`prepare` makes what the verb finds in a folder, `run` is the verb, `again` what a user does after it failed."""

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path], None]
    again: Callable[[Path], None]
    logged: Callable[[Path], Any] = lambda log: contextlib.nullcontext()
    shard: int = 0
    """Units of work, such as texts embedded, that may be done again after a kill."""


def home_of(folder: Path) -> Any:
    from rag_vs_ft import settings

    return settings.home(folder / "home")


# --- the verbs --------------------------------------------------------------------------------------------------------


def write_docs(folder: Path) -> None:
    (folder / "docs").mkdir(parents=True)
    for name, text in PAGES.items():
        (folder / "docs" / name).write_text(text, encoding="utf-8")


def change_docs(folder: Path) -> None:
    (folder / "docs" / "node.md").unlink()
    for name in ("pool.md", "key.md"):
        (folder / "docs" / name).write_text(f"# {name}\n\nAnother {name} limit.\n", encoding="utf-8")


def add(folder: Path) -> None:
    from rag_vs_ft.corpus import store

    if not store.has_corpus("docs", home_of(folder)):
        store.add("docs", str(folder / "docs"), home=home_of(folder))


def add_again(folder: Path) -> None:
    from rag_vs_ft.corpus import store

    (update if store.has_corpus("docs", home_of(folder)) else add)(folder)


def update(folder: Path) -> None:
    from rag_vs_ft.corpus import store

    store.update("docs", home=home_of(folder))


def prepare_update(folder: Path) -> None:
    write_docs(folder)
    add(folder)
    change_docs(folder)


def build(folder: Path) -> None:
    from rag_vs_ft.index import build

    build.SHARD = 2
    recipe = build.Recipe(embedder=str(MODELS / "embedder" / "model"), precision="fp32", chunk_size=32)
    build.build("docs", "docs", recipe, home_of(folder))


def prepare_build(folder: Path) -> None:
    write_docs(folder)
    add(folder)


def index_update(folder: Path) -> None:
    from rag_vs_ft.index import build

    build.SHARD = 2
    build.update("docs", home_of(folder))


def prepare_index_update(folder: Path) -> None:
    prepare_build(folder)
    build(folder)
    change_docs(folder)
    update(folder)


def prepare_rollback(folder: Path) -> None:
    prepare_index_update(folder)
    index_update(folder)


def rollback(folder: Path) -> None:
    from rag_vs_ft.errors import UserError
    from rag_vs_ft.index import generations

    index = home_of(folder).indexes / "docs"
    try:
        with generations.building(index):
            generations.rollback(index)
    except UserError as error:
        # Said after a rollback that was finished but for its last flush: there is nothing before the first generation.
        if generations.current(index).name != "gen-000001" or "no whole generation before" not in error.message:
            raise


def export(folder: Path) -> None:
    from rag_vs_ft.index.export import exported
    from rag_vs_ft.index.sentence_model import SentenceModel

    os.environ["RAG_VS_FT_CACHE"] = str(folder / "cache")
    place = MODELS / "embedder" / "model"
    exported(SentenceModel.read(str(place), place), "fp32")


PRESET = """
window = 64
rows_per_step = 2
batch_size = 2
learning_rate = 3e-3
warmup_steps = 1
eval_every = 2
log_every = 1
steps = 4
bf16 = false
keep_checkpoints = 2
validation_fraction = 0.3
[scratch]
tokenizer = "corpus"
vocab_size = 300
layers = 1
heads = 2
width = 16
"""


def prepare_train(folder: Path) -> None:
    (folder / "docs").mkdir(parents=True)
    for number in range(6):
        text = " ".join(f"The pump {number} stops after {number * step} days." for step in range(12))
        (folder / "docs" / f"{number}.md").write_text(f"# Page {number}\n\n{text}\n", encoding="utf-8")
    (folder / "tiny.toml").write_text(PRESET, encoding="utf-8")
    add(folder)


def train(folder: Path) -> None:
    from rag_vs_ft.training import train as training

    training.train(training.Request("scratch", str(folder / "tiny.toml"), "docs"), "run", home_of(folder))


def train_again(folder: Path) -> None:
    from rag_vs_ft.training import runs
    from rag_vs_ft.training import train as training

    if runs.has_checkpoint(home_of(folder).runs / "run"):
        training.resume("run", home_of(folder))
    else:
        train(folder)


def prepare_resume(folder: Path) -> None:
    """A run that was stopped when its first checkpoint was whole."""
    prepare_train(folder)

    class Stopped(Exception):
        pass

    def tell(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if stage == "step" and done == 3:
            raise Stopped

    from rag_vs_ft.training import train as training

    with contextlib.suppress(Stopped):
        training.train(training.Request("scratch", str(folder / "tiny.toml"), "docs"), "run", home_of(folder), progress=tell)


EXPERIMENT = """
name = "small"
corpus = "docs"
index = "docs"
questions = ["questions.jsonl"]
baseline = "alone"
validation_documents = 1
[choose]
k = [1]
retriever = ["bm25"]
score = ["sum"]
[answers]
questions = 2
max_new_tokens = 3
[[arms]]
name = "alone"
model = "MODEL"
context = "none"
[[arms]]
name = "retrieval"
model = "MODEL"
context = "retrieved"
[[arms]]
name = "longest"
model = "longest-choice"
context = "none"
"""


def prepare_evaluate(folder: Path) -> None:
    prepare_build(folder)
    build(folder)
    (folder / "experiment.toml").write_text(EXPERIMENT.replace("MODEL", str(MODELS / "language")), encoding="utf-8")
    records = [
        {
            "id": f"{name}-{number}",
            "question": f"How many days is limit {number} of the {name}?",
            "answer": "5 days",
            "choices": ["5 days", "6 days", "70 days"],
            "answer_index": 0,
            "gold_documents": [f"{name}.md"],
            "answerable": True,
            "tags": [],
            "evidence": [f"The {name} limit is 5 days"],
            "split": "dev" if name == "node" else "test",
        }
        for name in ("node", "pool", "vault", "disk")
        for number in range(2)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def evaluate(folder: Path) -> None:
    from rag_vs_ft.evaluation.harness import run_experiment

    run_experiment(folder / "experiment.toml", home=home_of(folder), resume=True).raise_failures()


def prepare_evaluate_resume(folder: Path) -> None:
    from rag_vs_ft.evaluation import asking

    prepare_evaluate(folder)

    class Stopped(BaseException):
        pass

    def tell(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if stage.startswith("retrieval (test)"):
            raise Stopped

    from rag_vs_ft.evaluation.harness import run_experiment

    asking.BATCH = 2
    with contextlib.suppress(Stopped):
        run_experiment(folder / "experiment.toml", home=home_of(folder), progress=tell)


def prepare_pull(folder: Path) -> None:
    shutil.copytree(MODELS / "language", folder / "source")


def pull(folder: Path) -> None:
    from rag_vs_ft import pulling

    os.environ["RAG_VS_FT_CACHE"] = str(folder / "cache")
    pulling.pull("someone/model", source=folder / "source")


def prepare_conversion(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    prepare_pull(folder)
    weights = folder / "source" / "model.safetensors"
    torch.save(load_file(weights), folder / "source" / "pytorch_model.bin")
    weights.unlink()


@contextlib.contextmanager
def embedded(log: Path) -> Any:
    """Note every text that is embedded."""
    from rag_vs_ft.index import build

    encode = build.Embedder.encode

    def noted(self: Any, texts: Any, tell: Any = None) -> Any:
        with log.open("a") as file:
            file.writelines(json.dumps(text) + "\n" for text in texts)
        return encode(self, texts, tell)

    build.Embedder.encode = noted
    yield


@contextlib.contextmanager
def scored(log: Path) -> Any:
    """Note every question that a model is asked."""
    from rag_vs_ft.evaluation import arms, asking

    asking.BATCH = 2
    answer = arms.ModelReader.answer

    def noted(self: Any, tasks: Any) -> Any:
        with log.open("a") as file:
            file.writelines(json.dumps(task.key) + "\n" for task in tasks)
        return answer(self, tasks)

    arms.ModelReader.answer = noted
    yield


VERBS = {
    verb.name: verb
    for verb in (
        Verb("corpus-add", write_docs, add, add_again),
        Verb("corpus-update", prepare_update, update, update),
        Verb("index-build", prepare_build, build, build, embedded, 2),
        Verb("index-update", prepare_index_update, index_update, index_update, embedded, 2),
        Verb("rollback", prepare_rollback, rollback, rollback),
        Verb("export", lambda folder: folder.mkdir(), export, export),
        Verb("train", prepare_train, train, train_again),
        Verb("resume", prepare_resume, train_again, train_again),
        Verb("eval", prepare_evaluate, evaluate, evaluate, scored, 2),
        Verb("eval-resume", prepare_evaluate_resume, evaluate, evaluate, scored, 2),
        Verb("pull", prepare_pull, pull, pull),
        Verb("conversion", prepare_conversion, pull, pull),
    )
}

# --- what is there ----------------------------------------------------------------------------------------------------


def steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if not VOLATILE.search(key)}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def content(path: Path) -> str:
    """What a file says, without what differs from one run to the next."""
    from rag_vs_ft import files

    if path.suffix in (".json", ".jsonl"):
        try:
            lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
            return files.sha256_text(json.dumps([steady(json.loads(line)) for line in lines]))
        except ValueError:
            return "damaged"
    # Drawings and reports name times, files.parquet the times of files; CURRENT the number of a generation.
    if path.suffix in (".html", ".md", ".png") or path.name in ("files.parquet", "CURRENT"):
        return "there"
    return files.sha256_file(path)


def look(folder: Path) -> dict[str, str]:
    """The content of every file by its path; generations by their age, as one more may have been begun."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in ("lock", ".lock") or path.suffix == ".lock":
            continue
        name = path.relative_to(folder).as_posix()
        if gens := sorted(folder.glob("home/indexes/docs/gen-??????")):
            current = (folder / "home/indexes/docs/CURRENT").read_text().strip() if "indexes/docs" in name else ""
            for gen in gens:
                if f"/{gen.name}/" in name and gen.name != current:
                    name = ""  # the generation before; verify has looked at it
            name = name.replace(current, "gen") if current else name
        if name:
            found[name] = content(path)
    return found


def faults(folder: Path) -> list[str]:
    """What the product itself finds damaged; an interrupted verb may leave what the next one mends."""
    from rag_vs_ft.doctor import KINDS as looks

    kinds = ("corpora", "indexes", "runs", "results", "ledger")
    return [fault for kind in kinds for finding in looks[kind](home_of(folder)) for fault in finding.faults]


def readable(folder: Path) -> str:
    """Whether what was whole before still is: "" or what is wrong."""
    from rag_vs_ft.corpus import store
    from rag_vs_ft.errors import UserError
    from rag_vs_ft.index import generations
    from rag_vs_ft.training import runs

    home = home_of(folder)
    try:
        if store.has_corpus("docs", home):
            opened = store.open_corpus("docs", home)
            assert len(list(opened.documents())) == len(opened)
        if generations.list_indexes(home):
            generation = generations.current(home.indexes / "docs")
            assert not generations.verify(generation)
        for run in runs.list_runs(home).runs:
            if runs.has_checkpoint(run.folder):
                assert runs.last_whole_checkpoint(run.folder) is not None
    except (UserError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


# --- trying -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Try:
    """What came of one try: the exit code of the verb, of the one after it, and every promise that was broken."""

    step: int
    kind: str
    code: int
    broken: tuple[str, ...]


def forked(work: Callable[[], None], said: Path) -> int:
    child = os.fork()
    if child == 0:
        from rag_vs_ft.errors import UserError

        with said.open("w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        try:
            work()
        except (UserError, OSError) as error:  # what the command line makes a sentence of
            print(error, file=sys.stderr, flush=True)
            os._exit(2)
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def disturbed(verb: Verb, folder: Path, step: int, kind: str, log: Path) -> None:
    from rag_vs_ft import files

    steps = 0

    def at(what: str, path: Path) -> None:
        nonlocal steps
        steps += 1
        if kind == "count":
            with log.with_suffix(".steps").open("a") as file:
                file.write(f"{what} {path}\n")
        elif kind == "kill" and steps == step:
            os._exit(9)
        elif kind == "full" and steps >= step and what in ("write", "mkdir", "fsync", "link"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        elif kind == "fault" and steps == step:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    files.fault = at
    with verb.logged(log):
        verb.run(folder)


def attempt(verb: Verb, root: Path, step: int, kind: str, undisturbed: dict[str, str]) -> Try:
    """Disturb the verb at one step, look, run the next command undisturbed, look again."""
    work, log, said = root / "work", root / "log", root / "said"
    for path in (log, log.with_suffix(".steps")):
        path.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(root / "template", work, symlinks=True)
    code = forked(lambda: disturbed(verb, work, step, kind, log), said)
    broken = []
    # An error that the verb can do without (who holds a lock, a cache) is none; otherwise it is said in a sentence.
    if code == 1:
        broken.append(f"traceback: {said.read_text()[-600:]}")
    if kind == "kill" and code != 9:
        broken.append(f"not killed: {code} {said.read_text()[-300:]}")
    if wrong := readable(work):
        broken.append(f"after the fault: {wrong}")

    def again() -> None:
        with verb.logged(log):
            verb.again(work)

    if forked(again, said):
        broken.append(f"the next command fails: {said.read_text()[-600:]}")
    elif (left := look(work)) != undisturbed:
        names = sorted(name for name in {*left, *undisturbed} if left.get(name) != undisturbed.get(name))
        broken.append(f"other files: {names}")
    elif found := faults(work):
        broken.append(f"doctor: {found}")
    if log.exists():
        done = log.read_text().splitlines()
        if len(done) - len(set(done)) > verb.shard:
            broken.append(f"done twice: {len(done) - len(set(done))}")
    return Try(step, kind, code, tuple(broken))


def try_verb(name: str, root: Path, kinds: tuple[str, ...], sample: int) -> tuple[int, list[Try]]:
    """The steps of a verb, and what came of trying all or `sample` of them in each of `kinds`."""
    verb = VERBS[name]
    root.mkdir(parents=True)
    work, said = root / "work", root / "said"
    # Always in the same place, since manifests name it.
    if forked(lambda: verb.prepare(work), said):
        raise SystemExit(f"{name} cannot be prepared: {said.read_text()}")
    work.rename(root / "template")
    log = root / "log"
    # The first run also fills the cache, which is outside of `work`: the steps are those of one that finds it there.
    shutil.copytree(root / "template", work, symlinks=True)
    if forked(lambda: verb.run(work), said):
        raise SystemExit(f"{name} fails undisturbed: {said.read_text()}")
    shutil.rmtree(work)
    shutil.copytree(root / "template", work, symlinks=True)
    if code := forked(lambda: disturbed(verb, work, 0, "count", log), said):
        raise SystemExit(f"{name} fails undisturbed ({code}): {said.read_text()}")
    steps = len(log.with_suffix(".steps").read_text().splitlines())
    undisturbed = look(work)
    tries = []
    for number, kind in enumerate(kinds):
        chosen = range(1, steps + 1)
        if sample and sample < steps:
            chosen = sorted({1 + (at * steps + number * steps // len(kinds)) // sample % steps for at in range(sample)})
        for step in chosen:
            tries.append(attempt(verb, root, step, kind, undisturbed))
            if tries[-1].broken:
                print(f"{name} {kind} at {step} of {steps}: {'; '.join(tries[-1].broken)}", file=sys.stderr, flush=True)
    shutil.rmtree(root)
    return steps, tries


# --- SQLite, which writes past files.py: faults are put into its system calls -----------------------------------------

RATE = """
import sys
from pathlib import Path
from rag_vs_ft import conversations, feedback, settings
from rag_vs_ft.errors import UserError
home = settings.home(Path(sys.argv[1]))
try:
    feedback.store_rating(home, sys.argv[2], ("a", "b"), ("yes", "no"), "first", "Ada")
    conversations.save(home, "one", conversations.Turn(sys.argv[2], {"k": 3}, id=sys.argv[2], text="An answer."))
except UserError as error:
    print(error, file=sys.stderr)
    raise SystemExit(2)
"""
FEEDBACK = "feedback"
CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink")


def rate(folder: Path, question: str, *tracer: str) -> subprocess.CompletedProcess[str]:
    command = [*tracer, sys.executable, "-c", RATE, str(folder / "home"), question]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def kept(folder: Path) -> tuple[list[str], list[str], list[str], list[str]]:
    """The questions that were rated and those that were asked, the faults, and the files."""
    from rag_vs_ft import conversations, feedback

    home = home_of(folder)
    rated = sorted(feedback.rated_questions(home, ("a", "b")))
    faults = feedback.verify(home) + conversations.verify(home)
    asked = [turn.question for turn in conversations.load(home, "one").turns]
    return rated, asked, faults, sorted(path.name for path in (folder / "home").rglob("*") if path.is_file())


def try_feedback(root: Path, kinds: tuple[str, ...], sample: int) -> tuple[int, list[Try]]:
    """What `try_verb` does, for a rating and a turn of a conversation: strace puts faults into the system calls."""
    root.mkdir(parents=True)
    template, work = root / "template", root / "work"
    for question in ("First?", "Second?"):
        assert rate(template, question).returncode == 0
    before = kept(template)[:2]
    shutil.copytree(template, work)
    rate(work, "Third?", "strace", "-f", "-qq", "-o", str(root / "calls"), "-e", f"trace={','.join(CALLS)}")
    called = Counter(call for line in (root / "calls").read_text().splitlines() for call in CALLS if f" {call}(" in line)
    places = [(call, number) for call, count in called.items() for number in range(1, count + 1)]
    undisturbed = kept(work)
    tries = []
    for kind in kinds:
        chosen = places[:: -(-len(places) // sample)] if sample else places
        for call, number in chosen:
            shutil.rmtree(work)
            shutil.copytree(template, work)
            how = {
                "kill": f"signal=KILL:when={number}",
                "full": f"error=ENOSPC:when={number}+",
                "fault": f"error=EIO:when={number}",
            }
            done = rate(work, "Third?", "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:{how[kind]}")
            broken = [f"traceback: {done.stderr[-600:]}"] if "Traceback" in done.stderr else []
            if kind == "kill" and done.returncode == 0:
                broken.append("not killed")
            rated, asked, faults, _ = kept(work)
            acknowledged = done.returncode == 0
            for there, whole in zip((rated, asked), before, strict=True):
                if not {*whole} <= {*there} or len(there) > 3 or (acknowledged and len(there) != 3):
                    broken.append(f"after the fault: {there}")
            broken += faults
            if not acknowledged and rate(work, "Third?").returncode:  # whoever was told of a fault rates again
                broken.append("the next command fails")
            if kept(work) != undisturbed:
                broken.append(f"other content: {kept(work)}")
            tries.append(Try(number, kind, done.returncode, tuple(broken)))
            if broken:
                print(f"feedback {kind} at {call} {number}: {'; '.join(broken)}", file=sys.stderr, flush=True)
    shutil.rmtree(root)
    return len(places), tries


def make_models(folder: Path) -> None:
    import embedders
    import tiny

    embedders.save(folder / "embedder")
    tiny.save_gpt2(folder / "language")


def main() -> None:
    global MODELS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verbs", nargs="*", help=f"Of {', '.join((*VERBS, FEEDBACK))}; all when none is named.")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--sample", type=int, default=0, help="So many steps of each verb; 0: all.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["RAG_VS_FT_CACHE"] = f"{scratch}/cache"
        MODELS = Path(scratch) / "models"
        if not set(given.verbs) <= {"corpus-add", "corpus-update", FEEDBACK} or not given.verbs:
            if forked(lambda: make_models(MODELS), Path(scratch) / "said"):
                raise SystemExit((Path(scratch) / "said").read_text())
            import faiss  # noqa: F401
            import sentence_transformers  # noqa: F401
            import torch

            torch.set_num_threads(1)
        import rag_vs_ft.doctor  # noqa: F401

        bad = 0
        for name in given.verbs or (*VERBS, FEEDBACK):
            attempt_all = try_feedback if name == FEEDBACK else partial(try_verb, name)
            steps, tries = attempt_all(Path(scratch) / name, tuple(given.kinds.split(",")), given.sample)
            broken = [one for one in tries if one.broken]
            bad += len(broken)
            print(json.dumps({"verb": name, "steps": steps, "tries": len(tries), "broken": len(broken)}), flush=True)
    raise SystemExit(1 if bad else 0)


MODELS = Path()

if __name__ == "__main__":
    main()
