"""An engine without a client, for tests of its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.signer import Signer
from alphapo_async.engine.clock import BoundedClock
from alphapo_async.engine.context import ClientContext, Runtime
from alphapo_async.engine.engine import Engine
from alphapo_async.journal import Journal
from alphapo_async.journal.memory import MemoryJournal
from tests.support.wire import Wire

__all__ = ["SIGNER", "engine_of"]

SIGNER = Signer("made-up-key", "made-up-secret")


def engine_of(
    wire: Wire,
    events: list[str] | None = None,
    journal: Journal | None = None,
    clock: Callable[[], float] = lambda: 0.0,
) -> Engine:
    """Return an engine of account `shop`; `heard` collects the names of its events."""
    listen = None if events is None else lambda event: events.append(event.name)
    context = ClientContext(
        account="shop",
        base_url="http://127.0.0.1:9",
        signers={SIGNER.fingerprint: SIGNER},
        policy=RetryPolicy(deadline=2.0),
        runtime=Runtime(clock, lambda: 0.5, asyncio.sleep),
        clock=BoundedClock(clock),
    )
    return Engine(
        context,
        journal or MemoryJournal(),
        wire,
        listen,
        max_rate=None,
        owns_journal=False,
        owns_session=False,
    )
