"""The journal's word beside AlphaPo's."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec import structs

from alphapo_async.cli.side_by_side import contradiction, news, one_below_the_other, side_by_side, status_code
from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import CryptoAddress, Money, Transaction, TransactionPart, Withdrawal, WithdrawalRequest
from alphapo_async.core.row import Row, State

REQUEST = WithdrawalRequest(
    currency="XRP", address="made-up", amount="5", foreign_id="payout-17", end_user_reference="user-42", tag="77"
)
FOUND = Transaction(
    id=9,
    foreign_id="payout-17",
    status="confirmed",
    crypto_address=CryptoAddress(address="made-up", tag="77"),
    currency_sent=Money(currency="XRP", amount=Decimal(5)),
    transactions=(TransactionPart(transaction_type="blockchain", txid="abc"),),
)


def row(state: State = "accepted", *, is_old: bool = False, in_doubt: bool = False) -> Row:
    """Return a row of the journal."""
    revision = Revision(b"", None, 1, "1:0") if is_old else Revision(encode_body(REQUEST), REQUEST)
    known = Withdrawal(id=9, status="processing", sender_amount=Decimal(5), sender_currency="XRP")
    return Row(
        account="default",
        foreign_id="payout-17",
        revision=revision,
        key_fingerprint="0" * 16,
        created_at=1.0,
        state=state,
        attempts=2,
        look_ups=1,
        doubt_since=1.0 if in_doubt else None,
        withdrawal=known if state == "accepted" else None,
    )


def lines(*result: object, is_durable: bool = True) -> dict[str, tuple[str, str]]:
    """Return both words by name."""
    return {name: (left, right) for name, left, right in side_by_side(*result, is_durable=is_durable)}  # type: ignore[arg-type]


def test_both_sides_stand_beside_each_other() -> None:
    """Every word stands with its witness."""
    shown = lines(row(), FOUND)
    assert shown["known"] == ("accepted", "found")
    assert shown["status"] == ("processing", "confirmed")
    assert shown["asked"] == ("5 XRP", "")
    assert shown["sent"] == ("5 XRP", "5 XRP")
    assert shown["tag"] == ("77", "77")
    assert shown["txid"] == ("", "abc")
    assert shown["attempts"] == ("2", "")
    assert "error" not in shown


def test_a_fresh_memory_journal_says_why_it_knows_nothing() -> None:
    """Nothing in a journal that began with this process is no news."""
    assert lines(None, None, is_durable=False)["known"] == (
        "nothing: a journal in memory has only what its own process did",
        "not visible to this key",
    )
    assert lines(None, None)["known"][0] == "nothing"


def test_an_old_row_shows_what_is_still_remembered() -> None:
    """Of old rows the payment is forgotten, and the rest is shown."""
    shown = lines(row(is_old=True), AlphapoUnavailable("no"))
    assert "asked" not in shown
    assert shown["id"] == ("9", "")
    assert shown["known"] == ("accepted", "no answer")


def test_a_bare_transaction_is_shown_as_far_as_it_goes() -> None:
    """A look-up may tell next to nothing."""
    assert lines(None, Transaction(id=9)) == {"known": ("nothing", "found"), "id": ("", "9")}


@pytest.mark.parametrize(
    ("known", "answer", "code"),
    [
        (None, FOUND, 0),
        (row("open", in_doubt=True), FOUND, 3),
        (None, Transaction(id=9, status="cancelled"), 1),
        (row(), Transaction(id=9, status="declined"), 1),
        (row(), AlphapoUnavailable("no"), 3),
        (row(), AlphapoUnavailable("no", code="unauthorized"), 3),
        (row(), AlphapoUnavailable("no", code="bad_header_key"), 4),
        (None, None, 3),
        (row(), None, 0),
        (row("rejected"), None, 1),
        (row("key_refused"), None, 4),
        (row("open", in_doubt=True), None, 3),
        (row("open"), None, 3),
    ],
)
def test_the_exit_code_follows_the_better_witness(
    known: Row | None, answer: Transaction | AlphapoUnavailable | None, code: int
) -> None:
    """AlphaPo's word where it has one, the journal's where AlphaPo shows nothing."""
    assert status_code(known, answer) == code


REJECTED = row("rejected")
ACCEPTED = structs.replace(row(), contradiction="accepted after rejected")


@pytest.mark.parametrize(
    ("before", "now", "answer", "words"),
    [
        (REJECTED, ACCEPTED, FOUND, "AlphaPo contradicts what was reported before: accepted after rejected. A person"),
        (
            structs.replace(REJECTED, decision="rejected by anna: not there"),
            ACCEPTED,
            FOUND,
            "It was rejected by anna: not there; AlphaPo contradicts what was reported",
        ),
        (ACCEPTED, ACCEPTED, FOUND, "AlphaPo contradicts what was reported"),
        (row("not_sent"), row("not_sent"), FOUND, "and it is not taken for this one, which is not sent."),
        (row(), row(), FOUND, None),
        (None, None, FOUND, None),
        (REJECTED, REJECTED, None, None),
        (ACCEPTED, ACCEPTED, AlphapoUnavailable("no"), None),
    ],
)
def test_what_contradicts_an_earlier_word_is_said(
    before: Row | None, now: Row | None, answer: Transaction | AlphapoUnavailable | None, words: str | None
) -> None:
    """Whoever was told otherwise has to hear of it, the second time, too."""
    result = contradiction(before, now, answer)
    assert result is None if words is None else words in (result or "")


@pytest.mark.parametrize("status", ["processing", "confirmed"])
def test_a_conflict_is_not_said_to_contradict_anything(status: str) -> None:
    """AlphaPo shows the existing withdrawal, as it did when the conflict was found."""
    result = contradiction(row("conflict"), row("conflict"), structs.replace(FOUND, status=status))
    assert result == (
        "AlphaPo has the existing withdrawal under this foreign_id. This payment was not sent, and no worker will send it."
    )


def test_a_rejected_row_shows_the_refusal_and_that_no_money_moved() -> None:
    """In the journal's column: AlphaPo shows nothing of it."""
    shown = lines(structs.replace(row("rejected"), refusal={"amount": ["Not enough amount"]}), None)
    assert shown["known"] == ("rejected", "not visible to this key")
    assert shown["money"] == ("none moved, and none will; the funds may be released", "")
    assert shown["why"] == ("amount: Not enough amount", "")
    assert "id" not in shown


