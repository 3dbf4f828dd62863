"""Whole runs: what they leave, exact resuming, equal results however the work is cut up, and what stops them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import train

from rag_vs_ft import settings
from rag_vs_ft.cli.runs import runs_list
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import Busy, CheckFailed, Stopped, UserError
from rag_vs_ft.models.loading import load
from rag_vs_ft.training import runs
from rag_vs_ft.training import train as training
from rag_vs_ft.training.prepare import scratch_parameters
from rag_vs_ft.training.presets import load_preset
from rag_vs_ft.training.record import RunRecord, read_record, write_record
from rag_vs_ft.training.train import Request, RunResult, plan

Script = Callable[..., "subprocess.CompletedProcess[str]"]


def weights(result: RunResult, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(result.folder / name / "model.safetensors")


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def validation(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["validation_loss"]) for row in runs.read_metrics(folder) if "validation_loss" in row]


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_run_learns_and_leaves_everything(straight: RunResult, base_home: Path) -> None:
    checks = validation(straight.folder)
    assert [step for step, _ in checks] == [5, 10, 15, 20]
    assert checks[-1][1] < checks[0][1] - 0.05
    assert straight.outcome.best_loss == min(loss for _, loss in checks)
    assert straight.outcome.steps == 20 and not straight.outcome.stopped_early
    logged = [row for row in runs.read_metrics(straight.folder) if "loss" in row]
    assert [row["step"] for row in logged] == list(range(1, 21))
    assert all(row["tokens_per_second"] > 0 and row["memory_bytes"] > 1e7 for row in logged)
    samples = runs.read_metrics(straight.folder, runs.SAMPLES)
    assert [row["step"] for row in samples] == [5, 10, 15, 20] and len({row["prompt"] for row in samples}) == 1
    assert all(row["text"] for row in samples)
    assert (straight.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (straight.folder / "curves.html").read_text(encoding="utf-8")
    assert "<svg" in page and "straight" in page and "src=" not in page
    record = read_record(straight.folder)
    assert record.state == "finished" and record.corpus is not None and record.corpus.name == "docs"
    assert [info.name for info in runs.list_runs(settings.home(base_home)).runs if info.name == "straight"] == ["straight"]


def test_run_loads_as_a_model_and_scores_what_was_logged(straight: RunResult, base_home: Path) -> None:
    """The logged bits per byte, recomputed from the saved model with a plain sum over the validation tokens."""
    lm = load("straight", settings.home(base_home), device="cpu")
    assert lm.model.config.use_cache and lm.model.config.eos_token_id == lm.tokenizer.eos_token_id < len(lm.tokenizer)
    header = json.loads((straight.folder / "tokens/header.json").read_text(encoding="utf-8"))
    assert set(header["validation"]["document_ids"]).isdisjoint(header["train"]["document_ids"])
    documents = {document.id: document.text for document in store.open_corpus("docs", settings.home(base_home)).documents()}
    texts = [documents[key] for key in header["validation"]["document_ids"]]
    end = lm.tokenizer.eos_token_id
    stream = [end] + [token for text in texts for token in [*lm.tokenizer(text).input_ids, end]]
    nats = 0.0
    for start in range(0, len(stream) - 1, 96):
        piece = torch.tensor(stream[start : start + 97])
        with torch.no_grad():
            logits = lm.model(piece[None, :-1]).logits[0].double()
        nats -= float(torch.log_softmax(logits, -1).gather(1, piece[1:, None]).sum())
    size = sum(len(text.encode()) for text in texts)
    assert straight.outcome.best_bits_per_byte == pytest.approx(nats / 0.6931471805599453 / size, rel=1e-5)
    assert straight.outcome.best_loss == pytest.approx(nats / (len(stream) - 1), rel=1e-5)


def test_plan_counts_and_warns(base_home: Path, preset_file: str, straight: RunResult) -> None:
    facts = plan(Request("scratch", preset_file, "docs", overrides={"epochs": "20"}), settings.home(base_home))
    assert straight.plan is not None and facts.parameters == straight.plan.parameters
    width, layers = 32, 2
    blocks = layers * (12 * width**2 + 13 * width) + 2 * width
    assert facts.parameters == blocks + 320 * width + 96 * width
    assert facts.trainable_parameters == facts.parameters
    assert facts.epochs == pytest.approx(20, abs=0.2) and any("teach nothing" in warning for warning in facts.warnings)
    assert facts.seconds is not None and facts.seconds > 0
    matrices = layers * 12 * width**2 + 320 * width
    assert facts.flops == pytest.approx((6 * matrices + 12 * layers * width * 96) * facts.tokens_per_step * facts.steps)
    assert not (base_home / "runs/plan").exists()


def test_the_seed_decides(base_home: Path, preset_file: str, straight: RunResult) -> None:
    """That the same seed gives the same weights is what resuming shows."""
    other = train("scratch", "docs", preset_file, "other-seed", overrides={"seed": "7", "steps": "5"}, home=base_home)
    assert validation(other.folder)[0][1] != validation(straight.folder)[0][1]


def test_early_stop_keeps_best_and_last(base_home: Path, preset_file: str) -> None:
    over = {"learning_rate": "0.3", "warmup_steps": "0", "patience": "2", "eval_every": "1"}
    result = train("scratch", "docs", preset_file, "stops", overrides=over, home=base_home)
    checks = dict(validation(result.folder))
    assert result.outcome.stopped_early and result.outcome.steps == result.outcome.best_step + 2 < 20
    assert result.outcome.best_loss == min(checks.values()) < result.outcome.last_loss
    assert not same(weights(result, "best"), weights(result, "last"))
    assert "without gain" in result.outcome.why


@pytest.mark.parametrize(
    ("losses", "min_gain", "expected"),
    [([], 0, 0), ([3, 2, 1], 0, 0), ([1, 2, 3], 0, 2), ([3, 2, 2], 0, 1), ([3, 2.9, 2.8], 0.5, 2), ([3, 1, 2, 0.9], 0, 0)],
)
def test_evaluations_without_gain(losses: list[float], min_gain: float, expected: int) -> None:
    from rag_vs_ft.training.engine import evaluations_without_gain

    assert evaluations_without_gain(losses, min_gain) == expected


# --- resuming --------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from tiny import train

def progress(line):
    if line.startswith("step 12/"):
        os.kill(os.getpid(), signal.SIGKILL)

train("scratch", "docs", {preset!r}, "killed", home=Path({home!r}), progress=progress)
"""


