"""One name, one meaning, wherever it is used."""

import shutil
from pathlib import Path

import pytest
from tiny import save_adapter, save_gpt2

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.costs import TrainingCost, training_cost
from rag_vs_ft.models import naming
from rag_vs_ft.models.loading import load
from rag_vs_ft.settings import Home
from rag_vs_ft.training.record import Plan, RunOutcome, RunRecord, write_record
from rag_vs_ft.training.tokenizers import load_tokenizer


@pytest.fixture
def world(gpt2_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a run `nano`, seen from a working folder that has nothing in it."""
    home = settings.home(tmp_path / "home")
    add_run(home, "nano", gpt2_folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return home


def add_run(home: Home, name: str, model: Path, base: str = "") -> None:
    shutil.copytree(model, home.runs / name / "last")
    plan = Plan("lora", "cpu", 9, 9, 9, 9, 9, 4, 10, epochs=1.0, flops=1e9, seconds=None, notes=(), warnings=())
    ended = RunOutcome(10, 10, 1.0, 1.0, 1.0, 1.0, False, "last", "", 5.0, 1.0)
    write_record(home.runs / name, RunRecord("lora", "nano", {"base": base}, {}, "finished", plan=plan, result=ended))


def test_a_plain_name_means_the_run(world: Home) -> None:
    for name in ("nano", "run:nano", "nano/last", "run:nano/last"):
        found = naming.resolve(name, world)
        assert (found.kind, found.base, found.run) == ("run", world.runs / "nano" / "last", "nano")
    assert naming.available(world) == ["nano"]


def test_a_run_and_a_folder_of_one_name_are_an_error_that_names_both(world: Home, gpt2_folder: Path) -> None:
    shutil.copytree(gpt2_folder, "nano")
    for use in (
        lambda: naming.resolve("nano", world),
        lambda: load("nano", world),
        lambda: load_tokenizer("nano", world),
        lambda: training_cost(world, "nano"),
    ):
        with pytest.raises(UserError, match=r"'nano' means 2 things: the run nano .* and the folder .*/nano") as error:
            use()
        assert "write run:nano for the run" in error.value.hint and "./nano for the folder" in error.value.hint
    assert naming.resolve("run:nano", world).run == "nano"
    assert naming.resolve("./nano", world).base == Path("nano").resolve()
    assert training_cost(world, "run:nano").seconds == 5.0
    assert training_cost(world, "./nano") == TrainingCost()
    assert naming.available(world) == ["run:nano"]


def test_a_run_called_like_a_catalogue_model_takes_no_name_and_pays_for_itself(world: Home, gpt2_folder: Path) -> None:
    add_run(world, "gpt2", gpt2_folder)
    for use in (
        lambda: naming.resolve("gpt2", world),
        lambda: training_cost(world, "gpt2"),
        lambda: load_tokenizer("gpt2", world),
    ):
        with pytest.raises(UserError, match=r"'gpt2' means 2 things: the run gpt2 .* and the catalogue's gpt2"):
            use()
    assert training_cost(world, "pulled:gpt2") == TrainingCost() == training_cost(world, "openai-community/gpt2")
    assert training_cost(world, "run:gpt2").tokens == 40
    assert naming.resolve("run:gpt2", world).run == "gpt2"
    with pytest.raises(UserError, match="gpt2 is not on this machine"):
        naming.resolve("pulled:gpt2", world)


def test_a_folder_of_something_else_takes_no_name_away(world: Home) -> None:
    Path("nano").mkdir()
    (Path("nano") / "notes.txt").write_text("documents")
    assert naming.resolve("nano", world).run == "nano"


def test_a_run_written_as_a_folder_is_that_run(world: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert naming.resolve(str(world.runs / "nano"), world).run == "nano"
    assert training_cost(world, str(world.runs / "nano" / "last")).seconds == 5.0
    monkeypatch.chdir(world.runs)
    assert naming.resolve("nano", world).kind == "run", "the folder here and the run are one place"


def test_an_adapters_base_is_the_hubs_model_whatever_runs_there_are(world: Home, gpt2_folder: Path, tmp_path: Path) -> None:
    add_run(world, "gpt2", gpt2_folder)
    place = save_adapter(tmp_path / "adapter", gpt2_folder, "openai-community/gpt2")
    with pytest.raises(UserError, match="gpt2 is not on this machine"):
        naming.resolve(str(place), world)
    chained = save_adapter(tmp_path / "chained", gpt2_folder, "run:nano")
    found = naming.resolve(str(chained), world)
    assert (found.base, found.adapters, found.run) == (world.runs / "nano" / "last", (chained,), None)
    with pytest.raises(UserError, match="holds no LoRA adapter"):
        naming.resolve("nano", world, adapter=str(gpt2_folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run:nobody", "there is no run 'nobody'"),
        ("run:", "there is no run ''"),
        ("run:../home", "there is no run"),
        ("", "no model was named"),
        ("second", "there is no model 'second'"),
        ("~nosuchuser/x", "not a usable path"),
        ("m" * 300, "not a usable path"),
        ("run:" + "m" * 300, "there is no run 'mmm"),
        ("nano\0", "not a usable path"),
        ("nano\ud800", "not a usable path"),
        ("pulled:nano", "there is no model 'nano'"),
        ("./nano", "there is no folder"),
        ("/nowhere/at/all", "there is no folder"),
    ],
)
def test_names_that_mean_nothing(name: str, message: str, world: Home) -> None:
    for use in (lambda: naming.resolve(name, world), lambda: load_tokenizer(name, world)):
        with pytest.raises(UserError, match=message):
            use()
    assert naming.run_of(name, world) is None


def test_the_cost_of_a_base_that_is_gone_is_not_charged(world: Home, gpt2_folder: Path) -> None:
    add_run(world, "second", gpt2_folder, base="/gone/for/good")
    assert training_cost(world, "second").seconds == 5.0


def test_a_newer_seed_is_another_place(world: Home, tmp_path: Path) -> None:
    save_gpt2(world.runs / "nano" / "best", seed=8)
    assert naming.resolve("nano", world).base.name == "best"
