"""Progress of long work where there is no terminal."""

from rag_vs_ft.cli import common


def test_a_stage_tells_how_long_it_still_takes(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    bar = common.StageBar()
    for seconds, stage, done, total in (
        (0.0, "alone (test)", 10, 100),  # ten were there before: they say nothing of the pace
        (12.0, "alone (test)", 40, 100),
        (24.0, "alone (test)", 70, 100),
        (36.0, "retrieval (test)", 0, 1000),
        (60.0, "retrieval (test)", 10, 1000),
        (80.0, "load gpt2", 0, 0),
    ):
        now[0] = seconds
        bar(stage, done, total)
    assert capsys.readouterr().err.splitlines() == [
        "alone (test): 40 of 100, 24 s left",
        "alone (test): 70 of 100, 12 s left",
        "retrieval (test): 0 of 1,000",
        "retrieval (test): 10 of 1,000, 40 min left",
        "load gpt2 ...",
    ]


def test_a_detail_is_a_line_of_its_own(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    bar = common.StageBar()
    bar("plan", detail="scratch on cpu")
    bar("step", 10, 50, "loss 4.0")
    now[0] = 1.0
    bar("step", 11, 50)
    now[0] = 2.0
    bar("step", 20, 50, "loss 3.0")
    assert capsys.readouterr().err.splitlines() == ["scratch on cpu", "step 10/50: loss 4.0", "step 20/50: loss 3.0, 6 s left"]
