"""Callbacks that the journal keeps, and which of them is handed out again. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from alphapo_async.core.callbacks import Callback, CallbackKind, read_body
from alphapo_async.core.errors import CallbackError
from alphapo_async.core.history import DOES_NOT_FIT, Entry
from alphapo_async.core.models import Transaction

__all__ = ["StoredCallback", "callback_to_replay", "stored_callbacks"]


class StoredCallback(msgspec.Struct, frozen=True, gc=False):
    """One callback as the history of its withdrawal keeps it."""

    entry: Entry
    transaction: Transaction | None
    """None where the body was redacted, or was too long to be kept whole."""

    @property
    def last_at(self) -> float:
        """When it was last delivered, in seconds since the epoch."""
        return self.entry.at if self.entry.last_at is None else self.entry.last_at


def stored_callbacks(history: Iterable[Entry]) -> list[StoredCallback]:
    """Return the callbacks of a withdrawal, in the order in which each was first delivered."""
    return [StoredCallback(entry, _read(entry.reply)) for entry in history if entry.kind == "callback"]


def _read(body: bytes) -> Transaction | None:
    try:
        return read_body(body)
    except CallbackError:
        return None


def callback_to_replay(history: Iterable[Entry], foreign_id: str, status: str | None) -> Callback:
    """Return the callback that was delivered last, as it is handed out again.

    Args:
        history: of the withdrawal.
        foreign_id: of the withdrawal.
        status: only callbacks with this status; None for any.

    Raises:
        CallbackError: the journal has no such callback, or keeps no body of it.
    """
    readable = [(kept, kept.transaction) for kept in stored_callbacks(history) if kept.transaction is not None]
    wanted = [one for one in readable if status in (None, one[1].status)]
    if not wanted:
        known = ", ".join(dict.fromkeys(str(transaction.status) for _, transaction in readable)) or "none"
        raise CallbackError(
            f"The journal keeps no callback of withdrawal {foreign_id!r}{'' if status is None else f' with status {status!r}'} that can be "
            f"replayed; statuses that it keeps: {known}. Nothing was handled. `alphapo journal callbacks` lists them; AlphaPo's dashboard "
            "repeats the latest one.",
            reason="not kept",
        )
    kept, transaction = max(wanted, key=lambda one: one[0].last_at)
    kind: CallbackKind = "contradicts" if kept.entry.what.startswith(DOES_NOT_FIT) else "ours"
    return Callback(transaction=transaction, kind=kind, is_new=False)
