"""What can go wrong. Each error answers three questions of the caller: did money move, which foreign_id, and what to do now.

    AlphapoError
    ├── InvalidRequest (ValueError)         wrong input; nothing was sent
    ├── ConfigurationError (ValueError)     wrong settings; nothing was sent
    ├── WithdrawalError                     one withdrawal did not end in acceptance
    │   ├── WithdrawalRejected              AlphaPo refused; no money moved
    │   ├── WithdrawalFailed                AlphaPo had it and ended it; no money moved
    │   ├── WithdrawalNotSent               it never arrived; no money moved
    │   ├── WithdrawalUnknown               not known yet: keep it pending
    │   ├── ForeignIdConflict               the foreign_id was already used for another payment, which stands
    │   └── AuthenticationError             AlphaPo does not accept the key or the signature
    ├── JournalError                        this call sent nothing: the journal could not be used
    ├── AlphapoUnavailable                  a question to AlphaPo had no usable answer
    ├── CallbackError (ValueError)          what was delivered is not AlphaPo's, or cannot be read
    └── CallbackBusy                        another delivery of it is still being handled

Every one survives `pickle` and `copy`, and none holds an exception of the HTTP library as its cause or context.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast

import msgspec

from alphapo_async.core.field_docs import with_field_docs

if TYPE_CHECKING:
    from alphapo_async.core.models import Transaction, Withdrawal, WithdrawalRequest
else:  # `help()` looks the names up, and the models need the errors
    Transaction = Withdrawal = WithdrawalRequest = Any

__all__ = [
    "AlphapoError",
    "AlphapoUnavailable",
    "AuthenticationError",
    "CallbackBusy",
    "CallbackError",
    "ConfigurationError",
    "Existing",
    "ForeignIdConflict",
    "InvalidRequest",
    "JournalError",
    "WithdrawalError",
    "WithdrawalFailed",
    "WithdrawalNotSent",
    "WithdrawalRejected",
    "WithdrawalUnknown",
]

Outcome: TypeAlias = Literal[
    "accepted", "failed", "rejected", "not_sent", "unknown", "conflict", "invalid", "key_refused"
]
"""How one withdrawal ended, as far as is known."""

NotSentReason: TypeAlias = Literal[
    "throttled",
    "no connection",
    "outage",
    "queue",
    "closed",
    "expired",
    "key refused",
    "not found",
    "journal",
    "internal error",
]
"""Why a withdrawal was not sent. `throttled`: AlphaPo asked to wait. `outage`: AlphaPo gives no readable answers. `queue`: the deadline
passed while it was queued. `closed`: the client was closed. `expired`: its `expires_in` passed. `not found`: AlphaPo does not know the
foreign_id."""

UnknownReason: TypeAlias = (
    Literal[
        "in flight", "closing", "held", "no answer", "refused", "taken", "mismatch", "ended", "key", "journal went back"
    ]
    | NotSentReason
)
"""Why a withdrawal is unknown. `in flight`: the deadline passed first. `held`: another worker works on it. `taken`: AlphaPo refuses the
foreign_id as used and shows no withdrawal under it. `mismatch`: AlphaPo shows other figures. `ended`: AlphaPo cancelled or declined it,
and an earlier attempt may still arrive under the foreign_id that this may have freed. `key`: it was signed with a key that this client
does not have. `key refused`: AlphaPo does not accept the key or the signature, and the row stays open. A row that was enqueued, or was
open before the call, has the reasons of `NotSentReason`: a worker may still send it."""

CallbackReason: TypeAlias = Literal[
    "too large",
    "missing header",
    "unknown key",
    "signature",
    "not JSON",
    "not an object",
    "no id or status",
    "not kept",
]
"""Why a delivery is no callback. `not kept`: the journal has no callback to replay."""

ExistingState: TypeAlias = Literal[
    "open", "in doubt", "accepted", "failed", "rejected", "not_sent", "key_refused", "conflict"
]
"""State of a withdrawal that has a foreign_id."""

# AlphaPo may add values, so that any text is allowed, and editors complete the known ones. msgspec, which reads rows, refuses this union.
if TYPE_CHECKING:
    Status: TypeAlias = Literal["processing", "not_confirmed", "pending", "confirmed", "cancelled", "declined"] | str
    """AlphaPo's status of a withdrawal: one of those that it documents, or another that it has added."""
    AuthenticationCode: TypeAlias = (
        Literal["bad_header_signature", "required_header_signature", "bad_header_key", "required_header_key"] | str
    )
    """AlphaPo's code for a key that it does not accept."""
