"""AlphapoClient as its users meet it; in virtual time where time matters."""

import asyncio
import contextlib
import copy
import itertools
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from alphapo_async.client import AlphapoClient
from alphapo_async.core.callbacks import Callback
from alphapo_async.core.errors import (
    AlphapoError,
    AlphapoUnavailable,
    CallbackBusy,
    CallbackError,
    ConfigurationError,
    ForeignIdConflict,
    InvalidRequest,
    JournalError,
    WithdrawalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.events import Event
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Health, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.outcome import NoReply, Reply
from alphapo_async.core.rate_limit import Priority
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.core.signer import Signer
from alphapo_async.journal import open_journal
from alphapo_async.journal.memory import MemoryJournal
from alphapo_async.sandbox import Sandbox
from alphapo_async.session import SessionManager
from tests.support import postgres
from tests.support.pooler import Pooler
from tests.support.servers import Peer, serving
from tests.support.virtual import VirtualLoop, run
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

# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _as_id(settings: dict[str, Any]) -> str:
    """Return settings as a test's name, without the addresses of functions: each process that runs tests must give the same names."""
    return ", ".join(f"{name}: {getattr(value, '__name__', value)}" for name, value in settings.items())


@pytest.mark.parametrize(
    "settings",
    [
        {"key": ""},
        {"secret": " "},
        {"key": None},
        {"base_url": "http://app.alphapo.net", "journal": "memory"},
        {"base_url": "ftp://127.0.0.1"},
        {"base_url": "https://app.alphapo.net"},
        {"base_url": "http://127.0.0.1/path"},
        {"journal": "carrier://pigeon"},
        {"journal": "redis://user:password@host/db"},
        {"journal": 5},
        {"amount_format": "float"},
        {"account": ""},
        {"policy": {"attempts": 5}},
        {"max_connections": 0},
        {"max_rate": -1},
        {"max_rate": 0},
        {"close_grace": -1},
        {"retired_keys": ["key"]},
        {"retired_keys": 5},
        {"session": "a pool"},
        {"on_event": 5},
        {"on_event": asyncio.sleep},
        {"on_event": lambda: None},
        {"retired_keys": [("key", "")]},
    ],
    ids=_as_id,
)
def test_wrong_settings_are_named_when_the_client_is_made(settings: dict[str, Any]) -> None:
    """No wrong setting waits for the first withdrawal, and no password is shown."""
    usual = {"key": "made-up-key", "secret": "made-up-secret", "base_url": "http://127.0.0.1:9"}

    with pytest.raises(ConfigurationError) as caught:
        AlphapoClient(**{**usual, **settings})

    assert "password" not in str(caught.value).replace("may hold a password", "")


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"attempts": 1.5}, {"deadline": -1}, {"attempt_timeout": 0}, {"quiet": float("nan")}]
)
def test_a_wrong_policy_is_named_when_it_is_made(wrong: dict[str, Any]) -> None:
    """Negative time-outs and attempts are refused at once."""
    with pytest.raises(ConfigurationError):
        RetryPolicy(**wrong)


async def test_a_batch_is_stopped_by_an_event_alone() -> None:
    """Anything else would fail in the background, and the batch would never stop."""
    async with client(Wire()) as alphapo:
        with pytest.raises(ConfigurationError, match=r"stop must be an asyncio.Event, not bool; nothing was sent\."):
            await anext(alphapo.batch([request()], stop=True))  # type: ignore[arg-type]


def test_making_a_client_needs_no_loop() -> None:
    """The constructor does no I/O, and shows neither key nor secret."""
    alphapo = AlphapoClient("made-up-key", "made-up-secret", base_url="http://localhost:9")

    assert "made-up" not in repr(alphapo)


def test_a_client_says_whether_it_is_open_and_is_closed_by_its_block() -> None:
    """Whoever looks at it sees the state; after the block nothing leaves any more."""

    async def story() -> list[str]:
        alphapo = client(Wire())
        told = [repr(alphapo)]
        async with alphapo:
            told.append(repr(alphapo))
        told.append(repr(alphapo))
        with pytest.raises(ConfigurationError, match="closed"):
            await alphapo.withdraw(request())
        return [text.split(", ")[2] for text in told]

    assert run(story()) == ["not opened", "open", "closed"]


def test_a_rejection_is_told_again_unless_it_is_asked_to_be_sent_again() -> None:
    """Nothing leaves for whoever says nothing of it, in one call as in a batch."""
    wire = Wire()
    wire.always = INSUFFICIENT

    async def story() -> list[str]:
        async with client(wire) as alphapo:
            told = []
            for how in ({}, {}, {"resend_rejected": True}):
                with pytest.raises(WithdrawalError) as caught:
                    await alphapo.withdraw(request(), **how)
                told.append(caught.value.outcome)
            told += [result.outcome async for result in alphapo.batch([request()])]
            return [*told]

    assert run(story()) == ["rejected"] * 4
    assert wire.posts == 2


def test_a_row_of_a_batch_is_told_as_a_single_one_is() -> None:
    """With the withdrawal that AlphaPo has."""

    async def story() -> list[Withdrawal | None]:
        async with client(Wire()) as alphapo:
            told = [result.withdrawal async for result in alphapo.batch([request()])]
            return [*told, await alphapo.withdraw(request())]

    of_the_batch, alone = run(story())
    assert of_the_batch is not None
    assert alone is not None
    assert (of_the_batch.id, of_the_batch.foreign_id) == (alone.id, alone.foreign_id)


def test_from_env_takes_the_environment_and_what_is_passed() -> None:
    """The environment names credentials and host; arguments win. Tried in a process of its own, whose environment is its own."""
    program = (
        "from alphapo_async import AlphapoClient\n"
        "print(repr(AlphapoClient.from_env()))\n"
        "print(repr(AlphapoClient.from_env(account='other')))\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ALPHAPO_")},
        "ALPHAPO_KEY": "made-up-key",
        "ALPHAPO_SECRET": "made-up-secret",
        "ALPHAPO_BASE_URL": "http://127.0.0.1:9",
        "ALPHAPO_ACCOUNT": "shop",
    }

    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    first, second = ran.stdout.splitlines()
    assert "account='shop'" in first
    assert "account='other'" in second
    assert "made-up" not in ran.stdout


def test_from_env_without_credentials_says_so() -> None:
    """The tests run without credentials, and the missing variable is named."""
    with pytest.raises(ConfigurationError, match="ALPHAPO_"):
        AlphapoClient.from_env()


# ── input ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_amount_that_a_json_number_would_round_is_refused_before_the_journal() -> None:
    """In "number" format such an amount is refused with advice, and goes out exactly in "string" format."""
    exact = request(amount="0.123456789012345678")

    async def story() -> list[Any]:
        journal, wire = MemoryJournal(), Wire()
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(InvalidRequest, match="string"):
                await alphapo.withdraw(exact)
            assert await journal.find("default", exact.foreign_id) is None
        async with client(wire, amount_format="string") as alphapo:
            await alphapo.withdraw(exact)
        return wire.bodies[exact.foreign_id]

    (body,) = run(story())
    assert b'"amount":"0.123456789012345678"' in body


def test_something_else_than_a_request_is_refused() -> None:
    """A mapping is no WithdrawalRequest, and nothing is sent."""

    async def story() -> int:
        wire = Wire()
        async with client(wire) as alphapo:
            with pytest.raises(ConfigurationError):
                await alphapo.withdraw({"currency": "BTC"})  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError):
                await alphapo.withdraw(request(), deadline=-1)
        return wire.posts

    assert run(story()) == 0


# ── one flight, many callers ─────────────────────────────────────────────────────────────────────────────────────────


def test_callers_of_one_foreign_id_share_a_flight() -> None:
    """Fifty callers, one POST, and each has a result of his own."""

    async def story() -> tuple[list[Withdrawal], int]:
        wire = Wire()
        async with client(wire) as alphapo:
            told = await asyncio.gather(*(alphapo.withdraw(request()) for _ in range(50)))
        return told, wire.posts

    told, posts = run(story())

    assert posts == 1
    assert {withdrawal.foreign_id for withdrawal in told} == {"payout-17"}


def test_each_caller_has_an_exception_of_his_own() -> None:
    """A shared outcome is no shared exception object, whose traceback would grow with every caller."""

    async def story() -> list[Any]:
        wire = Wire([reply(403, {"error": "Bad key header", "code": "bad_header_key"})])
        async with client(wire) as alphapo:
            return await asyncio.gather(*(alphapo.withdraw(request()) for _ in range(3)), return_exceptions=True)

    told = run(story())

    assert len({id(error) for error in told}) == 3
    assert all(error.__cause__ is None and error.__context__ is None for error in told)


