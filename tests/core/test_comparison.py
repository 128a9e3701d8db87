"""Is it ours: clause by clause."""

from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.core.codec import read_transaction
from alphapo_async.core.comparison import Difference, compare, compare_reply, figures_agree, shown_figure
from alphapo_async.core.models import (
    CryptoAddress,
    Fee,
    Money,
    Transaction,
    TransactionPart,
    Withdrawal,
    WithdrawalRequest,
)

ASKED = WithdrawalRequest(
    currency="BTC", address="bc1q9x", amount="0.0002", foreign_id="f-17", end_user_reference="user-42"
)


def asked_for(**changes: Any) -> WithdrawalRequest:
    """Return a request for 1 BTC with these changes."""
    fields: dict[str, Any] = {
        "currency": "BTC",
        "address": "bc1qAbC",
        "amount": "1",
        "foreign_id": "f-17",
        "end_user_reference": "u",
    }
    return WithdrawalRequest(**(fields | changes))


def shown(**changes: Any) -> Transaction:
    """Return the transaction of such a request, as a look-up shows it, with these changes."""
    fields: dict[str, Any] = {
        "id": 5,
        "foreign_id": "f-17",
        "crypto_address": CryptoAddress(address="bc1qAbC", tag_is_given=True),
        "currency_sent": Money(currency="BTC", amount=Decimal(1)),
        "currency_received": Money(currency="BTC", amount=Decimal(1)),
    }
    return Transaction(**(fields | changes))


def verdict(field: str, asked: WithdrawalRequest, output: Transaction) -> str:
    """Say whether this field agrees, disagrees or is not told."""
    comparison = compare(asked, output)
    if field in comparison.agreeing:
        return "agrees"
    return "disagrees" if field in {difference.field for difference in comparison.differences} else "untold"


def test_what_is_ours_agrees_in_everything() -> None:
    """Nothing disagrees, and all that can be told is told."""
    comparison = compare(asked_for(), shown())
    assert comparison.agreeing == {"foreign_id", "address", "tag", "currency", "amount"}
    assert comparison.differences == ()
    assert not comparison.is_other


@pytest.mark.parametrize(
    ("changes", "count", "is_other"),
    [
        ({}, 0, False),
        ({"foreign_id": "x"}, 1, False),
        ({"currency_sent": Money(currency="ETH", amount=Decimal(1))}, 1, False),
        ({"currency_sent": Money(currency="ETH", amount=Decimal(2))}, 2, True),
        ({"foreign_id": "x", "crypto_address": CryptoAddress(address="y")}, 2, True),
    ],
)
def test_anothers_is_what_disagrees_twice(changes: dict[str, Any], count: int, is_other: bool) -> None:  # noqa: FBT001
    """One difference may be a surprise of form; two make it another payment."""
    comparison = compare(asked_for(), shown(**changes))
    assert (len(comparison.differences), comparison.is_other) == (count, is_other)


@pytest.mark.parametrize(
    ("ours", "answer", "expected"),
    [
        ("f-17", "f-17", "agrees"),
        (5, "5", "agrees"),
        ("f-17", "F-17", "disagrees"),
        ("f-17", "f-17 ", "disagrees"),
        ("f-17", "", "disagrees"),
        ("f-17", None, "untold"),
    ],
)
def test_a_foreign_id_is_compared_letter_for_letter(ours: str | int, answer: str | None, expected: str) -> None:
    """Exact text, and nothing less."""
    assert verdict("foreign_id", asked_for(foreign_id=ours), shown(foreign_id=answer)) == expected


