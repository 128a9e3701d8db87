"""Alert rules and dashboard, judged by Debian's Prometheus: `apt-get install prometheus`, or its programs' folder in `PROMETHEUS_BIN`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from opentelemetry.sdk.metrics import MeterProvider

from alphapo_async.client import AlphapoClient
from alphapo_async.contrib.opentelemetry import Telemetry
from alphapo_async.sandbox import Sandbox
from tests.support.documents import place_of
from tests.support.processes import started
from tests.support.wire import request

FOLDER: Final = place_of("alphapo_async/contrib/monitoring")
RULES: Final = FOLDER / "alerts.yml"
DASHBOARD: Final = json.loads((FOLDER / "dashboard.json").read_text())
PATH: Final = os.pathsep.join(filter(None, (os.environ.get("PROMETHEUS_BIN"), os.environ.get("PATH"))))
PROMTOOL, PROMETHEUS = (shutil.which(name, path=PATH) for name in ("promtool", "prometheus"))

needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="needs Debian's package prometheus")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run([str(PROMTOOL), *arguments], capture_output=True, text=True, check=False, timeout=60)


@needs_prometheus
def test_each_alert_fires_and_clears(tmp_path: Path) -> None:
    """As `promtool test rules` plays them, with labels and annotations."""
    tests = Path(__file__).with_name("alerts_test.yml").read_text()
    (tmp_path / "test.yml").write_text(tests.replace("[RULES]", f"['{RULES}']"))
    ended = promtool("test", "rules", str(tmp_path / "test.yml"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    assert len(alerts) == 9
    assert {name: tests.count(f"alertname: {name}\n") for name in alerts} == dict.fromkeys(alerts, 3)


def expressions() -> list[str]:
    """Return every expression of the dashboard, and the series that the alert rules are about."""
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return shown + sorted(set(re.findall(r"alphapo_[a-z_]+(?=[\[)])", RULES.read_text())) - {"alphapo_account"})


def test_the_dashboard_has_panels_that_do_not_overlap() -> None:
    """Each with a title, a unit and a source that is chosen at the top."""
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) > 10
    assert all(panel["title"] and panel["datasource"]["uid"] == "${datasource}" for panel in DASHBOARD["panels"])
    assert len(expressions()) > 20


async def _found(http: aiohttp.ClientSession, url: str, expression: str) -> list[Any]:
    async with http.get(f"{url}/api/v1/query", params={"query": expression}) as answer:
        replied = await answer.json()
    assert replied["status"] == "success", replied
    return list(replied["data"]["result"])


@needs_prometheus
async def test_every_expression_yields_a_series(tmp_path: Path) -> None:
    """Prometheus scrapes the real exporter of a client that has paid and been called back."""
    exporter = pytest.importorskip(
        "opentelemetry.exporter.prometheus", reason="needs opentelemetry-exporter-prometheus"
    )
    server = pytest.importorskip("prometheus_client")
    telemetry = Telemetry(tracer_provider=None, meter_provider=MeterProvider([exporter.PrometheusMetricReader()]))
    served, thread = server.start_http_server(0, addr="127.0.0.1")
    ports = [served.server_port, _free_port()]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 300ms, scrape_timeout: 250ms}}\nrule_files: ['{RULES}']\n"
        f"scrape_configs: [{{job_name: worker, static_configs: [{{targets: ['127.0.0.1:{ports[0]}']}}]}}]\n"
    )
    listen = f"--web.listen-address=127.0.0.1:{ports[1]}"
    command = [str(PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}", listen]
    try:
        with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus:
            await _pay(telemetry)
            missing = await _missing(f"http://127.0.0.1:{ports[1]}")
            prometheus.terminate()
    finally:
        await asyncio.to_thread(_stop, served, thread)
    assert missing == []


async def _pay(telemetry: Telemetry) -> None:
    async with Sandbox() as sandbox:
        access: dict[str, Any] = {"base_url": sandbox.url, "journal": "memory", "account": "shop"}
        client = AlphapoClient(sandbox.key, sandbox.secret, on_event=telemetry, **access)
        async with client, telemetry.watching(client, every=0.2):
            await client.withdraw(request("payout-17"))
            await asyncio.sleep(0.3)


async def _missing(url: str) -> list[str]:
    """Return the expressions without a series after some scrapes."""
    missing = expressions()
    async with aiohttp.ClientSession() as http:
        for _ in range(60):
            with contextlib.suppress(aiohttp.ClientConnectionError):  # it is starting
                missing = [expression for expression in missing if not await _found(http, url, expression)]
            if not missing:
                break
            await asyncio.sleep(0.25)
    return missing


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _stop(served: Any, thread: threading.Thread) -> None:
    served.shutdown()
    served.server_close()
    thread.join()
