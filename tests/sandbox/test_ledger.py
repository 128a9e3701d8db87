"""What anyone can read afterwards."""

from __future__ import annotations

import json
from decimal import Decimal

from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.ledger import Ledger, SeenBody
from alphapo_async.sandbox.rules import MerchantState
from tests.support.questions import accepted


class Books:
    """A ledger over a world, with a clock set by hand."""

    def __init__(self, dialect: Dialect | None = None) -> None:
        self.time = 0.0
        self.state = MerchantState(dialect)
        self.ledger = Ledger(self.state, lambda: self.time)

    def note(self, foreign_id: str, outcome: str = "refused", accepted_id: int | None = None) -> int:
        """Note a POST at the present moment."""
        seen = SeenBody(at=self.time, body=b"secret\xff", fault=None, outcome=outcome, accepted_id=accepted_id, key="k")
        return self.ledger.note(foreign_id, seen)


def test_every_post_is_kept_under_its_foreign_id() -> None:
    """Exact texts are told apart, numbers and their texts are not."""
    books = Books()
    for name in ("a", "A", "a", "", "5"):
        books.note(name)
    assert [len(books.ledger.requests(name)) for name in ("a", "A", "", 5, "x")] == [2, 1, 1, 1, 0]
    assert books.ledger.foreign_ids() == ("a", "A", "5")
    assert books.ledger.posts == 5


def test_a_dialect_may_fold_foreign_ids() -> None:
    """Where case does not count, it does not count in the ledger either."""
    books = Books(Dialect(foreign_id_form="caseless"))
    books.note("a")
    books.note("A")
    assert len(books.ledger.requests("a")) == 2
    accepted(books.state, foreign_id="Ab")
    assert [paid.foreign_id for paid in books.ledger.accepted("aB")] == ["Ab"]


def test_a_late_body_is_amended() -> None:
    """What became of it replaces what was written at its arrival."""
    books = Books()
    books.note("a")
    place = books.note("A", "late")
    books.ledger.amend("A", place, "accepted", 7)
    assert [(seen.outcome, seen.accepted_id) for seen in books.ledger.requests("A")] == [("accepted", 7)]
    assert books.ledger.requests("a")[0].outcome == "refused"


def test_what_moved_money() -> None:
    """Cancelled and declined withdrawals did not, as soon as they have ended."""
    books = Books()
    accepted(books.state, foreign_id=5, tag="t")
    accepted(books.state, foreign_id="b", address="12345")
    accepted(books.state, foreign_id="c", address="decline")
    assert [paid.status for paid in books.ledger.all_accepted()] == ["processing", "processing", "pending"]
    assert all(paid.moved_money for paid in books.ledger.all_accepted())
    books.time = 1.0
    assert [paid.moved_money for paid in books.ledger.all_accepted()] == [True, False, False]
    (paid,) = books.ledger.accepted(5)
    assert (paid.foreign_id, paid.amount, paid.tag, paid.status) == ("5", Decimal("0.0015"), "t", "confirmed")


def test_paid_more_than_once() -> None:
    """By foreign_id where the rule is broken, by payment where another name was used for the same."""
    books = Books(Dialect(race="broken"))
    accepted(books.state, foreign_id="a", end_user_reference="one")
    assert books.ledger.paid_more_than_once() == []
    accepted(books.state, foreign_id="a", end_user_reference="two")
    accepted(books.state, foreign_id="b", end_user_reference="two", amount="0.00150")
    (by_name,) = books.ledger.paid_more_than_once("foreign_id")
    (by_payment,) = books.ledger.paid_more_than_once("payment")
    assert [paid.foreign_id for paid in by_name.accepted] == ["a", "a"]
    assert [paid.foreign_id for paid in by_payment.accepted] == ["a", "b"]
    assert books.ledger.paid_more_than_once() == [by_name, by_payment]


def test_what_was_cancelled_was_not_paid() -> None:
    """A freed foreign_id may be used again without paying twice."""
    books = Books(Dialect(cancelled_frees=True))
    accepted(books.state, address="12345")
    books.time = 2.0
    accepted(books.state, 2.0)
    assert len(books.ledger.accepted("payout-17")) == 2
    assert books.ledger.paid_more_than_once() == []


def test_the_whole_ledger_as_json() -> None:
    """Another process can read it all."""
    books = Books(Dialect(race="broken"))
    record = accepted(books.state)
    accepted(books.state, currency="EUR", convert_to="BTC", amount=None, amount_to="0.00000001")
    books.note("payout-17", "accepted", record.id)
    result = json.loads(books.ledger.to_json())
    assert result["posts"] == 1
    assert result["requests"]["payout-17"][0]["accepted_id"] == record.id
    assert result["requests"]["payout-17"][0]["body"] == "secret�"
    assert [paid["moved_money"] for paid in result["accepted"]] == [True, True]
    assert (result["accepted"][0]["amount"], result["accepted"][1]["amount_to"]) == ("0.0015", "0.00000001")
    assert result["paid_more_than_once"] == [{"by": "foreign_id", "ids": [record.id, record.id + 1]}]


def test_nothing_shows_a_body_by_accident() -> None:
    """The ledger holds bodies; what it prints of itself does not."""
    books = Books()
    books.note("a")
    assert "secret" not in repr(books.ledger) + repr(books.ledger.requests("a"))
    assert repr(books.ledger) == "Ledger(posts=1, look_ups=0, accepted=0)"
