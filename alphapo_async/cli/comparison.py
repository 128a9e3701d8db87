"""The findings and sums of `alphapo reconcile`, in constant memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final

import msgspec

from alphapo_async.cli.alphapo_export import AlphapoExport
from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.scratch import Scratch
from alphapo_async.client import AlphapoClient
from alphapo_async.core.codec import plain
from alphapo_async.core.comparison import Difference
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.models import Money, Transaction
from alphapo_async.core.reconciliation import (
    KINDS,
    ExportLine,
    Kind,
    Sums,
    differences_in_export,
    differences_in_look_up,
    figure_in,
    moves_money,
    shown_money,
)
from alphapo_async.core.retry_policy import backoff
from alphapo_async.core.row import Row
from alphapo_async.engine.streaming import as_finished
from alphapo_async.journal import Journal

__all__ = ["HEADS", "Comparison"]

HEADS: Final = ("finding", "foreign_id", "field", "journal", "alphapo", "line", "source")
_TABLES: Final = """
create table lines (number integer primary key, foreign_id text not null, cells blob not null, currency text);
create table findings (rank integer not null, number integer primary key, cells blob not null)"""
_AT_ONCE: Final = 64
_TRIES: Final = 4
"""Look-ups of one withdrawal at most, where AlphaPo gives no readable answer."""
_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0


class Comparison:
    """Findings and sums of one run, in constant memory.

    Args:
        begin: seconds since the epoch; rows that were requested before are not missed in the export, and not looked up.
        end: likewise, for rows requested from then on.
        pause: seconds before a look-up without an answer is repeated; then twice as long each time.
    """

    def __init__(self, begin: float, end: float, *, pause: float = _PAUSE) -> None:
        self._begin = begin
        self._end = end
        self._pause = pause
        self._scratch = Scratch(_TABLES)
        self.counts: Counter[Kind] = Counter()
        self.rows = 0
        """Rows that were compared."""
        self.lines = 0
        """Lines of the export that were compared."""
        self.matched = 0
        self.sums = Sums()

    def __repr__(self) -> str:
        return f"Comparison({dict(self.counts)})"

    def close(self) -> None:
        """Forget everything."""
        self._scratch.close()

    def _find(self, kind: Kind, foreign_id: str, source: str, **cells: Any) -> None:
        """Keep a finding."""
        cells = {"finding": kind, "foreign_id": foreign_id, "source": source, **cells}
        self._scratch.run(
            "insert into findings (rank, cells) values (?, ?)", KINDS.index(kind), msgspec.json.encode(cells)
        )

    def findings(self) -> Iterator[dict[str, Any]]:
        """Yield the findings in order: first what is missing here."""
        for (cells,) in self._scratch.each("select cells from findings order by rank, number"):
            yield dict.fromkeys(HEADS) | msgspec.json.decode(cells)

    def is_expected(self, row: Row) -> bool:
        """Return whether AlphaPo must have the withdrawal: it is accepted, and was requested in the period."""
        return row.state == "accepted" and self._begin <= row.created_at < self._end

    # ── against an export ────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, export: AlphapoExport) -> None:
        """Take the lines of an export in."""
        for number, line in export.lines():
            self.lines += 1
            self._scratch.run(
                "insert into lines (number, foreign_id, cells) values (?, ?, ?)",
                number,
                line.foreign_id,
                msgspec.msgpack.encode(line),
            )
        self._scratch.run("create index lines_by_id on lines (foreign_id)")

    def meet(self, row: Row) -> None:
        """Compare a row of the journal with its line of the export."""
        found = self._scratch.first(
            "select number, cells from lines where foreign_id = ? order by number", row.foreign_id
        )
        if found is None:
            if self.is_expected(row):
                self.rows += 1
                self._miss(row, "export")
            return
        self.rows += 1
        number, line = int(found[0]), msgspec.msgpack.decode(found[1], type=ExportLine)
        self._scratch.run("update lines set currency = ? where number = ?", row.revision.asked[1], number)
        differences = differences_in_export(row, line)
        self.matched += not differences
        self._differ(row, "export", differences, number)
        ours = figure_in(row, line.currency)
        has_side = ours is not None and ours.amount is not None
        self._add(row, ours if has_side else None, line)

    def _add(self, row: Row, ours: Money | None, line: ExportLine) -> None:
        figure, currency = row.revision.asked
        theirs = (
            Money(currency=line.currency or currency, amount=line.amount) if moves_money(line.status or None) else None
        )
        self.sums.add((ours or Money(currency=currency, amount=figure)) if row.state == "accepted" else None, theirs)

    def _miss(self, row: Row, source: str, *, in_sums: bool = True) -> None:
        figure, currency = row.revision.asked
        self.counts["missing_there"] += 1
        self._find("missing_there", row.foreign_id, source, journal=f"{plain(figure)} {currency}".rstrip())
        if in_sums:
            self.sums.add(Money(currency=currency, amount=figure), None)

    def _differ(self, row: Row, source: str, differences: list[Difference], line: int | None = None) -> None:
        for one in differences:
            cells = {"field": one.field, "journal": one.asked, "alphapo": one.shown, "line": line}
            self._find("different", row.foreign_id, source, **cells)
        self.counts["different"] += bool(differences)

    def finish(self) -> None:
        """Find the lines that no row of the journal has met: those missing here, and a foreign_id that the export has again."""
        met = requested = None
        lines = "select number, foreign_id, cells, currency from lines order by foreign_id, currency is null, number"
        for number, foreign_id, cells, currency in self._scratch.each(lines):
            requested = currency if foreign_id != met else requested  # the line that a row has met comes first
            if currency is None:
                line = msgspec.msgpack.decode(cells, type=ExportLine)
                kind: Kind = "twice" if foreign_id and foreign_id == met else "missing_here"
                self.counts[kind] += 1
                self._find(kind, foreign_id, "export", alphapo=str(line), line=number)
                self.sums.add(
                    None,
                    Money(currency=line.currency or requested, amount=line.amount)
                    if moves_money(line.status or None)
                    else None,
                )
            met = foreign_id

    # ── against look-ups ─────────────────────────────────────────────────────────────────────────────────────────────

    async def look_up(
        self, client: AlphapoClient, journal: Journal, rows: AsyncIterator[Row], *, has_export: bool
    ) -> None:
        """Look up the rows, and compare.

        Args:
            client: asks AlphaPo, and records what it shows.
            journal: the client's.
            rows: to look up.
            has_export: the sums are those of an export.

        Raises:
            AlphapoUnavailable: AlphaPo does not accept the key.
        """
        job = partial(self._look_up_one, client, journal, has_export=has_export)
        async for _ in as_finished(rows, job, _AT_ONCE):
            pass

    async def _look_up_one(self, client: AlphapoClient, journal: Journal, found: Row, *, has_export: bool) -> None:
        before = await journal.find(found.account, found.foreign_id) or found
        self.rows += not has_export
        try:
            shown = await _looked_up(client, found.foreign_id, self._pause)
        except AlphapoUnavailable as error:
            if error.is_key_refused:
                raise
            self.counts["not_looked_up"] += 1
            self._find("not_looked_up", found.foreign_id, "look-up", alphapo=str(error))
            return
        if shown is None:
            self._miss(before, "look-up", in_sums=not has_export)
            return
        differences = differences_in_look_up(before, shown)
        self._differ(before, "look-up", differences)
        if not has_export:
            self.matched += not differences
            figure, currency = before.revision.asked
            theirs = shown_money(before, shown) if moves_money(shown.status) else None
            self.sums.add(Money(currency=currency, amount=figure), theirs)

    @property
    def code(self) -> Exit:
        """The exit code."""
        if self.counts["not_looked_up"]:
            return Exit.UNKNOWN
        return Exit.REFUSED if self.counts.total() else Exit.ALL_ACCEPTED


async def _looked_up(client: AlphapoClient, foreign_id: str, pause: float) -> Transaction | None:
    """Return what a look-up shows, None if it answered "none"; a look-up without an answer is repeated a few times.

    Raises:
        AlphapoUnavailable: none had a usable answer, or the key is refused.
    """
    for number in range(1, _TRIES):
        try:
            return await client.look_up(foreign_id)
        except AlphapoUnavailable as error:
            if error.is_key_refused:
                raise
            await asyncio.sleep(max(error.retry_after or 0.0, backoff(number, pause, _LONGEST_PAUSE)))
    return await client.look_up(foreign_id)
