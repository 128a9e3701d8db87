"""A short run of the failovers, and what else takes a database back: a planned switchover and a restored backup."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest

from alphapo_async import AlphapoClient, JournalError, WithdrawalRejected
from alphapo_async.core.events import Event
from alphapo_async.sandbox import Sandbox
from tests.proof.failover import WAYS, Mode, run
from tests.proof.failover_client import KEY, POLICY, SECRET, Report, request_of
from tests.proof.failover_judge import Evidence, judge
from tests.proof.relay import Relay
from tests.proof.replication import FOLDERS, PREFIX, Cluster
from tests.support.long import LONG
from tests.support.processes import started


@LONG
@pytest.mark.parametrize("mode", ["asynchronous", "pooled"])
async def test_what_a_failover_loses_is_reported_and_never_sent_again(mode: Mode) -> None:
    """Rows that were open on the standby settle by a look-up, a callback, a repeated call and the operator, and no other row is paid."""
    missing, lost = {*WAYS, "left"}, 0
    for seed in (1, 2, 3):  # on a slow machine a round may lose no row of some kind
        [result] = await run([mode], seed=seed)
        assert result.verdict.is_clean, result
        missing, lost = {way for way in missing if not result.frozen[way]}, lost + result.lost
        if not missing:
            break

    assert (missing, lost > 0) == (set(), True)


@LONG
async def test_a_failover_that_loses_nothing_freezes_nothing() -> None:
    """With a synchronous standby, and an operator who says so."""
    [result] = await run(["lossless"], seed=1)

    assert result.verdict.is_clean, result
    assert result.lost == 0


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Yield a primary and its standby."""
    async with Cluster() as cluster:
        yield cluster


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a merchant without money."""
    async with Sandbox(KEY, SECRET, balances={"BTC": 0}) as sandbox:
        yield sandbox


def _client(sandbox: Sandbox, journal: str, events: list[Event] | None = None) -> AlphapoClient:
    hear = None if events is None else events.append
    return AlphapoClient(KEY, SECRET, journal=journal, base_url=sandbox.url, policy=POLICY, on_event=hear)


async def _work(client: AlphapoClient, seconds: float) -> None:
    working = asyncio.create_task(client.work())
    await asyncio.sleep(seconds)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@LONG
async def test_a_restored_backup_is_never_paid_from_by_a_worker(cluster: Cluster, sandbox: Sandbox) -> None:
    """A refusal that was reported is not in the backup; after `resume --restored` only a repeated call pays the row."""
    request = request_of("payout-1", "BTC")
    async with _client(sandbox, cluster.primary.url) as client:
        await client.enqueue(request)
        backup = await cluster.back_up()
        with pytest.raises(WithdrawalRejected):
            await client.withdraw(request)
    await cluster.restore(backup)
    sandbox._state._balances["BTC"] = Decimal(1)

    async with _client(sandbox, cluster.primary.url) as client:
        outcomes = [result.outcome async for result in client.resume(restored=True)]
        await _work(client, POLICY.quiet + 0.5)
        outcomes += [result.outcome async for result in client.resume()]
        paid_by_worker = sandbox.ledger.all_accepted()
        await client.withdraw(request)

    assert outcomes == ["unknown", "unknown"]
    assert paid_by_worker == ()
    assert len(sandbox.ledger.all_accepted()) == 1


@LONG
async def test_a_planned_switchover_is_declared_to_have_lost_nothing(cluster: Cluster, sandbox: Sandbox) -> None:
    """Its open rows freeze like those of any other failover, until the operator says that nothing was lost."""
    sandbox._state._balances["BTC"] = Decimal(1)
    events: list[Event] = []
    async with _client(sandbox, cluster.primary.url) as client:
        await client.enqueue(request_of("payout-1", "BTC"))
    await cluster.catch_up()
    await cluster.switch_over()

    async with _client(sandbox, cluster.primary.url, events) as client:
        await _work(client, 1.5)
        paid_while_frozen = sandbox.ledger.all_accepted()
        await _unfreeze(cluster.primary.url, "--nothing-lost")
        await asyncio.sleep(POLICY.quiet)  # a look-up of the frozen row has stored its doubt
        outcomes = [result.outcome async for result in client.resume()]

    assert outcomes == ["accepted"]
    assert "journal went back" in [event.name for event in events]
    assert paid_while_frozen == ()
    assert len(sandbox.ledger.all_accepted()) == 1


@LONG
async def test_a_primary_that_was_lost_gets_nothing_when_it_comes_back(cluster: Cluster, sandbox: Sandbox) -> None:
    """A client that saw the promoted standby records and sends nothing where the old primary answers in its place."""
    sandbox._state._balances["BTC"] = Decimal(1)
    async with Relay(cluster.primary.port) as relay:
        url = f"postgresql://postgres@127.0.0.1:{relay.port}/postgres"
        async with _client(sandbox, url) as client:
            await client.enqueue(request_of("payout-1", "BTC"))
            await cluster.catch_up()
            old = await cluster.fail_over()
            await relay.move(cluster.primary.port)
            await client.withdraw(request_of("payout-2", "BTC"))
            await old.start()
            await relay.move(old.port)
            with pytest.raises(JournalError):
                await client.withdraw(request_of("payout-3", "BTC"), deadline=3.0)
            await _work(client, 1.5)

    assert [one.foreign_id for one in sandbox.ledger.all_accepted()] == ["payout-2"]


async def _unfreeze(journal: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alphapo_async", "journal", "unfreeze", *arguments),
        env=os.environ | {"ALPHAPO_JOURNAL": journal},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors


@LONG
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_a_signal(ending: signal.Signals) -> None:
    """Servers and client processes end, and their files are removed."""
    command = [sys.executable, "-m", "tests.proof.failover", "--asynchronous", "1000"]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        both = _ports_of(process.pid)
        process.send_signal(ending)
        process.wait(20)

    assert not any(_listens(port) for port in both)
    assert list(_folders_of(process.pid)) == []


def _ports_of(process: int) -> list[int]:
    """Return the ports of primary and standby, once both run."""
    for _ in range(300):
        with suppress(FileNotFoundError):  # initdb runs a server too, and ends it
            files = [file for folder in _folders_of(process) for file in folder.glob("*/postmaster.pid")]
            lines = [file.read_text().split() for file in files]
            if len(lines) == 2 and all(line[-1] in ("ready", "standby") for line in lines):
                return [int(line[3]) for line in lines]
        time.sleep(0.1)
    pytest.fail("the servers did not start")


def _folders_of(process: int) -> Iterator[Path]:
    return FOLDERS.glob(f"{PREFIX}*-{process}")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# ── the judge ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _call(outcome: str, began: float, ended: float, *, may_release: bool = False) -> Report:
    return Report(
        kind="result",
        name="withdraw",
        foreign_id="p",
        outcome=outcome,
        may_release=may_release,
        began=began,
        ended=ended,
    )


NOTHING = Evidence(
    calls=(),
    accepted={},
    states={},
    frozen=frozenset(),
    abandoned=frozenset(),
    unasked=frozenset(),
    unfrozen={},
    silent=(),
    unannounced=(),
    announced=(),
    loses=True,
    freezes=True,
)
NO = _call("rejected", 1.0, 2.0, may_release=True)


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (NOTHING._replace(accepted={"p": [1.0, 2.0]}), "doubled"),
        (NOTHING._replace(calls=[NO], accepted={"p": [1.5]}), "wrong_no"),
        (NOTHING._replace(calls=[NO], accepted={"p": [3.0]}), "wrong_no"),
        (NOTHING._replace(calls=[NO], accepted={"p": [3.0]}, unfrozen={"p": 4.0}), "wrong_no"),
        (NOTHING._replace(calls=[NO, _call("accepted", 4.0, 5.0)], accepted={"p": [3.0]}), "wrong_no"),
        (NOTHING._replace(calls=[_call("accepted", 1.0, 2.0)]), "wrong_yes"),
        (NOTHING._replace(calls=[NO], loses=False), "lost"),
        (NOTHING._replace(accepted={"p": [1.0]}, states={"p": "rejected"}), "contradicts"),
        (NOTHING._replace(states={"p": "accepted"}), "contradicts"),
        (NOTHING._replace(accepted={"p": [1.0]}, frozen=frozenset("p"), abandoned=frozenset("p")), "thawed"),
        (NOTHING._replace(states={"p": "open"}, frozen=frozenset("p")), "stuck"),
        (NOTHING._replace(silent=["worker-0"]), "events"),
        (NOTHING._replace(unannounced=["p"]), "events"),
        (NOTHING._replace(announced=["worker-0"], freezes=False), "events"),
    ],
)
def test_the_judge_finds_every_kind_of_fault(evidence: Evidence, kind: str) -> None:
    """Each where it belongs."""
    assert getattr(judge(evidence), kind)


@pytest.mark.parametrize(
    "evidence",
    [
        NOTHING,
        NOTHING._replace(calls=[NO, _call("accepted", 2.5, 3.5)], accepted={"p": [3.0]}, states={"p": "accepted"}),
        NOTHING._replace(calls=[NO], accepted={"p": [3.0]}, unfrozen={"p": 2.5}, states={"p": "accepted"}),
        NOTHING._replace(calls=[NO], states={"p": "open"}, frozen=frozenset("p"), abandoned=frozenset("p")),
        NOTHING._replace(states={"p": "open"}, frozen=frozenset("p"), unasked=frozenset("p")),
        NOTHING._replace(announced=["worker-0"]),
    ],
)
def test_the_judge_lets_what_is_right_pass(evidence: Evidence) -> None:
    """A later call or the operator may pay what was refused; a frozen row stays open."""
    assert judge(evidence).is_clean
