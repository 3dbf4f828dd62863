"""The SQLite files of a home: opened for one transaction, made when they are not there."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.errors import UserError

_SEALS = """
CREATE TABLE IF NOT EXISTS seals (
  place TEXT NOT NULL, id TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (place, id)
) STRICT
"""
_TRIES, _MOMENT = 20, 0.05
"""How often, and after how many seconds, a table is looked for again that is not there."""


@contextmanager
def transaction(path: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """The database `path` in one transaction; `schema` makes the tables that are missing.

    Raises UserError when the file is not a database, is locked or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=2.0)) as database, database:
            database.executescript(schema)
            database.row_factory = sqlite3.Row
            yield database
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"cannot use {path}: {error}", "check that the folder can be written and the disk is not full") from error


def seal(database: sqlite3.Connection, table: str, key: str, value: Any) -> None:
    """Keep a hash of the row of `table` whose column `key` is `value`; SQLite itself does not notice a changed letter."""
    row = database.execute(f"SELECT * FROM {table} WHERE {key} = ?", (value,)).fetchone()
    database.execute(_SEALS)
    database.execute("INSERT OR REPLACE INTO seals VALUES (?, ?, ?)", (table, str(value), _hash(row)))


def unseal(database: sqlite3.Connection, table: str, value: Any) -> None:
    """Forget the hash of a row that is removed."""
    database.execute(_SEALS)
    database.execute("DELETE FROM seals WHERE place = ? AND id = ?", (table, str(value)))


def verify(path: Path, tables: Mapping[str, str]) -> list[str]:
    """What is wrong with a database: what SQLite finds, and the rows that are not what was sealed.

    `tables` names the column that identifies a row of each table. Rows of earlier versions have no seal.
    """
    if not path.is_file():
        return []
    if not path.stat().st_size:
        return [f"{path}: it is empty"]
    try:
        faults = [str(row["integrity_check"]) for row in rows(path, "PRAGMA integrity_check") if row["integrity_check"] != "ok"]
        if not rows(path, "SELECT name FROM sqlite_master WHERE name = 'seals'"):
            return [f"{path}: {fault}" for fault in faults]
        seals = {(row["place"], row["id"]): row["sha256"] for row in rows(path, "SELECT * FROM seals")}
        for table, key in tables.items():
            there = set()
            for row in rows(path, f"SELECT * FROM {table}"):
                there.add(str(row[key]))
                if seals.get((table, str(row[key])), _hash(row)) != _hash(row):
                    faults.append(f"{table}: the row {row[key]!r} is not what was written")
            lost = [id for place, id in seals if place == table and id not in there]
            faults += [f"{table}: the row {id!r} is missing" for id in lost]
    except UserError as error:
        return [error.message]
    return [f"{path}: {fault}" for fault in faults]


def _hash(row: Any) -> str:
    return files.sha256_text(json.dumps(list(dict(row).values())))


def rows(path: Path, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    """What a query gives; nothing when there is no such file. Reads a file that may not be written.

    Raises UserError when the file cannot be read, is not a database or lacks the table.
    """
    if not path.is_file():
        return []
    try:
        try:
            return _rows(path, "ro", query, values)
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # the first writer may have made the file a moment ago, and not yet its tables
                for _ in range(_TRIES):
                    time.sleep(_MOMENT)
                    with suppress(sqlite3.OperationalError):
                        return _rows(path, "ro", query, values)
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # A process died while it wrote: what it began is undone first, which only whoever may write can do.
            return _rows(path, "rw", query, values)
    except sqlite3.Error as error:
        raise UserError(f"cannot read {path}: {error}", "check the file, or move it away: a new one is made") from error


def _rows(path: Path, mode: str, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=2.0)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query, values)]