@pytest.mark.parametrize(
    ("ours", "answer", "expected"),
    [
        ("bc1qAbC", "bc1qAbC", "agrees"),
        ("bc1qAbC", "BC1QABC", "agrees"),
        ("bitcoincash:qAbC", "qabc", "agrees"),
        ("qabc", "bitcoincash:qAbC", "agrees"),
        ("XLM:gAbC", "gabc", "agrees"),
        ("bitcoin:x:y", "x:y", "agrees"),
        ("x:y", "bitcoin:x:y", "agrees"),
        ("a:b:y", "y", "disagrees"),  # only the first colon ends a scheme
        ("b1:qAbC", "qabc", "disagrees"),  # a scheme has letters only
        (":qAbC", "qabc", "disagrees"),
        ("bc1qAbC", "bc1qAbD", "disagrees"),
        ("bc1qAbC", "bc1qAb", "disagrees"),
        ("bc1qAbC", "", "disagrees"),
        ("bc1qAbC", None, "untold"),
    ],
)
def test_an_address_agrees_but_for_case_and_scheme(ours: str, answer: str | None, expected: str) -> None:
    """Case and a scheme before it are forms of writing; anything else is another address."""
    assert verdict("address", asked_for(address=ours), shown(crypto_address=CryptoAddress(address=answer))) == expected


@pytest.mark.parametrize(
    ("ours", "answer", "expected"),
    [
        ("77", {"address": "x", "tag": "77"}, "agrees"),
        ("77", {"address": "x", "tag": 77}, "agrees"),
        (None, {"address": "x", "tag": None}, "agrees"),
        (None, {"address": "x", "tag": ""}, "agrees"),
        ("77", {"address": "x", "tag": "78"}, "disagrees"),
        ("77", {"address": "x", "tag": "077"}, "agrees"),
        ("77", {"address": "x", "tag": "77.0"}, "agrees"),
        ("0", {"address": "x", "tag": 0}, "agrees"),
        (None, {"address": "x", "tag": 0}, "disagrees"),
        ("77", {"address": "x", "tag": 0}, "disagrees"),
        ("77", {"address": "x", "tag": "-77"}, "disagrees"),
        ("memo", {"address": "x", "tag": "memo"}, "agrees"),
        ("memo", {"address": "x", "tag": "Memo"}, "disagrees"),
        ("77", {"address": "x", "tag": "\u0667\u0667"}, "disagrees"),
        ("77", {"address": "x", "tag": None}, "disagrees"),
        (None, {"address": "x", "tag": "77"}, "disagrees"),
        ("77", {"address": "x"}, "untold"),
        ("77", None, "untold"),
    ],
)
def test_a_tag_is_equal_as_text_or_as_a_whole_number_or_both_are_none(
    ours: str | None, answer: Any, expected: str
) -> None:
    """No tag and an empty tag are the same; a witness that does not mention it says nothing."""
    transaction = read_transaction({"id": 1, "crypto_address": answer})
    assert transaction is not None
    assert verdict("tag", asked_for(tag=ours), transaction) == expected


SENT = {"amount": "1"}
SENT_CONVERTED = {"amount": "1", "convert_to": "ETH"}
RECEIVED = {"amount": None, "amount_to": "1", "convert_to": "ETH"}


def part(
    kind: str, currency: str | None, amount: str | None, currency_to: str | None = None, amount_to: str | None = None
) -> TransactionPart:
    """Return an entry of `transactions`."""
    figures = [None if figure is None else Decimal(figure) for figure in (amount, amount_to)]
    return TransactionPart(
        transaction_type=kind, currency=currency, amount=figures[0], currency_to=currency_to, amount_to=figures[1]
    )


ON_CHAIN, ETH_ON_CHAIN = part("blockchain", "BTC", "1"), part("blockchain", "ETH", "1")
OTHER_ON_CHAIN = part("blockchain", "BTC", "9")
INTERNAL = part("internal", "BTC", "1")
BOUGHT = part("exchange", "BTC", "1", "ETH", "16")
SOLD = part("exchange", "BTC", "0.06", "ETH", "1")


