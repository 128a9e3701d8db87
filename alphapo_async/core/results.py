"""What became of one of many withdrawals."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from alphapo_async.core.errors import AlphapoError, Outcome
from alphapo_async.core.models import Withdrawal, WithdrawalRequest

__all__ = ["BatchResult", "result_of"]


class BatchResult(msgspec.Struct, frozen=True, gc=False):
    """One row: what was asked, and either what AlphaPo has or the error that says what to do."""

    index: int
    """Its place among those handed in, from 0."""
    request: WithdrawalRequest | Any
    """What was asked: as it was handed in, where it is no request."""
    withdrawal: Withdrawal | None
    """What AlphaPo has; None if there is an error."""
    error: AlphapoError | None
    """What `withdraw` would have raised, not raised here; None if AlphaPo has it."""

    @property
    def outcome(self) -> Outcome:
        """One of `accepted`, `failed`, `rejected`, `not_sent`, `unknown`, `conflict`, `invalid`, `key_refused`."""
        if self.error is None:
            return "accepted"
        return cast("Outcome", getattr(self.error, "outcome", "invalid"))


def result_of(index: int, request: WithdrawalRequest | Any, told: Withdrawal | AlphapoError) -> BatchResult:
    """Return the result that this outcome makes."""
    if isinstance(told, Withdrawal):
        return BatchResult(index, request, told, None)
    return BatchResult(index, request, None, told)
