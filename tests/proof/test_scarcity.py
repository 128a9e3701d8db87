"""A process that may open few files, and one whose packages are gone by the time a request fails: no outcome is lost to either."""

import asyncio
import csv
import os
import resource
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from functools import partial
from pathlib import Path

from alphapo_async.sandbox import Sandbox

ROWS = 60


def _environment(sandbox: Sandbox) -> dict[str, str]:
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHAPO_", "COV"))}
    result = {"ALPHAPO_BASE_URL": sandbox.url, "ALPHAPO_KEY": sandbox.key, "ALPHAPO_SECRET": sandbox.secret}
    return {**usual, **result}


async def _pay(folder: Path, environment: dict[str, str], limit: int) -> Counter[str]:
    """Pay a file in a process that may open so many files, and return how often each outcome is in its results."""
    file = folder / f"with-{limit}.csv"
    rows = "".join(f"of-{limit}-{number},BTC,bc1qx,0.0015,user\n" for number in range(ROWS))
    file.write_text(f"foreign_id,currency,address,amount,end_user_reference\n{rows}", encoding="utf-8")
    command = [sys.executable, "-m", "alphapo_async", "batch", str(file), "--yes", "--give-up-after", "5s"]
    limited = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, limit))
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=PIPE, stderr=PIPE, preexec_fn=limited
    )
    await asyncio.wait_for(process.communicate(), 60)
    with Path(f"{file}.results.csv").open(encoding="utf-8", newline="") as results:
        return Counter(row["outcome"] for row in csv.DictReader(results))


async def test_with_few_descriptors_every_row_is_accepted_or_not_sent(tmp_path: Path) -> None:
    """Connections leave descriptors to the journal: it could otherwise record nothing of what was sent."""
    async with Sandbox() as sandbox:
        environment = _environment(sandbox)
        outcomes = await asyncio.gather(*(_pay(tmp_path, environment, limit) for limit in (20, 28, 64)))

    for found in outcomes:
        assert found["accepted"] + found["not_sent"] == found.total() == ROWS


LOADS_NOTHING = r"""
import asyncio, sys
from alphapo_async import AlphapoClient, AlphapoError, RetryPolicy, WithdrawalRequest

REPLIES = [
    b"HTTP/1.1 503 No\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 No\r\nRetry-After: Tue, 01 Jan 2030 00:00:00 GMT\r\nDate: Tue, 01 Jan 2030 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 400 No\r\nContent-Length: 33\r\n\r\n" + b'{"errors":{"foreign_id":"taken"}}',
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
    b"",
]
loaded, number = set(), 0

async def serve(reader, writer):
    global number
    head = await reader.readuntil(b"\r\n\r\n")
    if not loaded:
        loaded.update(sys.modules)
        sys.meta_path.clear()  # whatever is not loaded by now cannot be loaded any more
    writer.write(REPLIES[number % len(REPLIES)])
    number += 1
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    policy = RetryPolicy(attempts=3, deadline=0.5, attempt_timeout=0.2, wait_initial=0.01, wait_max=0.02)
    async with AlphapoClient("key", "secret", journal=sys.argv[1], base_url=url, policy=policy) as client:
        async def pay(name):
            try:
                return await client.withdraw(WithdrawalRequest(
                    currency="BTC", address="bc1qx", amount="0.0015", foreign_id=name, end_user_reference="user"))
            except AlphapoError as error:
                return getattr(error, "reason", "")
        reasons = [await pay(str(one)) for one in range(8)]
        server.close()
        reasons += await asyncio.gather(*(pay("late %d" % one) for one in range(30)))
    assert "internal error" not in reasons, reasons
    assert set(sys.modules) == loaded, set(sys.modules) - loaded

asyncio.run(main())
"""


async def test_what_handles_a_failure_is_loaded_before_the_first_body_leaves(tmp_path: Path) -> None:
    """After an upgrade under the running process, or without a descriptor, it could not be loaded any more."""
    command = [sys.executable, "-c", LOADS_NOTHING, str(tmp_path / "payouts.db")]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    _, complaints = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, complaints.decode()
    assert b"internal error" not in complaints
