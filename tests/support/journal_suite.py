"""What every journal must do, whatever it stores its rows in: each kind inherits these tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

import pytest
from msgspec.structs import replace

from alphapo_async.client import AlphapoClient
from alphapo_async.core.claims import Claim, ending_of
from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import CallbackError, ConfigurationError, JournalError
from alphapo_async.core.evidence import (
    Attempt,
    CalledBack,
    Claimed,
    Evidence,
    LeaseExpired,
    LookedUp,
    Released,
    ReplyExcerpt,
    Reported,
    Requested,
    Revision,
)
from alphapo_async.core.history import Change, Entry, entries_of, noted
from alphapo_async.core.models import Money, Totals, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.redaction import redacted, tombstone
from alphapo_async.core.replies import Accepted, Found, InDoubt, NoneFound, Rejected
from alphapo_async.core.row import Epoch, Row, is_frozen, is_stale_no
from alphapo_async.core.row_format import to_record
from alphapo_async.core.signer import Signer
from alphapo_async.core.transitions import apply, new_row
from alphapo_async.journal import Journal, Redactable
from alphapo_async.sandbox import Sandbox

ACCOUNT = "default"
SECRET = "made-up-secret"
FAR = 1e12
"""A lease that does not end."""


def asked(foreign_id: str, amount: str = "1", currency: str = "BTC", **more: Any) -> Requested:
    """Return a caller's word for such a payment."""
    payment = WithdrawalRequest(
        currency=currency, address="a", amount=amount, foreign_id=foreign_id, end_user_reference="u"
    )
    usual: dict[str, Any] = {"worker": "worker", "key": "key"}
    return Requested(revision=Revision(encode_body(payment, "string"), payment), **(usual | more))


def accepted(foreign_id: str) -> Attempt:
    """Return the acceptance of a body by AlphaPo's reply."""
    result = Withdrawal(id=f"id of {foreign_id}", foreign_id=foreign_id, status="processing", source="reply")
    return Attempt("worker", Accepted(result), 0.0, 0.0, ReplyExcerpt(201, b'{"data": 1}'))


LOST = Attempt("worker", InDoubt("connection lost"), 1.0, 2.0)
REFUSED = Attempt("worker", Rejected({"amount": ["no"]}), 1.0, 2.0, ReplyExcerpt(400, b"{}"))


def learning(
    foreign_id: str, *evidence: Evidence, now: float = 0.0, account: str = ACCOUNT, is_durable: bool = True
) -> Change:
    """Return the change that adds evidence to a row and its history, as a flight does."""

    def change(known: Row | None) -> tuple[Row, Sequence[Entry]]:
        row = known
        for one in evidence:
            if row is None:
                assert isinstance(one, Requested)
                row = new_row(account, foreign_id, one, now, is_durable=is_durable)
            else:
                row = apply(row, one, now)
        assert row is not None
        return noted(row, entries_of(evidence, now, "1.0"))

    return change


async def learn(
    journal: Journal, foreign_id: str, *evidence: Evidence, now: float = 0.0, account: str = ACCOUNT, **how: Any
) -> Row:
    """Add evidence to a row and its history, and return the row."""
    change = learning(foreign_id, *evidence, now=now, account=account, is_durable=journal.is_durable)
    return await journal.update(account, foreign_id, change, **how)


def buried(row: Row) -> tuple[Row, Sequence[Entry]]:
    """Keep what makes the id known, and add no line."""
    return tombstone(row), ()


def left_alone(row: Row | None) -> tuple[Row, Sequence[Entry]]:
    """Change nothing."""
    assert row is not None
    return row, ()


def rejected(row: Row | None) -> tuple[Row, Sequence[Entry]]:
    """Settle the row with a "no", and add no line."""
    assert row is not None
    return replace(row, state="rejected", settled_at=6.0), ()


async def record(journal: Journal, foreign_id: str, now: float) -> Row:
    """Record a withdrawal in the epoch that the journal is in, and leave it to the workers."""

    def change(_known: Row | None) -> tuple[Row, Sequence[Entry]]:
        fresh = asked(foreign_id, worker=None)
        return new_row(ACCOUNT, foreign_id, fresh, now, is_durable=True, epoch=journal.epoch), ()

    return await journal.update(ACCOUNT, foreign_id, change)


async def left(journal: Journal, foreign_id: str, now: float) -> Row:
    """Leave a withdrawal to the workers, and return its row."""
    return await learn(journal, foreign_id, asked(foreign_id, worker=None), now=now)


async def pay(journal: Journal, *foreign_ids: str, now: float = 0.0, **more: Any) -> None:
    """Record withdrawals that AlphaPo accepts."""
    for foreign_id in foreign_ids:
        await learn(journal, foreign_id, asked(foreign_id, **more), accepted(foreign_id), now=now)


def names(rows: list[Row]) -> list[str]:
    """Return the foreign_ids of rows."""
    return [row.foreign_id for row in rows]


def same(one: Row | None, other: Row | None) -> bool:
    """Tell whether two rows are one and the same, however their payments were written."""
    if one is None or other is None:
        return False
    bodies = [[revision.body for revision in (*row.earlier, row.revision)] for row in (one, other)]
    return to_record(one) == to_record(other) and bodies[0] == bodies[1]


