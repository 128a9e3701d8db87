"""What a flight does between the journal and the wire, in virtual time."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from alphapo_async.client import AlphapoClient
from alphapo_async.core.claims import Claim
from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import (
    AlphapoError,
    AuthenticationError,
    ForeignIdConflict,
    JournalError,
    WithdrawalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import CalledBack, Requested, Revision
from alphapo_async.core.history import Change
from alphapo_async.core.models import CryptoAddress, Money, Totals, Transaction, Withdrawal
from alphapo_async.core.replies import INTERNAL_ERROR, NoReply, Reply, mark_never_left
from alphapo_async.core.results import to_outcome
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row, is_frozen
from alphapo_async.core.signer import Signer
from alphapo_async.core.transitions import apply, new_row
from alphapo_async.engine.context import Runtime
from alphapo_async.journal.memory import MemoryJournal
from tests.support.logs import raising_at
from tests.support.virtual import run
from tests.support.wire import (
    EPOCH,
    HTML_502,
    INSUFFICIENT,
    LOST,
    NO_CONNECTION,
    NOT_FOUND,
    TAKEN,
    Durable,
    Wire,
    client,
    reply,
    request,
)

BAD_KEY = reply(403, {"error": "Bad key header", "code": "bad_header_key"})
THROTTLED = reply(429, {"error": "slow down"}, retry_after="3")


def paid(wire: Wire, *, now: Callable[[], float] | None = None, **settings: Any) -> Withdrawal | AlphapoError:
    """Pay one withdrawal in virtual time and return what the caller hears."""

    async def story() -> Withdrawal | AlphapoError:
        async with client(wire, **settings) as alphapo:
            try:
                return await alphapo.withdraw(request())
            except AlphapoError as error:
                return error

    return run(story())


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_programming_error_before_the_request_leaves_is_not_sent(*, is_durable: bool) -> None:
    """It is not retried, and the caller hears that it was no outcome of the network, once that is recorded."""
    wire = Wire([NoReply(INTERNAL_ERROR, may_have_left=False)])

    outcome = paid(wire, journal=Durable() if is_durable else MemoryJournal())

    assert isinstance(outcome, WithdrawalNotSent)
    assert (outcome.reason, wire.posts, wire.look_ups) == ("internal error", 1, 0)
    assert "an internal error; see the log" in str(outcome)


def test_a_programming_error_after_the_handover_is_unknown() -> None:
    """The bytes may have left, and nothing more is tried by this call."""
    wire = Wire([NoReply(INTERNAL_ERROR, may_have_left=True)])

    outcome = paid(wire)

    assert isinstance(outcome, WithdrawalUnknown)
    assert (outcome.reason, wire.posts, wire.look_ups) == ("internal error", 1, 0)


def test_a_programming_error_in_a_look_up_ends_the_flight() -> None:
    """What was in doubt before stays in doubt, and no body follows."""
    wire = Wire([LOST, LOST], [NoReply(INTERNAL_ERROR, may_have_left=False)])

    outcome = paid(wire)

    assert isinstance(outcome, WithdrawalUnknown)
    assert (outcome.reason, wire.posts, wire.look_ups) == ("internal error", 1, 1)


@pytest.mark.parametrize("never_left", [False, True])
def test_what_is_cut_off_before_it_has_a_connection_is_not_in_doubt(*, never_left: bool) -> None:
    """Closing in an outage: a row whose body surely never arrived does not wait for the quiet time."""

    class Connecting(Wire):
        async def exchange(self, *_: Any, **_how: Any) -> NoReply | Reply:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as cancellation:
                if never_left:
                    mark_never_left(cancellation)
                raise
            raise AssertionError

    async def story() -> WithdrawalError:
        async with client(Connecting(), journal=Durable(), close_grace=0.0) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
        with pytest.raises(WithdrawalError) as caught:
            await paying
        return caught.value

    assert isinstance(run(story()), WithdrawalNotSent if never_left else WithdrawalUnknown)


def test_programming_errors_are_no_outage() -> None:
    """They say nothing about AlphaPo: the next withdrawals leave as usual."""

    async def story() -> tuple[list[str], bool]:
        wire = Wire()
        wire.always = NoReply(INTERNAL_ERROR, may_have_left=True)
        async with client(wire) as alphapo:
            outcomes = await asyncio.gather(
                *(alphapo.withdraw(request(f"payout-{number}")) for number in range(30)), return_exceptions=True
            )
            return [getattr(one, "reason", "") for one in outcomes], (await alphapo.health()).is_outage

    assert run(story()) == (["internal error"] * 30, False)


class Mistaken(MemoryJournal):
    """A journal in which a change fails by a mistake in the code, from the second one on."""

    is_durable = True

    def __init__(self, fails: int) -> None:
        super().__init__()
        self.left = fails
        self.changes = 0

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        self.changes += 1
        if self.changes > 1 and self.left:
            self.left -= 1
            raise KeyError("made up")
        return await super().update(account, foreign_id, change, **how)


@pytest.mark.parametrize(("fails", "kind"), [(1, WithdrawalNotSent), (2, WithdrawalUnknown)])
def test_a_programming_error_lets_go_of_the_row(fails: int, kind: type[WithdrawalNotSent | WithdrawalUnknown]) -> None:
    """The row is not left to a worker that does nothing for it; where letting go fails, too, the outcome is unknown."""
    outcome = paid(Wire([NO_CONNECTION]), journal=Mistaken(fails))

    assert isinstance(outcome, kind)
    assert outcome.reason == "internal error"


def test_the_happy_path_is_one_post_and_no_look_up() -> None:
    """One body leaves, nothing is asked, and the reply is returned."""
    wire = Wire()

    outcome = paid(wire)

    assert isinstance(outcome, Withdrawal)
    assert (outcome.source, outcome.foreign_id, wire.posts, wire.look_ups) == ("reply", "payout-17", 1, 0)


@pytest.mark.parametrize(
    ("posts", "look_ups", "outcome", "sent", "asked"),
    [
        pytest.param(["accept, lost"], [], "look-up", 1, 1, id="lost reply, found by look-up"),
        pytest.param([LOST], [], "reply", 2, 1, id="lost body, not found, sent again"),
        pytest.param(
            [LOST, LOST], [HTML_502, HTML_502], "reply", 3, 2, id="an unanswered look-up does not stop the same bytes"
        ),
        pytest.param(
            ["accept, lost"], [NOT_FOUND], "look-up", 2, 2, id="not found yet, sent again, already taken, found"
        ),
        pytest.param(["accept, lost", INSUFFICIENT], [NOT_FOUND], "look-up", 2, 2, id="a later refusal proves nothing"),
        pytest.param(
            ["accept, lost", NO_CONNECTION], [NOT_FOUND], "look-up", 3, 2, id="a later refused connection neither"
        ),
        pytest.param(["silent"], [], "reply", 2, 1, id="a silent server, then the same bytes"),
        pytest.param([NO_CONNECTION, NO_CONNECTION], [], "reply", 3, 0, id="no connection needs no look-up"),
        pytest.param([THROTTLED], [], "reply", 2, 0, id="throttled was not processed"),
        pytest.param([reply(302, {})], [], "reply", 2, 1, id="a redirect is doubt"),
        pytest.param([Reply(200, b"<html></html>", "text/html")], [], "reply", 2, 1, id="HTML 200 is doubt"),
        pytest.param(
            [reply(401, {"errors": {"amount": "no"}})], [], "reply", 2, 1, id="401 is doubt, whatever it says"
        ),
    ],
)
def test_doubt_is_resolved(posts: list[Any], look_ups: list[Any], outcome: str, sent: int, asked: int) -> None:
    """After a doubtful attempt: wait, look up, then the same bytes, in that order, until AlphaPo is known to have it."""
    wire = Wire(posts, look_ups)

    answer = paid(wire)

    assert isinstance(answer, Withdrawal), answer
    assert (answer.source, wire.posts, wire.look_ups) == (outcome, sent, asked)
    assert len(set(wire.bodies["payout-17"])) == 1


@pytest.mark.parametrize(
    ("posts", "look_ups", "error", "sent", "asked"),
    [
        pytest.param(
            [INSUFFICIENT], [], WithdrawalRejected, 1, 1, id="rejected after a look-up, the journal being in memory"
        ),
        pytest.param(
            [INSUFFICIENT], [HTML_502] * 20, WithdrawalUnknown, 1, 9, id="rejected, but nobody answers the look-up"
        ),
        pytest.param([BAD_KEY], [], AuthenticationError, 1, 0, id="a refused key settles at once"),
        pytest.param([LOST, BAD_KEY], [], WithdrawalUnknown, 2, 1, id="a refused key leaves the doubt"),
        pytest.param([TAKEN], [NOT_FOUND] * 20, WithdrawalUnknown, 1, 5, id="taken, and never found"),
        pytest.param(
            [LOST, TAKEN], [NOT_FOUND] * 20, WithdrawalUnknown, 2, 6, id="asked as often where it was asked before"
        ),
        pytest.param([LOST, INSUFFICIENT], [NOT_FOUND] * 20, WithdrawalUnknown, 2, 2, id="refused while in doubt"),
        pytest.param([HTML_502] * 9, [HTML_502] * 20, WithdrawalUnknown, 5, 5, id="nothing readable at all"),
        pytest.param([NO_CONNECTION] * 9, [], WithdrawalNotSent, 5, 0, id="never any connection"),
        pytest.param(
            [reply(429, {}, retry_after="120")], [], WithdrawalNotSent, 1, 0, id="Retry-After beyond the deadline"
        ),
        pytest.param(
            [reply(201, {"data": {"id": 1, "foreign_id": "another"}})],
            [],
            WithdrawalUnknown,
            1,
            5,
            id="201 for another id",
        ),
    ],
)
def test_what_cannot_be_resolved_is_told_as_it_is(
    posts: list[Any], look_ups: list[Any], error: type[AlphapoError], sent: int, asked: int
) -> None:
    """Nothing less certain than a definite "no" without doubt is told as one, and requests stay few."""
    wire = Wire(posts, look_ups)

    outcome = paid(wire)

    assert type(outcome) is error, outcome
    assert (wire.posts, wire.look_ups) == (sent, asked)


def _found(**other: Any) -> Reply:
    result = {
        "id": 9,
        "foreign_id": "payout-17",
        "status": "not_confirmed",
        "crypto_address": {"address": "bc1qmadeup", "tag": None},
        "currency_sent": {"currency": "BTC", "amount": "0.0015"},
    }
    return reply(200, {**result, **other})


def test_another_payment_under_our_id_is_a_conflict() -> None:
    """Taken at the first try, and the look-up shows another address and amount: that is somebody else's payment."""
    other = _found(crypto_address={"address": "bc1qother"}, currency_sent={"currency": "BTC", "amount": "9"})
    wire = Wire([TAKEN], [other])

    outcome = paid(wire)

    assert isinstance(outcome, ForeignIdConflict)
    assert "bc1qother" in str(outcome)


