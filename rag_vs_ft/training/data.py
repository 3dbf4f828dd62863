"""What the model is shown at which step: rows of token ids with a target for each, in an order that is a pure function.

Rows are windows of the token file, or Alpaca records. Row number n of a run depends on the seed and n alone: nothing about the
data has to be saved to resume, and a step sees the same rows on one process or on eight.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.prompting import alpaca
from rag_vs_ft.training.instructions import Record, read_alpaca
from rag_vs_ft.training.tokenizers import encode_batch, start_tokens
from rag_vs_ft.training.tokens import Side

if TYPE_CHECKING:
    import numpy as np
    import torch

IGNORE = -100
"""The target of a position that is not learned; the value that torch's cross entropy leaves out."""
MAX_DROPPED = 0.05
"""Share of records without anything to learn above which a data file is refused."""


@dataclass(frozen=True, slots=True)
class Row:
    """`inputs` [length] token ids; `targets` [length] the id that should follow each, or IGNORE; `sources` are document ids."""

    inputs: np.ndarray
    targets: np.ndarray
    sources: tuple[str, ...]


class Rows(Protocol):
    """Rows by number, and the bytes of text that their targets encode."""

    text_bytes: int

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Row: ...


class Windows:
    """The tokens of one side in windows: together the targets are every token but the first, each once.

    The last window is filled up with positions that are not learned, so all have the same length.
    """

    def __init__(self, side: Side, window: int) -> None:
        self.side = side
        self.window = window
        self.text_bytes = side.text_bytes

    def __len__(self) -> int:
        return -(-(len(self.side.tokens) - 1) // self.window)

    def __getitem__(self, number: int) -> Row:
        import numpy as np

        start = number * self.window
        ids = self.side.tokens[start : start + self.window + 1].astype(np.int64)
        inputs = np.full(self.window, ids[0], dtype=np.int64)
        targets = np.full(self.window, IGNORE, dtype=np.int64)
        inputs[: len(ids) - 1] = ids[:-1]
        targets[: len(ids) - 1] = ids[1:]
        return Row(inputs, targets, tuple(self.side.documents_in(start, start + len(ids))))


class Records(list[Row]):
    """Alpaca records as rows; `text_bytes` are those of the responses."""

    def __init__(self, rows: Sequence[Row], text_bytes: int) -> None:
        super().__init__(rows)
        self.text_bytes = text_bytes


class Sample:
    """`count` of the rows, evenly spaced and always the same; `text_bytes` is their share by targets of all rows' bytes."""

    def __init__(self, rows: Rows, count: int) -> None:
        self.rows = rows
        self.numbers = [number * len(rows) // count for number in range(count)]
        self.text_bytes = round(rows.text_bytes * sum(map(self._targets, self.numbers)) / count_targets(rows))

    def _targets(self, number: int) -> int:
        return int((self.rows[number].targets != IGNORE).sum())

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Row:
        return self.rows[self.numbers[number]]


def count_targets(rows: Rows) -> int:
    """The number of tokens that the rows teach."""
    if isinstance(rows, Windows):
        return len(rows.side.tokens) - 1
    return sum(int((rows[number].targets != IGNORE).sum()) for number in range(len(rows)))


@dataclass(frozen=True, slots=True)
class Instructions:
    """An Alpaca file ready to be learned from, and what became of its records.

    `dropped` (nothing to learn), `contexts_cut` and `responses_cut` count records of `total`.
    """

    train: Records
    validation: Records
    total: int
    dropped: int
    contexts_cut: int
    responses_cut: int


def load_instructions(path: Path, tokenizer: Any, window: int, *, fraction: float, seed: int) -> Instructions:
    """Read an Alpaca file into labelled rows and hold out about `fraction` of them, equal instructions on one side.

    Only the response and the end token after it are targets. A record that is too long loses the end of its input first, then
    the end of its response (and with it the end token: it did not end there). Raises UserError when the file is not an Alpaca
    file, when over `MAX_DROPPED` of the records have nothing to learn, or when one side is left empty.
    """
    sides: dict[bool, list[Row]] = {True: [], False: []}
    text_bytes = {True: 0, False: 0}
    records = read_alpaca(path)
    dropped = contexts_cut = responses_cut = 0
    for number, record in enumerate(records, start=1):
        row, context_cut, response_cut = _row(record, tokenizer, window, f"{path.name} record {number}")
        if row is None:
            dropped += 1
            continue
        contexts_cut += context_cut
        responses_cut += response_cut
        held = zlib.crc32(f"{seed} {record.instruction}".encode()) < fraction * 2**32
        sides[held].append(row)
        learned = row.targets[row.targets != IGNORE]
        response = record.output if not response_cut else tokenizer.decode(learned)
        text_bytes[held] += len(response.encode())
    if dropped > MAX_DROPPED * len(records):
        raise UserError(
            f"{path}: {dropped} of {len(records)} records have nothing to learn: an empty output, or an instruction that fills "
            f"the window of {window} tokens",
            f"mend or remove them; up to {MAX_DROPPED:.0%} would be left out",
        )
    if not sides[False] or not sides[True]:
        raise UserError(
            f"{path}: {len(records)} records are too few for a training and a validation side",
            "add records, some dozens at least",
        )
    return Instructions(
        train=Records(sides[False], text_bytes[False]),
        validation=Records(sides[True], text_bytes[True]),
        total=len(records),
        dropped=dropped,
        contexts_cut=contexts_cut,
        responses_cut=responses_cut,
    )


def _row(record: Record, tokenizer: Any, window: int, name: str) -> tuple[Row | None, bool, bool]:
    """The labelled row of a record (None: nothing to learn), whether its input was cut and whether its response was."""
    import numpy as np

    instruction, context, output = (field.strip() for field in (record.instruction, record.input, record.output))
    if not output:
        return None, False, False
    response = [*encode_batch(tokenizer, [output])[0], tokenizer.eos_token_id]
    start = start_tokens(tokenizer)
    # A row of n tokens has n - 1 inputs: the last is only a target.
    budget = window + 1 - len(start)
    prompt = encode_batch(tokenizer, [alpaca(instruction, context)])[0]
    context_cut = False
    while len(prompt) + len(response) > budget and context:
        context = _cut(context, tokenizer, len(prompt) + len(response) - budget)
        prompt = encode_batch(tokenizer, [alpaca(instruction, context)])[0]
        context_cut = True
    room = budget - len(prompt)
    if room < 1:
        return None, context_cut, False
    ids = np.array([*start, *prompt, *response[:room]], dtype=np.int64)
    targets = ids[1:].copy()
    targets[: len(start) + len(prompt) - 1] = IGNORE
    return Row(ids[:-1], targets, (name,)), context_cut, len(response) > room


def _cut(text: str, tokenizer: Any, excess: int) -> str:
    """`text` without its last `excess` tokens."""
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
    keep = len(encoded.input_ids) - excess
    return text[: encoded.offset_mapping[keep - 1][1]].rstrip() if keep > 0 else ""


class Order:
    """The rows of a whole run, one after another: `self[step * rows_per_step + i]` is row i of that step.

    Each pass over the rows has its own permutation, drawn from (seed, number of the pass).
    """

    def __init__(self, rows: Rows, *, steps: int, rows_per_step: int, seed: int) -> None:
        self.rows = rows
        self.steps = steps
        self.rows_per_step = rows_per_step
        self.seed = seed

    def __len__(self) -> int:
        return self.steps * self.rows_per_step

    def __getitem__(self, position: int) -> Row:
        epoch, place = divmod(position, len(self.rows))
        return self.rows[int(_permutation(self.seed, epoch, len(self.rows))[place])]

    def step(self, number: int) -> list[Row]:
        """The rows of one optimizer step, over all processes."""
        start = number * self.rows_per_step
        return [self[position] for position in range(start, start + self.rows_per_step)]


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    import numpy as np

    return np.random.default_rng([seed, epoch]).permutation(size)


def collate(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Rows -> tensors [rows, longest]. Shorter rows are filled up on the right, where causal attention never looks back from.

    `shift_labels` are the targets as transformers' causal language models take them when they are not to shift by themselves.
    """
    import numpy as np
    import torch

    longest = max(len(row.inputs) for row in rows)
    inputs = np.zeros((len(rows), longest), dtype=np.int64)
    targets = np.full((len(rows), longest), IGNORE, dtype=np.int64)
    for number, row in enumerate(rows):
        inputs[number, : len(row.inputs)] = row.inputs
        targets[number, : len(row.targets)] = row.targets
    labels = torch.from_numpy(targets)
    return {"input_ids": torch.from_numpy(inputs), "labels": labels, "shift_labels": labels}
