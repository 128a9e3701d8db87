"""AlphaPo's rules and its state of the world: who paid what, what that leaves, and what became of it. Time is handed in.

The rules that are documented come from https://docs.alphapo.net/integration-guide/make-withdrawals (a foreign_id is used once),
https://docs.alphapo.net/withdrawals/statuses (the life of a withdrawal) and
https://docs.alphapo.net/api-reference/transactions/fetch-transaction-metadata (who sees what). Everything else asks the dialect.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from alphapo_async.sandbox import catalogue
from alphapo_async.sandbox.catalogue import EXACT
from alphapo_async.sandbox.checks import (
    Errors,
    ExchangeFields,
    WithdrawalFields,
    check_exchange,
    check_withdrawal,
    spell,
    text_of,
)
from alphapo_async.sandbox.dialects import Dialect, bucket, fold
from alphapo_async.sandbox.records import (
    FEE_SHARE,
    NO_MONEY,
    FinalState,
    SandboxWithdrawal,
    ending,
    figures,
    shown_id,
    txid,
)

__all__ = [
    "FIRST_ID",
    "NOT_ENOUGH",
    "QUOTES_A_MINUTE",
    "TAKEN",
    "Judgement",
    "MerchantState",
    "Original",
    "Refusal",
    "asked_by",
    "insufficient_refusal",
    "look_up_problem",
]

FIRST_ID = 100_000_001
"""The id of the first withdrawal unless set otherwise."""

RICH = Decimal(1_000_000_000)
"""What the merchant owns of every currency unless set otherwise."""

NOT_ENOUGH: Mapping[str, str] = MappingProxyType({"amount": "Not enough amount", "currency": "Invalid balance."})
"""The two texts of V1 for an insufficient balance (https://github.com/coinspaid/docs, v1.md); those of V2 are not published."""

TAKEN = "The foreign id has already been taken."
"""The text of the sibling endpoint V2 invoices/create (https://github.com/coinspaid/docs); none is published for withdrawals."""


class Refusal(msgspec.Struct, frozen=True):
    """A "no" that blames fields."""

    errors: Mapping[str, str]
    status: int
    is_reuse: bool = False


def insufficient_refusal() -> Refusal:
    """Return the refusal of a withdrawal beyond the balance, with V1's status (https://github.com/coinspaid/docs, v1.md)."""
    return Refusal(NOT_ENOUGH, _UNPAID)


class Original(msgspec.Struct, frozen=True):
    """A reused foreign_id, answered with the withdrawal that has it."""

    record: SandboxWithdrawal


Judgement: TypeAlias = SandboxWithdrawal | Refusal | Original
"""What the rules say to a body: accepted, refused, or had before."""

_INVALID = 400
_UNPAID = 422
QUOTES_A_MINUTE = 30
_MINUTE = 60.0


class MerchantState:
    """Everything AlphaPo knows of one merchant.

    Args:
        dialect: how it answers where the documents are silent; may be replaced at any time.
        balances: what the merchant owns; None: plenty of everything.
        settle_after: seconds from acceptance to the end of a withdrawal.
        first_id: AlphaPo's id of the first withdrawal; the next ones follow.
        minimums: the least amount of a withdrawal or conversion of these currencies; the others keep those of the catalogue.

    Raises:
        ValueError: there is no such currency.
    """

    def __init__(
        self,
        dialect: Dialect | None = None,
        *,
        balances: Mapping[str, Decimal | str | int] | None = None,
        settle_after: float = 1.0,
        first_id: int = FIRST_ID,
        minimums: Mapping[str, Decimal | str | int] | None = None,
    ) -> None:
        if unknown := [code for code in minimums or {} if not catalogue.is_known(code)]:
            raise ValueError(
                f"The local sandbox has no currency {unknown[0]!r}. It has: {', '.join(catalogue.VALUES)}."
            )
        self.minimums = {**catalogue.MINIMUMS, **{code: Decimal(least) for code, least in (minimums or {}).items()}}
        self._first_id = first_id
        self.dialect = dialect or Dialect()
        self.settle_after = settle_after
        self.records: list[SandboxWithdrawal] = []
        owned = dict.fromkeys(catalogue.VALUES, RICH) if balances is None else balances
        self._balances = {currency: Decimal(figure) for currency, figure in owned.items()}
        self._by_bucket: dict[str, list[SandboxWithdrawal]] = {}
        self._used_up: dict[str, set[str]] = {}
        self._refunds: list[tuple[float, int]] = []
        self._quoted: list[float] = []

    # ── withdrawals ──────────────────────────────────────────────────────────────────────────────────────────────────

    def withdraw(self, fields: Mapping[str, Any], key: str, now: float, ends: FinalState | None = None) -> Judgement:
        """Judge a body that was let in, and remember what follows from it.

        Args:
            fields: of the body.
            key: the merchant's, that signed it.
            now: the present moment.
            ends: how it ends at once if it is accepted; None: as its address determines, in its time.
        """
        self._refund(now)
        verdict = self.judge(fields, key, now)
        if ends is not None and isinstance(verdict, SandboxWithdrawal):
            verdict = msgspec.structs.replace(verdict, ending=ends, settles_at=now)
        if isinstance(verdict, SandboxWithdrawal):
            self._remember(verdict)
        elif isinstance(verdict, Refusal) and self.dialect.failed_uses_up:
            foreign_id = spell(fields.get("foreign_id"))
            self._used_up.setdefault(bucket(foreign_id), set()).add(foreign_id)
        return verdict

    def judge(self, fields: Mapping[str, Any], key: str, now: float) -> Judgement:
        """Return what the rules say to a body, without remembering it."""
        asked = check_withdrawal(
            fields,
            strings_only=self.dialect.foreign_id_form == "string only",
            needs_reference=self.dialect.end_user_reference == "required",
            minimums=self.minimums,
        )
        first = self.dialect.reused_order == "before"
        if first and (reuse := self._reuse(fields, asked, now)):
            return reuse
        if not isinstance(asked, WithdrawalFields):
            return Refusal(asked, _INVALID)
        record = self._book(asked, key, now)
        if record is None:
            return insufficient_refusal()
        return (None if first else self._reuse(fields, asked, now)) or record

    def _reuse(
        self, fields: Mapping[str, Any], asked: WithdrawalFields | Errors, now: float
    ) -> Refusal | Original | None:
        foreign_id = spell(fields.get("foreign_id"))
        # A foreign_id that is wrong by its form is blamed for its form.
        if not isinstance(asked, WithdrawalFields) and "foreign_id" in asked:
            return None
        holder = self._holder(foreign_id, now)
        if holder is None and not self._is_used_up(foreign_id):
            return None
        if holder is not None and self.dialect.reused_answer == "original":
            return Original(holder)
        company: Mapping[str, str] = {}
        if self.dialect.reused_company == "with others":
            company = NOT_ENOUGH if isinstance(asked, WithdrawalFields) else asked
        return Refusal({"foreign_id": TAKEN, **company}, self.dialect.reused_status, is_reuse=True)

    def _holder(self, foreign_id: str, now: float) -> SandboxWithdrawal | None:
        """Return the withdrawal that has this foreign_id, under any key of the merchant."""
        for record in reversed(self.named(foreign_id)):
            unseen = self.dialect.race == "broken" and now - record.at <= self.dialect.race_window
            freed = self.dialect.cancelled_frees and now >= record.settles_at and not record.ending.moves_money
            if not unseen and not freed:
                return record
        return None

    def _is_used_up(self, foreign_id: str) -> bool:
        folded = fold(foreign_id, self.dialect)
        return any(fold(used, self.dialect) == folded for used in self._used_up.get(bucket(foreign_id), ()))

    def named(self, foreign_id: str) -> list[SandboxWithdrawal]:
        """Return what was accepted under a foreign_id, oldest first, compared as the dialect compares."""
        folded = fold(foreign_id, self.dialect)
        near = self._by_bucket.get(bucket(foreign_id), ())
        return [record for record in near if fold(spell(record.asked.foreign_id), self.dialect) == folded]

    def _book(self, asked: WithdrawalFields, key: str, now: float) -> SandboxWithdrawal | None:
        """Return the record of an acceptance, or None where the balance does not allow it."""
        sent, received = figures(asked)
        outside = self.dialect.fees == "outside"
        debit = EXACT.add(sent, EXACT.multiply(sent, FEE_SHARE)) if outside else sent
        becomes = ending(asked.address)
        if debit > self._balances.get(asked.currency, 0):
            if self.dialect.insufficient == "refused":
                return None
            debit, becomes = Decimal(0), NO_MONEY
        return SandboxWithdrawal(
            id=self._first_id + len(self.records),
            asked=asked,
            key=key,
            at=now,
            settles_at=now + self.settle_after,
            ending=becomes,
            sent=sent,
            received=received,
            debit=debit,
        )

    def _remember(self, record: SandboxWithdrawal) -> None:
        currency = record.asked.currency
        if record.debit:
            self._balances[currency] = EXACT.subtract(self._balances[currency], record.debit)
        if not record.ending.moves_money:
            heapq.heappush(self._refunds, (record.settles_at, record.id))
        self.records.append(record)
        self._by_bucket.setdefault(bucket(spell(record.asked.foreign_id)), []).append(record)

    def _refund(self, now: float) -> None:
        """Give back what was taken for withdrawals that have ended without moving money by now."""
        while self._refunds and self._refunds[0][0] <= now:
            record = self.records[heapq.heappop(self._refunds)[1] - self._first_id]
            currency = record.asked.currency
            self._balances[currency] = EXACT.add(self._balances.get(currency, Decimal(0)), record.debit)

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def balances(self, now: float) -> dict[str, Decimal]:
        """Return what the merchant owns at a moment."""
        self._refund(now)
        return dict(self._balances)

    def quote(self, fields: Mapping[str, Any], now: float) -> tuple[ExchangeFields, Decimal, Decimal] | Errors | None:
        """Return a conversion with what is sent and what is received, or what is wrong with it; None beyond the documented limit.

        30 questions a minute, then a break of one minute (https://docs.alphapo.net/api-reference/exchange/calculate-the-exchange-rate).
        """
        self._quoted = [at for at in self._quoted if now - at < _MINUTE][-QUOTES_A_MINUTE:]
        if len(self._quoted) == QUOTES_A_MINUTE:
            return None
        self._quoted.append(now)
        asked = check_exchange(fields, self.minimums)
        if not isinstance(asked, ExchangeFields):
            return asked
        sender, receiver = asked.sender_currency, asked.receiver_currency
        if asked.sender_amount is not None:
            return asked, asked.sender_amount, catalogue.convert(asked.sender_amount, sender, receiver)
        received = asked.receiver_amount or Decimal(0)
        return asked, catalogue.units_needed(received, receiver, sender), received

    def look_up(self, fields: Mapping[str, Any], key: str, now: float) -> SandboxWithdrawal | None:
        """Return the withdrawal a look-up names, if this key may see it yet.

        Only the key that made a withdrawal sees it:
        https://docs.alphapo.net/api-reference/transactions/fetch-transaction-metadata.
        """
        seen = [record for record in self._candidates(fields) if record.key == key and self._is_visible(record, now)]
        return seen[-1] if seen else None

    def _candidates(self, fields: Mapping[str, Any]) -> list[SandboxWithdrawal]:
        name = asked_by(fields)
        if name == "foreign_id":
            return self.named(spell(fields[name]))
        if name == "txid":
            return [record for record in self.records if txid(record) == fields[name]]
        number = text_of(fields.get("id"))
        return [record for record in self.records if number in (str(record.id), str(shown_id(record, self.dialect)))]

    def _is_visible(self, record: SandboxWithdrawal, now: float) -> bool:
        if self.dialect.visibility == "delayed":
            return now - record.at >= self.dialect.visibility_delay
        return self.dialect.visibility == "at once"


_NAMES = ("foreign_id", "txid", "id")


def asked_by(fields: Mapping[str, Any]) -> str:
    """Return which of its three names a look-up names a withdrawal by."""
    return next((name for name in _NAMES if fields.get(name) is not None), "id")


def look_up_problem(fields: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return status and text for a look-up that does not name exactly one of id, foreign_id and txid.

    Source of the texts: https://docs.cryptoprocessing.com/api-documentation/transactions; their bodies are not published.
    """
    named = sum(fields.get(name) is not None for name in _NAMES)
    if named == 0:
        return 400, "No parameters present"
    return (404, "Validation Exception: more than one param is present") if named > 1 else None
