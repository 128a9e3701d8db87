"""Rows, histories and workers in a SQLite file: what each statement of `queries.sql` is handed and returns."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from alphapo_async.core.claims import Claim
from alphapo_async.core.evidence import Revision
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row
from alphapo_async.core.row_format import CHANGING, changing, to_record, written
from alphapo_async.journal.copying import Kept, Register
from alphapo_async.journal.statements import load
from alphapo_async.journal.stored_rows import COLUMNS, LINE, STORED, Readable, longest_overdue, sums, unpack

__all__ = ["QUERIES", "Leased", "SqliteRows"]

QUERIES: Final = load(
    Path(__file__).with_name("queries.sql"),
    columns=", ".join(COLUMNS),
    stored=", ".join(STORED),
    stored_values=", ".join("?" * len(STORED)),
    changing=", ".join(f"{name} = ?" for name in CHANGING),
    line=", ".join(LINE),
    line_values=", ".join("?" * len(LINE)),
)
_line: Final = attrgetter(*LINE)


class Leased(NamedTuple):
    """A worker on the list."""

    worker: str
    until: float
    lock_inode: int | None
    """Of the file that it locked; None for one that came from another journal."""
    has_ended: int = 0
    """Its lease was reported as over, and never runs again."""


class SqliteRows:
    """The statements, on a connection.

    Args:
        connection: to a file with the tables.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._readable = Readable()

    def _run(self, query: str, *values: object) -> sqlite3.Cursor:
        return self.connection.execute(QUERIES[query], values)

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _select(self, query: str, *values: object, limit: int) -> list[tuple[int, Row]]:
        """Return the rows that the query of this name finds, at most `limit`, each with its place in the table.

        Rows that only a newer release can read are left out.
        """
        asked = limit
        while True:
            found = self._run(query, *values, asked).fetchall()
            rows = self._readable.among([partial(self._unpack, *columns) for columns in found])
            if len(rows) >= limit or len(found) < asked:
                return rows[:limit]
            asked = limit + len(found) - len(rows)

    def _unpack(self, place: int, *columns: Any) -> tuple[int, Row]:
        return place, unpack(columns, lambda: self._run("earlier", place).fetchall())

    def find(self, account: str, foreign_id: str) -> tuple[int, Row] | None:
        """Return a row and its place in the table.

        Raises:
            UnreadableRow: only a newer release can read it.
        """
        found = self._run("find", account, foreign_id).fetchone()
        return None if found is None else self._unpack(*found)

    def find_all(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, Row]]:
        """Return the rows of these withdrawals that there are, with their places, by account and id.

        Raises:
            UnreadableRow: only a newer release can read one of them.
        """
        asked: dict[str, list[str]] = {}
        for account, foreign_id in names:
            asked.setdefault(account, []).append(foreign_id)
        found = [
            self._unpack(*columns)
            for account, ids in asked.items()
            for columns in self._run("find_all", account, json.dumps(ids)).fetchall()
        ]
        return {(row.account, row.foreign_id): (place, row) for place, row in found}

    def find_open(self, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """Return open rows, oldest first, from behind (created_at, foreign_id) on."""
        created_at, foreign_id = after or (-1.0, "")
        return [row for _, row in self._select("open", account, created_at, account, foreign_id, limit=limit)]

    def fresh(self, account: str, claim: Claim) -> list[tuple[int, Row]]:
        """Return the rows that a claim takes, each with its place."""
        return self._select("fresh", account, claim.after, claim.now, limit=claim.limit)

    def claimed(self, worker: str, number: int) -> list[Row]:
        """Return what a worker's claim took."""
        found = self._run("claimed", worker, number).fetchall()
        return [row for _, row in self._readable.among([partial(self._unpack, *columns) for columns in found])]

    def number_claim(self, claim: Claim) -> bool:
        """Record that a worker makes this claim; False where its lease does not run, or the number was used before."""
        return self._run("number_claim", claim.number, claim.worker, claim.number, claim.now).rowcount == 1

    def number_again(self, worker: str, number: int) -> bool:
        """Record once more that a worker made its last claim, which may never have been flushed; False of another number."""
        return self._run("number_again", worker, number).rowcount == 1

    def claims(self, worker: str) -> int | None:
        """Return the number of a worker's last claim; None of a worker that is not on the list."""
        found = self._run("claims", worker).fetchone()
        return None if found is None else int(found[0])

    def find_due(
        self, account: str, now: float, limit: int, refused: Collection[str] = (), *, expired: bool = False
    ) -> list[Row]:
        """Return rows that are due and not fresh: open ones first, and the longest overdue first."""
        found = [row for _, row in self._select("fresh_and_expired", account, now, now, limit=limit)] if expired else []
        asked, room = (account, now, json.dumps(sorted(refused))), limit - len(found)
        open_rows = [*self._select("frozen", *asked, limit=room), *self._select("in_doubt", *asked, limit=room)]
        found += longest_overdue((row for _, row in open_rows), room)
        return [*found, *(row for _, row in self._select("to_refresh", *asked, limit=limit - len(found)))]

    def find_unreported(self, account: str, limit: int) -> list[Row]:
        """Return settled rows whose outcome was not handed out."""
        return [row for _, row in self._select("unreported", account, limit=limit)]

    def find_control(self, account: str, key: str, after: float) -> Row | None:
        """Return a row of this key that AlphaPo accepted, and that did not exist yet at `after`."""
        return next((row for _, row in self._select("control", account, key, after, limit=1)), None)

    def find_held(self, worker: str, limit: int) -> list[Row]:
        """Return rows that a worker holds."""
        return [row for _, row in self._select("held", worker, limit=limit)]

    def dump(self, after: int, limit: int, *, with_history: bool = True) -> list[Kept]:
        """Return withdrawals in order: as `Dumpable` says."""
        if not with_history:
            return [Kept(place, row, ()) for place, row in self._select("everything", after, limit=limit)]
        found = [self._unpack(*columns) for columns in self._run("everything", after, limit).fetchall()]
        return [Kept(place, row, tuple(self.history(row.account, row.foreign_id))) for place, row in found]

    def next_place(self) -> int:
        """Return the place of the next new row."""
        return int(self._run("next_place").fetchone()[0])

    def insert(self, placed: Iterable[tuple[int, Row]]) -> None:
        """Record new rows, each at its place."""
        values = [(place, *to_record(row), *written(row.revision)[1:]) for place, row in placed]
        self.connection.executemany(QUERIES["insert"], values)

    def update(self, placed: Iterable[tuple[int, Row]]) -> None:
        """Record changes of rows."""
        self.connection.executemany(QUERIES["update"], [(*changing(to_record(row)), place) for place, row in placed])

    def correct(self, place: int, revision: Revision) -> None:
        """Record a row's new revision, and keep the bytes of the one before."""
        self._run("keep_revision", place)
        self._run("correct", *written(revision)[1:], place)

    def forget(self, place: int, after: Row, *, keeps_history: bool) -> None:
        """Remove the bytes and AlphaPo's words, or the whole history; account, id, digest, figure and outcome stay."""
        self._run("forget", to_record(after).rest, place)
        self._run("forget_revisions" if keeps_history else "drop_revisions", place)
        self._run("forget_replies" if keeps_history else "drop_history", place)

    def totals(self, account: str) -> dict[str, Totals]:
        """Return the sums of everything requested, by currency, exact."""
        return sums(self._run("figures", account))

    # ── histories ────────────────────────────────────────────────────────────────────────────────────────────────────

    def add_history(self, lines: Iterable[tuple[int, Entry]]) -> None:
        """Add lines, each to the history of the row at its place."""
        added: list[tuple[Any, ...]] = []
        counted: list[tuple[Any, ...]] = []
        for place, line in lines:
            (added if line.count == 1 else counted).append((place, *_line(line)))
        self.connection.executemany(QUERIES["add_line"], added)
        if counted:
            self.connection.executemany(QUERIES["count_line"], counted)

    def history(self, account: str, foreign_id: str) -> list[Entry]:
        """Return the lines of a withdrawal."""
        return [Entry(*line) for line in self._run("history", account, foreign_id).fetchall()]

    def has_line(self, account: str, foreign_id: str, number: int) -> bool:
        """Return whether the history of a withdrawal has reached the line of this number."""
        return bool(self._run("has_line", account, foreign_id, number).fetchone()[0])

    # ── accounts, texts and workers ──────────────────────────────────────────────────────────────────────────────────

    def bind(self, account: str, host: str) -> str:
        """Bind an account to a host, unless it is bound already; return the host to which it is bound."""
        self._run("bind", account, host)
        return str(self._run("host", account).fetchone()[0])

    def hosts(self) -> dict[str, str]:
        """Return the host of every account."""
        return dict(self._run("hosts").fetchall())

    def remember(self, account: str, name: str, text: str) -> None:
        """Keep a text under this name."""
        self._run("remember", account, name, text)

    def recall(self, account: str, name: str) -> str | None:
        """Return the text that is kept under this name."""
        found = self._run("recall", account, name).fetchone()
        return None if found is None else str(found[0])

    def register(self) -> Register:
        """Return what is kept beside withdrawals."""
        texts = {(account, name): text for account, name, text in self._run("named_texts")}
        return Register(self.hosts(), {leased.worker: leased.until for leased in self.leases()}, texts, self.epoch())

    def enlist(self, worker: str, until: float, lock_inode: int | None) -> None:
        """Give a worker its lease; one without a lock is judged by its lease alone."""
        self._run("enlist", worker, until, lock_inode)

    def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong a lease that still runs; return whether it did."""
        return self._run("renew", until, worker, now).rowcount == 1

    def leave(self, worker: str, now: float) -> None:
        """End a worker's lease, and take it off the list if it holds nothing."""
        self._run("leave", now, worker)
        self._run("strike", worker)

    def leases(self) -> list[Leased]:
        """Return every worker on the list."""
        return [Leased(*found) for found in self._run("leases").fetchall()]

    def end_leases(self, now: float) -> list[Leased]:
        """Record which leases are over, and return every worker on the list."""
        self._run("end_leases", now)
        return self.leases()

    def unlisted(self) -> list[str]:
        """Return every worker that holds something and is on no list."""
        return [str(worker) for (worker,) in self._run("unlisted").fetchall()]

    # ── the journal itself ───────────────────────────────────────────────────────────────────────────────────────────

    def application(self) -> int:
        """Return what marks the file as a journal of this library, or as another program's."""
        return int(self.connection.execute("pragma application_id").fetchone()[0])

    def epoch(self) -> Epoch:
        """Return the journal's epoch."""
        return Epoch(*self._run("epoch").fetchone())

    def raise_epoch(self, number: int, now: float) -> None:
        """Begin the epoch of this number, unless a later one has begun."""
        self._run("raise_epoch", number, now, number)

    def equate_epochs(self, line: Entry) -> int:
        """Count the rows of the epoch before to the present one, each with this line; return how many there were."""
        self._run("note_equal", line.at, line.kind, line.what, line.release)
        count = self._run("equate_rows").rowcount
        self._run("equate_epochs")
        return count

    def count_frozen(self, account: str) -> int:
        """Return how many open rows of an account are of an earlier epoch."""
        return int(self._run("count_frozen", account).fetchone()[0])

    def retire(self) -> None:
        """Close the file for good: every later statement on a row fails, in every process that has the file open."""
        self._run("retire")