@pytest.mark.parametrize(
    ("ours", "sent", "received", "parts", "expected"),
    [
        # the verdict on the amount, then the one on the currency; the side that was requested, and never the other one
        (
            SENT,
            Money(currency="BTC", amount=Decimal(1)),
            Money(currency="ETH", amount=Decimal(9)),
            (),
            "agrees, agrees",
        ),
        (
            SENT,
            Money(currency="BTC", amount=Decimal(9)),
            Money(currency="BTC", amount=Decimal(1)),
            (),
            "disagrees, agrees",
        ),
        (
            SENT,
            Money(currency="ETH", amount=Decimal(1)),
            Money(currency="BTC", amount=Decimal(1)),
            (),
            "agrees, disagrees",
        ),
        (
            RECEIVED,
            Money(currency="BTC", amount=Decimal(9)),
            Money(currency="ETH", amount=Decimal(1)),
            (),
            "agrees, agrees",
        ),
        (
            RECEIVED,
            Money(currency="ETH", amount=Decimal(1)),
            Money(currency="ETH", amount=Decimal(9)),
            (),
            "disagrees, agrees",
        ),
        (SENT, None, Money(currency="BTC", amount=Decimal(1)), (), "untold, untold"),
        (RECEIVED, Money(currency="ETH", amount=Decimal(1)), None, (), "untold, untold"),
        # where it is missing, the exchange's entry says most
        (SENT_CONVERTED, None, None, (ETH_ON_CHAIN, BOUGHT), "agrees, agrees"),
        (SENT_CONVERTED, None, None, (ETH_ON_CHAIN, SOLD), "disagrees, agrees"),
        (RECEIVED, None, None, (SOLD, part("blockchain", "ETH", "9")), "agrees, agrees"),
        (RECEIVED, None, None, (BOUGHT, ETH_ON_CHAIN), "disagrees, agrees"),
        (SENT_CONVERTED, None, None, (part("exchange", "EUR", "1", "ETH", "1"),), "agrees, disagrees"),
        (SENT_CONVERTED, Money(currency="BTC", amount=None), None, (BOUGHT,), "agrees, agrees"),
        (
            SENT_CONVERTED,
            None,
            None,
            (part("exchange", "BTC", "0.4"), part("exchange", "BTC", "0.6")),
            "agrees, agrees",
        ),
        # then what was paid out, in one entry or several, where that is our side
        (SENT, None, None, (ON_CHAIN,), "agrees, agrees"),
        (SENT, None, None, (INTERNAL,), "agrees, agrees"),
        (SENT, None, None, (part("blockchain", "BTC", "0.7"), part("internal", "BTC", "0.3")), "agrees, agrees"),
        (SENT, None, None, (OTHER_ON_CHAIN,), "disagrees, agrees"),
        (SENT, None, None, (ON_CHAIN, ON_CHAIN), "disagrees, agrees"),
        (SENT, None, None, (ON_CHAIN, ETH_ON_CHAIN), "untold, untold"),
        (SENT, None, None, (ON_CHAIN, part("blockchain", "BTC", None)), "untold, agrees"),
        (SENT, None, None, (ON_CHAIN, part("blockchain", "BTC", "NaN")), "disagrees, agrees"),
        (SENT, None, None, (part("blockchain", "BTC", "NaN"),), "disagrees, agrees"),
        (SENT, None, None, (part("blockchain", None, "1"),), "agrees, untold"),
        (SENT, None, None, (part("staking", "BTC", "1"),), "untold, untold"),
        (SENT, Money(), None, (ON_CHAIN,), "agrees, agrees"),
        (SENT | {"convert_to": "BTC"}, None, None, (ON_CHAIN,), "agrees, agrees"),
        (RECEIVED, None, None, (ETH_ON_CHAIN,), "agrees, agrees"),
        (RECEIVED, None, None, (part("internal", "ETH", "1"),), "agrees, agrees"),
        (RECEIVED, None, None, (ON_CHAIN,), "agrees, disagrees"),
        (SENT_CONVERTED, None, None, (ETH_ON_CHAIN,), "untold, untold"),
        (SENT_CONVERTED, None, None, (INTERNAL,), "untold, untold"),
        # and only where the side itself gives no figure
        (SENT, Money(currency="BTC", amount=Decimal(9)), None, (ON_CHAIN,), "disagrees, agrees"),
        (SENT, Money(currency="BTC", amount=None), None, (), "untold, agrees"),
        (SENT, Money(currency=None, amount=Decimal(1)), None, (OTHER_ON_CHAIN,), "agrees, untold"),
    ],
)
def test_the_side_that_was_requested_is_compared(
    ours: dict[str, Any],
    sent: Money | None,
    received: Money | None,
    parts: tuple[TransactionPart, ...],
    expected: str,
) -> None:
    """`amount` is compared with what was sent, `amount_to` with what was received, and never the other way round."""
    asked, result = asked_for(**ours), shown(currency_sent=sent, currency_received=received, transactions=parts)
    assert f"{verdict('amount', asked, result)}, {verdict('currency', asked, result)}" == expected