def test_another_payment_under_the_same_id_at_the_same_time_is_a_conflict() -> None:
    """The second payload is turned away while the first is under way; nothing of it leaves, and its funds stay where they are."""

    async def story() -> tuple[Any, int]:
        wire = Wire(seconds=1)
        async with client(wire) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.1)
            with pytest.raises(ForeignIdConflict) as caught:
                await alphapo.withdraw(request(amount="7"))
            await first
        return caught.value, wire.posts

    told, posts = run(story())

    assert not told.may_release_funds
    assert (told.existing.state, told.existing.payment) == ("open", request())
    assert "wait for its outcome" in told.next_step
    assert posts == 1


def test_a_retry_with_another_amount_is_not_advised_to_pay_again() -> None:
    """payout-17 is paid with 25.00; its retry says 24.90: the first stands, and the funds are not to be released."""

    async def story() -> tuple[Any, int]:
        wire = Wire()
        async with client(wire) as alphapo:
            await alphapo.withdraw(request(amount="25.00"))
            with pytest.raises(ForeignIdConflict) as caught:
                await alphapo.withdraw(request(amount="24.90"))
        return caught.value, wire.posts

    told, posts = run(story())

    assert (told.may_release_funds, told.is_retry_safe, told.attempts, posts) == (False, False, 0, 1)
    assert (told.existing.state, told.existing.payment.amount) == ("accepted", Decimal("25.00"))
    assert told.existing.id is not None
    assert "If you meant the same payout, do nothing: the existing one stands." in told.next_step


def test_a_conflict_is_followed_until_what_alphapo_shows_has_ended() -> None:
    """A worker looks the existing withdrawal up again, and a later call learns that no money moved under this foreign_id."""

    def shown(status: str) -> Reply:
        place, sent = {"address": "bc1qother"}, {"currency": "BTC", "amount": "9"}
        told = {"id": 9, "foreign_id": "payout-17", "status": status, "crypto_address": place, "currency_sent": sent}
        return reply(200, told)

    async def story() -> list[Any]:
        wire, told = Wire([TAKEN], [shown("not_confirmed"), shown("cancelled")]), []
        async with client(wire, journal=Durable()) as alphapo:
            for _ in range(2):
                with pytest.raises(ForeignIdConflict) as caught:
                    await alphapo.withdraw(request())
                told.append((caught.value.may_release_funds, caught.value.existing.status, wire.posts))
                working = asyncio.ensure_future(alphapo.work())
                await asyncio.sleep(2 * 3_600)
                working.cancel()
        return told

    assert run(story()) == [(False, "not_confirmed", 1), (True, "cancelled", 1)]


class _Slow(MemoryJournal):
    """A journal that takes a second for everything."""

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        await asyncio.sleep(1)
        return await super().update(account, foreign_id, change, **how)


def test_a_wrong_payload_that_came_first_does_not_turn_the_right_one_away() -> None:
    """The journal knows the right payment in doubt; a wrong payload is being checked just when the right one is asked for again."""

    async def story() -> tuple[Any, Any]:
        journal = _Slow()
        wire = Wire(["accept, lost"], [HTML_502])
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as first:
            with pytest.raises(WithdrawalUnknown):
                await first.withdraw(request())
        async with client(wire, journal=journal) as alphapo:
            wrong = asyncio.ensure_future(alphapo.withdraw(request(amount="7")))
            await asyncio.sleep(0.5)
            right = asyncio.ensure_future(alphapo.withdraw(request()))
            return await asyncio.gather(wrong, right, return_exceptions=True)

    wrong, right = run(story())

    assert isinstance(wrong, ForeignIdConflict)
    assert isinstance(right, Withdrawal)


def test_three_payloads_under_one_id_are_sorted_out() -> None:
    """Three payloads arrive together: one is paid, the two others are conflicts, and none waits for ever."""

    async def story() -> tuple[list[Any], int, Any]:
        wire = Wire()
        journal = _Slow()
        async with client(wire, journal=journal) as alphapo:
            await alphapo.withdraw(request(amount="1"))
            told = await asyncio.gather(
                *(alphapo.withdraw(request(amount=str(amount))) for amount in (2, 3, 1, 4)), return_exceptions=True
            )
            return told, wire.posts, await alphapo.totals()

    told, posts, totals = run(story())

    assert [type(one) for one in told] == [ForeignIdConflict, ForeignIdConflict, Withdrawal, ForeignIdConflict]
    assert posts == 1
    assert totals["BTC"].requested == totals["BTC"].accepted == 1


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ends_at(wire: Wire, *, deadline: float | None = None, **settings: Any) -> tuple[float, Any]:
    """Return when the caller hears and what."""

    async def story() -> tuple[float, Any]:
        async with client(wire, close_grace=60, **settings) as alphapo:
            try:
                told: Any = await alphapo.withdraw(request(), deadline=deadline)
            except WithdrawalError as error:
                told = error
            return asyncio.get_running_loop().time(), told

    return run(story())


def test_a_deadline_against_a_silent_server_ends_exactly_then() -> None:
    """One second is one second; the work goes on in the background."""
    now, told = _ends_at(Wire(["silent"] * 9), deadline=1.0)

    assert now == pytest.approx(1.0, abs=1e-6)
    assert told.reason == "in flight"


def test_the_policys_deadline_bounds_a_withdrawal() -> None:
    """Without a deadline of his own a caller waits as long as the policy says, attempts and waits included."""
    now, told = _ends_at(Wire(["silent"] * 9, ["silent"] * 9), policy=RetryPolicy(deadline=20.0))

    assert now == pytest.approx(20.0, abs=1e-6)
    assert isinstance(told, WithdrawalUnknown)


def test_a_longer_deadline_of_the_callers_own_is_his() -> None:
    """The call's own deadline replaces the policy's."""
    now, told = _ends_at(Wire([reply(429, {}, retry_after="90")]), deadline=100.0)

    assert isinstance(told, Withdrawal)
    assert now >= 90


def test_a_deadline_in_the_queue_is_punctual_and_true() -> None:
    """A caller whose time is up before his withdrawal had a slot hears that it was not sent."""

    async def story() -> tuple[float, Any, int]:
        wire = Wire(["silent"], max_connections=1)
        async with client(wire, close_grace=60) as alphapo:
            slow = asyncio.ensure_future(alphapo.withdraw(request("slow")))
            await asyncio.sleep(0)
            with pytest.raises(WithdrawalNotSent) as caught:
                await alphapo.withdraw(request(), deadline=2.0)
            now = asyncio.get_running_loop().time()
            await slow
        return now, caught.value, len(wire.bodies["payout-17"])

    now, told, sent = run(story())

    assert now == pytest.approx(2.0, abs=1e-6)
    assert (told.reason, sent) == ("queue", 0)


def test_a_joining_caller_extends_the_flight() -> None:
    """The first caller leaves at his deadline, the second hears the outcome."""

    async def story() -> tuple[Any, Any]:
        wire = Wire(seconds=3.0)
        async with client(wire) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request(), deadline=1.0))
            second = asyncio.ensure_future(alphapo.withdraw(request(), deadline=10.0))
            return await asyncio.gather(first, second, return_exceptions=True)

    first, second = run(story())

    assert isinstance(first, WithdrawalUnknown)
    assert isinstance(second, Withdrawal)


def test_calling_again_after_a_deadline_returns_the_truth() -> None:
    """A flight that outlives its caller is joined by the next call."""

    async def story() -> tuple[Withdrawal, int]:
        wire = Wire(["silent"])
        async with client(wire) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request(), deadline=1.0)
            return await alphapo.withdraw(request()), wire.posts

    told, posts = run(story())

    assert told.source == "reply"
    assert posts == 2


def test_a_queue_behind_others_costs_no_deadline() -> None:
    """The policy's deadline runs from the slot: 40 withdrawals of 1 s over one connection all succeed under a deadline of 3 s."""

    async def story() -> list[Withdrawal]:
        wire = Wire(seconds=1.0, max_connections=1)
        async with client(wire, policy=RetryPolicy(deadline=3.0)) as alphapo:
            return await asyncio.gather(*(alphapo.withdraw(request(f"payout-{one}")) for one in range(40)))

    assert len(run(story())) == 40


# ── closing and misuse ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_closed_client_says_so() -> None:
    """After closing, every call is refused with a sentence; closing twice is harmless."""

    async def story() -> None:
        alphapo = client(Wire())
        async with alphapo:
            await alphapo.withdraw(request())
        await alphapo.aclose()
        for call in (alphapo.withdraw(request()), alphapo.ping(), alphapo.look_up("x"), alphapo.balances()):
            with pytest.raises(ConfigurationError, match="closed"):
                await call

    run(story())


def test_a_client_belongs_to_one_loop() -> None:
    """Used from another event loop a client refuses with a clear error."""
    made: list[AlphapoClient] = []

    async def first() -> None:
        made.append(client(Wire()))
        await made[0].withdraw(request())

    async def second() -> None:
        with pytest.raises(
            ConfigurationError, match=r"^The client belongs to another event loop, .* nothing\. Make one .* journal\.$"
        ):
            await made[0].withdraw(request())

    run(first())
    run(second())


