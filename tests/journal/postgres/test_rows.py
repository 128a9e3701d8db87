"""The statements about rows: each is one that PostgreSQL understands, and does what its sentence says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from alphapo_async.core.claims import Claim
from alphapo_async.core.evidence import Claimed, Requested, Revision
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.redaction import redacted
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import apply, new_row
from alphapo_async.core.version import __version__
from alphapo_async.journal.copying import Kept
from alphapo_async.journal.postgres.rows import Draft, Fetch, Name, PostgresRows, StoredRow, stored
from alphapo_async.journal.postgres.schema import queries, tables
from tests.support import postgres
from tests.support.journal_suite import asked, same

BEGUN = Entry(0.0, "request", "enqueued: 1 BTC", release="1.0", number=1)
TIMES = {"expires_in": 100.0, "resend_within": 100.0}
STAMP = "here 0"
HERE = """
create or replace function s.identity() returns text language sql as $$ select 'here' $$;
update s.journal set identity = s.identity();
"""
"""A database of this name, in its first epoch."""


class Rows(PostgresRows):
    """The statements, for a worker that has seen where the journal stands."""

    async def write(self, fetch: Fetch, drafts: list[Draft], stamp: str = STAMP) -> dict[Name, StoredRow]:
        """Record rows."""
        return await super().write(fetch, drafts, stamp)


ROWS = Rows("s")


@pytest.fixture
async def connection() -> AsyncIterator[Any]:
    """Yield a connection in a transaction in which the tables are new; it is undone."""
    opened = await asyncpg.connect(postgres.url())
    undone = opened.transaction()
    await undone.start()
    await opened.execute("create schema s")
    await opened.execute(tables("s"))
    await opened.execute(HERE)
    yield opened
    await undone.rollback()
    await opened.close()


@pytest.fixture
def fetch(connection: Any) -> Fetch:
    """Return what runs a statement."""
    return connection.fetch  # type: ignore[no-any-return]


def row(foreign_id: str, amount: str = "1", **more: Any) -> Row:
    """Return a new row."""
    return replace(new_row("default", foreign_id, asked(foreign_id, amount), 5.0, is_durable=True), **more)


def line(what: str, number: int = 1, **more: Any) -> Entry:
    """Return a line of a history."""
    return Entry(1.0, "attempt", what, "worker", 200, b"\0\xff", "1.0", number, **more)


def draft(row: Row, known: StoredRow | None = None, *lines: Entry) -> Draft:
    """Return what is to be written."""
    return Draft((row.account, row.foreign_id), known, row, lines)


async def test_what_is_forgotten_leaves_its_figure_if_it_is_still_as_it_was(fetch: Fetch) -> None:
    """Bytes and replies go, lines are added; whoever worked from another turn is told so."""
    added = await ROWS.write(fetch, [draft(row("f", "2"), None, line("x")), draft(row("g"), None, line("y"))])
    known = added["default", "f"]
    assert not await ROWS.forget(fetch, known._replace(version=9), redacted(known.row), [], STAMP, keeps_history=True)
    assert await ROWS.forget(fetch, known, redacted(known.row), [line("z", 2)], STAMP, keeps_history=True)
    found = (await ROWS.find_many(fetch, [("default", "f")]))["default", "f"]
    assert (found.version, found.row.revision.body, found.row.revision.asked) == (2, b"", (Decimal(2), "BTC"))
    results = [(one.what, one.reply) for one in await ROWS.history_of(fetch, ("default", "f"))]
    assert results == [("x", b""), ("z", line("z").reply)]
    assert await ROWS.forget(fetch, found, redacted(known.row), [], STAMP, keeps_history=False)
    assert await ROWS.history_of(fetch, ("default", "f")) == []
    assert [one.reply for one in await ROWS.history_of(fetch, ("default", "g"))] == [line("y").reply]


async def test_every_statement_is_understood(connection: Any) -> None:
    """Every table, column and type in them is there."""
    for statement in queries("s").values():
        await connection.prepare(statement)


async def test_a_claim_takes_rows_in_the_order_in_which_they_were_due(fetch: Fetch) -> None:
    """As the pure transition has it; a row of nulls where there are none, and nothing under a number that was used."""
    far = 4e9
    await fetch("insert into s.workers (worker, lease_until) values ('w', $1)", far)
    left = [row(name, created_at=at, holder=None, held_since=0.0) for name, at in (("b", 2.0), ("a", 3.0), ("c", 9.0))]
    await ROWS.write(fetch, [draft(each) for each in left])
    claim = Claim("w", 1, "new key", 5.0, 9)
    taken, last = await ROWS.taken(fetch, await ROWS.claim(fetch, "default", claim, STAMP), claim)
    assert ([(known.version, known.row.foreign_id) for known in taken], last) == ([(2, "b"), (2, "a")], 3.0)
    assert all(
        same(known.row, apply(each, Claimed("w", 1, "new key"), 5.0)) for known, each in zip(taken, left, strict=False)
    )
    assert await ROWS.claim(fetch, "default", claim, STAMP) == []
    again, _ = await ROWS.taken(fetch, await ROWS.claimed(fetch, claim), claim)
    assert [known.row for known in again] == [known.row for known in taken]

    second = claim._replace(number=2)
    assert await ROWS.claim(fetch, "default", second, "elsewhere 0") == []
    [nothing] = await ROWS.claim(fetch, "default", second, STAMP)
    assert nothing["id"] is None
    assert await ROWS.taken(fetch, [nothing], second) == ([], 0.0)
    assert await ROWS.claimed(fetch, claim) == []
    [nothing] = await ROWS.claimed(fetch, second)
    assert nothing["id"] is None


async def test_new_rows_are_added_once(fetch: Fetch) -> None:
    """Those that are known already are left out, with their lines."""
    added = await ROWS.write(fetch, [draft(row("b")), draft(row("a"), None, line("one"), line("two", 2))])
    assert sorted(name for _, name in added) == ["a", "b"]
    again = await ROWS.write(fetch, [draft(row("a", "2"), None, line("three")), draft(row("c"))])
    assert [name for _, name in again] == ["c"]
    found = await ROWS.find_many(fetch, [("default", "a"), ("default", "x")])
    assert found == {("default", "a"): added["default", "a"]} or same(found["default", "a"].row, row("a"))
    assert [entry.what for entry in await ROWS.history_of(fetch, ("default", "a"))] == ["one", "two"]
    assert await ROWS.history_of(fetch, ("default", "x")) == []


async def test_a_row_is_changed_only_from_the_turn_it_was_known_at(fetch: Fetch) -> None:
    """Whoever comes second changes nothing, neither the row nor its history."""
    added = await ROWS.write(fetch, [draft(row("a")), draft(row("b"))])
    first, other = added["default", "a"], added["default", "b"]
    changed = await ROWS.write(
        fetch, [draft(row("b", attempts=7), other, line("b")), draft(row("a", attempts=1), first, line("a"))]
    )
    assert {name: known.version for (_, name), known in changed.items()} == {"a": 2, "b": 2}
    assert await ROWS.write(fetch, [draft(row("a", attempts=2), first, line("late"))]) == {}
    found = await ROWS.find_many(fetch, [("default", "a")])
    assert (found["default", "a"].version, found["default", "a"].row.attempts) == (2, 1)
    assert [entry.what for entry in await ROWS.history_of(fetch, ("default", "a"))] == ["a"]


async def test_the_bytes_of_earlier_revisions_are_kept(fetch: Fetch) -> None:
    """In order; the newest stand in the row."""
    [known] = (await ROWS.write(fetch, [draft(row("a"))])).values()
    first = known.row
    for number in (2, 3):
        revision = replace(asked("a", str(number)).revision, number=number)
        corrected = replace(known.row, revision=revision, earlier=(*known.row.earlier, known.row.revision))
        [known] = (await ROWS.write(fetch, [draft(corrected, known)])).values()
    [found] = (await ROWS.find_many(fetch, [("default", "a")])).values()
    assert same(found.row, known.row)
    assert [one.number for one in found.row.earlier] == [1, 2]
    assert found.row.earlier[0].body == first.revision.body


async def test_the_bytes_between_are_kept(fetch: Fetch) -> None:
    """Of a row that is corrected more than once before it is written down."""
    first, second, third, fourth = (replace(asked("a", f"{each}").revision, number=each) for each in range(1, 5))
    [known] = (await ROWS.write(fetch, [draft(row("a", revision=second, earlier=(first,)))])).values()
    corrected = row("a", revision=fourth, earlier=(first, second, third))
    await ROWS.write(fetch, [draft(corrected, known)])
    [found] = (await ROWS.find_many(fetch, [("default", "a")])).values()
    assert same(found.row, corrected)


async def test_whole_histories_are_read_in_one_go(fetch: Fetch) -> None:
    """Each in order, with the lines as they are stored."""
    lines = line("one\0"), line("two", 2)
    added = await ROWS.write(fetch, [draft(row("a"), None, *lines), draft(row("b"), None, line("b")), draft(row("c"))])
    numbers = {name: known.id for (_, name), known in added.items()}
    found = await ROWS.histories(fetch, [numbers["a"], numbers["b"], numbers["c"]])
    assert found == {numbers["a"]: stored(lines), numbers["b"]: [line("b")]}
    assert [entry.what for entry in stored(lines)] == ["one\ufffd", "two"]


async def test_a_line_that_is_repeated_is_counted_where_it_stands(fetch: Fetch) -> None:
    """Also twice in one statement, and where both lines are new to it."""
    first, again = line("x"), [replace(line("x"), at=at, count=count, last_at=at) for count, at in ((2, 2.0), (3, 3.0))]
    known = (await ROWS.write(fetch, [draft(row("f"), None, first)]))["default", "f"]
    await ROWS.write(fetch, [draft(known.row, known, *again)])
    await ROWS.write(fetch, [draft(row("g"), None, first, *again)])
    for foreign_id in ("f", "g"):
        assert await ROWS.history_of(fetch, ("default", foreign_id)) == [line("x", count=3, last_at=3.0)]


async def test_whatever_alphapo_says_can_be_kept(fetch: Fetch) -> None:
    """Text in PostgreSQL holds no NUL; what decides is kept as it was."""
    result = Withdrawal(id="i\0d", foreign_id="a", status="st\0at", source="reply")
    strange = row("a", state="accepted", withdrawal=result, transaction=Transaction(id=7, error="\0😀"), reason="\0")
    await ROWS.write(fetch, [draft(strange, None, line("in_doubt: \0"))])
    [found] = (await ROWS.find_many(fetch, [("default", "a")])).values()
    assert found.row.withdrawal == result
    assert found.row.transaction == strange.transaction
    [[status, alphapo_id]] = await fetch("select alphapo_status, alphapo_id from s.withdrawals")
    assert (status, alphapo_id) == ("st\ufffdat", "i\ufffdd")
    [entry] = await ROWS.history_of(fetch, ("default", "a"))
    assert (entry.what, entry.reply) == ("in_doubt: \ufffd", b"\0\xff")


async def test_what_was_written_reaches_the_disk_before_it_is_told(connection: Any) -> None:
    """Whatever the database's default is; and a stronger one stays."""
    for default, used in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
        await connection.execute(f"set local synchronous_commit = {default}")
        await ROWS.write(connection.fetch, [draft(row(default))])
        assert await connection.fetchval("show synchronous_commit") == used