@pytest.mark.parametrize(
    ("ours", "sent", "parts", "expected"),
    [
        (SENT_CONVERTED, "0.98", (BOUGHT,), "agrees"),
        (SENT_CONVERTED, "0.98", (ETH_ON_CHAIN,), "disagrees"),  # the other side excuses nothing
        (SENT_CONVERTED, "0.98", (), "disagrees"),
        (SENT, "0.98", (ON_CHAIN,), "agrees"),
        (SENT, "0.98", (ETH_ON_CHAIN,), "disagrees"),  # another currency
        (SENT, "0.98", (part("blockchain", None, "1"),), "agrees"),
        (SENT, "0.98", (OTHER_ON_CHAIN,), "disagrees"),
        (SENT, "1.02", (ON_CHAIN,), "disagrees"),  # no fee makes it more
        (SENT, "NaN", (ON_CHAIN,), "disagrees"),
        (SENT, "0", (ON_CHAIN,), "disagrees"),  # a fee takes less than all
        (SENT, "-1", (ON_CHAIN,), "disagrees"),
        (RECEIVED, "0.98", (ETH_ON_CHAIN,), "disagrees"),  # only what was sent
    ],
)
def test_a_fee_that_is_not_named_is_excused_by_another_figure_that_is_ours(
    ours: dict[str, Any], sent: str, parts: tuple[TransactionPart, ...], expected: str
) -> None:
    """AlphaPo's pages call `currency_sent` the amount minus the network fee."""
    side = "currency_received" if ours is RECEIVED else "currency_sent"
    money = Money(currency="ETH" if ours is RECEIVED else "BTC", amount=Decimal(sent))
    transaction = shown(**{"currency_sent": None, "currency_received": None, side: money, "transactions": parts})
    assert verdict("amount", asked_for(**ours), transaction) == expected


@pytest.mark.parametrize(
    ("ours", "answer", "fee", "has_numbers", "expected"),
    [
        ("0.0015", "0.0015000000000000001", None, True, "agrees"),
        ("0.0015", "0.0015000000000000001", None, False, "disagrees"),
        ("0.1", "0.1000000000000000055511151231257827", None, True, "agrees"),
        ("0.1", "0.10000000000000002", None, True, "disagrees"),  # the next double
        ("0.123456789", "0.12345678000000000207", None, True, "agrees"),  # cut to eight places, then a double
        ("1", "1.0009999999999999", "0.0010000000000000001", True, "agrees"),  # 1.001 and 0.001
        ("1", "1.0009999999999997", "0.001", False, "disagrees"),
        ("1", "NaN", None, True, "disagrees"),
        ("1", "1e400", None, True, "disagrees"),
        ("1", "-1e999999999", None, True, "disagrees"),
    ],
)
def test_the_noise_of_a_double_is_no_other_amount(
    ours: str,
    answer: str,
    fee: str | None,
    has_numbers: bool,  # noqa: FBT001 - a column
    expected: str,
) -> None:
    """Only where AlphaPo wrote JSON numbers; a text has the digits that it has."""
    fees = () if fee is None else (Fee(currency="BTC", amount=Decimal(fee)),)
    transaction = shown(currency_sent=Money(currency="BTC", amount=Decimal(answer)), fees=fees, has_numbers=has_numbers)
    assert verdict("amount", asked_for(amount=ours), transaction) == expected


