"""Look-ups and other questions to AlphaPo, and what the answers add to rows."""

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import (
    AlphapoUnavailable,
    JournalError,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import (
    ReplyExcerpt,
)
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Transaction
from alphapo_async.core.rate_limit import Priority
from alphapo_async.core.replies import Found, KeyRefused, NoneFound, NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.journal.memory import MemoryJournal
from tests.support.engines import SIGNER, engine_of
from tests.support.virtual import run
from tests.support.wire import (
    EPOCH,
    HTML_502,
    INSUFFICIENT,
    LOST,
    NOT_FOUND,
    Durable,
    Standby,
    Wire,
    client,
    reply,
    request,
)


def test_look_up_tells_what_alphapo_shows() -> None:
    """A transaction, or None, which proves nothing; and what is found goes into the journal."""

    async def story() -> tuple[Any, Any, Any]:
        wire = Wire(["accept, lost"], [HTML_502])
        async with client(wire, policy=RetryPolicy.none()) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            wire.scripts["GET"] = []
            found = await alphapo.look_up("payout-17")
            nothing = await alphapo.look_up(5)
            again = await alphapo.withdraw(request())
            assert wire.posts == 1
            return found, nothing, again

    found, nothing, again = run(story())

    assert isinstance(found, Transaction)
    assert nothing is None
    assert again.source == "journal"


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (HTML_502, 502, None),
        (LOST, None, None),
        (reply(403, {"error": "Bad key header", "code": "bad_header_key"}), 403, "bad_header_key"),
        (reply(429, {}, retry_after="7"), 429, None),
    ],
)
def test_questions_without_a_usable_answer_say_so(
    answer: Reply | NoReply, status: int | None, code: str | None
) -> None:
    """`look_up`, `balances` and `ping` raise AlphapoUnavailable with what is known."""

    class Always(Wire):
        async def exchange(self, method: str, url: str, **result: Any) -> Reply | NoReply:
            return answer

    async def story() -> list[AlphapoUnavailable]:
        seen = []
        async with client(Always()) as alphapo:
            for ask in (lambda: alphapo.look_up("payout-17"), alphapo.balances, alphapo.ping):
                with pytest.raises(AlphapoUnavailable) as caught:
                    await ask()
                seen.append(caught.value)
        return seen

    looked_up, *others = run(story())
    assert str(looked_up).startswith("AlphaPo did not answer the look-up: ")
    for error in (looked_up, *others):
        assert (error.http_status, error.code) == (status, code)


def test_ping_and_balances() -> None:
    """A reachable AlphaPo, and its balances as decimals."""

    async def story() -> dict[str, Decimal]:
        async with client(Wire()) as alphapo:
            await alphapo.ping()
            return await alphapo.balances()

    assert run(story()) == {"BTC": Decimal("1.5")}


def test_an_unexpected_body_is_no_balance() -> None:
    """A 200 that tells no accounts is no answer."""

    class Odd(Wire):
        async def exchange(self, method: str, url: str, **result: Any) -> Reply | NoReply:
            return reply(200, {})

    async def story() -> None:
        async with client(Odd()) as alphapo:
            with pytest.raises(AlphapoUnavailable, match=r": unexpected reply\.$"):
                await alphapo.balances()

    run(story())


def test_a_question_that_finds_no_slot_in_time_gives_up() -> None:
    """Questions queue like everything else, no longer than the policy's deadline."""

    async def story() -> float:
        wire = Wire(["silent"], max_connections=1)
        policy = RetryPolicy(deadline=2.0)
        async with client(wire, policy=policy) as alphapo:
            slow = asyncio.ensure_future(alphapo.withdraw(request("slow"), deadline=50))
            await asyncio.sleep(0.01)
            for call in (alphapo.ping(), alphapo.look_up("payout-17")):
                with pytest.raises(AlphapoUnavailable, match=r"^AlphaPo did not answer \w.*[a-z]: no slot in time\.$"):
                    await call
            now = asyncio.get_running_loop().time()
            await slow
            return now

    assert run(story()) == pytest.approx(4.01, abs=1e-6)


class _Unreadable(MemoryJournal):
    """A journal that can be written and not read, and breaks at the given update."""

    def __init__(self, *, find: bool, update_at: int) -> None:
        super().__init__()
        self._find, self._update_at, self._count = find, update_at, 0

    async def find(self, account: str, foreign_id: str) -> Row | None:
        if not self._find:
            raise JournalError("The file is gone.")
        return await super().find(account, foreign_id)

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        self._count += 1
        if self._count == self._update_at:
            raise JournalError("The disk is full.")
        return await super().update(account, foreign_id, change, **how)


