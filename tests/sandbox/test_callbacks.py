"""Signed callbacks: what is told, when, and how often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from alphapo_async.core.callbacks import read_callback
from alphapo_async.core.errors import CallbackError
from alphapo_async.sandbox.callbacks import (
    REPEATED_AFTER,
    Courier,
    Delivery,
    Mischief,
    announcements,
    deposit,
    plan,
    repetitions,
    signed_callback,
)
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.rules import MerchantState
from tests.support.questions import OTHER, SIGNER, accepted

SIGNERS = {SIGNER.key: SIGNER, OTHER.key: OTHER}


class Receiver:
    """A merchant that listens, and answers with the given statuses, the last one again and again."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.heard: list[dict[str, Any]] = []
        self.keys: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        signer = SIGNERS[request.headers["X-Processing-Key"]]
        assert signer.is_genuine(body, request.headers["X-Processing-Signature"])
        assert request.headers["Content-Type"] == "application/json"
        self.keys.append(signer.key)
        self.heard.append(json.loads(body))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status)


class Guarded(Receiver):
    """A merchant that believes nobody without a good signature, and counts whom it serves at the same moment."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(*statuses)
        self.refused: list[str] = []
        self.present = 0
        self.crowd = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            read_callback(request.headers, await request.read(), SIGNERS.values())
        except CallbackError as problem:
            self.refused.append(problem.reason)
            return web.Response(status=403)
        self.present += 1
        self.crowd = max(self.crowd, self.present)
        await asyncio.sleep(0.02)
        self.present -= 1
        return await super().handle(request)


@asynccontextmanager
async def listening(receiver: Receiver) -> AsyncIterator[str]:
    """Listen on the loopback interface."""
    runner = web.ServerRunner(web.Server(receiver.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def courier(url: str, mischief: Mischief | None = None) -> AsyncIterator[Courier]:
    """Deliver over a real connection, with next to no waits."""
    async with aiohttp.ClientSession() as session:

        async def post(body: bytes, headers: Mapping[str, str]) -> int | None:
            async with session.post(url, data=body, headers=headers) as answer:
                return answer.status

        yield Courier(SIGNERS, post, lambda: 0.99, 1e-7, mischief=mischief)


def test_what_is_told_of_each_end() -> None:
    """One callback for what is paid or cancelled, two for what a person declines."""
    state = MerchantState()
    results = [announcements(accepted(state, foreign_id=name, address=name)) for name in ("a", "12345", "decline")]
    assert results == [((1.0, "confirmed"),), ((1.0, "cancelled"),), ((0.0, "pending"), (1.0, "declined"))]


def test_the_documented_repetitions() -> None:
    """Twelve, over a day and a little."""
    assert len(REPEATED_AFTER) == 12
    assert sum(REPEATED_AFTER) == 1461
    assert repetitions(0.5)[:2] == (30.0, 150.0)


async def test_a_callback_is_signed_with_the_key_of_its_withdrawal() -> None:
    """It is the object of a look-up, posted as JSON, heard once."""
    receiver = Receiver(200)
    async with listening(receiver) as url, courier(url) as sender:
        await sender.announce(accepted(MerchantState(), key=OTHER.key), Dialect())
    assert [(result["foreign_id"], result["status"]) for result in receiver.heard] == [("payout-17", "confirmed")]
    assert receiver.keys == [OTHER.key]


async def test_a_callback_is_repeated_until_it_is_heard() -> None:
    """Only 200 ends it."""
    receiver = Receiver(500, 201, 200)
    async with listening(receiver) as url, courier(url) as sender:
        await sender.announce(accepted(MerchantState()), Dialect())
    assert len(receiver.heard) == 3


async def test_a_callback_is_given_up_after_its_repetitions() -> None:
    """The first delivery and twelve more, each status on its own."""
    receiver = Receiver(404)
    async with listening(receiver) as url, courier(url) as sender:
        await sender.announce(accepted(MerchantState(), address="decline"), Dialect())
    statuses = [result["status"] for result in receiver.heard]
    assert (statuses.count("pending"), statuses.count("declined")) == (13, 13)


DIALECT = Dialect()
EVERYTHING = Mischief(duplicates=True, reordering=True, forgeries=True, deposits=True)


def leaving(mischief: Mischief, **changes: Any) -> list[list[tuple[float, list[tuple[str, str]]]]]:
    """Return what leaves because of a withdrawal and when: rows of rounds of deliveries."""
    rows = plan(accepted(MerchantState(), **changes), DIALECT, SIGNER, mischief)
    return [[(one.due, [(result.what, result.status) for result in one.deliveries]) for one in row] for row in rows]


def delivered(sender: Courier) -> list[tuple[str, str, int | None]]:
    """Return what was delivered, in order, without the ids."""
    return [(result.what, result.status, result.answer) for result in sender.deliveries]


def test_without_mischief_each_status_leaves_once_when_it_comes() -> None:
    """None of them waits for another one."""
    assert leaving(Mischief()) == [[(1.0, [("withdrawal", "confirmed")])]]
    assert leaving(Mischief(), address="decline") == [
        [(0.0, [("withdrawal", "pending")])],
        [(1.0, [("withdrawal", "declined")])],
    ]


def test_duplicates_leave_at_the_same_moment_and_afterwards() -> None:
    """Two at once, and one more when these are done with."""
    result = ("withdrawal", "confirmed")
    assert leaving(Mischief(duplicates=True)) == [[(1.0, [result, result]), (1.0, [result])]]


@pytest.mark.parametrize(
    ("address", "last"), [("bc1qSomebody", "confirmed"), ("12345", "cancelled"), ("decline", "declined")]
)
def test_an_earlier_status_is_told_after_the_later_one(address: str, last: str) -> None:
    """Every withdrawal is told as pending when it has ended, and never before."""
    order = [(1.0, [("withdrawal", last)]), (1.0, [("withdrawal", "pending")])]
    assert leaving(Mischief(reordering=True), address=address) == [order]


def test_a_deposit_comes_beside_a_withdrawal() -> None:
    """It is seen at once and confirmed when the withdrawal ends; its statuses are reordered, too."""
    withdrawal = [(1.0, [("withdrawal", "confirmed")])]
    assert leaving(Mischief(deposits=True)) == [
        withdrawal,
        [(0.0, [("deposit", "not_confirmed")])],
        [(1.0, [("deposit", "confirmed")])],
    ]
    assert leaving(Mischief(deposits=True, reordering=True))[1] == [
        (1.0, [("deposit", "confirmed")]),
        (1.0, [("deposit", "not_confirmed")]),
    ]


def test_a_deposit_has_its_own_id_and_the_name_of_the_withdrawal() -> None:
    """The foreign_id stands where a withdrawal's stands, as the dialect spells it."""
    record = accepted(MerchantState(Dialect(foreign_id_form="trimmed")), foreign_id=" payout-17 ")
    result = deposit(record, Dialect(foreign_id_form="trimmed"), "confirmed")
    assert (result["type"], result["foreign_id"], result["crypto_address"]["foreign_id"]) == (
        "deposit",
        "payout-17",
        "payout-17",
    )
    assert result["id"] > record.id
    assert result["transactions"][0]["confirmations"] == 3
    assert deposit(record, DIALECT, "not_confirmed")["transactions"][0]["confirmations"] == 0