@settings(derandomize=True, deadline=None)
@given(ours=st.decimals(min_value=0, max_value=10**9, allow_nan=False, places=8), digits=st.integers(17, 25))
def test_our_own_figure_is_known_again_as_a_double(ours: Decimal, digits: int) -> None:
    """However many digits of the double AlphaPo writes."""
    result = Decimal(f"{float(ours):.{digits}g}")
    transaction = shown(currency_sent=Money(currency="BTC", amount=result), has_numbers=True)
    assert verdict("amount", asked_for(amount=ours), transaction) == "agrees"


@pytest.mark.parametrize(
    ("ours", "answer", "fees", "expected"),
    [
        # equal, however written
        ("1", "1.00000000", [], "agrees"),
        ("0", "0.00", [], "agrees"),
        ("0.1", "0.10000000000000001", [], "disagrees"),
        # cut or rounded to eight places, or to more if more are told, never to fewer
        ("0.123456789", "0.12345678", [], "agrees"),
        ("0.123456789", "0.12345679", [], "agrees"),
        ("0.123456784", "0.12345678", [], "agrees"),
        ("0.123456784", "0.12345679", [], "disagrees"),
        ("0.123456789", "0.1234567", [], "disagrees"),
        ("0.123456789", "0.12", [], "disagrees"),
        ("0.1234567890123", "0.1234567890", [], "agrees"),
        ("0.1234567890123", "0.1234567891", [], "disagrees"),
        ("0.5", "1", [], "disagrees"),
        ("0.5", "0", [], "disagrees"),
        ("1.00000001", "1", [], "disagrees"),
        # a fee that is named, inside or outside, alone or together, rounded too
        ("1", "0.9", ["0.1"], "agrees"),
        ("1", "1.1", ["0.1"], "agrees"),
        ("1", "1.3", ["0.1", "0.2"], "agrees"),
        ("1", "0.8", ["0.1", "0.2"], "agrees"),
        ("1", "0.99876543", ["0.001234567"], "agrees"),
        ("1", "0.7", ["0", "0.1", "0.2"], "agrees"),
        ("0.10882301", "0.10871418", ["0.00010882"], "agrees"),  # figure and fee are both cut
        ("0.10882301", "0.10871417", ["0.00010882"], "disagrees"),
        ("1", "0.9", [], "disagrees"),
        ("1", "0.9", ["0.2"], "disagrees"),
        ("1", "0.85", ["0.1", "0.2"], "disagrees"),
        ("1", "0.9", [None], "disagrees"),
        ("1", "0.9", ["NaN"], "disagrees"),
        ("1", "0.9", ["NaN", "0.1"], "agrees"),
        ("1", "0.9", ["1e999999999", "0.1"], "agrees"),
        # what is no finite number, or hostile, disagrees
        ("1", "NaN", [], "disagrees"),
        ("1", "-1", [], "disagrees"),
        ("1", "1e999999999", [], "disagrees"),
        ("1", "-1e999999999", ["1e999999999"], "disagrees"),
        ("1", "1e-999999999", [], "disagrees"),
        ("0", "0e999999999", [], "agrees"),
        ("0", "1e-999999999", [], "disagrees"),
        ("1", "1." + "0" * 5000, [], "agrees"),
        ("1", "1." + "0" * 5000 + "1", [], "disagrees"),
        ("1", "2." + "0" * 5000, ["0." + "3" * 5000], "disagrees"),
        ("9" * 255, "9" * 255 + "." + "0" * 5000, [], "agrees"),
        ("9" * 255, "1e300", ["1e300", "1e-300"], "disagrees"),
        ("1", "1", ["1e-300"] * 50, "agrees"),
    ],
)
def test_amounts_agree_but_for_places_and_named_fees(
    ours: str, answer: str, fees: list[str | None], expected: str
) -> None:
    """Only AlphaPo's eight places and a fee it names may come between; nothing hangs and nothing raises."""
    named = tuple(Fee(currency="BTC", amount=None if fee is None else Decimal(fee)) for fee in fees)
    transaction = shown(currency_sent=Money(currency="BTC", amount=Decimal(answer)), fees=named)
    assert verdict("amount", asked_for(amount=ours), transaction) == expected


