"""What AlphaPo is answered."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.contrib import aiohttp_web, asgi
from alphapo_async.contrib._answers import answer, check_arguments
from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.journal import MemoryJournal
from tests.support.deliveries import BODY, DELIVERIES, KEYS, Handling, client, late


async def test_each_delivery_has_its_answer_and_each_new_callback_its_handler() -> None:
    """200 only for what was handled; a forgery learns nothing."""
    handling = Handling()
    async with client() as alphapo:
        check_arguments(alphapo, handling)
        for headers, body, status in DELIVERIES:
            assert await answer(late(alphapo), handling, headers, body) == status
    assert handling.seen == [(7, "confirmed"), (8, "confirmed")]


async def test_a_handler_that_raises_is_called_again(caplog: pytest.LogCaptureFixture) -> None:
    """500, told in the log without body and signature; the next delivery is new."""
    handling = Handling(fails=2)
    async with client() as alphapo:
        result = [await answer(alphapo, handling, KEYS.headers(BODY), BODY) for _ in range(4)]
    assert result == [500, 500, 200, 200]
    assert len(handling.seen) == 3
    assert "the books are closed" in caplog.text
    assert [record.__dict__["foreign_id"] for record in caplog.records if record.exc_info] == ["payout-17"] * 2
    assert KEYS.sign(BODY) not in caplog.text


async def test_sixty_four_at_once_call_the_handler_once() -> None:
    """All of them are answered with 200."""
    handling = Handling()
    async with client() as alphapo:
        result = await asyncio.gather(*(answer(alphapo, handling, KEYS.headers(BODY), BODY) for _ in range(64)))
    assert set(result) == {200}
    assert len(handling.seen) == 1


class Broken(MemoryJournal):
    """A journal that keeps nothing any more."""

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Fail."""
        raise JournalError("it is gone.")


async def test_what_cannot_be_taken_now_is_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    """503 while the journal fails, and once the client is closed."""
    caplog.set_level(logging.WARNING)
    handling = Handling()
    async with AlphapoClient(KEYS.key, "s", base_url="http://127.0.0.1:9", journal=Broken()) as alphapo:
        headers = {"X-Processing-Key": KEYS.key}
        assert await answer(alphapo, handling, headers, BODY) == 403
    broken = AlphapoClient(KEYS.key, "made-up-secret", base_url="http://127.0.0.1:9", journal=Broken())
    async with broken:
        assert await answer(broken, handling, KEYS.headers(BODY), BODY) == 503
    assert await answer(broken, handling, KEYS.headers(BODY), BODY) == 503
    assert handling.seen == []


async def test_a_cancelled_delivery_is_new_again() -> None:
    """The server may cancel a request whose sender has left."""
    handling = Handling()
    async with client() as alphapo:
        leaving = asyncio.ensure_future(answer(alphapo, handling, KEYS.headers(BODY), BODY))
        await asyncio.sleep(0.005)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await answer(alphapo, handling, KEYS.headers(BODY), BODY) == 200
    assert handling.seen == [(7, "confirmed")]


async def test_a_handler_that_was_cancelled_by_itself_is_called_again() -> None:
    """Nobody cancelled the request: 500, not silence."""

    async def gives_up(_: object) -> None:
        raise asyncio.CancelledError

    async with client() as alphapo:
        assert await answer(alphapo, gives_up, KEYS.headers(BODY), BODY) == 500
        assert await answer(alphapo, Handling(), KEYS.headers(BODY), BODY) == 200


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ((lambda: None, print), "handler must be a coroutine function"),
        ((5, Handling()), "client must be an ordinary function (def) that takes no argument, not int."),
        (
            (Handling(), Handling()),
            "client must be an ordinary function (def) that takes no argument; this is a coroutine",
        ),
    ],
)
def test_what_cannot_take_callbacks_is_refused_at_once(hooks: Any, words: str) -> None:
    """By both mounts, where they are made: an ordinary function would be called at every delivery, and fail after its work."""
    for take in (asgi.callbacks, aiohttp_web.callbacks, check_arguments):
        with pytest.raises(ConfigurationError, match=re.escape(words)):
            take(*hooks)
