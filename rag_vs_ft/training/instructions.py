"""Alpaca records to finetune on: from mined questions, with passages put in, or read from a file made elsewhere.

The file format is that of Stanford Alpaca (Taori et al., 2023): a JSON list of {"instruction", "input", "output"}. What is built
here also says where a record comes from and which documents it rests on; readers that do not know these keys pass them over.
No record gets past `rag_vs_ft.overlap.HeldOut`: one that holds, or rewords, a question of an evaluation file is dropped and
counted. `headings` builds records from the documents alone, `self_instruct` has a model write them.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.errors import UserError
from rag_vs_ft.funnel import Funnel
from rag_vs_ft.language import words
from rag_vs_ft.models.prompting import alpaca_fields
from rag_vs_ft.overlap import HeldOut
from rag_vs_ft.records import Hit, Question

Retrieve = Callable[[str], Sequence[Hit]]
"""Question -> passages, best first."""

GOLD_COVERAGE = 0.6
"""Share of an answer's words that a passage must hold to be the one that the answer comes from."""
_FORMAT = 'an Alpaca file is a JSON list of {"instruction": "...", "input": "...", "output": "..."}'


@dataclass(frozen=True, slots=True)
class Record:
    """One thing to learn: what is asked, what is given with it, the answer. `documents` are the ids that the answer rests on."""

    instruction: str
    input: str
    output: str
    source: str = ""
    documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """Records, and a `funnel` that counts candidates, those dropped by each rule, and those kept."""

    records: tuple[Record, ...]
    funnel: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """How many there are and what became of the others."""
        return {"records": len(self.records), "funnel": self.funnel}


# --- files ------------------------------------------------------------------------------------------------------------


def write_alpaca(path: Path, records: Sequence[Record]) -> None:
    """Write the records as one JSON list; the file is replaced as a whole.

    Every record has the same keys and types, as table readers (Hugging Face `datasets`) need. Raises UserError when there are
    none or the file cannot be written.
    """
    if not records:
        raise UserError(f"there are no records to write to {path}", "the funnel says by which rules they were dropped")
    lines = ",\n".join(json.dumps(asdict(record), ensure_ascii=False) for record in records)
    try:
        files.write_text(path, f"[\n{lines}\n]\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "check the folder and the free space") from error


def read_alpaca(path: Path) -> list[Record]:
    """The records of an Alpaca file made here or elsewhere, in its order.

    `input` may be missing or null (both mean none); other keys than those of `Record` are passed over. Raises UserError naming
    the file, the row (from 1) and the field that is not as it should be.
    """
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start})", "save the file as UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        hint = f"{_FORMAT}; for one object a line, put commas between the lines and [ ] around them"
        raise UserError(f"{path}: not JSON: {error}", hint) from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list, found {_kind(rows)}", _FORMAT)
    if not rows:
        raise UserError(f"{path} holds no records", _FORMAT)
    return [_record(f"{path}: row {number}", row) for number, row in enumerate(rows, start=1)]


def _record(where: str, row: Any) -> Record:
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, found {_kind(row)}", _FORMAT)
    values: dict[str, Any] = {key: row.get(key) for key in ("instruction", "input", "output")}
    values["input"] = "" if values["input"] is None else values["input"]
    for key, value in values.items():
        if key not in row and key != "input":
            raise UserError(f"{where}: no field {key!r} (it has {', '.join(map(repr, row)) or 'none'})", _FORMAT)
        if not isinstance(value, str):
            raise UserError(f"{where}: field {key!r}: expected a text, found {_kind(value)}", _FORMAT)
    if not str(values["instruction"]).strip():
        raise UserError(f"{where}: field 'instruction' is empty", "remove the row or say what is asked")
    source, documents = row.get("source"), row.get("documents")
    known = isinstance(documents, list) and all(isinstance(one, str) for one in documents)
    return Record(
        **values,
        source=source if isinstance(source, str) else "",
        documents=tuple(documents) if known and documents else (),
    )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# --- the leak rule, and putting parts together ------------------------------------------------------------------------


def leak(record: Record, held_out: HeldOut) -> str | None:
    """Why the record must not be trained on; None when it may.

    The instruction must not be an evaluation question or reword one; the output, which is what is learned, must hold neither a
    question nor a longer answer. Passages (`input`) are not looked at: they are documents, which every arm may read.
    """
    if held_out.copied(record.instruction):
        return "leak: the instruction holds an evaluation question"
    if held_out.reworded(record.instruction):
        return "leak: the instruction rewords an evaluation question"
    if held_out.copied(record.output):
        return "leak: the output holds an evaluation question"
    if held_out.answered(record.output):
        return "leak: the output holds the answer to an evaluation question"
    return None