@pytest.mark.parametrize("fee", [Fee(currency="ETH", amount=Decimal("0.1")), Fee(amount=Decimal("0.1"))])
def test_a_fee_in_another_currency_excuses_nothing(fee: Fee) -> None:
    """A mining fee in the chain's coin does not change the figure of a token."""
    assert (
        verdict("amount", asked_for(), shown(currency_sent=Money(currency="BTC", amount=Decimal("0.9")), fees=(fee,)))
        == "disagrees"
    )


@pytest.mark.parametrize(
    ("amount", "amount_minus_fee", "expected"),
    [
        ("1.1", "1", "agrees"),
        ("1", "0.9", "agrees"),
        ("1", "NaN", "agrees"),
        ("1.1", "0.9", "disagrees"),
        ("NaN", "1", "disagrees"),  # what is told but is no number is not excused by another figure
        (None, "1", "untold"),
    ],
)
def test_the_amount_minus_fee_may_be_the_one_asked(amount: str | None, amount_minus_fee: str, expected: str) -> None:
    """Where AlphaPo tells the figure with and without its fee, either may be the one we asked for."""
    money = Money(
        currency="ETH", amount=None if amount is None else Decimal(amount), amount_minus_fee=Decimal(amount_minus_fee)
    )
    assert verdict("amount", asked_for(**RECEIVED), shown(currency_received=money)) == expected


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    ours=st.decimals(min_value=0, max_value=10**6, allow_nan=False, places=12),
    output=st.decimals(allow_nan=True, allow_infinity=False).filter(lambda figure: not figure.is_snan())
    | st.decimals(min_value=0, max_value=10**6, allow_nan=False, places=8),
)
def test_amounts_further_apart_than_a_rounding_never_agree(ours: Decimal, output: Decimal) -> None:
    """Without a fee, figures that agree are less than one unit of the eighth place apart."""
    if verdict("amount", asked_for(amount=ours), shown(currency_sent=Money(currency="BTC", amount=output))) == "agrees":
        assert abs(ours - output) < Decimal("1e-8")


@settings(derandomize=True, deadline=None)
@given(ours=st.decimals(min_value=0, max_value=10**9, allow_nan=False, places=12), places=st.integers(8, 14))
def test_our_own_figure_is_known_again_however_it_is_rounded(ours: Decimal, places: int) -> None:
    """Our figure, told with eight places or more, always agrees."""
    result = Decimal(f"{ours:.{places}f}")
    assert (
        verdict("amount", asked_for(amount=ours), shown(currency_sent=Money(currency="BTC", amount=result))) == "agrees"
    )


def test_the_callers_decimal_settings_change_no_verdict() -> None:
    """A program that counts with few digits in its own context is judged the same."""
    with localcontext(prec=3, Emax=9, Emin=-5):
        assert (
            verdict(
                "amount",
                asked_for(amount="0.123456789"),
                shown(currency_sent=Money(currency="BTC", amount=Decimal("0.12345678"))),
            )
            == "agrees"
        )
        result = Withdrawal(id=1, foreign_id="f-17", sender_amount=Decimal("0.00020001"))
        assert [one.field for one in compare_reply(ASKED, result).differences] == ["amount"]


