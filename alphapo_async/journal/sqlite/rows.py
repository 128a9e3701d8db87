"""The statements of a journal in SQLite, each with a name and a sentence that says what for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from decimal import Context, Decimal
from operator import attrgetter
from typing import Any, Final, NamedTuple

from alphapo_async.core.evidence import Revision
from alphapo_async.core.history import Entry
from alphapo_async.core.key_state import NOTHING_HELD_BACK, HeldBack
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row, seen_in
from alphapo_async.core.row_format import (
    CHANGING,
    COLUMNS,
    Record,
    changing,
    read_record,
    read_revision,
    to_record,
    written,
)
from alphapo_async.journal.copying import Kept

__all__ = [
    "Leased",
    "add_history",
    "bind",
    "correct",
    "count_frozen",
    "enlist",
    "epoch",
    "equate_epochs",
    "find",
    "find_all",
    "find_control",
    "forget",
    "has_line",
    "history_of",
    "hosts",
    "insert",
    "lease",
    "leases",
    "next_place",
    "notes",
    "raise_epoch",
    "recall",
    "remember",
    "renew",
    "retire",
    "select_all",
    "select_due",
    "select_held",
    "select_open",
    "select_unreported",
    "strike",
    "sums",
    "unlisted",
    "update",
]


class Leased(NamedTuple):
    """A worker on the list."""

    worker: str
    until: float
    lock_inode: int | None
    """Of the file that it locked; None for one that came from another journal."""


_ALL: Final = ", ".join(COLUMNS)
_ROW: Final = f"select id, body, digest, epoch_number, epoch_since, {_ALL} from withdrawals cross join journal "  # noqa: S608 - our own names

FIND: Final = _ROW + "where account = ? and foreign_id = ?"
"""The row of a withdrawal."""
FIND_ALL: Final = _ROW + "where account = ? and foreign_id in (select value from json_each(?))"  # noqa: S608 - our own names
"""The rows of many withdrawals of an account: a tenth of the time for each."""
OPEN: Final = _ROW + (
    "where account = ? and state = 'open' and (created_at, id) > (?, ?) order by created_at, id limit ?"
)
"""What is open, oldest first, page by page."""
DUE: Final = _ROW + "where account = ? and due_at <= ? and (state = 'open') = ? order by due_at limit ?"
"""What a worker on its rounds should look at: open rows, or settled ones."""
DUE_BUT: Final = _ROW + (  # noqa: S608 - our own names
    "where account = ? and due_at <= ? and (case counted_as when 'open' then ? else key end not in (select value from json_each(?)) "
    "or (counted_as = 'open' and json_extract(cast(rest as text), '$.expires_at') <= ?)) and (state = 'open') = ? order by due_at limit ?"
)
"""Likewise, but for rows under refused keys; of those only what has expired."""
UNREPORTED: Final = _ROW + "where account = ? and reported = 0 and state <> 'open' order by id limit ?"
"""What is settled and nobody heard of."""
CONTROL: Final = _ROW + (
    "where account = ? and key = ? and created_at > ? and state = 'accepted' and source = 'reply' order by id desc limit 1"
)
"""A withdrawal of this key that AlphaPo accepted and that did not exist before."""
NEXT: Final = "select coalesce(max(id), 0) + 1 from withdrawals"
"""The place of a new withdrawal."""
INSERT: Final = (
    f"insert into withdrawals (id, {_ALL}, body, sha256, digest) values ({', '.join('?' * (len(COLUMNS) + 4))})"  # noqa: S608 - our own names
)
"""A withdrawal that the journal hears of for the first time."""
UPDATE: Final = f"update withdrawals set {', '.join(f'{name} = ?' for name in CHANGING)} where id = ?"  # noqa: S608 - our own names
"""What became of it."""
CORRECT: Final = "update withdrawals set body = ?, sha256 = ?, digest = ? where id = ?"
"""The bytes of its next revision."""
KEEP: Final = (
    "insert into revisions (withdrawal, number, body, sha256, digest) "
    "select id, revision, body, sha256, digest from withdrawals where id = ?"
)
"""The bytes of the revision before."""
EARLIER: Final = "select number, body, digest from revisions where withdrawal = ? order by number"
"""Its earlier revisions."""
NOTE: Final = (
    "insert into history (withdrawal, at, kind, what, worker, status, reply, release, number, count, last_at) "
    "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
"""One line of its history."""
COUNT: Final = (
    f"{NOTE} on conflict (withdrawal, number) do update set count = excluded.count, last_at = excluded.last_at"
)
"""How often a line of its history came."""
HISTORY: Final = (
    "select at, kind, what, history.worker, history.status, reply, release, number, count, last_at from history "
    "join withdrawals on withdrawals.id = withdrawal where account = ? and foreign_id = ? order by number"
)
"""Its whole history, in the order in which it was heard."""
HAS_LINE: Final = (
    "select exists (select 1 from history join withdrawals on withdrawals.id = withdrawal "
    "where account = ? and foreign_id = ? and number >= ?)"
)
"""Whether its history has reached this line."""
BIND: Final = "insert into accounts (account, host) values (?, ?) on conflict do nothing"
"""Which host an account belongs to."""
HOST: Final = "select host from accounts where account = ?"
"""The host that an account is bound to."""
REMEMBER: Final = "insert or replace into notes (account, name, text) values (?, ?, ?)"
"""A text kept for somebody."""
RECALL: Final = "select text from notes where account = ? and name = ?"
"""It."""
NOTES: Final = "select account, name, text from notes order by account, name"
"""All texts kept."""
ENLIST: Final = "insert into workers (worker, until, lock_inode) values (?, ?, ?)"
"""A worker, the end of its lease, and the inode of the file that it locked."""
RENEW: Final = "update workers set until = ? where worker = ? and until > ?"
"""A longer lease, for one that still runs."""
END: Final = "update workers set until = min(until, ?) where worker = ?"
"""The end of the lease of a worker that leaves."""
STRIKE: Final = "delete from workers where worker = ? and not exists (select 1 from withdrawals where holder = ?)"
"""A worker that holds nothing any more."""
LEASE: Final = "select worker, until, lock_inode from workers where worker = ?"
"""A worker's lease."""
LEASES: Final = "select worker, until, lock_inode from workers"
"""All leases."""
UNLISTED: Final = (
    "with recursive held (holder) as (select min(holder) from withdrawals where holder is not null union all "
    "select (select min(holder) from withdrawals where holder > held.holder) from held where holder is not null) "
    "select holder from held where holder is not null and holder not in (select worker from workers)"
)
"""Those who hold something and are on no list: from one holder to the next, not row by row."""
ALL: Final = _ROW + "where id > ? order by id limit ?"
"""Everything, page by page."""
HOSTS: Final = "select account, host from accounts order by account"
"""All accounts."""
RETIRE: Final = "alter table journal rename to journal_before_copy"
"""The end of a file that was copied to PostgreSQL: every statement on a row reads `journal`, and fails from then on."""
HELD: Final = _ROW + "where holder = ? order by id limit ?"
"""What a worker holds."""
FORGET: Final = "update withdrawals set body = x'', sha256 = '', rest = ? where id = ?"
"""What is left of a withdrawal that is over."""
FORGET_EARLIER: Final = "update revisions set body = x'', sha256 = '' where withdrawal = ?"
"""What is left of its earlier revisions."""
FORGET_REPLIES: Final = (
    "update history set reply = x'', what = case when kind <> 'callback' then what when what like 'does not fit%' then 'does not fit' "
    "else substr(what, 1, instr(what || ';', ';') - 1) end where withdrawal = ?"
)
"""What is left of its history: when, what kind and what it proved, without AlphaPo's words."""
DROP_EARLIER: Final = "delete from revisions where withdrawal = ?"
"""Nothing of its earlier revisions."""
DROP_HISTORY: Final = "delete from history where withdrawal = ?"
"""Nothing of its history."""
FIGURES: Final = (
    "select currency, case when state = 'open' and epoch < epoch_number then 'unknown' else counted_as end, amount "
    "from withdrawals cross join journal where account = ?"
)
"""Everything asked for, for the sums: what was open when the journal went back is unknown."""
EPOCH: Final = "select epoch_number, epoch_since from journal"
"""The journal's epoch."""
RAISE_EPOCH: Final = "update journal set epoch_number = epoch_number + 1, epoch_since = ?"
"""The next epoch: the journal went back."""
EQUATE_ROWS: Final = (
    "update withdrawals set epoch = epoch + 1 where epoch + 1 = (select epoch_number from journal) "
    "and state not in ('accepted', 'failed')"
)
"""The rows of the epoch before are of the present one: nothing was lost between them."""
EQUATE: Final = "update journal set epoch_since = null"
"""And no id was forgotten."""
FROZEN: Final = (
    "select count(*) from withdrawals cross join journal where account = ? and state = 'open' and epoch < epoch_number"
)
"""How many rows were open when the journal went back."""


