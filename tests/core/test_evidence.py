from decimal import Decimal

import pytest
from msgspec.structs import replace

from alphapo_async.core.codec import digest, encode_body
from alphapo_async.core.evidence import (
    Attempt,
    ControlFound,
    LookedUp,
    OperatorDecision,
    Released,
    ReplyExcerpt,
    Reported,
    Requested,
    Revision,
)
from alphapo_async.core.models import WithdrawalRequest, requested_figure
from alphapo_async.core.replies import InDoubt, NoneFound


def request(amount: str = "0.0015", **fields: str) -> WithdrawalRequest:
    """Return a request with these changes."""
    asked = {"currency": "BTC", "address": "bc1q-secret", "foreign_id": "f", "end_user_reference": "u"} | fields
    return WithdrawalRequest(amount=amount, **asked)  # type: ignore[arg-type]


def revision(amount: str = "0.0015", **fields: str) -> Revision:
    """Return the revision of such a request."""
    payment = request(amount, **fields)
    return Revision(encode_body(payment), payment)


FORGOTTEN = Revision(b"", None, kept_digest=digest(request()))
OTHER_FORGOTTEN = Revision(b"", None, kept_digest=digest(request("2")))


def test_a_revision_knows_the_digest_of_its_payment() -> None:
    """The digest is the payment's own, whatever the bytes look like."""
    assert revision().digest == digest(request())
    assert revision("0.00150").digest == revision().digest


def test_a_kept_digest_stands_for_a_forgotten_payment() -> None:
    """An old row that remembers the digest alone still knows which payment it was."""
    assert FORGOTTEN.digest == digest(request())


def test_a_revision_that_remembers_nothing_has_an_empty_digest() -> None:
    """Neither payment nor digest is told as nothing, never as an error."""
    assert not Revision(b"", None).digest


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (revision(), revision(), True),
        (revision(), revision("0.001500"), True),
        (revision(), revision("0.0016"), False),
        (revision(), revision(address="bc1q-other"), False),
        (revision(), FORGOTTEN, True),
        (FORGOTTEN, revision("0.001500"), True),
        (FORGOTTEN, revision("0.0016"), False),
        (revision(), OTHER_FORGOTTEN, False),
        (FORGOTTEN, FORGOTTEN, True),
        (FORGOTTEN, OTHER_FORGOTTEN, False),
    ],
)
def test_payments_are_compared_by_fields_or_by_digest(
    one: Revision,
    other: Revision,
    is_same: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The same payment is known again however it was written and however little of it is remembered."""
    assert one.is_same_payment(other) is is_same
    assert other.is_same_payment(one) is is_same


def test_no_text_of_a_revision_shows_its_body() -> None:
    """Signed bodies never reach a repr, neither Python's nor rich's, nor that of the evidence around them."""
    kept = revision()
    size = f"<{len(kept.body)} bytes>"
    assert repr(kept) == f"Revision(number=1, body={size})"
    assert kept.__rich_repr__() == [("number", 1), ("body", size)]
    shown = repr(kept) + repr(kept.__rich_repr__()) + repr(Requested("w", kept, "fingerprint"))
    assert f"body=<{len(kept.body)} bytes>" in shown
    assert "bc1q-secret" not in shown


def test_evidence_is_made_of_plain_equal_values() -> None:
    """Two pieces of the same evidence are equal, and a caller's asking claims nothing that was not said."""
    assert Attempt("w", InDoubt("x"), 1.0, 2.0) == Attempt("w", InDoubt("x"), 1.0, 2.0)
    assert LookedUp("w", NoneFound()) != LookedUp("v", NoneFound())
    assert (ControlFound("w", 5.0).accepted_at, Released("w", "queue").reason) == (5.0, "queue")
    asked = Requested("w", revision(), "fingerprint")
    assert (asked.resend_rejected, asked.attempted_before, asked.is_awaited) == (False, False, True)
    assert (asked.expires_at, asked.requested_at) == (None, None)
    assert not Released("w", "queue").stays_open
    assert Attempt("w", InDoubt("x"), 1.0, 2.0).seen == ReplyExcerpt(None, b"")


def test_what_evidence_does_not_say_it_does_not_claim() -> None:
    """An outcome is handed out whatever it is, unless it is named; a caller asks, unless a worker says that it takes a row on by itself."""
    assert Requested("w", revision(), "fingerprint").is_request
    assert Reported() == Reported(state=None, revision=0, expires_at=None)


def test_evidence_cannot_be_changed() -> None:
    """What was witnessed stays as it was witnessed."""
    attempt = Attempt("w", InDoubt("x"), 1.0, 2.0)
    with pytest.raises(AttributeError):
        attempt.until = 0.0  # type: ignore[misc]


def test_what_was_seen_shows_no_reply() -> None:
    """Its repr tells status and size; the bytes are for the history."""
    seen = ReplyExcerpt(502, b"<html>secret</html>")
    assert repr(seen) == "ReplyExcerpt(status=502, reply=<19 bytes>)"
    assert seen.__rich_repr__() == [("status", 502), ("reply", "<19 bytes>")]


def test_the_asked_figure_is_kept_where_the_payment_is_forgotten() -> None:
    """So that the sums stay what they are; where nobody remembers it is nothing of no currency."""
    payment = request("2")
    assert Revision(b"{}", payment).asked == requested_figure(payment)
    assert replace(FORGOTTEN, kept_asked=(Decimal(2), "BTC")).asked == (Decimal(2), "BTC")
    assert FORGOTTEN.asked == (Decimal(0), "")


def test_a_decision_names_what_was_decided_by_whom_and_why() -> None:
    """As the row and the history keep it."""
    assert OperatorDecision("anna", "seen", is_accepted=True, id="5").text == "accepted with id 5 by anna: seen"
    corrected = OperatorDecision("bo", "not there", is_accepted=False, is_correction=True)
    assert corrected.text == "rejected by bo, who corrects an earlier decision: not there"