@pytest.mark.parametrize("journal", [_Unreadable(find=False, update_at=0), _Unreadable(find=True, update_at=3)])
def test_a_look_up_answers_although_the_journal_does_not(journal: MemoryJournal) -> None:
    """What AlphaPo shows is told whether or not it can be written down."""

    async def story() -> Transaction | None:
        async with client(Wire(), journal=journal) as alphapo:
            await alphapo.withdraw(request())
            return await alphapo.look_up("payout-17")

    assert isinstance(run(story()), Transaction)


def test_a_cancelled_question_gives_its_slot_back() -> None:
    """A ping that its caller no longer waits for leaves no slot taken."""

    class Stalling(Wire):
        async def exchange(self, method: str, url: str, **result: Any) -> Reply | NoReply:
            await asyncio.sleep(1000)
            raise AssertionError

    async def story() -> int:
        wire = Stalling(max_connections=1)
        async with client(wire) as alphapo:
            ping = asyncio.ensure_future(alphapo.ping())
            await asyncio.sleep(1)
            ping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ping
            assert alphapo._engine.limiter.try_acquire(Priority.QUESTION, asyncio.get_running_loop()) is not None
            return wire.slots.free

    assert run(story()) == 0


def test_a_look_up_that_finds_nothing_teaches_a_row_nothing() -> None:
    """It is not its holder's, and proves nothing."""
    journal = Durable()

    async def story() -> None:
        async with client(Wire(), journal=journal) as alphapo:
            await alphapo.enqueue(request())
            row = await journal.find("default", "payout-17")
            assert await alphapo.look_up("payout-17") is None
            found = await journal.find("default", "payout-17")
            assert row is not None
            assert found is not None
            assert msgspec.structs.replace(found, lines=row.lines, counted=row.counted) == row
            assert [line.what for line in await journal.history("default", "payout-17")][1:] == ["none"]

    run(story())


def test_a_no_from_before_the_journal_went_back_is_confirmed_with_its_own_key_alone() -> None:
    """It was paid since with that key, and the journal has lost it: to another key AlphaPo shows none, and funds were released."""
    wire, journal = Wire([INSUFFICIENT]), Durable()

    async def story() -> list[str]:
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())

            def of_another_key(row: Row | None) -> tuple[Row, tuple[Entry, ...]]:
                assert row is not None
                return msgspec.structs.replace(row, reported=False, key_fingerprint="of a key that is gone"), ()

            await journal.update("default", "payout-17", of_another_key)
            await journal.raise_epoch(EPOCH)
            with pytest.raises(WithdrawalUnknown):
                await alphapo.enqueue(request())
            return [result.outcome async for result in alphapo.resume()]

    assert run(story()) == []
    assert wire.look_ups == 0


class ByKey(Wire):
    """An AlphaPo that shows a withdrawal to the key alone that sent it, here the newer one."""

    async def exchange(self, method: str, url: str, **how: Any) -> Reply | NoReply:
        if method == "GET" and how["headers"]["X-Processing-Key"] != "newer-key":
            return NOT_FOUND
        return await super().exchange(method, url, **how)


@pytest.mark.parametrize("is_resent", [True, False])
def test_a_no_from_before_the_journal_went_back_is_confirmed_with_the_current_key_too(is_resent: bool) -> None:  # noqa: FBT001
    """It was sent again and paid with that key, and the journal has lost it: the older key's "none" released the funds."""
    wire, journal = ByKey([INSUFFICIENT]), Standby()
    keys: dict[str, Any] = {"journal": journal, "session": wire, "base_url": "http://127.0.0.1:9"}

    async def story() -> list[Any]:
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
        await asyncio.sleep(5)
        keys["_runtime"] = alphapo._engine.context.runtime
        keys["retired_keys"] = [("made-up-key", "made-up-secret")]
        journal.lag()
        async with AlphapoClient("newer-key", "secret", **keys) as alphapo:
            if is_resent:
                await alphapo.withdraw(request(), resend_rejected=True)
            await journal.fail_over()
            calls = [alphapo.withdraw(request()), alphapo.enqueue(request())]
            outcomes = [(await asyncio.gather(call, return_exceptions=True))[0] for call in calls]
            lines = await journal.history("default", "payout-17")
            assert [line.count for line in lines if line.what == "none"] == [1 if is_resent else 2]
            return [getattr(outcome, "outcome", "paid") for outcome in outcomes]

    assert run(story()) == (["paid"] * 2 if is_resent else ["rejected"] * 2)


