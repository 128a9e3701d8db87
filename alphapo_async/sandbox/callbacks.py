"""AlphaPo's signed callbacks: which status changes are reported, how often one is repeated until AlphaPo gets a 200, and what goes wrong.

Signature and headers: https://docs.alphapo.net/integration-guide/get-callbacks. The repetitions:
https://docs.cryptoprocessing.com/api-reference/callbacks/callbacks-overview; AlphaPo's own schedule is not published.
A deposit's callback: https://github.com/coinspaid/docs, callbacks.md.

`plan` decides what leaves when, as plain values; the `Courier` carries it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from alphapo_async.core.signer import Signer
from alphapo_async.sandbox.answers import encode, figure, transaction
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.records import SandboxWithdrawal

__all__ = [
    "REPEATED_AFTER",
    "Changes",
    "Courier",
    "Delivered",
    "Delivery",
    "Mischief",
    "Post",
    "Round",
    "Show",
    "What",
    "announcements",
    "deposit",
    "forgeries",
    "plan",
    "repetitions",
    "signed_callback",
]

REPEATED_AFTER = (1, 5, 15, 30, 60, 90, 120, 180, 240, 240, 240, 240)
"""Minutes from one delivery that was not answered with 200 to the next."""

HEARD = 200
_DEPOSITS_FROM = 500_000_000
"""How far the ids of deposits are from those of the withdrawals they come beside."""

Post: TypeAlias = Callable[[bytes, Mapping[str, str]], Awaitable[int | None]]
"""Delivers a body with its headers and returns the status of the answer; None: there was none."""

Changes: TypeAlias = tuple[tuple[float, str], ...]
"""When which status is reported."""

Show: TypeAlias = Callable[[str], dict[str, Any]]
"""Returns the object with which a callback shows a withdrawal or deposit in a status."""

What: TypeAlias = Literal["withdrawal", "deposit", "forgery"]
"""What a delivery is: a true callback of a withdrawal or a deposit, or one that AlphaPo did not sign."""


class Mischief(msgspec.Struct, frozen=True, kw_only=True):
    """What a real network and a hostile world do to callbacks. By default nothing."""

    duplicates: bool = False
    """Every callback comes three times: twice at the very same moment, and once more when both are done with."""
    reordering: bool = False
    """An earlier status comes only when the later one is done with. A withdrawal without an earlier status is reported as
    `pending` afterwards, as if a person had approved it."""
    forgeries: bool = False
    """Before every callback come forged ones that claim another status, each of them once, whatever answers them."""
    deposits: bool = False
    """Beside every withdrawal comes a deposit, truly signed, with its own id and the withdrawal's foreign_id."""


class Delivery(msgspec.Struct, frozen=True):
    """One callback, ready to leave."""

    what: What
    id: int
    status: str
    """What it claims."""
    body: bytes
    headers: Mapping[str, str]


class Round(msgspec.Struct, frozen=True):
    """Deliveries that leave at the very same moment, and when they are due."""

    due: float
    deliveries: tuple[Delivery, ...]


class Delivered(NamedTuple):
    """One delivery that was made, and the HTTP status of the answer; None: there was none."""

    what: What
    id: int
    status: str
    answer: int | None


def announcements(record: SandboxWithdrawal) -> Changes:
    """Return when which status of a withdrawal is reported.

    There is no callback for "processing": https://docs.cryptoprocessing.com/api-reference/callbacks/withdrawal-callbacks.
    """
    last = (record.settles_at, record.ending.last)
    return ((record.at, "pending"), last) if record.ending.first == "pending" else (last,)


def repetitions(time_scale: float) -> tuple[float, ...]:
    """Return the seconds to wait before each repetition."""
    return tuple(minutes * 60 * time_scale for minutes in REPEATED_AFTER)


# ── what is reported ─────────────────────────────────────────────────────────────────────────────────────────────────────


def deposit(record: SandboxWithdrawal, dialect: Dialect, status: str) -> dict[str, Any]:
    """Return the object with which a callback shows the deposit beside a withdrawal.

    The foreign_id of a deposit belongs to its address; here it stands where a withdrawal's stands as well, on purpose.
    """
    number = record.id + _DEPOSITS_FROM
    foreign_id = transaction(record, dialect, status)["foreign_id"]
    currency = record.asked.receiver_currency
    place = {"currency": currency, "address": f"deposits-{number}", "tag": None}
    money = {"currency": currency, "amount": figure(record.received, dialect)}
    part = {"id": number * 2, "transaction_type": "blockchain", "type": "deposit", "txid": f"{number:064x}"}
    return {
        "id": number,
        "foreign_id": foreign_id,
        "type": "deposit",
        "crypto_address": {"id": number, "foreign_id": foreign_id, **place},
        "currency_sent": money,
        "currency_received": {**money, "amount_minus_fee": money["amount"]},
        "transactions": [{**part, **place, **money, "confirmations": 3 if status == "confirmed" else 0}],
        "fees": [],
        "error": "",
        "status": status,
    }


def signed_callback(record: SandboxWithdrawal, dialect: Dialect, status: str, signer: Signer) -> Delivery:
    """Return the callback that shows a withdrawal in this status, which need not be its own."""
    return _signed("withdrawal", transaction(record, dialect, status), signer, dialect)


