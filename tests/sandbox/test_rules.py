"""AlphaPo's rules: balances, uniqueness, who sees what, and the life of a withdrawal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.records import CANCELLED, MAGIC_CANCELLED, SandboxWithdrawal
from alphapo_async.sandbox.rules import (
    FIRST_ID,
    NOT_ENOUGH,
    QUOTES_A_MINUTE,
    TAKEN,
    MerchantState,
    Original,
    Refusal,
    asked_by,
    look_up_problem,
)
from tests.support.questions import SIGNER, accepted, fields


def post(
    state: MerchantState, now: float = 0.0, key: str = "sandbox-key", **changes: Any
) -> SandboxWithdrawal | Refusal | Original:
    """Let a world judge a withdrawal."""
    return state.withdraw(fields(**changes), key, now)


def test_an_accepted_withdrawal_is_debited_and_kept() -> None:
    """The balance goes down by the amount, to the last decimal."""
    state = MerchantState(balances={"BTC": "1"})
    record = accepted(state, 5.0, amount="0.000001000000000000000000000001")
    assert state.records == [record]
    assert state.balances(5.0) == {"BTC": Decimal("0.999998999999999999999999999999")}
    assert (record.at, record.settles_at, record.key) == (5.0, 6.0, "sandbox-key")


def test_what_is_to_end_at_once_does() -> None:
    """As soon as it is accepted; what is refused is refused all the same."""
    state = MerchantState(balances={"BTC": "1"})
    ended = state.withdraw(fields(), "sandbox-key", 5.0, CANCELLED)
    assert isinstance(ended, SandboxWithdrawal)
    assert ended.status(5.0) == "cancelled"
    assert state.balances(5.0) == {"BTC": 1}
    assert isinstance(state.withdraw(fields(), "sandbox-key", 5.0, CANCELLED), Refusal)


def test_ids_follow_from_the_first() -> None:
    """From the same one unless told otherwise, so that what is seeded stays the same; refunds find their withdrawals."""
    for state, first in (
        (MerchantState(balances={"BTC": 1}), FIRST_ID),
        (MerchantState(balances={"BTC": 1}, first_id=7), 7),
    ):
        for name in ("a", "b"):
            accepted(state, foreign_id=name, amount="0.5", address=MAGIC_CANCELLED)
        assert [record.id for record in state.records] == [first, first + 1]
        assert state.balances(2.0)["BTC"] == 1


def test_a_foreign_id_is_used_once() -> None:
    """The second withdrawal is refused whatever it says, whichever key of the merchant signs, for ever."""
    state = MerchantState()
    accepted(state)
    for again in (post(state, 9e9), post(state, key="other-key"), post(state, amount="7", address="x")):
        assert again == Refusal({"foreign_id": TAKEN}, 400, is_reuse=True)
    assert len(state.records) == 1


@pytest.mark.parametrize(
    ("form", "again", "is_reuse"),
    [
        ("kept", "PAYOUT-17", False),
        ("kept", " payout-17", False),
        ("trimmed", " payout-17 ", True),
        ("trimmed", "PAYOUT-17", False),
        ("caseless", "PAYOUT-17", True),
    ],
)
def test_sameness_is_the_dialects(
    form: Literal["kept", "trimmed", "caseless"],
    again: str,
    is_reuse: bool,  # noqa: FBT001
) -> None:
    """What counts as the same foreign_id is one of the open questions."""
    state = MerchantState(Dialect(foreign_id_form=form))
    accepted(state)
    assert isinstance(post(state, foreign_id=again), Refusal) is is_reuse


def test_a_number_and_its_text_are_the_same_foreign_id() -> None:
    """5 and "5" are one; where only strings are allowed, 5 is none."""
    state = MerchantState()
    accepted(state, foreign_id=5)
    assert isinstance(post(state, foreign_id="5"), Refusal)
    strict = MerchantState(Dialect(foreign_id_form="string only"))
    assert post(strict, foreign_id=5) == Refusal({"foreign_id": "The foreign id must be a string."}, 400)
    accepted(strict, foreign_id="5")


def test_reuse_before_or_after_the_other_checks() -> None:
    """The order decides what a body hears that is wrong and reused at once."""
    for order, look_ups_only in (("before", {"foreign_id"}), ("after", {"currency"})):
        state = MerchantState(Dialect(reused_order=order))  # type: ignore[arg-type]
        accepted(state)
        refusal = post(state, currency="what")
        assert isinstance(refusal, Refusal)
        assert set(refusal.errors) == look_ups_only


def test_the_balance_may_hide_a_reuse() -> None:
    """Checked after the balance, the same bytes hear "not enough" although their withdrawal was accepted."""
    state = MerchantState(Dialect(reused_order="after"), balances={"BTC": 1})
    accepted(state, amount=1)
    assert post(state, amount=1) == Refusal(NOT_ENOUGH, 422)
    assert post(state, amount=1, foreign_id=None) == Refusal({"foreign_id": "The foreign id field is required."}, 400)


def test_reuse_after_the_other_checks_is_refused_too() -> None:
    """A valid body with a used foreign_id is refused in either order."""
    state = MerchantState(Dialect(reused_order="after", reused_status=409))
    accepted(state)
    assert post(state) == Refusal({"foreign_id": TAKEN}, 409, is_reuse=True)


def test_reuse_in_company() -> None:
    """A reused foreign_id may be blamed beside other fields, wrong or not."""
    state = MerchantState(Dialect(reused_company="with others"))
    accepted(state)
    assert post(state) == Refusal({"foreign_id": TAKEN, **NOT_ENOUGH}, 400, is_reuse=True)
    assert post(state, currency="what") == Refusal(
        {"foreign_id": TAKEN, "currency": "The selected currency is invalid."}, 400, is_reuse=True
    )


def test_reuse_may_be_answered_with_the_original() -> None:
    """The first withdrawal is told again, and nothing is paid."""
    state = MerchantState(Dialect(reused_answer="original"))
    record = accepted(state)
    assert post(state, amount="7") == Original(record)
    assert len(state.records) == 1


def test_a_wrong_form_is_blamed_for_its_form() -> None:
    """A missing foreign_id was never taken."""
    state = MerchantState()
    assert post(state, foreign_id=None) == Refusal({"foreign_id": "The foreign id field is required."}, 400)


@pytest.mark.parametrize("answer", ["refused", "original"])
def test_a_refused_request_may_use_its_foreign_id_up(answer: Literal["refused", "original"]) -> None:
    """Then the corrected body hears "taken", although nothing was ever accepted."""
    state = MerchantState(Dialect(failed_uses_up=True, reused_answer=answer, foreign_id_form="caseless"))
    assert post(state, currency="what") == Refusal({"currency": "The selected currency is invalid."}, 400)
    assert post(state, foreign_id="PAYOUT-17") == Refusal({"foreign_id": TAKEN}, 400, is_reuse=True)
    assert not state.records
    kind = MerchantState()
    post(kind, currency="what")
    accepted(kind)


@pytest.mark.parametrize("address", ["12345", "decline-1"])
def test_an_end_without_payment_gives_the_money_back(address: str) -> None:
    """Cancelled and declined withdrawals are refunded when they end, and free their foreign_id in one dialect only."""
    state = MerchantState(balances={"BTC": 3}, settle_after=1.0)
    accepted(state, address=address, amount=1)
    accepted(state, address=address, amount=1, foreign_id="second")
    assert state.balances(0.5) == {"BTC": Decimal(1)}
    assert state.balances(1.0) == {"BTC": Decimal(3)}
    assert isinstance(post(state, 2.0), Refusal)
    state.dialect = Dialect(cancelled_frees=True)
    assert isinstance(post(state, 0.5), Refusal)
    again = accepted(state, 2.0, amount=1)
    assert state.look_up({"foreign_id": "payout-17"}, "sandbox-key", 2.0) == again


def test_insufficient_balance_is_refused_or_cancelled_later() -> None:
    """Either "no" at once, or a withdrawal that takes nothing and ends cancelled."""
    state = MerchantState(balances={})
    assert post(state) == Refusal(NOT_ENOUGH, 422)
    state.dialect = Dialect(insufficient="cancelled later")
    record = accepted(state)
    assert record.ending.error == "Not enough money on balance"
    assert (record.status(0.0), record.status(1.0)) == ("processing", "cancelled")
    assert state.balances(9.0) == {"BTC": Decimal(0)}


def test_a_fee_on_top_is_debited() -> None:
    """Outside fees are paid by the sender; inside ones by the receiver."""
    for fees, left in (("outside", "0.899900"), ("inside", "0.9"), ("none", "0.9")):
        state = MerchantState(Dialect(fees=fees), balances={"BTC": 1})  # type: ignore[arg-type]
        accepted(state, amount="0.1")
        assert state.balances(0.0)["BTC"] == Decimal(left)


def test_a_broken_race_accepts_twice() -> None:
    """Broken on purpose: two at once are both accepted, the third a little later is not."""
    state = MerchantState(Dialect(race="broken"))
    accepted(state, 0.0)
    accepted(state, 0.01)
    assert isinstance(post(state, 1.0), Refusal)


def test_a_look_up_finds_by_each_name() -> None:
    """foreign_id, id and txid all lead to the withdrawal."""
    state = MerchantState()
    record, second = accepted(state), accepted(state, foreign_id=5)
    for name in ({"foreign_id": "payout-17"}, {"id": record.id}, {"id": str(record.id)}, {"txid": f"{record.id:064x}"}):
        assert state.look_up(name, "sandbox-key", 0.0) == record
    assert state.look_up({"foreign_id": 5, "id": None}, "sandbox-key", 0.0) == second
    nothings: list[dict[str, Any]] = [{"foreign_id": "x"}, {"id": 1}, {"txid": "x"}, {"id": []}, {}]
    for nothing in nothings:
        assert state.look_up(nothing, "sandbox-key", 0.0) is None


def test_only_its_own_key_sees_a_withdrawal() -> None:
    """Another key of the same merchant is told "none"."""
    state = MerchantState()
    accepted(state, key="other-key")
    assert state.look_up({"foreign_id": "payout-17"}, "sandbox-key", 0.0) is None
    assert state.look_up({"foreign_id": "payout-17"}, "other-key", 0.0) is not None


def test_a_withdrawal_may_show_late_or_never() -> None:
    """How soon a look-up shows it is one of the open questions."""
    state = MerchantState(Dialect(visibility="delayed"))
    accepted(state)
    name = {"foreign_id": "payout-17"}
    assert state.look_up(name, "sandbox-key", 0.1) is None
    assert state.look_up(name, "sandbox-key", 0.2) is not None
    state.dialect = Dialect(visibility="never")
    assert state.look_up(name, "sandbox-key", 9.0) is None


def test_a_look_up_names_exactly_one() -> None:
    """None at all and more than one are the two documented mistakes."""
    assert look_up_problem({}) == (400, "No parameters present")
    assert look_up_problem({"id": 1, "foreign_id": "x"}) == (
        404,
        "Validation Exception: more than one param is present",
    )
    assert look_up_problem({"id": 1}) is None
    assert [asked_by(name) for name in ({"txid": "x"}, {"foreign_id": "x", "id": None}, {})] == [
        "txid",
        "foreign_id",
        "id",
    ]


AMOUNTS = st.decimals("0.00000001", 40, places=8, allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(AMOUNTS, st.sampled_from(["bc1q", "12345", "decline"]), st.integers(0, 3)), max_size=12))
def test_money_is_neither_made_nor_lost(payments: list[tuple[Decimal, str, int]]) -> None:
    """Once everything has ended, what is left and what was paid add up to what there was."""
    state = MerchantState(balances={"BTC": 100})
    for now, (amount, address, name) in enumerate(payments):
        post(state, now / 2, amount=str(amount), address=address, foreign_id=str(name))
    paid = sum(record.debit for record in state.records if record.ending.moves_money)
    assert state.balances(99.0)["BTC"] + paid == 100
    assert len({record.asked.foreign_id for record in state.records}) == len(state.records)


def test_minimums_are_settable() -> None:
    """Only the given ones; a currency that does not exist is refused."""
    state = MerchantState(minimums={"BTC": "0.5"})
    verdict = state.withdraw(fields(amount="0.4"), SIGNER.key, 0.0)
    assert isinstance(verdict, Refusal)
    assert verdict.errors == {"amount": "The amount must be at least 0.5."}
    accepted(state, amount="0.5")
    accepted(state, foreign_id="eth", currency="ETH", amount="0.00000001")
    with pytest.raises(ValueError, match="no currency 'BTX'"):
        MerchantState(minimums={"BTX": 1})


def test_quotes_have_a_limit_of_their_own() -> None:
    """30 a minute; by what is sent, or by what is received; a wrong question counts, too."""
    state, asked = MerchantState(), {"sender_currency": "EUR", "receiver_currency": "BTC"}
    by_amount = state.quote({**asked, "sender_amount": 100}, 0.0)
    assert isinstance(by_amount, tuple)
    assert by_amount[1:] == (Decimal(100), Decimal("0.002"))
    by_amount_to = state.quote({**asked, "receiver_amount": "0.002"}, 0.0)
    assert isinstance(by_amount_to, tuple)
    assert by_amount_to[1:] == (Decimal(100), Decimal("0.002"))
    for number in range(QUOTES_A_MINUTE - 2):
        assert isinstance(state.quote({}, float(number)), dict)
    assert state.quote({**asked, "sender_amount": 100}, 59.0) is None
    assert isinstance(state.quote({**asked, "sender_amount": 100}, 60.0), tuple)