@pytest.mark.parametrize(
    ("address", "claims"), [("bc1qSomebody", "cancelled"), ("12345", "confirmed"), ("decline", "confirmed")]
)
def test_forgeries_claim_the_opposite_and_fool_nobody(address: str, claims: str) -> None:
    """Wrong signature, unknown key, signature of another body, no signature: before the true one, and none of them is genuine."""
    record = accepted(MerchantState(), address=address)
    lies, truth = plan(record, DIALECT, SIGNER, Mischief(forgeries=True))[-1]
    assert [why(lie) for lie in lies.deliveries] == ["signature", "unknown key", "signature", "missing header"]
    assert [why(result) for result in truth.deliveries] == ["genuine"]
    assert lies.deliveries[2].headers == truth.deliveries[0].headers
    assert {(lie.what, lie.id, lie.status) for lie in lies.deliveries} == {("forgery", record.id, claims)}
    assert {json.loads(lie.body)["status"] for lie in lies.deliveries} == {claims}


def why(content: Delivery) -> str:
    """Return why a merchant refuses a delivery."""
    try:
        read_callback(content.headers, content.body, SIGNERS.values())
    except CallbackError as problem:
        return problem.reason
    return "genuine"


async def test_duplicates_are_on_the_wire_together() -> None:
    """The merchant serves two of them at the same moment, and hears three."""
    receiver = Guarded(200)
    async with listening(receiver) as url, courier(url, Mischief(duplicates=True)) as sender:
        await sender.announce(accepted(MerchantState()), DIALECT)
    assert (len(receiver.heard), receiver.crowd) == (3, 2)
    assert delivered(sender) == [("withdrawal", "confirmed", 200)] * 3


async def test_a_reordered_status_waits_until_the_later_one_is_heard() -> None:
    """Repetitions of the later one come before the earlier one."""
    receiver = Guarded(500, 200)
    async with listening(receiver) as url, courier(url, Mischief(reordering=True)) as sender:
        await sender.announce(accepted(MerchantState()), DIALECT)
    assert delivered(sender) == [
        ("withdrawal", "confirmed", 500),
        ("withdrawal", "confirmed", 200),
        ("withdrawal", "pending", 200),
    ]


async def test_forgeries_are_delivered_once_before_the_true_one() -> None:
    """Refused, they do not come again; the true one does."""
    receiver = Guarded(503, 200)
    async with listening(receiver) as url, courier(url, Mischief(forgeries=True)) as sender:
        await sender.announce(accepted(MerchantState()), DIALECT)
    assert sorted(receiver.refused) == ["missing header", "signature", "signature", "unknown key"]
    assert delivered(sender) == [
        *[("forgery", "cancelled", 403)] * 4,
        ("withdrawal", "confirmed", 503),
        ("withdrawal", "confirmed", 200),
    ]


async def test_everything_at_once() -> None:
    """Deposits are signed with the key of the withdrawal, too, and every true callback is heard thrice."""
    receiver = Guarded(200)
    record = accepted(MerchantState(), key=OTHER.key)
    async with listening(receiver) as url, courier(url, EVERYTHING) as sender:
        await sender.announce(record, DIALECT)
    assert set(receiver.keys) == {OTHER.key}
    assert {result["foreign_id"] for result in receiver.heard} == {"payout-17"}
    orders = {
        kind: [result["status"] for result in receiver.heard if result["type"] == kind]
        for kind in ("withdrawal", "deposit")
    }
    assert orders == {
        "withdrawal": ["confirmed"] * 3 + ["pending"] * 3,
        "deposit": ["confirmed"] * 3 + ["not_confirmed"] * 3,
    }
    assert [result.answer for result in sender.deliveries if result.what == "forgery"] == [403] * 16
    assert {result.id for result in sender.deliveries if result.what == "withdrawal"} == {record.id}


def test_one_callback_can_be_made_in_any_status() -> None:
    """Signed, and with the status that is asked for, though the withdrawal has another."""
    made = signed_callback(accepted(MerchantState()), DIALECT, "declined", SIGNER)
    assert read_callback(made.headers, made.body, [SIGNER]).status == made.status == "declined"
