"""The tables of a journal in PostgreSQL, how an older journal is brought to this release's, and the statements on them."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from alphapo_async.core.row_format import CHANGING, REST
from alphapo_async.journal.schema_version import THIS
from alphapo_async.journal.statements import load, read
from alphapo_async.journal.stored_rows import COLUMNS, LINE, STORED

__all__ = ["MIGRATIONS", "ROLES", "Role", "grants", "queries", "tables"]

Role = Literal["payer", "keeper", "enqueuer", "reader"]
ROLES: Final[tuple[Role, ...]] = ("payer", "keeper", "enqueuer", "reader")
"""The roles of a database that use a journal, each with what it needs and no more."""

MIGRATIONS: Final[dict[int, str]] = {}
"""By the version that they start from, the statements that lead to the next one."""

_FOLDER: Final = Path(__file__).parent
_READ_AS_TEXT: Final = ("requested_amount", "rest")


def _handed(name: str) -> str:
    """Return a column of a row that was handed over. `rest` comes as a string: its escaped NULs are not read as text there."""
    return "(asked.rest #>> '{}')::json" if name == "rest" else f"asked.{name}"


def queries(schema: str) -> dict[str, str]:
    """Return the statements of `queries.sql` for the tables of one schema, whose name is checked."""
    return load(
        _FOLDER / "queries.sql",
        s=schema,
        stored=", ".join(STORED),
        stored_values=", ".join(map(_handed, STORED)),
        columns_as_text=", ".join(f"{name}::text" if name in _READ_AS_TEXT else name for name in COLUMNS),
        changing=", ".join(f"{name} = {_handed(name)}" for name in CHANGING),
        line=", ".join(LINE),
        members=", ".join(f"'{name}'" for name in REST),
    )


def grants(schema: str, role: Role, to: str) -> tuple[str, str]:
    """Return a sentence about a role, and the statements that grant its privileges to a user of the database.

    Args:
        schema: a checked name.
        role: which one.
        to: the user's checked name.
    """
    about = {statement.name: statement.sentence for statement in read(_FOLDER / "grants.sql")}
    return about[role], load(_FOLDER / "grants.sql", s=schema, to=to)[role]


def tables(schema: str) -> str:
    """Return the statements that make a journal in a schema, which must exist."""
    version = {name: str(value) for name, value in THIS._asdict().items()}
    return "\n".join(load(_FOLDER / "schema.sql", s=schema, stored=", ".join(STORED), **version).values())
