"""Metrics as Prometheus reads them."""

from __future__ import annotations

import pytest

from alphapo_async.contrib.health import health_server
from tests.contrib.test_health import fetched
from tests.support.wire import Wire, client, request

pytest.importorskip("opentelemetry.exporter.prometheus", reason="needs the extra prometheus")

from alphapo_async.contrib.prometheus import metrics_page, prometheus_telemetry


async def test_the_page_shows_what_a_client_did() -> None:
    """Under the names of the alert rules, with the account."""
    with prometheus_telemetry() as telemetry:
        async with client(Wire(), account="shop", on_event=telemetry) as alphapo:
            await alphapo.withdraw(request("payout-17"))
            async with health_server(alphapo, port=0, metrics=metrics_page) as port:
                status, text = await fetched(port, "metrics")
    assert status == 200
    [line] = [line for line in text.splitlines() if "outcomes_total" in line and 'outcome="accepted"' in line]
    assert 'alphapo_account="shop"' in line
    assert line.endswith(" 1.0")


def test_nothing_is_shown_after_the_block() -> None:
    """A second one may begin."""
    for _ in range(2):
        with prometheus_telemetry():
            pass
    page, content_type = metrics_page()
    assert b"alphapo_" not in page
    assert content_type.startswith("text/plain")
