"""AlphapoClient as its users meet it; in virtual time where time matters."""

import asyncio
import copy
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import (
    AlphapoError,
    ConfigurationError,
    InvalidRequest,
    JournalError,
    WithdrawalError,
    WithdrawalNotSent,
    WithdrawalUnknown,
)
from alphapo_async.core.events import Event
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Health, Withdrawal
from alphapo_async.core.replies import Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.core.signer import Signer
from alphapo_async.journal import open_journal
from alphapo_async.sandbox import Sandbox
from alphapo_async.session import SessionManager
from tests.support import postgres
from tests.support.pooler import Pooler
from tests.support.servers import Peer, serving
from tests.support.virtual import run
from tests.support.wire import (
    EPOCH,
    HTML_502,
    INSUFFICIENT,
    LOST,
    NOT_FOUND,
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


def test_making_a_client_needs_no_loop() -> None:
    """The constructor does no I/O, and shows neither key nor secret."""
    alphapo = AlphapoClient("made-up-key", "made-up-secret", base_url="http://localhost:9")

    assert "made-up" not in repr(alphapo)


def test_a_client_says_whether_it_is_open_and_is_closed_by_its_block() -> None:
    """Whoever looks at it sees the state; after the block nothing leaves any more."""

    async def story() -> list[str]:
        alphapo = client(Wire())
        results = [repr(alphapo)]
        async with alphapo:
            results.append(repr(alphapo))
        results.append(repr(alphapo))
        with pytest.raises(ConfigurationError, match="closed"):
            await alphapo.withdraw(request())
        return [text.split(", ")[2] for text in results]

    assert run(story()) == ["not opened", "open", "closed"]


def test_a_rejection_is_told_again_unless_it_is_asked_to_be_sent_again() -> None:
    """Nothing leaves for whoever says nothing of it, in one call as in a batch."""
    wire = Wire()
    wire.always = INSUFFICIENT

    async def story() -> list[str]:
        async with client(wire) as alphapo:
            results = []
            for how in ({}, {}, {"resend_rejected": True}):
                with pytest.raises(WithdrawalError) as caught:
                    await alphapo.withdraw(request(), **how)
                results.append(caught.value.outcome)
            results += [result.outcome async for result in alphapo.batch([request()])]
            return [*results]

    assert run(story()) == ["rejected"] * 4
    assert wire.posts == 2


def test_a_row_of_a_batch_is_told_as_a_single_one_is() -> None:
    """With the withdrawal that AlphaPo has."""

    async def story() -> list[Withdrawal | None]:
        async with client(Wire()) as alphapo:
            results = [result.withdrawal async for result in alphapo.batch([request()])]
            return [*results, await alphapo.withdraw(request())]

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


# ── one flight, many callers ─────────────────────────────────────────────────────────────────────────────────────────


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ends_at(wire: Wire, *, deadline: float | None = None, **settings: Any) -> tuple[float, Any]:
    """Return when the caller hears and what."""

    async def story() -> tuple[float, Any]:
        async with client(wire, close_grace=60, **settings) as alphapo:
            try:
                result: Any = await alphapo.withdraw(request(), deadline=deadline)
            except WithdrawalError as error:
                result = error
            return asyncio.get_running_loop().time(), result

    return run(story())


def test_a_deadline_against_a_silent_server_ends_exactly_then() -> None:
    """One second is one second; the work goes on in the background."""
    now, result = _ends_at(Wire(["silent"] * 9), deadline=1.0)

    assert now == pytest.approx(1.0, abs=1e-6)
    assert result.reason == "in flight"


def test_the_policys_deadline_bounds_a_withdrawal() -> None:
    """Without a deadline of his own a caller waits as long as the policy says, attempts and waits included."""
    now, result = _ends_at(Wire(["silent"] * 9, ["silent"] * 9), policy=RetryPolicy(deadline=20.0))

    assert now == pytest.approx(20.0, abs=1e-6)
    assert isinstance(result, WithdrawalUnknown)


def test_a_longer_deadline_of_the_callers_own_is_his() -> None:
    """The call's own deadline replaces the policy's."""
    now, result = _ends_at(Wire([reply(429, {}, retry_after="90")]), deadline=100.0)

    assert isinstance(result, Withdrawal)
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

    now, result, sent = run(story())

    assert now == pytest.approx(2.0, abs=1e-6)
    assert (result.reason, sent) == ("queue", 0)


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

    result, posts = run(story())

    assert result.source == "reply"
    assert posts == 2


def test_a_queue_behind_others_costs_no_deadline() -> None:
    """The policy's deadline runs from the slot: 40 withdrawals of 1 s over one connection all succeed under a deadline of 3 s."""

    async def story() -> list[Withdrawal]:
        wire = Wire(seconds=1.0, max_connections=1)
        async with client(wire, policy=RetryPolicy(deadline=3.0)) as alphapo:
            return await asyncio.gather(*(alphapo.withdraw(request(f"payout-{one}")) for one in range(40)))

    assert len(run(story())) == 40


# ── closing and misuse ───────────────────────────────────────────────────────────────────────────────────────────────


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


@pytest.mark.parametrize("named", [str, Path])
async def test_a_journal_that_was_named_is_closed_with_the_client(named: type[str | Path], tmp_path: Path) -> None:
    """The client opened the file, and lets go of it and of its thread."""
    alphapo = client(Wire(), journal=named(tmp_path / "payments.db"))
    await alphapo.enqueue(request())

    await alphapo.aclose()

    with pytest.raises(JournalError, match="is closed"):
        await alphapo.totals()


async def test_a_journal_that_was_handed_in_is_not_closed_with_the_client(tmp_path: Path) -> None:
    """Another client of its owner still uses it."""
    journal = open_journal(tmp_path / "payments.db")
    first, second = client(Wire(), journal=journal), client(Wire(), journal=journal)
    await first.enqueue(request())

    await first.aclose()

    assert (await second.totals())["BTC"].requested == Decimal("0.0015")
    await second.aclose()
    await journal.aclose()


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_tell_the_story() -> None:
    """Attempts, look-ups and the outcome, in order; a listener that raises does no harm."""
    received: list[Event] = []

    def listen(event: Event) -> None:
        received.append(event)
        raise RuntimeError("a broken listener")

    async def story() -> None:
        async with client(Wire(["accept, lost"], [NOT_FOUND]), on_event=listen) as alphapo:
            await alphapo.withdraw(request())

    run(story())

    names = ["begun", "recorded", "attempt", "look-up", "attempt", "look-up", "settled", "ended"]
    assert [event.name for event in received] == names
    assert [event.outcome for event in received[-2:]] == ["accepted", "accepted"]
    assert {event.base_url for event in received} == {"http://127.0.0.1:9"}
    assert all(event.began is not None and event.until is not None for event in received[2:6])


def test_the_health_of_a_client_is_told() -> None:
    """What is under way, how old what is open and in doubt is, what may be asked for, and whether AlphaPo answers."""

    async def story() -> list[Health]:
        wire = Wire([LOST] * 99, [HTML_502] * 999)
        async with client(wire, account="shop", policy=RetryPolicy(deadline=100.0)) as alphapo:
            assert alphapo.account == "shop"
            results = [await alphapo.health()]
            paying = [asyncio.ensure_future(alphapo.withdraw(request(f"payout-{number}"))) for number in range(9)]
            await asyncio.sleep(0.005)
            results.append(await alphapo.health())
            await asyncio.sleep(60.0)
            results.append(await alphapo.health())
            for one in paying:
                one.cancel()
            return results

    before, begun, after = run(story())
    assert before == Health(
        account="shop",
        at=EPOCH,
        in_flight=0,
        retry_budget_left=100.0,
        is_outage=False,
        oldest_open_at=None,
        oldest_doubt_at=None,
        frozen=0,
    )
    assert before.is_ready
    assert before.has_lease
    assert (begun.in_flight, begun.oldest_open_at, begun.oldest_doubt_at, begun.is_outage) == (9, EPOCH, None, False)
    assert (after.in_flight, after.oldest_open_at, after.is_outage) == (9, EPOCH, True)
    assert after.oldest_doubt_at is not None
    assert EPOCH <= after.oldest_doubt_at < after.at
    assert 0.0 <= after.retry_budget_left < 100.0


def test_the_oldest_doubt_is_that_of_the_row_in_doubt_for_longest() -> None:
    """An alert on its age counts from the first withdrawal that may have arrived, not from the latest."""

    async def story() -> float | None:
        wire = Wire([LOST], [HTML_502] * 9)
        async with client(wire, policy=RetryPolicy.none()) as alphapo:
            for name in ("first", "second"):
                with pytest.raises(WithdrawalUnknown):
                    await alphapo.withdraw(request(name))
                await asyncio.sleep(60)
            return (await alphapo.health()).oldest_doubt_at

    assert run(story()) == EPOCH


def test_no_secret_signature_or_body_is_told_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    """Logs at debug level, reprs, events and exceptions with their causes: none holds a secret, a signature or a body."""
    caplog.set_level(logging.DEBUG)
    results: list[str] = []

    async def story() -> tuple[list[str], list[bytes]]:
        wire = Wire([LOST, reply(400, {"errors": {"amount": "no"}})], [HTML_502] * 30)
        alphapo = client(wire, on_event=lambda event: results.append(repr(event)))
        async with alphapo:
            for one in range(3):
                try:
                    await alphapo.withdraw(request(f"payout-{one}"))
                except AlphapoError as error:
                    seen: BaseException | None = error
                    while seen is not None:
                        results.extend((repr(seen), str(seen), repr(vars(seen)), repr(copy.copy(seen))))
                        seen = seen.__cause__ or seen.__context__
            row = await alphapo._engine.journal.find("default", "payout-1")
            results.extend(
                map(repr, (alphapo, alphapo._engine.limiter, alphapo._engine.context.signer, wire, row, request()))
            )
        signatures = [headers["X-Processing-Signature"] for headers in wire.headers]
        return signatures, [body for bodies in wire.bodies.values() for body in bodies]

    signatures, bodies = run(story())

    everything = "\n".join([*results, caplog.text])
    assert signatures
    assert "payout-1" in everything
    for secret in ("made-up-secret", "made-up-key", *signatures, *(body.decode() for body in bodies)):
        assert secret not in everything


# ── without a caller ─────────────────────────────────────────────────────────────────────────────────────────────────


# ── inside a transaction of the caller's ─────────────────────────────────────────────────────────────────────────────


def _unreport(row: Row | None) -> tuple[Row, Sequence[Entry]]:
    assert row is not None
    return msgspec.structs.replace(row, reported=False), ()


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
    assert "not recorded: acceptance of payout-17" in caplog.text


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

    result, _ = run(story())
    assert all(isinstance(one, AlphapoError) for one in result)


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

    outcome = run(story())
    assert outcome.retry_after is not None
    assert 500 < outcome.retry_after <= 600


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


# ── callbacks ────────────────────────────────────────────────────────────────────────────────────────────────────────


# ── what waits to be taken ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_client_whose_settings_were_refused_has_a_repr() -> None:
    """An error reporter may ask for it."""
    assert repr(AlphapoClient.__new__(AlphapoClient)) == "AlphapoClient(not made: a setting was refused)"


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


async def test_questions_that_are_about_no_withdrawal() -> None:
    """Is AlphaPo reachable, what is on the balances, what can be paid, at what rate."""
    async with (
        Sandbox(balances={"BTC": "1.5"}, minimums={"BTC": "0.0002"}) as sandbox,
        AlphapoClient(sandbox.key, sandbox.secret, base_url=sandbox.url, journal="memory") as alphapo,
    ):
        await alphapo.ping()
        assert await alphapo.balances() == {"BTC": Decimal("1.5")}
        assert (await alphapo.currencies())["BTC"].minimum_withdrawal == Decimal("0.0002")
        assert (await alphapo.quote("EUR", "BTC", amount="25000")).amount_to == Decimal("0.5")
        with pytest.raises(ConfigurationError, match="exactly one of amount and amount_to"):
            await alphapo.quote("EUR", "BTC")


def test_what_is_enqueued_is_paid_by_a_batch_or_a_pass() -> None:
    """Each public method hands over to the part that does it."""

    async def story() -> list[Any]:
        wire = Wire()
        async with client(wire, journal=Durable()) as alphapo:
            await alphapo.enqueue(request("a"))
            with pytest.raises(ConfigurationError, match="PostgreSQL"):
                alphapo.enqueue_statement(request("b"))
            passed = [result.outcome async for result in alphapo.resume()]
            paid = [result.outcome async for result in alphapo.batch([request("c")])]
            shown = await alphapo.look_up("a")
            return [passed, paid, shown is not None and shown.foreign_id, (await alphapo.totals())["BTC"].accepted]

    assert run(story()) == [["accepted"], ["accepted"], "a", Decimal("0.003")]


def test_a_callback_is_received_and_handed_out_again() -> None:
    """Signed with the client's key."""
    body = b'{"id":7,"foreign_id":"payout-17","type":"withdrawal","status":"confirmed"}'
    headers = {
        "X-Processing-Key": "made-up-key",
        "X-Processing-Signature": Signer("made-up-key", "made-up-secret").sign(body),
    }

    async def story() -> list[bool]:
        async with client(Wire()) as alphapo:
            await alphapo.withdraw(request())
            async with alphapo.receive_callback(headers, body) as callback:
                is_new = callback.is_new
            async with alphapo.replay_callback("payout-17") as again:
                return [is_new, again.is_new]

    assert run(story()) == [True, False]
