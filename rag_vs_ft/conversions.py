"""Models converted for a faster engine, in the cache folder: made once, compared with their checksums, made again when damaged.

onnx/<key>/       model.onnx and manifest.json: an embedding model (index/export.py)
openvino/<key>/   model.xml, model.bin and manifest.json: a language model (models/fast.py)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from rag_vs_ft import files, settings
from rag_vs_ft.errors import CheckFailed

KINDS = ("onnx", "openvino")
MANIFEST = "manifest.json"
NAMED = "[0-9a-f]*"
"""A conversion's folder begins with a hash; anything else is scratch, of this version or an earlier one."""


def conversion(kind: str, key: str, make: Callable[[Path, Path], None]) -> Path:
    """The folder of the conversion `key`; `make(folder, scratch)` fills it when it is missing or damaged.

    Every use compares the files with their checksums: hashing takes a tenth of the time that loading takes, and a flipped bit in
    a weight would change vectors or answers silently. Raises OSError when the cache cannot be written, and what `make` raises.
    """
    folder = settings.cache_folder() / kind / key
    files.sweep_scratch(folder.parent)
    problem = fault(folder)
    if problem is None:
        return folder
    if folder.exists():
        logging.getLogger("rag_vs_ft").warning("%s: %s; the model is converted again", folder, problem)
    with files.scratch(folder.parent) as scratch:
        made = scratch / "made"
        made.mkdir()
        make(made, scratch)
        files.write_record(made / MANIFEST, {"files": files.listed(made)})
        if fault(folder) is not None:  # another process may have been faster
            files.remove(folder)
            files.publish(made, folder)
    return folder


def fault(folder: Path) -> str | None:
    """What is wrong with the files of a conversion, or None."""
    try:
        return files.damage(folder, files.read_json(folder / MANIFEST, "")["files"])
    except FileNotFoundError:
        return "it has no checksums"
    except CheckFailed as error:
        return error.message
    except (OSError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is damaged: {type(error).__name__} {error}"


def verify() -> Iterator[tuple[Path, list[str]]]:
    """Each conversion in the cache with its faults."""
    for kind in KINDS:
        for folder in sorted((settings.cache_folder() / kind).glob(NAMED)):
            if folder.is_dir():
                problem = fault(folder)
                yield folder, [f"{folder}: {problem}"] if problem else []
