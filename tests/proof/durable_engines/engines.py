"""The engines: how each is started, is given a withdrawal, and shows what became of it. The programs are the operations guide's."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final, NamedTuple

import aiohttp

from tests.proof.chaos.servers import Daemon, postgres, program
from tests.proof.replication import free_port
from tests.support.documents import GUIDE
from tests.support.programs import program_with

__all__ = ["ENGINES", "Answer", "Engine"]

_PATIENCE: Final = 60.0
"""Seconds within which an engine is ready."""
_POLL: Final = 0.2


class Answer(NamedTuple):
    """What an engine shows at the end of a step."""

    outcome: str
    """`accepted`, or the outcome of the exception that ended it; `rejected` where the engine keeps no type."""
    text: str = ""
    """AlphaPo's id, where it is accepted and the engine keeps it."""


_OUTCOMES: Final = {"WithdrawalRejected": "rejected", "WithdrawalFailed": "failed", "WithdrawalNotSent": "not_sent"}


def _answer_of(error: BaseException, kind: str = "") -> Answer:
    """Return what an exception shows; Celery makes another one that quotes the name."""
    text = f"{kind or type(error).__name__}: {error}"
    return Answer(next((outcome for name, outcome in _OUTCOMES.items() if name in text), text), text)


class Engine:
    """One engine: its servers, and one worker that runs the guide's program.

    Args:
        folder: of the program and of logs.
        environment: of the worker: where AlphaPo is, and its key.
        stack: what is entered in it ends with the run.
    """

    name: ClassVar[str]
    imports: ClassVar[str]
    """A text that stands in its program in the guide, and in no other."""
    packages: ClassVar[tuple[str, ...]]
    programs: ClassVar[tuple[str, ...]] = ()
    worker: Daemon

    def __init__(self, folder: Path, environment: dict[str, str], stack: AsyncExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.journal = str(folder / "payouts.db")
        self.environment = {**environment, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
        self.module = f"{self.name}_refunds"
        (folder / f"{self.module}.py").write_text(program_with(GUIDE, self.imports), encoding="utf-8")

    @classmethod
    def lacking(cls) -> list[str]:
        """Return what this machine lacks for it."""
        packages = [name for name in cls.packages if find_spec(name) is None]
        return [*packages, *(name for name in cls.programs if program(name) is None)]

    async def start(self) -> None:
        """Start servers and worker."""
        raise NotImplementedError

    async def submit(self, name: str, payment: dict[str, str]) -> None:
        """Give it a withdrawal."""
        raise NotImplementedError

    async def answer(self, name: str) -> Answer:
        """Wait for the end of its step, and return what the engine shows."""
        raise NotImplementedError

    async def kill(self) -> None:
        """Kill the worker with SIGKILL, and start it again."""
        await self.worker.end(signal.SIGKILL)
        await self.worker.start()

    async def idle(self) -> None:
        """Do what an engine needs to take up the steps of killed workers, where traffic does it otherwise."""

    async def _work(self, *arguments: str, port: int) -> None:
        environment = {**self.environment, "ALPHAPO_JOURNAL": self.journal}
        self.worker = Daemon((sys.executable, *arguments), port, self.folder, environment=environment)
        await self.stack.enter_async_context(self.worker)

    async def _redis(self) -> int:
        port = free_port()
        command = (program("redis-server") or "", "--port", str(port), "--bind", "127.0.0.1", "--save", "")
        await self.stack.enter_async_context(Daemon(command, port, self.folder))
        return port

    async def _postgres(self) -> tuple[str, int]:
        server = await self.stack.enter_async_context(postgres())
        return f"postgresql://postgres@127.0.0.1:{server.port}/postgres", server.port

    def _load(self) -> ModuleType:
        """Return the program as a module, which finds its servers in the environment."""
        os.environ.update({name: value for name, value in self.environment.items() if name != "PYTHONPATH"})
        sys.path.insert(0, str(self.folder))
        try:
            return importlib.import_module(self.module)
        finally:
            sys.path.remove(str(self.folder))
            self.stack.callback(sys.modules.pop, self.module, None)


class Dbos(Engine):
    """DBOS, with the journal in the same PostgreSQL."""

    name = "dbos"
    imports = "from dbos import"
    packages = ("dbos",)

    async def start(self) -> None:
        from dbos import DBOSClient  # noqa: PLC0415 - only where it is installed

        self.journal, port = await self._postgres()
        self.environment["DBOS_SYSTEM_DATABASE_URL"] = self.journal
        await self._work(f"{self.module}.py", port=port)
        async with asyncio.timeout(_PATIENCE):
            while "launched" not in self.worker.log.read_text(errors="replace"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL)
        self._client = await asyncio.to_thread(
            DBOSClient, system_database_url=self.journal, retry_connection_errors=False
        )
        self.stack.callback(self._client.destroy)

    async def submit(self, name: str, payment: dict[str, str]) -> None:
        options: Any = {"queue_name": "refunds", "workflow_name": "refund", "workflow_id": name}
        await asyncio.to_thread(self._client.enqueue, options, name, payment)

    async def answer(self, name: str) -> Answer:
        status = None
        while status is None or status.status not in ("SUCCESS", "ERROR"):
            await asyncio.sleep(_POLL)
            status = await asyncio.to_thread(lambda: self._client.retrieve_workflow(name).get_status())
        if status.status == "SUCCESS":
            return Answer("accepted", str(status.output))
        return _answer_of(status.error or RuntimeError("DBOS shows no error"))


class Procrastinate(Engine):
    """procrastinate, with the journal in the same PostgreSQL."""

    name = "procrastinate"
    imports = "from procrastinate import"
    packages = ("procrastinate", "psycopg")

    async def start(self) -> None:
        self.journal, port = await self._postgres()
        self.environment["DATABASE_URL"] = self.journal
        module = self._load()
        self._app, self._pay = module.app, module.pay
        await self.stack.enter_async_context(self._app.open_async())
        await self._app.schema_manager.apply_schema_async()
        self._jobs: dict[str, int] = {}
        app = ("-m", "procrastinate", "--app", f"{self.module}.app")
        await self._work(*app, "worker", "--concurrency", "8", "--delete-jobs", "never", port=port)

    async def submit(self, name: str, payment: dict[str, str]) -> None:
        self._jobs[name] = await self._pay.defer_async(refund=name, payment=payment)

    async def answer(self, name: str) -> Answer:
        status = ""
        while status not in ("succeeded", "failed"):
            await asyncio.sleep(_POLL)
            status = (await self._app.job_manager.get_job_status_async(self._jobs[name])).value
        return Answer("accepted" if status == "succeeded" else "rejected")


class Temporal(Engine):
    """Temporal, with the development server of its command line and the journal in PostgreSQL."""

    name = "temporal"
    imports = "from temporalio"
    packages = ("temporalio",)
    programs = ("temporal",)

    async def start(self) -> None:
        from temporalio.client import Client  # noqa: PLC0415 - only where it is installed

        port = free_port()
        address = f"127.0.0.1:{port}"
        command = (program("temporal") or "", "server", "start-dev", "--headless", "--ip", "127.0.0.1")
        await self.stack.enter_async_context(Daemon((*command, "--port", str(port)), port, self.folder))
        async with asyncio.timeout(_PATIENCE):
            while not await self._connect(Client, address):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL)
        self.environment["TEMPORAL_ADDRESS"] = address
        self.journal, _ = await self._postgres()
        await self._work(f"{self.module}.py", port=port)

    async def _connect(self, client: Any, address: str) -> bool:
        with contextlib.suppress(RuntimeError):
            self._client = await client.connect(address)
            return True
        return False

    async def submit(self, name: str, payment: dict[str, str]) -> None:
        await self._client.start_workflow("Refund", args=[name, payment], id=name, task_queue="refunds")

    async def answer(self, name: str) -> Answer:
        from temporalio.client import WorkflowFailureError  # noqa: PLC0415 - only where it is installed

        try:
            return Answer("accepted", str(await self._client.get_workflow_handle(name).result()))
        except WorkflowFailureError as error:
            cause: Any = getattr(error.cause, "cause", None) or error
            return _answer_of(cause, getattr(cause, "type", ""))


class Restate(Engine):
    """Restate, with its server from npm."""

    name = "restate"
    imports = "import restate"
    packages = ("restate", "hypercorn")
    programs = ("restate-server",)

    async def start(self) -> None:
        ingress, admin, node, port = (free_port() for _ in range(4))
        environment = {
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
            "RESTATE_DISABLE_TELEMETRY": "true",
        }
        command = (program("restate-server") or "", "--base-dir", str(self.folder / "restate"), "--node-name", "proof")
        server = Daemon((*command, "--listen-mode", "tcp"), ingress, self.folder, environment=environment)
        await self.stack.enter_async_context(server)
        await self._work("-m", "hypercorn", f"{self.module}:app", "--bind", f"127.0.0.1:{port}", port=port)
        self._http = await self.stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)))
        self._url = f"http://127.0.0.1:{ingress}/refunds/pay"
        self._calls: dict[str, asyncio.Task[Answer]] = {}
        async with asyncio.timeout(_PATIENCE):
            while not await self._register(f"http://127.0.0.1:{admin}/deployments", f"http://127.0.0.1:{port}"):  # noqa: ASYNC110
                await asyncio.sleep(_POLL)

    async def _register(self, url: str, worker: str) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with self._http.post(url, json={"uri": worker}) as reply:
                return reply.ok
        return False

    async def submit(self, name: str, payment: dict[str, str]) -> None:
        self._calls[name] = asyncio.create_task(self._pay({"name": name, "payment": payment}))

    async def _pay(self, refund: dict[str, Any]) -> Answer:
        key = {"idempotency-key": refund["name"]}
        async with self._http.post(self._url, json=refund, headers=key) as reply:
            shown = await reply.json()
        return Answer("accepted", shown) if reply.ok else _answer_of(RuntimeError(shown))

    async def answer(self, name: str) -> Answer:
        return await self._calls[name]


