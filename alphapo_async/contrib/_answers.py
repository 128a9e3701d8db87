"""The answers to AlphaPo's callbacks. AlphaPo sends a callback again until it is answered with 200."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeAlias

from alphapo_async.client import AlphapoClient
from alphapo_async.core.callbacks import Callback, Headers
from alphapo_async.core.errors import CallbackBusy, CallbackError, ConfigurationError, JournalError
from alphapo_async.settings import check_hook

__all__ = ["Client", "Handler", "answer", "check_arguments", "client_of"]

logger = logging.getLogger("alphapo_async")

Handler: TypeAlias = Callable[[Callback], Awaitable[object]]
"""Called with every callback that is new."""
Client: TypeAlias = AlphapoClient | Callable[[], AlphapoClient]
"""A client, or a function that returns one, for what is made only when the application starts."""


def check_arguments(client: Client, handler: Handler) -> None:
    """Pass if callbacks can be taken with these: an ordinary function as handler would do its work, fail, and be called again each time.

    Raises:
        ConfigurationError: the handler is no coroutine function that takes a callback, or the client is none and returns none.
    """
    check_hook("handler", handler, is_async=True, arguments=1)
    if not isinstance(client, AlphapoClient):
        check_hook("client", client, is_async=False, arguments=0)


def client_of(client: Client) -> AlphapoClient:
    """Return the client."""
    return client if isinstance(client, AlphapoClient) else client()


async def answer(client: Client, handler: Handler, headers: Headers, body: bytes) -> HTTPStatus:
    """Take one delivery, have it handled if it is new, and return the status to answer with.

    - 200: it is in the journal, and the handler returned; or it was handled before. A contradiction, too: sending it again cannot help.
    - 400: signed, and unreadable.
    - 403: not AlphaPo's. The sender does not learn why.
    - 413: too large.
    - 500: the handler raised; it is called again with the next delivery.
    - 503: another delivery is being handled, the journal cannot be used, or the client is closed.
    """
    try:
        async with client_of(client).receive_callback(headers, body) as callback:
            if callback.is_new:
                await _handle(handler, callback)
    except CallbackError as error:
        return _of_refusal(error)
    except (CallbackBusy, JournalError, ConfigurationError) as error:
        logger.warning("callback not taken: %s", error, extra={"foreign_id": None})  # not known, or not vouched for
        return HTTPStatus.SERVICE_UNAVAILABLE
    except _NotHandled:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return HTTPStatus.OK


_RAISED = "the handler of callback %s, %s raised"


class _NotHandled(Exception):
    """The handler raised."""


async def _handle(handler: Handler, callback: Callback) -> None:
    transaction = callback.transaction
    try:
        await handler(callback)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled the request: it is the handler's own.
        logger.exception(_RAISED, transaction.id, transaction.status, extra={"foreign_id": transaction.foreign_id})
        raise _NotHandled from None
    except Exception:
        logger.exception(_RAISED, transaction.id, transaction.status, extra={"foreign_id": transaction.foreign_id})
        raise _NotHandled from None


def _of_refusal(error: CallbackError) -> HTTPStatus:
    logger.warning("callback refused: %s", error, extra={"foreign_id": None})  # unsigned: its content proves nothing
    if error.is_forged:
        return HTTPStatus.FORBIDDEN
    is_large = error.reason == "too large"
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if is_large else HTTPStatus.BAD_REQUEST
