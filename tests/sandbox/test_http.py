"""The local sandbox on a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from alphapo_async.sandbox import AcceptedWithdrawal, Call, Dialect, Fault, Mischief, OutagePlan, Sandbox, Script
from tests.sandbox.test_callbacks import Guarded, Receiver, listening
from tests.support.questions import OTHER, SIGNER, fields

NAME = {"foreign_id": "payout-17"}


class Merchant:
    """A plain client."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.session = session

    async def ask(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        raw = json.dumps(body).encode()
        url = f"{self.sandbox.url}{path}"
        async with self.session.request(
            method, url, data=raw, headers=SIGNER.headers(raw), allow_redirects=False
        ) as answer:
            return answer.status, await answer.read()

    async def post(self, **changes: Any) -> tuple[int, bytes]:
        return await self.ask("POST", "/api/v2/withdrawal/crypto", fields(**changes))

    async def look_up(self) -> tuple[int, bytes]:
        return await self.ask("GET", "/api/v2/transactions/info", NAME)

    def paid(self) -> tuple[AcceptedWithdrawal, ...]:
        return self.sandbox.ledger.accepted("payout-17")


@asynccontextmanager
async def merchant(sandbox: Sandbox, timeout: float = 5.0) -> AsyncIterator[Merchant]:
    """Open a sandbox and a client, and see that nothing is left of the sandbox afterwards."""
    before = asyncio.all_tasks()
    async with sandbox, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session:
        yield Merchant(sandbox, session)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def until(has_come: Callable[[], object]) -> None:
    """Wait for something that comes soon; what comes of it is asserted elsewhere."""
    for _ in range(200):
        if has_come():
            break
        await asyncio.sleep(0.005)


def first(fault: Fault | None) -> Script:
    """Strike the first body and the first look-up."""
    return Script({"*": {"withdrawal": [fault], "look-up": [fault]}})


async def test_pay_and_look_up() -> None:
    """A withdrawal is accepted once and can be looked up by a GET with a body."""
    async with merchant(Sandbox()) as client:
        status, body = await client.post()
        assert status == 201
        assert (await client.post())[0] == 400
        found, result = await client.look_up()
        assert found == 200
        assert json.loads(result)["id"] == json.loads(body)["data"]["id"]
        ledger = client.sandbox.ledger
        assert (ledger.posts, ledger.look_ups, ledger.connections) == (2, 1, 1)
        assert "posts=2" in repr(client.sandbox)


async def test_the_ledger_can_be_read_from_outside() -> None:
    """Without a signature, on the loopback interface."""
    async with merchant(Sandbox()) as client:
        await client.post()
        async with client.session.get(f"{client.sandbox.url}/sandbox/ledger") as answer:
            assert answer.content_type == "application/json"
            assert (await answer.json())["accepted"][0]["foreign_id"] == "payout-17"
        async with client.session.get(f"{client.sandbox.url}/api/v2/ping") as answer:
            assert (answer.status, answer.content_type, await answer.text()) == (200, "text/html", "OK")


async def test_other_keys_of_the_merchant() -> None:
    """They are let in, and a foreign_id is unique across them."""
    async with merchant(Sandbox(extra_keys=[("other-key", "other-secret")])) as client:
        raw = json.dumps(fields()).encode()
        url = f"{client.sandbox.url}/api/v2/withdrawal/crypto"
        async with client.session.post(url, data=raw, headers=OTHER.headers(raw)) as answer:
            assert answer.status == 201
        assert (await client.post())[0] == 400
        assert client.paid()[0].key == "other-key"


LOST = [Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.CUT_BODY]
SILENT = [Fault.STALL_BEFORE, Fault.STALL_AFTER, Fault.LATE]


@pytest.mark.parametrize("fault", LOST)
async def test_connections_are_reset(fault: Fault) -> None:
    """The client sees its connection break, whether or not it was paid."""
    async with merchant(Sandbox(faults=first(fault))) as client:
        with pytest.raises(aiohttp.ClientError) as problem:
            await client.post()
        # Half a body is a broken payload; nothing at all is a lost connection.
        assert isinstance(problem.value, aiohttp.ClientPayloadError) is (fault is Fault.CUT_BODY)
        assert len(client.paid()) == (fault.accepts is True)
        assert (await client.post())[0] == (400 if fault.accepts else 201)


async def test_a_reset_is_a_reset() -> None:
    """RST, not an orderly end: the socket itself says so."""
    async with merchant(Sandbox(faults=first(Fault.RESET_AFTER))) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(client.sandbox.url.rpartition(":")[2]))
        raw = json.dumps(fields()).encode()
        lines = [f"{name}: {value}" for name, value in SIGNER.headers(raw).items()]
        head = ["POST /api/v2/withdrawal/crypto HTTP/1.1", "Host: x", f"Content-Length: {len(raw)}", *lines, "", ""]
        writer.write("\r\n".join(head).encode() + raw)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert len(client.paid()) == 1