def is_dropped(reason: str | None, funnel: Funnel) -> bool:
    """Count the drop, if there is a reason for one."""
    if reason:
        funnel.drop(reason)
    return bool(reason)


def joined(parts: Sequence[Built]) -> Built:
    """The records of all parts in their order, each instruction once; the funnels are added up."""
    funnel = Funnel()
    seen: dict[str, str] = {}
    kept = []
    for part in parts:
        funnel.candidates += part.funnel["candidates"]
        for key, count in part.funnel.items():
            if key.startswith("dropped: "):
                funnel.drop(key.removeprefix("dropped: "), count)
        for record in part.records:
            key = " ".join(words(f"{record.instruction} {record.input}"))
            if key in seen:
                funnel.drop("repeated: the same instruction in another part or section")
            else:
                seen[key] = record.output
                kept.append(record)
    return Built(tuple(kept), funnel.counts(len(kept)))


# --- records from mined questions -------------------------------------------------------------------------------------


def from_questions(questions: Iterable[Question], held_out: HeldOut) -> Built:
    """Records from mined question-and-answer pairs (FAQ files) that are in no evaluation file, neither by id nor by wording."""
    funnel = Funnel()
    found: dict[str, Record] = {}
    for question in questions:
        funnel.candidates += 1
        if question.id in held_out.ids:
            funnel.drop("leak: the id of an evaluation question")
            continue
        if not question.answer or not question.answer.strip():
            funnel.drop("question: no answer in words")
            continue
        text = " ".join(question.question.split())
        record = Record(text, "", question.answer.strip(), f"questions:{question.id}", question.gold_documents)
        if is_dropped(leak(record, held_out), funnel):
            continue
        key = " ".join(words(text))
        if key in found:
            funnel.drop("repeated: the same question")
        else:
            found[key] = record
    return Built(tuple(found.values()), funnel.counts(len(found)))


# --- records with passages --------------------------------------------------------------------------------------------


def with_context(
    records: Sequence[Record], retrieve: Retrieve, *, passages: int = 4, without_gold: float = 0.2, seed: int
) -> Built:
    """Each record as a model is asked it with retrieval: `passages` passages in its input, in a random order.

    Retrieval-augmented finetuning (RAFT: Zhang et al., 2024, https://arxiv.org/abs/2403.10131). One passage is the best retrieved
    one of the record's own documents that holds the answer; the others are the best retrieved ones of other documents that do
    not. A share `without_gold` of the records, by a hash of seed and instruction, gets the others only, with the same answer:
    passages may be wrong, and what was learned then counts. Instruction and input are worded by `models.prompting`, so that a
    record reads, mark for mark, as `ask --template alpaca` with these passages. Raises UserError for shares and numbers out of
    range.
    """
    if passages < 2:
        raise UserError(f"passages is {passages}", "2 or more: the one with the answer and one that distracts from it")
    if not 0 <= without_gold < 1:
        raise UserError(f"without_gold is {without_gold}", "a share of 0 up to, but not, 1")
    funnel = Funnel()
    kept = []
    for record in records:
        funnel.candidates += 1
        if record.input:
            funnel.drop("context: the record has an input of its own")
            continue
        if not record.documents:
            funnel.drop("context: the record names no document")
            continue
        hits = list({hit.chunk.text: hit for hit in reversed(retrieve(record.instruction))}.values())[::-1]
        coverages = [_coverage(record.output, hit.chunk.text) for hit in hits]
        own = [hit.chunk.document_id in record.documents for hit in hits]
        gold = max(range(len(hits)), key=lambda at: (own[at], coverages[at], -at), default=None)
        others = [hit for hit, mine, share in zip(hits, own, coverages, strict=True) if not mine and share < GOLD_COVERAGE]
        given = others[:passages]
        if zlib.crc32(f"{seed} {record.instruction}".encode()) >= without_gold * 2**32:
            if gold is None or not own[gold] or coverages[gold] < GOLD_COVERAGE:
                funnel.drop("context: no passage with the answer was retrieved")
                continue
            given = [hits[gold], *others[: passages - 1]]
        if len(given) < passages:
            funnel.drop(f"context: fewer than {passages} passages")
            continue
        random.Random(f"{seed} {record.instruction}").shuffle(given)
        kept.append(_with_passages(record, given))
    return Built(tuple(kept), funnel.counts(len(kept)))


def _with_passages(record: Record, hits: Sequence[Hit]) -> Record:
    ranked = [replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]
    instruction, passages = alpaca_fields(record.instruction, ranked)
    return replace(record, instruction=instruction, input=passages)


def _coverage(answer: str, passage: str) -> float:
    """Share of the distinct words of `answer`, of three letters and more, that `passage` has."""
    asked = {word for word in words(answer) if len(word) > 2 or word.isdigit()}
    return len(asked & set(words(passage))) / len(asked) if asked else 0.0