class JournalSuite:
    """The tests that every kind of journal passes."""

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_a_row_is_found_as_it_was_written(self, journal: Journal) -> None:
        """Under its account and its foreign_id, and nowhere else."""
        row = await learn(journal, "f", asked("f"), LOST, now=5.0)
        assert same(await journal.find(ACCOUNT, "f"), row)
        assert await journal.find(ACCOUNT, "g") is None
        assert await journal.find("another", "f") is None

    async def test_everything_a_row_can_hold_comes_back(self, journal: Journal) -> None:
        """Revisions, doubt, figures of both witnesses: another process goes on from exactly there."""
        shown = Transaction(
            id=7,
            foreign_id="f",
            status="processing",
            currency_sent=Money(currency="BTC", amount=Decimal("1.00000000")),
            error="none yet",
        )
        await learn(journal, "f", asked("f", "2"), Released("worker", "queue"), now=1.0)
        await learn(journal, "f", asked("f", "1", worker="other"), now=2.0)
        row = await learn(journal, "f", LOST, LookedUp("other", Found(shown)), now=3.0)
        found = await journal.find(ACCOUNT, "f")
        assert same(found, row)
        assert found is not None
        assert [one.number for one in (*found.earlier, found.revision)] == [1, 2]
        assert found.transaction == shown

    async def test_bytes_are_kept_exactly(self, journal: Journal) -> None:
        """What was signed is what is sent again, to the last byte."""
        strange = asked("f")
        revision = Revision(strange.revision.body + b"\n ", strange.revision.payment)
        await learn(journal, "f", replace(strange, revision=revision))
        found = await journal.find(ACCOUNT, "f")
        assert found is not None
        assert found.revision.body == revision.body

    async def test_accounts_do_not_share_foreign_ids(self, journal: Journal) -> None:
        """The same foreign_id under two accounts is two withdrawals."""
        await learn(journal, "f", asked("f"), accepted("f"))
        other = await learn(journal, "f", asked("f"), account="another")
        assert other.state == "open"
        assert (await journal.totals("another"))["BTC"] == Totals(requested=Decimal(1), open=Decimal(1))
        assert (await journal.totals(ACCOUNT))["BTC"] == Totals(requested=Decimal(1), accepted=Decimal(1))

    async def test_a_change_that_raises_writes_nothing(self, journal: Journal) -> None:
        """It is the caller's own error, and others are not disturbed."""

        def change(_known: Row | None) -> tuple[Row, Sequence[Entry]]:
            raise ZeroDivisionError

        row = await learn(journal, "f", asked("f"))
        outcomes = await asyncio.gather(
            journal.update(ACCOUNT, "f", change), learn(journal, "g", asked("g")), return_exceptions=True
        )
        assert isinstance(outcomes[0], ZeroDivisionError)
        assert isinstance(outcomes[1], Row)
        assert same(await journal.find(ACCOUNT, "f"), row)

    async def test_changes_of_one_row_come_one_after_the_other(self, journal: Journal) -> None:
        """A hundred at once: none is lost."""
        await learn(journal, "f", asked("f"))
        await asyncio.gather(*(learn(journal, "f", LOST) for _ in range(100)))
        row = await journal.find(ACCOUNT, "f")
        assert row is not None
        assert row.attempts == 100

    async def test_what_may_lag_is_seen_by_whoever_asks_later(self, journal: Journal) -> None:
        """It is applied in the order in which it was asked for."""
        await learn(journal, "f", asked("f"))
        lagging = asyncio.ensure_future(learn(journal, "f", accepted("f"), may_lag=True))
        await asyncio.sleep(0)
        assert (await learn(journal, "f", asked("f"))).state == "accepted"
        assert (await lagging).state == "accepted"

    # ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_open_rows_come_oldest_first_page_by_page(self, journal: Journal) -> None:
        """Settled ones and other accounts' are not among them."""
        for number in (3, 1, 2):
            await learn(journal, f"open-{number}", asked(f"open-{number}"), now=float(number))
        await learn(journal, "theirs", asked("theirs"), account="another")
        await pay(journal, "paid")
        page = await journal.find_open(ACCOUNT, None, 2)
        assert names(page) == ["open-1", "open-2"]
        rest = await journal.find_open(ACCOUNT, (page[-1].created_at, page[-1].foreign_id), 2)
        assert names(rest) == ["open-3"]
        assert await journal.find_open(ACCOUNT, (3.0, "open-3"), 2) == []

    async def test_due_rows_come_longest_overdue_first(self, journal: Journal) -> None:
        """What is in doubt before what is only refreshed, also where that was due first; no fresh rows, and none that a worker holds."""
        await learn(journal, "held", asked("held"), LOST, now=0.0)
        await left(journal, "fresh", 1.0)
        await pay(journal, "paid", now=3.0)
        for number in (8, 7):
            name = f"lost-{number}"
            await learn(journal, name, asked(name), LOST, Released("worker", ""), now=float(number))
        assert names(await journal.find_due(ACCOUNT, 17.0, 9)) == ["lost-7"]
        assert names(await journal.find_due(ACCOUNT, 3_700.0, 9)) == ["lost-7", "lost-8", "paid"]
        assert names(await journal.find_due(ACCOUNT, 3_700.0, 1)) == ["lost-7"]

    async def test_frozen_rows_do_not_keep_a_row_in_doubt_waiting_that_was_due_before(self, journal: Journal) -> None:
        """A page full of what was fresh when the journal went back holds the longest overdue all the same, frozen or not."""
        for number in range(3):
            await left(journal, f"late-{number}", 50.0 + number)
        await learn(journal, "lost", asked("lost"), LOST, Released("worker", ""), now=7.0)
        await left(journal, "early", 1.0)
        await journal.raise_epoch(60.0)
        assert names(await journal.find_due(ACCOUNT, 3_700.0, 3)) == ["early", "lost", "late-0"]

    async def test_rows_under_refused_keys_are_held_back_until_they_expire(self, journal: Journal) -> None:
        """A row in doubt and a settled one have their own key; what is fresh is left to claims, unless it has expired."""
        await learn(journal, "plain", asked("plain", worker=None), now=1.0)
        await learn(journal, "expiring", asked("expiring", worker=None, expires_at=50.0), now=2.0)
        await learn(journal, "doubted", asked("doubted"), LOST, Released("worker", ""), now=3.0)
        await learn(journal, "lost", asked("lost", expires_at=50.0), LOST, Released("worker", ""), now=4.0)
        await pay(journal, "paid", now=5.0)
        for keys, now, is_expired, expected in (
            (set(), 9_999.0, False, ["doubted", "lost", "paid"]),
            (set(), 9_999.0, True, ["expiring", "doubted", "lost", "paid"]),
            ({"new"}, 49.0, True, ["doubted", "lost"]),
            ({"key"}, 9_999.0, False, []),
            ({"key"}, 9_999.0, True, ["expiring"]),
        ):
            found = await journal.find_due(ACCOUNT, now, 9, keys, expired=is_expired)
            assert names(found) == expected, (keys, now)

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_a_claim_takes_fresh_rows_longest_due_first(self, journal: Journal) -> None:
        """Not what is in doubt, held, settled, another account's, due later, or passed; the rows are those of the pure transition."""
        await journal.join(ACCOUNT, "h", "worker", FAR)
        before = {name: await left(journal, name, float(number)) for number, name in enumerate("cab", start=1)}
        await left(journal, "d", 9.0)
        await learn(journal, "lost", asked("lost"), LOST, Released("worker", ""), now=0.0)
        await learn(journal, "held", asked("held", worker="another"), now=0.0)
        await pay(journal, "paid")
        await learn(journal, "x", asked("x", worker=None), account="another", now=0.0)

        first = await journal.claim(ACCOUNT, Claim("worker", 1, "new key", 5.0, 2))
        assert first is not None
        assert names(first.rows) == ["c", "a"]
        assert first.last_due_at == 2.0
        for row in first.rows:
            assert same(row, apply(before[row.foreign_id], Claimed("worker", 1, "new key"), 5.0))
            known = await journal.find(ACCOUNT, row.foreign_id)
            assert known is not None
            assert (known.holder, known.claim, known.held_since, known.key_fingerprint) == ("worker", 1, 5.0, "new key")
        assert names(await journal.find_held("worker", 9)) == ["c", "a"]

        second = await journal.claim(ACCOUNT, Claim("worker", 2, "new key", 5.0, 9, after=2.5))
        assert second is not None
        assert (names(second.rows), second.last_due_at) == (["b"], 3.0)
        third = await journal.claim(ACCOUNT, Claim("worker", 3, "new key", 5.0, 9, after=3.0))
        assert third == ([], 3.0)

    async def test_a_claim_that_is_made_again_returns_what_it_took(self, journal: Journal) -> None:
        """Its answer was lost: it takes nothing more, under any limit."""
        await journal.join(ACCOUNT, "h", "worker", FAR)
        for number, name in enumerate("abc", start=1):
            await left(journal, name, float(number))
        first = await journal.claim(ACCOUNT, Claim("worker", 1, "key", 5.0, 2))
        again = await journal.claim(ACCOUNT, Claim("worker", 1, "key", 6.0, 9))
        assert first is not None
        assert again is not None
        assert names(again.rows) == names(first.rows) == ["a", "b"]
        none = await journal.claim(ACCOUNT, Claim("worker", 2, "key", 6.0, 0))
        assert none is not None
        assert none.rows == []
        again = await journal.claim(ACCOUNT, Claim("worker", 2, "key", 6.0, 9))
        assert again is not None
        assert again.rows == []

    async def test_a_claim_needs_a_lease_that_runs(self, journal: Journal) -> None:
        """Its worker is on the list, and its lease has not ended."""
        await left(journal, "a", 1.0)
        assert await journal.claim(ACCOUNT, Claim("stranger", 1, "key", 5.0, 9)) is None
        await journal.join(ACCOUNT, "h", "worker", 60.0)
        assert await journal.claim(ACCOUNT, Claim("worker", 1, "key", 60.0, 9)) is None
        assert await journal.find_dead(60.0) == [("worker", 60.0)]
        assert await journal.begun("worker") == 0
        assert await journal.claim(ACCOUNT, Claim("worker", 1, "key", 60.0, 9)) is None

    async def test_a_claim_lets_the_rows_of_the_one_before_begin(self, journal: Journal) -> None:
        """After the worker's end, rows of its last claim are free and not in doubt; those before are in doubt."""
        await journal.join(ACCOUNT, "h", "worker", FAR)
        assert await journal.begun("stranger") is None
        for number, name in enumerate("ab", start=1):
            await left(journal, name, float(number))
            assert await journal.claim(ACCOUNT, Claim("worker", number, "key", 5.0, 1)) is not None
            assert await journal.begun("worker") == number - 1
        for row in await journal.find_held("worker", 9):
            await learn(journal, row.foreign_id, ending_of(row, "worker", 8.0, await journal.begun("worker")), now=9.0)
        a, b = [await journal.find(ACCOUNT, name) for name in "ab"]
        assert a is not None
        assert b is not None
        assert (a.holder, a.doubt_since, a.could_leave_until) == (None, 5.0, 8.0)
        assert (b.holder, b.claim, b.doubt_since) == (None, 0, None)
        await journal.join(ACCOUNT, "h", "heir", FAR)
        claimed = await journal.claim(ACCOUNT, Claim("heir", 1, "key", 9.0, 9))
        assert claimed is not None
        assert names(claimed.rows) == ["b"]

    async def test_a_corrected_row_is_claimed_with_its_revisions(self, journal: Journal) -> None:
        """Whatever it takes to read it."""
        await journal.join(ACCOUNT, "h", "worker", FAR)
        await learn(journal, "f", asked("f", "2"), Released("worker", "queue"), now=1.0)
        await learn(journal, "f", asked("f", "1", worker=None), now=1.0)
        claimed = await journal.claim(ACCOUNT, Claim("worker", 1, "key", 5.0, 9))
        assert claimed is not None
        assert [(row.revision.number, len(row.earlier)) for row in claimed.rows] == [(2, 1)]

    async def test_what_was_open_when_the_journal_went_back_is_not_claimed(self, journal: Journal) -> None:
        """It is frozen, and found with what is due."""
        await journal.join(ACCOUNT, "h", "worker", FAR)
        await left(journal, "old", 1.0)
        since = (await journal.raise_epoch(2.0)).since
        assert since is not None
        now = since + 100_000.0  # no id that is new now can have been forgotten
        await record(journal, "new", now)
        claimed = await journal.claim(ACCOUNT, Claim("worker", 1, "key", now, 9))
        assert claimed is not None
        assert names(claimed.rows) == ["new"]
        assert names(await journal.find_due(ACCOUNT, now, 9)) == ["old"]
        assert await journal.find_due(ACCOUNT, now, 9, {"key"}) == []

    async def test_unreported_rows_are_handed_out_until_they_are_marked(self, journal: Journal) -> None:
        """Only what is settled."""
        await learn(journal, "open", asked("open", is_awaited=False))
        await learn(journal, "paid", asked("paid", is_awaited=False), accepted("paid"))
        await pay(journal, "heard")
        assert names(await journal.find_unreported(ACCOUNT, 9)) == ["paid"]
        await learn(journal, "paid", Reported())
        assert await journal.find_unreported(ACCOUNT, 9) == []

    async def test_a_control_is_accepted_by_reply_with_the_same_key_and_newer(self, journal: Journal) -> None:
        """The newest one."""
        await pay(journal, "early", now=5.0)
        assert await journal.find_control(ACCOUNT, "key", 5.0) is None
        await pay(journal, "late", "later", now=6.0)
        found = await journal.find_control(ACCOUNT, "key", 5.0)
        assert found is not None
        assert found.foreign_id == "later"
        assert await journal.find_control(ACCOUNT, "another key", 5.0) is None
        assert await journal.find_control("another", "key", 5.0) is None

    @pytest.mark.parametrize(
        "evidence",
        [
            REFUSED,
            LookedUp(
                "worker",
                Found(Transaction(id=7, foreign_id="f", currency_sent=Money(currency="BTC", amount=Decimal(1)))),
            ),
        ],
    )
    async def test_only_an_acceptance_by_reply_is_a_control(self, journal: Journal, evidence: Evidence) -> None:
        """One that was found by look-up may have been accepted before."""
        await learn(journal, "f", asked("f"), evidence, now=6.0)
        assert await journal.find_control(ACCOUNT, "key", 5.0) is None

    async def test_the_history_is_kept_in_order(self, journal: Journal) -> None:
        """Each line with its time, worker, status, excerpt and release; of another withdrawal nothing."""
        await learn(journal, "f", asked("f"), REFUSED, now=5.0)
        await learn(journal, "f", LookedUp("worker", NoneFound(), ReplyExcerpt(404, b"{}")), now=6.0)
        lines = await journal.history(ACCOUNT, "f")
        assert [
            (line.at, line.kind, line.what, line.worker, line.http_status, line.reply, line.release) for line in lines
        ] == [
            (5.0, "attempt", "rejected", "worker", 400, b"{}", "1.0"),
            (6.0, "look-up", "none", "worker", 404, b"{}", "1.0"),
        ]
        assert await journal.history(ACCOUNT, "g") == []

    async def test_totals_count_the_asked_side(self, journal: Journal) -> None:
        """By currency in order; what is to arrive counts in the currency in which it is to arrive."""
        payment = WithdrawalRequest(
            currency="BTC", convert_to="EUR", address="a", amount_to="5", foreign_id="e", end_user_reference="u"
        )
        await learn(journal, "e", Requested("worker", Revision(encode_body(payment), payment), "key"))
        await learn(journal, "b", asked("b", "0.00000001"), LOST)
        await learn(journal, "c", asked("c", "100000000000000000000000000000.5"), Released("worker", "queue"))
        assert list((await journal.totals(ACCOUNT)).items()) == [
            (
                "BTC",
                Totals(
                    requested=Decimal("100000000000000000000000000000.50000001"),
                    unknown=Decimal("0.00000001"),
                    not_sent=Decimal("100000000000000000000000000000.5"),
                ),
            ),
            ("EUR", Totals(requested=Decimal(5), open=Decimal(5))),
        ]
        assert await journal.totals("another") == {}

    # ── epochs ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_an_epoch_freezes_what_was_open_before_it(self, journal: Journal) -> None:
        """Older open rows are in doubt since the epoch began, an older "no" is stale, and a newer row is neither."""
        await record(journal, "left", 5.0)
        await record(journal, "refused", 5.0)
        await journal.update(ACCOUNT, "refused", rejected)
        await pay(journal, "paid", now=5.0)
        await learn(journal, "theirs", asked("theirs"), account="another")
        assert (journal.epoch, await journal.count_frozen(ACCOUNT)) == (Epoch(), 0)
        raised = await journal.raise_epoch(50.0)
        assert (raised.number, journal.epoch) == (1, raised)
        assert raised.since is not None
        await record(journal, "new", 60.0)
        left, new = await journal.find_open(ACCOUNT, None, 9)
        assert (left.foreign_id, is_frozen(left), left.doubt_since) == ("left", True, raised.since)
        assert (new.foreign_id, is_frozen(new), new.epoch) == ("new", False, 1)
        found = {name: await journal.find(ACCOUNT, name) for name in ("refused", "paid", "new")}
        assert [name for name, row in found.items() if row is not None and is_stale_no(row)] == ["refused"]
        assert [await journal.count_frozen(account) for account in (ACCOUNT, "another", "a third")] == [1, 1, 0]
        sums = (await journal.totals(ACCOUNT))["BTC"]
        assert (sums.unknown, sums.rejected, sums.accepted) == (Decimal(2), Decimal(1), Decimal(1))

    async def test_epochs_that_are_declared_equal_freeze_nothing(self, journal: Journal) -> None:
        """Rows are what they were, whichever account they belong to; an acceptance is none of those that are counted."""
        left = await record(journal, "left", 5.0)
        await record(journal, "refused", 5.0)
        refused = await journal.update(ACCOUNT, "refused", rejected)
        await pay(journal, "paid", now=5.0)
        await learn(journal, "theirs", asked("theirs"), account="another")
        before = await journal.totals(ACCOUNT)
        await journal.raise_epoch(50.0)
        line = Entry(60.0, "unfrozen", "nothing was lost, as anna says", release="1")
        assert await journal.equate_epochs(line) == 3
        assert journal.epoch == Epoch(1)
        assert [await journal.count_frozen(account) for account in (ACCOUNT, "another")] == [0, 0]
        for row in (left, refused):
            found = await journal.find(ACCOUNT, row.foreign_id)
            assert same(found, replace(row, epoch=1, lines=row.lines + 1, counted=()))
            assert found is not None
            assert (await journal.history(ACCOUNT, row.foreign_id))[-1] == replace(line, number=found.lines)
            assert not is_frozen(found)
            assert not is_stale_no(found)
        assert await journal.totals(ACCOUNT) == before

    async def test_only_the_last_epoch_is_declared_equal(self, journal: Journal) -> None:
        """A row that was open before an earlier one, in which commits were lost, stays frozen."""
        await record(journal, "oldest", 5.0)
        await journal.raise_epoch(50.0)
        await record(journal, "older", 60.0)
        assert (await journal.raise_epoch(70.0)).number == 2
        assert await journal.count_frozen(ACCOUNT) == 2
        assert await journal.equate_epochs(Entry(80.0, "unfrozen", "nothing was lost")) == 1
        oldest, older = await journal.find_open(ACCOUNT, None, 9)
        assert [is_frozen(oldest), is_frozen(older)] == [True, False]
        assert await journal.count_frozen(ACCOUNT) == 1

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def test_an_account_belongs_to_one_host(self, journal: Journal) -> None:
        """The same host again is welcome, another is refused."""
        await journal.join(ACCOUNT, "app.alphapo.net", "one", 50.0)
        await journal.join(ACCOUNT, "app.alphapo.net", "two", 50.0)
        with pytest.raises(ConfigurationError, match=r"belongs to 'app\.alphapo\.net'"):
            await journal.join(ACCOUNT, "loopback", "three", 50.0)
        await journal.join("another", "loopback", "four", 50.0)

    async def test_a_lease_that_runs_is_prolonged_and_one_that_ended_is_not(self, journal: Journal) -> None:
        """And nobody else's."""
        await journal.join(ACCOUNT, "h", "worker", 50.0)
        assert await journal.ended("worker", 10.0) is None
        assert await journal.renew("worker", 90.0, 40.0)
        assert await journal.ended("worker", 60.0) is None
        assert not await journal.renew("worker", 500.0, 90.0)
        assert not await journal.renew("unknown", 500.0, 10.0)
        assert await journal.ended("worker", 95.0) == 90.0

    @pytest.mark.parametrize("asks", ["ended", "find_dead"])
    async def test_a_lease_that_was_reported_as_over_never_runs_again(self, journal: Journal, asks: str) -> None:
        """Neither where a clock is set forward and back, nor by a renewal or a claim that was on its way: its rows may be another's."""
        await journal.join(ACCOUNT, "h", "worker", 50.0)
        await left(journal, "a", 1.0)
        found = await (journal.ended("worker", 60.0) if asks == "ended" else journal.find_dead(60.0))
        assert found in (50.0, [("worker", 50.0)])
        assert not await journal.renew("worker", 90.0, 40.0)
        assert await journal.claim(ACCOUNT, Claim("worker", 1, "key", 40.0, 9)) is None
        assert await journal.find_dead(40.0) == [("worker", 50.0)]
        assert await journal.ended("worker", 40.0) == 50.0

    async def test_a_worker_that_left_is_dead_by_every_clock(self, journal: Journal) -> None:
        """A clock that is set back afterwards keeps its rows from no other worker."""
        await journal.join(ACCOUNT, "h", "worker", 500.0)
        await learn(journal, "f", asked("f"))
        await journal.leave("worker", 90.0)
        assert await journal.ended("worker", 40.0) == 90.0
        assert await journal.find_dead(40.0) == [("worker", 90.0)]
        assert not await journal.renew("worker", 600.0, 40.0)

    async def test_a_worker_that_left_can_send_no_more(self, journal: Journal) -> None:
        """And is not among the dead."""
        await journal.join(ACCOUNT, "h", "worker", 50.0)
        await journal.leave("worker", 10.0)
        assert await journal.ended("worker", 11.0) == 11.0
        assert await journal.find_dead(11.0) == []
        await journal.leave("worker", 12.0)

    async def test_a_worker_that_left_rows_behind_is_among_the_dead_until_they_are_freed(
        self, journal: Journal
    ) -> None:
        """Its lease ended when it left."""
        await journal.join(ACCOUNT, "h", "worker", 50.0)
        await learn(journal, "f", asked("f"), now=1.0)
        await journal.leave("worker", 10.0)
        assert await journal.find_dead(11.0) == [("worker", 10.0)]
        assert names(await journal.find_held("worker", 9)) == ["f"]
        row = await learn(journal, "f", LeaseExpired("worker", 10.0), now=11.0)
        assert (row.holder, row.could_leave_until) == (None, 10.0)
        assert await journal.find_held("worker", 9) == []
        await journal.leave("worker", 12.0)
        assert await journal.find_dead(13.0) == []

    async def test_whoever_holds_a_row_and_is_on_no_list_is_among_the_dead(self, journal: Journal) -> None:
        """It has left, and a change of its own was written down later: it could send until now at the latest."""
        await journal.join(ACCOUNT, "h", "worker", 50.0)
        for name, holder in (("a", "worker"), ("b", "gone"), ("c", "a ghost"), ("d", "gone"), ("e", None)):
            await learn(journal, name, asked(name, worker=holder), now=1.0)
        await pay(journal, "paid", worker="a third")
        assert sorted(await journal.find_dead(11.0)) == [("a ghost", 11.0), ("gone", 11.0)]
        assert names(await journal.find_held("gone", 9)) == ["b", "d"]
        for name in "bd":
            await learn(journal, name, LeaseExpired("gone", 11.0), now=11.0)
        await journal.leave("gone", 11.0)
        assert await journal.find_dead(12.0) == [("a ghost", 12.0)]
        assert sorted(await journal.find_dead(50.0)) == [("a ghost", 50.0), ("worker", 50.0)]

    async def test_a_worker_whose_lease_ended_is_among_the_dead(self, journal: Journal) -> None:
        """From then on."""
        await journal.join(ACCOUNT, "h", "worker", 50.0)
        assert await journal.find_dead(49.9) == []
        assert await journal.find_dead(50.0) == [("worker", 50.0)]

    async def test_it_is_closed_once_and_for_all(self, journal: Journal) -> None:
        """Closing twice does no harm."""
        await pay(journal, "f")
        await journal.aclose()
        await journal.aclose()


