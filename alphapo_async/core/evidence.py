"""Evidence: whatever can happen to a row, as plain values."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from alphapo_async.core.codec import digest, is_same_payment
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.outcome import Answer, Proof

__all__ = ["Asked", "Attempt", "Control", "Evidence", "GivenUp", "LookedUp", "Revision"]


class Revision(msgspec.Struct, frozen=True):
    """The exact bytes signed, journaled and sent, and the payment they ask for.

    Of an old row a journal may remember the digest alone; then `body` is empty and `payment` is None.
    """

    body: bytes
    payment: WithdrawalRequest | None
    number: int = 1
    kept_digest: str | None = None

    def __repr__(self) -> str:
        return f"Revision(number={self.number}, body=<{len(self.body)} bytes>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("number", self.number), ("body", f"<{len(self.body)} bytes>")]

    @property
    def digest(self) -> str:
        """The digest of the payment, equal for equal payments however they were written."""
        return self.kept_digest or ("" if self.payment is None else digest(self.payment))

    def is_same_payment(self, other: Revision) -> bool:
        """Both ask for the same payment: compared field by field, or by digest where the fields are not kept."""
        if self.payment is None or other.payment is None:
            return self.digest == other.digest
        return is_same_payment(self.payment, other.payment)


class Asked(msgspec.Struct, frozen=True):
    """A caller asked for this payment, and a worker took it on."""

    worker: str
    revision: Revision
    key: str
    resend_rejected: bool = False
    attempted_before: bool = False


class Attempt(msgspec.Struct, frozen=True):
    """A worker sent the body, and this is what the reply proves.

    `began` and `until` bound the time in which bytes could leave.
    """

    worker: str
    proof: Proof
    began: float
    until: float


class LookedUp(msgspec.Struct, frozen=True):
    """AlphaPo was asked by foreign_id."""

    worker: str
    answer: Answer


class Control(msgspec.Struct, frozen=True):
    """A look-up with the same key found another withdrawal, accepted at this time."""

    worker: str
    accepted_at: float


class GivenUp(msgspec.Struct, frozen=True):
    """The worker stops working on the row and lets go of it."""

    worker: str
    reason: str


Evidence: TypeAlias = Asked | Attempt | LookedUp | Control | GivenUp
"""Closed: a new kind of evidence is a new branch in `row.learn`, or the type checker complains."""
