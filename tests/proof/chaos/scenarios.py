"""The scenarios: what stands between processes of ours, their journal and AlphaPo, and how it fails."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Final

import aiohttp
import asyncpg

from alphapo_async import derive_foreign_id
from tests.proof.chaos.judge import FINAL
from tests.proof.chaos.payer import paced
from tests.proof.chaos.servers import SYSTEM_USER, Daemon, debian_programs, postgres, program
from tests.proof.chaos.stage import Fault, Scenario, Setting, Stage
from tests.proof.failover_client import Report
from tests.proof.relay import Relay
from tests.proof.replication import Server, free_port
from tests.support import documents
from tests.support.programs import program_with

__all__ = ["SCENARIOS", "lacking"]


def lacking(scenario: Scenario) -> list[str]:
    """Return what this machine lacks for a scenario."""
    return [need for need in scenario.needs if not _HERE.get(need, _is_program)(need)]


def _is_program(name: str) -> bool:
    return program(name) is not None


def _is_package(name: str) -> bool:
    return find_spec(name.replace("-", "_")) is not None


_HERE: Final[Mapping[str, Callable[[str], bool]]] = {
    "postgresql": lambda _: debian_programs() is not None,
    "Linux": lambda _: sys.platform == "linux",
    "root on Linux": lambda _: sys.platform == "linux" and os.geteuid() == 0,
    **dict.fromkeys(("gunicorn", "uvicorn-worker", "celery", "redis"), _is_package),
}


# ── journals in files ────────────────────────────────────────────────────────────────────────────────────────────────


def _file(stage: Stage) -> str:
    return str(stage.folder / "payouts.db")


async def _file_journal(stage: Stage) -> Setting:
    return Setting(_file(stage), stage.sandbox.url, {})


async def _few_descriptors(stage: Stage) -> Setting:
    return Setting(_file(stage), stage.sandbox.url, {}, descriptors=40)


async def _full_disk(stage: Stage) -> Setting:
    """A small file system of its own, which others fill and empty."""
    image, disk = stage.folder / "disk.image", stage.folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate((16 + stage.plan.withdrawals // 100) * 2**20)
    for command in (("mkfs.ext4", "-q", "-m", "0", image), ("mount", "-o", "loop", image, disk)):
        subprocess.run(command, check=True)  # noqa: ASYNC221
    stage.stack.callback(lambda: subprocess.run(["umount", "-l", disk], check=True))  # noqa: S607

    async def fill() -> None:
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4_096)):
                pass
        await asyncio.sleep(stage.rng.uniform(0.5, 2.0))
        (disk / "filler").unlink()

    return Setting(str(disk / "payouts.db"), stage.sandbox.url, {"full disk": fill})


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _relay(stage: Stage, port: int) -> Relay:
    return await stage.stack.enter_async_context(Relay(port))


def _network_faults(relay: Relay, stage: Stage, of: str) -> dict[str, Fault]:
    async def stall() -> None:
        relay.hold()
        await asyncio.sleep(stage.rng.uniform(0.3, 2.0))
        relay.release()

    async def half_close() -> None:
        relay.half_close()

    return {f"{of} cut": relay.cut, f"{of} stall": stall, f"{of} reset": relay.reset, f"{of} half close": half_close}


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def _bad_network(stage: Stage) -> Setting:
    relay = await _relay(stage, _port_of(stage.sandbox.url))
    return Setting(_file(stage), f"http://127.0.0.1:{relay.port}", _network_faults(relay, stage, "AlphaPo"))


# ── databases ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _database_url(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def _database_faults(server: Server, stage: Stage) -> dict[str, Fault]:
    async def end_backends() -> None:
        for _ in range(8):
            await server.ask(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where pid <> pg_backend_pid() and backend_type = 'client backend'"
            )
            await asyncio.sleep(stage.rng.uniform(0.0, 0.1))

    async def restart() -> None:
        await server.stop("fast")
        await server.start()

    async def crash() -> None:
        await server.stop("immediate")
        await asyncio.sleep(stage.rng.uniform(0.0, 1.0))
        await server.start()

    return {"ended backends": end_backends, "database restart": restart, "database crash": crash}


async def _own_postgres(stage: Stage) -> Setting:
    """PostgreSQL 18, which the tests' package brings, behind a bad network."""
    server = await stage.stack.enter_async_context(postgres())
    relay = await _relay(stage, server.port)
    faults = _database_faults(server, stage) | _network_faults(relay, stage, "database")
    return Setting(_database_url(relay.port), stage.sandbox.url, faults)


