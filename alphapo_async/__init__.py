"""An asyncio client for AlphaPo crypto withdrawals that never pays twice and always knows whether money moved.

Each name is loaded when it is first asked for.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphapo_async.client import AlphapoClient
    from alphapo_async.core.callbacks import Callback
    from alphapo_async.core.errors import (
        AlphapoError,
        AlphapoUnavailable,
        AuthenticationError,
        CallbackBusy,
        CallbackError,
        ConfigurationError,
        Existing,
        ForeignIdConflict,
        InvalidRequest,
        JournalError,
        WithdrawalError,
        WithdrawalFailed,
        WithdrawalNotSent,
        WithdrawalRejected,
        WithdrawalUnknown,
    )
    from alphapo_async.core.events import Event
    from alphapo_async.core.foreign_ids import derive_foreign_id
    from alphapo_async.core.models import Health, Totals, Transaction, Withdrawal, WithdrawalRequest
    from alphapo_async.core.reference_data import Currency, Quote
    from alphapo_async.core.results import BatchResult
    from alphapo_async.core.retry_policy import RetryPolicy
    from alphapo_async.core.signer import Signer
    from alphapo_async.core.version import __version__ as __version__
    from alphapo_async.journal import open_journal
    from alphapo_async.session import SessionManager

__all__ = [
    "AlphapoClient",
    "AlphapoError",
    "AlphapoUnavailable",
    "AuthenticationError",
    "BatchResult",
    "Callback",
    "CallbackBusy",
    "CallbackError",
    "ConfigurationError",
    "Currency",
    "Event",
    "Existing",
    "ForeignIdConflict",
    "Health",
    "InvalidRequest",
    "JournalError",
    "Quote",
    "RetryPolicy",
    "SessionManager",
    "Signer",
    "Totals",
    "Transaction",
    "Withdrawal",
    "WithdrawalError",
    "WithdrawalFailed",
    "WithdrawalNotSent",
    "WithdrawalRejected",
    "WithdrawalRequest",
    "WithdrawalUnknown",
    "derive_foreign_id",
    "open_journal",
]

_HOMES = {
    "AlphapoClient": "client",
    "AlphapoError": "core.errors",
    "AlphapoUnavailable": "core.errors",
    "AuthenticationError": "core.errors",
    "BatchResult": "core.results",
    "Callback": "core.callbacks",
    "CallbackBusy": "core.errors",
    "CallbackError": "core.errors",
    "ConfigurationError": "core.errors",
    "Currency": "core.reference_data",
    "Event": "core.events",
    "Existing": "core.errors",
    "ForeignIdConflict": "core.errors",
    "Health": "core.models",
    "InvalidRequest": "core.errors",
    "JournalError": "core.errors",
    "Quote": "core.reference_data",
    "RetryPolicy": "core.retry_policy",
    "SessionManager": "session",
    "Signer": "core.signer",
    "Totals": "core.models",
    "Transaction": "core.models",
    "Withdrawal": "core.models",
    "WithdrawalError": "core.errors",
    "WithdrawalFailed": "core.errors",
    "WithdrawalNotSent": "core.errors",
    "WithdrawalRejected": "core.errors",
    "WithdrawalRequest": "core.models",
    "WithdrawalUnknown": "core.errors",
    "__version__": "core.version",
    "derive_foreign_id": "core.foreign_ids",
    "open_journal": "journal",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # who does not ask for the log does not hear it


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
