"""How the tests run, where the environment says so: `TESTS_LOOP=uvloop` makes every event loop uvloop's, but for those a test chooses."""

from __future__ import annotations

import asyncio
import os
import warnings

if os.environ.get("TESTS_LOOP") == "uvloop":
    import uvloop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # policies, from Python 3.14 on
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