def _with_keys(wire: Wire, journal: Standby, current: str, *retired: str) -> AlphapoClient:
    return AlphapoClient(
        current,
        "secret",
        journal=journal,
        session=wire,
        base_url="http://127.0.0.1:9",
        retired_keys=[(key, "secret") for key in retired],
        _runtime=client(wire)._engine.context.runtime,
    )


@pytest.mark.parametrize("is_known", [True, False])
def test_what_the_journal_may_have_lost_is_looked_up_with_all_keys(is_known: bool) -> None:  # noqa: FBT001
    """It was paid with a key between the row's and the current one: two keys' "none" released the funds."""
    wire, journal = ByKey([INSUFFICIENT, None, INSUFFICIENT]), Standby()

    async def story() -> Any:
        if not is_known:
            journal.lag()
        async with _with_keys(wire, journal, "oldest-key") as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
        if is_known:
            journal.lag()
        await asyncio.sleep(5)
        async with _with_keys(wire, journal, "newer-key", "oldest-key") as alphapo:
            await alphapo.withdraw(request(), resend_rejected=True)
        await journal.fail_over()
        async with _with_keys(wire, journal, "newest-key", "newer-key", "oldest-key") as alphapo:
            return (await alphapo.withdraw(request())).id

    assert run(story()) == 7


def test_one_key_confirms_a_no_with_one_question() -> None:
    """The row's key is the current one."""
    wire, journal = Wire([INSUFFICIENT]), Durable()

    async def story() -> None:
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            await journal.raise_epoch(EPOCH)
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())

    run(story())
    assert wire.look_ups == 1


def test_a_refresh_without_a_slot_waits_for_the_next_round() -> None:
    """Nothing is learned from a question that was never put."""
    wire, journal = Wire(), Durable()

    async def story() -> None:
        async with client(wire, journal=journal, policy=RetryPolicy(deadline=1.0)) as alphapo:
            await alphapo.withdraw(request())
            row = await journal.find("default", "payout-17")
            assert row is not None
            wire.slots.take()
            for _ in range(99):
                wire.slots.take()
            await alphapo._questions.refresh(row)
            assert await journal.find("default", "payout-17") is row
            for _ in range(100):
                wire.slots.give()

    run(story())


class SlowPost(Wire):
    """A far end whose replies to bodies take two seconds."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    async def exchange(self, method: str, url: str, **how: Any) -> Reply | NoReply:
        """Take two seconds."""
        if method == "POST":
            await asyncio.sleep(2)
        return await self._wire.exchange(method, url, **how)


def test_a_question_by_hand_settles_nothing_while_a_body_is_on_the_wire() -> None:
    """What AlphaPo shows under the id may be another's, found without regard to case, and the body is accepted all the same."""
    shown = {"id": 3, "foreign_id": "PAYOUT-17", "type": "withdrawal", "status": "confirmed"}
    other = {
        "crypto_address": {"address": "bc1qother", "currency": "BTC"},
        "currency_sent": {"currency": "BTC", "amount": "9"},
    }
    wire = Wire(None, [reply(200, {**shown, **other})])

    async def story() -> list[Any]:
        async with client(SlowPost(wire), journal=Durable()) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.5)
            await alphapo.look_up("payout-17")
            row = await alphapo._engine.recorder.find("payout-17")
            return [row and row.state, (await paying).status]

    assert run(story()) == ["open", "processing"]


def test_what_is_not_final_after_thirty_days_is_reported_once() -> None:
    """An event at WARNING leaves it to a callback; the worker asks no more."""
    wire, journal = Wire(), Durable()
    events: list[Event] = []

    async def story() -> None:
        async with client(wire, journal=journal, on_event=events.append) as alphapo:
            await alphapo.withdraw(request())
            await journal.update("default", "payout-17", _accepted_a_month_ago)
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(3_600)
            working.cancel()

    run(story())
    assert wire.look_ups == 1
    assert [(event.foreign_id, event.alphapo_status) for event in events if event.name == "not final"] == [
        ("payout-17", "not_confirmed")
    ]


def _accepted_a_month_ago(row: Row | None) -> tuple[Row, list[Entry]]:
    assert row is not None
    assert row.settled_at is not None
    return msgspec.structs.replace(row, settled_at=row.settled_at - 30 * 86_400), []