def find(connection: sqlite3.Connection, account: str, foreign_id: str) -> tuple[int, Row] | None:
    """Return a row and its place in the table."""
    return next(_rows(connection, FIND, account, foreign_id), None)


def select_open(connection: sqlite3.Connection, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
    """Return open rows, oldest first, from behind the one named on."""
    created_at, place = (-1.0, 0) if after is None else (after[0], _place(connection, account, after[1]))
    return [row for _, row in _rows(connection, OPEN, account, created_at, place, limit)]


def _place(connection: sqlite3.Connection, account: str, foreign_id: str) -> int:
    found = connection.execute(
        "select id from withdrawals where account = ? and foreign_id = ?", (account, foreign_id)
    ).fetchone()
    return int(found[0]) if found else 0


def select_due(
    connection: sqlite3.Connection, account: str, now: float, limit: int, held_back: HeldBack = NOTHING_HELD_BACK
) -> list[Row]:
    """Return rows whose time has come and that are not held back: open ones first, and the longest overdue first."""
    statement, values = DUE, (account, now)
    if held_back.keys:
        statement, values = DUE_BUT, (account, now, held_back.current, json.dumps(sorted(held_back.keys)), now)  # type: ignore[assignment]
    found: list[Row] = []
    for is_open in (True, False):
        found += [row for _, row in _rows(connection, statement, *values, is_open, limit - len(found))]
    return found


def select_unreported(connection: sqlite3.Connection, account: str, limit: int) -> list[Row]:
    """Return settled rows whose outcome was not handed out."""
    return [row for _, row in _rows(connection, UNREPORTED, account, limit)]


def find_all(
    connection: sqlite3.Connection, names: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], tuple[int, Row]]:
    """Return the rows of these withdrawals that there are, with their places, by account and id."""
    asked: dict[str, list[str]] = {}
    for account, foreign_id in names:
        asked.setdefault(account, []).append(foreign_id)
    found = {}
    for account, wanted in asked.items():
        for place, row in _rows(connection, FIND_ALL, account, json.dumps(wanted)):
            found[account, row.foreign_id] = place, row
    return found


