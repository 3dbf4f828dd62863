"""Pickled weights (`pytorch_model.bin`, as OpenLlama is published) to safetensors, once, when a model is pulled.

A pickle can run code when it is read. Here it is read by torch's reader for weights, which builds tensors and refuses all else,
in a child process that gives up the network first; what it wrote is compared tensor for tensor, and the pickle is deleted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rag_vs_ft import files
from rag_vs_ft.errors import UserError

FILES = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
"""Patterns of the files that are taken where a repository has no safetensors."""
_CHILD = Path(__file__).with_name("pickles_child.py")


def convert(folder: Path, name: str) -> tuple[str, ...]:
    """Replace the pickled weights in `folder` by safetensors; gives the names of the buffers that were left out.

    Raises UserError when a file holds anything but tensors, is damaged or is missing; `name` is the model's in the message.
    """
    done = subprocess.run([sys.executable, "-I", str(_CHILD), str(folder)], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        reason = (done.stderr.strip().splitlines() or [f"the reader ended with {done.returncode}"])[-1]
        raise UserError(f"the pickled weights of {name} cannot be read: {reason[:300]}", "pull one with safetensors") from error
    if "error" in found:
        raise UserError(
            f"the pickled weights of {name} are refused: {found['error']}",
            "take another repository of this model, or have it converted to safetensors by its owner",
        )
    for pattern in FILES:
        for path in folder.glob(pattern):
            files.remove(path)
    return tuple(found["dropped"])