def test_a_look_up_is_signed_and_gives_its_slot_back() -> None:
    """The body is signed as it is sent, the answer judged, and no slot stays taken."""

    async def story() -> None:
        wire = Wire()
        engine = engine_of(wire)

        async def slot(kind: Priority) -> Any:
            return await engine.questions._permit(kind)

        asked = await engine.questions.look_up("payout-17", SIGNER, Priority.QUESTION, slot)
        assert asked == (NoneFound(), ReplyExcerpt(404, NOT_FOUND.body), *[engine.context.now()] * 2)
        wire._accept("payout-17", {"currency": "BTC", "amount": "1", "address": "bc1qmadeup"})
        answered = await engine.questions.look_up("payout-17", SIGNER, Priority.QUESTION, slot)
        assert answered is not None
        assert isinstance(answered[0], Found)
        assert wire.headers[0]["X-Processing-Signature"] == SIGNER.sign(b'{"foreign_id":"payout-17"}')
        assert wire.slots.free == 100

    run(story())


def test_without_a_slot_nothing_is_asked() -> None:
    """A question that finds no slot within the policy's deadline is not put."""

    async def story() -> None:
        wire = Wire(max_connections=1)
        engine = engine_of(wire)
        loop = asyncio.get_running_loop()
        assert engine.limiter.try_acquire(Priority.FIRST, loop) is not None

        async def slot(kind: Priority) -> Any:
            return await engine.questions._permit(kind)

        assert await engine.questions.look_up("payout-17", SIGNER, Priority.QUESTION, slot) is None
        assert await engine.questions.send_plain("GET", "/api/v2/ping", None, {}) == NoReply(
            "no slot in time", may_have_left=False
        )
        assert loop.time() == pytest.approx(4.0)
        assert wire.times == []

    run(story())


@pytest.mark.parametrize(
    ("answer", "held_until"),
    [
        (Reply(200, b"OK", "text/html"), 0.0),
        (HTML_502, 0.0),
        (NoReply("no answer in time", may_have_left=True), 0.0),
        (reply(429, {}, retry_after="7"), 7.0),
    ],
)
def test_a_question_is_put_once_whatever_comes_back(answer: Reply | NoReply, held_until: float) -> None:
    """The reply is handed on as it came, and the gate has heard of it."""

    class Always(Wire):
        async def exchange(self, method: str, url: str, **result: Any) -> Reply | NoReply:
            assert url == "http://127.0.0.1:9/api/v2/ping"
            return answer

    async def story() -> None:
        wire = Always()
        engine = engine_of(wire)
        assert await engine.questions.send_plain("GET", "/api/v2/ping", None, {}) == answer
        assert wire.slots.free == 100
        assert engine.limiter.state.held_until == held_until
        apart = engine_of(wire)
        assert await apart.questions.send_plain("GET", "/api/v2/ping", None, {}, is_throttled_apart=True) == answer
        assert (wire.slots.free, apart.limiter.state.held_until) == (100, 0.0)

    run(story())


def test_a_refused_key_is_asked_about() -> None:
    """`accounts/list` moves no money; an answer that is none of the four codes makes the key worth a body."""

    async def story() -> int:
        wire = Wire()
        engine = engine_of(wire)
        engine.keys.judged(SIGNER.fingerprint, KeyRefused("bad_header_key"), 0.0)
        await engine.questions.ask_about_key(SIGNER.fingerprint)
        assert wire.headers[0]["X-Processing-Signature"] == SIGNER.sign(b"{}")
        return wire.questions

    assert run(story()) == 1


def test_look_ups_at_one_time_report_what_they_show_once() -> None:
    """Each is compared with the row on record, which the other has settled: a second event would count the withdrawal twice."""
    events: list[Event] = []

    async def story() -> None:
        wire, journal = Wire(["accept, lost"], [HTML_502]), Durable()
        async with client(wire, journal=journal, policy=RetryPolicy.none(), on_event=events.append) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            wire.scripts["GET"] = []
            await asyncio.gather(*(alphapo.look_up("payout-17") for _ in range(3)))
            row = await journal.find("default", "payout-17")
            assert row is not None
            wire.scripts["GET"] = [reply(200, {"id": 7, "foreign_id": "payout-17", "status": "cancelled"})] * 7
            await asyncio.gather(*(alphapo._questions.refresh(row) for _ in range(3)))

    run(story())

    assert [event.outcome for event in events if event.name == "settled"] == ["accepted", "failed"]


def test_an_accepted_row_is_looked_up_again() -> None:
    """Its status is the newer one afterwards."""

    async def story() -> tuple[int, str | None]:
        wire, journal = Wire(), MemoryJournal()
        async with client(wire, journal=journal) as alphapo:
            await alphapo.withdraw(request())
            row = await journal.find("default", "payout-17")
            assert row is not None
            await alphapo._questions.refresh(row)
            row = await journal.find("default", "payout-17")
            assert row is not None
            assert row.withdrawal is not None
            return wire.look_ups, row.withdrawal.status

    assert run(story()) == (1, "not_confirmed")