def find_control(connection: sqlite3.Connection, account: str, key: str, after: float) -> Row | None:
    """Return a row of this key that AlphaPo accepted, and that did not exist yet at `after`."""
    return next((row for _, row in _rows(connection, CONTROL, account, key, after)), None)


def _rows(connection: sqlite3.Connection, statement: str, *values: object) -> Iterator[tuple[int, Row]]:
    for place, body, digest, number, since, *columns in connection.execute(statement, values).fetchall():
        record = Record(*columns)
        earlier: tuple[Revision, ...] = ()
        if record.revision > 1:
            earlier = tuple(read_revision(*kept) for kept in connection.execute(EARLIER, (place,)).fetchall())
        revision = read_revision(record.revision, body, digest, (record.amount, record.currency))
        yield place, seen_in(read_record(record, revision, earlier), Epoch(number, since))


def next_place(connection: sqlite3.Connection) -> int:
    """Return the place of the next new row."""
    return int(connection.execute(NEXT).fetchone()[0])


def insert(connection: sqlite3.Connection, placed: Iterable[tuple[int, Row]]) -> None:
    """Write down new rows, each at its place."""
    connection.executemany(INSERT, [(place, *to_record(row), *written(row.revision)[1:]) for place, row in placed])


def update(connection: sqlite3.Connection, placed: Iterable[tuple[int, Row]]) -> None:
    """Write down what became of rows."""
    connection.executemany(UPDATE, [(*changing(to_record(row)), place) for place, row in placed])


def correct(connection: sqlite3.Connection, place: int, revision: Revision) -> None:
    """Write down a row's new revision, and keep the bytes of the one before."""
    connection.execute(KEEP, (place,))
    connection.execute(CORRECT, (*written(revision)[1:], place))


_columns: Final = attrgetter(*Entry.__struct_fields__)


def add_history(connection: sqlite3.Connection, lines: Iterable[tuple[int, Entry]]) -> None:
    """Add lines, each to the history of the row at its place."""
    added: list[tuple[Any, ...]] = []
    counted: list[tuple[Any, ...]] = []
    for place, line in lines:
        (added if line.count == 1 else counted).append((place, *_columns(line)))
    connection.executemany(NOTE, added)
    if counted:
        connection.executemany(COUNT, counted)


def forget(connection: sqlite3.Connection, place: int, after: Row, *, keeps_history: bool) -> None:
    """Let go of the bytes and of AlphaPo's words, or of the whole history; account, id, digest, figure and outcome stay."""
    statements = (FORGET_EARLIER, FORGET_REPLIES) if keeps_history else (DROP_EARLIER, DROP_HISTORY)
    connection.execute(FORGET, (to_record(after).rest, place))
    for statement in statements:
        connection.execute(statement, (place,))