def test_a_shared_session_of_another_loop_is_refused_before_anything_leaves() -> None:
    """A paid withdrawal would be reported as unknown."""
    session = SessionManager()

    async def story() -> None:
        alphapo = client(session, journal=Durable())
        for call in (alphapo.withdraw(request()), alphapo.ping()):
            with pytest.raises(ConfigurationError, match="SessionManager belongs to another event loop"):
                await call
        await alphapo.aclose()

    other = asyncio.new_event_loop()
    session.bind(other)
    run(story())
    other.close()


def test_what_a_journal_that_went_back_may_have_forgotten() -> None:
    """A "no" of before is looked up before it is told again, and a callback of an unknown withdrawal is an event at ERROR."""
    events: list[Event] = []

    async def story() -> None:
        journal = Durable()
        async with client(Wire([INSUFFICIENT]), journal=journal, on_event=events.append) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            await journal.raise_epoch(EPOCH + asyncio.get_running_loop().time())
            with pytest.raises(WithdrawalRejected):
                await alphapo.enqueue(request())
            body = called(foreign_id="another")
            async with alphapo.receive_callback(KEYS.headers(body), body) as callback:
                assert callback.kind == "not in journal"

    run(story())
    assert "another" in [event.foreign_id for event in events if event.name == "journal went back"]


def test_a_client_is_closed_in_its_own_loop_or_after_that_has_ended() -> None:
    """Closing from another one would end nothing while its own still runs."""
    made: list[AlphapoClient] = []
    under_way: list[asyncio.Future[Any]] = []

    async def begin() -> None:
        made.append(client(Wire(["silent"]), journal=Durable()))
        under_way.append(asyncio.ensure_future(made[0].withdraw(request())))
        await asyncio.sleep(0.1)

    async def close() -> str:
        await made[0].aclose()
        return repr(made[0])

    loop = VirtualLoop()
    loop.run_until_complete(begin())
    with pytest.raises(ConfigurationError, match="close it there"):
        run(close())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert "closed, 0 in flight" in run(close())


def test_a_closing_that_its_loop_took_with_it_is_begun_again() -> None:
    """The next loop ends it."""
    made: list[AlphapoClient] = []
    under_way: list[asyncio.Future[Any]] = []

    async def begin() -> None:
        made.append(client(Wire(), journal=Durable()))
        await made[0].withdraw(request())
        under_way.append(asyncio.ensure_future(made[0].aclose()))
        await asyncio.sleep(0)

    loop = VirtualLoop()
    loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    run(made[0].aclose())
    assert made[0]._closing is not None
    assert made[0]._closing._task.done()


def test_a_client_whose_journal_does_not_open_is_closed() -> None:
    """No block follows that would close it."""

    class Down(Durable):
        async def join(self, *_: Any) -> None:
            raise JournalError("down")

    async def story() -> None:
        alphapo = client(Wire(), journal=Down())
        with pytest.raises(JournalError):
            async with alphapo:
                pass
        with pytest.raises(ConfigurationError, match="closed"):
            await alphapo.ping()

    run(story())


def test_closing_without_grace_cancels_what_is_under_way() -> None:
    """A caller who still waits hears that the client was closed."""

    async def story() -> Any:
        alphapo = client(Wire(["silent"]))
        paying = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(0.1)
        await alphapo.aclose(grace=0)
        with pytest.raises(WithdrawalUnknown) as caught:
            await paying
        return caught.value.reason

    assert run(story()) == "closing"


def test_closing_gives_what_is_under_way_its_grace() -> None:
    """A flight that ends within the grace ends well."""

    async def story() -> Withdrawal:
        alphapo = client(Wire(seconds=2.0))
        paying = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(0.1)
        await alphapo.aclose(grace=5)
        return await paying

    assert isinstance(run(story()), Withdrawal)


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────


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
        async def exchange(self, method: str, url: str, **told: Any) -> Reply | NoReply:
            return answer

    async def story() -> list[AlphapoUnavailable]:
        heard = []
        async with client(Always()) as alphapo:
            for ask in (lambda: alphapo.look_up("payout-17"), alphapo.balances, alphapo.ping):
                with pytest.raises(AlphapoUnavailable) as caught:
                    await ask()
                heard.append(caught.value)
        return heard

    looked_up, *others = run(story())
    assert str(looked_up).startswith("AlphaPo did not answer the look-up: ")
    for error in (looked_up, *others):
        assert (error.status, error.code) == (status, code)


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
        async def exchange(self, method: str, url: str, **told: Any) -> Reply | NoReply:
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


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_tell_the_story() -> None:
    """Attempts, look-ups and the outcome, in order; a listener that raises does no harm."""
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        raise RuntimeError("a broken listener")

    async def story() -> None:
        async with client(Wire(["accept, lost"], [NOT_FOUND]), on_event=listen) as alphapo:
            await alphapo.withdraw(request())

    run(story())

    names = ["begun", "recorded", "attempt", "look-up", "attempt", "look-up", "settled", "ended"]
    assert [event.name for event in heard] == names
    assert [event.outcome for event in heard[-2:]] == ["accepted", "accepted"]
    assert {event.base_url for event in heard} == {"http://127.0.0.1:9"}
    assert all(event.began is not None and event.until is not None for event in heard[2:6])


def test_the_health_of_a_client_is_told() -> None:
    """What is under way, how old what is open and in doubt is, what may be asked for, and whether AlphaPo answers."""

    async def story() -> list[Health]:
        wire = Wire([LOST] * 99, [HTML_502] * 999)
        async with client(wire, account="shop", policy=RetryPolicy(deadline=100.0)) as alphapo:
            told = [await alphapo.health()]
            paying = [asyncio.ensure_future(alphapo.withdraw(request(f"payout-{number}"))) for number in range(9)]
            await asyncio.sleep(0.005)
            told.append(await alphapo.health())
            await asyncio.sleep(60.0)
            told.append(await alphapo.health())
            for one in paying:
                one.cancel()
            return told

    before, begun, after = run(story())
    assert before == Health(
        account="shop",
        at=EPOCH,
        in_flight=0,
        budget_left=100.0,
        is_outage=False,
        oldest_open=None,
        oldest_doubt=None,
        frozen=0,
    )
    assert before.is_ready
    assert (begun.in_flight, begun.oldest_open, begun.oldest_doubt, begun.is_outage) == (9, EPOCH, None, False)
    assert (after.in_flight, after.oldest_open, after.is_outage) == (9, EPOCH, True)
    assert after.oldest_doubt is not None
    assert EPOCH <= after.oldest_doubt < after.at
    assert 0.0 <= after.budget_left < 100.0


