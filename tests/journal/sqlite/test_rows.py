"""The statements: each does what its sentence says, and the frequent ones use an index."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from alphapo_async.core.claims import Claim
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.redaction import redacted
from alphapo_async.core.row import Epoch, Row, is_frozen
from alphapo_async.core.row_format import to_record
from alphapo_async.journal.sqlite.file import APPLICATION, connect
from alphapo_async.journal.sqlite.rows import QUERIES, SqliteRows
from tests.support.rows import ACCEPTED_ROW, CORRECTED, DOUBTED, OURS, row


def insert(rows: SqliteRows, new: Row) -> int:
    """Record one row at the next place, and return the place."""
    place = rows.next_place()
    rows.insert([(place, new)])
    return place


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Give an open, empty journal."""
    with contextlib.closing(connect(tmp_path / "payouts.db")) as opened:
        yield opened


@pytest.fixture
def rows(connection: sqlite3.Connection) -> SqliteRows:
    """Return its statements."""
    return SqliteRows(connection)


def test_a_row_is_inserted_found_and_updated(rows: SqliteRows) -> None:
    """In its place, and no other."""
    first = insert(rows, row())
    insert(rows, row(foreign_id="g"))
    rows.update([(first, DOUBTED)])
    found = rows.find("default", "f")
    assert found is not None
    assert (found[0], to_record(found[1])) == (first, to_record(DOUBTED))
    assert rows.find("default", "h") is None


def test_many_rows_are_found_in_one_go(rows: SqliteRows) -> None:
    """Those that there are, each in its own account, whatever the ids hold."""
    names = ["f", "a 'quoted' one", "ü", "[1]", "5"]
    places = {name: insert(rows, row(foreign_id=name)) for name in names}
    other = insert(rows, row(foreign_id="f", account="other"))
    asked = [("default", name) for name in (*names, "missing")] + [("other", "f"), ("other", "ü")]
    found = rows.find_all(asked)
    assert {name: place for name, (place, _) in found.items()} == {
        ("other", "f"): other,
        **{("default", name): place for name, place in places.items()},
    }
    assert all(one.foreign_id == name for (_, name), (_, one) in found.items())
    assert rows.find_all([]) == {}


def test_a_correction_keeps_the_bytes_before(rows: SqliteRows, connection: sqlite3.Connection) -> None:
    """With their hash, for the auditor."""
    place = insert(rows, row())
    corrected = row(revision=replace(CORRECTED, number=2), earlier=(OURS,))
    rows.correct(place, corrected.revision)
    rows.update([(place, corrected)])
    found = rows.find("default", "f")
    assert found is not None
    assert found[1].revision.body == CORRECTED.body
    assert [one.body for one in found[1].earlier] == [OURS.body]
    kept = connection.execute("select number, body, length(sha256), digest from revisions").fetchall()
    assert kept == [(1, OURS.body, 64, OURS.digest)]


@pytest.mark.parametrize("keeps_history", [True, False])
def test_what_is_forgotten_leaves_its_figure(rows: SqliteRows, *, keeps_history: bool) -> None:
    """Of this withdrawal alone: bytes and replies go, or the whole history with the earlier revisions."""
    places = [insert(rows, row(foreign_id=name)) for name in "fg"]
    for place in places:
        rows.add_history([(place, Entry(1.0, "callback", "confirmed; txid bb04", "w", 200, b"bc1q", "1.0"))])
        corrected = row(revision=replace(CORRECTED, number=2), foreign_id="fg"[place - 1])
        rows.correct(place, corrected.revision)
        rows.update([(place, corrected)])
    known = rows.find("default", "f")
    assert known is not None
    rows.forget(places[0], redacted(known[1]), keeps_history=keeps_history)
    found = rows.find("default", "f")
    assert found is not None
    assert (found[1].revision.body, found[1].revision.asked) == (b"", (Decimal(2), "BTC"))
    assert found[1].revision.digest == CORRECTED.digest
    assert [(one.body, one.digest) for one in found[1].earlier] == ([(b"", OURS.digest)] if keeps_history else [])
    results = [(line.what, line.reply) for line in rows.history("default", "f")]
    assert results == ([("confirmed", b"")] if keeps_history else [])
    assert rows.history("default", "g")[0].reply == b"bc1q"
    assert len(rows.find("default", "g")[1].earlier[0].body) > 0  # type: ignore[index]


def test_open_rows_of_one_moment_come_in_the_order_of_writing(rows: SqliteRows) -> None:
    """Paging neither repeats nor misses any of them."""
    for name in "cab":
        insert(rows, row(foreign_id=name))
    seen: list[str] = []
    after = None
    while page := rows.find_open("default", after, 1):
        seen += [one.foreign_id for one in page]
        after = (page[0].created_at, page[0].foreign_id)
    assert seen == ["c", "a", "b"]
    assert rows.find_open("default", (-1.0, "unknown"), 1)[0].foreign_id == "c"