def test_resume_after_kill_is_bit_for_bit(base_home: Path, preset_file: str, straight: RunResult, run_script: Script) -> None:
    died = run_script(KILLED.format(preset=preset_file, home=str(base_home)))
    assert died.returncode == -9, died.stderr
    folder = base_home / "runs/killed"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000005", "step-00000010"]
    copy = base_home / "runs/cut-off"
    shutil.copytree(folder, copy, symlinks=True)

    with pytest.raises(UserError, match="exists"):
        train("scratch", "docs", preset_file, "killed", home=base_home)
    resumed = train("scratch", "docs", preset_file, "killed", home=base_home, resume=True)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert same(load_file(resumed.folder / "last" / name), load_file(straight.folder / "last" / name)), name
    assert validation(resumed.folder) == validation(straight.folder)
    keys = ("step", "loss", "learning_rate", "grad_norm")
    assert resumed.outcome.seconds > max(row["seconds"] for row in runs.read_metrics(folder) if row["step"] <= 10)
    logs = [[{key: row.get(key) for key in keys} for row in runs.read_metrics(run.folder)] for run in (resumed, straight)]
    assert logs[0] == logs[1]

    # The newest checkpoint was cut off in mid-write, and another was never published.
    damaged = copy / "checkpoints/step-00000010/optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    left = copy / "checkpoints/.step-00000015.tmp"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    said: list[str] = []
    again = train("scratch", "docs", preset_file, "cut-off", home=base_home, resume=True, progress=said.append)
    assert any("step-00000010 is damaged" in line and "optimizer.safetensors" in line for line in said)
    assert any(line == "resuming from step 5" for line in said)
    assert not left.exists()
    assert same(weights(again), weights(straight))

    said.clear()
    assert train("scratch", "docs", preset_file, "cut-off", home=base_home, resume=True, progress=said.append).outcome.steps == 20
    assert any("nothing to resume" in line for line in said)


