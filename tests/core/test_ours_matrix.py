"""Every status, with and without a conversion, in every dialect, for a row that is accepted, in doubt or lost, from every source.

AlphaPo's side is the local sandbox: what its rules accepted, written as a reply, a look-up and a callback. All three must lead to the same
state of the row, and to the right one; or leave an open row open where too little is given to know the withdrawal by.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from msgspec.structs import replace

from alphapo_async.core.callbacks import read_callback
from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import Attempt, CalledBack, LookedUp, Requested, Revision
from alphapo_async.core.models import ENDED, WithdrawalRequest, has_conversion
from alphapo_async.core.replies import Duplicate, Found, InDoubt, Reply, judge_look_up, judge_reply
from alphapo_async.core.row import Row, is_ended
from alphapo_async.core.signer import Signer
from alphapo_async.core.transitions import apply, new_row
from alphapo_async.sandbox import answers
from alphapo_async.sandbox.dialects import DIALECT_CHOICES, Dialect, covering_dialects
from alphapo_async.sandbox.records import FinalState, SandboxWithdrawal
from alphapo_async.sandbox.rules import MerchantState

SIGNER: Final = Signer("matrix-key", "matrix-secret")
PAYMENTS: Final[dict[str, dict[str, Any]]] = {
    "plain": {"currency": "BTC", "amount": "0.001500011"},
    "tagged": {"currency": "XRP", "amount": "25.1", "tag": "77"},
    "sold": {"currency": "EUR", "amount": "381.07", "convert_to": "BTC"},
    "bought": {"currency": "EUR", "amount_to": "0.10882301", "convert_to": "BTC"},
}
STATUSES: Final = ("processing", "pending", "confirmed", "cancelled", "declined")
ROWS: Final = ("accepted", "in doubt", "lost")
SOURCES: Final = ("reply", "look-up", "callback")

SHOWING: Final = (
    "success_status",
    "foreign_id_form",
    "figures",
    "byte_order_mark",
    "sides",
    "parts",
    "entries",
    "ids",
    "receiver_amount",
    "end_user_reference",
    "tag",
    "fees",
    "places",
    "address_form",
    "over_limit_status",
)
"""The questions whose answers change how a withdrawal is shown."""
SINGLE: Final = [msgspec.convert({name: value}, Dialect) for name in SHOWING for value in DIALECT_CHOICES[name]]
FIGURES: Final = [
    msgspec.convert(dict(zip(("sides", "parts", "fees"), values, strict=True)), Dialect)
    for values in product(*(DIALECT_CHOICES[name] for name in ("sides", "parts", "fees")))
]
DIALECTS: Final = {"alone": SINGLE, "in pairs": covering_dialects(11), "figures": FIGURES}


class Case(NamedTuple):
    """One withdrawal, as AlphaPo has it and as a row knows it."""

    request: WithdrawalRequest
    record: SandboxWithdrawal
    dialect: Dialect
    status: str

    def row(self, known: str) -> Row:
        """Return the row before the source is heard."""
        payment = self.request
        asked = Requested("worker", Revision(encode_body(payment, "string"), payment), "key")
        new = new_row("account", payment.foreign_id, asked, 0.0, is_durable=True)
        if known == "lost":  # the journal is new, and AlphaPo has the foreign_id
            return apply(new, Attempt("worker", Duplicate({"foreign_id": ["taken"]}), 1.0, 1.0), 1.0)
        doubted = apply(new, Attempt("worker", InDoubt("connection lost"), 1.0, 1.0), 1.0)
        return doubted if known == "in doubt" else self.hear(new, "reply", "processing")

    def hear(self, row: Row, source: str, status: str) -> Row:
        """Return the row after AlphaPo has shown the withdrawal in a status."""
        first = "pending" if status == "pending" else "processing"
        ending = FinalState(first, status if status in ENDED else "confirmed", "")  # type: ignore[arg-type]
        now = 0.0 if status in ("pending", "processing") else 9.0
        record, dialect = replace(self.record, ending=ending), self.dialect
        if source == "reply":
            reply = answers.accepted(record, dialect, now)
            proof = judge_reply(Reply(reply.status, reply.body, reply.content_type), self.request, 2.0)
            return apply(row, Attempt("worker", proof, 2.0, 2.0), 2.0)
        if source == "look-up":
            shown = answers.shown(record, dialect, now)
            answer = judge_look_up(Reply(shown.status, shown.body, shown.content_type), 2.0)
            assert isinstance(answer, Found)
            return apply(row, LookedUp("worker", answer), 2.0)
        body = answers.encode(answers.transaction(record, dialect, status), dialect)
        return apply(row, CalledBack(read_callback(SIGNER.headers(body), body, [SIGNER])), 2.0)


def case(payment: str, dialect: Dialect, status: str) -> Case:
    """Return a withdrawal that AlphaPo has accepted."""
    fields = {"address": "bc1qMadeUp", "foreign_id": "payout-17", "end_user_reference": "user-42"} | PAYMENTS[payment]
    request = WithdrawalRequest(**fields)
    record = MerchantState(dialect, settle_after=5.0).withdraw(fields, SIGNER.key, 0.0)
    assert isinstance(record, SandboxWithdrawal)
    return Case(request, record, dialect, status)


def differs(one: Case, source: str) -> set[str]:
    """Return the fields that AlphaPo shows otherwise than they were requested, by the dialect's own words."""
    dialect, request = one.dialect, one.request
    if source == "reply":
        return set()
    fields = set()
    if dialect.address_form == "other form":
        fields.add("address")
    if (dialect.tag == "0" and not request.tag) or (dialect.tag == "null" and request.tag):
        fields.add("tag")
    has_sides = one.status in answers.WITH_SIDES[dialect.sides]
    is_paid_out = dialect.parts in ("blockchain", "internal")
    is_sold = has_conversion(request) and request.amount is not None
    if has_sides and dialect.fees == "unnamed" and request.amount is not None:
        # The fee is excused by the exchange of a conversion, and by what was paid out of anything else.
        is_excused = dialect.parts != "none" if is_sold else is_paid_out
        fields |= set() if is_excused else {"amount"}
    is_unlisted = has_sides and one.status not in ("processing", "confirmed")
    if is_unlisted and ((dialect.fees == "outside") if request.amount is not None else (dialect.fees == "inside")):
        fields.add("amount")
    return fields