@pytest.mark.parametrize("fault", SILENT)
async def test_stalls_last_until_the_client_leaves(fault: Fault) -> None:
    """Nothing is answered; afterwards the sandbox goes on."""
    async with merchant(Sandbox(faults=first(fault), late_seconds=0.1), timeout=0.05) as client:
        for ask in (client.post, client.look_up):
            with pytest.raises(TimeoutError):
                await ask()
        await client.sandbox.drain()
        assert len(client.paid()) == (fault is not Fault.STALL_BEFORE)


async def test_a_late_body_is_accepted_after_a_later_refusal() -> None:
    """The client has left, its next attempt was refused, and then it is paid all the same."""
    faults = Script({"*": {"withdrawal": [Fault.LATE, Fault.INSUFFICIENT]}})
    async with merchant(Sandbox(faults=faults, late_seconds=0.1), timeout=0.05) as client:
        with pytest.raises(TimeoutError):
            await client.post()
        assert (await client.post())[0] == 422
        assert client.paid() == ()
        await client.sandbox.drain()
        assert len(client.paid()) == 1
        assert (await client.post())[0] == 400


async def test_leaving_with_a_late_body_outstanding() -> None:
    """The sandbox stops without waiting for it."""
    async with merchant(Sandbox(faults=first(Fault.LATE), late_seconds=60.0), timeout=0.05) as client:
        with pytest.raises(TimeoutError):
            await client.post()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.GARBAGE, 200),
        (Fault.HTML_520_BEFORE, 520),
        (Fault.EMPTY_200_AFTER, 200),
        (Fault.THROTTLE, 429),
        (Fault.REDIRECT_302, 302),
        (Fault.REDIRECT_307, 307),
        (Fault.UNKNOWN_CODE, 403),
        (Fault.ERROR_500_AFTER, 500),
    ],
)
async def test_wrong_answers(fault: Fault, status: int) -> None:
    """They arrive as they are, and the connection stays."""
    async with merchant(Sandbox(faults=first(fault))) as client:
        assert (await client.post())[0] == status
        assert (await client.look_up())[0] == status
        assert (await client.look_up())[0] == (200 if fault.accepts else 404)
        assert client.sandbox.ledger.connections == 1


async def test_the_right_answer_late() -> None:
    """Latency comes before every answer, slowness on top."""
    async with merchant(Sandbox(faults=first(Fault.SLOW), latency=0.02, slow_seconds=0.1)) as client:
        begun = time.monotonic()
        assert (await client.post())[0] == 201
        assert time.monotonic() - begun >= 0.11


async def test_a_kept_connection_is_closed_without_a_word() -> None:
    """The answer is whole and promises nothing; the next request needs another connection."""
    async with merchant(Sandbox(faults=first(Fault.CLOSE_KEEPALIVE))) as client:
        raw = json.dumps(fields()).encode()
        url = f"{client.sandbox.url}/api/v2/withdrawal/crypto"
        async with client.session.post(url, data=raw, headers=SIGNER.headers(raw)) as answer:
            assert answer.status == 201
            assert "Connection" not in answer.headers
            await answer.read()
        await asyncio.sleep(0.02)
        assert (await client.post())[0] == 400
        assert client.sandbox.ledger.connections == 2


async def test_what_arrived_is_processed_even_if_the_client_left() -> None:
    """A client that sends its last byte and hangs up is paid all the same."""
    async with merchant(Sandbox(latency=0.05)) as client:
        raw = json.dumps(fields()).encode()
        lines = [f"{name}: {value}" for name, value in SIGNER.headers(raw).items()]
        head = ["POST /api/v2/withdrawal/crypto HTTP/1.1", "Host: x", f"Content-Length: {len(raw)}", *lines, "", ""]
        _reader, writer = await asyncio.open_connection("127.0.0.1", int(client.sandbox.url.rpartition(":")[2]))
        writer.write("\r\n".join(head).encode() + raw)
        writer.close()
        await writer.wait_closed()
        await until(client.paid)
        assert len(client.paid()) == 1