async def test_sums_are_exact(fetch: Fetch) -> None:
    """Figures of any size, by currency."""
    rows = [row("a", "1" + "0" * 60), row("b", "0.00000000000000000001"), row("c", state="accepted")]
    await ROWS.write(fetch, [draft(each) for each in rows])
    totals = await ROWS.totals(fetch, "default")
    assert totals["BTC"].requested == Decimal("1" + "0" * 59 + "1.00000000000000000001")
    assert totals["BTC"].accepted == Decimal(1)
    assert await ROWS.totals(fetch, "another") == {}


async def test_a_row_can_be_enqueued_by_a_statement_without_parameters(fetch: Fetch) -> None:
    """By the database's clock, once, and for one payment only."""
    strange = asked("it's :a %s \\ 😀", worker=None)
    wanted = new_row("default", "it's :a %s \\ 😀", strange, 0.0, is_durable=True)
    statement = ROWS.enqueue_statement("default", strange, "h", TIMES, failover_is_lossless=False)
    assert statement.translate({ord(sign): None for sign in ":%$?"}) == statement
    assert [each[0] for each in await fetch(statement)] == [True]
    assert [each[0] for each in await fetch(statement)] == [False]
    [now] = await fetch("select extract(epoch from clock_timestamp())::float8")
    [found] = (await ROWS.find_many(fetch, [("default", wanted.foreign_id)])).values()
    assert found.row.created_at == pytest.approx(now[0], abs=5)
    assert found.row.expires_at == pytest.approx(found.row.created_at + 100)
    assert same(replace(found.row, created_at=0.0, expires_at=None), replace(wanted, lines=1, reported=False))
    [begun] = await ROWS.history_of(fetch, ("default", wanted.foreign_id))
    assert replace(begun, at=0.0) == replace(BEGUN, what="enqueued", release=__version__)
    assert begun.at == found.row.created_at