def history_of(connection: sqlite3.Connection, account: str, foreign_id: str) -> list[Entry]:
    """Return the lines of a withdrawal."""
    return [Entry(*line) for line in connection.execute(HISTORY, (account, foreign_id)).fetchall()]


def has_line(connection: sqlite3.Connection, account: str, foreign_id: str, number: int) -> bool:
    """Return whether the history of a withdrawal has reached the line of this number."""
    return bool(connection.execute(HAS_LINE, (account, foreign_id, number)).fetchone()[0])


def bind(connection: sqlite3.Connection, account: str, host: str) -> str:
    """Bind an account to a host, and return the host it is bound to."""
    connection.execute(BIND, (account, host))
    return str(connection.execute(HOST, (account,)).fetchone()[0])


def remember(connection: sqlite3.Connection, account: str, name: str, text: str) -> None:
    """Keep a text under this name."""
    connection.execute(REMEMBER, (account, name, text))


def recall(connection: sqlite3.Connection, account: str, name: str) -> str | None:
    """Return the text kept under this name."""
    found = connection.execute(RECALL, (account, name)).fetchone()
    return None if found is None else str(found[0])


def notes(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """Return all texts kept, by account and name."""
    return {(account, name): text for account, name, text in connection.execute(NOTES)}


def enlist(connection: sqlite3.Connection, worker: str, until: float, lock_inode: int | None) -> None:
    """Give a worker its lease; one without a lock is judged by its lease alone."""
    connection.execute(ENLIST, (worker, until, lock_inode))


def renew(connection: sqlite3.Connection, worker: str, until: float, now: float) -> bool:
    """Prolong a lease that still runs; tell whether it did."""
    return connection.execute(RENEW, (until, worker, now)).rowcount == 1


def strike(connection: sqlite3.Connection, worker: str, now: float) -> None:
    """End a worker's lease, and take it off the list if it holds nothing."""
    connection.execute(END, (now, worker))
    connection.execute(STRIKE, (worker, worker))


def select_all(connection: sqlite3.Connection, after: int, limit: int) -> list[Kept]:
    """Return withdrawals with their histories, in order."""
    return [
        Kept(place, row, tuple(history_of(connection, row.account, row.foreign_id)))
        for place, row in _rows(connection, ALL, after, limit)
    ]


def hosts(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the host of every account."""
    return dict(connection.execute(HOSTS).fetchall())


def retire(connection: sqlite3.Connection) -> None:
    """Close the file for good: every later statement on a row fails, in every process that has the file open."""
    connection.execute(RETIRE)


def lease(connection: sqlite3.Connection, worker: str) -> Leased | None:
    """Return a worker's lease, None if it is not on the list."""
    found = connection.execute(LEASE, (worker,)).fetchone()
    return None if found is None else Leased(*found)


def leases(connection: sqlite3.Connection) -> list[Leased]:
    """Return every worker on the list."""
    return [Leased(*found) for found in connection.execute(LEASES).fetchall()]


def unlisted(connection: sqlite3.Connection) -> list[str]:
    """Return every worker that holds something and is on no list."""
    return [str(worker) for (worker,) in connection.execute(UNLISTED).fetchall()]


def select_held(connection: sqlite3.Connection, worker: str, limit: int) -> list[Row]:
    """Return rows that a worker holds."""
    return [row for _, row in _rows(connection, HELD, worker, limit)]


def epoch(connection: sqlite3.Connection) -> Epoch:
    """Return the journal's epoch."""
    return Epoch(*connection.execute(EPOCH).fetchone())


def raise_epoch(connection: sqlite3.Connection, now: float) -> None:
    """Begin another epoch."""
    connection.execute(RAISE_EPOCH, (now,))


def equate_epochs(connection: sqlite3.Connection) -> int:
    """Count the rows of the epoch before to the present one; return how many there were."""
    count = connection.execute(EQUATE_ROWS).rowcount
    connection.execute(EQUATE)
    return count


def count_frozen(connection: sqlite3.Connection, account: str) -> int:
    """Return how many open rows of an account are of an earlier epoch."""
    return int(connection.execute(FROZEN, (account,)).fetchone()[0])


_EXACT: Final = Context(prec=1_000)


def sums(connection: sqlite3.Connection, account: str) -> dict[str, Totals]:
    """Return what became of everything asked for, by currency, exact."""
    found: dict[str, dict[str, Decimal]] = {}
    for currency, counted_as, amount in connection.execute(FIGURES, (account,)):
        buckets = found.setdefault(currency, {})
        figure = Decimal(amount)
        for name in ("requested", counted_as):
            buckets[name] = _EXACT.add(buckets.get(name, Decimal(0)), figure)
    return {currency: Totals(**found[currency]) for currency in sorted(found)}
