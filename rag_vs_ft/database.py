"""The SQLite files of a home: opened for one transaction, made when they are not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError


@contextmanager
def transaction(path: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """The database `path` in one transaction; `schema` makes the tables that are missing.

    Raises UserError when the file is no database, is locked or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=2.0)) as database, database:
            database.executescript(schema)
            database.row_factory = sqlite3.Row
            yield database
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"cannot use {path}: {error}", "check that the folder can be written and the disk is not full") from error


def rows(path: Path, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    """What a query gives; nothing when there is no such file. Reads a file that may not be written.

    Raises UserError when the file cannot be read, is no database or has no such table.
    """
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query, values)]
    except sqlite3.Error as error:
        raise UserError(f"cannot read {path}: {error}", "check the file, or move it away: a new one is made") from error
