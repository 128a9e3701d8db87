"""What anyone can read afterwards: every body that arrived, every withdrawal that was accepted, and what was paid twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Literal

import msgspec

from alphapo_async.sandbox.checks import spell
from alphapo_async.sandbox.dialects import bucket, fold
from alphapo_async.sandbox.records import SandboxWithdrawal
from alphapo_async.sandbox.rules import MerchantState

__all__ = ["AcceptedWithdrawal", "Ledger", "PaidTwice", "SeenBody"]


class SeenBody(msgspec.Struct, frozen=True, kw_only=True):
    """One POST of a withdrawal whose bytes arrived, accepted or not."""

    at: float
    body: bytes
    fault: str | None
    outcome: str
    """`accepted`, `refused`, `reused`, `original`, `not processed`, `late`, `bad_content_format`, or one of the 403 codes."""
    accepted_id: int | None = None
    key: str = ""

    def __repr__(self) -> str:
        return f"SeenBody(at={self.at}, fault={self.fault!r}, outcome={self.outcome!r}, accepted_id={self.accepted_id})"


class AcceptedWithdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """One withdrawal that was accepted, as it stood when the ledger was asked."""

    id: int
    foreign_id: str
    """As it was sent, as text."""
    end_user_reference: str
    currency: str
    amount: Decimal | None
    amount_to: Decimal | None
    address: str
    tag: str | None
    convert_to: str | None
    at: float
    status: str
    key: str = ""

    @property
    def moved_money(self) -> bool:
        """Whether money moved or still may: it is neither cancelled nor declined."""
        return self.status not in {"cancelled", "declined"}

    @property
    def payment(self) -> tuple[Any, ...]:
        """What was paid, under any name."""
        return (
            self.end_user_reference,
            self.currency,
            self.amount,
            self.amount_to,
            self.address,
            self.tag,
            self.convert_to,
        )


class PaidTwice(msgspec.Struct, frozen=True):
    """Several withdrawals that moved money and have their foreign_id or their whole payment in common."""

    by: Literal["foreign_id", "payment"]
    accepted: tuple[AcceptedWithdrawal, ...]


class Ledger:
    """The books of a local sandbox, open to everyone. The sandbox makes them, and writes them with `note` and `amend`; tests only read.

    Args:
        state: what AlphaPo knows of the merchant.
        clock: the present moment, for statuses.
    """

    posts: int
    """Withdrawals posted: bodies that arrived."""
    look_ups: int
    """Look-ups that arrived."""
    pings: int
    """Pings that arrived."""
    connections: int
    """Connections that were opened."""

    def __init__(self, state: MerchantState, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._names: dict[str, None] = {}
        self._requests: dict[str, list[tuple[str, SeenBody]]] = {}
        self.posts = self.look_ups = self.pings = self.connections = 0

    def __repr__(self) -> str:
        return f"Ledger(posts={self.posts}, look_ups={self.look_ups}, accepted={len(self._state.records)})"

    # ── written by the sandbox ───────────────────────────────────────────────────────────────────────────────────────

    def note(self, foreign_id: str, seen: SeenBody) -> int:
        """Write down a POST; returns its place, for `amend`."""
        self.posts += 1
        self._names[foreign_id] = None
        requests = self._requests.setdefault(bucket(foreign_id), [])
        requests.append((foreign_id, seen))
        return len(requests) - 1

    def amend(self, foreign_id: str, place: int, outcome: str, accepted_id: int | None) -> None:
        """Write down what became of a POST that was processed late."""
        requests = self._requests[bucket(foreign_id)]
        requests[place] = (
            foreign_id,
            msgspec.structs.replace(requests[place][1], outcome=outcome, accepted_id=accepted_id),
        )

    # ── read by everyone ─────────────────────────────────────────────────────────────────────────────────────────────

    def requests(self, foreign_id: str | int) -> tuple[SeenBody, ...]:
        """Return every POST for a foreign_id whose bytes arrived, oldest first; those without one stand under ""."""
        folded = self._fold(str(foreign_id))
        near = self._requests.get(bucket(str(foreign_id)), ())
        return tuple(seen for name, seen in near if self._fold(name) == folded)

    def accepted(self, foreign_id: str | int) -> tuple[AcceptedWithdrawal, ...]:
        """Return what was accepted under a foreign_id, oldest first."""
        return self._told(self._state.named(str(foreign_id)))

    def foreign_ids(self) -> tuple[str, ...]:
        """Return every foreign_id that arrived, as it was sent, in the order of arrival."""
        return tuple(name for name in self._names if name)

    def all_accepted(self) -> tuple[AcceptedWithdrawal, ...]:
        """Return every withdrawal that was accepted, oldest first."""
        return self._told(self._state.records)

    def paid_more_than_once(self, by: Literal["both", "foreign_id", "payment"] = "both") -> list[PaidTwice]:
        """Return what was paid more than once.

        Args:
            by: what the payments have in common: their foreign_id (as the dialect compares it), everything else (end user,
                currency, amounts, address, tag, target), or either.
        """
        moved = [accepted for accepted in self.all_accepted() if accepted.moved_money]
        twice: list[PaidTwice] = []
        if by != "payment":
            same = _groups((self._fold(accepted.foreign_id), accepted) for accepted in moved)
            twice += [PaidTwice("foreign_id", group) for group in same]
        if by != "foreign_id":
            twice += [PaidTwice("payment", group) for group in _groups((paid.payment, paid) for paid in moved)]
        return twice

    def to_json(self) -> str:
        """Return the whole ledger as JSON."""
        shown = {
            "posts": self.posts,
            "look_ups": self.look_ups,
            "pings": self.pings,
            "connections": self.connections,
            "requests": self._posts_told(),
            "accepted": [_plain(accepted) for accepted in self.all_accepted()],
            "paid_more_than_once": [
                {"by": twice.by, "ids": [accepted.id for accepted in twice.accepted]}
                for twice in self.paid_more_than_once()
            ],
        }
        return msgspec.json.encode(shown).decode()

    def _posts_told(self) -> dict[str, list[dict[str, Any]]]:
        shown: dict[str, list[dict[str, Any]]] = {name: [] for name in self._names}
        for posts in self._requests.values():
            for name, post in posts:
                shown[name].append(_seen(post))
        return shown

    def _fold(self, foreign_id: str) -> str:
        return fold(foreign_id, self._state.dialect)

    def _told(self, records: Iterable[SandboxWithdrawal]) -> tuple[AcceptedWithdrawal, ...]:
        now = self._clock()
        return tuple(_accepted(record, now) for record in records)


def _accepted(record: SandboxWithdrawal, now: float) -> AcceptedWithdrawal:
    asked = record.asked
    return AcceptedWithdrawal(
        id=record.id,
        foreign_id=spell(asked.foreign_id),
        end_user_reference=asked.end_user_reference,
        currency=asked.currency,
        amount=asked.amount,
        amount_to=asked.amount_to,
        address=asked.address,
        tag=asked.tag,
        convert_to=asked.convert_to,
        at=record.at,
        status=record.status(now),
        key=record.key,
    )


def _groups(named: Iterable[tuple[Any, AcceptedWithdrawal]]) -> list[tuple[AcceptedWithdrawal, ...]]:
    groups: dict[Any, list[AcceptedWithdrawal]] = {}
    for name, accepted in named:
        groups.setdefault(name, []).append(accepted)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _plain(accepted: AcceptedWithdrawal) -> dict[str, Any]:
    shown = msgspec.structs.asdict(accepted)
    amounts = {name: f"{shown[name]:f}" for name in ("amount", "amount_to") if shown[name] is not None}
    return shown | amounts | {"moved_money": accepted.moved_money}


def _seen(seen: SeenBody) -> dict[str, Any]:
    return msgspec.structs.asdict(seen) | {"body": seen.body.decode("utf-8", "replace")}