async def _debian_postgres(stage: Stage) -> Setting:
    server = await stage.stack.enter_async_context(postgres(debian_programs()))
    return Setting(_database_url(server.port), stage.sandbox.url, _database_faults(server, stage))


async def _pgbouncer(stage: Stage, mode: str) -> tuple[str, dict[str, Fault]]:
    """Run PgBouncer in front of Debian's PostgreSQL; return the journal's URL and what can go wrong."""
    server = await stage.stack.enter_async_context(postgres(debian_programs()))
    port, folder = free_port(), stage.folder / "pgbouncer"
    folder.mkdir()
    (folder / "users.txt").write_text('"postgres" ""\n', encoding="ascii")
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server.port} dbname=postgres user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"auth_file = {folder}/users.txt\nadmin_users = postgres\npool_mode = {mode}\n"
        f"default_pool_size = {8 if mode == 'transaction' else 90}\nmax_client_conn = 400\n",
        encoding="ascii",
    )
    if SYSTEM_USER is not None:
        shutil.chown(folder, SYSTEM_USER)
    command = (program("pgbouncer") or "", str(folder / "pgbouncer.ini"))
    daemon = await stage.stack.enter_async_context(Daemon(command, port, folder, user=SYSTEM_USER))

    async def order(*words: str) -> None:
        """Have the pooler carry out commands, with a pause between them."""
        url = f"postgresql://postgres@127.0.0.1:{port}/pgbouncer"
        connection = await asyncpg.connect(url, statement_cache_size=0, timeout=10)
        for index, word in enumerate(words):
            await asyncio.sleep(stage.rng.uniform(0.5, 2.0) * bool(index))
            await connection.execute(word, timeout=20)
        await connection.close()

    async def end_all() -> None:
        await order("KILL postgres", "RESUME postgres")

    async def pause() -> None:
        await order("PAUSE", "RESUME")

    return _database_url(port), {
        **_database_faults(server, stage),
        "pooler restart": daemon.restart,
        "pooler kill": lambda: daemon.restart(signal.SIGKILL),
        "pooler KILL": end_all,
        "pooler RECONNECT": lambda: order("RECONNECT"),
        **({"pooler PAUSE": pause} if mode == "transaction" else {}),  # in session mode it waits for clients to leave
    }


def _pooled(mode: str) -> Callable[[Stage], Awaitable[Setting]]:
    async def set_up(stage: Stage) -> Setting:
        journal, faults = await _pgbouncer(stage, mode)
        return Setting(journal, stage.sandbox.url, faults)

    return set_up


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_NGINX: Final = """
daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/nginx.err warn;
events {{ worker_connections 500; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream alphapo {{ server 127.0.0.1:{target}; keepalive 32; }}
  proxy_http_version 1.1; proxy_set_header Connection "";
  server {{
    listen 127.0.0.1:{port}; keepalive_timeout 1s; keepalive_requests 100;
    location / {{ proxy_pass http://alphapo; proxy_read_timeout 800ms; }}
  }}
}}
"""
_HAPROXY: Final = """
global
  maxconn 1000
defaults
  mode http
  timeout connect 500ms
  timeout client 2s
  timeout server 800ms
  timeout http-keep-alive 300ms
  retries 3
frontend payouts
  bind 127.0.0.1:{port}
  default_backend alphapo
backend alphapo
  retry-on all-retryable-errors
  option redispatch 1
  server here 127.0.0.1:{target}
  server gone 127.0.0.1:1
"""


async def _proxy(stage: Stage, name: str, settings: str, *options: str) -> tuple[Daemon, dict[str, Fault]]:
    """Run a proxy, with a bad network between it and AlphaPo."""
    relay = await _relay(stage, _port_of(stage.sandbox.url))
    folder, port = stage.folder / name, free_port()
    folder.mkdir()
    (folder / "settings").write_text(settings.format(folder=folder, port=port, target=relay.port), encoding="ascii")
    command = (program(name) or "", *options, str(folder / "settings"))
    daemon = await stage.stack.enter_async_context(Daemon(command, port, folder))
    return daemon, {f"{name} restart": daemon.restart, **_network_faults(relay, stage, f"behind {name}")}