def _signed(what: What, content: dict[str, Any], signer: Signer, dialect: Dialect | None = None) -> Delivery:
    body = encode(content, dialect)
    return Delivery(what, content["id"], content["status"], body, signer.headers(body))


def forgeries(true: Delivery, show: Show, signer: Signer) -> tuple[Delivery, ...]:
    """Return what a forger without the secret makes of a callback; each claims another status than the true one.

    Args:
        true: the callback; the forger may have overheard it.
        show: returns its object in another status.
        signer: whose key the forger names.
    """
    # The lies that cost most: what was paid is paid again, what was not paid counts as paid.
    lie = show("cancelled" if true.status == "confirmed" else "confirmed")
    strangers = [Signer(signer.key, "a forger's secret"), Signer(f"{signer.key}-forged", "a forger's secret")]
    wrong, unknown = (_signed("forgery", lie, stranger) for stranger in strangers)
    bare = {"Content-Type": "application/json"}
    return wrong, unknown, *(msgspec.structs.replace(wrong, headers=headers) for headers in (true.headers, bare))


# ── when it is reported ──────────────────────────────────────────────────────────────────────────────────────────────────


def plan(
    record: SandboxWithdrawal, dialect: Dialect, signer: Signer, mischief: Mischief
) -> tuple[tuple[Round, ...], ...]:
    """Return all that leaves because of a withdrawal, in rows of rounds.

    The rows proceed side by side. In a row, a round leaves when it is due and every delivery of the round before is done with.

    Args:
        record: the withdrawal.
        dialect: how it is shown.
        signer: of the key that made it.
        mischief: what goes wrong.
    """
    rows = []
    for what, show, changes in _subjects(record, dialect, mischief):
        for row in _in_order(changes, mischief):
            trues = [(due, _signed(what, show(status), signer, dialect)) for due, status in row]
            rows.append(tuple(one for due, true in trues for one in _rounds(due, true, show, signer, mischief)))
    return tuple(rows)


def _subjects(record: SandboxWithdrawal, dialect: Dialect, mischief: Mischief) -> list[tuple[What, Show, Changes]]:
    changes = announcements(record)
    if mischief.reordering and len(changes) == 1:
        changes = ((record.at, "pending"), *changes)
    subjects: list[tuple[What, Show, Changes]] = [("withdrawal", partial(transaction, record, dialect), changes)]
    if mischief.deposits:
        changes = ((record.at, "not_confirmed"), (record.settles_at, "confirmed"))
        subjects.append(("deposit", partial(deposit, record, dialect), changes))
    return subjects


def _in_order(changes: Changes, mischief: Mischief) -> tuple[Changes, ...]:
    if mischief.reordering:
        last = changes[-1][0]
        return (tuple((last, status) for _due, status in reversed(changes)),)
    # Each on its own: an unheard "pending" must not hold back what came of it.
    return tuple((change,) for change in changes)


def _rounds(due: float, true: Delivery, show: Show, signer: Signer, mischief: Mischief) -> tuple[Round, ...]:
    lies = (Round(due, forgeries(true, show, signer)),) if mischief.forgeries else ()
    copies = (Round(due, (true, true)), Round(due, (true,))) if mischief.duplicates else (Round(due, (true,)),)
    return (*lies, *copies)


class Courier:
    """Tells the merchant about withdrawals.

    Args:
        signers: the merchant's keys; a callback is signed with the key that made the withdrawal.
        post: delivers one body.
        clock: the present moment.
        time_scale: what the waits before repetitions are multiplied with.
        mischief: what goes wrong on the way; None: nothing.
        deliveries: where every delivery is noted when it was answered, or was not; None: nowhere else than here.
    """

    def __init__(
        self,
        signers: Mapping[str, Signer],
        post: Post,
        clock: Callable[[], float],
        time_scale: float = 1.0,
        *,
        mischief: Mischief | None = None,
        deliveries: list[Delivered] | None = None,
    ) -> None:
        self.deliveries: list[Delivered] = [] if deliveries is None else deliveries
        self._signers = signers
        self._post = post
        self._clock = clock
        self._waits = repetitions(time_scale)
        self._mischief = mischief or Mischief()

    async def announce(self, record: SandboxWithdrawal, dialect: Dialect) -> None:
        """Report every change of a withdrawal when it comes, each until it is answered with 200 or the repetitions are used up."""
        async with asyncio.TaskGroup() as group:
            for row in plan(record, dialect, self._signers[record.key], self._mischief):
                group.create_task(self._go_through(row))

    async def _go_through(self, row: tuple[Round, ...]) -> None:
        for one in row:
            await asyncio.sleep(max(0.0, one.due - self._clock()))
            async with asyncio.TaskGroup() as group:
                for delivery in one.deliveries:
                    group.create_task(self._deliver(delivery))

    async def _deliver(self, delivery: Delivery) -> None:
        waits = () if delivery.what == "forgery" else self._waits
        for wait in (0.0, *waits):
            await asyncio.sleep(wait)
            answer = await self._post(delivery.body, delivery.headers)
            self.deliveries.append(Delivered(delivery.what, delivery.id, delivery.status, answer))
            if answer == HEARD:
                return