def test_a_run_that_died_before_best_was_pointed_to_ends_as_one_that_did_not(
    base_home: Path, preset_file: str, straight: RunResult
) -> None:
    folder = base_home / "runs/unlinked"
    shutil.copytree(straight.folder, folder, symlinks=True)
    best = (folder / "best").resolve()
    other = next(place for place in sorted((folder / "checkpoints").iterdir()) if place != best)
    runs.point(folder, "best", other)
    write_record(folder, read_record(folder).with_changes(state="training", result=None))
    again = train("scratch", "docs", preset_file, "unlinked", home=base_home, resume=True)
    assert (folder / "best").resolve() == best
    assert again.outcome.best_step == straight.outcome.best_step and again.outcome.best_loss == straight.outcome.best_loss


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 12])
def test_a_run_that_is_asked_to_stop_keeps_its_last_step(
    step: int, base_home: Path, preset_file: str, straight: RunResult
) -> None:
    folder = base_home / f"runs/stopped-{step}"

    def ask(line: str) -> None:
        if line.startswith(f"step {step}/"):
            runs.ask_to_stop(folder)

    with pytest.raises(Stopped, match=f"after step {step + 1}; this checkpoint is kept"):
        train("scratch", "docs", preset_file, folder.name, home=base_home, progress=ask)
    assert (folder / "last").resolve().name == f"step-{step + 1:08d}" and runs.verify(folder) == []
    assert load(f"run:{folder.name}", settings.home(base_home)).name == f"run:{folder.name}"
    resumed = train("scratch", "docs", preset_file, folder.name, home=base_home, resume=True)
    assert same(weights(resumed), weights(straight)) and validation(resumed.folder) == validation(straight.folder)
    assert runs.read_metrics(resumed.folder, runs.SAMPLES) == runs.read_metrics(straight.folder, runs.SAMPLES)


def test_run_that_ended_before_its_first_checkpoint_starts_again(base_home: Path, preset_file: str) -> None:
    class Stop(Exception):
        pass

    def progress(line: str) -> None:
        if line.startswith("step 2/"):
            raise Stop

    over = {"steps": "5"}
    for resume in (False, True):
        name = f"early-{resume}"
        with pytest.raises(Stop):
            train("scratch", "docs", preset_file, name, overrides=over, home=base_home, progress=progress)
        (base_home / "runs" / name / "tokens/header.json").unlink()  # as if it had been killed while encoding
        again = train("scratch", "docs", preset_file, name, overrides=over, home=base_home, resume=resume)
        assert [step for step, _ in validation(again.folder)] == [5]
    (base_home / "runs/mine").mkdir()
    (base_home / "runs/mine/thesis.txt").touch()
    with pytest.raises(UserError, match="exists and is not a run"):
        train("scratch", "docs", preset_file, "mine", home=base_home)


def test_resume_refuses_other_settings(base_home: Path, preset_file: str, straight: RunResult) -> None:
    with pytest.raises(UserError, match=r"learning_rate: was 0\.003, now 0\.001"):
        train("scratch", "docs", preset_file, "straight", overrides={"learning_rate": "1e-3"}, home=base_home, resume=True)
    with pytest.raises(UserError, match="no run 'nowhere'"):
        train("scratch", "docs", preset_file, "nowhere", home=base_home, resume=True)


