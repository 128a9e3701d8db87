"""Sequences that fool other clients, over real sockets: what is told is the truth in the local sandbox's ledger."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import WithdrawalError, WithdrawalNotSent, WithdrawalUnknown
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.engine.context import Runtime
from alphapo_async.sandbox import Dialect, Fault, Sandbox, Script
from tests.proof.truth import lies, outcome_of
from tests.support.wire import request

POLICY = RetryPolicy(attempts=5, deadline=8.0, attempt_timeout=0.3, wait_initial=0.02, wait_max=0.2)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A local AlphaPo."""
    async with Sandbox("proof-key", "proof-secret") as running:
        yield running


def _client(sandbox: Sandbox, **settings: Any) -> AlphapoClient:
    return AlphapoClient("proof-key", "proof-secret", base_url=sandbox.url, **{"policy": POLICY, **settings})


def _waited_for_a_processor() -> float:
    """Return for how many seconds in all this thread could have run and did not, where the system counts them."""
    counts = Path("/proc/thread-self/schedstat")
    return int(counts.read_text().split()[1]) / 1e9 if counts.exists() else 0.0


async def _arrived(sandbox: Sandbox) -> None:
    """Wait until the body has arrived."""
    for _ in range(1_000):
        if sandbox.ledger.requests("payout-17"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never arrived")


async def _told(sandbox: Sandbox, *faults: Fault | None, **settings: Any) -> Withdrawal | WithdrawalError:
    sandbox.faults = Script({"payout-17": {"withdrawal": list(faults)}})
    async with _client(sandbox, **settings) as client:
        try:
            return await client.withdraw(request())
        except WithdrawalError as error:
            return error


@pytest.mark.parametrize(
    ("faults", "outcome"),
    [
        pytest.param([Fault.STALL_AFTER, Fault.INSUFFICIENT], "accepted", id="time-out, then insufficient balance"),
        pytest.param(
            [Fault.STALL_BEFORE, Fault.INSUFFICIENT],
            "unknown",
            id="time-out that never arrived, then insufficient balance",
        ),
        pytest.param(
            [Fault.LATE, Fault.INSUFFICIENT], "unknown", id="accepted late, after the refusal of a later attempt"
        ),
        pytest.param([Fault.RESET_AFTER], "accepted", id="reset after acceptance, then already taken"),
        pytest.param([Fault.HTML_200_AFTER], "accepted", id="200 with HTML"),
        pytest.param([Fault.HTML_200_BEFORE], "accepted", id="200 with HTML, and nothing accepted"),
        pytest.param([Fault.CUT_BODY], "accepted", id="200 with a cut body"),
        pytest.param([Fault.REDIRECT_302], "accepted", id="302"),
        pytest.param([Fault.OTHER_FOREIGN_ID], "unknown", id="201 for another foreign_id"),
        pytest.param([Fault.CLOSE_KEEPALIVE], "accepted", id="kept-alive connection dropped"),
    ],
)
async def test_what_is_told_is_the_truth(sandbox: Sandbox, faults: list[Fault], outcome: str) -> None:
    """The outcome is as certain as it can be, and never wrong, whatever comes late."""
    result = await _told(sandbox, *faults)
    await sandbox.drain()

    assert outcome_of(result) == outcome
    assert lies("payout-17", result, sandbox.ledger) == []


@pytest.mark.parametrize("visibility", ["delayed", "never"])
async def test_a_reset_after_acceptance_then_already_taken(sandbox: Sandbox, visibility: Any) -> None:
    """The look-up sees nothing yet, so the bytes go out again and are refused as taken: look-ups only, from then on."""
    sandbox.dialect = Dialect(visibility=visibility)
    # No chance in how long the waits are: all look-ups together would sometimes come before it is seen.
    runtime = Runtime(time.time, lambda: 0.99, asyncio.sleep)

    result = await _told(sandbox, Fault.RESET_AFTER, _runtime=runtime)

    assert outcome_of(result) == ("accepted" if visibility == "delayed" else "unknown")
    assert [seen.outcome for seen in sandbox.ledger.requests("payout-17")].count("accepted") == 1
    assert len(sandbox.ledger.requests("payout-17")) == 2
    assert lies("payout-17", result, sandbox.ledger) == []


async def test_a_time_out_then_a_refused_connection(sandbox: Sandbox) -> None:
    """Accepted without an answer, then nobody listens for a while: the refused connections prove nothing."""
    sandbox.faults = Script({"payout-17": {"withdrawal": [Fault.STALL_AFTER]}})
    patient = RetryPolicy(attempts=9, deadline=8.0, attempt_timeout=0.3, wait_initial=0.1, wait_max=0.5)
    async with _client(sandbox, policy=patient) as client:
        paying = asyncio.ensure_future(client.withdraw(request()))
        await _arrived(sandbox)
        await sandbox.refuse(0.5)
        result = await paying

    assert result.source == "look-up"
    assert lies("payout-17", result, sandbox.ledger) == []


async def test_a_time_out_then_connections_refused_to_the_end(sandbox: Sandbox) -> None:
    """Nobody ever answers again: unknown, and never "not sent"."""
    sandbox.faults = Script({"payout-17": {"withdrawal": [Fault.STALL_AFTER]}})
    async with _client(sandbox) as client:
        paying = asyncio.ensure_future(client.withdraw(request()))
        await _arrived(sandbox)
        await sandbox.stop_listening()
        with pytest.raises(WithdrawalUnknown):
            await paying
        await sandbox.listen_again()
        assert (await client.withdraw(request())).source == "look-up"


async def test_retry_after_of_two_minutes_with_a_deadline_of_ten_seconds(sandbox: Sandbox) -> None:
    """The wait would end too late, so it is not begun, and the caller hears how long AlphaPo asked for."""
    sandbox.dialect = Dialect(throttling="seconds")
    sandbox.throttle_seconds = 120
    sandbox.faults = Script({"*": {"withdrawal": [Fault.THROTTLE]}})
    began = time.monotonic()
    async with _client(sandbox) as client:
        with pytest.raises(WithdrawalNotSent) as caught:
            await client.withdraw(request(), deadline=10)

    assert time.monotonic() - began < 2
    assert caught.value.retry_after == pytest.approx(120, abs=2)
    assert sandbox.ledger.accepted("payout-17") == ()


async def test_every_attempt_carries_the_same_bytes(sandbox: Sandbox) -> None:
    """Read from the ledger: five attempts, one body."""
    faults = [Fault.RESET_BEFORE, Fault.ERROR_500_BEFORE, Fault.HTML_502_BEFORE, Fault.REDIRECT_307]

    result = await _told(sandbox, *faults)

    assert outcome_of(result) == "accepted"
    assert len(sandbox.ledger.requests("payout-17")) == 5
    assert len({seen.body for seen in sandbox.ledger.requests("payout-17")}) == 1


async def test_two_thousand_callers_and_an_outage_over_real_sockets(sandbox: Sandbox) -> None:
    """Under the default policy an outage of 3 s costs 2,000 callers only time: on a quiet machine all are served within 5 s of its end."""
    async with _client(sandbox, policy=RetryPolicy()) as client:
        await sandbox.stop_listening()
        calls = [asyncio.ensure_future(client.withdraw(request(f"payout-{one}"))) for one in range(2_000)]
        await asyncio.sleep(3)
        await sandbox.listen_again()
        ended, waited = time.monotonic(), _waited_for_a_processor()
        outcomes = await asyncio.gather(*calls)
        served = time.monotonic() - ended - (_waited_for_a_processor() - waited)

    assert len(outcomes) == 2_000
    assert len(sandbox.ledger.all_accepted()) == 2_000
    assert served < 5


async def test_a_withdrawal_that_alphapo_cancels_later_is_accepted_first(sandbox: Sandbox) -> None:
    """Acceptance is told as what it is: not final; asked again after the cancellation, the look-up tells how it ended."""
    async with _client(sandbox) as client:
        outcome = await client.withdraw(request(address="12345"))
        assert outcome.is_final is False
        for _ in range(100):
            found = await client.look_up("payout-17")
            if found is not None and found.is_final:
                break
            await asyncio.sleep(0.05)
        with pytest.raises(WithdrawalError) as caught:
            await client.withdraw(request(address="12345"))

    assert caught.value.outcome == "failed"
