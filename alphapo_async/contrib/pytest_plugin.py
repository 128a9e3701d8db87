"""The pytest plugin: the fixture `alphapo_sandbox`, a local AlphaPo without money, in a thread and an event loop of its own.

pytest finds it by itself once the package is installed. Nothing of the library is loaded before the fixture is used.

    @pytest.mark.alphapo_sandbox(faults="reset_after")  # AlphaPo has it, and its answer is lost
    async def test_a_payout(alphapo_sandbox):
        async with alphapo_sandbox.client() as client:
            await client.withdraw(...)
        assert len(alphapo_sandbox.ledger.all_accepted()) == 1
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from alphapo_async.client import AlphapoClient
    from alphapo_async.sandbox import Delivered, Ledger, Sandbox

__all__ = ["RunningSandbox", "alphapo_sandbox", "pytest_configure"]

_MARKER = (
    "alphapo_sandbox(**settings): settings of the fixture alphapo_sandbox, as alphapo_async.sandbox.Sandbox takes them: "
    "faults='demo', dialect=Dialect(...), latency=0.1, callback_url='http://127.0.0.1:...', ..."
)


class RunningSandbox:
    """A local AlphaPo that runs in a thread of its own, so that every kind of test can use it.

    Args:
        settings: what `alphapo_async.sandbox.Sandbox` takes.
    """

    def __init__(self, **settings: Any) -> None:
        from alphapo_async.sandbox import Sandbox  # noqa: PLC0415 - only once it is used

        self.sandbox: Sandbox = Sandbox(**settings)
        """The sandbox itself; what it awaits belongs to its own loop."""
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._ended_by: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="alphapo sandbox", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.sandbox.url

    @property
    def key(self) -> str:
        """The merchant's public key, made up."""
        return self.sandbox.key

    @property
    def secret(self) -> str:
        """Its secret, made up."""
        return self.sandbox.secret

    @property
    def ledger(self) -> Ledger:
        """Who was paid."""
        return self.sandbox.ledger

    @property
    def deliveries(self) -> list[Delivered]:
        """The callbacks that were delivered."""
        return self.sandbox.deliveries

    @property
    def environment(self) -> dict[str, str]:
        """What `AlphapoClient.from_env` and the command line read."""
        return {
            "ALPHAPO_BASE_URL": self.url,
            "ALPHAPO_KEY": self.key,
            "ALPHAPO_SECRET": self.secret,
            "ALPHAPO_JOURNAL": "memory",
        }

    def callback(self, foreign_id: str | int, status: str = "confirmed") -> tuple[dict[str, str], bytes]:
        """Return headers and body of AlphaPo's signed callback, for your handler: nothing is sent.

        Args:
            foreign_id: of a withdrawal that the sandbox has accepted.
            status: that the callback shows, such as `confirmed`, `cancelled` or `declined`; any other text as well.

        Raises:
            ValueError: nothing was accepted under this foreign_id.
        """
        return self.sandbox.callback(foreign_id, status)

    def client(self, **settings: Any) -> AlphapoClient:
        """Return a client of it, unopened, with a journal in memory unless `settings` name another."""
        from alphapo_async.client import AlphapoClient  # noqa: PLC0415 - only once it is used

        return AlphapoClient(self.key, self.secret, **{"base_url": self.url, "journal": "memory", **settings})

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(self, *_: object) -> None:
        loop, stopped = self._ready.result()
        with contextlib.suppress(RuntimeError):  # its loop has ended by itself, and is closed
            loop.call_soon_threadsafe(stopped.set)
        self._thread.join()
        if self._ended_by is not None:
            raise self._ended_by

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised where the caller waits
            if self._ready.done():
                self._ended_by = error
            else:
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        stopped = asyncio.Event()
        async with self.sandbox:
            self._ready.set_result((asyncio.get_running_loop(), stopped))
            await stopped.wait()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def alphapo_sandbox(request: pytest.FixtureRequest) -> Iterator[RunningSandbox]:
    """Yield a local AlphaPo, as the marker `alphapo_sandbox` wants it; it ends with the test."""
    marker = request.node.get_closest_marker("alphapo_sandbox")
    if marker is not None and marker.args:
        raise pytest.UsageError(
            f"The marker alphapo_sandbox takes its settings by name, not {marker.args[0]!r}. {_MARKER}"
        )
    settings = {} if marker is None else dict(marker.kwargs)
    _check_names(settings)
    with RunningSandbox(**settings) as running:
        yield running


def _check_names(settings: dict[str, Any]) -> None:
    from alphapo_async.sandbox import Sandbox  # noqa: PLC0415 - only once it is used

    try:
        inspect.signature(Sandbox).bind(**settings)
    except TypeError as error:
        raise pytest.UsageError(f"The marker alphapo_sandbox: {error}. {_MARKER}") from None
