"""One process of the failover proof: a client of ours that carries out commands and reports what its callers and its owner were answered.

`python -m tests.proof.failover_client` reads a `Command` in JSON from each line of its standard input and writes each `Report` as a line to
its standard output. It ends with its input. Several commands run at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from alphapo_async import AlphapoClient, AlphapoError, RetryPolicy, WithdrawalRequest
from alphapo_async.core.events import Event

KEY, SECRET = "proof-key", "proof-secret"
POLICY: Final = RetryPolicy(
    attempts=4, deadline=8.0, attempt_timeout=4.0, wait_initial=0.02, wait_max=0.2, quiet=2.0, resend_within=3_600.0
)

Verb: TypeAlias = Literal["open", "work", "withdraw", "enqueue", "resume", "callback", "health", "close"]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is to do."""

    number: int
    verb: Verb
    url: str = ""
    journal: str = ""
    foreign_id: str = ""
    currency: str = "BTC"
    resend_rejected: bool = False
    deadline: float | None = None
    restored: bool = False
    headers: dict[str, str] = {}
    body: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says: the end of a command, an event, or a log line of level ERROR."""

    kind: Literal["result", "event", "log"]
    number: int = 0
    """Of the command."""
    name: str = ""
    """Of the event; the level of the log line; the verb of the command."""
    foreign_id: str | None = None
    outcome: str = ""
    may_release: bool = False
    text: str = ""
    began: float = 0.0
    ended: float = 0.0
    """Both on the machine's steady clock, which all processes share."""


class Answer(NamedTuple):
    """How a command ended."""

    outcome: str = ""
    text: str = ""
    may_release: bool = False


def request_of(foreign_id: str, currency: str) -> WithdrawalRequest:
    """Return the payment of this name."""
    return WithdrawalRequest(
        currency=currency,
        address=f"made-up-{foreign_id}",
        amount="0.001",
        foreign_id=foreign_id,
        end_user_reference=f"user-{foreign_id}",
    )


def _say(report: Report) -> None:
    os.write(1, msgspec.json.encode(report) + b"\n")


class _ErrorLog(logging.Handler):
    """Reports what is logged at ERROR."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(Report(kind="log", name=record.levelname, text=record.getMessage(), ended=time.monotonic()))


def _on_event(event: Event) -> None:
    now = time.monotonic()
    _say(Report(kind="event", name=event.name, foreign_id=event.foreign_id, text=event.reason or "", ended=now))


class _Process:
    """The commands of one client at a time."""

    def __init__(self) -> None:
        self._client: AlphapoClient | None = None
        self._working: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Carry out commands until the input ends."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            task = asyncio.create_task(self._carry_out(msgspec.json.decode(line, type=Command)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await self._close()

    async def _carry_out(self, command: Command) -> None:
        began, answer = time.monotonic(), Answer()
        try:
            answer = await getattr(self, f"_{command.verb}")(command)
        except AlphapoError as error:
            outcome = str(getattr(error, "outcome", type(error).__name__))
            answer = Answer(outcome, str(error), may_release=bool(getattr(error, "may_release_funds", False)))
        except Exception as error:  # noqa: BLE001 - the judge is shown it
            answer = Answer("internal error", repr(error))
        _say(
            Report(
                kind="result",
                number=command.number,
                name=command.verb,
                foreign_id=command.foreign_id,
                outcome=answer.outcome,
                may_release=answer.may_release,
                text=answer.text,
                began=began,
                ended=time.monotonic(),
            )
        )

    @property
    def _open_client(self) -> AlphapoClient:
        assert self._client is not None
        return self._client

    async def _work(self, _command: Command) -> Answer:
        self._working = asyncio.create_task(self._open_client.work())
        return Answer()

    async def _withdraw(self, command: Command) -> Answer:
        withdrawal = await self._open_client.withdraw(
            request_of(command.foreign_id, command.currency),
            deadline=command.deadline,
            resend_rejected=command.resend_rejected,
        )
        return Answer("accepted", withdrawal.source)

    async def _enqueue(self, command: Command) -> Answer:
        await self._open_client.enqueue(request_of(command.foreign_id, command.currency))
        return Answer("enqueued")

    async def _resume(self, command: Command) -> Answer:
        passing = self._open_client.resume(restored=command.restored)
        return Answer(text=", ".join([f"{result.request.foreign_id} {result.outcome}" async for result in passing]))

    async def _callback(self, command: Command) -> Answer:
        async with self._open_client.receive_callback(command.headers, command.body.encode()) as callback:
            return Answer(callback.kind)

    async def _health(self, _command: Command) -> Answer:
        return Answer(text=repr(await self._open_client.health()))

    async def _open(self, command: Command) -> Answer:
        self._client = AlphapoClient(
            KEY,
            SECRET,
            journal=command.journal,
            base_url=command.url,
            policy=POLICY,
            on_event=_on_event,
            close_grace=1.0,
        )
        await self._client.__aenter__()
        return Answer()

    async def _close(self, _command: Command | None = None) -> Answer:
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
        self._client = self._working = None
        return Answer()


def main() -> None:
    """Carry out commands until the input ends, also where Ctrl-C ends the process that writes them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logger = logging.getLogger("alphapo_async")
    logger.propagate = False
    logger.addHandler(_ErrorLog(logging.ERROR))
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_Process().run())


if __name__ == "__main__":
    main()