def test_no_secret_signature_or_body_is_told_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    """Logs at debug level, reprs, events and exceptions with their causes: none holds a secret, a signature or a body."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []

    async def story() -> tuple[list[str], list[bytes]]:
        wire = Wire([LOST, reply(400, {"errors": {"amount": "no"}})], [HTML_502] * 30)
        alphapo = client(wire, on_event=lambda event: told.append(repr(event)))
        async with alphapo:
            for one in range(3):
                try:
                    await alphapo.withdraw(request(f"payout-{one}"))
                except AlphapoError as error:
                    seen: BaseException | None = error
                    while seen is not None:
                        told.extend((repr(seen), str(seen), repr(vars(seen)), repr(copy.copy(seen))))
                        seen = seen.__cause__ or seen.__context__
            row = await alphapo._context.journal.find("default", "payout-1")
            told.extend(map(repr, (alphapo, alphapo._context.limiter, alphapo._signer, wire, row, request())))
        signatures = [headers["X-Processing-Signature"] for headers in wire.headers]
        return signatures, [body for bodies in wire.bodies.values() for body in bodies]

    signatures, bodies = run(story())

    everything = "\n".join([*told, caplog.text])
    assert signatures
    assert "payout-1" in everything
    for secret in ("made-up-secret", "made-up-key", *signatures, *(body.decode() for body in bodies)):
        assert secret not in everything


def test_a_journal_that_breaks_its_promise_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """A journal that raises something else than JournalError: the caller hears unknown, and the log says where, not what."""

    class Broken(MemoryJournal):
        url = "postgresql://user:hush@host"

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            raise KeyError(self.url)

    class BrokenLater(Broken):
        has_worked = False

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            if self.has_worked:
                raise KeyError(self.url)
            self.has_worked = True
            return await MemoryJournal.update(self, account, foreign_id, change, **how)

    async def story(journal: MemoryJournal) -> WithdrawalError:
        async with client(Wire([NO_CONNECTION]), journal=journal) as alphapo:
            with pytest.raises(WithdrawalUnknown) as caught:
                await alphapo.withdraw(request())
            return caught.value

    for journal in (Broken(), BrokenLater()):
        told = run(story(journal))
        assert isinstance(told, WithdrawalUnknown)
        assert told.reason == "internal error"
    assert "KeyError" in caplog.text
    assert "hush" not in caplog.text


def test_a_session_handed_in_stays_its_owners() -> None:
    """Closing the client does not close a session that it was given."""

    class Watched(Wire):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    async def story() -> bool:
        wire = Watched()
        async with client(wire) as alphapo:
            await alphapo.withdraw(request())
        return wire.closed

    assert run(story()) is False


def test_a_cancelled_question_gives_its_slot_back() -> None:
    """A ping that its caller no longer waits for leaves no slot taken."""

    class Stalling(Wire):
        async def exchange(self, method: str, url: str, **told: Any) -> Reply | NoReply:
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
            assert alphapo._context.limiter.try_acquire(Priority.QUESTION, asyncio.get_running_loop()) is not None
            return wire.slots.free

    assert run(story()) == 0


async def test_a_client_with_its_own_session_over_a_real_socket() -> None:
    """Nothing listens there: the withdrawal was not sent, and closing leaves nothing open."""
    alphapo = AlphapoClient(
        "made-up-key", "made-up-secret", base_url="http://127.0.0.1:1", policy=RetryPolicy(attempts=2, wait_initial=0)
    )
    assert isinstance(alphapo._context.session, SessionManager)

    async with alphapo:
        with pytest.raises(WithdrawalNotSent) as caught:
            await alphapo.withdraw(request())

    assert caught.value.reason == "no connection"
    assert len(asyncio.all_tasks()) == 1


# ── without a caller ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_enqueued_is_written_down_and_nothing_leaves() -> None:
    """Calling again changes nothing; another payment under the same foreign_id is a conflict."""
    wire, journal = Wire(), Durable()

    async def story() -> None:
        async with client(wire, journal=journal) as alphapo:
            await alphapo.enqueue(request())
            await alphapo.enqueue(request())
            with pytest.raises(ForeignIdConflict):
                await alphapo.enqueue(request(amount="2"))
            row = await journal.find("default", "payout-17")
            assert row is not None
            assert (row.state, row.holder, row.expires_at) == ("open", None, EPOCH + 86_400)

    run(story())
    assert wire.times == []


def test_a_journal_that_ends_with_its_process_takes_nothing_for_later() -> None:
    """Whoever leaves a payment to the workers wants it to survive."""

    async def story() -> None:
        async with client(Wire()) as alphapo:
            with pytest.raises(ConfigurationError, match="outlives the process"):
                await alphapo.enqueue(request())

    run(story())


# ── inside a transaction of the caller's ─────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def payer(wire: Wire) -> AsyncIterator[AlphapoClient]:
    """Yield an open client with a journal in PostgreSQL."""
    journal = open_journal(postgres.url(), schema=postgres.schema())
    async with AlphapoClient(
        "made-up-key", "made-up-secret", journal=journal, base_url="http://127.0.0.1:9", session=wire
    ) as alphapo:
        yield alphapo
    await journal.aclose()


async def paid(alphapo: AlphapoClient) -> list[str]:
    """Make a worker's pass and return what came of it."""
    return [f"{result.request.foreign_id} {result.outcome}" async for result in alphapo.resume()]


async def test_a_payment_is_sent_only_if_the_transaction_commits_that_enqueued_it() -> None:
    """With an asyncpg connection; another payment under the same foreign_id, and no transaction, are refused."""
    wire = Wire()
    connection = await asyncpg.connect(postgres.url())
    async with payer(wire) as alphapo:
        with pytest.raises(ConfigurationError, match="in no transaction"):
            await alphapo.enqueue(request(), connection)
        for foreign_id, commits in (("undone", False), ("done", True)):
            transaction = connection.transaction()
            await transaction.start()
            await alphapo.enqueue(request(foreign_id), connection=connection)
            await alphapo.enqueue(request(foreign_id), connection=connection)
            assert await paid(alphapo) == []
            await (transaction.commit() if commits else transaction.rollback())
        async with connection.transaction():
            with pytest.raises(ForeignIdConflict):
                await alphapo.enqueue(request("done", amount="2"), connection)
        assert await paid(alphapo) == ["done accepted"]
    await connection.close()
    assert list(wire.bodies) == ["done"]


async def test_a_statement_enqueues_in_a_transaction_of_sqlalchemy() -> None:
    """Its AsyncSession runs it as it stands; what rolls back was never there."""
    wire = Wire()
    engine = create_async_engine(postgres.url().replace("postgresql://", "postgresql+asyncpg://"))
    async with payer(wire) as alphapo, AsyncSession(engine) as session:
        for foreign_id, commits in (("undone", False), ("it's :done %s", True)):
            sql, parameters = alphapo.enqueue_statement(request(foreign_id, address="bitcoin:bc1qmadeup?a=%s"))
            assert (await session.execute(text(sql), parameters)).scalar_one() is True
            await (session.commit() if commits else session.rollback())
        sql, parameters = alphapo.enqueue_statement(request("it's :done %s", amount="2"))
        with pytest.raises(IntegrityError, match="another payment"):
            await session.execute(text(sql), parameters)
        await session.rollback()
        assert await paid(alphapo) == ["it's :done %s accepted"]
    await engine.dispose()
    assert list(wire.bodies) == ["it's :done %s"]


async def test_a_statement_enqueues_in_a_transaction_of_psycopg() -> None:
    """As Django runs it, too: with its parameters, which are none."""
    wire = Wire()
    async with payer(wire) as alphapo, await psycopg.AsyncConnection.connect(postgres.url()) as connection:
        for foreign_id in ("undone", "100% :done"):
            await connection.execute(*alphapo.enqueue_statement(request(foreign_id)))
            await (connection.rollback() if foreign_id == "undone" else connection.commit())
        assert await paid(alphapo) == ["100% :done accepted"]
    assert list(wire.bodies) == ["100% :done"]


def test_only_a_database_has_transactions() -> None:
    """A file's journal says so, and nothing is written down."""
    journal = Durable()

    async def story() -> None:
        async with client(Wire(), journal=journal) as alphapo:
            for refused in (lambda: alphapo.enqueue_statement(request()), alphapo._outbox):
                with pytest.raises(ConfigurationError, match="postgresql://"):
                    refused()
            with pytest.raises(ConfigurationError, match="postgresql://"):
                await alphapo.enqueue(request(), connection=object())
            assert await journal.find("default", "payout-17") is None

    run(story())


def _unreport(row: Row | None) -> tuple[Row, Sequence[Entry]]:
    assert row is not None
    return msgspec.structs.replace(row, reported=False), ()


def test_a_pass_shares_the_flight_of_a_caller() -> None:
    """One flight for each foreign_id, whoever wants it."""
    wire, journal = Wire(["silent"]), Durable()

    async def story() -> list[str]:
        async with client(wire, journal=journal) as alphapo:
            flight = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            told = [result.outcome async for result in alphapo.resume()]
            await flight
            return [*told]

    assert run(story()) == ["accepted"]
    assert wire.posts == 2


@pytest.mark.parametrize("outcome", ["accepted", "rejected"])
def test_a_pass_does_not_tell_one_payment_as_another(outcome: str) -> None:
    """A row found open may be refused and corrected before its turn comes: it waits for the correction, and tells of that."""
    wire, journal = Wire([INSUFFICIENT, *([INSUFFICIENT] if outcome == "rejected" else ["silent"])]), Durable()

    async def story() -> tuple[Any, str]:
        async with client(wire, journal=journal) as alphapo:
            await alphapo.enqueue(request())
            found = await journal.find("default", "payout-17")
            assert found is not None
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            correcting = asyncio.ensure_future(alphapo.withdraw(request(amount="2")))
            await asyncio.sleep(0.005)  # it is on the wire
            result = await alphapo._settle(itertools.count(), True, None, found)
            await asyncio.gather(correcting, return_exceptions=True)
            told = await journal.find("default", "payout-17")
            assert told is not None
            assert told.settled_by is not None  # what was settled meanwhile is told, and not worked on again
            return result.request.amount, result.outcome

    assert run(story()) == (Decimal(2), outcome)


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
            assert [line.what for line in await journal.history("default", "payout-17")][1:] == ["NoneFound"]

    run(story())


def test_resume_and_work_open_the_journal_themselves() -> None:
    """First use, without `async with`: what was enqueued is paid, then handed out, then refreshed."""
    wire, journal = Wire(), Durable()

    async def story() -> list[str]:
        alphapo = client(wire, journal=journal)
        await alphapo.enqueue(request())
        first = [result.outcome async for result in alphapo.resume()]
        working = asyncio.ensure_future(alphapo.work())
        await asyncio.sleep(700)
        working.cancel()
        await journal.update("default", "payout-17", _unreport)
        again = [result.outcome async for result in alphapo.resume()]
        await alphapo.aclose()
        return [*first, *again]

    assert run(story()) == ["accepted", "accepted"]
    assert (wire.posts, wire.look_ups) == (1, 1)


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
            await alphapo._refresh(row)
            assert await journal.find("default", "payout-17") is row
            for _ in range(100):
                wire.slots.give()

    run(story())


