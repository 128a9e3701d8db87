"""The temporary database of a command."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from alphapo_async.cli.exit_codes import Exit, explain
from alphapo_async.cli.scratch import Scratch, ScratchError


def test_what_is_written_is_read_until_it_is_closed() -> None:
    """Two tables, and an index."""
    with contextlib.closing(Scratch("create table a (x integer);\ncreate table b (y text)")) as scratch:
        assert [scratch.run("insert into a values (?)", one) for one in range(3)] == [1, 1, 1]
        assert scratch.run("update a set x = x + 1") == 3
        assert scratch.first("select max(x) from a") == (3,)
        assert scratch.first("select y from b") is None
        assert list(scratch.each("select x from a order by x")) == [(1,), (2,), (3,)]
        assert repr(scratch) == "Scratch()"


def test_a_full_disk_is_explained() -> None:
    """With what to do now: it is no internal error, and says nothing about withdrawals but where they are recorded."""
    with contextlib.closing(Scratch("create table kept (text text)")) as scratch:
        scratch.run("pragma max_page_count = 3")
        # After a write that failed the database is damaged: it has no journal.
        for use in (scratch.run, scratch.first, lambda *query: list(scratch.each(*query))):
            with pytest.raises(ScratchError, match="make room for temporary files") as caught:
                use("insert into kept values (?)", "x" * 100_000)
            assert explain(caught.value) == ([str(caught.value)], Exit.UNKNOWN)


def test_a_programming_error_stays_one() -> None:
    """It is no matter of room."""
    with (
        contextlib.closing(Scratch("create table kept (text text not null)")) as scratch,
        pytest.raises(sqlite3.IntegrityError),
    ):
        scratch.run("insert into kept values (null)")
