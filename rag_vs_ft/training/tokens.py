"""Documents -> one row of token ids on disk for each side of the split, read as a memory map.

`train.bin` and `validation.bin` hold little-endian unsigned integers (16 bits where the vocabulary allows): end-of-text, then
each document followed by end-of-text. `header.json`, written last, says by which tokenizer and from which corpus, where each
document begins, and how many bytes of text the tokens encode. The folder is moved to its place as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.corpus.splits import Split
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.records import Document
from rag_vs_ft.training.tokenizers import encode_batch, end_of_text, fingerprint, start_tokens

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
SIDES = ("train", "validation")
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the split: `tokens` ids, the `text_bytes` (UTF-8) they encode, and for each document its id and the
    position of its first token."""

    tokens: Any
    text_bytes: int
    document_ids: tuple[str, ...]
    offsets: np.ndarray

    def documents_in(self, start: int, end: int) -> list[str]:
        """Ids of the documents that tokens `start` to `end` (exclusive) belong to."""
        import numpy as np

        first = int(np.searchsorted(self.offsets, start, side="right")) - 1
        last = int(np.searchsorted(self.offsets, max(start, end - 1), side="right"))
        return list(self.document_ids[max(first, 0) : last])


@dataclass(frozen=True, slots=True)
class TokenFile:
    """An open token folder: its header and its two sides."""

    header: dict[str, Any]
    train: Side
    validation: Side


def write_tokens(folder: Path, documents: Iterable[Document], tokenizer: Any, split: Split, corpus_sha256: str) -> None:
    """Encode the documents into `folder`, which is replaced; raises UserError when the disk is full or cannot be written."""
    import numpy as np

    separator, start = end_of_text(tokenizer), start_tokens(tokenizer)
    kind = np.dtype("<u2" if len(tokenizer) <= 1 << 16 else "<u4")
    sides = {key: side for side in SIDES for key in getattr(split, side)}
    summary = {side: {"tokens": 1, "text_bytes": 0, "document_ids": [], "offsets": []} for side in SIDES}
    try:
        files.discard(folder)
        with files.publishing(folder) as temporary, ExitStack() as opened:
            out = {side: opened.enter_context(files.writing(temporary / f"{side}.bin")) for side in SIDES}
            for file in out.values():
                file.write(np.array([separator], dtype=kind).tobytes())
            for batch in _batches(document for document in documents if document.id in sides):
                for document, ids in zip(batch, encode_batch(tokenizer, [document.text for document in batch]), strict=True):
                    side = sides[document.id]
                    record: dict[str, Any] = summary[side]
                    record["document_ids"].append(document.id)
                    record["offsets"].append(record["tokens"])
                    out[side].write(np.array([*start, *ids, separator], dtype=kind).tobytes())
                    record["tokens"] += len(start) + len(ids) + 1
                    record["text_bytes"] += len(document.text.encode())
            opened.close()
            header = {
                "format": FORMAT,
                "dtype": kind.str,
                "tokenizer_sha256": fingerprint(tokenizer),
                "vocab_size": len(tokenizer),
                "end_of_text": separator,
                "corpus_sha256": corpus_sha256,
                "split": {key: value for key, value in asdict(split).items() if key not in SIDES},
                **summary,
                "files": files.listed(temporary),
            }
            files.write_record(temporary / "header.json", header, indent=None)
    except OSError as error:
        raise UserError(f"cannot write the token file {folder}: {error.strerror}", "free some space and start again") from error


def open_tokens(folder: Path, tokenizer_sha256: str) -> TokenFile:
    """Open a token folder that was written with the tokenizer of this fingerprint.

    Raises UserError when it was written with another tokenizer, CheckFailed when it is missing, cut off, changed or of another
    format. (Token files of earlier versions carry no hashes: of those only the sizes are checked.)
    """
    import numpy as np

    hint = f"remove {folder} and start the run again"
    try:
        header = files.read_json(folder / "header.json", hint)
        if header["format"] != FORMAT:
            raise CheckFailed(f"{folder}: format {header['format']!r}, this version reads {FORMAT}", hint)
        if header["tokenizer_sha256"] != tokenizer_sha256:
            raise UserError(
                f"{folder} was written with another tokenizer: {header['tokenizer_sha256'][:12]}, "
                f"the model's is {tokenizer_sha256[:12]}",
                "train with the tokenizer of the checkpoint, or start a new run",
            )
        if problem := files.damage(folder, header.get("files", {})):
            raise CheckFailed(f"the token file {folder} is damaged: {problem}", hint)
        sides = {}
        for side in SIDES:
            record, path = header[side], folder / f"{side}.bin"
            kind = np.dtype(header["dtype"])
            if path.stat().st_size != record["tokens"] * kind.itemsize:
                raise CheckFailed(f"{path} is cut off: {path.stat().st_size} bytes for {record['tokens']} tokens", hint)
            sides[side] = Side(
                tokens=np.memmap(path, dtype=kind, mode="r"),
                text_bytes=record["text_bytes"],
                document_ids=tuple(record["document_ids"]),
                offsets=np.array(record["offsets"], dtype=np.int64),
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailed(f"the token file {folder} is damaged: {error}", hint) from error
    return TokenFile(header, **sides)


def _batches(documents: Iterable[Document]) -> Iterable[list[Document]]:
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