def test_another_payment_after_a_doubtful_attempt_stays_unknown() -> None:
    """With an attempt of ours in doubt, even another payment's figures prove nothing about it."""
    other = _found(crypto_address={"address": "bc1qother"}, currency_sent={"currency": "BTC", "amount": "9"})
    wire = Wire([LOST], [other] * 20)

    outcome = paid(wire)

    assert isinstance(outcome, WithdrawalUnknown)
    assert (outcome.reason, wire.posts) == ("mismatch", 1)
    assert "bc1qother" in str(outcome)


@pytest.mark.parametrize("status", ["cancelled", "declined"])
def test_a_withdrawal_that_alphapo_ended_has_failed(status: str) -> None:
    """A look-up that says cancelled or declined: AlphaPo had it and ended it."""
    wire = Wire(["accept, lost"], [_found(status=status)])

    outcome = paid(wire)

    assert isinstance(outcome, WithdrawalFailed)
    assert outcome.may_release_funds
    assert outcome.transaction is not None
    assert outcome.transaction.status == status


def test_no_retries_is_at_most_one_post_and_one_look_up() -> None:
    """With RetryPolicy.none() a call makes one POST and one look-up, whatever happens."""
    stories: list[tuple[Any, Any]] = [
        (LOST, NOT_FOUND),
        (TAKEN, NOT_FOUND),
        (INSUFFICIENT, HTML_502),
        (NO_CONNECTION, HTML_502),
    ]
    for post, look_up in stories:
        wire = Wire([post] * 3, [look_up] * 3)

        paid(wire, policy=RetryPolicy.none())

        assert wire.posts == 1
        assert wire.look_ups <= 1


def test_attempted_before_looks_up_first() -> None:
    """A row new to the journal that may have been sent before is in doubt: it is looked up before anything is sent."""
    wire = Wire()
    wire._accept("payout-17", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})

    async def story() -> Withdrawal:
        async with client(wire, policy=RetryPolicy.none()) as alphapo:
            return await alphapo.withdraw(request(), attempted_before=True)

    assert run(story()).source == "look-up"
    assert (wire.posts, wire.look_ups) == (0, 1)


def test_retry_after_is_obeyed_within_the_deadline() -> None:
    """The next body leaves no sooner than Retry-After says."""
    wire = Wire([THROTTLED])

    outcome = paid(wire)

    assert isinstance(outcome, Withdrawal)
    (first, _), (second, _) = wire.times
    assert second - first >= 3


def test_retry_after_beyond_the_deadline_ends_at_once() -> None:
    """A wait that would end too late is not begun, and the caller hears how long AlphaPo asked for."""
    wire = Wire([reply(429, {}, retry_after="120")])

    async def story() -> tuple[float, AlphapoError]:
        async with client(wire) as alphapo:
            with pytest.raises(WithdrawalNotSent) as caught:
                await alphapo.withdraw(request(), deadline=10)
            return asyncio.get_running_loop().time(), caught.value

    now, result = run(story())

    assert now < 1
    assert isinstance(result, WithdrawalNotSent)
    assert result.reason == "throttled"
    assert result.retry_after == pytest.approx(120, abs=1)


def test_one_withdrawals_day_long_retry_after_holds_the_others_back_for_a_minute() -> None:
    """Retry-After: 86400 to one withdrawal of many: it is told at once, and the others go on after 60 s at most."""
    wire = Wire()
    throttled = reply(429, {}, retry_after="86400")

    class OneThrottled(Wire):
        async def exchange(self, method: str, url: str, **outcomes: Any) -> Any:
            if b"unlucky" in (outcomes["body"] or b""):
                return throttled
            return await super().exchange(method, url, **outcomes)

    wire = OneThrottled()

    async def story() -> tuple[list[Any], float]:
        async with client(wire) as alphapo:
            with pytest.raises(WithdrawalNotSent) as caught:
                await alphapo.withdraw(request("unlucky"))
            assert caught.value.retry_after == pytest.approx(86_400, abs=1)
            outcomes = await asyncio.gather(*(alphapo.withdraw(request(f"other-{one}")) for one in range(50)))
            return outcomes, asyncio.get_running_loop().time()

    outcomes, now = run(story())

    assert len(outcomes) == 50
    assert 60 <= now < 65


# ── the quiet exit ───────────────────────────────────────────────────────────────────────────────────────────────────


def _quiet_story(wire: Wire, *, control_after: float | None) -> WithdrawalError:
    async def story() -> WithdrawalError:
        async with client(wire, policy=RetryPolicy(quiet=2.0, wait_initial=0.1, deadline=120.0)) as alphapo:
            doubtful = asyncio.ensure_future(alphapo.withdraw(request()))
            if control_after is not None:
                await asyncio.sleep(control_after)
                await alphapo.withdraw(request("another"))
            with pytest.raises(WithdrawalError) as caught:
                await doubtful
            return caught.value

    return run(story())


class _Refusing(Wire):
    """Loses the first body of payout-17 and refuses every later one; notes what is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def exchange(self, method: str, url: str, **output: Any) -> Any:
        body = output["body"] or b""
        if method == "POST" and b"payout-17" in body:
            self.bodies["payout-17"].append(body)
            return LOST if len(self.bodies["payout-17"]) == 1 else INSUFFICIENT
        if method == "GET":
            self.asked.append(msgspec.json.decode(body)["foreign_id"])
        return await super().exchange(method, url, **output)


def test_the_quiet_exit_needs_its_control() -> None:
    """Quiet, refused, not found, a control seen, not found again: rejected; without a control it stays unknown."""
    assert isinstance(_quiet_story(_Refusing(), control_after=4.0), WithdrawalRejected)
    assert isinstance(_quiet_story(_Refusing(), control_after=None), WithdrawalUnknown)


def test_a_control_from_within_the_quiet_time_proves_nothing() -> None:
    """What was lost may have been accepted after such a control, and be shown after it."""
    assert isinstance(_quiet_story(_Refusing(), control_after=1.5), WithdrawalUnknown)


def test_the_last_word_of_the_quiet_exit_is_asked_after_the_control() -> None:
    """The control is seen first; only then does a "none" for our own foreign_id count."""
    wire = _Refusing()
    _quiet_story(wire, control_after=4.0)
    assert wire.asked[-3:] == ["payout-17", "another", "payout-17"]


# ── too old to be sent again ─────────────────────────────────────────────────────────────────────────────────────────


class _Busy(Wire):
    """Loses the first body of payout-17, and keeps its only slot busy with another withdrawal that gets no answer."""

    def __init__(self) -> None:
        super().__init__([LOST], [NOT_FOUND] * 20, seconds=1.0, max_connections=1)

    async def exchange(self, method: str, url: str, **output: Any) -> Any:
        if method == "POST" and b"another" in (output["body"] or b""):
            await asyncio.sleep(output["timeout"])
            return LOST
        return await super().exchange(method, url, **output)


def test_a_body_that_grew_too_old_in_the_queue_is_not_sent() -> None:
    """By the time it gets its slot, it might arrive when AlphaPo has freed the foreign_id: only look-ups follow."""
    wire = _Busy()
    policy = RetryPolicy(attempt_timeout=10.0, resend_within=14.0, quiet=0.0, wait_initial=0.1)

    async def story() -> WithdrawalError:
        async with client(wire, policy=policy) as alphapo:
            doubtful = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1.5)  # its look-up is under way
            another = asyncio.ensure_future(alphapo.withdraw(request("another"), deadline=12.0))
            outcomes = await asyncio.gather(doubtful, another, return_exceptions=True)
            assert isinstance(outcomes[0], WithdrawalError)
            return outcomes[0]

    assert isinstance(run(story()), WithdrawalUnknown)
    assert len(wire.bodies["payout-17"]) == 1
    assert wire.look_ups > 1


# ── rows of others ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_caller_takes_over_what_a_dead_worker_held() -> None:
    """As soon as that worker's lease is over: looked up, since it may have sent, and then paid."""
    wire, journal = Wire(), Durable()

    async def story() -> float:
        await journal.join("default", "loopback", "ghost", EPOCH + 5)
        payment = request()
        asked = Requested(
            "ghost", Revision(encode_body(payment), payment), Signer("made-up-key", "made-up-secret").fingerprint
        )
        await journal.update(
            "default", "payout-17", lambda _: (new_row("default", "payout-17", asked, EPOCH, is_durable=True), ())
        )
        async with client(wire, journal=journal) as alphapo:
            await alphapo.withdraw(payment)
            return asyncio.get_running_loop().time()

    assert 5 <= run(story()) < 6
    assert (wire.look_ups, wire.posts) == (1, 1)


