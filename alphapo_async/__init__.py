"""An asyncio client for AlphaPo crypto withdrawals that never pays twice and always knows whether money moved."""

from alphapo_async.client import AlphapoClient
from alphapo_async.core.callbacks import Callback
from alphapo_async.core.errors import (
    AlphapoError,
    AlphapoUnavailable,
    AuthenticationError,
    CallbackBusy,
    CallbackError,
    ConfigurationError,
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
from alphapo_async.core.models import Totals, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.pacing import RetryPolicy
from alphapo_async.core.release import __version__ as __version__
from alphapo_async.core.results import BatchResult
from alphapo_async.core.signer import Signer
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
    "Event",
    "ForeignIdConflict",
    "InvalidRequest",
    "JournalError",
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
    "open_journal",
]
