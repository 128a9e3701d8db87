"""A log that raises."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def raising_at(caplog: pytest.LogCaptureFixture, *events: str) -> Iterator[None]:
    """Have a filter of the log raise at these events while the block runs; without events, at every line."""

    def raising(record: logging.LogRecord) -> bool:
        if not events or getattr(record, "event", None) in events:
            raise KeyError("made-up")
        return True

    ours = logging.getLogger("alphapo_async")
    with caplog.at_level(logging.DEBUG):
        ours.addFilter(raising)
        try:
            yield
        finally:
            ours.removeFilter(raising)
