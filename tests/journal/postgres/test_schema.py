"""The tables of a journal in PostgreSQL."""

from __future__ import annotations

from alphapo_async.core.row_format import COLUMNS
from alphapo_async.journal.postgres.schema import MIGRATIONS, SCHEMA, statements

WHOLE = (*COLUMNS, "body", "sha256", "digest")


def test_everything_is_made_in_the_schema_that_is_named() -> None:
    """Nothing depends on a search path."""
    told = statements("payments", WHOLE)
    assert told.count("create table payments.") == 7
    assert told.count("create function payments.enqueue") == 1
    assert told.count("create function payments.identity") == 1
    assert "{" not in told


def test_every_older_version_leads_to_this_one() -> None:
    """Step by step."""
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))
    assert f"(version, identity) values ({SCHEMA}, s.identity())" in statements("s", WHOLE)