@pytest.mark.parametrize(
    ("second", "host", "spoil", "error"),
    [
        (asked("a", "2"), "h", "", asyncpg.UniqueViolationError),
        (asked("a", "2"), "h", "update s.withdrawals set state = 'rejected'", asyncpg.UniqueViolationError),
        (asked("a"), "h", "update s.withdrawals set state = 'not_sent'", asyncpg.UniqueViolationError),
        (asked("a"), "h", "update s.withdrawals set state = 'rejected'", asyncpg.UniqueViolationError),
        (asked("a"), "h", "update s.withdrawals set state = 'failed'", asyncpg.UniqueViolationError),
        (asked("a"), "h", "update s.withdrawals set state = 'conflict'", asyncpg.UniqueViolationError),
        (asked("b"), "another", "", asyncpg.CheckViolationError),
    ],
)
async def test_what_must_not_be_enqueued_is_refused(
    fetch: Fetch, second: Requested, host: str, spoil: str, error: Any
) -> None:
    """Another payment, one that was tried in vain, or another host's: otherwise it would wait for a payment that no worker makes."""
    await fetch(ROWS.enqueue_statement("default", asked("a"), "h", TIMES, failover_is_lossless=False))
    if spoil:
        await fetch(spoil)
    with pytest.raises(
        error, match=r"(not|nothing was) enqueued|enqueue it again|moved no money \(rejected\); enqueue this one"
    ):
        await fetch(ROWS.enqueue_statement("default", second, host, TIMES, failover_is_lossless=False))