def test_on_a_worker_s_rounds_a_row_has_one_round() -> None:
    """Nothing in doubt is sent again within the quiet time, and nothing at all if sending again is not wanted."""

    async def output(*, may_resend: bool, seconds: float) -> int:
        wire, journal = Wire([LOST]), Durable()
        async with client(wire, journal=journal, policy=RetryPolicy(attempts=1, quiet=30.0)) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            await asyncio.sleep(seconds)
            async for _ in alphapo.resume(resend=may_resend):
                pass
        return wire.posts

    assert run(output(may_resend=True, seconds=1)) == 1
    assert run(output(may_resend=True, seconds=31)) == 2
    assert run(output(may_resend=False, seconds=31)) == 1


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_callback_that_shows_an_end_keeps_the_flight_from_sending_again(*, is_durable: bool) -> None:
    """Whatever the journal: the flight that waits for its retry follows the callback, and looks up until the end is settled."""
    journal = Durable() if is_durable else MemoryJournal()
    wire = Wire(["accept, lost"] * 5, [HTML_502] * 9)

    async def story() -> WithdrawalUnknown:
        async with client(wire, journal=journal, policy=RetryPolicy(wait_initial=5.0)) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.05)
            row, seen = alphapo._registry.flights["payout-17"].row, _heard_elsewhere("cancelled")
            known = await journal.update("default", "payout-17", lambda found: (apply(found or row, seen, EPOCH), ()))
            alphapo._registry.flights["payout-17"].take_over(known)
            with pytest.raises(WithdrawalUnknown) as caught:
                await paying
            return caught.value

    outcome = run(story())
    assert (outcome.reason, wire.posts) == ("ended", 1)
    assert "AlphaPo shows it cancelled, and an earlier attempt may still arrive." in str(outcome)


def test_an_open_row_tells_a_flight_nothing_new() -> None:
    """The flight itself knows more of it."""
    journal = Durable()

    async def story() -> tuple[bool, bool]:
        async with client(Wire(seconds=1.0), journal=journal) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.5)
            flight = alphapo._registry.flights["payout-17"]
            known = flight.row
            flight.take_over(msgspec.structs.replace(known, reason="another"))
            return flight.row is known, (await paying).status == "processing"

    assert run(story()) == (True, True)


def test_bodies_of_a_pass_that_queue_are_not_sent_under_a_refused_key() -> None:
    """They give up their places, and the rows stay open."""
    wire, journal = Wire(max_connections=1), Durable()
    wire.always = BAD_KEY

    async def story() -> list[str]:
        async with client(wire, journal=journal) as alphapo:
            for name in "abc":
                await alphapo.enqueue(request(name), expires_in=1_000.0)
            return [result.outcome async for result in alphapo.resume()]

    assert run(story()) == ["unknown"] * 3
    assert wire.posts == 1


# ── the journal fails ────────────────────────────────────────────────────────────────────────────────────────────────


class Failing(MemoryJournal):
    """A journal that raises at the given updates, counted from 1, and works otherwise."""

    def __init__(self, *at: int, is_durable: bool = True) -> None:
        super().__init__()
        self.is_durable = is_durable
        self._at = at
        self._count = 0

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        self._count += 1
        if self._count in self._at:
            raise JournalError("The disk is full.")
        return await super().update(account, foreign_id, change, **how)


def test_nothing_is_sent_that_is_not_written_down() -> None:
    """The journal refuses the record: nothing leaves, and the caller hears it."""
    wire = Wire()

    outcome = paid(wire, journal=Failing(1))

    assert isinstance(outcome, JournalError)
    assert (outcome.foreign_id, outcome.may_release_funds, wire.posts) == ("payout-17", True, 0)


def test_an_acceptance_is_told_although_the_journal_fails() -> None:
    """Good news needs no journal."""
    assert isinstance(paid(Wire(), journal=Failing(2)), Withdrawal)


def test_a_no_that_cannot_be_written_down_is_unknown() -> None:
    """A refusal that the journal does not take is not told as one."""
    outcome = paid(Wire([INSUFFICIENT]), journal=Failing(2, 3, 4))

    assert isinstance(outcome, WithdrawalUnknown)
    assert outcome.reason == "journal"


def test_doubt_that_the_journal_missed_is_offered_again() -> None:
    """An unwritten doubt goes in with the next evidence, so that a later refusal cannot settle the row."""
    journal = Failing(2)
    wire = Wire([LOST, INSUFFICIENT], [NOT_FOUND] * 20)

    outcome = paid(wire, journal=journal)

    assert isinstance(outcome, WithdrawalUnknown)
    assert outcome.reason == "refused"


class Silent(Durable):
    """A journal that writes the given updates, counted from 1, and loses its answer to them."""

    def __init__(self, *at: int) -> None:
        super().__init__()
        self._at = at
        self._count = 0

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        self._count += 1
        written = await super().update(account, foreign_id, change, **how)
        if self._count in self._at:
            raise JournalError("The answer was lost.", recorded=None)
        return written


def test_a_no_is_written_down_as_soon_as_the_journal_takes_it() -> None:
    """Its event comes then, and not before; whoever asks in between hears that nobody can say yet."""
    journal = Failing(2, 3, 4)
    events: list[Event] = []

    async def story() -> tuple[Row | None, list[object], str]:
        alphapo = client(Wire([INSUFFICIENT]), journal=journal, on_event=events.append)
        async with alphapo:
            with pytest.raises(WithdrawalUnknown, match="could not record"):
                await alphapo.withdraw(request())
            before: list[object] = [event.name for event in events]
            with pytest.raises(WithdrawalUnknown) as again:
                await alphapo.withdraw(request())
            await asyncio.sleep(10)
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            return await journal.find("default", "payout-17"), before, again.value.reason

    row, before, again = run(story())
    assert row is not None
    assert (row.state, again) == ("rejected", "journal")
    assert "settled" not in before
    assert [event.name for event in events].count("settled") == 1


def test_a_row_that_was_taken_on_unheard_is_let_go_of() -> None:
    """The answer was lost, nothing was sent, and the row stays open for whoever resumes, without a doubt."""
    journal, wire = Silent(1), Wire()

    async def story() -> list[str]:
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(JournalError) as answer:
                await alphapo.withdraw(request())
            assert answer.value.recorded is None
            await asyncio.sleep(2)
            row = await journal.find("default", "payout-17")
            assert row is not None
            assert (row.state, row.holder, row.doubt_since, wire.posts) == ("open", None, None, 0)
            return [result.outcome async for result in alphapo.resume()]

    assert run(story()) == ["accepted"]


def test_a_row_that_was_not_taken_on_is_left_alone() -> None:
    """Nobody could say whether it was written down, and it was not."""

    class Lost(Durable):
        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            raise JournalError("The connection was lost.", recorded=None)

    journal = Lost()

    async def story() -> Row | None:
        async with client(Wire(), journal=journal) as alphapo:
            with pytest.raises(JournalError):
                await alphapo.withdraw(request())
            await asyncio.sleep(2)
            assert "0 in flight" in repr(alphapo)
            return await journal.find("default", "payout-17")

    assert run(story()) is None


def _heard_elsewhere(status: str) -> CalledBack:
    place = CryptoAddress(address="bc1qmadeup")
    money = Money(currency="BTC", amount=Decimal("0.0015"))
    result = Transaction(id=7, foreign_id="payout-17", status=status, crypto_address=place, currency_sent=money)
    return CalledBack(result)


@pytest.mark.parametrize(
    ("posts", "status", "expected"),
    [
        pytest.param("accept, lost", "cancelled", WithdrawalUnknown, id="and a second attempt may be under way"),
        pytest.param("accept, lost", "confirmed", Withdrawal, id="a look-up brings it to light"),
        pytest.param(NO_CONNECTION, "cancelled", WithdrawalFailed, id="the journal says so before a retry"),
        pytest.param(NO_CONNECTION, "confirmed", Withdrawal, id="paid from elsewhere"),
    ],
)
def test_what_a_callback_settled_elsewhere_is_not_sent_again(posts: Any, status: str, expected: type) -> None:
    """Another process heard of it; the one that waits to send it again asks the journal first."""
    journal, wire = Durable(), Wire([posts] * 5, [HTML_502] * 9)

    async def story() -> Withdrawal | WithdrawalError:
        async with client(wire, journal=journal, policy=RetryPolicy(wait_initial=5.0)) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.05)
            row = await journal.find("default", "payout-17")
            assert row is not None
            seen = _heard_elsewhere(status)
            await journal.update("default", "payout-17", lambda known: (apply(known or row, seen, EPOCH), ()))
            (outcome,) = await asyncio.gather(paying, return_exceptions=True)
            assert isinstance(outcome, Withdrawal | WithdrawalError)
            return outcome

    assert isinstance(run(story()), expected)
    assert wire.posts == 1


class Unreadable(Durable):
    """A journal that cannot be read for a while."""

    def __init__(self, *, stands_still: bool = False) -> None:
        super().__init__()
        self.is_unreadable = True
        self._stands_still = stands_still

    async def find(self, account: str, foreign_id: str) -> Row | None:
        if self._stands_still:
            await asyncio.sleep(1_000)
        if self.is_unreadable:
            raise JournalError("The journal cannot be read.")
        return await super().find(account, foreign_id)


def test_a_retry_waits_until_the_journal_can_be_read() -> None:
    """Whoever cannot ask sends nothing, and tries again."""
    journal, wire = Unreadable(), Wire([NO_CONNECTION])

    async def story() -> int:
        async with client(wire, journal=journal, policy=RetryPolicy(wait_initial=1.0)) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(8)
            posts = wire.posts
            journal.is_unreadable = False
            await paying
            return posts

    assert run(story()) == 1
    assert wire.posts == 2


def test_a_retry_waits_where_alphapo_asks_for_it_while_the_journal_is_asked() -> None:
    """It had its turn, and the journal took long: another withdrawal was throttled meanwhile."""
    wire = Wire([NO_CONNECTION])

    class Slow(Durable):
        """A journal that takes three seconds to be read for the first time."""

        seconds = 3.0

        async def find(self, account: str, foreign_id: str) -> Row | None:
            seconds, self.seconds = self.seconds, 0.0
            await asyncio.sleep(seconds)
            return await super().find(account, foreign_id)

    async def story() -> tuple[int, int]:
        async with client(wire, journal=Slow(), policy=RetryPolicy(wait_initial=1.0)) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request("a")))
            await asyncio.sleep(2)
            wire.scripts["POST"] = [reply(429, {"error": "slow down"}, retry_after="20")]
            other = asyncio.ensure_future(alphapo.withdraw(request("b")))
            await asyncio.sleep(10)
            before = wire.posts
            await asyncio.gather(paying, other)
            return before, wire.posts

    assert run(story()) == (2, 4)