add: Final = learn
Rewrite: TypeAlias = Callable[[str], Awaitable[None]]
"""Has a newer release change the rows whose foreign_id begins like this: it records what this release does not know."""


class UpgradingSuite:
    """The tests that every journal passes that several releases share."""

    async def test_a_row_that_only_a_newer_release_can_read_is_refused_by_itself(
        self, journal: Any, rewrite: Rewrite
    ) -> None:
        """Changes of other rows that are made at the same time are stored, and it stays as it is."""
        await add(journal, "new", asked("new"), LOST)
        await pay(journal, "old")
        await rewrite("new")
        with pytest.raises(
            JournalError, match=r"Withdrawal 'new' .* newer release.* moved no money.* Upgrade"
        ) as caught:
            await journal.find(ACCOUNT, "new")
        assert (caught.value.foreign_id, caught.value.recorded, caught.value.may_release_funds) == ("new", None, False)
        changes = [
            add(journal, "new", accepted("new")),
            add(journal, "old", Reported("accepted", 1)),
            add(journal, "other", asked("other")),
        ]
        refused, changed, recorded = await asyncio.gather(*changes, return_exceptions=True)
        assert isinstance(refused, JournalError)
        assert isinstance(changed, Row)
        assert isinstance(recorded, Row)
        assert len(await journal.history(ACCOUNT, "new")) == 1

    async def test_it_is_left_out_of_every_page_with_one_warning(
        self, journal: Any, rewrite: Rewrite, caplog: pytest.LogCaptureFixture
    ) -> None:
        """However short the page is, the rows behind it are returned; the sums count it."""
        for number, name in enumerate(("new-1", "new-2", "old"), start=1):
            await add(journal, name, asked(name, worker="dead"), LOST, now=float(number))
        await rewrite("new")
        assert names(await journal.find_open(ACCOUNT, None, 1)) == ["old"]
        assert names(await journal.find_held("dead", 1)) == ["old"]
        assert [kept.row.foreign_id for kept in await journal.dump(0, 1, with_history=False)] == ["old"]
        for name in ("new-1", "new-2"):
            assert caplog.text.count(f"Withdrawal {name!r}") == 1
        with pytest.raises(JournalError, match="'new-1'"):
            await journal.dump(0, 9)
        assert (await journal.totals(ACCOUNT))["BTC"].unknown == Decimal(3)

    async def test_it_is_neither_claimed_nor_due_nor_handed_out(self, journal: Any, rewrite: Rewrite) -> None:
        """Rows of this release behind it are."""
        await journal.join(ACCOUNT, "h", "worker", FAR)
        for number, name in enumerate(("new-1", "new-2", "old-1", "old-2"), start=1):
            await add(journal, f"{name} fresh", asked(f"{name} fresh", worker=None, expires_at=50.0), now=float(number))
            await add(journal, f"{name} lost", asked(f"{name} lost"), LOST, Released("worker", ""), now=float(number))
            await pay(journal, f"{name} paid", now=float(number))
        await rewrite("new")
        assert names(await journal.find_due(ACCOUNT, 9_999.0, 1)) == ["old-1 lost"]
        everything = [f"{name} {kind}" for kind in ("fresh", "lost", "paid") for name in ("old-1", "old-2")]
        assert names(await journal.find_due(ACCOUNT, 9_999.0, 9, expired=True)) == everything
        claimed = await journal.claim(ACCOUNT, Claim("worker", 1, "key", 5.0, 1))
        assert (names(claimed.rows), claimed.last_due_at) == (["old-1 fresh"], 3.0)
        again = await journal.claim(ACCOUNT, Claim("worker", 1, "key", 5.0, 1))
        assert names(again.rows) == ["old-1 fresh"]
        assert names(await journal.find_unreported(ACCOUNT, 1)) == []
        control = await journal.find_control(ACCOUNT, "key", 1.5)
        assert control.foreign_id == "old-2 paid"


