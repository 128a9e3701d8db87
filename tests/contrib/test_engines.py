"""A withdrawal as a step of an engine: which outcomes run the step again, and under which name it is paid."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from alphapo_async.contrib.engines import RetryStep, withdraw_once
from alphapo_async.core.errors import InvalidRequest, JournalError, WithdrawalNotSent, WithdrawalRejected
from alphapo_async.core.foreign_ids import derive_foreign_id
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.journal.memory import MemoryJournal
from tests.support.virtual import run
from tests.support.wire import HTML_502, INSUFFICIENT, LOST, NO_CONNECTION, Durable, Wire, client, reply, request

PAYMENT = {"currency": "BTC", "address": "bc1qmadeup", "amount": "0.0015", "end_user_reference": "user-42"}
ONCE = RetryPolicy.none()


def virtual(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Return the test that plays a story in virtual time."""

    @functools.wraps(story)
    def play(**arguments: Any) -> None:
        run(story(**arguments))

    return play


class Failing(MemoryJournal):
    """A journal that fails whenever a withdrawal is recorded."""

    def __init__(self, *, recorded: bool | None) -> None:
        super().__init__()
        self._recorded = recorded

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Any:
        raise JournalError("The disk is full.", recorded=self._recorded)


@virtual
async def test_a_payment_without_a_foreign_id_is_named_after_its_step() -> None:
    """The same step has the same name each time, in every process, and is paid once."""
    wire, journal = Wire(), Durable()
    for attempt in (1, 2):
        async with client(wire, journal=journal) as alphapo:
            paid = await withdraw_once(alphapo, PAYMENT, step_id="refund-17", attempt=attempt)
            assert paid.foreign_id == derive_foreign_id("refund-17")
    assert wire.posts == 1


@virtual
@pytest.mark.parametrize(
    ("payment", "name"),
    [(request("mine"), "mine"), ({**PAYMENT, "foreign_id": "mine"}, "mine"), ({**PAYMENT, "foreign_id": 0}, "0")],
)
async def test_a_foreign_id_of_your_own_stays(payment: Any, name: str) -> None:
    """The name of the step is not used then: the payment could be made again under its own."""
    async with client(Wire(), journal="memory") as alphapo:
        assert (await withdraw_once(alphapo, payment, step_id="refund-17", attempt=1)).foreign_id == name


@virtual
async def test_a_repeated_attempt_looks_first() -> None:
    """A journal in memory has forgotten the first run; the second one finds what it sent."""
    wire = Wire(["accept, lost"], [HTML_502])
    async with client(wire, journal="memory", policy=ONCE) as alphapo:
        with pytest.raises(RetryStep):
            await withdraw_once(alphapo, PAYMENT, step_id=17, attempt=1)
    async with client(wire, journal="memory", policy=ONCE) as alphapo:
        assert (await withdraw_once(alphapo, PAYMENT, step_id=17, attempt=2)).source == "look-up"
    assert wire.posts == 1


@virtual
@pytest.mark.parametrize(("attempt", "wait"), [(1, 1.0), (3, 4.0), (7, 60.0), (10_000, 60.0)])
async def test_an_unknown_outcome_runs_the_step_again(attempt: int, wait: float) -> None:
    """Later each time, where AlphaPo did not say when."""
    async with client(Wire([LOST], [HTML_502] * 9), journal="memory", policy=ONCE) as alphapo:
        with pytest.raises(RetryStep, match="Keep it pending") as unknown:
            await withdraw_once(alphapo, request(), step_id=1, attempt=attempt)
    assert (unknown.value.foreign_id, unknown.value.retry_after) == ("payout-17", wait)


@virtual
async def test_alphapo_s_own_wait_counts() -> None:
    """It asked for nine seconds."""
    wire = Wire([LOST], [reply(429, {}, retry_after="9")] * 2)
    async with client(wire, journal="memory", policy=ONCE) as alphapo:
        with pytest.raises(RetryStep) as unknown:
            await withdraw_once(alphapo, request(), step_id=1, attempt=1)
    assert unknown.value.retry_after == pytest.approx(9.0, abs=0.5)


@virtual
@pytest.mark.parametrize(("answer", "error"), [(INSUFFICIENT, WithdrawalRejected), (NO_CONNECTION, WithdrawalNotSent)])
async def test_an_answer_is_final(answer: Any, error: type[Exception]) -> None:
    """No money moved: the engine must not run the step again."""
    async with client(Wire([answer] * 9), journal=Durable(), policy=ONCE) as alphapo:
        with pytest.raises(error):
            await withdraw_once(alphapo, PAYMENT, step_id=1, attempt=1)


@virtual
async def test_a_wrong_request_is_final() -> None:
    """It names the field."""
    async with client(Wire(), journal="memory") as alphapo:
        with pytest.raises(InvalidRequest, match="amount"):
            await withdraw_once(alphapo, {**PAYMENT, "amount": "much"}, step_id=1, attempt=1)


@virtual
@pytest.mark.parametrize("recorded", [None, True, False])
async def test_a_step_whose_journal_fails_runs_again(recorded: bool | None) -> None:  # noqa: FBT001 - a parameter
    """What it may have recorded, a worker may send; and a file that another process writes is free again soon."""
    async with client(Wire(), journal=Failing(recorded=recorded)) as alphapo:
        with pytest.raises(RetryStep) as caught:
            await withdraw_once(alphapo, PAYMENT, step_id=1, attempt=1)
    assert caught.value.retry_after > 0


def test_it_survives_the_way_through_an_engine() -> None:
    """Engines pickle exceptions, or make them anew from their arguments."""
    error = RetryStep("Not known yet.", "payout-17", 4.0)
    for copied in (pickle.loads(pickle.dumps(error)), RetryStep(*error.args)):  # noqa: S301 - our own
        assert (type(copied), str(copied)) == (RetryStep, "Not known yet.")