def test_closing_while_the_journal_is_asked_gives_the_slot_back() -> None:
    """Nothing was sent after the first, and no slot is lost."""
    journal, wire = Unreadable(stands_still=True), Wire([NO_CONNECTION])

    async def story() -> WithdrawalError:
        alphapo = client(wire, journal=journal, close_grace=0.0)
        paying = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(8)
        await alphapo.aclose()
        with pytest.raises(WithdrawalError) as result:
            await paying
        return result.value

    outcome = run(story())
    assert isinstance(outcome, WithdrawalNotSent)
    assert (outcome.reason, wire.posts, wire.slots.free) == ("closed", 1, 100)


def test_another_payment_waits_until_the_row_is_let_go_of() -> None:
    """Only then is it known whose the foreign_id is."""

    async def story() -> float:
        async with client(Wire(), journal=Silent(1)) as alphapo:
            with pytest.raises(JournalError):
                await alphapo.withdraw(request())
            with pytest.raises(ForeignIdConflict):
                await alphapo.withdraw(request(amount="7"))
            return asyncio.get_running_loop().time()

    assert 1 <= run(story()) < 2


def test_what_the_journal_never_takes_ends_with_the_client() -> None:
    """A "not sent" that cannot be written down at closing is not told; and nothing waits for the journal for ever."""
    journal = Failing(*range(2, 100))

    async def story() -> tuple[WithdrawalError, float]:
        alphapo = client(Wire(["silent"] * 9), journal=journal, close_grace=0.0)
        paying = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(0)
        await alphapo.aclose()
        with pytest.raises(WithdrawalError) as result:
            await paying
        return result.value, asyncio.get_running_loop().time()

    result, seconds = run(story())
    assert isinstance(result, WithdrawalUnknown)
    assert (result.reason, seconds < 6) == ("journal", True)


def test_a_durable_journal_needs_no_look_up_for_a_refusal() -> None:
    """With a journal that outlives the process, a refusal with no doubt on record settles at once."""
    wire = Wire([INSUFFICIENT])

    assert isinstance(paid(wire, journal=Failing()), WithdrawalRejected)
    assert wire.look_ups == 0


# ── keys, holders and what the journal knows ─────────────────────────────────────────────────────────────────────────


def test_a_row_in_doubt_goes_out_under_its_own_key() -> None:
    """After a key rotation a row in doubt is looked up and sent again under the key it was signed with."""
    journal = MemoryJournal()
    wire = Wire(["accept, lost"], [HTML_502])

    async def story() -> Withdrawal:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as old:
            with pytest.raises(WithdrawalUnknown):
                await old.withdraw(request())
        wire.headers.clear()
        rotated = client(wire, journal=journal, retired_keys=[("made-up-key", "made-up-secret")])
        rotated._engine.context.signer = Signer("newer-key", "newer-secret")
        rotated._engine.context.signers = {
            **rotated._engine.context.signers,
            rotated._engine.context.signer.fingerprint: rotated._engine.context.signer,
        }
        async with rotated:
            return await rotated.withdraw(request())

    assert run(story()).source == "look-up"
    assert {headers["X-Processing-Key"] for headers in wire.headers} == {"made-up-key"}


def test_a_row_in_doubt_under_an_unknown_key_is_left_alone() -> None:
    """Without its key nothing is sent or asked for a row in doubt: another key's look-up would prove nothing."""
    journal = MemoryJournal()
    wire = Wire(["accept, lost"], [HTML_502])

    async def story() -> WithdrawalError:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as old:
            with pytest.raises(WithdrawalUnknown):
                await old.withdraw(request())
        wire.times.clear()
        strange = client(wire, journal=journal)
        strange._engine.context.signers = {}
        async with strange:
            with pytest.raises(WithdrawalUnknown) as caught:
                await strange.withdraw(request())
            return caught.value

    outcome = run(story())

    assert isinstance(outcome, WithdrawalUnknown)
    assert re.search(
        r"it was signed with the key of fingerprint \w+, which is not among this client's keys: name that key",
        str(outcome),
    )
    assert wire.times == []


def test_a_row_that_another_worker_holds_is_waited_for() -> None:
    """Two clients share a journal: the second waits for the first one's outcome instead of sending."""
    journal = MemoryJournal()
    wire = Wire(seconds=1.0)

    async def story() -> list[Withdrawal]:
        async with client(wire, journal=journal) as one, client(wire, journal=journal) as other:
            return list(await asyncio.gather(one.withdraw(request()), other.withdraw(request())))

    outcome = run(story())

    assert [withdrawal.source for withdrawal in outcome] == ["reply", "journal"]
    assert wire.posts == 1


def test_a_row_held_beyond_the_deadline_is_unknown() -> None:
    """The holder is slower than the other caller's deadline."""
    journal = MemoryJournal()
    wire = Wire(seconds=10.0)

    async def story() -> WithdrawalError:
        async with client(wire, journal=journal) as one, client(wire, journal=journal) as other:
            first = asyncio.ensure_future(one.withdraw(request()))
            await asyncio.sleep(0.1)
            with pytest.raises(WithdrawalUnknown) as caught:
                await other.withdraw(request(), deadline=1.0)
            await first
            return caught.value

    outcome = run(story())

    assert isinstance(outcome, WithdrawalUnknown)
    assert outcome.reason == "held"


def test_waiting_for_another_worker_adds_one_line_to_the_history() -> None:
    """A caller looks at a held row many times; the history has its request once, and is not written at each look."""
    journal, wire = Durable(), Wire(seconds=10.0)

    async def story() -> list[tuple[str, int]]:
        async with client(wire, journal=journal) as one, client(wire, journal=journal) as other:
            first = asyncio.ensure_future(one.withdraw(request()))
            await asyncio.sleep(0.1)
            with pytest.raises(WithdrawalUnknown):
                await other.withdraw(request(), deadline=5.0)
            await first
            lines = await journal.history("default", "payout-17")
            return [(line.what, line.count) for line in lines if line.kind == "request"]

    assert run(story()) == [("recorded", 1), ("open already", 1)]


def test_a_journal_that_is_slower_than_the_deadline_is_told_as_such() -> None:
    """Nothing was sent by then; what it writes down later is sent all the same, and calling again shares it."""

    class Slow(MemoryJournal):
        """A journal that takes its time."""

        async def update(self, *row: Any, **how: Any) -> Row:
            """Write down, late."""
            await asyncio.sleep(3)
            return await super().update(*row, **how)

    wire = Wire()

    async def story() -> str:
        async with client(wire, journal=Slow()) as alphapo:
            with pytest.raises(
                JournalError, match=r"by this call\. The journal has not answered in time\. An earlier"
            ) as caught:
                await alphapo.withdraw(request(), deadline=1.0)
            assert (caught.value.recorded, wire.posts) == (None, 0)
            return str((await alphapo.withdraw(request())).status)

    assert run(story()) == "processing"
    assert wire.posts == 1


def test_a_settled_row_is_told_from_the_journal() -> None:
    """The same request again is answered without a request; a rejection is raised again unless it is to be sent again."""
    wire = Wire([INSUFFICIENT])

    async def story() -> list[Any]:
        seen: list[Any] = []

        async def learn(call: Awaitable[Withdrawal]) -> None:
            try:
                seen.append((await call).source)
            except WithdrawalError as error:
                seen.append(error.outcome)

        async with client(wire) as alphapo:
            await learn(alphapo.withdraw(request()))
            await learn(alphapo.withdraw(request()))
            await learn(alphapo.withdraw(request(), resend_rejected=True))
            await learn(alphapo.withdraw(request()))
            await learn(alphapo.withdraw(request(amount="0.00150")))
            await learn(alphapo.withdraw(request(amount="7")))
            with pytest.raises(ForeignIdConflict, match=r"\(another address, amount; that one is accepted\)"):
                await alphapo.withdraw(request(amount="7", address="bc1qother"))
        return seen

    assert run(story()) == ["rejected", "rejected", "reply", "journal", "journal", "conflict"]
    assert wire.posts == 2


def test_a_corrected_payload_is_the_next_revision() -> None:
    """After a definite "no" the same foreign_id takes another payload, and totals count it once."""
    wire = Wire([INSUFFICIENT])

    async def story() -> tuple[Withdrawal, dict[str, Totals]]:
        async with client(wire) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request(amount="5"))
            outcome = await alphapo.withdraw(request(amount="4"))
            return outcome, await alphapo.totals()

    outcome, totals = run(story())

    assert outcome.sender_amount == 4
    assert totals["BTC"].requested == totals["BTC"].accepted == 4


# ── outage, waiting and the end ──────────────────────────────────────────────────────────────────────────────────────


def test_an_outage_ends_a_withdrawal_that_never_left_at_its_deadline() -> None:
    """Who is kept from a slot by an outage hears so at the policy's deadline, counted from the outage."""
    wire = Wire()
    wire.always = HTML_502

    async def story() -> tuple[list[Any], float]:
        async with client(wire, policy=RetryPolicy(deadline=5.0)) as alphapo:
            outcomes = await asyncio.gather(
                *(alphapo.withdraw(request(f"payout-{one}")) for one in range(300)), return_exceptions=True
            )
            return outcomes, asyncio.get_running_loop().time()

    outcomes, now = run(story())

    never_left = [one for one in outcomes if isinstance(one, WithdrawalNotSent)]
    assert len(never_left) > 150
    assert {one.reason for one in never_left} == {"outage"}
    assert now < 6


def test_who_comes_in_the_midst_of_an_outage_waits_no_longer() -> None:
    """What queues behind the probes hears of it at the policy's deadline, though the outage began before it came."""
    wire = Wire()
    wire.always = HTML_502

    async def story() -> float:
        loop = asyncio.get_running_loop()
        async with client(wire, policy=RetryPolicy(deadline=5.0)) as alphapo:
            early = (alphapo.withdraw(request(f"early-{one}")) for one in range(50))
            await asyncio.gather(*early, return_exceptions=True)
            began = loop.time()
            assert (await alphapo.health()).is_outage
            late = (alphapo.withdraw(request(f"late-{one}")) for one in range(50))
            outcomes = await asyncio.gather(*late, return_exceptions=True)
            assert sum(isinstance(one, WithdrawalNotSent) and one.reason == "outage" for one in outcomes) > 40
            return loop.time() - began

    assert run(story()) < 6