def test_an_id_that_nobody_knows_is_left_out() -> None:
    """Settled by hand, without AlphaPo's id."""
    known = structs.replace(row(), withdrawal=Withdrawal(id=None, source="journal"), decision="accepted by anna: seen")
    assert "id" not in lines(known, None)
    assert lines(known, None)["why"] == ("settled by hand: accepted by anna: seen", "")


def test_a_narrow_terminal_gets_a_line_for_each_value() -> None:
    """Nothing is broken, and each txid has a line of its own."""
    rows = [("status", "processing", "confirmed"), ("txid", "", "abc def")]
    assert one_below_the_other(["withdrawal payout-17", "journal", "AlphaPo"], rows) == [
        "withdrawal payout-17",
        "",
        "journal",
        "status: processing",
        "",
        "AlphaPo",
        "status: confirmed",
        "txid:   abc",
        "txid:   def",
    ]


def test_the_journal_shows_its_txids_too() -> None:
    """As far as a look-up or a callback gave them."""
    known = structs.replace(row(), transaction=FOUND)
    assert lines(known, FOUND)["txid"] == ("abc", "abc")
    another = structs.replace(known, state="conflict")
    assert lines(another, FOUND)["txid"] == ("", "abc")


def test_a_final_status_that_the_journal_did_not_have_is_news() -> None:
    """With the command that records it for every withdrawal; and nothing where there is none."""
    before, confirmed = row(), structs.replace(row(), withdrawal=Withdrawal(id=9, status="confirmed"))
    recorded = news(before, confirmed, FOUND, " --journal f.db")
    assert recorded is not None
    assert recorded.startswith(
        "The journal recorded confirmed from this answer. `alphapo resume --refresh --journal f.db` records"
    )
    for now in (before, None):
        assert (news(before, now, FOUND, "") or "").startswith("The journal did not record confirmed")
    assert (news(row("open"), confirmed, FOUND, "") or "").startswith("The journal recorded confirmed")
    for known, answer in (
        (None, FOUND),
        (before, None),
        (before, structs.replace(FOUND, status="processing")),
        (confirmed, FOUND),
    ):
        assert news(known, known, answer, "") is None
