"""The pytest plugin, as its users meet it: in test files of their own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.contrib import pytest_plugin
from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.sandbox import Call, Fault
from alphapo_async.sandbox.fault_sets import named_faults

pytest_plugins = ["pytester"]

BEGINNING = """
    import pytest
    from alphapo_async import WithdrawalRequest

    REQUEST = dict(currency="BTC", address="bc1qmadeup", amount="0.0015", end_user_reference="user-42")
"""


def outcomes(pytester: pytest.Pytester, text: str, *arguments: str) -> dict[str, int]:
    """Run a test file of a user's, and return how its tests ended."""
    pytester.makepyfile(BEGINNING + text)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    ran = pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:cacheprovider", *arguments)
    ended = ran.parseoutcomes()
    return {how: number for how, number in ended.items() if how != "warnings"}  # of Starlette's test client, for one


def test_ten_lines_test_a_payment(pytester: pytest.Pytester) -> None:
    """With pytest-asyncio: the client is the user's to open, and the ledger says who was paid."""
    text = """
    async def test_payment(alphapo_sandbox):
        async with alphapo_sandbox.client() as client:
            withdrawal = await client.withdraw(WithdrawalRequest(foreign_id="payout-17", **REQUEST))
        (accepted,) = alphapo_sandbox.ledger.all_accepted()
        assert (accepted.foreign_id, accepted.id) == ("payout-17", withdrawal.id)
    """
    assert outcomes(pytester, text, "-o", "asyncio_mode=auto") == {"passed": 1}


def test_a_marker_says_what_goes_wrong(pytester: pytest.Pytester) -> None:
    """Faults by name, and a dialect, as the sandbox takes them; each test has a sandbox of its own."""
    text = """
    from alphapo_async.sandbox import Dialect

    @pytest.mark.alphapo_sandbox(dialect=Dialect(success_status=200), faults="demo", seed=3)
    async def test_faults(alphapo_sandbox):
        assert alphapo_sandbox.sandbox.dialect.success_status == 200
        async with alphapo_sandbox.client() as client:
            await client.withdraw(WithdrawalRequest(foreign_id="payout-17", **REQUEST))

    def test_another(alphapo_sandbox):
        assert not alphapo_sandbox.ledger.all_accepted()
        assert not alphapo_sandbox.deliveries
    """
    assert outcomes(pytester, text, "-o", "asyncio_mode=auto", "--strict-markers") == {"passed": 2}


def test_a_synchronous_test_of_a_backend(pytester: pytest.Pytester) -> None:
    """Starlette's TestClient runs the backend in a loop of its own; the sandbox is in another."""
    text = """
    from contextlib import asynccontextmanager
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    def test_backend(alphapo_sandbox):
        client = alphapo_sandbox.client()

        @asynccontextmanager
        async def lifespan(_):
            async with client:
                yield

        async def payout(http):
            told = await client.withdraw(WithdrawalRequest(foreign_id="payout-17", **REQUEST))
            return JSONResponse({"id": told.id})

        app = Starlette(routes=[Route("/payouts", payout, methods=["POST"])], lifespan=lifespan)
        with TestClient(app) as http:
            assert http.post("/payouts").status_code == 200
        assert len(alphapo_sandbox.ledger.all_accepted()) == 1
    """
    assert outcomes(pytester, text, "-W", "default") == {
        "passed": 1
    }  # Starlette's test client warns, whoever asks for errors


@pytest.mark.parametrize("marker", ["", "@pytest.mark.alphapo_sandbox(seed=7)"])
def test_a_plain_test_may_use_it_too(pytester: pytest.Pytester, marker: str) -> None:
    """With an event loop of its own for as long as it needs one."""
    text = f"""
    import asyncio

    {marker}
    def test_payment(alphapo_sandbox):
        async def story():
            async with alphapo_sandbox.client() as client:
                await client.withdraw(WithdrawalRequest(foreign_id="payout-17", **REQUEST))

        asyncio.run(story())
        assert len(alphapo_sandbox.ledger.all_accepted()) == 1
        assert not alphapo_sandbox.deliveries
    """
    assert outcomes(pytester, text, "--strict-markers") == {"passed": 1}