def test_a_cancelled_flight_leaves_its_row_in_doubt() -> None:
    """Closing without grace cancels what is on the wire: the caller hears so, and the row can still be resolved."""
    journal = MemoryJournal()
    wire = Wire(["silent"])

    async def story() -> WithdrawalError:
        alphapo = client(wire, journal=journal)
        paying = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(1)
        await alphapo.aclose(grace=0)
        with pytest.raises(WithdrawalUnknown) as caught:
            await paying
        row = await journal.find("default", "payout-17")
        assert row is not None
        assert row.doubt_since is not None
        assert row.holder is None
        assert row.reason == "interrupted"  # "cancelled" is AlphaPo's word for a withdrawal that it ended
        return caught.value

    outcome = run(story())

    assert isinstance(outcome, WithdrawalUnknown)
    assert outcome.reason == "closing"


def test_a_flight_that_never_left_is_told_closed() -> None:
    """Closing while a withdrawal queues for a slot: nothing left, and that is said."""
    wire = Wire(["silent", "silent"], max_connections=1)

    async def story() -> list[Any]:
        alphapo = client(wire)
        calls = [asyncio.ensure_future(alphapo.withdraw(request(f"payout-{one}"))) for one in range(2)]
        await asyncio.sleep(1)
        await alphapo.aclose(grace=0)
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second = run(story())

    assert isinstance(first, WithdrawalUnknown)
    assert isinstance(second, WithdrawalNotSent)
    assert second.reason == "closed"


class Slow(MemoryJournal):
    """A journal that takes a second to write."""

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        await asyncio.sleep(1)
        return await super().update(account, foreign_id, change, **how)


def test_closing_before_the_journal_has_answered_is_unknown() -> None:
    """Nobody knows yet what the journal knew of it, so nothing more certain than unknown is told."""

    async def story() -> WithdrawalError:
        alphapo = client(Wire(), journal=Slow())
        paying = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(0.5)
        await alphapo.aclose(grace=0)
        with pytest.raises(WithdrawalUnknown) as caught:
            await paying
        return caught.value

    outcome = run(story())

    assert isinstance(outcome, WithdrawalUnknown)
    assert outcome.reason == "closing"


def test_another_payload_waits_until_it_is_known_who_has_the_row() -> None:
    """While the journal is being asked for one payload, another one waits; once a flight has the row, it is a conflict at once."""

    async def story() -> tuple[list[Any], float]:
        wire = Wire(seconds=10)
        async with client(wire, journal=Slow(), close_grace=60) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(2)
            with pytest.raises(ForeignIdConflict):
                await alphapo.withdraw(request(amount="7"))
            now = asyncio.get_running_loop().time()
            early = asyncio.ensure_future(alphapo.withdraw(request("other")))
            await asyncio.sleep(0)
            late = asyncio.ensure_future(alphapo.withdraw(request("other", amount="7")))
            outcomes = await asyncio.gather(first, early, late, return_exceptions=True)
        return list(outcomes), now

    (first, early, late), now = run(story())

    assert now == 2
    assert isinstance(first, Withdrawal)
    assert isinstance(early, Withdrawal)
    assert isinstance(late, ForeignIdConflict)


class Uncontrolled(MemoryJournal):
    """A journal that cannot look for a control."""

    async def find_control(self, account: str, key: str, after: float) -> Row | None:
        raise JournalError("The index is broken.")


def test_without_its_control_the_quiet_exit_stays_shut() -> None:
    """A journal that cannot name a control leaves the row unknown."""

    async def story() -> Withdrawal:
        policy = RetryPolicy(quiet=2.0, wait_initial=0.1, deadline=120.0)
        async with client(_Refusing(), policy=policy, journal=Uncontrolled()) as alphapo:
            return await alphapo.withdraw(request())

    with pytest.raises(WithdrawalUnknown):
        run(story())


def test_what_is_written_down_after_the_deadline_is_not_sent() -> None:
    """Nobody waits for it any more: it ends as not sent, and can be asked for again."""
    wire, journal = Wire(), Slow()

    async def story() -> str:
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(JournalError, match="not answered in time"):
                await alphapo.withdraw(request(), deadline=0.5)
            await asyncio.sleep(5)
            row = await journal.find("default", "payout-17")
            assert row is not None
            return row.state

    assert run(story()) == "not_sent"
    assert wire.posts == 0


def test_at_the_deadline_nothing_new_begins() -> None:
    """A look-up that outlasts the deadline is the last thing the flight does."""
    wire = Wire([LOST], ["silent"])

    async def story() -> WithdrawalError:
        async with client(wire, close_grace=60) as alphapo:
            with pytest.raises(WithdrawalUnknown) as caught:
                await alphapo.withdraw(request(), deadline=5.0)
            assert asyncio.get_running_loop().time() == pytest.approx(5.0)
            return caught.value

    outcome = run(story())

    assert isinstance(outcome, WithdrawalUnknown)
    assert outcome.reason == "in flight"
    assert outcome.attempts == 1
    assert (wire.posts, wire.look_ups) == (1, 1)


def test_a_look_up_that_finds_no_slot_in_time_is_not_made() -> None:
    """In doubt, and the only slot is taken until the deadline: unknown, at the deadline."""
    wire = Wire([LOST], max_connections=1)

    class Busy(Wire):
        async def exchange(self, method: str, url: str, **output: Any) -> Any:
            if url.endswith("/ping"):
                await asyncio.sleep(1000)
            return await super().exchange(method, url, **output)

    wire = Busy([LOST], max_connections=1)

    async def story() -> float:
        async with client(wire, close_grace=0) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request(), deadline=5.0))
            await asyncio.sleep(0.001)
            ping = asyncio.ensure_future(alphapo.ping())
            with pytest.raises(WithdrawalUnknown):
                await paying
            now = asyncio.get_running_loop().time()
            ping.cancel()
            return now

    assert run(story()) == pytest.approx(5.0)
    assert wire.posts == 1
    assert wire.look_ups == 0


# ── a callback meanwhile ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_callback_during_a_backoff_ends_the_flight_without_another_request() -> None:
    """The flight hears of it, and neither asks nor sends again."""
    wire, signer = Wire([LOST, LOST], [NOT_FOUND] * 9), Signer("made-up-key", "made-up-secret")
    body = (
        b'{"id":7,"foreign_id":"payout-17","type":"withdrawal","status":"confirmed",'
        b'"currency_sent":{"currency":"BTC","amount":"0.0015"},"crypto_address":{"address":"bc1qmadeup"}}'
    )

    async def story() -> Withdrawal:
        policy = RetryPolicy(wait_initial=20.0, wait_max=20.0)
        async with client(wire, journal=Durable(), policy=policy) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.1)
            async with alphapo.receive_callback(signer.headers(body), body):
                pass
            return await paying

    assert run(story()).status == "confirmed"
    assert (wire.posts, wire.look_ups) == (1, 0)


def test_a_callback_while_it_queues_ends_the_flight_without_a_request() -> None:
    """Another process has sent it: when its turn comes there is nothing left to do."""
    wire, signer = Wire(["silent"], max_connections=1), Signer("made-up-key", "made-up-secret")
    body = (
        b'{"id":7,"foreign_id":"payout-17","type":"withdrawal","status":"confirmed",'
        b'"currency_sent":{"currency":"BTC","amount":"0.0015"},"crypto_address":{"address":"bc1qmadeup"}}'
    )

    async def story() -> str | None:
        async with client(wire, journal=Durable(), policy=RetryPolicy.none()) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request("first")))
            await asyncio.sleep(0.1)
            queueing = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.1)
            async with alphapo.receive_callback(signer.headers(body), body):
                pass
            result = await queueing
            await asyncio.gather(first, return_exceptions=True)
            return result.status

    assert run(story()) == "confirmed"
    assert wire.bodies["payout-17"] == []


@pytest.mark.parametrize(
    ("first", "expected", "posts", "seconds"),
    [(NO_CONNECTION, "not_sent no connection", 1, 9.0), (LOST, "accepted", 2, 12.0)],
)
def test_a_flight_in_its_backoff_is_let_go_of_where_nothing_has_arrived(
    first: Any, expected: str, posts: int, seconds: float
) -> None:
    """It ends with the pause, as not sent; what is in doubt goes on to its end."""
    wire = Wire([first])

    async def story() -> tuple[str, float]:
        policy = RetryPolicy(wait_initial=18.0, wait_max=18.0)
        async with client(wire, journal=Durable(), policy=policy) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request("a")))
            await asyncio.sleep(1)
            (flight,) = alphapo._registry.flights.values()
            flight.let_go(flight.waiters._all[0].future)
            try:
                await paying
            except WithdrawalNotSent as error:
                return f"{error.outcome} {error.reason}", asyncio.get_running_loop().time()
            return "accepted", asyncio.get_running_loop().time()

    outcome, ended = run(story())
    assert (outcome, wire.posts) == (expected, posts)
    assert ended <= seconds


def test_a_claimed_row_that_has_not_begun_lets_its_caller_go_at_once() -> None:
    """Its turn may be far away; it comes as if the caller had not joined."""

    async def story() -> tuple[list[Any], int]:
        async with client(Wire(), journal=Durable()) as alphapo:
            await alphapo.enqueue(request())
            await alphapo._engine.claims.refill(1)
            [flight] = alphapo._registry.flights.values()
            results: list[Any] = []
            flight.let_go(flight.waiters.join_with(results.append, fail_fast_in_outage=True))
            return [(result.detail, result.row.state) for result in results], flight.waiters.is_joined

    assert run(story()) == ([("queue", "open")], False)


def test_a_flight_on_the_wire_is_let_go_of_only_before_its_first_slot() -> None:
    """What has begun goes on for him who let go of it, to a second attempt if need be."""
    wire = Wire([LOST])

    async def story() -> tuple[Any, Any]:
        async with client(wire, max_rate=0.1) as alphapo:
            begun, queues = (asyncio.ensure_future(alphapo.withdraw(request(name))) for name in ("begun", "queues"))
            await asyncio.sleep(0.005)
            for flight in alphapo._registry.flights.values():
                flight.let_go(flight.waiters._all[0].future)
            return await asyncio.gather(begun, queues, return_exceptions=True)

    begun, queues = run(story())
    assert begun.foreign_id == "begun"
    assert (queues.outcome, queues.reason) == ("not_sent", "queue")
    assert wire.posts == 2