class RememberingSuite:
    """The tests that every journal passes that keeps texts."""

    async def test_a_text_is_kept_under_its_name_until_another_takes_its_place(self, journal: Any) -> None:
        """By account; what nobody kept is None."""
        assert await journal.recall(ACCOUNT, "sheet") is None
        await journal.remember(ACCOUNT, "sheet", "it's this")
        await journal.remember("another", "sheet", "that")
        await journal.remember(ACCOUNT, "other", "")
        await journal.remember(ACCOUNT, "sheet", "and now this")
        assert await journal.recall(ACCOUNT, "sheet") == "and now this"
        assert await journal.recall("another", "sheet") == "that"
        assert await journal.recall(ACCOUNT, "other") == ""

    async def test_a_text_is_swapped_only_for_the_one_that_is_kept(self, journal: Any) -> None:
        """So that of several who would change it one does; asked again after a lost answer it is done already."""
        assert not await journal.swap(ACCOUNT, "turn", "before", "a")
        assert await journal.recall(ACCOUNT, "turn") is None
        assert await journal.swap(ACCOUNT, "turn", None, "a")
        assert not await journal.swap(ACCOUNT, "turn", None, "b")
        assert not await journal.swap(ACCOUNT, "turn", "b", "c")
        assert await journal.swap(ACCOUNT, "turn", "a", "b")
        swapped = await asyncio.gather(*(journal.swap(ACCOUNT, "turn", "b", f"c{one}") for one in range(9)))
        assert sum(swapped) == 1
        assert await journal.recall(ACCOUNT, "turn") == f"c{swapped.index(True)}"

    async def test_a_callback_is_kept_whole_replayed_and_redacted(self, journal: Any) -> None:
        """One story for every journal: 60 KB are kept, a replay is a line of the history, and the row stays as it is."""
        async with Sandbox("made-up-key", SECRET) as sandbox:
            settings = {"base_url": sandbox.url, "journal": journal}
            async with AlphapoClient("made-up-key", SECRET, **settings) as client:
                payment = asked("f").revision.payment
                assert payment is not None
                paid = await client.withdraw(payment)
                result = {"id": paid.id, "foreign_id": "f", "status": "confirmed", "more": "x" * 60_000}
                body = json.dumps(result).encode()
                headers = Signer("made-up-key", SECRET).headers(body)
                with pytest.raises(ZeroDivisionError):
                    async with client.receive_callback(headers, body):
                        raise ZeroDivisionError
                row = await journal.find(ACCOUNT, "f")
                for status in (None, "confirmed"):
                    async with client.replay_callback("f", status=status) as callback:
                        seen = callback.transaction.id, callback.transaction.status, callback.kind, callback.is_new
                        assert seen == (paid.id, "confirmed", "ours", False)
                async with client.receive_callback(headers, body) as callback:
                    assert callback.is_new, "a replay is no delivery"
                with pytest.raises(CallbackError, match="statuses that it keeps: confirmed"):
                    await client.replay_callback("f", status="pending").__aenter__()
                left = replace(await journal.find(ACCOUNT, "f"), lines=row.lines, counted=row.counted)
                assert same(left, replace(row, checked_at=left.checked_at))
                kept = [line for line in await journal.history(ACCOUNT, "f") if line.kind in ("callback", "replayed")]
                assert [(line.kind, line.count) for line in kept] == [("callback", 2), ("replayed", 2)]
                assert kept[0].reply == body
                if isinstance(journal, Redactable):
                    redact = lambda row: (redacted(row), ())  # noqa: E731 - one use
                    assert await journal.forget(ACCOUNT, "f", redact, keeps_history=True)
                    with pytest.raises(CallbackError, match="keeps no callback"):
                        await client.replay_callback("f").__aenter__()


