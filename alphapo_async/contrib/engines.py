"""One withdrawal as a step of an engine or queue that runs steps again: Temporal, DBOS, Restate, Celery, procrastinate, taskiq.

    withdrawal = await withdraw_once(client, payment, step_id=f"refund-{refund}", attempt=attempt)

The engine retries on `RetryStep`, and on no other exception: `alphapo runbook engines` has a program for each engine. No engine is
imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoError, JournalError, WithdrawalUnknown
from alphapo_async.core.foreign_ids import derive_foreign_id
from alphapo_async.core.models import Withdrawal, WithdrawalRequest, request_of

__all__ = ["RetryStep", "withdraw_once"]

_LONGEST_WAIT: Final = 60.0
"""Seconds between two runs of a step, where AlphaPo did not ask for more."""


class RetryStep(AlphapoError):
    """The outcome is unknown, or the journal failed: keep the payment pending, and run the same step again.

    Every other exception is final.
    """

    foreign_id: str | None
    """The withdrawal this is about."""
    retry_after: float
    """Seconds to wait before the next run: what AlphaPo asked for, else 1, 2, 4 and so on, up to 60."""

    def __init__(self, message: str, foreign_id: str | None = None, retry_after: float = _LONGEST_WAIT) -> None:
        super().__init__(message)
        self.foreign_id = foreign_id
        self.retry_after = retry_after


async def withdraw_once(
    client: AlphapoClient,
    request: WithdrawalRequest | Mapping[str, Any],
    *,
    step_id: str | int | UUID,
    attempt: int,
) -> Withdrawal:
    """Pay in a step that may run several times, and return what AlphaPo has; no run of it pays again.

    Args:
        client: with a durable journal. Only an engine that counts every run, also one that was killed, can do with a journal in memory.
        request: what to pay. A mapping may leave `foreign_id` out: then it is `derive_foreign_id(step_id)`.
        step_id: your books' name for this payment, such as `refund-17`, the same in every run. Never the engine's run id or activity id:
            a workflow that is retried, reset or started again has others, and would pay again.
        attempt: the number of this run of the step, from 1. From 2 on, a withdrawal that is new to the journal is looked up before
            anything is sent. An engine that starts again at 1 after a kill needs a durable journal.

    Raises:
        RetryStep: the outcome is unknown, or the journal failed; run the step again after `retry_after` seconds.
        WithdrawalError: final; the exception says whether money moved.
        InvalidRequest: final: the request is wrong, and nothing was sent.
        ConfigurationError: the client is closed or belongs to another event loop; nothing was sent.
    """
    if not isinstance(request, WithdrawalRequest) and request.get("foreign_id") in (None, ""):  # 0 is one
        request = {**request, "foreign_id": derive_foreign_id(step_id)}
    try:
        return await client.withdraw(request_of(request), attempted_before=attempt > 1)
    except (WithdrawalUnknown, JournalError) as error:
        wait = error.retry_after or min(2.0 ** min(attempt - 1, 10), _LONGEST_WAIT)
        raise RetryStep(str(error), error.foreign_id, wait) from None
