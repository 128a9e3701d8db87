"""Callbacks: whether one is AlphaPo's, what it contains, and which of them were handled. Pure.

Signature and headers: https://docs.alphapo.net/integration-guide/get-callbacks. One URL gets everything, deposits included; deliveries are
repeated, late and in any order.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from alphapo_async.core.codec import UNREADABLE, read_json, read_transaction
from alphapo_async.core.errors import CallbackError, ConfigurationError
from alphapo_async.core.field_docs import with_field_docs
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.models import KNOWN, Transaction
from alphapo_async.core.signer import Signer
from alphapo_async.core.transitions import is_older

__all__ = [
    "LARGEST",
    "Callback",
    "CallbackKind",
    "Handled",
    "Headers",
    "is_withdrawal",
    "read_body",
    "read_callback",
    "read_handled",
]

LARGEST: Final = 256 * 1024
"""Bytes of a body that are read; AlphaPo's have a few thousand."""
_DIGITS: Final = 128  # hexadecimal, of HMAC-SHA512
_HEXADECIMAL: Final = frozenset("0123456789abcdef")
_KEY: Final = "x-processing-key"
_SIGNATURE: Final = "x-processing-signature"
_MOST_STATUSES: Final = 16  # AlphaPo documents six

CallbackKind = Literal["ours", "not in journal", "not a withdrawal", "contradicts"]
Headers: TypeAlias = "Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]"


@with_field_docs
class Callback(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One delivery that AlphaPo signed."""

    transaction: Transaction
    """What AlphaPo shows in it, unchanged: an unknown status or type is kept, and is not final."""
    kind: CallbackKind
    """`ours`: of a withdrawal in the journal, which has learned from it. `not in journal`: of a withdrawal that it does not know, or of
    which it remembers no more than how it ended.
    `not a withdrawal`: a deposit, say. `contradicts`: it names one of ours and does not fit it, or gives too little to be sure: its history
    has it, and one that is open is looked up from now on."""
    is_new: bool
    """No block has ended cleanly for this id and status, and it is not older than one for which one has."""


@hides_arguments
def read_callback(headers: Headers, body: bytes, signers: Iterable[Signer]) -> Transaction:
    """Return what a genuine callback contains.

    Args:
        headers: of the delivery; names in any case.
        body: the raw bytes, as they came.
        signers: the client's keys.

    Raises:
        CallbackError: it is not AlphaPo's, or cannot be read; the error names which.
        ConfigurationError: the body is not bytes.
    """
    if not isinstance(body, bytes | bytearray | memoryview):
        raise ConfigurationError(
            f"A callback's body must be its raw bytes, not {type(body).__name__}: what was parsed and written again has another signature."
        )
    raw = bytes(body)
    if len(raw) > LARGEST:
        raise CallbackError(f"The callback has {len(raw)} bytes, more than {LARGEST}.", reason="too large")
    _check_signature(headers, raw, signers)
    return read_body(raw)


def _check_signature(headers: Headers, body: bytes, signers: Iterable[Signer]) -> None:
    values = _headers_of(headers)
    for name in (_KEY, _SIGNATURE):
        if len(values[name]) != 1:
            raise CallbackError(f"The callback must have the header {name}, once.", reason="missing header")
    key, signature = values[_KEY][0].encode(errors="replace"), values[_SIGNATURE][0].lower()
    named = [signer for signer in signers if hmac.compare_digest(signer.key.encode(), key)]
    if not named:
        raise CallbackError("The callback names a key that is not among this client's keys.", reason="unknown key")
    if len(signature) != _DIGITS or not _HEXADECIMAL.issuperset(signature):
        raise CallbackError(f"The callback's signature is not {_DIGITS} hexadecimal digits.", reason="signature")
    # Every secret of the key is tried, so that the time does not show which one it was.
    tried = [signer.is_genuine(body, signature) for signer in named]
    if not any(tried):
        raise CallbackError("The callback's signature is not that of its body.", reason="signature")


def _headers_of(headers: Headers) -> dict[str, list[str]]:
    """Return the values of the two headers that count."""
    values: dict[str, list[str]] = {_KEY: [], _SIGNATURE: []}
    for name, value in _pairs(headers):
        known = values.get(_text(name).lower())
        if known is not None:
            known.append(_text(value).strip())
    return values


def _pairs(headers: Headers) -> list[tuple[str | bytes, str | bytes]]:
    items: Any = getattr(headers, "items", None)
    try:
        pairs: Any = items() if callable(items) else headers
        return [(name, value) for name, value in pairs]
    except (TypeError, ValueError):
        raise ConfigurationError(
            "A callback's headers must be a mapping or (name, value) pairs; the callback was not read."
        ) from None


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def read_body(body: bytes) -> Transaction:
    """Return what the body of a genuine callback contains.

    Raises:
        CallbackError: it cannot be read; the error gives the reason.
    """
    content = read_json(body)
    if content is UNREADABLE:
        raise CallbackError("The callback is signed, and not JSON.", reason="not JSON")
    if not isinstance(content, dict):
        raise CallbackError("The callback is signed, and no JSON object.", reason="not an object")
    transaction = read_transaction(content)
    if transaction is None or not transaction.status:
        raise CallbackError("The callback is signed, and has no id or no status.", reason="no id or status")
    return transaction


def is_withdrawal(transaction: Transaction) -> bool:
    """Return whether it is about a withdrawal of any type; one without a type may be.

    A deposit may carry a foreign_id that a withdrawal has as well: there it names something else.
    """
    # AlphaPo's page of look-ups spells `withrawal_exchange`.
    return not transaction.type or "drawal" in transaction.type.lower()


class Handled(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What has become of the callbacks for one id: kept in the journal."""

    statuses: tuple[str, ...] = ()
    """For which a block has ended cleanly."""
    by: str | None = None
    """The worker that handles one right now."""

    def is_new(self, status: str | None) -> bool:
        """Return whether no block has ended cleanly for this status or a later one; an unknown status is never older."""
        if status in self.statuses:
            return False
        return status not in KNOWN or not any(is_older(status, known) for known in self.statuses)

    def taken(self, worker: str) -> Handled:
        """Return it while this worker handles one."""
        return Handled(self.statuses, worker)

    def done(self, status: str | None) -> Handled:
        """Return it with one more status handled, and with no handler at work."""
        known = tuple(one for one in self.statuses if one != status)
        return Handled((*known, status or "")[-_MOST_STATUSES:])

    def added(self, status: str | None) -> Handled:
        """Return it with one more status handled, and with the present handler still at work."""
        return Handled(self.done(status).statuses, self.by)

    def let_go(self) -> Handled:
        """Return it with no handler at work."""
        return Handled(self.statuses)

    def text(self) -> str:
        """Return it as it is kept."""
        return msgspec.json.encode(self).decode()


def read_handled(text: str | None) -> Handled:
    """Return what is kept under an id; nothing was handled where nothing is kept."""
    return Handled() if text is None else msgspec.json.decode(text, type=Handled)
