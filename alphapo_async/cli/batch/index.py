"""The first line of each foreign_id of a file, in a temporary database on disk, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from alphapo_async.cli.scratch import Scratch

__all__ = ["Index", "Later", "Standing"]

_TABLES: Final = """
create table firsts (foreign_id text primary key, line integer not null, payment text not null) without rowid;
create table laters (line integer primary key, foreign_id text not null, payment text not null, first integer not null,
    is_same integer not null);
create index laters_of on laters (foreign_id);
create table others (foreign_id text primary key) without rowid;
create table results (foreign_id text primary key, cells text not null) without rowid;
"""


class Standing(msgspec.Struct, frozen=True):
    """The relation of a row to the other rows with its foreign_id."""

    first: int
    """The line of the first of them."""
    is_first: bool
    is_same: bool
    """It requests the same payment as the first."""


class Later(msgspec.Struct, frozen=True):
    """A row that requests the same payment as an earlier one."""

    line: int
    foreign_id: str
    first: int
    cells: list[str] | None
    """The results line of the earlier row; None if it has none."""


class Index:
    """The first line of every foreign_id."""

    def __init__(self) -> None:
        self._scratch = Scratch(_TABLES)

    def __repr__(self) -> str:
        return "Index()"

    def add(self, line: int, foreign_id: str, payment: str) -> Standing:
        """Take a row in, and return where it stands.

        Args:
            line: on which it begins; larger than that of any row before.
            foreign_id: its name.
            payment: the digest of what it asks for.
        """
        if self._scratch.run("insert into firsts values (?, ?, ?) on conflict do nothing", foreign_id, line, payment):
            return Standing(line, is_first=True, is_same=True)
        first, known = self._first(foreign_id) or (line, payment)
        self._scratch.run(
            "insert into laters values (?, ?, ?, ?, ?)", line, foreign_id, payment, first, known == payment
        )
        return Standing(first, is_first=False, is_same=known == payment)

    def standing(self, line: int, foreign_id: str, payment: str) -> Standing | None:
        """Return the relation of a row that was added before; None if it was not, which means that the file has changed."""
        found = self._first(foreign_id)
        if found is None:
            return None
        first, known = found
        if first == line:
            return Standing(line, is_first=True, is_same=True) if known == payment else None
        later = self._scratch.first("select foreign_id, payment from laters where line = ?", line)
        return Standing(first, is_first=False, is_same=known == payment) if later == (foreign_id, payment) else None

    def line_of(self, foreign_id: str) -> int:
        """Return the line of the first payable row with this foreign_id; 0 if there is none."""
        found = self._first(foreign_id)
        return 0 if found is None else found[0]

    def knows(self, foreign_id: str) -> bool:
        """Return whether a row has this foreign_id, payable or not."""
        return self._first(foreign_id) is not None or self._is_other(foreign_id)

    def note(self, foreign_id: str) -> None:
        """Record the foreign_id of a row that cannot be paid."""
        self._scratch.run("insert or ignore into others values (?)", foreign_id)

    def _is_other(self, foreign_id: str) -> bool:
        return self._scratch.first("select 1 from others where foreign_id = ?", foreign_id) is not None

    def tell(self, foreign_id: str, cells: list[str]) -> None:
        """Record the results line of a row, if later rows request the same payment."""
        if self._scratch.first("select 1 from laters where foreign_id = ?", foreign_id):
            self._scratch.run(
                "insert or replace into results values (?, ?)", foreign_id, msgspec.json.encode(cells).decode()
            )

    def same_again(self) -> Iterator[Later]:
        """Yield the rows that request the same payment as an earlier one, in order."""
        for line, foreign_id, first, cells in self._scratch.each(
            "select line, foreign_id, first, cells from laters left join results using (foreign_id) where is_same order by line"
        ):
            yield Later(line, foreign_id, first, None if cells is None else msgspec.json.decode(cells))

    def has_result(self, line: int) -> bool:
        """Return whether the row of this line requests the same payment as an earlier row that has a results line."""
        found = self._scratch.first(
            "select 1 from laters join results using (foreign_id) where is_same and line = ?", line
        )
        return found is not None

    def close(self) -> None:
        """Close the database; its file is removed."""
        self._scratch.close()

    def _first(self, foreign_id: str) -> tuple[int, str] | None:
        found: tuple[int, str] | None = self._scratch.first(
            "select line, payment from firsts where foreign_id = ?", foreign_id
        )
        return found
