"""The temporary database of a command."""

from __future__ import annotations

import contextlib

from alphapo_async.cli.scratch import Scratch


def test_what_is_written_is_read_until_it_is_closed() -> None:
    """Two tables, and an index."""
    with contextlib.closing(Scratch("create table a (x integer);\ncreate table b (y text)")) as scratch:
        assert [scratch.run("insert into a values (?)", one) for one in range(3)] == [1, 1, 1]
        assert scratch.run("update a set x = x + 1") == 3
        assert scratch.first("select max(x) from a") == (3,)
        assert scratch.first("select y from b") is None
        assert list(scratch.each("select x from a order by x")) == [(1,), (2,), (3,)]
        assert repr(scratch) == "Scratch()"