class Celery(Engine):
    """Celery with Redis; its children are killed, which run the tasks."""

    name = "celery"
    imports = "from celery"
    packages = ("celery", "redis")
    programs = ("redis-server",)

    async def start(self) -> None:
        port = await self._redis()
        url = f"redis://127.0.0.1:{port}"
        self.environment |= {"CELERY_BROKER_URL": f"{url}/0", "CELERY_RESULT_BACKEND": f"{url}/1"}
        self._pay = self._load().pay
        self._tasks: dict[str, str] = {}
        await self._work("-m", "celery", "-A", self.module, "worker", "-c", "2", "-l", "INFO", port=port)
        async with asyncio.timeout(_PATIENCE):
            while " ready." not in self.worker.log.read_text(errors="replace"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL)

    async def kill(self) -> None:  # with Redis the tasks of a whole worker that was killed run again an hour later
        for child in self.worker.children():
            os.kill(child, signal.SIGKILL)

    async def submit(self, name: str, payment: dict[str, str]) -> None:
        self._tasks[name] = (await asyncio.to_thread(self._pay.delay, name, payment)).id

    async def answer(self, name: str) -> Answer:
        shown: dict[str, Any] = {"status": ""}
        while shown["status"] not in ("SUCCESS", "FAILURE", "REVOKED"):
            await asyncio.sleep(_POLL)
            shown = await asyncio.to_thread(self._pay.app.backend.get_task_meta, self._tasks[name])
        return Answer("accepted", shown["result"]) if shown["status"] == "SUCCESS" else _answer_of(shown["result"])