async def _nginx(stage: Stage) -> Setting:
    daemon, faults = await _proxy(stage, "nginx", _NGINX, "-c")
    faults |= {"nginx reload": _sends(daemon, signal.SIGHUP), "nginx worker kill": _kills_a_child(daemon)}
    return Setting(_file(stage), f"http://127.0.0.1:{daemon.port}", faults)


async def _haproxy(stage: Stage) -> Setting:
    daemon, faults = await _proxy(stage, "haproxy", _HAPROXY, "-db", "-f")
    faults["haproxy kill"] = lambda: daemon.restart(signal.SIGKILL)
    return Setting(_file(stage), f"http://127.0.0.1:{daemon.port}", faults)


def _sends(daemon: Daemon, how: signal.Signals) -> Fault:
    async def send() -> None:
        daemon.signal(how)

    return send


def _kills_a_child(daemon: Daemon, how: signal.Signals = signal.SIGKILL) -> Fault:
    async def kill() -> None:
        children = daemon.children()
        if children:  # the oldest: Celery gives up where a child ends before it is up
            with contextlib.suppress(ProcessLookupError):
                os.kill(min(children), how)

    return kill


async def _everything(stage: Stage) -> Setting:
    """PgBouncer on one side, HAProxy on the other, and both fail."""
    journal, faults = await _pgbouncer(stage, "transaction")
    front = await _haproxy(stage)
    return Setting(journal, front.url, {**faults, **front.faults})


# ── programs of others that pay with ours ────────────────────────────────────────────────────────────────────────────


def _environment(stage: Stage, **more: str) -> dict[str, str]:
    told = {"ALPHAPO_BASE_URL": stage.sandbox.url, "ALPHAPO_KEY": stage.sandbox.key, "ALPHAPO_JOURNAL": _file(stage)}
    return {**told, "ALPHAPO_SECRET": stage.sandbox.secret, "PYTHONPATH": os.pathsep.join(sys.path), **more}


async def _gunicorn(stage: Stage) -> Setting:
    """The README's backend on gunicorn, four workers."""
    (stage.folder / "backend.py").write_text(program_with("README.md", "FastAPI"), encoding="utf-8")
    port = free_port()
    options = ("-k", "uvicorn_worker.UvicornWorker", "-w", "4", "-b", f"127.0.0.1:{port}", "--graceful-timeout", "15")
    command = (sys.executable, "-m", "gunicorn", *options, "backend:app")
    daemon = Daemon(command, port, stage.folder, environment=_environment(stage))
    await stage.stack.enter_async_context(daemon)

    async def pay(numbers: Sequence[int], seconds: float) -> None:
        until = time.monotonic() + seconds + stage.plan.patience
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session, asyncio.TaskGroup() as tasks:
            async for number in paced(numbers, time.monotonic(), seconds):
                tasks.create_task(_pay_over_web(stage, session, f"http://127.0.0.1:{port}/payouts", number, until))

    faults = {
        "gunicorn worker kill": _kills_a_child(daemon),
        "gunicorn worker stop": _kills_a_child(daemon, signal.SIGTERM),
        "gunicorn reload": _sends(daemon, signal.SIGHUP),
        "gunicorn restart": daemon.restart,
    }
    return Setting(_file(stage), stage.sandbox.url, faults, pay=pay)


async def _pay_over_web(stage: Stage, session: aiohttp.ClientSession, url: str, number: int, until: float) -> None:
    """Post a payout until the answer is final, and report every answer."""
    body = {"foreign_id": f"web-{number}", "address": f"made-up-{number}", "amount": "0.001"}
    outcome = ""
    while outcome not in FINAL and time.monotonic() < until:
        began, told = time.monotonic(), {}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
            async with session.post(url, json=body) as reply:
                told = await reply.json()
        outcome = str(told.get("outcome", "no answer"))
        _report(stage, body["foreign_id"], outcome, str(told.get("id", "")), began)
        if outcome not in FINAL:
            await asyncio.sleep(stage.rng.uniform(0.2, 0.6))