def gives_figures(one: Case) -> bool:
    """Return whether a look-up or a callback gives our side's figure in any place."""
    dialect, request = one.dialect, one.request
    if one.status in answers.WITH_SIDES[dialect.sides]:
        return True
    if has_conversion(request) and dialect.parts != "none":
        return True
    is_ours = request.amount is None or not has_conversion(request)
    return is_ours and dialect.parts in ("blockchain", "internal")


def right_state(one: Case, known: str, source: str) -> str:
    """Return the state that the row must be in afterwards."""
    truth = "failed" if one.status in ENDED else "accepted"
    if known == "in doubt" and one.status in ENDED and source != "look-up" and not differs(one, source):
        return "open"  # two attempts may have arrived: both were sent, or the holder may be sending the second
    if source == "reply":
        return truth
    if known == "accepted":
        # The end of a withdrawal with another id says nothing about the one that the reply gave.
        return "accepted" if one.dialect.ids == "apart" else truth
    different = differs(one, source)
    if len(different) > 1 and known == "lost" and source == "look-up":
        return "conflict"  # the row's holder asked, and two fields disagree
    if different:
        return "open"
    has_tag = one.dialect.tag != "missing" or not one.request.tag
    is_enough = known == "in doubt" or (gives_figures(one) and has_tag)
    return truth if is_enough else "open"


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("payment", PAYMENTS)
@pytest.mark.parametrize("group", DIALECTS)
def test_every_source_leads_to_the_same_state_and_the_right_one(group: str, payment: str, status: str) -> None:
    """Whatever the dialect: never another outcome from another source, and no "no" that is none."""
    for dialect in DIALECTS[group]:
        one = case(payment, dialect, status)
        for known in ROWS:
            before = one.row(known)
            after = {source: one.hear(before, source, status) for source in SOURCES}
            expected = {source: right_state(one, known, source) for source in SOURCES}
            assert {source: row.state for source, row in after.items()} == expected, (known, dialect)
            for source, row in after.items():
                check_row(one, known, source, row)


def check_row(one: Case, known: str, source: str, row: Row) -> None:
    """What the row says besides its state fits the state."""
    is_another = known == "accepted" and source != "reply" and one.dialect.ids == "apart"
    assert row.contradiction == (f"a {source} shows another id, {one.record.id + 250_000_000}" if is_another else None)
    if is_ended(row):
        assert row.withdrawal is not None
        assert (row.look_ups_only, row.withdrawal.status) == (True, one.status)
        return
    if row.state in ("open", "conflict"):
        assert {difference.field for difference in row.differences} == differs(one, source)
        assert (row.look_ups_only, row.transaction is not None) == (True, True)
        return
    assert row.withdrawal is not None
    if not is_another:
        assert row.withdrawal.source == ("reply" if known == "accepted" else source)
        # A look-up and a callback write `processing` as `not_confirmed`; a reply may hide that a person has to approve.
        assert row.withdrawal.status in {one.status, "not_confirmed"} or (source, one.status) == ("reply", "pending")
    is_known = known == "accepted" and not is_another
    assert {difference.field for difference in row.differences} == (differs(one, source) if is_known else set())
    if not has_conversion(one.request):
        assert row.withdrawal.amount is not None
        assert float(row.withdrawal.amount) == pytest.approx(float(one.request.amount or 0), abs=1e-8)
