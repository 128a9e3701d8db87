"""The journal's rows against look-ups and export lines, field by field and to the last decimal."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import (
    CryptoAddress,
    Fee,
    Money,
    Transaction,
    TransactionPart,
    Withdrawal,
    WithdrawalRequest,
)
from alphapo_async.core.reconciliation import (
    NEEDED,
    ExportLine,
    Sums,
    differences_in_export,
    differences_in_look_up,
    figure_in,
    find_columns,
    moves_money,
    shown_money,
)
from alphapo_async.core.row import Row

PLAIN: dict[str, Any] = {
    "currency": "BTC",
    "address": "bc1q",
    "amount": "0.50000001",
    "foreign_id": "f",
    "end_user_reference": "u",
}
CONFIRMED = Withdrawal(id=7, status="confirmed", sender_currency="BTC", sender_amount=Decimal("0.50000001"))
SHOWN = Transaction(
    id=7,
    status="confirmed",
    crypto_address=CryptoAddress(address="bc1q"),
    currency_sent=Money(currency="BTC", amount=Decimal("0.50000001")),
    transactions=(TransactionPart(txid="bb04"),),
)
EXCHANGED = Withdrawal(
    id=7,
    status="confirmed",
    sender_currency="EUR",
    sender_amount=Decimal(381),
    receiver_currency="BTC",
    receiver_amount=Decimal("0.1"),
)
CONVERSION = {**PLAIN, "currency": "EUR", "amount": "381", "convert_to": "BTC"}


def row(asked: dict[str, Any] = PLAIN, **changed: Any) -> Row:
    """Return an accepted row."""
    payment = WithdrawalRequest(**asked)
    usual: dict[str, Any] = {"state": "accepted", "withdrawal": CONFIRMED, "transaction": SHOWN}
    revision = Revision(b"{}", payment)
    return Row(
        account="a", foreign_id="f", revision=revision, key_fingerprint="k", created_at=1.0, **{**usual, **changed}
    )


def line(**changed: Any) -> ExportLine:
    """Return the line of that row."""
    usual: dict[str, Any] = {
        "foreign_id": "f",
        "amount": Decimal("0.50000001"),
        "currency": "BTC",
        "status": "confirmed",
        "txid": "bb04",
        "id": "7",
        "address": "bc1q",
        "tag": None,
    }
    return ExportLine(**{**usual, **changed})


def fields(found: Any) -> list[str]:
    """Return the fields that differ."""
    return [one.field for one in found]


@pytest.mark.parametrize(
    ("changed", "differing"),
    [
        ({}, []),
        ({"amount": Decimal("0.50000002")}, ["amount"]),
        ({"amount": Decimal("0.5000000100")}, []),
        ({"amount": None, "txid": "", "id": "", "address": "", "status": ""}, []),
        ({"currency": ""}, []),
        ({"currency": "ETH"}, ["currency"]),
        ({"address": "bc1x"}, ["address"]),
        ({"address": "bitcoin:BC1Q"}, []),
        ({"tag": ""}, []),
        ({"tag": "9"}, ["tag"]),
        ({"id": "8"}, ["id"]),
        ({"txid": "cc"}, ["txid"]),
        ({"txid": "cc bb04"}, []),
        ({"status": "Confirmed"}, []),
        ({"status": "cancelled"}, ["status"]),
        ({"status": "pending"}, ["status"]),
        ({"amount": Decimal(9), "address": "x", "id": "1"}, ["address", "amount", "id"]),
    ],
)
def test_each_field_of_an_export_is_compared(changed: dict[str, Any], differing: list[str]) -> None:
    """What the export does not say neither agrees nor differs."""
    assert fields(differences_in_export(row(), line(**changed))) == differing


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("processing", "not_confirmed"),
        ("not_confirmed", "Verifying"),
        ("cancelled", "Failed"),
        ("cancelled", "rejected"),
    ],
)
def test_one_status_has_several_names(ours: str, theirs: str) -> None:
    """AlphaPo maps the left of them in look-ups, and the dashboard has names of its own."""
    known = replace(CONFIRMED, status=ours)
    assert fields(differences_in_export(row(withdrawal=known), line(status=theirs))) == []


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("open", "open"), ("rejected", "rejected"), ("not_sent", "not sent"), ("conflict", "conflict")],
)
def test_what_the_journal_does_not_count_as_accepted_differs_in_its_outcome(state: str, outcome: str) -> None:
    """AlphaPo has it all the same."""
    [found] = differences_in_export(row(state=state, withdrawal=None, transaction=None), line())
    assert (found.field, found.asked, found.shown) == ("outcome", outcome, "confirmed")


def test_a_conversion_is_compared_on_the_side_that_the_export_gives() -> None:
    """The other side's figure is AlphaPo's own; an unknown one does not differ."""
    converted = row(CONVERSION, withdrawal=EXCHANGED)
    assert fields(differences_in_export(converted, line(currency="EUR", amount=Decimal(381)))) == []
    assert fields(differences_in_export(converted, line(currency="BTC", amount=Decimal("0.1")))) == []
    assert fields(differences_in_export(converted, line(currency="BTC", amount=Decimal("0.2")))) == ["amount"]
    unknown = row(CONVERSION, withdrawal=replace(CONFIRMED, sender_currency=None, sender_amount=None))
    assert fields(differences_in_export(unknown, line(currency="BTC", amount=Decimal("0.2")))) == []
    assert figure_in(unknown, "BTC") == Money(currency="BTC")
    assert figure_in(unknown, "ETH") is None


def test_a_fee_that_alphapo_names_is_no_difference() -> None:
    """As everywhere in the library."""
    with_fee = replace(SHOWN, fees=(Fee(type="mining", currency="BTC", amount=Decimal("0.0001")),))
    shown = line(amount=Decimal("0.50010001"))
    assert fields(differences_in_export(row(transaction=with_fee), shown)) == []
    assert fields(differences_in_export(row(), shown)) == ["amount"]


def test_a_row_without_its_payment_is_compared_by_its_figure() -> None:
    """It was redacted or pruned."""
    kept = Revision(b"", None, 1, "1:0", (Decimal("0.50000001"), "BTC"))
    forgotten = replace(row(), revision=kept, transaction=None, withdrawal=None)
    assert fields(differences_in_export(forgotten, line())) == []
    assert fields(differences_in_export(forgotten, line(amount=Decimal(1)))) == ["amount"]
    assert fields(differences_in_export(forgotten, line(currency="EUR"))) == []
    assert fields(differences_in_look_up(forgotten, SHOWN)) == []
    unknown = replace(forgotten, revision=Revision(b"", None, 1, "1:0"))
    assert fields(differences_in_export(unknown, line(currency=""))) == []
    other = replace(SHOWN, currency_sent=None, currency_received=Money(currency="BTC", amount=Decimal(1)))
    assert fields(differences_in_look_up(forgotten, other)) == ["amount"]
    assert shown_money(forgotten, SHOWN) == Money(currency="BTC", amount=Decimal("0.50000001"))


def test_a_look_up_is_compared_with_the_row_before_it() -> None:
    """A final status that changes differs; one that was not final is news."""
    assert fields(differences_in_look_up(row(), SHOWN)) == []
    assert fields(differences_in_look_up(row(), replace(SHOWN, status="cancelled", id=8))) == ["id", "status"]
    waiting = row(withdrawal=replace(CONFIRMED, status="processing"), transaction=None)
    assert fields(differences_in_look_up(waiting, replace(SHOWN, status="cancelled"))) == []
    changed = replace(
        SHOWN, currency_sent=Money(currency="BTC", amount=Decimal(1)), crypto_address=CryptoAddress(address="x")
    )
    assert fields(differences_in_look_up(row(), changed)) == ["address", "amount"]
    assert shown_money(row(), changed) == Money(currency="BTC", amount=Decimal(1))
    assert shown_money(row(), replace(SHOWN, currency_sent=None)) == Money(currency="BTC", amount=Decimal("0.50000001"))
    strange = replace(SHOWN, currency_sent=Money(currency=None, amount=Decimal("NaN")))
    assert shown_money(row(), strange) == Money(currency="BTC", amount=Decimal("0.50000001"))


def test_a_figure_of_a_billion_digits_differs_and_stays_out_of_the_sums() -> None:
    """It is neither written out nor added: that would end the run with an internal error."""
    endless = Money(currency="BTC", amount=Decimal("1E+999999"))
    shown = replace(SHOWN, currency_sent=endless)
    kept = Revision(b"", None, 1, "1:0", (Decimal("0.50000001"), "BTC"))
    forgotten = replace(row(), revision=kept, transaction=None, withdrawal=None)
    for each in (row(), forgotten):
        assert [one.shown for one in differences_in_look_up(each, shown)] == ["1E+999999"]
        assert shown_money(each, shown) == Money(currency="BTC", amount=Decimal("0.50000001"))


def test_an_ended_withdrawal_moves_no_money() -> None:
    """Under any of its names."""
    assert [moves_money(status) for status in (None, "confirmed", "Pending", "cancelled", "Declined", "Failed")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (["Foreign ID", "Amount", "Currency", "Status", "TxID"], NEEDED),
        (["foreign_id", "amount", "currency", "status", "txids", "alphapo_id", "tag"], (*NEEDED, "id", "tag")),
        (
            ["ID", "External ID", "Sum", "Coin", "State", "Tx Hash", "To address", "Memo"],
            (*NEEDED, "id", "address", "tag"),
        ),
        (["one", "two"], ()),
    ],
)
def test_columns_are_guessed_from_the_header(header: list[str], found: tuple[str, ...]) -> None:
    """In any case, with any signs between their words."""
    columns = find_columns(header)
    assert set(columns) == set(found)
    assert set(columns.values()) <= set(header)


def test_of_two_columns_of_one_name_the_first_is_taken() -> None:
    """So that the result does not depend on chance."""
    assert find_columns(["Amount", "AMOUNT"]) == {"amount": "Amount"}


def test_a_line_says_all_that_it_has() -> None:
    """And no more."""
    assert str(line()) == "0.50000001 BTC, to bc1q, confirmed, id 7, txid bb04"
    assert str(ExportLine("", None, "", "", "", "", "", None)) == "an amount that is not given"


@given(st.lists(st.tuples(st.sampled_from(["BTC", "EUR"]), st.decimals(0, 10**30, places=18)), max_size=30))
def test_sums_are_exact(figures: list[tuple[str, Decimal]]) -> None:
    """To the last of 48 digits; the difference is AlphaPo's less the journal's."""
    sums = Sums()
    for currency, figure in figures:
        sums.add(Money(currency=currency, amount=figure), None)
        sums.add(None, Money(currency=currency, amount=figure))
    sums.add(Money(currency="EUR"), Money(currency=None, amount=Decimal("0.000000000000000001")))
    rows = {currency: rest for currency, *rest in sums.rows()}
    assert repr(sums).startswith("Sums(")
    assert rows.pop("") == [0, Decimal("0.000000000000000001"), Decimal("0.000000000000000001")]
    for currency, (journal, alphapo, difference) in rows.items():
        with localcontext(prec=100):
            exact = sum((figure for one, figure in figures if one == currency), Decimal(0))
        assert journal == alphapo == exact
        assert difference == 0