def _report(stage: Stage, foreign_id: str, outcome: str, text: str, began: float) -> None:
    report = Report(
        kind="result",
        name="others",
        foreign_id=foreign_id,
        outcome=outcome,
        may_release=outcome in ("rejected", "failed", "not_sent", "key_refused"),
        text=text,
        began=began,
        ended=time.monotonic(),
    )
    stage.reports.append(report)


async def _celery(stage: Stage) -> Setting:
    """The operations guide's program for Celery, with Redis."""
    (stage.folder / "refund_tasks.py").write_text(program_with(documents.GUIDE, "from celery"), encoding="utf-8")
    port = free_port()
    command = (program("redis-server") or "", "--port", str(port), "--bind", "127.0.0.1", "--save", "")
    redis = await stage.stack.enter_async_context(Daemon(command, port, stage.folder))
    url = f"redis://127.0.0.1:{port}"
    environment = _environment(stage, CELERY_BROKER_URL=f"{url}/0", CELERY_RESULT_BACKEND=f"{url}/1")
    work = (sys.executable, "-m", "celery", "-A", "refund_tasks", "worker", "-c", "4", "-l", "INFO")
    worker = await stage.stack.enter_async_context(Daemon(work, port, stage.folder, environment=environment))
    async with asyncio.timeout(stage.plan.patience):
        while " ready." not in worker.log.read_text(errors="replace"):  # noqa: ASYNC110 - the broker's port says nothing of it
            await asyncio.sleep(0.1)

    async def pay(numbers: Sequence[int], seconds: float) -> None:
        os.environ.update({name: value for name, value in environment.items() if name != "PYTHONPATH"})
        sys.path.insert(0, str(stage.folder))
        task = importlib.import_module("refund_tasks").pay
        sys.path.remove(str(stage.folder))
        backend, asked = task.app.backend, []
        async for number in paced(numbers, time.monotonic(), seconds):
            began = time.monotonic()
            payment = {"currency": "BTC", "address": f"made-up-{number}", "amount": "0.001", "end_user_reference": "u"}
            delayed = await asyncio.to_thread(task.delay, str(number), payment)
            asked.append((derive_foreign_id(f"refund-{number}"), began, delayed.id))
        for foreign_id, began, task_id in asked:
            told = {"status": ""}
            while told["status"] not in _ENDED:
                await asyncio.sleep(0.2)
                told = await asyncio.to_thread(backend.get_task_meta, task_id)
            kind = type(told["result"]).__name__
            outcome = "accepted" if told["status"] == "SUCCESS" else _NO.get(kind, kind)
            _report(stage, foreign_id, outcome, told["result"] if outcome == "accepted" else "", began)

    async def pause() -> None:
        redis.signal(signal.SIGSTOP)
        await asyncio.sleep(stage.rng.uniform(0.3, 1.5))
        redis.signal(signal.SIGCONT)

    faults = {"celery child kill": _kills_a_child(worker), "redis pause": pause}
    return Setting(_file(stage), stage.sandbox.url, faults, pay=pay)


_ENDED: Final = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
_NO: Final = {"WithdrawalRejected": "rejected", "WithdrawalFailed": "failed"}

SCENARIOS: Final = (
    Scenario("file", (), _file_journal),
    Scenario("few-descriptors", (), _few_descriptors),
    Scenario("network", (), _bad_network),
    Scenario("postgresql-18", (), _own_postgres),
    Scenario("full-disk", ("root on Linux", "mkfs.ext4"), _full_disk),
    Scenario("postgresql", ("postgresql",), _debian_postgres),
    Scenario("pgbouncer-transaction", ("postgresql", "pgbouncer"), _pooled("transaction")),
    Scenario("pgbouncer-session", ("postgresql", "pgbouncer"), _pooled("session")),
    Scenario("nginx", ("Linux", "nginx"), _nginx),
    Scenario("haproxy", ("haproxy",), _haproxy),
    Scenario("everything", ("postgresql", "pgbouncer", "haproxy"), _everything),
    Scenario("gunicorn", ("Linux", "gunicorn", "uvicorn-worker"), _gunicorn),
    Scenario("celery", ("Linux", "celery", "redis", "redis-server"), _celery, share=0.1),
)