class _Shy(Durable):
    """A journal that does not open."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        await asyncio.sleep(self.seconds)
        raise JournalError("It is on fire.")


@pytest.mark.parametrize(
    ("seconds", "deadline", "says", "recorded"),
    [
        (0.0, None, "It is on fire.", False),
        (90.0, None, "it could not be opened in time", None),
        (9.0, 1.0, "it could not be opened in time", None),
    ],
)
def test_a_journal_that_does_not_open_is_told_in_time(
    seconds: float, deadline: float | None, says: str, recorded: object
) -> None:
    """Nothing was sent by this call; what stands in the journal only the journal can say."""
    wire = Wire()

    async def story() -> float:
        alphapo = client(wire, journal=_Shy(seconds))
        with pytest.raises(JournalError) as caught:
            await alphapo.withdraw(request(), deadline=deadline)
        assert str(caught.value).startswith(f"Withdrawal 'payout-17' was not sent by this call: {says}")
        assert (caught.value.recorded, caught.value.foreign_id) == (recorded, "payout-17")
        await alphapo.aclose()
        return asyncio.get_running_loop().time()

    assert run(story()) <= 60
    assert wire.times == []


def test_an_acceptance_may_be_written_down_a_moment_later(tmp_path: Path) -> None:
    """The caller hears it at once; closing writes it down, and the next client knows it."""
    path = tmp_path / "payouts.db"

    async def story() -> Withdrawal:
        async with Sandbox("k", "s") as sandbox:
            settings: dict[str, Any] = {"base_url": sandbox.url, "journal": path}
            async with AlphapoClient("k", "s", **settings) as alphapo:
                await asyncio.gather(*(alphapo.withdraw(request(str(number))) for number in range(20)))
            async with AlphapoClient("k", "s", **settings) as alphapo:
                return await alphapo.withdraw(request("7"))

    assert asyncio.run(story()).source == "journal"


def test_an_acceptance_that_cannot_be_written_down_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Good news needs no journal; the row stays open and is looked up when it comes up again."""

    class Full(Durable):
        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            if how.get("may_lag"):
                raise JournalError("The disk is full.")
            return await super().update(account, foreign_id, change, **how)

    async def story() -> Withdrawal:
        async with client(Wire(), journal=Full()) as alphapo:
            return await alphapo.withdraw(request())

    assert isinstance(run(story()), Withdrawal)
    assert "not written down: acceptance of payout-17" in caplog.text


# ── what came before, and what comes too late ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("first", "look_ups"), [(reply(429, {}), []), (INSUFFICIENT, [NOT_FOUND])])
def test_an_earlier_attempt_is_heard_of_late(first: Reply, look_ups: list[Reply]) -> None:
    """A "no" of a journal that ends with its process is none once a caller says that an earlier process may have sent it."""
    wire = Wire([first, reply(429, {})], look_ups)

    async def story() -> tuple[str, Withdrawal]:
        async with client(wire, policy=RetryPolicy(attempts=1)) as alphapo:
            with pytest.raises(WithdrawalError) as caught:
                await alphapo.withdraw(request())
            wire._accept("payout-17", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})
            return caught.value.outcome, await alphapo.withdraw(request(), attempted_before=True)

    outcome, withdrawal = run(story())
    assert outcome in ("not_sent", "rejected")
    assert withdrawal.source == "look-up"


def test_an_earlier_attempt_counts_for_whoever_says_it_although_a_flight_is_shared() -> None:
    """The flight of a caller who knew nothing says "not sent"; the one who knows gets the truth."""
    wire = Wire([reply(429, {})])
    wire._accept("payout-17", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})

    async def story() -> list[Any]:
        async with client(wire, policy=RetryPolicy(attempts=1)) as alphapo:
            calls = [alphapo.withdraw(request()), alphapo.withdraw(request(), attempted_before=True)]
            return list(await asyncio.gather(*calls, return_exceptions=True))

    unaware, aware = run(story())
    assert isinstance(unaware, WithdrawalNotSent)
    assert isinstance(aware, Withdrawal)


def test_nothing_leaves_after_closing() -> None:
    """Another payment that waited for its turn under the same foreign_id hears that the client is closed."""
    wire = Wire(seconds=5.0, max_connections=1)

    async def story() -> tuple[list[Any], int]:
        alphapo = client(wire, close_grace=0.2)
        calls = [request("C"), request("A"), request("A", amount="0.02")]
        tasks = [asyncio.ensure_future(alphapo.withdraw(call)) for call in calls]
        await asyncio.sleep(0.3)
        await alphapo.aclose()
        posts = wire.posts
        await asyncio.sleep(60)
        assert wire.posts == posts == 1
        return await asyncio.gather(*tasks, return_exceptions=True), posts

    told, _ = run(story())
    assert all(isinstance(one, AlphapoError) for one in told)


@pytest.mark.parametrize("foreign_id", ["", None, 1.5, True, b"x", "a\n", "\ud800", "x" * 256])
def test_a_look_up_of_what_cannot_be_is_refused(foreign_id: Any) -> None:
    """Before a slot is taken."""
    wire = Wire(max_connections=1)

    async def story() -> None:
        async with client(wire) as alphapo:
            for _ in range(3):
                with pytest.raises(InvalidRequest):
                    await alphapo.look_up(foreign_id)
            assert isinstance(await alphapo.withdraw(request()), Withdrawal)

    run(story())
    assert wire.look_ups == 0


def test_another_payment_of_the_same_moment_does_not_wait_for_the_first() -> None:
    """It hears of the conflict as soon as the journal has answered, and keeps nobody's flight alive."""
    wire = Wire(["silent"])

    async def story() -> float:
        async with client(wire, close_grace=0.0) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0)
            with pytest.raises(ForeignIdConflict):
                await alphapo.withdraw(request(amount="0.02"), deadline=0.5)
            told = asyncio.get_running_loop().time()
            first.cancel()
            return told

    assert run(story()) < 0.1


def test_another_payment_is_told_in_time_if_the_journal_does_not_answer() -> None:
    """Unknown: the journal may know this very payment."""

    class Slow(MemoryJournal):
        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            await asyncio.sleep(30)
            return await super().update(account, foreign_id, change, **how)

    async def story() -> float:
        async with client(Wire(), journal=Slow(), close_grace=0.0) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0)
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request(amount="0.02"), deadline=0.5)
            told = asyncio.get_running_loop().time()
            first.cancel()
            return told

    assert run(story()) == pytest.approx(0.5)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_hear_what_the_journal_knows() -> None:
    """A flight that ends before its first caller has come tells him all the same."""

    async def story() -> Withdrawal:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        async with client(Wire()) as alphapo:
            await alphapo.withdraw(request())
            return await alphapo.withdraw(request(), deadline=1.0)

    assert run(story()).source == "journal"


def test_a_row_that_waits_for_the_quiet_time_says_how_long() -> None:
    """So that a worker does not ask again and again."""
    wire = Wire([LOST, INSUFFICIENT])

    async def story() -> WithdrawalError:
        async with client(wire, policy=RetryPolicy(quiet=600.0, deadline=30.0)) as alphapo:
            with pytest.raises(WithdrawalUnknown) as caught:
                await alphapo.withdraw(request())
            return caught.value

    told = run(story())
    assert told.retry_after is not None
    assert 500 < told.retry_after <= 600


def test_a_key_that_works_again_is_used_again() -> None:
    """A refusal of the key in the midst of a doubt does not cripple the row."""
    refused = reply(403, {"error": "no", "code": "bad_header_key"})
    wire = Wire([LOST, refused, HTML_502, HTML_502], [NOT_FOUND] * 20)

    async def story() -> Withdrawal:
        async with client(wire) as alphapo:
            with pytest.raises(WithdrawalUnknown) as caught:
                await alphapo.withdraw(request())
            assert caught.value.reason == "key refused"
            return await alphapo.withdraw(request())

    assert isinstance(run(story()), Withdrawal)
    assert wire.posts == 5


def test_whoever_closes_second_waits_for_the_first() -> None:
    """When closing returns, it is closed."""
    wire = Wire(seconds=5.0)

    async def story() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        alphapo = client(wire)
        flight = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(1)
        first = asyncio.ensure_future(alphapo.aclose())
        await asyncio.sleep(0)
        await alphapo.aclose()
        second = loop.time()
        await first
        await flight
        return second, loop.time()

    second, both = run(story())
    assert second == both == pytest.approx(5.0)


async def test_a_database_that_falls_silent_is_told_within_the_deadline() -> None:
    """Nothing was sent yet; calling again when it is back pays, once."""
    wire = Wire()
    async with Pooler(postgres.url(), is_pooling=False) as between:
        journal = open_journal(between.url, schema=postgres.schema())
        async with AlphapoClient(
            "made-up-key", "made-up-secret", journal=journal, base_url="http://127.0.0.1:9", session=wire
        ) as alphapo:
            between.is_silent = True
            loop = asyncio.get_running_loop()
            began = loop.time()
            with pytest.raises(JournalError, match="not answered in time") as caught:
                await alphapo.withdraw(request(), deadline=0.5)
            assert loop.time() - began < 1
            assert (caught.value.recorded, caught.value.may_release_funds) == (None, False)
            assert wire.posts == 0
            between.is_silent = False
            await between.cut_all()
            assert (await alphapo.withdraw(request())).status == "processing"
        await journal.aclose()
    assert wire.posts == 1


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_pays_every_row_as_withdraw_does() -> None:
    """What `withdraw` raises is a row's result: a rejection, a conflict, an amount that JSON cannot carry."""
    wire = Wire()
    rows = [request("a"), request("b"), request("a", amount="9"), request("c", amount="0.12345678901234567890")]

    async def story() -> dict[int, str]:
        async with client(wire) as alphapo:
            return {result.index: result.outcome async for result in alphapo.batch(rows, 2)}

    assert run(story()) == {0: "accepted", 1: "accepted", 2: "conflict", 3: "invalid"}