def test_a_run_remembers_what_it_was_started_with(base_home: Path, preset_file: str, run_script: Script) -> None:
    home = settings.home(base_home)

    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("step 7/"):
            raise Stop

    changed = {"steps": "10", "learning_rate": "1e-3"}
    with pytest.raises(Stop):
        train("scratch", "docs", preset_file, "remembers", overrides=changed, home=base_home, progress=stop)
    for refused, said in (
        (Request(overrides={"steps": "12"}), r"steps: was 10, now 12"),
        (Request(preset=preset_file), r"learning_rate: was 0\.001, now 0\.003"),
        (Request(arm="lora", preset=preset_file), "'lora'"),
        (Request(overrides={"no_such": "1"}), "there is no setting 'no_such'"),
    ):
        with pytest.raises(UserError, match=said):
            training.resume("remembers", home, refused)
    whole = train("scratch", "docs", preset_file, "in-one-go", overrides=changed, home=base_home)
    resumed = training.resume("remembers", home, Request(overrides={"batch_size": "4"}))  # the cost of a step may differ
    assert resumed.outcome.steps == 10 and read_record(resumed.folder).preset == preset_file
    assert resumed.outcome.best_loss == pytest.approx(whole.outcome.best_loss, rel=1e-4)
    with pytest.raises(UserError, match="a new run needs an arm"):
        training.train(Request(), "nothing", home)


def test_a_removed_tokenizer_is_made_again(base_home: Path, preset_file: str) -> None:
    over = {"steps": "5"}
    first = train("scratch", "docs", preset_file, "no-tokenizer", overrides=over, home=base_home)
    (first.folder / "tokenizer/tokenizer.json").unlink()
    shutil.rmtree(first.folder / "checkpoints")
    assert weights(train("scratch", "docs", preset_file, "no-tokenizer", overrides=over, home=base_home, resume=True)).keys()