class Taskiq(Engine):
    """taskiq with streams of Redis."""

    name = "taskiq"
    imports = "from taskiq "
    packages = ("taskiq", "taskiq_redis")
    programs = ("redis-server",)

    async def start(self) -> None:
        port = await self._redis()
        self.environment["REDIS_URL"] = f"redis://127.0.0.1:{port}"
        module = self._load()
        self._broker, self._pay = module.broker, module.pay
        await self._broker.startup()
        self.stack.push_async_callback(self._broker.shutdown)
        self._tasks: dict[str, Any] = {}
        self._paid: tuple[str, dict[str, str]] | None = None
        self._idled = 0.0
        options = ("--workers", "1", "--max-async-tasks", "8")
        await self._work("-m", "taskiq", "worker", f"{self.module}:broker", *options, port=port)

    async def submit(self, name: str, payment: dict[str, str]) -> None:
        self._paid = name, payment
        self._tasks[name] = await self._pay.kiq(name, payment)

    async def answer(self, name: str) -> Answer:
        while not await self._tasks[name].is_ready():  # noqa: ASYNC110 - another process
            await asyncio.sleep(_POLL)
        result = await self._tasks[name].get_result()
        return _answer_of(result.error) if result.is_err else Answer("accepted", str(result.return_value))

    async def idle(self) -> None:
        """Ask for what was asked for before: tasks of killed workers are taken over when another task arrives."""
        if self._paid is not None and time.monotonic() > self._idled + 5.0:
            self._idled = time.monotonic()
            await self._pay.kiq(*self._paid)


ENGINES: Final[dict[str, type[Engine]]] = {
    engine.name: engine for engine in (Dbos, Procrastinate, Temporal, Restate, Celery, Taskiq)
}
