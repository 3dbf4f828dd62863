"""The parts of the demo that take time: its clock, and the model that it trains and takes over."""

import re

import pytest

from rag_vs_ft import demo, settings
from rag_vs_ft.corpus import store

TINY = {"steps": 6, "eval_every": 2, "log_every": 1, "warmup_steps": 0, "vocab_size": 300, "layers": 1, "heads": 2, "width": 16}
TINY |= {"window": 32, "rows_per_step": 2, "batch_size": 2}


@pytest.fixture
def documents(tmp_path, home, monkeypatch):
    """A small corpus under the sample's name, and training in seconds."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(8):
        text = f"# Pool {number}\n\nThe pool p{number} holds at most {10 + number} nodes.\n\n" + f"Word {number} follows. " * 40
        (folder / f"pool-{number}.md").write_text(text, encoding="utf-8")
    store.add(settings.SAMPLE, str(folder), home=home)
    monkeypatch.setattr(demo, "TRAINING", {key: str(value) for key, value in TINY.items()})
    return folder


def training_clock():
    clock = demo._TimeLeft()
    clock.begin("training")
    return clock


def test_the_time_left_follows_the_pace_of_the_machine(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(demo.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(demo, "STAGES", {"index": 40.0, "training": 60.0, "comparison": 160.0})
    clock = demo._TimeLeft()
    clock.begin("index")
    assert clock.left() == "about 4 min left"  # 260 s as usual
    now[0] += 100.0  # twice as long as usual, after twenty seconds at the usual pace
    clock.begin("training")
    assert clock.left() == "about 7 min left"  # (20 + 100) / (20 + 40) * 220 s
    clock.expect("training", 0.0)
    clock.expect("comparison", 20.0)
    assert clock.left() == "about 40 s left"


def test_the_model_is_trained_in_view_and_taken_over_by_the_next_demo(documents, home, capsys):
    assert not demo._finished_run(home)
    demo._train(home, training_clock())
    shown = capsys.readouterr().out
    assert re.search(r"^step   2/6: validation loss .* bits per byte \(about \d+ \w+ left in all\)$", shown, re.MULTILINE)
    assert re.search(r"^step   3/6: loss [\d.]+, [\d,]+ tokens/s \(about \d+ \w+ left in all\)$", shown, re.MULTILINE)
    assert demo._finished_run(home)
    demo._train(home, training_clock())
    again = capsys.readouterr().out
    assert "step   " not in again and again.splitlines()[-2:] == shown.splitlines()[-2:]

    (documents / "new.md").write_text("# New\n\nAnother document.\n", encoding="utf-8")
    store.update(settings.SAMPLE, home=home)
    assert not demo._finished_run(home) and not (home.runs / demo.RUN).exists()


def test_a_demo_that_was_stopped_while_training_goes_on_from_there(documents, home, capsys, monkeypatch):
    from rag_vs_ft.training import train as training

    def stopped(*arguments, progress, **options):
        def watch(stage, done=0, total=0, detail=""):
            progress(stage, done, total, detail)
            if (stage, done) == ("step", 5):
                raise KeyboardInterrupt

        return training.train(*arguments, progress=watch, **options)

    monkeypatch.setattr(demo, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        demo._train(home, training_clock())
    assert "step   5/6" in capsys.readouterr().out
    monkeypatch.setattr(demo, "train", training.train)
    assert not demo._finished_run(home)
    demo._train(home, training_clock())
    shown = capsys.readouterr().out
    assert "step   4/6" not in shown and "step   6/6" in shown
    assert demo._finished_run(home)