def test_a_batch_checks_its_arguments_before_it_takes_a_row() -> None:
    """What is no series of rows, and a concurrency that is none."""

    async def story() -> None:
        async with client(Wire()) as alphapo:
            for requests, concurrency in ((request(), 1), ([request()], 0)):
                with pytest.raises(ConfigurationError):
                    await anext(alphapo.batch(requests, concurrency))  # type: ignore[arg-type]

    run(story())


# ── callbacks ────────────────────────────────────────────────────────────────────────────────────────────────────────

KEYS = Signer("made-up-key", "made-up-secret")


def called(status: str = "confirmed", foreign_id: str | None = "payout-17", **changes: Any) -> bytes:
    """Return a callback's body, as AlphaPo's samples have it."""
    part = {"currency": "BTC", "transaction_type": "blockchain", "amount": "0.00150000", "txid": "bb04"}
    told = {
        "id": 7,
        "foreign_id": foreign_id,
        "type": "withdrawal",
        "crypto_address": {"id": 1, "currency": "BTC", "address": "bc1qmadeup", "tag": None},
        "transactions": [part],
        "fees": [],
        "error": "",
        "status": status,
        **changes,
    }
    return msgspec.json.encode(told)


async def receive(alphapo: AlphapoClient, body: bytes) -> Callback:
    """Deliver a genuine callback, and handle it."""
    async with alphapo.receive_callback(KEYS.headers(body), body) as callback:
        return callback


def test_a_client_that_only_hears_callbacks_has_a_lease() -> None:
    """Others must see that it lives while it handles one."""
    journal = Durable()

    async def story() -> float | None:
        alphapo = client(Wire(), journal=journal)
        async with alphapo.receive_callback(KEYS.headers(called()), called()):
            until = await journal.ended(alphapo._context.lease.worker, EPOCH)
        await alphapo.aclose()
        return until

    assert run(story()) is None


def test_a_kept_callback_is_handed_out_again() -> None:
    """With its kind, and not as new; of a withdrawal without one that is an error."""

    async def story() -> Callback:
        async with client(Wire()) as alphapo:
            await alphapo.withdraw(request())
            with pytest.raises(CallbackError, match="keeps no callback"):
                await alphapo.replay_callback("payout-17").__aenter__()
            await receive(alphapo, called())
            async with alphapo.replay_callback("payout-17", "confirmed") as callback:
                return callback

    callback = run(story())
    assert (callback.transaction.status, callback.kind, callback.is_new) == ("confirmed", "ours", False)


def test_a_callback_says_what_became_of_a_withdrawal_nobody_could_tell() -> None:
    """Unknown, then called back: settled, with its txid in the history, and told by `withdraw` without a request."""
    wire = Wire([LOST], [NOT_FOUND] * 9)

    async def story() -> tuple[Callback, Withdrawal, list[str], list[str]]:
        events: list[Event] = []
        journal = Durable()
        policy = RetryPolicy.none()
        async with client(wire, journal=journal, policy=policy, on_event=events.append) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            callback = await receive(alphapo, called())
            withdrawal = await alphapo.withdraw(request())
            history = [f"{line.kind}: {line.what}" for line in await journal.history("default", "payout-17")]
        return callback, withdrawal, history, [event.name for event in events]

    callback, withdrawal, history, events = run(story())
    assert (callback.kind, callback.is_new, callback.transaction.txids) == ("ours", True, ("bb04",))
    assert (withdrawal.status, withdrawal.is_final, wire.posts) == ("confirmed", True, 1)
    assert "callback: confirmed; txid bb04" in history
    assert events[-5:] == ["callback", "settled", "begun", "recorded", "ended"]


@pytest.mark.parametrize("post", ["accept", "accept, lost", "silent"])
@pytest.mark.parametrize("is_durable", [False, True])
def test_a_callback_before_the_reply_settles_it_once(post: str, is_durable: bool) -> None:  # noqa: FBT001
    """Reply, look-up and callback are one state, and one event says that it is settled."""
    wire = Wire([] if post == "accept" else [post], seconds=5.0)

    async def story() -> tuple[str | None, list[str]]:
        events: list[Event] = []
        journal = Durable() if is_durable else "memory"
        async with client(wire, journal=journal, on_event=events.append) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(2.0)
            await receive(alphapo, called())
            withdrawal = await paying
            await receive(alphapo, called("pending"))
        return withdrawal.status, [event.name for event in events if event.name == "settled"]

    assert run(story()) == ("confirmed", ["settled"])
    assert wire.posts == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (called(foreign_id="another"), "not in journal"),
        (called(foreign_id=None), "not in journal"),
        (called(foreign_id=" \n"), "not in journal"),
        (called(type="deposit"), "not a withdrawal"),
        (called(id=8, crypto_address={"address": "another"}), "contradicts"),
        (called("cancelled", id=8), "contradicts"),
        (called(crypto_address={"address": "another"}), "ours"),
        (called("cancelled", crypto_address=None, transactions=[]), "ours"),
        (called("thawed", type="withdrawal_of_tomorrow"), "ours"),
    ],
)
def test_every_signed_callback_is_handed_over_and_says_what_it_is(body: bytes, kind: str) -> None:
    """Whatever its content; each of them is new once."""

    async def story() -> list[tuple[str, bool]]:
        async with client(Wire()) as alphapo:
            await alphapo.withdraw(request())
            return [(callback.kind, callback.is_new) for callback in [await receive(alphapo, body) for _ in range(2)]]

    assert run(story()) == [(kind, True), (kind, False)]


def test_a_callback_with_another_id_is_loud_and_changes_nothing() -> None:
    """It stands in the history, with what does not fit; repeated, it is not reported anew."""

    async def story() -> tuple[list[str], list[str | None]]:
        events: list[Event] = []
        journal = Durable()
        async with client(Wire(), journal=journal, on_event=events.append) as alphapo:
            before = await alphapo.withdraw(request())
            await receive(alphapo, called("cancelled", id=8))
            await receive(alphapo, called("cancelled", id=8))
            after = await alphapo.withdraw(request())
            assert (before.id, before.status) == (after.id, after.status)
            history = [line.what for line in await journal.history("default", "payout-17") if line.kind == "callback"]
        return history, [event.reason for event in events if event.name == "contradiction"]

    assert run(story()) == (["does not fit: another id, 8"], ["a callback shows another id, 8"])


def test_figures_that_differ_under_the_same_id_are_a_warning() -> None:
    """The status counts; the amount or the address that nobody requested is reported once."""

    async def story() -> tuple[str, list[tuple[str, str | None]]]:
        events: list[Event] = []
        async with client(Wire(), journal=Durable(), on_event=events.append) as alphapo:
            await alphapo.withdraw(request())
            body = called("declined", crypto_address={"address": "another"}, transactions=[])
            callback = await receive(alphapo, body)
            await receive(alphapo, body)
            with pytest.raises(WithdrawalFailed):
                await alphapo.withdraw(request())
        names = ("contradiction", "figures differ")
        return callback.kind, [(event.name, event.reason) for event in events if event.name in names]

    reason = "address: asked 'bc1qmadeup', AlphaPo shows 'another'"
    assert run(story()) == ("ours", [("figures differ", reason)])


def test_a_callback_under_a_retired_key_is_alphapos() -> None:
    """Under a key of nobody it is not."""
    body = called()

    async def story() -> str:
        old = Signer("old-key", "old-secret")
        async with client(Wire(), retired_keys=[("old-key", "old-secret")]) as alphapo:
            async with alphapo.receive_callback(old.headers(body), body) as callback:
                pass
            with pytest.raises(CallbackError):
                await receive_under(alphapo, Signer("nobody", "secret"), body)
        return callback.kind

    assert run(story()) == "not in journal"


async def receive_under(alphapo: AlphapoClient, signer: Signer, body: bytes) -> None:
    """Deliver a callback that this key has signed."""
    async with alphapo.receive_callback(signer.headers(body), body):
        raise AssertionError


