"""The tables of a journal in PostgreSQL."""

from __future__ import annotations

import re

from alphapo_async.journal.postgres.schema import MIGRATIONS, SCHEMA, queries, tables


def test_everything_is_made_in_the_schema_that_is_named() -> None:
    """Nothing depends on a search path."""
    made = tables("payments")
    assert made.count("create table payments.") == 7
    assert made.count("create function payments.enqueue") == 1
    assert made.count("create function payments.identity") == 1
    assert "{s}" not in made
    for query in queries("payments").values():
        assert not re.search(
            r"(from|join|into|update) (journal|withdrawals|history|revisions|workers|accounts|notes)\b", query
        )


def test_every_older_version_leads_to_this_one() -> None:
    """Step by step."""
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))
    assert f"(version, identity) values ({SCHEMA}, s.identity())" in tables("s")
