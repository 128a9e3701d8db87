"""What is recorded for a worker to send, also in transactions of the caller's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import (
    ConfigurationError,
    ForeignIdConflict,
    JournalError,
    WithdrawalError,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.history import Entry
from alphapo_async.core.replies import Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.journal import open_journal
from tests.support import postgres
from tests.support.virtual import run
from tests.support.wire import (
    EPOCH,
    HTML_502,
    INSUFFICIENT,
    NO_CONNECTION,
    Durable,
    SlowToAnswer,
    SlowToOpen,
    Standby,
    Wire,
    client,
    reply,
    request,
)


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
    """A payment that is left to the workers must survive."""

    async def story() -> None:
        async with client(Wire()) as alphapo:
            with pytest.raises(ConfigurationError, match="outlives the process"):
                await alphapo.enqueue(request())

    run(story())


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
            await alphapo.enqueue(request(), connection=connection)
        for foreign_id, commits in (("undone", False), ("done", True)):
            transaction = connection.transaction()
            await transaction.start()
            await alphapo.enqueue(request(foreign_id), connection=connection)
            await alphapo.enqueue(request(foreign_id), connection=connection)
            assert await paid(alphapo) == []
            await (transaction.commit() if commits else transaction.rollback())
        async with connection.transaction():
            with pytest.raises(ForeignIdConflict):
                await alphapo.enqueue(request("done", amount="2"), connection=connection)
        assert await paid(alphapo) == ["done accepted"]
    await connection.close()
    assert list(wire.bodies) == ["done"]


async def test_a_no_from_before_the_journal_went_back_is_confirmed_within_a_transaction() -> None:
    """The answer could not be recorded while the caller's own transaction waited for it: each call failed, after ten seconds."""
    wire = Wire([INSUFFICIENT], [HTML_502])
    connection = await asyncpg.connect(postgres.url())
    async with payer(wire) as alphapo:
        with pytest.raises(WithdrawalRejected):
            await alphapo.withdraw(request())
        await alphapo._engine.journal.raise_epoch(0.0)
        async with connection.transaction():
            await alphapo.enqueue(request("new"), connection=connection)
            with pytest.raises(WithdrawalUnknown) as unconfirmed:
                await alphapo.enqueue(request(), connection=connection)
        for _ in range(2):
            async with connection.transaction():
                with pytest.raises(WithdrawalRejected):
                    await alphapo.enqueue(request(), connection=connection)
    await connection.close()
    assert (unconfirmed.value.reason, wire.look_ups) == ("journal went back", 2)


async def test_a_no_is_dated_anew_also_where_the_transaction_that_met_it_is_rolled_back() -> None:
    """Its caller may release the funds: a call of another worker that was made before came after that, and paid."""
    connection = await asyncpg.connect(postgres.url())
    async with payer(Wire([INSUFFICIENT])) as alphapo:
        engine = alphapo._engine
        with pytest.raises(WithdrawalRejected):
            await alphapo.withdraw(request())
        early = await engine.journal.update("default", "payout-17", _a_minute_earlier)
        asked = alphapo._registry.encode(request(), resend_rejected=True)
        with pytest.raises(WithdrawalRejected):
            async with connection.transaction():
                await alphapo.enqueue(request(), connection=connection)
        late = await engine.recorder.record("payout-17", replace(asked, worker="another", requested_by="another"))
        assert (early.state, late.state) == ("rejected", "rejected")
    await connection.close()


def _a_minute_earlier(row: Row | None) -> tuple[Row, tuple[Entry, ...]]:
    assert row is not None
    assert row.settled_at is not None
    return replace(row, settled_at=row.settled_at - 60.0), ()


async def test_what_another_call_has_opened_again_meanwhile_is_not_enqueued() -> None:
    """It may end without a worker: a transaction that met its "no" must not count on one."""
    connection = await asyncpg.connect(postgres.url())
    async with payer(Wire([INSUFFICIENT])) as alphapo:
        with pytest.raises(WithdrawalRejected):
            await alphapo.withdraw(request())
        await alphapo._engine.journal.update("default", "payout-17", _a_minute_earlier)
        asked = alphapo._registry.encode(request(), resend_rejected=True)
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute("select 1")
            await alphapo._engine.recorder.record("payout-17", asked)
            with pytest.raises(JournalError, match="asked for it again meanwhile") as raised:
                await alphapo.enqueue(request(), connection=connection)
    await connection.close()
    assert raised.value.recorded


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
            for refused in (lambda: alphapo.enqueue_statement(request()), alphapo._outbox._outbox):
                with pytest.raises(ConfigurationError, match="postgresql://"):
                    refused()
            with pytest.raises(ConfigurationError, match="postgresql://"):
                await alphapo.enqueue(request(), connection=object())
            assert await journal.find("default", "payout-17") is None

    run(story())


def test_whoever_could_not_enqueue_because_of_a_no_is_told_so() -> None:
    """Otherwise it would wait for a payment that no flight makes; called again, it is made."""
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
        outcome = await paid(second)
        await second.aclose()
        return outcome

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
            outcomes = await asyncio.gather(first.withdraw(request()), early, return_exceptions=True)
        await second.aclose()
        return [isinstance(one, WithdrawalError) and one.may_release_funds for one in outcomes]

    assert run(story()) == [True, True]


def test_a_no_from_before_the_journal_went_back_is_looked_up_first() -> None:
    """Nothing is enqueued on a "no" that AlphaPo confirms."""

    async def story() -> int:
        wire, journal = Wire([INSUFFICIENT]), Standby()
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            journal.lag()
            await journal.fail_over()
            with pytest.raises(WithdrawalRejected):
                await alphapo.enqueue(request())
        return wire.look_ups

    assert run(story()) == 1


def test_a_no_that_is_on_its_way_to_a_caller_of_this_client_answers_what_is_asked_meanwhile() -> None:
    """That caller may release the funds: the "no" was dated and not reported yet, and another call of the same client paid all the same."""
    wire, journal = Wire([NO_CONNECTION]), SlowToAnswer()

    async def story() -> list[str]:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            journal.seconds = 0.3
            calls: list[asyncio.Future[object]] = [asyncio.ensure_future(alphapo.withdraw(request()))]
            await asyncio.sleep(0.7)
            calls.append(asyncio.ensure_future(alphapo.enqueue(request())))
            await asyncio.sleep(0.25)
            assert [call.done() for call in calls] == [True, False]
            calls.append(asyncio.ensure_future(alphapo.withdraw(request())))
            return [getattr(one, "outcome", "paid") for one in await asyncio.gather(*calls, return_exceptions=True)]

    assert run(story()) == ["not_sent"] * 3
    assert wire.posts == 1