def test_a_block_that_fails_is_tried_again_and_its_evidence_is_not_lost() -> None:
    """What the callback says is in the journal before the block begins."""

    async def story() -> tuple[list[bool], str]:
        seen: list[bool] = []
        async with client(Wire([LOST], [NOT_FOUND] * 9), journal=Durable(), policy=RetryPolicy.none()) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            for error in (ValueError, asyncio.CancelledError, None):
                with contextlib.suppress(ValueError, asyncio.CancelledError):
                    async with alphapo.receive_callback(KEYS.headers(called()), called()) as callback:
                        seen.append(callback.is_new)
                        if error is not None:
                            assert (await alphapo.withdraw(request())).status == "confirmed"
                            raise error
            return [*seen, (await receive(alphapo, called())).is_new], callback.kind

    assert run(story()) == ([True, True, True, False], "ours")


def test_a_closed_client_receives_nothing() -> None:
    """Its journal is closed, too: let AlphaPo send it again."""

    async def story() -> None:
        alphapo = client(Wire())
        await alphapo.aclose()
        with pytest.raises(ConfigurationError):
            await receive(alphapo, called())

    run(story())


def test_a_row_that_was_taken_on_unheard_is_free_for_others_in_a_moment() -> None:
    """The journal took it and its answer was lost: the caller hears so at once, and the flight lets go of the row by itself."""

    class Silent(Durable):
        calls = 0

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            self.calls += 1
            written = await super().update(account, foreign_id, change, **how)
            if self.calls == 1:
                raise JournalError("The answer was lost.", recorded=None)
            return written

    journal = Silent()

    async def story() -> tuple[float, str | None]:
        async with client(Wire(), journal=journal) as alphapo:
            with pytest.raises(JournalError):
                await alphapo.withdraw(request())
            heard = asyncio.get_running_loop().time()
            await asyncio.sleep(1.5)
            row = await journal.find("default", "payout-17")
            assert row is not None
            return heard, row.holder

    assert run(story()) == (0.0, None)


def test_a_callback_that_came_too_early_settles_its_withdrawal_when_it_comes_again() -> None:
    """First nobody knew the withdrawal; then nobody could tell whether AlphaPo has it; the repeat says so, and is not new."""

    async def story() -> tuple[list[tuple[str, bool]], str, list[str]]:
        journal, heard = Durable(), []
        async with client(Wire([LOST], [NOT_FOUND] * 9), journal=journal, policy=RetryPolicy.none()) as alphapo:
            heard.append(await receive(alphapo, called()))
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            heard += [await receive(alphapo, called()) for _ in range(2)]
            status = (await alphapo.withdraw(request())).status
        lines = [line.kind for line in await journal.history("default", "payout-17")]
        return [(one.kind, one.is_new) for one in heard], str(status), lines

    told, status, lines = run(story())
    assert told == [("not in journal", True), ("ours", False), ("ours", False)]
    assert status == "confirmed"
    assert lines.count("callback") == 1


def test_a_callback_that_tells_too_little_while_its_withdrawal_is_sent_comes_again() -> None:
    """Busy, and no contradiction: the reply says more in a moment."""
    cut = msgspec.json.encode({"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "cancelled"})

    async def story() -> tuple[str, list[str]]:
        events: list[Event] = []
        async with client(Wire(seconds=2.0), journal=Durable(), on_event=events.append) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            with pytest.raises(CallbackBusy, match="being sent"):
                await receive(alphapo, cut)
            await paying
            return (await receive(alphapo, cut)).kind, [event.name for event in events]

    kind, events = run(story())
    assert kind == "ours"
    assert "contradiction" not in events


def test_closing_waits_for_the_blocks_that_handle_callbacks() -> None:
    """As for what is under way: they end, and count as handled."""

    async def story() -> tuple[float, bool]:
        journal, loop = Durable(), asyncio.get_running_loop()
        alphapo = client(Wire(), journal=journal)

        async def handle() -> None:
            async with alphapo.receive_callback(KEYS.headers(called()), called()):
                await asyncio.sleep(3)

        handling = asyncio.ensure_future(handle())
        await asyncio.sleep(1)
        await alphapo.aclose()
        closed = loop.time()
        await handling
        async with client(Wire(), journal=journal) as another:
            return closed, (await receive(another, called())).is_new

    assert run(story()) == (3.0, False)


def test_a_callback_of_an_old_withdrawal_is_not_taken_for_known() -> None:
    """Of which the journal remembers no more than how it ended."""

    async def story() -> str:
        async with client(Wire(), journal=MemoryJournal(whole_rows=0)) as alphapo:
            await alphapo.withdraw(request())
            return (await receive(alphapo, called("cancelled"))).kind

    assert run(story()) == "not in journal"


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


class SlowToOpen(Durable):
    """A journal that the second one to come waits for."""

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Let the first one in at once."""
        if self._workers:
            await asyncio.sleep(20)
        await super().join(account, host, worker, until)


@pytest.mark.parametrize(("amount", "told"), [("0.0015", "rejected"), ("7", None)])
@pytest.mark.parametrize("how", [AlphapoClient.withdraw, AlphapoClient.enqueue])
def test_a_call_is_as_old_as_its_beginning_however_long_the_journal_takes_to_open(
    how: Any, amount: str, told: str | None
) -> None:
    """A "no" that others were told meanwhile answers the same payment, and another payment becomes the next revision: no conflict."""
    journal = SlowToOpen()

    async def story() -> list[Any]:
        first, second = client(Wire([INSUFFICIENT]), journal=journal), client(Wire(), journal=journal)
        async with first:
            early = asyncio.ensure_future(how(second, request(amount=amount)))
            await asyncio.sleep(1)
            told = await asyncio.gather(first.withdraw(request()), early, return_exceptions=True)
        await second.aclose()
        return [getattr(one, "outcome", None) for one in told]

    assert run(story()) == ["rejected", told]


class Lapsing(SlowToOpen):
    """A journal that prolongs no lease."""

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Fail."""
        raise JournalError("It is on fire.")


def test_a_client_that_is_closed_while_its_journal_opens_begins_nothing() -> None:
    """Not even where it waits for an earlier withdrawal: the call that opened the journal anew hears that the client is closed."""
    wire, journal = Wire([reply(429, {}, retry_after="3600")]), Lapsing()

    async def story() -> Row | None:
        alphapo = client(wire, journal=journal)
        waiting = asyncio.ensure_future(alphapo.withdraw(request("first"), deadline=7_200))
        await asyncio.sleep(1_800)
        assert not alphapo._context.lease.is_running
        late = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(1)
        closing = asyncio.ensure_future(alphapo.aclose(grace=60))
        with pytest.raises(ConfigurationError, match="closed"):
            await late
        await closing
        await asyncio.gather(waiting, return_exceptions=True)
        return await journal.find("default", "payout-17")

    assert run(story()) is None
    assert wire.posts == 1


def test_whoever_could_not_enqueue_because_of_a_no_is_told_so() -> None:
    """Otherwise it would wait for a payment that nobody makes; called again, it is made."""
    wire, journal = Wire([NO_CONNECTION] * 5), SlowToOpen()

    async def story() -> list[str]:
        first, second = client(wire, journal=journal), client(wire, journal=journal)
        async with first:
            early = asyncio.ensure_future(second.enqueue(request()))
            await asyncio.sleep(1)
            for call in (first.withdraw(request()), early):
                with pytest.raises(WithdrawalNotSent):
                    await call
        await second.enqueue(request())
        told = await paid(second)
        await second.aclose()
        return told

    assert run(story()) == ["payout-17 accepted"]


@pytest.mark.parametrize("post", [INSUFFICIENT, reply(403, {"error": "Bad key header", "code": "bad_header_key"})])
def test_whatever_nobody_will_pay_is_not_taken_for_enqueued(post: Reply) -> None:
    """AlphaPo has refused it or its key while this call waited for the journal."""
    wire, journal = Wire([post]), SlowToOpen()

    async def story() -> list[bool]:
        first, second = client(wire, journal=journal), client(wire, journal=journal)
        async with first:
            early = asyncio.ensure_future(second.enqueue(request()))
            await asyncio.sleep(1)
            told = await asyncio.gather(first.withdraw(request()), early, return_exceptions=True)
        await second.aclose()
        return [isinstance(one, WithdrawalError) and one.may_release_funds for one in told]

    assert run(story()) == [True, True]


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
            row = await alphapo._context.find("payout-17")
            return [row and row.state, (await paying).status]

    assert run(story()) == ["open", "processing"]


def test_another_payment_s_flight_that_is_over_elsewhere_is_no_conflict() -> None:
    """It was refused, and has not heard so yet; another worker has gone on with the row, and paid this payment."""
    wire = Wire()

    class Late(Durable):
        """A journal whose rejections are seen at once, and told three seconds later."""

        async def update(self, *args: Any, **how: Any) -> Row:
            row = await super().update(*args, **how)
            if row.state == "rejected":
                await asyncio.sleep(3.0)
            return row

    async def story() -> list[Any]:
        journal = Late()
        async with client(Wire([INSUFFICIENT]), journal=journal) as first, client(wire, journal=journal) as second:
            refused = asyncio.ensure_future(first.withdraw(request(amount="7")))
            await asyncio.sleep(1)
            elsewhere = await second.withdraw(request())
            here = await first.withdraw(request())
            return [elsewhere.status, here.status, type((await asyncio.gather(refused, return_exceptions=True))[0])]

    assert run(story()) == ["processing", "processing", ForeignIdConflict]
    assert wire.posts == 1


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.1, ForeignIdConflict), (9.0, JournalError), (100.0, WithdrawalUnknown)]
)
def test_a_conflict_is_told_on_what_the_journal_says_now(seconds: float, told: type) -> None:
    """A journal that does not say it in time leaves it open."""

    class Slow(Durable):
        """A journal that takes so long to be read."""

        async def find(self, *args: Any) -> Row | None:
            await asyncio.sleep(seconds)
            return await super().find(*args)

    async def story() -> BaseException:
        async with client(Wire(["silent"]), journal=Slow()) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            with pytest.raises((WithdrawalError, JournalError)) as error:
                await alphapo.withdraw(request(amount="7"))
            paying.cancel()
            return error.value

    error = run(story())
    assert type(error) is told
    if told is ForeignIdConflict:
        assert "another amount; that one is open" in str(error)