@pytest.mark.parametrize("second", ["1", "2"])
@pytest.mark.parametrize("state", ["not_sent", "rejected", "key_refused"])
@pytest.mark.parametrize("confirmed_in", [0, 3])
async def test_a_no_from_before_the_journal_went_back_is_not_repeated(
    fetch: Fetch, second: str, state: str, confirmed_in: int
) -> None:
    """It may have been sent again and paid since, and the refusal said that no money moved. What AlphaPo has confirmed since counts."""
    await fetch(ROWS.enqueue_statement("default", asked("a"), "h", TIMES, failover_is_lossless=False))
    confirmed = f"""(rest::jsonb || '{{"reaffirmed_in": {confirmed_in}}}')::json"""
    await fetch(f"update s.withdrawals set state = '{state}', rest = {confirmed}")
    await fetch("update s.journal set epoch_number = 3, epoch_since = 1")
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await fetch(ROWS.enqueue_statement("default", asked("a", second), "h", TIMES, failover_is_lossless=False))
    says_no = re.search("moved no money|never arrived|has ended", str(caught.value)) is not None
    assert says_no == (confirmed_in == 3)
    assert ("the journal went back" in str(caught.value)) != says_no


def test_bytes_that_another_release_wrote_are_the_same_payment() -> None:
    """The digest that the statement compares is over the payment, not over its bytes."""
    one = asked("a").revision
    assert Revision(one.body + b" ", one.payment).digest == one.digest