async def test_a_body_that_never_ends_is_nothing() -> None:
    """Half a body does not arrive: nothing is seen and nothing is paid."""
    async with merchant(Sandbox()) as client:
        _reader, writer = await asyncio.open_connection("127.0.0.1", int(client.sandbox.url.rpartition(":")[2]))
        writer.write(b"POST /api/v2/withdrawal/crypto HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()
        await asyncio.sleep(0.02)
        assert client.sandbox.ledger.posts == 0


async def test_refusing_connections() -> None:
    """While it does not listen, nobody gets in; open connections are reset; afterwards the port is the same."""
    async with merchant(Sandbox(faults="stall_after")) as client:
        stalled = asyncio.create_task(client.post())
        await until(client.paid)
        url = client.sandbox.url
        refusing = asyncio.create_task(client.sandbox.refuse(0.1))
        with pytest.raises(aiohttp.ClientError):
            await stalled
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.look_up()
        await client.sandbox.stop_listening()
        await refusing
        await client.sandbox.listen_again()
        assert client.sandbox.url == url
        assert (await client.look_up())[0] == 200


@pytest.mark.parametrize("steps", range(8))
async def test_no_connection_slips_through_a_closing_door(steps: int) -> None:
    """However far a connection has come when the sandbox stops listening, it ends."""
    async with merchant(Sandbox()) as client:
        with socket.create_connection(("127.0.0.1", int(client.sandbox.url.rpartition(":")[2]))) as caller:
            caller.setblocking(False)
            for _ in range(steps):
                await asyncio.sleep(0)
            await client.sandbox.stop_listening()
            async with asyncio.timeout(1):
                with pytest.raises(ConnectionResetError):
                    await asyncio.get_running_loop().sock_recv(caller, 1)


async def test_listening_again_after_the_end_does_nothing() -> None:
    """A refusal that outlives the sandbox does not wake it up."""
    async with Sandbox() as sandbox:
        refusing = asyncio.create_task(sandbox.refuse(0.03))
        await asyncio.sleep(0)
    await refusing
    await sandbox.stop_listening()
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", int(sandbox.url.rpartition(":")[2]))


async def test_a_taken_port_is_told() -> None:
    """Nothing is left behind when it cannot listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address"):
            async with Sandbox(port=taken.getsockname()[1], callback_url="http://127.0.0.1:9/"):
                pytest.fail("it listens on a port that is not its own")


async def test_settings_may_change_while_it_runs() -> None:
    """Faults by plan or name, dialect, pause."""
    async with merchant(Sandbox(throttle_seconds=3.0)) as client:
        sandbox = client.sandbox
        sandbox.faults = "throttle"
        sandbox.throttle_seconds *= 2
        raw = json.dumps(fields()).encode()
        url = f"{sandbox.url}/api/v2/withdrawal/crypto"
        async with client.session.post(url, data=raw, headers=SIGNER.headers(raw)) as answer:
            assert answer.headers["Retry-After"] == "6"
        assert sandbox.faults.next(Call("withdrawal", "x", 1, 0.0)) is Fault.THROTTLE
        sandbox.faults = OutagePlan(sandbox.now(), 60.0)
        assert (await client.post())[0] == 503
        sandbox.faults = Script({})
        sandbox.dialect = Dialect(success_status=200)
        assert (await client.post())[0] == 200
        assert sandbox.dialect.success_status == 200


async def test_time_is_the_callers() -> None:
    """With a clock of one's own, withdrawals settle when it says so."""
    moment = 100.0
    async with merchant(Sandbox(clock=lambda: moment, settle_after=50.0)) as client:
        await client.post()
        assert client.paid()[0].at == 100.0
        moment = 149.0
        assert client.paid()[0].status == "processing"
        moment = 150.0
        assert client.paid()[0].status == "confirmed"


def test_before_it_runs() -> None:
    """It can be made, and asked for its ledger, without a loop."""
    sandbox = Sandbox(port=4711)
    assert (sandbox.url, sandbox.key, sandbox.secret) == (
        "http://127.0.0.1:4711",
        "sandbox-key",
        "sandbox-secret",
    )
    assert sandbox.ledger.all_accepted() == ()
    assert sandbox.now() > 0
    with pytest.raises(ValueError, match="no faults named"):
        Sandbox(faults="what")


async def test_status_changes_are_told() -> None:
    """A callback for each change, repeated until it is heard, for late withdrawals too."""
    receiver = Receiver(503, 200)
    async with listening(receiver) as url:
        sandbox = Sandbox(
            faults=Script({"a": {"withdrawal": [Fault.LATE]}}),
            late_seconds=0.01,
            settle_after=0.02,
            callback_url=url,
            callback_time_scale=0.0001,
        )
        async with merchant(sandbox) as client:
            await client.post(foreign_id="b", address="decline")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.post(foreign_id="a")
            await until(lambda: len(receiver.heard) >= 4)
    assert sorted((result["foreign_id"], result["status"]) for result in receiver.heard) == [
        ("a", "confirmed"),
        ("b", "declined"),
        ("b", "pending"),
        ("b", "pending"),
    ]


async def test_a_merchant_that_does_not_listen_breaks_nothing() -> None:
    """Deliveries fail quietly, and stop with the sandbox."""
    sandbox = Sandbox(settle_after=0.0, callback_url="http://127.0.0.1:9/", callback_time_scale=0.0001)
    async with merchant(sandbox) as client:
        assert (await client.post())[0] == 201
        await asyncio.sleep(0.05)
        assert client.paid()[0].status == "confirmed"
        assert sandbox.deliveries[0] == ("withdrawal", client.paid()[0].id, "confirmed", None)


async def test_callbacks_with_mischief_can_be_read_in_order() -> None:
    """What was delivered is listed with the answers, forged callbacks and deposits too."""
    receiver = Guarded(503, 200)
    async with listening(receiver) as url:
        sandbox = Sandbox(
            settle_after=0.01,
            callback_url=url,
            callback_time_scale=0.0001,
            mischief=Mischief(reordering=True, forgeries=True, deposits=True),
        )
        async with merchant(sandbox) as client:
            await client.post()
            await until(lambda: sum(result.answer == 200 for result in sandbox.deliveries) >= 4)
            number = client.paid()[0].id
    result = sandbox.deliveries
    assert [one.answer for one in result if one.what == "forgery"] == [403] * 16
    heard = [(one.id, one.status) for one in result if one.what == "withdrawal" and one.answer == 200]
    assert heard == [(number, "confirmed"), (number, "pending")]
    deposits = [one for one in result if one.what == "deposit" and one.answer == 200]
    assert [one.status for one in deposits] == ["confirmed", "not_confirmed"]
    assert number not in {one.id for one in deposits}
    assert [one.answer for one in result].count(503) == 1


async def test_draining_does_not_wait_for_callbacks() -> None:
    """One that nobody hears is repeated for a day; late bodies are all that is waited for."""
    receiver = Receiver(503)
    async with listening(receiver) as url:
        sandbox = Sandbox(settle_after=0.0, callback_url=url, mischief=Mischief(duplicates=True, deposits=True))
        async with merchant(sandbox) as client:
            await client.post()
            await until(lambda: len(sandbox.deliveries) >= 6)
            async with asyncio.timeout(1):
                await sandbox.drain()
    assert [result.answer for result in sandbox.deliveries] == [503] * 6


async def test_it_is_quick() -> None:
    """A thousand withdrawals from one client take seconds of the processor at most."""
    async with merchant(Sandbox()) as client:
        begun = time.process_time()
        for start in range(0, 1000, 50):
            answers = await asyncio.gather(*(client.post(foreign_id=str(start + place)) for place in range(50)))
            assert {status for status, _body in answers} == {201}
        assert time.process_time() - begun < 10
        assert len(client.sandbox.ledger.all_accepted()) == 1000


async def test_a_callback_can_be_had_without_a_url() -> None:
    """Signed with the key that made the withdrawal."""
    async with merchant(Sandbox(extra_keys=[("other-key", "other-secret")])) as client:
        raw = json.dumps(fields()).encode()
        async with client.session.post(
            f"{client.sandbox.url}/api/v2/withdrawal/crypto", data=raw, headers=OTHER.headers(raw)
        ):
            headers, body = client.sandbox.callback("payout-17", "cancelled")
        with pytest.raises(ValueError, match="has accepted no withdrawal 17: call withdraw first"):
            client.sandbox.callback(17)
    assert headers == OTHER.headers(body)
    assert json.loads(body)["status"] == "cancelled"
