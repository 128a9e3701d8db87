"""Evidence: everything that can change a row, as plain values."""

from __future__ import annotations

from decimal import Decimal
from math import inf
from typing import Any, TypeAlias

import msgspec

from alphapo_async.core.codec import digest, is_same_payment
from alphapo_async.core.models import Transaction, Withdrawal, WithdrawalRequest, requested_figure
from alphapo_async.core.replies import Answer, Proof

__all__ = [
    "Attempt",
    "CalledBack",
    "Claimed",
    "ControlFound",
    "Evidence",
    "LeaseExpired",
    "LookedUp",
    "OperatorDecision",
    "Redated",
    "Released",
    "Remembered",
    "ReplyExcerpt",
    "Reported",
    "Requested",
    "Returned",
    "Revision",
    "Unfrozen",
]


class Revision(msgspec.Struct, frozen=True, gc=False):
    """The exact bytes signed, journaled and sent, and the payment they ask for.

    Of an old row a journal may remember the digest and the figure alone; then `body` is empty and `payment` is None.
    """

    body: bytes
    payment: WithdrawalRequest | None
    number: int = 1
    kept_digest: str | None = None
    kept_asked: tuple[Decimal, str] | None = None

    def __repr__(self) -> str:
        return f"Revision(number={self.number}, body=<{len(self.body)} bytes>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("number", self.number), ("body", f"<{len(self.body)} bytes>")]

    @property
    def digest(self) -> str:
        """The digest of the payment, equal for equal payments however they were written."""
        return self.kept_digest or ("" if self.payment is None else digest(self.payment))

    @property
    def asked(self) -> tuple[Decimal, str]:
        """Figure and currency; zero and an empty currency where the journal no longer knows them."""
        if self.payment is not None:
            return requested_figure(self.payment)
        return self.kept_asked or (Decimal(0), "")

    def is_same_payment(self, other: Revision) -> bool:
        """Both ask for the same payment: compared field by field, or by digest where the fields are not kept."""
        if self is other:
            return True
        if self.payment is None or other.payment is None:
            return self.digest == other.digest
        return is_same_payment(self.payment, other.payment)


class ReplyExcerpt(msgspec.Struct, frozen=True, gc=False):
    """What came back, kept for readers of the history: it decides nothing."""

    status: int | None = None
    """HTTP status; None if no reply came."""
    reply: bytes = b""
    """The first KiB of its body; the first 64 KiB of a callback's."""

    def __repr__(self) -> str:
        return f"ReplyExcerpt(status={self.status}, reply=<{len(self.reply)} bytes>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("reply", f"<{len(self.reply)} bytes>")]


NO_EXCERPT = ReplyExcerpt()


class Requested(msgspec.Struct, frozen=True, gc=False):
    """A caller asked for this payment, and a worker took it on; or, without a worker, left it to the workers.

    `expires_at` ends the trying of a payment that was left to the workers.
    """

    worker: str | None
    revision: Revision
    key: str
    resend_rejected: bool = False
    attempted_before: bool = False
    has_other_keys: bool = False
    """The client knows more keys than this: what was attempted before may have been sent with any of them."""
    expires_at: float | None = None
    is_awaited: bool = True
    """A caller waits for the outcome; if not, it has to be reported."""
    requested_at: float | None = None
    """When; None for now. A "no" that is dated later answers this request: the caller of that "no" may rely on it."""
    requested_by: str | None = None
    """The worker that was asked, also where it is left to others; its clock is `requested_at`'s."""
    no_counts_later_by: float = 0.0
    """Seconds that are added to the date of another worker's "no": what its clock may differ by, and `COMMIT_GRACE`."""
    is_request: bool = True
    """A caller asks for the payment and still waits; False where a worker takes an open row on by itself, or every caller has left.

    Without a request no freeze ends, and a row that the journal may have forgotten is frozen."""
    begun: float = inf
    """The last claim of the worker whose rows may have begun; nothing of a later claim's rows was sent."""


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A worker took the row with other fresh ones. Its body leaves after a later claim, which records that this one's rows may begin."""

    worker: str
    number: int
    """Of the claim, from 1 on for each worker."""
    key: str


class Returned(msgspec.Struct, frozen=True, gc=False):
    """A row of a claim is free again, and was not begun: the worker returned it, or is gone."""

    worker: str
    claim: int


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """A worker sent the body, and this is what the reply proves.

    `began` and `until` bound the time in which bytes could leave.
    """

    worker: str
    proof: Proof
    began: float
    until: float
    seen: ReplyExcerpt = NO_EXCERPT


class LookedUp(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo was asked by foreign_id, between `began` and `until` where that is known."""

    worker: str
    answer: Answer
    seen: ReplyExcerpt = NO_EXCERPT
    began: float | None = None
    until: float | None = None


class CalledBack(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo sent a signed callback."""

    transaction: Transaction
    seen: ReplyExcerpt = NO_EXCERPT
    doubt: str | None = None
    """Why it could not be taken for the row's withdrawal, where it could not."""


class ControlFound(msgspec.Struct, frozen=True, gc=False):
    """A look-up with the same key found another accepted withdrawal, which was recorded at this time."""

    worker: str
    accepted_at: float


class Released(msgspec.Struct, frozen=True, gc=False):
    """The worker stops working on the row and lets go of it."""

    worker: str
    reason: str
    stays_open: bool = False
    """No caller got "not sent": a later `resume` or worker continues with it."""


class LeaseExpired(msgspec.Struct, frozen=True, gc=False):
    """The worker that held the row let go of it without a report: the worker is gone, or its lease has ended."""

    worker: str
    until: float
    """It could send until then: the end of its lease, or when it was found dead."""


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """A worker has an acceptance in memory that it recorded before the journal went back."""

    worker: str
    revision: Revision
    withdrawal: Withdrawal
    transaction: Transaction | None = None


class Unfrozen(msgspec.Struct, frozen=True, gc=False):
    """The operator looked at AlphaPo's books after the journal went back: they do not have the withdrawal."""

    by: str
    because: str


class OperatorDecision(msgspec.Struct, frozen=True, gc=False):
    """The operator looked at AlphaPo's books and records what became of a withdrawal."""

    by: str
    because: str
    is_accepted: bool
    id: str | None = None
    """AlphaPo's id, where the person read it."""
    is_correction: bool = False
    """It amends an earlier decision of the operator."""

    @property
    def text(self) -> str:
        """The decision, its author and the reason, as the row and the history keep it."""
        what = "accepted" if self.is_accepted else "rejected"
        which = "" if self.id is None else f" with id {self.id}"
        amends = ", who corrects an earlier decision" if self.is_correction else ""
        return f"{what}{which} by {self.by}{amends}: {self.because}"


class Redated(msgspec.Struct, frozen=True, gc=False):
    """This worker reports a "no" later than it decided it: the "no" counts from now on, by this worker's clock."""

    worker: str


class Reported(msgspec.Struct, frozen=True, gc=False):
    """An outcome was handed to a caller: the outcome of this state, revision and request, not a later one; None: any outcome."""

    state: str | None = None
    revision: int = 0
    expires_at: float | None = None
    leaves_not_sent: bool = False
    """A worker settled the row: "not sent" is left for `resume` to hand out."""


Evidence: TypeAlias = (
    Requested
    | Claimed
    | Returned
    | Attempt
    | LookedUp
    | CalledBack
    | ControlFound
    | Released
    | LeaseExpired
    | Remembered
    | Unfrozen
    | OperatorDecision
    | Redated
    | Reported
)
"""Closed: a new kind of evidence is a new branch in `transitions.apply`, or the type checker complains."""