def test_a_page_is_filled_with_rows_that_this_release_can_read(rows: SqliteRows) -> None:
    """Rows that only a newer release can read stand between them."""
    for name in ("new-1", "new-2", "a", "new-3", "b"):
        insert(rows, row(foreign_id=name))
    rows.connection.execute("update withdrawals set rest = '{\"new_in_02\":1}' where foreign_id like 'new%'")
    assert [one.foreign_id for one in rows.find_held("worker", 1)] == ["a"]
    assert [one.foreign_id for one in rows.find_held("worker", 2)] == ["a", "b"]
    assert [one.foreign_id for one in rows.find_held("worker", 9)] == ["a", "b"]


def test_lists_know_their_rows(rows: SqliteRows) -> None:
    """Due, unreported, held, and fit for a control."""
    insert(rows, row())
    insert(rows, replace(ACCEPTED_ROW, foreign_id="paid", reported=False))
    insert(rows, row(foreign_id="free", holder=None))
    assert [one.foreign_id for one in rows.find_due("default", 1e9, 9)] == ["paid"]
    assert [one.foreign_id for one in rows.find_unreported("default", 9)] == ["paid"]
    assert [one.foreign_id for one in rows.find_held("worker", 9)] == ["f"]
    control = rows.find_control("default", "key", -1.0)
    assert control is not None
    assert control.foreign_id == "paid"


def test_a_claim_is_numbered_once_while_the_lease_runs(rows: SqliteRows) -> None:
    """Its rows are the fresh ones that are due; what has expired is found apart."""
    rows.enlist("w", 60.0, None)
    insert(rows, row(1.0, foreign_id="fresh", holder=None, expires_at=8.0))
    insert(rows, row(2.0, foreign_id="late", holder=None))
    insert(rows, row(foreign_id="taken", holder="w", claim=1))
    claim = Claim("w", 1, "key", 9.0, 9)
    assert [one.foreign_id for _, one in rows.fresh("default", claim)] == ["fresh", "late"]
    assert rows.fresh("default", claim._replace(after=3.0)) == []
    assert rows.number_claim(claim)
    assert not rows.number_claim(claim)
    assert not rows.number_claim(claim._replace(number=2, now=60.0))
    assert (rows.claims("w"), rows.claims("stranger")) == (1, None)
    assert (rows.number_again("w", 1), rows.number_again("w", 2)) == (True, False)
    assert [one.foreign_id for one in rows.claimed("w", 1)] == ["taken"]
    assert [one.foreign_id for one in rows.find_due("default", 9.0, 9, expired=True)] == ["fresh"]
    assert rows.find_due("default", 9.0, 9) == []


def test_an_epoch_freezes_open_rows_until_it_is_declared_equal(rows: SqliteRows) -> None:
    """Only open ones, and only those of the epoch before are counted to it; an acceptance needs neither."""
    insert(rows, row(foreign_id="oldest", holder=None))
    rows.raise_epoch(1, 40.0)
    insert(rows, replace(row(foreign_id="older", holder=None), epoch=1))
    insert(rows, replace(ACCEPTED_ROW, foreign_id="paid", epoch=1))
    rows.raise_epoch(2, 50.0)
    assert rows.epoch() == Epoch(2, 50.0)
    assert rows.application() == APPLICATION
    assert (rows.count_frozen("default"), rows.count_frozen("other")) == (2, 0)
    assert rows.equate_epochs(Entry(60.0, "unfrozen", "nothing was lost")) == 1
    assert rows.epoch() == Epoch(2)
    assert rows.count_frozen("default") == 1
    assert [is_frozen(one) for one in rows.find_open("default", None, 9)] == [True, False]


def test_the_history_is_added_to(rows: SqliteRows) -> None:
    """In order, a repeated line as a count, and read by foreign_id."""
    place = insert(rows, row())
    attempt = Entry(1.0, "attempt", "accepted", "w", 201, b"{}", "1.0", number=1)
    left = Entry(2.0, "released", "queue", "w", number=2)
    again = replace(left, at=3.0, count=2, last_at=3.0)
    rows.add_history([(place, line) for line in (attempt, left, again)])
    assert rows.history("default", "f") == [attempt, replace(left, count=2, last_at=3.0)]


def test_an_account_keeps_its_first_host(rows: SqliteRows) -> None:
    """Whoever comes later hears it."""
    assert rows.bind("default", "one") == "one"
    assert rows.bind("default", "two") == "one"


