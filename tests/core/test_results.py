"""What became of one of many."""

from alphapo_async.core.errors import InvalidRequest, WithdrawalNotSent
from alphapo_async.core.models import Withdrawal, WithdrawalRequest
from alphapo_async.core.results import result_of

REQUEST = WithdrawalRequest(currency="BTC", address="a", amount="1", foreign_id="f", end_user_reference="u")


def test_a_withdrawal_is_accepted() -> None:
    """With its place and its request."""
    result = result_of(3, REQUEST, Withdrawal(id=7))
    assert (result.index, result.request, result.outcome, result.error) == (3, REQUEST, "accepted", None)
    assert result.withdrawal == Withdrawal(id=7)


def test_an_error_tells_its_outcome() -> None:
    """And a request that is none is invalid."""
    assert result_of(0, REQUEST, WithdrawalNotSent("no", reason="queue")).outcome == "not_sent"
    assert result_of(0, {"foreign_id": ""}, InvalidRequest({"foreign_id": "is empty."})).outcome == "invalid"
