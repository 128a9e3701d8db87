"""How the tests run: `TESTS_LOOP=uvloop` makes event loops uvloop's, but for those a test chooses; a busy machine is no fault."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Hundreds of processes are started: without a cache each of them would compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell's background job ignores SIGINT, and so would every process that a test starts within one.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("TESTS_LOOP") == "uvloop":
    import uvloop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # policies, from Python 3.14 on
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow], deadline=None)
if settings.get_current_profile_name() == "default":
    settings.load_profile("any machine")


def pytest_collection() -> None:
    """Compile a share of the test modules first: in a fresh clone the workers of one run fill the cache together, each module once."""
    worker, workers = (os.environ.get(f"PYTEST_XDIST_WORKER{name}", "") for name in ("", "_COUNT"))
    if worker:
        tests = Path(__file__).parent
        names = sorted(
            ".".join(path.relative_to(tests.parent).with_suffix("").parts) for path in tests.rglob("test_*.py")
        )
        for name in names[int(worker.removeprefix("gw")) :: int(workers)]:
            with contextlib.suppress(Exception, pytest.skip.Exception):  # the collection reports it
                importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Leave the collected tests out of every later garbage collection: a simulated world asks for two, each through all of them."""
    gc.collect()
    gc.freeze()