class ForgettingSuite:
    """The tests that every journal passes that can forget."""

    async def test_a_withdrawal_is_redacted_and_stays_known(self, journal: Any) -> None:
        """Bodies, also of earlier revisions, and AlphaPo's words are gone; id, figure, outcome and history stay."""
        await learn(journal, "f", asked("f", "2"), Released("worker", "queue"), now=1.0)
        await learn(journal, "f", asked("f", "1"), accepted("f"), now=2.0)
        result = Transaction(id="id of f", foreign_id="f", status="confirmed", error="to bc1q-made-up")
        await learn(journal, "f", CalledBack(result, ReplyExcerpt(None, b"bc1q-made-up")), now=3.0)
        await learn(journal, "f", CalledBack(result, ReplyExcerpt(), "address: asked 'a', told 'b'"), now=3.0)
        totals = await journal.totals(ACCOUNT)
        line = Entry(4.0, "redacted", "all", release="1.0")
        forgetting: Redactable = journal
        assert await forgetting.forget(ACCOUNT, "f", lambda row: noted(redacted(row), [line]), keeps_history=True)
        row = await journal.find(ACCOUNT, "f")
        assert (row.revision.body, row.revision.payment, row.revision.number) == (b"", None, 2)
        assert [(one.body, one.number) for one in row.earlier] == [(b"", 1)]
        assert row.revision.is_same_payment(asked("f", "1").revision)
        assert row.earlier[0].is_same_payment(asked("f", "2").revision)
        assert (row.withdrawal.id, row.withdrawal.status) == ("id of f", "confirmed")
        history = [(entry.kind, entry.what, entry.reply) for entry in await journal.history(ACCOUNT, "f")]
        assert history == [
            ("released", "queue", b""),
            ("attempt", "accepted", b""),
            ("callback", "confirmed", b""),
            ("callback", "does not fit", b""),
            ("redacted", "all", b""),
        ]
        assert await journal.totals(ACCOUNT) == totals

    async def test_a_forgotten_withdrawal_takes_what_comes_later(self, journal: Any) -> None:
        """Its figure stays in the sums whatever is written of it."""
        await learn(journal, "f", asked("f", "3"), REFUSED, now=1.0)
        assert await journal.forget(ACCOUNT, "f", buried, keeps_history=False)
        assert await journal.history(ACCOUNT, "f") == []
        await learn(journal, "f", Reported(), LookedUp("w", NoneFound()), now=2.0)
        assert (await journal.totals(ACCOUNT))["BTC"].rejected == Decimal(3)
        again = await learn(journal, "f", asked("f", "3", resend_rejected=True, requested_at=3.0), now=3.0)
        found = await journal.find(ACCOUNT, "f")
        assert same(found, again)
        assert (found.state, found.revision.number, found.revision.body) == ("open", 2, asked("f", "3").revision.body)
        assert (await journal.totals(ACCOUNT))["BTC"] == Totals(requested=Decimal(3), open=Decimal(3))

    async def test_what_is_to_stay_and_what_is_not_known_are_left_alone(self, journal: Any) -> None:
        """And whoever asks is told so."""
        await pay(journal, "f")
        before = await journal.find(ACCOUNT, "f")
        assert not await journal.forget(ACCOUNT, "f", left_alone, keeps_history=True)
        assert not await journal.forget(ACCOUNT, "g", buried, keeps_history=True)
        assert same(await journal.find(ACCOUNT, "f"), before)