@pytest.mark.parametrize("side", ["train.bin", "validation.bin"])
def test_a_changed_token_is_noticed(side: str, base_home: Path, preset_file: str) -> None:
    over = {"steps": "5"}
    folder = train("scratch", "docs", preset_file, f"flipped-{side}", overrides=over, home=base_home).folder
    record = read_record(folder)
    write_record(folder, record.with_changes(state="training", result=None))
    path = folder / "tokens" / side
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckFailed, match=rf"{side} has changed"):
        training.resume(folder.name, settings.home(base_home))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_changed_byte_of_a_checkpoint_is_noticed_by_whoever_loads_it(name: str, base_home: Path, preset_file: str) -> None:
    over = {"steps": "5"}
    folder = train("scratch", "docs", preset_file, f"rotten-{name}", overrides=over, home=base_home).folder
    path = folder / "best" / name
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as when a disk rots
    with pytest.raises(CheckFailed, match=rf"{name} has changed"):
        load(folder.name, settings.home(base_home))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("null", "JSON null"),
        ("[]", "JSON list"),
        ('{"format": 1', "cannot read"),
        ('{"format": 9}', "format 9"),
        ('{"format": 1, "preset": "nano"}', "arm"),
        ('{"format": 1, "arm": "scratch", "preset": 3, "settings": {}, "versions": {}, "state": "finished"}', "preset"),
        ('{"format": 1, "arm": "scratch", "preset": "n", "settings": [], "versions": {}, "state": "finished"}', "settings"),
        ('{"format": 1, "arm": "scratch", "preset": "n", "settings": {}, "versions": {}, "stat": "finished"}', "state"),
        ('{"format": 1, "arm": "scratch", "preset": "n", "settings": {}, "versions": {}, "state": "done"}', "state"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
    ],
)
def test_a_damaged_record_is_named_and_hides_no_other(text: str, said: str, tmp_path: Path) -> None:
    home = settings.Home(tmp_path)
    record = RunRecord(arm="scratch", preset="nano", settings={}, versions={}, state="finished")
    write_record(tmp_path / "runs/good", record)
    write_record(tmp_path / "runs/bad", record)
    (tmp_path / "runs/bad/run.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckFailed, match=said):
        read_record(tmp_path / "runs/bad")
    listed = runs.list_runs(home)
    assert [info.name for info in listed.runs] == ["good"] and list(listed.damaged) == ["bad"]
    assert listed.runs[0].record == record


def test_a_run_whose_process_ended_is_listed_as_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, state in (("done", "finished"), ("died", "training"), ("held", "training")):
        write_record(tmp_path / "runs" / name, RunRecord(arm="lora", preset="nano", settings={}, versions={}, state=state))
    with runs.lock(tmp_path / "runs/held"):
        runs_list(home=tmp_path)
    told = dict(line.split()[::2] for line in capsys.readouterr().out.splitlines())
    assert told == {"done": "finished", "died": "stopped", "held": "training"}


def test_a_run_is_trained_by_one_process(base_home: Path, preset_file: str) -> None:
    with runs.lock(base_home / "runs/held"), pytest.raises(Busy):
        train("scratch", "docs", preset_file, "held", home=base_home)


# --- the same result however the work is cut up ----------------------------------------------------------------------


def test_accumulation_weighs_tokens_not_batches(base_home: Path, base_preset_file: str, alpaca_file: Path) -> None:
    results = {}
    for size in ("4", "1"):
        over = {"batch_size": size, "steps": "4", "eval_every": "4"}
        run = train("instruct", None, base_preset_file, f"rows-{size}", overrides=over, home=base_home, data=alpaca_file)
        results[size] = run
    one, four = weights(results["4"]), weights(results["1"])
    # Averages of micro-batch averages differ here by more than 1e-3: responses have from 2 to some 40 tokens.
    assert max(float((one[key] - four[key]).abs().max()) for key in one) < 5e-6
    assert results["4"].outcome.last_loss == pytest.approx(results["1"].outcome.last_loss, abs=1e-6)


LAUNCHED = """
from pathlib import Path
from tiny import train
train({arm!r}, "docs", {preset!r}, {name!r}, overrides={over!r}, home=Path({home!r}), progress=print)
"""


@pytest.mark.slow
def test_two_processes_equal_one(base_home: Path, preset_file: str, run_script: Script) -> None:
    over = {"dropout": "0", "steps": "6", "eval_every": "3"}
    one = train("scratch", "docs", preset_file, "one-process", overrides=over, home=base_home)
    code = LAUNCHED.format(arm="scratch", preset=preset_file, name="two-processes", over=over, home=str(base_home))
    done = run_script(code, "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("step 6/6: validation loss") == 1
    folder = base_home / "runs/two-processes"
    for (step, loss), (other, two) in zip(validation(one.folder), validation(folder), strict=True):
        assert step == other and two == pytest.approx(loss, abs=1e-5)
    losses = [[row["loss"] for row in runs.read_metrics(place) if "loss" in row] for place in (one.folder, folder)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    theirs = load_file(folder / "last/model.safetensors")
    assert all(torch.allclose(theirs[key], tensor, atol=1e-5) for key, tensor in weights(one).items())


# --- what stops a run ------------------------------------------------------------------------------------------------


def test_loss_that_is_not_finite_names_the_documents(base_home: Path, preset_file: str) -> None:
    over = {"learning_rate": "1e30", "warmup_steps": "0", "eval_every": "1", "clip": "1e30"}
    with pytest.raises(CheckFailed, match=r"not finite at step \d+; the batch held: article-\d\d\.md"):
        train("scratch", "docs", preset_file, "explodes", overrides=over, home=base_home)


def test_full_disk_leaves_the_last_checkpoint_whole(base_home: Path, preset_file: str, straight: RunResult) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def progress(line: str) -> None:
        if line.startswith("step 12/"):  # from now on no file can grow beyond 20 kB, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    try:
        with pytest.raises(UserError, match=r"cannot write the checkpoint of step 15") as caught:
            train("scratch", "docs", preset_file, "full", home=base_home, progress=progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "step-00000010" in caught.value.hint
    folder = base_home / "runs/full"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000005", "step-00000010"]
    assert runs.check_checkpoint((folder / "last").resolve()) is None
    resumed = train("scratch", "docs", preset_file, "full", home=base_home, resume=True)
    assert same(weights(resumed), weights(straight))


def test_disk_that_is_full_from_the_start(base_home: Path, preset_file: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        with pytest.raises(UserError, match="cannot write"):
            train("scratch", "docs", preset_file, "never", home=base_home)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (base_home / "runs/never/run.json").exists()


MEMORY = """
import resource, sys
from pathlib import Path
from rag_vs_ft.errors import UserError
from tiny import train
import torch, transformers.trainer, peft
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1_500_000_000,) * 2)
try:
    train("scratch", "docs", {preset!r}, "large", overrides={over!r}, home=Path({home!r}))
except UserError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of the process from /proc")
def test_out_of_memory_names_the_setting(base_home: Path, preset_file: str, run_script: Script) -> None:
    over = {"batch_size": "1024", "rows_per_step": "1024", "vocab_size": "32000"}
    done = run_script(MEMORY.format(preset=preset_file, over=over, home=str(base_home)))
    assert done.returncode == 2, done.stderr[-2000:]
    assert "out of memory with batch_size=1024 rows of 96 tokens" in done.stdout
    assert "--set batch_size=512" in done.stdout


def test_corpus_that_cannot_be_split(base_home: Path, preset_file: str, tmp_path: Path) -> None:
    where = settings.home(tmp_path)
    (tmp_path / "twice").mkdir()
    for name in "ab":
        (tmp_path / f"twice/{name}.md").write_text("The same words stand in both of these two files.", encoding="utf-8")
    store.add("twice", str(tmp_path / "twice"), home=where)
    with pytest.raises(UserError, match="near duplicates of one another"):
        train("scratch", "twice", preset_file, "r", home=tmp_path)
    (tmp_path / "once").mkdir()
    (tmp_path / "once/a.md").write_text("One file.", encoding="utf-8")
    store.add("once", str(tmp_path / "once"), home=where)
    with pytest.raises(UserError, match="there is only one"):
        train("scratch", "once", preset_file, "r", home=tmp_path)
    with pytest.raises(UserError, match="no corpus 'nothing'"):
        train("scratch", "nothing", preset_file, "r", home=tmp_path)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("epochs=inf", "finite number"),
        ("learning_rate=nan", "finite number"),
        ("width=1000000", r"this needs at least [\d,]+ GB of memory"),
        ("layers=100000", r"this needs at least [\d,]+ GB of memory"),
        ("window=99999999", r"this needs at least [\d,]+ GB of memory"),
        ("rows_per_step=100000000000", r"this needs at least [\d,]+ GB of memory"),
        ("validation_fraction=0.999999", "leaves none to train on"),
        ("seed=99999999999999999999999", "seed"),
        ("steps=²", "steps"),
        ("batch_size=0", "batch_size"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_allocated(
    setting: str, said: str, base_home: Path, preset_file: str
) -> None:
    key, _, value = setting.partition("=")
    name = f"never-{key}"
    with pytest.raises(UserError, match=said):
        train("scratch", "docs", preset_file, name, overrides={key: value}, home=base_home)
    assert not (base_home / "runs" / name / "checkpoints").exists()


def test_a_run_of_a_small_corpus_can_be_used(base_home: Path, preset_file: str) -> None:
    """The documents give fewer tokens than `vocab_size`: the model has rows for those that there are."""
    over = {"vocab_size": "8192", "steps": "5", "width": "32"}
    run = train("scratch", "docs", preset_file, "few-words", overrides=over, home=base_home)
    lm = load("few-words", settings.home(base_home))
    rows = lm.model.get_input_embeddings().num_embeddings
    assert len(lm.tokenizer) <= rows < len(lm.tokenizer) + 64 and rows % 64 == 0 and rows < 8192
    assert run.plan.parameters == sum(weight.numel() for weight in lm.model.parameters())
    assert run.plan.parameters == scratch_parameters(load_preset(preset_file, "scratch", over), rows)
    assert training.resume("few-words", settings.Home(base_home)).outcome.steps == 5


def test_vocabulary_smaller_than_the_tokenizers(base_home: Path, preset_file: str, straight: RunResult) -> None:
    over = {"tokenizer": "straight", "vocab_size": "300"}
    with pytest.raises(UserError, match="the tokenizer has 320 tokens, the model only vocab_size=300"):
        train("scratch", "docs", preset_file, "small", overrides=over, home=base_home)


def test_window_longer_than_the_models(base_home: Path, base_preset_file: str) -> None:
    with pytest.raises(UserError, match="window=128 is longer than the 96 tokens that plain reads"):
        train("finetune", "docs", base_preset_file, "long", overrides={"window": "128"}, home=base_home)


def test_tokenizer_that_does_not_match_the_checkpoint(base_home: Path, base_preset_file: str, straight: RunResult) -> None:
    mixed = base_home / "mixed"
    shutil.copytree((straight.folder / "last").resolve(), mixed)
    tokenizer = json.loads((mixed / "tokenizer.json").read_text(encoding="utf-8"))
    extra = {
        "id": 320,
        "content": "zzz",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": True,
        "special": False,
    }
    tokenizer["added_tokens"].append(extra)
    (mixed / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (mixed / "manifest.json").unlink()  # or the changed file alone would be refused
    with pytest.raises(UserError, match="do not belong together: 321 tokens, 320 embeddings"):
        train("finetune", "docs", base_preset_file, "mixed", overrides={"base": str(mixed)}, home=base_home)


@pytest.mark.parametrize(
    ("arm", "corpus", "data", "track", "message"),
    [
        ("scratch", None, None, None, "needs a corpus"),
        ("instruct", None, None, None, "needs records"),
        ("instruct", None, Path("missing.json"), None, "no file missing.json"),
        ("finetune", "docs", Path("some.json"), None, "learns documents"),
        ("scratch", "docs", None, "paper", "no tracker 'paper'"),
    ],
)
def test_requests_that_make_no_sense(
    base_home: Path, base_preset_file: str, arm: str, corpus: str | None, data: Path | None, track: str | None, message: str
) -> None:
    over = {"base": ""} if arm == "scratch" else {}
    with pytest.raises(UserError, match=message):
        train(arm, corpus, base_preset_file, "r", overrides=over, home=base_home, data=data, track=track)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [None, "import a_package_that_is_missing", "import json; json.not_there"])
def test_tracker_that_cannot_be_imported(
    base_home: Path, preset_file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str | None
) -> None:
    if code is None:
        monkeypatch.setitem(sys.modules, "trackio", None)  # as if it were not installed
    else:
        (tmp_path / "trackio.py").write_text(code, encoding="utf-8")
        monkeypatch.delitem(sys.modules, "trackio", raising=False)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"trackio cannot be imported: .*\n +pip install trackio"):
        train("scratch", "docs", preset_file, "not-tracked", home=base_home, track="trackio")
    assert not (base_home / "runs" / "not-tracked").exists()


UNTRACKED = """
import sys
from pathlib import Path
from tiny import train
train("scratch", "docs", {preset!r}, "untracked", overrides={{"steps": "2"}}, home=Path({home!r}))
print("imported:", [name for name in ("tensorboard", "trackio", "wandb") if name in sys.modules])
"""


def test_no_tracker_is_imported_unless_asked_for(base_home: Path, preset_file: str, run_script: Script, tmp_path: Path) -> None:
    """With packages of these names there to be imported."""
    for name in ("tensorboard", "trackio", "wandb"):
        (tmp_path / f"{name}.py").write_text("", encoding="utf-8")
    done = run_script(
        UNTRACKED.format(preset=preset_file, home=str(base_home)),
        PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("imported: []\n")