def test_what_was_attempted_before_counts_where_a_call_is_shared_that_did_not_know_it() -> None:
    """It was paid by an earlier system, and the call that came first hears that it never left: not so whoever knew better."""
    wire = Wire([NO_CONNECTION])
    wire._accept("payout-17", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})

    async def story() -> list[Any]:
        async with client(wire, journal=Durable(), policy=RetryPolicy(attempts=1)) as alphapo:
            unaware = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.001)
            aware = await alphapo.withdraw(request(), attempted_before=True)
            return [aware.status, type((await asyncio.gather(unaware, return_exceptions=True))[0])]

    assert run(story()) == ["not_confirmed", WithdrawalNotSent]


# ── what waits to be taken ───────────────────────────────────────────────────────────────────────────────────────────


class Unreachable(Wire):
    """Nothing ever gets through."""

    async def exchange(self, *what: object, **told: object) -> Reply | NoReply:
        """Say so."""
        await asyncio.sleep(0.01)
        return NO_CONNECTION


def slow_to_take(journal: Durable, between: Callable[[], Awaitable[Any]]) -> list[tuple[str, str]]:
    """Take the results of a batch that reached nobody, with this between the first and the second."""

    async def story() -> list[tuple[str, str]]:
        told = []
        async with client(Unreachable(), journal=journal, policy=RetryPolicy(attempts=1)) as alphapo:
            async for result in alphapo.batch([request("a"), request("b")]):
                told.append((result.request.foreign_id, result.outcome))
                if len(told) == 1:
                    await asyncio.sleep(5)
                    await between()
        return sorted(told)

    return run(story())


def test_a_result_of_a_batch_that_waited_is_told_as_it_stands() -> None:
    """Somebody else has paid the second one before its "not sent" was taken."""
    wire, journal = Wire(), Durable()

    async def pay_both() -> None:
        async with client(wire, journal=journal) as other:
            for name in "ab":
                await other.withdraw(request(name))

    told = slow_to_take(journal, pay_both)

    assert sorted(outcome for _, outcome in told) == ["accepted", "not_sent"]  # the first had been taken
    assert wire.posts == 2


def test_a_no_that_waited_is_not_told_where_the_journal_cannot_be_read() -> None:
    """Somebody may have paid it meanwhile: nobody can say."""

    class Unreadable(Durable):
        is_down = False

        async def find(self, *args: Any) -> Row | None:
            if self.is_down:
                raise JournalError("down", recorded=None)
            return await super().find(*args)

    journal = Unreadable()

    async def go_down() -> None:
        journal.is_down = True

    assert sorted(outcome for _, outcome in slow_to_take(journal, go_down)) == ["not_sent", "unknown"]


def test_a_conflict_of_a_batch_stays_one() -> None:
    """The row that the journal has is the other payment's."""

    async def story() -> list[str]:
        async with client(Wire(), journal="memory") as alphapo:
            await alphapo.withdraw(request("a"))
            rows: list[WithdrawalRequest | dict[str, str]] = [request("a", amount="7"), {"foreign_id": "a"}]
            return [result.outcome async for result in alphapo.batch(rows)]

    assert sorted(run(story())) == ["conflict", "invalid"]


def test_closing_leaves_nothing_at_work_where_the_journal_takes_nothing() -> None:
    """What a flight owes a journal that is down is left as it stands: closing is bounded, and each caller hears something."""

    class Down(Durable):
        is_down = False

        async def update(self, *args: Any, **how: Any) -> Row:
            if self.is_down:
                raise JournalError("down", recorded=None)
            return await super().update(*args, **how)

    class Hanging(Durable):
        is_down = False

        async def update(self, *args: Any, **how: Any) -> Row:
            await asyncio.sleep(1e6 if self.is_down else 0.0)
            return await super().update(*args, **how)

    async def story(journal: Down | Hanging) -> tuple[str, float, int]:
        async with client(Wire(["silent"]), journal=journal) as alphapo:
            calling = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            journal.is_down = True
            await alphapo.aclose(2.0)
            with pytest.raises(WithdrawalUnknown) as caught:
                await calling
        return caught.value.reason, asyncio.get_running_loop().time(), len(asyncio.all_tasks())

    assert run(story(Down())) == ("journal", 3.8, 1)
    assert run(story(Hanging())) == ("closing", 3.9, 1)


def test_a_client_whose_settings_were_refused_has_a_repr() -> None:
    """An error reporter may ask for it."""
    assert repr(AlphapoClient.__new__(AlphapoClient)) == "AlphapoClient(not made: a setting was refused)"


def test_a_pass_leaves_alone_what_a_key_refused_since_would_sign() -> None:
    """Each row is handed out as unknown, and nothing more is sent."""
    wire, journal = Wire(), Durable()
    wire.always = reply(403, {"error": "no", "code": "bad_header_key"})

    async def story() -> list[tuple[str, str | None]]:
        async with client(wire, journal=journal) as alphapo:
            for name in "abc":
                await alphapo.enqueue(request(name), expires_in=1_000.0)
            passing = alphapo.resume(concurrency=1)
            return [(result.outcome, getattr(result.error, "reason", None)) async for result in passing]

    assert run(story()) == [("unknown", "key refused")] * 3
    assert wire.posts == 1


def test_a_client_that_was_opened_before_a_fork_is_refused_in_the_child() -> None:
    """Also in the parent's own event loop; one that was only made is opened there."""

    async def story() -> None:
        opened, made = client(Wire()), client(Wire())
        async with opened:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "getpid", lambda: -1)
                with pytest.raises(ConfigurationError, match="before this process was forked"):
                    await opened.withdraw(request())
                async with made:
                    assert (await made.withdraw(request())).status == "processing"

    run(story())


async def test_a_proxy_that_hangs_up_on_connect_means_not_sent() -> None:
    """No byte of the body was handed over, whatever the proxy does: funds may be released, and the same call may come again."""

    async def hang_up(peer: Peer) -> None:
        await peer.request()

    async with serving(hang_up) as proxy:
        session = SessionManager(proxy=proxy.url)
        policy = RetryPolicy(attempts=1, deadline=0.3, attempt_timeout=0.3, wait_initial=0.0)
        settings: dict[str, Any] = {"journal": "memory", "base_url": "https://127.0.0.1:9", "policy": policy}
        async with AlphapoClient("made-up-key", "made-up-secret", session=session, **settings) as alphapo:
            with pytest.raises(WithdrawalNotSent, match="proxy broke off") as caught:
                await alphapo.withdraw(request())
        await session.aclose()

    assert caught.value.may_release_funds
    assert caught.value.reason == "no connection"
    assert {line.split(b" ")[0] for line in proxy.requests} == {b"CONNECT"}


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
    assert [(event.foreign_id, event.reason) for event in events if event.name == "not final"] == [
        ("payout-17", "not_confirmed")
    ]


def _accepted_a_month_ago(row: Row | None) -> tuple[Row, list[Entry]]:
    assert row is not None
    assert row.settled_at is not None
    return msgspec.structs.replace(row, settled_at=row.settled_at - 30 * 86_400), []


def test_a_caller_of_a_batch_who_is_cancelled_while_the_journal_is_read_leaves_at_once() -> None:
    """A result that is negative is compared with the journal before it is returned; rows at work are not waited for then, either."""

    class Silent(Durable):
        is_silent = False

        async def find(self, account: str, foreign_id: str) -> Row | None:
            await asyncio.sleep(60.0 if self.is_silent else 0.0)
            return await super().find(account, foreign_id)

    wire, journal = Wire([INSUFFICIENT]), Silent()

    async def source() -> AsyncIterator[WithdrawalRequest]:
        yield request("payout-0")
        await asyncio.sleep(0.001)
        wire.seconds, journal.is_silent = 10.0, True
        yield request("payout-1")

    async def story() -> float:
        loop = asyncio.get_running_loop()
        async with client(wire, journal=journal) as alphapo:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    _ = [result async for result in alphapo.batch(source(), 8)]
            return loop.time()

    assert run(story()) == pytest.approx(1.0, abs=0.1)
