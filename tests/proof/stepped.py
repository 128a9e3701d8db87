"""The worker that is killed between any two steps: `python -m tests.proof.stepped URL JOURNAL FIRST`.

It forks a child for every step of one withdrawal, from the opening of the client to its end: each time any task of the child is about to be
resumed, which is once for every await that it has waited at, counts as a step. The child of number N is killed before its step N. When a
child gets to its end, every step has been tried; how many there were is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine, Generator
from typing import Any, Final

from alphapo_async import AlphapoClient, WithdrawalError
from tests.proof.killed import KEY, POLICY, SECRET, request_of

ENDS: Final = 2
"""So many children in a row get to their end before it is believed: how much the network takes at once varies."""


class Steps:
    """Counts steps, and kills the process before the last one."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        """Take one."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Stepping(Coroutine[Any, Any, Any]):
    """A coroutine that counts each time it is resumed."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], steps: Steps) -> None:
        self._coroutine = coroutine
        self._steps = steps

    def send(self, value: Any) -> Any:
        """Resume it."""
        self._steps.step()
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Resume it with an error."""
        self._steps.step()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End it."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


async def pay(url: str, journal: str, number: int, steps: Steps) -> None:
    """Pay one withdrawal, and be killed on the way."""

    def count(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:
        return asyncio.Task(Stepping(coroutine, steps), loop=loop, **more)

    asyncio.get_running_loop().set_task_factory(count)
    async with AlphapoClient(KEY, SECRET, journal=journal, base_url=url, policy=POLICY) as client:
        with contextlib.suppress(WithdrawalError):
            await client.withdraw(request_of(number))


def main(url: str, journal: str, first: int) -> None:
    """Kill a child at every step, and print how many there are."""
    asyncio.run(pay(url, journal, first, Steps(0)))  # to its end: no child has to import anything
    steps = ends = 0
    while ends < ENDS:
        steps += 1
        child = os.fork()
        if child == 0:
            asyncio.run(pay(url, journal, first + steps, Steps(steps)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ends = ends + 1 if os.WIFEXITED(status) else 0
    print(steps)  # noqa: T201 - its answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
