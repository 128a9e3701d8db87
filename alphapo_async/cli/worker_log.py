"""The log of `alphapo worker` on standard output: one line for each record, as text or as JSON."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal

import click

from alphapo_async.cli.error_log import ErrorHandler
from alphapo_async.cli.output import clean
from alphapo_async.core.events import Event

__all__ = ["LogFormat", "worker_log"]

LogFormat = Literal["text", "json"]

_FIELDS: Final = ("event", *(field for field in Event.__struct_fields__ if field not in ("name", "at")))
"""The attributes of a record that JSON shows where they have a value; `time` is shown instead of `at`."""


@contextlib.contextmanager
def worker_log(form: LogFormat) -> Iterator[None]:
    """Print what the library logs from INFO on, and what other libraries log from WARNING on, while the block runs.

    Errors of the library are no longer printed on standard error meanwhile.
    """
    root, library = logging.getLogger(), logging.getLogger("alphapo_async")
    handler = _Lines(_Json() if form == "json" else _Text())
    before = library.level, library.handlers
    library.handlers = [other for other in library.handlers if not isinstance(other, ErrorHandler)]
    library.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        library.setLevel(before[0])
        library.handlers = before[1]


class _Lines(logging.Handler):
    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is shown: the event `key refused` reports all rows of its key."""
        is_row_of_key = getattr(record, "event", None) == "unknown" and getattr(record, "reason", "") == "key refused"
        return not is_row_of_key

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{_time(record)} {record.levelname} {clean(super().format(record))}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {name: getattr(record, name, None) for name in _FIELDS}
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": super().format(record),
            **{name: value for name, value in fields.items() if value not in (None, "")},
        }
        return json.dumps(line, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
