"""`alphapo worker`: send enqueued rows and settle open ones, until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.loop import run
from alphapo_async.cli.options import Access, Duration, access_options
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.cli.worker_log import LogFormat, worker_log
from alphapo_async.contrib.health import MetricsPage, health_server
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.journal import Journal

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader

    from alphapo_async.contrib.opentelemetry import Telemetry

__all__ = ["worker"]

logger = logging.getLogger("alphapo_async.worker")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_WORKER_EPILOG = """\b
Examples:
  alphapo worker --journal payouts.db
  alphapo worker --log-format json --health-port 8080 --otel

Any number of workers may share a journal. SIGTERM and Ctrl-C end a worker:
requests under way get --grace, and the process ends within 4 s more.

--health-port serves /livez (event loop and background tasks), /readyz
(journal and lease) and, with the extra prometheus, /metrics. --otel sends metrics and traces by OTLP over HTTP, to
OTEL_EXPORTER_OTLP_ENDPOINT; it needs the extra otlp.
"""


@click.command(epilog=_WORKER_EPILOG)
@click.option(
    "--grace",
    type=Duration(may_be_zero=True),
    default="5s",
    show_default=True,
    help="How long what is under way at the end may take.",
)
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Rows worked on at once."
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="One line for each event.",
)
@click.option("--health-host", default="127.0.0.1", show_default=True, help="Address of the probes.")
@click.option(
    "--health-port", type=click.IntRange(0, 65_535), help="Serve /livez, /readyz, /metrics; 0: any free port."
)
@click.option("--otel", is_flag=True, help="Send metrics and traces (OpenTelemetry).")
@access_options
def worker(
    *,
    grace: float,
    concurrency: int,
    log_format: LogFormat,
    health_host: str,
    health_port: int | None,
    otel: bool,
    journal: str | None,
    base_url: str | None,
    account: str | None,
) -> None:
    """Send enqueued rows, settle open ones, refresh accepted ones that are not final, until stopped."""
    survive_lost_output()
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = access.open_journal()
    with worker_log(log_format):
        where = access.account, access.host
        logger.info("working on account %s at %s; SIGTERM or Ctrl-C ends it", *where, extra={"foreign_id": None})
        probes = None if health_port is None else (health_host, health_port)
        with _telemetry(is_sent=otel, is_scraped=probes is not None) as (telemetry, metrics):
            run(_Worker(access, opened, grace, concurrency, probes, telemetry, metrics).work())
        logger.info("stopped; open rows stay in the journal", extra={"foreign_id": None})
    sys.exit(Exit.ALL_ACCEPTED)


class _Worker(NamedTuple):
    access: Access
    journal: Journal
    grace: float
    concurrency: int
    probes: tuple[str, int] | None
    """Host and port."""
    telemetry: Telemetry | None
    metrics: MetricsPage | None

    async def work(self) -> None:
        """Work until a signal comes, also one that comes while the journal is opened."""
        loop = asyncio.get_running_loop()
        working = loop.create_task(self._work())
        for number in _SIGNALS:
            loop.add_signal_handler(number, working.cancel)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # stopped by a signal
                await working
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
            await self.journal.aclose()

    async def _work(self) -> None:
        client = self.access.open_client(self.journal, close_grace=self.grace, on_event=self.telemetry)
        async with contextlib.AsyncExitStack() as stack:
            if self.probes is not None:
                host, port = self.probes
                port = await stack.enter_async_context(
                    health_server(client, host=host, port=port, metrics=self.metrics)
                )
                more = " and /metrics" if self.metrics is not None else "; /metrics needs the extra prometheus"
                logger.info("probes at http://%s:%d/livez, /readyz%s", host, port, more, extra={"foreign_id": None})
            await stack.enter_async_context(client)
            if self.telemetry is not None:
                await stack.enter_async_context(self.telemetry.watching(client))
            await client.work(concurrency=self.concurrency)


@contextlib.contextmanager
def _telemetry(*, is_sent: bool, is_scraped: bool) -> Iterator[tuple[Telemetry | None, MetricsPage | None]]:
    """Yield what turns events into metrics and spans, and the page of metrics; None for what is not wanted or not installed.

    Raises:
        ConfigurationError: the extra `otlp` is missing.
    """
    scraping = _prometheus() if is_scraped else None
    with contextlib.ExitStack() as stack:
        telemetry = None
        if is_sent:
            telemetry = stack.enter_context(_exporting([scraping.PrometheusMetricReader()] if scraping else []))
        elif scraping is not None:
            telemetry = stack.enter_context(scraping.prometheus_telemetry())
        yield telemetry, None if scraping is None else scraping.metrics_page


def _prometheus() -> ModuleType | None:
    """Return the module of the extra `prometheus`; None if that is not installed."""
    try:
        return import_module("alphapo_async.contrib.prometheus")
    except ModuleNotFoundError:
        return None


def _exporting(readers: list[MetricReader]) -> contextlib.AbstractContextManager[Telemetry]:
    try:
        from alphapo_async.contrib.otlp import otlp_telemetry  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ConfigurationError(
            "--otel needs the extra otlp: pip install 'alphapo-async[otlp]'. Nothing was sent."
        ) from None
    return otlp_telemetry(readers=readers)
