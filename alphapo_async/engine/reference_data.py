"""Questions to AlphaPo that are about no withdrawal: is it reachable, what is on the balances, what can be paid, at what rate."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, TypeGuard

from alphapo_async.core.codec import read_balances
from alphapo_async.core.errors import AlphapoUnavailable, ConfigurationError
from alphapo_async.core.reference_data import (
    Currency,
    Quote,
    QuoteRequest,
    read_currencies,
    read_minimum_exchanges,
    read_quote,
    refusal_of,
)
from alphapo_async.core.replies import NoReply, Reply, why_unanswered
from alphapo_async.engine.context import ACCOUNTS, ClientContext
from alphapo_async.engine.questions import Questions, unavailable

__all__ = ["ReferenceData"]

_CURRENCIES: Final = "/api/v2/currencies/list"
_RATES: Final = "/api/v2/currencies/rates"
_QUOTE: Final = "/api/v2/exchange/calculate"
_OK: Final = 200
_INVALID: Final = frozenset({400, 422})


class ReferenceData:
    """Asks AlphaPo.

    Args:
        context: key, amount format and clock.
        questions: sends the questions.
    """

    def __init__(self, context: ClientContext, questions: Questions) -> None:
        self._context = context
        self._questions = questions

    async def ping(self) -> None:
        """Return if AlphaPo is reachable.

        Raises:
            AlphapoUnavailable: it is not.
        """
        reply = await self._questions.send_plain("GET", "/api/v2/ping", None, {})
        if not isinstance(reply, Reply) or reply.status != _OK:
            raise self._unavailable("the ping", reply)

    async def balances(self) -> dict[str, Decimal]:
        """Return the balance of every currency.

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer.
        """
        reply = await self._ask(ACCOUNTS)
        balances = read_balances(reply.body) if _is_ok(reply) else None
        if balances is None:
            raise self._unavailable("the balances", reply)
        return balances

    async def currencies(self) -> dict[str, Currency]:
        """Return every currency, and with it the minimum of its conversions where `/currencies/rates` has a usable answer.

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer to `/currencies/list`.
        """
        listed = await self._ask(_CURRENCIES)
        if not _is_ok(listed) or read_currencies(listed.body) is None:
            raise self._unavailable("the currencies", listed)
        rates = await self._ask(_RATES)
        minimums = read_minimum_exchanges(rates.body) if _is_ok(rates) else None
        return read_currencies(listed.body, minimums) or {}

    async def quote(self, asked: QuoteRequest) -> Quote:
        """Return a quote. Its 429 is about this question alone, and holds no withdrawal back.

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer.
            ConfigurationError: AlphaPo refuses the question: it has no such pair, or the amount is too small.
        """
        reply = await self._ask(_QUOTE, asked.encode(self._context.amount_format), is_throttled_apart=True)
        if isinstance(reply, Reply) and reply.status in _INVALID and (words := refusal_of(reply.body)) is not None:
            raise ConfigurationError(
                f"AlphaPo gives no quote from {asked.currency} to {asked.convert_to}: {words.rstrip('.')}. "
                "`alphapo currencies` and `client.currencies()` have the codes and minimums. No money moved."
            )
        quote = read_quote(reply.body, asked) if _is_ok(reply) else None
        if quote is None:
            raise self._unavailable("the question for a quote", reply)
        return quote

    async def _ask(self, path: str, body: bytes = b"{}", **how: Any) -> Reply | NoReply:
        return await self._questions.send_plain("POST", path, body, self._context.signer.headers(body), **how)

    def _unavailable(self, what: str, reply: Reply | NoReply) -> AlphapoUnavailable:
        return unavailable(what, why_unanswered(reply, self._context.now()))


def _is_ok(reply: Reply | NoReply) -> TypeGuard[Reply]:
    return isinstance(reply, Reply) and reply.status == _OK
