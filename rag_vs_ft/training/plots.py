"""The curves of a run: loss, bits per byte, learning rate, speed and memory, as a PNG and a page that needs nothing else."""

from __future__ import annotations

import html
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.training.record import RunRecord

PANELS = (
    ("loss (nats per token)", (("loss", "training"), ("validation_loss", "validation"))),
    ("bits per byte", (("bits_per_byte", "validation"),)),
    ("learning rate", (("learning_rate", "learning rate"),)),
    ("tokens per second", (("tokens_per_second", "training"),)),
    ("peak memory (GB)", (("memory_bytes", "peak"),)),
    ("gradient norm", (("grad_norm", "before clipping"),)),
)


def draw(folder: Path, record: RunRecord, rows: list[dict[str, Any]]) -> None:
    """Write `curves.png` and `curves.html` into the run's folder from its metrics."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    best = record.result.best_step if record.result else None
    for number, (title, lines) in enumerate(PANELS):
        axes = figure.add_subplot(2, 3, number + 1)
        drawn = 0
        for key, label in lines:
            points = [(row["step"], row[key]) for row in rows if key in row]
            scale = 1e-9 if key == "memory_bytes" else 1.0
            if points:
                steps, values = zip(*points, strict=True)
                axes.plot(steps, [value * scale for value in values], marker="." if len(points) < 50 else "", label=label)
                drawn += 1
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if title in ("tokens per second", "peak memory (GB)"):
            axes.set_ylim(bottom=0)
        if number < 2 and best is not None:
            axes.axvline(best, linestyle=":", color="grey", label="best")
        if drawn > 1 or (number < 2 and best is not None):
            axes.legend(fontsize=8)
    figure.suptitle(f"{folder.name}: {record.arm}, preset {record.preset}", fontsize=11)
    with files.replacing(folder / "curves.png") as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    picture = io.StringIO()
    figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    svg = picture.getvalue()
    page = _PAGE.format(
        title=html.escape(f"Run {folder.name}"),
        svg=svg[svg.index("<svg") :],
        result=_table(asdict(record.result) if record.result else {}),
        settings=_table(record.settings),
    )
    files.write_text(folder / "curves.html", page)


def _table(values: dict[str, Any]) -> str:
    cells = (f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>" for key, value in values.items())
    return f"<table>{''.join(cells)}</table>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 2rem; max-width: 80rem; }}
svg {{ width: 100%; height: auto; }}
table {{ border-collapse: collapse; }}
th {{ text-align: left; font-weight: normal; color: #555; padding-right: 1.5rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{svg}
<h2>Result</h2>
{result}
<h2>Settings</h2>
{settings}
</body>
</html>
"""
