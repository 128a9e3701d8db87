"""A local sandbox in a thread and loop of its own, for tests whose own loop dies."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from alphapo_async.sandbox import Sandbox


@contextlib.contextmanager
def running_sandbox(**settings: Any) -> Iterator[Sandbox]:
    """Give a running sandbox; it stops with the block."""
    sandbox = Sandbox("proof-key", "proof-secret", **settings)
    is_up, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with sandbox:
            is_up.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert is_up.wait(10)
        yield sandbox
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