else:
    Status = AuthenticationCode = str


AUTHENTICATION_CODES = frozenset(
    {"bad_header_signature", "required_header_signature", "bad_header_key", "required_header_key"}
)
"""The four codes AlphaPo's engine documents at status 403 (https://docs.cryptoprocessing.com/api-reference/errors)."""


class AlphapoError(Exception):
    """The root of every error that this library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args` alone, which loses what was passed by name.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


@with_field_docs
class InvalidRequest(AlphapoError, ValueError):
    """The request is wrong; nothing was sent."""

    outcome: ClassVar[Outcome] = "invalid"
    """`invalid`, as in a `BatchResult`."""
    problems: dict[str, str]
    """Every problem at once, from field name to text."""
    foreign_id: str | None
    """Of the withdrawal, None where it is not known, or wrong itself."""

    def __init__(self, problems: dict[str, str], foreign_id: str | None = None) -> None:
        self.problems = problems
        self.foreign_id = foreign_id
        listed = " ".join(f"{field} {text}" for field, text in problems.items())
        which = "The withdrawal request" if foreign_id is None else f"Withdrawal {foreign_id!r}"
        super().__init__(f"{which} is not valid, nothing was sent. {listed}")


class ConfigurationError(AlphapoError, ValueError):
    """The settings are wrong; nothing was sent."""


@with_field_docs
class AlphapoUnavailable(AlphapoError):
    """A question to AlphaPo had no usable answer; it proves nothing about any withdrawal.

    The questions are `look_up`, `ping`, `balances`, `currencies` and `quote`.
    """

    http_status: int | None
    """The HTTP status of the reply, None if there was none."""
    code: AuthenticationCode | None
    """AlphaPo's error code where it gave one, such as `bad_header_signature`."""
    retry_after: float | None
    """Seconds AlphaPo asked to wait, None if it did not."""

    def __init__(
        self, message: str, *, http_status: int | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.retry_after = retry_after

    @property
    def is_key_refused(self) -> bool:
        """AlphaPo does not accept the key or the signature."""
        return self.code in AUTHENTICATION_CODES


@with_field_docs
class CallbackError(AlphapoError, ValueError):
    """What was delivered is not AlphaPo's, or cannot be read. Nothing was learned from it."""

    reason: CallbackReason
    """`too large`, `missing header`, `unknown key`, `signature`, `not JSON`, `not an object`, `no id or status`, or `not kept` (a
    replay)."""

    def __init__(self, message: str, *, reason: CallbackReason) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_forged(self) -> bool:
        """It does not carry a signature made with one of the client's keys."""
        return self.reason in ("missing header", "unknown key", "signature")


class CallbackBusy(AlphapoError):
    """Another delivery of this callback is still being handled. Nothing was handled by this one: let AlphaPo send it again."""


class _AboutOne(AlphapoError):
    """What an error about one withdrawal carries besides its text."""

    outcome: ClassVar[Outcome]
    """One of `failed`, `rejected`, `not_sent`, `unknown`, `conflict`, `key_refused`, as in a `BatchResult`."""
    is_retry_safe: ClassVar[bool]
    """Calling again with the same request is sensible and cannot pay twice."""
    next_step: ClassVar[str]
    """What to do now, in a sentence."""
    _may_release_funds: ClassVar[bool]

    def __init__(
        self, message: str, *, foreign_id: str | None = None, attempts: int = 0, retry_after: float | None = None
    ) -> None:
        self.foreign_id = foreign_id
        super().__init__(f"{message} {self.next_step}")
        self.attempts = attempts
        self.retry_after = retry_after

    foreign_id: str | None
    """The withdrawal this is about."""
    attempts: int
    """How many times the body left, or may have left, in this and earlier calls."""
    retry_after: float | None
    """Seconds AlphaPo asked to wait before the next try, None if it did not."""

    @property
    def may_release_funds(self) -> bool:
        """Whether the user's balance may be given back: True only where no money moved and none will under this request."""
        return self._may_release_funds


@with_field_docs
class WithdrawalError(_AboutOne):
    """One withdrawal did not end in acceptance; the subclass shows whether money can have moved."""

    foreign_id: str  # pyright: ignore[reportIncompatibleVariableOverride] - None only in the subclass that says so
    """The withdrawal this is about, as text. None only in the `AuthenticationError` that `batch` raises about no single withdrawal."""


@with_field_docs
class WithdrawalRejected(WithdrawalError):
    """AlphaPo refused. No money moved."""

    errors: dict[str, list[str]]
    """AlphaPo's words, from field name to texts."""

    outcome: ClassVar[Outcome] = "rejected"
    """`rejected`, as in a `BatchResult`."""
    is_retry_safe = False
    next_step = "Correct the request, or give the funds back; resend_rejected=True sends the same request again."
    _may_release_funds = True

    def __init__(self, message: str, *, errors: dict[str, list[str]], **about: Any) -> None:
        super().__init__(message, **about)
        self.errors = errors


@with_field_docs
class WithdrawalFailed(WithdrawalError):
    """AlphaPo had the withdrawal and ended it. No money moved."""

    transaction: Transaction | Withdrawal | None
    """What AlphaPo last showed of it, a `Transaction` or a `Withdrawal`; None if only its status is still known."""

    outcome: ClassVar[Outcome] = "failed"
    """`failed`, as in a `BatchResult`."""
    is_retry_safe = False
    next_step = "Give the funds back, or pay again under a new foreign_id."
    _may_release_funds = True

    def __init__(self, message: str, *, transaction: Transaction | Withdrawal | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.transaction = transaction


@with_field_docs
class WithdrawalNotSent(WithdrawalError):
    """It never arrived. No money moved."""

    reason: NotSentReason
    """`throttled`, `no connection`, `outage`, `queue`, `closed`, `expired`, `key refused` or, rarely, another word of `NotSentReason`."""

    outcome: ClassVar[Outcome] = "not_sent"
    """`not_sent`, as in a `BatchResult`."""
    is_retry_safe = True
    next_step = "Call again with the same request when you like, or give the funds back."
    _may_release_funds = True

    def __init__(self, message: str, *, reason: str, **about: Any) -> None:
        super().__init__(message, **about)
        self.reason = cast("NotSentReason", reason)


@with_field_docs
class WithdrawalUnknown(WithdrawalError):
    """It is not proved yet whether money moved: an attempt may have arrived.

    Keep it pending: no refund, no new foreign_id. `work`, `resume`, a callback or the same call again settles it.
    """

    reason: UnknownReason
    """Why, such as `in flight`, `no answer`, `not found`, `closing`, `held` or `journal`. `ended`: AlphaPo cancelled or declined it, and an
    earlier attempt may still arrive under the foreign_id that this may have freed. `key`: it was signed with a key that this client does
    not have. `key refused`: AlphaPo does not accept the key or the signature, and the row stays open. Of a row that was enqueued, or open
    before the call, also why it was not sent: `outage`, `queue`, `throttled` or `no connection`."""

    outcome: ClassVar[Outcome] = "unknown"
    """`unknown`, as in a `BatchResult`."""
    is_retry_safe = True
    _may_release_funds = False

    def __init__(self, message: str, *, reason: str, **about: Any) -> None:
        self.reason = cast("UnknownReason", reason)
        super().__init__(message, **about)

    @property
    def next_step(self) -> str:  # type: ignore[override]
        """What to do now, in a sentence or two."""
        keep = "Keep it pending: do not refund it and do not pay it under a new foreign_id."
        if self.reason == "key":
            return f"{keep} No call settles it without its key: add the key, then call again with the same request."
        if self.reason == "ended":
            return f"{keep} A worker, `resume`, or the same call after the quiet time looks it up again and settles it."
        return f"{keep} Calling again with the same request is safe and looks for the truth."


@with_field_docs
class Existing(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What already has the foreign_id: a row of the journal, or a withdrawal that AlphaPo shows and that is not the journal's."""

    state: ExistingState
    """`open`, `in doubt`, `accepted` or `failed`; `rejected`, `not_sent` or `key_refused` only where another call got that outcome in
    this very moment."""
    payment: WithdrawalRequest | None = None
    """The `WithdrawalRequest` of the journal's row; None if the journal keeps only its digest, or if AlphaPo shows it."""
    id: int | str | None = None
    """AlphaPo's id, None if it is not known."""
    status: Status | None = None
    """AlphaPo's status, None if it is not known."""
    transaction: Transaction | None = None
    """What AlphaPo shows, a `Transaction`; None if it is the journal's row."""

    def __repr__(self) -> str:
        # An error reporter writes the attributes of an exception down: addresses and people stay out.
        return f"Existing(state={self.state!r}, id={self.id!r}, status={self.status!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("state", self.state), ("id", self.id), ("status", self.status)]

    @property
    def next_step(self) -> str:
        """What to do with the other payment that asked for this foreign_id."""
        if self.state == "failed":
            how = self.status or "cancelled or declined"
            return f"The existing withdrawal is {how}: no money moved under this foreign_id. {_AFTER_FAILURE}"
        stands = "is confirmed: it is paid" if self.status == "confirmed" else _STANDS.get(self.state, _HAS_ENDED)
        return f"The existing withdrawal {stands}. {_SAME_OR_DIFFERENT}"


_STANDS: dict[str, str] = {
    "open": "is open: wait for its outcome",
    "in doubt": "is in doubt: wait for its outcome",
    "accepted": "is accepted: it is being paid",
}
_HAS_ENDED = "has just ended without moving money: ask again"
_AFTER_FAILURE = "Give the funds back, or pay under a new foreign_id."
_SAME_OR_DIFFERENT = (
    "If you meant the same payout, do nothing: the existing one stands. "
    "Only a different payout gets a foreign_id of its own."
)


@with_field_docs
class ForeignIdConflict(WithdrawalError):
    """This foreign_id was already used for another payment. This payment was not sent, and no worker will send it.

    A retry with another amount or address is the usual cause. The funds of the payout may be released only if the existing withdrawal
    failed: in every other state it is paid, or may still be.
    """

    existing: Existing
    """The withdrawal that has the foreign_id."""

    outcome: ClassVar[Outcome] = "conflict"
    """`conflict`, as in a `BatchResult`."""
    is_retry_safe = False
    _may_release_funds = False

    def __init__(self, message: str, *, existing: Existing, **about: Any) -> None:
        self.existing = existing
        super().__init__(message, **about)

    @property
    def next_step(self) -> str:  # type: ignore[override]
        """What to do now, in a sentence: it names the state of the existing withdrawal."""
        return self.existing.next_step

    @property
    def may_release_funds(self) -> bool:
        """Only if the existing withdrawal is failed, or AlphaPo shows it cancelled or declined."""
        return self.existing.state == "failed"


@with_field_docs
class AuthenticationError(WithdrawalError):
    """AlphaPo does not accept the key or the signature. The row is settled, nothing of it is in doubt, and no money moved.

    `batch` raises it about no single withdrawal: then `foreign_id` is None, and each row that was taken has its own result.
    """

    foreign_id: str | None  # type: ignore[assignment]
    """The withdrawal this is about, as text; None where `batch` raised this error."""
    code: AuthenticationCode
    """AlphaPo's code, one of `bad_header_signature`, `required_header_signature`, `bad_header_key`, `required_header_key`."""

    outcome: ClassVar[Outcome] = "key_refused"
    """`key_refused`, as in a `BatchResult`."""
    is_retry_safe = True
    next_step = "Check key, secret, base_url and the key's IP allowlist, then call again with the same request."
    _may_release_funds = True

    def __init__(self, message: str, *, code: str, **about: Any) -> None:
        super().__init__(message, **about)
        self.code = code

    @property
    def may_release_funds(self) -> bool:
        """Yes where it is about one withdrawal; the error of a whole batch proves nothing about any row."""
        return self.foreign_id is not None


@with_field_docs
class JournalError(_AboutOne):
    """The journal could not be used, and this call sent nothing.

    An earlier call may have sent the withdrawal. Unless `recorded` is False, keep it pending: no refund, no new foreign_id. The same call
    again, once the journal works, settles it.
    """

    recorded: bool | None
    """Whether the withdrawal stands in the journal. False only if the journal did not know it and could not take it. If it stands there,
    or if that is not known (None), an earlier call may have sent it, and `resume` may send it later."""

    is_retry_safe = True
    _may_release_funds = False

    def __init__(self, message: str, *, recorded: bool | None = False, **about: Any) -> None:
        self.recorded = recorded
        super().__init__(message, **about)

    @property
    def next_step(self) -> str:  # type: ignore[override]
        """What to do now, in a sentence or two."""
        if self.foreign_id is None:  # there is no request to repeat: it was opened, or read
            return "Try again once the journal works."
        if self.recorded is False:
            return "Call again with the same request once the journal works, or give the funds back."
        return (
            "An earlier call may have sent it: keep it pending, do not refund it and do not pay it under a new foreign_id. "
            "Call again with the same request once the journal works."
        )

    @property
    def detail(self) -> str:
        """What is wrong with the journal, without the advice to the caller."""
        return str(self.args[0]).removesuffix(self.next_step).rstrip()

    @property
    def outcome(self) -> Outcome:  # type: ignore[override]
        """`not_sent` if it is certain that nothing was recorded, else `unknown`."""
        return "not_sent" if self.recorded is False else "unknown"

    @property
    def may_release_funds(self) -> bool:
        """True only if it is certain that nothing was recorded."""
        return self.recorded is False