def test_with_anyio(pytester: pytest.Pytester) -> None:
    """Its plugin on asyncio."""
    text = """
    @pytest.mark.anyio
    async def test_payment(alphapo_sandbox):
        async with alphapo_sandbox.client() as client:
            await client.withdraw(WithdrawalRequest(foreign_id="payout-17", **REQUEST))

    @pytest.fixture
    def anyio_backend():
        return "asyncio"
    """
    assert outcomes(pytester, text, "-p", "no:asyncio") == {"passed": 1}


def test_nothing_of_ours_is_loaded_before_it_is_used() -> None:
    """A run of tests that have nothing to do with it pays nothing for it."""
    names = ("alphapo", "aiohttp", "msgspec", "tenacity", "asyncpg", "sqlite3", "click", "rich")
    script = f"import sys, alphapo_async.contrib.pytest_plugin as p; print(*[m for m in sys.modules if m.startswith({names})])"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    plugin = "alphapo_async.contrib.pytest_plugin"
    assert set(output.stdout.split()) == {"alphapo_async", "alphapo_async.contrib", plugin}


def test_its_environment_is_what_a_client_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """For backends that make their client from the environment."""

    async def story() -> str | None:
        async with AlphapoClient.from_env() as client:
            output = await client.withdraw(
                WithdrawalRequest(
                    foreign_id="payout-17", currency="BTC", address="bc1q", amount=1, end_user_reference="user-42"
                )
            )
        return output.foreign_id

    with RunningSandbox() as alphapo:
        for name, value in alphapo.environment.items():
            monkeypatch.setenv(name, value)
        assert asyncio.run(story()) == "payout-17"


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ('"demo"', "The marker alphapo_sandbox takes its settings by name, not 'demo'. alphapo_sandbox(?*settings):"),
        ('fault="reset_after"', "The marker alphapo_sandbox: got an unexpected keyword argument 'fault'. *faults="),
    ],
)
def test_a_setting_that_cannot_be_meant_is_wrong_usage(pytester: pytest.Pytester, settings: str, output: str) -> None:
    """Without its name, or by one that does not exist: it says how the marker is used, and the test does not run without its fault."""
    text = f"""
    @pytest.mark.alphapo_sandbox({settings})
    def test_payment(alphapo_sandbox):
        raise AssertionError
    """
    pytester.makepyfile(BEGINNING + text)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    ran = pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:cacheprovider")
    assert ran.parseoutcomes() == {"errors": 1}
    ran.stdout.fnmatch_lines([f"*UsageError: {output}*"])


def test_the_docstrings_faults_are_known() -> None:
    """And what they strike is what the comment beside them says."""
    (name,) = re.findall(r'alphapo_sandbox\(faults="(\w+)"\)', str(pytest_plugin.__doc__))
    assert named_faults(name).next(Call("withdrawal", "payout-17", 1, 0.0)) is Fault.RESET_AFTER


def test_a_sandbox_whose_loop_has_died_is_closed_and_says_why() -> None:
    """The test that used it is not left waiting, and hears of it."""

    def die() -> None:
        with RunningSandbox() as alphapo:
            loop, _ = alphapo._ready.result()
            loop.call_soon_threadsafe(sys.exit, "it is over")
            alphapo._thread.join()

    with pytest.raises(SystemExit, match="it is over"):
        die()


def test_a_sandbox_that_cannot_start_says_why() -> None:
    """Where its port is taken, for one."""
    with RunningSandbox() as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), RunningSandbox(port=port):
            pass


@pytest.mark.parametrize("status", ["confirmed", "declined", "held_by_compliance"])
async def test_a_callback_is_signed_and_shows_the_status_that_is_asked_for(status: str) -> None:
    """For a handler under test: nothing is sent, and the client takes it as AlphaPo's."""
    with RunningSandbox() as running:
        async with running.client() as client:
            usual = {"currency": "BTC", "address": "bc1qmadeup", "amount": "0.5", "end_user_reference": "user"}
            withdrawal = await client.withdraw(WithdrawalRequest(foreign_id="payout-17", **usual))  # type: ignore[arg-type]
            headers, body = running.callback("payout-17", status)
            async with client.receive_callback(headers, body) as callback:
                shown = callback.transaction
                assert (callback.kind, shown.id, shown.status) == ("ours", withdrawal.id, status)
        with pytest.raises(ValueError, match="accepted no withdrawal 'payout-18'"):
            running.callback("payout-18")
    assert running.deliveries == []