async def test_another_journals_rows_are_taken_with_all_that_is_kept_of_them(fetch: Fetch) -> None:
    """Earlier revisions and histories; handed on in order."""
    corrected = replace(
        row("a"), revision=replace(asked("a", "2").revision, number=2), earlier=(asked("a", "1").revision,)
    )
    kept = [Kept(1, corrected, (line("one"), line("two", 2, count=3, last_at=4.0))), Kept(2, row("b"), ())]
    await ROWS.load(fetch, kept, STAMP)
    [first] = await ROWS.all(fetch, 0, 1)
    assert await ROWS.all(fetch, 0, 1, with_history=False) == [first._replace(entries=())]
    [second] = await ROWS.all(fetch, first.place, 9)
    assert same(first.row, corrected)
    assert first.entries == (line("one"), line("two", 2, count=3, last_at=4.0))
    assert second.row.foreign_id == "b"


async def test_a_page_is_filled_with_rows_that_this_release_can_read(connection: Any, fetch: Fetch) -> None:
    """Rows that only a newer release can read stand between them."""
    await ROWS.write(fetch, [draft(row(name)) for name in ("a-new", "b-new", "c", "d-new", "e")])
    await connection.execute("""update s.withdrawals set rest = '{"new_in_02": 1}' where foreign_id like '%new'""")
    for limit, expected in ((1, ["c"]), (2, ["c", "e"]), (9, ["c", "e"])):
        found = await ROWS.select(fetch, "everything", 0, limit=limit)
        assert [known.row.foreign_id for known in found] == expected


AT_SCALE: dict[str, tuple[Any, ...]] = {
    "open": ("a", -1.0, "", 100),
    "claim": (STAMP, "a", "w", 1, "key", 5.0, 64, 0.0),
    "claimed": ("w", 1),
    "fresh_and_expired": ("a", 5.0, 100),
    "frozen": ("a", 5.0, [], 100),
    "in_doubt": ("a", 5.0, [], 100),
    "to_refresh": ("a", 5.0, [], 100),
    "unreported": ("a", 100),
    "control": ("a", "key", 0.0, 100),
    "held": ("w", 100),
    "everything": (0, 100),
    "find": (["a"], ["open 7"]),
}


async def test_no_query_of_a_round_reads_or_sorts_the_whole_table(connection: Any) -> None:
    """With thousands of rows that are fresh, settled and accepted; in every second a worker asks most of these."""
    filled = (
        "insert into s.withdrawals (account, foreign_id, state, counted_as, requested_currency, requested_amount, created_at, settled_at, "
        "due_at, reported, held_since, claim_number, key_fingerprint, source, revision, epoch, rest, body, sha256, digest) "
        "select 'a', $1 || ' ' || number, $1, $1, 'BTC', 1, number / 1e4, $2, $3, true, 0, 0, 'key', 'reply', 1, 0, '{}', '', '', '' "
        "from generate_series(1, 8000) number"
    )
    for state, settled_at, due_at in (("open", None, 1.0), ("accepted", 1.0, 9.0), ("accepted ", 1.0, None)):
        await connection.execute(filled, state, settled_at, due_at)
    await connection.execute("insert into s.workers (worker, lease_until) values ('w', 1e10)")
    await connection.execute("analyze s.withdrawals")
    slow = {}
    for name, parameters in AT_SCALE.items():
        query = await connection.prepare(queries("s")[name])
        nodes = str(await query.explain(*parameters)).split("'Node Type': ")[1:]
        assert nodes
        whole = [one for one in nodes if one.startswith("'Seq Scan'") and "'Relation Name': 'withdrawals'" in one]
        slow[name] = whole + [one for one in nodes if one.startswith("'Sort'")]
    assert {name for name, nodes in slow.items() if nodes} == set()