def test_every_difference_is_shown_with_both_figures() -> None:
    """Whoever has to decide sees what was asked beside what AlphaPo tells."""
    result = shown(
        foreign_id="x",
        crypto_address=CryptoAddress(address="y", tag="7", tag_is_given=True),
        currency_sent=Money(currency="ETH", amount=Decimal(2)),
    )
    assert compare(asked_for(), result).differences == (
        Difference("foreign_id", "f-17", "x"),
        Difference("address", "bc1qAbC", "y"),
        Difference("tag", None, "7"),
        Difference("currency", "BTC", "ETH"),
        Difference("amount", "1", "2"),
    )


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        ({}, []),
        ({"foreign_id": "other"}, ["foreign_id"]),
        ({"foreign_id": None}, ["foreign_id"]),
        ({"sender_currency": "BTC", "sender_amount": Decimal("0.00020000")}, []),
        ({"sender_currency": "LTC"}, ["currency"]),
        ({"sender_amount": Decimal("0.0003")}, ["amount"]),
        ({"sender_amount": Decimal("NaN")}, ["amount"]),
        ({"receiver_amount": Decimal(9), "receiver_currency": "LTC"}, []),
        ({"sender_amount": Decimal("0.00019"), "amount": Decimal("0.0002")}, ["amount"]),
        ({"amount": Decimal(9)}, []),
        ({"sender_amount": Decimal("0.00020000000000000001"), "has_numbers": True}, []),
        (
            {"foreign_id": "other", "sender_currency": "LTC", "sender_amount": Decimal(1)},
            ["foreign_id", "currency", "amount"],
        ),
    ],
)
def test_a_reply_to_our_body_must_name_us_and_contradict_nothing(expected: dict[str, Any], fields: list[str]) -> None:
    """The foreign_id must be told; amount and currency of the asked side may be missing, and must not differ."""
    withdrawal = Withdrawal(**{"id": 1, "foreign_id": "f-17", **expected})

    assert [one.field for one in compare_reply(ASKED, withdrawal).differences] == fields


def test_a_reply_is_compared_on_the_side_that_was_asked() -> None:
    """With `amount_to` the receiver's figures count, and the sender's never."""
    asked = asked_for(amount=None, amount_to="5", convert_to="LTC")
    result = Withdrawal(id=1, foreign_id=asked.foreign_id, sender_amount=Decimal(9), sender_currency="EUR")

    assert compare_reply(asked, result).differences == ()
    result = Withdrawal(id=1, foreign_id=asked.foreign_id, receiver_amount=Decimal(9), receiver_currency="EUR")
    assert [one.field for one in compare_reply(asked, result).differences] == ["currency", "amount"]


def test_a_difference_reads_as_a_sentence() -> None:
    """What was asked and what is told, in words that a message can hold."""
    assert str(Difference("amount", "1", "2")) == "amount: asked '1', AlphaPo shows '2'"


def test_of_a_row_in_doubt_less_has_to_agree() -> None:
    """The address or the amount; of any other row amount, currency, address, and the tag that was requested."""
    whole, tagged = compare(asked_for(), shown()), asked_for(tag="7")
    assert whole.is_ours(asked_for(), was_in_doubt=True)
    assert whole.is_ours(asked_for(), was_in_doubt=False)
    assert whole.is_ours(None, was_in_doubt=False)
    untagged = compare(tagged, shown(crypto_address=CryptoAddress(address="bc1qAbC")))
    assert (untagged.is_ours(tagged, was_in_doubt=True), untagged.is_ours(tagged, was_in_doubt=False)) == (True, False)
    assert not compare(asked_for(), shown(foreign_id="f-18")).is_ours(asked_for(), was_in_doubt=True)
    assert not compare(asked_for(), shown(crypto_address=None, currency_sent=None)).is_ours(None, was_in_doubt=True)


def test_figures_of_other_places_are_compared_by_the_same_rules() -> None:
    """A row of an export: rounding and a named fee agree, the last of eight decimals does not; a look-up's own figure comes first."""
    assert figures_agree(Decimal("0.123456789"), Decimal("0.12345678"))
    assert not figures_agree(Decimal("0.12345678"), Decimal("0.12345679"))
    assert figures_agree(Decimal(1), Decimal("1.5"), (Decimal("0.5"),))
    part = TransactionPart(transaction_type="blockchain", currency="BTC", amount=Decimal(2))
    both = Transaction(id=7, currency_sent=Money(currency="BTC", amount=Decimal(1)), transactions=(part,))
    assert shown_figure(ASKED, both) == Money(currency="BTC", amount=Decimal(1))
    assert shown_figure(ASKED, Transaction(id=7, transactions=(part,))) == Money(currency="BTC", amount=Decimal(2))
    assert shown_figure(ASKED, Transaction(id=7)) is None