def test_leases_are_given_prolonged_and_ended(rows: SqliteRows) -> None:
    """One that has ended is not prolonged; one that holds rows stays on the list."""
    rows.enlist("worker", 50.0, 7)
    assert rows.renew("worker", 90.0, 49.0)
    assert not rows.renew("worker", 200.0, 90.0)
    assert rows.end_leases(89.0) == [("worker", 90.0, 7, 0)]
    insert(rows, row())
    rows.leave("worker", 60.0)
    assert rows.leases() == [("worker", 60.0, 7, 1)]
    assert rows.end_leases(60.0) == [("worker", 60.0, 7, 1)]
    rows.update([(1, ACCEPTED_ROW)])
    rows.leave("worker", 70.0)
    assert rows.leases() == []


def test_whoever_holds_a_row_and_is_on_no_list_is_found_by_a_few_looks_at_the_index(
    rows: SqliteRows, connection: sqlite3.Connection
) -> None:
    """However many rows the others hold: a worker asks every second."""
    rows.enlist("worker", 50.0, 7)
    connection.execute("begin")
    for number in range(1_000):
        insert(rows, row(foreign_id=f"{number}"))
    connection.execute("commit")
    for name, holder in (("a", "a ghost"), ("b", "z ghost"), ("c", None)):
        insert(rows, row(foreign_id=name, holder=holder))
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(count, 1)
    assert rows.unlisted() == ["a ghost", "z ghost"]
    assert steps < 300


def test_sums_are_exact(rows: SqliteRows) -> None:
    """To the last decimal, however large."""
    insert(rows, row())
    insert(rows, replace(ACCEPTED_ROW, foreign_id="g"))
    assert rows.totals("default") == {"BTC": Totals(requested=Decimal(2), open=Decimal(1), accepted=Decimal(1))}


@pytest.mark.parametrize(
    ("query", "values", "index"),
    [
        ("find", ("a", "f"), "withdrawals_by_foreign_id"),
        ("open", ("a", 0.0, "a", "f", 9), "withdrawals_open"),
        ("fresh", ("a", 0.0, 1.0, 9), "withdrawals_fresh"),
        ("fresh_and_expired", ("a", 0.0, 0.0, 9), "withdrawals_fresh"),
        ("in_doubt", ("a", 0.0, 9, "[]"), "withdrawals_in_doubt"),
        ("to_refresh", ("a", 0.0, 9, "[]"), "withdrawals_to_refresh"),
        ("claimed", ("w", 1), "withdrawals_held"),
        ("unreported", ("a", 9), "withdrawals_unreported"),
        ("held", ("w", 9), "withdrawals_held"),
        ("unlisted", (), "withdrawals_held"),
    ],
)
def test_what_is_asked_often_uses_its_index(
    connection: sqlite3.Connection, query: str, values: tuple[object, ...], index: str
) -> None:
    """Without a sort of the whole table."""
    plan = " ".join(line[3] for line in connection.execute(f"explain query plan {QUERIES[query]}", values))
    assert f"INDEX {index}" in plan
    assert "TEMP B-TREE" not in plan


def test_no_parameter_of_a_query_has_a_number() -> None:
    """Python 3.12.0 to 3.12.3 takes `?1` for a name, and warns of a sequence that is bound to it."""
    assert [name for name, text in QUERIES.items() if re.search(r"\?\d", text)] == []


def test_all_that_is_kept_is_handed_on_in_order(rows: SqliteRows) -> None:
    """Accounts, texts, earlier revisions and histories."""
    line = Entry(1.0, "attempt", "in_doubt", "worker", 502, b"x", "1.0")
    rows.insert([(1, row()), (2, row(foreign_id="g"))])
    corrected = row(revision=replace(CORRECTED, number=2))
    rows.correct(1, corrected.revision)
    rows.update([(1, corrected)])
    rows.add_history([(1, line)])
    rows.bind("default", "h")
    rows.remember("default", "callback 7", "text")
    assert rows.has_line("default", row().foreign_id, line.number)
    assert not rows.has_line("default", "g", 0)
    assert rows.hosts() == {"default": "h"}
    assert rows.register().texts == {("default", "callback 7"): "text"}
    assert rows.recall("default", "callback 7") == "text"
    assert rows.recall("default", "another") is None
    [first] = rows.dump(0, 1)
    assert rows.dump(0, 1, with_history=False) == [first._replace(entries=())]
    [second] = rows.dump(first.place, 9)
    assert (first.row.revision.body, first.entries) == (CORRECTED.body, (line,))
    assert [one.body for one in first.row.earlier] == [row().revision.body]
    assert second.row.foreign_id == "g"


def test_no_row_of_a_retired_file_is_found(rows: SqliteRows) -> None:
    """The statement fails by itself."""
    rows.insert([(1, row())])
    rows.retire()
    with pytest.raises(sqlite3.OperationalError, match="no such table: journal"):
        rows.find("default", "f")