# ── a "no" stands when it is told ────────────────────────────────────────────────────────────────────────────────────


ONCE = RetryPolicy(attempts=1)


def set_back_world(when: float, by: float) -> Runtime:
    """Return a world whose clock is set back, then and by so many seconds."""
    loop = asyncio.get_running_loop()
    return Runtime(lambda: EPOCH + loop.time() - (by if loop.time() >= when else 0.0), lambda: 0.5, asyncio.sleep)


class FlightResult(Durable):
    """A journal with a clock of its own."""

    async def time(self) -> float:  # type: ignore[override]
        return EPOCH + asyncio.get_running_loop().time()


class Late(Durable):
    """A journal whose writes are seen by others at once, and acknowledged late: each by so many seconds, the last of them for ever."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self._seconds = list(seconds)

    async def update(self, *args: Any, **how: Any) -> Row:
        row = await super().update(*args, **how)
        await asyncio.sleep(self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0])
        return row


async def _heard(alphapo: Any, after: float) -> tuple[str, float]:
    """Call after so many seconds; return what was told, and when."""
    await asyncio.sleep(after)
    try:
        result = (await alphapo.withdraw(request())).status
    except WithdrawalError as error:
        result = error.outcome if error.may_release_funds else f"unknown: {getattr(error, 'reason', '')}"
    return str(result), round(asyncio.get_running_loop().time(), 1)


class LateNo(Durable):
    """A journal whose first worker hears three seconds late of the rejections that it writes."""

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        before = await self.find(account, foreign_id)
        row = await super().update(account, foreign_id, change, **how)
        if row.state == "rejected" and before is not None and before.state == "open":
            await asyncio.sleep(3.0)
        return row


def test_another_payment_s_acceptance_is_not_told_as_one_s_own() -> None:
    """A "no" was long on its way; elsewhere it was heard, and corrected, and the correction was paid."""
    journal, good = LateNo(), Wire()

    async def story() -> list[Any]:
        async with client(Wire([INSUFFICIENT]), journal=journal, policy=ONCE) as first:
            slow = asyncio.ensure_future(first.withdraw(request()))
            await asyncio.sleep(1)
            async with client(good, journal=journal, policy=ONCE) as second:
                corrected = await second.withdraw(request(amount="0.001"))
            with pytest.raises(ForeignIdConflict, match="another amount; that one is accepted") as result:
                await slow
            return [corrected.status, result.value.foreign_id]

    assert run(story()) == ["processing", "payout-17"]
    assert good.posts == 1


@pytest.mark.parametrize("late", [0.0, 0.6])
def test_a_callback_that_is_told_late_does_not_make_a_flight_forget(late: float) -> None:
    """A reply has shown another withdrawal under the id since: nothing more is sent, and only asked."""

    class SlowToHear(Durable):
        """A journal that is slow to say what became of a callback."""

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            row = await super().update(account, foreign_id, change, **how)
            lines = await self.history(account, foreign_id)
            if lines and lines[-1].kind == "callback":
                await asyncio.sleep(late)
            return row

    other = reply(201, {"data": {"id": 9, "foreign_id": "another"}})
    wire = Wire([other], [HTML_502] * 50, seconds=1.0)
    result = {"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "not_confirmed"}
    body = msgspec.json.encode({**result, "currency_sent": {"currency": "BTC", "amount": "9"}})

    async def story() -> str:
        policy = RetryPolicy(wait_initial=5.0, wait_max=5.0)
        async with client(wire, journal=SlowToHear(), policy=policy) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.5)
            signer = Signer("made-up-key", "made-up-secret")
            async with alphapo.receive_callback(signer.headers(body), body) as callback:
                kind = callback.kind
            with pytest.raises(WithdrawalUnknown):
                await paying
            return kind

    assert run(story()) == "contradicts"
    assert wire.posts == 1


def test_a_callback_that_comes_while_the_journal_is_read_is_newer_than_what_was_read() -> None:
    """A retry asks the journal first, which still knew nothing of it: nothing more is sent."""
    wire = Wire([NO_CONNECTION])
    result = {"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "confirmed"}
    sent = {"crypto_address": {"address": "bc1qmadeup"}, "currency_sent": {"currency": "BTC", "amount": "0.0015"}}
    body = msgspec.json.encode({**result, **sent})

    class Held(Durable):
        """A journal whose first reading is held until somebody lets it go."""

        def __init__(self) -> None:
            super().__init__()
            self.is_read, self.may_answer = asyncio.Event(), asyncio.Event()

        async def find(self, account: str, foreign_id: str) -> Row | None:
            row = await super().find(account, foreign_id)
            if not self.is_read.is_set():
                self.is_read.set()
                await self.may_answer.wait()
            return row

    async def story() -> str | None:
        journal = Held()
        async with client(wire, journal=journal) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await journal.is_read.wait()
            async with alphapo.receive_callback(Signer("made-up-key", "made-up-secret").headers(body), body):
                pass
            journal.may_answer.set()
            return (await paying).status

    assert run(story()) == "confirmed"
    assert wire.posts == 1


def test_no_body_leaves_after_the_deadline_of_everybody_who_waits() -> None:
    """A retry had its turn, and the journal was longer about it than anybody waited."""
    wire = Wire([LOST])

    class Slow(Durable):
        """A journal that takes five seconds to be read for the first time."""

        seconds = 5.0

        async def find(self, account: str, foreign_id: str) -> Row | None:
            seconds, self.seconds = self.seconds, 0.0
            await asyncio.sleep(seconds)
            return await super().find(account, foreign_id)

    async def story() -> None:
        policy = RetryPolicy(wait_initial=0.1)
        async with client(wire, journal=Slow(), policy=policy) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request(), deadline=3.0)
            await asyncio.sleep(60)

    run(story())
    assert wire.posts == 1


def two_workers(
    journal: Durable, *after: float, set_back: tuple[float, float] = (0.0, 0.0)
) -> tuple[tuple[str, float], list[tuple[str, float]], int]:
    """A worker that reaches nobody calls at once, others that reach AlphaPo later; return what they heard, and how many bodies left.

    The clock of the first one may be set back, then and by so many seconds.
    """
    wire = Wire()

    async def story() -> list[tuple[str, float]]:
        async with contextlib.AsyncExitStack() as stack:
            runtime = set_back_world(*set_back)
            lost = await stack.enter_async_context(
                client(Wire([NO_CONNECTION]), journal=journal, policy=ONCE, _runtime=runtime)
            )
            others = [await stack.enter_async_context(client(wire, journal=journal, policy=ONCE)) for _ in after]
            calls = [_heard(lost, 0.0), *(_heard(other, when) for other, when in zip(others, after, strict=True))]
            return await asyncio.gather(*calls)

    first, *rest = run(story())
    return first, rest, wire.posts


def test_a_no_that_is_written_down_soon_answers_whoever_asked_until_then() -> None:
    """It counts from when it was worked out, and a moment is allowed for its way to the disk; who calls after that pays."""
    first, others, posts = two_workers(Late(0.0, 0.0, 0.4, 0.0), 0.3, 0.8)

    assert (first, others, posts) == (("not_sent", 0.4), [("not_sent", 0.3), ("processing", 0.8)], 1)


def test_a_no_that_was_long_on_its_way_is_not_told_where_somebody_has_paid() -> None:
    """Another worker could see it, and could not know that nobody had been told yet."""
    first, others, posts = two_workers(Late(0.0, 0.0, 3.0, 0.0), 1.5)

    assert (first, others, posts) == (("processing", 3.0), [("processing", 1.5)], 1)


def test_how_long_a_no_was_on_its_way_is_not_counted_by_a_clock_that_is_set() -> None:
    """Set back meanwhile, it would seem to have come at once."""
    first, others, posts = two_workers(Late(0.0, 0.0, 3.0, 0.0), 1.5, set_back=(2.0, 3.0))

    assert (first, others, posts) == (("processing", 3.0), [("processing", 1.5)], 1)


@pytest.mark.parametrize("kind", [Durable, FlightResult])
def test_a_no_answers_an_older_call_whatever_the_clock_was_set_to_in_between(kind: type[Durable]) -> None:
    """The call took a second to get to the journal; in a file all clocks are one, and another is right where the storage has its own."""
    good, journal = Wire(), kind()

    class Far(kind):  # type: ignore[misc, valid-type]
        """The same journal, a second away."""

        async def update(self, *args: Any, **how: Any) -> Row:
            await asyncio.sleep(1.0)
            return await super().update(*args, **how)  # type: ignore[no-any-return]

    async def story() -> list[tuple[str, float]]:
        far, runtime = Far(), set_back_world(0.5, 5.0)
        far.__dict__ = journal.__dict__
        about: dict[str, Any] = {"_runtime": runtime} if kind is Durable else {}
        async with (
            client(Wire([NO_CONNECTION]), journal=journal, policy=ONCE, _runtime=runtime) as lost,
            client(good, journal=far, policy=ONCE, **about) as other,
        ):
            return list(await asyncio.gather(_heard(lost, 0.6), _heard(other, 0.4)))

    assert run(story()) == [("not_sent", 0.6), ("not_sent", 1.4)]
    assert good.posts == 0


@pytest.mark.parametrize("kind", [Durable, FlightResult])
@pytest.mark.parametrize(("closed_at", "until"), [(None, 15.0), (6.0, 6.0)])
def test_the_quiet_time_begins_by_the_later_clock(kind: type[Durable], closed_at: float | None, until: float) -> None:
    """A clock that is an hour behind for a moment, during an attempt, makes its last byte no older, nor its first one younger."""
    journal = kind()

    async def story() -> Row | None:
        alphapo = client(Wire(["silent"]), journal=journal, policy=ONCE, _runtime=set_back_world(5.0, 3_600.0))
        async with alphapo:
            calling = asyncio.ensure_future(_heard(alphapo, 0.0))
            if closed_at is not None:
                await asyncio.sleep(closed_at)
                await alphapo.aclose(grace=0.0)
            await calling
        return await journal.find("default", "payout-17")

    row = run(story())
    assert row is not None
    assert (row.state, row.doubt_since) == ("open", EPOCH)
    assert row.could_leave_until == pytest.approx(EPOCH + until)


def test_a_body_that_is_too_old_by_the_later_clock_is_not_sent() -> None:
    """AlphaPo may have freed its id: a clock that was set back does not make it young again."""
    policy = RetryPolicy(attempts=1, deadline=5.0, quiet=10.0, resend_within=100.0)

    async def output(back: float, second: float) -> tuple[int, int]:
        wire = Wire([LOST], [NOT_FOUND] * 99)
        async with client(
            wire, journal=FlightResult(), policy=policy, _runtime=set_back_world(second - 1.0, back)
        ) as alphapo:
            await _heard(alphapo, 0.0)
            await _heard(alphapo, second)
        return wire.posts, min(wire.look_ups, 1)

    assert run(output(0.0, 70.0)) == (2, 1)
    assert run(output(0.0, 85.0)) == (1, 1)
    assert run(output(60.0, 85.0)) == (1, 1)


def test_a_no_that_was_long_on_its_way_counts_from_when_it_is_written_again() -> None:
    """Where nobody has paid: it is told, and answers whoever asked until then."""
    first, others, posts = two_workers(Late(0.0, 0.0, 3.0, 0.0), 3.2, 4.5)

    assert (first, others, posts) == (("not_sent", 3.0), [("not_sent", 3.2), ("processing", 4.5)], 1)


def test_a_no_is_not_told_while_the_journal_is_slow_every_time() -> None:
    """Nobody can say whether it still stands: the row is settled, and the next call hears how."""
    first, _, posts = two_workers(Late(0.0, 0.0, 3.0))

    assert (first, posts) == (("unknown: journal", 12.0), 0)


def test_a_no_at_closing_stands_too() -> None:
    """What had not left when the client was closed is reported as unknown where the journal is too slow to confirm that in time."""

    async def story() -> str:
        async with client(Wire(), journal=Late(0.0, 0.0, 0.0, 1.2), max_rate=0.1) as alphapo:
            await alphapo.withdraw(request("first"))
            calling = asyncio.ensure_future(_heard(alphapo, 0.0))
            await asyncio.sleep(1)
            await alphapo.aclose(grace=0.0)
        return (await calling)[0]

    assert run(story()) == "unknown: closing"


def test_what_another_worker_has_taken_over_is_not_sent_again() -> None:
    """A retry asks the journal whose the row is: this worker may have been thought dead."""
    wire, journal = Wire([LOST], [NOT_FOUND]), Durable()

    async def story() -> tuple[str, float]:
        async with client(wire, journal=journal, policy=RetryPolicy(wait_initial=8.0)) as alphapo:
            calling = asyncio.ensure_future(_heard(alphapo, 0.0))
            await asyncio.sleep(0.01)
            await journal.update(
                "default", "payout-17", lambda row: (msgspec.structs.replace(_row(row), holder="other"), ())
            )
            return await calling

    result, _ = run(story())

    assert result == "unknown: no answer"
    assert wire.posts == 1


def _row(row: Row | None) -> Row:
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("is_remembered", "words"), [(True, "another amount; that one is accepted"), (False, "that one is accepted")]
)
def test_a_conflict_names_what_differs(words: str, *, is_remembered: bool) -> None:
    """As far as the journal remembers the other payment, and how that one stands."""

    async def story() -> str:
        journal = MemoryJournal(whole_rows=10 if is_remembered else 0)
        async with client(Wire(), journal=journal) as alphapo:
            await alphapo.withdraw(request())
            with pytest.raises(ForeignIdConflict) as caught:
                await alphapo.withdraw(request(amount="7"))
        return str(caught.value)

    assert f"already used for another payment ({words}). This payment was not sent" in run(story())


class Forgetful(Durable):
    """A journal that goes back to before its first row once that row is written for the second time."""

    writes = 0

    async def update(self, account: str, foreign_id: str, change: Change, **how: Any) -> Row:
        """Write, and forget."""
        row = await super().update(account, foreign_id, change, **how)
        self.writes += 1
        if self.writes == 2:
            self._open.clear()
            await self.raise_epoch(asyncio.get_running_loop().time() + EPOCH)
        return row


class GoingBack(Durable):
    """A journal that takes long for its first statement, and goes back meanwhile: the row is open there, and nothing holds it."""

    async def update(self, account: str, foreign_id: str, change: Change, **how: Any) -> Row:
        """Write late, in another epoch."""
        if self.epoch.number == 0:
            await super().update(account, foreign_id, change, **how)
            row = _row(await self.find(account, foreign_id))
            row = await super().update(account, foreign_id, lambda _: (msgspec.structs.replace(row, holder=None), ()))
            await asyncio.sleep(10.0)
            await self.raise_epoch(asyncio.get_running_loop().time() + EPOCH)
        return await super().update(account, foreign_id, change, **how)


@pytest.mark.parametrize(("deadline", "posts"), [(5.0, 0), (30.0, 1)])
def test_a_call_that_has_ended_ends_no_freeze(deadline: float, posts: int) -> None:
    """Its statement reaches the journal only after that went back: the row stays frozen, and only a caller that waits has it sent."""
    journal, wire = GoingBack(), Wire()

    async def story() -> Row:
        async with client(wire, journal=journal) as alphapo:
            with contextlib.suppress(WithdrawalUnknown, JournalError):
                await alphapo.withdraw(request(), deadline=deadline)
            await asyncio.sleep(20.0)
            return _row(await journal.find("default", "payout-17"))

    row = run(story())

    assert wire.posts == posts
    assert is_frozen(row) is (posts == 0)
    assert row.holder is None


def test_a_row_that_the_journal_has_forgotten_is_recorded_again_before_its_bytes_leave() -> None:
    """The journal went back during a flight: the row is looked up, and no body leaves that the journal does not hold."""
    wire, journal = Wire([NO_CONNECTION, NO_CONNECTION]), Forgetful()

    outcome = paid(wire, journal=journal)

    assert isinstance(outcome, Withdrawal)
    assert [method for _, method in wire.times] == ["POST", "GET", "POST", "POST"]
    assert asyncio.run(journal.find("default", "payout-17")) is not None


class FailingOver(Durable):
    """A journal that takes nothing after its first statement, until it is read: then it works again, and is of another epoch."""

    writes = 0

    async def update(self, account: str, foreign_id: str, change: Change, **how: Any) -> Row:
        """Write, but not while the journal is away."""
        self.writes += 1
        if self.writes > 1 and self.epoch.number == 0:
            raise JournalError("away", recorded=None)
        return await super().update(account, foreign_id, change, **how)

    async def find(self, account: str, foreign_id: str) -> Row | None:
        """Read, in another epoch."""
        if self.epoch.number == 0:
            await self.raise_epoch(asyncio.get_running_loop().time() + EPOCH)
        return await super().find(account, foreign_id)


def test_a_row_whose_attempt_is_not_written_yet_is_frozen_like_every_other() -> None:
    """The journal went back while it would not take the attempt: the row is recorded anew and looked up before a body leaves."""
    wire = Wire([LOST], [NOT_FOUND, NOT_FOUND])

    outcome = paid(wire, journal=FailingOver())

    assert isinstance(outcome, Withdrawal)
    assert [method for _, method in wire.times] == ["POST", "GET", "GET", "POST"]


def test_a_slot_is_given_back_whatever_the_journal_raises() -> None:
    """Between the slot and the body the journal is asked; each error would cost a slot, and the last one the client."""

    class Odd(Durable):
        """A journal that cannot be read, and does not say so as it should."""

        async def find(self, account: str, foreign_id: str) -> Row | None:
            raise ZeroDivisionError

    wire = Wire([LOST], [NOT_FOUND])
    outcome = paid(wire, journal=Odd())
    assert isinstance(outcome, WithdrawalUnknown)
    assert wire.slots.free == 100


def test_a_request_that_the_journal_may_have_recorded_is_let_go_of() -> None:
    """It raised what it should not: nothing was sent, and the row is left to others."""

    class Odd(Durable):
        """A journal that records the request, and raises all the same."""

        is_odd = True

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            row = await super().update(account, foreign_id, change, **how)
            if self.is_odd:
                self.is_odd = False
                raise ZeroDivisionError
            return row

    async def story() -> tuple[str | None, int]:
        wire, journal = Wire(), Odd()
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            await asyncio.sleep(2)
            row = await journal.find("default", "payout-17")
            assert row is not None
            return row.holder, wire.posts

    assert run(story()) == (None, 0)


def test_a_recorded_no_of_before_the_journal_went_back_is_looked_up_before_it_is_reported() -> None:
    """A look-up that answers "none" confirms it; nothing is sent."""
    wire = Wire([INSUFFICIENT])

    async def story() -> None:
        journal = Durable()
        async with client(wire, journal=journal) as alphapo:
            for _ in range(2):
                with pytest.raises(WithdrawalRejected):
                    await alphapo.withdraw(request())
                await journal.raise_epoch(EPOCH + asyncio.get_running_loop().time())

    run(story())
    assert (wire.posts, wire.look_ups) == (1, 1)


def test_a_no_that_is_confirmed_after_the_journal_went_back_answers_the_requests_made_meanwhile() -> None:
    """Another caller asks during the look-up and is recorded after the report: its request finds the "no", and does not pay."""
    wire, journal = Wire([INSUFFICIENT], seconds=1.0), Durable()

    async def story() -> str:
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            await asyncio.sleep(10.0)
            await journal.raise_epoch(EPOCH + asyncio.get_running_loop().time())
            meanwhile = EPOCH + asyncio.get_running_loop().time() + 0.5
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            row = _row(await journal.find("default", "payout-17"))
            late = Requested(
                "b", row.revision, row.key_fingerprint, resend_rejected=True, requested_at=meanwhile, requested_by="b"
            )
            return apply(row, late, meanwhile + 2.0).state

    assert run(story()) == "rejected"


def test_a_no_whose_confirmation_is_not_recorded_is_not_reported() -> None:
    """The journal fails while AlphaPo confirms the "no" of before it went back: the caller hears unknown."""
    wire, journal = Wire([INSUFFICIENT]), _Stuck()

    async def story() -> str:
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            await journal.raise_epoch(EPOCH + asyncio.get_running_loop().time())
            asking = asyncio.ensure_future(alphapo.withdraw(request()))
            while not wire.look_ups:
                journal.is_stuck = bool(wire.times[1:])
                await asyncio.sleep(0.0)
            journal.is_stuck = True
            with pytest.raises(WithdrawalUnknown) as caught:
                await asking
            journal.is_stuck = False
            return caught.value.reason

    assert run(story()) == "journal"


class _Reopening(Durable):
    """A journal whose first "no" takes long to be recorded; another worker opens the row again before the "no" is dated anew."""

    is_slow = True

    async def update(self, account: str, foreign_id: str, change: Change, **how: Any) -> Row:
        """Write; a "no" slowly, and once."""
        row = await super().update(account, foreign_id, change, **how)
        if row.state == "rejected" and self.is_slow:
            self.is_slow = False
            await asyncio.sleep(1.0)
            now = EPOCH + asyncio.get_running_loop().time()
            await self.join(account, "loopback", "b", now + 60.0)
            again = Requested(
                "b", row.revision, row.key_fingerprint, resend_rejected=True, requested_at=now, requested_by="b"
            )
            await super().update(account, foreign_id, lambda known: (apply(_row(known), again, now), ()))
        return row


def test_a_no_that_another_worker_has_undone_is_reported_as_held_by_it() -> None:
    """The "no" took too long to be recorded, and another worker pays meanwhile: the caller learns that, and releases nothing."""
    outcome = paid(Wire([INSUFFICIENT]), journal=_Reopening())

    assert isinstance(outcome, WithdrawalUnknown)
    assert (outcome.reason, outcome.may_release_funds) == ("held", False)
    assert "is being worked on by another worker" in str(outcome)


class _Blind(_Refusing):
    """Shows no withdrawal at all."""

    async def exchange(self, method: str, url: str, **output: Any) -> Any:
        return NOT_FOUND if method == "GET" else await super().exchange(method, url, **output)


def test_a_control_that_look_ups_do_not_show_proves_nothing() -> None:
    """Look-ups with this key may not show what is accepted."""
    assert isinstance(_quiet_story(_Blind(), control_after=4.0), WithdrawalUnknown)


class _Stuck(Durable):
    """A journal that can be read, and at times not written to."""

    is_stuck = False

    async def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Row:
        """Write, or fail."""
        if self.is_stuck:
            raise JournalError("the disk is full.")
        return await super().update(account, foreign_id, change, may_lag=may_lag)


def test_a_body_that_follows_a_look_up_leaves_only_while_the_row_is_held() -> None:
    """The look-up of an id that is new to a journal that went back may have no answer: another worker may hold the row by then."""
    wire = Wire(look_ups=[HTML_502], seconds=1.0)

    def take(row: Row | None) -> tuple[Row, tuple[()]]:
        assert row is not None
        return msgspec.structs.replace(row, holder="another"), ()

    async def story() -> None:
        journal = _Stuck()
        await journal.raise_epoch(EPOCH + asyncio.get_running_loop().time())
        async with client(wire, journal=journal, policy=RetryPolicy(deadline=5.0)) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.5)
            await journal.update("default", "payout-17", take)
            journal.is_stuck = True
            with pytest.raises(WithdrawalUnknown):
                await paying
            journal.is_stuck = False

    run(story())
    assert (wire.posts, wire.look_ups) == (0, 1)


def test_the_history_says_why_a_worker_did_not_send_a_row_that_has_time() -> None:
    """A connection that is not made is not shown as an expiry: the row is still to be sent."""
    journal = Durable()

    async def story() -> list[str]:
        async with client(Wire([NO_CONNECTION]), journal=journal) as alphapo:
            await alphapo.enqueue(request("f"), expires_in=50.0)
            row = _row(await journal.find("default", "f"))
            await alphapo._registry.settle(row, may_resend=True)
            return [line.what for line in await journal.history("default", "f") if line.kind == "released"]

    assert run(story()) == ["no connection"]


async def _of_claimed(journal: Durable, wire: Wire, change: Callable[[Row], Row], seconds: float = 0.0) -> str:
    """Claim a row, change what the flight is handed, let it begin, and return what its caller gets."""
    async with client(wire, journal=journal, on_event=None if seconds else lambda _: None) as alphapo:
        await alphapo.enqueue(request("f"), expires_in=50.0)
        context, lease = alphapo._engine.context, alphapo._engine.lease
        claim = Claim(lease.worker, 1, context.signer.fingerprint, context.now(), 9)
        claimed = await journal.claim("default", claim)
        assert claimed is not None
        flight = alphapo._registry.register(change(claimed.rows[0]))
        assert flight is not None
        await asyncio.sleep(seconds)
        outcome = flight.waiters.join(None)
        alphapo._registry.begin(flight)
        return to_outcome(await outcome).__class__.__name__


@pytest.mark.parametrize(
    ("change", "seconds", "outcome", "sent"),
    [
        (lambda row: row, 0.0, "Withdrawal", 1),
        (lambda row: row, 51.0, "WithdrawalNotSent", 0),
        (lambda row: replace(row, holder="another"), 0.0, "WithdrawalUnknown", 0),
        (lambda row: replace(row, state="not_sent", holder=None, reason="expired"), 0.0, "WithdrawalNotSent", 0),
    ],
)
def test_a_claimed_row_begins_without_being_recorded_again(
    change: Callable[[Row], Row], seconds: float, outcome: str, sent: int
) -> None:
    """It is sent once where it is still open, its own, and not expired."""
    wire = Wire()
    assert run(_of_claimed(Durable(), wire, change, seconds)) == outcome
    assert (wire.posts, wire.look_ups) == (sent, 0)


def test_a_row_that_a_dead_worker_had_claimed_and_not_begun_is_not_in_doubt() -> None:
    """A call takes it over and sends it at once, without a look-up."""
    journal, wire = Durable(), Wire()

    async def story() -> int:
        async with client(wire, journal=journal) as alphapo:
            await alphapo.enqueue(request("f"))
            await journal.join("default", "loopback", "ghost", EPOCH + 5)
            assert await journal.claim("default", Claim("ghost", 1, "key", EPOCH + 1, 9)) is not None
            await asyncio.sleep(6)
            await alphapo.withdraw(request("f"))
            row = await journal.find("default", "f")
            assert row is not None
            return row.arrivals

    assert run(story()) == 1
    assert (wire.posts, wire.look_ups) == (1, 0)


@pytest.mark.parametrize("event", ["outage began", "key accepted", "attempt"])
def test_a_filter_of_the_log_that_raises_hides_no_attempt(caplog: pytest.LogCaptureFixture, event: str) -> None:
    """The reply that begins an outage, or that shows a key accepted again, is recorded: no caller gets "not sent" after it."""
    journal, wire = Durable(), Wire()

    async def pay(alphapo: AlphapoClient, name: str) -> str:
        try:
            return str((await alphapo.withdraw(request(name))).status)
        except WithdrawalError as error:
            return error.outcome

    async def story() -> tuple[list[str], list[tuple[str, bool, str | None]]]:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            wire.always = {"outage began": LOST, "key accepted": BAD_KEY}.get(event)
            outcomes = [await pay(alphapo, f"p{number}") for number in range(20)]
            if event == "key accepted":
                wire.always = None
                outcomes.append(await pay(alphapo, "p20"))
            await asyncio.sleep(1)
            rows = [await journal.find("default", f"p{number}") for number in range(len(outcomes))]
            found: list[tuple[str, bool, str | None]] = []
            found += [(row.state, row.doubt_since is not None, row.holder) for row in rows if row is not None]
            return outcomes, found

    with raising_at(caplog, event):
        outcomes, rows = run(story())
    if event == "outage began":
        assert (set(outcomes), set(rows)) == ({"unknown"}, {("open", True, None)})
    else:
        assert (outcomes[-1], rows[-1]) == ("processing", ("accepted", False, None))


class Unanswered(Durable):
    """A journal that stores what it is handed, and whose answers take their time, or are lost while `is_losing`."""

    takes = 0.0
    is_losing = False

    async def update(self, *what: Any, **how: Any) -> Row:
        row = await super().update(*what, **how)
        await asyncio.sleep(self.takes)
        if self.is_losing:
            raise JournalError("The answer was lost.", recorded=None)
        return row


async def lines_of(journal: Durable) -> tuple[str, int, list[str]]:
    """Return state and attempts of the one row, and the kinds of its lines."""
    row = await journal.find("default", "payout-17")
    assert row is not None
    return row.state, row.attempts, [line.kind for line in await journal.history("default", "payout-17")]


@pytest.mark.parametrize(("reply", "state"), [(LOST, "open"), (INSUFFICIENT, "rejected")])
def test_an_attempt_that_is_cancelled_while_it_is_recorded_has_one_line(reply: Any, state: str) -> None:
    """Closing cancels the flight; the journal stores the attempt all the same, and it is not counted twice."""
    journal, wire = Unanswered(), Wire([reply], seconds=0.2)

    async def story() -> tuple[str, int, list[str]]:
        async with client(wire, journal=journal, close_grace=0.0) as alphapo:
            call = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.1)
            journal.takes = 0.3
            await asyncio.sleep(0.2)
        await asyncio.gather(call, return_exceptions=True)
        return await lines_of(journal)

    assert run(story()) == (state, 1, ["request", "attempt", "released"])


@pytest.mark.parametrize(("reply", "state"), [(LOST, "open"), (INSUFFICIENT, "rejected"), (None, "accepted")])
def test_an_attempt_that_is_recorded_without_an_answer_has_one_line(reply: Any, state: str) -> None:
    """It is offered again until the journal answers; what it stored the first time is not added again."""
    journal, wire = Unanswered(), Wire([reply], seconds=0.2)

    async def story() -> tuple[str, int, list[str]]:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            call = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.1)
            journal.is_losing = True
            await asyncio.sleep(20)
            journal.is_losing = False
            await asyncio.sleep(60)
            await asyncio.gather(call, return_exceptions=True)
            return await lines_of(journal)

    found, attempts, kinds = run(story())
    assert (found, attempts) == (state, 1)
    assert (kinds.count("attempt"), len(kinds)) == (1, len(set(kinds)))
